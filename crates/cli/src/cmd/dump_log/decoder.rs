//! What a record says: as text, or as the record of one of Kafka's own logs, in JSON.
//!
//! Pure: a record in, texts out. A record that cannot be read is named in the output and does not stop the walk.

use bytes::{Buf, Bytes};
use milena_protocol::framing::{FramedError, decode_framed_at};
use milena_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use milena_protocol::records::Record;
use milena_protocol::records::control::{ControlType, EndTxnMarker};
use milena_protocol::stored::{control, group, share, txn};
use milena_protocol::{Decode, Message, Reader, ToJson};
use serde_json::Value;

use super::thrown;
use crate::tool::{Stop, refuse};

/// How keys and values of an ordinary log are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    String,
    Integer,
    Long,
    Bytes,
}

impl Plain {
    /// By the class names of Kafka 4, and the older ones.
    pub(super) fn by_class(name: &str) -> Option<Plain> {
        let simple = ["org.apache.kafka.tools.api.", "kafka.serializer."].iter().find_map(|p| name.strip_prefix(p))?;
        Some(match simple {
            "StringDecoder" => Plain::String,
            "IntegerDecoder" => Plain::Integer,
            "LongDecoder" => Plain::Long,
            "DefaultDecoder" => Plain::Bytes,
            _ => return None,
        })
    }

    fn text(self, bytes: &Bytes) -> Result<String, Stop> {
        let mut rest = bytes.clone();
        let number = match self {
            Plain::String => return Ok(String::from_utf8_lossy(bytes).into_owned()),
            // what Java says of an array: its type, and a number that means nothing
            Plain::Bytes => return Ok(format!("[B@{:x}", milena_protocol::records::crc32c(bytes))),
            Plain::Integer => rest.try_get_i32().map(i64::from),
            Plain::Long => rest.try_get_i64(),
        };
        match number {
            Ok(number) => Ok(number.to_string()),
            Err(_) => refuse("Exception in thread \"main\" java.nio.BufferUnderflowException"),
        }
    }
}

/// What is shown after a record's sizes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) key: Option<String>,
    pub(super) payload: Option<String>,
}

/// How the records of a log are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoder {
    Plain { key: Plain, value: Plain },
    Offsets,
    Transactions,
    Metadata,
    Remote,
    ShareState,
}

impl Decoder {
    pub(super) fn show(self, record: &Record) -> Result<Shown, Stop> {
        match self {
            Decoder::Plain { key, value } => Ok(Shown {
                key: record.key.as_ref().map(|bytes| key.text(bytes)).transpose()?,
                payload: record.value.as_ref().map(|bytes| value.text(bytes)).transpose()?,
            }),
            Decoder::Offsets => coordinator(record, |key, value| {
                let key = group::Key::decode(key).map_err(|_| Part::Key)?;
                let value = value.map(|value| group_value(&key, value)).transpose()?;
                Ok((key.to_json(), value))
            }),
            Decoder::Transactions => coordinator(record, |key, value| {
                let key = txn::Key::decode(key).map_err(|_| Part::Key)?;
                let value = value.map(|value| key.value_to_json(value).map_err(|_| Part::Value)).transpose()?;
                Ok((key.to_json(), value))
            }),
            Decoder::ShareState => coordinator(record, |key, value| {
                let key = share::Key::decode(key).map_err(|_| Part::Key)?;
                let value = value.map(|value| key.value_to_json(value).map_err(|_| Part::Value)).transpose()?;
                Ok((key.to_json(), value))
            }),
            Decoder::Metadata => Ok(metadata_record(record)),
            Decoder::Remote => Ok(super::remote::show(record)),
        }
    }
}

/// What of a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Key,
    Value,
}

/// A key's JSON (none of an unknown type), and its value's version and JSON.
type Parts = (Option<String>, Option<(i16, String)>);

