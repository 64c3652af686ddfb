//! The driver of coordinator partitions: loads them, runs operations on them in order, and holds every answer back until
//! what it rests on is committed.
//!
//! Owns locks, channels and tasks; never a decision about groups or transactions (that is the `Shard`'s) and never the
//! bytes of a log (that is the `PartitionWriter`'s). Called by `GroupCoordinator`.
//!
//! One operation: lock the shard, let due timers run, call the operation, replay its records, append them, unlock. The
//! answer leaves when the append is committed; an answer without records waits for the appends before it, since it may
//! have seen their effect. When an append fails, the state in memory may be ahead of the log: the shard is dropped,
//! whoever waits is told NOT_COORDINATOR, and the partition is loaded again.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use milena_common::{Clock, Now, Outcome, StateMachine};
use milena_protocol::ErrorCode;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::writer::{Committed, CoordinatorRecord, LoadedRecord, PartitionWriter, TransactionalProducer, TxnMarker};

/// Names a request whose answer is parked inside a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyId(pub u64);

/// One coordinator partition: recorded state that only `replay` changes, and what is never recorded.
pub trait Shard: StateMachine<Record: Send> + Send + 'static {
    /// The answer to a request that was parked.
    type Parked: Send + 'static;

    /// What must be done outside once the decision that asks for it is committed.
    type Effect: Send + 'static;

    /// The bytes that Kafka stores for a record.
    fn encode(record: &Self::Record) -> Result<CoordinatorRecord, ErrorCode>;

    /// The meaning of what was read back. Never fails: what is not understood is a record without effect.
    fn decode(loaded: LoadedRecord) -> Self::Record;

    /// Called once after the whole log was replayed: sets the timers that recorded state asks for.
    fn on_loaded(&mut self, now: Now);

    /// Runs the earliest timer that is due; `None` when none is.
    fn on_timer(&mut self, now: Now) -> Option<Outcome<(), Self::Record>>;

    /// The monotonic instant of the next timer.
    fn next_deadline(&self) -> Option<u64>;

    /// Takes the parked requests that can be answered now.
    fn take_replies(&mut self) -> Vec<(ReplyId, Self::Parked)>;

    /// Takes what the last operation, timer or load asks to be done.
    fn take_effects(&mut self) -> Vec<Self::Effect> {
        Vec::new()
    }
}

/// Carries out the effects of a partition's shard. Never blocks.
pub type OnEffect<E> = Arc<dyn Fn(i32, E) + Send + Sync>;

/// All coordinator partitions of one broker. Cheap to clone.
pub struct Runtime<S: Shard> {
    inner: Arc<Inner<S>>,
}

impl<S: Shard> Clone for Runtime<S> {
    fn clone(&self) -> Self {
        Runtime { inner: self.inner.clone() }
    }
}

struct Inner<S: Shard> {
    writer: Arc<dyn PartitionWriter>,
    clock: Arc<dyn Clock>,
    new_shard: Box<dyn Fn(i32) -> S + Send + Sync>,
    on_effect: OnEffect<S::Effect>,
    slots: Mutex<HashMap<i32, Arc<Mutex<Slot<S>>>>>,
    /// Distinguishes loads of the same partition; also the source of reply ids.
    next_id: AtomicU64,
    /// Deadline the ticker sleeps until; a shard with an earlier one wakes it.
    ticker_deadline_ms: AtomicU64,
    ticker_wake: Notify,
    /// Set for good when the broker stops.
    stopped: AtomicBool,
}

enum Slot<S: Shard> {
    /// Not ours (any more).
    Inactive,
    Loading {
        leader_epoch: i32,
        load_id: u64,
    },
    Active(Active<S>),
}

struct Active<S: Shard> {
    shard: S,
    leader_epoch: i32,
    load_id: u64,
    parked: HashMap<ReplyId, oneshot::Sender<S::Parked>>,
    /// Offset the next record gets if nothing else writes to the partition.
    next_offset: i64,
    /// Answers that wait for a commit, in order.
    in_flight: Arc<AtomicU64>,
    commits: mpsc::UnboundedSender<Commit>,
    /// Dropped with the shard: what waits for a commit is no longer ours to promise.
    _alive: oneshot::Sender<()>,
}

