//! Reads records: from partitions that the caller names, or as a member of a group that shares them.
//!
//! Owns positions and the records fetched but not yet handed out. [`Consumer::poll`] drives everything, as in Kafka's clients, but for
//! heartbeats, which go on while the caller works. `fetch` is the wire side of reading, `group` the member's side of the classic protocol.

pub mod assignor;
mod fetch;
mod following;
mod group;
pub mod protocol;
mod session;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use milena_common::{Clock, SystemClock, TopicPartition};
use milena_protocol::ErrorCode;
use tokio::time::Instant;

use crate::admin::{CommittedOffset, OffsetSpec};
use crate::cluster::Client;
use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::producer::GroupMetadata;
use assignor::Assignor;
use fetch::Fetched;
use group::Membership;
use session::Session;

/// How many changes of the assignment are kept for a caller that does not ask for them.
const MAX_UNSEEN_EVENTS: usize = 64;

/// Where to start when there is no committed offset, or it is gone (`auto.offset.reset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
    /// Tell the caller.
    None,
    /// The first record of the last so many milliseconds (KIP-1106).
    ByDuration(u64),
}

/// Settings of a consumer, by Kafka's names. Times in milliseconds, sizes in bytes.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    pub client: ClientConfig,
    /// `group.id`; needed to subscribe or to commit.
    pub group_id: Option<String>,
    /// `group.instance.id`: a static member (KIP-345).
    pub group_instance_id: Option<String>,
    pub auto_offset_reset: OffsetReset,
    pub enable_auto_commit: bool,
    pub auto_commit_interval_ms: u64,
    pub session_timeout_ms: u64,
    pub heartbeat_interval_ms: u64,
    pub max_poll_interval_ms: u64,
    pub fetch_min_bytes: i32,
    pub fetch_max_wait_ms: u64,
    pub fetch_max_bytes: i32,
    pub max_partition_fetch_bytes: i32,
    pub max_poll_records: usize,
    /// `isolation.level=read_committed`.
    pub read_committed: bool,
    /// `check.crcs`.
    pub check_crcs: bool,
    /// `partition.assignment.strategy`, in order of preference.
    pub assignors: Vec<Assignor>,
    /// `allow.auto.create.topics`.
    pub allow_auto_create_topics: bool,
    /// `group.protocol=consumer`: the coordinator assigns (KIP-848).
    pub consumer_protocol: bool,
    /// `group.remote.assignor`: the name of the coordinator's assignor to use.
    pub remote_assignor: Option<String>,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        ConsumerConfig {
            client: ClientConfig::default(),
            group_id: None,
            group_instance_id: None,
            auto_offset_reset: OffsetReset::Latest,
            enable_auto_commit: true,
            auto_commit_interval_ms: 5_000,
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 3_000,
            max_poll_interval_ms: 300_000,
            fetch_min_bytes: 1,
            fetch_max_wait_ms: 500,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            max_poll_records: 500,
            read_committed: false,
            check_crcs: true,
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            allow_auto_create_topics: true,
            consumer_protocol: false,
            remote_assignor: None,
        }
    }
}

/// Whose clock a record's time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// Magic 0 had no time.
    None,
    CreateTime,
    LogAppendTime,
}

