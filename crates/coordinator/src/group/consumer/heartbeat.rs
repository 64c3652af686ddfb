//! ConsumerGroupHeartbeat v0-1: a member joins, stays, says what it has, and learns what it is to have.
//!
//! Version 0 lets the coordinator name new members; from version 1 on they name themselves, and may subscribe by pattern.

use std::collections::BTreeSet;
use std::sync::Arc;

use milena_common::{Now, Outcome};
use milena_protocol::ErrorCode;
use milena_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use milena_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use milena_protocol::stored::group::ConsumerGroupMemberMetadataValue;

use super::classic_member::is_classic;
use super::draft::Draft;
use super::member::{AWAY_EPOCH, Current, MemberState, Owned, is_within};
use super::record::ConsumerRecord;
use super::steps::Steps;
use super::{Refusal, patterns};
use crate::group::config::GroupConfig;
use crate::group::fx::TimerKey;
use crate::group::record::GroupRecord;
use crate::group::{GroupContext, GroupOutcome, GroupShard, MAX_NAME_BYTES};

/// "I leave": the epoch of a member that goes for good.
pub(super) const LEAVE_EPOCH: i32 = -1;

/// Names one subscription may have.
const MAX_SUBSCRIBED_NAMES: usize = 10_000;

impl GroupShard {
    /// ConsumerGroupHeartbeat; the request itself was checked by `validate_heartbeat`.
    pub fn consumer_heartbeat(
        &mut self,
        cx: &GroupContext,
        request: &ConsumerGroupHeartbeatRequest,
        now: Now,
    ) -> GroupOutcome<ConsumerGroupHeartbeatResponse> {
        let result = match request.member_epoch {
            LEAVE_EPOCH | AWAY_EPOCH => self.consumer_leave(request, now),
            _ => self.consumer_stay(cx, request, now),
        };
        match result {
            Ok((records, response)) => Outcome::new(records, response),
            Err(refusal) => Outcome::response(refused(refusal)),
        }
    }

