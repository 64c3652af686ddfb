//! The Java names of errors, which Kafka's tools print and scripts look for.

use milena_client::ClientError;
use milena_common::TopicPartition;
use milena_protocol::ErrorCode;

const ERRORS: &str = "org.apache.kafka.common.errors.";

/// The full class name of the exception that Kafka's client throws for this error.
pub(crate) fn class_of(error: &ClientError) -> String {
    match error {
        ClientError::Api { code, .. } => class_of_code(*code),
        ClientError::Timeout(_) => format!("{ERRORS}TimeoutException"),
        ClientError::UnsupportedVersion { .. } => format!("{ERRORS}UnsupportedVersionException"),
        ClientError::InvalidConfig(_) => "org.apache.kafka.common.config.ConfigException".into(),
        ClientError::Disconnected { .. } => format!("{ERRORS}DisconnectException"),
        _ => "org.apache.kafka.common.KafkaException".into(),
    }
}

/// The full class name of a wire error's exception. Most are the code's name with `Exception` after it.
pub(crate) fn class_of_code(code: ErrorCode) -> String {
    let name = match code.name() {
        "UNKNOWN_SERVER_ERROR" => "UnknownServerException",
        "CORRUPT_MESSAGE" => "CorruptRecordException",
        "INVALID_FETCH_SIZE" => "InvalidFetchSizeException",
        "REQUEST_TIMED_OUT" => "TimeoutException",
        "MESSAGE_TOO_LARGE" => "RecordTooLargeException",
        "STALE_CONTROLLER_EPOCH" => "ControllerMovedException",
        "OFFSET_METADATA_TOO_LARGE" => "OffsetMetadataTooLarge",
        "INVALID_TOPIC_EXCEPTION" => "InvalidTopicException",
        "RECORD_LIST_TOO_LARGE" => "RecordBatchTooLargeException",
        "ILLEGAL_GENERATION" => "IllegalGenerationException",
        "UNKNOWN_MEMBER_ID" => "UnknownMemberIdException",
        "INVALID_COMMIT_OFFSET_SIZE" => "InvalidCommitOffsetSizeException",
        "TOPIC_AUTHORIZATION_FAILED" => "TopicAuthorizationException",
        "GROUP_AUTHORIZATION_FAILED" => "GroupAuthorizationException",
        "CLUSTER_AUTHORIZATION_FAILED" => "ClusterAuthorizationException",
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" => "TransactionalIdAuthorizationException",
        "DELEGATION_TOKEN_AUTHORIZATION_FAILED" => "DelegationTokenAuthorizationException",
        "TOPIC_ALREADY_EXISTS" => "TopicExistsException",
        "INVALID_CONFIG" => "InvalidConfigurationException",
        "OUT_OF_ORDER_SEQUENCE_NUMBER" => "OutOfOrderSequenceException",
        "DUPLICATE_SEQUENCE_NUMBER" => "DuplicateSequenceException",
        "INVALID_PRODUCER_ID_MAPPING" => "InvalidPidMappingException",
        "INVALID_TRANSACTION_TIMEOUT" => "InvalidTxnTimeoutException",
        "SASL_AUTHENTICATION_FAILED" => "SaslAuthenticationException",
        "DELEGATION_TOKEN_AUTH_DISABLED" => "DelegationTokenDisabledException",
        "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" => "UnsupportedByAuthenticationException",
        "NON_EMPTY_GROUP" => "GroupNotEmptyException",
        "GROUP_SUBSCRIBED_TO_TOPIC" => "GroupSubscribedToTopicException",
        "UNSTABLE_OFFSET_COMMIT" => "UnstableOffsetCommitException",
        other => return format!("{ERRORS}{}Exception", camel(other)),
    };
    format!("{ERRORS}{name}")
}

/// An exception as the tools show it: class and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JavaError {
    pub class: String,
    pub message: String,
}

impl JavaError {
    pub(crate) fn illegal_argument(message: impl Into<String>) -> JavaError {
        JavaError { class: "java.lang.IllegalArgumentException".into(), message: message.into() }
    }

    /// An exception of Kafka's tools: the name of its class in their package, and its message.
    pub(crate) fn of_tools(class: &str, message: impl Into<String>) -> JavaError {
        JavaError { class: format!("org.apache.kafka.tools.{class}"), message: message.into() }
    }

    /// As a future hands it on: wrapped, with the inner one as its message.
    pub(crate) fn executed(inner: JavaError) -> JavaError {
        JavaError { class: "java.util.concurrent.ExecutionException".into(), message: inner.to_string() }
    }
}

impl std::fmt::Display for JavaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

