//! Every configuration key of a topic that has an effect in its log, changed while the log is open.
#![expect(clippy::disallowed_methods, reason = "looks at files behind the log's back")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_common::config::broker::BrokerConfig;
use milena_common::config::topic::TopicConfig;
use milena_common::time::{Clock, ManualClock};
use milena_common::{Now, TopicPartition, Uuid};
use milena_log::checkpoint::MetaProperties;
use milena_log::fs::RealFs;
use milena_log::validate::ValidateError;
use milena_log::{AppendInfo, AppendOptions, CommitBy, LogError, LogManager, LogManagerOptions, Origin, UnifiedLog};
use milena_protocol::records::{BatchBuilder, BatchView, Compression, TimestampType, batches};

const START: i64 = 1_700_000_000_000;

struct Home {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    manager: Arc<LogManager>,
    log: Arc<UnifiedLog>,
}

impl Home {
    fn new(overrides: &[(&str, &str)]) -> Home {
        let dir = tempfile::tempdir().unwrap();
        let meta = MetaProperties { cluster_id: "c".into(), node_id: 1, directory_id: Uuid::random() };
        meta.write(&RealFs, dir.path()).unwrap();
        let clock = Arc::new(ManualClock::new(Now { mono_ms: 1, wall_ms: START }));
        let options = LogManagerOptions {
            dirs: vec![dir.path().to_owned()],
            recovery_threads: 1,
            retention_check_ms: u64::MAX,
            recovery_point_checkpoint_ms: u64::MAX,
            high_watermark_checkpoint_ms: u64::MAX,
            producer_expiration_ms: 86_400_000,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
        };
        let config = config(overrides);
        let manager = LogManager::open(options, &|_| config.clone()).unwrap();
        let partition = TopicPartition::new("t", 0);
        let log = manager.get_or_create(&partition, Uuid::from_u128(7), Uuid::ZERO, config).unwrap();
        Home { dir, clock, manager, log }
    }

    fn set(&self, overrides: &[(&str, &str)]) {
        self.log.update_config(config(overrides));
    }

    fn append_with(&self, codec: Compression, timestamp: i64, value: &str) -> Result<AppendInfo, LogError> {
        let mut batch = BatchBuilder::new(codec);
        batch.append(timestamp, Some(b"k"), Some(value.as_bytes()), &[]).unwrap();
        let now = self.clock.now();
        let o = AppendOptions {
            leader_epoch: 0,
            now,
            origin: Origin::Client,
            produce_version: Some(11),
            transaction: Default::default(),
            commit: CommitBy::Thread,
        };
        let info = self.log.append_as_leader(batch.build(0).unwrap(), o)?;
        self.log.set_high_watermark(self.log.log_end_offset());
        Ok(info)
    }

    fn append(&self, bytes: usize) -> AppendInfo {
        self.append_with(Compression::None, self.clock.now().wall_ms, &"v".repeat(bytes)).unwrap()
    }

    fn fill(&self, batches: usize, bytes: usize) {
        for _ in 0..batches {
            self.append(bytes);
        }
    }

    fn last_batch(&self) -> BatchView {
        let end = self.log.log_end_offset();
        let bytes = self.log.read(end - 1, 1 << 20, end, true).unwrap().into_contiguous();
        batches(bytes).last().unwrap().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("t-0").join(name)
    }

    fn size(&self, name: &str) -> u64 {
        fs::metadata(self.file(name)).map_or(0, |m| m.len())
    }

    fn start(&self) -> i64 {
        self.manager.apply_retention();
        self.log.log_start_offset()
    }
}

fn config(overrides: &[(&str, &str)]) -> Arc<TopicConfig> {
    let broker = BrokerConfig::parse(BTreeMap::new()).unwrap();
    let overrides = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Arc::new(TopicConfig::from_overrides(&broker, &overrides).unwrap())
}

#[test]
fn message_timestamp_type() {
    let home = Home::new(&[]);
    home.append_with(Compression::None, START - 5, "v").unwrap();
    assert_eq!(
        (home.last_batch().timestamp_type(), home.last_batch().max_timestamp()),
        (TimestampType::CreateTime, START - 5)
    );
    home.set(&[("message.timestamp.type", "LogAppendTime")]);
    let info = home.append_with(Compression::None, START - 5, "v").unwrap();
    assert_eq!(info.log_append_time_ms, START);
    assert_eq!(
        (home.last_batch().timestamp_type(), home.last_batch().max_timestamp()),
        (TimestampType::LogAppendTime, START)
    );
}

