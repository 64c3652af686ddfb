//! The same requests to Milena and to Apache Kafka: produce, fetch, offsets, deletion, log directories, at every version, and what
//! must go wrong. The answers of Kafka 4.3.1, and of 3.3.1 where 4.3.1 serves a version no more, stand in `golden/data-plane`.
//!
//! `DATA_PLANE_RECORD=127.0.0.1:9092=file` records the answers of a running Kafka instead.

use std::fmt::Write as _;

use bytes::Bytes;
use milena_common::Uuid;
use milena_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use milena_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use milena_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use milena_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use milena_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::messages::{self as msg};
use milena_protocol::records::legacy::MessageSetBuilder;
use milena_protocol::records::{BatchBuilder, Compression, TimestampType, batches};
use milena_protocol::{ApiKey, Request};

use crate::support::{Connection, THEN, TestNode, eventually, topic, with_configs};

struct Client {
    connection: Connection,
    versions: Vec<(i16, i16, i16)>,
    topic_ids: Vec<(String, Uuid)>,
}

impl Client {
    fn new(address: &str) -> Client {
        let connection = Connection::new(address);
        let mut client = Client { connection, versions: Vec::new(), topic_ids: Vec::new() };
        let answer = client.ask(0, msg::ApiVersionsRequest::default()).expect("answers");
        client.versions = answer.api_keys.iter().map(|k| (k.api_key, k.min_version, k.max_version)).collect();
        client
    }

    fn serves(&self, key: ApiKey, version: i16) -> bool {
        // Kafka 4 advertises Produce 0-2 for librdkafka's sake and refuses it
        let produce = self.versions.iter().any(|(key, min, _)| *key == ApiKey::Fetch.code() && *min > 0);
        if key == ApiKey::Produce && version < 3 && produce {
            return false;
        }
        self.versions.iter().any(|(k, min, max)| *k == key.code() && (*min..=*max).contains(&version))
    }

    fn ask<R: Request>(&mut self, version: i16, request: R) -> Option<R::Response> {
        self.connection.try_ask(version, &request)
    }

    fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs: Vec<_> = configs.iter().map(|(name, value)| (*name, Some(*value))).collect();
        let id = self.connection.create(with_configs(topic(name, partitions), &configs));
        self.topic_ids.push((name.to_owned(), id));
        let partitions = vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }];
        let topics = vec![ListOffsetsTopic { name: name.to_owned(), partitions }];
        let request = msg::ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        eventually("a leader that knows of it", || {
            let answer = self.connection.try_ask(5, &request)?;
            (answer.topics[0].partitions[0].error_code == 0).then_some(())
        });
    }

    fn id_of(&self, name: &str) -> Uuid {
        let known = self.topic_ids.iter().find(|(n, _)| n == name);
        known.map_or(Uuid::from_u128(0xdead_beef), |(_, id)| *id)
    }

    fn name_of(&self, id: Uuid) -> String {
        if id.is_zero() {
            return String::new();
        }
        let known = self.topic_ids.iter().find(|(_, i)| *i == id);
        known.map_or_else(|| "unknown-id".to_owned(), |(name, _)| name.clone())
    }

    /// Writes a step's answer down.
    fn tell(&mut self, step: &str, answer: &str) {
        self.connection.tell(step, answer);
    }
}

fn batch_with(builder: BatchBuilder, timestamp: i64, values: &[&str]) -> Bytes {
    let mut builder = builder;
    for value in values {
        builder.append(timestamp, Some(b"k"), Some(value.as_bytes()), &[]).expect("fits");
    }
    builder.build(0).expect("builds")
}

fn plain() -> BatchBuilder {
    BatchBuilder::new(Compression::None)
}

/// Records as producers of this version send them.
fn records_for(version: i16, compression: Compression, values: &[&str]) -> Bytes {
    let magic = match version {
        ..2 => 0,
        2 => 1,
        _ => return batch_with(BatchBuilder::new(compression), THEN, values),
    };
    let mut set = MessageSetBuilder::new(magic, compression, TimestampType::CreateTime).expect("a set");
    for (offset, value) in (0..).zip(values) {
        set.append(offset, THEN, Some(b"k"), Some(value.as_bytes())).expect("fits");
    }
    set.build().expect("builds")
}

