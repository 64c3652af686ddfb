//! Members of the classic protocol in a consumer group: JoinGroup, SyncGroup, Heartbeat and LeaveGroup as KIP-848 reads them.
//!
//! Nothing is parked: a join is one step of the member towards its target, the generation is its epoch, a sync fetches what it has
//! been given, and a heartbeat says when there is a further step to take.

use std::sync::Arc;

use bytes::Bytes;
use milena_common::{Now, Outcome};
use milena_protocol::ErrorCode;
use milena_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as OwnedPartitions;
use milena_protocol::messages::leave_group_request::MemberIdentity;
use milena_protocol::messages::leave_group_response::MemberResponse;
use milena_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use milena_protocol::stored::group::ConsumerGroupMemberMetadataValue;
use milena_protocol::stored::group::consumer_group_member_metadata_value::ClassicMemberMetadata;

use super::ConsumerGroup;
use super::draft::Draft;
use super::embedded::{Assignment, Subscription};
use super::heartbeat::{check_instance, check_size, nothing_said, replace_static};
use super::member::{Current, MemberState};
use super::migration::{classic_value, named};
use super::steps::Steps;
use crate::group::classic::{self, CONSUMER};
use crate::group::fx::TimerKey;
use crate::group::record::GroupRecord;
use crate::group::{GroupContext, GroupOutcome, GroupShard};
use crate::shard::ReplyId;

impl GroupShard {
    /// JoinGroup of a consumer group that has members. Answered at once, unless the group becomes a classic one by it.
    pub(crate) fn join_consumer_group(
        &mut self,
        cx: &GroupContext,
        request: &JoinGroupRequest,
        reply: ReplyId,
        now: Now,
    ) -> GroupOutcome<()> {
        let (records, response) = match self.join_as_consumer(cx, request, reply, now) {
            Ok((records, Some(response))) => (records, response),
            Ok((records, None)) => return Outcome::new(records, ()),
            Err((error, member_id)) => (Vec::new(), classic::join_error(&member_id, error)),
        };
        let mut none = Vec::new();
        self.fx(now, &mut none, |_, fx| fx.reply_join(reply, response));
        Outcome::new(records, ())
    }

