//! The client library against running brokers: Apache Kafka 4.3.1 and 3.3.1 (if the oracle is here).
//!
//! One suite for all: what a caller sees must not depend on whose broker it is.
#![allow(clippy::disallowed_methods, reason = "tests wait")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_client::admin::{NewTopic, OffsetSpec};
use milena_client::consumer::{OffsetReset, TimestampType};
use milena_client::producer::partition_for_key;
use milena_client::{
    Admin, Client, ClientConfig, ClientError, Consumer, ConsumerConfig, ConsumerRecord, Producer, ProducerConfig,
    ProducerRecord,
};
use milena_common::TopicPartition;
use milena_protocol::ErrorCode;
use milena_protocol::messages::MetadataRequest;
use milena_protocol::records::Compression;
use support::{Broker, oracle};

#[test]
fn on_kafka_4_3_1() {
    match oracle() {
        Some(oracle) => suite(&Broker::kafka(&oracle, "4.3.1", &[])),
        None => eprintln!("skipped: no Apache Kafka here (set KAFKA_ORACLE)"),
    }
}

#[test]
fn on_kafka_3_3_1() {
    match oracle() {
        Some(oracle) => suite(&Broker::kafka(&oracle, "3.3.1", &[])),
        None => eprintln!("skipped: no Apache Kafka here (set KAFKA_ORACLE)"),
    }
}

fn suite(broker: &Broker) {
    // shows what the client warns of when a test fails
    let _ = tracing_subscriber::fmt().with_test_writer().try_init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let address = broker.address();
        topics_come_change_and_go(address).await;
        requests_share_a_connection(address).await;
        records_come_back_as_they_went(address).await;
        a_group_shares_loses_and_remembers(address).await;
        offsets_are_found_by_time(address).await;
        nobody_there(address).await;
    });
}

fn config(address: &str) -> ClientConfig {
    ClientConfig { bootstrap_servers: vec![address.into()], client_id: "suite".into(), ..Default::default() }
}

fn admin(address: &str) -> Admin {
    Admin::new(Client::new(config(address)).expect("a client"))
}

async fn create(admin: &Admin, name: &str, partitions: i32) {
    let topic = NewTopic {
        name: name.into(),
        partitions,
        replication_factor: 1,
        assignments: BTreeMap::new(),
        configs: vec![],
    };
    let results = admin.create_topics(&[topic], false).await.expect("an answer");
    results.into_iter().for_each(|(_, result)| result.expect("created"));
}

