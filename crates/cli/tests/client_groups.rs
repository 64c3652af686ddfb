//! What the client library does together with others: transactions, and groups of every protocol and strategy.
//!
//! One suite for Milena and for Apache Kafka 4.3.1 (if the oracle is here): what a caller sees must not depend on whose broker it is.
#![allow(clippy::disallowed_methods, reason = "tests wait")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_client::admin::{CommittedOffset, NewTopic};
use milena_client::consumer::assignor::Assignor;
use milena_client::consumer::{OffsetReset, RebalanceEvent};
use milena_client::producer::GroupMetadata;
use milena_client::{
    Admin, Client, ClientConfig, Consumer, ConsumerConfig, ConsumerRecord, Producer, ProducerConfig, ProducerRecord,
};
use milena_common::TopicPartition;
use milena_protocol::ErrorCode;
use support::{Broker, oracle};

#[test]
fn on_milena() {
    suite(&Broker::milena(&[]));
}

#[test]
fn on_kafka_4_3_1() {
    match oracle() {
        Some(oracle) => suite(&Broker::kafka(&oracle, "4.3.1", &[])),
        None => eprintln!("skipped: no Apache Kafka here (set KAFKA_ORACLE)"),
    }
}

fn suite(broker: &Broker) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let address = broker.address();
        transactions_are_all_or_nothing(address).await;
        the_newer_producer_of_an_id_fences_the_older(address).await;
        many_batches_under_way_keep_their_order(address).await;
        cooperative_members_keep_what_they_have(address).await;
        the_coordinator_assigns(address).await;
    });
}

fn config(address: &str) -> ClientConfig {
    ClientConfig { bootstrap_servers: vec![address.into()], client_id: "suite".into(), ..Default::default() }
}

async fn create(address: &str, name: &str, partitions: i32) -> Admin {
    let admin = Admin::new(Client::new(config(address)).expect("a client"));
    let topic = NewTopic {
        name: name.into(),
        partitions,
        replication_factor: 1,
        assignments: BTreeMap::new(),
        configs: vec![],
    };
    let results = admin.create_topics(&[topic], false).await.expect("an answer");
    results.into_iter().for_each(|(_, result)| result.expect("created"));
    admin
}

fn transactional(address: &str, id: &str) -> Producer {
    let config = ProducerConfig { client: config(address), transactional_id: Some(id.into()), ..Default::default() };
    Producer::new(config).expect("a producer")
}

fn record(topic: &str, partition: i32, value: &str) -> ProducerRecord {
    ProducerRecord {
        topic: topic.into(),
        partition: Some(partition),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..Default::default()
    }
}

/// All that a committed reader sees of a topic, once `count` records are there.
async fn committed(address: &str, topic: &str, partitions: i32, count: usize) -> Vec<String> {
    let mut consumer = Consumer::new(ConsumerConfig {
        client: config(address),
        auto_offset_reset: OffsetReset::Earliest,
        read_committed: true,
        ..Default::default()
    })
    .expect("a consumer");
    consumer.assign(&(0..partitions).map(|p| TopicPartition::new(topic, p)).collect::<Vec<_>>());
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut values = Vec::new();
    let mut quiet = 0;
    // a little longer than needed: nothing more may come
    while values.len() < count || quiet < 3 {
        assert!(Instant::now() < deadline, "{} of {count}", values.len());
        let records = consumer.poll(Duration::from_millis(100)).await.expect("records");
        quiet = if records.is_empty() { quiet + 1 } else { 0 };
        values.extend(records.into_iter().map(|r| text(&r)));
    }
    values.sort();
    values
}

fn text(record: &ConsumerRecord) -> String {
    String::from_utf8_lossy(record.value.as_ref().expect("a value")).into_owned()
}

