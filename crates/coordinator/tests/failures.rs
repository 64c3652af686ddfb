//! The promise behind every answer, under random trouble: what was acknowledged or read stays, whatever appends fail,
//! however leadership moves, and whatever uncommitted tail is lost with it.

#![expect(clippy::disallowed_methods, reason = "clients run as tasks beside the test")]

use std::sync::Arc;

use milena_common::{ManualClock, Now, Uuid};
use milena_coordinator::testing::MemoryLog;
use milena_coordinator::{GroupConfig, GroupContext, GroupCoordinator};
use milena_protocol::ErrorCode;
use milena_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use milena_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use milena_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};
use proptest::prelude::*;
use tokio::task::JoinHandle;

#[derive(Debug, Clone)]
enum Step {
    Commit {
        client: usize,
    },
    Fetch {
        client: usize,
    },
    /// Appends are no longer committed.
    Hold,
    /// What waits is committed, and what comes.
    Release,
    /// What waits fails, and what comes.
    Fail,
    /// Another broker led for a while: of what was not committed, a part is gone.
    Move {
        kept: usize,
    },
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..3).prop_map(|client| Step::Commit { client }),
        4 => (0usize..3).prop_map(|client| Step::Fetch { client }),
        2 => Just(Step::Hold),
        3 => Just(Step::Release),
        1 => Just(Step::Fail),
        1 => (0usize..4).prop_map(|kept| Step::Move { kept }),
        3 => Just(Step::Settle),
    ]
}

/// A consumer that has one request under way at most. Its offsets count up.
#[derive(Default)]
struct Client {
    attempted: i64,
    /// The highest offset that was acknowledged or read.
    seen: i64,
    commit: Option<JoinHandle<ErrorCode>>,
    /// With what had been seen when it was asked.
    fetch: Option<(i64, JoinHandle<(i64, ErrorCode)>)>,
}

struct World {
    log: MemoryLog,
    groups: GroupCoordinator,
    clients: [Client; 3],
    leader_epoch: i32,
    is_committing: bool,
    committed_len: usize,
}

fn cx() -> GroupContext {
    GroupContext { api_version: 7, ..Default::default() }
}

async fn commit(groups: GroupCoordinator, partition: i32, offset: i64) -> ErrorCode {
    let partitions = vec![OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        ..Default::default()
    }];
    let topics = vec![OffsetCommitRequestTopic { name: "topic".into(), partitions, ..Default::default() }];
    let request = OffsetCommitRequest { group_id: "g".into(), topics, ..Default::default() };
    let response = groups.offset_commit(cx(), request).await;
    ErrorCode::from_code(response.topics[0].partitions[0].error_code)
}

async fn fetch(groups: GroupCoordinator, partition: i32) -> (i64, ErrorCode) {
    let topics = Some(vec![OffsetFetchRequestTopic { name: "topic".into(), partition_indexes: vec![partition] }]);
    let request = OffsetFetchRequest { group_id: "g".into(), topics, ..Default::default() };
    let response = groups.offset_fetch(cx(), request).await;
    let offset = response.topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset);
    (offset, ErrorCode::from_code(response.error_code))
}

impl World {
    async fn new() -> World {
        let log = MemoryLog::default();
        let clock = ManualClock::new(Now { mono_ms: 1, wall_ms: 1_700_000_000_000 });
        let groups = GroupCoordinator::without_ticker(
            GroupConfig::default(),
            Arc::new(log.clone()),
            Arc::new(clock),
            Uuid::random,
        );
        groups.set_num_partitions(1);
        groups.on_election(0, 0).await;
        World { log, groups, clients: Default::default(), leader_epoch: 0, is_committing: true, committed_len: 0 }
    }

    async fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        if self.is_committing {
            self.committed_len = self.log.records(0).len();
        }
        for client in &mut self.clients {
            if let Some(task) = client.commit.take_if(|task| task.is_finished()) {
                match task.await.expect("no panic") {
                    ErrorCode::None => client.seen = client.seen.max(client.attempted),
                    ErrorCode::NotCoordinator
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::CoordinatorNotAvailable => {}
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            if let Some((seen, task)) = client.fetch.take_if(|(_, task)| task.is_finished()) {
                match task.await.expect("no panic") {
                    (offset, ErrorCode::None) => {
                        // -1 is "none": as if 0 had been committed.
                        let offset = offset.max(0);
                        prop_assert!(offset >= seen, "{offset} after {seen}");
                        prop_assert!(offset <= client.attempted);
                        client.seen = client.seen.max(offset);
                    }
                    (
                        _,
                        ErrorCode::NotCoordinator
                        | ErrorCode::CoordinatorLoadInProgress
                        | ErrorCode::CoordinatorNotAvailable,
                    ) => {}
                    (_, other) => prop_assert!(false, "{other:?}"),
                }
            }
        }
        Ok(())
    }

    async fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Commit { client } => {
                let it = &mut self.clients[client];
                if it.commit.is_none() {
                    it.attempted += 1;
                    it.commit = Some(tokio::spawn(commit(self.groups.clone(), client as i32, it.attempted)));
                }
            }
            Step::Fetch { client } => {
                let it = &mut self.clients[client];
                if it.commit.is_none() && it.fetch.is_none() {
                    it.fetch = Some((it.seen, tokio::spawn(fetch(self.groups.clone(), client as i32))));
                }
            }
            Step::Hold => {
                self.settle().await?;
                self.is_committing = false;
                self.log.hold();
            }
            Step::Release => {
                self.log.release();
                self.is_committing = true;
                self.settle().await?;
            }
            Step::Fail => {
                self.settle().await?;
                self.is_committing = false;
                self.log.fail(ErrorCode::NotEnoughReplicasAfterAppend);
                self.settle().await?;
            }
            Step::Move { kept } => {
                self.settle().await?;
                self.groups.on_resignation(0);
                let mut records = self.log.records(0);
                records.truncate(self.committed_len + kept);
                self.log.set_records(0, records);
                self.settle().await?;
                // What the new leader has, and this one loads again, is committed by then.
                self.log.release();
                self.is_committing = true;
                self.leader_epoch += 1;
                self.groups.on_election(0, self.leader_epoch).await;
                self.settle().await?;
            }
            Step::Settle => self.settle().await?,
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_was_acknowledged_or_read_stays(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let mut w = World::new().await;
            for step in &steps {
                w.run(step).await?;
            }
            // In the end all is well, and everybody is answered.
            w.run(&Step::Move { kept: 0 }).await?;
            prop_assert!(w.clients.iter().all(|client| client.commit.is_none() && client.fetch.is_none()));
            for client in 0..3 {
                w.run(&Step::Fetch { client }).await?;
            }
            w.settle().await
        })?;
    }
}
