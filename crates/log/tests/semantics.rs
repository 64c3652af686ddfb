//! A log's life as Kafka's brokers live it: bounds of reads, durability, damage, producers and transactions over restarts,
//! truncation, retention, timestamps. Each step is checked from outside; the files are real.
#![expect(clippy::disallowed_methods, reason = "looks at and damages files behind the log's back")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_common::config::broker::BrokerConfig;
use milena_common::config::topic::TopicConfig;
use milena_common::time::{Clock, ManualClock};
use milena_common::{Now, TopicPartition, Uuid};
use milena_log::checkpoint::MetaProperties;
use milena_log::fs::RealFs;
use milena_log::{
    AppendInfo, AppendOptions, CommitBy, LogError, LogManager, LogManagerOptions, Origin, TransactionCheck, UnifiedLog,
};
use milena_protocol::records::control::EndTxnMarker;
use milena_protocol::records::{BatchBuilder, Compression, DecompressLimit, Record, batches};

const START: i64 = 1_700_000_000_000;
const ALL: i64 = i64::MAX;

fn now(ms: u64) -> Now {
    Now { mono_ms: 1_000 + ms, wall_ms: START + ms as i64 }
}

fn config(overrides: &[(&str, &str)]) -> Arc<TopicConfig> {
    let broker = BrokerConfig::parse(BTreeMap::new()).unwrap();
    let overrides = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Arc::new(TopicConfig::from_overrides(&broker, &overrides).unwrap())
}

/// A formatted data directory.
struct Home {
    dir: tempfile::TempDir,
    config: Arc<TopicConfig>,
}

impl Home {
    fn new(overrides: &[(&str, &str)]) -> Home {
        let dir = tempfile::tempdir().unwrap();
        let meta = MetaProperties { cluster_id: "c".into(), node_id: 1, directory_id: Uuid::random() };
        meta.write(&RealFs, dir.path()).unwrap();
        Home { dir, config: config(overrides) }
    }

    fn open(&self) -> Arc<LogManager> {
        let options = LogManagerOptions {
            dirs: vec![self.dir.path().to_owned()],
            recovery_threads: 2,
            retention_check_ms: u64::MAX,
            recovery_point_checkpoint_ms: u64::MAX,
            high_watermark_checkpoint_ms: u64::MAX,
            producer_expiration_ms: 86_400_000,
            clock: Arc::new(ManualClock::new(now(0))) as Arc<dyn Clock>,
        };
        LogManager::open(options, &|_| self.config.clone()).unwrap()
    }

    fn log(&self, manager: &LogManager) -> Arc<UnifiedLog> {
        let partition = TopicPartition::new("t", 0);
        manager.get_or_create(&partition, topic_id(), Uuid::ZERO, self.config.clone()).unwrap()
    }

    /// Base offsets of the segments, oldest first.
    fn segments(&self) -> Vec<i64> {
        let names = std::fs::read_dir(self.file("")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut bases: Vec<i64> = names.filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect();
        bases.sort_unstable();
        bases
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("t-0").join(name)
    }
}

fn topic_id() -> Uuid {
    Uuid::from_u128(77)
}

fn options(ms: u64) -> AppendOptions {
    AppendOptions {
        leader_epoch: 3,
        now: now(ms),
        origin: Origin::Client,
        produce_version: Some(11),
        transaction: TransactionCheck::Off,
        commit: CommitBy::Thread,
    }
}

fn batch(values: &[&str]) -> Bytes {
    batch_at(0, values)
}

fn batch_at(ms: i64, values: &[&str]) -> Bytes {
    let mut batch = BatchBuilder::new(Compression::None);
    for value in values {
        batch.append(START + ms, None, Some(value.as_bytes()), &[]).unwrap();
    }
    batch.build(0).unwrap()
}

fn append(log: &UnifiedLog, values: &[&str]) -> AppendInfo {
    log.append_as_leader(batch(values), options(0)).unwrap()
}

/// Everything from `offset` on, in reads of at most `max_bytes`.
fn read_all(log: &UnifiedLog, mut offset: i64, max_bytes: usize) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let bytes = log.read(offset, max_bytes, ALL, true).unwrap().into_contiguous();
        if bytes.is_empty() {
            return records;
        }
        for batch in batches(bytes) {
            let batch = batch.unwrap();
            assert!(batch.crc_valid());
            offset = batch.next_offset();
            records.extend(batch.records(DecompressLimit::DEFAULT).unwrap().map(Result::unwrap));
        }
    }
}