/// A topic's name, and what is produced to which of its partitions.
type OfTopic<'a> = (&'a str, &'a [(i32, Option<Bytes>)]);

fn produce(client: &mut Client, version: i16, acks: i16, topics: &[OfTopic]) -> String {
    let topic_data = topics.iter().map(|(name, partitions)| TopicProduceData {
        name: if version < 13 { (*name).to_owned() } else { String::new() },
        topic_id: if version < 13 { Uuid::ZERO } else { client.id_of(name) },
        partition_data: (partitions.iter())
            .map(|(index, records)| PartitionProduceData { index: *index, records: records.clone() })
            .collect(),
    });
    let request =
        msg::ProduceRequest { acks, timeout_ms: 5000, topic_data: topic_data.collect(), ..Default::default() };
    let Some(answer) = client.ask(version, request) else { return "closed".to_owned() };
    let mut told = Vec::new();
    for topic in answer.responses {
        let name = if version < 13 { topic.name } else { client.name_of(topic.topic_id) };
        for p in topic.partition_responses {
            let mut text = format!("{name}-{} error={} base={}", p.index, p.error_code, p.base_offset);
            let time =
                if p.log_append_time_ms > THEN + 1 { "now".to_owned() } else { p.log_append_time_ms.to_string() };
            write!(text, " appended={time} start={}", p.log_start_offset).expect("fits");
            for e in &p.record_errors {
                write!(text, " record {}", e.batch_index).expect("fits");
            }
            write!(text, " message={} leader={}", p.error_message.is_some(), p.current_leader.leader_id).expect("fits");
            told.push(text);
        }
    }
    // Kafka answers in the order of a hash table
    told.sort();
    told.join("\n    ")
}

fn play_produce(client: &mut Client, v: i16) {
    if !client.serves(ApiKey::Produce, v) {
        return;
    }
    let name = |what: &str| format!("produce-{v}-{what}");
    let (t, stamped, small, compacted) = (name("t"), name("stamped"), name("small"), name("compacted"));
    client.create(&t, 2, &[]);
    client.create(&stamped, 1, &[("message.timestamp.type", "LogAppendTime")]);
    client.create(&small, 1, &[("max.message.bytes", "200")]);
    client.create(&compacted, 1, &[("cleanup.policy", "compact")]);
    let good = || Some(records_for(v, Compression::None, &["a", "b"]));
    let step = |client: &mut Client, what: &str, acks: i16, topics: &[OfTopic]| {
        let answer = produce(client, v, acks, topics);
        client.tell(&format!("produce v{v} {what}"), &answer);
    };
    step(client, "good", 1, &[(&t, &[(0, good())])]);
    step(client, "acks=all, two partitions, one missing", -1, &[(&t, &[(0, good()), (1, good()), (7, good())])]);
    step(client, "unknown topic beside a good one", 1, &[("nope", &[(0, good())]), (&t, &[(0, good())])]);
    step(client, "acks=0, unknown topic", 0, &[("nope", &[(0, good())])]);
    step(client, "acks=5", 5, &[(&t, &[(0, good())])]);
    let mut damaged = good().expect("is there").to_vec();
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    step(client, "damaged beside good", 1, &[(&t, &[(0, Some(damaged.into())), (1, good())])]);
    let large = records_for(v, Compression::None, &[&"x".repeat(300)]);
    step(client, "too large", 1, &[(&small, &[(0, Some(large))])]);
    step(client, "append time", 1, &[(&stamped, &[(0, good())])]);
    step(client, "gzip", 1, &[(&t, &[(0, Some(records_for(v, Compression::Gzip, &["a", "b"])))])]);
    step(client, "nothing", 1, &[(&t, &[(0, Some(Bytes::new()))])]);
    step(client, "internal topic", 1, &[("__consumer_offsets", &[(0, good())])]);
    if v >= 3 {
        let mut keyless = plain();
        keyless.append(THEN, Some(b"k"), Some(b"v"), &[]).expect("fits");
        keyless.append(THEN, None, Some(b"v"), &[]).expect("fits");
        let keyless = keyless.build(0).expect("builds");
        step(client, "compacted without a key", 1, &[(&compacted, &[(0, Some(keyless))])]);
        let two = [good().expect("is there"), good().expect("is there")].concat();
        step(client, "two batches", 1, &[(&t, &[(0, Some(two.into()))])]);
        let set = records_for(2, Compression::None, &["a"]);
        step(client, "magic 1", 1, &[(&t, &[(0, Some(set))])]);
        step(client, "zstd", 1, &[(&t, &[(0, Some(records_for(v, Compression::Zstd, &["a"])))])]);
        let by = |epoch, sequence| Some(batch_with(plain().with_producer(4000, epoch, sequence), THEN, &["a", "b"]));
        step(client, "producer, first", 1, &[(&t, &[(1, by(1, 0))])]);
        step(client, "producer, again", 1, &[(&t, &[(1, by(1, 0))])]);
        step(client, "producer, gap", 1, &[(&t, &[(1, by(1, 7))])]);
        step(client, "producer, next", 1, &[(&t, &[(1, by(1, 2))])]);
        step(client, "producer, old epoch", 1, &[(&t, &[(1, by(0, 4))])]);
        let control = batch_with(plain().with_producer(4000, 1, -1).with_control(true), THEN, &["a"]);
        step(client, "control batch", 1, &[(&t, &[(0, Some(control))])]);
    }
}