    fn join_as_consumer(
        &mut self,
        cx: &GroupContext,
        request: &JoinGroupRequest,
        reply: ReplyId,
        now: Now,
    ) -> Result<(Vec<GroupRecord>, Option<JoinGroupResponse>), (ErrorCode, String)> {
        let fail = |error: ErrorCode| (error, String::new());
        let new_id = (self.soft.new_uuid)().to_string();
        let group_id: Arc<str> = Arc::from(request.group_id.as_str());
        let cluster = self.cluster.load();
        let config = self.config.clone();
        let steps = Steps { config: &config, cluster: &cluster, now };
        let group = self.hard.consumer_group(&group_id).ok_or_else(|| fail(ErrorCode::UnknownMemberId))?;
        check_size(group.num_members(), group.member(&request.member_id).is_some(), &config)
            .map_err(|(error, _)| (error, String::new()))?;
        let protocols: Vec<(String, Bytes)> = request
            .protocols
            .iter()
            .map(|protocol| (protocol.name.clone(), Bytes::copy_from_slice(&protocol.metadata)))
            .collect();
        let (protocol, metadata) = protocols.first().ok_or_else(|| fail(ErrorCode::InconsistentGroupProtocol))?;
        if request.protocol_type != CONSUMER || !supports(group, &protocols) {
            return Err(fail(ErrorCode::InconsistentGroupProtocol));
        }
        let is_unknown = request.member_id.is_empty();
        if is_unknown && request.group_instance_id.is_none() && cx.api_version >= 4 {
            return Err((ErrorCode::MemberIdRequired, new_id));
        }
        let subscription = Subscription::decode(metadata).ok_or_else(|| fail(ErrorCode::InconsistentGroupProtocol))?;
        let member_id: Arc<str> = Arc::from(if is_unknown { new_id.as_str() } else { request.member_id.as_str() });

        let mut draft = Draft::new(group_id.clone(), group);
        let mut replaces_consumer = false;
        if let Some(instance_id) = request.group_instance_id.as_deref() {
            let known = draft.group().static_member_id(instance_id).cloned();
            if !is_unknown {
                check_instance(known.as_ref(), instance_id, &member_id).map_err(|(error, _)| fail(error))?;
            } else if let Some(known) = known {
                replaces_consumer = !is_classic(draft.group(), &known);
                replace_static(&steps, &mut draft, &known, &member_id);
            }
        }
        let old = draft.group().member(&member_id).map(|(_, old)| (**old).clone());
        let base = ConsumerGroupMemberMetadataValue {
            instance_id: request.group_instance_id.clone(),
            client_id: cx.client_id.clone(),
            client_host: cx.client_host.clone(),
            rebalance_timeout_ms: if request.rebalance_timeout_ms < 0 {
                request.session_timeout_ms
            } else {
                request.rebalance_timeout_ms
            },
            subscribed_topic_regex: Some(String::new()),
            ..old.unwrap_or_else(nothing_said)
        };
        let value = classic_value(&subscription, base, request.session_timeout_ms, &protocols);
        let rebalance_timeout_ms = value.rebalance_timeout_ms;
        let mut soft = self.soft.consumers.get(&group_id).copied().unwrap_or_default();
        let changed = steps.subscribe(&mut draft, &member_id, value);
        if replaces_consumer && self.may_downgrade(draft.group(), &[]) {
            let group = draft.group().clone();
            if let Some(mut records) = self.downgrade(&group_id, &group, &[], now) {
                let request = JoinGroupRequest { member_id: member_id.to_string(), ..request.clone() };
                self.with_group(&group_id, now, &mut records, |group, fx| group.join(fx, cx, &request, reply));
                return Ok((records, None));
            }
            return Err(fail(ErrorCode::InconsistentGroupProtocol));
        }
        steps.bump_epoch(&mut draft, &mut soft, changed);
        steps.assign(&mut draft);
        let reported: Vec<OwnedPartitions> = (subscription.owned.iter())
            .filter_map(|(topic, partitions)| {
                let topic_id = cluster.image.topics.id_of(topic)?;
                Some(OwnedPartitions { topic_id, partitions: partitions.clone() })
            })
            .collect();
        let moved = steps.reconcile(&mut draft, &member_id, Some(&reported)).map_err(|(error, _)| fail(error))?;
        draft.check_sizes(config.max_record_bytes).map_err(|(error, _)| fail(error))?;

        let response = JoinGroupResponse {
            generation_id: moved.after.epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol_name: Some(protocol.clone()),
            member_id: member_id.to_string(),
            ..Default::default()
        };
        let records = draft.into_records();
        self.soft.consumers.insert(group_id.clone(), soft);
        self.cancel_consumer_timers(&group_id, &member_id);
        self.schedule_consumer_session(&group_id, &member_id, request.session_timeout_ms, now);
        let sync = TimerKey::ConsumerSync { group: group_id, member: member_id };
        self.soft.timers.schedule(sync, now.mono_after(rebalance_timeout_ms.max(0) as u64));
        Ok((records, Some(response)))
    }

    /// SyncGroup of a member of a consumer group. Answered at once.
    pub(crate) fn sync_consumer_group(&mut self, request: &SyncGroupRequest, reply: ReplyId, now: Now) {
        let response = self.sync_as_consumer(request, now).unwrap_or_else(classic::sync_error);
        let mut none = Vec::new();
        self.fx(now, &mut none, |_, fx| fx.reply_sync(reply, response));
    }

