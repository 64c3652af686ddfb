//! The seam between a coordinator and the partition that stores its state.
//!
//! Owns the types that cross it; the broker implements `PartitionWriter` on its replicas, tests on memory
//! (`testing::MemoryLog`). Nothing here knows what a record means.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use milena_common::Now;
use milena_protocol::ErrorCode;

/// A future that owns what it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// One record of a coordinator's partition, encoded as Kafka stores it. A null value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorRecord {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl CoordinatorRecord {
    /// Bytes the record takes in a batch, rounded up.
    pub fn size_in_bytes(&self) -> usize {
        RECORD_OVERHEAD_BYTES + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Length, attributes, timestamp and offset deltas, key and value lengths, header count: at most this much per record.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 32;

/// What a partition holds at one offset, as `PartitionWriter::load` gives it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadedRecord {
    /// A record. `producer_id` is -1 unless it belongs to a transaction whose marker comes later.
    Record {
        offset: i64,
        producer_id: i64,
        record: CoordinatorRecord,
    },
    /// A control record that ends the transaction of `producer_id`.
    TransactionEnd {
        offset: i64,
        producer_id: i64,
        committed: bool,
    },
}

/// A stretch of a partition. `next_offset` is where to go on; `None` when the end of the log was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedBatch {
    pub records: Vec<LoadedRecord>,
    pub next_offset: Option<i64>,
}

/// Where a coordinator keeps its records: `__consumer_offsets` or `__transaction_state` on this broker.
pub trait PartitionWriter: Send + Sync + 'static {
    /// Appends the records as one batch with acks=all. The append itself happens before this returns, so that two calls
    /// land in the order they were made; the future becomes ready, with the batch's last offset, once the batch is below
    /// the high watermark. It never blocks on anything but the write.
    ///
    /// Any error means that the batch may or may not be in the log: the caller reloads the partition.
    fn append(
        &self,
        partition: i32,
        records: Vec<CoordinatorRecord>,
        now: Now,
    ) -> BoxFuture<Result<i64, ErrorCode>>;

    /// Reads from `from_offset` (0 stands for the log start) towards the end of the log in stretches of bounded size, whole batches each.
    fn load(&self, partition: i32, from_offset: i64) -> BoxFuture<Result<LoadedBatch, ErrorCode>>;

    /// Largest batch that `append` takes, in bytes of records (`max.message.bytes` of the topic less the batch header).
    fn max_batch_bytes(&self, _partition: i32) -> usize {
        1024 * 1024
    }
}
