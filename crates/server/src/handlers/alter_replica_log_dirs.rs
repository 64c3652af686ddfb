//! AlterReplicaLogDirs (key 34), versions 0-2: moves replicas to another log directory of this broker (KIP-113).
//!
//! The answer says that a move has begun; DescribeLogDirs shows how far it is. Gap: a directory for a replica that is not here yet is not
//! remembered.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use milena_common::TopicPartition;
use milena_log::MoveError;
use milena_protocol::ErrorCode;
use milena_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use milena_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

/// What the directory of a copy adds to the name of its partition.
const FUTURE_SUFFIX_BYTES: usize = 40;
const MAX_FILE_NAME_BYTES: usize = 255;

pub(crate) struct AlterReplicaLogDirs;

impl Handler for AlterReplicaLogDirs {
    type Request = AlterReplicaLogDirsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: AlterReplicaLogDirsRequest,
    ) -> Reply<AlterReplicaLogDirsResponse> {
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            let altered = tokio::task::spawn_blocking(move || alter(&broker, request));
            altered.await.unwrap_or_default()
        }))
    }
}

fn alter(broker: &Broker, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    // as in Kafka: whoever names a partition twice means the last
    let mut moves: BTreeMap<TopicPartition, &str> = BTreeMap::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            let of_topic = topic.partitions.iter().map(|index| TopicPartition::new(&*topic.name, *index));
            moves.extend(of_topic.map(|partition| (partition, dir.path.as_str())));
        }
    }
    let mut results: Vec<AlterReplicaLogDirTopicResult> = Vec::new();
    for (partition, path) in moves {
        let error_code = move_one(broker, &partition, Path::new(path)).code();
        let result = AlterReplicaLogDirPartitionResult { partition_index: partition.partition, error_code };
        match results.last_mut().filter(|last| *last.topic_name == *partition.topic) {
            Some(last) => last.partitions.push(result),
            None => results.push(AlterReplicaLogDirTopicResult {
                topic_name: partition.topic.to_string(),
                partitions: vec![result],
            }),
        }
    }
    AlterReplicaLogDirsResponse { results, ..Default::default() }
}

fn move_one(broker: &Broker, partition: &TopicPartition, to: &Path) -> ErrorCode {
    if partition.to_string().len() + FUTURE_SUFFIX_BYTES > MAX_FILE_NAME_BYTES {
        return ErrorCode::InvalidTopicException;
    }
    let logs = broker.replicas.logs();
    match logs.check_dir(to).and_then(|()| logs.move_log(partition, to)) {
        Ok(()) => ErrorCode::None,
        Err(MoveError::DirNotFound(_)) => ErrorCode::LogDirNotFound,
        Err(MoveError::Storage(error)) => {
            tracing::error!(%partition, %error, "the log cannot be moved");
            ErrorCode::KafkaStorageError
        }
        Err(MoveError::NotHere) => {
            match broker.metadata.load().topics.partition(&partition.topic, partition.partition) {
                Some(_) => ErrorCode::ReplicaNotAvailable,
                None => ErrorCode::UnknownTopicOrPartition,
            }
        }
    }
}
