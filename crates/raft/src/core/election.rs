//! Who leads: votes asked and given, epochs begun and ended.
//!
//! A member that lost its leader first asks whether it would be elected (KIP-996), so that one that is merely cut off disturbs nobody with a
//! new epoch. A vote is in the vote file before it is given; it goes to one candidate of an epoch, whose log is not behind.

use std::collections::BTreeSet;

use milena_common::Now;
use milena_protocol::ErrorCode;

use super::messages::{BeginEpoch, EndEpoch, Head, Request, Response, Vote};
use super::{RaftCore, Role, Voter, no_leader};
use crate::log::OffsetAndEpoch;
use crate::quorum_state::QuorumState;

/// The answers so far.
#[derive(Debug)]
pub(super) struct Election {
    pub granted: BTreeSet<i32>,
    pub refused: BTreeSet<i32>,
    pub deadline_ms: u64,
}

/// The order of logs by what they hold.
fn is_up_to_date(candidate: OffsetAndEpoch, own: OffsetAndEpoch) -> bool {
    (candidate.epoch, candidate.offset) >= (own.epoch, own.offset)
}

impl RaftCore {
    pub(super) fn become_prospective(&mut self, now: Now) {
        if !self.is_voter() {
            // an observer that lost its leader is told of the next
            self.state.leader_id = -1;
            return self.become_unattached(now, self.epoch());
        }
        let deadline_ms = self.election_deadline(now);
        let granted = BTreeSet::from([self.config.node_id]);
        self.change_role(Role::Prospective(Election { granted, refused: BTreeSet::new(), deadline_ms }));
        self.tell_leader();
    }

    /// Too few would vote for this member: it goes on with the leader it knew, or waits for one.
    pub(super) fn give_up_pre_votes(&mut self, now: Now) {
        let (epoch, leader_id) = (self.epoch(), self.leader_id());
        match leader_id {
            ..0 => self.become_unattached(now, epoch),
            _ => self.become_follower(now, epoch, leader_id),
        }
    }

    pub(super) fn become_candidate(&mut self, now: Now) {
        let me = self.me();
        let voted_directory_id = me.directory_id;
        self.state = QuorumState {
            leader_epoch: self.epoch() + 1,
            voted_id: me.id,
            voted_directory_id,
            ..no_leader(&self.config)
        };
        let deadline_ms = self.election_deadline(now);
        let granted = BTreeSet::from([me.id]);
        self.change_role(Role::Candidate(Election { granted, refused: BTreeSet::new(), deadline_ms }));
        self.persist();
        if self.is_majority(1) {
            self.become_leader(now);
        } else {
            self.tell_leader();
        }
    }

    pub(super) fn ask_for_votes(&mut self, now: Now) {
        let (election, pre_vote) = match &self.role {
            Role::Prospective(election) => (election, true),
            Role::Candidate(election) => (election, false),
            _ => return,
        };
        let answered = |voter: &Voter| election.granted.contains(&voter.id) || election.refused.contains(&voter.id);
        let to_ask: Vec<Voter> = self.peers().filter(|voter| !answered(voter)).collect();
        for voter in to_ask {
            self.call(now, voter.id, |core| {
                Request::Vote(Vote {
                    epoch: core.epoch(),
                    candidate: core.me(),
                    voter,
                    log_end: core.log.end(),
                    pre_vote,
                })
            });
        }
    }

    pub(super) fn on_vote_answer(&mut self, now: Now, from: i32, head: Head, granted: bool) {
        let (election, is_candidate) = match &mut self.role {
            Role::Prospective(election) => (election, false),
            Role::Candidate(election) => (election, true),
            _ => return,
        };
        if head.error != ErrorCode::None && !granted {
            return self.back_off(now, from);
        }
        match granted {
            true => election.granted.insert(from),
            false => election.refused.insert(from),
        };
        let (granted, refused) = (election.granted.len(), election.refused.len());
        match is_candidate {
            true if self.is_majority(granted) => self.become_leader(now),
            false if self.is_majority(granted) => self.become_candidate(now),
            // who is refused does not stand again at once: others may win meanwhile
            true if self.is_majority(refused) => {
                let pause = 1 + self.random(self.config.timeouts.election_backoff_max_ms);
                if let Role::Candidate(election) = &mut self.role {
                    election.deadline_ms = election.deadline_ms.min(now.mono_ms + pause);
                }
            }
            false if self.is_majority(refused) => self.give_up_pre_votes(now),
            _ => {}
        }
    }

