//! Compaction through the manager: what is chosen and what is left alone, the keys that steer it, damage, old formats, and readers meanwhile.
#![expect(clippy::disallowed_methods, reason = "looks at and damages files behind the log's back")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milena_common::config::broker::BrokerConfig;
use milena_common::config::topic::TopicConfig;
use milena_common::time::{Clock, ManualClock};
use milena_common::{Now, TopicPartition, Uuid};
use milena_log::checkpoint::MetaProperties;
use milena_log::fs::RealFs;
use milena_log::{
    AppendOptions, Cleaned, CleanedRound, CleanerOptions, CommitBy, LogManager, LogManagerOptions, Origin, UnifiedLog,
};
use milena_protocol::records::legacy::MessageSetBuilder;
use milena_protocol::records::{BatchBuilder, Compression, DecompressLimit, Record, TimestampType, batches};

const START: i64 = 1_700_000_000_000;

/// A broker's log directory with one compacted partition in it.
struct Home {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    config: Arc<TopicConfig>,
}

impl Home {
    fn new(overrides: &[(&str, &str)]) -> Home {
        let dir = tempfile::tempdir().unwrap();
        let meta = MetaProperties { cluster_id: "c".into(), node_id: 1, directory_id: Uuid::random() };
        meta.write(&RealFs, dir.path()).unwrap();
        Home { dir, clock: Arc::new(ManualClock::new(Now { mono_ms: 1, wall_ms: START })), config: config(overrides) }
    }

    fn open(&self) -> (Arc<LogManager>, Arc<UnifiedLog>) {
        let options = LogManagerOptions {
            dirs: vec![self.dir.path().to_owned()],
            recovery_threads: 2,
            retention_check_ms: u64::MAX,
            recovery_point_checkpoint_ms: u64::MAX,
            high_watermark_checkpoint_ms: u64::MAX,
            producer_expiration_ms: 86_400_000,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        };
        let manager = LogManager::open(options, &|_| self.config.clone()).unwrap();
        let log = manager.get_or_create(&partition(), Uuid::from_u128(7), Uuid::ZERO, self.config.clone()).unwrap();
        (manager, log)
    }

    fn options(&self) -> AppendOptions {
        AppendOptions {
            leader_epoch: 0,
            now: self.clock.now(),
            origin: Origin::Client,
            produce_version: Some(11),
            transaction: Default::default(),
            commit: CommitBy::Thread,
        }
    }

    /// One batch per pair of key and value, in one segment of its own if `roll`.
    fn append(&self, log: &UnifiedLog, records: &[(&str, Option<&str>)]) {
        let mut batch = BatchBuilder::new(Compression::None);
        for (key, value) in records {
            let at = self.clock.now().wall_ms;
            batch.append(at, Some(key.as_bytes()), value.map(str::as_bytes), &[]).unwrap();
        }
        log.append_as_leader(batch.build(0).unwrap(), self.options()).unwrap();
        settle(log);
    }

