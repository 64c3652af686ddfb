//! What ends and begins a rebalance: the transitions that joins, leaves, expiries and assignments share.

use milena_protocol::ErrorCode;
use milena_protocol::messages::join_group_response::JoinGroupResponseMember;
use milena_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

use super::{ClassicGroup, InitialDelay, Member, State};
use crate::group::fx::{Fx, TimerKey};
use crate::group::record::GroupRecord;

impl ClassicGroup {
    /// After a member came, changed or went: start a rebalance, or see whether the one under way can complete.
    pub(super) fn rebalance_or_complete_join(&mut self, fx: &mut Fx<'_>) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(fx),
            State::PreparingRebalance => self.maybe_complete_join(fx),
        }
    }

    /// Makes all members join again. The first rebalance of a group waits a little, for more members to show up.
    pub(crate) fn prepare_rebalance(&mut self, fx: &mut Fx<'_>) {
        if self.state == State::CompletingRebalance {
            self.reset_assignments(fx, ErrorCode::RebalanceInProgress);
        }
        fx.timers.cancel(&TimerKey::Sync { group: self.id.clone() });
        let is_initial = self.state == State::Empty;
        self.transition_to(State::PreparingRebalance, fx);
        tracing::debug!(
            group = &*self.id,
            generation = self.generation_id,
            members = self.members.len(),
            "preparing to rebalance"
        );
        if is_initial {
            let delay_ms = fx.config.initial_rebalance_delay_ms;
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
            self.initial_delay = Some(InitialDelay { delay_ms, remaining_ms });
            self.new_member_added = false;
            fx.schedule(TimerKey::Join { group: self.id.clone() }, delay_ms);
            // Without a delay there is nothing to wait for.
            if delay_ms == 0 {
                self.on_join_timer(fx);
            }
        } else if self.has_all_members_joined() {
            self.complete_join(fx);
        } else {
            fx.schedule(TimerKey::Join { group: self.id.clone() }, self.rebalance_timeout_ms());
        }
    }

    /// Completes the join phase if nobody is missing; the initial delay is always waited out.
    pub(super) fn maybe_complete_join(&mut self, fx: &mut Fx<'_>) {
        if self.state == State::PreparingRebalance && self.initial_delay.is_none() && self.has_all_members_joined() {
            self.complete_join(fx);
        }
    }

    /// The join phase, or its initial delay, ran out.
    pub(crate) fn on_join_timer(&mut self, fx: &mut Fx<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        if let Some(InitialDelay { delay_ms, remaining_ms }) = self.initial_delay
            && self.new_member_added
            && remaining_ms != 0
        {
            self.new_member_added = false;
            let next_delay_ms = fx.config.initial_rebalance_delay_ms.min(remaining_ms);
            self.initial_delay =
                Some(InitialDelay { delay_ms: next_delay_ms, remaining_ms: remaining_ms.saturating_sub(delay_ms) });
            fx.schedule(TimerKey::Join { group: self.id.clone() }, next_delay_ms);
            return;
        }
        self.complete_join(fx);
    }

    /// Ends the join phase: whoever has not rejoined is dropped (static members stay), the protocol is chosen, everybody is answered.
    fn complete_join(&mut self, fx: &mut Fx<'_>) {
        fx.timers.cancel(&TimerKey::Join { group: self.id.clone() });
        let missing: Vec<_> = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && !member.is_static())
            .map(|member| member.id.clone())
            .collect();
        for member_id in &missing {
            self.remove(member_id);
            fx.cancel_session(&self.id, member_id);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none is back: wait for them until their sessions end.
            fx.schedule(TimerKey::Join { group: self.id.clone() }, self.rebalance_timeout_ms());
            return;
        }
        self.initial_delay = None;
        self.new_member_added = false;
        self.pending_sync.clear();
        self.generation_id = self.generation_id.checked_add(1).unwrap_or(0);
        if self.members.is_empty() {
            self.protocol_name = None;
            self.subscribed_topics = self.compute_subscribed_topics();
            self.transition_to(State::Empty, fx);
            tracing::info!(group = &*self.id, generation = self.generation_id, "group is now empty");
            fx.records.push(GroupRecord::group(&self.id, Some(self.to_record())));
            return;
        }
        self.protocol_name = self.select_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        self.transition_to(State::CompletingRebalance, fx);
        tracing::info!(
            group = &*self.id,
            generation = self.generation_id,
            members = self.members.len(),
            "stabilized group"
        );
        let member_ids: Vec<_> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let response = self.join_response(&member_id, self.is_leader(&member_id));
            if let Some(reply) = self.take_join(&member_id) {
                fx.reply_join(reply, response);
            }
            if let Some(member) = self.members.get_mut(&member_id) {
                member.is_new = false;
                let session_timeout_ms = member.session_timeout_ms.max(0) as u64;
                fx.schedule_session(&self.id, &member_id, session_timeout_ms);
            }
            self.pending_sync.insert(member_id);
        }
        fx.schedule(TimerKey::Sync { group: self.id.clone() }, self.rebalance_timeout_ms());
    }

    /// Keeps the leader if it rejoined, else takes a member that did. False if nobody did.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |member: &Member| member.awaiting_join.is_some();
        if self.leader_id.as_ref().and_then(|id| self.members.get(id)).is_some_and(has_joined) {
            return true;
        }
        match self.members.values().find(|member| has_joined(member)) {
            Some(member) => {
                self.leader_id = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    /// What a member is told about the current generation; only the leader is given the members.
    pub(super) fn join_response(&self, member_id: &str, with_members: bool) -> JoinGroupResponse {
        let members = if with_members {
            self.members.values().map(|member| self.join_response_member(member)).collect()
        } else {
            Vec::new()
        };
        JoinGroupResponse {
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader_id.as_deref().unwrap_or_default().to_owned(),
            member_id: member_id.to_owned(),
            members,
            ..Default::default()
        }
    }

    fn join_response_member(&self, member: &Member) -> JoinGroupResponseMember {
        JoinGroupResponseMember {
            member_id: member.id.to_string(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol_name.as_deref()),
        }
    }

    /// Members that did not send SyncGroup within the rebalance timeout are dropped.
    pub(crate) fn on_sync_timer(&mut self, fx: &mut Fx<'_>) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.pending_sync.is_empty() {
            return;
        }
        let missing: Vec<_> = self.pending_sync.drain().collect();
        tracing::info!(group = &*self.id, members = missing.len(), "members did not sync in time and are removed");
        for member_id in missing {
            self.remove(&member_id);
            fx.cancel_session(&self.id, &member_id);
        }
        self.prepare_rebalance(fx);
    }

    pub(super) fn on_sync_received(&mut self, member_id: &str, fx: &mut Fx<'_>) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            fx.timers.cancel(&TimerKey::Sync { group: self.id.clone() });
        }
    }

    /// Takes all assignments back, and tells whoever waits for one why.
    pub(super) fn reset_assignments(&mut self, fx: &mut Fx<'_>, error: ErrorCode) {
        for member in self.members.values_mut() {
            member.assignment = Default::default();
        }
        self.propagate_assignments(fx, error);
    }

    /// Answers every parked SyncGroup. Sessions start anew: their expiry was excused while the members waited.
    pub(super) fn propagate_assignments(&mut self, fx: &mut Fx<'_>, error: ErrorCode) {
        let is_ok = error == ErrorCode::None;
        for member in self.members.values_mut() {
            let Some(reply) = member.awaiting_sync.take() else {
                continue;
            };
            fx.reply_sync(
                reply,
                SyncGroupResponse {
                    error_code: error.code(),
                    protocol_type: self.protocol_type.clone().filter(|_| is_ok),
                    protocol_name: self.protocol_name.clone().filter(|_| is_ok),
                    assignment: member.assignment.clone(),
                    ..Default::default()
                },
            );
            let session_timeout_ms = member.session_timeout_ms.max(0) as u64;
            fx.schedule_session(&self.id, &member.id, session_timeout_ms);
        }
    }
}

/// A JoinGroup response that only carries an error.
pub(crate) fn join_error(member_id: &str, error: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: error.code(),
        generation_id: -1,
        protocol_name: None,
        member_id: member_id.to_owned(),
        ..Default::default()
    }
}

/// A SyncGroup response that only carries an error.
pub(crate) fn sync_error(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: error.code(), ..Default::default() }
}
