//! JoinGroup v0-9: who may come in, and what a join does in each state.
//!
//! v0 has no rebalance timeout (the session timeout stands in for it); v4 makes a new dynamic member come twice, the second
//! time with the id it was given (KIP-394); v5 static members (KIP-345); v9 a static leader may be told to skip assignment (KIP-814).

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use milena_protocol::ErrorCode;
use milena_protocol::messages::JoinGroupRequest;

use super::{ClassicGroup, Member, State, join_error, sync_error};
use crate::group::GroupContext;
use crate::group::fx::Fx;
use crate::group::record::{self, GroupRecord};
use crate::shard::ReplyId;

/// Member ids handed out but not used yet, per group; beyond it GROUP_MAX_SIZE_REACHED. They go away with their session timeout.
const MAX_PENDING_MEMBERS: usize = 10_000;

impl ClassicGroup {
    /// One JoinGroup, whose answer is given now or when the rebalance completes.
    pub(crate) fn join(&mut self, fx: &mut Fx<'_>, cx: &GroupContext, request: &JoinGroupRequest, reply: ReplyId) {
        let is_unknown = request.member_id.is_empty();
        let supports = self.supports_protocols(
            &request.protocol_type,
            request.protocols.iter().map(|protocol| protocol.name.as_str()),
        );
        if !self.accepts(&request.member_id, fx.config.max_size) {
            // A member of a group that became too large is pushed out.
            if let Some(member) = self.drop_member(&request.member_id, fx, ErrorCode::GroupMaxSizeReached) {
                fx.cancel_session(&self.id, &member.id);
            }
            fx.reply_join(reply, join_error("", ErrorCode::GroupMaxSizeReached));
        } else if !supports {
            fx.reply_join(reply, join_error(&request.member_id, ErrorCode::InconsistentGroupProtocol));
        } else if is_unknown {
            self.join_new(fx, cx, request, reply);
        } else {
            self.join_existing(fx, cx, request, reply);
        }
    }

