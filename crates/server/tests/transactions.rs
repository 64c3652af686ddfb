//! The same requests about transactions to Milena and to Apache Kafka: both protocols of clients, fencing, verification, offsets, markers,
//! tools, and what must go wrong. The answers of Kafka 4.3.1 stand in `golden/transactions`.
//!
//! `TRANSACTIONS_RECORD=127.0.0.1:9092=file` records the answers of a running Kafka instead.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use milena_common::Uuid;
use milena_common::config::BrokerConfig;
use milena_metadata::{Bootstrap, versions};
use milena_protocol::header::get_response_header;
use milena_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use milena_protocol::messages::create_topics_request::CreatableTopic;
use milena_protocol::messages::describe_producers_request::TopicRequest;
use milena_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use milena_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use milena_protocol::messages::{self as msg};
use milena_protocol::records::{BatchBuilder, Compression};
use milena_protocol::{Decode as _, Reader, Request, RequestHeader, Writer};
use milena_server::storage_format::{self, FormatDirectory, FormatPlan};

const THEN: i64 = 1_700_000_000_000;

/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR.
const NOT_READY: [i16; 3] = [14, 15, 16];
const CONCURRENT_TRANSACTIONS: i16 = 51;

type Producer = (i64, i16);

struct Client {
    stream: TcpStream,
    address: String,
    topic_ids: Vec<(String, Uuid)>,
    /// Producer ids in the order in which they were seen.
    producer_ids: Vec<i64>,
    told: String,
}

impl Client {
    fn new(address: &str) -> Client {
        let (topic_ids, producer_ids) = (Vec::new(), Vec::new());
        Client { stream: connect(address), address: address.to_owned(), topic_ids, producer_ids, told: String::new() }
    }

    fn ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        let mut writer = Writer::new();
        let header = RequestHeader {
            request_api_key: R::KEY.code(),
            request_api_version: version,
            correlation_id: 77,
            client_id: Some("transactions".to_owned()),
        };
        header.encode_for(&mut writer, R::KEY, version).expect("encodes");
        request.encode(&mut writer, version).unwrap_or_else(|e| panic!("{} {version}: {e}", R::KEY));
        let body = writer.finish().concat();
        self.stream.write_all(&(body.len() as u32).to_be_bytes()).expect("writes");
        self.stream.write_all(&body).expect("writes");
        let mut length = [0; 4];
        if self.stream.read_exact(&mut length).is_err() {
            self.stream = connect(&self.address);
            return None;
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("reads");
        let mut reader = Reader::new(frame.into());
        assert_eq!(get_response_header(&mut reader, R::KEY, version).expect("a header"), 77);
        Some(R::Response::decode(&mut reader, version).unwrap_or_else(|e| panic!("{} {version}: {e}", R::KEY)))
    }

    fn tell(&mut self, step: &str, answer: &str) {
        writeln!(self.told, "{step}\n    {answer}").expect("fits");
    }

    fn create(&mut self, name: &str) {
        let topic =
            CreatableTopic { name: name.to_owned(), num_partitions: 2, replication_factor: 1, ..Default::default() };
        let request = msg::CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let answer = self.ask(7, &request).expect("answers");
        assert_eq!(answer.topics[0].error_code, 0, "{name}: {:?}", answer.topics[0].error_message);
        self.topic_ids.push((name.to_owned(), answer.topics[0].topic_id));
        while [0, 1].iter().any(|partition| self.end_offset(name, *partition, 0).starts_with("error")) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end_offset(&mut self, topic: &str, partition: i32, isolation_level: i8) -> String {
        let asked = ListOffsetsPartition { partition_index: partition, timestamp: -1, ..Default::default() };
        let topics = vec![ListOffsetsTopic { name: topic.to_owned(), partitions: vec![asked] }];
        let request = msg::ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..Default::default() };
        let answer = self.ask(5, &request).expect("answers");
        let told = &answer.topics[0].partitions[0];
        match told.error_code {
            0 => told.offset.to_string(),
            code => format!("error={code}"),
        }
    }

    /// The end of what is committed, and of all.
    fn tell_ends(&mut self, topic: &str) {
        let ends = [0, 1].map(|p| [self.end_offset(topic, p, 1), self.end_offset(topic, p, 0)].join("/"));
        self.tell(&format!("ends of {topic}"), &ends.join(" "));
    }

