//! Compaction against Apache Kafka 4.3.1: both clean the same log and leave the same batches; Kafka's tool finds nothing wrong with what Milena
//! leaves, and a broker of Kafka serves it. Skipped without the oracle (`KAFKA_ORACLE`, or `shared/oracle/kafka-oracle` beside the checkout).
#![expect(clippy::disallowed_methods, reason = "runs another broker on the same files")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_common::TopicPartition;
use milena_common::config::broker::BrokerConfig;
use milena_common::config::topic::TopicConfig;
use milena_common::time::{Clock, SystemClock};
use milena_log::{AppendOptions, Cleaned, CommitBy, LogManager, LogManagerOptions, Origin, UnifiedLog};
use milena_protocol::records::control::EndTxnMarker;
use milena_protocol::records::{BatchBuilder, Compression, DecompressLimit, Record, batches};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const TOPIC: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("internal.segment.bytes", "6000"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("index.interval.bytes", "500"),
    ("delete.retention.ms", "3000"),
];

fn oracle() -> Option<PathBuf> {
    let named = std::env::var_os("KAFKA_ORACLE").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|d| d.join("shared/oracle/kafka-oracle"));
    named.into_iter().chain(beside).find(|p| p.is_file())
}

struct Kafka {
    oracle: PathBuf,
    dir: PathBuf,
    port: u16,
}

impl Kafka {
    fn run(&self, args: &[&str]) -> String {
        let out = Command::new(&self.oracle).args(args).output().expect("the oracle runs");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{args:?}: {text}\n{}", String::from_utf8_lossy(&out.stderr));
        text
    }

    fn start(&self) {
        let (dir, port) = (self.dir.to_str().expect("a name"), self.port.to_string());
        let cleaner = ["log.cleaner.backoff.ms=100", "log.cleaner.dedupe.buffer.size=33554432"];
        self.run(&[&["start-kraft", "4.3.1", dir, &port], &cleaner[..]].concat());
    }