fn values(log: &UnifiedLog) -> Vec<String> {
    let records = read_all(log, log.log_start_offset(), 100);
    let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
    let first = offsets.first().copied().unwrap_or(0);
    assert_eq!(offsets, (first..first + offsets.len() as i64).collect::<Vec<_>>());
    records.into_iter().map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
}

fn until(what: impl Fn() -> bool) {
    for _ in 0..2000 {
        if what() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("waited too long");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn what_is_appended_is_read_back_and_survives() {
    let home = Home::new(&[("internal.segment.bytes", "400"), ("index.interval.bytes", "60")]);
    let mut expected = Vec::new();
    for round in 0..4 {
        let manager = home.open();
        let log = home.log(&manager);
        assert_eq!(values(&log), expected);
        for i in 0..10 {
            let value = format!("{round}-{i}");
            let info = append(&log, &[&value, "x"]);
            assert_eq!((info.first_offset, info.last_offset), (expected.len() as i64, expected.len() as i64 + 1));
            expected.extend([value, "x".to_owned()]);
        }
        assert_eq!(values(&log), expected);
        assert!(home.segments().len() > 1);
        for offset in 0..expected.len() as i64 {
            let first = read_all(&log, offset, 1).first().map(|record| record.offset);
            assert_eq!(first, Some(offset / 2 * 2));
        }
        until(|| log.durable_end_offset() == expected.len() as i64);
        assert_eq!(log.latest_epoch(), Some(3));
        assert_eq!(log.topic_id(), Some(topic_id()));
        if round % 2 == 0 {
            manager.shutdown(round);
        }
    }
}

#[test]
fn reads_keep_their_bounds() {
    let home = Home::new(&[]);
    let manager = home.open();
    let log = home.log(&manager);
    for i in 0..5 {
        append(&log, &[&i.to_string()]);
    }
    let size = log.size_in_bytes() as usize / 5;
    let read = |offset, max, upper, one| log.read(offset, max, upper, one).map(|data| data.size_in_bytes() / size);
    for _cached in [true, false] {
        assert_eq!(read(0, usize::MAX, ALL, false).unwrap(), 5);
        assert_eq!(read(2, size * 2 + 1, ALL, false).unwrap(), 2);
        assert_eq!(read(2, size - 1, ALL, false).unwrap(), 0);
        assert_eq!(read(2, 0, ALL, true).unwrap(), 1);
        assert_eq!(read(1, usize::MAX, 3, true).unwrap(), 2);
        assert_eq!(read(3, usize::MAX, 3, true).unwrap(), 0);
        assert_eq!(read(5, usize::MAX, ALL, true).unwrap(), 0);
        for outside in [-1, 6] {
            assert!(matches!(read(outside, 1, ALL, true), Err(LogError::OffsetOutOfRange { .. })));
        }
        log.trim_tail();
        log.trim_tail();
    }
}

#[test]
fn a_damaged_end_is_cut_off_and_never_served() {
    let home = Home::new(&[("internal.segment.bytes", "300")]);
    let manager = home.open();
    let log = home.log(&manager);
    for i in 0..9 {
        append(&log, &[&format!("value-{i}")]);
    }
    let bases = home.segments();
    let active = format!("{:020}.log", bases.last().unwrap());
    log.trim_tail();
    log.trim_tail();
    drop((log, manager));
    let whole = std::fs::read(home.file(&active)).unwrap();
    let begun = *bases.last().unwrap() as usize;
    let size = whole.len() / (9 - begun);
    for cut in 0..whole.len() {
        let copied = Home { dir: tempfile::tempdir().unwrap(), config: home.config.clone() };
        copy(home.dir.path(), copied.dir.path());
        let mut bytes = whole.clone();
        if cut % 2 == 0 {
            bytes.truncate(cut);
        } else {
            bytes[cut] ^= 0x10;
        }
        std::fs::write(copied.file(&active), bytes).unwrap();
        let manager = copied.open();
        let log = copied.log(&manager);
        let kept = begun + cut / size;
        if cut % 2 == 1 && cut % size < 16 {
            // Offset, length and epoch are outside the checksum: what they became may be right.
            continue;
        }
        assert_eq!(values(&log).len(), kept, "{cut}");
        assert_eq!(append(&log, &["next"]).first_offset, log.log_end_offset() - 1);
        assert_eq!(values(&log).last().unwrap(), "next");
    }
    // A damaged closed segment takes all after it along.
    let first = home.file("00000000000000000000.log");
    let mut bytes = std::fs::read(&first).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let manager = home.open();
    let log = home.log(&manager);
    assert_eq!(home.segments().len(), 1);
    assert!(values(&log).len() < bases[1] as usize);
}

#[test]
fn missing_indexes_are_made_again() {
    let home = Home::new(&[("internal.segment.bytes", "300"), ("index.interval.bytes", "0")]);
    let manager = home.open();
    let log = home.log(&manager);
    for i in 0..9 {
        append(&log, &[&format!("value-{i}")]);
    }
    let expected = values(&log);
    manager.shutdown(1);
    drop((log, manager));
    let list = || -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(home.file("")).unwrap().map(Result::unwrap);
        let files = entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()));
        files.filter(|(name, _)| name.ends_with("index")).collect()
    };
    let before = list();
    assert_eq!(before.len(), 6);
    for name in before.keys() {
        std::fs::remove_file(home.file(name)).unwrap();
    }
    let manager = home.open();
    let log = home.log(&manager);
    assert_eq!(values(&log), expected);
    manager.shutdown(1);
    assert_eq!(list(), before);
}

