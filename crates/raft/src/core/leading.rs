//! The leader's part: it appends, answers fetches, counts what a majority has on disk, and steps down when no majority asks.

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_common::{Now, Uuid};
use milena_protocol::records::control::ControlType;
use milena_protocol::stored::control::LeaderChangeMessage;
use milena_protocol::stored::control::leader_change_message::Voter as VoterRecord;
use milena_protocol::{Encode, ErrorCode};

use super::messages::{Fetch, Fetched, Response};
use super::{Output, RaftCore, RequestId, Role, Voter};
use crate::batch::{MAX_BATCH_BYTES, control_batch, data_batch};

/// How long an observer that does not fetch is remembered.
const OBSERVER_SESSION_MS: i64 = 300_000;

/// What a leader knows.
#[derive(Debug, Default)]
pub(super) struct Leading {
    pub epoch_start_offset: i64,
    /// Of every member that fetched or was told of the epoch, by id.
    progress: BTreeMap<i32, Progress>,
    parked: Vec<Parked>,
    /// By then a majority must have fetched; none in a quorum of one.
    check_quorum_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Where its log ends on its disk; none while that is not known.
    end_offset: Option<i64>,
    /// It fetched since the last check of the quorum.
    fetched: bool,
    directory_id: Uuid,
    is_observer: bool,
    /// When it last fetched, and where the leader's log ended then.
    last_fetch: Option<(i64, i64)>,
    /// When its log last was as long as the leader's.
    caught_up_wall_ms: Option<i64>,
}

impl Progress {
    fn is_gone(&self, now: Now) -> bool {
        self.last_fetch.is_none_or(|(at_wall_ms, _)| now.wall_ms.saturating_sub(at_wall_ms) >= OBSERVER_SESSION_MS)
    }

    /// It fetched from `end_offset` on. Whoever has by now what there was at its last fetch had caught up then.
    fn fetched_from(&mut self, now: Now, end_offset: i64, leaders_end: i64) {
        if end_offset >= leaders_end {
            self.caught_up_wall_ms = Some(now.wall_ms).max(self.caught_up_wall_ms);
        } else if let Some((at_wall_ms, end_then)) = self.last_fetch
            && end_offset >= end_then
        {
            self.caught_up_wall_ms = Some(at_wall_ms).max(self.caught_up_wall_ms);
        }
        self.end_offset = Some(end_offset);
        self.last_fetch = Some((now.wall_ms, leaders_end));
    }
}

/// How far a member is, as the leader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaProgress {
    pub replica: Voter,
    pub is_voter: bool,
    /// Where its log ends; -1 if that is not known.
    pub log_end_offset: i64,
    /// Milliseconds since 1970; -1 if it did not fetch.
    pub last_fetch_wall_ms: i64,
    /// Milliseconds since 1970; -1 if it never had all.
    pub last_caught_up_wall_ms: i64,
}

/// A fetch that found nothing yet.
#[derive(Debug)]
struct Parked {
    id: RequestId,
    replica_id: i32,
    from: i64,
    /// What its sender knows to be committed.
    high_watermark: i64,
    deadline_ms: u64,
}

impl Leading {
    pub fn knows_of_epoch(&self, id: i32) -> bool {
        self.progress.contains_key(&id)
    }

    pub fn told(&mut self, id: i32) {
        self.progress.entry(id).or_default();
    }

    pub fn parked(self) -> impl Iterator<Item = RequestId> {
        self.parked.into_iter().map(|parked| parked.id)
    }

    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.parked.iter().map(|parked| parked.deadline_ms).chain(self.check_quorum_ms).min()
    }

    /// Observers that did not fetch for long.
    fn forget_observers(&mut self, now: Now) {
        self.progress.retain(|_, progress| !progress.is_observer || !progress.is_gone(now));
    }

    /// The peers, whoever has most of the log first.
    pub fn successors(&self, peers: impl Iterator<Item = Voter>) -> Vec<Voter> {
        let mut peers: Vec<Voter> = peers.collect();
        let end_of =
            |voter: &Voter| self.progress.get(&voter.id).and_then(|progress| progress.end_offset).unwrap_or(-1);
        peers.sort_by_key(|voter| (std::cmp::Reverse(end_of(voter)), voter.id));
        peers
    }
}

