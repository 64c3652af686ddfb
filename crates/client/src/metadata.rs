//! What the client knows of the cluster: brokers, topics, leaders. An immutable picture, replaced as a whole.
//!
//! Pure. [`crate::cluster::Client`] asks for it and keeps the newest.

use std::collections::{BTreeMap, HashMap};

use milena_common::Uuid;
use milena_protocol::ErrorCode;
use milena_protocol::messages::MetadataResponse;

/// A broker and where to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// One topic.
#[derive(Debug, Clone)]
pub struct Topic {
    pub name: String,
    /// Zero when the broker is too old to know ids.
    pub topic_id: Uuid,
    pub internal: bool,
    pub error: ErrorCode,
    /// In the order of partition numbers.
    pub partitions: Vec<Partition>,
}

/// One partition and its replicas.
#[derive(Debug, Clone)]
pub struct Partition {
    pub partition: i32,
    /// `None` while no leader is known.
    pub leader: Option<i32>,
    /// -1 when the broker is too old to say.
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub offline: Vec<i32>,
}

/// The cluster at one moment.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    pub cluster_id: Option<String>,
    /// The broker to send administrative requests to.
    pub controller_id: Option<i32>,
    pub nodes: BTreeMap<i32, Node>,
    pub topics: HashMap<String, Topic>,
}

impl Metadata {
    /// The picture in a response, with the topics of `known` that it does not speak of.
    pub(crate) fn merge(known: &Metadata, response: MetadataResponse) -> Metadata {
        let mut topics = known.topics.clone();
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            let mut partitions: Vec<Partition> = topic
                .partitions
                .iter()
                .map(|p| Partition {
                    partition: p.partition_index,
                    leader: (p.leader_id >= 0).then_some(p.leader_id),
                    leader_epoch: p.leader_epoch,
                    replicas: p.replica_nodes.clone(),
                    isr: p.isr_nodes.clone(),
                    offline: p.offline_replicas.clone(),
                })
                .collect();
            partitions.sort_by_key(|p| p.partition);
            let topic = Topic {
                name: name.clone(),
                topic_id: topic.topic_id,
                internal: topic.is_internal,
                error: ErrorCode::from_code(topic.error_code),
                partitions,
            };
            topics.insert(name.clone(), topic);
        }
        Metadata {
            cluster_id: response.cluster_id.clone().or_else(|| known.cluster_id.clone()),
            controller_id: (response.controller_id >= 0).then_some(response.controller_id),
            nodes: response
                .brokers
                .iter()
                .map(|b| {
                    let port = u16::try_from(b.port).unwrap_or_default();
                    (b.node_id, Node { id: b.node_id, host: b.host.clone(), port, rack: b.rack.clone() })
                })
                .collect(),
            topics,
        }
    }

    /// The partition, when its topic is known and without error.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        let topic = self.topics.get(topic)?;
        let index = usize::try_from(partition).ok()?;
        topic.partitions.get(index).filter(|p| p.partition == partition)
    }

    /// The broker that leads the partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.partition(topic, partition)?.leader
    }
}