/// Answers to give when `committed` says so, and everything before it is committed too.
struct Commit {
    committed: Vec<Committed>,
    release: Vec<Release>,
}

/// Why an operation did not come to its end.
enum Failed {
    /// Nothing was written, and nothing changed.
    Refused(ErrorCode),
    /// The state in memory may be ahead of the log.
    Behind(ErrorCode),
}

type Release = Box<dyn FnOnce(Result<(), ErrorCode>) + Send>;

/// How long a failed load waits before it is tried again.
const RELOAD_BACKOFF_MS: u64 = 200;

impl<S: Shard> Runtime<S> {
    pub fn new(
        writer: Arc<dyn PartitionWriter>,
        clock: Arc<dyn Clock>,
        new_shard: impl Fn(i32) -> S + Send + Sync + 'static,
    ) -> Self {
        Runtime::with_effects(writer, clock, new_shard, Arc::new(|_, _| {}))
    }

    /// As `new`, for shards whose decisions have effects outside.
    pub fn with_effects(
        writer: Arc<dyn PartitionWriter>,
        clock: Arc<dyn Clock>,
        new_shard: impl Fn(i32) -> S + Send + Sync + 'static,
        on_effect: OnEffect<S::Effect>,
    ) -> Self {
        Runtime {
            inner: Arc::new(Inner {
                writer,
                clock,
                new_shard: Box::new(new_shard),
                on_effect,
                slots: Mutex::new(HashMap::new()),
                next_id: AtomicU64::new(1),
                ticker_deadline_ms: AtomicU64::new(u64::MAX),
                ticker_wake: Notify::new(),
                stopped: AtomicBool::new(false),
            }),
        }
    }

    /// Starts the task that runs timers; it ends when the last clone of the runtime is gone. Needs a tokio runtime.
    #[expect(clippy::disallowed_methods, reason = "the driver's one timer task")]
    pub fn start_ticker(&self) {
        tokio::spawn(run_ticker(Arc::downgrade(&self.inner)));
    }

    /// This broker became the leader of `partition`. It counts as loading at once; the future loads it, and is ready when the shard
    /// serves (or the load was overtaken).
    pub fn on_election(&self, partition: i32, leader_epoch: i32) -> impl Future<Output = ()> + Send + use<S> {
        let inner = self.inner.clone();
        let started = inner.start_loading(partition, leader_epoch);
        async move {
            if let Some((slot, load_id)) = started {
                inner.load(partition, slot, leader_epoch, load_id).await;
            }
        }
    }

    /// This broker is no longer the leader of `partition`: whoever waits is told NOT_COORDINATOR.
    pub fn on_resignation(&self, partition: i32) {
        let Some(slot) = self.inner.slots.lock().remove(&partition) else {
            return;
        };
        let old = std::mem::replace(&mut *slot.lock(), Slot::Inactive);
        drop(old);
        tracing::info!(partition, "unloaded coordinator partition");
    }

    /// Resigns from every partition and takes no new one.
    pub fn shutdown(&self) {
        self.inner.stopped.store(true, Ordering::Release);
        for partition in self.partitions() {
            self.on_resignation(partition);
        }
    }

    /// Partitions this broker coordinates, loaded or loading.
    pub fn partitions(&self) -> Vec<i32> {
        let mut partitions: Vec<i32> = self.inner.slots.lock().keys().copied().collect();
        partitions.sort_unstable();
        partitions
    }

    /// The leader epoch in which this broker coordinates `partition`, loaded or loading.
    pub fn leader_epoch(&self, partition: i32) -> Option<i32> {
        let slot = self.inner.slots.lock().get(&partition).cloned()?;
        match &*slot.lock() {
            Slot::Inactive => None,
            Slot::Loading { leader_epoch, .. } | Slot::Active(Active { leader_epoch, .. }) => Some(*leader_epoch),
        }
    }

