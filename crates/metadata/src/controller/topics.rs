//! Creating and deleting topics.

use std::collections::{BTreeMap, BTreeSet};

use milena_common::limits::{MAX_PARTITIONS_PER_BATCH, MAX_TOPIC_NAME_BYTES};
use milena_common::{Outcome, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use milena_protocol::messages::create_topics_response::CreatableTopicResult;
use milena_protocol::messages::delete_topics_response::DeletableTopicResult;
use milena_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse};
use milena_protocol::stored::metadata::{ConfigRecord, MetadataRecord, RemoveTopicRecord, TopicRecord};

use super::{ApiError, Cx, Decision, MutationQuota, cluster, config, placement};
use crate::image::{MetadataImage, NO_LEADER, PartitionImage, ResourceType, TopicImage, partition_record};

const METADATA_TOPIC: &str = "__cluster_metadata";

pub(crate) fn create_topics(
    cx: &mut Cx<'_>,
    request: &CreateTopicsRequest,
    quota: &mut MutationQuota<'_>,
) -> Decision<CreateTopicsResponse> {
    check_total(&request.topics, cx.config.broker.num_partitions)?;
    let mut seen = BTreeSet::new();
    let duplicates: BTreeSet<&str> =
        request.topics.iter().filter(|t| !seen.insert(t.name.as_str())).map(|t| t.name.as_str()).collect();
    let mut reported = BTreeSet::new();
    let mut records = Vec::new();
    let mut topics = Vec::new();
    for topic in &request.topics {
        if duplicates.contains(topic.name.as_str()) {
            if reported.insert(topic.name.as_str()) {
                topics.push(failed(&topic.name, ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic name.")));
            }
            continue;
        }
        match create_one(cx, topic, quota) {
            Ok((result, new)) => {
                records.extend(new);
                topics.push(result);
            }
            Err(error) => topics.push(failed(&topic.name, error)),
        }
    }
    if request.validate_only {
        records.clear();
        // Nothing was created: there is no id to tell.
        topics.iter_mut().for_each(|topic| topic.topic_id = Uuid::ZERO);
    }
    Ok(Outcome::new(records, CreateTopicsResponse { topics, ..Default::default() }))
}

fn check_total(topics: &[CreatableTopic], default_partitions: i32) -> Result<(), ApiError> {
    let mut total: i64 = 0;
    for topic in topics {
        let asked = match (topic.assignments.len(), topic.num_partitions) {
            (0, -1) => default_partitions,
            (0, n) => n.max(0),
            (n, _) => i32::try_from(n).unwrap_or(i32::MAX),
        };
        total += i64::from(asked);
    }
    if total > i64::from(MAX_PARTITIONS_PER_BATCH) {
        return Err(ApiError::new(ErrorCode::PolicyViolation, "Excessively large number of partitions per request."));
    }
    Ok(())
}

fn failed(name: &str, error: ApiError) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.to_owned(),
        error_code: error.code.code(),
        error_message: told(&error),
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    }
}

/// Like Kafka's, the answer to who is over its quota has no words.
fn told(error: &ApiError) -> Option<String> {
    (error.code != ErrorCode::ThrottlingQuotaExceeded).then(|| error.text().to_owned())
}

/// Checks a topic's name as such (KIP-0; the rules clients know too).
pub fn check_name(name: &str) -> Result<(), ApiError> {
    let why = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        _ if name.len() > MAX_TOPIC_NAME_BYTES => {
            format!("the length of '{name}' is longer than the max allowed length {MAX_TOPIC_NAME_BYTES}")
        }
        _ if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) => {
            format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
        }
        _ => return Ok(()),
    };
    Err(ApiError::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {why}")))
}

/// Names that differ only in `.` and `_` would share a metric. Like Kafka's controller, this one looks at the topics that are there, not
/// at those of the same request.
fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

