//! One replica: the core of `partition.rs` tied to its log and to those who wait.
//!
//! Locks, in this order: the core's, then the log's. An append holds the core for reading, so that no batch is written under a leader
//! epoch that is over. Nobody is woken under either. Called by `replica_manager.rs`; the log calls back after each commit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use milena_common::config::TopicConfig;
use milena_common::{Clock, Now, TopicPartition, Uuid};
use milena_log::validate::ValidateError;
use milena_log::{AppendInfo, AppendOptions, LogError, LogEvent, UnifiedLog};
use milena_metadata::image::PartitionImage;
use parking_lot::RwLock;

use crate::error::ReplicaError;
use crate::fetch::{FetchParams, FetchPart, FetchedPart, Isolation};
use crate::fetcher::{LogPosition, truncation_offset};
use crate::isr_changes::IsrChanges;
use crate::partition::{Effects, Ends, FollowerFetch, Partition, Proposal, Refusal, Role};
use crate::purgatory::{Waiter, WatchList, Watched};

/// See the module.
pub(crate) struct Replica {
    this: Weak<Replica>,
    partition: TopicPartition,
    topic_id: Uuid,
    log: Arc<UnifiedLog>,
    state: RwLock<Partition>,
    waiting: WatchList,
    failed: AtomicBool,
    isr_changes: Arc<IsrChanges>,
}

/// The broker that a fetch replicates for, as the metadata know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fetcher {
    pub id: i32,
    pub broker_epoch: i64,
    /// See [`FollowerFetch::is_eligible`].
    pub is_eligible: bool,
    /// The broker was registered anew since: what this fetch says of its log says nothing.
    pub is_stale: bool,
}

/// Who fetches.
#[derive(Debug)]
pub(crate) enum Reader {
    Follower(Fetcher),
    /// Brokers that are nearer to it than this one.
    Consumer {
        near: Vec<i32>,
    },
}

/// What a follower found in one answer of its leader.
#[derive(Debug, Clone)]
pub(crate) struct LeaderData {
    pub leader_epoch: i32,
    pub records: Bytes,
    pub high_watermark: i64,
    pub log_start_offset: i64,
}

/// How a follower's log is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The leader's log is another from here on: the largest epoch that both may have, and where it ends at the leader.
    Diverging { epoch: i32, end_offset: i64 },
    /// Nothing from this offset on.
    To(i64),
    /// Nothing at all; the next record has this offset.
    AllBefore(i64),
    /// Nothing above the high watermark: the log is too old to tell epochs.
    ToHighWatermark,
}

impl Replica {
    /// Without a role: that comes with metadata.
    pub fn new(
        broker_id: i32,
        partition: TopicPartition,
        topic_id: Uuid,
        log: Arc<UnifiedLog>,
        isr_changes: Arc<IsrChanges>,
    ) -> Arc<Replica> {
        let state = RwLock::new(Partition::new(broker_id, ends_of(&log), log.high_watermark()));
        let (waiting, failed) = (WatchList::default(), AtomicBool::new(false));
        let replica = Arc::new_cyclic(|this| Replica {
            this: this.clone(),
            partition,
            topic_id,
            log,
            state,
            waiting,
            failed,
            isr_changes,
        });
        let weak = Arc::downgrade(&replica);
        replica.log.set_listener(Arc::new(move |event| {
            if let Some(replica) = weak.upgrade() {
                replica.on_log_event(event);
            }
        }));
        // what was committed before anybody listened
        replica.on_durable();
        replica
    }

    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    pub fn log(&self) -> &Arc<UnifiedLog> {
        &self.log
    }

    fn on_log_event(&self, event: LogEvent) {
        match event {
            LogEvent::Durable(_) => self.on_durable(),
            LogEvent::Failed => {
                self.failed.store(true, Ordering::Release);
                self.waiting.on_failed(&ReplicaError::Offline);
            }
        }
    }

    /// The log is asked anew, under the core's lock: it may have been cut since it told.
    fn on_durable(&self) {
        let mut offset = 0;
        self.act(|state| {
            offset = self.log.durable_end_offset();
            state.on_durable(offset)
        });
        self.waiting.on_reached(Watched::DurableEnd, offset, true);
    }

    /// Lets the core decide and carries out what concerns the log and those who wait.
    fn act(&self, decide: impl FnOnce(&mut Partition) -> Effects) -> Effects {
        let (effects, enough) = {
            let mut state = self.state.write();
            let effects = decide(&mut state);
            if let Some(offset) = effects.high_watermark {
                self.log.set_high_watermark(offset);
            }
            (effects, state.has_enough_in_sync())
        };
        if let Some(offset) = effects.high_watermark {
            self.waiting.on_reached(Watched::HighWatermark, offset, enough);
        }
        if let Some(proposal) = &effects.propose_isr {
            self.isr_changes.submit(self.this.clone(), self.topic_id, &self.partition, proposal.clone());
        }
        effects
    }

