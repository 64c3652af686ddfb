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
    Record { offset: i64, producer_id: i64, record: CoordinatorRecord },
    /// A control record that ends the transaction of `producer_id`.
    TransactionEnd { offset: i64, producer_id: i64, committed: bool },
}

/// A stretch of a partition. `next_offset` is where to go on; `None` when the end of the log was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedBatch {
    pub records: Vec<LoadedRecord>,
    pub next_offset: Option<i64>,
}

/// Whose transaction records belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionalProducer {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub verified: Verified,
}

/// How it is known that a transaction is the producer's to add to (KIP-890).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// It is not: `transaction.partition.verification.enable` is false.
    NotAsked,
    /// The coordinator was asked, with the ticket that the partition's log gave for it; none if the transaction is open there.
    Asked(Option<u64>),
}

/// The end of one producer's transaction, as the logs of its partitions record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxnMarker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub committed: bool,
    /// Leader epoch of the transaction coordinator's partition: fences coordinators of the past.
    pub coordinator_epoch: i32,
    /// With 2 and above the marker's epoch must be a new one (KIP-890, KIP-1228).
    pub transaction_version: i16,
}

/// The future of an append: the offset of its last record once it is committed.
pub type Committed = BoxFuture<Result<i64, ErrorCode>>;

/// Where a coordinator keeps its records: `__consumer_offsets` or `__transaction_state` on this broker.
///
/// What an implementation must keep, and `testing::partition_writer_suite` checks:
///
/// - **One call, one batch.** `append` writes its records as one record batch of magic 2 (no producer id, no compression
///   unless `offsets.topic.compression.codec` asks for it), every record with the timestamp `now.wall_ms`, under the
///   leader epoch that this broker has. A null value stays null, an empty one stays empty.
/// - **Order.** The write to the log has happened when `append` returns; what the future waits for is only the commit. The
///   caller holds a lock while it calls: `append` must not block on anything but the write, must not call back into the
///   coordinator, and must work outside an async runtime. The future may be polled late or dropped; the batch stays.
/// - **Committed.** The future is ready, with the offset of the batch's last record, when the high watermark is above that offset
///   (under `log.ack.durability=fsync` this includes the fdatasync). min.insync.replicas of the topic is enforced.
/// - **Refusals.** NOT_LEADER_OR_FOLLOWER when this broker does not lead the partition, or stops leading it while the future
///   waits; NOT_ENOUGH_REPLICAS; MESSAGE_TOO_LARGE; KAFKA_STORAGE_ERROR. The coordinator translates them for clients. After any
///   error the batch may or may not be in the log: the caller drops what it has in memory and loads the partition again.
/// - **Load.** See `load`.
pub trait PartitionWriter: Send + Sync + 'static {
    /// Appends the records, of which there is at least one, as one batch. See the trait.
    fn append(&self, partition: i32, records: Vec<CoordinatorRecord>, now: Now) -> Committed;

    /// As `append`, as part of a producer's transaction.
    ///
    /// Errors at once, with nothing written: INVALID_PRODUCER_EPOCH and INVALID_TXN_STATE, when the log knows better; and those of `append`.
    fn append_transactional(
        &self,
        partition: i32,
        producer: TransactionalProducer,
        records: Vec<CoordinatorRecord>,
        now: Now,
    ) -> Result<Committed, ErrorCode>;

    /// Ends a producer's transaction in this partition.
    ///
    /// Errors at once, with nothing written: INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED; and those of `append`.
    fn append_marker(&self, partition: i32, marker: TxnMarker, now: Now) -> Result<Committed, ErrorCode>;

    /// Reads from `from_offset` towards the end of the log, in stretches of bounded size (`offsets.load.buffer.size`), whole
    /// batches each. An offset below the log start, such as the 0 that a load begins with, stands for the log start.
    ///
    /// Records come in offset order, with gaps where the log was compacted; records of transactions carry their producer
    /// id, and each COMMIT or ABORT marker comes as `TransactionEnd`; other control records are left out. A batch in
    /// which `from_offset` lies is given from `from_offset` on.
    ///
    /// `next_offset` is the offset to ask for next, larger than `from_offset`, also when a stretch had no record of interest. It
    /// is `None` once the log end was reached. What was appended but is not committed belongs to the log; the stretch that
    /// reaches the end is ready only when the high watermark has caught up with it, so that no answer rests on what can be lost.
    ///
    /// Errors: as `append`; the coordinator tries again until it resigns.
    fn load(&self, partition: i32, from_offset: i64) -> BoxFuture<Result<LoadedBatch, ErrorCode>>;

    /// Largest sum of `CoordinatorRecord::size_in_bytes` that one `append` takes: `max.message.bytes` of the topic less the
    /// 61 bytes of a batch header. A single record that is larger is handed to `append` all the same, which refuses it.
    fn max_batch_bytes(&self, _partition: i32) -> usize {
        1024 * 1024
    }
}
