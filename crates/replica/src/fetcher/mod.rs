//! Follower fetchers: copy from the leaders of other brokers what this broker replicates.
//!
//! `core` decides for one fetcher, `session` is its side of the fetch session; this file runs them: one task for each leading broker and
//! each of `num.replica.fetchers`, which asks, appends, cuts and waits for the disk. Which partitions are followed is what
//! `replica_manager.rs` says as metadata come. The way to a leader is behind [`LeaderEndpoint`].

mod core;
mod session;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use milena_common::{Clock, Now, TopicPartition};
use milena_protocol::ErrorCode;
use milena_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::messages::{FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub(crate) use self::core::{Asked, FetchLimits, FetcherCore, LogPosition, Next, Step, truncation_offset};
use crate::error::ReplicaError;
use crate::replica::Replica;
use crate::throttle::{self, ReplicationQuota};

/// The two questions about the ends of a log.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// No answer came from another broker.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(pub String);

/// The way to one broker that leads. Requests are in the newest form: topics by id and by name.
pub trait LeaderEndpoint: Send + Sync {
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, EndpointError>>;
    fn list_offsets(&self, request: ListOffsetsRequest) -> BoxFuture<'_, Result<ListOffsetsResponse, EndpointError>>;
}

/// Finds the ways. Each fetcher of a broker has its own, as its fetches wait at the leader.
pub trait LeaderEndpoints: Send + Sync {
    fn leader(&self, broker_id: i32, fetcher: usize) -> Arc<dyn LeaderEndpoint>;
}

/// What all fetchers share.
#[derive(Clone)]
pub(crate) struct FetcherContext {
    pub endpoints: Arc<dyn LeaderEndpoints>,
    pub limits: FetchLimits,
    pub clock: Arc<dyn Clock>,
    /// Of this broker; -1 until it is registered.
    pub broker_epoch: Arc<AtomicI64>,
    pub quota: Arc<ReplicationQuota>,
}

/// All fetchers of this broker.
#[derive(Default)]
pub(crate) struct Fetchers {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// None until this broker is part of a cluster, and after the end.
    context: Option<FetcherContext>,
    /// `num.replica.fetchers`
    count: usize,
    fetchers: HashMap<(i32, usize), Arc<Fetcher>>,
    places: HashMap<TopicPartition, (i32, usize)>,
}

impl Fetchers {
    /// From now on what is followed is fetched.
    pub fn start(&self, context: FetcherContext, count: usize) {
        let mut table = self.table.lock();
        (table.context, table.count) = (Some(context), count.max(1));
    }

    /// Whether `num.replica.fetchers` changed: whoever is followed must be followed anew.
    pub fn resize(&self, count: usize) -> bool {
        let mut table = self.table.lock();
        let changed = table.context.is_some() && table.count != count.max(1);
        table.count = count.max(1);
        changed
    }

    /// Copies from a leader in this epoch; from no other any more.
    pub fn follow(&self, replica: &Arc<Replica>, leader: i32, leader_epoch: i32) {
        let partition = replica.partition();
        let mut table = self.table.lock();
        table.unfollow(partition);
        let Some(context) = table.context.clone() else { return };
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(partition);
        let place = (leader, usize::try_from(hash % table.count.max(1) as u64).unwrap_or(0));
        let fetcher = table.fetchers.entry(place).or_insert_with(|| Fetcher::start(context, place));
        let position = replica.log_position();
        tracing::info!(%partition, leader, leader_epoch, offset = position.log_end, "following");
        fetcher.replicas.lock().insert(partition.clone(), Arc::clone(replica));
        fetcher.core.lock().follow(partition.clone(), replica.topic_id(), leader_epoch, position);
        fetcher.changed.notify_one();
        table.places.insert(partition.clone(), place);
    }

    /// Copies this partition no more.
    pub fn unfollow(&self, partition: &TopicPartition) {
        self.table.lock().unfollow(partition);
    }

    /// How many partitions are followed.
    pub fn len(&self) -> usize {
        self.table.lock().places.len()
    }

    /// Copies nothing any more.
    pub fn shutdown(&self) {
        let mut table = self.table.lock();
        table.context = None;
        table.places.clear();
        for (_, fetcher) in table.fetchers.drain() {
            fetcher.stop();
            if let Some(task) = fetcher.task.lock().take() {
                task.abort();
            }
        }
    }
}

impl Table {
    fn unfollow(&mut self, partition: &TopicPartition) {
        let Some(place) = self.places.remove(partition) else { return };
        let Some(fetcher) = self.fetchers.get(&place) else { return };
        fetcher.replicas.lock().remove(partition);
        let is_empty = {
            let mut core = fetcher.core.lock();
            core.unfollow(partition);
            core.is_empty()
        };
        if is_empty && let Some(fetcher) = self.fetchers.remove(&place) {
            fetcher.stop();
        }
    }
}

/// One fetcher: its task ends after the request that is on its way when nothing is left to follow.
struct Fetcher {
    context: FetcherContext,
    leader: i32,
    endpoint: Arc<dyn LeaderEndpoint>,
    core: Mutex<FetcherCore>,
    replicas: Mutex<HashMap<TopicPartition, Arc<Replica>>>,
    changed: Notify,
    stopped: AtomicBool,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Fetcher {
    fn start(context: FetcherContext, (leader, number): (i32, usize)) -> Arc<Fetcher> {
        let fetcher = Arc::new(Fetcher {
            endpoint: context.endpoints.leader(leader, number),
            core: Mutex::new(FetcherCore::new(context.limits)),
            context,
            leader,
            replicas: Mutex::default(),
            changed: Notify::new(),
            stopped: AtomicBool::new(false),
            task: Mutex::new(None),
        });
        let task = spawn(Arc::clone(&fetcher).run());
        *fetcher.task.lock() = Some(task);
        fetcher
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    fn now(&self) -> Now {
        self.context.clock.now()
    }

    async fn run(self: Arc<Fetcher>) {
        while !self.stopped.load(Ordering::Acquire) {
            let now = self.now();
            let is_exceeded = self.context.quota.is_exceeded(now);
            let is_held_back = |partition: &TopicPartition| {
                is_exceeded && self.replica(partition).is_some_and(|replica| self.is_throttled(&replica))
            };
            let next = self.core.lock().next(now, &is_held_back);
            match next {
                Next::Wait(until_ms) => self.wait(until_ms.map(|until| until.saturating_sub(now.mono_ms))).await,
                Next::Sync(logs) => self.sync(logs).await,
                Next::Cut(steps) => self.carry_out(steps),
                Next::Ends(asked) => self.find_ends(asked).await,
                Next::Fetch(request) => self.fetch(request).await,
            }
        }
    }

    async fn wait(&self, ms: Option<u64>) {
        match ms {
            Some(ms) => {
                let _ = tokio::time::timeout(Duration::from_millis(ms.max(1)), self.changed.notified()).await;
            }
            None => self.changed.notified().await,
        }
    }

    /// One group commit makes all of them durable, so that waiting for one after the other takes no longer.
    async fn sync(&self, logs: Vec<(TopicPartition, i64)>) {
        for (partition, end) in logs {
            let Some(replica) = self.replica(&partition) else { continue };
            match replica.wait_durable(end).await {
                Ok(()) => self.core.lock().on_durable(&partition, end),
                Err(error) => self.on_failed(&partition, &error),
            }
        }
    }

    async fn fetch(&self, mut request: FetchRequest) {
        request.replica_state.replica_epoch = self.context.broker_epoch.load(Ordering::Acquire);
        match self.endpoint.fetch(request).await {
            Ok(response) => {
                let steps = self.core.lock().on_answer(response, self.now());
                self.carry_out(steps);
            }
            Err(error) => {
                tracing::debug!(leader = self.leader, %error, "no answer to a fetch");
                self.core.lock().on_no_answer(self.now());
            }
        }
    }

    fn is_throttled(&self, replica: &Replica) -> bool {
        let list = &replica.log().config().follower_replication_throttled_replicas;
        throttle::names(list, replica.partition(), self.context.limits.replica_id)
    }

    fn carry_out(&self, steps: Vec<Step>) {
        for step in steps {
            let (partition, leader_epoch) = match &step {
                Step::Append(partition, data) => (partition.clone(), data.leader_epoch),
                Step::Cut { partition, leader_epoch, .. } => (partition.clone(), *leader_epoch),
            };
            let Some(replica) = self.replica(&partition) else { continue };
            let done = match step {
                Step::Append(_, data) => {
                    if self.is_throttled(&replica) {
                        self.context.quota.record(data.records.len(), self.now());
                    }
                    replica.append_as_follower(data, self.now())
                }
                Step::Cut { cut, .. } => replica.truncate(leader_epoch, cut, self.now()),
            };
            match done {
                Ok(position) => self.core.lock().on_done(&partition, leader_epoch, position),
                Err(error) => self.on_failed(&partition, &error),
            }
        }
    }

    fn on_failed(&self, partition: &TopicPartition, error: &ReplicaError) {
        if matches!(error.code(), ErrorCode::NotLeaderOrFollower) {
            // metadata came in between, and say what to do instead
            self.core.lock().back_off(partition, self.now());
            return;
        }
        tracing::warn!(%partition, leader = self.leader, %error, "the copy cannot go on");
        let mut core = self.core.lock();
        match error.code() {
            // that disk is gone for good
            ErrorCode::KafkaStorageError => {
                core.unfollow(partition);
            }
            _ => core.back_off(partition, self.now()),
        }
    }

    async fn find_ends(&self, asked: Vec<Asked>) {
        let latest = self.offsets(&asked, LATEST).await;
        let earliest = self.offsets(&asked, EARLIEST).await;
        let now = self.now();
        for asked in asked {
            let ends = earliest.get(&asked.partition).zip(latest.get(&asked.partition));
            let step = self.core.lock().on_ends(&asked, ends.map(|(start, end)| (*start, *end)), now);
            self.carry_out(step.into_iter().collect());
        }
    }

    /// Of those that the leader answered.
    async fn offsets(&self, asked: &[Asked], timestamp: i64) -> HashMap<TopicPartition, i64> {
        let mut request =
            ListOffsetsRequest { replica_id: self.context.limits.replica_id, ..ListOffsetsRequest::default() };
        for Asked { partition, leader_epoch } in asked {
            let wanted = ListOffsetsPartition {
                partition_index: partition.partition,
                current_leader_epoch: *leader_epoch,
                timestamp,
                ..Default::default()
            };
            match request.topics.last_mut().filter(|topic| *topic.name == *partition.topic) {
                Some(topic) => topic.partitions.push(wanted),
                None => request
                    .topics
                    .push(ListOffsetsTopic { name: partition.topic.to_string(), partitions: vec![wanted] }),
            }
        }
        let answer = self.endpoint.list_offsets(request).await;
        let answer = answer.unwrap_or_else(|error| {
            tracing::debug!(leader = self.leader, %error, "no answer about the ends of logs");
            ListOffsetsResponse::default()
        });
        let found = answer.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (&topic.name, p)));
        found
            .filter(|(_, p)| p.error_code == 0 && p.offset >= 0)
            .map(|(name, p)| (TopicPartition::new(name.as_str(), p.partition_index), p.offset))
            .collect()
    }

    fn replica(&self, partition: &TopicPartition) -> Option<Arc<Replica>> {
        self.replicas.lock().get(partition).cloned()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a fetcher ends when nothing is left to follow, and all of them at shutdown"
)]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(future)
}