    /// The controller recorded this of the partition. What this broker is to it now, if that changed.
    pub fn on_metadata(&self, image: &Arc<PartitionImage>, now: Now) -> Option<Role> {
        let effects = self.act(|state| {
            let effects = state.on_metadata(image, ends_of(&self.log), now);
            if let Some(Role::Leader { epoch }) = effects.role {
                // no append under the new epoch before the log knows where it begins
                self.log.on_become_leader(epoch);
            }
            effects
        });
        match effects.role {
            Some(Role::Follower { .. }) => self.waiting.on_failed(&ReplicaError::NotLeader),
            Some(Role::Leader { .. }) => self.waiting.release_fetches(),
            None => {}
        }
        effects.role
    }

    /// In-sync replicas that have not caught up for `lag_max_ms` must go.
    pub fn on_tick(&self, now: Now, lag_max_ms: u64) {
        // most have nothing to say, and appends need not wait for that
        if self.state.read().is_leader() {
            self.act(|state| state.on_tick(now, lag_max_ms));
        }
    }

    /// The controller did not grant a proposal.
    pub fn on_isr_refused(&self, proposal: &Proposal, refusal: Refusal) {
        self.state.write().on_refused(proposal, refusal);
    }

    /// The controller granted a proposal, and says what the partition is now.
    pub fn on_isr_granted(&self, leader: i32, leader_epoch: i32, partition_epoch: i32, isr: &[i32], now: Now) {
        self.act(|state| match state.granted(leader, leader_epoch, partition_epoch, isr) {
            Some(image) => state.on_metadata(&Arc::new(image), ends_of(&self.log), now),
            None => Effects::default(),
        });
    }

    pub fn is_in_sync(&self, broker: i32) -> bool {
        self.state.read().image().isr.contains(&broker)
    }

    /// Whether the controller shows fewer in-sync replicas than replicas, or than `min.insync.replicas`, while this broker leads.
    pub fn in_sync_shortage(&self) -> (bool, bool) {
        let state = self.state.read();
        let image = state.image();
        (state.is_leader() && image.isr.len() < image.replicas.len(), state.is_leader() && !state.has_enough_in_sync())
    }

    /// From the next append on.
    pub fn update_config(&self, config: Arc<TopicConfig>) {
        let min_isr = usize::try_from(config.min_insync_replicas).unwrap_or(1);
        self.log.update_config(config);
        self.act(|state| state.on_min_isr(min_isr));
    }

    /// The replica is taken from this broker, or its topic is gone.
    pub fn on_removed(&self, error: &ReplicaError) {
        self.failed.store(true, Ordering::Release);
        self.waiting.on_failed(error);
    }

    /// Long polls end with what there is.
    pub fn release_fetches(&self) {
        self.waiting.release_fetches();
    }

    /// Appends one partition's records, written when this returns; under the leader epoch of now, whatever the options say.
    pub fn append(&self, records: Bytes, acks: i16, options: AppendOptions) -> Result<AppendInfo, ReplicaError> {
        let size = records.len();
        let info = {
            let state = self.state.read();
            if !state.is_leader() {
                return Err(ReplicaError::NotLeader);
            }
            if acks == -1 && !state.has_enough_in_sync() {
                return Err(ReplicaError::NotEnoughReplicas);
            }
            let options = AppendOptions { leader_epoch: state.leader_epoch(), ..options };
            self.log.append_as_leader(records, options)?
        };
        if !info.duplicate {
            let end = info.last_offset + 1;
            self.waiting.on_append(end, i64::try_from(size).unwrap_or(i64::MAX));
            // with durability left to the page cache, it is there at once
            if self.log.durable_end_offset() >= end {
                self.on_durable();
            }
        }
        Ok(info)
    }

    /// How far this follower is.
    pub fn log_position(&self) -> LogPosition {
        LogPosition {
            log_end: self.log.log_end_offset(),
            last_epoch: self.log.latest_epoch().unwrap_or(-1),
            log_start: self.log.log_start_offset(),
            high_watermark: self.log.high_watermark(),
        }
    }

