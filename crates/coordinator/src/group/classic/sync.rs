//! SyncGroup v0-5: the leader brings the assignment, everybody takes theirs. v5 checks protocol type and name (KIP-559).

use std::collections::HashMap;

use bytes::Bytes;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{ClassicGroup, State, sync_error};
use crate::group::fx::Fx;
use crate::group::record::{self, GroupRecord};
use crate::shard::ReplyId;

impl ClassicGroup {
    /// One SyncGroup, whose answer is given now or when the leader's assignment is there.
    pub(crate) fn sync(&mut self, fx: &mut Fx<'_>, request: &SyncGroupRequest, reply: ReplyId) {
        if let Err(error) = self.validate_sync(request) {
            return fx.reply_sync(reply, sync_error(error));
        }
        let member_id = request.member_id.as_str();
        match self.state {
            State::Empty => fx.reply_sync(reply, sync_error(ErrorCode::UnknownMemberId)),
            State::PreparingRebalance => fx.reply_sync(reply, sync_error(ErrorCode::RebalanceInProgress)),
            State::CompletingRebalance => {
                let Some(member) = self.members.get_mut(member_id) else {
                    return;
                };
                if let Some(replaced) = member.awaiting_sync.replace(reply) {
                    // The client gave up on its earlier request; that one must not stay parked.
                    fx.reply_sync(replaced, sync_error(ErrorCode::RebalanceInProgress));
                }
                self.on_sync_received(member_id, fx);
                if self.is_leader(member_id) {
                    self.assign(fx, request);
                }
            }
            State::Stable => {
                self.on_sync_received(member_id, fx);
                let Some(member) = self.members.get(member_id) else {
                    return;
                };
                fx.schedule_session(&self.id, &member.id, member.session_timeout_ms.max(0) as u64);
                fx.reply_sync(
                    reply,
                    SyncGroupResponse {
                        protocol_type: self.protocol_type.clone(),
                        protocol_name: self.protocol_name.clone(),
                        assignment: member.assignment.clone(),
                        ..Default::default()
                    },
                );
            }
        }
    }

    fn validate_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        self.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        let differs =
            |asked: &Option<String>, ours: &Option<String>| asked.is_some() && ours.is_some() && asked != ours;
        if request.generation_id != self.generation_id {
            Err(ErrorCode::IllegalGeneration)
        } else if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol_name)
        {
            Err(ErrorCode::InconsistentGroupProtocol)
        } else {
            Ok(())
        }
    }

    /// Takes the leader's assignment; members it does not mention get an empty one. Answers leave once it is committed.
    fn assign(&mut self, fx: &mut Fx<'_>, request: &SyncGroupRequest) {
        let mut assignments: HashMap<&str, &Bytes> =
            request.assignments.iter().map(|a| (a.member_id.as_str(), &a.assignment)).collect();
        for member in self.members.values_mut() {
            // Copied out of the frame, which would otherwise live as long as the member.
            member.assignment =
                assignments.remove(&*member.id).map(|bytes| Bytes::copy_from_slice(bytes)).unwrap_or_default();
        }
        let mut record = self.to_record();
        if record::metadata_size_in_bytes(&record) > fx.config.max_record_bytes {
            tracing::warn!(
                group = &*self.id,
                members = self.members.len(),
                "group metadata is larger than a batch may be"
            );
            self.reset_assignments(fx, ErrorCode::UnknownServerError);
            return self.prepare_rebalance(fx);
        }
        self.transition_to(State::Stable, fx);
        record.current_state_timestamp = fx.now.wall_ms;
        fx.records.push(GroupRecord::group(&self.id, Some(record)));
        tracing::info!(
            group = &*self.id,
            generation = self.generation_id,
            members = self.members.len(),
            "assignment received from leader"
        );
        self.propagate_assignments(fx, ErrorCode::None);
    }
}
