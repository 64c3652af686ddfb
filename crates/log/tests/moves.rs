//! Several log directories: logs move between them while they are written, over restarts, and a directory that fails takes only its own.
#![expect(clippy::disallowed_methods, reason = "looks at files behind the log's back")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use milena_common::config::broker::BrokerConfig;
use milena_common::config::topic::TopicConfig;
use milena_common::time::SystemClock;
use milena_common::{Now, TopicPartition, Uuid};
use milena_log::checkpoint::MetaProperties;
use milena_log::fs::RealFs;
use milena_log::{
    AppendOptions, Cleaned, CommitBy, LogError, LogEvent, LogManager, LogManagerOptions, MoveError, Origin, UnifiedLog,
};
use milena_protocol::records::control::EndTxnMarker;
use milena_protocol::records::{BatchBuilder, Compression, DecompressLimit, batches};

const START: i64 = 1_700_000_000_000;

struct Home {
    _dir: tempfile::TempDir,
    paths: Vec<PathBuf>,
    ids: Vec<Uuid>,
    config: Arc<TopicConfig>,
}

impl Home {
    fn new(overrides: &[(&str, &str)]) -> Home {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..3).map(|n| dir.path().join(format!("d{n}"))).collect();
        let ids: Vec<Uuid> = (0..3).map(|_| Uuid::random()).collect();
        for (path, id) in paths.iter().zip(&ids) {
            fs::create_dir(path).unwrap();
            let meta = MetaProperties { cluster_id: "c".into(), node_id: 1, directory_id: *id };
            meta.write(&RealFs, path).unwrap();
        }
        let broker = BrokerConfig::parse(BTreeMap::new()).unwrap();
        let all = [("internal.segment.bytes", "4000"), ("file.delete.delay.ms", "0")];
        let pairs = all.iter().chain(overrides).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = Arc::new(TopicConfig::from_overrides(&broker, &pairs).unwrap());
        Home { _dir: dir, paths, ids, config }
    }

    fn open(&self) -> Arc<LogManager> {
        let options = LogManagerOptions {
            dirs: self.paths.clone(),
            recovery_threads: 2,
            retention_check_ms: u64::MAX,
            recovery_point_checkpoint_ms: u64::MAX,
            high_watermark_checkpoint_ms: u64::MAX,
            producer_expiration_ms: i64::MAX,
            clock: Arc::new(SystemClock),
        };
        LogManager::open(options, &|_| self.config.clone()).unwrap()
    }

    fn create(&self, manager: &LogManager, topic: &str, dir: usize) -> Arc<UnifiedLog> {
        let tp = TopicPartition::new(topic, 0);
        manager.get_or_create(&tp, Uuid::from_u128(7), self.ids[dir], self.config.clone()).unwrap()
    }
}

fn t() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn append(log: &UnifiedLog, n: i64, producer: i64, sequence: i32) -> Result<i64, LogError> {
    append_sized(log, n, producer, sequence, 200)
}

fn fill(log: &UnifiedLog, numbers: std::ops::Range<i64>) {
    for n in numbers {
        append(log, n, 0, 0).unwrap();
    }
}

fn append_sized(log: &UnifiedLog, n: i64, producer: i64, sequence: i32, bytes: usize) -> Result<i64, LogError> {
    let mut batch = BatchBuilder::new(Compression::None);
    if producer > 0 {
        batch = batch.with_producer(producer, 0, sequence).with_transactional(true);
    }
    let value = format!("{n} {}", "x".repeat(bytes));
    batch.append(START, Some(format!("k{}", n % 5).as_bytes()), Some(value.as_bytes()), &[]).unwrap();
    let now = Now { mono_ms: 1, wall_ms: START };
    let o = AppendOptions {
        leader_epoch: (n / 50) as i32,
        now,
        origin: Origin::Client,
        produce_version: None,
        transaction: Default::default(),
        commit: CommitBy::Thread,
    };
    log.append_as_leader(batch.build(0).unwrap(), o).map(|info| info.first_offset)
}

fn values(log: &UnifiedLog) -> Vec<i64> {
    let (mut offset, mut out) = (log.log_start_offset(), Vec::new());
    while offset < log.log_end_offset() {
        let data = log.read(offset, 3000, i64::MAX, true).unwrap();
        assert!(data.next_offset > offset);
        offset = data.next_offset;
        for batch in batches(data.into_contiguous()).map(Result::unwrap).filter(|b| !b.is_control()) {
            for r in batch.records(DecompressLimit::DEFAULT).unwrap().map(Result::unwrap) {
                let text = String::from_utf8(r.value.unwrap().to_vec()).unwrap();
                out.push(text.split(' ').next().unwrap().parse().unwrap());
            }
        }
    }
    out
}

