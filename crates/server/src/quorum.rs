//! Joins the metadata quorum's parts in one process: the raft node commits, the loader publishes, the controller decides.
//!
//! One task owns the loader and follows the committed log; it tells the controller when this node leads and what is
//! published, so that whoever was answered by the controller finds the change in the image of this node too. Takes
//! snapshots and cleans up behind them. Knows nothing of requests. Called by the server's wiring.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_common::config::BrokerConfig;
use milena_common::{Clock, Uuid};
use milena_metadata::image::{Endpoint, MetadataImage, Provenance};
use milena_metadata::store::{AppendError, CommittedBatch, MetadataLog};
use milena_metadata::versions::{encode_record, supported_features};
use milena_metadata::{
    ApiError, Bootstrap, Controller, ControllerConfig, LoadError, MetadataCache, MetadataLoader, MetadataPublisher,
};
use milena_raft::{
    LogBatch, MAX_BATCH_BYTES, NodeConfig, OffsetAndEpoch, QuorumStateStore, RaftError, RaftLog, RaftNode, ReadError,
    Snapshot, Timeouts, Voter,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::quorum_network::QuorumNetwork;
use crate::quorum_wire::QuorumWire;

/// Bytes of committed batches read at a time.
const READ_BYTES: usize = 4 << 20;
/// How often sessions of brokers are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Why the quorum cannot start or go on. The node must stop.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    #[error(transparent)]
    Raft(#[from] RaftError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the controller cannot begin its term: {0}")]
    Controller(#[from] ApiError),
    #[error("{0}")]
    Config(String),
    #[error("the metadata log failed")]
    Failed,
}

/// What this node's part of the quorum is made of.
#[derive(Debug, Clone)]
pub struct QuorumConfig {
    pub broker: Arc<BrokerConfig>,
    pub cluster_id: String,
    /// Id of the directory that holds the metadata log.
    pub directory_id: Uuid,
    /// What a new log begins with.
    pub bootstrap: Bootstrap,
    /// Where the others reach this controller.
    pub endpoints: Vec<Endpoint>,
}

/// The metadata quorum, as one node has it.
pub struct Quorum {
    pub raft: Arc<RaftNode>,
    pub controller: Controller,
    pub cache: MetadataCache,
    pub(crate) wire: Arc<QuorumWire>,
    published: watch::Sender<i64>,
    ready: watch::Sender<bool>,
    config: QuorumConfig,
    clock: Arc<dyn Clock>,
}

/// The controller's way to the log.
struct RaftMetadataLog(Arc<RaftNode>);

impl MetadataLog for RaftMetadataLog {
    fn end_offset(&self) -> i64 {
        self.0.end_offset()
    }

    fn append(&self, epoch: i32, records: Vec<Bytes>) -> Result<i64, AppendError> {
        self.0.append(epoch, records).map_err(|error| match error {
            milena_raft::AppendError::NotLeader(epoch) => AppendError::NotLeader(epoch),
            milena_raft::AppendError::TooLarge { bytes } => AppendError::TooLarge { bytes, max: MAX_BATCH_BYTES },
            milena_raft::AppendError::Log(error) => AppendError::Storage(error.to_string()),
        })
    }
}

impl Quorum {
    /// Opens the log and, as an only voter, takes the lead. To be called in the runtime, which sends what is asked of others. Nothing is
    /// published before `run`.
    ///
    /// # Errors
    /// See [`QuorumError`].
    pub fn start(
        config: QuorumConfig,
        log: Arc<dyn RaftLog>,
        votes: Box<dyn QuorumStateStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Quorum, QuorumError> {
        let node_id = config.broker.node_id;
        let voters = config.broker.voters().map_err(|error| QuorumError::Config(error.to_string()))?;
        let static_voters: Vec<i32> = voters.iter().map(|voter| voter.id).collect();
        let (directory_id, timeouts) = (config.directory_id, timeouts(&config.broker));
        let wire = Arc::new(QuorumWire {
            cluster_id: config.cluster_id.clone(),
            me: Voter { id: node_id, directory_id },
            endpoints: config.endpoints.clone(),
            voters,
        });
        let network = Arc::new(QuorumNetwork::new(&config.broker, Arc::clone(&wire)));
        let raft = NodeConfig { node_id, directory_id, static_voters, timeouts };
        let raft = RaftNode::start(raft, log, votes, clock.clone(), network.clone())?;
        if raft.voters().len() > 1 && raft.kraft_version() > 0 {
            let voters = raft.voters().len();
            return Err(QuorumError::Config(format!(
                "a quorum of {voters} voters that the log names is not supported yet; name them in controller.quorum.voters"
            )));
        }
        network.connect(&raft);
        let controller = ControllerConfig {
            node_id,
            cluster_id: config.cluster_id.clone(),
            broker: config.broker.clone(),
            bootstrap: config.bootstrap.clone(),
        };
        let controller = Controller::new(controller, Arc::new(RaftMetadataLog(raft.clone())), clock.clone());
        let (published, _) = watch::channel(-1);
        let (ready, _) = watch::channel(false);
        Ok(Quorum { raft, controller, cache: MetadataCache::default(), wire, published, ready, config, clock })
    }

    /// Waits until this node knows all that was committed before, and the cluster has begun: an image with a
    /// `metadata.version` is published.
    pub async fn ready(&self) {
        // The sender lives as long as `self`.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Offset of the last record published on this node; changes are waited for.
    pub fn published(&self) -> watch::Receiver<i64> {
        self.published.subscribe()
    }

    /// Follows the committed log until `stop` says so. Publishers are told in the order given.
    ///
    /// # Errors
    /// When the log fails or cannot be followed: the node must stop.
    pub async fn run(
        &self,
        publishers: Vec<Arc<dyn MetadataPublisher>>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), QuorumError> {
        let mut follower = Follower::new(self, publishers);
        let mut status = self.raft.watch();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let durable = self.raft.clone().run();
        tokio::pin!(durable);
        loop {
            status.borrow_and_update();
            follower.catch_up()?;
            if *stop.borrow() {
                break;
            }
            tokio::select! {
                _ = status.changed() => {}
                _ = ticks.tick() => {
                    self.controller.on_tick();
                    follower.keep_house();
                }
                () = &mut durable => return Err(QuorumError::Failed),
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
        self.controller.on_resign();
        self.raft.shutdown();
        follower.finish().await;
        Ok(())
    }
}

/// The task's own state.
struct Follower<'a> {
    quorum: &'a Quorum,
    loader: MetadataLoader,
    /// Epoch in which the controller was told to lead.
    leading: Option<i32>,
    snapshot: Option<JoinHandle<()>>,
    last_snapshot_mono_ms: u64,
}

impl<'a> Follower<'a> {
    fn new(quorum: &'a Quorum, publishers: Vec<Arc<dyn MetadataPublisher>>) -> Self {
        let mut loader = MetadataLoader::new(quorum.cache.clone());
        publishers.into_iter().for_each(|publisher| loader.add_publisher(publisher));
        let last_snapshot_mono_ms = quorum.clock.now().mono_ms;
        Follower { quorum, loader, leading: None, snapshot: None, last_snapshot_mono_ms }
    }

    /// Replays what is committed, publishes it, and tells the controller.
    fn catch_up(&mut self) -> Result<(), QuorumError> {
        if self.loader.next_offset() == 0 && self.quorum.raft.newest_snapshot()?.is_some() {
            self.load_snapshot()?;
        }
        loop {
            let batches = match self.quorum.raft.read_committed(self.loader.next_offset(), READ_BYTES) {
                Ok(batches) => batches,
                Err(ReadError::BelowStart { .. }) => {
                    self.load_snapshot()?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if batches.is_empty() {
                break;
            }
            for batch in batches {
                self.loader.replay(&committed(batch))?;
            }
        }
        self.loader.publish();
        let offset = self.loader.published().last_offset();
        self.quorum.published.send_if_modified(|known| std::mem::replace(known, offset) != offset);
        self.quorum.controller.on_committed(offset);
        self.follow_leadership()?;
        let leader_id = self.quorum.raft.status().leader_id;
        let is_led =
            if leader_id == self.quorum.config.broker.node_id { self.leading.is_some() } else { leader_id >= 0 };
        let ready = is_led && self.loader.published().features.metadata_version > 0;
        self.quorum.ready.send_if_modified(|known| !std::mem::replace(known, *known || ready) && ready);
        Ok(())
    }

    fn load_snapshot(&mut self) -> Result<(), QuorumError> {
        let missing = RaftError::SnapshotMissing { start: self.loader.next_offset() };
        let (id, snapshot) = self.quorum.raft.newest_snapshot()?.ok_or(missing)?;
        if id.offset < self.loader.next_offset() {
            return Err(RaftError::SnapshotMissing { start: self.loader.next_offset() }.into());
        }
        let end = Provenance {
            last_offset: id.offset - 1,
            last_epoch: id.epoch,
            last_timestamp_ms: snapshot.last_contained_log_timestamp_ms,
        };
        tracing::info!(
            offset = id.offset,
            epoch = id.epoch,
            records = snapshot.records.len(),
            "loading metadata snapshot"
        );
        self.loader.load_snapshot(end, snapshot.records)?;
        Ok(())
    }

    /// The controller begins its term when everything before its epoch is replayed.
    fn follow_leadership(&mut self) -> Result<(), QuorumError> {
        let status = self.quorum.raft.status();
        if status.failed {
            return Err(QuorumError::Failed);
        }
        match status.epoch_start_offset {
            Some(start) if self.loader.next_offset() > start && self.leading != Some(status.epoch) => {
                self.leading = Some(status.epoch);
                let open = self.loader.in_transaction();
                self.quorum.controller.on_become_leader(status.epoch, self.loader.stable_image(), open)?;
                self.register_controller()?;
            }
            None if self.leading.take().is_some() => self.quorum.controller.on_resign(),
            _ => {}
        }
        Ok(())
    }

    fn register_controller(&self) -> Result<(), QuorumError> {
        let endpoints = self.quorum.config.endpoints.clone();
        self.quorum.controller.register_self(endpoints, supported_features())?;
        Ok(())
    }

    /// Takes a snapshot when the log grew enough or time passed, and deletes what no snapshot needs.
    fn keep_house(&mut self) {
        if self.snapshot.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let config = &self.quorum.config.broker;
        let bytes = self.loader.bytes_since_snapshot();
        let now = self.quorum.clock.now();
        let age_ms = now.mono_ms.saturating_sub(self.last_snapshot_mono_ms);
        let grown = u64::try_from(config.metadata_log_max_record_bytes_between_snapshots).is_ok_and(|max| bytes >= max);
        let interval_ms = u64::try_from(config.metadata_log_max_snapshot_interval_ms).unwrap_or(0);
        let old = interval_ms > 0 && age_ms >= interval_ms && bytes > 0;
        if !grown && !old {
            return;
        }
        let image = self.loader.published().clone();
        if image.last_offset() < 0 {
            return;
        }
        self.loader.on_snapshot_taken();
        self.last_snapshot_mono_ms = now.mono_ms;
        let raft = self.quorum.raft.clone();
        let (retention_bytes, retention_ms) = (config.metadata_max_retention_bytes, config.metadata_max_retention_ms);
        self.snapshot = Some(tokio::task::spawn_blocking(move || {
            let written = write_snapshot(&raft, &image).and_then(|()| Ok(raft.clean(retention_bytes, retention_ms)?));
            if let Err(error) = written {
                tracing::error!(offset = image.last_offset() + 1, %error, "cannot write metadata snapshot");
            }
        }));
    }

    async fn finish(self) {
        if let Some(task) = self.snapshot {
            // A failed snapshot was reported by the task.
            let _ = task.await;
        }
    }
}

fn timeouts(config: &BrokerConfig) -> Timeouts {
    let ms = |value: i32| u64::try_from(value).unwrap_or(0);
    Timeouts {
        election_ms: ms(config.controller_quorum_election_timeout_ms),
        fetch_ms: ms(config.controller_quorum_fetch_timeout_ms),
        election_backoff_max_ms: ms(config.controller_quorum_election_backoff_max_ms),
        request_ms: ms(config.controller_quorum_request_timeout_ms),
        retry_backoff_ms: ms(config.controller_quorum_retry_backoff_ms),
        ..Timeouts::default()
    }
}

/// Writes the snapshot of an image.
fn write_snapshot(raft: &RaftNode, image: &MetadataImage) -> Result<(), QuorumError> {
    let level = image.features.metadata_version;
    let records = image.to_records().iter().map(|record| encode_record(record, level)).collect::<Result<Vec<_>, _>>();
    let records = records.map_err(|error| QuorumError::Config(format!("a record cannot be stored: {error}")))?;
    let id = OffsetAndEpoch { offset: image.last_offset() + 1, epoch: image.provenance.last_epoch };
    let snapshot =
        Snapshot { last_contained_log_timestamp_ms: image.provenance.last_timestamp_ms, records, ..Default::default() };
    tracing::info!(offset = id.offset, epoch = id.epoch, records = snapshot.records.len(), "writing metadata snapshot");
    Ok(raft.write_snapshot(id, &snapshot)?)
}

fn committed(batch: LogBatch) -> CommittedBatch {
    CommittedBatch {
        base_offset: batch.base_offset,
        last_offset: batch.last_offset,
        epoch: batch.epoch,
        append_timestamp_ms: batch.append_timestamp_ms,
        size_in_bytes: batch.size_in_bytes,
        records: batch.records,
    }
}

impl std::fmt::Debug for Quorum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quorum").field("raft", &self.raft).field("cache", &self.cache).finish_non_exhaustive()
    }
}