    /// Runs an operation whose answer is known at once; ready when that answer may be given.
    ///
    /// Errors: NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS, or what the append answered (not translated).
    pub async fn submit<R: Send + 'static>(
        &self,
        partition: i32,
        op: impl FnOnce(&mut S, Now) -> Outcome<R, S::Record>,
    ) -> Result<R, ErrorCode> {
        let (tx, rx) = oneshot::channel();
        self.inner.run(partition, |active, now| {
            let Outcome { records, response } = op(&mut active.shard, now);
            let release: Release = Box::new(move |committed| {
                let _ = tx.send(committed.map(|()| response));
            });
            (records, Some(release))
        })?;
        rx.await.unwrap_or(Err(ErrorCode::NotCoordinator))
    }

    /// As `submit`; the records belong to a producer's transaction.
    ///
    /// Errors: also INVALID_PRODUCER_EPOCH and INVALID_TXN_STATE, when the log refuses the producer.
    pub async fn submit_transactional<R: Send + 'static>(
        &self,
        partition: i32,
        producer: TransactionalProducer,
        op: impl FnOnce(&mut S, Now) -> Outcome<R, S::Record>,
    ) -> Result<R, ErrorCode> {
        let (tx, rx) = oneshot::channel();
        self.inner.run_with(partition, |inner, active, now| {
            let Outcome { records, response } = op(&mut active.shard, now);
            let release: Release = Box::new(move |committed| {
                let _ = tx.send(committed.map(|()| response));
            });
            inner.finish_transactional(partition, active, producer, records, release, now)
        })?;
        rx.await.unwrap_or(Err(ErrorCode::NotCoordinator))
    }

    /// Ends a producer's transaction in the partition.
    ///
    /// Errors: also INVALID_PRODUCER_EPOCH and TRANSACTION_COORDINATOR_FENCED, when the log refuses the marker.
    pub async fn submit_marker(&self, partition: i32, marker: TxnMarker) -> Result<(), ErrorCode> {
        let (tx, rx) = oneshot::channel();
        self.inner.run_with(partition, |inner, active, now| {
            let release: Release = Box::new(move |committed| {
                let _ = tx.send(committed);
            });
            inner.finish_marker(partition, active, marker, release, now)
        })?;
        rx.await.unwrap_or(Err(ErrorCode::NotCoordinator))
    }

    /// Runs an operation that may park its request; ready when the shard answers it.
    pub async fn submit_parked(
        &self,
        partition: i32,
        op: impl FnOnce(&mut S, ReplyId, Now) -> Outcome<(), S::Record>,
    ) -> Result<S::Parked, ErrorCode> {
        let (tx, rx) = oneshot::channel();
        let reply = ReplyId(self.inner.next_id.fetch_add(1, Ordering::Relaxed));
        self.inner.run(partition, |active, now| {
            active.parked.insert(reply, tx);
            (op(&mut active.shard, reply, now).records, None)
        })?;
        rx.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// Runs every timer that is due, on every shard. The ticker calls it; tests with a manual clock do too.
    pub fn tick(&self) {
        self.inner.tick();
    }
}

impl<S: Shard> Inner<S> {
    /// Makes the slot of a partition a loading one; `None` if there is nothing to do.
    fn start_loading(&self, partition: i32, leader_epoch: i32) -> Option<(Arc<Mutex<Slot<S>>>, u64)> {
        let mut slots = self.slots.lock();
        if self.stopped.load(Ordering::Acquire) {
            return None;
        }
        let slot = slots.entry(partition).or_insert_with(|| Arc::new(Mutex::new(Slot::Inactive))).clone();
        let load_id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut state = slot.lock();
        match &*state {
            Slot::Loading { leader_epoch: known, .. } | Slot::Active(Active { leader_epoch: known, .. })
                if *known >= leader_epoch =>
            {
                return None;
            }
            _ => {}
        }
        *state = Slot::Loading { leader_epoch, load_id };
        drop(state);
        Some((slot, load_id))
    }

    /// One operation on one shard, with the timers due before it.
    fn run(
        self: &Arc<Self>,
        partition: i32,
        op: impl FnOnce(&mut Active<S>, Now) -> (Vec<S::Record>, Option<Release>),
    ) -> Result<(), ErrorCode> {
        self.run_with(partition, |inner, active, now| {
            let (records, release) = op(active, now);
            inner.finish(partition, active, records, release, now).map_err(Failed::Behind)
        })
    }