    /// Closes the active segment: the next batch is large.
    fn roll(&self, log: &UnifiedLog) {
        self.append(log, &[("roll", Some(&"x".repeat(400)))]);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("t-0").join(name)
    }
}

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn config(overrides: &[(&str, &str)]) -> Arc<TopicConfig> {
    let all = [
        ("cleanup.policy", "compact"),
        ("internal.segment.bytes", "500"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("message.timestamp.after.max.ms", "9223372036854775807"),
    ];
    let pairs = all.iter().chain(overrides).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let broker = BrokerConfig::parse(BTreeMap::new()).unwrap();
    Arc::new(TopicConfig::from_overrides(&broker, &pairs).unwrap())
}

fn settle(log: &UnifiedLog) {
    while log.recovery_point() < log.log_end_offset() {
        std::thread::sleep(Duration::from_millis(1));
    }
    log.set_high_watermark(log.log_end_offset());
}

fn clean(manager: &LogManager) -> Option<CleanedRound> {
    match manager.clean_dirtiest_log(&|_| true)? {
        Cleaned::Round(_, round) => Some(round),
        Cleaned::Nothing(_, error) => panic!("{error:?}"),
    }
}

fn records(log: &UnifiedLog) -> Vec<Record> {
    let (mut offset, mut out) = (log.log_start_offset(), Vec::new());
    loop {
        let data = log.read(offset, 1000, i64::MAX, true).unwrap();
        offset = data.next_offset;
        let bytes = data.into_contiguous();
        if bytes.is_empty() {
            return out;
        }
        for batch in batches(bytes) {
            out.extend(batch.unwrap().records(DecompressLimit::DEFAULT).unwrap().map(Result::unwrap));
        }
    }
}

/// Offsets and keys, without those that only closed segments.
fn keys(log: &UnifiedLog) -> Vec<(i64, String)> {
    let text = |r: &Record| String::from_utf8_lossy(r.key.as_deref().unwrap_or(b"-")).into_owned();
    records(log).iter().map(|r| (r.offset, text(r))).filter(|(_, k)| k != "roll").collect()
}

fn pairs(of: &[(i64, &str)]) -> Vec<(i64, String)> {
    of.iter().map(|(o, k)| (*o, (*k).to_owned())).collect()
}

#[test]
fn the_last_of_each_key_stays_over_restarts() {
    let home = Home::new(&[("delete.retention.ms", "1000")]);
    let (manager, log) = home.open();
    home.append(&log, &[("a", Some("1")), ("b", Some("1"))]);
    home.append(&log, &[("a", Some("2")), ("c", Some("1")), ("b", None)]);
    assert!(clean(&manager).is_none(), "nothing is closed");
    home.roll(&log);
    home.roll(&log);
    let round = clean(&manager).unwrap();
    assert_eq!((round.first_dirty, round.end), (0, 6));
    assert_eq!(keys(&log), pairs(&[(2, "a"), (3, "c"), (4, "b")]));
    assert!(clean(&manager).is_none(), "nothing is dirty");
    let checkpoint = fs::read_to_string(home.dir.path().join("cleaner-offset-checkpoint")).unwrap();
    assert_eq!(checkpoint, "0\n1\nt 0 6\n");

    home.clock.advance_ms(2000);
    home.roll(&log);
    assert!(clean(&manager).is_some());
    assert_eq!(keys(&log), pairs(&[(2, "a"), (3, "c")]), "the tombstone's time is over");
    manager.shutdown(1);
    drop((manager, log));
    let (manager, log) = home.open();
    assert_eq!(keys(&log), pairs(&[(2, "a"), (3, "c")]));
    settle(&log);
    assert!(clean(&manager).is_none(), "the checkpoint was read");
    let old: Vec<_> = fs::read_dir(home.file("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(old.iter().all(|n| !n.to_string_lossy().ends_with(".cleaned") && !n.to_string_lossy().ends_with(".swap")));
}

#[test]
fn the_keys_say_when_it_is_due() {
    let home = Home::new(&[("min.cleanable.dirty.ratio", "0.6")]);
    let (manager, log) = home.open();
    (0..3).for_each(|_| home.roll(&log));
    assert!(clean(&manager).is_some(), "all of it is dirty");
    home.roll(&log);
    assert!(clean(&manager).is_none(), "a half is dirty, and that is not more than 0.6");
    log.update_config(config(&[("min.cleanable.dirty.ratio", "0.3")]));
    assert!(clean(&manager).is_some(), "a new ratio counts at once");

    log.update_config(config(&[("min.compaction.lag.ms", "1000")]));
    home.roll(&log);
    home.roll(&log);
    assert!(clean(&manager).is_none(), "the records are too young");
    home.clock.advance_ms(1500);
    assert!(clean(&manager).is_some());

    log.update_config(config(&[("min.cleanable.dirty.ratio", "1.0"), ("max.compaction.lag.ms", "5000")]));
    home.roll(&log);
    assert!(clean(&manager).is_none());
    home.clock.advance_ms(6000);
    assert!(clean(&manager).is_some(), "it is overdue");
    log.update_config(config(&[("cleanup.policy", "delete")]));
    home.roll(&log);
    home.roll(&log);
    assert!(clean(&manager).is_none());
}

#[test]
fn max_compaction_lag_closes_segments() {
    let home = Home::new(&[("max.compaction.lag.ms", "1000"), ("min.cleanable.dirty.ratio", "1.0")]);
    let (manager, log) = home.open();
    home.append(&log, &[("a", Some("1"))]);
    home.append(&log, &[("a", Some("2"))]);
    assert_eq!(log.segment_count(), 1);
    home.clock.advance_ms(2000);
    home.append(&log, &[("b", Some("1"))]);
    assert_eq!(log.segment_count(), 2);
    assert!(clean(&manager).is_some());
    assert_eq!(keys(&log), pairs(&[(1, "a"), (2, "b")]));
}

#[test]
fn what_is_not_committed_is_left_alone() {
    let home = Home::new(&[]);
    let (manager, log) = home.open();
    home.append(&log, &[("a", Some("1"))]);
    home.append(&log, &[("a", Some("2"))]);
    (0..3).for_each(|_| home.roll(&log));
    log.set_high_watermark(1);
    assert!(clean(&manager).is_none(), "the high watermark is in the first segment");
    settle(&log);
    // an open transaction holds everything from its segment on
    let mut batch = BatchBuilder::new(Compression::None).with_producer(9, 0, 0).with_transactional(true);
    batch.append(START, Some(b"a"), Some(b"open"), &[]).unwrap();
    log.append_as_leader(batch.build(0).unwrap(), home.options()).unwrap();
    let open_at = log.log_end_offset() - 1;
    settle(&log);
    (0..3).for_each(|_| home.roll(&log));
    let round = clean(&manager).unwrap();
    assert!(round.end <= open_at);
    assert_eq!(keys(&log), pairs(&[(1, "a"), (open_at, "a")]));
}

#[test]
fn a_small_table_takes_several_rounds() {
    let home = Home::new(&[]);
    let (manager, log) = home.open();
    for n in 0..20 {
        home.append(&log, &[(&format!("k{n}"), Some("1")), (&format!("k{}", n + 1), Some("1"))]);
    }
    home.roll(&log);
    home.roll(&log);
    let tiny = CleanerOptions { enabled: false, dedupe_buffer_bytes: 24 * 6, load_factor: 1.0, ..Default::default() };
    manager.set_cleaner(tiny);
    let mut rounds = 0;
    while clean(&manager).is_some() {
        rounds += 1;
    }
    assert!(rounds > 2, "{rounds}");
    let expected: Vec<_> = (0..20).map(|n| (n * 2, format!("k{n}"))).chain([(39, "k20".to_owned())]).collect();
    assert_eq!(keys(&log), expected);
}

#[test]
fn compact_and_delete() {
    let home = Home::new(&[("cleanup.policy", "compact,delete"), ("retention.ms", "10000")]);
    let (manager, log) = home.open();
    home.append(&log, &[("a", Some("1"))]);
    home.roll(&log);
    home.clock.advance_ms(20_000);
    home.append(&log, &[("b", Some("1"))]);
    home.roll(&log);
    home.roll(&log);
    assert!(clean(&manager).is_some());
    manager.apply_retention();
    assert_eq!(keys(&log), pairs(&[(2, "b")]));
    log.update_config(config(&[("retention.ms", "1")]));
    home.clock.advance_ms(20_000);
    manager.apply_retention();
    assert_eq!(keys(&log), pairs(&[(2, "b")]), "compact alone deletes nothing by age");
    log.delete_records(3).unwrap();
    manager.apply_retention();
    assert!(log.read(3, 1000, i64::MAX, true).is_ok());
}

#[test]
fn records_without_a_key_go() {
    let home = Home::new(&[("cleanup.policy", "delete")]);
    let (manager, log) = home.open();
    let mut batch = BatchBuilder::new(Compression::None);
    batch.append(START, None, Some(b"no key"), &[]).unwrap();
    batch.append(START, Some(b"a"), Some(b"1"), &[]).unwrap();
    let bytes = batch.build(0).unwrap();
    log.append_as_leader(bytes.clone(), home.options()).unwrap();
    settle(&log);
    log.update_config(config(&[]));
    assert!(log.append_as_leader(bytes, home.options()).is_err(), "a compacted topic refuses them");
    home.roll(&log);
    home.roll(&log);
    assert_eq!(clean(&manager).unwrap().records_without_key, 1);
    assert_eq!(keys(&log), pairs(&[(1, "a")]));
}

#[test]
fn damage_is_left_as_it_is() {
    let home = Home::new(&[]);
    let (manager, log) = home.open();
    (0..3).for_each(|_| home.roll(&log));
    let path = home.file("00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let cleaned = manager.clean_dirtiest_log(&|_| true);
    assert!(matches!(cleaned, Some(Cleaned::Nothing(_, Some(_)))), "{cleaned:?}");
    assert_eq!(manager.uncleanable_logs(), vec![partition()]);
    assert!(manager.clean_dirtiest_log(&|_| true).is_none());
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert!(!home.file("00000000000000000000.log.cleaned").exists());
}

#[test]
fn old_formats() {
    let home = Home::new(&[("internal.segment.bytes", "900")]);
    let (manager, log) = home.open();
    let mut offset = 0;
    for (magic, codec) in
        [(0, Compression::None), (0, Compression::Gzip), (1, Compression::None), (1, Compression::Lz4)]
    {
        for _ in 0..3 {
            let mut set = MessageSetBuilder::new(magic, codec, TimestampType::CreateTime).unwrap();
            for key in ["a", "b", "c"] {
                let value = format!("{key}{offset}{}", "x".repeat(50));
                let key = if key == "c" { format!("c{magic}{codec:?}") } else { key.to_owned() };
                set.append(offset, START, Some(key.as_bytes()), Some(value.as_bytes())).unwrap();
                offset += 1;
            }
            let bytes = set.build().unwrap();
            log.append_as_follower(bytes, home.clock.now()).unwrap();
            offset = log.log_end_offset();
        }
    }
    settle(&log);
    let before: BTreeMap<i64, Record> = records(&log).into_iter().map(|r| (r.offset, r)).collect();
    home.append(&log, &[("roll", Some(&"x".repeat(800)))]);
    home.append(&log, &[("roll", Some(&"x".repeat(800)))]);
    assert!(clean(&manager).is_some());
    let after = records(&log);
    let expected = [(8, "c0None"), (17, "c0Gzip"), (26, "c1None"), (33, "a"), (34, "b"), (35, "c1Lz4")];
    assert_eq!(keys(&log), pairs(&expected));
    for r in after.iter().filter(|r| r.offset < offset) {
        assert_eq!(Some(r), before.get(&r.offset));
    }
}

#[test]
fn threads_clean_while_others_read_and_write() {
    let home = Home::new(&[("file.delete.delay.ms", "0"), ("internal.segment.bytes", "3000")]);
    let (manager, log) = home.open();
    let options = CleanerOptions { threads: 2, backoff_ms: 1, ..CleanerOptions::default() };
    manager.start_cleaner(options);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let all = records(&log);
                    assert!(all.windows(2).all(|w| w[0].offset < w[1].offset));
                    let last: BTreeMap<_, _> = all.iter().map(|r| (r.key.clone(), r.offset)).collect();
                    for r in &all {
                        let value = String::from_utf8_lossy(r.value.as_deref().unwrap()).into_owned();
                        assert!(value.starts_with(&format!("{} ", r.offset)), "{value} at {}", r.offset);
                    }
                    assert!(last.len() <= 21);
                }
            });
        }
        for n in 0..600i64 {
            let key = format!("k{}", n % 20);
            home.append(&log, &[(&key, Some(&format!("{n} {}", "y".repeat(60))))]);
            if n == 300 {
                manager.set_cleaner(CleanerOptions { threads: 1, ..options });
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    home.append(&log, &[("k0", Some(&format!("600 {}", "y".repeat(3000 - 200))))]);
    for _ in 0..500 {
        if log.segment_count() <= 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(log.segment_count() <= 3, "{}", log.segment_count());
    let found = keys(&log);
    for n in 581..600 {
        assert!(found.contains(&(n, format!("k{}", n % 20))));
    }
    assert!(manager.uncleanable_logs().is_empty());
    manager.shutdown(1);
    drop((manager, log));
    let (_manager, log) = home.open();
    assert_eq!(keys(&log), found);
}

#[test]
fn a_truncation_takes_the_checkpoint_back() {
    let home = Home::new(&[]);
    let (manager, log) = home.open();
    (0..6).for_each(|_| home.roll(&log));
    assert_eq!(clean(&manager).unwrap().end, 5);
    log.truncate_to(2, home.clock.now()).unwrap();
    let text = fs::read_to_string(home.dir.path().join("cleaner-offset-checkpoint")).unwrap();
    assert_eq!(text, "0\n1\nt 0 2\n");
    manager.delete(&partition()).unwrap();
    let text = fs::read_to_string(home.dir.path().join("cleaner-offset-checkpoint")).unwrap();
    assert_eq!(text, "0\n0\n");
}

#[test]
fn the_limit_per_second_makes_it_wait() {
    let home = Home::new(&[]);
    let (manager, log) = home.open();
    (0..20).for_each(|_| home.roll(&log));
    manager.set_cleaner(CleanerOptions { enabled: false, io_max_bytes_per_second: 2000.0, ..Default::default() });
    let slept = std::sync::atomic::AtomicU64::new(0);
    let clock = Arc::clone(&home.clock);
    let sleep = |ms: u64| {
        slept.fetch_add(ms, Ordering::Relaxed);
        clock.advance_ms(ms);
        true
    };
    assert!(manager.clean_dirtiest_log(&sleep).is_some());
    // twice 19 * 470 bytes are read
    let ms = slept.load(Ordering::Relaxed);
    assert!((7000..12_000).contains(&ms), "{ms}");
    home.roll(&log);
    home.roll(&log);
    let stopped = manager.clean_dirtiest_log(&|_| false);
    assert!(matches!(stopped, Some(Cleaned::Nothing(_, None))), "{stopped:?}");
}
