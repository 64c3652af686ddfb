//! One test for each way from state to state, and for each way that is refused.

use ErrorCode::{
    ConcurrentTransactions, InvalidProducerIdMapping, InvalidTxnState, ProducerFenced, TransactionAbortable,
    TransactionalIdNotFound,
};

use super::*;

#[test]
fn a_transaction_of_the_old_protocol_keeps_its_epoch() {
    let mut h = Harness::new(1);
    let p = h.init().unwrap();
    assert_eq!((p, h.state()), ((100, 0), Some(TxnState::Empty)));
    h.add(p, &[tp("a", 0), tp("b", 1)]).unwrap();
    assert_eq!(h.state(), Some(TxnState::Ongoing));
    let records = h.log.len();
    h.add(p, &[tp("b", 1)]).unwrap();
    assert_eq!(h.log.len(), records, "what is known is not recorded again");
    h.end(p, true).unwrap();
    assert_eq!(h.state(), Some(TxnState::PrepareCommit));
    assert_eq!(h.decided, [Arc::from(ID)]);
    assert_eq!(h.add(p, &[tp("a", 0)]), Err(ConcurrentTransactions));
    assert_eq!(h.end(p, true), Err(ConcurrentTransactions));
    assert_eq!(h.end(p, false), Err(ConcurrentTransactions));
    let completion = h.complete(ID).unwrap();
    assert_eq!((completion.committed, completion.producer_epoch), (true, 0));
    assert_eq!(completion.partitions, [tp("a", 0), tp("b", 1)]);
    assert_eq!(h.state(), Some(TxnState::CompleteCommit));
    assert_eq!((h.end(p, true), h.end(p, false)), (Ok(()), Err(InvalidTxnState)));
    h.add(p, &[tp("c", 0)]).unwrap();
    h.end(p, false).unwrap();
    assert_eq!(h.end(p, true), Err(ConcurrentTransactions));
    let completion = h.complete(ID).unwrap();
    assert_eq!((completion.committed, completion.partitions), (false, vec![tp("c", 0)]));
    assert_eq!((h.end(p, false), h.end(p, true)), (Ok(()), Err(InvalidTxnState)));
}

#[test]
fn a_transaction_of_the_new_protocol_ends_with_another_epoch() {
    let mut h = Harness::new(2);
    let p = h.init().unwrap();
    assert_eq!(h.end_v2(p, true), Err(InvalidTxnState), "nothing to commit");
    h.add(p, &[tp("a", 0)]).unwrap();
    assert_eq!(h.end_v2(p, true), Ok((100, 1)));
    assert_eq!(h.end_v2(p, true), Err(ConcurrentTransactions), "the same again");
    assert_eq!(h.end_v2(p, false), Err(ConcurrentTransactions));
    assert_eq!(h.end_v2((100, 1), false), Err(ConcurrentTransactions), "the next one has to wait");
    assert_eq!(h.add((100, 1), &[tp("a", 0)]), Err(ConcurrentTransactions));
    let completion = h.complete(ID).unwrap();
    assert_eq!((completion.producer_epoch, completion.client_version), (1, 2));
    assert_eq!(h.end_v2(p, true), Ok((100, 1)), "the same again");
    assert_eq!(h.end_v2(p, false), Err(InvalidTxnState));
    assert_eq!(h.add(p, &[tp("a", 0)]), Err(ProducerFenced), "a late one of the transaction before");
    assert_eq!(h.end_v2((100, 1), true), Err(InvalidTxnState), "nothing to commit");
    assert_eq!(h.end_v2((100, 1), false), Ok((100, 2)), "aborting nothing gives an epoch too");
    assert_eq!(h.complete(ID).unwrap().partitions, []);
    assert_eq!(h.end_v2((100, 1), false), Ok((100, 2)), "the same again");
    assert_eq!(h.end_v2((100, 1), true), Err(InvalidTxnState));
    assert_eq!(h.end_v2((100, 0), true), Err(ProducerFenced));
    assert_eq!(h.end_v2((100, 3), true), Err(ProducerFenced));
}