/// The name of an error's variant.
fn name(error: &LogError) -> String {
    format!("{error:?}").split([' ', '(']).next().unwrap_or_default().to_owned()
}

fn idempotent(epoch: i16, sequence: i32, count: i32) -> Bytes {
    let mut batch = BatchBuilder::new(Compression::None).with_producer(9, epoch, sequence);
    for i in 0..count {
        batch.append(START, None, Some(format!("{sequence}+{i}").as_bytes()), &[]).unwrap();
    }
    batch.build(0).unwrap()
}

#[test]
fn duplicates_are_acknowledged_and_gaps_refused() {
    let home = Home::new(&[]);
    let mut manager = home.open();
    let mut log = home.log(&manager);
    let send = |log: &UnifiedLog, epoch, sequence, count| {
        let result = log.append_as_leader(idempotent(epoch, sequence, count), options(0));
        result.map(|info| (info.first_offset, info.last_offset, info.duplicate)).map_err(|error| name(&error))
    };
    for i in 0..7 {
        assert_eq!(send(&log, 0, i * 2, 2), Ok((i64::from(i) * 2, i64::from(i) * 2 + 1, false)));
    }
    for restart in [None, Some(false), Some(true)] {
        if let Some(clean) = restart {
            if clean {
                manager.shutdown(1);
            }
            drop((log, manager));
            manager = home.open();
            log = home.log(&manager);
        }
        assert_eq!(send(&log, 0, 12, 2), Ok((12, 13, true)));
        // Of those before the last, a clean restart knows nothing: its snapshot has one batch per producer.
        if restart != Some(true) {
            assert_eq!(send(&log, 0, 4, 2), Ok((4, 5, true)));
        }
        assert_eq!(send(&log, 0, 2, 2), Err("OutOfOrderSequence".to_owned()));
        assert_eq!(send(&log, 0, 12, 1), Err("OutOfOrderSequence".to_owned()));
        assert_eq!(send(&log, 0, 15, 1), Err("OutOfOrderSequence".to_owned()));
        assert_eq!(send(&log, 1, 14, 1), Err("OutOfOrderSequence".to_owned()));
        assert_eq!(log.log_end_offset(), 14);
    }
    assert_eq!(send(&log, 1, 0, 1), Ok((14, 14, false)));
    assert_eq!(send(&log, 0, 14, 1), Err("InvalidProducerEpoch".to_owned()));
    // Sequences wrap behind the largest.
    let mut wrapping = BatchBuilder::new(Compression::None).with_producer(10, 0, i32::MAX - 1);
    for _ in 0..3 {
        wrapping.append(START, None, None, &[]).unwrap();
    }
    let wrapping = wrapping.build(0).unwrap();
    let first = log.append_as_leader(wrapping.clone(), options(0)).unwrap();
    let again = log.append_as_leader(wrapping, options(0)).unwrap();
    assert!(again.duplicate);
    assert_eq!((again.first_offset, again.last_offset), (first.first_offset, first.last_offset));
    let next = BatchBuilder::new(Compression::None).with_producer(10, 0, 1);
    let mut next = next;
    next.append(START, None, None, &[]).unwrap();
    assert!(!log.append_as_leader(next.build(0).unwrap(), options(0)).unwrap().duplicate);
}