impl RaftCore {
    pub(super) fn become_leader(&mut self, now: Now) {
        let epoch_start_offset = self.log_end_offset();
        let Some(batch) = self.leader_change(now, epoch_start_offset) else { return };
        (self.state.leader_id, self.state.voted_id) = (self.config.node_id, -1);
        self.state.voted_directory_id = Uuid::ZERO;
        let check_quorum_ms = self.peers().next().is_some().then(|| now.mono_ms + self.check_quorum_timeout_ms());
        self.change_role(Role::Leader(Leading { epoch_start_offset, check_quorum_ms, ..Leading::default() }));
        self.persist();
        let records = 1 + self.config.bootstrap.len() as i64;
        self.config.bootstrap.clear();
        self.log.append(self.epoch(), epoch_start_offset + records);
        self.out.push(Output::AppendBatch(batch));
        self.tell_leader();
    }

    /// How far everybody is, voters first; empty unless this member leads.
    pub fn replicas(&self, now: Now) -> Vec<ReplicaProgress> {
        let Role::Leader(leading) = &self.role else { return Vec::new() };
        let word = |replica: Voter, is_voter, progress: Progress| ReplicaProgress {
            replica,
            is_voter,
            log_end_offset: progress.end_offset.unwrap_or(-1),
            last_fetch_wall_ms: progress.last_fetch.map_or(-1, |(at_wall_ms, _)| at_wall_ms),
            last_caught_up_wall_ms: progress.caught_up_wall_ms.unwrap_or(-1),
        };
        let voter = |voter: &Voter| match voter.id == self.config.node_id {
            true => ReplicaProgress {
                replica: *voter,
                is_voter: true,
                log_end_offset: self.log_end_offset(),
                last_fetch_wall_ms: now.wall_ms,
                last_caught_up_wall_ms: now.wall_ms,
            },
            false => word(*voter, true, leading.progress.get(&voter.id).copied().unwrap_or_default()),
        };
        let observer = |(&id, progress): (&i32, &Progress)| {
            let replica = Voter { id, directory_id: progress.directory_id };
            (progress.is_observer && !progress.is_gone(now)).then(|| word(replica, false, *progress))
        };
        let voters = self.config.voters.iter().map(voter);
        voters.chain(leading.progress.iter().filter_map(observer)).collect()
    }

    fn check_quorum_timeout_ms(&self) -> u64 {
        self.config.timeouts.fetch_ms * 3 / 2
    }

    /// The control batch that begins an epoch: who leads, who may vote, who voted for the leader.
    fn leader_change(&self, now: Now, offset: i64) -> Option<Bytes> {
        // Version 0 whatever the voters: Kafka 4.3 writes no other, and its tools read no other.
        let version = 0;
        let voter = |id| VoterRecord { voter_id: id, ..Default::default() };
        let granting_voters = match &self.role {
            Role::Candidate(election) => election.granted.iter().copied().map(voter).collect(),
            _ => Vec::new(),
        };
        let voters = self.config.voters.iter().map(|v| voter(v.id)).collect();
        let message = LeaderChangeMessage { version, leader_id: self.config.node_id, granting_voters, voters };
        let value = message.encode_to_bytes(version).ok()?;
        let mut controls = vec![(ControlType::LeaderChange, value)];
        controls.extend(self.config.bootstrap.iter().cloned());
        control_batch(offset, self.epoch(), now.wall_ms, &controls).ok()
    }

    pub(super) fn on_append(&mut self, now: Now, epoch: i32, records: &[Bytes]) {
        if !matches!(self.role, Role::Leader(_)) || epoch != self.epoch() || records.is_empty() {
            return self.out.push(Output::NotLeader);
        }
        match data_batch(self.log_end_offset(), epoch, now.wall_ms, records) {
            Ok(batch) if batch.len() <= MAX_BATCH_BYTES => {
                let end = self.log_end_offset() + records.len() as i64;
                self.log.append(epoch, end);
                self.out.extend([Output::AppendBatch(batch), Output::Appended { last_offset: end - 1 }]);
                self.answer_parked(now);
            }
            Ok(_) | Err(_) => {
                self.out.push(Output::TooLarge { bytes: records.iter().map(Bytes::len).sum() });
            }
        }
    }

