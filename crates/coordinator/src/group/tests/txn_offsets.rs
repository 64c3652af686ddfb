//! Offsets of transactions: pending until their marker, never after an abort, and the same after a load.

use milena_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use proptest::prelude::*;

use super::*;

fn txn_commit(producer_id: i64, group: &str, partition: i32, offset: i64) -> TxnOffsetCommitRequest {
    let partition =
        TxnOffsetCommitRequestPartition { partition_index: partition, committed_offset: offset, ..Default::default() };
    TxnOffsetCommitRequest {
        transactional_id: "id".into(),
        group_id: group.into(),
        producer_id,
        topics: vec![TxnOffsetCommitRequestTopic { name: "topic".into(), partitions: vec![partition] }],
        ..Default::default()
    }
}

/// A shard, and its log with markers.
struct Transactions {
    h: Harness,
    log: Vec<LoadedRecord>,
}

impl Transactions {
    fn new() -> Self {
        Transactions { h: Harness::new(), log: Vec::new() }
    }

    fn apply<R>(&mut self, outcome: GroupOutcome<R>) -> R {
        for record in &outcome.records {
            let offset = self.log.len() as i64;
            let producer_id = match record {
                GroupRecord::Offset { producer_id, .. } => *producer_id,
                _ => -1,
            };
            let loaded = LoadedRecord::Record { offset, producer_id, record: GroupShard::encode(record).unwrap() };
            self.log.push(loaded.clone());
            self.h.shard.replay(offset, &GroupShard::decode(loaded));
        }
        outcome.response
    }

    fn commit_in(&mut self, producer_id: i64, group: &str, partition: i32, offset: i64) -> Result<(), ErrorCode> {
        let now = self.h.now;
        let request = txn_commit(producer_id, group, partition, offset);
        let outcome = self.h.shard.commit_transactional_offsets(&request, now);
        self.apply(outcome).map(|_| ())
    }

    fn end(&mut self, producer_id: i64, committed: bool) {
        let offset = self.log.len() as i64;
        let end = LoadedRecord::TransactionEnd { offset, producer_id, committed };
        self.log.push(end.clone());
        self.h.shard.replay(offset, &GroupShard::decode(end));
    }

    /// What is stored, or why it is not said.
    fn fetch(&self, group: &str, partition: i32, require_stable: bool) -> Result<i64, ErrorCode> {
        let fetched = self.h.shard.fetch_offsets(&fetch_request(group, "topic", partition), require_stable);
        let told = &fetched.topics[0].partitions[0];
        match told.error_code {
            0 => Ok(told.committed_offset),
            code => Err(error(code)),
        }
    }

    fn loaded(&self, keep: impl Fn(usize, &LoadedRecord) -> bool) -> GroupShard {
        let mut shard = self.h.load(&[]);
        for (offset, loaded) in self.log.iter().enumerate().filter(|(at, loaded)| keep(*at, loaded)) {
            shard.replay(offset as i64, &GroupShard::decode(loaded.clone()));
        }
        shard
    }
}

#[test]
fn offsets_count_when_their_transaction_is_committed() {
    let mut t = Transactions::new();
    t.commit_in(7, "g", 0, 5).unwrap();
    assert_eq!((t.fetch("g", 0, false), t.fetch("g", 0, true)), (Ok(-1), Err(ErrorCode::UnstableOffsetCommit)));
    assert_eq!(t.fetch("g", 1, true), Ok(-1), "only what is open is unstable");
    t.end(7, true);
    assert_eq!((t.fetch("g", 0, false), t.fetch("g", 0, true)), (Ok(5), Ok(5)));
    t.commit_in(7, "g", 0, 9).unwrap();
    assert_eq!((t.fetch("g", 0, false), t.fetch("g", 0, true)), (Ok(5), Err(ErrorCode::UnstableOffsetCommit)));
    t.end(8, true);
    assert_eq!(t.fetch("g", 0, true), Err(ErrorCode::UnstableOffsetCommit), "somebody else's marker");
    t.end(7, false);
    assert_eq!(t.fetch("g", 0, true), Ok(5));
}

#[test]
fn of_two_commits_the_later_one_counts() {
    let mut t = Transactions::new();
    t.commit_in(7, "g", 0, 5).unwrap();
    let plain = t.h.shard.commit_offsets(&cx(8), &commit_request("g", "", -1, "topic", 0, 6), t.h.now);
    t.apply(plain).unwrap();
    t.end(7, true);
    assert_eq!(t.fetch("g", 0, true), Ok(6), "it was written after the transaction's");
}

