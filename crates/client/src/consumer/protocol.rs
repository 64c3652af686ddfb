//! The bytes that members of a classic consumer group exchange through the coordinator: subscription and assignment.
//!
//! Owns Kafka's `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment` (versions 0 to 3; subscriptions are written as version 3,
//! of which older clients read what they know). Pure. Newer versions are read as far as they are known, as the format promises.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use milena_common::TopicPartition;

/// What a member asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub topics: Vec<String>,
    pub user_data: Option<Bytes>,
    pub owned_partitions: Vec<TopicPartition>,
    /// The generation in which the partitions were given; -1: none.
    pub generation: i32,
    pub rack: Option<String>,
}

impl Default for Subscription {
    fn default() -> Self {
        Subscription { topics: Vec::new(), user_data: None, owned_partitions: Vec::new(), generation: -1, rack: None }
    }
}

/// The bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed consumer protocol data")]
pub struct Malformed;

impl Subscription {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(3);
        put_length(&mut out, self.topics.len());
        for topic in &self.topics {
            put_string(&mut out, topic);
        }
        put_bytes(&mut out, self.user_data.as_ref());
        put_partitions(&mut out, &self.owned_partitions);
        out.put_i32(self.generation);
        match &self.rack {
            Some(rack) => put_string(&mut out, rack),
            None => out.put_i16(-1),
        }
        out.freeze()
    }

    /// # Errors
    /// [`Malformed`] when the bytes end too early or lengths lie.
    pub fn decode(mut data: Bytes) -> Result<Subscription, Malformed> {
        let version = take_i16(&mut data)?;
        let count = take_count(&mut data, 2)?;
        let topics = (0..count).map(|_| take_string(&mut data)).collect::<Result<_, _>>()?;
        let user_data = take_bytes(&mut data)?;
        let owned_partitions = if version >= 1 { take_partitions(&mut data)? } else { Vec::new() };
        let generation = if version >= 2 { data.try_get_i32().map_err(|_| Malformed)? } else { -1 };
        let rack = match version >= 3 && data.get(..2) != Some(&[0xff, 0xff]) {
            true => Some(take_string(&mut data)?),
            false => None,
        };
        Ok(Subscription { topics, user_data, owned_partitions, generation, rack })
    }
}

/// What a member of a `sticky` group tells of itself: what it was given last, and in which generation.
pub fn encode_sticky(partitions: &[TopicPartition], generation: i32) -> Bytes {
    let mut out = BytesMut::new();
    put_partitions(&mut out, partitions);
    out.put_i32(generation);
    out.freeze()
}

/// Reads what [`encode_sticky`] wrote, or its older form without a generation.
///
/// # Errors
/// [`Malformed`] when the bytes end too early or lengths lie.
pub fn decode_sticky(mut data: Bytes) -> Result<(Vec<TopicPartition>, i32), Malformed> {
    let partitions = take_partitions(&mut data)?;
    Ok((partitions, data.try_get_i32().unwrap_or(-1)))
}

/// Writes the partitions that a member is given.
pub fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(1);
    put_partitions(&mut out, partitions);
    put_bytes(&mut out, None);
    out.freeze()
}

/// Reads the partitions that a member is given; no bytes at all mean none.
///
/// # Errors
/// [`Malformed`] when the bytes end too early or lengths lie.
pub fn decode_assignment(mut data: Bytes) -> Result<Vec<TopicPartition>, Malformed> {
    if data.is_empty() {
        return Ok(Vec::new());
    }
    take_i16(&mut data)?;
    take_partitions(&mut data)
}

fn put_length(out: &mut BytesMut, length: usize) {
    out.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.put_slice(text.as_bytes());
}

fn put_bytes(out: &mut BytesMut, data: Option<&Bytes>) {
    match data {
        Some(data) => {
            put_length(out, data.len());
            out.put_slice(data);
        }
        None => out.put_i32(-1),
    }
}

fn put_partitions(out: &mut BytesMut, partitions: &[TopicPartition]) {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for tp in partitions {
        by_topic.entry(&tp.topic).or_default().push(tp.partition);
    }
    put_length(out, by_topic.len());
    for (topic, indexes) in by_topic {
        put_string(out, topic);
        put_length(out, indexes.len());
        indexes.iter().for_each(|index| out.put_i32(*index));
    }
}

fn take_i16(data: &mut Bytes) -> Result<i16, Malformed> {
    data.try_get_i16().map_err(|_| Malformed)
}

/// A count of elements of at least `size` bytes each that the rest of the data can hold.
fn take_count(data: &mut Bytes, size: usize) -> Result<usize, Malformed> {
    let count = usize::try_from(data.try_get_i32().map_err(|_| Malformed)?).map_err(|_| Malformed)?;
    if count.saturating_mul(size) <= data.len() { Ok(count) } else { Err(Malformed) }
}

fn take_string(data: &mut Bytes) -> Result<String, Malformed> {
    let length = usize::try_from(take_i16(data)?).map_err(|_| Malformed)?;
    if length > data.len() {
        return Err(Malformed);
    }
    String::from_utf8(data.split_to(length).to_vec()).map_err(|_| Malformed)
}

fn take_bytes(data: &mut Bytes) -> Result<Option<Bytes>, Malformed> {
    let length = data.try_get_i32().map_err(|_| Malformed)?;
    if length < 0 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    if length > data.len() {
        return Err(Malformed);
    }
    Ok(Some(data.split_to(length)))
}

fn take_partitions(data: &mut Bytes) -> Result<Vec<TopicPartition>, Malformed> {
    let mut partitions = Vec::new();
    for _ in 0..take_count(data, 6)? {
        let topic: std::sync::Arc<str> = take_string(data)?.into();
        for _ in 0..take_count(data, 4)? {
            let partition = data.try_get_i32().map_err(|_| Malformed)?;
            partitions.push(TopicPartition::new(topic.clone(), partition));
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_subscription_survives_the_wire() {
        let subscription = Subscription {
            topics: vec!["orders".into(), "b".into()],
            user_data: Some(Bytes::from_static(b"x")),
            owned_partitions: vec![TopicPartition::new("orders", 3)],
            generation: 7,
            rack: Some("r".into()),
        };
        let bare = Subscription { rack: None, ..subscription.clone() };
        assert_eq!(Subscription::decode(bare.encode()), Ok(bare));
        assert_eq!(Subscription::decode(subscription.encode()), Ok(subscription));
    }

    #[test]
    fn version_0_has_no_owned_partitions() {
        let bytes = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
        assert_eq!(Subscription::decode(bytes).unwrap().topics, ["t"]);
    }

    #[test]
    fn an_assignment_survives_the_wire() {
        let partitions = vec![TopicPartition::new("a", 0), TopicPartition::new("a", 2), TopicPartition::new("b", 1)];
        assert_eq!(decode_assignment(encode_assignment(&partitions)), Ok(partitions));
        assert_eq!(decode_assignment(Bytes::new()), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Subscription::decode(Bytes::from(data.clone()));
            let _ = decode_sticky(Bytes::from(data.clone()));
            let _ = decode_assignment(Bytes::from(data));
        }
    }
}