fn coordinator(record: &Record, parts: impl Fn(&Bytes, Option<&Bytes>) -> Result<Parts, Part>) -> Result<Shown, Stop> {
    let Some(key) = &record.key else {
        return thrown(
            "java.lang.RuntimeException",
            format_args!(
                "Failed to decode message at offset {} using the specified decoder (message had a missing key)",
                record.offset
            ),
        );
    };
    let type_id = key.clone().try_get_i16().unwrap_or(-1);
    Ok(match parts(key, record.value.as_ref()) {
        Ok((Some(json), value)) => Shown {
            key: Some(format!("{{\"type\":\"{type_id}\",\"data\":{json}}}")),
            payload: Some(match value {
                Some((version, json)) => format!("{{\"version\":\"{version}\",\"data\":{json}}}"),
                None => "<DELETE>".into(),
            }),
        },
        Ok((None, _)) => Shown {
            key: Some(format!("Unknown record type {type_id} at offset {}, skipping.", record.offset)),
            payload: None,
        },
        Err(part) => {
            let version = match part {
                Part::Key => Some(type_id),
                Part::Value => record.value.as_ref().and_then(|value| value.clone().try_get_i16().ok()),
            };
            let name = if part == Part::Key { "key" } else { "value" };
            let reason = format!(
                "Could not read record with version {} from {name}'s buffer due to: null.",
                version.unwrap_or_default()
            );
            Shown { key: Some(format!("Error at offset {}, skipping. {reason}", record.offset)), payload: None }
        }
    })
}

/// The value of a group's record; what the members of a classic group carry is shown too.
fn group_value(key: &group::Key, bytes: &Bytes) -> Result<(i16, String), Part> {
    let (version, json) = key.value_to_json(bytes).map_err(|_| Part::Value)?;
    let group::Key::GroupMetadata(_) = key else {
        return Ok((version, json));
    };
    let value: group::GroupMetadataValue = group::decode_value(bytes).map_err(|_| Part::Value)?;
    if value.protocol_type != "consumer" {
        return Ok((version, json));
    }
    // the base64 of a member's bytes gives way to what they say, member by member
    let mut shown = json;
    let mut from = 0;
    for member in &value.members {
        let fields = [
            ("\"subscription\":", carried::<ConsumerProtocolSubscription>(&member.subscription)),
            ("\"assignment\":", carried::<ConsumerProtocolAssignment>(&member.assignment)),
        ];
        for (name, text) in fields {
            let Some(at) = shown.get(from..).and_then(|rest| rest.find(name)).map(|at| from + at + name.len()) else {
                continue;
            };
            let Some(length) = shown.get(at + 1..).and_then(|rest| rest.find('"')).map(|length| length + 2) else {
                continue;
            };
            if let Some(text) = text {
                shown.replace_range(at..at + length, &text);
                from = at + text.len();
            } else {
                from = at + length;
            }
        }
    }
    Ok((version, shown))
}

/// A version, and the structure in it; later versions are read as far as they are known.
fn carried<T: Message + Decode + ToJson>(bytes: &Bytes) -> Option<String> {
    let mut bytes = bytes.clone();
    let version = bytes.try_get_i16().ok()?.clamp(T::MIN_VERSION, T::MAX_VERSION);
    Some(T::decode(&mut Reader::new(bytes), version).ok()?.to_json(version))
}

fn metadata_record(record: &Record) -> Shown {
    let bytes = record.value.clone().unwrap_or_default();
    let payload = match decode_framed_at(bytes) {
        Ok((read, version)) => format!(
            "{{\"type\":\"{}\",\"version\":{version},\"data\":{}}}",
            type_name(read.name()),
            read.to_json(version)
        ),
        Err(FramedError::UnknownFrameVersion(version)) => format!(
            "Error at {}, skipping. Could not deserialize metadata record due to unknown frame version {version}(only frame version 1 is supported)",
            record.offset
        ),
        Err(error) => format!("Error at {}, skipping. {error}", record.offset),
    };
    Shown { key: None, payload: Some(payload) }
}

