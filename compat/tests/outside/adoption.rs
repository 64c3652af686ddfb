//! Milena and Apache Kafka by turns on the same properties file and directories: each serves what the other wrote, and goes on with it.
//!
//! Before every change of hands all that a client can see is written down (records, offsets of groups, topics with ids and configurations,
//! quotas, credentials, broker settings); the next server must show the same. An idempotent producer lives through all of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Command;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use milena_compat::broker::milena_bin;
use milena_compat::clients::cache;
use milena_compat::installation::{Ending, Installation, Program, Voters, dump, files, java};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PARTITIONS: i32 = 2;
/// Topics of one or two partitions whose records are compared one by one.
const PLAIN: [&str; 9] = [
    "codec-none",
    "codec-gzip",
    "codec-snappy",
    "codec-lz4",
    "codec-zstd",
    "idempotent",
    "transactions",
    "shortened",
    "odd.name_of-topic",
];
const OPEN_TRANSACTION: &str = "left-open";
const CONFIG_COMMAND: &str = "kafka.admin.ConfigCommand";
const WAIT: Duration = Duration::from_secs(60);

/// Everything that a client can see, as lines that can be compared.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// By topic, partition and isolation level.
    records: BTreeMap<String, Vec<String>>,
    /// The last value of every key.
    compacted: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the tools say, by their command line.
    tools: BTreeMap<&'static str, Vec<String>>,
    committed: BTreeMap<String, (i64, String)>,
    /// None from a server that does not tell.
    quotas: Option<Vec<String>>,
}

impl Seen {
    fn by(address: &str) -> Result<Seen> {
        let mut records = BTreeMap::new();
        for topic in PLAIN {
            for partition in 0..PARTITIONS {
                for isolation in ["read_uncommitted", "read_committed"] {
                    let rows = read(address, topic, partition, isolation)?;
                    records.insert(format!("{topic}-{partition} {isolation}"), rows.iter().map(Row::line).collect());
                }
            }
        }
        let mut compacted = BTreeMap::new();
        for row in read(address, "compacted", 0, "read_uncommitted")? {
            match row.value {
                Some(value) => compacted.insert(row.key.unwrap_or_default(), value),
                None => compacted.remove(&row.key.unwrap_or_default()),
            };
        }
        let mut tools = BTreeMap::new();
        for line in [
            "kafka-topics --describe",
            "kafka-configs --describe --entity-type topics",
            "kafka-configs --describe --entity-type brokers --entity-default",
            "kafka-configs --describe --entity-type brokers --entity-name 1",
            "kafka-consumer-groups --describe --all-groups",
            "kafka-consumer-groups --list",
        ] {
            tools.insert(line, tool(address, line)?);
        }
        let mut committed = BTreeMap::new();
        for group in ["classic", "modern", "in-transaction"] {
            let mut list = TopicPartitionList::new();
            PLAIN.iter().for_each(|topic| list.add_partition_range(topic, 0, PARTITIONS - 1));
            for found in consumer(address, group, &[])?.committed_offsets(list, WAIT)?.elements() {
                if let Offset::Offset(offset) = found.offset() {
                    let place = format!("{group} {} {}", found.topic(), found.partition());
                    committed.insert(place, (offset, found.metadata().to_owned()));
                }
            }
        }
        let mut quotas = Some(Vec::new());
        for entity in ["users", "clients"] {
            match tool(address, &format!("kafka-configs --describe --entity-type {entity}")) {
                Err(error) if error.to_string().contains("does not support DESCRIBE_CLIENT_QUOTAS") => quotas = None,
                lines => {
                    let lines = lines?;
                    quotas.iter_mut().for_each(|known| known.extend_from_slice(&lines));
                }
            }
        }
        Ok(Seen { records, compacted, tools, committed, quotas })
    }

