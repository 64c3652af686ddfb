//! Topics and their partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_common::Uuid;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeTopicPartitionsRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, create_partitions_request as create_partitions,
    create_topics_request as create, delete_topics_request as delete, describe_topic_partitions_request as describe,
    metadata_request::MetadataRequestTopic,
};

use super::Admin;
use crate::error::ClientError;

/// A topic's name and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicListing {
    pub name: String,
    pub topic_id: Uuid,
    pub internal: bool,
}

/// A topic and its partitions, in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    pub name: String,
    pub topic_id: Uuid,
    pub internal: bool,
    pub partitions: Vec<PartitionDescription>,
}

/// One partition and its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    pub partition: i32,
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    /// Eligible leader replicas (KIP-966); `None` when the broker cannot say.
    pub elr: Option<Vec<i32>>,
    pub last_known_elr: Option<Vec<i32>>,
    pub offline: Vec<i32>,
}

/// A topic to create. Either counts (-1: the broker's default) or an explicit assignment.
#[derive(Debug, Clone)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub replication_factor: i16,
    /// Partition to replicas; when given, the two counts stay -1.
    pub assignments: BTreeMap<i32, Vec<i32>>,
    pub configs: Vec<(String, String)>,
}

/// A topic to grow to `total` partitions, the new ones on these replicas if given.
#[derive(Debug, Clone)]
pub struct NewPartitions {
    pub topic: String,
    pub total: i32,
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// A running change of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    pub replicas: Vec<i32>,
    pub adding: Vec<i32>,
    pub removing: Vec<i32>,
}

/// The operation's result per topic, in the order of the answer.
type PerTopic = Vec<(String, Result<(), ClientError>)>;

