//! Kafka's formatters for the logs of coordinators: each record as JSON, key and value by the type and version in their first bytes.
//!
//! `OffsetsMessageFormatter` shows commits, `GroupMetadataMessageFormatter` classic groups, `TransactionLogMessageFormatter` transactions and
//! `ShareGroupStateMessageFormatter` share groups; records of other types are left out. Pure.

use bytes::{Buf, Bytes};
use milena_client::ConsumerRecord;
use milena_protocol::DecodeError;
use milena_protocol::stored::{group, share, txn};

/// Which records are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Offsets,
    GroupMetadata,
    Transactions,
    ShareState,
}

/// The record's JSON, if it is of that kind. No line end follows it, as in Kafka.
pub(super) fn format(kind: Kind, record: &ConsumerRecord) -> Option<String> {
    let bytes = record.key.as_ref()?;
    let type_id = bytes.clone().try_get_i16().ok()?;
    let value = record.value.as_ref();
    let (key, value) = match kind {
        Kind::Offsets | Kind::GroupMetadata => {
            let key = group::Key::decode(bytes).ok()?;
            let shown = match key {
                group::Key::OffsetCommit(_) | group::Key::LegacyOffsetCommit(_) => kind == Kind::Offsets,
                group::Key::GroupMetadata(_) => kind == Kind::GroupMetadata,
                _ => false,
            };
            (key.to_json().filter(|_| shown)?, versioned(value, |value| key.value_to_json(value)))
        }
        Kind::Transactions => {
            let key = txn::Key::decode(bytes).ok()?;
            (key.to_json()?, versioned(value, |value| key.value_to_json(value)))
        }
        Kind::ShareState => {
            let key = share::Key::decode(bytes).ok()?;
            (key.to_json()?, versioned(value, |value| key.value_to_json(value)))
        }
    };
    Some(format!("{{\"key\":{{\"type\":{type_id},\"data\":{key}}},\"value\":{value}}}"))
}

/// `{"version":N,"data":{...}}`, or `null` for a tombstone.
fn versioned(value: Option<&Bytes>, show: impl Fn(&Bytes) -> Result<(i16, String), DecodeError>) -> String {
    let Some(bytes) = value else { return "null".into() };
    let Ok(version) = bytes.clone().try_get_i16() else { return "null".into() };
    let data = show(bytes).map_or_else(|_| "\"unknown\"".to_string(), |(_, data)| data);
    format!("{{\"version\":{version},\"data\":{data}}}")
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
        let transaction = format(Kind::Transactions, &record(b"\0\0\0\x02tx", None)).unwrap();
        assert_eq!(transaction, "{\"key\":{\"type\":0,\"data\":{\"transactionalId\":\"tx\"}},\"value\":null}");
    }
}
