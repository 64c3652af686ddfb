//! `TransactionCoordinator`: the transaction APIs as the broker's handlers call them.
//!
//! Owns what is the same for every transaction: which partition coordinates it, the looks for what took too long, and the tasks
//! that write markers until each partition has its own. Decisions are made in `txn`, order and commits in `shard`. Handlers
//! authorise, check that topics exist, and word errors for their versions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::atomic::{AtomicI16, AtomicI32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use milena_common::{Clock, Now, Outcome, TopicPartition};
use milena_protocol::ErrorCode;
use milena_protocol::messages::describe_transactions_response::TransactionState as Described;
use milena_protocol::messages::list_transactions_response::TransactionState as Listed;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::expiry::Looked;
use super::partitions::Producer;
use super::{
    Ended, InitProducer, Step, TRANSACTION_VERSION_2, TxnConfig, TxnFilter, TxnOutcome, TxnShard,
    validate_transactional_id,
};
use crate::coordinator::{partition_for, to_client};
use crate::shard::Runtime;
use crate::writer::{BoxFuture, PartitionWriter, TxnMarker};

/// How markers get to the partitions of a transaction. The broker implements it, tests do in memory.
pub trait MarkerWriter: Send + Sync + 'static {
    /// Writes the marker to each partition and waits until it is committed there; one result each, in order. A partition that does
    /// not exist any more needs none, and counts as done.
    fn write_markers(
        &self,
        marker: TxnMarker,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<Vec<Result<(), ErrorCode>>>;
}

/// Where fresh producer ids come from.
pub trait ProducerIdSource: Send + Sync + 'static {
    /// An id that nobody has.
    fn next(&self) -> BoxFuture<Result<i64, ErrorCode>>;
}

/// The coordinator of transactions on this broker. Cheap to clone.
#[derive(Clone)]
pub struct TransactionCoordinator {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<TxnConfig>,
    runtime: Runtime<TxnShard>,
    num_partitions: AtomicI32,
    /// The finalized level of `transaction.version`.
    level: AtomicI16,
    ids: Arc<dyn ProducerIdSource>,
    markers: Arc<dyn MarkerWriter>,
    /// Ids, with their partitions, whose decided transactions are being completed; `true` when there is another decision to look
    /// at after this one. Never two tasks for one id: a marker that is written late would end a later transaction of the same epoch.
    completing: Mutex<HashMap<(i32, Arc<str>), bool>>,
}

/// Ids with a decided transaction, and their partitions.
type Decided = mpsc::UnboundedReceiver<(i32, Arc<str>)>;

/// How long what did not succeed on the way to a complete transaction waits before it is tried again.
const BACKOFF: Duration = Duration::from_millis(100);

impl TransactionCoordinator {
    /// A coordinator that serves no partition yet: `on_election` gives it some. Starts its tasks, so it needs a tokio runtime.
    pub fn new(
        config: TxnConfig,
        writer: Arc<dyn PartitionWriter>,
        markers: Arc<dyn MarkerWriter>,
        ids: Arc<dyn ProducerIdSource>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let config = Arc::new(config);
        // Bounded by the number of transactional ids: each has at most one decision that is not completed.
        let (decided, to_complete) = mpsc::unbounded_channel();
        let shard_config = config.clone();
        let on_effect = move |partition, transactional_id| {
            // Nobody listens any more when the broker has stopped.
            let _ = decided.send((partition, transactional_id));
        };
        let new_shard = move |_| TxnShard::new(shard_config.clone());
        let runtime = Runtime::with_effects(writer, clock, new_shard, Arc::new(on_effect));
        let inner = Arc::new(Inner {
            num_partitions: AtomicI32::new(config.num_partitions),
            config,
            runtime,
            level: AtomicI16::new(0),
            ids,
            markers,
            completing: Mutex::default(),
        });
        inner.start_tasks(to_complete);
        TransactionCoordinator { inner }
    }

    /// Partition of `__transaction_state` whose leader coordinates the id.
    pub fn partition_for(&self, transactional_id: &str) -> i32 {
        partition_for(transactional_id, self.inner.num_partitions.load(Ordering::Relaxed))
    }

    /// How many partitions `__transaction_state` really has; called when the topic is first seen in the metadata.
    pub fn set_num_partitions(&self, num_partitions: i32) {
        self.inner.num_partitions.store(num_partitions.max(1), Ordering::Relaxed);
    }