fn transactional(producer: i64, sequence: i32) -> Bytes {
    let mut batch = BatchBuilder::new(Compression::None).with_producer(producer, 0, sequence).with_transactional(true);
    batch.append(START, None, Some(b"t"), &[]).unwrap();
    batch.build(0).unwrap()
}

#[test]
fn transactions_hold_readers_back_and_aborts_are_told() {
    let home = Home::new(&[("internal.segment.bytes", "250")]);
    let manager = home.open();
    let log = home.log(&manager);
    let mark = |producer, committed, coordinator_epoch| {
        let marker = EndTxnMarker { committed, coordinator_epoch };
        let batch = marker.to_batch(0, START, producer, 0, 0).unwrap();
        let options = AppendOptions { origin: Origin::Coordinator, produce_version: None, ..options(0) };
        log.append_as_leader(batch, options)
    };
    append(&log, &["plain"]);
    log.append_as_leader(transactional(1, 0), options(0)).unwrap(); // 1
    log.append_as_leader(transactional(2, 0), options(0)).unwrap(); // 2
    assert_eq!(log.last_stable_offset(3), 1);
    mark(1, false, 5).unwrap(); // 3
    assert_eq!(log.last_stable_offset(4), 1);
    log.set_high_watermark(4);
    assert_eq!(log.last_stable_offset(4), 2);
    mark(2, true, 5).unwrap(); // 4
    log.set_high_watermark(5);
    assert_eq!(log.last_stable_offset(5), 5);
    assert_eq!(name(&mark(2, true, 4).unwrap_err()), "CoordinatorFenced");
    for _ in 0..2 {
        let aborted = log.aborted_transactions(0, 5);
        assert_eq!(aborted.len(), 1);
        assert_eq!((aborted[0].producer_id, aborted[0].first_offset, aborted[0].last_offset), (1, 1, 3));
        assert_eq!(aborted[0].last_stable_offset, 2);
        assert!(log.aborted_transactions(4, 5).is_empty());
    }
    drop((log, manager));
    let manager = home.open();
    let log = home.log(&manager);
    assert_eq!(log.aborted_transactions(0, 5).len(), 1);
    log.set_high_watermark(5);
    assert_eq!(log.last_stable_offset(5), 5);
}

