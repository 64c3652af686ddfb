//! Adding partitions to topics.

use std::collections::BTreeSet;

use milena_common::Outcome;
use milena_common::limits::MAX_PARTITIONS_PER_BATCH;
use milena_protocol::ErrorCode;
use milena_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use milena_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use milena_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use milena_protocol::stored::metadata::MetadataRecord;

use super::topics::{all_fenced, check_assignment, new_partition};
use super::{ApiError, Cx, Decision, MutationQuota, placement};
use crate::image::partition_record;

pub(crate) fn create_partitions(
    cx: &mut Cx<'_>,
    request: &CreatePartitionsRequest,
    quota: &mut MutationQuota<'_>,
) -> Decision<CreatePartitionsResponse> {
    let mut seen = BTreeSet::new();
    let duplicates: BTreeSet<&str> =
        request.topics.iter().filter(|t| !seen.insert(t.name.as_str())).map(|t| t.name.as_str()).collect();
    let mut reported = BTreeSet::new();
    let mut records = Vec::new();
    let mut results = Vec::new();
    for topic in &request.topics {
        let added = if duplicates.contains(topic.name.as_str()) {
            if !reported.insert(topic.name.as_str()) {
                continue;
            }
            Err(ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else {
            add_to_topic(cx, topic, quota)
        };
        let (error_code, error_message) = match added {
            Ok(new) => {
                records.extend(new);
                (0, None)
            }
            Err(error) => (error.code.code(), error.message),
        };
        results.push(CreatePartitionsTopicResult { name: topic.name.clone(), error_code, error_message });
    }
    if request.validate_only {
        records.clear();
    }
    Ok(Outcome::new(records, CreatePartitionsResponse { results, ..Default::default() }))
}

fn add_to_topic(
    cx: &mut Cx<'_>,
    request: &CreatePartitionsTopic,
    quota: &mut MutationQuota<'_>,
) -> Result<Vec<MetadataRecord>, ApiError> {
    let topic = cx.image.topics.by_name(&request.name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let present = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    if request.count == present {
        return invalid(format!("Topic already has {present} partition(s)."));
    }
    if request.count < present {
        return invalid(format!(
            "The topic {} currently has {present} partition(s); {} would not be an increase.",
            topic.name, request.count
        ));
    }
    let additional = request.count - present;
    if additional > MAX_PARTITIONS_PER_BATCH {
        return Err(ApiError::new(ErrorCode::PolicyViolation, "Excessively large number of partitions per request."));
    }
    let first = topic.partitions.values().next().ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let factor = first.replicas.len();
    let replicas: Vec<Vec<i32>> = match &request.assignments {
        Some(assignments) => {
            if assignments.len() != usize::try_from(additional).unwrap_or(0) {
                let n = assignments.len();
                let message = format!(
                    "Attempted to add {additional} additional partition(s), but only {n} assignment(s) were specified."
                );
                return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
            }
            let lists = assignments.iter().map(|a| a.broker_ids.clone()).collect::<Vec<_>>();
            lists.iter().try_for_each(|list| check_assignment(cx.image, list, Some(factor)))?;
            lists
        }
        None => {
            let seed = (cx.random)().to_u128() as u64;
            placement::place(cx.image, additional, i16::try_from(factor).unwrap_or(i16::MAX), seed)?
        }
    };
    let partitions: Vec<MetadataRecord> = (present..)
        .zip(replicas)
        .map(|(n, replicas)| {
            let image = new_partition(cx.image, replicas).ok_or_else(|| all_fenced(n))?;
            Ok(MetadataRecord::Partition(partition_record(topic.id, n, &image)))
        })
        .collect::<Result<_, ApiError>>()?;
    quota(partitions.len())?;
    Ok(partitions)
}