async fn transactions_are_all_or_nothing(address: &str) {
    let admin = create(address, "txn", 2).await;
    let producer = transactional(address, "suite-1");
    assert!(producer.begin_transaction().is_err(), "the id was not taken over yet");
    producer.init_transactions().await.expect("the id");
    let send = async |round: &str| {
        for partition in [0, 1] {
            producer.send(record("txn", partition, &format!("{round}{partition}"))).await.expect("taken");
        }
    };
    producer.begin_transaction().expect("begun");
    send("a").await;
    producer.commit_transaction().await.expect("committed");

    producer.begin_transaction().expect("begun");
    send("lost").await;
    producer.flush().await;
    producer.abort_transaction().await.expect("aborted");
    // and one that was never sent
    producer.begin_transaction().expect("begun");
    send("unsent").await;
    producer.abort_transaction().await.expect("aborted");
    // an empty one
    producer.begin_transaction().expect("begun");
    producer.commit_transaction().await.expect("committed");

    producer.begin_transaction().expect("begun");
    send("b").await;
    let offsets = BTreeMap::from([(
        TopicPartition::new("txn", 0),
        CommittedOffset { offset: 7, leader_epoch: None, metadata: String::new() },
    )]);
    let group = GroupMetadata { group_id: "txn-group".into(), generation: -1, ..Default::default() };
    producer.send_offsets_to_transaction(&offsets, &group).await.expect("taken");
    producer.commit_transaction().await.expect("committed");
    assert!(producer.send(record("txn", 0, "outside")).await.is_err(), "no transaction is open");
    assert_eq!(committed(address, "txn", 2, 4).await, ["a0", "a1", "b0", "b1"]);
    let found = admin.client().committed_offsets("txn-group", None, true).await.expect("offsets");
    assert_eq!(found[&TopicPartition::new("txn", 0)].offset, 7);
    producer.close().await;
}

async fn the_newer_producer_of_an_id_fences_the_older(address: &str) {
    create(address, "fenced", 1).await;
    let old = transactional(address, "suite-2");
    old.init_transactions().await.expect("the id");
    old.begin_transaction().expect("begun");
    old.send(record("fenced", 0, "old")).await.expect("taken").wait().await.expect("written");
    let new = transactional(address, "suite-2");
    new.init_transactions().await.expect("the id");
    new.begin_transaction().expect("begun");
    new.send(record("fenced", 0, "new")).await.expect("taken");
    new.commit_transaction().await.expect("committed");
    let refused = old.commit_transaction().await.expect_err("somebody else has the id").code();
    assert!(matches!(refused, Some(ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch)), "{refused:?}");
    assert!(old.begin_transaction().is_err(), "for good");
    assert_eq!(committed(address, "fenced", 1, 1).await, ["new"]);
}

async fn many_batches_under_way_keep_their_order(address: &str) {
    create(address, "order", 1).await;
    let producer =
        Producer::new(ProducerConfig { client: config(address), batch_size: 200, linger_ms: 0, ..Default::default() })
            .expect("a producer");
    let mut waiting = Vec::new();
    for index in 0..2000 {
        waiting.push(producer.send(record("order", 0, &format!("{index:04}"))).await.expect("taken"));
    }
    for (index, delivery) in waiting.into_iter().enumerate() {
        assert_eq!(delivery.wait().await.expect("written").offset, index as i64);
    }
    let metrics = producer.metrics();
    let sent = metrics.iter().find(|(_, name, _)| *name == "record-send-total").expect("counted").2;
    assert_eq!(sent as u64, 2000);
    producer.close().await;
    let read = committed(address, "order", 1, 2000).await;
    assert_eq!(read, (0..2000).map(|index| format!("{index:04}")).collect::<Vec<_>>());
}

async fn fill(address: &str, topic: &str, partitions: i32, from: i32, count: i32) {
    let producer = Producer::new(ProducerConfig { client: config(address), ..Default::default() }).expect("a producer");
    for index in from..from + count {
        let delivery = producer.send(record(topic, index % partitions, &index.to_string())).await.expect("taken");
        delivery.wait().await.expect("written");
    }
    producer.close().await;
}

