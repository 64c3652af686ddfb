//! Transactions as applications use them: Java clients of both protocols and librdkafka; and SIGKILL while transactions are open,
//! decided and being completed.
//!
//! `MILENA_TEST_BOOTSTRAP` names another broker for what needs no killing, such as an Apache Kafka with
//! `transaction.abort.timed.out.transaction.cleanup.interval.ms=500`.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use milena_compat::broker::Broker;
use milena_compat::clients::cache;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

const SETTINGS: &[&str] =
    &["group.initial.rebalance.delay.ms=0", "transaction.abort.timed.out.transaction.cleanup.interval.ms=500"];

/// A run of the Java driver.
fn java(version: &str, arguments: &[&str]) -> Command {
    let java = cache().join("java");
    let classes = java.join("transactions");
    let path = format!("{}:{}/*", classes.display(), java.join(version).join("libs").display());
    let mut command = Command::new("java");
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", &path, "Transactions"]);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

fn output(mut command: Command) -> Result<String> {
    let out = command.stdout(Stdio::piped()).output()?;
    let text = String::from_utf8(out.stdout)?;
    ensure!(out.status.success(), "{command:?} ended with {}:\n{text}", out.status);
    Ok(text)
}

/// What both versions see on Apache Kafka 4.3.1. `{...}` stands for what a client of the old protocol, and one of the new, is told.
const EXPECTED: &str = "\
commit: committed [c0, c2, c1, c3]
commit: committed [c0, c2, again, c1, c3]
abort: committed [] all [a0, a1]
abort: committed [then, last] all [a0, then, x, last, a1]
empty: committed [e]
zombie: commit ProducerFencedException
zombie: send ProducerFencedException
zombie: committed [new] all [old, new]
rivals: ProducerFencedException
rivals: ProducerFencedException
rivals: ProducerFencedException
rivals: committed [r3]
timeout: committed [] all [slow]
timeout: commit {ProducerFencedException|InvalidTxnStateException}
timeout: then {ProducerFencedException|KafkaException}
timeout: committed [fresh]
offsets: after commit 2
offsets: after abort 2
offsets: after commit 4
offsets: after commit 6
offsets: committed [i0', i1', i2', i3', i4', i5'] all 8
offsets: stale member CommitFailedException
offsets: then fine 6
stable: committed [] ends 0
stable: committed [second] ends 4
many: all 81
admin: Empty epoch 0 of 0 within 60000
admin: Ongoing epoch 0 of 1 within 60000 ongoing [Ongoing]
admin: producer at OptionalLong[0] sequence 0
admin: nobody TransactionalIdNotFoundException
admin: committed []
admin: fenced ProducerFencedException
admin: Empty epoch 2 of 0 within 30000
";

fn expected(is_new_protocol: bool) -> String {
    let line = |line: &str| match line.split_once('{') {
        None => line.to_owned(),
        Some((before, told)) => {
            let (old, new) = told.trim_end_matches('}').split_once('|').unwrap_or_default();
            format!("{before}{}", if is_new_protocol { new } else { old })
        }
    };
    EXPECTED.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn java_clients() -> Result<()> {
    let other = std::env::var("MILENA_TEST_BOOTSTRAP").ok();
    let broker = other.is_none().then(|| Broker::start_with(SETTINGS)).transpose()?;
    let address = other.or(broker.as_ref().map(Broker::address)).context("an address")?;
    for (version, is_new_protocol) in [("3.9.1", false), ("4.3.1", true)] {
        let suffix = format!("-{version}-{}", std::process::id());
        let seen = output(java(version, &[&address, &suffix]))?;
        let expected = expected(is_new_protocol);
        ensure!(seen == expected, "kafka-clients {version} saw\n{seen}instead of\n{expected}");
    }
    Ok(())
}

/// What a driver prints, line by line, while it runs.
struct Running {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    fn start(mut command: Command) -> Result<Running> {
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let out = BufReader::new(process.stdout.take().context("its output")?);
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Running { process, lines })
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it printed `more` lines.
    fn wait_for(&self, more: usize) -> Result<()> {
        let (wanted, deadline) = (self.lines().len() + more, Instant::now() + Duration::from_secs(90));
        while self.lines().len() < wanted {
            ensure!(Instant::now() < deadline, "it goes on no more: {:?}", self.lines().last());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Four producers commit and abort without end, to two partitions each time, while the broker is killed again and again, and are
/// killed themselves at last. Whatever was committed is there whole and once, nothing else is, and nothing hangs.
fn crash(version: &str) -> Result<()> {
    const ROUNDS: u64 = 8;
    let mut broker = Broker::start_with(SETTINGS)?;
    let address = broker.address();
    let mut running = Running::start(java(version, &[&address, "-crash", "endless"]))?;
    running.wait_for(8)?;
    for round in 0..ROUNDS {
        // at any moment of a transaction's life
        std::thread::sleep(Duration::from_millis(37 * (round % 5)));
        broker.kill();
        broker.restart()?;
        running.wait_for(12)?;
    }
    broker.kill();
    running.process.kill()?;
    broker.restart()?;
    let lines = running.lines();
    let ended: Vec<&String> = lines.iter().filter(|line| line.starts_with("ended")).collect();
    ensure!(ended.is_empty(), "a producer was thrown out: {ended:?}");

    output(java(version, &[&address, "-crash", "settle"]))?;
    let read = output(java(version, &[&address, "-crash", "read"]))?;
    let mut copies: HashMap<&str, usize> = HashMap::new();
    for id in read.lines().filter_map(|line| line.strip_prefix("read ")) {
        ensure!(!id.starts_with("(not"), "not all of it can be read");
        *copies.entry(id).or_default() += 1;
    }
    let told = |what: &str| -> HashSet<&str> { lines.iter().filter_map(|line| line.strip_prefix(what)).collect() };
    let (done, aborted) = (told("done "), told("aborted "));
    ensure!(done.len() >= 20 && aborted.len() >= 5, "too little happened: {} {}", done.len(), aborted.len());
    let lost: Vec<_> = done.iter().filter(|id| !copies.contains_key(*id)).collect();
    ensure!(lost.is_empty(), "committed and lost: {lost:?}");
    let risen: Vec<_> = aborted.iter().filter(|id| copies.contains_key(*id)).collect();
    ensure!(risen.is_empty(), "aborted and there: {risen:?}");
    let torn: Vec<_> = copies.iter().filter(|(_, n)| **n != 2).collect();
    ensure!(torn.is_empty(), "not whole, or twice: {torn:?}");
    Ok(())
}

#[test]
fn sigkill_with_the_new_protocol() -> Result<()> {
    crash("4.3.1")
}

#[test]
fn sigkill_with_the_old_protocol() -> Result<()> {
    crash("3.9.1")
}

/// A transaction whose producer went away with the broker is aborted when its time is over.
#[test]
fn an_orphan_is_aborted() -> Result<()> {
    let mut broker = Broker::start_with(SETTINGS)?;
    let address = broker.address();
    output(java("4.3.1", &[&address, "-orphan", "leave-open"]))?;
    broker.kill();
    broker.restart()?;
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &address).create()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    // the marker is the record that the partition gets by itself
    while consumer.fetch_watermarks("crash-t-orphan", 0, Duration::from_secs(5))?.1 < 2 {
        ensure!(Instant::now() < deadline, "it stays open");
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(read(&address, "crash-t-orphan")?.is_empty());
    Ok(())
}

/// What a consumer of committed records reads from partition 0.
fn read(address: &str, topic: &str) -> Result<Vec<String>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "reader")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .create()?;
    let mut assigned = TopicPartitionList::new();
    assigned.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&assigned)?;
    let mut values = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        ensure!(Instant::now() < deadline, "{topic} has no end");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                values.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned())
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return Ok(values),
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
    }
}

