//! Why the log refuses an append or a read. Mapped to `ErrorCode` once, where a handler answers.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::validate::ValidateError;

/// An operation of the log that did not happen. After an error nothing of it is visible.
#[derive(Debug, Clone, Error)]
pub enum LogError {
    /// The records are not what the log can hold.
    #[error(transparent)]
    Invalid(#[from] ValidateError),
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`: a batch before this one is missing.
    #[error(
        "out of order sequence number for producer {producer_id} at offset {offset} in partition {partition}: {found} (incoming), {expected} (expected)"
    )]
    OutOfOrderSequence { producer_id: i64, offset: i64, partition: String, found: i32, expected: i32 },
    /// `INVALID_PRODUCER_EPOCH`: a newer instance of the producer wrote already.
    #[error("epoch {found} of producer {producer_id} in {partition} is smaller than the last seen epoch {current}")]
    InvalidProducerEpoch { producer_id: i64, partition: String, found: i16, current: i16 },
    /// `TRANSACTION_COORDINATOR_FENCED`: a marker of an old coordinator.
    #[error(
        "coordinator epoch {found} of producer {producer_id} in {partition} is smaller than the last seen epoch {current}"
    )]
    CoordinatorFenced { producer_id: i64, partition: String, found: i32, current: i32 },
    /// `INVALID_TXN_STATE`: the records and the producer's transaction do not go together.
    #[error("producer {producer_id} in {partition}: {reason}")]
    InvalidTxnState { producer_id: i64, partition: String, reason: &'static str },
    /// `OFFSET_OUT_OF_RANGE`.
    #[error("offset {offset} is not within {log_start_offset}..={log_end_offset}")]
    OffsetOutOfRange { offset: i64, log_start_offset: i64, log_end_offset: i64 },
    /// `KAFKA_STORAGE_ERROR`: the disk refused, or its directory is offline.
    #[error("{path}: {source}")]
    Storage { path: PathBuf, source: Arc<io::Error> },
    /// A file does not hold what its name says.
    #[error("{path}: {reason}")]
    Corrupt { path: PathBuf, reason: String },
    /// Another process uses the directory.
    #[error(
        "Failed to acquire lock on file .lock in {path}. A Kafka instance in another process or thread is using this directory."
    )]
    Locked { path: PathBuf },
}

impl LogError {
    /// A failed file operation.
    pub fn storage(path: &Path, source: io::Error) -> LogError {
        LogError::Storage { path: path.to_path_buf(), source: Arc::new(source) }
    }

    /// Whether there is no space left: that passes, other failures of a disk do not.
    pub fn is_full_disk(&self) -> bool {
        let LogError::Storage { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
    }

    pub(crate) fn offline(path: &Path) -> LogError {
        LogError::storage(path, io::Error::other("the log directory is offline after a failed write or sync"))
    }

    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> LogError {
        LogError::Corrupt { path: path.to_path_buf(), reason: reason.into() }
    }
}

/// Names the file in an I/O error.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T, LogError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, LogError> {
        self.map_err(|e| LogError::storage(path, e))
    }
}