    /// Says what differs, and only that.
    fn ensure_same(&self, later: &Seen) -> Result<()> {
        let mut differences = Vec::new();
        for (what, lines) in &self.records {
            let now = later.records.get(what).map_or(&[][..], Vec::as_slice);
            if let Some(i) = (0..lines.len().max(now.len())).find(|i| lines.get(*i) != now.get(*i)) {
                let (count, new_count) = (lines.len(), now.len());
                let (was, is) = (lines.get(i), now.get(i));
                differences.push(format!(
                    "{what}: {count} records, then {new_count}; number {i} was\n {was:?}\nand is\n {is:?}"
                ));
            }
        }
        ensure!(differences.is_empty(), "{}", differences.join("\n"));
        ensure!(self.compacted == later.compacted, "compacted: {:?}\nthen {:?}", self.compacted, later.compacted);
        ensure!(self.committed == later.committed, "offsets: {:#?}\nthen {:#?}", self.committed, later.committed);
        let told = self.quotas.is_some() && later.quotas.is_some();
        ensure!(!told || self.quotas == later.quotas, "quotas: {:#?}\nthen {:#?}", self.quotas, later.quotas);
        for (line, before) in &self.tools {
            let now = later.tools.get(line).map_or(&[][..], Vec::as_slice);
            let only = |of: &[String], other: &[String]| {
                of.iter().filter(|l| !other.contains(l)).cloned().collect::<Vec<_>>().join("\n")
            };
            ensure!(before == now, "{line} said\n{}\nand says\n{}", only(before, now), only(now, before));
        }
        Ok(())
    }
}

struct Row {
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: String,
}

impl Row {
    fn line(&self) -> String {
        let value =
            self.value.as_deref().map(|v| (v.len(), v.iter().fold(7u64, |h, b| h.wrapping_mul(31) + u64::from(*b))));
        format!("{} at {:?} key {:?} value {value:?} headers {}", self.offset, self.timestamp, self.key, self.headers)
    }
}

fn consumer(address: &str, group: &str, settings: &[(&str, &str)]) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("check.crcs", "true");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    Ok(config.create()?)
}

/// Everything in a partition that an isolation level shows.
fn read(address: &str, topic: &str, partition: i32, isolation: &str) -> Result<Vec<Row>> {
    let consumer = consumer(address, "reader", &[("isolation.level", isolation)])?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)?;
    consumer.assign(&list)?;
    let mut rows = Vec::new();
    let begin = Instant::now();
    loop {
        ensure!(begin.elapsed() < WAIT, "{topic}-{partition}: no end after {} records", rows.len());
        let m = match consumer.poll(Duration::from_secs(1)) {
            None => continue,
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return Ok(rows),
            Some(m) => m.with_context(|| format!("{topic}-{partition}, {isolation}"))?,
        };
        let headers = m.headers().map(|h| h.iter().map(|h| format!("{}={:?}", h.key, h.value)).collect::<Vec<_>>());
        rows.push(Row {
            offset: m.offset(),
            timestamp: m.timestamp().to_millis(),
            key: m.key().map(<[u8]>::to_vec),
            value: m.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default().join(","),
        });
    }
}

/// Runs one of Milena's tools, which are quick, against whoever serves: the lines, sorted.
fn tool(address: &str, line: &str) -> Result<Vec<String>> {
    let mut words = line.split_whitespace();
    let name = words.next().context("a tool")?;
    let out = Command::new(milena_bin()).args([name, "--bootstrap-server", address]).args(words).output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(out.status.success(), "{line}: {}\n{text}{}", out.status, String::from_utf8_lossy(&out.stderr));
    // the width of columns follows from what else is listed, the order of settings from a hash
    let sorted = |word: &str| {
        let mut parts: Vec<&str> = word.split(',').collect();
        parts.sort_unstable();
        parts.join(",")
    };
    let words = |line: &str| line.split_whitespace().map(sorted).collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = text.lines().map(words).filter(|l| !l.is_empty()).collect();
    lines.sort();
    Ok(lines)
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Creates what lasts through all rounds.
fn furnish(address: &str) -> Result<()> {
    for topic in PLAIN {
        tool(address, &format!("kafka-topics --create --topic {topic} --partitions {PARTITIONS}"))?;
    }
    tool(
        address,
        "kafka-topics --create --topic compacted --partitions 1 --config cleanup.policy=compact --config min.cleanable.dirty.ratio=0.01 --config segment.ms=1000 --config delete.retention.ms=0",
    )?;
    tool(
        address,
        "kafka-topics --create --topic configured --partitions 3 --config retention.ms=123456789 --config max.message.bytes=54321 --config compression.type=lz4 --config message.timestamp.type=LogAppendTime --config min.insync.replicas=1 --config cleanup.policy=compact,delete",
    )?;
    tool(address, "kafka-topics --create --topic gone --partitions 2")?;
    delete(address, "gone")?;
    tool(address, "kafka-topics --create --topic many --partitions 40")?;
    for change in [
        "--entity-type topics --entity-name codec-none --add-config segment.bytes=1048576,index.interval.bytes=1024",
        "--entity-type brokers --entity-default --add-config log.cleaner.threads=2",
        "--entity-type brokers --entity-name 1 --add-config log.cleaner.io.buffer.load.factor=0.8",
        "--entity-type users --entity-name alice --add-config consumer_byte_rate=1000000,producer_byte_rate=2000000",
        "--entity-type users --entity-default --add-config request_percentage=150",
        "--entity-type clients --entity-name app --add-config request_percentage=99",
    ] {
        tool(address, &format!("kafka-configs --alter {change}"))?;
    }
    let secret = "SCRAM-SHA-256=[iterations=4096,password=secret]";
    scram(address, &["--alter", "--entity-name", "alice", "--add-config", secret]).map(drop)
}

/// Deletes a topic that may be so new that the broker does not know it yet.
fn delete(address: &str, topic: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        match tool(address, &format!("kafka-topics --delete --topic {topic}")) {
            Err(_) if begin.elapsed() < WAIT => std::thread::sleep(Duration::from_millis(100)),
            deleted => return deleted.map(drop),
        }
    }
}

