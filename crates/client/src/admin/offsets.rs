//! Offsets of partitions: by time, and as a group committed them.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_common::TopicPartition;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{
    ListOffsetsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, list_offsets_request as list,
    offset_commit_request as commit, offset_delete_request as delete, offset_fetch_request as fetch,
};

use super::{Admin, PerPartition};
use crate::cluster::{Client, CoordinatorKind};
use crate::error::ClientError;

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    Latest,
    Earliest,
    /// The first record at or after this wall time in milliseconds.
    Timestamp(i64),
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first offset that is still on the broker's own disk.
    EarliestLocal,
    LatestTiered,
    /// The first offset that tiered storage has yet to take.
    EarliestPendingUpload,
}

impl OffsetSpec {
    fn to_wire(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::Timestamp(ms) => ms,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::EarliestLocal => -4,
            OffsetSpec::LatestTiered => -5,
            OffsetSpec::EarliestPendingUpload => -6,
        }
    }
}

/// An offset found; -1 when no record is that new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

/// What a group committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    /// `None` when the committer did not say.
    pub leader_epoch: Option<i32>,
    pub metadata: String,
}

impl Client {
    /// Offsets of partitions, each asked from its leader. With `read_committed` the latest is the last stable offset.
    pub async fn list_offsets(
        &self,
        wanted: &[(TopicPartition, OffsetSpec)],
        read_committed: bool,
    ) -> Result<PerPartition<ListedOffset>, ClientError> {
        let mut topics: Vec<String> = wanted.iter().map(|(tp, _)| tp.topic.to_string()).collect();
        topics.sort();
        topics.dedup();
        let mut found = PerPartition::new();
        let mut left = wanted.to_vec();
        let deadline = tokio::time::Instant::now() + Duration::from_millis(self.config().api_timeout_ms);
        let mut attempt = 0;
        loop {
            let metadata =
                self.retrying("listOffsets", async || self.refresh_metadata(Some(&topics), false).await).await?;
            let mut by_leader: BTreeMap<i32, Vec<(TopicPartition, OffsetSpec)>> = BTreeMap::new();
            for (tp, spec) in &left {
                match metadata.leader(&tp.topic, tp.partition) {
                    Some(leader) => by_leader.entry(leader).or_default().push((tp.clone(), *spec)),
                    None => {
                        let unknown = match metadata.topics.get(&*tp.topic) {
                            Some(topic) if topic.error != ErrorCode::None => topic.error,
                            Some(_) if metadata.partition(&tp.topic, tp.partition).is_some() => {
                                ErrorCode::LeaderNotAvailable
                            }
                            _ => ErrorCode::UnknownTopicOrPartition,
                        };
                        found.insert(tp.clone(), Err(ClientError::api(unknown, tp.to_string())));
                    }
                }
            }
            for (leader, partitions) in by_leader {
                let answers = match self.list_offsets_of(leader, &partitions, read_committed).await {
                    Ok(answers) => answers,
                    Err(error) if error.is_retriable() => {
                        partitions.iter().map(|(tp, _)| (tp.clone(), Err(error.clone()))).collect()
                    }
                    Err(error) => return Err(error),
                };
                found.extend(answers);
            }
            left.retain(|(tp, _)| matches!(found.get(tp), Some(Err(error)) if error.is_retriable() && error.code() != Some(ErrorCode::UnknownTopicOrPartition)));
            if left.is_empty() || tokio::time::Instant::now() >= deadline {
                return Ok(found);
            }
            tokio::time::sleep(self.config().backoff(attempt)).await;
            attempt += 1;
        }
    }

