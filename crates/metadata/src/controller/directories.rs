//! Where replicas live: brokers say into which of their directories they put them (KIP-858).

use milena_common::{Outcome, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages::assign_replicas_to_dirs_response::{DirectoryData, PartitionData, TopicData};
use milena_protocol::messages::{AssignReplicasToDirsRequest, AssignReplicasToDirsResponse};
use milena_protocol::stored::metadata::{MetadataRecord, PartitionChangeRecord};

use super::{ApiError, Cx, Decision, cluster, replication};
use crate::image::{BrokerRegistration, PartitionImage, TopicImage};
use crate::versions::gates;

/// Errors are per partition.
pub(crate) fn assign(cx: &mut Cx<'_>, request: &AssignReplicasToDirsRequest) -> Decision<AssignReplicasToDirsResponse> {
    if cx.image.features.metadata_version < gates::DIRECTORIES {
        let message = "Directory assignment is not supported by this metadata.version.";
        return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
    }
    let broker = cluster::check_epoch(cx.image, request.broker_id, request.broker_epoch)?;
    let mut records = Vec::new();
    let mut directories = Vec::new();
    for directory in &request.directories {
        let topics = directory.topics.iter().map(|asked| {
            let topic = cx.image.topics.by_id(asked.topic_id);
            let partitions = asked.partitions.iter().map(|asked| {
                let n = asked.partition_index;
                let assigned = match topic {
                    Some(topic) => assign_one(cx, broker, directory.id, topic, n).map(|new| records.extend(new)),
                    None => Err(ErrorCode::UnknownTopicId),
                };
                let error_code = assigned.map_or_else(ErrorCode::code, |()| 0);
                PartitionData { partition_index: n, error_code }
            });
            TopicData { topic_id: asked.topic_id, partitions: partitions.collect() }
        });
        directories.push(DirectoryData { id: directory.id, topics: topics.collect() });
    }
    Ok(Outcome::new(records, AssignReplicasToDirsResponse { directories, ..Default::default() }))
}

fn assign_one(
    cx: &Cx<'_>,
    broker: &BrokerRegistration,
    directory: Uuid,
    topic: &TopicImage,
    partition: i32,
) -> Result<Vec<MetadataRecord>, ErrorCode> {
    let old = topic.partition(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !old.replicas.contains(&broker.id) {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    if old.directory_of(broker.id) == directory {
        return Ok(Vec::new());
    }
    let directories: Vec<Uuid> =
        (old.replicas.iter()).map(|&id| if id == broker.id { directory } else { old.directory_of(id) }).collect();
    let moved = PartitionChangeRecord {
        topic_id: topic.id,
        partition_id: partition,
        directories: Some(directories.clone()),
        ..Default::default()
    };
    let mut records = vec![MetadataRecord::PartitionChange(moved)];
    if !broker.has_online_dir(directory) {
        records.extend(without_leader(
            cx,
            broker.id,
            topic,
            partition,
            &PartitionImage { directories, ..(**old).clone() },
        ));
    }
    Ok(records)
}

/// It is in a directory that failed meanwhile.
fn without_leader(
    cx: &Cx<'_>,
    broker_id: i32,
    topic: &TopicImage,
    partition: i32,
    moved: &PartitionImage,
) -> Option<MetadataRecord> {
    let acceptable =
        |id: i32| id != broker_id && cluster::is_active(cx.image, id) && replication::online(cx.image, moved, id);
    let directory = |id| cluster::default_directory(cx.image, id);
    let mut change = replication::unchanged(cx, topic, partition, moved, &acceptable, &directory);
    change.target_isr.retain(|&id| id != broker_id);
    change.build().map(MetadataRecord::PartitionChange)
}