#[test]
fn truncation_forgets_everywhere() {
    let home = Home::new(&[("internal.segment.bytes", "300"), ("index.interval.bytes", "0")]);
    let manager = home.open();
    let log = home.log(&manager);
    for i in 0..12 {
        log.append_as_leader(idempotent(0, i, 1), AppendOptions { leader_epoch: i / 4, ..options(0) }).unwrap();
    }
    assert_eq!(log.end_offset_for_epoch(1), (1, 8));
    until(|| log.durable_end_offset() == 12);
    log.truncate_to(6, now(0)).unwrap();
    assert_eq!((log.log_end_offset(), log.durable_end_offset()), (6, 6));
    assert_eq!(log.end_offset_for_epoch(1), (1, 6));
    assert_eq!(values(&log).len(), 6);
    let info = log.append_as_leader(idempotent(0, 6, 1), options(0)).unwrap();
    assert_eq!((info.first_offset, info.duplicate), (6, false));
    drop((log, manager));
    let manager = home.open();
    let log = home.log(&manager);
    assert_eq!(values(&log), ["0+0", "1+0", "2+0", "3+0", "4+0", "5+0", "6+0"]);
    log.truncate_fully_and_start_at(100, now(0)).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (100, 100));
    assert_eq!(append(&log, &["later"]).first_offset, 100);
}

#[test]
fn offsets_are_found_by_time() {
    let home = Home::new(&[("internal.segment.bytes", "300"), ("index.interval.bytes", "0")]);
    let mut manager = home.open();
    let mut log = home.log(&manager);
    let times = [100, 50, 300, 200, 300, 700, 600, 800, 800];
    for ms in times {
        log.append_as_leader(batch_at(ms, &["v", "w"]), options(0)).unwrap();
    }
    for _restart in 0..2 {
        for ms in 0..900 {
            let expected = times.iter().position(|time| *time >= ms).map(|at| 2 * at as i64);
            let found = log.offset_for_timestamp(START + ms).unwrap();
            assert_eq!(found.map(|found| found.offset), expected, "{ms}");
        }
        let newest = log.offset_for_max_timestamp().unwrap().unwrap();
        assert_eq!((newest.offset, newest.timestamp, newest.leader_epoch), (14, START + 800, Some(3)));
        manager.shutdown(0);
        drop((manager, log));
        manager = home.open();
        log = home.log(&manager);
    }
}

#[test]
fn a_follower_takes_what_its_leader_stamped() {
    let home = Home::new(&[]);
    let manager = home.open();
    let log = home.log(&manager);
    let other = Home::new(&[]);
    let others = other.open();
    let follower = other.log(&others);
    append(&log, &["a", "b"]);
    append(&log, &["c"]);
    let bytes = log.read(0, usize::MAX, ALL, true).unwrap().into_contiguous();
    let cut = bytes.slice(..bytes.len() - 1);
    assert_eq!(follower.append_as_follower(cut, now(0)).unwrap().last_offset, 1);
    let rest = log.read(2, usize::MAX, ALL, true).unwrap().into_contiguous();
    follower.append_as_follower(rest.clone(), now(0)).unwrap();
    assert!(follower.append_as_follower(rest, now(0)).is_err());
    assert_eq!(values(&follower), ["a", "b", "c"]);
    assert_eq!(follower.latest_epoch(), Some(3));
}

#[test]
fn a_read_never_jumps_over_a_batch_that_is_too_large() {
    let home = Home::new(&[("internal.segment.bytes", "700")]);
    let manager = home.open();
    let log = home.log(&manager);
    append(&log, &[&"small".repeat(40)]);
    append(&log, &[&"large".repeat(100)]);
    append(&log, &[&"small".repeat(40)]);
    assert_eq!(home.segments(), [0, 1, 2]);
    for _cached in [true, false] {
        let read = |offset, min_one| log.read(offset, 300, ALL, min_one).unwrap();
        let first =
            |offset, min_one| batches(read(offset, min_one).into_contiguous()).next().map(|b| b.unwrap().base_offset());
        assert_eq!(first(1, false), None);
        assert_eq!(read(1, false).next_offset, 1);
        assert_eq!(first(1, true), Some(1));
        assert_eq!(first(2, false), Some(2));
        log.trim_tail();
        log.trim_tail();
    }
}

