//! Turns the committed metadata log into published images: replays batches and snapshots, and tells the publishers.
//!
//! Owned by one driver per process, which feeds it in log order. Records of an open metadata transaction (KIP-868) are
//! replayed aside and only published with its end. Never reads files; never decides anything.

use std::sync::Arc;

use bytes::Bytes;
use milena_common::StateMachine;
use milena_protocol::framing::FramedError;
use milena_protocol::stored::metadata::{MetadataRecord, decode_framed};

use crate::delta::MetadataDelta;
use crate::image::{MetadataImage, Provenance, ReplayError, Transaction, transaction_step};
use crate::publisher::{MetadataCache, MetadataPublisher};
use crate::store::CommittedBatch;

/// Why a committed log cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("metadata record at offset {offset} cannot be read: {error}")]
    Record { offset: i64, error: FramedError },
    #[error("snapshot record {index} cannot be applied: {error}")]
    Snapshot { index: usize, error: ReplayError },
    #[error("metadata batch at offset {found} follows offset {last}")]
    Gap { last: i64, found: i64 },
}

/// The state of a log follower.
pub struct MetadataLoader {
    image: MetadataImage,
    published: Arc<MetadataImage>,
    /// The state before the transaction that is open.
    before_transaction: Option<MetadataImage>,
    cache: MetadataCache,
    publishers: Vec<Arc<dyn MetadataPublisher>>,
    /// Bytes of batches replayed since the last snapshot was loaded or taken.
    bytes_since_snapshot: u64,
}

impl MetadataLoader {
    pub fn new(cache: MetadataCache) -> Self {
        MetadataLoader {
            image: MetadataImage::default(),
            published: Arc::default(),
            before_transaction: None,
            cache,
            publishers: Vec::new(),
            bytes_since_snapshot: 0,
        }
    }

    /// Adds a publisher. It is told the present image at once if there is one, as a change from the empty one.
    pub fn add_publisher(&mut self, publisher: Arc<dyn MetadataPublisher>) {
        if self.published.last_offset() >= 0 {
            let empty = Arc::default();
            publisher.on_metadata_update(&MetadataDelta::between(&empty, &self.published), &self.published);
        }
        self.publishers.push(publisher);
    }

    /// The next offset wanted.
    pub fn next_offset(&self) -> i64 {
        self.image.last_offset() + 1
    }

    /// A metadata transaction is open: its controller stopped before it ended.
    pub fn in_transaction(&self) -> bool {
        self.before_transaction.is_some()
    }

    /// The state without the transaction that is open, at the present offset.
    pub fn stable_image(&self) -> MetadataImage {
        let mut image = self.before_transaction.clone().unwrap_or_else(|| self.image.clone());
        image.provenance = self.image.provenance;
        image
    }

    /// The newest published image.
    pub fn published(&self) -> &Arc<MetadataImage> {
        &self.published
    }

    /// Bytes of batches since the last snapshot.
    pub fn bytes_since_snapshot(&self) -> u64 {
        self.bytes_since_snapshot
    }

    /// A snapshot of `published` was written.
    pub fn on_snapshot_taken(&mut self) {
        self.bytes_since_snapshot = 0;
    }

    /// Replaces everything by a snapshot's records. `end` is where the snapshot's content ends.
    ///
    /// # Errors
    /// When a record cannot be read or does not fit; the state is then unchanged.
    pub fn load_snapshot(
        &mut self,
        end: Provenance,
        records: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), LoadError> {
        let mut image = MetadataImage::default();
        for (index, framed) in records.into_iter().enumerate() {
            let record = decode_framed(framed).map_err(|error| LoadError::Record { offset: end.last_offset, error })?;
            image.apply(&record).map_err(|error| LoadError::Snapshot { index, error })?;
        }
        image.provenance = end;
        self.image = image;
        self.before_transaction = None;
        self.bytes_since_snapshot = 0;
        Ok(())
    }

    /// Replays one committed batch; one that was replayed before is skipped.
    ///
    /// # Errors
    /// When a record cannot be read, or batches are missing. The node must not go on with what it has.
    pub fn replay(&mut self, batch: &CommittedBatch) -> Result<(), LoadError> {
        let last = self.image.last_offset();
        if batch.last_offset <= last {
            return Ok(());
        }
        if batch.base_offset > last + 1 {
            return Err(LoadError::Gap { last, found: batch.base_offset });
        }
        for (offset, framed) in (batch.base_offset..).zip(&batch.records) {
            let record = decode_framed(framed.clone()).map_err(|error| LoadError::Record { offset, error })?;
            self.replay_one(offset, &record);
        }
        self.image.provenance = Provenance {
            last_offset: batch.last_offset,
            last_epoch: batch.epoch,
            last_timestamp_ms: batch.append_timestamp_ms,
        };
        self.bytes_since_snapshot += batch.size_in_bytes as u64;
        Ok(())
    }

    fn replay_one(&mut self, offset: i64, record: &MetadataRecord) {
        match transaction_step(record) {
            Some(Transaction::Begin) => self.before_transaction = Some(self.image.clone()),
            Some(Transaction::End) => self.before_transaction = None,
            Some(Transaction::Abort) => {
                if let Some(before) = self.before_transaction.take() {
                    self.image = before;
                }
            }
            None => self.image.replay(offset, record),
        }
    }

    /// Makes the replayed state visible. Nothing happens inside an open transaction or when nothing was replayed.
    pub fn publish(&mut self) {
        if self.before_transaction.is_some() || self.image.last_offset() == self.published.last_offset() {
            return;
        }
        let image = Arc::new(self.image.clone());
        let delta = MetadataDelta::between(&self.published, &image);
        self.published = image.clone();
        self.cache.store(image.clone());
        for publisher in &self.publishers {
            publisher.on_metadata_update(&delta, &image);
        }
    }
}

impl std::fmt::Debug for MetadataLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataLoader").field("last_offset", &self.image.last_offset()).finish_non_exhaustive()
    }
}