    /// Appends what this follower's leader gave it, if that is still its leader.
    pub fn append_as_follower(&self, data: LeaderData, now: Now) -> Result<LogPosition, ReplicaError> {
        let size = data.records.len();
        {
            let state = self.state.read();
            if !state.follows_in(data.leader_epoch) {
                return Err(ReplicaError::NotLeader);
            }
            if size > 0 {
                self.copy_to_log(data.records, now)?;
            }
        }
        let end = self.log.log_end_offset();
        if size > 0 {
            self.waiting.on_append(end, i64::try_from(size).unwrap_or(i64::MAX));
        }
        self.act(|state| {
            if !state.follows_in(data.leader_epoch) {
                return Effects::default();
            }
            state.on_local_append(end);
            state.on_leader_high_watermark(data.high_watermark)
        });
        // what the leader does not have any more is not served here either
        let log_start = data.log_start_offset;
        if log_start > self.log.log_start_offset() && log_start <= end {
            self.log.increment_log_start_offset(log_start)?;
            self.state.write().on_log_start(log_start);
        }
        if self.log.durable_end_offset() >= end {
            self.on_durable();
        }
        Ok(self.log_position())
    }

    fn copy_to_log(&self, records: Bytes, now: Now) -> Result<(), LogError> {
        let start = self.log.log_start_offset();
        match self.log.append_as_follower(records.clone(), now) {
            // the leader's log begins within a batch, and this one with it: whole batches only are copied
            Err(LogError::Invalid(ValidateError::OutOfOrder { found, .. }))
                if found < start && self.log.log_end_offset() == start =>
            {
                self.log.truncate_fully_and_start_at(found, now)?;
                self.log.append_as_follower(records, now)?;
                self.log.increment_log_start_offset(start.min(self.log.log_end_offset()))
            }
            appended => appended.map(|_| ()),
        }
    }

    /// Cuts the log of a follower in this epoch.
    pub fn truncate(&self, leader_epoch: i32, cut: Cut, now: Now) -> Result<LogPosition, ReplicaError> {
        let mut state = self.state.write();
        if !state.follows_in(leader_epoch) {
            return Err(ReplicaError::NotLeader);
        }
        let (before, high_watermark) = (self.log.log_end_offset(), self.log.high_watermark());
        let to = match cut {
            Cut::Diverging { epoch, end_offset } => {
                truncation_offset(epoch, end_offset, self.log.end_offset_for_epoch(epoch), before)
            }
            Cut::To(offset) => offset,
            Cut::ToHighWatermark => high_watermark,
            Cut::AllBefore(offset) => offset,
        };
        match cut {
            Cut::AllBefore(offset) => self.log.truncate_fully_and_start_at(offset, now)?,
            _ => self.log.truncate_to(to, now)?,
        }
        state.on_truncated(ends_of(&self.log), self.log.high_watermark());
        drop(state);
        let partition = &self.partition;
        match to < high_watermark {
            true => {
                tracing::warn!(%partition, leader_epoch, from = before, to, high_watermark, "the log is cut below its high watermark")
            }
            false => tracing::info!(%partition, leader_epoch, from = before, to, "the log is cut to follow its leader"),
        }
        Ok(self.log_position())
    }

