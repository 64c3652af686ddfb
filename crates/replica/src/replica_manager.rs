//! All replicas of this broker: which there are follows the metadata, what they hold is in their logs.
//!
//! Handlers and coordinators append, read and wait here. Requests find a replica under the table's read lock and use it after; only
//! metadata change the table. Never sees a socket or the bytes of a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::{HashMap, HashSet};
use milena_common::config::{BrokerConfig, TopicConfig};
use milena_common::{Clock, ConfigError, Now, TopicPartition, Uuid};
use milena_log::{AppendOptions, CommitBy, LogError, LogManager, UnifiedLog};
use milena_metadata::image::{ConfigResource, MetadataImage, PartitionImage, ResourceType, TopicImage};
use milena_metadata::{MetadataCache, MetadataDelta, MetadataPublisher};
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::append::{AppendPart, AppendRequest, Appended};
use crate::error::ReplicaError;
use crate::fetch::{FetchParams, FetchPart, FetchedPart};
use crate::fetch_session::FetchSessions;
use crate::fetcher::{FetchLimits, FetcherContext, Fetchers, LeaderEndpoints};
use crate::isr_changes::{ControllerEndpoint, IsrChanges};
use crate::partition::Role;
use crate::purgatory::{Waiter, Watched};
use crate::replica::{Fetcher, Reader, Replica};
use crate::throttle::{self, ReplicationQuota};

/// The client id that Kafka's tools use to write to internal topics.
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// See the module.
pub struct ReplicaManager {
    node_id: i32,
    /// With the dynamic settings on top: whoever merges them says so, before the metadata that they came with are told.
    config: ArcSwap<BrokerConfig>,
    logs: Arc<LogManager>,
    metadata: MetadataCache,
    clock: Arc<dyn Clock>,
    table: RwLock<Table>,
    sessions: FetchSessions,
    fetchers: Fetchers,
    isr_changes: Arc<IsrChanges>,
    /// What this broker gives to followers, and what it takes as one.
    leader_quota: ReplicationQuota,
    follower_quota: Arc<ReplicationQuota>,
    /// -1 until this broker is registered.
    broker_epoch: Arc<AtomicI64>,
    /// Of [`ReplicaManager::join_cluster`].
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Metadata came already.
    begun: AtomicBool,
    closing: AtomicBool,
}

/// The ways to the other nodes of the cluster.
#[derive(Clone)]
pub struct ClusterLinks {
    pub leaders: Arc<dyn LeaderEndpoints>,
    pub controller: Arc<dyn ControllerEndpoint>,
}

#[derive(Default)]
struct Table {
    replicas: HashMap<TopicPartition, Arc<Replica>>,
    /// Their logs could not be opened.
    offline: HashSet<TopicPartition>,
}

impl ReplicaManager {
    /// Without replicas: they come with the first metadata. Needs a tokio runtime.
    pub fn new(
        config: Arc<BrokerConfig>,
        logs: Arc<LogManager>,
        metadata: MetadataCache,
        clock: Arc<dyn Clock>,
    ) -> Arc<ReplicaManager> {
        let quota =
            || ReplicationQuota::new(config.replication_quota_window_num, config.replication_quota_window_size_seconds);
        let (leader_quota, follower_quota) = (quota(), Arc::new(quota()));
        let slots = usize::try_from(config.max_incremental_fetch_session_cache_slots).unwrap_or(0);
        Arc::new(ReplicaManager {
            node_id: config.node_id,
            config: ArcSwap::new(config),
            logs,
            metadata,
            clock,
            table: RwLock::default(),
            sessions: FetchSessions::new(slots),
            fetchers: Fetchers::default(),
            isr_changes: Arc::default(),
            leader_quota,
            follower_quota,
            broker_epoch: Arc::new(AtomicI64::new(-1)),
            tasks: Mutex::default(),
            begun: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        })
    }

