//! What the cluster's metadata mean for groups: which partitions of `__consumer_offsets` this broker coordinates, and which topics
//! nobody can commit for any more.
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
