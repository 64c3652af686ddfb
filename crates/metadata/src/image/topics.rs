//! Topics and partitions of the image: who replicates what, and who leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_common::Uuid;

use super::SharedMap;

/// The leader of a partition that has none.
pub const NO_LEADER: i32 = -1;
/// "Leave the leader as it is", in a partition change record.
pub const NO_LEADER_CHANGE: i32 = -2;

/// Whether the leader was elected from the in-sync replicas (KIP-704).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i8)]
pub enum LeaderRecoveryState {
    /// The leader was in sync when elected.
    #[default]
    Recovered = 0,
    /// The leader was elected uncleanly and has not yet said that it recovered.
    Recovering = 1,
}

impl LeaderRecoveryState {
    /// `None` for a value that is not a state, "no change" (-1) included.
    pub fn from_i8(value: i8) -> Option<Self> {
        match value {
            0 => Some(LeaderRecoveryState::Recovered),
            1 => Some(LeaderRecoveryState::Recovering),
            _ => None,
        }
    }
}

/// One partition as the controller recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionImage {
    /// Broker ids, preferred leader first.
    pub replicas: Vec<i32>,
    /// The log directory of each replica, in the order of `replicas` (KIP-858).
    pub directories: Vec<Uuid>,
    pub isr: Vec<i32>,
    /// Replicas that a reassignment will remove when it completes (KIP-455).
    pub removing_replicas: Vec<i32>,
    /// Replicas that a reassignment is adding.
    pub adding_replicas: Vec<i32>,
    /// Replicas out of the ISR that still hold everything committed (KIP-966).
    pub elr: Vec<i32>,
    /// Replicas of the last ELR that were lost uncleanly (KIP-966).
    pub last_known_elr: Vec<i32>,
    /// `NO_LEADER` while there is none.
    pub leader: i32,
    pub leader_recovery_state: LeaderRecoveryState,
    pub leader_epoch: i32,
    /// Raised by every change of this partition.
    pub partition_epoch: i32,
}

impl PartitionImage {
    pub fn has_leader(&self) -> bool {
        self.leader != NO_LEADER
    }

    pub fn is_reassigning(&self) -> bool {
        !self.removing_replicas.is_empty() || !self.adding_replicas.is_empty()
    }

    /// The directory of `broker_id`'s replica; `UNASSIGNED_DIR` when unknown.
    pub fn directory_of(&self, broker_id: i32) -> Uuid {
        let index = self.replicas.iter().position(|&id| id == broker_id);
        index.and_then(|i| self.directories.get(i)).copied().unwrap_or(Uuid::UNASSIGNED_DIR)
    }
}

/// One topic. Partitions are numbered from 0 without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    pub name: Arc<str>,
    pub id: Uuid,
    pub partitions: BTreeMap<i32, Arc<PartitionImage>>,
}

impl TopicImage {
    pub fn partition(&self, partition: i32) -> Option<&Arc<PartitionImage>> {
        self.partitions.get(&partition)
    }
}

/// All topics, by id and by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopicsImage {
    by_id: SharedMap<Uuid, Arc<TopicImage>>,
    by_name: SharedMap<Arc<str>, Uuid>,
}

impl TopicsImage {
    pub fn by_name(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_name.get(name).and_then(|id| self.by_id.get(id))
    }

    pub fn by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.by_id.get(&id)
    }

    pub fn id_of(&self, name: &str) -> Option<Uuid> {
        self.by_name.get(name).copied()
    }

    pub fn name_of(&self, id: Uuid) -> Option<&Arc<str>> {
        self.by_id.get(&id).map(|topic| &topic.name)
    }

    pub fn partition(&self, name: &str, partition: i32) -> Option<&Arc<PartitionImage>> {
        self.by_name(name)?.partition(partition)
    }

    pub fn partition_by_id(&self, id: Uuid, partition: i32) -> Option<&Arc<PartitionImage>> {
        self.by_id(id)?.partition(partition)
    }

    /// All topics in no useful order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_id.iter().map(|(_, topic)| topic)
    }

    /// All topics by name, for what must be listed in order.
    pub fn sorted_by_name(&self) -> Vec<&Arc<TopicImage>> {
        let mut topics: Vec<_> = self.iter().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// Number of topics.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn map(&self) -> &SharedMap<Uuid, Arc<TopicImage>> {
        &self.by_id
    }

    pub(crate) fn insert_topic(&mut self, name: &str, id: Uuid) {
        let name: Arc<str> = name.into();
        self.by_name.insert(name.clone(), id);
        self.by_id.insert(id, Arc::new(TopicImage { name, id, partitions: BTreeMap::new() }));
    }

    pub(crate) fn remove_topic(&mut self, id: Uuid) -> Option<Arc<TopicImage>> {
        let topic = self.by_id.remove(&id)?;
        if self.by_name.get(&*topic.name) == Some(&id) {
            self.by_name.remove(&*topic.name);
        }
        Some(topic)
    }

    /// False when there is no such topic.
    pub(crate) fn put_partition(&mut self, id: Uuid, partition: i32, image: PartitionImage) -> bool {
        let Some(topic) = self.by_id.get_mut(&id) else {
            return false;
        };
        // copied only where another image holds it too: else a log of n changes would copy n times n partitions
        Arc::make_mut(topic).partitions.insert(partition, Arc::new(image));
        true
    }
}