#[test]
fn message_timestamp_before_and_after_max_ms() {
    let home = Home::new(&[]);
    let at = |ms: i64| home.append_with(Compression::None, START + ms, "v").map_err(|e| e.to_string());
    assert!(at(-1_000_000_000).is_ok());
    assert!(at(3_600_001).is_err(), "an hour ahead is the default");
    home.set(&[("message.timestamp.before.max.ms", "100"), ("message.timestamp.after.max.ms", "200")]);
    assert!(at(-100).is_ok() && at(200).is_ok());
    assert!(at(-101).is_err() && at(201).is_err());
    home.set(&[("message.timestamp.type", "LogAppendTime"), ("message.timestamp.after.max.ms", "200")]);
    assert!(at(500_000).is_ok(), "the broker's clock stamps");
}

#[test]
fn compression_type_and_levels() {
    let home = Home::new(&[]);
    let text: String = (0..4000).map(|n| format!("{} ", n * 7919 % 257)).collect();
    let size_with = |overrides: &[(&str, &str)]| {
        home.set(overrides);
        home.append_with(Compression::Snappy, START, &text).unwrap();
        (home.last_batch().compression().unwrap(), home.last_batch().size_in_bytes())
    };
    assert_eq!(size_with(&[]).0, Compression::Snappy);
    assert_eq!(size_with(&[("compression.type", "uncompressed")]).0, Compression::None);
    assert_eq!(size_with(&[("compression.type", "snappy")]).0, Compression::Snappy);
    assert_eq!(size_with(&[("compression.type", "lz4")]).0, Compression::Lz4);
    for (codec, key, low, high) in [
        (Compression::Gzip, "compression.gzip.level", "1", "9"),
        (Compression::Zstd, "compression.zstd.level", "-50", "19"),
    ] {
        let name = if codec == Compression::Gzip { "gzip" } else { "zstd" };
        let (a, b) = (
            size_with(&[("compression.type", name), (key, low)]),
            size_with(&[("compression.type", name), (key, high)]),
        );
        assert_eq!((a.0, b.0), (codec, codec));
        assert!(a.1 > b.1, "{key}: {} and {}", a.1, b.1);
    }
}

#[test]
fn max_message_bytes() {
    let home = Home::new(&[]);
    home.append(5000);
    home.set(&[("max.message.bytes", "1000")]);
    let refused = home.append_with(Compression::None, START, &"v".repeat(1000));
    assert!(matches!(refused, Err(LogError::Invalid(ValidateError::MessageTooLarge { .. }))));
    home.append(900);
}

#[test]
fn segment_bytes_ms_jitter_and_index_bytes() {
    let home = Home::new(&[("internal.segment.bytes", "2000")]);
    home.fill(4, 800);
    assert_eq!(home.log.segment_count(), 2);
    home.set(&[("segment.bytes", "1048576")]);
    home.fill(4, 800);
    assert_eq!(home.log.segment_count(), 2, "larger from the next append on");

    home.set(&[("segment.ms", "1000")]);
    home.clock.advance_ms(900);
    home.append(10);
    assert_eq!(home.log.segment_count(), 2);
    home.clock.advance_ms(200);
    home.append(10);
    assert_eq!(home.log.segment_count(), 3);

    // the random part is taken off at most: a segment never becomes older than segment.ms
    home.set(&[("segment.ms", "1000"), ("segment.jitter.ms", "1000")]);
    home.clock.advance_ms(1100);
    home.append(10);
    assert_eq!(home.log.segment_count(), 4);
    home.clock.advance_ms(1);
    let mut waited = 1;
    while home.log.segment_count() == 4 {
        home.clock.advance_ms(50);
        waited += 50;
        home.append(10);
    }
    assert!(waited <= 1051, "{waited}");

    let home = Home::new(&[("index.interval.bytes", "0"), ("segment.index.bytes", "100")]);
    home.fill(40, 10);
    assert!(home.log.segment_count() > 3, "{}", home.log.segment_count());
}

#[test]
fn index_interval_bytes() {
    for (interval, entries) in [("0", 19), ("1000", 9), ("100000", 0)] {
        let home = Home::new(&[("index.interval.bytes", interval)]);
        home.fill(20, 500);
        home.manager.shutdown(0);
        assert_eq!(home.size("00000000000000000000.index"), entries * 8, "{interval}");
    }
}