    /// Errors: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, INCONSISTENT_GROUP_PROTOCOL, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS.
    fn sync_as_consumer(&mut self, request: &SyncGroupRequest, now: Now) -> Result<SyncGroupResponse, ErrorCode> {
        let group = self.hard.consumer_group(&request.group_id).ok_or(ErrorCode::UnknownMemberId)?;
        let found = find_classic(group, &request.member_id, request.group_instance_id.as_deref())?;
        let protocol = found.classic.supported_protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let differs = |said: &Option<String>, known: &str| said.as_deref().is_some_and(|said| said != known);
        if differs(&request.protocol_type, CONSUMER) || differs(&request.protocol_name, &protocol.name) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let current = group.current(&found.id);
        if request.generation_id != current.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        // While the member gives partitions up it has joined already, and joins again by itself.
        let must_rejoin = has_newer_target(group, &current) && current.state != MemberState::UnrevokedPartitions;
        let image = self.cluster.load().image;
        let version = Subscription::decode(&protocol.metadata).map_or(0, |subscription| subscription.version);
        let assigned = current.assigned.iter().map(|(&id, partitions)| (id, partitions.keys().copied().collect()));
        let assignment = Assignment { partitions: named(assigned, &image), user_data: Bytes::new() };
        let response = SyncGroupResponse {
            protocol_type: Some(CONSUMER.to_owned()),
            protocol_name: Some(protocol.name.clone()),
            assignment: assignment.encode(version),
            ..Default::default()
        };
        let (group_id, member_id) = (Arc::from(request.group_id.as_str()), found.id.clone());
        let (session_timeout_ms, rebalance_timeout_ms) = (found.classic.session_timeout_ms, found.rebalance_timeout_ms);
        if must_rejoin {
            self.expect_rejoin(&group_id, &member_id, rebalance_timeout_ms, now);
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.soft.timers.cancel(&TimerKey::ConsumerSync { group: group_id.clone(), member: member_id.clone() });
        self.schedule_consumer_session(&group_id, &member_id, session_timeout_ms, now);
        Ok(response)
    }

    /// Heartbeat of a member of a consumer group.
    ///
    /// Errors: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS (join again, you are alive).
    pub(crate) fn heartbeat_consumer_group(&mut self, request: &HeartbeatRequest, now: Now) -> Result<(), ErrorCode> {
        let group = self.hard.consumer_group(&request.group_id).ok_or(ErrorCode::UnknownMemberId)?;
        let found = find_classic(group, &request.member_id, request.group_instance_id.as_deref())?;
        let current = group.current(&found.id);
        if request.generation_id != current.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        let must_rejoin = has_newer_target(group, &current)
            || current.state == MemberState::UnrevokedPartitions
            || current.state == MemberState::UnreleasedPartitions && has_free_target(group, &found.id, &current);
        let (group_id, member_id) = (Arc::from(request.group_id.as_str()), found.id.clone());
        let (session_timeout_ms, rebalance_timeout_ms) = (found.classic.session_timeout_ms, found.rebalance_timeout_ms);
        self.schedule_consumer_session(&group_id, &member_id, session_timeout_ms, now);
        if must_rejoin {
            self.expect_rejoin(&group_id, &member_id, rebalance_timeout_ms, now);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// A member that was told to join again has its rebalance timeout for it, from when it was told first.
    fn expect_rejoin(&mut self, group: &Arc<str>, member: &Arc<str>, rebalance_timeout_ms: i32, now: Now) {
        let key = TimerKey::ConsumerRejoin { group: group.clone(), member: member.clone() };
        if self.soft.timers.deadline_of(&key).is_none() {
            self.soft.timers.schedule(key, now.mono_after(rebalance_timeout_ms.max(0) as u64));
        }
    }

    /// LeaveGroup of a consumer group; also how an administrator removes members.
    pub(crate) fn leave_consumer_group(
        &mut self,
        group_id: &str,
        members: &[MemberIdentity],
        now: Now,
    ) -> GroupOutcome<Vec<MemberResponse>> {
        let mut leaving: Vec<Arc<str>> = Vec::new();
        let mut responses = Vec::with_capacity(members.len());
        for identity in members {
            let result = match self.hard.consumer_group(group_id) {
                Some(group) => find_leaving(group, identity).and_then(|member_id| {
                    // Named twice, it is gone the second time.
                    if leaving.contains(&member_id) { Err(ErrorCode::UnknownMemberId) } else { Ok(member_id) }
                }),
                None => Err(ErrorCode::UnknownMemberId),
            };
            let error = match result {
                Ok(member_id) => {
                    leaving.push(member_id);
                    ErrorCode::None
                }
                Err(error) => error,
            };
            responses.push(MemberResponse {
                member_id: identity.member_id.clone(),
                group_instance_id: identity.group_instance_id.clone(),
                error_code: error.code(),
            });
        }
        if leaving.is_empty() {
            return Outcome::response(responses);
        }
        Outcome::new(self.remove_consumers(&Arc::from(group_id), &leaving, now), responses)
    }

    /// A member did not join again, or did not fetch its assignment, in its rebalance timeout.
    pub(crate) fn on_classic_member_timer(
        &mut self,
        group: &Arc<str>,
        member: &Arc<str>,
        now: Now,
    ) -> Vec<GroupRecord> {
        if !self.hard.consumer_group(group).is_some_and(|group| is_classic(group, member)) {
            return Vec::new();
        }
        tracing::info!(group = &**group, member = &**member, "member did not rejoin in time and is removed");
        self.remove_consumers(group, std::slice::from_ref(member), now)
    }
}

pub(super) fn is_classic(group: &ConsumerGroup, member_id: &str) -> bool {
    group.member(member_id).is_some_and(|(_, member)| member.classic_member_metadata.is_some())
}

/// A member of the classic protocol.
struct Found<'a> {
    id: Arc<str>,
    classic: &'a ClassicMemberMetadata,
    rebalance_timeout_ms: i32,
}

/// Errors: UNKNOWN_MEMBER_ID (also for a member of the consumer protocol), FENCED_INSTANCE_ID.
fn find_classic<'a>(
    group: &'a ConsumerGroup,
    member_id: &str,
    instance_id: Option<&str>,
) -> Result<Found<'a>, ErrorCode> {
    if let Some(instance_id) = instance_id {
        check_instance(group.static_member_id(instance_id), instance_id, member_id).map_err(|(error, _)| error)?;
    }
    let (id, member) = group.member(member_id).ok_or(ErrorCode::UnknownMemberId)?;
    let classic = member.classic_member_metadata.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
    Ok(Found { id: id.clone(), classic, rebalance_timeout_ms: member.rebalance_timeout_ms })
}