    /// As `run`; `op` also appends what it decided.
    fn run_with(
        self: &Arc<Self>,
        partition: i32,
        op: impl FnOnce(&Self, &mut Active<S>, Now) -> Result<(), Failed>,
    ) -> Result<(), ErrorCode> {
        let slot = self.slots.lock().get(&partition).cloned().ok_or(ErrorCode::NotCoordinator)?;
        let mut state = slot.lock();
        let active = match &mut *state {
            Slot::Inactive => return Err(ErrorCode::NotCoordinator),
            Slot::Loading { .. } => return Err(ErrorCode::CoordinatorLoadInProgress),
            Slot::Active(active) => active,
        };
        let now = self.clock.now();
        let mut result = self.run_timers(partition, active, now).map_err(Failed::Behind);
        if result.is_ok() {
            result = op(self, active, now);
        }
        match result {
            Ok(()) => {}
            Err(Failed::Refused(error)) => return Err(error),
            Err(Failed::Behind(error)) => {
                self.fail(partition, &slot, &mut state, error);
                return Err(error);
            }
        }
        if let Some(deadline) = active.shard.next_deadline() {
            self.wake_ticker(deadline);
        }
        Ok(())
    }

    fn run_timers(&self, partition: i32, active: &mut Active<S>, now: Now) -> Result<(), ErrorCode> {
        while let Some(Outcome { records, response: () }) = active.shard.on_timer(now) {
            self.finish(partition, active, records, None, now)?;
        }
        Ok(())
    }

    /// Replays and appends what an operation decided, and queues the answers it makes possible.
    fn finish(
        &self,
        partition: i32,
        active: &mut Active<S>,
        records: Vec<S::Record>,
        release: Option<Release>,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let mut encoded = Vec::with_capacity(records.len());
        for record in &records {
            encoded.push(S::encode(record)?);
        }
        for record in &records {
            active.shard.replay(active.next_offset, record);
            active.next_offset += 1;
        }
        let mut release: Vec<Release> = release.into_iter().collect();
        for (reply, answer) in active.shard.take_replies() {
            // A requester that went away has no sender any more; its answer is dropped.
            if let Some(tx) = active.parked.remove(&reply) {
                release.push(Box::new(move |committed| {
                    if committed.is_ok() {
                        let _ = tx.send(answer);
                    }
                }));
            }
        }
        for effect in active.shard.take_effects() {
            let on_effect = self.on_effect.clone();
            release.push(Box::new(move |committed| {
                if committed.is_ok() {
                    on_effect(partition, effect);
                }
            }));
        }
        let committed: Vec<_> = split_batches(encoded, self.writer.max_batch_bytes(partition))
            .into_iter()
            .map(|batch| self.writer.append(partition, batch, now))
            .collect();
        Self::queue(active, committed, release)
    }

    /// As `finish`, for records of a transaction. The log may refuse the producer, so it is asked first: what it does not take is not
    /// replayed.
    fn finish_transactional(
        &self,
        partition: i32,
        active: &mut Active<S>,
        producer: TransactionalProducer,
        records: Vec<S::Record>,
        release: Release,
        now: Now,
    ) -> Result<(), Failed> {
        let mut encoded = Vec::with_capacity(records.len());
        for record in &records {
            encoded.push(S::encode(record).map_err(Failed::Refused)?);
        }
        let mut committed = Vec::new();
        for batch in split_batches(encoded, self.writer.max_batch_bytes(partition)) {
            let failed = if committed.is_empty() { Failed::Refused } else { Failed::Behind };
            committed.push(self.writer.append_transactional(partition, producer, batch, now).map_err(failed)?);
        }
        for record in &records {
            active.shard.replay(active.next_offset, record);
            active.next_offset += 1;
        }
        Self::queue(active, committed, vec![release]).map_err(Failed::Behind)
    }

    fn finish_marker(
        &self,
        partition: i32,
        active: &mut Active<S>,
        marker: TxnMarker,
        release: Release,
        now: Now,
    ) -> Result<(), Failed> {
        let committed = self.writer.append_marker(partition, marker, now).map_err(Failed::Refused)?;
        let TxnMarker { producer_id, committed: is_commit, .. } = marker;
        let offset = active.next_offset;
        let end = LoadedRecord::TransactionEnd { offset, producer_id, committed: is_commit };
        active.shard.replay(offset, &S::decode(end));
        active.next_offset += 1;
        Self::queue(active, vec![committed], vec![release]).map_err(Failed::Behind)
    }