fn records_text(records: &[u8]) -> String {
    let mut text = String::new();
    let bytes = Bytes::copy_from_slice(records);
    let mut walked = 0;
    for b in batches(bytes.clone()) {
        let Ok(b) = b else { break };
        walked += b.size_in_bytes();
        let compression = b.compression().map_or("?", |c| if c == Compression::None { "" } else { "c" });
        write!(text, " [m{} {}..{}{compression}]", b.magic(), b.base_offset(), b.last_offset()).expect("fits");
    }
    if walked < bytes.len() {
        text.push_str(" ...");
    }
    text
}

#[derive(Clone)]
struct Asked {
    topic: &'static str,
    partition: i32,
    offset: i64,
    max_bytes: i32,
    epoch: i32,
    last_epoch: i32,
}

fn asked(topic: &'static str, partition: i32, offset: i64) -> Asked {
    Asked { topic, partition, offset, max_bytes: 100_000, epoch: -1, last_epoch: -1 }
}

struct FetchOf {
    v: i16,
    session: (i32, i32),
    read_committed: bool,
    max_bytes: i32,
    parts: Vec<Asked>,
    forgotten: &'static [(&'static str, i32)],
}

fn fetch_of<const N: usize>(v: i16, parts: [Asked; N]) -> FetchOf {
    FetchOf { v, session: (0, -1), read_committed: false, max_bytes: 1_000_000, parts: parts.into(), forgotten: &[] }
}

