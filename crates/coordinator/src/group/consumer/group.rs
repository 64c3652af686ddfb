//! What is recorded of a group of the consumer protocol: one map per kind of record, and two indexes over them.
//!
//! A function of its records, whatever their order was within a key: a log that was compacted gives the same group. Only `replay`
//! changes it. Read by every operation of this folder.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use milena_common::Uuid;
use milena_protocol::stored::group::{
    ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMetadataValue,
};

use super::member::{Current, MemberState, Partitions, partitions_of};
use super::record::ConsumerRecord;
use crate::group::record::GroupRecord;

/// Epoch of a group, and of its target assignment, before anything is recorded.
pub(super) const FIRST_EPOCH: i32 = 1;

/// Recorded state of one group. Its large parts are shared with drafts that do not change them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ConsumerGroup {
    epoch: Option<ConsumerGroupMetadataValue>,
    /// Whether a record of an earlier Kafka is to be removed with the group.
    partition_metadata: bool,
    members: Arc<BTreeMap<Arc<str>, Arc<ConsumerGroupMemberMetadataValue>>>,
    target_epoch: Option<ConsumerGroupTargetAssignmentMetadataValue>,
    targets: Arc<BTreeMap<Arc<str>, Arc<Partitions>>>,
    current: Arc<BTreeMap<Arc<str>, Arc<Current>>>,
    regexes: BTreeMap<Arc<str>, Arc<ConsumerGroupRegularExpressionValue>>,
    /// Who has a partition, or has not given it up yet.
    owners: Arc<HashMap<(Uuid, i32), Arc<str>>>,
    /// Member ids of static members by their instance ids.
    instances: Arc<HashMap<String, Arc<str>>>,
}

/// Where a group stands, as ConsumerGroupDescribe and ListGroups say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupState {
    Empty,
    Assigning,
    Reconciling,
    Stable,
}

impl GroupState {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::Assigning => "Assigning",
            GroupState::Reconciling => "Reconciling",
            GroupState::Stable => "Stable",
        }
    }
}

impl ConsumerGroup {
    pub(crate) fn replay(&mut self, record: &ConsumerRecord) {
        match record {
            ConsumerRecord::Epoch(value) => self.epoch = value.clone(),
            ConsumerRecord::PartitionMetadata { present } => self.partition_metadata = *present,
            ConsumerRecord::TargetEpoch(value) => self.target_epoch = value.clone(),
            ConsumerRecord::Member { member, value } => self.set_member(member, value.as_ref()),
            ConsumerRecord::Target { member, value: Some(value) } => {
                let lists = value.topic_partitions.iter().map(|topic| (topic.topic_id, &topic.partitions));
                Arc::make_mut(&mut self.targets).insert(member.clone(), Arc::new(partitions_of(lists)));
            }
            ConsumerRecord::Target { member, value: None } => {
                Arc::make_mut(&mut self.targets).remove(member);
            }
            ConsumerRecord::Current { member, value } => {
                let current = value.as_ref().map(Current::from_record);
                self.set_current(member, current);
            }
            ConsumerRecord::Regex { regex, value: Some(value) } => {
                self.regexes.insert(regex.clone(), Arc::new(value.clone()));
            }
            ConsumerRecord::Regex { regex, value: None } => {
                self.regexes.remove(regex);
            }
        }
    }

    fn set_member(&mut self, member: &Arc<str>, value: Option<&ConsumerGroupMemberMetadataValue>) {
        let old = match value {
            Some(value) => Arc::make_mut(&mut self.members).insert(member.clone(), Arc::new(value.clone())),
            None => Arc::make_mut(&mut self.members).remove(member),
        };
        if let Some(instance_id) = old.and_then(|old| old.instance_id.clone())
            && self.instances.get(&instance_id) == Some(member)
        {
            Arc::make_mut(&mut self.instances).remove(&instance_id);
        }
        if let Some(instance_id) = value.and_then(|value| value.instance_id.as_ref()) {
            Arc::make_mut(&mut self.instances).insert(instance_id.clone(), member.clone());
        }
    }

    fn set_current(&mut self, member: &Arc<str>, value: Option<Current>) {
        let old = match value {
            Some(value) => Arc::make_mut(&mut self.current).insert(member.clone(), Arc::new(value)),
            None => Arc::make_mut(&mut self.current).remove(member),
        };
        for partition in old.iter().flat_map(|old| old.all_partitions()) {
            if self.owners.get(&partition) == Some(member) {
                Arc::make_mut(&mut self.owners).remove(&partition);
            }
        }
        for partition in self.current.get(member).iter().flat_map(|current| current.all_partitions()) {
            Arc::make_mut(&mut self.owners).insert(partition, member.clone());
        }
    }

    /// Nothing is recorded any more.
    pub(crate) fn is_vacant(&self) -> bool {
        self.epoch.is_none()
            && !self.partition_metadata
            && self.members.is_empty()
            && self.target_epoch.is_none()
            && self.targets.is_empty()
            && self.current.is_empty()
            && self.regexes.is_empty()
    }

    /// Raised by whatever calls for a new assignment.
    pub(crate) fn epoch(&self) -> i32 {
        self.epoch.as_ref().map_or(FIRST_EPOCH, |value| value.epoch)
    }

    /// What the topics of the group looked like at `epoch`; 0 if there were none.
    pub(crate) fn metadata_hash(&self) -> i64 {
        self.epoch.as_ref().map_or(0, |value| value.metadata_hash)
    }

