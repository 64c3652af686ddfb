//! Leaders and replicas of partitions: elections (KIP-460) and reassignments (KIP-455).

use milena_common::TopicPartition;
use milena_protocol::messages::{
    AlterPartitionReassignmentsRequest, ElectLeadersRequest, alter_partition_reassignments_request as alter,
    elect_leaders_request as elect,
};

use super::{Admin, PerPartition};
use crate::error::ClientError;

/// Which leader is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ElectionType {
    Preferred = 0,
    Unclean = 1,
}

impl Admin {
    /// Elects leaders of these partitions, or of all that need one.
    pub async fn elect_leaders(
        &self,
        kind: ElectionType,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<PerPartition<()>, ClientError> {
        let request = ElectLeadersRequest {
            election_type: kind as i8,
            topic_partitions: partitions.map(|partitions| {
                TopicPartition::by_topic(partitions)
                    .into_iter()
                    .map(|(topic, partitions)| elect::TopicPartitions { topic, partitions, ..Default::default() })
                    .collect()
            }),
            timeout_ms: self.timeout_ms(),
            ..Default::default()
        };
        let response = self.client.request_controller("electLeaders", &request).await?;
        ClientError::check(response.error_code, None, "election")?;
        let mut found = PerPartition::new();
        for topic in response.replica_election_results {
            for p in topic.partition_result {
                let tp = TopicPartition::new(topic.topic.as_str(), p.partition_id);
                let result = ClientError::check(p.error_code, p.error_message.as_deref(), &tp.to_string());
                found.insert(tp, result);
            }
        }
        Ok(found)
    }

    /// Gives partitions new replicas, or (`None`) ends the change that is under way.
    pub async fn alter_reassignments(
        &self,
        changes: &[(TopicPartition, Option<Vec<i32>>)],
        allow_replication_factor_change: bool,
    ) -> Result<PerPartition<()>, ClientError> {
        let partitions: Vec<TopicPartition> = changes.iter().map(|(tp, _)| tp.clone()).collect();
        let replicas = |topic: &str, partition: i32| {
            let found = changes.iter().find(|(tp, _)| *tp.topic == *topic && tp.partition == partition);
            found.and_then(|(_, replicas)| replicas.clone())
        };
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: self.timeout_ms(),
            allow_replication_factor_change,
            topics: TopicPartition::by_topic(&partitions)
                .into_iter()
                .map(|(name, partitions)| alter::ReassignableTopic {
                    partitions: partitions
                        .into_iter()
                        .map(|partition| alter::ReassignablePartition {
                            partition_index: partition,
                            replicas: replicas(&name, partition),
                            ..Default::default()
                        })
                        .collect(),
                    name,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let response = self.client.request_controller("alterPartitionReassignments", &request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "reassignments")?;
        let mut found = PerPartition::new();
        for topic in response.responses {
            for p in topic.partitions {
                let tp = TopicPartition::new(topic.name.as_str(), p.partition_index);
                let result = ClientError::check(p.error_code, p.error_message.as_deref(), &tp.to_string());
                found.insert(tp, result);
            }
        }
        Ok(found)
    }
}