    /// Stops it and waits until its directory is free.
    fn stop(&self) {
        let pid = fs::read_to_string(self.dir.join("pid")).expect("it runs");
        self.run(&["stop", self.dir.to_str().expect("a name")]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while Path::new("/proc").join(pid.trim()).exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn tool(&self, name: &str, args: &[&str]) -> String {
        let server = format!("127.0.0.1:{}", self.port);
        self.run(&[&["tool", "4.3.1", name, "--bootstrap-server", &server], args].concat())
    }

    /// The directory of its logs.
    fn data(&self) -> PathBuf {
        let mut found = vec![self.dir.clone()];
        while let Some(dir) = found.pop() {
            if dir.join("meta.properties").exists() {
                return dir;
            }
            found.extend(fs::read_dir(&dir).expect("reads").flatten().map(|e| e.path()).filter(|p| p.is_dir()));
        }
        panic!("no log directory in {}", self.dir.display());
    }

    fn cleaned_to(&self) -> i64 {
        let text = fs::read_to_string(self.data().join("cleaner-offset-checkpoint")).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix("t 0 ")?.parse().ok()).unwrap_or(-1)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = Command::new(&self.oracle).arg("stop").arg(&self.dir).arg("kill").status();
    }
}

fn config() -> Arc<TopicConfig> {
    let broker = BrokerConfig::parse(BTreeMap::new()).unwrap();
    let pairs = TOPIC.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Arc::new(TopicConfig::from_overrides(&broker, &pairs).unwrap())
}

fn open(data: &Path) -> (Arc<LogManager>, Arc<UnifiedLog>) {
    let options = LogManagerOptions {
        dirs: vec![data.to_owned()],
        recovery_threads: 1,
        retention_check_ms: u64::MAX,
        recovery_point_checkpoint_ms: u64::MAX,
        high_watermark_checkpoint_ms: u64::MAX,
        producer_expiration_ms: 86_400_000,
        clock: Arc::new(SystemClock),
    };
    let manager = LogManager::open(options, &|_| config()).unwrap();
    let log = manager.get(&TopicPartition::new("t", 0)).expect("the topic is here");
    (manager, log)
}

/// A little generator, so that runs are alike.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Keys again and again, tombstones, three transactional producers, all codecs.
fn fill(log: &UnifiedLog, seed: u64, sequences: &mut [i32; 4]) {
    let mut random = Random(seed);
    let clock = SystemClock;
    let mut open = [false; 4];
    for n in 0..600 {
        let now = clock.now();
        let producer = random.below(4);
        let options = |origin| AppendOptions {
            leader_epoch: 0,
            now,
            origin,
            produce_version: None,
            transaction: Default::default(),
            commit: CommitBy::Thread,
        };
        if open[producer] && random.below(3) == 0 {
            let marker = EndTxnMarker { committed: random.below(2) == 0, coordinator_epoch: 0 };
            let batch = marker.to_batch(0, now.wall_ms, 1000 + producer as i64, 0, 0).unwrap();
            log.append_as_leader(batch, options(Origin::Coordinator)).unwrap();
            open[producer] = false;
            continue;
        }
        let mut batch = BatchBuilder::new(CODECS[random.below(5)]);
        let count = 1 + random.below(5) as i32;
        if producer > 0 {
            batch = batch.with_producer(1000 + producer as i64, 0, sequences[producer]).with_transactional(true);
            sequences[producer] += count;
            open[producer] = true;
        }
        for _ in 0..count {
            let key = format!("key {}", random.below(60));
            let value = (random.below(6) > 0).then(|| format!("value {n} {}", "x".repeat(random.below(90))));
            let headers = [(Bytes::from_static(b"n"), Some(Bytes::from(n.to_string())))];
            batch.append(now.wall_ms, Some(key.as_bytes()), value.as_deref().map(str::as_bytes), &headers).unwrap();
        }
        log.append_as_leader(batch.build(0).unwrap(), options(Origin::Client)).unwrap();
    }
    for producer in (1..4).filter(|p| open[*p]) {
        let now = clock.now();
        let marker = EndTxnMarker { committed: true, coordinator_epoch: 0 };
        let batch = marker.to_batch(0, now.wall_ms, 1000 + producer as i64, 0, 0).unwrap();
        let o = AppendOptions {
            leader_epoch: 0,
            now,
            origin: Origin::Coordinator,
            produce_version: None,
            transaction: Default::default(),
            commit: CommitBy::Thread,
        };
        log.append_as_leader(batch, o).unwrap();
    }
    while log.recovery_point() < log.log_end_offset() {
        std::thread::sleep(Duration::from_millis(5));
    }
    log.set_high_watermark(log.log_end_offset());
}

/// What a batch says, as far as it does not depend on the time of the cleaning or on the compressor.
#[derive(Debug, PartialEq)]
struct Said {
    file: String,
    offsets: (i64, i64),
    max_timestamp: i64,
    producer: (i64, i16, i32),
    attributes: i16,
    leader_epoch: i32,
    records: Vec<Record>,
}

fn said(dir: &Path) -> Vec<Said> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|n| n.ends_with(".log"));
    names.sort();
    let mut out = Vec::new();
    for name in names {
        for batch in batches(Bytes::from(fs::read(dir.join(&name)).unwrap())) {
            let batch = batch.unwrap();
            assert!(batch.crc_valid());
            out.push(Said {
                file: name.clone(),
                offsets: (batch.base_offset(), batch.last_offset()),
                max_timestamp: batch.max_timestamp(),
                producer: (batch.producer_id(), batch.producer_epoch(), batch.base_sequence()),
                attributes: batch.attributes(),
                leader_epoch: batch.leader_epoch(),
                records: batch.records(DecompressLimit::DEFAULT).unwrap().map(Result::unwrap).collect(),
            });
        }
    }
    out
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Runs our cleaner until nothing is due; where it got to.
fn clean(manager: &LogManager) -> i64 {
    let mut end = -1;
    while let Some(Cleaned::Round(_, round)) = manager.clean_dirtiest_log(&|_| true) {
        end = round.end;
    }
    end
}

fn dump(kafka: &Kafka, dir: &Path) -> String {
    let mut files: Vec<String> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path().display().to_string()).collect();
    files.retain(|f| f.ends_with(".log") || f.ends_with("index"));
    files.sort();
    let main = ["main", "4.3.1", "org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--files"];
    let text = kafka.run(&[&main[..], &[&files.join(",")]].concat());
    for sign in
        ["isvalid: false", "Mismatches", "not found", "ut of order", "Exception", "Could not", "Non-consecutive"]
    {
        let lines: Vec<&str> = text.lines().filter(|l| l.contains(sign)).take(5).collect();
        assert!(lines.is_empty(), "{sign}: {}", lines.join("\n"));
    }
    text
}

