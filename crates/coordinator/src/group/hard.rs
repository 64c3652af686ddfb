//! What `__consumer_offsets` says: a function of its records, changed by `replay` alone.

use std::collections::{BTreeMap, HashMap};
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
    pending: HashMap<i64, Vec<PendingOffset>>,
}

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

#[derive(Debug, Clone, PartialEq)]
struct PendingOffset {
    group: Arc<str>,
    topic: Arc<str>,
    partition: i32,
    committed: CommittedOffset,
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
                    self.set_pending(
                        *producer_id,
                        PendingOffset { group: group.clone(), topic: topic.clone(), partition: *partition, committed },
                    );
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
                for pending in self.pending.remove(producer_id).unwrap_or_default() {
                    if *committed {
                        self.set_offset(&pending.group, &pending.topic, pending.partition, pending.committed);
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
        self.pending
            .values()
            .flatten()
            .any(|pending| &*pending.group == group && &*pending.topic == topic && pending.partition == partition)
    }

    pub(crate) fn has_pending_offsets(&self, group: &str) -> bool {
        self.pending.values().flatten().any(|pending| &*pending.group == group)
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

    fn set_pending(&mut self, producer_id: i64, pending: PendingOffset) {
        let of_producer = self.pending.entry(producer_id).or_default();
        let same = |known: &PendingOffset| {
            (&known.group, &known.topic, known.partition) == (&pending.group, &pending.topic, pending.partition)
        };
        match of_producer.iter_mut().find(|known| same(known)) {
            Some(known) => *known = pending,
            None => of_producer.push(pending),
        }
    }

    fn remove_offset(&mut self, group: &Arc<str>, topic: &Arc<str>, partition: i32) {
        // Open transactions that committed it before it was removed do not bring it back.
        let same =
            |pending: &PendingOffset| (&pending.group, &pending.topic, pending.partition) == (group, topic, partition);
        self.pending.retain(|_, of_producer| {
            of_producer.retain(|pending| !same(pending));
            !of_producer.is_empty()
        });
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