    /// From now on partitions that others lead are copied, and the controller hears who is in sync. To be called before the first
    /// metadata are; ends with [`ReplicaManager::shutdown`].
    pub fn join_cluster(self: &Arc<Self>, links: ClusterLinks) {
        let config = self.config.load_full();
        let limits = FetchLimits {
            replica_id: self.node_id,
            max_wait_ms: config.replica_fetch_wait_max_ms,
            min_bytes: config.replica_fetch_min_bytes,
            max_bytes: config.replica_fetch_response_max_bytes,
            partition_max_bytes: config.replica_fetch_max_bytes,
            backoff_ms: u64::try_from(config.replica_fetch_backoff_ms).unwrap_or(0),
        };
        let (clock, broker_epoch) = (Arc::clone(&self.clock), Arc::clone(&self.broker_epoch));
        let quota = Arc::clone(&self.follower_quota);
        let context = FetcherContext { endpoints: links.leaders, limits, clock, broker_epoch, quota };
        self.fetchers.start(context, fetcher_count(&config));
        let asking = {
            let (changes, epoch) = (Arc::clone(&self.isr_changes), Arc::clone(&self.broker_epoch));
            let (id, clock) = (self.node_id, Arc::clone(&self.clock));
            spawn(async move { changes.run(links.controller, id, epoch, clock).await })
        };
        let lag_max_ms = u64::try_from(config.replica_lag_time_max_ms).unwrap_or(1);
        let watching = {
            let manager = Arc::downgrade(self);
            spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis((lag_max_ms / 2).max(1))).await;
                    let Some(manager) = manager.upgrade() else { return };
                    let now = manager.clock.now();
                    manager.replicas().iter().for_each(|replica| replica.on_tick(now, lag_max_ms));
                }
            })
        };
        self.tasks.lock().extend([asking, watching]);
    }

    /// The broker is registered with this epoch: fetches and proposals tell it.
    pub fn set_broker_epoch(&self, epoch: i64) {
        self.broker_epoch.store(epoch, Ordering::Release);
    }

    /// Partitions that this broker leads with fewer in-sync replicas than replicas, and with fewer than `min.insync.replicas`.
    pub fn in_sync_shortages(&self) -> (usize, usize) {
        let shortages = self.replicas().into_iter().map(|replica| replica.in_sync_shortage());
        shortages.fold((0, 0), |(few, too_few), (is_few, is_too_few)| {
            (few + usize::from(is_few), too_few + usize::from(is_too_few))
        })
    }

    /// Partitions that are copied from other brokers.
    pub fn followed(&self) -> usize {
        self.fetchers.len()
    }

    /// Appends to every partition that this broker leads. The writes have happened when this returns. Never blocks on anything else.
    pub fn append(&self, request: AppendRequest) -> Appended {
        let AppendRequest { acks, origin, produce_version, timeout_ms, commit, parts } = request;
        // without acknowledgement nobody will wait
        let commit = if acks == 0 { CommitBy::Thread } else { commit };
        if !(-1..=1).contains(&acks) {
            let refused = parts.iter().map(|_| Err(ReplicaError::InvalidRequiredAcks(acks))).collect();
            return Appended::new(refused, Vec::new(), 0, 0, CommitBy::Thread);
        }
        let now = self.clock.now();
        let mut results = Vec::with_capacity(parts.len());
        let mut replicas = Vec::with_capacity(if acks == 0 { 0 } else { parts.len() });
        for (index, AppendPart { partition, records, transaction }) in parts.into_iter().enumerate() {
            let options = AppendOptions { leader_epoch: -1, now, origin, produce_version, transaction, commit };
            let appended = self.find(&partition).and_then(|replica| {
                let info = replica.append(records, acks, options)?;
                if acks != 0 {
                    replicas.push((index, replica));
                }
                Ok(info)
            });
            results.push(appended);
        }
        Appended::new(results, replicas, acks, timeout_ms, commit)
    }

    /// Whether a client may write to a topic: Kafka keeps all but its own tools from the internal ones.
    ///
    /// # Errors
    /// [`ReplicaError::InternalTopic`].
    pub fn check_client_may_append(&self, topic: &str, client_id: Option<&str>) -> Result<(), ReplicaError> {
        match is_internal(topic) && client_id != Some(ADMIN_CLIENT_ID) {
            true => Err(ReplicaError::InternalTopic(topic.to_owned())),
            false => Ok(()),
        }
    }

    /// Reads what there is now, within the limits of the request, in the order of the parts.
    pub fn fetch_now(&self, params: &FetchParams, parts: &[FetchPart]) -> Vec<FetchedPart> {
        let mut room = params.max_bytes;
        let mut nothing_yet = true;
        let reader = match params.is_follower() {
            true => Reader::Follower(self.fetcher(params.replica_id, params.replica_epoch)),
            false => {
                Reader::Consumer { near: params.client_rack.as_deref().map_or_else(Vec::new, |rack| self.nearer(rack)) }
            }
        };
        let quota_exceeded = params.is_follower() && self.leader_quota.is_exceeded(self.clock.now());
        let read = |part: &FetchPart| {
            let max_bytes = part.max_bytes.min(room);
            let min_one_batch = nothing_yet || params.one_batch_each;
            let fetched = self.find_with_id(&part.partition, part.topic_id).and_then(|replica| {
                let mut fetched = replica.read(part, params, &reader, max_bytes, min_one_batch, &*self.clock)?;
                if quota_exceeded && self.is_throttled(&replica) && !replica.is_in_sync(params.replica_id) {
                    fetched.records.clear();
                }
                Ok(fetched)
            });
            let fetched = fetched.unwrap_or_else(FetchedPart::failed);
            let size = fetched.size_in_bytes();
            room = room.saturating_sub(size);
            nothing_yet &= size == 0;
            fetched
        };
        parts.iter().map(read).collect()
    }

    /// A follower is about to be given this: what moves counts.
    pub fn on_replicated(&self, parts: &[FetchPart], results: &[FetchedPart]) {
        let is_moving = |part: &FetchPart| self.find(&part.partition).is_ok_and(|replica| self.is_throttled(&replica));
        let moved = parts.iter().zip(results).filter(|(part, result)| result.size_in_bytes() > 0 && is_moving(part));
        let bytes = moved.map(|(_, result)| result.size_in_bytes()).sum();
        self.leader_quota.record(bytes, self.clock.now());
    }

    fn is_throttled(&self, replica: &Replica) -> bool {
        let list = &replica.log().config().leader_replication_throttled_replicas;
        throttle::names(list, replica.partition(), self.node_id)
    }

    /// `leader.replication.throttled.rate` and its like stand in no file.
    fn update_quotas(&self, image: &MetadataImage) {
        let rate = |name: &str| {
            let settings = [image.configs.broker(self.node_id), image.configs.broker_defaults()];
            settings.iter().find_map(|settings| settings.get(name)).and_then(|value| value.trim().parse().ok())
        };
        self.leader_quota.set_rate(rate("leader.replication.throttled.rate"));
        self.follower_quota.set_rate(rate("follower.replication.throttled.rate"));
    }

    /// The brokers in a rack, unless this one is there too.
    fn nearer(&self, rack: &str) -> Vec<i32> {
        let image = self.metadata.load();
        let there = image.cluster.unfenced_brokers().filter(|broker| broker.rack.as_deref() == Some(rack));
        let there: Vec<i32> = there.map(|broker| broker.id).collect();
        if there.contains(&self.node_id) { Vec::new() } else { there }
    }

    /// The broker that replicates, as the metadata know it.
    fn fetcher(&self, id: i32, broker_epoch: i64) -> Fetcher {
        let image = self.metadata.load();
        let broker = image.cluster.broker(id);
        let is_current = |known: i64| broker_epoch == -1 || broker_epoch == known;
        Fetcher {
            id,
            broker_epoch,
            is_eligible: broker.is_some_and(|broker| broker.is_active() && is_current(broker.epoch)),
            is_stale: broker_epoch != -1 && broker.is_some_and(|broker| !broker.fenced && broker.epoch > broker_epoch),
        }
    }

    /// Whether a fetch is answered with this at once: enough bytes, something its sender must know, or no time to wait.
    pub fn is_enough(&self, params: &FetchParams, results: &[FetchedPart]) -> bool {
        let told = |result: &FetchedPart| {
            result.error.is_some() || result.diverging_epoch.is_some() || result.preferred_read_replica.is_some()
        };
        params.max_wait_ms == 0
            || results.is_empty()
            || results.iter().any(told)
            || results.iter().map(FetchedPart::size_in_bytes).sum::<usize>() >= params.min_bytes
            || self.closing.load(Ordering::SeqCst)
    }

    /// Waits until there is more than `results` (which were not enough), at most `max_wait_ms`, and reads again.
    pub async fn fetch_more(
        &self,
        params: &FetchParams,
        parts: &[FetchPart],
        mut results: Vec<FetchedPart>,
    ) -> Vec<FetchedPart> {
        let deadline = Instant::now() + Duration::from_millis(params.max_wait_ms);
        loop {
            let have: usize = results.iter().map(FetchedPart::size_in_bytes).sum();
            // what was read is read again: its memory need not wait
            results.iter_mut().for_each(|result| result.records = Vec::new());
            let missing = params.min_bytes.saturating_sub(have).max(1);
            let waiter = Waiter::new(i64::try_from(missing).unwrap_or(i64::MAX));
            let waiting = Waiting(&waiter);
            let mut moved = false;
            for (part, result) in parts.iter().zip(&results) {
                if let Ok(replica) = self.find(&part.partition) {
                    replica.wait_for_bytes(params.watched(), &waiter);
                    moved |= replica.position(params.watched()) != result.watched_at;
                }
            }
            // whoever ends the broker may have released all just before
            moved |= self.closing.load(Ordering::SeqCst);
            let in_time = match moved {
                // something came between the read and the registration
                true => Instant::now() < deadline,
                false => timeout_at(deadline, waiter.ready()).await.is_ok(),
            };
            drop(waiting);
            results = self.fetch_now(params, parts);
            if !in_time || self.is_enough(params, &results) {
                return results;
            }
        }
    }

    /// Reads, and waits if that is not enough.
    pub async fn fetch(&self, params: &FetchParams, parts: &[FetchPart]) -> Vec<FetchedPart> {
        let results = self.fetch_now(params, parts);
        match self.is_enough(params, &results) {
            true => results,
            false => self.fetch_more(params, parts, results).await,
        }
    }

    /// The log of a partition that this broker leads.
    ///
    /// # Errors
    /// It does not.
    pub fn leader_log(&self, partition: &TopicPartition) -> Result<Arc<UnifiedLog>, ReplicaError> {
        let replica = self.find(partition)?;
        replica.check_leader(-1, true)?;
        Ok(Arc::clone(replica.log()))
    }

    /// Waits until the high watermark of a partition that this broker leads is at least `offset`.
    ///
    /// # Errors
    /// It leads no more, or the log failed.
    pub async fn wait_committed(&self, partition: &TopicPartition, offset: i64) -> Result<(), ReplicaError> {
        let replica = self.find(partition)?;
        replica.check_leader(-1, true)?;
        let waiter = Waiter::new(1);
        if !replica.wait_for(Watched::HighWatermark, offset, 0, &waiter) {
            return Ok(());
        }
        let waiting = Waiting(&waiter);
        waiter.ready().await;
        drop(waiting);
        waiter.take_failures().pop().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The log directories and what is in them.
    pub fn logs(&self) -> &Arc<LogManager> {
        &self.logs
    }

    /// The sessions of those who fetch.
    pub fn sessions(&self) -> &FetchSessions {
        &self.sessions
    }

    /// What topics inherit from now on; those there are, with the next change of metadata.
    pub fn set_config(&self, config: Arc<BrokerConfig>) {
        let is_resized = self.fetchers.resize(fetcher_count(&config));
        self.config.store(config);
        if is_resized {
            let metadata = self.metadata.image();
            for replica in self.replicas() {
                let partition = replica.partition();
                if let Some(image) = metadata.topics.partition(&partition.topic, partition.partition) {
                    let (leader, epoch) = (image.leader, image.leader_epoch);
                    self.follow(&replica, Role::Follower { leader, epoch });
                }
            }
        }
    }

    /// Long polls end, and none begins any more. Appends go on until the logs are closed.
    pub fn shutdown(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.fetchers.shutdown();
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        for replica in self.replicas() {
            replica.release_fetches();
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    fn replicas(&self) -> Vec<Arc<Replica>> {
        self.table.read().replicas.values().cloned().collect()
    }

    pub(crate) fn find(&self, partition: &TopicPartition) -> Result<Arc<Replica>, ReplicaError> {
        let table = self.table.read();
        if let Some(replica) = table.replicas.get(partition)
            && !replica.log().is_dir_offline()
        {
            return Ok(Arc::clone(replica));
        }
        if table.replicas.contains_key(partition) || table.offline.contains(partition) {
            return Err(ReplicaError::Offline);
        }
        drop(table);
        match self.metadata.load().topics.partition(&partition.topic, partition.partition) {
            Some(_) => Err(ReplicaError::NotLeader),
            None => Err(ReplicaError::UnknownTopicOrPartition),
        }
    }

    pub(crate) fn find_with_id(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
    ) -> Result<Arc<Replica>, ReplicaError> {
        let replica = self.find(partition)?;
        match topic_id.is_zero() || topic_id == replica.topic_id() {
            true => Ok(replica),
            false => Err(ReplicaError::InconsistentTopicId),
        }
    }
}

/// `num.replica.fetchers`
fn fetcher_count(config: &BrokerConfig) -> usize {
    usize::try_from(config.num_replica_fetchers).unwrap_or(1)
}

#[expect(clippy::disallowed_methods, reason = "the tasks end with the replicas")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(future)
}

/// Why a partition is offline.
#[derive(Debug, thiserror::Error)]
enum CreateError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The topics that only brokers write to.
pub fn is_internal(topic: &str) -> bool {
    matches!(topic, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

/// Configurations of topics as of one image, each made once: a topic may have thousands of partitions.
struct TopicConfigs<'a> {
    manager: &'a ReplicaManager,
    image: &'a MetadataImage,
    known: HashMap<String, Arc<TopicConfig>>,
}

impl TopicConfigs<'_> {
    fn of(&mut self, topic: &str) -> Result<Arc<TopicConfig>, ConfigError> {
        if let Some(config) = self.known.get(topic) {
            return Ok(Arc::clone(config));
        }
        let config = self.manager.topic_config(self.image, topic)?;
        self.known.insert(topic.to_owned(), Arc::clone(&config));
        Ok(config)
    }
}

/// A waiter that nobody need tell any more when this is dropped.
struct Waiting<'a>(&'a Waiter);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl MetadataPublisher for ReplicaManager {
    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        let of_this_broker = |r: &ConfigResource| {
            r.kind == ResourceType::Broker && (r.name.is_empty() || r.name == self.node_id.to_string())
        };
        let defaults_changed = delta.changed_configs.iter().any(of_this_broker);
        if defaults_changed {
            self.update_quotas(image);
        }
        if !self.begun.swap(true, Ordering::AcqRel) {
            self.set_strays_aside(image);
        }
        for topic in &delta.deleted_topics {
            self.remove_topic(topic);
        }
        let mut configs = TopicConfigs { manager: self, image, known: HashMap::new() };
        for changed in &delta.changed_partitions {
            let partition = TopicPartition::new(Arc::clone(&changed.topic), changed.partition);
            if changed.new.replicas.contains(&self.node_id) {
                self.apply(partition, changed.topic_id, &changed.new, &mut configs);
            } else {
                self.remove(&partition, &ReplicaError::NotLeader);
            }
        }
        let topic_changed = |topic: &str| delta.changed_configs.contains(&ConfigResource::topic(topic));
        if defaults_changed || delta.changed_configs.iter().any(|r| r.kind == ResourceType::Topic) {
            for replica in self.replicas() {
                let topic = &*replica.partition().topic;
                if defaults_changed || topic_changed(topic) {
                    match configs.of(topic) {
                        Ok(config) => replica.update_config(config),
                        Err(error) => tracing::error!(topic, %error, "the configuration stays as it was"),
                    }
                }
            }
        }
    }
}