#[test]
#[ignore = "takes minutes: starts Apache Kafka again and again"]
fn cleans_as_kafka_does_and_kafka_serves_it() {
    let Some(oracle) = oracle() else { return };
    let temp = tempfile::tempdir().unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = 20_000 + socket.local_addr().unwrap().port() % 20_000;
    drop(socket);
    let kafka = Kafka { oracle, dir: temp.path().join("kafka"), port };
    kafka.start();
    let mut create = vec!["--create", "--topic", "t", "--partitions", "1", "--replication-factor", "1"];
    let settings: Vec<String> = TOPIC.iter().map(|(k, v)| format!("{k}={v}")).collect();
    settings.iter().for_each(|s| create.extend(["--config", s]));
    kafka.tool("topics", &create);
    kafka.stop();

    let (data, untouched) = (kafka.data(), temp.path().join("untouched"));
    let partition = data.join("t-0");
    let (mut seed, mut sequences) = (42, [0; 4]);
    for round in 0..2 {
        // what both are given
        let (manager, log) = open(&data);
        fill(&log, seed, &mut sequences);
        seed += 1;
        let (end, active) = (log.log_end_offset(), log.segment_count());
        assert!(active > 5 || round > 0);
        manager.shutdown(1);
        drop((manager, log));
        let _ = fs::remove_dir_all(&untouched);
        copy(&partition, &untouched);
        let checkpoint = fs::read(data.join("cleaner-offset-checkpoint")).ok();

        // Milena's
        std::thread::sleep(Duration::from_millis(3500));
        let (manager, log) = open(&data);
        log.set_high_watermark(end);
        let cleaned_to = clean(&manager);
        assert!(cleaned_to > 0, "round {round}");
        assert!(manager.uncleanable_logs().is_empty());
        let aborted = log.aborted_transactions(0, end);
        manager.shutdown(1);
        drop((manager, log));
        let ours = said(&partition);
        let text = dump(&kafka, &partition);
        assert!(text.contains("deleteHorizonMs: OptionalLong[1"), "horizons are set");

        // Kafka's, from the same log
        let kept = temp.path().join("kept");
        let _ = fs::remove_dir_all(&kept);
        copy(&partition, &kept);
        fs::remove_dir_all(&partition).unwrap();
        copy(&untouched, &partition);
        let before = fs::read(data.join("cleaner-offset-checkpoint")).unwrap();
        match checkpoint {
            Some(bytes) => fs::write(data.join("cleaner-offset-checkpoint"), bytes).unwrap(),
            None => fs::remove_file(data.join("cleaner-offset-checkpoint")).unwrap(),
        }
        kafka.start();
        let deadline = Instant::now() + Duration::from_secs(30);
        while kafka.cleaned_to() < cleaned_to && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(kafka.cleaned_to(), cleaned_to, "round {round}");
        kafka.stop();
        let theirs = said(&partition);
        for (a, b) in ours.iter().zip(&theirs) {
            assert_eq!(a, b, "round {round}: ours, then Kafka's");
        }
        assert_eq!(ours.len(), theirs.len(), "round {round}");
        let (manager, log) = open(&data);
        assert_eq!(log.aborted_transactions(0, end), aborted, "round {round}");
        manager.shutdown(1);
        drop((manager, log));

        // Kafka serves Milena's
        fs::remove_dir_all(&partition).unwrap();
        copy(&kept, &partition);
        fs::write(data.join("cleaner-offset-checkpoint"), before).unwrap();
        kafka.start();
        let print = ["print.offset=true", "print.key=true", "key.separator=|"].map(|p| ["--formatter-property", p]);
        let mut args = vec!["--topic", "t", "--from-beginning", "--timeout-ms", "15000"];
        args.extend(["--isolation-level", "read_committed"]);
        args.extend(print.iter().flatten());
        let served = kafka.tool("console-consumer", &args);
        kafka.stop();
        let (manager, log) = open(&data);
        log.set_high_watermark(end);
        let expected = read_committed(&log);
        manager.shutdown(1);
        drop((manager, log));
        let lines: Vec<&str> = served.lines().filter(|l| l.starts_with("Offset:")).collect();
        assert_eq!(lines, expected, "round {round}: {}", served.get(..500).unwrap_or(&served));
    }
}

/// In the words of Kafka's console consumer.
fn read_committed(log: &UnifiedLog) -> Vec<String> {
    let end = log.last_stable_offset(log.high_watermark());
    let aborted = log.aborted_transactions(0, end);
    let mut out = Vec::new();
    let mut offset = 0;
    while offset < end {
        let data = log.read(offset, 1 << 20, end, true).unwrap();
        offset = data.next_offset;
        for batch in batches(data.into_contiguous()) {
            let batch = batch.unwrap();
            let dropped = aborted.iter().any(|a| {
                a.producer_id == batch.producer_id() && (a.first_offset..=a.last_offset).contains(&batch.base_offset())
            });
            if batch.is_control() || dropped {
                continue;
            }
            for r in batch.records(DecompressLimit::DEFAULT).unwrap().map(Result::unwrap) {
                let text = |b: &Option<Bytes>| {
                    b.as_ref().map_or("null".to_owned(), |b| String::from_utf8_lossy(b).into_owned())
                };
                out.push(format!("Offset:{}|{}|{}", r.offset, text(&r.key), text(&r.value)));
            }
        }
    }
    out
}