/// `NoOpRecord` as `NO_OP_RECORD`.
fn type_name(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

/// What a control record says, with the blank before it.
pub(super) fn control(record: &Record) -> String {
    let type_id = record.key.as_ref().and_then(|key| key.get(2..4)?.try_into().ok().map(i16::from_be_bytes));
    let value = record.value.clone().unwrap_or_default();
    match type_id.and_then(ControlType::from_id) {
        Some(kind @ (ControlType::Abort | ControlType::Commit)) => {
            let name = if kind == ControlType::Commit { "COMMIT" } else { "ABORT" };
            let epoch = EndTxnMarker::parse(record).ok().flatten().map_or(-1, |marker| marker.coordinator_epoch);
            format!(" endTxnMarker: {name} coordinatorEpoch: {epoch}")
        }
        Some(ControlType::LeaderChange) => format!(" LeaderChange: {}", body::<control::LeaderChangeMessage>(value)),
        Some(ControlType::SnapshotHeader) => {
            format!(" SnapshotHeader {}", body::<control::SnapshotHeaderRecord>(value))
        }
        Some(ControlType::SnapshotFooter) => {
            format!(" SnapshotFooter {}", body::<control::SnapshotFooterRecord>(value))
        }
        Some(ControlType::KraftVersion) => format!(" KRaftVersion {}", body::<control::KRaftVersionRecord>(value)),
        Some(ControlType::KraftVoters) => format!(" KRaftVoters {}", body::<control::VotersRecord>(value)),
        None => format!(" controlType: UNKNOWN({})", type_id.unwrap_or(-1)),
    }
}

/// The body of a control record, which begins with its version.
fn body<T: Message + Decode + ToJson>(bytes: Bytes) -> String {
    let version = bytes.clone().try_get_i16().unwrap_or(0).clamp(T::MIN_VERSION, T::MAX_VERSION);
    match T::decode(&mut Reader::new(bytes), version) {
        Ok(read) => read.to_json(version),
        Err(error) => Value::from(error.to_string()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> Record {
        Record { key: key.map(Bytes::from_static), value: value.map(Bytes::from_static), ..Default::default() }
    }

    #[test]
    fn commits_and_tombstones_are_shown_as_kafka_shows_them() {
        let key = b"\0\x01\0\x02g1\0\x06orders\0\0\0\0";
        let value = b"\0\x03\0\0\0\0\0\0\0\x05\0\0\0\x01\0\0\0\0\0\0\0\0\0\x09";
        let shown = Decoder::Offsets.show(&record(Some(key), Some(value))).unwrap();
        assert_eq!(
            shown.key.unwrap(),
            "{\"type\":\"1\",\"data\":{\"group\":\"g1\",\"topic\":\"orders\",\"partition\":0}}"
        );
        assert_eq!(
            shown.payload.unwrap(),
            "{\"version\":\"3\",\"data\":{\"offset\":5,\"leaderEpoch\":1,\"metadata\":\"\",\"commitTimestamp\":9}}"
        );
        let deleted = Decoder::Offsets.show(&record(Some(key), None)).unwrap();
        assert_eq!(deleted.payload.unwrap(), "<DELETE>");
        assert!(Decoder::Offsets.show(&record(None, None)).is_err());
    }

    #[test]
    fn members_are_shown_with_what_they_carry() {
        let member = |name: &str| group::group_metadata_value::MemberMetadata {
            member_id: name.into(),
            subscription: Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0"),
            assignment: Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"),
            ..Default::default()
        };
        let value = group::GroupMetadataValue {
            protocol_type: "consumer".into(),
            members: vec![member("a"), member("b")],
            ..Default::default()
        };
        let bytes = group::encode_value(&value, 3).unwrap();
        let (_, shown) = group_value(&group::Key::GroupMetadata(group::GroupMetadataKey::default()), &bytes).unwrap();
        let carried = "\"subscription\":{\"topics\":[\"t\"],\"userData\":null,\"ownedPartitions\":[]},\"assignment\":{\"assignedPartitions\":[],\"userData\":null}";
        assert_eq!(shown.matches(carried).count(), 2, "{shown}");
    }

    #[test]
    fn metadata_records_name_their_type() {
        let shown = Decoder::Metadata.show(&record(None, Some(b"\x01\x14\0\0"))).unwrap();
        assert_eq!(shown.payload.unwrap(), "{\"type\":\"NO_OP_RECORD\",\"version\":0,\"data\":{}}");
        assert_eq!(type_name("RegisterBrokerRecord"), "REGISTER_BROKER_RECORD");
        assert_eq!(
            control(&record(Some(b"\0\0\0\x01"), Some(b"\0\0\0\0\0\x07"))),
            " endTxnMarker: COMMIT coordinatorEpoch: 7"
        );
    }
}
