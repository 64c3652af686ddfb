//! The driver over a log in memory: elections survive restarts, commits follow the disk, snapshots replace the log.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

use std::sync::Arc;

use bytes::Bytes;
use milena_common::{ManualClock, Now, Uuid};
use milena_raft::testing::{MemoryLog, MemoryVotes, suite};
use milena_raft::{
    AppendError, NoNetwork, NodeConfig, OffsetAndEpoch, RaftError, RaftLog, RaftNode, ReadError, Snapshot, Timeouts,
};

fn start(log: &MemoryLog, votes: &MemoryVotes) -> Result<Arc<RaftNode>, RaftError> {
    let config = NodeConfig {
        node_id: 1,
        directory_id: Uuid::from_u128(1234),
        static_voters: vec![1],
        timeouts: Timeouts::default(),
    };
    let clock = ManualClock::new(Now { mono_ms: 0, wall_ms: 1_700_000_000_000 });
    RaftNode::start(config, Arc::new(log.clone()), Box::new(votes.clone()), Arc::new(clock), Arc::new(NoNetwork))
}

fn record(text: &str) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(text.as_bytes())]
}

fn committed(node: &RaftNode, from: i64) -> Vec<String> {
    let batches = node.read_committed(from, 1 << 20).expect("readable");
    batches.iter().flat_map(|b| &b.records).map(|r| String::from_utf8_lossy(r).into_owned()).collect()
}

#[test]
fn memory_log_passes_the_suite() {
    suite::appends_are_read_and_durable(&MemoryLog::new());
    suite::truncates(&MemoryLog::new());
    suite::keeps_snapshots(&MemoryLog::new());
}

#[tokio::test]
async fn commits_what_is_on_disk_and_no_more() {
    let (log, votes) = (MemoryLog::lazy(), MemoryVotes::default());
    let node = start(&log, &votes).expect("starts");
    tokio::spawn(node.clone().run());
    let mut status = node.watch();
    assert_eq!(node.status().epoch, 1);
    assert_eq!(node.append(1, record("a")), Ok(1));
    assert_eq!(node.status().high_watermark, 0, "nothing is on disk");
    log.sync();
    status.wait_for(|s| s.high_watermark == 2).await.expect("follows the disk");
    assert_eq!(committed(&node, 0), ["a"]);
    assert_eq!(node.append(1, record("lost")), Ok(2));
    assert_eq!(committed(&node, 0), ["a"]);
    drop(node);
    log.crash();
    let node = start(&log, &votes).expect("starts again");
    assert_eq!(node.status().epoch, 2);
    assert_eq!(node.append(1, record("late")), Err(AppendError::NotLeader(1)));
    assert_eq!(node.append(2, record("b")), Ok(3), "after the control record of the new epoch");
    log.sync();
    tokio::spawn(node.clone().run());
    node.watch().wait_for(|s| s.high_watermark == 4).await.expect("commits");
    assert_eq!(committed(&node, 0), ["a", "b"]);
}

#[tokio::test]
async fn a_failed_log_ends_the_leadership() {
    let (log, votes) = (MemoryLog::new(), MemoryVotes::default());
    let node = start(&log, &votes).expect("starts");
    log.break_down();
    assert!(matches!(node.append(1, record("a")), Err(AppendError::Log(_))));
    assert!(node.status().failed);
    assert_eq!(node.status().leader_id, -1);
    assert_eq!(node.append(1, record("a")), Err(AppendError::NotLeader(1)));
}

#[tokio::test]
async fn a_snapshot_stands_for_the_log_before_it() {
    let (log, votes) = (MemoryLog::new(), MemoryVotes::default());
    let node = start(&log, &votes).expect("starts");
    for n in 0..10 {
        node.append(1, record(&format!("r{n}"))).expect("appends");
    }
    let snapshot = |n: i64| Snapshot {
        last_contained_log_timestamp_ms: n,
        records: record(&format!("state {n}")),
        ..Default::default()
    };
    for offset in [4, 8] {
        node.write_snapshot(OffsetAndEpoch { offset, epoch: 1 }, &snapshot(offset)).expect("writes");
    }
    node.write_snapshot(OffsetAndEpoch { offset: 6, epoch: 1 }, &snapshot(6)).expect("is not needed");
    node.clean(-1, -1).expect("nothing to do");
    assert_eq!(log.snapshots().map(|s| s.len()), Ok(2));
    node.clean(1, -1).expect("cleans");
    assert_eq!(log.snapshots().map(|s| s.len()), Ok(1), "the newest stays");
    assert_eq!(node.read_committed(3, 100), Err(ReadError::BelowStart { start: 8 }));
    let (id, newest) = node.newest_snapshot().expect("reads").expect("there is one");
    assert_eq!((id.offset, newest), (8, snapshot(8)));
    drop(node);
    // The log was lost, the snapshot not: the log goes on after it, in a newer epoch.
    log.truncate_fully_and_start_at(0).expect("truncates");
    let node = start(&log, &MemoryVotes::default()).expect("starts");
    assert_eq!((node.status().epoch, log.start_offset(), log.end_offset()), (2, 8, 9));
    // A log whose beginning is nowhere cannot be used.
    log.delete_snapshot(id).expect("deletes");
    assert!(matches!(start(&log, &votes), Err(RaftError::SnapshotMissing { start: 8 })));
}

#[test]
fn a_damaged_vote_file_stops_the_start() {
    use milena_raft::QuorumStateStore as _;
    let votes = MemoryVotes::default();
    votes.write("{").expect("writes");
    assert!(matches!(start(&MemoryLog::new(), &votes), Err(RaftError::BadQuorumState(_))));
}
