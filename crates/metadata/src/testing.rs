//! A metadata log in memory, and what brokers say of themselves.
//!
//! For tests of this crate and of those that join the controller to something.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use milena_common::Uuid;
use milena_protocol::messages::BrokerRegistrationRequest;
use milena_protocol::messages::broker_registration_request::{Feature, Listener};

use crate::loader::MetadataLoader;
use crate::store::{AppendError, CommittedBatch, MetadataLog};
use crate::versions::supported_features;

/// The cluster that [`registration`] is for.
pub const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// The value of a future that is ready without waiting, as those of a controller over a [`MemoryLog`] are once all is committed.
///
/// # Panics
/// It is not.
pub fn block_on<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing can be waited for here"),
    }
}

/// Every batch that was appended.
#[derive(Debug, Default)]
pub struct MemoryLog {
    batches: Mutex<Vec<CommittedBatch>>,
}

impl MemoryLog {
    fn lock(&self) -> MutexGuard<'_, Vec<CommittedBatch>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All but the first `known` batches.
    pub fn batches_after(&self, known: usize) -> Vec<CommittedBatch> {
        self.lock().iter().skip(known).cloned().collect()
    }

    /// Tells a loader that has seen nothing of it everything.
    ///
    /// # Panics
    /// A batch cannot be replayed.
    pub fn feed(&self, loader: &mut MetadataLoader) {
        for batch in self.lock().iter() {
            if let Err(error) = loader.replay(batch) {
                panic!("offset {}: {error}", batch.base_offset);
            }
        }
    }

    pub fn last_offset(&self) -> i64 {
        self.end_offset() - 1
    }
}

impl MetadataLog for MemoryLog {
    fn end_offset(&self) -> i64 {
        self.lock().last().map_or(0, |batch| batch.last_offset + 1)
    }

    fn append(&self, epoch: i32, records: Vec<Bytes>) -> Result<i64, AppendError> {
        let base_offset = self.end_offset();
        let last_offset = base_offset + i64::try_from(records.len()).unwrap_or(0) - 1;
        let size_in_bytes = records.iter().map(Bytes::len).sum();
        let batch = CommittedBatch { base_offset, last_offset, epoch, append_timestamp_ms: 7, size_in_bytes, records };
        self.lock().push(batch);
        Ok(last_offset)
    }
}

/// A broker with all features, one listener and one directory of its own, as it registers after an unclean stop.
pub fn registration(broker_id: i32, incarnation_id: Uuid) -> BrokerRegistrationRequest {
    let feature = |(name, range): (String, crate::image::VersionRange)| Feature {
        name,
        min_supported_version: range.min,
        max_supported_version: range.max,
    };
    let (name, host) = ("PLAINTEXT".to_owned(), "localhost".to_owned());
    BrokerRegistrationRequest {
        broker_id,
        cluster_id: CLUSTER_ID.to_owned(),
        incarnation_id,
        listeners: vec![Listener { name, host, port: 9092, security_protocol: 0 }],
        features: supported_features().into_iter().map(feature).collect(),
        log_dirs: vec![Uuid::from_u128(1_000 + u128::from(broker_id.unsigned_abs()))],
        previous_broker_epoch: -1,
        ..Default::default()
    }
}
