//! What the cluster's metadata mean for groups: what their members can read, which partitions of `__consumer_offsets` this broker
//! coordinates, and which topics nobody can commit for any more.
//!
//! Decides nothing else and keeps nothing; the loading of groups goes on in tasks of its own. Registered by `node.rs` after the
//! `ReplicaManager`, so that the logs are there when a load begins.

use std::sync::Arc;

use milena_coordinator::GroupCoordinator;
use milena_metadata::image::MetadataImage;
use milena_metadata::{MetadataDelta, MetadataPublisher};
use tokio::runtime::Handle;

use crate::auto_topics::GROUP_METADATA_TOPIC;

/// See the module.
pub(crate) struct GroupPublisher {
    node_id: i32,
    groups: GroupCoordinator,
    /// The loader's thread may be none of the runtime's.
    runtime: Handle,
}

impl GroupPublisher {
    /// Needs a tokio runtime, on which groups will be loaded.
    pub(crate) fn new(node_id: i32, groups: GroupCoordinator) -> GroupPublisher {
        GroupPublisher { node_id, groups, runtime: Handle::current() }
    }

    /// The topic's number of partitions decides which of them a group belongs to, so it stays what it was when the topic was first seen:
    /// as in Kafka, partitions that are added later count from the next start on.
    fn learn_num_partitions(&self, delta: &MetadataDelta, image: &MetadataImage) {
        let is_new = delta.created_topics.iter().any(|topic| &*topic.name == GROUP_METADATA_TOPIC);
        if !is_new {
            return;
        }
        if let Some(topic) = image.topics.by_name(GROUP_METADATA_TOPIC) {
            self.groups.set_num_partitions(i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
        }
    }
}

impl MetadataPublisher for GroupPublisher {
    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        // Before groups are loaded, whose members may be answered at once.
        let topics_changed = !delta.changed_partitions.is_empty()
            || !delta.deleted_topics.is_empty()
            || !delta.changed_brokers.is_empty();
        self.groups.on_metadata_update(Arc::clone(image), topics_changed);
        for topic in delta.deleted_topics.iter().filter(|topic| &*topic.name == GROUP_METADATA_TOPIC) {
            for (&partition, replica) in &topic.partitions {
                if replica.leader == self.node_id {
                    self.groups.on_resignation(partition);
                }
            }
        }
        self.learn_num_partitions(delta, image);
        for changed in delta.changed_partitions.iter().filter(|changed| &*changed.topic == GROUP_METADATA_TOPIC) {
            let led = changed.old.as_ref().filter(|old| old.leader == self.node_id).map(|old| old.leader_epoch);
            let leads = Some(&changed.new).filter(|new| new.leader == self.node_id).map(|new| new.leader_epoch);
            match (led, leads) {
                (_, Some(leader_epoch)) if led != Some(leader_epoch) => {
                    self.runtime.spawn(self.groups.on_election(changed.partition, leader_epoch));
                }
                (Some(_), None) => self.groups.on_resignation(changed.partition),
                _ => {}
            }
        }
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
    use milena_coordinator::testing::MemoryLog;
    use milena_coordinator::{GroupConfig, GroupContext};
    use milena_protocol::ErrorCode;
    use milena_protocol::messages::HeartbeatRequest;
    use milena_protocol::stored::metadata::{
        MetadataRecord, PartitionChangeRecord, PartitionRecord, RemoveTopicRecord, TopicRecord,
    };

    use super::*;

    const NODE: i32 = 1;

    struct World {
        groups: GroupCoordinator,
        publisher: GroupPublisher,
        image: Arc<MetadataImage>,
    }

    impl World {
        fn new() -> World {
            let clock = Arc::new(SystemClock);
            let groups = GroupCoordinator::new(GroupConfig::default(), Arc::new(MemoryLog::default()), clock);
            World { publisher: GroupPublisher::new(NODE, groups.clone()), groups, image: Arc::default() }
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
