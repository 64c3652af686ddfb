//! What clients of the classic protocol embed: `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`, in the bytes of JoinGroup
//! and SyncGroup. Later versions only append fields.

use bytes::Bytes;
use milena_protocol::Reader;

/// A subscription, as far as the coordinator looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) version: i16,
    pub(crate) topics: Vec<String>,
    /// From version 1 on.
    pub(crate) owned: Vec<(String, Vec<i32>)>,
    /// From version 3 on.
    pub(crate) rack: Option<String>,
}

/// An assignment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) partitions: Vec<(String, Vec<i32>)>,
    pub(crate) user_data: Bytes,
}

impl Subscription {
    /// `None` if the bytes are no subscription.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        let mut r = Reader::new(bytes.clone());
        let version = r.get_i16().ok().filter(|version| *version >= 0)?;
        let mut subscription = Subscription { version, ..Default::default() };
        for _ in 0..r.get_i32().ok()?.max(0) {
            subscription.topics.push(r.get_string(false).ok()?);
        }
        skip_bytes(&mut r)?;
        if version >= 1 {
            subscription.owned = partitions(&mut r)?;
        }
        if version >= 2 {
            r.get_i32().ok()?;
        }
        if version >= 3 {
            subscription.rack = r.get_nullable_string(false).ok()?;
        }
        Some(subscription)
    }
}

impl Assignment {
    /// `None` if the bytes are no assignment. Nothing is an empty one.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Assignment::default());
        }
        let mut r = Reader::new(bytes.clone());
        r.get_i16().ok().filter(|version| *version >= 0)?;
        let partitions = partitions(&mut r)?;
        let user_data = skip_bytes(&mut r).unwrap_or_default();
        Some(Assignment { partitions, user_data })
    }

    /// The bytes for a client that speaks `version`, without user data.
    pub(crate) fn encode(&self, version: i16) -> Bytes {
        let mut bytes = Vec::new();
        let put_len = |bytes: &mut Vec<u8>, len: usize| bytes.extend((len as i32).to_be_bytes());
        bytes.extend(version.to_be_bytes());
        put_len(&mut bytes, self.partitions.len());
        for (topic, partitions) in &self.partitions {
            bytes.extend((topic.len() as i16).to_be_bytes());
            bytes.extend(topic.as_bytes());
            put_len(&mut bytes, partitions.len());
            for partition in partitions {
                bytes.extend(partition.to_be_bytes());
            }
        }
        bytes.extend((-1i32).to_be_bytes());
        Bytes::from(bytes)
    }
}

fn partitions(r: &mut Reader) -> Option<Vec<(String, Vec<i32>)>> {
    let mut topics = Vec::new();
    for _ in 0..r.get_i32().ok()?.max(0) {
        let topic = r.get_string(false).ok()?;
        let mut partitions = Vec::new();
        for _ in 0..r.get_i32().ok()?.max(0) {
            partitions.push(r.get_i32().ok()?);
        }
        topics.push((topic, partitions));
    }
    Some(topics)
}

/// User data; `None` if the bytes end before.
fn skip_bytes(r: &mut Reader) -> Option<Bytes> {
    Some(r.get_nullable_bytes(false).ok()?.unwrap_or_default())
}
