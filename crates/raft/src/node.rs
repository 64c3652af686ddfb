//! The driver: carries out what the core decides, on a log, a vote file and a network, and lets readers follow what is committed.
//!
//! Everything is decided under one lock, held for a step and its effects (one write to the log at most, never across an
//! await). Readers wait on `watch`, then read the committed records themselves: there is no queue to bound. Of requests to others at most
//! one is open to each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use milena_common::{Clock, Uuid};
use milena_protocol::records::control::ControlType;
use tokio::sync::{Notify, oneshot, watch};

use crate::batch::{BatchError, LogBatch, read_batches};
use crate::core::{
    Epochs, Fetched, Head, Input, Output, RaftConfig, RaftCore, ReplicaProgress, Request, RequestId, Response,
    Timeouts, Voter,
};
use crate::log::{LogNews, OffsetAndEpoch, RaftLog, RaftLogError, SnapshotFile};
use crate::quorum_state::{QuorumState, QuorumStateError, QuorumStateStore};
use crate::snapshot::{Snapshot, SnapshotError, build_snapshot, read_snapshot};
use crate::voters::QuorumRecords;

/// Bytes of the log in one answer to a fetch.
const FETCH_BYTES: usize = 1 << 20;

/// The way to the other members of the quorum.
pub trait RaftNetwork: Send + Sync {
    /// Sends a request and returns at once. Its answer, or that there is none, is told to the node by [`RaftNode::answered`]; called under the
    /// node's lock, so not from within.
    fn send(&self, to: i32, id: RequestId, request: Request);
}

/// For a quorum of one: there is nobody to ask.
#[derive(Debug, Clone, Copy)]
pub struct NoNetwork;

impl RaftNetwork for NoNetwork {
    fn send(&self, _to: i32, _id: RequestId, _request: Request) {}
}