    /// Whether `group.max.size` leaves room. While joining it counts who is back, so that the last ones to return are left out.
    fn accepts(&self, member_id: &str, max_size: usize) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some()) || self.awaiting_join < max_size
            }
            State::CompletingRebalance | State::Stable => member.is_some() || self.members.len() < max_size,
        }
    }

    fn join_new(&mut self, fx: &mut Fx<'_>, cx: &GroupContext, request: &JoinGroupRequest, reply: ReplyId) {
        let prefix = request.group_instance_id.as_deref().unwrap_or(&cx.client_id);
        let member_id: Arc<str> = Arc::from(new_member_id(prefix, (fx.new_uuid)().to_u128()));
        let Some(instance_id) = request.group_instance_id.as_deref() else {
            if cx.api_version < 4 {
                return self.add_then_rebalance(fx, cx, request, member_id, reply);
            }
            if self.pending_join.len() >= MAX_PENDING_MEMBERS {
                return fx.reply_join(reply, join_error("", ErrorCode::GroupMaxSizeReached));
            }
            fx.schedule_session(&self.id, &member_id, request.session_timeout_ms.max(0) as u64);
            fx.reply_join(reply, join_error(&member_id, ErrorCode::MemberIdRequired));
            self.pending_join.insert(member_id);
            return;
        };
        match self.static_member_id(instance_id).cloned() {
            Some(old_id) => self.replace_static(fx, cx, request, &old_id, member_id, reply),
            None => self.add_then_rebalance(fx, cx, request, member_id, reply),
        }
    }

    fn join_existing(&mut self, fx: &mut Fx<'_>, cx: &GroupContext, request: &JoinGroupRequest, reply: ReplyId) {
        let member_id = request.member_id.as_str();
        if let Some(pending) = self.pending_join.get(member_id).cloned() {
            if request.group_instance_id.is_some() {
                // Ids are only handed out to dynamic members.
                return fx.reply_join(reply, join_error(member_id, ErrorCode::UnknownMemberId));
            }
            return self.add_then_rebalance(fx, cx, request, pending, reply);
        }
        if let Err(error) = self.validate_member(member_id, request.group_instance_id.as_deref()) {
            return fx.reply_join(reply, join_error(member_id, error));
        }
        let unchanged = self.members.get(member_id).is_some_and(|member| member.protocols == protocols_of(request));
        match self.state {
            State::PreparingRebalance => self.update_then_rebalance(fx, request, reply),
            // It may not have received the answer to its first join.
            State::CompletingRebalance if unchanged => {
                fx.reply_join(reply, self.join_response(member_id, self.is_leader(member_id)))
            }
            State::CompletingRebalance => self.update_then_rebalance(fx, request, reply),
            // A leader that joins again wants a new assignment, for example because a topic grew.
            State::Stable if self.is_leader(member_id) || !unchanged => self.update_then_rebalance(fx, request, reply),
            State::Stable => fx.reply_join(reply, self.join_response(member_id, false)),
            State::Empty => fx.reply_join(reply, join_error(member_id, ErrorCode::UnknownMemberId)),
        }
    }

    fn add_then_rebalance(
        &mut self,
        fx: &mut Fx<'_>,
        cx: &GroupContext,
        request: &JoinGroupRequest,
        member_id: Arc<str>,
        reply: ReplyId,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if self.initial_delay.is_some() {
            self.new_member_added = true;
        }
        self.add(Member {
            id: member_id.clone(),
            instance_id: request.group_instance_id.clone(),
            client_id: cx.client_id.clone(),
            client_host: cx.client_host.clone(),
            rebalance_timeout_ms: rebalance_timeout_ms(cx, request),
            session_timeout_ms: request.session_timeout_ms,
            protocols: protocols_of(request),
            assignment: Bytes::new(),
            awaiting_join: Some(reply),
            awaiting_sync: None,
            is_new: true,
        });
        // It cannot heartbeat before it knows its id, and nobody notices a client that hangs up while its join is parked:
        // without this bound, clients that keep retrying would fill the group with members nobody waits for.
        fx.schedule_session(&self.id, &member_id, fx.config.new_member_join_timeout_ms);
        self.rebalance_or_complete_join(fx);
    }

    fn update_then_rebalance(&mut self, fx: &mut Fx<'_>, request: &JoinGroupRequest, reply: ReplyId) {
        self.update(fx, request, reply);
        self.rebalance_or_complete_join(fx);
    }

    /// Takes over what a joining member says of itself, and parks its request.
    fn update(&mut self, fx: &mut Fx<'_>, request: &JoinGroupRequest, reply: ReplyId) {
        let Some(mut member) = self.members.remove(request.member_id.as_str()) else {
            return;
        };
        self.update_member(fx, &mut member, request, rebalance_timeout_ms_or_session(request), reply);
        self.members.insert(member.id.clone(), member);
    }

    fn update_member(
        &mut self,
        fx: &mut Fx<'_>,
        member: &mut Member,
        request: &JoinGroupRequest,
        rebalance_timeout_ms: i32,
        reply: ReplyId,
    ) {
        self.count_protocols(member, false);
        member.protocols = protocols_of(request);
        self.count_protocols(member, true);
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        match member.awaiting_join.replace(reply) {
            // The client gave up on its earlier request; that one must not stay parked.
            Some(replaced) => fx.reply_join(replaced, join_error(&member.id, ErrorCode::RebalanceInProgress)),
            None => self.awaiting_join += 1,
        }
    }

    /// A new process takes the place of a static member. While the group is stable and the protocol stays, nobody else notices.
    fn replace_static(
        &mut self,
        fx: &mut Fx<'_>,
        cx: &GroupContext,
        request: &JoinGroupRequest,
        old_id: &Arc<str>,
        new_id: Arc<str>,
        reply: ReplyId,
    ) {
        let leader_before = self.leader_id.clone();
        let Some(mut member) = self.drop_member(old_id, fx, ErrorCode::FencedInstanceId) else {
            return;
        };
        tracing::info!(
            group = &*self.id,
            instance = request.group_instance_id.as_deref(),
            old = &**old_id,
            new = &*new_id,
            "replacing static member"
        );
        fx.cancel_session(&self.id, old_id);
        member.id = new_id.clone();
        let assignment = member.assignment.clone();
        self.add(member);
        if leader_before.as_ref() == Some(old_id) {
            self.leader_id = Some(new_id.clone());
        }
        if let Some(mut member) = self.members.remove(&new_id) {
            self.update_member(fx, &mut member, request, rebalance_timeout_ms(cx, request), reply);
            member.assignment = assignment;
            fx.schedule_session(&self.id, &new_id, member.session_timeout_ms.max(0) as u64);
            self.members.insert(new_id.clone(), member);
        }
        match self.state {
            State::Stable if self.protocol_name.is_some() && self.select_protocol() == self.protocol_name => {
                let record = self.to_record();
                if record::metadata_size_in_bytes(&record) > fx.config.max_record_bytes {
                    return self.prepare_rebalance(fx);
                }
                fx.records.push(GroupRecord::group(&self.id, Some(record)));
                self.take_join(&new_id);
                let is_leader = self.is_leader(&new_id);
                let mut response = self.join_response(&new_id, false);
                if cx.api_version >= 9 {
                    response = self.join_response(&new_id, is_leader);
                    response.skip_assignment = is_leader;
                } else {
                    // Told who led before, a leader of an older version does not believe it must assign.
                    response.leader = leader_before.as_deref().unwrap_or_default().to_owned();
                }
                fx.reply_join(reply, response);
            }
            // The leader may be assigning to the old member id just now.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(fx),
            State::PreparingRebalance => self.maybe_complete_join(fx),
            State::Empty => {}
        }
    }

    /// Removes a member and tells its parked requests why.
    pub(super) fn drop_member(&mut self, member_id: &str, fx: &mut Fx<'_>, error: ErrorCode) -> Option<Member> {
        let mut member = self.remove(member_id)?;
        if let Some(parked) = member.awaiting_join.take() {
            let told_id = if error == ErrorCode::FencedInstanceId { member_id } else { "" };
            fx.reply_join(parked, join_error(told_id, error));
        }
        if let Some(parked) = member.awaiting_sync.take() {
            fx.reply_sync(parked, sync_error(error));
        }
        Some(member)
    }
}

/// `prefix-` and a random id in the form of `java.util.UUID`.
fn new_member_id(prefix: &str, random: u128) -> String {
    let hex = format!("{random:032x}");
    format!("{prefix}-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn rebalance_timeout_ms(cx: &GroupContext, request: &JoinGroupRequest) -> i32 {
    if cx.api_version == 0 { request.session_timeout_ms } else { rebalance_timeout_ms_or_session(request) }
}

fn rebalance_timeout_ms_or_session(request: &JoinGroupRequest) -> i32 {
    if request.rebalance_timeout_ms < 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms }
}

/// Of a protocol named twice the first counts. Copied out of the frame, which would otherwise live as long as the member.
fn protocols_of(request: &JoinGroupRequest) -> Vec<(String, Bytes)> {
    let mut seen = HashSet::new();
    request
        .protocols
        .iter()
        .filter(|protocol| seen.insert(protocol.name.as_str()))
        .map(|protocol| (protocol.name.clone(), Bytes::copy_from_slice(&protocol.metadata)))
        .collect()
}