async fn topics_come_change_and_go(address: &str) {
    let admin = admin(address);
    create(&admin, "t1", 3).await;
    let again = NewTopic {
        name: "t1".into(),
        partitions: 1,
        replication_factor: 1,
        assignments: BTreeMap::new(),
        configs: vec![],
    };
    let results = admin.create_topics(&[again], false).await.expect("an answer");
    let codes: Vec<_> = results.iter().map(|(_, r)| r.as_ref().unwrap_err().code()).collect();
    assert_eq!(codes, [Some(ErrorCode::TopicAlreadyExists)]);

    let described = admin.describe_topics(&["t1".into(), "none".into()], 2).await.expect("an answer");
    let found: BTreeMap<String, _> = described.into_iter().collect();
    assert_eq!(found["t1"].as_ref().expect("t1").partitions.len(), 3);
    assert_eq!(found["none"].as_ref().unwrap_err().code(), Some(ErrorCode::UnknownTopicOrPartition));
    let results = admin.delete_topics(&["t1".into()]).await.expect("an answer");
    results.into_iter().for_each(|(_, result)| result.expect("deleted"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while admin.list_topics().await.expect("topics").iter().any(|t| t.name == "t1") {
        assert!(Instant::now() < deadline, "t1 is still listed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let cluster = admin.describe_cluster().await.expect("the cluster");
    assert_eq!(cluster.nodes.len(), 1);
    assert_eq!(cluster.cluster_id.len(), 22, "{}", cluster.cluster_id);
}

async fn requests_share_a_connection(address: &str) {
    let client = Client::new(config(address)).expect("a client");
    let connection = client.any_connection().await.expect("a connection");
    let requests = (0..200).map(|_| {
        let connection = connection.clone();
        async move {
            let request = MetadataRequest { topics: Some(vec![]), ..Default::default() };
            connection.request(&request).await.expect("metadata").brokers.len()
        }
    });
    let brokers = futures_util::future::join_all(requests).await;
    assert!(brokers.iter().all(|count| *count == 1));
}

fn value(index: usize) -> Option<Bytes> {
    match index % 7 {
        0 => None,
        1 => Some(Bytes::new()),
        2 => Some(Bytes::from(vec![b'x'; 20_000])),
        _ => Some(Bytes::from(format!("value {index}"))),
    }
}

async fn records_come_back_as_they_went(address: &str) {
    let admin = admin(address);
    create(&admin, "records", 3).await;
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    let mut sent: BTreeMap<(i32, i64), ProducerRecord> = BTreeMap::new();
    for (round, codec) in codecs.iter().enumerate() {
        let producer = Producer::new(ProducerConfig {
            client: config(address),
            compression: Compression::from_name(codec).expect("a codec"),
            idempotent: round % 2 == 0,
            acks: if round == 3 { 1 } else { -1 },
            ..Default::default()
        })
        .expect("a producer");
        let mut waiting = Vec::new();
        for index in 0..140 {
            let key = (index % 3 != 0).then(|| Bytes::from(format!("key {index}")));
            let record = ProducerRecord {
                topic: "records".into(),
                partition: (index % 10 == 0).then_some(2),
                timestamp: Some(1_700_000_000_000 + index as i64),
                key,
                value: value(index),
                headers: match index % 4 {
                    0 => vec![],
                    1 => vec![("h".into(), None)],
                    _ => vec![("a".into(), Some(Bytes::from("1"))), ("a".into(), Some(Bytes::new()))],
                },
            };
            waiting.push((record.clone(), producer.send(record).await.expect("taken")));
        }
        producer.flush().await;
        for (record, delivery) in waiting {
            let written = delivery.wait().await.expect("written");
            match (record.partition, &record.key) {
                (Some(partition), _) => assert_eq!(written.partition, partition),
                (None, Some(key)) => assert_eq!(written.partition, partition_for_key(key, 3)),
                (None, None) => {}
            }
            let before = sent.insert((written.partition, written.offset), record);
            assert!(before.is_none(), "two records at {}-{}", written.partition, written.offset);
        }
        producer.close().await;
    }
    let mut consumer = Consumer::new(ConsumerConfig {
        client: config(address),
        auto_offset_reset: OffsetReset::Earliest,
        max_partition_fetch_bytes: 70_000,
        max_poll_records: 37,
        ..Default::default()
    })
    .expect("a consumer");
    let partitions = [0, 1, 2].map(|p| TopicPartition::new("records", p));
    consumer.assign(&partitions);
    let mut next = [0i64; 3];
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut got = 0;
    while got < sent.len() {
        assert!(Instant::now() < deadline, "{got} of {} records came back", sent.len());
        for record in consumer.poll(Duration::from_millis(500)).await.expect("records") {
            let slot = &mut next[record.partition as usize];
            assert_eq!(record.offset, *slot, "offsets are dense and in order");
            *slot += 1;
            let was = &sent[&(record.partition, record.offset)];
            assert_eq!((&record.key, &record.value), (&was.key, &was.value));
            assert_eq!(record.headers, was.headers);
            assert_eq!(Some(record.timestamp), was.timestamp);
            assert_eq!(record.timestamp_type, TimestampType::CreateTime);
            got += 1;
        }
    }
    // from the middle, and past the end
    consumer.seek(&partitions[0], next[0] - 1);
    let again = poll_until(&mut consumer, 1).await;
    assert_eq!(again[0].offset, next[0] - 1);
    consumer.seek(&partitions[0], next[0] + 1000);
    let again = poll_until(&mut consumer, 1).await;
    assert_eq!((again[0].partition, again[0].offset), (0, 0), "out of range goes to the start");

    let small = Producer::new(ProducerConfig { client: config(address), max_request_size: 1000, ..Default::default() })
        .expect("a producer");
    let big = ProducerRecord { topic: "records".into(), value: Some(Bytes::from(vec![0; 2000])), ..Default::default() };
    let refused = small.send(big).await.err().and_then(|error| error.code());
    assert_eq!(refused, Some(ErrorCode::MessageTooLarge));
}

async fn poll_until(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut records = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records", records.len());
        records.extend(consumer.poll(Duration::from_millis(200)).await.expect("records"));
    }
    records
}

fn member(address: &str, group: &str) -> Consumer {
    let mut consumer = Consumer::new(ConsumerConfig {
        client: config(address),
        group_id: Some(group.into()),
        auto_offset_reset: OffsetReset::Earliest,
        heartbeat_interval_ms: 200,
        session_timeout_ms: 6_000,
        auto_commit_interval_ms: 300,
        ..Default::default()
    })
    .expect("a consumer");
    consumer.subscribe(&["shared".into()]).expect("subscribed");
    consumer
}

/// Polls all members at once, each in its own time, until `done` says so of (partitions assigned, records read) of each.
async fn drive(members: &mut [&mut Consumer], done: impl Fn(&[(usize, usize)]) -> bool) -> Vec<ConsumerRecord> {
    let state = std::cell::RefCell::new((vec![(0, 0); members.len()], Vec::new(), false));
    let deadline = Instant::now() + Duration::from_secs(30);
    let loops = members.iter_mut().enumerate().map(|(index, member)| {
        let (state, done) = (&state, &done);
        async move {
            while !state.borrow().2 {
                let records = member.poll(Duration::from_millis(50)).await.expect("a poll");
                let mut state = state.borrow_mut();
                assert!(Instant::now() < deadline, "{:?}", state.0);
                state.0[index] = (member.assignment().len(), state.0[index].1 + records.len());
                state.1.extend(records);
                state.2 |= done(&state.0);
            }
        }
    });
    futures_util::future::join_all(loops).await;
    state.into_inner().1
}

async fn send(address: &str, topic: &str, from: i32, count: i32) {
    let producer = Producer::new(ProducerConfig { client: config(address), ..Default::default() }).expect("a producer");
    let mut waiting = Vec::new();
    for index in from..from + count {
        let record = ProducerRecord {
            topic: topic.into(),
            partition: Some(index % 4),
            value: Some(Bytes::from(index.to_string())),
            ..Default::default()
        };
        waiting.push(producer.send(record).await.expect("taken"));
    }
    for delivery in waiting {
        delivery.wait().await.expect("written");
    }
    producer.close().await;
}

fn numbers(records: &[ConsumerRecord]) -> BTreeSet<i32> {
    let number = |r: &ConsumerRecord| {
        std::str::from_utf8(r.value.as_ref().expect("a value")).expect("text").parse().expect("a number")
    };
    records.iter().map(number).collect()
}

async fn a_group_shares_loses_and_remembers(address: &str) {
    let admin = admin(address);
    create(&admin, "shared", 4).await;
    send(address, "shared", 0, 100).await;
    let mut first = member(address, "team");
    let records = poll_until(&mut first, 100).await;
    assert_eq!(records.len(), 100, "each record once");
    assert_eq!(numbers(&records).len(), 100);

    // a second member takes half
    let mut second = member(address, "team");
    let again =
        drive(&mut [&mut first, &mut second], |members| members.iter().all(|(assigned, _)| *assigned == 2)).await;
    assert!(again.is_empty(), "nothing comes twice: {again:?}");
    let described = admin.describe_group("team").await.expect("the group");
    assert_eq!((described.state.as_str(), described.assignor.as_str()), ("Stable", "range"));
    let owned: usize = described.members.iter().map(|m| m.assignment.len()).sum();
    assert_eq!((described.members.len(), owned), (2, 4));
    assert!(described.members.iter().all(|m| m.client_id == "suite" && m.host.starts_with('/')));

    send(address, "shared", 100, 100).await;
    let records =
        drive(&mut [&mut first, &mut second], |members| members.iter().map(|(_, count)| count).sum::<usize>() >= 100)
            .await;
    assert_eq!((records.len(), numbers(&records)), (100, (100..200).collect()));
    // one leaves in order: the other gets everything and nothing is read again
    second.close().await.expect("closed");
    let again = drive(&mut [&mut first], |members| members[0].0 == 4).await;
    assert!(again.is_empty(), "nothing comes twice: {again:?}");
    first.close().await.expect("closed");

    // a new member goes on where the group was
    send(address, "shared", 200, 8).await;
    let mut third = member(address, "team");
    let records = poll_until(&mut third, 8).await;
    assert_eq!(numbers(&records), (200..208).collect());
    third.close().await.expect("closed");
    let committed = admin.client().committed_offsets("team", None, false).await.expect("offsets");
    assert_eq!(committed.values().map(|c| c.offset).sum::<i64>(), 208);
    assert!(committed.values().all(|c| c.leader_epoch == Some(0)));

    // another group gets everything again
    let mut other = member(address, "others");
    assert_eq!(numbers(&poll_until(&mut other, 208).await), (0..208).collect());
    drop(other);
    let listed = admin.list_groups(&[], &[]).await.expect("groups");
    assert!(listed.iter().any(|g| g.group_id == "team" && g.protocol_type == "consumer"), "{listed:?}");
    admin.delete_group("team").await.expect("deleted");
    let gone = admin.describe_group("team").await;
    assert!(
        gone.as_ref().is_ok_and(|g| g.state == "Dead")
            || gone.as_ref().is_err_and(|e| e.code() == Some(ErrorCode::GroupIdNotFound)),
        "{gone:?}"
    );
}

async fn offsets_are_found_by_time(address: &str) {
    let admin = admin(address);
    create(&admin, "times", 1).await;
    let tp = TopicPartition::new("times", 0);
    let producer = Producer::new(ProducerConfig { client: config(address), ..Default::default() }).expect("a producer");
    for time in [1000, 3000, 2000] {
        let record = ProducerRecord {
            topic: "times".into(),
            timestamp: Some(1_700_000_000_000 + time),
            value: Some(Bytes::from("x")),
            ..Default::default()
        };
        producer.send(record).await.expect("taken").wait().await.expect("written");
    }
    producer.close().await;
    let find = async |spec: OffsetSpec| {
        let found = admin.list_offsets(&[(tp.clone(), spec)]).await.expect("an answer");
        found[&tp].as_ref().expect("an offset").offset
    };
    assert_eq!(find(OffsetSpec::Earliest).await, 0);
    assert_eq!(find(OffsetSpec::Latest).await, 3);
    assert_eq!(find(OffsetSpec::Timestamp(1_700_000_001_500)).await, 1);
    assert_eq!(find(OffsetSpec::Timestamp(1_700_000_009_000)).await, -1);
}

async fn nobody_there(address: &str) {
    let nobody = ClientConfig { api_timeout_ms: 300, ..config("127.0.0.1:1") };
    let admin = Admin::new(Client::new(nobody).expect("a client"));
    let error = admin.list_topics().await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error:?}");
    // a topic that does not come into being
    let producer = Producer::new(ProducerConfig { client: config(address), max_block_ms: 300, ..Default::default() })
        .expect("a producer");
    let record = ProducerRecord { topic: "bad name!".into(), ..Default::default() };
    let error = producer.send(record).await.err().and_then(|error| error.code());
    assert_eq!(error, Some(ErrorCode::InvalidTopicException));
}
