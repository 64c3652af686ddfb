//! The records of a group of the consumer protocol (KIP-848) by meaning; their bytes are `group/record.rs`'s.

use std::sync::Arc;

use milena_protocol::stored::group::{
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataValue,
};

/// One record of a group; `None` is a tombstone.
#[derive(Debug, Clone, PartialEq)]
pub enum ConsumerRecord {
    /// The group's epoch, and what its topics looked like then.
    Epoch(Option<ConsumerGroupMetadataValue>),
    /// Partitions and racks of the topics, as Kafka up to 4.0 kept them. Only removed.
    PartitionMetadata { present: bool },
    /// What a member said of itself.
    Member { member: Arc<str>, value: Option<ConsumerGroupMemberMetadataValue> },
    /// The epoch of the target assignment.
    TargetEpoch(Option<ConsumerGroupTargetAssignmentMetadataValue>),
    /// What a member is to get.
    Target { member: Arc<str>, value: Option<ConsumerGroupTargetAssignmentMemberValue> },
    /// What a member has.
    Current { member: Arc<str>, value: Option<ConsumerGroupCurrentMemberAssignmentValue> },
    /// The topics that a pattern stood for.
    Regex { regex: Arc<str>, value: Option<ConsumerGroupRegularExpressionValue> },
}

impl ConsumerRecord {
    /// At most the bytes of the encoded value, give or take a few per item; cheap, for refusing what no batch takes before it is written.
    pub(crate) fn size_in_bytes(&self) -> usize {
        const FIXED: usize = 128;
        let names = |names: &[String]| names.iter().map(|name| name.len() + 4).sum::<usize>();
        FIXED
            + match self {
                ConsumerRecord::Member { value: Some(value), .. } => {
                    let classic = value.classic_member_metadata.iter().flat_map(|classic| &classic.supported_protocols);
                    names(&value.subscribed_topic_names)
                        + value.client_id.len()
                        + value.client_host.len()
                        + classic.map(|protocol| protocol.name.len() + protocol.metadata.len() + 8).sum::<usize>()
                        + [&value.instance_id, &value.rack_id, &value.subscribed_topic_regex, &value.server_assignor]
                            .into_iter()
                            .flatten()
                            .map(String::len)
                            .sum::<usize>()
                }
                ConsumerRecord::Target { value: Some(value), .. } => {
                    value.topic_partitions.iter().map(|topic| 24 + 4 * topic.partitions.len()).sum()
                }
                ConsumerRecord::Current { value: Some(value), .. } => {
                    let topics = value.assigned_partitions.iter().chain(&value.partitions_pending_revocation);
                    topics.map(|topic| 40 + 8 * topic.partitions.len()).sum()
                }
                ConsumerRecord::Regex { value: Some(value), .. } => names(&value.topics),
                _ => 0,
            }
    }
}