#[test]
fn aborted_transactions_survive_a_checkpoint_and_a_crash() {
    let home = Home::new(&[]);
    let marker = EndTxnMarker { committed: false, coordinator_epoch: 1 };
    let coordinator = AppendOptions { origin: Origin::Coordinator, produce_version: None, ..options(0) };
    for round in 0..3 {
        let manager = home.open();
        let log = home.log(&manager);
        assert_eq!(log.aborted_transactions(0, ALL).len(), round as usize);
        log.append_as_leader(transactional(1, round), options(0)).unwrap();
        log.append_as_leader(marker.to_batch(0, START, 1, 0, 0).unwrap(), coordinator).unwrap();
        until(|| log.durable_end_offset() == log.log_end_offset());
        // The recovery point is written down, as every minute; twice the end is clean, then it is a crash.
        if round < 2 {
            manager.shutdown(1);
        }
    }
    let manager = home.open();
    let log = home.log(&manager);
    let aborted: Vec<_> =
        log.aborted_transactions(0, ALL).iter().map(|txn| (txn.first_offset, txn.last_offset)).collect();
    assert_eq!(aborted, [(0, 1), (2, 3), (4, 5)]);
    // What is cut off is forgotten, in the file too.
    log.truncate_to(3, now(0)).unwrap();
    manager.shutdown(1);
    drop((log, manager));
    let manager = home.open();
    assert_eq!(home.log(&manager).aborted_transactions(0, ALL).len(), 1);
}

/// A crash after the high watermark was written down: whoever leads has no reason to raise it.
#[test]
fn an_ended_transaction_below_the_written_high_watermark_is_stable() {
    let home = Home::new(&[]);
    let manager = home.open();
    let log = home.log(&manager);
    let marker = EndTxnMarker { committed: true, coordinator_epoch: 1 };
    let coordinator = AppendOptions { origin: Origin::Coordinator, produce_version: None, ..options(0) };
    log.append_as_leader(transactional(1, 0), options(0)).unwrap();
    log.append_as_leader(marker.to_batch(0, START, 1, 0, 0).unwrap(), coordinator).unwrap();
    log.set_high_watermark(2);
    manager.shutdown(1);
    drop((log, manager));
    std::fs::remove_file(home.dir.path().join(".kafka_cleanshutdown")).unwrap();
    let manager = home.open();
    let log = home.log(&manager);
    assert_eq!((log.high_watermark(), log.last_stable_offset(2)), (2, 2));
}

#[test]
fn a_deletion_beside_a_commit_leaves_the_directory_online() {
    let home = Home::new(&[("internal.segment.bytes", "300")]);
    let manager = home.open();
    for _ in 0..50 {
        let log = home.log(&manager);
        for _ in 0..5 {
            append(&log, &["some value that fills a segment"]);
        }
        manager.delete(&TopicPartition::new("t", 0)).unwrap();
        assert!(log.append_as_leader(batch(&["x"]), options(0)).is_err());
    }
    let log = home.log(&manager);
    append(&log, &["x"]);
    until(|| log.durable_end_offset() == 1);
    assert!(manager.dirs()[0].online);
}

#[test]
fn a_log_cut_below_its_start_starts_where_it_ends() {
    let home = Home::new(&[]);
    let manager = home.open();
    let log = home.log(&manager);
    for _ in 0..5 {
        append(&log, &["x"]);
    }
    log.set_high_watermark(4);
    log.delete_records(4).unwrap();
    log.truncate_to(2, now(0)).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (2, 2));
    assert_eq!(append(&log, &["y"]).first_offset, 2);
    assert_eq!(values(&log), ["y"]);
}

