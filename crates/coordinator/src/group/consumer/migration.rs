//! How a group changes its kind while it is in use: a classic group when a member of the consumer protocol joins, a consumer group
//! when its last such member goes (`group.consumer.migration.policy`).
//!
//! Either way all records of the one kind are removed and those of the other written in one batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use milena_common::{Now, Uuid};
use milena_metadata::image::MetadataImage;
use milena_protocol::ErrorCode;
use milena_protocol::stored::group::consumer_group_member_metadata_value::{ClassicMemberMetadata, ClassicProtocol};
use milena_protocol::stored::group::group_metadata_value::MemberMetadata;
use milena_protocol::stored::group::{
    ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue, ConsumerGroupTargetAssignmentMetadataValue,
    GroupMetadataValue,
};

use super::draft::Draft;
use super::embedded::{Assignment, Subscription};
use super::group::FIRST_EPOCH;
use super::heartbeat::nothing_said;
use super::member::{Current, MemberState, Partitions, target_record};
use super::record::ConsumerRecord;
use super::steps::Steps;
use super::{ConsumerGroup, Refusal, topics};
use crate::group::GroupShard;
use crate::group::classic::{self, CONSUMER, ClassicGroup, State};
use crate::group::fx::TimerKey;
use crate::group::record::{self, GroupRecord};

