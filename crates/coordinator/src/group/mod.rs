//! One partition of `__consumer_offsets` as a state machine: `Hard` is what its records say, `Soft` what is never recorded
//! (members while they join, parked requests, timers).
//!
//! Operations read `Hard`, change `Soft` and return records; only `replay` changes `Hard`. Nothing here awaits, reads a clock
//! or locks: the driver (`shard`) passes `now` and runs the operations of a partition one after another.

mod admin;
pub(crate) mod assignor;
mod classic;
mod config;
mod consumer;
mod fx;
mod hard;
mod offsets;
pub(crate) mod record;
mod subscription;
#[cfg(test)]
mod tests;
mod txn_offsets;

use std::collections::HashMap;
use std::sync::Arc;

use milena_common::{Now, Outcome, StateMachine, Timers, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages::leave_group_response::MemberResponse;
use milena_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest,
};

pub use assignor::Assignor;
pub use config::{Bounded, GroupConfig};
pub use fx::Parked;
pub use record::{GroupKind, GroupRecord};

use crate::cluster::ClusterView;
use crate::shard::{ReplyId, Shard};
use crate::writer::{CoordinatorRecord, LoadedRecord};
use classic::ClassicGroup;
pub(crate) use classic::join_error;
use consumer::ConsumerSoft;
pub(crate) use consumer::{refused, validate_heartbeat};
use fx::{Fx, TimerKey};
use hard::Hard;

/// Who asks, and how: what the connection knows about a request.
#[derive(Debug, Clone, Default)]
pub struct GroupContext {
    /// From the request header; empty if null.
    pub client_id: String,
    /// As Java prints an address: `/127.0.0.1`. Shown by DescribeGroups and recorded.
    pub client_host: String,
    /// Version of the request.
    pub api_version: i16,
}

/// A loaded partition of `__consumer_offsets`.
pub struct GroupShard {
    config: Arc<GroupConfig>,
    cluster: ClusterView,
    hard: Hard,
    soft: Soft,
}

struct Soft {
    groups: HashMap<Arc<str>, ClassicGroup>,
    consumers: HashMap<Arc<str>, ConsumerSoft>,
    timers: Timers<TimerKey>,
    replies: Vec<(ReplyId, Parked)>,
    new_uuid: Box<dyn FnMut() -> Uuid + Send>,
    /// The group after which the look for expired offsets goes on.
    expiry_cursor: Option<Arc<str>>,
}

type GroupOutcome<R> = Outcome<R, GroupRecord>;

impl GroupShard {
    /// An empty partition. `new_uuid` gives member ids their random part.
    pub fn new(config: Arc<GroupConfig>, new_uuid: impl FnMut() -> Uuid + Send + 'static) -> Self {
        GroupShard {
            config,
            cluster: ClusterView::default(),
            hard: Hard::default(),
            soft: Soft {
                groups: HashMap::new(),
                consumers: HashMap::new(),
                timers: Timers::new(),
                replies: Vec::new(),
                new_uuid: Box::new(new_uuid),
                expiry_cursor: None,
            },
        }
    }

    /// Looks at the cluster through `cluster`.
    pub(crate) fn with_cluster(mut self, cluster: ClusterView) -> Self {
        self.cluster = cluster;
        self
    }

    /// JoinGroup; the request itself was checked by `validate_join`.
    pub fn join(
        &mut self,
        cx: &GroupContext,
        request: &JoinGroupRequest,
        reply: ReplyId,
        now: Now,
    ) -> GroupOutcome<()> {
        let is_new = !self.exists(&request.group_id);
        if is_new && !request.member_id.is_empty() {
            let mut records = Vec::new();
            self.fx(now, &mut records, |_, fx| {
                fx.reply_join(reply, classic::join_error(&request.member_id, ErrorCode::UnknownMemberId))
            });
            return Outcome::response(());
        }
        let group_id: Arc<str> = Arc::from(request.group_id.as_str());
        let mut records = Vec::new();
        let refusal = match self.hard.group(&group_id) {
            Some(recorded) if recorded.foreign_kind().is_some() => Some(ErrorCode::InconsistentGroupProtocol),
            Some(recorded) => match &recorded.consumer {
                Some(consumer) if consumer.num_members() > 0 => {
                    return self.join_consumer_group(cx, request, reply, now);
                }
                Some(_) if !request.member_id.is_empty() => Some(ErrorCode::UnknownMemberId),
                _ => None,
            },
            None => None,
        };
        if let Some(error) = refusal {
            self.fx(now, &mut records, |_, fx| fx.reply_join(reply, join_error(&request.member_id, error)));
            return Outcome::response(());
        }
        // An empty consumer group becomes a classic one.
        records.extend(self.consumer_tombstones(&group_id));
        let is_new = is_new || !records.is_empty();
        if !self.soft.groups.contains_key(&group_id) {
            self.soft.groups.insert(group_id.clone(), ClassicGroup::new(group_id.clone(), now.wall_ms));
        }
        let decided_before = records.len();
        self.with_group(&group_id, now, &mut records, |group, fx| group.join(fx, cx, request, reply));
        if is_new && records.len() == decided_before {
            if self
                .soft
                .groups
                .get(&group_id)
                .is_some_and(|group| group.members.is_empty() && group.pending_join.is_empty())
            {
                // Nobody came in: the group was never there.
                self.soft.groups.remove(&group_id);
                records.clear();
            } else {
                // The group exists from now on, also for whoever loads this partition before its first rebalance ends.
                records.extend(
                    self.soft
                        .groups
                        .get(&group_id)
                        .map(|group| GroupRecord::group(&group_id, Some(group.to_empty_record()))),
                );
            }
        }
        Outcome::new(records, ())
    }