#[test]
fn retention_ms_and_bytes() {
    let home = Home::new(&[("internal.segment.bytes", "1000"), ("retention.ms", "-1")]);
    home.fill(10, 900);
    home.clock.advance_ms(1_000_000_000);
    assert_eq!(home.start(), 0);
    let size = home.log.size_in_bytes();
    let limit = (size - 2500).to_string();
    home.set(&[("internal.segment.bytes", "1000"), ("retention.ms", "-1"), ("retention.bytes", &limit)]);
    assert_eq!(home.start(), 2, "whole segments that are too much");
    home.set(&[("retention.bytes", "0"), ("retention.ms", "-1")]);
    assert_eq!(home.start(), 10, "the active segment, too");
    home.set(&[("retention.ms", "100")]);
    home.append(10);
    home.clock.advance_ms(90);
    assert_eq!(home.start(), 10);
    home.clock.advance_ms(20);
    assert_eq!(home.start(), 11);
    assert_eq!(home.log.log_end_offset(), 11);
    home.set(&[("cleanup.policy", ""), ("retention.ms", "100"), ("retention.bytes", "0")]);
    home.append(10);
    home.clock.advance_ms(1000);
    assert_eq!(home.start(), 11, "no policy, nothing is deleted");
}

#[test]
fn file_delete_delay_ms() {
    let home = Home::new(&[("internal.segment.bytes", "1000"), ("file.delete.delay.ms", "1000000")]);
    home.fill(3, 900);
    home.log.delete_records(1).unwrap();
    home.manager.apply_retention();
    let deleted = home.file("00000000000000000000.log.deleted");
    assert!(deleted.exists());
    std::thread::sleep(Duration::from_millis(1200));
    assert!(deleted.exists());
    home.clock.advance_ms(1_000_001);
    for _ in 0..300 {
        if !deleted.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!deleted.exists());
}

#[test]
fn flush_messages_and_ms_with_the_page_cache() {
    let home = Home::new(&[("ack.durability", "page-cache")]);
    let wait_for = |offset: i64| {
        for _ in 0..300 {
            if home.log.recovery_point() >= offset {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(home.log.recovery_point(), offset);
    };
    home.fill(5, 10);
    assert_eq!((home.log.durable_end_offset(), home.log.recovery_point()), (5, 0), "nothing asks for a sync");
    home.set(&[("ack.durability", "page-cache"), ("flush.messages", "8")]);
    home.fill(2, 10);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(home.log.recovery_point(), 0);
    home.append(10);
    wait_for(8);
    home.append(10);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(home.log.recovery_point(), 8, "counted from the last flush");

    home.set(&[("ack.durability", "page-cache"), ("flush.ms", "1000")]);
    assert_eq!(home.manager.flush_due_logs(), Some(1000));
    home.clock.advance_ms(999);
    assert_eq!(home.manager.flush_due_logs(), Some(1));
    home.clock.advance_ms(1);
    assert_eq!(home.manager.flush_due_logs(), None);
    wait_for(9);
}

#[test]
fn preallocate() {
    let home =
        Home::new(&[("preallocate", "true"), ("internal.segment.bytes", "5000"), ("ack.durability", "page-cache")]);
    assert_eq!(home.size("00000000000000000000.log"), 5000);
    home.fill(12, 900);
    assert_eq!(home.log.segment_count(), 3);
    assert!((4000..5000).contains(&home.size("00000000000000000000.log")), "a closed segment has no rest");
    assert_eq!(home.size("00000000000000000010.log"), 5000);
    let everything = |log: &UnifiedLog| {
        let (mut offset, mut out) = (0, Vec::new());
        while offset < log.log_end_offset() {
            let data = log.read(offset, 1 << 20, i64::MAX, true).unwrap();
            offset = data.next_offset;
            out.push(data.into_contiguous());
        }
        Bytes::from(out.concat())
    };
    let before = everything(&home.log);
    // as after a crash: the rest of the active segment is zeros
    let copy = tempfile::tempdir().unwrap();
    let crashed = copy.path().join("t-0");
    fs::create_dir(&crashed).unwrap();
    for entry in fs::read_dir(home.file("")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), crashed.join(entry.file_name())).unwrap();
    }
    fs::copy(home.dir.path().join("meta.properties"), copy.path().join("meta.properties")).unwrap();
    home.manager.shutdown(0);
    assert!(home.size("00000000000000000010.log") < 5000);
    let options = LogManagerOptions {
        dirs: vec![copy.path().to_owned()],
        recovery_threads: 1,
        retention_check_ms: u64::MAX,
        recovery_point_checkpoint_ms: u64::MAX,
        high_watermark_checkpoint_ms: u64::MAX,
        producer_expiration_ms: 86_400_000,
        clock: Arc::clone(&home.clock) as Arc<dyn Clock>,
    };
    let manager = LogManager::open(options, &|_| config(&[])).unwrap();
    let log = manager.get(&TopicPartition::new("t", 0)).unwrap();
    assert_eq!(log.log_end_offset(), 12);
    assert_eq!(everything(&log), before);
}