impl GroupShard {
    /// The consumer group of that id. A member that joins finds one in any case, unless a group of another kind is in the way.
    ///
    /// Errors: GROUP_ID_NOT_FOUND.
    pub(super) fn find_or_make_consumer_group(
        &self,
        steps: &Steps<'_>,
        group_id: &str,
        is_joining: bool,
    ) -> Result<Draft<'_>, Refusal> {
        let id: Arc<str> = Arc::from(group_id);
        let not_found = |text: String| Err((ErrorCode::GroupIdNotFound, text));
        if let Some(group) = self.hard.consumer_group(group_id) {
            return Ok(Draft::new(id, group));
        }
        let recorded = self.hard.group(group_id);
        let is_foreign = recorded.is_some_and(|recorded| recorded.foreign_kind().is_some());
        if is_foreign || self.exists(group_id) && !is_joining {
            return not_found(format!("Group {group_id} is not a consumer group."));
        }
        if !is_joining {
            return not_found(format!("Consumer group {group_id} not found."));
        }
        let has_record = recorded.is_some_and(|recorded| recorded.metadata.is_some());
        let tombstone = has_record.then(|| GroupRecord::group(&id, None));
        match self.soft.groups.get(group_id) {
            // Who only got an id is no member yet: the group is empty.
            Some(classic) if classic.state != State::Empty => self.upgrade(steps, id, classic, tombstone),
            _ => Ok(Draft::new_group(id, tombstone)),
        }
    }

    /// The consumer group that has the members of a classic one, with what each has.
    fn upgrade(
        &self,
        steps: &Steps<'_>,
        id: Arc<str>,
        classic: &ClassicGroup,
        tombstone: Option<GroupRecord>,
    ) -> Result<Draft<'_>, Refusal> {
        let refuse = |why: &str| {
            let text = format!("Cannot upgrade classic group {id} to consumer group because {why}");
            Err((ErrorCode::GroupIdNotFound, text))
        };
        if !steps.config.consumer_upgrade {
            return refuse("online upgrade is disabled.");
        }
        if !classic.uses_consumer_protocol() {
            return refuse("the group does not use the consumer embedded protocol.");
        }
        if classic.members.len() > steps.config.consumer_max_size {
            return refuse("the group exceeds the consumer group maximum size.");
        }
        let image = &steps.cluster.image;
        let mut members = Vec::with_capacity(classic.members.len());
        for member in classic.members.values() {
            let Some(assignment) = Assignment::decode(&member.assignment) else {
                return refuse("an assignment of it cannot be read.");
            };
            if !assignment.user_data.is_empty() {
                return refuse(
                    "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default \
                     assignor before re-attempting the upgrade.",
                );
            }
            let metadata = member.metadata(classic.protocol_name.as_deref());
            // A member that joined for the first time has not been told which protocol was chosen.
            let metadata = if metadata.is_empty() {
                member.protocols.first().map(|(_, metadata)| metadata.clone()).unwrap_or_default()
            } else {
                metadata
            };
            let Some(subscription) = Subscription::decode(&metadata) else {
                return refuse("a subscription of it cannot be read.");
            };
            members.push((member, subscription, partition_ids(&assignment, image)));
        }
        tracing::info!(group = &*id, members = members.len(), "classic group becomes a consumer group");
        // A group in its first rebalance has no generation yet, and 0 is the epoch of those who are no members.
        let epoch = classic.generation_id.max(FIRST_EPOCH);
        let mut draft = Draft::new_group(id, tombstone);
        for (member, subscription, _) in &members {
            let value = classic_value(
                subscription,
                ConsumerGroupMemberMetadataValue {
                    instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    ..nothing_said()
                },
                member.session_timeout_ms,
                &member.protocols,
            );
            draft.push(ConsumerRecord::Member { member: member.id.clone(), value: Some(value) });
        }
        let metadata_hash = topics::metadata_hash(draft.group().subscribed_topics().into_iter(), image);
        draft.push(ConsumerRecord::Epoch(Some(ConsumerGroupMetadataValue { epoch, metadata_hash })));
        for (member, _, partitions) in &members {
            let value = Some(target_record(partitions));
            draft.push(ConsumerRecord::Target { member: member.id.clone(), value });
        }
        draft.push(ConsumerRecord::TargetEpoch(Some(ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: epoch,
            assignment_timestamp: 0,
        })));
        for (member, _, partitions) in members {
            let with_epochs = |(topic, partitions): (Uuid, std::collections::BTreeSet<i32>)| {
                (topic, partitions.into_iter().map(|partition| (partition, epoch)).collect())
            };
            let current = Current {
                epoch,
                previous_epoch: epoch,
                state: MemberState::Stable,
                assigned: partitions.into_iter().map(with_epochs).collect(),
                revoking: BTreeMap::new(),
            };
            let value = Some(current.to_record());
            draft.push(ConsumerRecord::Current { member: member.id.clone(), value });
        }
        Ok(draft)
    }

    /// A classic group of that id is one no longer: whoever is parked there joins again, its members' sessions go on.
    pub(super) fn forget_classic_group(&mut self, group_id: &Arc<str>, now: Now) {
        let Some(group) = self.soft.groups.remove(group_id) else {
            return;
        };
        let timers = &mut self.soft.timers;
        timers.cancel(&TimerKey::Join { group: group_id.clone() });
        timers.cancel(&TimerKey::Sync { group: group_id.clone() });
        for member in group.members.keys().chain(&group.pending_join) {
            timers.cancel(&TimerKey::Session { group: group_id.clone(), member: member.clone() });
        }
        let mut records = Vec::new();
        self.fx(now, &mut records, |_, fx| {
            for member in group.members.values() {
                if let Some(reply) = member.awaiting_join {
                    fx.reply_join(reply, classic::join_error(&member.id, ErrorCode::RebalanceInProgress));
                }
                if let Some(reply) = member.awaiting_sync {
                    fx.reply_sync(reply, classic::sync_error(ErrorCode::RebalanceInProgress));
                }
            }
        });
        for member in group.members.values() {
            self.schedule_consumer_session(group_id, &member.id, member.session_timeout_ms, now);
        }
    }

    /// The records by which a group becomes classic as `leaving` go; `None` if it stays a consumer group.
    pub(super) fn downgrade_without(
        &mut self,
        group_id: &Arc<str>,
        leaving: &[Arc<str>],
        now: Now,
    ) -> Option<Vec<GroupRecord>> {
        let group = self.hard.consumer_group(group_id)?;
        let goes = |id: &Arc<str>| leaving.contains(id);
        if !group.members().any(|(id, _)| goes(id)) || !self.may_downgrade(group, leaving) {
            return None;
        }
        self.downgrade(group_id, &group.clone(), leaving, now)
    }

    /// Whether a group may become classic once `leaving` are gone.
    pub(super) fn may_downgrade(&self, group: &ConsumerGroup, leaving: &[Arc<str>]) -> bool {
        let mut staying = group.members().filter(|(id, _)| !leaving.contains(id)).peekable();
        self.config.consumer_downgrade
            && staying.peek().is_some()
            && staying.all(|(_, member)| member.classic_member_metadata.is_some())
            && group.num_members() - leaving.len().min(group.num_members()) <= self.config.max_size
    }

    /// As `downgrade_without`, for a group as it is about to be.
    pub(super) fn downgrade(
        &mut self,
        group_id: &Arc<str>,
        group: &ConsumerGroup,
        leaving: &[Arc<str>],
        now: Now,
    ) -> Option<Vec<GroupRecord>> {
        let staying: Vec<_> = group.members().filter(|(id, _)| !leaving.contains(id)).collect();
        let image = self.cluster.load().image;
        let (value, protocols) = classic_record(group, &staying, &image, now)?;
        if record::metadata_size_in_bytes(&value) > self.config.max_record_bytes {
            return None;
        }
        tracing::info!(group = &**group_id, members = value.members.len(), "consumer group becomes a classic group");
        let mut records = self.consumer_tombstones(group_id);
        records.push(GroupRecord::group(group_id, Some(value.clone())));
        for (member_id, _) in &staying {
            self.cancel_consumer_timers(group_id, member_id);
        }
        let live = ClassicGroup::from_record_with(group_id.clone(), &value, |member| {
            protocols.get(member).cloned().unwrap_or_default()
        });
        self.soft.groups.insert(group_id.clone(), live);
        self.with_group(group_id, now, &mut records, |group, fx| {
            for (member_id, _) in &staying {
                group.extend_session(fx, member_id);
            }
            group.prepare_rebalance(fx);
        });
        Some(records)
    }

    /// The consumer group of that id goes, in favour of what the caller puts in its place.
    pub(crate) fn consumer_tombstones(&mut self, group_id: &Arc<str>) -> Vec<GroupRecord> {
        self.soft.consumers.remove(group_id);
        self.hard.consumer_group(group_id).map(|group| group.tombstones(group_id)).unwrap_or_default()
    }
}