#[test]
fn a_producer_that_starts_again_fences_the_one_before() {
    for (level, epoch) in [(1, 2), (2, 2)] {
        let mut h = Harness::new(level);
        let old = h.init().unwrap();
        h.add(old, &[tp("a", 0)]).unwrap();
        assert_eq!(h.init(), Err(ConcurrentTransactions));
        assert_eq!(h.state(), Some(TxnState::PrepareAbort));
        assert_eq!(h.init(), Err(ConcurrentTransactions), "its markers are being written");
        assert_eq!(h.end(old, true), Err(ProducerFenced));
        let completion = h.complete(ID).unwrap();
        assert!(!completion.committed && completion.producer_epoch > old.1);
        assert_eq!(h.end(old, true), Err(ProducerFenced));
        assert_eq!(h.add(old, &[tp("a", 0)]), Err(ProducerFenced));
        assert_eq!(h.init(), Ok((old.0, epoch)));
    }
}

#[test]
fn an_expected_epoch_tells_a_retry_from_a_zombie() {
    let mut h = Harness::new(1);
    let p = h.init_with(ID, Some((55, 4))).unwrap();
    assert_eq!(p, (100, 0), "an id that is not known takes anyone");
    assert_eq!(h.init_with(ID, Some((100, 0))), Ok((100, 1)));
    assert_eq!(h.init_with(ID, Some((100, 0))), Ok((100, 1)), "the answer was lost");
    assert_eq!(h.init_with(ID, Some((101, 0))), Err(ProducerFenced));
    assert_eq!(h.init_with(ID, Some((100, 1))), Ok((100, 2)));
    assert_eq!(h.init_with(ID, Some((100, 0))), Err(ProducerFenced));
    assert_eq!(h.init(), Ok((100, 3)));
    assert_eq!(h.init_with(ID, Some((100, 2))), Err(ProducerFenced), "somebody else started");
}

#[test]
fn used_up_epochs_lead_to_another_producer_id() {
    for level in [0, 1, 2] {
        let mut h = Harness::new(level);
        h.put(|t| t.producer_epoch = i16::MAX - 1);
        assert_eq!(h.init_with(ID, Some((7, i16::MAX - 1))), Ok((100, 0)));
        assert_eq!(h.init_with(ID, Some((7, i16::MAX - 1))), Ok((100, 0)), "the answer was lost");
        assert_eq!(h.init_with(ID, Some((7, 5))), Err(ProducerFenced));
        assert_eq!(h.init_with(ID, Some((100, 0))), Ok((100, 1)));
    }
}

#[test]
fn used_up_epochs_at_the_end_of_a_transaction() {
    let mut h = Harness::new(2);
    h.put(|t| t.producer_epoch = i16::MAX - 1);
    let p = (7, i16::MAX - 1);
    h.add(p, &[tp("a", 0)]).unwrap();
    assert_eq!(h.end_v2(p, true), Ok((100, 0)));
    assert_eq!(h.producer(), (7, i16::MAX), "the markers are of the old producer");
    assert_eq!(h.add((100, 0), &[tp("a", 0)]), Err(ConcurrentTransactions));
    assert_eq!(h.end_v2(p, true), Err(ConcurrentTransactions));
    h.restart();
    let completion = h.complete(ID).unwrap();
    assert_eq!((completion.producer_id, completion.producer_epoch), (7, i16::MAX));
    assert_eq!(h.producer(), (100, 0));
    assert_eq!(h.end_v2(p, true), Ok((100, 0)), "the same again");
    assert_eq!(h.end_v2(p, false), Err(InvalidTxnState));
    h.add((100, 0), &[tp("a", 0)]).unwrap();
    assert_eq!(h.end_v2(p, true), Err(InvalidProducerIdMapping), "too late");
    assert_eq!(h.end_v2((100, 0), false), Ok((100, 1)));
}