    pub(super) fn on_vote(&mut self, now: Now, vote: &Vote) -> Response {
        let refuse = |core: &Self, error| Response::Vote { head: core.head(error), granted: false };
        if !vote.voter.matches(&self.me()) {
            return refuse(self, ErrorCode::InvalidVoterKey);
        }
        if vote.epoch < self.epoch() {
            return refuse(self, ErrorCode::FencedLeaderEpoch);
        }
        if vote.epoch > self.epoch() {
            self.become_unattached(now, vote.epoch);
        }
        let granted = self.may_vote_for(vote);
        if granted && !vote.pre_vote && self.state.voted_id < 0 {
            self.state.voted_id = vote.candidate.id;
            self.state.voted_directory_id = vote.candidate.directory_id;
            let deadline_ms = self.is_voter().then(|| self.election_deadline(now));
            self.change_role(Role::Unattached { deadline_ms });
            self.persist();
        }
        Response::Vote { head: self.head(ErrorCode::None), granted }
    }

    fn may_vote_for(&self, vote: &Vote) -> bool {
        let is_up_to_date = is_up_to_date(vote.log_end, self.log.end());
        let state = &self.state;
        match &self.role {
            Role::Leader(_) => false,
            // a leader that is heard from is not voted away
            Role::Follower(following) => vote.pre_vote && !following.has_fetched && is_up_to_date,
            Role::Unattached { .. } | Role::Prospective(_) | Role::Candidate(_) | Role::Resigned { .. }
                if vote.pre_vote =>
            {
                is_up_to_date
            }
            Role::Candidate(_) | Role::Resigned { .. } => false,
            Role::Unattached { .. } | Role::Prospective(_) => match state.voted_id {
                ..0 => state.leader_id < 0 && is_up_to_date,
                voted => Voter { id: voted, directory_id: state.voted_directory_id }.matches(&vote.candidate),
            },
        }
    }

    pub(super) fn on_begin_epoch(&mut self, now: Now, begin: &BeginEpoch) -> Response {
        let answer = |core: &Self, error| Response::BeginEpoch { head: core.head(error) };
        if !begin.voter.matches(&self.me()) {
            return answer(self, ErrorCode::InvalidVoterKey);
        }
        if begin.epoch < self.epoch() {
            return answer(self, ErrorCode::FencedLeaderEpoch);
        }
        let follows = matches!(self.role, Role::Follower(_)) && begin.epoch == self.epoch();
        let led = begin.epoch == self.epoch() && self.state.leader_id == self.config.node_id;
        if !follows && !led && begin.leader_id != self.config.node_id {
            self.become_follower(now, begin.epoch, begin.leader_id);
        }
        answer(self, ErrorCode::None)
    }

    pub(super) fn on_end_epoch(&mut self, now: Now, end: &EndEpoch) -> Response {
        let answer = |core: &Self, error| Response::EndEpoch { head: core.head(error) };
        if end.epoch < self.epoch() {
            return answer(self, ErrorCode::FencedLeaderEpoch);
        }
        let is_mine = end.leader_id == self.config.node_id;
        let follows_it = self.state.leader_id == end.leader_id || self.state.leader_id < 0 || end.epoch > self.epoch();
        if is_mine || !follows_it || matches!(self.role, Role::Leader(_) | Role::Resigned { .. }) {
            return answer(self, ErrorCode::None);
        }
        if end.epoch > self.epoch() {
            self.become_unattached(now, end.epoch);
        }
        self.state.leader_id = -1;
        let place = end.preferred_successors.iter().position(|voter| voter.matches(&self.me()));
        match place {
            Some(0) => self.become_prospective(now),
            _ if self.is_voter() => {
                // the others leave the first one time, the less fit the more
                let later = place.unwrap_or(end.preferred_successors.len()) as u64;
                let pause = self.config.timeouts.retry_backoff_ms.max(1) << later.min(10);
                let pause = pause.min(self.config.timeouts.election_backoff_max_ms.max(1));
                let deadline_ms = Some(now.mono_ms + pause + self.random(pause));
                self.change_role(Role::Unattached { deadline_ms });
            }
            _ => {}
        }
        self.persist();
        self.tell_leader();
        answer(self, ErrorCode::None)
    }

    pub(super) fn announce(&mut self, now: Now) {
        let Role::Leader(leading) = &self.role else { return };
        let unaware: Vec<Voter> = self.peers().filter(|voter| !leading.knows_of_epoch(voter.id)).collect();
        for voter in unaware {
            self.call(now, voter.id, |core| {
                Request::BeginEpoch(BeginEpoch { epoch: core.epoch(), leader_id: core.config.node_id, voter })
            });
        }
    }

    pub(super) fn on_begin_answer(&mut self, now: Now, from: i32, head: Head) {
        match &mut self.role {
            Role::Leader(leading) if head.error == ErrorCode::None => leading.told(from),
            _ => self.back_off(now, from),
        }
    }
}