fn fetch(client: &mut Client, f: &FetchOf) -> (i32, String) {
    let v = f.v;
    let naming = |client: &Client, name: &str| match v {
        ..13 => (name.to_owned(), Uuid::ZERO),
        _ => (String::new(), client.id_of(name)),
    };
    let topics = f.parts.iter().map(|a| {
        let (topic, topic_id) = naming(client, a.topic);
        FetchTopic {
            topic,
            topic_id,
            partitions: vec![FetchPartition {
                partition: a.partition,
                current_leader_epoch: a.epoch,
                fetch_offset: a.offset,
                last_fetched_epoch: a.last_epoch,
                partition_max_bytes: a.max_bytes,
                ..Default::default()
            }],
        }
    });
    let forgotten_topics_data = f.forgotten.iter().map(|(name, partition)| {
        let (topic, topic_id) = naming(client, name);
        ForgottenTopic { topic, topic_id, partitions: vec![*partition] }
    });
    let request = msg::FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: f.max_bytes,
        isolation_level: i8::from(f.read_committed),
        session_id: f.session.0,
        session_epoch: f.session.1,
        topics: topics.collect(),
        forgotten_topics_data: forgotten_topics_data.collect(),
        ..Default::default()
    };
    let Some(answer) = client.ask(v, request) else { return (0, "closed".to_owned()) };
    let mut told = vec![format!("error={} session={}", answer.error_code, answer.session_id != 0)];
    for topic in answer.responses {
        let name = if v < 13 { topic.topic } else { client.name_of(topic.topic_id) };
        for p in topic.partitions {
            let aborted = p.aborted_transactions.map(|a| a.len());
            let diverging = (p.diverging_epoch.epoch, p.diverging_epoch.end_offset);
            let records = p.records.map(|pieces| pieces.concat());
            // converted messages are followed by half of one, which is no message
            let end = if v < 4 { " ..." } else { "" };
            told.push(format!(
                "{name}-{} error={} hw={} lso={} start={} diverging={diverging:?} aborted={aborted:?} leader={} records={}",
                p.partition_index,
                p.error_code,
                p.high_watermark,
                p.last_stable_offset,
                p.log_start_offset,
                p.current_leader.leader_id,
                records.map_or("none".to_owned(), |r| records_text(&r)).trim_end_matches(end),
            ));
        }
    }
    // Kafka tells what it did not read last
    told.sort();
    (answer.session_id, told.join("\n    "))
}

fn play_fetch(client: &mut Client, v: i16) {
    if !client.serves(ApiKey::Fetch, v) {
        return;
    }
    let step = |client: &mut Client, what: &str, f: FetchOf| {
        let (id, answer) = fetch(client, &f);
        client.tell(&format!("fetch v{v} {what}"), &answer);
        id
    };
    step(client, "all", fetch_of(v, [asked("f", 0, 0)]));
    step(client, "inside a batch", fetch_of(v, [asked("f", 0, 3)]));
    step(client, "at the end", fetch_of(v, [asked("f", 0, 6)]));
    step(client, "beyond", fetch_of(v, [asked("f", 0, 7), asked("f", 1, 0)]));
    step(client, "negative", fetch_of(v, [asked("f", 0, -5)]));
    step(client, "unknown partition beside known", fetch_of(v, [asked("f", 9, 0), asked("f", 0, 4)]));
    step(client, "unknown topic", fetch_of(v, [asked("nope", 0, 0)]));
    step(client, "no partitions", fetch_of(v, []));
    if v >= 3 {
        let small = |partition| Asked { max_bytes: 1, ..asked("f", partition, 0) };
        step(client, "one byte of each", fetch_of(v, [small(0), small(1)]));
        let one = FetchOf { max_bytes: 1, ..fetch_of(v, [asked("f", 0, 0), asked("f", 1, 0)]) };
        step(client, "one byte in all", one);
    }
    if v < 4 {
        step(client, "gzip", fetch_of(v, [asked("gzip", 0, 0)]));
        step(client, "inside gzip", fetch_of(v, [asked("gzip", 0, 1)]));
    }
    step(client, "zstd", fetch_of(v, [asked("zstd", 0, 0)]));
    step(client, "zstd by the broker", fetch_of(v, [asked("zstd-topic", 0, 0), asked("f", 1, 0)]));
    if v >= 4 {
        let committed = FetchOf { read_committed: true, ..fetch_of(v, [asked("f", 0, 0), asked("f", 1, 2)]) };
        step(client, "read committed", committed);
    }
    if v >= 9 {
        let newer = Asked { epoch: 9, ..asked("f", 0, 0) };
        let current = Asked { epoch: 0, ..asked("f", 1, 0) };
        step(client, "leader epochs", fetch_of(v, [newer, current]));
    }
    if v >= 12 {
        for (last_epoch, offset) in [(0, 6), (0, 4), (5, 4)] {
            let told = Asked { last_epoch, ..asked("f", 0, offset) };
            step(client, &format!("last epoch {last_epoch} at {offset}"), fetch_of(v, [told]));
        }
    }
    if v >= 7 {
        let two = || [asked("f", 0, 4), asked("f", 1, 0)];
        let id = step(client, "session begins", FetchOf { session: (0, 0), ..fetch_of(v, two()) });
        let in_session =
            |epoch, parts: &[Asked]| FetchOf { session: (id, epoch), parts: parts.to_vec(), ..fetch_of(v, []) };
        step(client, "session goes on", in_session(1, &[]));
        step(client, "session at the end", in_session(2, &[asked("f", 0, 6), asked("f", 1, 2)]));
        step(client, "session without news", in_session(3, &[]));
        step(client, "session with an error", in_session(4, &[asked("f", 0, 99)]));
        step(client, "session with the same error", in_session(5, &[]));
        step(client, "session healed", in_session(6, &[asked("f", 0, 6)]));
        step(client, "session adds unknown", in_session(7, &[asked("f", 8, 0), asked("nope", 0, 0)]));
        step(client, "session in a wrong epoch", in_session(7, &[]));
        let forgets = FetchOf { forgotten: &[("f", 0), ("f", 8), ("nope", 0)], ..in_session(8, &[]) };
        step(client, "session forgets", forgets);
        step(client, "session forgets the last", FetchOf { forgotten: &[("f", 1)], ..in_session(9, &[]) });
        step(client, "session is gone", in_session(10, &[]));
        step(client, "no such session", FetchOf { session: (12345, 1), ..fetch_of(v, two()) });
    }
}