    fn consumer_stay(
        &mut self,
        cx: &GroupContext,
        request: &ConsumerGroupHeartbeatRequest,
        now: Now,
    ) -> Result<(Vec<GroupRecord>, ConsumerGroupHeartbeatResponse), Refusal> {
        let named;
        let request = if request.member_id.is_empty() {
            named = ConsumerGroupHeartbeatRequest { member_id: (self.soft.new_uuid)().to_string(), ..request.clone() };
            &named
        } else {
            request
        };
        let cluster = self.cluster.load();
        let config = self.config.clone();
        let steps = Steps { config: &config, cluster: &cluster, now };
        let is_joining = request.member_epoch == 0;
        let reported = request.topic_partitions.as_deref();

        let mut draft = self.find_or_make_consumer_group(&steps, &request.group_id, is_joining)?;
        let group_id = draft.id().clone();
        check_size(draft.group().num_members(), draft.group().member(&request.member_id).is_some(), &config)?;
        let member_id = find_or_admit(&steps, &mut draft, request)?;

        let old = draft.group().member(&member_id).map(|(_, old)| Arc::clone(old));
        let value = said_of_itself(cx, request, old.as_deref());
        let mut soft = self.soft.consumers.get(&group_id).copied().unwrap_or_default();
        let changed = steps.subscribe(&mut draft, &member_id, value);
        steps.bump_epoch(&mut draft, &mut soft, changed);
        steps.assign(&mut draft);
        let moved = steps.reconcile(&mut draft, &member_id, reported)?;
        draft.check_sizes(config.max_record_bytes)?;

        // Decided: from here on nothing is refused.
        let settings = steps.settings(&group_id);
        let rebalance_timeout_ms =
            draft.group().member(&member_id).map_or(0, |(_, member)| member.rebalance_timeout_ms);
        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && reported.is_some();
        let shows_assignment = is_joining || is_full || has_other_partitions(&moved.before, &moved.after);
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id.to_string()),
            member_epoch: moved.after.epoch,
            heartbeat_interval_ms: settings.heartbeat_interval_ms,
            assignment: shows_assignment.then(|| assignment(&moved.after.assigned)),
            ..Default::default()
        };
        let needs_patterns = steps.needs_patterns(draft.group(), &member_id);
        let records = draft.into_records();
        if needs_patterns {
            self.soft.timers.schedule(TimerKey::ConsumerPatterns { group: group_id.clone() }, now.mono_ms);
        }
        self.forget_classic_group(&group_id, now);
        self.soft.consumers.insert(group_id.clone(), soft);
        self.schedule_consumer_session(&group_id, &member_id, settings.session_timeout_ms, now);
        if moved.is_change() {
            self.watch_revocation(&group_id, &member_id, moved.after.state, rebalance_timeout_ms, now);
        }
        Ok((records, response))
    }

    /// Somebody subscribed to a pattern whose topics are to be looked up.
    pub(crate) fn on_patterns_timer(&mut self, group_id: &Arc<str>, now: Now) -> Vec<GroupRecord> {
        let cluster = self.cluster.load();
        let config = self.config.clone();
        let Some(group) = self.hard.consumer_group(group_id) else {
            return Vec::new();
        };
        let steps = Steps { config: &config, cluster: &cluster, now };
        let mut draft = Draft::new(group_id.clone(), group);
        let mut soft = self.soft.consumers.get(group_id).copied().unwrap_or_default();
        if steps.resolve_patterns(&mut draft) {
            steps.bump_epoch(&mut draft, &mut soft, true);
        }
        if draft.check_sizes(config.max_record_bytes).is_err() {
            tracing::warn!(group = &**group_id, "a pattern stands for more topics than a record can name");
            return Vec::new();
        }
        let records = draft.into_records();
        self.soft.consumers.insert(group_id.clone(), soft);
        records
    }

    /// A member that was heard of has its session from now on.
    pub(super) fn schedule_consumer_session(
        &mut self,
        group: &Arc<str>,
        member: &Arc<str>,
        session_timeout_ms: i32,
        now: Now,
    ) {
        let key = TimerKey::ConsumerSession { group: group.clone(), member: member.clone() };
        self.soft.timers.schedule(key, now.mono_after(session_timeout_ms.max(0) as u64));
    }

    /// A member that must give partitions up has its rebalance timeout for it.
    pub(super) fn watch_revocation(
        &mut self,
        group: &Arc<str>,
        member: &Arc<str>,
        state: MemberState,
        rebalance_timeout_ms: i32,
        now: Now,
    ) {
        let key = TimerKey::ConsumerRevocation { group: group.clone(), member: member.clone() };
        if state == MemberState::UnrevokedPartitions {
            self.soft.timers.schedule(key, now.mono_after(rebalance_timeout_ms.max(0) as u64));
        } else {
            self.soft.timers.cancel(&key);
        }
    }
}

/// Who the request is from: a member that the group knows, or a new one that joins.
///
/// Errors: UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH, FENCED_INSTANCE_ID, UNRELEASED_INSTANCE_ID.
fn find_or_admit(
    steps: &Steps<'_>,
    draft: &mut Draft<'_>,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<Arc<str>, Refusal> {
    let is_joining = request.member_epoch == 0;
    if let Some(instance_id) = request.instance_id.as_deref() {
        let known = draft.group().static_member_id(instance_id).cloned();
        if !is_joining {
            check_instance(known.as_ref(), instance_id, &request.member_id)?;
        } else if let Some(known) = known {
            // A member of the classic protocol has no way to say that it is away.
            if draft.group().current(&known).epoch != AWAY_EPOCH && !is_classic(draft.group(), &known) {
                return Err((
                    ErrorCode::UnreleasedInstanceId,
                    format!(
                        "Static member {} with instance id {instance_id} cannot join the group because the instance id is \
                         owned by {known} member.",
                        request.member_id
                    ),
                ));
            }
            let new: Arc<str> = Arc::from(request.member_id.as_str());
            replace_static(steps, draft, &known, &new);
            return Ok(new);
        }
    }
    let Some((member_id, _)) = draft.group().member(&request.member_id) else {
        if is_joining {
            return Ok(Arc::from(request.member_id.as_str()));
        }
        return Err(unknown_member(&request.member_id, draft.id()));
    };
    let member_id = member_id.clone();
    check_epoch(request, &draft.group().current(&member_id))?;
    Ok(member_id)
}

