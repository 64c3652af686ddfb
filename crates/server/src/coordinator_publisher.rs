//! What the cluster's metadata mean for the coordinators: which partitions of `__consumer_offsets` and `__transaction_state` this
//! broker coordinates, what members of groups can read, which topics nobody can commit for any more, and the level of
//! `transaction.version`.
//!
//! Decides nothing else and keeps nothing; the loading goes on in tasks of its own. Registered by `node.rs` after the
//! `ReplicaManager`, so that the logs are there when a load begins.

use std::sync::Arc;

use milena_coordinator::{GroupCoordinator, TransactionCoordinator};
use milena_metadata::image::MetadataImage;
use milena_metadata::{MetadataDelta, MetadataPublisher};
use tokio::runtime::Handle;

use crate::auto_topics::{GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC};

/// See the module.
pub(crate) struct CoordinatorPublisher {
    node_id: i32,
    groups: GroupCoordinator,
    transactions: TransactionCoordinator,
    /// The loader's thread may be none of the runtime's.
    runtime: Handle,
}

/// What became of a partition that a coordinator keeps its state in.
enum Change {
    /// This broker leads it in a new epoch.
    Elected { partition: i32, leader_epoch: i32 },
    /// This broker leads it no more.
    Resigned { partition: i32 },
}

impl CoordinatorPublisher {
    /// Needs a tokio runtime, on which partitions will be loaded.
    pub(crate) fn new(node_id: i32, groups: GroupCoordinator, transactions: TransactionCoordinator) -> Self {
        CoordinatorPublisher { node_id, groups, transactions, runtime: Handle::current() }
    }

    /// In order: what went with a topic that was deleted comes before what its successor brings.
    fn changes(&self, delta: &MetadataDelta, topic: &str) -> Vec<Change> {
        let mut changes = Vec::new();
        for deleted in delta.deleted_topics.iter().filter(|deleted| &*deleted.name == topic) {
            let led = deleted.partitions.iter().filter(|(_, replica)| replica.leader == self.node_id);
            changes.extend(led.map(|(&partition, _)| Change::Resigned { partition }));
        }
        for changed in delta.changed_partitions.iter().filter(|changed| &*changed.topic == topic) {
            let partition = changed.partition;
            let led = changed.old.as_ref().filter(|old| old.leader == self.node_id).map(|old| old.leader_epoch);
            let leads = Some(&changed.new).filter(|new| new.leader == self.node_id).map(|new| new.leader_epoch);
            match (led, leads) {
                (_, Some(leader_epoch)) if led != Some(leader_epoch) => {
                    changes.push(Change::Elected { partition, leader_epoch });
                }
                (Some(_), None) => changes.push(Change::Resigned { partition }),
                _ => {}
            }
        }
        changes
    }

    fn follow_groups(&self, delta: &MetadataDelta, image: &MetadataImage) {
        let changes = self.changes(delta, GROUP_METADATA_TOPIC);
        if let Some(num_partitions) = num_partitions_of_new(delta, image, GROUP_METADATA_TOPIC) {
            self.groups.set_num_partitions(num_partitions);
        }
        for change in changes {
            match change {
                Change::Elected { partition, leader_epoch } => {
                    self.runtime.spawn(self.groups.on_election(partition, leader_epoch));
                }
                Change::Resigned { partition } => self.groups.on_resignation(partition),
            }
        }
    }

    fn follow_transactions(&self, delta: &MetadataDelta, image: &MetadataImage) {
        self.transactions.set_transaction_version(image.features.level("transaction.version"));
        let changes = self.changes(delta, TRANSACTION_STATE_TOPIC);
        if let Some(num_partitions) = num_partitions_of_new(delta, image, TRANSACTION_STATE_TOPIC) {
            self.transactions.set_num_partitions(num_partitions);
        }
        for change in changes {
            match change {
                Change::Elected { partition, leader_epoch } => {
                    self.runtime.spawn(self.transactions.on_election(partition, leader_epoch));
                }
                Change::Resigned { partition } => self.transactions.on_resignation(partition),
            }
        }
    }
}

/// The number of partitions decides which of them an id belongs to, so it stays what it was when the topic was first seen: as in
/// Kafka, partitions that are added later count from the next start on.
fn num_partitions_of_new(delta: &MetadataDelta, image: &MetadataImage, topic: &str) -> Option<i32> {
    delta.created_topics.iter().find(|created| &*created.name == topic)?;
    let partitions = image.topics.by_name(topic)?.partitions.len();
    Some(i32::try_from(partitions).unwrap_or(i32::MAX))
}