fn play_list_offsets(client: &mut Client, v: i16) {
    if !client.serves(ApiKey::ListOffsets, v) {
        return;
    }
    let mut step = |what: &str, replica_id: i32, isolation: i8, parts: &[(&str, i32, i64, i32)]| {
        let topics = parts.iter().map(|(name, partition, timestamp, epoch)| ListOffsetsTopic {
            name: (*name).to_owned(),
            partitions: vec![ListOffsetsPartition {
                partition_index: *partition,
                current_leader_epoch: *epoch,
                timestamp: *timestamp,
                max_num_offsets: if v == 0 { 5 } else { 1 },
            }],
        });
        let isolation_level = if v < 2 { 0 } else { isolation };
        let topics = topics.collect();
        let request = msg::ListOffsetsRequest { replica_id, isolation_level, topics, timeout_ms: 1000 };
        let answer = client.ask(v, request);
        let told = answer.map_or("closed".to_owned(), |answer| {
            let mut told = Vec::new();
            for topic in answer.topics {
                for p in topic.partitions {
                    let (code, old) = (p.error_code, p.old_style_offsets);
                    let (ts, offset, epoch) = (p.timestamp, p.offset, p.leader_epoch);
                    let index = p.partition_index;
                    told.push(format!(
                        "{}-{index} error={code} {old:?} at={ts} offset={offset} epoch={epoch}",
                        topic.name
                    ));
                }
            }
            told.sort();
            told.join("\n    ")
        });
        client.tell(&format!("list offsets v{v} {what}"), &told);
    };
    for (what, timestamp) in [("latest", -1), ("earliest", -2), ("max timestamp", -3), ("earliest local", -4)] {
        step(what, -1, 0, &[("f", 0, timestamp, -1), ("empty", 0, timestamp, -1), ("deleted", 0, timestamp, -1)]);
    }
    for (what, timestamp) in [("latest tiered", -5), ("pending upload", -6), ("no such question", -7)] {
        step(what, -1, 0, &[("f", 0, timestamp, -1)]);
    }
    if v > 0 {
        let times = [THEN - 1, THEN, THEN + 1, THEN + 2, THEN + 9];
        for time in times {
            step(&format!("time {}", time - THEN), -1, 1, &[("f", 0, time, -1)]);
        }
        step("twice", -1, 0, &[("f", 0, -1, -1), ("f", 0, -2, -1), ("f", 1, -1, -1)]);
    }
    step("debugging replica", -2, 0, &[("f", 0, -1, -1)]);
    step("unknown", -1, 0, &[("f", 9, -1, -1), ("nope", 0, -1, -1)]);
    if v >= 4 {
        step("leader epochs", -1, 0, &[("f", 0, -1, 9), ("f", 1, -1, 0)]);
    }
}