    /// Waits until everything below `offset` is as durable as the topic asks for.
    pub async fn wait_durable(&self, offset: i64) -> Result<(), ReplicaError> {
        let waiter = Waiter::new(1);
        let position = || self.position(Watched::DurableEnd);
        if !self.waiting.add_append(Watched::DurableEnd, offset, 0, &waiter, position) {
            return Ok(());
        }
        if self.failed.load(Ordering::Acquire) {
            self.waiting.on_failed(&ReplicaError::Offline);
        }
        waiter.ready().await;
        waiter.take_failures().pop().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Where a watched offset is.
    pub fn position(&self, watched: Watched) -> i64 {
        match watched {
            Watched::HighWatermark => self.log.high_watermark(),
            Watched::DurableEnd => self.log.durable_end_offset(),
            Watched::LowWatermark => self.low_watermark(),
        }
    }

    pub fn low_watermark(&self) -> i64 {
        self.state.read().low_watermark(self.log.log_start_offset())
    }

    /// Makes part number `part` of a request wait until `watched` is at least `offset`; false if it is.
    pub fn wait_for(&self, watched: Watched, offset: i64, part: usize, waiter: &Arc<Waiter>) -> bool {
        if self.position(watched) >= offset {
            return false;
        }
        let waits = self.waiting.add_append(watched, offset, part, waiter, || self.position(watched));
        if waits {
            // whoever ended the leadership before this registration has not told it
            if self.failed.load(Ordering::Acquire) {
                self.waiting.on_failed(&ReplicaError::Offline);
            } else if !self.state.read().is_leader() {
                self.waiting.on_failed(&ReplicaError::NotLeader);
            }
        }
        waits
    }

    /// Makes a fetch wait for bytes.
    pub fn wait_for_bytes(&self, watched: Watched, waiter: &Arc<Waiter>) {
        self.waiting.add_fetch(watched, waiter);
    }

    /// Whether the client's idea of the leader epoch is this broker's (-1: it has none), and this broker leads if that is asked for.
    pub fn check_leader(&self, epoch: i32, must_lead: bool) -> Result<(), ReplicaError> {
        let state = self.state.read();
        let current = state.leader_epoch();
        // -1 alone says nothing
        if epoch != -1 && epoch < current {
            return Err(ReplicaError::FencedLeaderEpoch { found: epoch, current });
        }
        if epoch > current && epoch != -1 {
            return Err(ReplicaError::UnknownLeaderEpoch { found: epoch, current });
        }
        if must_lead && !state.is_leader() {
            return Err(ReplicaError::NotLeader);
        }
        Ok(())
    }

    /// Reads for a fetch; what a follower asks for also tells how far it is.
    pub fn read(
        &self,
        part: &FetchPart,
        params: &FetchParams,
        reader: &Reader,
        max_bytes: usize,
        min_one_batch: bool,
        clock: &dyn Clock,
    ) -> Result<FetchedPart, ReplicaError> {
        self.check_leader(part.current_leader_epoch, params.must_lead())?;
        let fetcher = match reader {
            Reader::Follower(fetcher) => Some(fetcher),
            Reader::Consumer { .. } => None,
        };
        if let Some(fetcher) = fetcher {
            self.check_fetcher(fetcher, part.current_leader_epoch)?;
        }
        let high_watermark = self.log.high_watermark();
        let last_stable_offset = self.log.last_stable_offset(high_watermark);
        let durable_end = self.log.durable_end_offset();
        let limit = match params.isolation() {
            Isolation::LogEnd => durable_end,
            Isolation::HighWatermark => high_watermark,
            Isolation::LastStable => last_stable_offset,
        };
        let mut fetched = FetchedPart {
            high_watermark,
            last_stable_offset,
            log_start_offset: self.log.log_start_offset(),
            watched_at: if params.is_follower() { durable_end } else { high_watermark },
            ..FetchedPart::default()
        };
        if let Reader::Consumer { near } = reader
            && !near.is_empty()
        {
            fetched.preferred_read_replica = self.state.read().read_replica(near, part.fetch_offset);
            if fetched.preferred_read_replica.is_some() {
                return Ok(fetched);
            }
        }
        if part.last_fetched_epoch >= 0 {
            let (epoch, end_offset) = self.log.end_offset_for_epoch(part.last_fetched_epoch);
            if epoch < 0 || end_offset < 0 {
                return Err(ReplicaError::Log(LogError::OffsetOutOfRange {
                    offset: part.fetch_offset,
                    log_start_offset: fetched.log_start_offset,
                    log_end_offset: self.log.log_end_offset(),
                }));
            }
            if epoch < part.last_fetched_epoch || end_offset < part.fetch_offset {
                fetched.diverging_epoch = Some((epoch, end_offset));
                return Ok(fetched);
            }
        }
        let data = self.log.read(part.fetch_offset, max_bytes, limit, min_one_batch)?;
        if params.isolation() == Isolation::LastStable {
            let aborted = match data.records.is_empty() {
                true => Vec::new(),
                false => self.log.aborted_transactions(part.fetch_offset, data.next_offset),
            };
            fetched.aborted_transactions = Some(aborted);
        }
        fetched.records = data.records;
        if let Some(fetcher) = fetcher {
            self.on_follower_fetch(fetcher, part, clock)?;
            // what this very fetch committed the follower hears at once
            fetched.high_watermark = self.log.high_watermark();
        }
        Ok(fetched)
    }

    /// Whether the broker that fetches has a replica here, and is the one that is registered.
    fn check_fetcher(&self, fetcher: &Fetcher, epoch: i32) -> Result<(), ReplicaError> {
        let state = self.state.read();
        if fetcher.is_stale {
            return Err(ReplicaError::NotLeader);
        }
        match state.is_replica(fetcher.id) {
            true => Ok(()),
            // it knows the leader's epoch, so that it is this leader that does not know of the replica yet
            false if epoch >= 0 => {
                Err(ReplicaError::UnknownLeaderEpoch { found: epoch, current: state.leader_epoch() })
            }
            false => Err(ReplicaError::NotLeader),
        }
    }

    fn on_follower_fetch(&self, fetcher: &Fetcher, part: &FetchPart, clock: &dyn Clock) -> Result<(), ReplicaError> {
        let mut known = true;
        let fetch = FollowerFetch {
            id: fetcher.id,
            broker_epoch: fetcher.broker_epoch,
            end: part.fetch_offset,
            log_start: part.log_start_offset,
            is_eligible: fetcher.is_eligible,
        };
        self.act(|state| {
            let told = state.on_follower_fetch(&fetch, clock.now());
            known = told.is_some();
            told.unwrap_or_default()
        });
        if !known {
            return Err(ReplicaError::NotLeader);
        }
        self.waiting.on_reached(Watched::LowWatermark, self.low_watermark(), true);
        Ok(())
    }

    /// The offset that a reader may read up to. After an election a consumer is not told one before this leader's epoch is committed.
    pub fn readable_end(&self, isolation: Isolation) -> Result<i64, ReplicaError> {
        let high_watermark = self.log.high_watermark();
        match isolation {
            Isolation::LogEnd => Ok(self.log.log_end_offset()),
            _ if high_watermark < self.state.read().epoch_start() => Err(ReplicaError::OffsetNotAvailable),
            Isolation::HighWatermark => Ok(high_watermark),
            Isolation::LastStable => Ok(self.log.last_stable_offset(high_watermark)),
        }
    }

    pub fn leader_epoch(&self) -> i32 {
        self.state.read().leader_epoch()
    }

    /// Raises the log start to `offset` (-1: to the high watermark); the offset that the low watermark must reach.
    pub fn delete_records(&self, offset: i64) -> Result<i64, ReplicaError> {
        self.check_leader(-1, true)?;
        if !self.log.config().cleanup_policy.delete {
            return Err(ReplicaError::CannotDelete);
        }
        let offset = if offset == -1 { self.log.high_watermark() } else { offset };
        let start = self.log.delete_records(offset)?;
        self.state.write().on_log_start(start);
        Ok(offset)
    }

    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }
}