    /// Queues answers behind the appends that they rest on.
    fn queue(active: &mut Active<S>, committed: Vec<Committed>, release: Vec<Release>) -> Result<(), ErrorCode> {
        if committed.is_empty() {
            if release.is_empty() {
                return Ok(());
            }
            if active.in_flight.load(Ordering::Acquire) == 0 {
                release.into_iter().for_each(|release| release(Ok(())));
                return Ok(());
            }
        }
        active.in_flight.fetch_add(1, Ordering::AcqRel);
        active.commits.send(Commit { committed, release }).map_err(|_| ErrorCode::NotCoordinator)
    }

    /// Drops the state in memory, which may be ahead of the log, and loads the partition again.
    #[expect(clippy::disallowed_methods, reason = "a reload outlives the request that noticed the failure")]
    fn fail(self: &Arc<Self>, partition: i32, slot: &Arc<Mutex<Slot<S>>>, state: &mut Slot<S>, error: ErrorCode) {
        let Slot::Active(active) = &*state else {
            return;
        };
        let leader_epoch = active.leader_epoch;
        tracing::warn!(
            partition,
            leader_epoch,
            error = error.name(),
            "append to coordinator partition failed; loading it again"
        );
        let load_id = self.next_id.fetch_add(1, Ordering::Relaxed);
        *state = Slot::Loading { leader_epoch, load_id };
        tokio::spawn(self.clone().load(partition, slot.clone(), leader_epoch, load_id));
    }

    /// Replays the partition into a fresh shard and makes it active, unless another election or a resignation came first.
    async fn load(self: Arc<Self>, partition: i32, slot: Arc<Mutex<Slot<S>>>, leader_epoch: i32, load_id: u64) {
        let mine = |state: &Slot<S>| matches!(state, Slot::Loading { load_id: current, .. } if *current == load_id);
        loop {
            match self.replay_log(partition, &slot, &mine).await {
                Ok(None) => return,
                Ok(Some((mut shard, next_offset))) => {
                    let mut state = slot.lock();
                    if !mine(&state) {
                        return;
                    }
                    shard.on_loaded(self.clock.now());
                    let effects = shard.take_effects();
                    let deadline = shard.next_deadline();
                    let (commits, rx) = mpsc::unbounded_channel();
                    let in_flight = Arc::new(AtomicU64::new(0));
                    let (alive, gone) = oneshot::channel();
                    self.spawn_committer(partition, &slot, load_id, rx, gone, in_flight.clone());
                    *state = Slot::Active(Active {
                        shard,
                        leader_epoch,
                        load_id,
                        parked: HashMap::new(),
                        next_offset,
                        in_flight,
                        commits,
                        _alive: alive,
                    });
                    drop(state);
                    tracing::info!(partition, leader_epoch, next_offset, "loaded coordinator partition");
                    if let Some(deadline) = deadline {
                        self.wake_ticker(deadline);
                    }
                    effects.into_iter().for_each(|effect| (self.on_effect)(partition, effect));
                    return;
                }
                Err(error) => {
                    tracing::warn!(
                        partition,
                        leader_epoch,
                        error = error.name(),
                        "cannot load coordinator partition; trying again"
                    );
                    tokio::time::sleep(Duration::from_millis(RELOAD_BACKOFF_MS)).await;
                    if !mine(&slot.lock()) {
                        return;
                    }
                }
            }
        }
    }