fn member(address: &str, group: &str, topic: &str, change: impl FnOnce(&mut ConsumerConfig)) -> Consumer {
    let mut config = ConsumerConfig {
        client: config(address),
        group_id: Some(group.into()),
        auto_offset_reset: OffsetReset::Earliest,
        heartbeat_interval_ms: 200,
        session_timeout_ms: 6_000,
        auto_commit_interval_ms: 300,
        ..Default::default()
    };
    change(&mut config);
    let mut consumer = Consumer::new(config).expect("a consumer");
    consumer.subscribe(&[topic.into()]).expect("subscribed");
    consumer
}

/// Polls all members at once until each has `share` partitions; what was read.
async fn settle(members: &mut [&mut Consumer], share: usize) -> Vec<String> {
    let state = std::cell::RefCell::new((vec![0; members.len()], Vec::new(), false));
    let deadline = Instant::now() + Duration::from_secs(60);
    let loops = members.iter_mut().enumerate().map(|(index, member)| {
        let state = &state;
        async move {
            while !state.borrow().2 {
                let records = member.poll(Duration::from_millis(50)).await.expect("a poll");
                let mut state = state.borrow_mut();
                assert!(Instant::now() < deadline, "{:?}", state.0);
                state.0[index] = member.assignment().len();
                state.1.extend(records.iter().map(text));
                state.2 = state.0.iter().all(|count| *count == share);
            }
        }
    });
    futures_util::future::join_all(loops).await;
    state.into_inner().1
}

async fn read(member: &mut Consumer, count: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut values = Vec::new();
    while values.len() < count {
        assert!(Instant::now() < deadline, "{} of {count}", values.len());
        values.extend(member.poll(Duration::from_millis(100)).await.expect("records").iter().map(text));
    }
    values
}

async fn cooperative_members_keep_what_they_have(address: &str) {
    create(address, "coop", 4).await;
    fill(address, "coop", 4, 0, 40).await;
    let cooperative = |config: &mut ConsumerConfig| config.assignors = vec![Assignor::CooperativeSticky];
    let mut first = member(address, "coop-group", "coop", cooperative);
    assert_eq!(read(&mut first, 40).await.len(), 40);
    while first.next_event().is_some() {}
    let mut second = member(address, "coop-group", "coop", cooperative);
    let again = settle(&mut [&mut first, &mut second], 2).await;
    assert!(again.is_empty(), "nothing is read twice: {again:?}");
    let mut revoked = Vec::new();
    while let Some(event) = first.next_event() {
        if let RebalanceEvent::Revoked(partitions) = event {
            revoked.extend(partitions);
        }
    }
    assert_eq!(revoked.len(), 2, "only what the other one got: {revoked:?}");
    let both: BTreeSet<TopicPartition> = first.assignment().into_iter().chain(second.assignment()).collect();
    assert_eq!(both.len(), 4);
    second.close().await.expect("closed");
    settle(&mut [&mut first], 4).await;
    first.close().await.expect("closed");
}

async fn the_coordinator_assigns(address: &str) {
    let admin = create(address, "kip848", 4).await;
    fill(address, "kip848", 4, 0, 40).await;
    let protocol = |config: &mut ConsumerConfig| config.consumer_protocol = true;
    let mut first = member(address, "new-group", "kip848", protocol);
    assert_eq!(read(&mut first, 40).await.len(), 40);
    first.commit().await.expect("committed");
    let mut second = member(address, "new-group", "kip848", protocol);
    let again = settle(&mut [&mut first, &mut second], 2).await;
    assert!(again.is_empty(), "nothing is read twice: {again:?}");
    let group = admin.describe_group("new-group").await.expect("the group");
    assert!(group.is_consumer_protocol && group.members.len() == 2, "{group:?}");
    second.close().await.expect("closed");
    settle(&mut [&mut first], 4).await;
    fill(address, "kip848", 4, 40, 8).await;
    assert_eq!(read(&mut first, 8).await.len(), 8);
    first.close().await.expect("closed");
    let found = admin.client().committed_offsets("new-group", None, true).await.expect("offsets");
    assert_eq!(found.values().map(|c| c.offset).sum::<i64>(), 48);
}
