//! The records of consumer groups, byte for byte as Kafka 4.3.1 wrote them for the same requests: batches of `key value` in hexadecimal, each
//! behind the time at which it was written.

use milena_protocol::stored::metadata::{MetadataRecord, PartitionRecord, TopicRecord};

use super::consumer::{join_topics, stay};
use super::*;
use milena_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;

struct Batch {
    wall_ms: i64,
    records: Vec<CoordinatorRecord>,
}

#[expect(clippy::disallowed_methods, reason = "golden files")]
fn golden(name: &str) -> Vec<Batch> {
    let path = format!("{}/tests/behaviour/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let unhex = |text: &str| -> Bytes {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex")).collect()
    };
    let mut batches: Vec<Batch> = Vec::new();
    for line in std::fs::read_to_string(path).expect("recorded").lines() {
        match line.split_once(' ').expect("two words") {
            ("batch", wall_ms) => {
                batches.push(Batch { wall_ms: wall_ms.parse().expect("a time"), records: Vec::new() });
            }
            (key, value) => batches
                .last_mut()
                .expect("a batch")
                .records
                .push(CoordinatorRecord { key: unhex(key), value: (value != "null").then(|| unhex(value)) }),
        }
    }
    batches
}

/// The topics of the Kafka that wrote the files.
fn with_its_topics() -> Harness {
    let mut h = Harness::new();
    for (name, id, partitions) in [("t1", "KNiyGAHESh-92hG6ckoY-A", 3), ("t2", "_indlbaASlqCSycUWYnaTg", 2)] {
        let topic_id = id.parse().expect("an id");
        let partition =
            |partition_id| MetadataRecord::Partition(PartitionRecord { partition_id, topic_id, ..Default::default() });
        let topic = MetadataRecord::Topic(TopicRecord { name: name.into(), topic_id });
        let records: Vec<_> = std::iter::once(topic).chain((0..partitions).map(partition)).collect();
        h.change_cluster(&records);
    }
    h
}

/// Runs the requests, each at the time of the batch that is due, and compares what they write.
fn compare(name: &str, group: &str, requests: Vec<ConsumerGroupHeartbeatRequest>) {
    let mut h = with_its_topics();
    let mut expected = golden(name).into_iter().peekable();
    let cx = GroupContext { client_id: "probe".into(), client_host: "/127.0.0.1".into(), api_version: 1 };
    for request in requests {
        if let Some(batch) = expected.peek() {
            h.now.wall_ms = batch.wall_ms;
        }
        let request = ConsumerGroupHeartbeatRequest { group_id: group.into(), ..request };
        let outcome = h.shard.consumer_heartbeat(&cx, &request, h.now);
        let (_, records) = h.apply(outcome);
        if records.is_empty() {
            continue;
        }
        let encoded: Vec<CoordinatorRecord> =
            records.iter().map(|record| GroupShard::encode(record).expect("encodes")).collect();
        let batch = expected.next().unwrap_or_else(|| panic!("{request:?} writes {records:?}"));
        assert_eq!(encoded, batch.records, "{request:?} writes {records:?}");
    }
    assert!(expected.next().is_none(), "something was not written");
}

fn owned(request: ConsumerGroupHeartbeatRequest, partitions: &[i32]) -> ConsumerGroupHeartbeatRequest {
    let topic_id = "KNiyGAHESh-92hG6ckoY-A".parse().expect("an id");
    let topics = vec![TopicPartitions { topic_id, partitions: partitions.to_vec() }];
    ConsumerGroupHeartbeatRequest { topic_partitions: Some(topics), ..request }
}

fn join(member_id: &str, topic: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: 5_000, ..join_topics(member_id, &[topic]) }
}

#[test]
fn a_handover_is_written_as_kafka_writes_it() {
    let requests = vec![
        join("a", "t1"),
        join("b", "t1"),
        stay("a", 2),
        stay("a", 2),
        stay("b", 3),
        owned(stay("a", 2), &[0, 1, 2]),
        owned(stay("a", 2), &[0, 1]),
        owned(stay("a", 3), &[0, 1]),
        owned(stay("a", 2), &[0]),
        stay("b", 3),
        owned(stay("b", 3), &[2]),
        join("a", "t1"),
        stay("b", -1),
        stay("a", 3),
    ];
    compare("consumer-handover.txt", "s1-h", requests);
}

#[test]
fn static_members_are_written_as_kafka_writes_them() {
    let i1 = |request: ConsumerGroupHeartbeatRequest| ConsumerGroupHeartbeatRequest {
        instance_id: Some("i1".into()),
        ..request
    };
    let requests = vec![
        i1(join("a", "t1")),
        i1(join("b", "t1")),
        stay("a", 2),
        i1(stay("a", -2)),
        i1(stay("a", 2)),
        i1(join("b", "t1")),
        i1(stay("a", 2)),
        i1(stay("b", -2)),
        i1(join("c", "t2")),
        i1(stay("c", -1)),
    ];
    compare("consumer-static.txt", "r1-s", requests);
}

#[test]
fn what_kafka_wrote_is_understood_and_written_the_same() {
    let mut h = with_its_topics();
    for name in ["consumer-handover.txt", "consumer-static.txt", "consumer-migration.txt"] {
        for record in golden(name).into_iter().flat_map(|batch| batch.records) {
            let loaded = LoadedRecord::Record { offset: 0, producer_id: -1, record: record.clone() };
            let meaning = GroupShard::decode(loaded);
            assert_ne!(meaning, GroupRecord::Other);
            assert_eq!(GroupShard::encode(&meaning).expect("encodes"), record, "{meaning:?}");
            h.log.push(record);
        }
    }
    h.restart();
    let described = h.shard.describe_consumer_group("s1-h");
    assert_eq!((described.group_epoch, described.assignment_epoch, described.members.len()), (4, 4, 1));
    assert_eq!(h.shard.describe_consumer_group("r1-s").group_state, "Empty");
}