    async fn replay_log(
        &self,
        partition: i32,
        slot: &Mutex<Slot<S>>,
        mine: &impl Fn(&Slot<S>) -> bool,
    ) -> Result<Option<(S, i64)>, ErrorCode> {
        let mut shard = (self.new_shard)(partition);
        let mut from_offset = 0;
        let mut next_offset = 0;
        loop {
            let batch = self.writer.load(partition, from_offset).await?;
            for loaded in batch.records {
                let offset = match &loaded {
                    LoadedRecord::Record { offset, .. } | LoadedRecord::TransactionEnd { offset, .. } => *offset,
                };
                shard.replay(offset, &S::decode(loaded));
                next_offset = offset + 1;
            }
            if !mine(&slot.lock()) {
                return Ok(None);
            }
            match batch.next_offset {
                // An offset that does not move would never end.
                Some(next) if next > from_offset => from_offset = next,
                _ => return Ok(Some((shard, next_offset))),
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "one task per loaded shard releases answers in order")]
    fn spawn_committer(
        self: &Arc<Self>,
        partition: i32,
        slot: &Arc<Mutex<Slot<S>>>,
        load_id: u64,
        mut rx: mpsc::UnboundedReceiver<Commit>,
        mut gone: oneshot::Receiver<()>,
        in_flight: Arc<AtomicU64>,
    ) {
        let inner = Arc::downgrade(self);
        let slot = Arc::downgrade(slot);
        tokio::spawn(async move {
            let mut failed = None;
            // Ends when the shard, which holds the sender, is dropped.
            while let Some(Commit { committed, release }) = rx.recv().await {
                for append in committed {
                    if failed.is_none() {
                        failed = tokio::select! {
                            biased;
                            _ = &mut gone => Some(ErrorCode::NotCoordinator),
                            committed = append => committed.err(),
                        };
                    }
                }
                // After a failure nothing is answered on the spot any more: the state is ahead of the log.
                if failed.is_none() {
                    in_flight.fetch_sub(1, Ordering::AcqRel);
                }
                release.into_iter().for_each(|release| release(failed.map_or(Ok(()), Err)));
                if let (Some(error), Some(inner), Some(slot)) = (failed, inner.upgrade(), slot.upgrade()) {
                    let mut state = slot.lock();
                    if matches!(&*state, Slot::Active(active) if active.load_id == load_id) {
                        inner.fail(partition, &slot, &mut state, error);
                    }
                }
            }
        });
    }

    fn tick(self: &Arc<Self>) -> Option<u64> {
        let slots: Vec<_> = self.slots.lock().iter().map(|(partition, slot)| (*partition, slot.clone())).collect();
        let mut earliest: Option<u64> = None;
        for (partition, slot) in slots {
            let mut state = slot.lock();
            let Slot::Active(active) = &mut *state else {
                continue;
            };
            let result = self.run_timers(partition, active, self.clock.now());
            if let Some(deadline) = active.shard.next_deadline() {
                earliest = Some(earliest.map_or(deadline, |known| known.min(deadline)));
            }
            if let Err(error) = result {
                self.fail(partition, &slot, &mut state, error);
            }
        }
        earliest
    }

    fn wake_ticker(&self, deadline_ms: u64) {
        if self.ticker_deadline_ms.fetch_min(deadline_ms, Ordering::AcqRel) > deadline_ms {
            self.ticker_wake.notify_one();
        }
    }
}

/// Runs timers until the runtime is dropped: sleeps until the earliest deadline, or until a shard names an earlier one.
async fn run_ticker<S: Shard>(weak: Weak<Inner<S>>) {
    /// How long the ticker may hold on to a runtime nobody else holds.
    const MAX_SLEEP_MS: u64 = 1_000;
    loop {
        let Some(inner) = weak.upgrade() else { return };
        inner.ticker_deadline_ms.store(u64::MAX, Ordering::Release);
        if let Some(deadline) = inner.tick() {
            inner.ticker_deadline_ms.fetch_min(deadline, Ordering::AcqRel);
        }
        let deadline = inner.ticker_deadline_ms.load(Ordering::Acquire);
        let sleep_ms = deadline.saturating_sub(inner.clock.now().mono_ms).clamp(1, MAX_SLEEP_MS);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(sleep_ms)) => {}
            () = inner.ticker_wake.notified() => {}
        }
    }
}

/// Cuts records into batches the log takes. A record that is too large alone is left for the log to refuse.
fn split_batches(records: Vec<CoordinatorRecord>, max_batch_bytes: usize) -> Vec<Vec<CoordinatorRecord>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    for record in records {
        let record_bytes = record.size_in_bytes();
        if !batch.is_empty() && batch_bytes + record_bytes > max_batch_bytes {
            batches.push(std::mem::take(&mut batch));
            batch_bytes = 0;
        }
        batch_bytes += record_bytes;
        batch.push(record);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}