/// What is recorded of a member of the classic protocol: `base`, and what its subscription says.
pub(super) fn classic_value(
    subscription: &Subscription,
    base: ConsumerGroupMemberMetadataValue,
    session_timeout_ms: i32,
    protocols: &[(String, Bytes)],
) -> ConsumerGroupMemberMetadataValue {
    let mut topics = subscription.topics.clone();
    topics.sort_unstable();
    topics.dedup();
    ConsumerGroupMemberMetadataValue {
        rack_id: subscription.rack.clone().or(base.rack_id),
        subscribed_topic_names: topics,
        classic_member_metadata: Some(ClassicMemberMetadata {
            session_timeout_ms,
            supported_protocols: protocols
                .iter()
                .map(|(name, metadata)| ClassicProtocol { name: name.clone(), metadata: metadata.clone() })
                .collect(),
        }),
        ..base
    }
}

fn partition_ids(assignment: &Assignment, image: &MetadataImage) -> Partitions {
    let mut ids = Partitions::new();
    for (topic, partitions) in &assignment.partitions {
        if let Some(id) = image.topics.id_of(topic) {
            ids.entry(id).or_default().extend(partitions);
        }
    }
    ids
}

/// Topics that are gone are left out.
pub(super) fn named<'a>(
    partitions: impl Iterator<Item = (Uuid, Vec<i32>)> + 'a,
    image: &MetadataImage,
) -> Vec<(String, Vec<i32>)> {
    partitions.filter_map(|(id, partitions)| Some((image.topics.name_of(id)?.to_string(), partitions))).collect()
}

type Protocols = Vec<(String, Bytes)>;

/// A classic group's record with the members that stay and what they were to have; `None` if they have no protocol in common.
fn classic_record(
    group: &ConsumerGroup,
    staying: &[(&Arc<str>, &Arc<ConsumerGroupMemberMetadataValue>)],
    image: &MetadataImage,
    now: Now,
) -> Option<(GroupMetadataValue, BTreeMap<String, Protocols>)> {
    let protocols_of = |member: &ConsumerGroupMemberMetadataValue| -> Protocols {
        let classic = member.classic_member_metadata.iter();
        classic.flat_map(|classic| &classic.supported_protocols).map(|p| (p.name.clone(), p.metadata.clone())).collect()
    };
    let all: BTreeMap<String, Protocols> =
        staying.iter().map(|(id, member)| (id.to_string(), protocols_of(member))).collect();
    let has = |protocols: &Protocols, name: &str| protocols.iter().any(|(known, _)| known == name);
    let (leader, firsts) = all.first_key_value()?;
    let (protocol, _) = firsts.iter().find(|(name, _)| all.values().all(|protocols| has(protocols, name)))?;
    let members = staying.iter().map(|(id, member)| {
        let metadata = protocols_of(member).into_iter().find(|(name, _)| name == protocol).map(|(_, m)| m);
        let metadata = metadata.unwrap_or_default();
        let version = Subscription::decode(&metadata).map_or(0, |subscription| subscription.version);
        let target = group.target(id).into_iter().flat_map(|target| target.iter());
        let target = target.map(|(&topic, partitions)| (topic, partitions.iter().copied().collect()));
        let assignment = Assignment { partitions: named(target, image), user_data: Bytes::new() };
        MemberMetadata {
            member_id: id.to_string(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.classic_member_metadata.as_ref().map_or(0, |classic| classic.session_timeout_ms),
            subscription: metadata,
            assignment: assignment.encode(version),
        }
    });
    let value = GroupMetadataValue {
        protocol_type: CONSUMER.to_owned(),
        generation: group.epoch(),
        protocol: Some(protocol.clone()),
        leader: Some(leader.clone()),
        current_state_timestamp: now.wall_ms,
        members: members.collect(),
    };
    Some((value, all))
}