#[test]
fn only_members_of_the_generation_commit() {
    let mut h = Harness::new();
    let (members, generation) = h.stable_group(1);
    let commit = |h: &mut Harness, member_id: &str, generation_id: i32| {
        let mut request = txn_commit(7, GROUP, 0, 5);
        request.member_id = member_id.into();
        request.generation_id = generation_id;
        let now = h.now;
        h.shard.commit_transactional_offsets(&request, now).response.err()
    };
    assert_eq!(commit(&mut h, &members[0], generation), None);
    assert_eq!(commit(&mut h, &members[0], generation - 1), Some(ErrorCode::IllegalGeneration));
    assert_eq!(commit(&mut h, "stranger", generation), Some(ErrorCode::UnknownMemberId));
    assert_eq!(commit(&mut h, "", -1), None, "producers of old say nothing");
    let mut nowhere = txn_commit(7, "nowhere", 0, 5);
    nowhere.generation_id = 1;
    let outcome = h.shard.commit_transactional_offsets(&nowhere, h.now);
    assert_eq!(outcome.response.err(), Some(ErrorCode::IllegalGeneration));
}

#[derive(Debug, Clone)]
enum Op {
    Commit { producer_id: i64, group: u8, partition: i32 },
    Plain { group: u8, partition: i32 },
    End { producer_id: i64, committed: bool },
    DeleteTopic,
    DeleteGroup { group: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0i64..3, 0u8..2, 0..2i32).prop_map(|(producer_id, group, partition)| Op::Commit { producer_id, group, partition }),
        2 => (0u8..2, 0..2i32).prop_map(|(group, partition)| Op::Plain { group, partition }),
        4 => (0i64..3, any::<bool>()).prop_map(|(producer_id, committed)| Op::End { producer_id, committed }),
        1 => Just(Op::DeleteTopic),
        1 => (0u8..2).prop_map(|group| Op::DeleteGroup { group }),
    ]
}

proptest! {
    #[test]
    fn replay_equals_live(ops in proptest::collection::vec(op(), 1..60)) {
        let mut t = Transactions::new();
        for op in ops {
            let (now, offset) = (t.h.now, t.log.len() as i64);
            match op {
                Op::Commit { producer_id, group, partition } => {
                    t.commit_in(producer_id, &format!("g{group}"), partition, offset).unwrap();
                }
                Op::Plain { group, partition } => {
                    let request = commit_request(&format!("g{group}"), "", -1, "topic", partition, offset);
                    let outcome = t.h.shard.commit_offsets(&cx(8), &request, now);
                    t.apply(outcome).unwrap();
                }
                Op::End { producer_id, committed } => t.end(producer_id, committed),
                Op::DeleteTopic => {
                    let outcome = t.h.shard.on_topics_deleted(&["topic".into()]);
                    t.apply(outcome);
                }
                Op::DeleteGroup { group } => {
                    let outcome = t.h.shard.delete_group(&format!("g{group}"), now);
                    t.apply(outcome);
                }
            }
            prop_assert_eq!(&t.loaded(|_, _| true).hard, &t.h.shard.hard);
        }
        // The cleaner goes as far as the first open transaction, drops what was aborted, and of the rest keeps the last record of a key.
        let end_of = |at: usize, producer_id: i64| {
            t.log[at..].iter().find_map(|later| match later {
                LoadedRecord::TransactionEnd { producer_id: id, committed, .. } if *id == producer_id => Some(*committed),
                _ => None,
            })
        };
        let counts = |at: usize| match &t.log[at] {
            LoadedRecord::Record { producer_id: -1, .. } => Some(true),
            LoadedRecord::Record { producer_id, .. } => end_of(at, *producer_id),
            LoadedRecord::TransactionEnd { .. } => None,
        };
        let key = |at: usize| match &t.log[at] {
            LoadedRecord::Record { record, .. } => Some(record.key.clone()),
            LoadedRecord::TransactionEnd { .. } => None,
        };
        let is_open = |at: &usize| matches!(&t.log[*at], LoadedRecord::Record { .. }) && counts(*at).is_none();
        let clean_end = (0..t.log.len()).find(is_open).unwrap_or(t.log.len());
        let is_kept = |at: usize, _: &LoadedRecord| match counts(at) {
            _ if at >= clean_end => true,
            Some(true) => !(at + 1..clean_end).any(|later| counts(later) == Some(true) && key(later) == key(at)),
            Some(false) => false,
            None => true,
        };
        let compacted = t.loaded(is_kept);
        for group in ["g0", "g1"] {
            for partition in 0..2 {
                let asked = fetch_request(group, "topic", partition);
                for stable in [false, true] {
                    prop_assert_eq!(
                        compacted.fetch_offsets(&asked, stable).topics,
                        t.h.shard.fetch_offsets(&asked, stable).topics
                    );
                }
            }
        }
    }
}
