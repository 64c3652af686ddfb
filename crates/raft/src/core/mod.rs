//! The state machine of one member of the quorum: what to write, to append, to send and to tell, for each thing that happened.
//!
//! Pure: time comes in with `step`, chance from a seed, effects go out as a list to be carried out in order. Requests are driven by level, not
//! by edge: after every step each peer that still owes an answer is asked unless a request to it is open, so that a lost message needs no
//! case of its own. (KIP-595, KIP-996.) `election.rs` decides who leads, `leading.rs` and `following.rs` move the log.

mod election;
mod epochs;
mod following;
mod leading;
mod messages;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use milena_common::{Now, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::records::control::ControlType;

use crate::log::OffsetAndEpoch;
use crate::quorum_state::QuorumState;

pub use epochs::Epochs;
pub use leading::ReplicaProgress;
pub use messages::{BeginEpoch, EndEpoch, Fetch, Fetched, Head, Request, Response, Vote};

/// A member of the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Voter {
    pub id: i32,
    /// Its metadata directory; zero where voters are static (`kraft.version` 0).
    pub directory_id: Uuid,
}

impl Voter {
    /// Whether both may name the same member: a directory that is not known matches every one.
    fn matches(&self, other: &Voter) -> bool {
        self.id == other.id
            && (self.directory_id == other.directory_id || self.directory_id.is_zero() || other.directory_id.is_zero())
    }
}

/// Times of the protocol, in milliseconds: `controller.quorum.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// `election.timeout.ms`: an election takes between this and twice this.
    pub election_ms: u64,
    /// `fetch.timeout.ms`: a follower that got nothing for so long looks for another leader, and a leader whom a majority did not ask for one and
    /// a half times as long steps down.
    pub fetch_ms: u64,
    /// `election.backoff.max.ms`
    pub election_backoff_max_ms: u64,
    /// `request.timeout.ms`
    pub request_ms: u64,
    /// `retry.backoff.ms`
    pub retry_backoff_ms: u64,
    /// How long a leader may keep a fetch that finds nothing.
    pub fetch_max_wait_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            election_ms: 1000,
            fetch_ms: 2000,
            election_backoff_max_ms: 1000,
            request_ms: 2000,
            retry_backoff_ms: 20,
            fetch_max_wait_ms: 500,
        }
    }
}

/// Who this node is, and who the voters are.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    pub node_id: i32,
    /// Id of the directory that holds the log.
    pub directory_id: Uuid,
    pub voters: Vec<Voter>,
    /// 0 for voters that the configuration names, 1 for voters that the log names.
    pub kraft_version: i16,
    /// Control records that follow the first leader change: voters that so far only the first snapshot names.
    pub bootstrap: Vec<(ControlType, Bytes)>,
    pub timeouts: Timeouts,
    /// Of the random part of the timeouts.
    pub seed: u64,
}

/// Names a request for which somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The node starts; its log and vote file were read.
    Start,
    /// Time has passed: `next_deadline_ms` says when this is due.
    Tick,
    /// The controller wants records appended in the epoch it leads.
    Append { epoch: i32, records: Vec<Bytes> },
    /// The log is on disk below `end_offset`.
    Durable { end_offset: i64 },
    /// A member asks. The driver's own id; an answer bears it.
    Request { id: RequestId, request: Request },
    /// What became of a request to a member: its answer, or none.
    Response { from: i32, id: RequestId, response: Option<Response> },
    /// The log cannot be written any more.
    LogFailed,
    /// The node is going to stop.
    Shutdown,
}

/// What to do, in order. A failed effect ends the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Replace the vote file, durably.
    WriteQuorumState(QuorumState),
    /// Append a batch to the log.
    AppendBatch(Bytes),
    /// Append batches that the leader sent.
    AppendFetched(Bytes),
    /// Remove what is at and above the offset: it was never committed.
    TruncateTo(i64),
    /// The records asked for are in a batch before this; the last one's offset.
    Appended { last_offset: i64 },
    /// The records asked for were not appended: this node does not lead that epoch.
    NotLeader,
    /// The records asked for are too large for one batch.
    TooLarge { bytes: usize },
    /// The leader is another, or none (-1).
    LeaderChanged { leader_id: i32, epoch: i32 },
    /// Everything below is committed.
    HighWatermark(i64),
    /// Ask a member; what becomes of it comes back with the id.
    Send { to: i32, id: RequestId, request: Request },
    /// Answer a member.
    Respond { id: RequestId, response: Response },
    /// Answer a fetch with what the log holds from an offset on.
    RespondRecords { id: RequestId, head: Head, from: i64, high_watermark: i64 },
    /// The leader's log begins after this snapshot, and this one's ends before it.
    NeedSnapshot { leader_id: i32, snapshot: OffsetAndEpoch },
}

