//! Replay equals live, over random histories, whole or compacted; and what must hold in every one of them.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Init { id: u8, expected: Option<(usize, i16)> },
    Add { id: u8, who: usize, epoch_off: i16, partition: i32 },
    End { id: u8, who: usize, epoch_off: i16, commit: bool, bump: bool },
    Complete { id: u8 },
    Advance { ms: u64 },
    Look,
    Exhaust { id: u8 },
    Level { level: i16 },
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let id = 0u8..2;
    let who = 0usize..3;
    let off = prop_oneof![6 => Just(0i16), 1 => -2i16..3];
    prop_oneof![
        3 => (id.clone(), proptest::option::of((who.clone(), off.clone())))
            .prop_map(|(id, expected)| Op::Init { id, expected }),
        6 => (id.clone(), who.clone(), off.clone(), 0..4i32)
            .prop_map(|(id, who, epoch_off, partition)| Op::Add { id, who, epoch_off, partition }),
        6 => (id.clone(), who, off, any::<bool>(), any::<bool>())
            .prop_map(|(id, who, epoch_off, commit, bump)| Op::End { id, who, epoch_off, commit, bump }),
        5 => id.clone().prop_map(|id| Op::Complete { id }),
        2 => prop_oneof![Just(1u64), Just(61_000), Just(700_000_000)].prop_map(|ms| Op::Advance { ms }),
        2 => Just(Op::Look),
        1 => id.prop_map(|id| Op::Exhaust { id }),
        1 => (0i16..3).prop_map(|level| Op::Level { level }),
        1 => Just(Op::Restart),
    ]
}

fn name(id: u8) -> String {
    format!("id-{id}")
}

/// What producers of an id know of themselves: the answers they got, newest last.
type Known = HashMap<u8, Vec<(i64, i16)>>;

fn known(known: &Known, id: u8, who: usize, epoch_off: i16) -> (i64, i16) {
    let all = known.get(&id).map_or(&[][..], |all| all);
    let (producer_id, epoch) = all.iter().rev().nth(who).or(all.last()).copied().unwrap_or((100, 0));
    (producer_id, epoch.saturating_add(epoch_off))
}

fn run(h: &mut Harness, producers: &mut Known, op: &Op) {
    match *op {
        Op::Init { id, expected } => {
            let expected = expected.map(|(who, off)| known(producers, id, who, off));
            if let Ok(p) = h.init_with(&name(id), expected) {
                producers.entry(id).or_default().push(p);
            }
        }
        Op::Add { id, who, epoch_off, partition } => {
            let p = known(producers, id, who, epoch_off);
            let before = h.shard.hard.get(&name(id)).cloned();
            let added = h.add_to(&name(id), p, &[tp("t", partition)]);
            if before.is_none_or(|t| (t.producer_id, t.producer_epoch) != p) {
                assert!(added.is_err(), "somebody else's transaction is not touched");
            }
        }
        Op::End { id, who, epoch_off, commit, bump } => {
            let p = known(producers, id, who, epoch_off);
            let before = h.shard.hard.get(&name(id)).cloned();
            let ended = match bump {
                true => h.end_v2_of(&name(id), p, commit),
                false => h.end_of(&name(id), p, commit).map(|()| p),
            };
            let after = h.shard.hard.get(&name(id)).cloned();
            if let Ok(p) = ended {
                producers.entry(id).or_default().push(p);
            } else {
                assert_eq!(before, after, "what is refused changes nothing");
            }
            if before.as_ref().is_none_or(|t| (t.producer_id, t.producer_epoch) != p) {
                assert_eq!(before, after, "somebody else's transaction is not touched");
            }
        }
        Op::Complete { id } => {
            h.complete(&name(id));
        }
        Op::Advance { ms } => h.advance(ms),
        Op::Look => {
            h.look_for_timeouts();
            let now = h.now;
            let look = h.shard.expire_ids(now);
            h.apply(look);
        }
        Op::Exhaust { id } => {
            let id: Arc<str> = name(id).into();
            if let Some(mut t) = h.shard.hard.get(&id).cloned() {
                t.producer_epoch = t.producer_epoch.max(i16::MAX - 2);
                let record = TxnRecord::state(&id, t, h.level);
                h.apply(Outcome::new(vec![record], ()));
            }
        }
        Op::Level { level } => h.level = level,
        Op::Restart => h.restart(),
    }
}

/// Keeps the last record of each key, as the log cleaner does; at the end tombstones go as well.
fn compact(log: &[CoordinatorRecord], drop_tombstones: bool) -> Vec<CoordinatorRecord> {
    let last: HashMap<&Bytes, usize> = log.iter().enumerate().map(|(at, record)| (&record.key, at)).collect();
    let kept = log
        .iter()
        .enumerate()
        .filter(|(at, record)| last[&record.key] == *at && !(drop_tombstones && record.value.is_none()));
    kept.map(|(_, record)| record.clone()).collect()
}

fn check_invariants(h: &Harness, epochs: &mut HashMap<(Arc<str>, i64), i16>) {
    for (id, t) in h.shard.hard.iter() {
        assert!(t.producer_epoch >= 0);
        assert!(!t.partitions.is_empty() || t.state != TxnState::Ongoing);
        assert!(t.next_producer_id == -1 || t.state.is_prepared());
        let last = epochs.entry((id.clone(), t.producer_id)).or_insert(t.producer_epoch);
        assert!(*last <= t.producer_epoch, "an epoch never comes back");
        *last = t.producer_epoch;
        if t.state.is_prepared() {
            assert!(h.decided.contains(id), "nothing that is decided hangs");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn replay_equals_live(level in 0i16..3, ops in proptest::collection::vec(op(), 1..80)) {
        let mut h = Harness::new(level);
        let mut producers = Known::new();
        let mut epochs = HashMap::new();
        for op in &ops {
            run(&mut h, &mut producers, op);
            check_invariants(&h, &mut epochs);
            let loaded = h.load(&h.log);
            prop_assert_eq!(&loaded.hard, &h.shard.hard);
        }
        for drop_tombstones in [false, true] {
            let loaded = h.load(&compact(&h.log, drop_tombstones));
            prop_assert_eq!(&loaded.hard, &h.shard.hard);
        }
    }
}
