//! What one OffsetCommit costs in allocations: the path every consumer takes all the time must not grow unnoticed.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use milena_common::{Now, SystemClock, Uuid};
use milena_coordinator::{
    BoxFuture, Committed, CoordinatorRecord, GroupConfig, GroupContext, GroupCoordinator, LoadedBatch, PartitionWriter,
    TransactionalProducer, TxnMarker,
};
use milena_protocol::ErrorCode;
use milena_protocol::messages::OffsetCommitRequest;
use milena_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A log that keeps nothing and commits at once.
struct NoLog;

impl PartitionWriter for NoLog {
    fn append_transactional(
        &self,
        _: i32,
        _: TransactionalProducer,
        _: Vec<CoordinatorRecord>,
        _: Now,
    ) -> Result<Committed, ErrorCode> {
        Err(ErrorCode::NotLeaderOrFollower)
    }

    fn append_marker(&self, _: i32, _: TxnMarker, _: Now) -> Result<Committed, ErrorCode> {
        Err(ErrorCode::NotLeaderOrFollower)
    }

    fn append(&self, _: i32, _: Vec<CoordinatorRecord>, _: Now) -> BoxFuture<Result<i64, ErrorCode>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn load(&self, _: i32, _: i64) -> BoxFuture<Result<LoadedBatch, ErrorCode>> {
        Box::pin(std::future::ready(Ok(LoadedBatch::default())))
    }
}

fn request(partitions: i32) -> OffsetCommitRequest {
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: 1,
        committed_metadata: Some(String::new()),
        ..Default::default()
    };
    OffsetCommitRequest {
        group_id: "group".into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "topic".into(),
            topic_id: Uuid::from_u128(7),
            partitions: (0..partitions).map(partition).collect(),
        }],
        ..Default::default()
    }
}

/// Allocations and nanoseconds of one commit of `partitions` offsets.
async fn cost(groups: &GroupCoordinator, partitions: i32, rounds: u64) -> (f64, f64) {
    let cx = GroupContext { client_id: "client".into(), client_host: "/127.0.0.1".into(), api_version: 8 };
    let requests: Vec<_> = (0..rounds).map(|_| (cx.clone(), request(partitions))).collect();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    let start = std::time::Instant::now();
    for (cx, request) in requests {
        groups.offset_commit(cx, request).await;
    }
    let ns = start.elapsed().as_nanos() as f64;
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    (allocations as f64 / rounds as f64, ns / rounds as f64)
}

#[tokio::test]
async fn a_commit_allocates_little() {
    let groups =
        GroupCoordinator::without_ticker(GroupConfig::default(), Arc::new(NoLog), Arc::new(SystemClock), Uuid::random);
    groups.set_num_partitions(1);
    groups.on_election(0, 0).await;
    cost(&groups, 10, 100).await;
    let (one, one_ns) = cost(&groups, 1, 2_000).await;
    let (ten, ten_ns) = cost(&groups, 10, 2_000).await;
    let per_offset = (ten - one) / 9.0;
    println!("one offset: {one:.1} allocations, {one_ns:.0} ns; each more: {per_offset:.1}; ten: {ten_ns:.0} ns");
    assert!(one <= MAX_PER_COMMIT, "{one} allocations for a commit of one offset");
    assert!(per_offset <= MAX_PER_OFFSET, "{per_offset} allocations for each more offset");
}

/// Measured: 18.
const MAX_PER_COMMIT: f64 = 22.0;
/// Measured: 5.4.
const MAX_PER_OFFSET: f64 = 7.0;