#[test]
fn coordinators_batches_are_fenced_by_epoch_but_not_by_sequence() {
    let home = Home::new(&[]);
    let manager = home.open();
    let log = home.log(&manager);
    let send = |epoch, transactional: bool| {
        let mut batch =
            BatchBuilder::new(Compression::None).with_producer(5, epoch, 0).with_transactional(transactional);
        batch.append(START, Some(b"k"), Some(b"v"), &[]).unwrap();
        let coordinator = AppendOptions { origin: Origin::Coordinator, produce_version: None, ..options(0) };
        log.append_as_leader(batch.build(0).unwrap(), coordinator).map_err(|error| name(&error))
    };
    assert!(send(1, true).is_ok());
    assert!(!send(1, true).unwrap().duplicate);
    assert_eq!(send(0, true), Err("InvalidProducerEpoch".to_owned()));
}

#[test]
fn idle_producers_are_forgotten() {
    let home = Home::new(&[]);
    let manager = home.open();
    let log = home.log(&manager);
    log.append_as_leader(idempotent(0, 0, 1), options(0)).unwrap();
    log.append_as_leader(transactional(1, 0), options(0)).unwrap();
    let known = |log: &UnifiedLog| {
        let mut ids: Vec<i64> = log.producers().iter().map(|p| p.producer_id).collect();
        ids.sort_unstable();
        ids
    };
    let all = known(&log);
    let last_ms = log.producers().iter().map(|p| p.last_timestamp).max().unwrap();
    let at = |wall_ms: i64| Now { mono_ms: 0, wall_ms };
    log.expire_producers(at(last_ms), 1_000);
    assert_eq!((known(&log), all.len()), (all, 2));
    log.expire_producers(at(last_ms + 1_000), 1_000);
    assert_eq!(known(&log), [1], "a transaction that is open stays known");
    manager.shutdown(1);
}

/// Somebody who copies old records keeps their timestamps, and is idempotent all the same.
#[test]
fn a_producer_of_old_records_is_not_forgotten_with_the_segment() {
    let home = Home::new(&[("segment.bytes", "1048576")]);
    let manager = home.open();
    let log = home.log(&manager);
    let old = |sequence: i32| {
        let mut batch = BatchBuilder::new(Compression::None).with_producer(9, 0, sequence);
        batch.append(START - 1_000_000_000_000, None, Some(&[b'x'; 600_000]), &[]).unwrap();
        batch.build(0).unwrap()
    };
    let [first, second] = [0, 1].map(|sequence| log.append_as_leader(old(sequence), options(0)).unwrap());
    assert_eq!(home.segments(), [0, 1]);
    assert!(home.file("00000000000000000001.snapshot").exists());
    assert!(!first.duplicate && !second.duplicate);
    assert!(log.append_as_leader(old(1), options(0)).unwrap().duplicate);
    manager.shutdown(1);
}

#[test]
fn the_room_ahead_of_a_log_goes_when_it_is_idle_and_is_no_bad_batch_after_a_crash() {
    let home = Home::new(&[]);
    let manager = home.open();
    let log = home.log(&manager);
    let file = home.file("00000000000000000000.log");
    let on_disk = || std::fs::metadata(&file).unwrap().len();
    append(&log, &["first"]);
    assert!(on_disk() > log.size_in_bytes(), "appends do not change the length of the file");
    let with_room = tempfile::tempdir().unwrap();
    copy(home.dir.path(), with_room.path());
    log.trim_tail();
    log.trim_tail();
    assert_eq!(on_disk(), log.size_in_bytes());
    append(&log, &["second"]);
    drop((log, manager));

    let crashed = Home { dir: with_room, config: home.config };
    let manager = crashed.open();
    let log = crashed.log(&manager);
    assert_eq!(log.log_end_offset(), 1);
    append(&log, &["second"]);
    assert_eq!(log.read(0, usize::MAX, ALL, true).unwrap().next_offset, 2);
}