    /// SyncGroup.
    pub fn sync(&mut self, request: &SyncGroupRequest, reply: ReplyId, now: Now) -> GroupOutcome<()> {
        if self.hard.consumer_group(&request.group_id).is_some() {
            self.sync_consumer_group(request, reply, now);
            return Outcome::response(());
        }
        let mut records = Vec::new();
        let found = self.with_group(&request.group_id, now, &mut records, |group, fx| group.sync(fx, request, reply));
        if found.is_none() {
            self.fx(now, &mut records, |_, fx| fx.reply_sync(reply, classic::sync_error(ErrorCode::UnknownMemberId)));
        }
        Outcome::new(records, ())
    }

    /// Heartbeat.
    pub fn heartbeat(&mut self, request: &HeartbeatRequest, now: Now) -> GroupOutcome<HeartbeatResponse> {
        let mut records = Vec::new();
        let result = if self.hard.consumer_group(&request.group_id).is_some() {
            Some(self.heartbeat_consumer_group(request, now))
        } else {
            self.with_group(&request.group_id, now, &mut records, |group, fx| group.heartbeat(fx, request))
        };
        let error = result.unwrap_or(Err(ErrorCode::UnknownMemberId)).err().unwrap_or(ErrorCode::None);
        Outcome::new(records, HeartbeatResponse { error_code: error.code(), ..Default::default() })
    }

    /// LeaveGroup, as a batch of members (`members`, at every version).
    pub fn leave(&mut self, request: &LeaveGroupRequest, now: Now) -> GroupOutcome<LeaveGroupResponse> {
        if self.hard.consumer_group(&request.group_id).is_some() {
            return self
                .leave_consumer_group(&request.group_id, &request.members, now)
                .map(|members| LeaveGroupResponse { members, ..Default::default() });
        }
        let mut records = Vec::new();
        let left = self.with_group(&request.group_id, now, &mut records, |group, fx| group.leave(fx, &request.members));
        let members = left.unwrap_or_else(|| {
            let unknown = |member: &milena_protocol::messages::leave_group_request::MemberIdentity| MemberResponse {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                error_code: ErrorCode::UnknownMemberId.code(),
            };
            request.members.iter().map(unknown).collect()
        });
        Outcome::new(records, LeaveGroupResponse { members, ..Default::default() })
    }

    fn exists(&self, group_id: &str) -> bool {
        self.soft.groups.contains_key(group_id) || self.hard.group(group_id).is_some()
    }