#[test]
fn fencing_the_last_epoch_does_not_overflow() {
    let mut h = Harness::new(2);
    h.put(|t| t.producer_epoch = i16::MAX - 1);
    let p = (7, i16::MAX - 1);
    h.add(p, &[tp("a", 0)]).unwrap();
    assert_eq!(h.init(), Err(ConcurrentTransactions));
    assert_eq!(h.complete(ID).unwrap().producer_epoch, i16::MAX);
    assert_eq!(h.end_v2(p, true), Err(InvalidTxnState));
    assert_eq!(h.end_v2(p, false), Ok((100, 0)), "it is aborted, as its producer wanted");
    assert_eq!(h.init(), Ok((100, 1)));
    h.put(|t| t.producer_epoch = i16::MAX - 1);
    h.add((100, i16::MAX - 1), &[tp("a", 0)]).unwrap();
    h.advance(60_001);
    h.look_for_timeouts();
    assert_eq!(h.complete(ID).map(|c| (c.producer_id, c.producer_epoch)), Some((100, i16::MAX)));
    assert_eq!(h.init(), Ok((101, 1)));
    let mut h = Harness::new(1);
    h.put(|t| t.producer_epoch = i16::MAX - 1);
    h.add(p, &[tp("a", 0)]).unwrap();
    assert_eq!(h.init(), Err(ConcurrentTransactions));
    assert_eq!(h.complete(ID).unwrap().producer_epoch, i16::MAX);
    assert_eq!(h.init(), Ok((100, 0)));
}

#[test]
fn a_producer_of_the_new_protocol_may_return_after_a_timeout() {
    let mut h = Harness::new(2);
    let p = h.init().unwrap();
    h.add(p, &[tp("a", 0)]).unwrap();
    h.advance(60_001);
    h.look_for_timeouts();
    h.complete(ID);
    assert_eq!(h.end_v2(p, true), Err(InvalidTxnState));
    assert_eq!(h.end_v2(p, false), Ok((100, 1)));
    assert_eq!(h.init_with(ID, Some(p)), Ok((100, 1)));
    let mut h = Harness::new(1);
    let p = h.init().unwrap();
    h.add(p, &[tp("a", 0)]).unwrap();
    h.advance(60_001);
    h.look_for_timeouts();
    h.complete(ID);
    assert_eq!(h.end(p, false), Err(ProducerFenced));
    assert_eq!(h.init_with(ID, Some(p)), Err(ProducerFenced));
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    for (level, epoch) in [(0, 1), (2, 1)] {
        let mut h = Harness::new(level);
        let p = h.init().unwrap();
        h.add(p, &[tp("a", 0)]).unwrap();
        h.advance(40_000);
        h.add(p, &[tp("b", 0)]).unwrap();
        h.advance(20_000);
        h.look_for_timeouts();
        assert_eq!(h.state(), Some(TxnState::Ongoing), "not longer than allowed");
        h.advance(1);
        h.look_for_timeouts();
        assert_eq!((h.state(), h.producer()), (Some(TxnState::PrepareAbort), (100, epoch)));
        assert_eq!(h.end(p, true), Err(ProducerFenced));
        assert_eq!(h.complete(ID).unwrap().partitions, [tp("a", 0), tp("b", 0)]);
    }
}

#[test]
fn idle_ids_are_forgotten() {
    let mut h = Harness::new(2);
    let p = h.init().unwrap();
    h.init_with("open", None).unwrap();
    h.add_to("open", (101, 0), &[tp("a", 0)]).unwrap();
    h.advance(h.config.id_expiration_ms as u64 - 1);
    let look = h.shard.expire_ids(h.now);
    assert!(h.apply(look) == Looked::AtAll && h.state().is_some());
    h.advance(1);
    let look = h.shard.expire_ids(h.now);
    h.apply(look);
    assert_eq!(h.state(), None);
    assert!(h.shard.hard.get("open").is_some());
    assert_eq!(h.add(p, &[tp("a", 0)]), Err(InvalidProducerIdMapping));
    assert_eq!(h.end_v2(p, false), Err(InvalidProducerIdMapping));
    assert_eq!(h.init_with(ID, Some(p)), Ok((102, 0)), "its producer goes on under another id");
}