    pub(super) fn on_fetch(&mut self, now: Now, id: RequestId, fetch: &Fetch) {
        let head = self.head(ErrorCode::None);
        let refuse = |error| Output::Respond {
            id,
            response: Response::Fetch { head: super::Head { error, ..head }, fetched: Fetched::Nothing },
        };
        if fetch.epoch > self.epoch() {
            return self.out.push(refuse(ErrorCode::UnknownLeaderEpoch));
        }
        if fetch.epoch < self.epoch() {
            return self.out.push(refuse(ErrorCode::FencedLeaderEpoch));
        }
        let answer = |fetched| Output::Respond { id, response: Response::Fetch { head, fetched } };
        let log = &self.log;
        let Role::Leader(leading) = &mut self.role else {
            return self.out.push(refuse(ErrorCode::NotLeaderOrFollower));
        };
        // whatever it asks for, it is alive and knows who leads
        let is_voter = self.config.voters.iter().any(|voter| voter.id == fetch.replica.id);
        if !is_voter {
            leading.forget_observers(now);
        }
        let progress = leading.progress.entry(fetch.replica.id).or_default();
        progress.fetched = true;
        progress.directory_id = fetch.replica.directory_id;
        progress.is_observer = !is_voter;
        let behind_start = fetch.log_end.offset < log.start().offset
            || (log.start().offset > 0 && fetch.log_end.epoch < log.start().epoch);
        if behind_start {
            return self.out.push(answer(Fetched::Snapshot(log.start())));
        }
        if !log.contains_end(fetch.log_end) {
            return self.out.push(answer(Fetched::Diverging(log.end_of(fetch.log_end.epoch))));
        }
        progress.fetched_from(now, fetch.log_end.offset, log.end().offset);
        leading.parked.retain(|parked| parked.replica_id != fetch.replica.id);
        leading.parked.push(Parked {
            id,
            replica_id: fetch.replica.id,
            from: fetch.log_end.offset,
            high_watermark: fetch.high_watermark,
            deadline_ms: now.mono_ms + fetch.max_wait_ms,
        });
        self.advance_high_watermark();
        self.answer_parked(now);
    }

    /// Answers the fetches that have something to get, or waited long enough.
    fn answer_parked(&mut self, now: Now) {
        let (head, end, high_watermark) = (self.head(ErrorCode::None), self.log_end_offset(), self.high_watermark);
        let Role::Leader(leading) = &mut self.role else { return };
        let (ready, parked) = std::mem::take(&mut leading.parked).into_iter().partition(|parked| {
            parked.from < end || parked.high_watermark < high_watermark || parked.deadline_ms <= now.mono_ms
        });
        leading.parked = parked;
        let respond = |Parked { id, from, .. }| Output::RespondRecords { id, head, from, high_watermark };
        self.out.extend(Vec::into_iter(ready).map(respond));
    }

    /// What a majority has on disk is committed, once that reaches into this epoch: records of older epochs are committed by one of this.
    pub(super) fn advance_high_watermark(&mut self) {
        let Role::Leader(leading) = &self.role else { return };
        let end_of = |voter: &Voter| match voter.id == self.config.node_id {
            true => self.durable_end_offset,
            false => leading.progress.get(&voter.id).and_then(|progress| progress.end_offset).unwrap_or(-1),
        };
        let mut ends: Vec<i64> = self.config.voters.iter().map(end_of).collect();
        ends.sort_unstable_by_key(|end| std::cmp::Reverse(*end));
        let Some(committed) = ends.get(ends.len() / 2).copied() else { return };
        if committed > leading.epoch_start_offset && committed > self.high_watermark {
            self.high_watermark = committed;
            self.out.push(Output::HighWatermark(committed));
        }
    }

    pub(super) fn on_leaders_time(&mut self, now: Now) {
        self.answer_parked(now);
        let check_timeout_ms = self.check_quorum_timeout_ms();
        let Role::Leader(leading) = &self.role else { return };
        let fetched = |voter: &Voter| leading.progress.get(&voter.id).is_some_and(|progress| progress.fetched);
        let count = 1 + self.peers().filter(fetched).count();
        let is_majority = self.is_majority(count);
        let election_ms = self.config.timeouts.election_ms;
        let Role::Leader(leading) = &mut self.role else { return };
        let Some(check_quorum_ms) = &mut leading.check_quorum_ms else { return };
        if is_majority {
            *check_quorum_ms = now.mono_ms + check_timeout_ms;
            leading.progress.values_mut().for_each(|progress| progress.fetched = false);
        } else if *check_quorum_ms <= now.mono_ms {
            let deadline_ms = now.mono_ms + election_ms + self.random(election_ms);
            self.resign(true, Some(deadline_ms));
        }
    }
}
