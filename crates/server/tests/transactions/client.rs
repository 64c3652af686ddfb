//! A client that asks about transactions and writes the answers down, in words that do not depend on which producer ids it was given.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use milena_common::Uuid;
use milena_protocol::header::get_response_header;
use milena_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use milena_protocol::messages::create_topics_request::CreatableTopic;
use milena_protocol::messages::describe_producers_request::TopicRequest;
use milena_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use milena_protocol::messages::{self as msg};
use milena_protocol::records::{BatchBuilder, Compression};
use milena_protocol::{Decode as _, Reader, Request, RequestHeader, Writer};

const THEN: i64 = 1_700_000_000_000;

/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR.
pub const NOT_READY: [i16; 3] = [14, 15, 16];
pub const CONCURRENT_TRANSACTIONS: i16 = 51;

pub type Producer = (i64, i16);

pub struct Client {
    stream: TcpStream,
    address: String,
    topic_ids: Vec<(String, Uuid)>,
    /// Producer ids in the order in which they were seen.
    producer_ids: Vec<i64>,
    pub told: String,
}

impl Client {
    pub fn new(address: &str) -> Client {
        let (topic_ids, producer_ids) = (Vec::new(), Vec::new());
        Client { stream: connect(address), address: address.to_owned(), topic_ids, producer_ids, told: String::new() }
    }

    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
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

    pub fn tell(&mut self, step: &str, answer: &str) {
        writeln!(self.told, "{step}\n    {answer}").expect("fits");
    }

    pub fn create(&mut self, name: &str) {
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

    pub fn end_offset(&mut self, topic: &str, partition: i32, isolation_level: i8) -> String {
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
    pub fn tell_ends(&mut self, topic: &str) {
        let ends = [0, 1].map(|p| [self.end_offset(topic, p, 1), self.end_offset(topic, p, 0)].join("/"));
        self.tell(&format!("ends of {topic}"), &ends.join(" "));
    }

    /// Waits until a partition has nothing open.
    pub fn settle_partition(&mut self, topic: &str, partition: i32) {
        for _ in 0..500 {
            if self.end_offset(topic, partition, 1) == self.end_offset(topic, partition, 0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{topic}-{partition} stays open");
    }

    pub fn find(&mut self, key_type: i8, key: &str) {
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
    pub fn name_of(&mut self, producer_id: i64) -> String {
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

    pub fn init_once(
        &mut self,
        version: i16,
        id: Option<&str>,
        timeout_ms: i32,
        expected: Producer,
    ) -> (i16, Producer) {
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

    pub fn init(
        &mut self,
        step: &str,
        version: i16,
        id: Option<&str>,
        timeout_ms: i32,
        expected: Producer,
    ) -> Producer {
        let (error, producer) = self.init_once(version, id, timeout_ms, expected);
        let name = self.name_of(producer.0);
        self.tell(&format!("init v{version} {step}"), &format!("error={error} {name} epoch={}", producer.1));
        producer
    }

    /// As a producer starts: again while a transaction of before is ended.
    pub fn start(&mut self, id: &str) -> Producer {
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

    pub fn add(&mut self, step: &str, version: i16, id: &str, p: Producer, partitions: &[(&str, i32)]) {
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

    pub fn add_batched(
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

    pub fn add_offsets(&mut self, step: &str, version: i16, id: &str, p: Producer, group: &str) {
        let request = msg::AddOffsetsToTxnRequest {
            transactional_id: id.to_owned(),
            producer_id: p.0,
            producer_epoch: p.1,
            group_id: group.to_owned(),
        };
        let answer = self.ask(version, &request).expect("answers");
        self.tell(&format!("add offsets v{version} {step}"), &format!("error={}", answer.error_code));
    }

    pub fn end(&mut self, step: &str, version: i16, id: &str, p: Producer, commit: bool) -> Producer {
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

    pub fn produce(&mut self, step: &str, version: i16, id: Option<&str>, topic: &str, records: &[(i32, Bytes)]) {
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

    pub fn describe(&mut self, id: &str) -> String {
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

    pub fn tell_state(&mut self, id: &str) {
        let described = self.describe(id);
        self.tell(&format!("describe {id:?}"), &described);
    }

    /// Waits until what was decided is complete.
    pub fn settle(&mut self, id: &str) {
        for _ in 0..500 {
            if !self.describe(id).contains("Prepare") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{id} is not completed");
    }

    pub fn list(&mut self, step: &str, version: i16, request: msg::ListTransactionsRequest) {
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

    pub fn txn_offset_commit(&mut self, step: &str, version: i16, request: msg::TxnOffsetCommitRequest) {
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

    pub fn fetch_offset(&mut self, group: &str, require_stable: bool) -> String {
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

    pub fn tell_offset(&mut self, group: &str) {
        let told = [false, true].map(|stable| self.fetch_offset(group, stable));
        self.tell(&format!("offset of {group}"), &told.join(" stable: "));
    }

    pub fn settle_offset(&mut self, group: &str) {
        for _ in 0..500 {
            if !self.fetch_offset(group, true).contains("error=88") {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the offsets of {group} stay open");
    }

    pub fn mark(
        &mut self,
        step: &str,
        version: i16,
        p: Producer,
        marker: WritableTxnMarker,
        partitions: &[(&str, i32)],
    ) {
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

    pub fn producers(&mut self, topic: &str) {
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

pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(40))).expect("is possible");
    stream.set_nodelay(true).expect("is possible");
    stream
}

pub fn topics_of(partitions: &[(&str, i32)]) -> Vec<AddPartitionsToTxnTopic> {
    let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
    for (name, partition) in partitions {
        match topics.iter_mut().find(|t| t.name == *name) {
            Some(topic) => topic.partitions.push(*partition),
            None => topics.push(AddPartitionsToTxnTopic { name: (*name).to_owned(), partitions: vec![*partition] }),
        }
    }
    topics
}

pub fn batch(p: Producer, sequence: i32, transactional: bool) -> Bytes {
    let mut batch = BatchBuilder::new(Compression::None).with_producer(p.0, p.1, sequence);
    batch = batch.with_transactional(transactional);
    batch.append(THEN, Some(b"k"), Some(b"v"), &[]).expect("fits");
    batch.build(0).expect("builds")
}

pub fn txn(p: Producer, sequence: i32) -> Bytes {
    batch(p, sequence, true)
}