/// Why a node cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    #[error(transparent)]
    Log(#[from] RaftLogError),
    #[error("cannot read or write quorum-state: {0}")]
    QuorumState(#[from] std::io::Error),
    #[error(transparent)]
    BadQuorumState(#[from] QuorumStateError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the metadata log has no voters: name them in controller.quorum.voters, or format with --standalone")]
    NoVoters,
    #[error("this node ({node_id}, directory {directory_id}) is not the voter {voter}")]
    NotVoter { node_id: i32, directory_id: Uuid, voter: String },
    #[error("the metadata log is damaged: {0}")]
    Damaged(String),
    #[error("the metadata log starts at offset {start}, but no snapshot holds what came before")]
    SnapshotMissing { start: i64 },
}

/// Why records were not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("this node does not lead epoch {0}")]
    NotLeader(i32),
    #[error("{bytes} bytes of records do not fit one batch")]
    TooLarge { bytes: usize },
    #[error(transparent)]
    Log(#[from] RaftLogError),
}

/// Why committed records cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// They were replaced by a snapshot.
    #[error("offset is below the start of the log at {start}")]
    BelowStart { start: i64 },
    #[error(transparent)]
    Log(#[from] RaftLogError),
    #[error("the metadata log is damaged: {0}")]
    Batch(#[from] BatchError),
}

/// What the quorum looks like from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumStatus {
    /// -1 while there is none.
    pub leader_id: i32,
    pub epoch: i32,
    /// Everything below is committed.
    pub high_watermark: i64,
    /// Where the leader's epoch begins, while this node leads.
    pub epoch_start_offset: Option<i64>,
    /// The log failed: the node must stop.
    pub failed: bool,
}

/// Who a node is.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    pub node_id: i32,
    /// Id of the directory that holds the log.
    pub directory_id: Uuid,
    /// Voters of the configuration; they count while the log names none.
    pub static_voters: Vec<i32>,
    pub timeouts: Timeouts,
}

struct Inner {
    core: RaftCore,
    failed: bool,
    /// Who asked, of the requests that are not answered yet.
    waiting: HashMap<RequestId, oneshot::Sender<Answer>>,
    last_request: u64,
    /// Until when `run` sleeps.
    sleeps_until_ms: u64,
}

/// What a request of another member is answered with.
enum Answer {
    Is(Response),
    /// What the log holds from there on.
    Records {
        head: Head,
        from: i64,
        high_watermark: i64,
    },
}

/// One member of the quorum.
pub struct RaftNode {
    inner: Mutex<Inner>,
    log: Arc<dyn RaftLog>,
    votes: Box<dyn QuorumStateStore>,
    clock: Arc<dyn Clock>,
    network: Arc<dyn RaftNetwork>,
    /// A deadline is nearer than `run` knows.
    hurry: Notify,
    status: watch::Sender<QuorumStatus>,
    news: watch::Receiver<LogNews>,
    quorum: QuorumRecords,
}

impl RaftNode {
    /// Reads what is on disk and, if it is the only voter, takes the lead. `run` must be driven for anything else to happen.
    ///
    /// # Errors
    /// See [`RaftError`].
    pub fn start(
        config: NodeConfig,
        log: Arc<dyn RaftLog>,
        votes: Box<dyn QuorumStateStore>,
        clock: Arc<dyn Clock>,
        network: Arc<dyn RaftNetwork>,
    ) -> Result<Arc<RaftNode>, RaftError> {
        let state = match votes.read()? {
            Some(text) if !text.trim().is_empty() => QuorumState::from_json(text.trim())?,
            _ => QuorumState::default(),
        };
        let newest = newest_usable(&*log)?;
        let snapshot = newest.as_ref().map(|(id, _)| *id);
        let snapshot_end = snapshot.map_or(0, |id| id.offset);
        if log.start_offset() > snapshot_end {
            return Err(RaftError::SnapshotMissing { start: log.start_offset() });
        }
        if log.end_offset() < snapshot_end {
            log.truncate_fully_and_start_at(snapshot_end)?;
        }
        let from_snapshot = newest.map(|(_, snapshot)| snapshot.quorum).unwrap_or_default();
        let (quorum, in_log) = quorum_of(&*log, snapshot_end, from_snapshot)?;
        let bootstrap = match (in_log, snapshot_end) {
            // The first snapshot is this node's own: the others learn from the log.
            (false, 0) => quorum.controls().map_err(|error| RaftError::Damaged(error.to_string()))?,
            _ => Vec::new(),
        };
        let voters = check_voters(&config, &quorum)?;
        let kraft_version = quorum.kraft_version;
        let NodeConfig { node_id, directory_id, timeouts, .. } = config;
        let config = RaftConfig {
            node_id,
            directory_id,
            voters,
            kraft_version,
            bootstrap,
            timeouts,
            seed: directory_id.to_u128() as u64,
        };
        let epochs = Epochs::new(start_of(&*log)?, log.end_offset(), log.epochs());
        let core = RaftCore::new(config, state, epochs, log.durable_end_offset(), snapshot_end);
        let (news_sender, news) = watch::channel(LogNews::Durable(log.durable_end_offset()));
        log.set_listener(Arc::new(move |latest| {
            news_sender
                .send_if_modified(|known| *known != LogNews::Failed && std::mem::replace(known, latest) != latest);
        }));
        let (status, _) = watch::channel(status_of(&core, false));
        let inner = Inner { core, failed: false, waiting: HashMap::new(), last_request: 0, sleeps_until_ms: u64::MAX };
        let (inner, hurry) = (Mutex::new(inner), Notify::new());
        let node = RaftNode { inner, log, votes, clock, network, hurry, status, news, quorum };
        {
            let mut inner = node.lock();
            node.step(&mut inner, Input::Start)?;
            let end_offset = node.log.durable_end_offset();
            node.step(&mut inner, Input::Durable { end_offset })?;
        }
        Ok(Arc::new(node))
    }

    /// Follows what becomes of appends and lets deadlines pass, until the log fails or is closed.
    pub async fn run(self: Arc<Self>) {
        let mut news = self.news.clone();
        loop {
            let failed = *news.borrow_and_update() == LogNews::Failed;
            let stepped = {
                let mut inner = self.lock();
                inner.failed |= failed;
                // what is durable now: the news may be older than a cut
                let input = match failed {
                    true => Input::LogFailed,
                    false => Input::Durable { end_offset: self.log.durable_end_offset() },
                };
                self.step(&mut inner, input)
            };
            if failed || stepped.is_err() {
                return;
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = self.deadline() => {}
                () = self.hurry.notified() => {}
            }
        }
    }

    /// Sleeps until something is due; for ever if nothing is.
    async fn deadline(&self) {
        let due_ms = {
            let mut inner = self.lock();
            inner.sleeps_until_ms = inner.core.next_deadline_ms().unwrap_or(u64::MAX);
            inner.sleeps_until_ms
        };
        match due_ms {
            u64::MAX => std::future::pending().await,
            due_ms => tokio::time::sleep(Duration::from_millis(due_ms.saturating_sub(self.clock.now().mono_ms))).await,
        }
    }

    /// Answers a request of another member; a fetch that finds nothing may take a while. `None` if there is no answer: the other asks again.
    pub async fn handle(&self, request: Request) -> Option<Response> {
        let answer = {
            let mut inner = self.lock();
            inner.last_request += 1;
            let id = RequestId(inner.last_request);
            let (sender, answer) = oneshot::channel();
            inner.waiting.retain(|_, waiting| !waiting.is_closed());
            inner.waiting.insert(id, sender);
            self.step(&mut inner, Input::Request { id, request }).ok()?;
            answer
        };
        match answer.await.ok()? {
            Answer::Is(response) => Some(response),
            Answer::Records { head, from, high_watermark } => {
                let end = self.log.end_offset();
                let records = match from < end {
                    true => self.log.read(from, end, FETCH_BYTES).ok()?,
                    false => Bytes::new(),
                };
                Some(Response::Fetch { head, fetched: Fetched::Records { records, high_watermark } })
            }
        }
    }

    /// What became of a request to another member.
    pub fn answered(&self, from: i32, id: RequestId, response: Option<Response>) {
        // a failed effect is in the status
        let _ = self.step(&mut self.lock(), Input::Response { from, id, response });
    }

    /// The status now, and a way to wait for the next.
    pub fn watch(&self) -> watch::Receiver<QuorumStatus> {
        self.status.subscribe()
    }

    pub fn status(&self) -> QuorumStatus {
        *self.status.borrow()
    }

    /// The offset the next record gets.
    pub fn end_offset(&self) -> i64 {
        self.lock().core.log_end_offset()
    }

    /// Appends records as one batch in `epoch`; returns the last one's offset. They are committed when the high watermark
    /// passes it.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn append(&self, epoch: i32, records: Vec<Bytes>) -> Result<i64, AppendError> {
        let mut inner = self.lock();
        let outputs = self.step(&mut inner, Input::Append { epoch, records }).map_err(|error| match error {
            RaftError::Log(error) => AppendError::Log(error),
            other => AppendError::Log(RaftLogError::Storage(other.to_string())),
        })?;
        for output in outputs {
            match output {
                Output::Appended { last_offset } => return Ok(last_offset),
                Output::TooLarge { bytes } => return Err(AppendError::TooLarge { bytes }),
                _ => {}
            }
        }
        Err(AppendError::NotLeader(epoch))
    }

    /// Committed batches from `from` on, about `max_bytes` of them; none when everything was read.
    ///
    /// # Errors
    /// `BelowStart` when a snapshot must be read instead.
    pub fn read_committed(&self, from: i64, max_bytes: usize) -> Result<Vec<LogBatch>, ReadError> {
        let start = self.log.start_offset();
        if from < start {
            return Err(ReadError::BelowStart { start });
        }
        let high_watermark = self.status().high_watermark;
        if from >= high_watermark {
            return Ok(Vec::new());
        }
        Ok(read_batches(self.log.read(from, high_watermark, max_bytes)?)?)
    }

    /// The newest snapshot that is complete.
    ///
    /// # Errors
    /// When the directory or the snapshot cannot be read.
    pub fn newest_snapshot(&self) -> Result<Option<(OffsetAndEpoch, Snapshot)>, RaftError> {
        newest_usable(&*self.log)
    }

    /// Writes a snapshot of the committed state that ends at `id`, unless there is one. The voters are added here.
    ///
    /// # Errors
    /// When it cannot be written; the log is whole nevertheless.
    pub fn write_snapshot(&self, id: OffsetAndEpoch, snapshot: &Snapshot) -> Result<(), RaftError> {
        if self.log.snapshots()?.iter().any(|file| file.id.offset >= id.offset) {
            return Ok(());
        }
        let snapshot = Snapshot { quorum: self.quorum.clone(), ..snapshot.clone() };
        let content = build_snapshot(&snapshot, id.epoch, self.clock.now().wall_ms)?;
        Ok(self.log.write_snapshot(id, &content)?)
    }

    /// Deletes the oldest snapshots, and the log before the oldest that stays, while all together is larger than
    /// `retention_bytes` (-1: never) or the oldest was replaced more than `retention_ms` ago (-1: never). The newest always
    /// stays.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub fn clean(&self, retention_bytes: i64, retention_ms: i64) -> Result<(), RaftError> {
        let mut snapshots = self.log.snapshots()?;
        let now_ms = self.clock.now().wall_ms;
        while let [oldest, next, ..] = snapshots.as_slice() {
            let (oldest, next) = (*oldest, *next);
            let total = self.log.size_in_bytes() + snapshots.iter().map(|s| s.size_in_bytes).sum::<u64>();
            let too_large = u64::try_from(retention_bytes).is_ok_and(|limit| total > limit);
            if !too_large && !self.is_older(oldest, now_ms, retention_ms)? {
                break;
            }
            self.log.advance_start_offset(next.id.offset)?;
            self.log.delete_snapshot(oldest.id)?;
            snapshots.remove(0);
        }
        Ok(())
    }

    fn is_older(&self, file: SnapshotFile, now_ms: i64, retention_ms: i64) -> Result<bool, RaftError> {
        if retention_ms < 0 {
            return Ok(false);
        }
        let snapshot = read_snapshot(self.log.read_snapshot(file.id)?)?;
        Ok(now_ms.saturating_sub(snapshot.last_contained_log_timestamp_ms) > retention_ms)
    }

    /// How far everybody is, as far as this node leads.
    pub fn replicas(&self) -> Vec<ReplicaProgress> {
        self.lock().core.replicas(self.clock.now())
    }

    /// Where the log begins.
    pub fn start_offset(&self) -> i64 {
        self.log.start_offset()
    }

    /// Who votes. A static quorum knows no directories.
    pub fn voters(&self) -> Vec<Voter> {
        self.lock().core.voters().to_vec()
    }

    /// The finalized `kraft.version`.
    pub fn kraft_version(&self) -> i16 {
        self.quorum.kraft_version
    }

    /// Leads no more.
    pub fn shutdown(&self) {
        let mut inner = self.lock();
        // Only an effect can fail, and resigning has none.
        let _ = self.step(&mut inner, Input::Shutdown);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step of the core and its effects. After a failed effect the node leads no more.
    fn step(&self, inner: &mut Inner, input: Input) -> Result<Vec<Output>, RaftError> {
        let now = self.clock.now();
        let outputs = inner.core.step(now, input);
        let mut result = Ok(());
        for output in &outputs {
            result = match output {
                Output::WriteQuorumState(state) => self.votes.write(&state.to_json()).map_err(RaftError::from),
                Output::AppendBatch(batches) | Output::AppendFetched(batches) => {
                    self.log.append(batches.clone(), now).map_err(RaftError::from)
                }
                Output::TruncateTo(offset) => self.log.truncate_to(*offset).map_err(RaftError::from),
                Output::HighWatermark(offset) => {
                    self.log.set_high_watermark(*offset);
                    Ok(())
                }
                Output::Send { to, id, request } => {
                    self.network.send(*to, *id, request.clone());
                    Ok(())
                }
                Output::Respond { id, response } => {
                    answer(inner, *id, Answer::Is(response.clone()));
                    Ok(())
                }
                Output::RespondRecords { id, head, from, high_watermark } => {
                    let (head, from, high_watermark) = (*head, *from, *high_watermark);
                    answer(inner, *id, Answer::Records { head, from, high_watermark });
                    Ok(())
                }
                Output::NeedSnapshot { leader_id, snapshot } => {
                    let (offset, epoch) = (snapshot.offset, snapshot.epoch);
                    tracing::error!(
                        leader_id,
                        offset,
                        epoch,
                        "this node is behind the log of its leader, and snapshots cannot be fetched yet"
                    );
                    Ok(())
                }
                Output::Appended { .. }
                | Output::NotLeader
                | Output::TooLarge { .. }
                | Output::LeaderChanged { .. } => Ok(()),
            };
            if result.is_err() {
                break;
            }
        }
        if let Err(error) = &result {
            tracing::error!(%error, epoch = inner.core.epoch(), "metadata log failed, leading no more");
            inner.failed = true;
            inner.core.step(now, Input::LogFailed);
        }
        let status = status_of(&inner.core, inner.failed);
        self.status.send_if_modified(|known| std::mem::replace(known, status) != status);
        if inner.core.next_deadline_ms().is_some_and(|due_ms| due_ms < inner.sleeps_until_ms) {
            self.hurry.notify_one();
        }
        result.map(|()| outputs)
    }
}

