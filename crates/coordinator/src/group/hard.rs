//! What `__consumer_offsets` says: a function of its records, changed by `replay` alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use milena_common::{StateMachine, Uuid};
use milena_protocol::stored::group::{GroupMetadataValue, OffsetCommitValue};

use super::consumer::ConsumerGroup;
use super::record::{GroupKind, GroupRecord};

/// Recorded state of one partition of `__consumer_offsets`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Hard {
    groups: HashMap<Arc<str>, Recorded>,
    /// Offsets committed inside transactions that have not ended, by producer id.
    pending: HashMap<i64, HashMap<PendingKey, CommittedOffset>>,
    /// The producer ids in `pending`, by group.
    pending_producers: HashMap<Arc<str>, BTreeSet<i64>>,
}

/// Group, topic and partition.
type PendingKey = (Arc<str>, Arc<str>, i32);

/// What is recorded of one group; exists as long as any of it does.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Recorded {
    /// Absent on a simple group, which only has offsets.
    pub(crate) metadata: Option<GroupMetadataValue>,
    pub(crate) offsets: BTreeMap<Arc<str>, BTreeMap<i32, CommittedOffset>>,
    /// Of a group of the consumer protocol.
    pub(crate) consumer: Option<Box<ConsumerGroup>>,
    /// Keys of the records of a group of another kind.
    pub(crate) foreign: BTreeMap<Bytes, GroupKind>,
}

/// A position that a group stored.
#[derive(Debug, Clone)]
pub(crate) struct CommittedOffset {
    pub(crate) offset: i64,
    /// -1 if the client did not know it.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Box<str>,
    pub(crate) commit_timestamp_ms: i64,
    /// Set by old clients that brought their own retention time.
    pub(crate) expire_timestamp_ms: Option<i64>,
    pub(crate) topic_id: Uuid,
    /// Where the record stands in the partition: of two commits the later one counts, also when a transaction ends late.
    record_offset: i64,
}

/// `record_offset` is left out: while live it is a guess (control batches take offsets too), and only its order matters.
impl PartialEq for CommittedOffset {
    fn eq(&self, other: &Self) -> bool {
        (
            self.offset,
            self.leader_epoch,
            &self.metadata,
            self.commit_timestamp_ms,
            self.expire_timestamp_ms,
            self.topic_id,
        ) == (
            other.offset,
            other.leader_epoch,
            &other.metadata,
            other.commit_timestamp_ms,
            other.expire_timestamp_ms,
            other.topic_id,
        )
    }
}

impl StateMachine for Hard {
    type Record = GroupRecord;

    fn replay(&mut self, offset: i64, record: &GroupRecord) {
        match record {
            GroupRecord::Offset { group, topic, partition, value: None, .. } => {
                self.remove_offset(group, topic, *partition)
            }
            GroupRecord::Offset { producer_id, group, topic, partition, value: Some(value) } => {
                let committed = CommittedOffset::from_record(value, offset);
                if *producer_id == -1 {
                    self.set_offset(group, topic, *partition, committed);
                } else {
                    let key = (group.clone(), topic.clone(), *partition);
                    self.pending.entry(*producer_id).or_default().insert(key, committed);
                    self.pending_producers.entry(group.clone()).or_default().insert(*producer_id);
                }
            }
            GroupRecord::Group { group, value: Some(value) } => self.entry(group).metadata = Some(value.clone()),
            GroupRecord::Group { group, value: None } => {
                if let Some(recorded) = self.groups.get_mut(group) {
                    recorded.metadata = None;
                    self.drop_if_empty(group);
                }
            }
            GroupRecord::TransactionEnd { producer_id, committed } => {
                for ((group, topic, partition), pending) in self.pending.remove(producer_id).unwrap_or_default() {
                    self.forget_pending_producer(&group, *producer_id);
                    if *committed {
                        self.set_offset(&group, &topic, partition, pending);
                    }
                }
            }
            GroupRecord::Consumer { group, record } => {
                let consumer = self.entry(group).consumer.get_or_insert_default();
                consumer.replay(record);
                if consumer.is_vacant() {
                    self.entry(group).consumer = None;
                    self.drop_if_empty(group);
                }
            }
            GroupRecord::Foreign { group, kind, key, present: true } => {
                self.entry(group).foreign.insert(key.clone(), *kind);
            }
            GroupRecord::Foreign { group, key, present: false, .. } => {
                if let Some(recorded) = self.groups.get_mut(group) {
                    recorded.foreign.remove(key);
                    self.drop_if_empty(group);
                }
            }
            GroupRecord::Other => {}
        }
    }
}

