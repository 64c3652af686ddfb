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