impl Admin {
    /// All topics, internal ones too, in the broker's order.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>, ClientError> {
        let response =
            self.client.request_any("listTopics", &MetadataRequest { topics: None, ..Default::default() }).await?;
        Ok(response
            .topics
            .into_iter()
            .filter_map(|t| Some(TopicListing { name: t.name?, topic_id: t.topic_id, internal: t.is_internal }))
            .collect())
    }

    /// Describes topics, page by page (KIP-966), or through Metadata with brokers that know no pages.
    ///
    /// # Errors
    /// Of the connection; a topic's own error stands beside its name.
    pub async fn describe_topics(
        &self,
        names: &[String],
        page_partitions: i32,
    ) -> Result<Vec<(String, Result<TopicDescription, ClientError>)>, ClientError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.client.retrying("describeTopics", async || self.client.any_connection().await).await?;
        if connection.version_of::<DescribeTopicPartitionsRequest>(i16::MAX).is_err() {
            return self.describe_topics_by_metadata(names).await;
        }
        let mut sorted = names.to_vec();
        sorted.sort();
        let mut found: Vec<(String, Result<TopicDescription, ClientError>)> = Vec::new();
        let mut cursor: Option<(String, i32)> = None;
        loop {
            // a page starts at the cursor's topic; the ones before it are done
            let rest = sorted.iter().filter(|name| cursor.as_ref().is_none_or(|(topic, _)| *name >= topic));
            let request = DescribeTopicPartitionsRequest {
                topics: rest.map(|name| describe::TopicRequest { name: name.clone(), ..Default::default() }).collect(),
                response_partition_limit: page_partitions,
                cursor: cursor.take().map(|(topic_name, partition_index)| describe::Cursor {
                    topic_name,
                    partition_index,
                    ..Default::default()
                }),
                ..Default::default()
            };
            let response = self.client.request_any("describeTopics", &request).await?;
            for topic in response.topics {
                let name = topic.name.unwrap_or_default();
                if let Err(error) = ClientError::check(topic.error_code, None, &name) {
                    found.push((name, Err(error)));
                    continue;
                }
                let partitions = topic.partitions.into_iter().map(|p| PartitionDescription {
                    partition: p.partition_index,
                    leader: (p.leader_id >= 0).then_some(p.leader_id),
                    leader_epoch: p.leader_epoch,
                    replicas: p.replica_nodes,
                    isr: p.isr_nodes,
                    elr: p.eligible_leader_replicas,
                    last_known_elr: p.last_known_elr,
                    offline: p.offline_replicas,
                });
                match found.last_mut() {
                    Some((last, Ok(description))) if *last == name => description.partitions.extend(partitions),
                    _ => {
                        let description = TopicDescription {
                            name: name.clone(),
                            topic_id: topic.topic_id,
                            internal: topic.is_internal,
                            partitions: partitions.collect(),
                        };
                        found.push((name, Ok(description)));
                    }
                }
            }
            match response.next_cursor {
                Some(next) => cursor = Some((next.topic_name, next.partition_index)),
                None => break,
            }
        }
        for (_, result) in &mut found {
            if let Ok(description) = result {
                description.partitions.sort_by_key(|p| p.partition);
            }
        }
        Ok(found)
    }

    async fn describe_topics_by_metadata(
        &self,
        names: &[String],
    ) -> Result<Vec<(String, Result<TopicDescription, ClientError>)>, ClientError> {
        let request = MetadataRequest {
            topics: Some(
                names.iter().map(|n| MetadataRequestTopic { name: Some(n.clone()), ..Default::default() }).collect(),
            ),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.client.request_any("describeTopics", &request).await?;
        let describe = |topic: milena_protocol::messages::metadata_response::MetadataResponseTopic| {
            let name = topic.name.unwrap_or_default();
            if let Err(error) = ClientError::check(topic.error_code, None, &name) {
                return (name, Err(error));
            }
            let mut partitions: Vec<PartitionDescription> = topic
                .partitions
                .into_iter()
                .map(|p| PartitionDescription {
                    partition: p.partition_index,
                    leader: (p.leader_id >= 0).then_some(p.leader_id),
                    leader_epoch: p.leader_epoch,
                    replicas: p.replica_nodes,
                    isr: p.isr_nodes,
                    elr: None,
                    last_known_elr: None,
                    offline: p.offline_replicas,
                })
                .collect();
            partitions.sort_by_key(|p| p.partition);
            let description = TopicDescription {
                name: name.clone(),
                topic_id: topic.topic_id,
                internal: topic.is_internal,
                partitions,
            };
            (name, Ok(description))
        };
        Ok(response.topics.into_iter().map(describe).collect())
    }

    /// Creates topics, or only checks that they could be created.
    pub async fn create_topics(&self, topics: &[NewTopic], validate_only: bool) -> Result<PerTopic, ClientError> {
        let request = CreateTopicsRequest {
            topics: topics.iter().map(creatable).collect(),
            timeout_ms: self.timeout_ms(),
            validate_only,
            ..Default::default()
        };
        self.to_controller("createTopics", async || {
            let response = self.client.controller_connection().await?.request(&request).await?;
            Ok(response.topics.into_iter().map(|t| (t.name, t.error_code, t.error_message)).collect())
        })
        .await
    }

    /// Deletes topics by name.
    pub async fn delete_topics(&self, names: &[String]) -> Result<PerTopic, ClientError> {
        let request = DeleteTopicsRequest { timeout_ms: self.timeout_ms(), ..Default::default() };
        self.to_controller("deleteTopics", async || {
            let connection = self.client.controller_connection().await?;
            let mut request = request.clone();
            if connection.version_of::<DeleteTopicsRequest>(i16::MAX)? >= 6 {
                request.topics = names
                    .iter()
                    .map(|n| delete::DeleteTopicState { name: Some(n.clone()), ..Default::default() })
                    .collect();
            } else {
                request.topic_names = names.to_vec();
            }
            let response = connection.request(&request).await?;
            Ok(response
                .responses
                .into_iter()
                .map(|t| (t.name.unwrap_or_default(), t.error_code, t.error_message))
                .collect())
        })
        .await
    }

    /// Adds partitions to topics.
    pub async fn create_partitions(&self, topics: &[NewPartitions]) -> Result<PerTopic, ClientError> {
        let request = CreatePartitionsRequest {
            topics: topics
                .iter()
                .map(|t| create_partitions::CreatePartitionsTopic {
                    name: t.topic.clone(),
                    count: t.total,
                    assignments: t.assignments.as_ref().map(|all| {
                        all.iter()
                            .map(|replicas| create_partitions::CreatePartitionsAssignment {
                                broker_ids: replicas.clone(),
                                ..Default::default()
                            })
                            .collect()
                    }),
                    ..Default::default()
                })
                .collect(),
            timeout_ms: self.timeout_ms(),
            validate_only: false,
            ..Default::default()
        };
        self.to_controller("createPartitions", async || {
            let response = self.client.controller_connection().await?.request(&request).await?;
            Ok(response.results.into_iter().map(|t| (t.name, t.error_code, t.error_message)).collect())
        })
        .await
    }

    /// The running reassignments of the cluster, by topic and partition.
    pub async fn list_reassignments(&self) -> Result<BTreeMap<(String, i32), Reassignment>, ClientError> {
        let request =
            ListPartitionReassignmentsRequest { timeout_ms: self.timeout_ms(), topics: None, ..Default::default() };
        let response = self.client.request_controller("listPartitionReassignments", &request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "reassignments")?;
        let mut found = BTreeMap::new();
        for topic in response.topics {
            for p in topic.partitions {
                let change =
                    Reassignment { replicas: p.replicas, adding: p.adding_replicas, removing: p.removing_replicas };
                found.insert((topic.name.clone(), p.partition_index), change);
            }
        }
        Ok(found)
    }

    /// Runs a controller's operation; if any topic says that the controller moved, all are tried again.
    async fn to_controller(
        &self,
        call: &str,
        work: impl AsyncFn() -> Result<Vec<(String, i16, Option<String>)>, ClientError>,
    ) -> Result<PerTopic, ClientError> {
        self.client
            .retrying(call, async || {
                let answers = work().await?;
                if answers.iter().any(|(_, code, _)| *code == ErrorCode::NotController.code()) {
                    self.client.refresh_metadata(Some(&[]), false).await?;
                    return Err(ClientError::api(ErrorCode::NotController, call));
                }
                Ok(answers
                    .into_iter()
                    .map(|(topic, code, message)| {
                        let result = ClientError::check(code, message.as_deref(), &topic);
                        (topic, result)
                    })
                    .collect())
            })
            .await
    }

    /// How long the broker may take: a little less than we wait.
    pub(super) fn timeout_ms(&self) -> i32 {
        let wait = Duration::from_millis(self.client.config().request_timeout_ms);
        i32::try_from(wait.saturating_sub(Duration::from_millis(200)).as_millis()).unwrap_or(i32::MAX)
    }
}

fn creatable(topic: &NewTopic) -> create::CreatableTopic {
    create::CreatableTopic {
        name: topic.name.clone(),
        num_partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|(partition, replicas)| create::CreatableReplicaAssignment {
                partition_index: *partition,
                broker_ids: replicas.clone(),
                ..Default::default()
            })
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|(name, value)| create::CreatableTopicConfig {
                name: name.clone(),
                value: Some(value.clone()),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}
