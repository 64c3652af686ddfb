//! Moves of replicas from broker to broker: begun, called off, listed (KIP-455, KIP-860).

use milena_common::Outcome;
use milena_protocol::ErrorCode;
use milena_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use milena_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use milena_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use milena_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
};
use milena_protocol::stored::metadata::MetadataRecord;

use super::partition_change::Election;
use super::{ApiError, Cx, Decision, cluster, config, replication, topics};
use crate::image::{MetadataImage, PartitionImage, TopicImage};

pub(crate) fn alter(
    cx: &mut Cx<'_>,
    request: &AlterPartitionReassignmentsRequest,
) -> Decision<AlterPartitionReassignmentsResponse> {
    let mut records = Vec::new();
    let keep_factor = !request.allow_replication_factor_change;
    let responses: Vec<_> =
        request.topics.iter().map(|topic| alter_topic(cx, topic, keep_factor, &mut records)).collect();
    let response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        // Kafka's words for nothing asked and for nothing wrong differ
        error_message: responses.is_empty().then(String::new),
        responses,
        ..Default::default()
    };
    Ok(Outcome::new(records, response))
}

fn alter_topic(
    cx: &Cx<'_>,
    asked: &ReassignableTopic,
    keep_factor: bool,
    records: &mut Vec<MetadataRecord>,
) -> ReassignableTopicResponse {
    let topic = cx.image.topics.by_name(&asked.name);
    let one = |asked_partition: &ReassignablePartition| {
        let altered = match topic {
            Some(topic) => alter_one(cx, topic, asked_partition, keep_factor),
            None => {
                let message = format!("Unable to find a topic named {}.", asked.name);
                Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message))
            }
        };
        let (error_code, error_message) = match altered {
            Ok(record) => {
                records.extend(record);
                (0, None)
            }
            Err(error) => (error.code.code(), error.message),
        };
        let partition_index = asked_partition.partition_index;
        ReassignablePartitionResponse { partition_index, error_code, error_message }
    };
    ReassignableTopicResponse { name: asked.name.clone(), partitions: asked.partitions.iter().map(one).collect() }
}

fn alter_one(
    cx: &Cx<'_>,
    topic: &TopicImage,
    asked: &ReassignablePartition,
    keep_factor: bool,
) -> Result<Option<MetadataRecord>, ApiError> {
    let old = topic.partition(asked.partition_index).ok_or_else(|| {
        let message = format!("Unable to find partition {}:{}.", topic.name, asked.partition_index);
        ApiError::new(ErrorCode::UnknownTopicOrPartition, message)
    })?;
    let acceptable = |id: i32| cluster::is_active(cx.image, id) && replication::online(cx.image, old, id);
    let directory = |id| cluster::default_directory(cx.image, id);
    let mut change = replication::unchanged(cx, topic, asked.partition_index, old, &acceptable, &directory);
    match &asked.replicas {
        Some(target) => {
            topics::check_assignment(cx.image, target, None)?;
            if keep_factor {
                check_factor(old, target)?;
            }
            let original = without(&old.replicas, &old.adding_replicas);
            change.target_adding = without(target, &original);
            change.target_removing = without(&original, target);
            change.target_replicas = target.iter().chain(&change.target_removing).copied().collect();
        }
        None if !is_reassigning(old) => return Err(ErrorCode::NoReassignmentInProgress.into()),
        None => {
            change.target_replicas = without(&old.replicas, &old.adding_replicas);
            change.target_isr = without(&old.isr, &old.adding_replicas);
            change.target_adding.clear();
            change.target_removing.clear();
            if change.target_isr.is_empty() {
                // only replicas that came with the move are in sync: going back may lose records
                if !config::unclean_election(cx, &topic.name) {
                    let message = format!(
                        "Can't revert the reassignment of {}-{}: no replica from before it is in sync, and unclean elections are disabled.",
                        topic.name, asked.partition_index
                    );
                    return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
                }
                change.election = Election::Unclean;
            }
        }
    }
    Ok(change.build().map(MetadataRecord::PartitionChange))
}

/// What a partition moves to has as many replicas as what it moves from, or what it moves to already.
fn check_factor(old: &PartitionImage, target: &[i32]) -> Result<(), ApiError> {
    let present = without(&old.replicas, &old.removing_replicas).len();
    if present != target.len() {
        let message = format!("The replication factor is changed from {present} to {}", target.len());
        return Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
    }
    Ok(())
}

fn without(list: &[i32], gone: &[i32]) -> Vec<i32> {
    list.iter().copied().filter(|id| !gone.contains(id)).collect()
}

fn is_reassigning(partition: &PartitionImage) -> bool {
    !partition.adding_replicas.is_empty() || !partition.removing_replicas.is_empty()
}

/// The moves that go on, of all partitions or of those that are named.
pub(crate) fn list(
    image: &MetadataImage,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let topics: Vec<_> = match &request.topics {
        None => image.topics.iter().filter_map(|topic| list_topic(topic, None)).collect(),
        Some(asked) => {
            let known = |name: &str| image.topics.by_name(name);
            asked.iter().filter_map(|a| list_topic(known(&a.name)?, Some(&a.partition_indexes))).collect()
        }
    };
    ListPartitionReassignmentsResponse { error_message: None, topics, ..Default::default() }
}

fn list_topic(topic: &TopicImage, asked: Option<&[i32]>) -> Option<OngoingTopicReassignment> {
    let named = |index: i32| asked.is_none_or(|asked| asked.contains(&index));
    let moving = topic.partitions.iter().filter(|(index, partition)| named(**index) && is_reassigning(partition));
    let partitions: Vec<_> = moving
        .map(|(&partition_index, partition)| OngoingPartitionReassignment {
            partition_index,
            replicas: partition.replicas.clone(),
            adding_replicas: partition.adding_replicas.clone(),
            removing_replicas: partition.removing_replicas.clone(),
        })
        .collect();
    let name = topic.name.to_string();
    (!partitions.is_empty()).then_some(OngoingTopicReassignment { name, partitions })
}
