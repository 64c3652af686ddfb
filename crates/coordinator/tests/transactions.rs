//! `TransactionCoordinator` and `GroupCoordinator` over logs in memory: what happens around the decisions.

#![expect(clippy::disallowed_methods, reason = "requests run as tasks beside the test")]

use std::sync::Arc;
use std::time::Duration;

use milena_common::{ManualClock, Now, TopicPartition, Uuid};
use milena_coordinator::testing::{MemoryLog, MemoryOutside};
use milena_coordinator::{
    GroupConfig, GroupContext, GroupCoordinator, InitProducer, TransactionCoordinator, TxnConfig, TxnFilter, TxnMarker,
    Verified,
};
use milena_protocol::ErrorCode;
use milena_protocol::messages::TxnOffsetCommitRequest;
use milena_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};

const ID: &str = "id";

struct World {
    log: MemoryLog,
    outside: Arc<MemoryOutside>,
    clock: Arc<ManualClock>,
    transactions: TransactionCoordinator,
}

impl World {
    fn on(log: MemoryLog) -> World {
        let config =
            TxnConfig { num_partitions: 1, abort_interval_ms: 5, expiry_interval_ms: 5, ..TxnConfig::default() };
        let clock = Arc::new(ManualClock::new(Now { mono_ms: 1, wall_ms: 1_700_000_000_000 }));
        let outside = Arc::new(MemoryOutside::default());
        let transactions =
            TransactionCoordinator::new(config, Arc::new(log.clone()), outside.clone(), outside.clone(), clock.clone());
        transactions.set_transaction_version(2);
        World { log, outside, clock, transactions }
    }

    async fn loaded() -> World {
        let world = World::on(MemoryLog::default());
        world.transactions.on_election(0, 1).await;
        world
    }

    async fn init(&self) -> Result<(i64, i16), ErrorCode> {
        let request = InitProducer { transactional_id: ID.into(), timeout_ms: 60_000, expected: None };
        self.transactions.init_producer_id(request, false, false).await
    }

    async fn begin(&self, producer: (i64, i16)) -> Result<(), ErrorCode> {
        self.transactions.add_partitions(ID, producer, &[TopicPartition::new("t", 0)], 2).await
    }

    async fn state(&self) -> String {
        self.transactions.describe(ID).await.transaction_state
    }