fn check_free(image: &MetadataImage, name: &str) -> Result<(), ApiError> {
    if name == METADATA_TOPIC {
        let message = format!("Creation of internal topic {METADATA_TOPIC} is prohibited.");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    check_name(name)?;
    if image.topics.by_name(name).is_some() {
        return Err(ApiError::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let key = collision_key(name);
    if let Some(other) = image.topics.iter().map(|topic| &*topic.name).find(|other| collision_key(other) == key) {
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        return Err(ApiError::new(ErrorCode::InvalidTopicException, message));
    }
    Ok(())
}

fn create_one(
    cx: &mut Cx<'_>,
    topic: &CreatableTopic,
    quota: &mut MutationQuota<'_>,
) -> Result<(CreatableTopicResult, Vec<MetadataRecord>), ApiError> {
    check_free(cx.image, &topic.name)?;
    let mut configs = BTreeMap::new();
    for entry in &topic.configs {
        let value = entry.value.clone().ok_or_else(|| {
            ApiError::new(
                ErrorCode::InvalidConfig,
                format!("Null value not supported for topic configs: {}", entry.name),
            )
        })?;
        config::check_length(&entry.name, &value)?;
        configs.insert(entry.name.clone(), value);
    }
    config::check_topic(cx, &configs)?;
    let partitions = if topic.assignments.is_empty() { placed(cx, topic)? } else { assigned(cx, topic)? };
    quota(partitions.len())?;
    let id = (cx.random)();
    let mut records = vec![MetadataRecord::Topic(TopicRecord { name: topic.name.clone(), topic_id: id })];
    records.extend(configs.iter().map(|(name, value)| {
        MetadataRecord::Config(ConfigRecord {
            resource_type: ResourceType::Topic as i8,
            resource_name: topic.name.clone(),
            name: name.clone(),
            value: Some(value.clone()),
        })
    }));
    let replication_factor = partitions.first().map_or(0, |p| p.replicas.len());
    let result = CreatableTopicResult {
        name: topic.name.clone(),
        topic_id: id,
        num_partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(replication_factor).unwrap_or(i16::MAX),
        configs: Some(config::described(cx, &configs)),
        error_message: None,
        ..Default::default()
    };
    records.extend((0..).zip(&partitions).map(|(n, image)| MetadataRecord::Partition(partition_record(id, n, image))));
    Ok((result, records))
}

/// Partitions whose replicas the controller chooses.
fn placed(cx: &mut Cx<'_>, topic: &CreatableTopic) -> Result<Vec<PartitionImage>, ApiError> {
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
    }
    if topic.num_partitions < -1 || topic.num_partitions == 0 {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    }
    let partitions = if topic.num_partitions == -1 { cx.config.broker.num_partitions } else { topic.num_partitions };
    let default = i16::try_from(cx.config.broker.default_replication_factor).unwrap_or(i16::MAX);
    let factor = if topic.replication_factor == -1 { default } else { topic.replication_factor };
    let seed = (cx.random)().to_u128() as u64;
    let replicas = placement::place(cx.image, partitions, factor, seed)?;
    replicas
        .into_iter()
        .map(|replicas| {
            let why = || ApiError::new(ErrorCode::InvalidReplicationFactor, format!("Unable to replicate the partition {factor} time(s): All brokers are currently fenced or in controlled shutdown."));
            new_partition(cx.image, replicas).ok_or_else(why)
        })
        .collect()
}

/// Partitions whose replicas the client chose.
fn assigned(cx: &Cx<'_>, topic: &CreatableTopic) -> Result<Vec<PartitionImage>, ApiError> {
    let request = |what: &str| {
        let message = format!("A manual partition assignment was specified, but {what} was not set to -1.");
        Err(ApiError::new(ErrorCode::InvalidRequest, message))
    };
    if topic.replication_factor != -1 {
        return request("replication factor");
    }
    if topic.num_partitions != -1 {
        return request("numPartitions");
    }
    let invalid = |message: String| ApiError::new(ErrorCode::InvalidReplicaAssignment, message);
    let mut sorted: BTreeMap<i32, &CreatableReplicaAssignment> = BTreeMap::new();
    for assignment in &topic.assignments {
        if sorted.insert(assignment.partition_index, assignment).is_some() {
            let n = assignment.partition_index;
            return Err(invalid(format!("Found multiple manual partition assignments for partition {n}")));
        }
    }
    let mut factor = None;
    let mut partitions = Vec::with_capacity(sorted.len());
    for (expected, (n, assignment)) in (0..).zip(sorted) {
        check_assignment(cx.image, &assignment.broker_ids, factor)?;
        factor = Some(assignment.broker_ids.len());
        if n != expected {
            return Err(invalid("partitions should be a consecutive 0-based integer sequence".to_owned()));
        }
        partitions.push(new_partition(cx.image, assignment.broker_ids.clone()).ok_or_else(|| all_fenced(n))?);
    }
    Ok(partitions)
}

pub(crate) fn all_fenced(partition: i32) -> ApiError {
    let message = format!(
        "All brokers specified in the manual partition assignment for partition {partition} are fenced or in controlled shutdown."
    );
    ApiError::new(ErrorCode::InvalidReplicaAssignment, message)
}

/// Checks one partition of a manual assignment against the brokers and the partitions before it.
pub(crate) fn check_assignment(image: &MetadataImage, replicas: &[i32], factor: Option<usize>) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    for (i, id) in sorted.iter().enumerate() {
        if image.cluster.broker(*id).is_none() {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
        if i > 0 && sorted.get(i - 1) == Some(id) {
            return invalid(format!("The manual partition assignment includes the broker {id} more than once."));
        }
    }
    match factor {
        Some(factor) if factor != replicas.len() => invalid(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with previous partitions, which have {factor} replica(s).",
            replicas.len()
        )),
        _ => Ok(()),
    }
}

/// A partition that was just created: everybody who is up is in sync. `None` when nobody is.
pub(crate) fn new_partition(image: &MetadataImage, replicas: Vec<i32>) -> Option<PartitionImage> {
    let isr: Vec<i32> = replicas.iter().copied().filter(|&id| cluster::is_active(image, id)).collect();
    let leader = isr.first().copied()?;
    debug_assert_ne!(leader, NO_LEADER);
    let directories = replicas.iter().map(|&id| cluster::default_directory(image, id)).collect();
    Some(PartitionImage { replicas, directories, isr, leader, ..Default::default() })
}

pub(crate) fn delete_topics(
    cx: &mut Cx<'_>,
    request: &DeleteTopicsRequest,
    quota: &mut MutationQuota<'_>,
) -> Decision<DeleteTopicsResponse> {
    if !cx.config.broker.delete_topic_enable {
        return Err(ErrorCode::TopicDeletionDisabled.into());
    }
    let by_name = request.topic_names.iter().map(|name| (Some(name.as_str()), Uuid::ZERO));
    let by_either = request.topics.iter().map(|topic| (topic.name.as_deref(), topic.topic_id));
    let asked: Vec<(Option<&str>, Uuid)> = by_name.chain(by_either).collect();
    let times = |one: &(Option<&str>, Uuid)| asked.iter().filter(|other| *other == one).count();
    let ids: BTreeSet<Uuid> = asked.iter().filter(|(name, _)| name.is_none()).map(|(_, id)| *id).collect();
    // Whoever is named by id and by name is refused once, by name.
    let named_twice: BTreeSet<Uuid> = asked
        .iter()
        .filter(|(_, id)| id.is_zero())
        .filter_map(|(name, _)| cx.image.topics.id_of((*name)?))
        .filter(|id| ids.contains(id))
        .collect();
    let mut duplicates = BTreeSet::new();
    let mut responses = Vec::new();
    let mut records = Vec::new();
    for one @ (name, id) in &asked {
        if (times(one) > 1 && !duplicates.insert(*one)) || (name.is_none() && named_twice.contains(id)) {
            continue;
        }
        let found = if times(one) > 1 {
            let what = if name.is_some() { "name" } else { "id" };
            Err(ApiError::new(ErrorCode::InvalidRequest, format!("Duplicate topic {what}.")))
        } else {
            find(cx.image, *name, *id)
        };
        let found = found.and_then(|topic| match named_twice.contains(&topic.id) {
            false => Ok(topic),
            true => Err(ApiError::new(
                ErrorCode::InvalidRequest,
                "The provided topic name maps to an ID that was already supplied.",
            )),
        });
        let found = found.and_then(|topic| quota(topic.partitions.len()).map(|()| topic));
        responses.push(match found {
            Ok(topic) => {
                records.push(MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: topic.id }));
                DeletableTopicResult { name: Some(topic.name.to_string()), topic_id: topic.id, ..Default::default() }
            }
            Err(error) => DeletableTopicResult {
                name: name.map(str::to_owned),
                topic_id: name
                    .and_then(|name| cx.image.topics.id_of(name))
                    .filter(|id| ids.contains(id))
                    .unwrap_or(*id),
                error_code: error.code.code(),
                error_message: told(&error),
            },
        });
    }
    Ok(Outcome::new(records, DeleteTopicsResponse { responses, ..Default::default() }))
}

fn find<'a>(image: &'a MetadataImage, name: Option<&str>, id: Uuid) -> Result<&'a TopicImage, ApiError> {
    let found = match (name, id.is_zero()) {
        (Some(_), false) => {
            return Err(ApiError::new(ErrorCode::InvalidRequest, "You may not specify both topic name and topic id."));
        }
        (None, true) => {
            return Err(ApiError::new(ErrorCode::InvalidRequest, "Neither topic name nor id were specified."));
        }
        (Some(name), true) => image.topics.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition),
        (None, false) => image.topics.by_id(id).ok_or(ErrorCode::UnknownTopicId),
    };
    Ok(found?)
}
