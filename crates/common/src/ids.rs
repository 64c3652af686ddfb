//! Identifiers that travel between rooms: `Uuid`, `TopicPartition`, `TopicIdPartition`.
//!
//! Offsets, epochs, broker ids and producer ids are plain integers named with their unit (docs/decisions/0001).
//! Called by everybody; never does I/O except for the random bytes of a new `Uuid`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// 128 bits identifying a topic, a directory, an incarnation or a cluster.
///
/// Its text form is base64url without padding, 22 characters, as Kafka prints it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// "No id": the default in the protocol.
    pub const ZERO: Uuid = Uuid([0; 16]);
    /// The id of `__cluster_metadata`.
    pub const METADATA_TOPIC: Uuid = Uuid::from_u128(1);

    /// Directory id of a replica whose directory is not known yet (KIP-858).
    pub const UNASSIGNED_DIR: Uuid = Uuid::ZERO;
    /// Directory id of a replica on an offline directory (KIP-858).
    pub const LOST_DIR: Uuid = Uuid::from_u128(1);
    /// Directory id used while migrating to directory ids (KIP-858).
    pub const MIGRATING_DIR: Uuid = Uuid::from_u128(2);

    pub const fn from_u128(value: u128) -> Self {
        Uuid(value.to_be_bytes())
    }

    pub const fn to_u128(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Uuid(bytes)
    }

    /// Big-endian, the order of the wire and of files.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.to_u128() == 0
    }

    /// Reserved ids never name a real topic or directory: Kafka sets the first hundred aside.
    pub const fn is_reserved(self) -> bool {
        self.to_u128() < 100
    }

    /// A random version 4 id that is not reserved and whose text does not start with `-`
    /// (it would look like an option on a command line).
    ///
    /// # Panics
    /// When the operating system has no random bytes to give; nothing can be named safely then.
    pub fn random() -> Self {
        loop {
            let mut bytes = [0u8; 16];
            if let Err(error) = getrandom::fill(&mut bytes) {
                panic!("the operating system gives no random bytes: {error}");
            }
            bytes[6] = (bytes[6] & 0x0f) | 0x40;
            bytes[8] = (bytes[8] & 0x3f) | 0x80;
            let id = Uuid(bytes);
            if !id.is_reserved() && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buf = [0u8; 22];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut buf).map_err(|_| fmt::Error)?;
        f.pad(std::str::from_utf8(&buf[..written]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a `Uuid`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UuidParseError {
    #[error("Input string with prefix `{0}` is too long to be decoded as a base64 UUID")]
    TooLong(String),
    #[error("Input string `{0}` is not base64url")]
    NotBase64(String),
    #[error(
        "Input string `{text}` decoded as {len} bytes, which is not equal to the expected 16 bytes of a base64-encoded UUID"
    )]
    WrongLength { text: String, len: usize },
}

impl FromStr for Uuid {
    type Err = UuidParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > 24 {
            return Err(UuidParseError::TooLong(text.chars().take(24).collect()));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| UuidParseError::NotBase64(text.to_owned()))?;
        let len = bytes.len();
        let bytes: [u8; 16] =
            bytes.try_into().map_err(|_| UuidParseError::WrongLength { text: text.to_owned(), len })?;
        Ok(Uuid(bytes))
    }
}

/// A partition by topic name. Displays as `topic-0`, the name of its directory.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }

    /// The partitions of each topic, as requests want them; those of one topic in the order given.
    pub fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<String, Vec<i32>> {
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for tp in partitions {
            topics.entry(tp.topic.to_string()).or_default().push(tp.partition);
        }
        topics
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A partition by topic id, with the name it has now. Displays as `id:topic-0`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicIdPartition {
    pub topic_id: Uuid,
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicIdPartition {
    pub fn new(topic_id: Uuid, topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicIdPartition { topic_id, topic: topic.into(), partition }
    }

    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }
}

impl fmt::Display for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}-{}", self.topic_id, self.topic, self.partition)
    }
}

impl fmt::Debug for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_kafkas() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid::METADATA_TOPIC.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAQ".parse::<Uuid>(), Ok(Uuid::METADATA_TOPIC));
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAQ==".parse::<Uuid>(), Ok(Uuid::METADATA_TOPIC));
    }

    #[test]
    fn bad_text_says_why() {
        assert_eq!("AAAA".parse::<Uuid>(), Err(UuidParseError::WrongLength { text: "AAAA".into(), len: 3 }));
        assert!(matches!("x".repeat(25).parse::<Uuid>(), Err(UuidParseError::TooLong(_))));
        assert!(matches!("!!!!!!!!!!!!!!!!!!!!!!".parse::<Uuid>(), Err(UuidParseError::NotBase64(_))));
    }

    proptest::proptest! {
        #[test]
        fn text_round_trips(value: u128) {
            let id = Uuid::from_u128(value);
            assert_eq!(id.to_string().len(), 22);
            assert_eq!(id.to_string().parse::<Uuid>(), Ok(id));
            assert_eq!(Uuid::from_bytes(id.to_bytes()), id);
        }
    }

    #[test]
    fn random_ids_are_usable_as_arguments() {
        for _ in 0..2_000 {
            let id = Uuid::random();
            assert!(!id.is_reserved());
            assert!(!id.to_string().starts_with('-'));
        }
    }

    #[test]
    fn partitions_display_as_directories() {
        let tp = TopicPartition::new("my-topic", 3);
        assert_eq!(tp.to_string(), "my-topic-3");
        assert_eq!(TopicIdPartition::new(Uuid::ZERO, "t", 0).to_string(), "AAAAAAAAAAAAAAAAAAAAAA:t-0");
    }
}