/// The message of that exception: the broker's own, else the one that Kafka's client gives to the code and scripts look for.
pub(crate) fn message_of(error: &ClientError) -> String {
    use ErrorCode as E;
    let known = match error {
        ClientError::Api { code, message: None, .. } => match code {
            E::UnknownTopicOrPartition => "This server does not host this topic-partition.",
            E::GroupIdNotFound => "The group id does not exist.",
            E::NonEmptyGroup => "The group is not empty.",
            E::GroupSubscribedToTopic => {
                "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it."
            }
            E::DelegationTokenRequestNotAllowed => {
                "Delegation Token requests are not allowed on PLAINTEXT/1-way SSL channels and on delegation token authenticated channels."
            }
            E::DelegationTokenAuthDisabled => "Delegation Token feature is not enabled.",
            E::DelegationTokenNotFound => "Delegation Token is not found on server.",
            E::DelegationTokenOwnerMismatch => "Specified Principal is not valid Owner/Renewer.",
            E::DelegationTokenExpired => "Delegation Token is expired.",
            E::OffsetOutOfRange => "The requested offset is not within the range of offsets maintained by the server.",
            E::LogDirNotFound => "The user-specified log directory is not found in the broker config.",
            E::ReplicaNotAvailable => "The replica is not available for the requested topic-partition.",
            E::CoordinatorNotAvailable => "The coordinator is not available.",
            E::NotLeaderOrFollower => {
                "For requests intended only for the leader, this error indicates that the broker is not the current leader. For requests intended for any replica, this error indicates that the broker is not a replica of the topic partition."
            }
            _ => return error.to_string(),
        },
        _ => return error.to_string(),
    };
    known.into()
}

impl From<ClientError> for JavaError {
    fn from(error: ClientError) -> Self {
        JavaError { class: class_of(&error), message: message_of(&error) }
    }
}

impl From<crate::opts::OptError> for JavaError {
    fn from(error: crate::opts::OptError) -> Self {
        JavaError { class: error.class().into(), message: error.to_string() }
    }
}

/// Brings items into the order in which a Java `HashMap` keyed by their names would list them: what Kafka's tools print unsorted.
pub(crate) fn hash_order<T>(items: &mut [T], name: impl Fn(&T) -> &str) {
    hash_order_by(items, 16, |item| string_hash(name(item)));
}

/// [`hash_order`] for a map that was made for just so many entries, which is a little too small from three quarters on.
pub(crate) fn sized_hash_order<T>(items: &mut [T], name: impl Fn(&T) -> &str) {
    let size = u32::try_from(items.len()).unwrap_or(1 << 30).max(1).next_power_of_two();
    hash_order_by(items, size, |item| string_hash(name(item)));
}

/// [`hash_order`] for partitions as keys.
pub(crate) fn partition_order<T>(items: &mut [T], partition: impl Fn(&T) -> &TopicPartition) {
    hash_order_by(items, 16, |item| {
        let tp = partition(item);
        31i32.wrapping_mul(31i32.wrapping_add(tp.partition)).wrapping_add(string_hash(&tp.topic))
    });
}

fn hash_order_by<T>(items: &mut [T], mut buckets: u32, hash: impl Fn(&T) -> i32) {
    while items.len() as u64 * 4 > u64::from(buckets) * 3 {
        buckets *= 2;
    }
    items.sort_by_key(|item| {
        let hash = hash(item) as u32;
        (hash ^ (hash >> 16)) & (buckets - 1)
    });
}

/// Java's `String.hashCode`.
pub(crate) fn string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// Java's `Double.toString`: `1024.0`, `1.0E7`.
pub(crate) fn double(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => format!("{digits}E{exponent}"),
        Some((digits, exponent)) => format!("{digits}.0E{exponent}"),
        None => text,
    }
}

fn camel(name: &str) -> String {
    let mut text = String::new();
    for word in name.split('_') {
        let mut letters = word.chars();
        text.extend(letters.next());
        text.push_str(&letters.as_str().to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_order_is_what_kafkas_describe_printed() {
        let mut topics = ["__consumer_offsets", "cfg", "orders", "ra", "test", "with.dot_and_us"];
        sized_hash_order(&mut topics, |name| name);
        assert_eq!(topics, ["orders", "test", "with.dot_and_us", "cfg", "__consumer_offsets", "ra"]);
    }

    #[test]
    fn partition_order_is_what_kafkas_reset_printed() {
        let mut partitions = [0, 1, 2].map(|partition| TopicPartition::new("probe", partition));
        partition_order(&mut partitions, |tp| tp);
        assert_eq!(partitions.map(|tp| tp.partition), [2, 0, 1]);
    }

    #[test]
    fn doubles_look_like_javas() {
        assert_eq!([1024.0, 50.5, 1e7, 1.5e10, 0.0].map(double), ["1024.0", "50.5", "1.0E7", "1.5E10", "0.0"]);
    }

    #[test]
    fn names_follow_javas_classes() {
        let class = |code| class_of_code(ErrorCode::from_code(code));
        assert_eq!(class(3), "org.apache.kafka.common.errors.UnknownTopicOrPartitionException");
        assert_eq!(class(36), "org.apache.kafka.common.errors.TopicExistsException");
        assert_eq!(class(40), "org.apache.kafka.common.errors.InvalidConfigurationException");
        assert_eq!(class(69), "org.apache.kafka.common.errors.GroupIdNotFoundException");
    }
}