impl ReplicaManager {
    /// What a topic's own settings make of the broker's defaults; without what is not valid.
    fn topic_config(&self, image: &MetadataImage, topic: &str) -> Result<Arc<TopicConfig>, ConfigError> {
        let broker = self.config.load();
        let config = TopicConfig::from_overrides(&broker, image.configs.topic(topic)).or_else(|error| {
            tracing::error!(topic, %error, "the topic's configuration is not valid: the broker's defaults count");
            TopicConfig::from_overrides(&broker, &BTreeMap::new())
        });
        config.map(Arc::new)
    }

    /// Makes the partition's replica, or tells it what changed.
    fn apply(
        &self,
        partition: TopicPartition,
        topic_id: Uuid,
        new: &Arc<PartitionImage>,
        configs: &mut TopicConfigs<'_>,
    ) {
        let known = self.table.read().replicas.get(&partition).cloned();
        let replica = match known.filter(|replica| replica.topic_id() == topic_id) {
            Some(replica) => Ok(replica),
            None => {
                self.remove(&partition, &ReplicaError::UnknownTopicOrPartition);
                self.create(&partition, topic_id, new, configs)
            }
        };
        if let Ok(replica) = &replica
            && let Some(role) = replica.on_metadata(new, self.clock.now())
        {
            self.follow(replica, role);
        }
        let mut table = self.table.write();
        match replica {
            Ok(replica) => {
                table.offline.remove(&partition);
                table.replicas.insert(partition, replica);
            }
            Err(error) => {
                tracing::error!(%partition, %error, "the partition is offline");
                table.replicas.remove(&partition);
                table.offline.insert(partition);
            }
        }
    }

