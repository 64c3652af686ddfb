//! The seam to the metadata log: what a home of it (the raft quorum, later ZooKeeper) gives, and what the controller asks.

use bytes::Bytes;

/// Why records could not be appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Somebody else leads, or nobody.
    #[error("this node is not the active controller of epoch {0}")]
    NotLeader(i32),
    /// The records do not fit one batch, and would not be atomic in two.
    #[error("{bytes} bytes of records are more than one batch takes ({max})")]
    TooLarge { bytes: usize, max: usize },
    /// The log cannot be written.
    #[error("the metadata log cannot be written: {0}")]
    Storage(String),
}

/// The metadata log, as the active controller writes it.
pub trait MetadataLog: Send + Sync {
    /// The offset that the next record gets.
    fn end_offset(&self) -> i64;

    /// Appends framed records as one batch, all or none, as the leader of `epoch`; returns the offset of the last. They
    /// are not yet committed.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was appended then, but for `Storage`, after which the node must not go on.
    fn append(&self, epoch: i32, records: Vec<Bytes>) -> Result<i64, AppendError>;
}

/// Committed records in the order of the log, one batch at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedBatch {
    pub base_offset: i64,
    pub last_offset: i64,
    /// Leader epoch of the batch.
    pub epoch: i32,
    /// When the leader appended it, milliseconds since 1970.
    pub append_timestamp_ms: i64,
    /// Size in the log.
    pub size_in_bytes: usize,
    /// Framed records, the first at `base_offset`; empty for a control batch of the quorum itself.
    pub records: Vec<Bytes>,
}