    async fn list_offsets_of(
        &self,
        leader: i32,
        partitions: &[(TopicPartition, OffsetSpec)],
        read_committed: bool,
    ) -> Result<PerPartition<ListedOffset>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<list::ListOffsetsPartition>> = BTreeMap::new();
        for (tp, spec) in partitions {
            topics.entry(&tp.topic).or_default().push(list::ListOffsetsPartition {
                partition_index: tp.partition,
                current_leader_epoch: -1,
                timestamp: spec.to_wire(),
                ..Default::default()
            });
        }
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: i8::from(read_committed),
            topics: topics
                .into_iter()
                .map(|(name, partitions)| list::ListOffsetsTopic {
                    name: name.into(),
                    partitions,
                    ..Default::default()
                })
                .collect(),
            timeout_ms: i32::try_from(self.config().request_timeout_ms).unwrap_or(i32::MAX),
            ..Default::default()
        };
        let connection = self.connection(leader).await?;
        let response = connection.request(&request).await?;
        let mut found = PerPartition::new();
        for topic in response.topics {
            for p in topic.partitions {
                let tp = TopicPartition::new(topic.name.as_str(), p.partition_index);
                // version 0 answers with a list of segment starts
                let result = ClientError::check(p.error_code, None, &tp.to_string()).map(|()| ListedOffset {
                    offset: p.offset,
                    timestamp: p.timestamp,
                    leader_epoch: p.leader_epoch,
                });
                found.insert(tp, result);
            }
        }
        Ok(found)
    }

    /// The committed offsets of a group, for these partitions or (`None`) for all that it has. Partitions without one are absent.
    pub async fn committed_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
        require_stable: bool,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        self.retrying("listConsumerGroupOffsets", async || {
            let node = self.find_coordinator(CoordinatorKind::Group, group).await?;
            let connection = self.connection(node).await?;
            let version = connection.version_of::<OffsetFetchRequest>(9)?;
            let mut topics: Option<BTreeMap<&str, Vec<i32>>> = None;
            if let Some(partitions) = partitions {
                let map = topics.get_or_insert_default();
                partitions.iter().for_each(|tp| map.entry(&tp.topic).or_default().push(tp.partition));
            }
            let mut request = OffsetFetchRequest { require_stable, ..Default::default() };
            if version >= 8 {
                request.groups = vec![fetch::OffsetFetchRequestGroup {
                    group_id: group.into(),
                    topics: topics.map(|topics| {
                        let topic = |(name, indexes): (&str, Vec<i32>)| fetch::OffsetFetchRequestTopics {
                            name: name.into(),
                            partition_indexes: indexes,
                            ..Default::default()
                        };
                        topics.into_iter().map(topic).collect()
                    }),
                    ..Default::default()
                }];
            } else {
                request.group_id = group.into();
                request.topics = topics.map(|topics| {
                    let topic = |(name, indexes): (&str, Vec<i32>)| fetch::OffsetFetchRequestTopic {
                        name: name.into(),
                        partition_indexes: indexes,
                        ..Default::default()
                    };
                    topics.into_iter().map(topic).collect()
                });
            }
            let wait = Duration::from_millis(self.config().request_timeout_ms);
            let mut response = connection.request_at(&request, version, wait).await?;
            let mut found = BTreeMap::new();
            let mut take = |topic: &str, index: i32, offset: i64, epoch: i32, metadata: Option<String>, code: i16| {
                let tp = TopicPartition::new(topic, index);
                ClientError::check(code, None, &tp.to_string())?;
                if offset >= 0 {
                    let leader_epoch = (epoch >= 0).then_some(epoch);
                    found.insert(tp, CommittedOffset { offset, leader_epoch, metadata: metadata.unwrap_or_default() });
                }
                Ok::<(), ClientError>(())
            };
            if version >= 8 {
                for group in std::mem::take(&mut response.groups) {
                    ClientError::check(group.error_code, None, &group.group_id)?;
                    for topic in group.topics {
                        for p in topic.partitions {
                            take(
                                &topic.name,
                                p.partition_index,
                                p.committed_offset,
                                p.committed_leader_epoch,
                                p.metadata,
                                p.error_code,
                            )?;
                        }
                    }
                }
            } else {
                ClientError::check(response.error_code, None, group)?;
                for topic in response.topics {
                    for p in topic.partitions {
                        take(
                            &topic.name,
                            p.partition_index,
                            p.committed_offset,
                            p.committed_leader_epoch,
                            p.metadata,
                            p.error_code,
                        )?;
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    /// Commits offsets for a group: as the member of a generation, or from outside (`None`) while the group is empty.
    pub async fn commit_offsets(
        &self,
        group: &str,
        member: Option<(&str, i32, Option<&str>)>,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<PerPartition<()>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<commit::OffsetCommitRequestPartition>> = BTreeMap::new();
        for (tp, committed) in offsets {
            topics.entry(&tp.topic).or_default().push(commit::OffsetCommitRequestPartition {
                partition_index: tp.partition,
                committed_offset: committed.offset,
                committed_leader_epoch: committed.leader_epoch.unwrap_or(-1),
                committed_metadata: Some(committed.metadata.clone()),
                ..Default::default()
            });
        }
        let (member_id, generation, instance) = member.unwrap_or(("", -1, None));
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: generation,
            member_id: member_id.into(),
            group_instance_id: instance.map(String::from),
            topics: topics
                .into_iter()
                .map(|(name, partitions)| commit::OffsetCommitRequestTopic {
                    name: name.into(),
                    partitions,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        self.retrying("alterConsumerGroupOffsets", async || {
            let node = self.find_coordinator(CoordinatorKind::Group, group).await?;
            let connection = self.connection(node).await?;
            let version = connection.version_of::<OffsetCommitRequest>(9)?;
            let wait = Duration::from_millis(self.config().request_timeout_ms);
            let response = connection.request_at(&request, version, wait).await?;
            let mut found = PerPartition::new();
            for topic in response.topics {
                for p in topic.partitions {
                    let tp = TopicPartition::new(topic.name.as_str(), p.partition_index);
                    let result = ClientError::check(p.error_code, None, &tp.to_string());
                    if let Err(error) = &result
                        && matches!(
                            error.code(),
                            Some(
                                ErrorCode::NotCoordinator
                                    | ErrorCode::CoordinatorNotAvailable
                                    | ErrorCode::CoordinatorLoadInProgress
                            )
                        )
                    {
                        return Err(error.clone());
                    }
                    found.insert(tp, result);
                }
            }
            Ok(found)
        })
        .await
    }
}

impl Admin {
    /// Offsets of partitions by [`OffsetSpec`].
    pub async fn list_offsets(
        &self,
        wanted: &[(TopicPartition, OffsetSpec)],
    ) -> Result<PerPartition<ListedOffset>, ClientError> {
        self.client.list_offsets(wanted, false).await
    }

    /// Removes committed offsets of a group. The outer error is the group's, the inner ones the partitions'.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<PerPartition<()>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<delete::OffsetDeleteRequestPartition>> = BTreeMap::new();
        for tp in partitions {
            let partition =
                delete::OffsetDeleteRequestPartition { partition_index: tp.partition, ..Default::default() };
            topics.entry(&tp.topic).or_default().push(partition);
        }
        let request = OffsetDeleteRequest {
            group_id: group.into(),
            topics: topics
                .into_iter()
                .map(|(name, partitions)| delete::OffsetDeleteRequestTopic {
                    name: name.into(),
                    partitions,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let response = self
            .client
            .request_coordinator("deleteConsumerGroupOffsets", CoordinatorKind::Group, group, &request, |r| {
                r.error_code
            })
            .await?;
        ClientError::check(response.error_code, None, group)?;
        let mut found = PerPartition::new();
        for topic in response.topics {
            for p in topic.partitions {
                let tp = TopicPartition::new(topic.name.as_str(), p.partition_index);
                let result = ClientError::check(p.error_code, None, &tp.to_string());
                found.insert(tp, result);
            }
        }
        Ok(found)
    }
}