/// Kafka's own tool, which alone knows credentials.
fn scram(address: &str, arguments: &[&str]) -> Result<String> {
    let fixed = ["--bootstrap-server", address, "--entity-type", "users"];
    Ok(java("4.3.1", CONFIG_COMMAND, &[&fixed, arguments].concat())?.0)
}

fn producer(address: &str, settings: &[(&str, &str)]) -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("message.timeout.ms", "120000")
        .set("reconnect.backoff.max.ms", "500");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    Ok(config.create()?)
}

fn send(producer: &BaseProducer, topic: &str, round: usize, count: usize) -> Result<()> {
    for n in 0..count {
        let (key, value) = (format!("key-{}", n % 17), format!("{round}:{n}:").repeat(1 + n * 7 % 300));
        let header = Header { key: "round", value: (n % 3 > 0).then(|| round.to_string()) };
        let mut record = BaseRecord::<str, str>::to(topic)
            .partition(i32::try_from(n)? % PARTITIONS)
            .headers(OwnedHeaders::new().insert(Header { key: header.key, value: header.value.as_ref() }))
            .timestamp(1_750_000_000_000 + i64::try_from(round * 1000 + n)?);
        if n % 5 > 0 {
            record = record.key(&key);
        }
        if n % 7 > 0 {
            record = record.payload(&value);
        }
        producer.send(record).map_err(|(e, _)| e)?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(WAIT).with_context(|| format!("{topic} in round {round}"))
}

/// A member of a group that reads for a while and commits.
fn consume_in_group(address: &str, group: &str, settings: &[(&str, &str)], count: usize) -> Result<()> {
    let consumer = consumer(address, group, settings)?;
    consumer.subscribe(&["codec-zstd", "codec-none"])?;
    let begin = Instant::now();
    let mut seen = 0;
    while seen < count {
        ensure!(begin.elapsed() < WAIT, "group {group}: {seen} of {count} records");
        match consumer.poll(Duration::from_secs(1)) {
            None | Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => {}
            Some(m) => drop(m.map(|_| seen += 1)?),
        }
    }
    consumer.commit_consumer_state(CommitMode::Sync)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("odd.name_of-topic", 1, Offset::Offset(3))?;
    list.elements().iter_mut().for_each(|e| e.set_metadata(format!("by {group}")));
    Ok(consumer.commit(&list, CommitMode::Sync)?)
}

/// One transaction that is committed, with offsets; one aborted; one left open under an id of its own.
fn transact(address: &str, round: usize, leave_open: bool) -> Result<()> {
    let transactional = |id: &str| producer(address, &[("transactional.id", id), ("transaction.timeout.ms", "850000")]);
    let p = transactional("finished")?;
    p.init_transactions(WAIT)?;
    p.begin_transaction()?;
    send(&p, "transactions", 1000 + round, 40)?;
    let group = consumer(address, "in-transaction", &[])?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("codec-none", 0, Offset::Offset(10 + i64::try_from(round)?))?;
    p.send_offsets_to_transaction(&list, &group.group_metadata().context("a group")?, WAIT)?;
    p.commit_transaction(WAIT)?;
    p.begin_transaction()?;
    send(&p, "transactions", 2000 + round, 20)?;
    p.abort_transaction(WAIT)?;
    // whoever takes the id ends what its last owner left open
    let p = transactional(OPEN_TRANSACTION)?;
    p.init_transactions(WAIT)?;
    if leave_open {
        p.begin_transaction()?;
        send(&p, "transactions", 3000 + round, 10)?;
    }
    Ok(())
}

/// Adds to everything.
fn write(address: &str, idempotent: &BaseProducer, round: usize, kip_848: bool) -> Result<()> {
    for codec in CODECS {
        let p = producer(address, &[("compression.type", codec)])?;
        send(&p, &format!("codec-{codec}"), round, 300)?;
    }
    send(idempotent, "idempotent", round, 100)?;
    let p = producer(address, &[])?;
    send(&p, "odd.name_of-topic", round, 10)?;
    send(&p, "shortened", round, 30)?;
    for n in 0..60 {
        let (key, value) = (format!("k{}", n % 20 + round), format!("{round}-{n}"));
        let record = BaseRecord::<str, str>::to("compacted").partition(0).key(&key);
        let record = if n % 9 == 8 { record } else { record.payload(&value) };
        p.send(record).map_err(|(e, _)| e)?;
    }
    p.flush(WAIT)?;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", address).create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("shortened", 0, Offset::Offset(7 * (1 + i64::try_from(round)?)))?;
    wait_for(admin.delete_records(&list, &AdminOptions::new()))?;
    // a static member stays in its group until its session ends, which is after the test
    let lasting =
        [("group.instance.id", "static-one"), ("session.timeout.ms", "1200000"), ("max.poll.interval.ms", "1200000")];
    consume_in_group(address, "classic", &lasting, 100)?;
    if kip_848 {
        consume_in_group(address, "modern", &[("group.protocol", "consumer")], 100)?;
    }
    transact(address, round, round.is_multiple_of(2))?;
    tool(address, &format!("kafka-topics --create --topic round-{round} --partitions 2"))?;
    tool(address, "kafka-topics --create --topic again --partitions 1")?;
    delete(address, "again")?;
    let change = format!("--add-config retention.ms={}", 1_000_000_000 + round);
    tool(address, &format!("kafka-configs --alter --entity-type topics --entity-name configured {change}"))?;
    Ok(())
}

/// Kafka's tool reads every file that lies there now.
fn dump_all(place: &Installation) -> Result<()> {
    let ours = |n: &str| !n.starts_with("__");
    let (mut logs, mut indexes, mut snapshots, mut groups, mut transactions) = (vec![], vec![], vec![], vec![], vec![]);
    for data in place.data() {
        logs.extend(files(&data, "log", ours)?);
        indexes.extend(files(&data, "index", ours)?);
        indexes.extend(files(&data, "timeindex", ours)?);
        snapshots.extend(files(&data, "snapshot", |_| true)?);
        groups.extend(files(&data, "log", |n| n.starts_with("__consumer_offsets-"))?);
        transactions.extend(files(&data, "log", |n| n.starts_with("__transaction_state-"))?);
    }
    // compaction leaves gaps, which the tool calls out; and it takes a segment that begins with a marker, Kafka's too, for one
    let of = |file: &PathBuf, topic: &str| file.to_string_lossy().contains(topic);
    let (consecutive, others): (Vec<_>, Vec<_>) =
        logs.into_iter().partition(|file| !of(file, "/compacted-") && !of(file, "/transactions-"));
    dump(&["--deep-iteration", "--skip-record-metadata"], &consecutive)?;
    dump(&[], &others)?;
    dump(&["--index-sanity-check"], &indexes)?;
    dump(&[], &snapshots)?;
    dump(&["--offsets-decoder"], &groups)?;
    dump(&["--transaction-log-decoder"], &transactions)?;
    let [metadata, _] = place.data();
    dump(&["--cluster-metadata-decoder"], &files(&metadata, "log", |n| n == "__cluster_metadata-0")?)?;
    let snapshots = files(&metadata, "checkpoint", |n| n == "__cluster_metadata-0")?;
    if !snapshots.is_empty() {
        dump(&["--cluster-metadata-decoder"], &snapshots)?;
    }
    Ok(())
}

fn by_turns(kafka: &'static str, voters: Voters, ending: Ending) -> Result<()> {
    // often a snapshot of the metadata, so that both read each other's
    let often = [
        "metadata.log.max.record.bytes.between.snapshots=4000",
        "log.cleaner.backoff.ms=500",
        // the records' own times are long past
        "log.retention.ms=-1",
    ];
    let mut place = Installation::format(kafka, voters, &often)?;
    let done = take_turns(&mut place, Program::Kafka(kafka), ending);
    if done.is_err() {
        let log = place.log();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("{}", lines.get(lines.len().saturating_sub(150)..).unwrap_or_default().join("\n"));
    }
    done.with_context(|| format!("Kafka {kafka}, {voters:?}, {ending:?}"))
}

fn take_turns(place: &mut Installation, kafka: Program, ending: Ending) -> Result<()> {
    let address = place.address();
    let mut before: Option<Seen> = None;
    let mut idempotent = None;
    for (round, program) in [kafka, Program::Milena, kafka, Program::Milena].into_iter().enumerate() {
        let within = || format!("round {round}, {program:?}");
        if round > 0 {
            check_adoptable(place, ending).with_context(within)?;
        }
        place.start(program).with_context(within)?;
        let producer = match idempotent.take() {
            Some(producer) => producer,
            None => {
                furnish(&address).with_context(within)?;
                producer(&address, &[("enable.idempotence", "true")])?
            }
        };
        if let Some(before) = &before {
            before.ensure_same(&Seen::by(&address).with_context(within)?).with_context(within)?;
            // Milena keeps credentials, but does not list quotas yet, which the tool asks for in the same breath
            if program != Program::Milena {
                let alice = scram(&address, &["--describe", "--entity-name", "alice"]).with_context(within)?;
                ensure!(alice.contains("SCRAM-SHA-256=iterations=4096"), "round {round}: {alice}");
            }
        }
        // Kafka 3.9 has these groups only on request
        write(&address, &producer, round, kafka != Program::Kafka("3.9.1")).with_context(within)?;
        let mut seen = Seen::by(&address).with_context(within)?;
        seen.quotas = seen.quotas.or(before.and_then(|b| b.quotas));
        before = Some(seen);
        idempotent = Some(producer);
        place.end(ending).with_context(within)?;
        if ending == Ending::Orderly && program == Program::Milena {
            dump_all(place).with_context(within)?;
        }
    }
    Ok(())
}

/// `milena adopt --check` finds nothing in the way, and changes nothing.
fn check_adoptable(place: &Installation, ending: Ending) -> Result<()> {
    let before = fingerprint(place)?;
    let out = Command::new(milena_bin())
        .args(["adopt", "--check", "--deep", "-o", "json"])
        .arg(place.properties())
        .output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    ensure!(out.status.success(), "adopt --check: {}\n{text}{}", out.status, String::from_utf8_lossy(&out.stderr));
    ensure!(before == fingerprint(place)?, "adopt --check changed a file");
    let found: Value = serde_json::from_str(&text)?;
    ensure!(found["canTakeOver"] == true && found["clusterId"] == "MkU3OEVBNTcwNTJENDM2Qg", "{text}");
    ensure!(found["directories"][1]["cleanShutdown"] == (ending == Ending::Orderly), "{text}");
    ensure!(found["groups"]["classic"].as_i64() >= Some(1), "{text}");
    Ok(())
}

/// Every file with its size and the time of its last change.
fn fingerprint(place: &Installation) -> Result<BTreeMap<PathBuf, (u64, SystemTime)>> {
    let mut found = BTreeMap::new();
    let mut folders = Vec::from(place.data());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)?.flatten() {
            let about = entry.metadata()?;
            match about.is_dir() {
                true => folders.push(entry.path()),
                false => drop(found.insert(entry.path(), (about.len(), about.modified()?))),
            }
        }
    }
    Ok(found)
}

#[test]
fn what_either_wrote_the_other_serves() -> Result<()> {
    by_turns("4.3.1", Voters::InLog, Ending::Orderly)
}

#[test]
fn what_either_wrote_before_it_was_killed_the_other_serves() -> Result<()> {
    by_turns("4.3.1", Voters::Static, Ending::Killed)
}

/// With `cargo xtask test --all`, which installs it.
#[test]
fn what_kafka_3_9_wrote_is_served() -> Result<()> {
    if std::env::var_os("MILENA_TEST_ALL").is_none() || !cache().join("kafka/3.9.1/libs").exists() {
        return Ok(());
    }
    by_turns("3.9.1", Voters::Static, Ending::Orderly)
}
