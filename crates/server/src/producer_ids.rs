//! Producer ids for idempotent producers: never the same twice in the life of a cluster (KIP-730).
//!
//! Owns the block of ids that the controller gave to this broker, and fetches the next one before the last is used up. Keeps
//! nothing on disk: what is left of a block at a stop is lost, as in Kafka. Called by InitProducerId.

use std::ops::Range;
use std::sync::Arc;

use milena_metadata::MetadataCache;
use milena_protocol::ErrorCode;
use milena_protocol::messages::AllocateProducerIdsRequest;
use parking_lot::Mutex;

use crate::controller_channel::ControllerChannel;

/// Ids that are left when the next block is fetched: a tenth of one.
const LOW: i64 = 100;

/// See the module.
pub(crate) struct ProducerIds {
    node_id: i32,
    metadata: MetadataCache,
    controllers: ControllerChannel,
    blocks: Mutex<Blocks>,
    /// Held by whoever asks the controller, so that only one does.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Blocks {
    current: Range<i64>,
    next: Range<i64>,
}

impl Blocks {
    fn take(&mut self) -> Option<i64> {
        if self.current.is_empty() {
            self.current = std::mem::take(&mut self.next);
        }
        self.current.next()
    }

    fn is_low(&self) -> bool {
        self.next.is_empty() && self.current.end - self.current.start < LOW
    }
}

impl ProducerIds {
    pub(crate) fn new(node_id: i32, metadata: MetadataCache, controllers: ControllerChannel) -> Arc<ProducerIds> {
        let (blocks, fetching) = (Mutex::default(), tokio::sync::Mutex::default());
        Arc::new(ProducerIds { node_id, metadata, controllers, blocks, fetching })
    }

    /// An id that nobody has. Waits for the controller only if it was asked too late.
    ///
    /// # Errors
    /// What the controller answered.
    pub(crate) async fn next(self: &Arc<Self>) -> Result<i64, ErrorCode> {
        loop {
            let (id, low) = {
                let mut blocks = self.blocks.lock();
                (blocks.take(), blocks.is_low())
            };
            match id {
                Some(id) => {
                    if low {
                        self.prefetch();
                    }
                    return Ok(id);
                }
                None => self.fetch().await?,
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "one short task at a time; the lock sees to that, and its end needs no wait"
    )]
    fn prefetch(self: &Arc<Self>) {
        if self.fetching.try_lock().is_err() {
            return;
        }
        let ids = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = ids.fetch().await {
                tracing::warn!(error = error.name(), "cannot fetch producer ids ahead of need");
            }
        });
    }

    async fn fetch(&self) -> Result<(), ErrorCode> {
        let _only = self.fetching.lock().await;
        if !self.blocks.lock().is_low() {
            return Ok(());
        }
        let broker_epoch = self.metadata.load().cluster.broker(self.node_id).map_or(-1, |broker| broker.epoch);
        let request = AllocateProducerIdsRequest { broker_id: self.node_id, broker_epoch };
        let answer = self.controllers.ask(request, async |c, request| c.allocate_producer_ids(request).await).await;
        let answer = answer.map_err(|error| error.code)?;
        if answer.error_code != 0 {
            return Err(ErrorCode::from_code(answer.error_code));
        }
        let (start, len) = (answer.producer_id_start, i64::from(answer.producer_id_len));
        let end = start.checked_add(len).filter(|_| start >= 0 && len > 0).ok_or(ErrorCode::UnknownServerError)?;
        self.blocks.lock().next = start..end;
        Ok(())
    }
}
