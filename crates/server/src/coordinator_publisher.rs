//! What the cluster's metadata mean for the coordinators: which partitions of `__consumer_offsets` and `__transaction_state` this
//! broker coordinates, which topics nobody can commit for any more, and the level of `transaction.version`.
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