fn wait(until: impl Fn() -> bool) {
    for _ in 0..1000 {
        if until() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it takes too long");
}

#[test]
fn a_log_moves_while_it_is_written() {
    let home = Home::new(&[]);
    let manager = home.open();
    let log = home.create(&manager, "t", 0);
    let durable = Arc::new(AtomicI64::new(0));
    log.set_listener({
        let durable = Arc::clone(&durable);
        Arc::new(move |event| {
            if let LogEvent::Durable(offset) = event {
                durable.fetch_max(offset, Ordering::SeqCst);
            }
        })
    });
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    manager.set_move_listener({
        let told = Arc::clone(&told);
        Arc::new(move |tp, id| told.lock().push((tp.clone(), id)))
    });
    (0..100).for_each(|n| assert_eq!(append(&log, n, 9, n as i32).unwrap(), n));
    let epochs = log.epochs();
    manager.move_log(&t(), &home.paths[1]).unwrap();
    for n in 100..160 {
        append(&log, n, 9, n as i32).unwrap();
    }
    wait(|| manager.directory_of(&t()) == Some(home.ids[1]));
    for n in 160..200 {
        append(&log, n, 9, n as i32).unwrap();
    }
    assert!(manager.get(&t()).is_some_and(|l| Arc::ptr_eq(&l, &log)), "it is still the same log");
    assert_eq!(values(&log), (0..200).collect::<Vec<_>>());
    assert_eq!(log.epochs()[..2], epochs[..2]);
    assert_eq!(log.producers()[0].current_txn_first_offset, Some(0));
    wait(|| durable.load(Ordering::SeqCst) == 200);
    wait(|| manager.future_logs().is_empty());
    assert_eq!(*told.lock(), vec![(t(), home.ids[1])]);
    assert!(home.paths[1].join("t-0").is_dir() && !home.paths[0].join("t-0").exists());

    // abort the open transaction; the index is written in the new place
    let marker = EndTxnMarker { committed: false, coordinator_epoch: 0 }.to_batch(0, START, 9, 0, 3).unwrap();
    let now = Now { mono_ms: 1, wall_ms: START };
    let o = AppendOptions {
        leader_epoch: 3,
        now,
        origin: Origin::Coordinator,
        produce_version: None,
        transaction: Default::default(),
        commit: CommitBy::Thread,
    };
    log.append_as_leader(marker, o).unwrap();
    assert_eq!(log.aborted_transactions(0, 300).len(), 1);
    manager.shutdown(1);
    drop((manager, log));
    let manager = home.open();
    let log = manager.get(&t()).unwrap();
    assert_eq!(manager.directory_of(&t()), Some(home.ids[1]));
    assert_eq!(values(&log), (0..200).collect::<Vec<_>>());
    assert_eq!(log.aborted_transactions(0, 300).len(), 1);
    assert_eq!(log.producers()[0].last_sequence(), 199);
}

#[test]
fn a_move_goes_on_after_a_restart_or_is_given_up() {
    let home = Home::new(&[("internal.segment.bytes", "100000")]);
    for clean in [true, false] {
        let manager = home.open();
        let log = home.create(&manager, "t", 0);
        let begin = log.log_end_offset();
        for n in begin..begin + 100 {
            append_sized(&log, n, 0, 0, 20_000).unwrap();
        }
        let from = manager.directory_of(&t()).unwrap();
        let to = home.ids.iter().position(|id| *id != from).unwrap();
        manager.set_move_limit(1.0);
        log.truncate_to(begin + 90, Now { mono_ms: 1, wall_ms: START }).unwrap();
        manager.move_log(&t(), &home.paths[to]).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(manager.future_logs().len(), 1);
        if clean {
            manager.shutdown(1);
        }
        let weak = Arc::downgrade(&manager);
        drop((manager, log));
        wait(|| weak.strong_count() == 0);
        let manager = home.open();
        let log = manager.get(&t()).unwrap();
        wait(|| manager.directory_of(&t()) == Some(home.ids[to]));
        assert_eq!(values(&log), (0..begin + 90).collect::<Vec<_>>());
        manager.shutdown(1);
        drop((manager, log));
    }
    let manager = home.open();
    let log = manager.get(&t()).unwrap();
    let from = manager.directory_of(&t()).unwrap();
    let other = home.ids.iter().position(|id| *id != from).unwrap();
    let here = home.ids.iter().position(|id| *id == from).unwrap();
    manager.set_move_limit(1.0);
    manager.move_log(&t(), &home.paths[other]).unwrap();
    manager.move_log(&t(), &home.paths[here]).unwrap();
    assert!(manager.future_logs().is_empty());
    assert_eq!(manager.directory_of(&t()), Some(home.ids[here]));
    assert!(matches!(manager.move_log(&t(), &home.paths[0].join("x")), Err(MoveError::DirNotFound(_))));
    assert!(matches!(manager.move_log(&TopicPartition::new("u", 0), &home.paths[0]), Err(MoveError::NotHere)));
    assert_eq!(values(&log).len(), 180);
}

#[test]
fn deleting_a_log_ends_its_move() {
    let home = Home::new(&[]);
    let manager = home.open();
    let log = home.create(&manager, "t", 0);
    fill(&log, 0..100);
    manager.set_move_limit(1.0);
    manager.move_log(&t(), &home.paths[1]).unwrap();
    manager.delete(&t()).unwrap();
    assert!(manager.future_logs().is_empty());
    let left = || {
        home.paths.iter().flat_map(|p| fs::read_dir(p).unwrap()).filter(|e| e.as_ref().unwrap().path().is_dir()).count()
    };
    wait(|| left() == 0);
    let log = home.create(&manager, "t", 1);
    assert_eq!(log.log_end_offset(), 0);
}

#[test]
fn compaction_waits_for_a_move() {
    let home = Home::new(&[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01")]);
    let manager = home.open();
    let log = home.create(&manager, "t", 0);
    fill(&log, 0..100);
    wait(|| log.recovery_point() == 100);
    log.set_high_watermark(100);
    assert!(matches!(manager.clean_dirtiest_log(&|_| true), Some(Cleaned::Round(..))));
    fill(&log, 100..150);
    wait(|| log.recovery_point() == 150);
    log.set_high_watermark(150);
    let before = values(&log);
    manager.move_log(&t(), &home.paths[2]).unwrap();
    let during = manager.clean_dirtiest_log(&|_| true);
    assert!(during.is_none() || manager.directory_of(&t()) == Some(home.ids[2]), "{during:?}");
    wait(|| manager.directory_of(&t()) == Some(home.ids[2]) && manager.future_logs().is_empty());
    if during.is_none() {
        assert_eq!(values(&log), before);
    }
    let checkpoint = |n: usize| fs::read_to_string(home.paths[n].join("cleaner-offset-checkpoint")).unwrap();
    assert!(checkpoint(2).contains("t 0 ") && !checkpoint(0).contains("t 0 "));
    manager.clean_dirtiest_log(&|_| true);
    assert_eq!(values(&log).last(), Some(&149));
    assert!(values(&log).len() < before.len());
}

#[test]
fn a_log_that_is_there_twice_counts_once() {
    let home = Home::new(&[]);
    let manager = home.open();
    let log = home.create(&manager, "t", 0);
    fill(&log, 0..10);
    manager.shutdown(1);
    drop((manager, log));
    // as after a crash between the renames that end a move
    let (from, to) = (home.paths[0].join("t-0"), home.paths[2].join("t-0"));
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(&from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let manager = home.open();
    assert_eq!(values(&manager.get(&t()).unwrap()).len(), 10);
    assert_eq!(from.exists() as u8 + to.exists() as u8, 1);
    manager.shutdown(1);
}

#[test]
fn a_directory_that_cannot_be_opened_takes_only_its_own() {
    let home = Home::new(&[]);
    let manager = home.open();
    let (a, b) = (home.create(&manager, "a", 0), home.create(&manager, "b", 1));
    fill(&a, 0..10);
    fill(&b, 0..10);
    manager.shutdown(1);
    drop((manager, a, b));
    let broken = home.paths[1].with_extension("away");
    fs::rename(&home.paths[1], &broken).unwrap();
    fs::write(&home.paths[1], "not a directory").unwrap();
    let manager = home.open();
    let online: Vec<bool> = manager.dirs().iter().map(|d| d.online).collect();
    assert_eq!(online.iter().filter(|o| **o).count(), 2);
    assert_eq!(values(&manager.get(&TopicPartition::new("a", 0)).unwrap()).len(), 10);
    let tp = TopicPartition::new("b", 0);
    let created = manager.get_or_create(&tp, Uuid::from_u128(7), home.ids[1], home.config.clone());
    assert!(matches!(created, Err(LogError::Storage { .. })), "no empty log in its place");
    let new = TopicPartition::new("c", 0);
    assert!(manager.get_or_create(&new, Uuid::from_u128(8), Uuid::ZERO, home.config.clone()).is_ok());
    assert!(matches!(manager.move_log(&new, &home.paths[1]), Err(MoveError::Storage(_))));
}

/// Who stopped a node may start it again at once, whatever still holds a part of the old one.
#[test]
fn shutdown_gives_the_directories_up() {
    let home = Home::new(&[]);
    let first = home.open();
    home.create(&first, "t", 0);
    first.shutdown(1);
    let second = home.open();
    assert!(second.get(&t()).is_some());
    second.shutdown(2);
    drop(first);
}

/// A checkpoint that cannot be written is a directory that cannot: told once, by its id, and the others go on.
#[test]
fn a_directory_that_fails_is_told_of() {
    let home = Home::new(&[]);
    let manager = home.open();
    home.create(&manager, "t", 1);
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let listener: Arc<dyn Fn(Uuid) + Send + Sync> = {
        let told = Arc::clone(&told);
        Arc::new(move |id| told.lock().push(id))
    };
    manager.set_failure_listener(&listener);
    fs::rename(&home.paths[1], home.paths[1].with_extension("gone")).unwrap();
    manager.shutdown(1);
    assert_eq!(*told.lock(), [home.ids[1]]);
    let online: Vec<bool> = manager.dirs().iter().map(|dir| dir.online).collect();
    assert_eq!(online, [true, false, true]);
    // who asks later is told at once
    manager.set_failure_listener(&listener);
    assert_eq!(told.lock().len(), 2);
}
