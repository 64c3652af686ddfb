//! Why a replica refuses. Mapped to `ErrorCode` here, once.

use milena_log::LogError;
use milena_protocol::ErrorCode;
use thiserror::Error;

/// An operation on a replica that did not happen, or whose outcome is not known.
#[derive(Debug, Clone, Error)]
pub enum ReplicaError {
    /// The metadata know no such partition.
    #[error("unknown topic or partition")]
    UnknownTopicOrPartition,
    /// This broker does not lead the partition (any more).
    #[error("not the leader")]
    NotLeader,
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl ReplicaError {
    /// What a client of the newest version is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            ReplicaError::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
            ReplicaError::NotLeader => ErrorCode::NotLeaderOrFollower,
            ReplicaError::Log(_) => ErrorCode::UnknownServerError,
        }
    }
}