fn play_epochs(client: &mut Client, v: i16) {
    if !client.serves(ApiKey::OffsetForLeaderEpoch, v) {
        return;
    }
    let asked = [("f", 0, -1, 0), ("f", 1, -1, 1), ("empty", 0, -1, 0), ("deleted", 0, -1, -1), ("deleted", 0, 9, 0)];
    let unknown = [("f", 9, -1, 0), ("nope", 0, -1, 0)];
    for (name, index, current, epoch) in asked.into_iter().chain(unknown) {
        let partition =
            OffsetForLeaderPartition { partition: index, current_leader_epoch: current, leader_epoch: epoch };
        let topics = vec![OffsetForLeaderTopic { topic: name.to_owned(), partitions: vec![partition] }];
        let replica_id = if v < 3 { -2 } else { -1 };
        let answer = client.ask(v, msg::OffsetForLeaderEpochRequest { replica_id, topics });
        let told = answer.map_or("closed".to_owned(), |answer| {
            let p = &answer.topics[0].partitions[0];
            format!("error={} partition={} epoch={} end={}", p.error_code, p.partition, p.leader_epoch, p.end_offset)
        });
        client.tell(&format!("epoch v{v} {name}-{index} current={current} epoch={epoch}"), &told);
    }
}

fn play_delete_records(client: &mut Client, v: i16) {
    if !client.serves(ApiKey::DeleteRecords, v) {
        return;
    }
    let t = format!("delete-{v}");
    let compacted = format!("delete-{v}-compacted");
    client.create(&t, 1, &[]);
    client.create(&compacted, 1, &[("cleanup.policy", "compact")]);
    let version = if client.serves(ApiKey::Produce, 8) { 8 } else { 7 };
    produce(client, version, 1, &[(&t, &[(0, Some(records_for(8, Compression::None, &["a", "b", "c"])))])]);
    let steps = [(&*t, 0, 2), (&*t, 0, 1), (&*t, 0, 4), (&*t, 0, -2), (&*t, 0, -1), (&*t, 9, 0), ("nope", 0, 0)];
    for (name, partition_index, offset) in steps.into_iter().chain([(&*compacted, 0, 0), ("__consumer_offsets", 0, 0)])
    {
        let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
        let topics = vec![DeleteRecordsTopic { name: name.to_owned(), partitions }];
        let answer = client.ask(v, msg::DeleteRecordsRequest { topics, timeout_ms: 5000 });
        let told = answer.map_or("closed".to_owned(), |answer| {
            let p = &answer.topics[0].partitions[0];
            format!("error={} partition={} low={}", p.error_code, p.partition_index, p.low_watermark)
        });
        client.tell(&format!("delete records v{v} {name}-{partition_index} {offset}"), &told);
    }
}

fn play_log_dirs(client: &mut Client, v: i16) {
    if !client.serves(ApiKey::DescribeLogDirs, v) {
        return;
    }
    let of = |topics: &[(&str, &[i32])]| {
        topics.iter().map(|(t, p)| DescribableLogDirTopic { topic: (*t).to_owned(), partitions: p.to_vec() }).collect()
    };
    for (what, topics) in [
        ("two", of(&[("f", &[0, 1]), ("empty", &[0])])),
        ("unknown", of(&[("f", &[9]), ("nope", &[0])])),
        ("none", vec![]),
    ] {
        let answer = client.ask(v, msg::DescribeLogDirsRequest { topics: Some(topics) });
        let told = answer.map_or("closed".to_owned(), |answer| {
            let mut told = vec![format!("error={}", answer.error_code)];
            for dir in answer.results {
                let room = (dir.total_bytes > 0, dir.usable_bytes > 0);
                told.push(format!("dir error={} room={room:?} cordoned={}", dir.error_code, dir.is_cordoned));
                let mut topics = dir.topics;
                topics.sort_by(|a, b| a.name.cmp(&b.name));
                for mut topic in topics {
                    topic.partitions.sort_by_key(|p| p.partition_index);
                    for p in topic.partitions {
                        let (size, lag) = (p.partition_size, p.offset_lag);
                        told.push(format!(
                            "{}-{} size={size} lag={lag} {}",
                            topic.name, p.partition_index, p.is_future_key
                        ));
                    }
                }
            }
            told.join("\n    ")
        });
        client.tell(&format!("log dirs v{v} {what}"), &told);
    }
}

