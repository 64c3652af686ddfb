//! Why a replica refuses. Mapped to `ErrorCode` here, once.

use milena_log::LogError;
use milena_log::validate::{RecordError, ValidateError};
use milena_protocol::ErrorCode;
use thiserror::Error;

/// An operation on a replica that did not happen, or whose outcome is not known.
#[derive(Debug, Clone, Error)]
pub enum ReplicaError {
    /// The metadata know no such partition.
    #[error("unknown topic or partition")]
    UnknownTopicOrPartition,
    /// The metadata know no topic with this id.
    #[error("unknown topic id")]
    UnknownTopicId,
    /// The partition here belongs to a topic of the same name with another id.
    #[error("the topic has another id")]
    InconsistentTopicId,
    /// This broker does not lead the partition (any more).
    #[error("not the leader")]
    NotLeader,
    /// The client knows an older leader than there is.
    #[error("leader epoch {found} is older than {current}")]
    FencedLeaderEpoch { found: i32, current: i32 },
    /// The client knows a newer leader than this broker.
    #[error("leader epoch {found} is newer than {current}")]
    UnknownLeaderEpoch { found: i32, current: i32 },
    /// Only brokers may write to this topic.
    #[error("Cannot append to internal topic {0}")]
    InternalTopic(String),
    /// acks is none of -1, 0, 1.
    #[error("acks must be -1, 0 or 1, not {0}")]
    InvalidRequiredAcks(i16),
    /// Too few in-sync replicas: nothing was appended.
    #[error("fewer in-sync replicas than min.insync.replicas")]
    NotEnoughReplicas,
    /// Too few in-sync replicas, seen after the append.
    #[error("fewer in-sync replicas than min.insync.replicas after the append")]
    NotEnoughReplicasAfterAppend,
    /// The new leader does not know yet what is committed.
    #[error("the high watermark is not known yet")]
    OffsetNotAvailable,
    /// It took too long. Whatever was appended stays.
    #[error("the request timed out")]
    TimedOut,
    /// The disk under the partition failed.
    #[error("the log directory is offline")]
    Offline,
    /// The topic's `cleanup.policy` is not to delete.
    #[error("records of a compacted topic cannot be deleted")]
    CannotDelete,
    /// The client is too old for the codec of the records.
    #[error("the client does not understand the compression of the records")]
    UnsupportedCompression,
    /// The records cannot be converted for an old client.
    #[error("{0}")]
    Unreadable(String),
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl ReplicaError {
    /// What a client of the newest version is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            ReplicaError::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
            ReplicaError::UnknownTopicId => ErrorCode::UnknownTopicId,
            ReplicaError::InconsistentTopicId => ErrorCode::InconsistentTopicId,
            ReplicaError::NotLeader => ErrorCode::NotLeaderOrFollower,
            ReplicaError::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            ReplicaError::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            ReplicaError::InternalTopic(_) => ErrorCode::InvalidTopicException,
            ReplicaError::InvalidRequiredAcks(_) => ErrorCode::InvalidRequiredAcks,
            ReplicaError::NotEnoughReplicas => ErrorCode::NotEnoughReplicas,
            ReplicaError::NotEnoughReplicasAfterAppend => ErrorCode::NotEnoughReplicasAfterAppend,
            ReplicaError::OffsetNotAvailable => ErrorCode::OffsetNotAvailable,
            ReplicaError::TimedOut => ErrorCode::RequestTimedOut,
            ReplicaError::Offline => ErrorCode::KafkaStorageError,
            ReplicaError::CannotDelete => ErrorCode::PolicyViolation,
            ReplicaError::UnsupportedCompression => ErrorCode::UnsupportedCompressionType,
            ReplicaError::Unreadable(_) => ErrorCode::CorruptMessage,
            ReplicaError::Log(error) => log_code(error),
        }
    }

    /// The records at fault, if single ones are (KIP-467).
    pub fn record_errors(&self) -> &[RecordError] {
        match self {
            ReplicaError::Log(LogError::Invalid(error)) => error.record_errors(),
            _ => &[],
        }
    }
}

fn log_code(error: &LogError) -> ErrorCode {
    match error {
        LogError::Invalid(error) => match error {
            ValidateError::Corrupt(_) => ErrorCode::CorruptMessage,
            ValidateError::InvalidRecord { .. } => ErrorCode::InvalidRecord,
            ValidateError::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
            ValidateError::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
            ValidateError::RecordListTooLarge { .. } => ErrorCode::RecordListTooLarge,
            ValidateError::UnsupportedCompression(_) => ErrorCode::UnsupportedCompressionType,
            ValidateError::OutOfOrder { .. } => ErrorCode::UnknownServerError,
        },
        LogError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        LogError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        LogError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        LogError::InvalidTxnState { .. } => ErrorCode::InvalidTxnState,
        LogError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LogError::Storage { .. } | LogError::Locked { .. } => ErrorCode::KafkaStorageError,
        LogError::Corrupt { .. } => ErrorCode::CorruptMessage,
    }
}