fn ends_of(log: &UnifiedLog) -> Ends {
    Ends { log_end: log.log_end_offset(), durable_end: log.durable_end_offset() }
}

#[cfg(test)]
mod tests {
    use milena_common::SystemClock;
    use milena_common::config::BrokerConfig;
    use milena_log::checkpoint::MetaProperties;
    use milena_log::fs::RealFs;
    use milena_log::{LogManager, LogManagerOptions};

    use super::*;

    /// A failed sync ends every wait at once, and none begins any more.
    #[test]
    fn a_failed_directory_is_told_to_all_who_wait() {
        let dir = tempfile::tempdir().expect("a directory");
        let id = Uuid::random();
        let meta = MetaProperties { cluster_id: "c".into(), node_id: 1, directory_id: id };
        meta.write(&RealFs, dir.path()).expect("formats");
        let broker = BrokerConfig::parse(Default::default()).expect("valid");
        let config = Arc::new(TopicConfig::from_overrides(&broker, &Default::default()).expect("valid"));
        let options = LogManagerOptions {
            dirs: vec![dir.path().to_path_buf()],
            recovery_threads: 1,
            retention_check_ms: u64::MAX,
            recovery_point_checkpoint_ms: u64::MAX,
            high_watermark_checkpoint_ms: u64::MAX,
            producer_expiration_ms: 1,
            clock: Arc::new(SystemClock),
        };
        let logs = LogManager::open(options, &|_| Arc::clone(&config)).expect("opens");
        let partition = TopicPartition::new("t", 0);
        let log = logs.get_or_create(&partition, id, id, config).expect("is made");
        let replica = Replica::new(1, partition, id, log, Arc::default());
        let image = PartitionImage { replicas: vec![1, 2], isr: vec![1, 2], leader: 1, ..Default::default() };
        replica.on_metadata(&Arc::new(image), SystemClock.now());

        let (append, fetch) = (Waiter::new(1), Waiter::new(100));
        assert!(replica.wait_for(Watched::HighWatermark, 1, 0, &append));
        replica.wait_for_bytes(Watched::HighWatermark, &fetch);
        replica.on_log_event(LogEvent::Failed);
        let failures: Vec<_> = append.take_failures().iter().map(|(_, error)| error.code().name()).collect();
        assert_eq!(failures, ["KAFKA_STORAGE_ERROR"]);
        assert!(!fetch.finish(), "it was released");
        let late = Waiter::new(1);
        assert!(replica.wait_for(Watched::DurableEnd, 1, 0, &late));
        assert_eq!(late.take_failures().len(), 1);
    }
}
