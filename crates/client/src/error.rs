//! What can go wrong between a caller and the cluster, with the topic, partition or group that it concerns.
//!
//! One type for the whole crate. Knows which errors are worth another try; never retries by itself.

use milena_protocol::ErrorCode;

/// An error of the client. `Display` is the sentence for people; [`ClientError::code`] is for programs.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The broker answered with an error code.
    #[error("{}", message.as_deref().unwrap_or_else(|| code.message()))]
    Api {
        code: ErrorCode,
        /// The broker's own sentence, when it sent one.
        message: Option<String>,
        /// `topic`, `topic-partition`, group or configuration resource that the error belongs to.
        resource: Option<String>,
    },
    /// No answer in time; the text says to what.
    #[error("{0}")]
    Timeout(String),
    /// The connection could not be made or was lost.
    #[error("connection to {address}: {reason}")]
    Disconnected { address: String, reason: String },
    /// No version of the request is known to both sides.
    #[error("{0}")]
    UnsupportedVersion(String),
    /// The bytes of a response are not what they should be.
    #[error("malformed response to {api}: {reason}")]
    Malformed { api: String, reason: String },
    /// A setting or argument is not possible.
    #[error("{0}")]
    InvalidConfig(String),
    /// The producer or consumer was closed.
    #[error("already closed")]
    Closed,
}

impl ClientError {
    /// An error code without a sentence of the broker's.
    pub fn api(code: ErrorCode, resource: impl Into<String>) -> ClientError {
        ClientError::Api { code, message: None, resource: Some(resource.into()) }
    }

    /// `Ok` for code 0, else the error with the broker's sentence.
    pub(crate) fn check(code: i16, message: Option<&str>, resource: &str) -> Result<(), ClientError> {
        match code {
            0 => Ok(()),
            code => Err(ClientError::Api {
                code: ErrorCode::from_code(code),
                message: message.filter(|text| !text.is_empty()).map(String::from),
                resource: Some(resource.to_string()),
            }),
        }
    }

    /// The wire code, when the broker gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Api { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same request may succeed later without a change by the caller.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Disconnected { .. } => true,
            ClientError::Api { code, .. } => is_retriable(*code),
            _ => false,
        }
    }

    /// Whether the answer came from a broker that is no longer responsible: ask for metadata, then try the right one.
    pub fn wants_new_metadata(&self) -> bool {
        use ErrorCode as E;
        match self {
            ClientError::Disconnected { .. } => true,
            ClientError::Api { code, .. } => matches!(
                *code,
                E::UnknownTopicOrPartition
                    | E::LeaderNotAvailable
                    | E::NotLeaderOrFollower
                    | E::ReplicaNotAvailable
                    | E::NotController
                    | E::KafkaStorageError
                    | E::ListenerNotFound
                    | E::FencedLeaderEpoch
                    | E::UnknownLeaderEpoch
                    | E::UnknownTopicId
                    | E::InconsistentTopicId
            ),
            _ => false,
        }
    }
}

/// The codes that Kafka's clients treat as retriable.
pub(crate) fn is_retriable(code: ErrorCode) -> bool {
    use ErrorCode as E;
    matches!(
        code,
        E::CorruptMessage
            | E::UnknownTopicOrPartition
            | E::LeaderNotAvailable
            | E::NotLeaderOrFollower
            | E::RequestTimedOut
            | E::ReplicaNotAvailable
            | E::NetworkException
            | E::CoordinatorLoadInProgress
            | E::CoordinatorNotAvailable
            | E::NotCoordinator
            | E::NotEnoughReplicas
            | E::NotEnoughReplicasAfterAppend
            | E::NotController
            | E::KafkaStorageError
            | E::FetchSessionIdNotFound
            | E::InvalidFetchSessionEpoch
            | E::ListenerNotFound
            | E::FencedLeaderEpoch
            | E::UnknownLeaderEpoch
            | E::OffsetNotAvailable
            | E::PreferredLeaderNotAvailable
            | E::EligibleLeadersNotAvailable
            | E::UnstableOffsetCommit
            | E::ThrottlingQuotaExceeded
            | E::UnknownTopicId
            | E::InconsistentTopicId
            | E::ConcurrentTransactions
            | E::FetchSessionTopicIdError
    )
}