    /// Waits until a partition has nothing open.
    fn settle_partition(&mut self, topic: &str, partition: i32) {
        for _ in 0..500 {
            if self.end_offset(topic, partition, 1) == self.end_offset(topic, partition, 0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{topic}-{partition} stays open");
    }

    fn find(&mut self, key_type: i8, key: &str) {
        for _ in 0..500 {
            let request = msg::FindCoordinatorRequest { key: key.to_owned(), key_type, ..Default::default() };
            let found = self.ask(3, &request).expect("answers");
            if found.error_code == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no coordinator for {key}");
    }

    /// How transcripts name a producer id.
    fn name_of(&mut self, producer_id: i64) -> String {
        if producer_id < 0 {
            return producer_id.to_string();
        }
        let known = self.producer_ids.iter().position(|id| *id == producer_id);
        let at = known.unwrap_or_else(|| {
            self.producer_ids.push(producer_id);
            self.producer_ids.len() - 1
        });
        format!("p{at}")
    }

    fn init_once(&mut self, version: i16, id: Option<&str>, timeout_ms: i32, expected: Producer) -> (i16, Producer) {
        let request = msg::InitProducerIdRequest {
            transactional_id: id.map(str::to_owned),
            transaction_timeout_ms: timeout_ms,
            producer_id: expected.0,
            producer_epoch: expected.1,
            ..Default::default()
        };
        for _ in 0..500 {
            let answer = self.ask(version, &request).expect("answers");
            if !NOT_READY.contains(&answer.error_code) {
                return (answer.error_code, (answer.producer_id, answer.producer_epoch));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the coordinator is not ready");
    }

    fn init(&mut self, step: &str, version: i16, id: Option<&str>, timeout_ms: i32, expected: Producer) -> Producer {
        let (error, producer) = self.init_once(version, id, timeout_ms, expected);
        let name = self.name_of(producer.0);
        self.tell(&format!("init v{version} {step}"), &format!("error={error} {name} epoch={}", producer.1));
        producer
    }

    /// As a producer starts: again while a transaction of before is ended.
    fn start(&mut self, id: &str) -> Producer {
        for _ in 0..500 {
            let (error, producer) = self.init_once(4, Some(id), 60_000, (-1, -1));
            if error != CONCURRENT_TRANSACTIONS {
                let name = self.name_of(producer.0);
                self.tell(&format!("start {id}"), &format!("error={error} {name} epoch={}", producer.1));
                return producer;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{id} does not start");
    }

    fn add(&mut self, step: &str, version: i16, id: &str, p: Producer, partitions: &[(&str, i32)]) {
        let topics = topics_of(partitions);
        let request = msg::AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: id.to_owned(),
            v3_and_below_producer_id: p.0,
            v3_and_below_producer_epoch: p.1,
            v3_and_below_topics: topics,
            ..Default::default()
        };
        let answer = self.ask(version, &request).expect("answers");
        let mut told = Vec::new();
        for topic in answer.results_by_topic_v3_and_below {
            for p in topic.results_by_partition {
                told.push(format!("{}-{} error={}", topic.name, p.partition_index, p.partition_error_code));
            }
        }
        told.sort_unstable();
        self.tell(&format!("add v{version} {step}"), &told.join(" "));
    }

    fn add_batched(
        &mut self,
        step: &str,
        version: i16,
        verify_only: bool,
        id: &str,
        p: Producer,
        partitions: &[(&str, i32)],
    ) {
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: id.to_owned(),
            producer_id: p.0,
            producer_epoch: p.1,
            verify_only,
            topics: topics_of(partitions),
        };
        let request = msg::AddPartitionsToTxnRequest { transactions: vec![transaction], ..Default::default() };
        let answer = self.ask(version, &request).expect("answers");
        let mut told = Vec::new();
        for topic in answer.results_by_transaction.into_iter().flat_map(|result| result.topic_results) {
            for p in topic.results_by_partition {
                told.push(format!("{}-{} error={}", topic.name, p.partition_index, p.partition_error_code));
            }
        }
        told.sort_unstable();
        let what = if verify_only { "verify" } else { "add" };
        self.tell(&format!("{what} v{version} {step}"), &format!("error={} {}", answer.error_code, told.join(" ")));
    }

    fn add_offsets(&mut self, step: &str, version: i16, id: &str, p: Producer, group: &str) {
        let request = msg::AddOffsetsToTxnRequest {
            transactional_id: id.to_owned(),
            producer_id: p.0,
            producer_epoch: p.1,
            group_id: group.to_owned(),
        };
        let answer = self.ask(version, &request).expect("answers");
        self.tell(&format!("add offsets v{version} {step}"), &format!("error={}", answer.error_code));
    }

    fn end(&mut self, step: &str, version: i16, id: &str, p: Producer, commit: bool) -> Producer {
        let request = msg::EndTxnRequest {
            transactional_id: id.to_owned(),
            producer_id: p.0,
            producer_epoch: p.1,
            committed: commit,
        };
        let answer = self.ask(version, &request).expect("answers");
        let what = if commit { "commit" } else { "abort" };
        let name = self.name_of(answer.producer_id);
        let told = match version {
            5.. => format!("error={} {name} epoch={}", answer.error_code, answer.producer_epoch),
            _ => format!("error={}", answer.error_code),
        };
        self.tell(&format!("{what} v{version} {step}"), &told);
        (answer.producer_id, answer.producer_epoch)
    }

    fn produce(&mut self, step: &str, version: i16, id: Option<&str>, topic: &str, records: &[(i32, Bytes)]) {
        let topic_id = self.topic_ids.iter().find(|(name, _)| name == topic).map_or(Uuid::ZERO, |(_, id)| *id);
        let data = TopicProduceData {
            name: if version < 13 { topic.to_owned() } else { String::new() },
            topic_id: if version < 13 { Uuid::ZERO } else { topic_id },
            partition_data: (records.iter())
                .map(|(index, records)| PartitionProduceData { index: *index, records: Some(records.clone()) })
                .collect(),
        };
        let request = msg::ProduceRequest {
            transactional_id: id.map(str::to_owned),
            acks: -1,
            timeout_ms: 5_000,
            topic_data: vec![data],
        };
        let mut told = Vec::new();
        match self.ask(version, &request) {
            None => told.push("closed".to_owned()),
            Some(answer) => {
                for p in answer.responses.into_iter().flat_map(|topic| topic.partition_responses) {
                    let (index, error, base) = (p.index, p.error_code, p.base_offset);
                    told.push(format!("{index} error={error} base={base} {:?}", p.error_message));
                }
            }
        }
        told.sort_unstable();
        self.tell(&format!("produce v{version} {step}"), &told.join(" "));
    }

    fn describe(&mut self, id: &str) -> String {
        let request = msg::DescribeTransactionsRequest { transactional_ids: vec![id.to_owned()] };
        let mut answer = self.ask(0, &request).expect("answers");
        let d = answer.transaction_states.remove(0);
        if d.error_code != 0 {
            return format!("error={}", d.error_code);
        }
        let mut partitions: Vec<String> =
            d.topics.iter().flat_map(|t| t.partitions.iter().map(|p| format!("{}-{p}", t.topic))).collect();
        partitions.sort_unstable();
        let name = self.name_of(d.producer_id);
        let started = if d.transaction_start_time_ms > THEN { "now" } else { "never" };
        format!(
            "error={} {:?} {name} epoch={} timeout={} started={started} [{}]",
            d.error_code,
            d.transaction_state,
            d.producer_epoch,
            d.transaction_timeout_ms,
            partitions.join(" ")
        )
    }

    fn tell_state(&mut self, id: &str) {
        let described = self.describe(id);
        self.tell(&format!("describe {id:?}"), &described);
    }

    /// Waits until what was decided is complete.
    fn settle(&mut self, id: &str) {
        for _ in 0..500 {
            if !self.describe(id).contains("Prepare") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{id} is not completed");
    }

    fn list(&mut self, step: &str, version: i16, request: msg::ListTransactionsRequest) {
        let answer = self.ask(version, &request).expect("answers");
        let mut told = Vec::new();
        for t in answer.transaction_states {
            let name = self.name_of(t.producer_id);
            told.push(format!("{} {name} {}", t.transactional_id, t.transaction_state));
        }
        told.sort_unstable();
        let told =
            format!("error={} unknown={:?} [{}]", answer.error_code, answer.unknown_state_filters, told.join(", "));
        self.tell(&format!("list v{version} {step}"), &told);
    }

    fn txn_offset_commit(&mut self, step: &str, version: i16, request: msg::TxnOffsetCommitRequest) {
        for _ in 0..500 {
            let answer = self.ask(version, &request).expect("answers");
            let mut told = Vec::new();
            let mut ready = true;
            for topic in answer.topics {
                for p in topic.partitions {
                    ready &= !NOT_READY.contains(&p.error_code);
                    told.push(format!("{}-{} error={}", topic.name, p.partition_index, p.error_code));
                }
            }
            if ready {
                told.sort_unstable();
                self.tell(&format!("commit offsets v{version} {step}"), &told.join(" "));
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the group coordinator is not ready");
    }

    fn fetch_offset(&mut self, group: &str, require_stable: bool) -> String {
        let topics = Some(vec![OffsetFetchRequestTopics {
            name: "t".to_owned(),
            partition_indexes: vec![0],
            ..Default::default()
        }]);
        let groups = vec![OffsetFetchRequestGroup { group_id: group.to_owned(), topics, ..Default::default() }];
        let request = msg::OffsetFetchRequest { groups, require_stable, ..Default::default() };
        let answer = self.ask(8, &request).expect("answers");
        let told = &answer.groups[0].topics[0].partitions[0];
        format!("error={} offset={} metadata={:?}", told.error_code, told.committed_offset, told.metadata)
    }

    fn tell_offset(&mut self, group: &str) {
        let told = [false, true].map(|stable| self.fetch_offset(group, stable));
        self.tell(&format!("offset of {group}"), &told.join(" stable: "));
    }

    fn settle_offset(&mut self, group: &str) {
        for _ in 0..500 {
            if !self.fetch_offset(group, true).contains("error=88") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the offsets of {group} stay open");
    }

    fn mark(&mut self, step: &str, version: i16, p: Producer, marker: WritableTxnMarker, partitions: &[(&str, i32)]) {
        let topics = topics_of(partitions);
        let topics = topics
            .into_iter()
            .map(|t| WritableTxnMarkerTopic { name: t.name, partition_indexes: t.partitions })
            .collect();
        let marker = WritableTxnMarker { producer_id: p.0, producer_epoch: p.1, topics, ..marker };
        let request = msg::WriteTxnMarkersRequest { markers: vec![marker] };
        let answer = self.ask(version, &request).expect("answers");
        let mut told = Vec::new();
        for topic in answer.markers.into_iter().flat_map(|m| m.topics) {
            for p in topic.partitions {
                told.push(format!("{}-{} error={}", topic.name, p.partition_index, p.error_code));
            }
        }
        told.sort_unstable();
        self.tell(&format!("mark v{version} {step}"), &told.join(" "));
    }

    fn producers(&mut self, topic: &str) {
        let topics = vec![TopicRequest { name: topic.to_owned(), partition_indexes: vec![0, 1, 9] }];
        let answer = self.ask(0, &msg::DescribeProducersRequest { topics }).expect("answers");
        let mut told = Vec::new();
        for p in answer.topics.into_iter().flat_map(|t| t.partitions) {
            let mut text =
                format!("{} error={} message={}", p.partition_index, p.error_code, p.error_message.is_some());
            let mut states = Vec::new();
            for s in p.active_producers {
                let name = self.name_of(s.producer_id);
                states.push(format!(
                    "{name} epoch={} sequence={} time={} coordinator={} open={}",
                    s.producer_epoch,
                    s.last_sequence,
                    if s.last_timestamp > THEN { "now" } else { "then" },
                    s.coordinator_epoch,
                    s.current_txn_start_offset
                ));
            }
            states.sort_unstable();
            write!(text, " [{}]", states.join(", ")).expect("fits");
            told.push(text);
        }
        told.sort_unstable();
        self.tell(&format!("producers of {topic}"), &told.join("; "));
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(40))).expect("is possible");
    stream.set_nodelay(true).expect("is possible");
    stream
}

fn topics_of(partitions: &[(&str, i32)]) -> Vec<AddPartitionsToTxnTopic> {
    let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
    for (name, partition) in partitions {
        match topics.iter_mut().find(|t| t.name == *name) {
            Some(topic) => topic.partitions.push(*partition),
            None => topics.push(AddPartitionsToTxnTopic { name: (*name).to_owned(), partitions: vec![*partition] }),
        }
    }
    topics
}

fn batch(p: Producer, sequence: i32, transactional: bool) -> Bytes {
    let mut batch = BatchBuilder::new(Compression::None).with_producer(p.0, p.1, sequence);
    batch = batch.with_transactional(transactional);
    batch.append(THEN, Some(b"k"), Some(b"v"), &[]).expect("fits");
    batch.build(0).expect("builds")
}

fn txn(p: Producer, sequence: i32) -> Bytes {
    batch(p, sequence, true)
}

const NOBODY: Producer = (-1, -1);

fn play_init(c: &mut Client) {
    for version in 0..=5 {
        let id = format!("init-{version}");
        c.init("of nobody", version, None, 0, NOBODY);
        c.init("of the empty id", version, Some(""), 60_000, NOBODY);
        for timeout_ms in [0, -1, 900_001, i32::MIN] {
            c.init(&format!("within {timeout_ms}"), version, Some(&id), timeout_ms, NOBODY);
        }
        let first = c.init("of an id", version, Some(&id), 900_000, NOBODY);
        let second = c.init("of an id again", version, Some(&id), 1, NOBODY);
        c.tell_state(&id);
        if version < 3 {
            continue;
        }
        c.init("with an id and no epoch", version, Some(&id), 60_000, (first.0, -1));
        c.init("with an epoch and no id", version, Some(&id), 60_000, (-1, 0));
        c.init("of nobody, who was somebody", version, None, 60_000, second);
        c.init("with an id that is not its own", version, Some(&id), 60_000, (first.0 + 100_000, second.1));
        c.init("with an epoch of before", version, Some(&id), 60_000, first);
        c.init("as who it is", version, Some(&id), 60_000, second);
        c.init("as who it is, again", version, Some(&id), 60_000, second);
        c.init("with an epoch to come", version, Some(&id), 60_000, (second.0, second.1 + 5));
        c.init("of an id that nobody had", version, Some(&format!("{id}-lost")), 60_000, (second.0, 7));
    }
}

/// Clients that keep their epoch through many transactions.
fn play_old(c: &mut Client) {
    for version in 0..=3 {
        let id = &format!("old-{version}");
        let p = c.start(id);
        c.add("nowhere", version, id, p, &[("nowhere", 0), ("t", 0)]);
        c.add("a partition that is not there", version, id, p, &[("t", 7)]);
        c.add("nothing", version, id, p, &[]);
        c.tell_state(id);
        c.add("with an epoch of before", version, id, (p.0, p.1 - 1), &[("t", 0)]);
        c.add("with an epoch to come", version, id, (p.0, p.1 + 1), &[("t", 0)]);
        c.add("as somebody else", version, id, (p.0 + 100_000, p.1), &[("t", 0)]);
        c.add("of an id that is not there", version, "nobody", p, &[("t", 0)]);
        c.add("of the empty id", version, "", p, &[("t", 0)]);
        c.end("of nothing", version, id, p, true);
        c.settle(id);
        c.end("of nothing", version, id, p, false);
        c.add("one", version, id, p, &[("t", 0)]);
        c.add("one that is there", version, id, p, &[("t", 0)]);
        c.add("another", version, id, p, &[("t", 1)]);
        c.tell_state(id);
        c.end("with an epoch of before", version, id, (p.0, p.1 - 1), true);
        c.end("with an epoch to come", version, id, (p.0, p.1 + 1), true);
        c.end("as somebody else", version, id, (p.0 + 100_000, p.1), true);
        c.end("of an id that is not there", version, "nobody", p, true);
        c.end("of the empty id", version, "", p, true);
        c.end("of a transaction", version, id, p, true);
        c.settle(id);
        c.tell_state(id);
        c.end("again", version, id, p, true);
        c.end("of what is committed", version, id, p, false);
        c.add("to the next", version, id, p, &[("t", 1)]);
        c.end("of the next", version, id, p, false);
        c.settle(id);
        c.tell_state(id);
        c.end("again", version, id, p, false);
        c.end("of what is aborted", version, id, p, true);
        c.add_offsets("with an epoch of before", version, id, (p.0, p.1 - 1), "g");
        c.add_offsets("as somebody else", version, id, (p.0 + 100_000, p.1), "g");
        c.add_offsets("of the empty id", version, "", p, "g");
        c.add_offsets("of the empty group", version, id, p, "");
        c.end("of no group's offsets", version, id, p, true);
        c.settle(id);
    }
}

/// Records: verified before they begin a transaction.
fn play_records(c: &mut Client) {
    for version in 3..=11 {
        let id = &format!("records-{version}");
        let topic = &format!("r{version}");
        c.create(topic);
        let p = c.start(id);
        c.produce("not added", version, Some(id), topic, &[(0, txn(p, 0))]);
        c.produce("without an id", version, None, topic, &[(0, txn(p, 0))]);
        c.produce("of another id", version, Some("nobody"), topic, &[(0, txn(p, 0))]);
        c.add("one", 3, id, p, &[(topic, 0)]);
        c.produce("one of two added", version, Some(id), topic, &[(0, txn(p, 0)), (1, txn(p, 0))]);
        c.produce("more", version, Some(id), topic, &[(0, txn(p, 1))]);
        c.produce("the same again", version, Some(id), topic, &[(0, txn(p, 1))]);
        c.produce("a gap", version, Some(id), topic, &[(0, txn(p, 5))]);
        c.produce("of no transaction", version, None, topic, &[(0, batch(p, 2, false))]);
        c.produce("of no transaction elsewhere", version, None, topic, &[(1, batch(p, 0, false))]);
        c.produce("with an epoch of before", version, Some(id), topic, &[(0, txn((p.0, p.1 - 1), 2))]);
        c.produce("with an epoch to come", version, Some(id), topic, &[(0, txn((p.0, p.1 + 1), 0))]);
        c.tell_ends(topic);
        c.producers(topic);
        c.end("of a transaction", 3, id, p, true);
        c.settle(id);
        c.tell_ends(topic);
        c.produce("late", version, Some(id), topic, &[(0, txn(p, 2))]);
        c.add("of the next", 3, id, p, &[(topic, 0)]);
        c.produce("the next", version, Some(id), topic, &[(0, txn(p, 2))]);
        let (error, _) = c.init_once(4, Some(id), 60_000, NOBODY);
        c.tell("its successor starts", &format!("error={error}"));
        c.settle(id);
        c.produce("of who is fenced", version, Some(id), topic, &[(0, txn(p, 3))]);
        c.produce("of who is fenced, elsewhere", version, Some(id), topic, &[(1, txn(p, 1))]);
        c.end("of who is fenced", 3, id, p, true);
        c.end("of who is fenced", 1, id, p, true);
        c.tell_ends(topic);
        c.producers(topic);
        c.start(id);
    }
}

/// Clients that get an epoch with each transaction.
fn play_new(c: &mut Client) {
    for version in 12..=13 {
        let id = &format!("new-{version}");
        let topic = &format!("n{version}");
        c.create(topic);
        let p = c.start(id);
        c.end("of nothing", 5, id, p, true);
        c.produce("first", version, Some(id), topic, &[(0, txn(p, 0)), (1, txn(p, 0))]);
        c.tell_state(id);
        c.produce("more", version, Some(id), topic, &[(0, txn(p, 1))]);
        c.produce("of another id", version, Some("nobody"), topic, &[(0, txn((p.0 + 100_000, 0), 0))]);
        c.end("with an epoch to come", 5, id, (p.0, p.1 + 1), true);
        let q = c.end("of a transaction", 5, id, p, true);
        c.settle(id);
        c.tell_state(id);
        c.end("again", 5, id, p, true);
        c.end("of what is committed", 5, id, p, false);
        c.end("of nothing", 5, id, q, true);
        c.tell_ends(topic);
        c.producers(topic);
        c.produce("late", version, Some(id), topic, &[(0, txn(p, 2))]);
        c.add("late", 3, id, p, &[(topic, 0)]);
        c.produce("a gap at the beginning", version, Some(id), topic, &[(0, txn(q, 3))]);
        c.produce("next", version, Some(id), topic, &[(0, txn(q, 0))]);
        c.end("late, by its old epoch", 5, id, p, true);
        c.end("late, by its old epoch", 5, id, p, false);
        c.end("late, by its old epoch", 3, id, p, true);
        c.end("by an old client", 3, id, q, true);
        c.settle(id);
        c.tell_state(id);
        c.end("of nothing", 5, id, q, false);
        c.settle(id);
        c.tell_state(id);
        let r = (q.0, q.1 + 1);
        c.end("of nothing, again", 5, id, q, false);
        c.end("of nothing, again", 5, id, q, true);
        c.produce("after nothing", version, Some(id), topic, &[(1, txn(r, 0))]);
        c.produce("of no transaction", version, None, topic, &[(1, batch(r, 1, false))]);
        let (error, _) = c.init_once(5, Some(id), 60_000, NOBODY);
        c.tell("its successor starts", &format!("error={error}"));
        c.settle(id);
        c.tell_state(id);
        c.end("of who was aborted", 5, id, r, true);
        c.end("of who was aborted", 5, id, r, false);
        c.produce("of who was aborted", version, Some(id), topic, &[(1, txn(r, 1))]);
        c.tell_ends(topic);
        c.producers(topic);
        c.start(id);
        c.end("of who is fenced", 5, id, r, false);
    }
}

/// Who goes on under its epoch after somebody else started, or after the coordinator aborted its transaction.
fn play_return(c: &mut Client) {
    for version in [9, 12] {
        let id = &format!("returning-{version}");
        let p = c.start(id);
        let begin = |c: &mut Client, p: Producer| {
            if version < 12 {
                c.add("one", 3, id, p, &[("t", 0)]);
            }
            c.produce("one", version, Some(id), "t", &[(0, txn(p, 0))]);
        };
        begin(c, p);
        let (error, _) = c.init_once(5, Some(id), 60_000, NOBODY);
        c.tell("its successor starts", &format!("error={error}"));
        c.settle(id);
        c.init("as who it was", 5, Some(id), 60_000, p);
        c.init("as who it was", 5, Some(id), 60_000, p);
        c.tell_state(id);
        let p = c.start(id);
        begin(c, p);
        let (error, _) = c.init_once(5, Some(id), 60_000, p);
        c.tell("it starts again as who it is, in a transaction", &format!("error={error}"));
        c.settle(id);
        c.init("as who it was", 5, Some(id), 60_000, p);
        c.tell_state(id);
        let first = c.start(id);
        let p = c.start(id);
        begin(c, p);
        let (error, _) = c.init_once(5, Some(id), 60_000, first);
        c.tell("its predecessor returns", &format!("error={error}"));
        c.settle(id);
        c.tell_state(id);
        c.start(id);
    }
}

fn play_verification(c: &mut Client) {
    for version in 4..=5 {
        let id = &format!("verified-{version}");
        let p = c.start(id);
        c.add_batched("nothing open", version, true, id, p, &[("t", 0)]);
        c.add("one", 3, id, p, &[("t", 0)]);
        c.add_batched("one of two", version, true, id, p, &[("t", 0), ("t", 1)]);
        c.add_batched("nowhere", version, true, id, p, &[("t", 0), ("nowhere", 1)]);
        c.add_batched("with an epoch of before", version, true, id, (p.0, p.1 - 1), &[("t", 0)]);
        c.add_batched("with an epoch to come", version, true, id, (p.0, p.1 + 1), &[("t", 0)]);
        c.add_batched("as somebody else", version, true, id, (p.0 + 100_000, p.1), &[("t", 0)]);
        c.add_batched("of an id that is not there", version, true, "nobody", p, &[("t", 0)]);
        c.add_batched("of the empty id", version, true, "", p, &[("t", 0)]);
        c.add_batched("another", version, false, id, p, &[("t", 1)]);
        c.add_batched("with an epoch of before", version, false, id, (p.0, p.1 - 1), &[("t", 1)]);
        c.tell_state(id);
        c.end("of a transaction", 3, id, p, false);
        c.settle(id);
        c.add_batched("nothing open any more", version, true, id, p, &[("t", 0)]);
    }
}

fn offsets(id: &str, group: &str, p: Producer, offset: i64) -> msg::TxnOffsetCommitRequest {
    let partition = TxnOffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some("m".to_owned()),
        ..Default::default()
    };
    let topics = vec![TxnOffsetCommitRequestTopic { name: "t".to_owned(), partitions: vec![partition] }];
    msg::TxnOffsetCommitRequest {
        transactional_id: id.to_owned(),
        group_id: group.to_owned(),
        producer_id: p.0,
        producer_epoch: p.1,
        generation_id: -1,
        topics,
        ..Default::default()
    }
}

fn play_offsets(c: &mut Client) {
    for version in 0..=5 {
        let id = &format!("offsets-{version}");
        let group = &format!("g{version}");
        c.find(0, group);
        let p = c.start(id);
        let of = |p, offset| offsets(id, group, p, offset);
        if version < 5 {
            c.txn_offset_commit("not added", version, of(p, 1));
            c.add_offsets("of a group", 3, id, p, group);
        }
        c.txn_offset_commit("first", version, of(p, 2));
        c.tell_state(id);
        c.tell_offset(group);
        let mut unknown = of(p, 3);
        unknown.topics.push(TxnOffsetCommitRequestTopic {
            name: "nowhere".to_owned(),
            partitions: vec![TxnOffsetCommitRequestPartition::default()],
        });
        c.txn_offset_commit("and nowhere", version, unknown);
        let mut long = of(p, 4);
        long.topics[0].partitions[0].committed_metadata = Some("m".repeat(4097));
        c.txn_offset_commit("with long metadata", version, long);
        c.txn_offset_commit("with an epoch of before", version, of((p.0, p.1 - 1), 5));
        c.txn_offset_commit("with an epoch to come", version, of((p.0, p.1 + 1), 5));
        c.txn_offset_commit("as somebody else", version, of((p.0 + 100_000, p.1), 5));
        c.txn_offset_commit("of an id that is not there", version, offsets("nobody", group, p, 5));
        c.txn_offset_commit("of the empty id", version, offsets("", group, p, 5));
        c.txn_offset_commit("of the empty group", version, offsets(id, "", p, 5));
        if version >= 3 {
            let member = |member: &str, generation| msg::TxnOffsetCommitRequest {
                member_id: member.to_owned(),
                generation_id: generation,
                ..of(p, 6)
            };
            c.txn_offset_commit("by a stranger", version, member("stranger", 1));
            c.txn_offset_commit("by a stranger without a generation", version, member("stranger", -1));
            c.txn_offset_commit("of a generation without a member", version, member("", 1));
            let nowhere = msg::TxnOffsetCommitRequest { group_id: format!("{group}-lost"), ..member("stranger", 1) };
            c.find(0, &format!("{group}-lost"));
            c.txn_offset_commit("of a group that is not there", version, nowhere);
        }
        let q = if version < 5 {
            c.end("of a transaction", 3, id, p, true);
            p
        } else {
            c.end("of a transaction", 5, id, p, true)
        };
        c.settle(id);
        c.settle_offset(group);
        c.tell_offset(group);
        c.txn_offset_commit("late", version, of(p, 7));
        c.tell_offset(group);
        if version < 5 {
            c.add_offsets("of a group", 3, id, q, group);
        }
        c.txn_offset_commit("second", version, of(q, 8));
        c.tell_offset(group);
        c.end("of the second", if version < 5 { 3 } else { 5 }, id, q, false);
        c.settle(id);
        c.settle_offset(group);
        c.tell_offset(group);
    }
}

fn play_markers(c: &mut Client) {
    for version in 1..=2 {
        let topic = &format!("m{version}");
        let id = &format!("marked-{version}");
        c.create(topic);
        let marker = |commit: bool, coordinator_epoch: i32, transaction_version: i8| WritableTxnMarker {
            transaction_result: commit,
            coordinator_epoch,
            transaction_version,
            ..Default::default()
        };
        let first = c.start(id);
        let p = c.start(id);
        c.mark("without an epoch", version, (p.0, -1), marker(true, 0, 0), &[(topic, 0)]);
        c.mark("nowhere", version, p, marker(true, 0, 0), &[("nowhere", 0), (topic, 0), (topic, 9)]);
        c.add("two", 3, id, p, &[(topic, 0), (topic, 1)]);
        c.produce("two", 9, Some(id), topic, &[(0, txn(p, 0)), (1, txn(p, 0))]);
        c.mark("with an epoch of before", version, first, marker(false, 5, 0), &[(topic, 0)]);
        if version >= 2 {
            c.mark("of the new protocol, same epoch", version, p, marker(false, 5, 2), &[(topic, 0)]);
        }
        c.mark("abort", version, p, marker(false, 5, 0), &[(topic, 0)]);
        c.settle_partition(topic, 0);
        c.tell_ends(topic);
        c.producers(topic);
        c.mark("again", version, p, marker(false, 5, 0), &[(topic, 0)]);
        c.mark("of an old coordinator", version, p, marker(false, 4, 0), &[(topic, 0)]);
        if version >= 2 {
            c.mark("of the new protocol, nothing open", version, p, marker(false, 5, 2), &[(topic, 0)]);
            c.mark("of the new protocol", version, (p.0, p.1 + 1), marker(true, 5, 2), &[(topic, 1)]);
            c.mark("of the new protocol, again", version, (p.0, p.1 + 1), marker(true, 5, 2), &[(topic, 1)]);
            c.mark("of the new protocol, late", version, p, marker(true, 5, 2), &[(topic, 1)]);
        }
        c.tell_ends(topic);
        c.producers(topic);
    }
    c.producers("nowhere");
}

fn play_tools(c: &mut Client) {
    let p = c.start("tool-open");
    c.add("one", 3, "tool-open", p, &[("t", 0)]);
    c.start("tool-idle");
    std::thread::sleep(Duration::from_millis(20));
    c.tell_state("tool-open");
    c.tell_state("nobody");
    c.tell_state("");
    for version in 0..=2 {
        let filter = |states: &[&str], producer_ids: &[i64]| msg::ListTransactionsRequest {
            state_filters: states.iter().map(|s| (*s).to_owned()).collect(),
            producer_id_filters: producer_ids.to_vec(),
            duration_filter: -1,
            ..Default::default()
        };
        c.list("ongoing", version, filter(&["Ongoing"], &[]));
        c.list("of states that are none", version, filter(&["ongoing", "Open", ""], &[]));
        c.list("ongoing or none", version, filter(&["Ongoing", "Open"], &[]));
        c.list("dead", version, filter(&["Dead", "PrepareEpochFence"], &[]));
        c.list("of a producer", version, filter(&[], &[p.0, -1]));
        if version >= 1 {
            for duration_filter in [0, 3_600_000] {
                let filter = msg::ListTransactionsRequest { duration_filter, ..filter(&["Ongoing"], &[]) };
                c.list(&format!("ongoing for {duration_filter}"), version, filter);
            }
            let filter = msg::ListTransactionsRequest { duration_filter: 3_600_000, ..filter(&["Empty"], &[]) };
            c.list("empty for long", version, filter);
        }
        if version >= 2 {
            for pattern in ["tool-.*", "tool", "(", "", ".*-idle|nothing"] {
                let filter = msg::ListTransactionsRequest {
                    transactional_id_pattern: Some(pattern.to_owned()),
                    ..filter(&["Ongoing"], &[])
                };
                c.list(&format!("like {pattern:?}"), version, filter);
            }
        }
    }
    for version in 0..=5 {
        let key_type = if version == 0 { 0 } else { 1 };
        let request = msg::FindCoordinatorRequest {
            key: "tool-open".to_owned(),
            key_type,
            coordinator_keys: if version >= 4 { vec!["tool-open".to_owned(), String::new()] } else { Vec::new() },
        };
        let request =
            if version >= 4 { msg::FindCoordinatorRequest { key: String::new(), ..request } } else { request };
        let found = c.ask(version, &request).expect("answers");
        let told: Vec<String> = match version {
            4.. => found.coordinators.iter().map(|f| format!("{} {:?}", f.error_code, f.error_message)).collect(),
            _ => vec![format!("{} {:?}", found.error_code, found.error_message)],
        };
        c.tell(&format!("find v{version}"), &told.join("; "));
    }
}

/// All of it.
fn play(address: &str) -> String {
    let mut client = Client::new(address);
    let c = &mut client;
    c.create("t");
    c.find(1, "any");
    c.find(0, "any");
    play_init(c);
    play_old(c);
    play_records(c);
    play_new(c);
    play_return(c);
    play_verification(c);
    play_offsets(c);
    play_markers(c);
    play_tools(c);
    client.told
}

/// What happens when a producer id has no epoch left: 32767 of them are many requests.
fn play_exhaustion(c: &mut Client) {
    let exhaust = |c: &mut Client, id: &str, epoch: i16| loop {
        let (error, producer) = c.init_once(4, Some(id), 60_000, NOBODY);
        assert_eq!(error, 0);
        if producer.1 >= epoch {
            let name = c.name_of(producer.0);
            c.tell(&format!("{id} came far"), &format!("{name} epoch={}", producer.1));
            return producer;
        }
    };
    const LAST: i16 = i16::MAX - 1;
    let id = "worn";
    let p = exhaust(c, id, LAST);
    let q = c.init("as who it is", 4, Some(id), 60_000, p);
    c.init("as who it was", 4, Some(id), 60_000, p);
    c.init("as who it was long ago", 4, Some(id), 60_000, (p.0, 5));
    c.init("as who it is", 4, Some(id), 60_000, q);
    c.tell_state(id);

    let id = "worn-new";
    let p = exhaust(c, id, LAST - 1);
    c.produce("before the last", 12, Some(id), "t", &[(0, txn(p, 0))]);
    let p = c.end("before the last", 5, id, p, true);
    c.settle(id);
    c.produce("the last", 12, Some(id), "t", &[(0, txn(p, 0))]);
    let q = c.end("the last", 5, id, p, true);
    c.settle(id);
    c.tell_state(id);
    c.end("the last again", 5, id, p, true);
    c.end("the last again", 5, id, p, false);
    c.produce("the first", 12, Some(id), "t", &[(0, txn(q, 0))]);
    c.end("the last again", 5, id, p, true);
    c.end("the first", 5, id, q, true);
    c.settle(id);
    c.tell_state(id);

    let id = "worn-fenced";
    let p = exhaust(c, id, LAST);
    c.produce("the last", 12, Some(id), "t", &[(0, txn(p, 0))]);
    let (error, _) = c.init_once(4, Some(id), 60_000, NOBODY);
    c.tell("its successor starts", &format!("error={error}"));
    c.settle(id);
    c.tell_state(id);
    c.end("of who is fenced", 5, id, p, true);
    c.end("of who is fenced", 5, id, p, false);
    c.tell_ends("t");
    c.start(id);
    c.tell_state(id);

    let id = "worn-old";
    let p = exhaust(c, id, LAST);
    c.add("the last", 3, id, p, &[("t", 0)]);
    c.end("the last", 3, id, p, true);
    c.settle(id);
    c.tell_state(id);
    c.add("the next", 3, id, p, &[("t", 0)]);
    c.end("the next", 3, id, p, false);
    c.settle(id);
    c.start(id);
}

async fn start(dir: &Path) -> milena_server::Node {
    let bootstrap = Bootstrap::default();
    let features = versions::default_feature_levels(bootstrap.metadata_version());
    let plan = FormatPlan {
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        node_id: 1,
        metadata_version: bootstrap.metadata_version(),
        features: features.into_iter().map(|(name, level)| (name.to_owned(), level)).collect(),
        directories: vec![FormatDirectory { path: dir.to_owned(), metadata: true, id: Uuid::random() }],
        voters: Vec::new(),
    };
    storage_format::format(&plan, THEN).expect("formats");
    let log_dirs = dir.display().to_string();
    let given = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "1@127.0.0.1:0"),
        ("listeners", "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"),
        ("log.dirs", log_dirs.as_str()),
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", "2"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "2"),
    ];
    let pairs = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    milena_server::Node::start(BrokerConfig::from_properties(pairs).expect("valid")).await.expect("starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_kafkas() {
    if let Ok(wish) = std::env::var("TRANSACTIONS_RECORD") {
        let (address, file) = wish.split_once('=').expect("address=file");
        return std::fs::write(file, play(address)).expect("is written");
    }
    compare(include_str!("golden/transactions/kafka-4.3.1.txt"), play).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn answers_are_kafkas_when_epochs_are_used_up() {
    let play = |address: &str| {
        let mut client = Client::new(address);
        client.create("t");
        client.find(1, "any");
        play_exhaustion(&mut client);
        client.told
    };
    if let Ok(wish) = std::env::var("TRANSACTIONS_RECORD") {
        let (address, file) = wish.split_once('=').expect("address=file");
        return std::fs::write(file, play(address)).expect("is written");
    }
    compare(include_str!("golden/transactions/kafka-4.3.1-epochs.txt"), play).await;
}

async fn compare(kafkas: &str, play: fn(&str) -> String) {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    let (_, address) = node.listeners().iter().find(|(name, _)| name == "PLAINTEXT").expect("listens");
    let address = address.to_string();
    let ours = tokio::task::spawn_blocking(move || play(&address)).await.expect("answers");
    node.stop().await;
    if let Ok(file) = std::env::var("TRANSACTIONS_OURS") {
        std::fs::write(file, &ours).expect("is written");
    }
    let kafkas: Vec<&str> = kafkas.lines().collect();
    let mut differences = String::new();
    let mut step = "";
    for (at, line) in ours.lines().enumerate() {
        if !line.starts_with("    ") {
            step = line;
        }
        let kafkas = kafkas.get(at).copied().unwrap_or_default();
        if kafkas != line {
            writeln!(differences, "line {}: {step}\n  ours   {line}\n  Kafka's {kafkas}", at + 1).expect("fits");
        }
    }
    assert_eq!(ours.lines().count(), kafkas.len());
    assert!(differences.is_empty(), "{differences}");
}