    /// Begins or ends to copy, as the role says.
    fn follow(&self, replica: &Arc<Replica>, role: Role) {
        match role {
            Role::Follower { leader, epoch } if leader >= 0 && leader != self.node_id => {
                self.fetchers.follow(replica, leader, epoch);
            }
            _ => self.fetchers.unfollow(replica.partition()),
        }
    }

    fn create(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
        new: &PartitionImage,
        configs: &mut TopicConfigs<'_>,
    ) -> Result<Arc<Replica>, CreateError> {
        if self.logs.get(partition).is_some_and(|log| log.topic_id().is_some_and(|id| id != topic_id)) {
            self.logs.set_aside(partition)?;
        }
        let config = configs.of(&partition.topic)?;
        let directory = new.directory_of(self.node_id);
        let log = self.logs.get_or_create(partition, topic_id, directory, Arc::clone(&config))?;
        let changes = Arc::clone(&self.isr_changes);
        let replica = Replica::new(self.node_id, partition.clone(), topic_id, log, changes);
        replica.update_config(config);
        Ok(replica)
    }

    fn remove_topic(&self, topic: &TopicImage) {
        for &index in topic.partitions.keys() {
            let partition = TopicPartition::new(Arc::clone(&topic.name), index);
            let known = self.table.read().replicas.get(&partition).map(|replica| replica.topic_id());
            if known.is_none_or(|id| id == topic.id) {
                self.remove(&partition, &ReplicaError::UnknownTopicOrPartition);
            }
        }
    }

