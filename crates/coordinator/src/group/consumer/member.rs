//! What one member has, and the form of assignments: plain data and its records.

use std::collections::{BTreeMap, BTreeSet};

use milena_common::Uuid;
use milena_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as OwnedPartitions;
use milena_protocol::stored::group::consumer_group_current_member_assignment_value::TopicPartitions;
use milena_protocol::stored::group::consumer_group_target_assignment_member_value::TopicPartition;
use milena_protocol::stored::group::{
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupTargetAssignmentMemberValue,
};

pub(crate) use crate::group::assignor::Partitions;

/// Partitions by topic id, each with the target epoch at which its owner got it.
pub(crate) type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// The epoch of a static member that went away and may come back.
pub(crate) const AWAY_EPOCH: i32 = -2;

/// How far a member is on its way to the target assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i8)]
pub(crate) enum MemberState {
    #[default]
    Stable = 0,
    /// It was told to give up partitions and has not said that it did.
    UnrevokedPartitions = 1,
    /// It waits for partitions that others have not given up.
    UnreleasedPartitions = 2,
    /// Written by a later Kafka: the member must start anew.
    Unknown = 127,
}

/// What a member has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Current {
    pub(crate) epoch: i32,
    /// The epoch before; a member that did not hear of the new one may still come with it.
    pub(crate) previous_epoch: i32,
    pub(crate) state: MemberState,
    pub(crate) assigned: Owned,
    /// What it must give up first.
    pub(crate) revoking: Owned,
}

impl Current {
    /// Partitions that nobody else may have.
    pub(crate) fn all_partitions(&self) -> impl Iterator<Item = (Uuid, i32)> + '_ {
        let flat = |owned: &'_ Owned| {
            owned
                .iter()
                .flat_map(|(&topic, partitions)| partitions.keys().map(move |&partition| (topic, partition)))
                .collect::<Vec<_>>()
        };
        flat(&self.assigned).into_iter().chain(flat(&self.revoking))
    }

    pub(crate) fn from_record(value: &ConsumerGroupCurrentMemberAssignmentValue) -> Self {
        Current {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: match value.state {
                0 => MemberState::Stable,
                1 => MemberState::UnrevokedPartitions,
                2 => MemberState::UnreleasedPartitions,
                _ => MemberState::Unknown,
            },
            assigned: owned_of(&value.assigned_partitions, value.member_epoch),
            revoking: owned_of(&value.partitions_pending_revocation, value.member_epoch),
        }
    }

    pub(crate) fn to_record(&self) -> ConsumerGroupCurrentMemberAssignmentValue {
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state as i8,
            assigned_partitions: owned_lists(&self.assigned),
            partitions_pending_revocation: owned_lists(&self.revoking),
        }
    }
}

/// Records of an earlier Kafka have no epochs per partition: the member's stands in.
fn owned_of(lists: &[TopicPartitions], member_epoch: i32) -> Owned {
    let mut owned = Owned::new();
    for list in lists {
        let epochs = list.assignment_epochs.as_deref().unwrap_or_default();
        let partitions = owned.entry(list.topic_id).or_default();
        for (index, &partition) in list.partitions.iter().enumerate() {
            partitions.insert(partition, epochs.get(index).copied().unwrap_or(member_epoch));
        }
    }
    owned
}

fn owned_lists(owned: &Owned) -> Vec<TopicPartitions> {
    let list = |(&topic_id, partitions): (&Uuid, &BTreeMap<i32, i32>)| TopicPartitions {
        topic_id,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
    };
    owned.iter().map(list).collect()
}

pub(crate) fn partitions_of<'a>(lists: impl Iterator<Item = (Uuid, &'a Vec<i32>)>) -> Partitions {
    let mut partitions = Partitions::new();
    for (topic_id, list) in lists {
        partitions.entry(topic_id).or_default().extend(list);
    }
    partitions
}

pub(crate) fn target_record(partitions: &Partitions) -> ConsumerGroupTargetAssignmentMemberValue {
    let list = |(&topic_id, partitions): (&Uuid, &BTreeSet<i32>)| TopicPartition {
        topic_id,
        partitions: partitions.iter().copied().collect(),
    };
    ConsumerGroupTargetAssignmentMemberValue { topic_partitions: partitions.iter().map(list).collect() }
}

/// Whether a member that says it has `reported` has nothing beyond `assigned`. One that does not say may have anything.
pub(crate) fn is_within(reported: Option<&[OwnedPartitions]>, assigned: &Owned) -> bool {
    reported.is_some_and(|reported| {
        reported.iter().all(|topic| {
            let assigned = assigned.get(&topic.topic_id);
            topic.partitions.iter().all(|partition| assigned.is_some_and(|assigned| assigned.contains_key(partition)))
        })
    })
}

/// Whether a member that says it has `reported` still has any of `revoking`. One that does not say may have them all.
pub(crate) fn has_any(reported: Option<&[OwnedPartitions]>, revoking: &Owned) -> bool {
    reported.is_none_or(|reported| {
        reported.iter().any(|topic| {
            let revoking = revoking.get(&topic.topic_id);
            topic.partitions.iter().any(|partition| revoking.is_some_and(|revoking| revoking.contains_key(partition)))
        })
    })
}
