//! A client that asks about transactions and writes the answers down, in words that do not depend on which producer ids it was given.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use milena_common::Uuid;
use milena_protocol::Request;
use milena_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use milena_protocol::messages::describe_producers_request::TopicRequest;
use milena_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use milena_protocol::messages::{self as msg};
use milena_protocol::records::{BatchBuilder, BatchView, Compression};

use crate::support::{Connection, THEN, eventually, topic};

/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR.
pub const NOT_READY: [i16; 3] = [14, 15, 16];
pub const CONCURRENT_TRANSACTIONS: i16 = 51;

pub type Producer = (i64, i16);

pub struct Client {
    pub connection: Connection,
    topic_ids: Vec<(String, Uuid)>,
    /// Producer ids in the order in which they were seen.
    producer_ids: Vec<i64>,
}

impl Client {
    pub fn new(address: &str) -> Client {
        Client { connection: Connection::new(address), topic_ids: Vec::new(), producer_ids: Vec::new() }
    }

    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.connection.try_ask(version, request)
    }

    pub fn tell(&mut self, step: &str, answer: &str) {
        self.connection.tell(step, answer);
    }

    pub fn create(&mut self, name: &str) {
        let id = self.connection.create(topic(name, 2));
        self.topic_ids.push((name.to_owned(), id));
        eventually("leaders that know of it", || {
            let ready = |partition| !self.end_offset(name, partition, 0).starts_with("error");
            [0, 1].into_iter().all(ready).then_some(())
        });
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
        eventually(&format!("the end of what is open in {topic}-{partition}"), || {
            (self.end_offset(topic, partition, 1) == self.end_offset(topic, partition, 0)).then_some(())
        });
    }

    pub fn find(&mut self, key_type: i8, key: &str) {
        let request = msg::FindCoordinatorRequest { key: key.to_owned(), key_type, ..Default::default() };
        eventually(&format!("a coordinator for {key}"), || {
            (self.ask(3, &request).expect("answers").error_code == 0).then_some(())
        });
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
        eventually("a coordinator that is ready", || {
            let answer = self.ask(version, &request).expect("answers");
            let told = (answer.error_code, (answer.producer_id, answer.producer_epoch));
            (!NOT_READY.contains(&told.0)).then_some(told)
        })
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
        let (error, producer) = eventually(&format!("the start of {id}"), || {
            let told = self.init_once(4, Some(id), 60_000, (-1, -1));
            (told.0 != CONCURRENT_TRANSACTIONS).then_some(told)
        });
        let name = self.name_of(producer.0);
        self.tell(&format!("start {id}"), &format!("error={error} {name} epoch={}", producer.1));
        producer
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

    pub fn produce(
        &mut self,
        step: &str,
        version: i16,
        id: Option<&str>,
        topic: &str,
        records: &[(i32, Bytes)],
    ) -> String {
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
        let told = told.join(" ");
        let mut what = String::new();
        if step == "random" {
            let batches = records.iter().filter_map(|(_, records)| BatchView::parse(records).ok());
            for b in batches {
                let name = self.name_of(b.producer_id());
                write!(what, " {name}:{}:{}", b.producer_epoch(), b.base_sequence()).expect("fits");
            }
        }
        self.tell(&format!("produce v{version} {step}{what}"), &told);
        told
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

    /// Whether what was decided is complete soon: a marker that was fenced leaves it as it is.
    pub fn settles(&mut self, id: &str) -> bool {
        for _ in 0..100 {
            if !self.describe(id).contains("Prepare") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Waits until what was decided is complete.
    pub fn settle(&mut self, id: &str) {
        eventually(&format!("the end of {id}"), || (!self.describe(id).contains("Prepare")).then_some(()));
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
        let mut told = eventually("a group coordinator that is ready", || {
            let mut told = Vec::new();
            let mut ready = true;
            for topic in self.ask(version, &request).expect("answers").topics {
                for p in topic.partitions {
                    ready &= !NOT_READY.contains(&p.error_code);
                    told.push(format!("{}-{} error={}", topic.name, p.partition_index, p.error_code));
                }
            }
            ready.then_some(told)
        });
        told.sort_unstable();
        self.tell(&format!("commit offsets v{version} {step}"), &told.join(" "));
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

    /// Waits until the markers of transactions that ended have reached the group; those that are open may be nobody's to end.
    pub fn settle_group(&mut self, group: &str) {
        for _ in 0..5 {
            if !self.fetch_offset(group, true).contains("error=88") {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn settle_offset(&mut self, group: &str) {
        eventually(&format!("the offsets of {group}"), || {
            (!self.fetch_offset(group, true).contains("error=88")).then_some(())
        });
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
        let marker_version = marker.transaction_version;
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
        let of =
            if step == "random" { format!(" {}:{}:{}", self.name_of(p.0), p.1, marker_version) } else { String::new() };
        self.tell(&format!("mark v{version} {step}{of}"), &told.join(" "));
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
