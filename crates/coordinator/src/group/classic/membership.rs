//! Staying and leaving: Heartbeat v0-4, LeaveGroup v0-5 (from v3 a batch), session expiry, and who may commit offsets.

use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::HeartbeatRequest;
use milena_protocol::messages::leave_group_request::MemberIdentity;
use milena_protocol::messages::leave_group_response::MemberResponse;

use super::{ClassicGroup, State};
use crate::group::fx::Fx;

impl ClassicGroup {
    /// Errors: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION, and REBALANCE_IN_PROGRESS (join again, you are alive).
    pub(crate) fn heartbeat(&mut self, fx: &mut Fx<'_>, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        self.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.extend_session(fx, &request.member_id);
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            // Members may heartbeat from their JoinGroup response on.
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// Starts a member's session anew.
    pub(crate) fn extend_session(&self, fx: &mut Fx<'_>, member_id: &str) {
        if let Some(member) = self.members.get(member_id) {
            fx.schedule_session(&self.id, &member.id, member.session_timeout_ms.max(0) as u64);
        }
    }

    /// Removes the members that are named correctly, then rebalances once.
    pub(crate) fn leave(&mut self, fx: &mut Fx<'_>, members: &[MemberIdentity]) -> Vec<MemberResponse> {
        let mut any_left = false;
        let responses = members
            .iter()
            .map(|identity| {
                let left = self.leave_one(fx, identity);
                any_left |= left.is_ok();
                MemberResponse {
                    member_id: identity.member_id.clone(),
                    group_instance_id: identity.group_instance_id.clone(),
                    error_code: left.err().unwrap_or(ErrorCode::None).code(),
                }
            })
            .collect();
        if any_left {
            self.after_departure(fx);
        }
        responses
    }

    fn leave_one(&mut self, fx: &mut Fx<'_>, identity: &MemberIdentity) -> Result<(), ErrorCode> {
        let member_id: Arc<str> = if identity.member_id.is_empty() {
            // An administrator removes a static member by its instance id.
            let instance_id = identity.group_instance_id.as_deref().ok_or(ErrorCode::UnknownMemberId)?;
            self.static_member_id(instance_id).cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else {
            Arc::from(identity.member_id.as_str())
        };
        if !self.pending_join.contains(&member_id) {
            let instance_id = identity.group_instance_id.as_deref();
            self.validate_member(&member_id, instance_id)?;
        }
        fx.cancel_session(&self.id, &member_id);
        if self.drop_member(&member_id, fx, ErrorCode::UnknownMemberId).is_none() {
            self.remove(&member_id);
        }
        Ok(())
    }

    /// A session, a first join or a pending member id ran out.
    pub(crate) fn on_session_timer(&mut self, fx: &mut Fx<'_>, member_id: &str) {
        if self.pending_join.remove(member_id) {
            return self.maybe_complete_join(fx);
        }
        let Some(member) = self.members.get(member_id) else {
            return;
        };
        if member.is_excused_from_heartbeat() {
            return;
        }
        tracing::info!(group = &*self.id, member = member_id, "member has failed, removing it from the group");
        self.drop_member(member_id, fx, ErrorCode::UnknownMemberId);
        self.after_departure(fx);
    }

    fn after_departure(&mut self, fx: &mut Fx<'_>) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(fx),
            State::PreparingRebalance => self.maybe_complete_join(fx),
            State::Empty => {}
        }
    }

    /// Whether a commit by this member, or by nobody in particular (generation -1), is allowed now.
    ///
    /// Errors: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS (the assignment is not out yet).
    pub(crate) fn validate_offset_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation_id: i32,
        is_transactional: bool,
    ) -> Result<(), ErrorCode> {
        if generation_id < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation_id >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.validate_member(member_id, instance_id)?;
            if generation_id != self.generation_id {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !is_transactional && self.state != State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        if !is_transactional && self.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }
}
