//! The records of `__consumer_offsets` that the group coordinator understands, and their bytes.
//!
//! Keys carry an i16 type: 0 and 1 are offset commits, 2 is a classic group, 3 to 8 and 16 are consumer groups (KIP-848). Of groups of
//! other kinds (KIP-932, KIP-1071), which are not served yet, only the keys are known: `GroupRecord::Foreign`. What a later Kafka wrote is left in the log as
//! it is and has no effect here: `GroupRecord::Other`.

use std::sync::Arc;

use bytes::Bytes;
use milena_protocol::ErrorCode;
use milena_protocol::stored::group::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupMetadataKey, ConsumerGroupPartitionMetadataValue,
    ConsumerGroupRegularExpressionKey, GroupMetadataKey, GroupMetadataValue, LegacyOffsetCommitKey, OffsetCommitKey,
    OffsetCommitValue,
};
use milena_protocol::{Decode, Encode, EncodeError, Reader, Writer};

use super::consumer::record::ConsumerRecord;
use crate::writer::{CoordinatorRecord, LoadedRecord, RECORD_OVERHEAD_BYTES};

const LEGACY_OFFSET_COMMIT_KEY: i16 = 0;
const OFFSET_COMMIT_KEY: i16 = 1;
const GROUP_METADATA_KEY: i16 = 2;
const CONSUMER_EPOCH_KEY: i16 = 3;
const CONSUMER_PARTITION_METADATA_KEY: i16 = 4;
const CONSUMER_MEMBER_KEY: i16 = 5;
const CONSUMER_TARGET_EPOCH_KEY: i16 = 6;
const CONSUMER_TARGET_KEY: i16 = 7;
const CONSUMER_CURRENT_KEY: i16 = 8;
const CONSUMER_REGEX_KEY: i16 = 16;

/// Versions that Kafka 4.3 writes.
const GROUP_METADATA_VALUE_VERSION: i16 = 3;
const OFFSET_COMMIT_VALUE_VERSION: i16 = 4;
const CONSUMER_VALUE_VERSION: i16 = 0;
/// The only version with an expiration; it knows neither leader epoch nor topic id.
const EXPIRING_OFFSET_COMMIT_VALUE_VERSION: i16 = 1;

/// One record by meaning. A value of `None` is a tombstone.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupRecord {
    /// `producer_id` is -1 unless the commit is part of a transaction.
    Offset {
        producer_id: i64,
        group: Arc<str>,
        topic: Arc<str>,
        partition: i32,
        value: Option<OffsetCommitValue>,
    },
    Group {
        group: Arc<str>,
        value: Option<GroupMetadataValue>,
    },
    /// A record of a consumer group.
    Consumer {
        group: Arc<str>,
        record: ConsumerRecord,
    },
    /// A record of a group that is neither, named by its encoded key; not `present` is a tombstone.
    Foreign {
        group: Arc<str>,
        kind: GroupKind,
        key: Bytes,
        present: bool,
    },
    /// The transaction of `producer_id` ended.
    TransactionEnd {
        producer_id: i64,
        committed: bool,
    },
    /// Not ours to understand.
    Other,
}

/// Kinds of groups other than classic ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// KIP-848
    Consumer,
    /// KIP-932
    Share,
    /// KIP-1071
    Streams,
}

impl GroupKind {
    /// As ListGroups names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            GroupKind::Consumer => "consumer",
            GroupKind::Share => "share",
            GroupKind::Streams => "streams",
        }
    }

    fn of_key_type(key_type: i16) -> Option<GroupKind> {
        match key_type {
            10..=15 => Some(GroupKind::Share),
            17..=23 => Some(GroupKind::Streams),
            _ => None,
        }
    }
}

impl GroupRecord {
    pub(crate) fn group(group: &Arc<str>, value: Option<GroupMetadataValue>) -> Self {
        GroupRecord::Group { group: group.clone(), value }
    }

    pub(crate) fn offset(group: &Arc<str>, topic: &Arc<str>, partition: i32, value: Option<OffsetCommitValue>) -> Self {
        GroupRecord::Offset { producer_id: -1, group: group.clone(), topic: topic.clone(), partition, value }
    }

    /// Fails on strings longer than 32767 bytes, which operations refuse before they decide on a record.
    pub(crate) fn encode(&self) -> Result<CoordinatorRecord, ErrorCode> {
        match self {
            GroupRecord::Offset { group, topic, partition, value, .. } => {
                let key = |w: &mut Writer| {
                    w.put_string(group, false)?;
                    w.put_string(topic, false)?;
                    w.put_i32(*partition);
                    Ok(())
                };
                encode(OFFSET_COMMIT_KEY, key, value.as_ref().map(|value| (offset_value_version(value), value)))
            }
            GroupRecord::Group { group, value } => {
                let key = |w: &mut Writer| w.put_string(group, false);
                encode(GROUP_METADATA_KEY, key, value.as_ref().map(|value| (GROUP_METADATA_VALUE_VERSION, value)))
            }
            GroupRecord::Consumer { group, record } => encode_consumer(group, record),
            GroupRecord::Foreign { key, present: false, .. } => Ok(CoordinatorRecord { key: key.clone(), value: None }),
            GroupRecord::Foreign { .. } => Err(ErrorCode::UnknownServerError),
            // Written by the transaction coordinator and by later Kafkas only.
            GroupRecord::TransactionEnd { .. } | GroupRecord::Other => Err(ErrorCode::UnknownServerError),
        }
    }