/// Errors: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
fn find_leaving(group: &ConsumerGroup, identity: &MemberIdentity) -> Result<Arc<str>, ErrorCode> {
    match identity.group_instance_id.as_deref() {
        Some(instance_id) => {
            let known = group.static_member_id(instance_id);
            if !identity.member_id.is_empty() {
                check_instance(known, instance_id, &identity.member_id).map_err(|(error, _)| error)?;
            }
            known.cloned().ok_or(ErrorCode::UnknownMemberId)
        }
        None => group.member(&identity.member_id).map(|(id, _)| id.clone()).ok_or(ErrorCode::UnknownMemberId),
    }
}

/// Whether there is a protocol that all members of the classic protocol support, who asks as it was until now among them.
fn supports(group: &ConsumerGroup, protocols: &[(String, Bytes)]) -> bool {
    let classic = || group.members().filter_map(|(_, member)| member.classic_member_metadata.as_ref());
    protocols.iter().any(|(name, _)| {
        classic().all(|classic| classic.supported_protocols.iter().any(|supported| supported.name == *name))
    })
}

/// Whether there is an assignment that the member has not taken a step towards. Where only classic members are left, one of them must
/// join for the assignment to be made at all.
fn has_newer_target(group: &ConsumerGroup, current: &Current) -> bool {
    let all_classic = || group.members().all(|(_, member)| member.classic_member_metadata.is_some());
    current.epoch < group.target_epoch() || current.epoch < group.epoch() && all_classic()
}

/// Whether something that the member is to have and has not got is free by now.
fn has_free_target(group: &ConsumerGroup, member_id: &str, current: &Current) -> bool {
    let target = group.target(member_id).into_iter().flat_map(|target| target.iter());
    let mut missing = target.flat_map(|(&topic, partitions)| {
        let assigned = current.assigned.get(&topic);
        let is_missing = move |partition: &i32| assigned.is_none_or(|assigned| !assigned.contains_key(partition));
        partitions.iter().copied().filter(is_missing).map(move |partition| (topic, partition))
    });
    missing.any(|(topic, partition)| group.owner(topic, partition).is_none())
}