fn play(address: &str) -> String {
    let mut client = Client::new(address);
    client.create("__consumer_offsets", 1, &[("cleanup.policy", "compact")]);
    client.create("f", 2, &[]);
    client.create("empty", 1, &[]);
    client.create("deleted", 1, &[]);
    client.create("gzip", 1, &[]);
    client.create("zstd", 1, &[]);
    client.create("zstd-topic", 1, &[("compression.type", "zstd")]);
    for (topic, partition, compression, time) in [
        ("f", 0, Compression::None, THEN),
        ("f", 0, Compression::None, THEN + 2),
        ("f", 0, Compression::None, THEN + 1),
        ("f", 1, Compression::None, THEN),
        ("deleted", 0, Compression::None, THEN),
        ("gzip", 0, Compression::Gzip, THEN),
        ("zstd", 0, Compression::Zstd, THEN),
        ("zstd-topic", 0, Compression::None, THEN),
    ] {
        let records = batch_with(BatchBuilder::new(compression), time, &["a", "b"]);
        let answer = produce(&mut client, 8, -1, &[(topic, &[(partition, Some(records))])]);
        assert!(answer.contains("error=0"), "{answer}");
    }
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 1 }];
    let topics = vec![DeleteRecordsTopic { name: "deleted".to_owned(), partitions }];
    client.ask(1, msg::DeleteRecordsRequest { topics, timeout_ms: 5000 }).expect("answers");
    (0..=13).for_each(|v| play_produce(&mut client, v));
    (0..=18).for_each(|v| play_fetch(&mut client, v));
    (0..=11).for_each(|v| play_list_offsets(&mut client, v));
    (0..=4).for_each(|v| play_epochs(&mut client, v));
    (0..=2).for_each(|v| play_delete_records(&mut client, v));
    (0..=5).for_each(|v| play_log_dirs(&mut client, v));
    client.connection.told
}

/// Step by step.
fn steps(text: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("    "), steps.last_mut()) {
            (Some(answer), Some((_, told))) => {
                told.push_str(answer);
                told.push('\n');
            }
            _ => steps.push((line.to_owned(), String::new())),
        }
    }
    steps
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_kafkas() {
    if let Ok(wish) = std::env::var("DATA_PLANE_RECORD") {
        let (address, file) = wish.split_once('=').expect("address=file");
        return std::fs::write(file, play(address)).expect("is written");
    }
    let node = TestNode::start(&[("offsets.topic.num.partitions", "50")]).await;
    let ours = node.play(play).await;
    node.stop().await;
    if let Ok(file) = std::env::var("DATA_PLANE_OURS") {
        std::fs::write(file, &ours).expect("is written");
    }
    let mut expected = steps(include_str!("../golden/data-plane/kafka-4.3.1.txt"));
    for (step, answer) in steps(include_str!("../golden/data-plane/kafka-3.3.1.txt")) {
        match expected.iter_mut().find(|(known, _)| *known == step) {
            None => expected.push((step, answer)),
            Some((_, known)) if is_as_before(&step) => *known = answer,
            Some(_) => {}
        }
    }
    let mut differences = String::new();
    for (step, answer) in steps(&ours) {
        let kafkas = expected.iter().find(|(known, _)| *known == step).map(|(_, answer)| answer.as_str());
        if kafkas != Some(&answer) && !is_meant(&step) {
            writeln!(differences, "{step}\n  ours   {answer}\n  Kafka's {}", kafkas.unwrap_or("-\n")).expect("fits");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// Where an older Kafka's answer is the better one: KIP-110 keeps zstd from clients that do not know it, Kafka 4 has none of those.
fn is_as_before(step: &str) -> bool {
    step.starts_with("fetch") && step.ends_with("zstd by the broker")
}

/// Where Milena answers otherwise, and should.
fn is_meant(step: &str) -> bool {
    // Kafka names a record that was deleted
    step.starts_with("list offsets") && step.ends_with("max timestamp")
}