    pub(crate) fn decode(loaded: LoadedRecord) -> Self {
        match loaded {
            LoadedRecord::TransactionEnd { producer_id, committed, .. } => {
                GroupRecord::TransactionEnd { producer_id, committed }
            }
            LoadedRecord::Record { offset, producer_id, record } => {
                decode_record(producer_id, &record).unwrap_or_else(|| {
                    tracing::debug!(
                        offset,
                        key_bytes = record.key.len(),
                        "record of a type or version unknown to the group coordinator is left alone"
                    );
                    GroupRecord::Other
                })
            }
        }
    }
}

fn encode_consumer(group: &Arc<str>, record: &ConsumerRecord) -> Result<CoordinatorRecord, ErrorCode> {
    fn one<V: Encode>(key_type: i16, names: &[&str], value: Option<&V>) -> Result<CoordinatorRecord, ErrorCode> {
        let key = |w: &mut Writer| names.iter().try_for_each(|name| w.put_string(name, false));
        encode(key_type, key, value.map(|value| (CONSUMER_VALUE_VERSION, value)))
    }
    match record {
        ConsumerRecord::Epoch(value) => one(CONSUMER_EPOCH_KEY, &[group], value.as_ref()),
        ConsumerRecord::PartitionMetadata { present: false } => {
            one::<ConsumerGroupPartitionMetadataValue>(CONSUMER_PARTITION_METADATA_KEY, &[group], None)
        }
        // Kafka wrote these up to 4.0.
        ConsumerRecord::PartitionMetadata { present: true } => Err(ErrorCode::UnknownServerError),
        ConsumerRecord::Member { member, value } => one(CONSUMER_MEMBER_KEY, &[group, member], value.as_ref()),
        ConsumerRecord::TargetEpoch(value) => one(CONSUMER_TARGET_EPOCH_KEY, &[group], value.as_ref()),
        ConsumerRecord::Target { member, value } => one(CONSUMER_TARGET_KEY, &[group, member], value.as_ref()),
        ConsumerRecord::Current { member, value } => one(CONSUMER_CURRENT_KEY, &[group, member], value.as_ref()),
        ConsumerRecord::Regex { regex, value } => one(CONSUMER_REGEX_KEY, &[group, regex], value.as_ref()),
    }
}

/// At most the bytes of the encoded value; cheap, for deciding whether it fits a batch before it is encoded.
pub(crate) fn metadata_size_in_bytes(value: &GroupMetadataValue) -> usize {
    let members: usize = value
        .members
        .iter()
        .map(|member| {
            let strings = [&member.member_id, &member.client_id, &member.client_host]
                .iter()
                .map(|text| text.len())
                .sum::<usize>();
            32 + strings
                + member.group_instance_id.as_ref().map_or(0, String::len)
                + member.subscription.len()
                + member.assignment.len()
        })
        .sum();
    RECORD_OVERHEAD_BYTES + 256 + value.protocol_type.len() + value.protocol.as_ref().map_or(0, String::len) + members
}

fn offset_value_version(value: &OffsetCommitValue) -> i16 {
    if value.expire_timestamp != -1 { EXPIRING_OFFSET_COMMIT_VALUE_VERSION } else { OFFSET_COMMIT_VALUE_VERSION }
}

/// Key and value share one buffer: this runs for every offset that is committed.
fn encode(
    key_type: i16,
    key: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    value: Option<(i16, &impl Encode)>,
) -> Result<CoordinatorRecord, ErrorCode> {
    /// Enough for a commit with names of usual length.
    const USUAL_BYTES: usize = 160;
    let encode = || {
        let mut w = Writer::with_capacity(USUAL_BYTES);
        w.put_i16(key_type);
        key(&mut w)?;
        let key_len = w.len();
        if let Some((version, value)) = value {
            w.put_i16(version);
            value.encode(&mut w, version)?;
        }
        let mut chunks = w.finish();
        let bytes = match (chunks.pop(), chunks.is_empty()) {
            (Some(only), true) => only,
            // Subscriptions and assignments that are large come as chunks of their own.
            (last, _) => chunks.into_iter().chain(last).flatten().collect(),
        };
        Ok((key_len, bytes))
    };
    let (key_len, bytes) = encode().map_err(|error: EncodeError| {
        tracing::error!(%error, "cannot encode a record of the group coordinator");
        ErrorCode::UnknownServerError
    })?;
    Ok(CoordinatorRecord { key: bytes.slice(..key_len), value: value.is_some().then(|| bytes.slice(key_len..)) })
}