/// A record read.
#[derive(Debug, Clone)]
pub struct ConsumerRecord {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// `None` when the batch does not say.
    pub leader_epoch: Option<i32>,
    /// Wall time in milliseconds.
    pub timestamp: i64,
    pub timestamp_type: TimestampType,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// What the caller wants to read.
enum Subscription {
    Nothing,
    Partitions,
    Topics(BTreeSet<String>),
    /// All topics that the test accepts.
    Matching(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

/// A change of what a member of a group reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RebalanceEvent {
    /// New partitions; none when a rebalance brought nothing new.
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
}

#[derive(Default)]
struct PartitionState {
    /// The next offset to hand out; `None` until it is known.
    position: Option<i64>,
    /// The leader epoch of the record before the position, which is committed with it (KIP-320).
    position_epoch: Option<i32>,
    /// The next offset to fetch: after the buffered records.
    fetch_from: i64,
    reset: Option<OffsetSpec>,
    buffered: VecDeque<ConsumerRecord>,
    /// Not before this moment: the last try failed.
    pause_until: Option<Instant>,
    /// Commits of an earlier position must not overwrite a newer one.
    committed: Option<i64>,
    /// Counts seeks, so that an answer to an older fetch is dropped.
    generation: u64,
}

/// A consumer. [`Consumer::close`] commits and leaves the group; dropping it does neither.
pub struct Consumer {
    config: Arc<ConsumerConfig>,
    client: Client,
    subscription: Subscription,
    partitions: BTreeMap<TopicPartition, PartitionState>,
    membership: Option<Membership>,
    /// In a group of the consumer protocol.
    session: Option<Session>,
    in_flight: FuturesUnordered<BoxFuture<'static, Fetched>>,
    busy_nodes: HashSet<i32>,
    last_commit: Instant,
    /// What the last subscription to the group was made from: topics and their partition counts.
    seen_topics: BTreeMap<String, i32>,
    /// The partition whose records go out next, so that all get their turn.
    turn: Option<TopicPartition>,
    generations: u64,
    events: VecDeque<RebalanceEvent>,
}

impl Consumer {
    /// A consumer that reads nothing yet; needs a running tokio runtime from the first poll on.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`].
    pub fn new(config: ConsumerConfig) -> Result<Consumer, ClientError> {
        let client = Client::new(config.client.clone())?;
        Ok(Consumer {
            config: Arc::new(config),
            client,
            subscription: Subscription::Nothing,
            partitions: BTreeMap::new(),
            membership: None,
            session: None,
            in_flight: FuturesUnordered::new(),
            busy_nodes: HashSet::new(),
            last_commit: Instant::now(),
            seen_topics: BTreeMap::new(),
            turn: None,
            generations: 0,
            events: VecDeque::new(),
        })
    }

    /// The client beneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads exactly these partitions, without a group's assignment.
    pub fn assign(&mut self, partitions: &[TopicPartition]) {
        self.subscription = Subscription::Partitions;
        self.set_partitions(partitions);
    }

    /// Reads these topics as a member of the group.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`] without a `group.id`.
    pub fn subscribe(&mut self, topics: &[String]) -> Result<(), ClientError> {
        self.need_group()?;
        self.subscription = Subscription::Topics(topics.iter().cloned().collect());
        Ok(())
    }