    /// The finalized level of the feature `transaction.version`: what is recorded, and how the coordinator's own aborts bump epochs.
    pub fn set_transaction_version(&self, level: i16) {
        self.inner.level.store(level, Ordering::Relaxed);
    }

    /// See `set_transaction_version`.
    pub fn transaction_version(&self) -> i16 {
        self.inner.level.load(Ordering::Relaxed)
    }

    /// This broker leads `partition` of `__transaction_state` from `leader_epoch` on. Its ids answer COORDINATOR_LOAD_IN_PROGRESS
    /// from now on and until the future, which loads them, is ready. It may be spawned.
    pub fn on_election(&self, partition: i32, leader_epoch: i32) -> impl Future<Output = ()> + Send + use<> {
        self.inner.runtime.on_election(partition, leader_epoch)
    }

    /// This broker no longer leads `partition`: its ids answer NOT_COORDINATOR.
    pub fn on_resignation(&self, partition: i32) {
        self.inner.runtime.on_resignation(partition);
    }

    /// Resigns from every partition, for good: the broker stops.
    pub fn shutdown(&self) {
        self.inner.runtime.shutdown();
    }

    /// InitProducerId v0-6 of a transactional id: the producer's id and epoch.
    ///
    /// Errors: INVALID_REQUEST, TRANSACTIONAL_ID_AUTHORIZATION_FAILED (two-phase commits are not enabled), UNSUPPORTED_VERSION,
    /// INVALID_TRANSACTION_TIMEOUT, CONCURRENT_TRANSACTIONS, PRODUCER_FENCED.
    pub async fn init_producer_id(
        &self,
        request: InitProducer,
        enable_two_phase_commit: bool,
        keep_prepared_txn: bool,
    ) -> Result<(i64, i16), ErrorCode> {
        let config = &self.inner.config;
        validate_transactional_id(&request.transactional_id)?;
        if enable_two_phase_commit && !config.two_phase_commit_enable {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
        if keep_prepared_txn {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let max_timeout_ms = if enable_two_phase_commit { i32::MAX } else { config.max_timeout_ms };
        if !(1..=max_timeout_ms).contains(&request.timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        // One that takes part in two-phase commits is never aborted by the coordinator.
        let timeout_ms = if enable_two_phase_commit { i32::MAX } else { request.timeout_ms };
        let request = InitProducer { timeout_ms, ..request };
        let level = self.transaction_version();
        let id = request.transactional_id.clone();
        self.with_producer_id(&id, |shard, fresh, now| shard.init_producer(&request, level, fresh, now)).await
    }

    /// AddPartitionsToTxn: all or none.
    ///
    /// Errors: INVALID_REQUEST, INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, CONCURRENT_TRANSACTIONS.
    pub async fn add_partitions(
        &self,
        transactional_id: &str,
        producer: (i64, i16),
        partitions: &[TopicPartition],
        client_version: i16,
    ) -> Result<(), ErrorCode> {
        validate_transactional_id(transactional_id)?;
        let level = self.transaction_version();
        let partition = self.partition_for(transactional_id);
        let submitted = self.inner.runtime.submit(partition, |shard, now| {
            shard.add_partitions(transactional_id, of(producer), partitions, client_version, level, now)
        });
        self.commit(submitted).await?
    }

    /// AddPartitionsToTxn v4 and later with `verify_only`: an error for each partition, in order.
    ///
    /// Errors, of all: as `add_partitions`.
    pub async fn verify_partitions(
        &self,
        transactional_id: &str,
        producer: (i64, i16),
        partitions: &[TopicPartition],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        validate_transactional_id(transactional_id)?;
        let partition = self.partition_for(transactional_id);
        let submitted = self.inner.runtime.submit(partition, |shard, _| {
            Outcome::response(shard.verify_partitions(transactional_id, of(producer), partitions))
        });
        self.commit(submitted).await?
    }

    /// EndTxn: decided and recorded when this is ready; the markers follow. From `client_version` 2 on the producer gets a new epoch.
    ///
    /// Errors: INVALID_REQUEST, INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, INVALID_TXN_STATE, CONCURRENT_TRANSACTIONS.
    pub async fn end_transaction(
        &self,
        transactional_id: &str,
        producer: (i64, i16),
        commit: bool,
        client_version: i16,
    ) -> Result<Ended, ErrorCode> {
        validate_transactional_id(transactional_id)?;
        let level = self.transaction_version();
        let producer = of(producer);
        self.with_producer_id(transactional_id, |shard, fresh, now| match client_version >= TRANSACTION_VERSION_2 {
            true => shard.end_transaction_and_bump(transactional_id, producer, commit, level, fresh, now),
            false => shard.end_transaction(transactional_id, producer, commit, level, now),
        })
        .await
    }

    /// DescribeTransactions of one id.
    pub async fn describe(&self, transactional_id: &str) -> Described {
        let partition = self.partition_for(transactional_id);
        let described = match validate_transactional_id(transactional_id) {
            Ok(()) => {
                let submitted = self
                    .inner
                    .runtime
                    .submit(partition, |shard, _| Outcome::response(shard.describe(transactional_id)));
                self.commit(submitted).await
            }
            Err(error) => Err(error),
        };
        described.unwrap_or_else(|error| Described {
            transactional_id: transactional_id.to_owned(),
            error_code: error.code(),
            ..Default::default()
        })
    }

    /// ListTransactions: the ids that this broker coordinates.
    ///
    /// Errors: COORDINATOR_LOAD_IN_PROGRESS while any partition is loading.
    pub async fn list(&self, filter: &TxnFilter) -> Result<Vec<Listed>, ErrorCode> {
        let mut all = Vec::new();
        for partition in self.inner.runtime.partitions() {
            let submitted =
                self.inner.runtime.submit(partition, |shard, now| Outcome::response(shard.list(filter, now)));
            match self.commit(submitted).await {
                Ok(listed) => all.extend(listed),
                // Moved away in the meantime: its new coordinator lists it.
                Err(ErrorCode::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Runs an operation that may need a fresh producer id, which must be asked for outside.
    async fn with_producer_id<T: Send + 'static>(
        &self,
        transactional_id: &str,
        op: impl Fn(&mut TxnShard, Option<i64>, Now) -> TxnOutcome<Step<T>>,
    ) -> Result<T, ErrorCode> {
        let partition = self.partition_for(transactional_id);
        let mut fresh = None;
        loop {
            let submitted = self.inner.runtime.submit(partition, |shard, now| op(shard, fresh, now));
            match self.commit(submitted).await? {
                Step::Done(result) => return result,
                Step::NeedsProducerId => fresh = Some(self.inner.ids.next().await?),
            }
        }
    }

    /// Waits `request.timeout.ms` at most; the operation stays done if it is late. Errors come in the words clients know.
    async fn commit<R>(&self, submitted: impl Future<Output = Result<R, ErrorCode>>) -> Result<R, ErrorCode> {
        let timeout = Duration::from_millis(self.inner.config.request_timeout_ms);
        tokio::time::timeout(timeout, submitted).await.unwrap_or(Err(ErrorCode::RequestTimedOut)).map_err(to_client)
    }
}

fn of((producer_id, producer_epoch): (i64, i16)) -> Producer {
    Producer { producer_id, producer_epoch }
}

impl Inner {
    #[expect(clippy::disallowed_methods, reason = "the coordinator's own tasks; they end with its last clone")]
    fn start_tasks(self: &Arc<Self>, decided: Decided) {
        tokio::spawn(complete_decided(Arc::downgrade(self), decided));
        tokio::spawn(look_for_timeouts(Arc::downgrade(self), self.config.abort_interval_ms));
        tokio::spawn(look_for_expired_ids(Arc::downgrade(self), self.config.expiry_interval_ms));
    }

    /// Writes the markers of an id's decided transaction and records that it is complete. Goes on until that is done or this broker
    /// no longer coordinates the id: whoever does then begins anew, under an epoch that fences what is still on its way.
    async fn complete(&self, partition: i32, transactional_id: &str) {
        let Some(leader_epoch) = self.runtime.leader_epoch(partition) else { return };
        let pending = |shard: &mut TxnShard, _| Outcome::response(shard.pending_completion(transactional_id));
        let Some(Some(completion)) = self.insist(partition, leader_epoch, pending).await else { return };
        let marker = TxnMarker {
            producer_id: completion.producer_id,
            producer_epoch: completion.producer_epoch,
            committed: completion.committed,
            coordinator_epoch: leader_epoch,
            transaction_version: completion.client_version,
        };
        let mut left = completion.partitions;
        while !left.is_empty() {
            let results = self.markers.write_markers(marker, left.clone()).await;
            let fenced = [ErrorCode::InvalidProducerEpoch, ErrorCode::TransactionCoordinatorFenced];
            let mut failed = Vec::new();
            for (at, error) in left.into_iter().zip(results).filter_map(|(at, result)| Some((at, result.err()?))) {
                if fenced.contains(&error) {
                    let (partition, error) = (at, error.name());
                    tracing::error!(transactional_id, %partition, ?marker, error, "a marker was fenced: its transaction stays as it is");
                    return;
                }
                tracing::debug!(transactional_id, partition = %at, error = error.name(), "a marker is written again");
                failed.push(at);
            }
            left = failed;
            if !left.is_empty() {
                tokio::time::sleep(BACKOFF).await;
                if self.runtime.leader_epoch(partition) != Some(leader_epoch) {
                    return;
                }
            }
        }
        let producer = of((completion.producer_id, completion.producer_epoch));
        let complete = |shard: &mut TxnShard, now| {
            let level = self.level.load(Ordering::Relaxed);
            shard.complete(transactional_id, producer, completion.committed, level, now)
        };
        if let Some(Err(error)) = self.insist(partition, leader_epoch, complete).await {
            tracing::warn!(transactional_id, error = error.name(), "a transaction was not where its markers left it");
        }
    }

    /// Runs an operation until it is committed; `None` when this broker does not coordinate the partition any more.
    async fn insist<R: Send + 'static>(
        &self,
        partition: i32,
        leader_epoch: i32,
        op: impl Fn(&mut TxnShard, Now) -> TxnOutcome<R>,
    ) -> Option<R> {
        while self.runtime.leader_epoch(partition) == Some(leader_epoch) {
            match self.runtime.submit(partition, &op).await {
                Ok(response) => return Some(response),
                Err(error) => tracing::debug!(partition, error = error.name(), "an operation is tried again"),
            }
            tokio::time::sleep(BACKOFF).await;
        }
        None
    }

    /// One look at every partition; `look` gets a fresh producer id if it asked for one.
    async fn look(&self, what: &str, look: impl Fn(&mut TxnShard, Option<i64>, Now) -> TxnOutcome<Looked>) {
        for partition in self.runtime.partitions() {
            let mut fresh = None;
            loop {
                let looked = self.runtime.submit(partition, |shard, now| look(shard, fresh.take(), now)).await;
                match looked {
                    Ok(Looked::AtSome) => {}
                    Ok(Looked::NeedsProducerId) => match self.ids.next().await {
                        Ok(id) => fresh = Some(id),
                        Err(_) => break,
                    },
                    Ok(Looked::AtAll) | Err(ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoadInProgress) => break,
                    Err(error) => {
                        tracing::warn!(
                            partition,
                            error = error.name(),
                            what,
                            "could not be recorded; the next look will"
                        );
                        break;
                    }
                }
            }
        }
    }
}

/// Sees to it that there is one task for each id with a decided transaction.
#[expect(clippy::disallowed_methods, reason = "a completion outlives the request that decided it")]
async fn complete_decided(weak: Weak<Inner>, mut decided: Decided) {
    while let Some(key) = decided.recv().await {
        let Some(inner) = weak.upgrade() else { return };
        match inner.completing.lock().entry(key.clone()) {
            Entry::Occupied(mut running) => {
                running.insert(true);
                continue;
            }
            Entry::Vacant(idle) => idle.insert(false),
        };
        tokio::spawn(async move {
            loop {
                inner.complete(key.0, &key.1).await;
                match inner.completing.lock().entry(key.clone()) {
                    Entry::Occupied(mut again) if *again.get() => again.insert(false),
                    Entry::Occupied(done) => break done.remove(),
                    Entry::Vacant(_) => break false,
                };
            }
        });
    }
}

async fn look_for_timeouts(weak: Weak<Inner>, interval_ms: u64) {
    while let Some(inner) = sleep_and_upgrade(&weak, interval_ms).await {
        let level = inner.level.load(Ordering::Relaxed);
        inner
            .look("transactions that took too long", |shard, fresh, now| shard.abort_timed_out(level, fresh, now))
            .await;
    }
}

async fn look_for_expired_ids(weak: Weak<Inner>, interval_ms: u64) {
    while let Some(inner) = sleep_and_upgrade(&weak, interval_ms).await {
        inner.look("expired transactional ids", |shard, _, now| shard.expire_ids(now)).await;
    }
}

async fn sleep_and_upgrade(weak: &Weak<Inner>, interval_ms: u64) -> Option<Arc<Inner>> {
    tokio::time::sleep(Duration::from_millis(interval_ms.max(1))).await;
    weak.upgrade()
}
