//! Elections that an operator asks for: the preferred replica, or any that is alive (KIP-183, KIP-460).

use milena_common::Outcome;
use milena_protocol::ErrorCode;
use milena_protocol::messages::elect_leaders_request::TopicPartitions;
use milena_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use milena_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use milena_protocol::stored::metadata::MetadataRecord;

use super::partition_change::Election;
use super::{ApiError, Cx, Decision, cluster, replication};
use crate::image::TopicImage;

pub(crate) fn elect_leaders(cx: &mut Cx<'_>, request: &ElectLeadersRequest) -> Decision<ElectLeadersResponse> {
    let election = match request.election_type {
        0 => Election::Preferred,
        1 => Election::Unclean,
        other => return Err(ApiError::new(ErrorCode::InvalidRequest, format!("Unknown election type {other}"))),
    };
    let mut records = Vec::new();
    let results = match &request.topic_partitions {
        Some(topics) => topics.iter().map(|asked| named(cx, election, asked, &mut records)).collect(),
        None => cx.image.topics.iter().map(|topic| whole(cx, election, topic, &mut records)).collect(),
    };
    Ok(Outcome::new(records, ElectLeadersResponse { replica_election_results: results, ..Default::default() }))
}

fn named(
    cx: &Cx<'_>,
    election: Election,
    asked: &TopicPartitions,
    records: &mut Vec<MetadataRecord>,
) -> ReplicaElectionResult {
    let topic = cx.image.topics.by_name(&asked.topic);
    let one = |&partition: &i32| {
        let elected = match topic {
            Some(topic) => elect(cx, election, topic, partition),
            None => {
                let message = format!("No such topic as {}", asked.topic);
                Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message))
            }
        };
        result(partition, elected.map(|record| records.push(record)))
    };
    ReplicaElectionResult { topic: asked.topic.clone(), partition_result: asked.partitions.iter().map(one).collect() }
}

/// Every partition of a topic; those that need no election are not spoken of.
fn whole(
    cx: &Cx<'_>,
    election: Election,
    topic: &TopicImage,
    records: &mut Vec<MetadataRecord>,
) -> ReplicaElectionResult {
    let mut partition_result = Vec::new();
    for &partition in topic.partitions.keys() {
        match elect(cx, election, topic, partition) {
            Err(error) if error.code == ErrorCode::ElectionNotNeeded => {}
            elected => partition_result.push(result(partition, elected.map(|record| records.push(record)))),
        }
    }
    ReplicaElectionResult { topic: topic.name.to_string(), partition_result }
}

fn elect(cx: &Cx<'_>, election: Election, topic: &TopicImage, partition: i32) -> Result<MetadataRecord, ApiError> {
    let old = topic.partition(partition).ok_or_else(|| {
        let message = format!("No such partition as {}-{partition}", topic.name);
        ApiError::new(ErrorCode::UnknownTopicOrPartition, message)
    })?;
    let needed = match election {
        Election::Preferred => old.replicas.first() != Some(&old.leader),
        _ => !old.has_leader(),
    };
    if !needed {
        return Err(ErrorCode::ElectionNotNeeded.into());
    }
    let acceptable = |id: i32| cluster::is_active(cx.image, id) && replication::online(cx.image, old, id);
    let directory = |id| cluster::default_directory(cx.image, id);
    let mut change = replication::unchanged(cx, topic, partition, old, &acceptable, &directory);
    change.election = election;
    let unavailable = match election {
        Election::Preferred => ErrorCode::PreferredLeaderNotAvailable,
        _ => ErrorCode::EligibleLeadersNotAvailable,
    };
    change.build().map(MetadataRecord::PartitionChange).ok_or_else(|| unavailable.into())
}

fn result(partition_id: i32, elected: Result<(), ApiError>) -> PartitionResult {
    let (error_code, error_message) = match elected {
        Ok(()) => (0, None),
        Err(error) => (error.code.code(), Some(error.text().to_owned())),
    };
    PartitionResult { partition_id, error_code, error_message }
}