/// `None` for what is not understood.
fn decode_record(producer_id: i64, record: &CoordinatorRecord) -> Option<GroupRecord> {
    let (key_type, mut key) = split_prefix(&record.key)?;
    match key_type {
        OFFSET_COMMIT_KEY | LEGACY_OFFSET_COMMIT_KEY => {
            let OffsetCommitKey { group, topic, partition, .. } = if key_type == OFFSET_COMMIT_KEY {
                OffsetCommitKey::decode(&mut key, 0).ok()?
            } else {
                let legacy = LegacyOffsetCommitKey::decode(&mut key, 0).ok()?;
                OffsetCommitKey { group: legacy.group, topic: legacy.topic, partition: legacy.partition }
            };
            Some(GroupRecord::Offset {
                producer_id,
                group: group.into(),
                topic: topic.into(),
                partition,
                value: decode_value(record)?,
            })
        }
        GROUP_METADATA_KEY => {
            let key = GroupMetadataKey::decode(&mut key, 0).ok()?;
            Some(GroupRecord::Group { group: key.group.into(), value: decode_value(record)? })
        }
        CONSUMER_EPOCH_KEY..=CONSUMER_CURRENT_KEY | CONSUMER_REGEX_KEY => decode_consumer(key_type, &mut key, record),
        _ => {
            let kind = GroupKind::of_key_type(key_type)?;
            let group = leading_string(&record.key)?;
            // Copied: a slice would keep the whole batch it was loaded with in memory.
            let key = Bytes::copy_from_slice(&record.key);
            Some(GroupRecord::Foreign { group, kind, key, present: record.value.is_some() })
        }
    }
}

/// `None` for what is not understood.
fn decode_consumer(key_type: i16, key: &mut Reader, record: &CoordinatorRecord) -> Option<GroupRecord> {
    let (group, record) = match key_type {
        CONSUMER_EPOCH_KEY | CONSUMER_TARGET_EPOCH_KEY | CONSUMER_PARTITION_METADATA_KEY => {
            let group = ConsumerGroupMetadataKey::decode(key, 0).ok()?.group_id;
            let record = match key_type {
                CONSUMER_EPOCH_KEY => ConsumerRecord::Epoch(decode_value(record)?),
                CONSUMER_TARGET_EPOCH_KEY => ConsumerRecord::TargetEpoch(decode_value(record)?),
                _ => ConsumerRecord::PartitionMetadata { present: record.value.is_some() },
            };
            (group, record)
        }
        CONSUMER_REGEX_KEY => {
            let key = ConsumerGroupRegularExpressionKey::decode(key, 0).ok()?;
            (key.group_id, ConsumerRecord::Regex { regex: key.regular_expression.into(), value: decode_value(record)? })
        }
        _ => {
            let key = ConsumerGroupCurrentMemberAssignmentKey::decode(key, 0).ok()?;
            let member = Arc::from(key.member_id);
            let record = match key_type {
                CONSUMER_MEMBER_KEY => ConsumerRecord::Member { member, value: decode_value(record)? },
                CONSUMER_TARGET_KEY => ConsumerRecord::Target { member, value: decode_value(record)? },
                _ => ConsumerRecord::Current { member, value: decode_value(record)? },
            };
            (key.group_id, record)
        }
    };
    Some(GroupRecord::Consumer { group: group.into(), record })
}

/// The first field of every key: its group.
fn leading_string(key: &[u8]) -> Option<Arc<str>> {
    let (len, rest) = key.get(2..)?.split_first_chunk::<2>()?;
    let text = rest.get(..usize::try_from(i16::from_be_bytes(*len)).ok()?)?;
    std::str::from_utf8(text).ok().map(Arc::from)
}

/// `Some(None)` is a tombstone, `None` a value of an unknown version.
fn decode_value<T: Decode>(record: &CoordinatorRecord) -> Option<Option<T>> {
    let Some(value) = &record.value else {
        return Some(None);
    };
    // Copied: a slice would keep the whole batch it was loaded with in memory.
    let (version, mut rest) = split_prefix(&Bytes::copy_from_slice(value))?;
    if !(T::MIN_VERSION..=T::MAX_VERSION).contains(&version) {
        return None;
    }
    T::decode(&mut rest, version).ok().map(Some)
}

fn split_prefix(bytes: &Bytes) -> Option<(i16, Reader)> {
    let (prefix, _) = bytes.split_first_chunk::<2>()?;
    Some((i16::from_be_bytes(*prefix), Reader::new(bytes.slice(2..))))
}