/// The new process of a static member takes over what the old one said, has and was to have.
pub(super) fn replace_static(steps: &Steps<'_>, draft: &mut Draft<'_>, old: &Arc<str>, new: &Arc<str>) {
    let group = draft.group();
    let value = group.member(old).map(|(_, member)| (**member).clone());
    let target = group.target(old).map(|target| super::member::target_record(target)).unwrap_or_default();
    let current = Current { epoch: 0, ..(*group.current(old)).clone() };
    steps.forget_member(draft, old);
    draft.push(ConsumerRecord::Member { member: new.clone(), value });
    draft.push(ConsumerRecord::Target { member: new.clone(), value: Some(target) });
    draft.push(ConsumerRecord::Current { member: new.clone(), value: Some(current.to_record()) });
}

/// That an instance id stands for the member that uses it.
///
/// Errors: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
pub(super) fn check_instance(known: Option<&Arc<str>>, instance_id: &str, member_id: &str) -> Result<(), Refusal> {
    match known {
        None => Err((ErrorCode::UnknownMemberId, format!("Instance id {instance_id} is unknown."))),
        Some(known) if &**known != member_id => Err((
            ErrorCode::FencedInstanceId,
            format!("Static member {member_id} with instance id {instance_id} was fenced by member {known}."),
        )),
        Some(_) => Ok(()),
    }
}

/// Epoch 0 joins again, whatever was before. The epoch before the present one is taken from a member that has nothing it should
/// not have: it did not get the answer with the present one.
fn check_epoch(request: &ConsumerGroupHeartbeatRequest, current: &Current) -> Result<(), Refusal> {
    let (received, known) = (request.member_epoch, current.epoch);
    let fenced = |word: &str| {
        let text = format!(
            "The consumer group member has a {word} member epoch ({received}) than the one known by the group coordinator \
             ({known}). The member must abandon all its partitions and rejoin."
        );
        Err((ErrorCode::FencedMemberEpoch, text))
    };
    // Who joins again says 0, also one who left for a while and is known by an epoch below that.
    if received > known && received != 0 {
        return fenced("greater");
    }
    let missed_answer =
        received == current.previous_epoch && is_within(request.topic_partitions.as_deref(), &current.assigned);
    if received < known && received != 0 && !missed_answer {
        return fenced("smaller");
    }
    Ok(())
}

/// Errors: GROUP_MAX_SIZE_REACHED.
pub(super) fn check_size(num_members: usize, is_member: bool, config: &GroupConfig) -> Result<(), Refusal> {
    if num_members >= config.consumer_max_size && !is_member {
        let text =
            format!("The consumer group has reached its maximum capacity of {} members.", config.consumer_max_size);
        return Err((ErrorCode::GroupMaxSizeReached, text));
    }
    Ok(())
}

/// What is recorded of a member: what it says now, and what it said before of the rest.
fn said_of_itself(
    cx: &GroupContext,
    request: &ConsumerGroupHeartbeatRequest,
    old: Option<&ConsumerGroupMemberMetadataValue>,
) -> ConsumerGroupMemberMetadataValue {
    let old = old.cloned().unwrap_or_else(nothing_said);
    let names = |names: &Vec<String>| names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    ConsumerGroupMemberMetadataValue {
        instance_id: request.instance_id.clone().or(old.instance_id),
        rack_id: request.rack_id.clone().or(old.rack_id),
        client_id: cx.client_id.clone(),
        client_host: cx.client_host.clone(),
        subscribed_topic_names: request.subscribed_topic_names.as_ref().map_or(old.subscribed_topic_names, names),
        subscribed_topic_regex: request.subscribed_topic_regex.clone().or(old.subscribed_topic_regex),
        rebalance_timeout_ms: if request.rebalance_timeout_ms == -1 {
            old.rebalance_timeout_ms
        } else {
            request.rebalance_timeout_ms
        },
        server_assignor: request.server_assignor.clone().or(old.server_assignor),
        classic_member_metadata: None,
    }
}