    /// Reads every topic that `wanted` accepts, now and later, as a member of the group.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`] without a `group.id`.
    pub fn subscribe_matching(
        &mut self,
        wanted: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<(), ClientError> {
        self.need_group()?;
        self.subscription = Subscription::Matching(Arc::new(wanted));
        Ok(())
    }

    fn need_group(&self) -> Result<&str, ClientError> {
        self.config.group_id.as_deref().filter(|id| !id.is_empty()).ok_or_else(|| {
            ClientError::InvalidConfig("To use the group management or offset commit APIs, you must provide a valid group.id in the consumer configuration.".into())
        })
    }

    /// The partitions read now.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    /// Goes on from this offset.
    pub fn seek(&mut self, tp: &TopicPartition, offset: i64) {
        self.generations += 1;
        if let Some(state) = self.partitions.get_mut(tp) {
            *state = PartitionState {
                position: Some(offset),
                fetch_from: offset,
                committed: state.committed,
                generation: self.generations,
                ..Default::default()
            };
        }
    }

    /// Goes on from where `spec` points when the partition is next read.
    pub fn seek_to(&mut self, tp: &TopicPartition, spec: OffsetSpec) {
        self.generations += 1;
        if let Some(state) = self.partitions.get_mut(tp) {
            *state = PartitionState {
                reset: Some(spec),
                committed: state.committed,
                generation: self.generations,
                ..Default::default()
            };
        }
    }

    /// The offset of the next record that [`Consumer::poll`] will hand out, if known.
    pub fn position(&self, tp: &TopicPartition) -> Option<i64> {
        self.partitions.get(tp)?.position
    }

    /// Waits up to `wait` for records. Joins the group, commits and finds positions on the way.
    ///
    /// # Errors
    /// What no further try would mend: no permission, an offset out of range with [`OffsetReset::None`], fenced by another member.
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<ConsumerRecord>, ClientError> {
        let deadline = Instant::now() + wait;
        loop {
            self.join_if_needed().await?;
            self.auto_commit().await?;
            self.refresh_if_old().await?;
            self.find_positions().await?;
            let records = self.take_buffered();
            self.start_fetches();
            if !records.is_empty() || Instant::now() >= deadline {
                return Ok(records);
            }
            let wake = self.next_wake().min(deadline);
            let changed =
                self.membership.as_ref().map(Membership::changed).or(self.session.as_ref().map(Session::changed));
            tokio::select! {
                Some(fetched) = self.in_flight.next(), if !self.in_flight.is_empty() => self.on_fetched(fetched)?,
                () = async { match changed { Some(changed) => changed.notified().await, None => std::future::pending().await } } => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Commits the positions of all partitions, as far as they moved.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let moved: BTreeMap<TopicPartition, CommittedOffset> = self
            .partitions
            .iter()
            .filter_map(|(tp, state)| {
                let offset = state.position.filter(|position| state.committed != Some(*position))?;
                Some((
                    tp.clone(),
                    CommittedOffset { offset, leader_epoch: state.position_epoch, metadata: String::new() },
                ))
            })
            .collect();
        self.last_commit = Instant::now();
        if moved.is_empty() {
            return Ok(());
        }
        let group = self.need_group()?.to_string();
        let instance = self.config.group_instance_id.clone();
        let of_session = self.session.as_ref().map(|s| (s.member_id(), s.epoch(), instance.as_deref()));
        let member =
            self.membership.as_ref().map(|m| (m.member_id(), m.generation(), instance.as_deref())).or(of_session);
        let results = self.client.commit_offsets(&group, member, &moved).await?;
        for (tp, result) in results {
            result?;
            if let (Some(state), Some(committed)) = (self.partitions.get_mut(&tp), moved.get(&tp)) {
                state.committed = Some(committed.offset);
            }
        }
        Ok(())
    }

    /// Commits if that is automatic, and leaves the group.
    ///
    /// # Errors
    /// Of the last commit; the group is left in any case.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let committed = if self.commits_automatically() { self.commit().await } else { Ok(()) };
        if let Some(membership) = self.membership.take() {
            membership.leave(&self.client, &self.config).await;
        }
        if let Some(session) = self.session.take() {
            session.leave().await;
        }
        committed
    }

    fn commits_automatically(&self) -> bool {
        self.config.enable_auto_commit && self.config.group_id.is_some()
    }

    async fn auto_commit(&mut self) -> Result<(), ClientError> {
        let due = self.last_commit + Duration::from_millis(self.config.auto_commit_interval_ms);
        if !self.commits_automatically() || Instant::now() < due {
            return Ok(());
        }
        match self.commit().await {
            Err(error) if self.on_group_error(&error) || error.is_retriable() => {
                tracing::warn!(target: "org.apache.kafka.clients.consumer.internals.ConsumerCoordinator", "auto-commit failed: {error}");
                Ok(())
            }
            result => result,
        }
    }

    /// The next change of what this member reads that the caller has not been told of.
    pub fn next_event(&mut self) -> Option<RebalanceEvent> {
        self.events.pop_front()
    }

    /// Who this member is in its group, for a transaction that commits its offsets; none outside a group.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        let group_id = self.config.group_id.clone()?;
        Some(GroupMetadata {
            group_id,
            generation: match (&self.membership, &self.session) {
                (Some(membership), _) => membership.generation(),
                (None, Some(session)) => session.epoch(),
                (None, None) => -1,
            },
            member_id: match (&self.membership, &self.session) {
                (Some(membership), _) => membership.member_id().to_string(),
                (None, Some(session)) => session.member_id().to_string(),
                (None, None) => String::new(),
            },
            group_instance_id: self.config.group_instance_id.clone(),
        })
    }

    /// Keeps what stays, forgets what went, starts what came without a position.
    fn set_partitions(&mut self, partitions: &[TopicPartition]) {
        let wanted: BTreeSet<&TopicPartition> = partitions.iter().collect();
        self.partitions.retain(|tp, _| wanted.contains(tp));
        for tp in partitions {
            self.generations += 1;
            let generation = self.generations;
            self.partitions.entry(tp.clone()).or_insert_with(|| PartitionState { generation, ..Default::default() });
        }
    }

    async fn refresh_if_old(&mut self) -> Result<(), ClientError> {
        if !self.client.metadata_is_old() {
            return Ok(());
        }
        let before = self.seen_topics.clone();
        self.look_at_topics().await?;
        if before != self.seen_topics
            && let Some(membership) = &self.membership
        {
            membership.rejoin(false);
        }
        if let Some(session) = &self.session {
            session.subscribe(self.subscribed_topics());
        }
        Ok(())
    }

    /// Asks for metadata of what is subscribed; failures show as unknown leaders and are tried again with a pause.
    async fn look_at_topics(&mut self) -> Result<(), ClientError> {
        let (names, create) = match &self.subscription {
            Subscription::Topics(topics) => {
                (Some(topics.iter().cloned().collect::<Vec<_>>()), self.config.allow_auto_create_topics)
            }
            Subscription::Matching(_) => (None, false),
            _ => {
                let topics: BTreeSet<String> = self.partitions.keys().map(|tp| tp.topic.to_string()).collect();
                (Some(topics.into_iter().collect()), self.config.allow_auto_create_topics)
            }
        };
        let picture = self
            .client
            .retrying("metadata", async || self.client.refresh_metadata(names.as_deref(), create).await)
            .await?;
        let wanted = |name: &String| match &self.subscription {
            Subscription::Matching(test) => test(name),
            Subscription::Topics(topics) => topics.contains(name),
            _ => false,
        };
        for topic in picture.topics.values().filter(|t| wanted(&t.name)) {
            match topic.error {
                ErrorCode::TopicAuthorizationFailed | ErrorCode::InvalidTopicException => {
                    return Err(ClientError::api(topic.error, topic.name.as_str()));
                }
                _ => {}
            }
        }
        self.seen_topics = picture
            .topics
            .values()
            .filter(|t| wanted(&t.name) && !t.partitions.is_empty())
            .map(|t| (t.name.clone(), i32::try_from(t.partitions.len()).unwrap_or(i32::MAX)))
            .collect();
        Ok(())
    }

    /// Finds where to start: the committed offset, else what the reset policy says.
    async fn find_positions(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        let ready = |state: &PartitionState| state.position.is_none() && state.pause_until.is_none_or(|at| at <= now);
        let missing: Vec<TopicPartition> =
            self.partitions.iter().filter(|(_, s)| ready(s) && s.reset.is_none()).map(|(tp, _)| tp.clone()).collect();
        if !missing.is_empty() {
            let committed = match &self.config.group_id {
                Some(group) => self.client.committed_offsets(group, Some(&missing), true).await?,
                None => BTreeMap::new(),
            };
            for tp in missing {
                let Some(state) = self.partitions.get_mut(&tp) else {
                    continue;
                };
                match committed.get(&tp) {
                    Some(found) => {
                        state.position = Some(found.offset);
                        state.fetch_from = found.offset;
                        state.committed = Some(found.offset);
                        state.position_epoch = found.leader_epoch;
                    }
                    None => state.reset = Some(reset_spec(&self.config, &tp)?),
                }
            }
        }
        let resets: Vec<(TopicPartition, OffsetSpec)> = self
            .partitions
            .iter()
            .filter(|(_, s)| ready(s))
            .filter_map(|(tp, s)| Some((tp.clone(), s.reset?)))
            .collect();
        if resets.is_empty() {
            return Ok(());
        }
        for (tp, result) in self.client.list_offsets(&resets, self.config.read_committed).await? {
            let Some(state) = self.partitions.get_mut(&tp) else {
                continue;
            };
            match result {
                // no record is that new: whatever comes next
                Ok(found) if found.offset < 0 && state.reset != Some(OffsetSpec::Latest) => {
                    state.reset = Some(OffsetSpec::Latest);
                }
                Ok(found) => {
                    let offset = found.offset.max(0);
                    state.position = Some(offset);
                    state.fetch_from = offset;
                    state.reset = None;
                }
                Err(error) if error.is_retriable() => {
                    self.client.forget_age();
                    state.pause_until = Some(Instant::now() + self.client.config().backoff(3));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes up to `max.poll.records`, partition by partition in turn.
    fn take_buffered(&mut self) -> Vec<ConsumerRecord> {
        let mut records = Vec::new();
        let start = self.turn.take();
        let after = start.clone();
        let mut order: Vec<TopicPartition> =
            self.partitions.keys().filter(|tp| start.as_ref().is_none_or(|s| *tp > s)).cloned().collect();
        order.extend(self.partitions.keys().filter(|tp| after.as_ref().is_some_and(|s| *tp <= s)).cloned());
        for tp in order {
            if records.len() >= self.config.max_poll_records {
                break;
            }
            let Some(state) = self.partitions.get_mut(&tp) else {
                continue;
            };
            let room = self.config.max_poll_records - records.len();
            let count = state.buffered.len().min(room);
            if let Some(last) = count.checked_sub(1).and_then(|index| state.buffered.get(index)) {
                state.position = Some(last.offset + 1);
                state.position_epoch = last.leader_epoch;
                records.extend(state.buffered.drain(..count));
                self.turn = Some(tp);
            }
            if state.buffered.is_empty() && state.position.is_some() {
                // offsets that hold no record for us (markers, compacted) are passed with the records before them
                state.position = Some(state.fetch_from);
            }
        }
        records
    }

    fn start_fetches(&mut self) {
        let now = Instant::now();
        let picture = self.client.metadata();
        let mut by_leader: BTreeMap<i32, Vec<fetch::Wanted>> = BTreeMap::new();
        for (tp, state) in &self.partitions {
            let waits = state.pause_until.is_some_and(|at| at > now);
            if state.position.is_none() || !state.buffered.is_empty() || waits {
                continue;
            }
            let Some(leader) = picture.leader(&tp.topic, tp.partition) else {
                self.client.forget_age();
                continue;
            };
            if self.busy_nodes.contains(&leader) {
                continue;
            }
            by_leader.entry(leader).or_default().push(fetch::Wanted {
                tp: tp.clone(),
                topic_id: picture.topics.get(&*tp.topic).map(|t| t.topic_id).unwrap_or_default(),
                offset: state.fetch_from,
                generation: state.generation,
            });
        }
        for (leader, wanted) in by_leader {
            self.busy_nodes.insert(leader);
            self.in_flight.push(Box::pin(fetch::fetch(self.client.clone(), self.config.clone(), leader, wanted)));
        }
    }

    fn on_fetched(&mut self, fetched: Fetched) -> Result<(), ClientError> {
        self.busy_nodes.remove(&fetched.leader);
        for answer in fetched.answers {
            let Some(state) = self.partitions.get_mut(&answer.tp) else {
                continue;
            };
            // the position moved while the answer was on its way
            if state.generation != answer.generation {
                continue;
            }
            match answer.result {
                Ok(data) => {
                    state.fetch_from = state.fetch_from.max(data.next_offset);
                    state.buffered.extend(data.records);
                }
                Err(error) if error.code() == Some(ErrorCode::OffsetOutOfRange) => {
                    let spec = reset_spec(&self.config, &answer.tp)?;
                    tracing::info!(target: "org.apache.kafka.clients.consumer.internals.FetchCollector",
                        "fetch position {} of {} is out of range, resetting", state.fetch_from, answer.tp);
                    state.position = None;
                    state.reset = Some(spec);
                }
                Err(error) if error.is_retriable() || matches!(error, ClientError::Timeout(_)) => {
                    if error.wants_new_metadata() {
                        self.client.forget_age();
                    }
                    state.pause_until = Some(Instant::now() + self.client.config().backoff(0));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let mut wake = now + Duration::from_secs(1);
        if self.commits_automatically() {
            wake = wake.min(self.last_commit + Duration::from_millis(self.config.auto_commit_interval_ms));
        }
        if self.client.metadata_is_old() {
            wake = wake.min(now + self.client.config().backoff(0));
        }
        self.partitions.values().filter_map(|s| s.pause_until).filter(|at| *at > now).fold(wake, Instant::min)
    }
}

fn reset_spec(config: &ConsumerConfig, tp: &TopicPartition) -> Result<OffsetSpec, ClientError> {
    match config.auto_offset_reset {
        OffsetReset::Earliest => Ok(OffsetSpec::Earliest),
        OffsetReset::Latest => Ok(OffsetSpec::Latest),
        OffsetReset::ByDuration(ms) => {
            let now_ms = SystemClock.now().wall_ms;
            Ok(OffsetSpec::Timestamp(now_ms.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX))))
        }
        OffsetReset::None => Err(ClientError::Api {
            code: ErrorCode::OffsetOutOfRange,
            message: Some(format!("Undefined offset with no reset policy for partitions: [{tp}]")),
            resource: Some(tp.to_string()),
        }),
    }
}