    async fn until(&self, state: &str) {
        for _ in 0..2_000 {
            if self.state().await == state {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("is {} and does not become {state}", self.state().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_follow_the_decision() {
    let w = World::loaded().await;
    let p = w.init().await.unwrap();
    w.begin(p).await.unwrap();
    w.outside.refusals.lock().extend([ErrorCode::NotEnoughReplicas, ErrorCode::NotLeaderOrFollower]);
    let ended = w.transactions.end_transaction(ID, p, true, 2).await.unwrap();
    assert_eq!((ended.producer_id, ended.producer_epoch), (p.0, 1));
    w.until("CompleteCommit").await;
    let marker = TxnMarker {
        producer_id: p.0,
        producer_epoch: 1,
        committed: true,
        coordinator_epoch: 1,
        transaction_version: 2,
    };
    assert_eq!(w.outside.markers(), [(TopicPartition::new("t", 0), marker)], "tried until it was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_is_not_committed_has_no_markers() {
    let w = World::loaded().await;
    let p = w.init().await.unwrap();
    w.begin(p).await.unwrap();
    w.log.hold();
    let transactions = w.transactions.clone();
    let ending = tokio::spawn(async move { transactions.end_transaction(ID, p, true, 2).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(w.outside.markers(), []);
    w.log.fail(ErrorCode::KafkaStorageError);
    assert!(ending.await.unwrap().is_err());
    assert_eq!(w.outside.markers(), []);
    // It is in the log all the same, so a load finds it, and goes on.
    w.log.release();
    w.until("CompleteCommit").await;
    assert_eq!(w.outside.markers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_coordinator_completes_what_was_decided() {
    let w = World::loaded().await;
    let p = w.init().await.unwrap();
    w.begin(p).await.unwrap();
    w.outside.refusals.lock().extend(vec![ErrorCode::NotEnoughReplicas; 1_000]);
    w.transactions.end_transaction(ID, p, false, 2).await.unwrap();
    assert_eq!(w.init().await, Err(ErrorCode::ConcurrentTransactions));
    w.transactions.on_resignation(0);
    assert_eq!(w.init().await, Err(ErrorCode::NotCoordinator));

    let next = World::on(w.log.clone());
    next.transactions.on_election(0, 2).await;
    next.until("CompleteAbort").await;
    let [(_, marker)] = next.outside.markers()[..] else { panic!("one marker") };
    assert_eq!((marker.coordinator_epoch, marker.committed), (2, false));
    assert_eq!(next.transactions.describe(ID).await.producer_epoch, 1);
    assert_eq!(next.init().await, Ok((p.0, 2)));
    // The first coordinator gave up: its marker would come after those of the next transaction.
    next.begin((p.0, 2)).await.unwrap();
    w.outside.refusals.lock().clear();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(w.outside.markers(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_marker_leaves_the_transaction_as_it_is() {
    let w = World::loaded().await;
    let p = w.init().await.unwrap();
    w.begin(p).await.unwrap();
    w.outside.refusals.lock().push(ErrorCode::TransactionCoordinatorFenced);
    w.transactions.end_transaction(ID, p, true, 2).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((w.state().await.as_str(), w.outside.markers().len()), ("PrepareCommit", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_ends_transactions_and_ids() {
    let w = World::loaded().await;
    let p = w.init().await.unwrap();
    w.begin(p).await.unwrap();
    w.clock.advance_ms(60_001);
    w.until("CompleteAbort").await;
    assert_eq!(w.transactions.end_transaction(ID, p, true, 0).await, Err(ErrorCode::ProducerFenced));
    w.clock.advance_ms(604_800_000);
    w.until("").await;
    assert_eq!(w.transactions.describe(ID).await.error_code, ErrorCode::TransactionalIdNotFound.code());
    let all = TxnFilter { duration_ms: -1, ..TxnFilter::default() };
    assert_eq!(w.transactions.list(&all).await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_checked() {
    let w = World::loaded().await;
    let init = |id: &str, timeout_ms| InitProducer { transactional_id: id.into(), timeout_ms, expected: None };
    for (request, two_phase, keep, error) in [
        (init("", 1), false, false, ErrorCode::InvalidRequest),
        (init(ID, 0), false, false, ErrorCode::InvalidTransactionTimeout),
        (init(ID, 900_001), false, false, ErrorCode::InvalidTransactionTimeout),
        (init(ID, 1), true, false, ErrorCode::TransactionalIdAuthorizationFailed),
        (init(ID, 1), false, true, ErrorCode::UnsupportedVersion),
    ] {
        assert_eq!(w.transactions.init_producer_id(request, two_phase, keep).await, Err(error));
    }
    assert_eq!(w.transactions.add_partitions("", (0, 0), &[], 0).await, Err(ErrorCode::InvalidRequest));
    assert_eq!(w.transactions.end_transaction(ID, (0, 0), true, 0).await, Err(ErrorCode::InvalidProducerIdMapping));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_take_offsets_of_transactions() {
    let log = MemoryLog::default();
    let clock = Arc::new(ManualClock::new(Now { mono_ms: 1, wall_ms: 1_700_000_000_000 }));
    let config = GroupConfig { offsets_topic_num_partitions: 1, ..GroupConfig::default() };
    let groups = GroupCoordinator::without_ticker(config, Arc::new(log.clone()), clock, Uuid::random);
    groups.on_election(0, 1).await;
    let cx = GroupContext { client_id: String::new(), client_host: "/127.0.0.1".into(), api_version: 5 };
    let commit = async |epoch: i16, offset: i64| {
        let partition = TxnOffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        let topic = TxnOffsetCommitRequestTopic { name: "topic".into(), partitions: vec![partition] };
        let request = TxnOffsetCommitRequest {
            group_id: "g".into(),
            producer_id: 7,
            producer_epoch: epoch,
            generation_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let response = groups.txn_offset_commit(cx.clone(), request, Verified::NotAsked).await;
        ErrorCode::from_code(response.topics[0].partitions[0].error_code)
    };
    let fetch = async || {
        let topics =
            vec![OffsetFetchRequestTopics { name: "topic".into(), partition_indexes: vec![0], ..Default::default() }];
        let asked = OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(topics), ..Default::default() };
        let fetched = groups.offset_fetch_group(asked, true).await;
        let told = &fetched.topics[0].partitions[0];
        (ErrorCode::from_code(told.error_code), told.committed_offset)
    };
    let marker = |epoch, committed| TxnMarker {
        producer_id: 7,
        producer_epoch: epoch,
        committed,
        coordinator_epoch: 0,
        transaction_version: 0,
    };
    assert_eq!(commit(1, 5).await, ErrorCode::None);
    assert_eq!(fetch().await, (ErrorCode::UnstableOffsetCommit, -1));
    assert_eq!(commit(0, 6).await, ErrorCode::InvalidProducerEpoch, "a producer that was fenced");
    assert_eq!(groups.complete_transaction(0, marker(0, true)).await, Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(fetch().await, (ErrorCode::UnstableOffsetCommit, -1), "neither touched anything");
    assert_eq!(groups.complete_transaction(0, marker(1, true)).await, Ok(()));
    assert_eq!(fetch().await, (ErrorCode::None, 5));
    commit(1, 9).await;
    assert_eq!(groups.complete_transaction(0, marker(2, false)).await, Ok(()));
    assert_eq!(fetch().await, (ErrorCode::None, 5));
    commit(2, 11).await;
    // The same after a load, with what is open.
    groups.on_resignation(0);
    groups.on_election(0, 2).await;
    assert_eq!(fetch().await, (ErrorCode::UnstableOffsetCommit, -1));
    assert_eq!(groups.complete_transaction(0, marker(2, true)).await, Ok(()));
    assert_eq!(fetch().await, (ErrorCode::None, 11));
}
