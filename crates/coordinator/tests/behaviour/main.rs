//! What real Kafka 4.3.1 answers and records, step by step, against what we do.
//!
//! `golden/NAME.txt` is the transcript of a scenario against a Kafka broker: every response, and every record it left in
//! `__consumer_offsets`. The test plays the scenario on our coordinator and wants the same text.
//! `golden/records.txt` holds the bytes of those records: each must be understood, and encoded again to the same bytes.
//!
//! To record anew: start a broker with one partition of `__consumer_offsets`, `group.min.session.timeout.ms=100`,
//! `group.initial.rebalance.delay.ms=0` (scenarios in `DEFAULT`) or the settings of `limited()` (scenarios in `LIMITED`), topics
//! `topic` and `other` of three partitions; then run `MILENA_RECORD_DEFAULT=host:port` (or `_LIMITED`) `cargo test
//! -p milena-coordinator --test behaviour`, on a broker without groups of the scenarios' names.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

mod scenarios;
mod world;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use milena_coordinator::{CoordinatorRecord, GroupConfig, GroupRecord, GroupShard, Shard};
use world::{World, decode};

fn default_config() -> GroupConfig {
    GroupConfig { initial_rebalance_delay_ms: 0, min_session_timeout_ms: 100, ..GroupConfig::default() }
}

fn limited() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay_ms: 500,
        min_session_timeout_ms: 100,
        max_size: 2,
        offset_metadata_max_bytes: 10,
        ..GroupConfig::default()
    }
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/behaviour/golden").join(name)
}

#[tokio::test]
async fn answers_as_kafka_does() {
    let mut differs = String::new();
    for name in scenarios::DEFAULT {
        differs.push_str(&differences(name, default_config(), "MILENA_RECORD_DEFAULT").await);
    }
    assert!(differs.is_empty(), "\n{differs}");
}

#[tokio::test]
async fn answers_as_kafka_does_within_limits() {
    let mut differs = String::new();
    for name in scenarios::LIMITED {
        differs.push_str(&differences(name, limited(), "MILENA_RECORD_LIMITED").await);
    }
    assert!(differs.is_empty(), "\n{differs}");
}

#[expect(clippy::disallowed_methods, reason = "golden files")]
async fn differences(name: &str, config: GroupConfig, address_variable: &str) -> String {
    let prefix = format!("{name}-");
    let path = golden(&format!("{name}.txt"));
    if let Ok(address) = std::env::var(address_variable) {
        let mut kafka = World::wire(&address, &prefix);
        scenarios::run(name, &mut kafka).await;
        let records = kafka.records().await;
        note_records(&mut kafka, &records);
        std::fs::write(&path, &kafka.transcript).expect("writes");
        keep_bytes(&golden("records.txt"), &records);
    }
    let mut ours = World::ours(config, &prefix).await;
    scenarios::run(name, &mut ours).await;
    let records = ours.records().await;
    note_records(&mut ours, &records);
    let theirs = std::fs::read_to_string(&path).expect("recorded");
    let mut differs = String::new();
    for (n, (kafka, milena)) in theirs.lines().zip(ours.transcript.lines()).enumerate() {
        if kafka != milena {
            differs.push_str(&format!(
                "{name}.txt:{}\n    kafka  {}\n    milena {}\n",
                n + 1,
                kafka.trim(),
                milena.trim()
            ));
        }
    }
    let lines = (theirs.lines().count(), ours.transcript.lines().count());
    if lines.0 != lines.1 {
        differs.push_str(&format!("{name}.txt: {} lines of Kafka, {} of ours\n", lines.0, lines.1));
    }
    differs
}

/// The records of Kafka 3.3.1, whose values have older versions: `MILENA_RECORD_OLD=host:port` keeps them.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "golden files")]
async fn records_of_an_older_kafka_are_understood() {
    let path = golden("records-3.3.1.txt");
    if let Ok(address) = std::env::var("MILENA_RECORD_OLD") {
        for name in ["old", "statics", "sessions", "connect"] {
            let mut kafka = World::wire(&address, &format!("{name}-"));
            scenarios::run(name, &mut kafka).await;
            let records = kafka.records().await;
            keep_bytes(&path, &records);
        }
    }
    let lines = std::fs::read_to_string(path).expect("recorded");
    let mut versions = BTreeSet::new();
    for line in lines.lines() {
        let record = record_of(line);
        let key_type = record.key[1];
        versions.insert((key_type, record.value.as_ref().map(|value| value[1])));
        match decode(&record) {
            GroupRecord::Offset { topic, value, .. } => {
                assert_eq!((key_type, &*topic), (1, "topic"));
                assert!(value.is_none_or(|value| value.offset > 0 && value.commit_timestamp > 0));
            }
            // The version is still the one that is written.
            meaning @ GroupRecord::Group { .. } => assert_eq!(GroupShard::encode(&meaning), Ok(record)),
            other => panic!("{line}: {other:?}"),
        }
    }
    assert_eq!(versions, BTreeSet::from([(1, None), (1, Some(3)), (2, None), (2, Some(3))]));
}

/// Records of members in another order, and at another time, are the same.
fn note_records(world: &mut World, records: &[CoordinatorRecord]) {
    /// Wall time of any run is later.
    const ANY_NOW_MS: i64 = 1_600_000_000_000;
    let without_time = |ms: &mut i64| {
        if *ms > ANY_NOW_MS {
            *ms = 0;
        }
    };
    for record in records {
        let version = record.value.as_ref().map(|value| i16::from_be_bytes([value[0], value[1]]));
        let mut meaning = decode(record);
        match &mut meaning {
            GroupRecord::Offset { value: Some(value), .. } => {
                value.topic_id = milena_common::Uuid::ZERO;
                without_time(&mut value.commit_timestamp);
                without_time(&mut value.expire_timestamp);
            }
            GroupRecord::Group { value: Some(value), .. } => {
                value.members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
                without_time(&mut value.current_state_timestamp);
            }
            _ => {}
        }
        let text = format!("{meaning:?}");
        world.note(&format!("record, value version {version:?}"), &text);
    }
}

#[expect(clippy::disallowed_methods, reason = "golden files")]
fn keep_bytes(path: &Path, records: &[CoordinatorRecord]) {
    let mut lines: BTreeSet<String> =
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect();
    for record in records {
        let value = record.value.as_ref().map_or("null".to_owned(), |value| hex(value));
        lines.insert(format!("{} {value}", hex(&record.key)));
    }
    std::fs::write(path, lines.into_iter().map(|line| line + "\n").collect::<String>()).expect("writes");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A line of `keep_bytes`.
fn record_of(line: &str) -> CoordinatorRecord {
    let (key, value) = line.split_once(' ').expect("key and value");
    CoordinatorRecord { key: unhex(key), value: (value != "null").then(|| unhex(value)) }
}

fn unhex(text: &str) -> Bytes {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex")).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "golden files")]
fn records_are_the_bytes_that_kafka_writes() {
    let lines = std::fs::read_to_string(golden("records.txt")).expect("recorded");
    assert!(lines.lines().count() > 20);
    for line in lines.lines() {
        let record = record_of(line);
        let meaning = decode(&record);
        let encoded = GroupShard::encode(&meaning).unwrap_or_else(|error| panic!("{meaning:?}: {error:?}"));
        assert_eq!(encoded, record, "{meaning:?}");
    }
}