/// What this member is in its epoch.
#[derive(Debug)]
enum Role {
    /// Knows no leader, or has given its vote. An observer waits to be told and has no deadline.
    Unattached {
        deadline_ms: Option<u64>,
    },
    /// Asks whether an election would be won.
    Prospective(Election),
    /// Asks for votes.
    Candidate(Election),
    Follower(Following),
    Leader(Leading),
    /// Led, and does not any more: shutting down, or its log failed.
    Resigned {
        told: BTreeSet<i32>,
        deadline_ms: Option<u64>,
        successors: Vec<Voter>,
    },
}

use election::Election;
use following::Following;
use leading::Leading;

/// A request that is not answered yet.
#[derive(Debug, Clone, Copy)]
struct Call {
    id: RequestId,
    sent_ms: u64,
}

/// One member of the quorum.
#[derive(Debug)]
pub struct RaftCore {
    config: RaftConfig,
    state: QuorumState,
    /// What the vote file says.
    written: QuorumState,
    role: Role,
    log: Epochs,
    durable_end_offset: i64,
    high_watermark: i64,
    calls: BTreeMap<i32, Call>,
    /// Peers that are left alone for a while, and until when.
    backoff: BTreeMap<i32, u64>,
    last_call: u64,
    random: u64,
    out: Vec<Output>,
}

impl RaftCore {
    /// `state` is what the vote file says, `log` what the log holds; everything below `committed` is known to be so, from a snapshot.
    pub fn new(config: RaftConfig, state: QuorumState, log: Epochs, durable_end_offset: i64, committed: i64) -> Self {
        let written = state.clone();
        let mut state = state;
        if log.end().epoch > state.leader_epoch {
            // the vote file is older than the log: in the epoch of its last record somebody led
            state = QuorumState { leader_epoch: log.end().epoch, ..no_leader(&config) };
        }
        let random = config.seed ^ u64::from(config.node_id.unsigned_abs()).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        RaftCore {
            high_watermark: committed,
            config,
            state,
            written,
            role: Role::Unattached { deadline_ms: None },
            log,
            durable_end_offset,
            calls: BTreeMap::new(),
            backoff: BTreeMap::new(),
            last_call: 0,
            random,
            out: Vec::new(),
        }
    }

    /// Where the epoch begins that this node leads.
    pub fn epoch_start_offset(&self) -> Option<i64> {
        match &self.role {
            Role::Leader(leading) => Some(leading.epoch_start_offset),
            _ => None,
        }
    }

    pub fn epoch(&self) -> i32 {
        self.state.leader_epoch
    }

    /// -1 while no leader is known.
    pub fn leader_id(&self) -> i32 {
        match self.role {
            Role::Leader(_) => self.config.node_id,
            _ if self.state.leader_id == self.config.node_id => -1,
            _ => self.state.leader_id,
        }
    }

    pub fn voters(&self) -> &[Voter] {
        &self.config.voters
    }

    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Where the next record goes.
    pub fn log_end_offset(&self) -> i64 {
        self.log.end().offset
    }