    /// Forgets the replica and deletes its log.
    fn remove(&self, partition: &TopicPartition, error: &ReplicaError) {
        let replica = {
            let mut table = self.table.write();
            table.offline.remove(partition);
            table.replicas.remove(partition)
        };
        self.fetchers.unfollow(partition);
        let Some(replica) = replica else { return };
        replica.on_removed(error);
        if let Err(error) = self.logs.delete(partition) {
            tracing::error!(%partition, %error, "the log could not be deleted");
        }
    }

    /// Logs of topics that are gone, or of other topics' namesakes, or of partitions that are elsewhere now. As Kafka does, they are put
    /// aside and not deleted: metadata that were lost must not take the records with them.
    fn set_strays_aside(&self, image: &MetadataImage) {
        for (partition, log) in self.logs.all() {
            let topic = image.topics.by_name(&partition.topic);
            let topic = topic.filter(|topic| log.topic_id().is_none_or(|id| id == topic.id));
            let ours = topic.and_then(|topic| topic.partition(partition.partition));
            if ours.is_some_and(|p| p.replicas.contains(&self.node_id)) {
                continue;
            }
            tracing::warn!(%partition, dir = %log.dir().display(), "a stray log is put aside");
            if let Err(error) = self.logs.set_aside(&partition) {
                tracing::error!(%partition, %error, "the stray log could not be put aside");
            }
        }
    }
}