    /// Runs `f` on a live group with the means to have effects; `None` if there is no such live group.
    fn with_group<R>(
        &mut self,
        group_id: &str,
        now: Now,
        records: &mut Vec<GroupRecord>,
        f: impl FnOnce(&mut ClassicGroup, &mut Fx<'_>) -> R,
    ) -> Option<R> {
        self.fx(now, records, |groups, fx| groups.get_mut(group_id).map(|group| f(group, fx)))
    }

    fn fx<R>(
        &mut self,
        now: Now,
        records: &mut Vec<GroupRecord>,
        f: impl FnOnce(&mut HashMap<Arc<str>, ClassicGroup>, &mut Fx<'_>) -> R,
    ) -> R {
        let Soft { groups, timers, replies, new_uuid, .. } = &mut self.soft;
        f(groups, &mut Fx { config: &self.config, now, timers, replies, new_uuid: new_uuid.as_mut(), records })
    }
}

impl StateMachine for GroupShard {
    type Record = GroupRecord;

    fn replay(&mut self, offset: i64, record: &GroupRecord) {
        self.hard.replay(offset, record);
    }
}

impl Shard for GroupShard {
    type Parked = Parked;
    type Effect = std::convert::Infallible;

    fn encode(record: &GroupRecord) -> Result<CoordinatorRecord, ErrorCode> {
        record.encode()
    }

    fn decode(loaded: LoadedRecord) -> GroupRecord {
        GroupRecord::decode(loaded)
    }

    fn on_loaded(&mut self, now: Now) {
        let live: Vec<ClassicGroup> = self
            .hard
            .groups()
            .filter_map(|(id, recorded)| {
                recorded.metadata.as_ref().map(|metadata| ClassicGroup::from_record(id.clone(), metadata))
            })
            .collect();
        tracing::debug!(groups = live.len(), "classic groups loaded");
        let max_size = self.config.max_size;
        let mut records = Vec::new();
        for group in live {
            let id = group.id.clone();
            let is_too_large = group.members.len() > max_size;
            self.soft.groups.insert(id.clone(), group);
            self.with_group(&id, now, &mut records, |group, fx| {
                for member_id in group.members.keys() {
                    group.extend_session(fx, member_id);
                }
                // `group.max.size` was lowered: the members join again, and the last ones are left out. No records come of that yet.
                if is_too_large {
                    group.prepare_rebalance(fx);
                }
            });
        }
        self.start_consumer_timers(now);
        self.soft
            .timers
            .schedule(TimerKey::OffsetExpiry, now.mono_after(self.config.offsets_retention_check_interval_ms));
    }

    fn on_timer(&mut self, now: Now) -> Option<GroupOutcome<()>> {
        let key = self.soft.timers.pop_due(now)?;
        let mut records = Vec::new();
        match key {
            TimerKey::Session { group, member } => {
                self.with_group(&group, now, &mut records, |group, fx| group.on_session_timer(fx, &member));
            }
            TimerKey::Join { group } => {
                self.with_group(&group, now, &mut records, |group, fx| group.on_join_timer(fx));
            }
            TimerKey::Sync { group } => {
                self.with_group(&group, now, &mut records, |group, fx| group.on_sync_timer(fx));
            }
            TimerKey::ConsumerSession { group, member } => {
                records.extend(self.on_consumer_session_timer(&group, &member, now));
            }
            TimerKey::ConsumerRevocation { group, member } => {
                records.extend(self.on_revocation_timer(&group, &member, now));
            }
            TimerKey::ConsumerRejoin { group, member } | TimerKey::ConsumerSync { group, member } => {
                records.extend(self.on_classic_member_timer(&group, &member, now));
            }
            TimerKey::ConsumerPatterns { group } => records.extend(self.on_patterns_timer(&group, now)),
            TimerKey::OffsetExpiry => self.expire_offsets(now, &mut records),
        }
        Some(Outcome::new(records, ()))
    }

    fn next_deadline(&self) -> Option<u64> {
        self.soft.timers.next_deadline()
    }

    fn take_replies(&mut self) -> Vec<(ReplyId, Parked)> {
        std::mem::take(&mut self.soft.replies)
    }
}

/// What a JoinGroup must be, whatever the state of its group.
///
/// Errors: INVALID_GROUP_ID, INVALID_SESSION_TIMEOUT; INVALID_REQUEST for names that cannot be recorded and for
/// more protocols or metadata than a group's record could hold.
pub(crate) fn validate_join(
    config: &GroupConfig,
    cx: &GroupContext,
    request: &JoinGroupRequest,
) -> Result<(), ErrorCode> {
    /// Protocols one member may support; clients have a handful.
    const MAX_PROTOCOLS: usize = 1_000;
    validate_group_id(&request.group_id)?;
    if !(config.min_session_timeout_ms..=config.max_session_timeout_ms).contains(&request.session_timeout_ms) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    let metadata_bytes: usize =
        request.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum();
    let names = [&request.member_id, &request.protocol_type, &cx.client_id, &cx.client_host];
    let mut names = names
        .into_iter()
        .chain(&request.group_instance_id)
        .chain(request.protocols.iter().map(|protocol| &protocol.name));
    if request.protocols.len() > MAX_PROTOCOLS
        || metadata_bytes > 4 * config.max_record_bytes
        || names.any(|name| name.len() > MAX_NAME_BYTES)
    {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(())
}

/// What a SyncGroup must be, whatever the state of its group.
///
/// Errors: INCONSISTENT_GROUP_PROTOCOL when a version that must name its protocol (v5, KIP-559) does not; INVALID_GROUP_ID.
pub(crate) fn validate_sync(cx: &GroupContext, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if cx.api_version >= 5 && !names_protocol {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    validate_group_id(&request.group_id)
}

/// Strings in records have an i16 length; a generated member id adds 37 bytes to a name.
const MAX_NAME_BYTES: usize = i16::MAX as usize - 37;

/// Errors: INVALID_GROUP_ID if the id is empty or cannot be recorded.
pub(crate) fn validate_group_id(group_id: &str) -> Result<(), ErrorCode> {
    if group_id.is_empty() || group_id.len() > MAX_NAME_BYTES { Err(ErrorCode::InvalidGroupId) } else { Ok(()) }
}