    /// The group epoch for which the target assignment was made.
    pub(crate) fn target_epoch(&self) -> i32 {
        self.target_epoch.as_ref().map_or(FIRST_EPOCH, |value| value.assignment_epoch)
    }

    /// When the target assignment was made, milliseconds since 1970; `None` before the first.
    pub(crate) fn target_timestamp_ms(&self) -> Option<i64> {
        self.target_epoch.as_ref().map(|value| value.assignment_timestamp).filter(|&at_ms| at_ms > 0)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<ConsumerGroupMemberMetadataValue>)> {
        self.members.iter()
    }

    pub(crate) fn num_members(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn member(&self, member_id: &str) -> Option<(&Arc<str>, &Arc<ConsumerGroupMemberMetadataValue>)> {
        self.members.get_key_value(member_id)
    }

    /// What a member has; nothing at epoch 0 if it is new.
    pub(crate) fn current(&self, member_id: &str) -> Arc<Current> {
        self.current.get(member_id).cloned().unwrap_or_default()
    }

    pub(crate) fn target(&self, member_id: &str) -> Option<&Arc<Partitions>> {
        self.targets.get(member_id)
    }

    pub(crate) fn static_member_id(&self, instance_id: &str) -> Option<&Arc<str>> {
        self.instances.get(instance_id)
    }

    /// Who has the partition, or has not given it up yet.
    pub(crate) fn owner(&self, topic_id: Uuid, partition: i32) -> Option<&Arc<str>> {
        self.owners.get(&(topic_id, partition))
    }

    pub(crate) fn regexes(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<ConsumerGroupRegularExpressionValue>)> {
        self.regexes.iter()
    }

    pub(crate) fn regex(&self, regex: &str) -> Option<&Arc<ConsumerGroupRegularExpressionValue>> {
        self.regexes.get(regex)
    }

    /// The topics that a member reads: by name, and those its pattern stands for.
    pub(crate) fn subscription<'a>(
        &'a self,
        member: &'a ConsumerGroupMemberMetadataValue,
    ) -> impl Iterator<Item = &'a str> + 'a {
        let resolved = regex_of(member).and_then(|regex| self.regexes.get(regex));
        let by_pattern = resolved.into_iter().flat_map(|resolved| &resolved.topics);
        member.subscribed_topic_names.iter().chain(by_pattern).map(String::as_str)
    }

    /// The topics that anybody reads.
    pub(crate) fn subscribed_topics(&self) -> BTreeSet<&str> {
        let mut topics = BTreeSet::new();
        let mut patterns = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(member.subscribed_topic_names.iter().map(String::as_str));
            patterns.extend(regex_of(member));
        }
        for resolved in patterns.iter().filter_map(|&pattern| self.regexes.get(pattern)) {
            topics.extend(resolved.topics.iter().map(String::as_str));
        }
        topics
    }

    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| self.subscription(member).any(|name| name == topic))
    }

    pub(crate) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            return GroupState::Empty;
        }
        if self.epoch() > self.target_epoch() {
            return GroupState::Assigning;
        }
        let is_reconciled = |member_id: &Arc<str>| {
            let current = self.current.get(member_id);
            current.is_some_and(|current| current.state == MemberState::Stable && current.epoch == self.target_epoch())
        };
        if self.members.keys().all(is_reconciled) { GroupState::Stable } else { GroupState::Reconciling }
    }

    /// The records that end an empty group.
    pub(crate) fn tombstones(&self, group: &Arc<str>) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        let ids: BTreeSet<&Arc<str>> =
            self.members.keys().chain(self.current.keys()).chain(self.targets.keys()).collect();
        records.extend(ids.iter().map(|&id| ConsumerRecord::Current { member: id.clone(), value: None }));
        records.extend(ids.iter().map(|&id| ConsumerRecord::Target { member: id.clone(), value: None }));
        records.extend(self.regexes.keys().map(|regex| ConsumerRecord::Regex { regex: regex.clone(), value: None }));
        records.push(ConsumerRecord::TargetEpoch(None));
        records.extend(ids.iter().map(|&id| ConsumerRecord::Member { member: id.clone(), value: None }));
        records.push(ConsumerRecord::PartitionMetadata { present: false });
        records.push(ConsumerRecord::Epoch(None));
        records.into_iter().map(|record| GroupRecord::Consumer { group: group.clone(), record }).collect()
    }

    /// Recounts what is kept as indexes.
    #[cfg(test)]
    pub(crate) fn assert_invariants(&self) {
        let instances: HashMap<String, Arc<str>> =
            self.members.iter().filter_map(|(id, member)| Some((member.instance_id.clone()?, id.clone()))).collect();
        assert_eq!(*self.instances, instances);
        let mut owners = HashMap::new();
        for (id, current) in self.current.iter() {
            for partition in current.all_partitions() {
                assert_eq!(owners.insert(partition, id.clone()), None, "{partition:?} has two owners");
            }
        }
        assert_eq!(*self.owners, owners);
        assert!(self.epoch() >= self.target_epoch());
        for id in self.members.keys() {
            assert!(self.current.contains_key(id), "{id} has no current assignment");
            assert!(self.current(id).epoch <= self.target_epoch());
        }
        assert!(self.current.keys().all(|id| self.members.contains_key(id)));
        assert!(self.targets.keys().all(|id| self.members.contains_key(id)));
    }
}

/// The pattern that a member subscribes to; the empty one is none.
pub(crate) fn regex_of(member: &ConsumerGroupMemberMetadataValue) -> Option<&str> {
    member.subscribed_topic_regex.as_deref().filter(|regex| !regex.is_empty())
}