#[test]
fn partitions_are_verified() {
    let mut h = Harness::new(1);
    let asked = [tp("a", 0), tp("a", 1)];
    let verify = |h: &Harness, p| h.shard.verify_partitions(ID, of(p), &asked);
    assert_eq!(verify(&h, (100, 0)), Err(InvalidProducerIdMapping));
    let p = h.init().unwrap();
    assert_eq!(verify(&h, p), Ok(vec![TransactionAbortable; 2]));
    h.add(p, &[tp("a", 1)]).unwrap();
    assert_eq!(verify(&h, p), Ok(vec![TransactionAbortable, ErrorCode::None]));
    assert_eq!(verify(&h, (100, 1)), Err(ProducerFenced));
    assert_eq!(verify(&h, (101, 0)), Err(InvalidProducerIdMapping));
    h.end(p, true).unwrap();
    assert_eq!(verify(&h, p), Err(ConcurrentTransactions));
    h.complete(ID);
    assert_eq!(verify(&h, p), Ok(vec![TransactionAbortable; 2]), "the next transaction has none yet");
}

#[test]
fn what_was_decided_goes_on_after_a_restart() {
    let mut h = Harness::new(2);
    let p = h.init().unwrap();
    h.add(p, &[tp("a", 0)]).unwrap();
    h.restart();
    assert_eq!(h.decided, [], "an open one is its producer's to end");
    h.end_v2(p, true).unwrap();
    h.restart();
    assert_eq!(h.decided, [Arc::from(ID)]);
    let stale = of(p);
    let (level, now) = (h.level, h.now);
    let outcome = h.shard.complete(ID, stale, true, level, now);
    assert_eq!(h.apply(outcome), Err(InvalidTxnState), "markers of another epoch complete nothing");
    assert_eq!(h.complete(ID).unwrap().partitions, [tp("a", 0)]);
    h.restart();
    assert_eq!(h.decided, []);
}

#[test]
fn ids_are_listed_and_described() {
    let mut h = Harness::new(2);
    let p = h.init().unwrap();
    h.init_with("other", None).unwrap();
    h.add(p, &[tp("b", 1), tp("a", 2), tp("b", 0)]).unwrap();
    h.advance(10);
    let list = |h: &Harness, filter: TxnFilter| {
        let mut ids: Vec<String> = h.shard.list(&filter, h.now).into_iter().map(|t| t.transactional_id).collect();
        ids.sort_unstable();
        ids.join(",")
    };
    let all = TxnFilter { duration_ms: -1, ..Default::default() };
    assert_eq!(list(&h, all.clone()), "id,other");
    assert_eq!(list(&h, TxnFilter { states: vec!["Ongoing".into(), "nonsense".into()], ..all.clone() }), "id");
    assert_eq!(list(&h, TxnFilter { producer_ids: vec![101], ..all.clone() }), "other");
    let pattern = Some(regex::Regex::new("^(?:o.*)$").unwrap());
    assert_eq!(list(&h, TxnFilter { id_pattern: pattern, ..all }), "other");
    let described = h.shard.describe(ID);
    assert_eq!((described.transaction_state.as_str(), described.producer_id), ("Ongoing", 100));
    assert_eq!(described.transaction_start_time_ms, h.now.wall_ms - 10);
    let topics: Vec<_> = described.topics.iter().map(|t| (t.topic.as_str(), &*t.partitions)).collect();
    assert_eq!(topics, [("a", &[2][..]), ("b", &[0, 1])]);
    assert_eq!(h.shard.describe("nobody").error_code, TransactionalIdNotFound.code());
}
