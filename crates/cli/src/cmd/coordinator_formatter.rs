//! Kafka's formatters for `__consumer_offsets`: each record as JSON, key and value by the type and version in their first bytes.
//!
//! `OffsetsMessageFormatter` shows commits, `GroupMetadataMessageFormatter` classic groups; records of other types are left out. Pure.

use bytes::{Buf, Bytes};
use milena_client::ConsumerRecord;
use milena_protocol::stored::group::{GroupMetadataValue, Key, OffsetCommitValue};
use milena_protocol::{Decode, Message, Reader};
use serde_json::Value;

/// Which records are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Offsets,
    GroupMetadata,
}

/// The record's JSON, if it is of that kind. No line end follows it, as in Kafka.
pub(super) fn format(kind: Kind, record: &ConsumerRecord) -> Option<String> {
    let bytes = record.key.as_ref()?;
    let key = Key::decode(bytes).ok()?;
    let type_id = bytes.clone().try_get_i16().ok()?;
    let (data, value) = match (kind, key) {
        (Kind::Offsets, Key::OffsetCommit(key)) => {
            let fields =
                [("group", text(&key.group)), ("topic", text(&key.topic)), ("partition", key.partition.to_string())];
            (object(&fields), versioned(record.value.as_ref(), offset))
        }
        (Kind::GroupMetadata, Key::GroupMetadata(key)) => {
            (object(&[("group", text(&key.group))]), versioned(record.value.as_ref(), group))
        }
        _ => return None,
    };
    Some(format!("{{\"key\":{{\"type\":{type_id},\"data\":{data}}},\"value\":{value}}}"))
}

/// `{"version":N,"data":{...}}`, or `null` for a tombstone.
fn versioned<T: Message + Decode>(value: Option<&Bytes>, show: impl Fn(&T, i16) -> String) -> String {
    let Some(mut bytes) = value.cloned() else { return "null".into() };
    let Ok(version) = bytes.try_get_i16() else { return "null".into() };
    let data = match (T::MIN_VERSION..=T::MAX_VERSION).contains(&version) {
        true => T::decode(&mut Reader::new(bytes), version).ok(),
        false => None,
    };
    let shown = data.map_or_else(|| "\"unknown\"".to_string(), |data| show(&data, version));
    format!("{{\"version\":{version},\"data\":{shown}}}")
}

fn offset(value: &OffsetCommitValue, version: i16) -> String {
    let mut fields = vec![("offset", value.offset.to_string())];
    if version >= 3 {
        fields.push(("leaderEpoch", value.leader_epoch.to_string()));
    }
    fields.push(("metadata", text(&value.metadata)));
    fields.push(("commitTimestamp", value.commit_timestamp.to_string()));
    if version == 1 {
        fields.push(("expireTimestamp", value.expire_timestamp.to_string()));
    }
    if version >= 4 {
        fields.push(("topicId", text(&value.topic_id.to_string())));
    }
    object(&fields)
}

fn group(value: &GroupMetadataValue, version: i16) -> String {
    let mut fields = vec![
        ("protocolType", text(&value.protocol_type)),
        ("generation", value.generation.to_string()),
        ("protocol", nullable(value.protocol.as_deref())),
        ("leader", nullable(value.leader.as_deref())),
    ];
    if version >= 2 {
        fields.push(("currentStateTimestamp", value.current_state_timestamp.to_string()));
    }
    let members: Vec<String> = value
        .members
        .iter()
        .map(|member| {
            let mut fields = vec![("memberId", text(&member.member_id))];
            if version >= 3 {
                fields.push(("groupInstanceId", nullable(member.group_instance_id.as_deref())));
            }
            fields.push(("clientId", text(&member.client_id)));
            fields.push(("clientHost", text(&member.client_host)));
            if version >= 1 {
                fields.push(("rebalanceTimeout", member.rebalance_timeout.to_string()));
            }
            fields.push(("sessionTimeout", member.session_timeout.to_string()));
            fields.push(("subscription", text(&base64(&member.subscription))));
            fields.push(("assignment", text(&base64(&member.assignment))));
            object(&fields)
        })
        .collect();
    fields.push(("members", format!("[{}]", members.join(","))));
    object(&fields)
}

fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn text(text: &str) -> String {
    Value::from(text).to_string()
}

fn nullable(value: Option<&str>) -> String {
    value.map_or("null".into(), text)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use milena_client::consumer::TimestampType;

    fn record(key: &'static [u8], value: Option<&'static [u8]>) -> ConsumerRecord {
        ConsumerRecord {
            topic: "__consumer_offsets".into(),
            partition: 0,
            offset: 0,
            leader_epoch: None,
            timestamp: 0,
            timestamp_type: TimestampType::CreateTime,
            key: Some(Bytes::from_static(key)),
            value: value.map(Bytes::from_static),
            headers: Vec::new(),
        }
    }

    #[test]
    fn commits_are_shown_as_kafka_shows_them() {
        let key = b"\0\x01\0\x02g1\0\x06orders\0\0\0\x02";
        let value = b"\0\x03\0\0\0\0\0\0\0\x05\0\0\0\x01\0\0\0\0\0\0\0\0\0\x09";
        let shown = format(Kind::Offsets, &record(key, Some(value)));
        assert_eq!(
            shown.unwrap(),
            "{\"key\":{\"type\":1,\"data\":{\"group\":\"g1\",\"topic\":\"orders\",\"partition\":2}},\
             \"value\":{\"version\":3,\"data\":{\"offset\":5,\"leaderEpoch\":1,\"metadata\":\"\",\"commitTimestamp\":9}}}"
        );
        assert!(format(Kind::Offsets, &record(key, None)).unwrap().ends_with("\"value\":null}"));
        assert!(format(Kind::Offsets, &record(key, Some(b"\0\x63"))).unwrap().ends_with("\"data\":\"unknown\"}}"));
        assert_eq!(format(Kind::GroupMetadata, &record(key, Some(value))), None);
        assert_eq!(format(Kind::Offsets, &record(b"\0\x02\0\x01g", None)), None);
        assert_eq!(format(Kind::Offsets, &record(b"x", None)), None);
    }
}