fn answer(inner: &mut Inner, id: RequestId, with: Answer) {
    if let Some(waiting) = inner.waiting.remove(&id) {
        // whoever asked may be gone
        let _ = waiting.send(with);
    }
}

fn status_of(core: &RaftCore, failed: bool) -> QuorumStatus {
    QuorumStatus {
        leader_id: core.leader_id(),
        epoch: core.epoch(),
        high_watermark: core.high_watermark(),
        epoch_start_offset: core.epoch_start_offset(),
        failed,
    }
}

/// Where the log begins, and the epoch of the record before: the snapshot that ends there says it.
fn start_of(log: &dyn RaftLog) -> Result<OffsetAndEpoch, RaftError> {
    let start = log.start_offset();
    match log.snapshots()?.into_iter().find(|snapshot| snapshot.id.offset == start) {
        Some(snapshot) => Ok(snapshot.id),
        None => Ok(OffsetAndEpoch { offset: start, epoch: 0 }),
    }
}

/// The newest snapshot that can be read whole. An unreadable one is only passed over when the log still holds what it held.
fn newest_usable(log: &dyn RaftLog) -> Result<Option<(OffsetAndEpoch, Snapshot)>, RaftError> {
    for file in log.snapshots()?.into_iter().rev() {
        match read_snapshot(log.read_snapshot(file.id)?) {
            Ok(snapshot) => return Ok(Some((file.id, snapshot))),
            Err(error) => {
                tracing::error!(offset = file.id.offset, epoch = file.id.epoch, %error, "metadata snapshot cannot be used");
            }
        }
    }
    Ok(None)
}