impl Recorded {
    /// What kind of group it is, if it is neither classic nor a consumer group.
    pub(crate) fn foreign_kind(&self) -> Option<GroupKind> {
        self.foreign.values().next().copied()
    }
}

impl Hard {
    pub(crate) fn group(&self, group: &str) -> Option<&Recorded> {
        self.groups.get(group)
    }

    pub(crate) fn consumer_group(&self, group: &str) -> Option<&ConsumerGroup> {
        self.groups.get(group)?.consumer.as_deref()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Arc<str>, &Recorded)> {
        self.groups.iter()
    }

    pub(crate) fn offset(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.offsets.get(topic)?.get(&partition)
    }

    /// Whether a transaction that has not ended commits an offset there.
    pub(crate) fn has_pending_offset(&self, group: &str, topic: &str, partition: i32) -> bool {
        let Some((group, producers)) = self.pending_producers.get_key_value(group) else { return false };
        let key = (group.clone(), Arc::from(topic), partition);
        producers.iter().any(|id| self.pending.get(id).is_some_and(|of_producer| of_producer.contains_key(&key)))
    }

    pub(crate) fn has_pending_offsets(&self, group: &str) -> bool {
        self.pending_producers.contains_key(group)
    }

    pub(crate) fn groups_with_pending_offsets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pending_producers.keys()
    }

    /// What transactions that have not ended commit for a group.
    pub(crate) fn pending_offsets(&self, group: &str) -> BTreeSet<(Arc<str>, i32)> {
        let producers = self.pending_producers.get(group).into_iter().flatten();
        let pending = producers.filter_map(|id| self.pending.get(id)).flat_map(HashMap::keys);
        pending.filter(|(of, ..)| **of == *group).map(|(_, topic, partition)| (topic.clone(), *partition)).collect()
    }

    fn forget_pending_producer(&mut self, group: &Arc<str>, producer_id: i64) {
        if let Some(producers) = self.pending_producers.get_mut(group) {
            producers.remove(&producer_id);
            if producers.is_empty() {
                self.pending_producers.remove(group);
            }
        }
    }

    fn entry(&mut self, group: &Arc<str>) -> &mut Recorded {
        self.groups.entry(group.clone()).or_default()
    }

    fn set_offset(&mut self, group: &Arc<str>, topic: &Arc<str>, partition: i32, committed: CommittedOffset) {
        let partitions = self.entry(group).offsets.entry(topic.clone()).or_default();
        match partitions.get(&partition) {
            Some(known) if known.record_offset > committed.record_offset => {}
            _ => {
                partitions.insert(partition, committed);
            }
        }
    }

    fn remove_offset(&mut self, group: &Arc<str>, topic: &Arc<str>, partition: i32) {
        // Open transactions that committed it before it was removed do not bring it back.
        let key = (group.clone(), topic.clone(), partition);
        for producer_id in self.pending_producers.get(group).cloned().unwrap_or_default() {
            let Some(of_producer) = self.pending.get_mut(&producer_id) else { continue };
            if of_producer.remove(&key).is_some() && !of_producer.keys().any(|(of_group, ..)| of_group == group) {
                if of_producer.is_empty() {
                    self.pending.remove(&producer_id);
                }
                self.forget_pending_producer(group, producer_id);
            }
        }
        let Some(recorded) = self.groups.get_mut(group) else {
            return;
        };
        if let Some(partitions) = recorded.offsets.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                recorded.offsets.remove(topic);
            }
        }
        self.drop_if_empty(group);
    }

    fn drop_if_empty(&mut self, group: &Arc<str>) {
        if self.groups.get(group).is_some_and(|recorded| {
            recorded.metadata.is_none()
                && recorded.offsets.is_empty()
                && recorded.consumer.is_none()
                && recorded.foreign.is_empty()
        }) {
            self.groups.remove(group);
        }
    }
}

impl CommittedOffset {
    /// Whether it was committed for this topic, and not for an earlier one of the same name; unknown ids (zero) fit.
    pub(crate) fn may_be_of(&self, topic_id: Uuid) -> bool {
        topic_id == Uuid::ZERO || self.topic_id == Uuid::ZERO || self.topic_id == topic_id
    }

    fn from_record(value: &OffsetCommitValue, record_offset: i64) -> Self {
        CommittedOffset {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.as_str().into(),
            commit_timestamp_ms: value.commit_timestamp,
            expire_timestamp_ms: (value.expire_timestamp != -1).then_some(value.expire_timestamp),
            topic_id: value.topic_id,
            record_offset,
        }
    }
}