impl MetadataPublisher for CoordinatorPublisher {
    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        // Before groups are loaded, whose members may be answered at once.
        let topics_changed = !delta.changed_partitions.is_empty()
            || !delta.deleted_topics.is_empty()
            || !delta.changed_brokers.is_empty();
        self.groups.on_metadata_update(Arc::clone(image), topics_changed);
        self.follow_groups(delta, image);
        self.follow_transactions(delta, image);
        let gone: Vec<String> = (delta.deleted_topics.iter())
            .map(|topic| topic.name.to_string())
            .filter(|name| name != GROUP_METADATA_TOPIC)
            .collect();
        if !gone.is_empty() {
            let groups = self.groups.clone();
            self.runtime.spawn(async move { groups.on_topics_deleted(gone).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use milena_common::{StateMachine, SystemClock, Uuid};
    use milena_coordinator::testing::{MemoryLog, MemoryOutside};
    use milena_coordinator::{GroupConfig, GroupContext, TxnConfig};
    use milena_protocol::ErrorCode;
    use milena_protocol::messages::HeartbeatRequest;
    use milena_protocol::stored::metadata::{
        MetadataRecord, PartitionChangeRecord, PartitionRecord, RemoveTopicRecord, TopicRecord,
    };

    use super::*;

    const NODE: i32 = 1;

    struct World {
        groups: GroupCoordinator,
        publisher: CoordinatorPublisher,
        image: Arc<MetadataImage>,
    }

    impl World {
        fn new() -> World {
            let clock = Arc::new(SystemClock);
            let log = Arc::new(MemoryLog::default());
            let groups = GroupCoordinator::new(GroupConfig::default(), log.clone(), clock.clone());
            let outside = Arc::new(MemoryOutside::default());
            let transactions = TransactionCoordinator::new(TxnConfig::default(), log, outside.clone(), outside, clock);
            let publisher = CoordinatorPublisher::new(NODE, groups.clone(), transactions);
            World { publisher, groups, image: Arc::default() }
        }

        fn publish(&mut self, records: &[MetadataRecord]) {
            let mut image = MetadataImage::clone(&self.image);
            for record in records {
                image.replay(image.last_offset() + 1, record);
            }
            let image = Arc::new(image);
            self.publisher.on_metadata_update(&MetadataDelta::between(&self.image, &image), &image);
            self.image = image;
        }

        /// What a stranger is told: UNKNOWN_MEMBER_ID by a coordinator, NONE by one that still loads.
        async fn heartbeat(&self) -> ErrorCode {
            let cx = GroupContext { client_id: String::new(), client_host: "/127.0.0.1".into(), api_version: 4 };
            let request = HeartbeatRequest { group_id: "g".into(), member_id: "m".into(), ..Default::default() };
            ErrorCode::from_code(self.groups.heartbeat(cx, request).await.error_code)
        }

        async fn loaded(&self) {
            while self.heartbeat().await != ErrorCode::UnknownMemberId {
                tokio::task::yield_now().await;
            }
        }
    }

    fn topic(id: Uuid, leaders: &[i32]) -> Vec<MetadataRecord> {
        let partition = |(partition_id, &leader): (usize, &i32)| {
            MetadataRecord::Partition(PartitionRecord {
                partition_id: partition_id as i32,
                topic_id: id,
                replicas: vec![leader],
                isr: vec![leader],
                leader,
                ..Default::default()
            })
        };
        let topic = MetadataRecord::Topic(TopicRecord { name: GROUP_METADATA_TOPIC.into(), topic_id: id });
        std::iter::once(topic).chain(leaders.iter().enumerate().map(partition)).collect()
    }

    fn leader(id: Uuid, leader: i32) -> MetadataRecord {
        MetadataRecord::PartitionChange(PartitionChangeRecord {
            topic_id: id,
            partition_id: 0,
            leader,
            isr: Some(vec![leader]),
            replicas: Some(vec![leader]),
            ..Default::default()
        })
    }

    #[tokio::test]
    async fn coordinates_what_it_leads() {
        let (id, mut world) = (Uuid::from_u128(1 << 64), World::new());
        assert_eq!(world.heartbeat().await, ErrorCode::NotCoordinator);
        world.publish(&topic(id, &[NODE]));
        world.loaded().await;
        world.publish(&[leader(id, 2)]);
        assert_eq!(world.heartbeat().await, ErrorCode::NotCoordinator);
        // A resignation is not overtaken by a load that only just began.
        world.publish(&[leader(id, NODE)]);
        world.publish(&[leader(id, 2)]);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.heartbeat().await, ErrorCode::NotCoordinator);
        world.publish(&[leader(id, NODE)]);
        world.loaded().await;
        world.groups.shutdown();
        world.publish(&[leader(id, 2)]);
        world.publish(&[leader(id, NODE)]);
        assert_eq!(world.heartbeat().await, ErrorCode::NotCoordinator, "a broker that stops takes no partition");
    }

    #[tokio::test]
    async fn follows_the_topic_and_its_number_of_partitions() {
        let (id, mut world) = (Uuid::from_u128(1 << 64), World::new());
        world.publish(&topic(id, &[NODE; 7]));
        assert_eq!(world.groups.partition_for("group"), milena_coordinator::partition_for("group", 7));
        world.publish(&[MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: id })]);
        assert_eq!(world.heartbeat().await, ErrorCode::NotCoordinator);
        // Gone and made again between two images.
        let again = Uuid::from_u128(2 << 64);
        world.publish(&topic(again, &[NODE; 3]));
        world.loaded().await;
        let mut records = vec![MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: again })];
        records.extend(topic(id, &[2; 5]));
        world.publish(&records);
        assert_eq!(world.heartbeat().await, ErrorCode::NotCoordinator);
        assert_eq!(world.groups.partition_for("group"), milena_coordinator::partition_for("group", 5));
    }
}
