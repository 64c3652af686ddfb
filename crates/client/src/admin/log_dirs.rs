//! What lies in the brokers' log directories, where replicas lie, and the deletion of records.

use std::collections::BTreeMap;

use milena_common::TopicPartition;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{
    AlterReplicaLogDirsRequest, DeleteRecordsRequest, DescribeLogDirsRequest, alter_replica_log_dirs_request as alter,
    delete_records_request as delete,
};

use super::{Admin, PerPartition};
use crate::error::ClientError;

/// One log directory of a broker.
#[derive(Debug, Clone)]
pub struct LogDir {
    pub path: String,
    /// Why it cannot be read, if so.
    pub error: Option<ClientError>,
    pub replicas: Vec<ReplicaInDir>,
}

/// A replica in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaInDir {
    pub partition: TopicPartition,
    pub size_bytes: i64,
    /// How far it is behind the high watermark, or behind the replica that it is to replace.
    pub offset_lag: i64,
    /// Whether it is being copied here from another directory of the same broker.
    pub is_future: bool,
}

impl Admin {
    /// The log directories of one broker.
    pub async fn describe_log_dirs(&self, broker: i32) -> Result<Vec<LogDir>, ClientError> {
        let request = DescribeLogDirsRequest { topics: None, ..Default::default() };
        let response = self.client.request_node("describeLogDirs", broker, &request).await?;
        ClientError::check(response.error_code, None, "log directories")?;
        let dir = |d: milena_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult| LogDir {
            error: ClientError::check(d.error_code, None, &d.log_dir).err(),
            path: d.log_dir,
            replicas: (d.topics.into_iter())
                .flat_map(|topic| {
                    topic.partitions.into_iter().map(move |p| ReplicaInDir {
                        partition: TopicPartition::new(topic.name.as_str(), p.partition_index),
                        size_bytes: p.partition_size,
                        offset_lag: p.offset_lag,
                        is_future: p.is_future_key,
                    })
                })
                .collect(),
        };
        Ok(response.results.into_iter().map(dir).collect())
    }

    /// Moves replicas of one broker to other directories of it.
    pub async fn alter_replica_log_dirs(
        &self,
        broker: i32,
        moves: &[(TopicPartition, String)],
    ) -> Result<PerPartition<()>, ClientError> {
        let mut dirs: BTreeMap<&str, Vec<TopicPartition>> = BTreeMap::new();
        for (tp, dir) in moves {
            dirs.entry(dir).or_default().push(tp.clone());
        }
        let request = AlterReplicaLogDirsRequest {
            dirs: dirs
                .into_iter()
                .map(|(path, partitions)| alter::AlterReplicaLogDir {
                    path: path.into(),
                    topics: TopicPartition::by_topic(&partitions)
                        .into_iter()
                        .map(|(name, partitions)| alter::AlterReplicaLogDirTopic {
                            name,
                            partitions,
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let response = self.client.request_node("alterReplicaLogDirs", broker, &request).await?;
        let mut found = PerPartition::new();
        for topic in response.results {
            for p in topic.partitions {
                let tp = TopicPartition::new(topic.topic_name.as_str(), p.partition_index);
                let result = ClientError::check(p.error_code, None, &tp.to_string());
                found.insert(tp, result);
            }
        }
        Ok(found)
    }

    /// Deletes the records before the offsets (-1: all there are); the results are the new log start offsets.
    pub async fn delete_records(&self, offsets: &[(TopicPartition, i64)]) -> Result<PerPartition<i64>, ClientError> {
        let partitions: Vec<TopicPartition> = offsets.iter().map(|(tp, _)| tp.clone()).collect();
        let (by_leader, mut found) = self.leaders("deleteRecords", &partitions).await?;
        for (leader, partitions) in by_leader {
            let mut topics: BTreeMap<&str, Vec<delete::DeleteRecordsPartition>> = BTreeMap::new();
            for (tp, offset) in offsets.iter().filter(|(tp, _)| partitions.contains(tp)) {
                topics.entry(&tp.topic).or_default().push(delete::DeleteRecordsPartition {
                    partition_index: tp.partition,
                    offset: *offset,
                    ..Default::default()
                });
            }
            let request = DeleteRecordsRequest {
                topics: topics
                    .into_iter()
                    .map(|(name, partitions)| delete::DeleteRecordsTopic {
                        name: name.into(),
                        partitions,
                        ..Default::default()
                    })
                    .collect(),
                timeout_ms: self.timeout_ms(),
                ..Default::default()
            };
            let response = self.client.request_node("deleteRecords", leader, &request).await?;
            for topic in response.topics {
                for p in topic.partitions {
                    let tp = TopicPartition::new(topic.name.as_str(), p.partition_index);
                    let result = ClientError::check(p.error_code, None, &tp.to_string()).map(|()| p.low_watermark);
                    found.insert(tp, result);
                }
            }
        }
        Ok(found)
    }

    /// Who leads the partitions. Those that have no leader, or do not exist, are waited for, as Kafka's client does; what is
    /// missing then has its error.
    pub(super) async fn leaders<T>(
        &self,
        call: &str,
        partitions: &[TopicPartition],
    ) -> Result<(BTreeMap<i32, Vec<TopicPartition>>, PerPartition<T>), ClientError> {
        let topics: Vec<String> = TopicPartition::by_topic(partitions).into_keys().collect();
        let picture = self
            .client
            .retrying(call, async || {
                let picture = self.client.refresh_metadata(Some(&topics), false).await?;
                for topic in picture.topics.values().filter(|t| topics.contains(&t.name)) {
                    ClientError::check(topic.error.code(), None, &topic.name)?;
                }
                Ok(picture)
            })
            .await;
        let mut by_leader: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        let mut found = PerPartition::new();
        match picture {
            Ok(picture) => {
                for tp in partitions {
                    match picture.leader(&tp.topic, tp.partition) {
                        Some(leader) => by_leader.entry(leader).or_default().push(tp.clone()),
                        None => {
                            let code = match picture.partition(&tp.topic, tp.partition) {
                                Some(_) => ErrorCode::LeaderNotAvailable,
                                None => ErrorCode::UnknownTopicOrPartition,
                            };
                            found.insert(tp.clone(), Err(ClientError::api(code, tp.to_string())));
                        }
                    }
                }
            }
            Err(error) if error.code().is_some() => {
                found.extend(partitions.iter().map(|tp| (tp.clone(), Err(error.clone()))));
            }
            Err(error) => return Err(error),
        }
        Ok((by_leader, found))
    }
}