#[test]
fn librdkafka() -> Result<()> {
    let other = std::env::var("MILENA_TEST_BOOTSTRAP").ok();
    let broker = other.is_none().then(|| Broker::start_with(SETTINGS)).transpose()?;
    let address = other.or(broker.as_ref().map(Broker::address)).context("an address")?;
    let suffix = std::process::id();
    let (topic, group) = (format!("librdkafka-{suffix}"), format!("librdkafka-{suffix}"));
    let wait = Duration::from_secs(30);
    let start = || -> Result<BaseProducer> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &address)
            .set("transactional.id", format!("librdkafka-{suffix}"))
            .set("transaction.timeout.ms", "20000")
            .create()?;
        producer.init_transactions(wait)?;
        Ok(producer)
    };
    let send = |producer: &BaseProducer, value: &str| -> Result<()> {
        let sent = producer.send(BaseRecord::<(), str>::to(&topic).partition(0).payload(value));
        sent.map_err(|(error, _)| error)?;
        producer.flush(wait).map_err(Into::into)
    };
    let producer = start()?;
    producer.client().fetch_metadata(Some(&topic), wait)?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &address)
        .set("group.id", &group)
        .set("enable.auto.commit", "false")
        .create()?;
    let commit_offsets = |offset: i64| -> Result<()> {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topic, 0, Offset::Offset(offset))?;
        let metadata = consumer.group_metadata().context("the consumer's metadata")?;
        producer.send_offsets_to_transaction(&offsets, &metadata, wait).map_err(Into::into)
    };
    let committed = || -> Result<Offset> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&topic, 0);
        let found = consumer.committed_offsets(asked, wait)?;
        Ok(found.find_partition(&topic, 0).context("the partition")?.offset())
    };

    producer.begin_transaction()?;
    send(&producer, "first")?;
    commit_offsets(5)?;
    producer.commit_transaction(wait)?;
    ensure!(committed()? == Offset::Offset(5));
    producer.begin_transaction()?;
    send(&producer, "never")?;
    commit_offsets(9)?;
    producer.abort_transaction(wait)?;
    ensure!(committed()? == Offset::Offset(5));
    producer.begin_transaction()?;
    send(&producer, "second")?;
    producer.commit_transaction(wait)?;

    producer.begin_transaction()?;
    send(&producer, "of a zombie")?;
    let next = start()?;
    ensure!(producer.commit_transaction(wait).is_err(), "a zombie commits");
    next.begin_transaction()?;
    send(&next, "third")?;
    next.commit_transaction(wait)?;
    ensure!(read(&address, &topic)? == ["first", "second", "third"]);
    Ok(())
}