    /// Takes in what happened and says what to do about it.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Output> {
        if self.resigned_for_good() && !matches!(input, Input::Append { .. } | Input::Response { .. } | Input::Tick) {
            return Vec::new();
        }
        match input {
            Input::Start => self.on_start(now),
            Input::Tick => {}
            Input::Append { epoch, records } => self.on_append(now, epoch, &records),
            Input::Durable { end_offset } => {
                self.durable_end_offset = self.durable_end_offset.max(end_offset.min(self.log_end_offset()));
                self.advance_high_watermark();
            }
            Input::Request { id, request } => self.on_request(now, id, request),
            Input::Response { from, id, response } => self.on_response(now, from, id, response),
            Input::LogFailed => self.resign(false, None),
            Input::Shutdown => self.resign(true, None),
        }
        self.on_time(now);
        self.drive(now);
        std::mem::take(&mut self.out)
    }

    /// When a `Tick` is due, on the monotonic clock.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let timeouts = &self.config.timeouts;
        let calls = self.calls.values().map(|call| call.sent_ms + timeouts.request_ms);
        let role = match &self.role {
            Role::Unattached { deadline_ms } | Role::Resigned { deadline_ms, .. } => *deadline_ms,
            Role::Prospective(election) | Role::Candidate(election) => Some(election.deadline_ms),
            Role::Follower(following) => following.deadline_ms,
            Role::Leader(leading) => leading.next_deadline_ms(),
        };
        calls.chain(self.backoff.values().copied()).chain(role).min()
    }

    fn me(&self) -> Voter {
        Voter { id: self.config.node_id, directory_id: self.config.directory_id }
    }

    fn is_voter(&self) -> bool {
        self.config.voters.iter().any(|voter| voter.matches(&self.me()))
    }

    fn peers(&self) -> impl Iterator<Item = Voter> + use<'_> {
        self.config.voters.iter().copied().filter(|voter| voter.id != self.config.node_id)
    }

    fn is_majority(&self, count: usize) -> bool {
        count > self.config.voters.len() / 2
    }

    fn head(&self, error: ErrorCode) -> Head {
        Head { error, epoch: self.epoch(), leader_id: self.leader_id() }
    }

    /// From 0 to `below`, exclusive.
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below.max(1)
    }

    fn election_deadline(&mut self, now: Now) -> u64 {
        let election_ms = self.config.timeouts.election_ms;
        now.mono_ms + election_ms + self.random(election_ms)
    }

    fn on_start(&mut self, now: Now) {
        if let [only] = self.config.voters.as_slice()
            && only.matches(&self.me())
        {
            self.become_candidate(now);
            return;
        }
        let (leader_id, epoch) = (self.state.leader_id, self.epoch());
        if leader_id >= 0 && leader_id != self.config.node_id {
            self.become_follower(now, epoch, leader_id);
        } else {
            let deadline_ms = self.is_voter().then(|| self.election_deadline(now));
            self.role = Role::Unattached { deadline_ms };
        }
    }

    fn on_request(&mut self, now: Now, id: RequestId, request: Request) {
        let response = match request {
            Request::Vote(vote) => self.on_vote(now, &vote),
            Request::BeginEpoch(begin) => self.on_begin_epoch(now, &begin),
            Request::EndEpoch(end) => self.on_end_epoch(now, &end),
            Request::Fetch(fetch) => return self.on_fetch(now, id, &fetch),
        };
        self.out.push(Output::Respond { id, response });
    }

    fn on_response(&mut self, now: Now, from: i32, id: RequestId, response: Option<Response>) {
        if self.calls.get(&from).is_none_or(|call| call.id != id) {
            return;
        }
        self.calls.remove(&from);
        let Some(response) = response else {
            self.back_off(now, from);
            return;
        };
        let head = response.head();
        if self.resigned_for_good() {
            return self.on_end_answer(from);
        }
        if head.epoch < self.epoch() || self.learn(now, head.epoch, head.leader_id) {
            return;
        }
        match response {
            Response::Vote { head, granted } => self.on_vote_answer(now, from, head, granted),
            Response::BeginEpoch { head } => self.on_begin_answer(now, from, head),
            Response::EndEpoch { .. } => self.on_end_answer(from),
            Response::Fetch { head, fetched } => self.on_fetched(now, from, head, fetched),
        }
    }

    /// Takes in that somebody is in an epoch and knows its leader; true if this changed what this member is.
    fn learn(&mut self, now: Now, epoch: i32, leader_id: i32) -> bool {
        let leader_is_news = leader_id >= 0 && leader_id != self.config.node_id;
        if epoch > self.epoch() {
            match leader_is_news {
                true => self.become_follower(now, epoch, leader_id),
                false => self.become_unattached(now, epoch),
            }
            return true;
        }
        // whoever knows the leader and stands for election nevertheless has lost it
        if epoch == self.epoch() && leader_is_news && self.state.leader_id < 0 {
            self.become_follower(now, epoch, leader_id);
            return true;
        }
        false
    }

    fn become_unattached(&mut self, now: Now, epoch: i32) {
        if epoch > self.epoch() {
            self.state = QuorumState { leader_epoch: epoch, ..no_leader(&self.config) };
        }
        let deadline_ms = self.is_voter().then(|| self.election_deadline(now));
        self.change_role(Role::Unattached { deadline_ms });
        self.persist();
        self.tell_leader();
    }

    fn become_follower(&mut self, now: Now, epoch: i32, leader_id: i32) {
        if epoch > self.epoch() {
            self.state = QuorumState { leader_epoch: epoch, ..no_leader(&self.config) };
        }
        self.state.leader_id = leader_id;
        let deadline_ms = self.is_voter().then_some(now.mono_ms + self.config.timeouts.fetch_ms);
        self.change_role(Role::Follower(Following { deadline_ms, has_fetched: false }));
        self.persist();
        self.tell_leader();
    }

    /// Whatever was asked in the old role is not waited for, and who waits for the old role is told to ask again.
    fn change_role(&mut self, role: Role) {
        let old = std::mem::replace(&mut self.role, role);
        self.calls.clear();
        self.backoff.clear();
        if let Role::Leader(leading) = old {
            let head = self.head(ErrorCode::NotLeaderOrFollower);
            for id in leading.parked() {
                self.out.push(Output::Respond { id, response: Response::Fetch { head, fetched: Fetched::Nothing } });
            }
        }
    }

    /// Before anything follows from it the new state is in the vote file.
    fn persist(&mut self) {
        if self.state != self.written {
            self.written = self.state.clone();
            self.out.push(Output::WriteQuorumState(self.state.clone()));
        }
    }

    fn tell_leader(&mut self) {
        self.out.push(Output::LeaderChanged { leader_id: self.leader_id(), epoch: self.epoch() });
    }

    /// What is due.
    fn on_time(&mut self, now: Now) {
        let request_ms = self.config.timeouts.request_ms;
        self.calls.retain(|_, call| call.sent_ms + request_ms > now.mono_ms);
        self.backoff.retain(|_, until_ms| *until_ms > now.mono_ms);
        let is_due = |deadline_ms: Option<u64>| deadline_ms.is_some_and(|at| at <= now.mono_ms);
        match &self.role {
            Role::Unattached { deadline_ms } if is_due(*deadline_ms) => self.become_prospective(now),
            Role::Prospective(election) if election.deadline_ms <= now.mono_ms => self.give_up_pre_votes(now),
            Role::Candidate(election) if election.deadline_ms <= now.mono_ms => self.become_prospective(now),
            Role::Follower(following) if is_due(following.deadline_ms) => self.become_prospective(now),
            Role::Leader(_) => self.on_leaders_time(now),
            // not in the epoch that it led
            Role::Resigned { deadline_ms, .. } if is_due(*deadline_ms) => self.become_unattached(now, self.epoch() + 1),
            _ => {}
        }
    }

    /// Asks every peer that still owes this role an answer.
    fn drive(&mut self, now: Now) {
        match &self.role {
            Role::Unattached { .. } => {}
            Role::Prospective(_) | Role::Candidate(_) => self.ask_for_votes(now),
            Role::Follower(_) => self.fetch(now),
            Role::Leader(_) => self.announce(now),
            Role::Resigned { .. } => self.say_goodbye(now),
        }
    }

    fn call(&mut self, now: Now, to: i32, request: impl FnOnce(&Self) -> Request) {
        if self.calls.contains_key(&to) || self.backoff.contains_key(&to) {
            return;
        }
        self.last_call += 1;
        let id = RequestId(self.last_call);
        self.calls.insert(to, Call { id, sent_ms: now.mono_ms });
        let request = request(self);
        self.out.push(Output::Send { to, id, request });
    }

    fn back_off(&mut self, now: Now, peer: i32) {
        self.backoff.insert(peer, now.mono_ms + self.config.timeouts.retry_backoff_ms.max(1));
    }

    fn resigned_for_good(&self) -> bool {
        matches!(self.role, Role::Resigned { deadline_ms: None, .. })
    }

    /// Leads no more: until the deadline, or for good. A healthy leader says so to the others, that they need not wait.
    fn resign(&mut self, tell: bool, deadline_ms: Option<u64>) {
        let successors = match &self.role {
            Role::Leader(leading) if tell => Some(leading.successors(self.peers())),
            _ => None,
        };
        let told = match successors {
            Some(_) => BTreeSet::new(),
            None => self.peers().map(|voter| voter.id).collect(),
        };
        self.change_role(Role::Resigned { told, deadline_ms, successors: successors.unwrap_or_default() });
        self.tell_leader();
    }

    fn say_goodbye(&mut self, now: Now) {
        let Role::Resigned { told, successors, .. } = &self.role else { return };
        let untold: Vec<i32> = self.peers().map(|voter| voter.id).filter(|id| !told.contains(id)).collect();
        let successors = successors.clone();
        for peer in untold {
            self.call(now, peer, |core| {
                Request::EndEpoch(EndEpoch {
                    epoch: core.epoch(),
                    leader_id: core.config.node_id,
                    preferred_successors: successors.clone(),
                })
            });
        }
    }

    fn on_end_answer(&mut self, from: i32) {
        if let Role::Resigned { told, .. } = &mut self.role {
            told.insert(from);
        }
    }
}

/// Nobody is known to lead, and no vote is given.
fn no_leader(config: &RaftConfig) -> QuorumState {
    QuorumState {
        current_voters: match config.kraft_version {
            0 => config.voters.iter().map(|voter| voter.id).collect(),
            _ => Vec::new(),
        },
        data_version: config.kraft_version.clamp(0, 1),
        ..QuorumState::default()
    }
}
