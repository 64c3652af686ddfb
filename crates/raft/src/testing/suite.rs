//! What every `RaftLog` must do. Call each function with a maker of empty logs.
//!
//! Panics are the report: these are tests.

use std::time::Duration;

use bytes::Bytes;
use milena_common::Now;

use crate::batch::{data_batch, read_batches};
use crate::log::{LogNews, OffsetAndEpoch, RaftLog, RaftLogError};

const NOW: Now = Now { mono_ms: 1, wall_ms: 1_700_000_000_000 };

fn batch(base_offset: i64, epoch: i32, values: &[&str]) -> Bytes {
    let values: Vec<Bytes> = values.iter().map(|v| Bytes::copy_from_slice(v.as_bytes())).collect();
    data_batch(base_offset, epoch, NOW.wall_ms, &values).expect("a small batch")
}

fn values(log: &dyn RaftLog, from: i64) -> Vec<String> {
    let bytes = log.read(from, log.end_offset(), 1 << 20).expect("readable");
    let batches = read_batches(bytes).expect("batches");
    batches.iter().flat_map(|b| &b.records).map(|v| String::from_utf8_lossy(v).into_owned()).collect()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not happen");
}

/// Appends keep their offsets and epochs, are read back, and become durable by themselves.
pub fn appends_are_read_and_durable<L: RaftLog>(log: &L) {
    assert_eq!((log.start_offset(), log.end_offset(), log.epochs()), (0, 0, Vec::new()));
    let told = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(0));
    let teller = told.clone();
    log.set_listener(std::sync::Arc::new(move |news| {
        if let LogNews::Durable(end) = news {
            teller.fetch_max(end, std::sync::atomic::Ordering::SeqCst);
        }
    }));
    log.append(batch(0, 1, &["a"]), NOW).expect("appends");
    log.append(batch(1, 1, &["b", "c"]), NOW).expect("appends");
    log.append(batch(3, 4, &["d"]), NOW).expect("appends");
    assert_eq!((log.end_offset(), log.epochs().last().map(|(epoch, _)| *epoch)), (4, Some(4)));
    assert_eq!(values(log, 0), ["a", "b", "c", "d"]);
    assert_eq!(values(log, 3), ["d"]);
    let first = read_batches(log.read(0, 4, 1).expect("reads")).expect("batches");
    assert_eq!(first.len(), 1, "one batch at least");
    let below = read_batches(log.read(0, 3, 1 << 20).expect("reads")).expect("batches");
    assert_eq!(below.last().map(|b| b.last_offset), Some(2), "nothing at or above the bound");
    wait_until("the durable end", || log.durable_end_offset() == 4);
    wait_until("telling it", || told.load(std::sync::atomic::Ordering::SeqCst) == 4);
    let beyond = log.read(9, 10, 100);
    assert!(matches!(beyond, Err(RaftLogError::OutOfRange { .. })), "{beyond:?}");
}

/// Truncation and starting anew after a snapshot.
pub fn truncates<L: RaftLog>(log: &L) {
    for offset in 0..5 {
        log.append(batch(offset, 1, &["x"]), NOW).expect("appends");
    }
    log.truncate_to(3).expect("truncates");
    assert_eq!(log.end_offset(), 3);
    log.append(batch(3, 2, &["y"]), NOW).expect("appends");
    assert_eq!(values(log, 2), ["x", "y"]);
    log.truncate_fully_and_start_at(100).expect("truncates");
    assert_eq!((log.start_offset(), log.end_offset()), (100, 100));
    log.append(batch(100, 3, &["z"]), NOW).expect("appends");
    assert_eq!(values(log, 100), ["z"]);
}

/// Snapshots are listed in order, read back whole, and deleted; the log may then start later.
pub fn keeps_snapshots<L: RaftLog>(log: &L) {
    for offset in 0..6 {
        log.append(batch(offset, 1, &["x"]), NOW).expect("appends");
    }
    let id = |offset, epoch| OffsetAndEpoch { offset, epoch };
    assert_eq!(log.snapshots().expect("lists"), []);
    log.write_snapshot(id(4, 1), &[Bytes::from_static(b"four")]).expect("writes");
    log.write_snapshot(id(2, 1), &[Bytes::from_static(b"tw"), Bytes::from_static(b"o")]).expect("writes");
    let listed: Vec<_> = log.snapshots().expect("lists").iter().map(|s| (s.id.offset, s.size_in_bytes)).collect();
    assert_eq!(listed, [(2, 3), (4, 4)]);
    assert_eq!(log.read_snapshot(id(2, 1)).expect("reads"), "two");
    log.set_high_watermark(6);
    log.advance_start_offset(4).expect("advances");
    assert_eq!(log.start_offset(), 4);
    assert_eq!(values(log, 4), ["x", "x"]);
    log.delete_snapshot(id(2, 1)).expect("deletes");
    assert_eq!(log.snapshots().expect("lists").len(), 1);
    assert!(log.read_snapshot(id(2, 1)).is_err());
}