/// What the snapshot and the log after it say about the quorum, and whether the log did.
fn quorum_of(log: &dyn RaftLog, from: i64, mut quorum: QuorumRecords) -> Result<(QuorumRecords, bool), RaftError> {
    let damaged = |what: String| RaftError::Damaged(what);
    let mut in_log = false;
    let (mut next, end) = (from.max(log.start_offset()), log.end_offset());
    while next < end {
        let bytes = log.read(next, end, 4 << 20)?;
        let before = next;
        for batch in read_batches(bytes).map_err(|error| damaged(error.to_string()))? {
            next = batch.last_offset + 1;
            for (kind, value) in &batch.controls {
                let known = quorum.clone();
                quorum.apply(*kind, value).map_err(|error| damaged(error.to_string()))?;
                in_log |= known != quorum || matches!(kind, Some(ControlType::KraftVoters));
            }
        }
        if next == before {
            return Err(damaged(format!("nothing can be read at offset {next} of {end}")));
        }
    }
    Ok((quorum, in_log))
}

/// The voters. A node that is the only one must be the one that is named: nobody else could lead.
fn check_voters(config: &NodeConfig, quorum: &QuorumRecords) -> Result<Vec<Voter>, RaftError> {
    let voters: Vec<Voter> = match &quorum.voters {
        Some(record) if quorum.kraft_version > 0 => {
            record.voters.iter().map(|v| Voter { id: v.voter_id, directory_id: v.voter_directory_id }).collect()
        }
        _ => config.static_voters.iter().map(|&id| Voter { id, directory_id: Uuid::ZERO }).collect(),
    };
    match voters.as_slice() {
        [] => Err(RaftError::NoVoters),
        [only] if only.id != config.node_id || ![Uuid::ZERO, config.directory_id].contains(&only.directory_id) => {
            let voter = if only.directory_id.is_zero() {
                only.id.to_string()
            } else {
                format!("{}, directory {}", only.id, only.directory_id)
            };
            Err(RaftError::NotVoter { node_id: config.node_id, directory_id: config.directory_id, voter })
        }
        _ => Ok(voters),
    }
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode").field("status", &self.status()).finish_non_exhaustive()
    }
}
