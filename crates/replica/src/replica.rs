//! One replica: the core of `partition.rs` tied to its log and to those who wait.
//!
//! Locks, in this order: the core's, then the log's. An append holds the core for reading, so that no batch is written under a leader
//! epoch that is over. Nobody is woken under either. Called by `replica_manager.rs`; the log calls back after each commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use milena_common::config::TopicConfig;
use milena_common::{Clock, Now, TopicPartition, Uuid};
use milena_log::{AppendInfo, AppendOptions, LogError, LogEvent, UnifiedLog};
use milena_metadata::image::PartitionImage;
use parking_lot::RwLock;

use crate::error::ReplicaError;
use crate::fetch::{FetchParams, FetchPart, FetchedPart, Isolation};
use crate::partition::{Effects, Ends, Partition, Role};
use crate::purgatory::{Waiter, WatchList, Watched};

/// See the module.
pub(crate) struct Replica {
    partition: TopicPartition,
    topic_id: Uuid,
    log: Arc<UnifiedLog>,
    state: RwLock<Partition>,
    waiting: WatchList,
    failed: AtomicBool,
}

impl Replica {
    /// Without a role: that comes with metadata.
    pub fn new(broker_id: i32, partition: TopicPartition, topic_id: Uuid, log: Arc<UnifiedLog>) -> Arc<Replica> {
        let ends = Ends { log_end: log.log_end_offset(), durable_end: log.durable_end_offset() };
        let state = RwLock::new(Partition::new(broker_id, ends, log.high_watermark()));
        let (waiting, failed) = (WatchList::default(), AtomicBool::new(false));
        let replica = Arc::new(Replica { partition, topic_id, log, state, waiting, failed });
        let weak = Arc::downgrade(&replica);
        replica.log.set_listener(Arc::new(move |event| {
            if let Some(replica) = weak.upgrade() {
                replica.on_log_event(event);
            }
        }));
        // what was committed before anybody listened
        replica.on_durable(replica.log.durable_end_offset());
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
            LogEvent::Durable(offset) => self.on_durable(offset),
            LogEvent::Failed => {
                self.failed.store(true, Ordering::Release);
                self.waiting.on_failed(&ReplicaError::Offline);
            }
        }
    }

    fn on_durable(&self, offset: i64) {
        self.act(|state| state.on_durable(offset));
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
        effects
    }

    /// The controller recorded this of the partition.
    pub fn on_metadata(&self, image: &Arc<PartitionImage>, now: Now) {
        let effects = self.act(|state| {
            let ends = Ends { log_end: self.log.log_end_offset(), durable_end: self.log.durable_end_offset() };
            let effects = state.on_metadata(image, ends, now);
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
            let durable = self.log.durable_end_offset();
            if durable >= end {
                self.on_durable(durable);
            }
        }
        Ok(info)
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
        max_bytes: usize,
        min_one_batch: bool,
        clock: &dyn Clock,
    ) -> Result<FetchedPart, ReplicaError> {
        self.check_leader(part.current_leader_epoch, params.must_lead())?;
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
        if params.is_follower() {
            self.on_follower_fetch(params.replica_id, part, clock)?;
        }
        Ok(fetched)
    }

    fn on_follower_fetch(&self, id: i32, part: &FetchPart, clock: &dyn Clock) -> Result<(), ReplicaError> {
        let mut known = true;
        let log_end = self.log.log_end_offset();
        self.act(|state| {
            let told = state.on_follower_fetch(id, part.fetch_offset, part.log_start_offset, log_end, clock.now());
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
        let replica = Replica::new(1, partition, id, log);
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