/// A member of which nothing is known.
pub(super) fn nothing_said() -> ConsumerGroupMemberMetadataValue {
    ConsumerGroupMemberMetadataValue {
        instance_id: None,
        rack_id: None,
        subscribed_topic_regex: Some(String::new()),
        server_assignor: None,
        classic_member_metadata: None,
        ..Default::default()
    }
}

fn has_other_partitions(before: &Current, after: &Current) -> bool {
    let same = |a: &Owned, b: &Owned| {
        a.len() == b.len()
            && a.iter().zip(b).all(|((a_topic, a), (b_topic, b))| a_topic == b_topic && a.keys().eq(b.keys()))
    };
    !same(&before.assigned, &after.assigned)
}

fn assignment(assigned: &Owned) -> Assignment {
    let topic = |(&topic_id, partitions): (&_, &std::collections::BTreeMap<i32, i32>)| TopicPartitions {
        topic_id,
        partitions: partitions.keys().copied().collect(),
    };
    Assignment { topic_partitions: assigned.iter().map(topic).collect() }
}

pub(super) fn unknown_member(member_id: &str, group_id: &str) -> Refusal {
    (ErrorCode::UnknownMemberId, format!("Member {member_id} is not a member of group {group_id}."))
}

/// A response that only says no.
pub(crate) fn refused((error, text): Refusal) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: error.code(),
        error_message: Some(text).filter(|text| !text.is_empty()),
        ..Default::default()
    }
}

/// What a ConsumerGroupHeartbeat must be, whatever the state of its group.
///
/// Errors: INVALID_REQUEST, UNSUPPORTED_ASSIGNOR, INVALID_REGULAR_EXPRESSION.
pub(crate) fn validate_heartbeat(
    config: &GroupConfig,
    cx: &GroupContext,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<(), Refusal> {
    let invalid = |text: &str| Err((ErrorCode::InvalidRequest, text.to_owned()));
    let epoch = request.member_epoch;
    if request.group_id.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if request.member_id.is_empty() && (cx.api_version >= 1 || epoch > 0 || epoch == LEAVE_EPOCH) {
        return invalid("MemberId can't be empty.");
    }
    if request.instance_id.as_deref() == Some("") {
        return invalid("InstanceId can't be empty.");
    }
    if request.rack_id.as_deref() == Some("") {
        return invalid("RackId can't be empty.");
    }
    match epoch {
        0 if request.rebalance_timeout_ms == -1 => {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        0 if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        0 if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() => {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
        AWAY_EPOCH if request.member_id.is_empty() => return invalid("MemberId can't be empty."),
        AWAY_EPOCH if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
        ..AWAY_EPOCH => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    if let Some(name) = &request.server_assignor
        && !config.consumer_assignors.iter().any(|assignor| assignor.name() == name)
    {
        let names: Vec<&str> = config.consumer_assignors.iter().map(|assignor| assignor.name()).collect();
        let text = format!("ServerAssignor {name} is not supported. Supported assignors: {}.", names.join(", "));
        return Err((ErrorCode::UnsupportedAssignor, text));
    }
    // Beyond what can be recorded, or what anybody means.
    let names = [&request.group_id, &request.member_id].into_iter().chain(&request.instance_id).chain(&request.rack_id);
    let topics = request.subscribed_topic_names.iter().flatten();
    if names.chain(topics).chain(&request.subscribed_topic_regex).any(|name| name.len() > MAX_NAME_BYTES)
        || request.subscribed_topic_names.as_ref().is_some_and(|names| names.len() > MAX_SUBSCRIBED_NAMES)
    {
        return invalid("A name is too long, or there are too many.");
    }
    match request.subscribed_topic_regex.as_deref() {
        Some(pattern) if !pattern.is_empty() => patterns::validate(pattern),
        _ => Ok(()),
    }
}
