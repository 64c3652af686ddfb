//! `GroupCoordinator`: the group APIs as the broker's handlers call them.
//!
//! Owns what is the same for every group: which partition coordinates it, errors in the words of each API and version, requests
//! that touch many partitions. Decisions are made in `group`, order and commits in `shard`. Handlers authorise, resolve topic
//! ids to names and check that topics exist before they call.

mod transactions;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use milena_common::{Clock, Outcome, Uuid};
use milena_metadata::image::MetadataImage;
use milena_protocol::ErrorCode;
use milena_protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use milena_protocol::messages::delete_groups_response::DeletableGroupResult;
use milena_protocol::messages::describe_groups_response::DescribedGroup;
use milena_protocol::messages::leave_group_request::MemberIdentity;
use milena_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use milena_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use milena_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse,
    SyncGroupRequest, SyncGroupResponse,
};

use crate::cluster::ClusterView;
use crate::group::{
    GroupConfig, GroupContext, GroupShard, Parked, join_error, refused, validate_group_id, validate_heartbeat,
    validate_join, validate_sync,
};
use crate::shard::Runtime;
use crate::writer::PartitionWriter;

pub use transactions::txn_commit_error;

/// The coordinator of consumer groups on this broker. Cheap to clone.
#[derive(Clone)]
pub struct GroupCoordinator {
    config: Arc<GroupConfig>,
    cluster: ClusterView,
    runtime: Runtime<GroupShard>,
    num_partitions: Arc<AtomicI32>,
}

impl GroupCoordinator {
    /// A coordinator that serves no partition yet: `on_election` gives it some. Starts its timer task, so it needs a tokio runtime.
    pub fn new(config: GroupConfig, writer: Arc<dyn PartitionWriter>, clock: Arc<dyn Clock>) -> Self {
        let coordinator = Self::without_ticker(config, writer, clock, Uuid::random);
        coordinator.runtime.start_ticker();
        coordinator
    }

    /// As `new`, but timers only run when `tick` is called, and member ids are what `new_uuid` makes of them.
    pub fn without_ticker(
        config: GroupConfig,
        writer: Arc<dyn PartitionWriter>,
        clock: Arc<dyn Clock>,
        new_uuid: impl Fn() -> Uuid + Send + Sync + Clone + 'static,
    ) -> Self {
        let config = Arc::new(config);
        let num_partitions = Arc::new(AtomicI32::new(config.offsets_topic_num_partitions));
        let cluster = ClusterView::default();
        let (shard_config, shard_cluster) = (config.clone(), cluster.clone());
        let runtime = Runtime::new(writer, clock, move |_| {
            GroupShard::new(shard_config.clone(), new_uuid.clone()).with_cluster(shard_cluster.clone())
        });
        GroupCoordinator { config, cluster, runtime, num_partitions }
    }

    /// Runs the timers that are due.
    pub fn tick(&self) {
        self.runtime.tick();
    }

    /// Partition of `__consumer_offsets` whose leader coordinates the group.
    pub fn partition_for(&self, group_id: &str) -> i32 {
        partition_for(group_id, self.num_partitions.load(Ordering::Relaxed))
    }

    /// How many partitions `__consumer_offsets` really has; called when the topic is first seen in the metadata.
    pub fn set_num_partitions(&self, num_partitions: i32) {
        self.num_partitions.store(num_partitions.max(1), Ordering::Relaxed);
    }

    /// This broker leads `partition` of `__consumer_offsets` from `leader_epoch` on. Its groups answer COORDINATOR_LOAD_IN_PROGRESS from
    /// now on and until the future, which loads them, is ready. It may be spawned; a later election or resignation overtakes it.
    pub fn on_election(&self, partition: i32, leader_epoch: i32) -> impl Future<Output = ()> + Send + use<> {
        self.runtime.on_election(partition, leader_epoch)
    }

    /// This broker no longer leads `partition`: its groups answer NOT_COORDINATOR, parked requests too.
    pub fn on_resignation(&self, partition: i32) {
        self.runtime.on_resignation(partition);
    }

    /// Resigns from every partition, for good: the broker stops.
    pub fn shutdown(&self) {
        self.runtime.shutdown();
    }

    /// What the cluster is from now on; `topics_changed` if topics, partitions or racks may differ from before. Members of consumer
    /// groups hear of it with their next heartbeat.
    pub fn on_metadata_update(&self, image: Arc<MetadataImage>, topics_changed: bool) {
        self.cluster.set(image, topics_changed);
    }

    /// Removes what groups committed for topics that are gone.
    pub async fn on_topics_deleted(&self, topics: Vec<String>) {
        let topics = &topics;
        let removals = self.runtime.partitions().into_iter().map(|partition| async move {
            if let Err(error) = self.runtime.submit(partition, |shard, _| shard.on_topics_deleted(topics)).await {
                tracing::warn!(partition, error = error.name(), "cannot remove offsets of deleted topics");
            }
        });
        // All at once, so that the offsets of a new topic of the same name are not taken for those of the old one.
        futures_util::future::join_all(removals).await;
    }

    /// JoinGroup v0-9. Parked until the rebalance completes.
    pub async fn join_group(&self, cx: GroupContext, request: JoinGroupRequest) -> JoinGroupResponse {
        let partition = self.partition_for(&request.group_id);
        let result = match validate_join(&self.config, &cx, &request) {
            Ok(()) => {
                self.runtime.submit_parked(partition, |shard, reply, now| shard.join(&cx, &request, reply, now)).await
            }
            Err(error) => Err(error),
        };
        let mut response = match result {
            Ok(Parked::Join(response)) => response,
            Ok(Parked::Sync(_)) => {
                JoinGroupResponse { error_code: ErrorCode::UnknownServerError.code(), ..Default::default() }
            }
            Err(error) => join_error(&request.member_id, to_client(error)),
        };
        // Nullable from v7 on.
        if cx.api_version < 7 && response.protocol_name.is_none() {
            response.protocol_name = Some(String::new());
        }
        response
    }

    /// SyncGroup v0-5. Parked until the leader's assignment is committed.
    pub async fn sync_group(&self, cx: GroupContext, request: SyncGroupRequest) -> SyncGroupResponse {
        let partition = self.partition_for(&request.group_id);
        let result = match validate_sync(&cx, &request) {
            Ok(()) => self.runtime.submit_parked(partition, |shard, reply, now| shard.sync(&request, reply, now)).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(Parked::Sync(response)) => response,
            Ok(Parked::Join(_)) => {
                SyncGroupResponse { error_code: ErrorCode::UnknownServerError.code(), ..Default::default() }
            }
            Err(error) => SyncGroupResponse { error_code: to_client(error).code(), ..Default::default() },
        }
    }

    /// Heartbeat v0-4. While the group is loading the member is told that all is well: there is nothing it could do.
    pub async fn heartbeat(&self, _cx: GroupContext, request: HeartbeatRequest) -> HeartbeatResponse {
        let partition = self.partition_for(&request.group_id);
        let result = match validate_group_id(&request.group_id) {
            Ok(()) => self.commit(self.runtime.submit(partition, |shard, now| shard.heartbeat(&request, now))).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(response) => response,
            Err(ErrorCode::CoordinatorLoadInProgress) => HeartbeatResponse::default(),
            Err(error) => HeartbeatResponse { error_code: error.code(), ..Default::default() },
        }
    }

    /// LeaveGroup v0-5. Before v3 the one member's error is the response's.
    pub async fn leave_group(&self, cx: GroupContext, mut request: LeaveGroupRequest) -> LeaveGroupResponse {
        if cx.api_version < 3 {
            request.members =
                vec![MemberIdentity { member_id: std::mem::take(&mut request.member_id), ..Default::default() }];
        }
        let partition = self.partition_for(&request.group_id);
        let result = match validate_group_id(&request.group_id) {
            Ok(()) => self.commit(self.runtime.submit(partition, |shard, now| shard.leave(&request, now))).await,
            Err(error) => Err(error),
        };
        let mut response = match result {
            Ok(response) => response,
            Err(error) => LeaveGroupResponse { error_code: error.code(), ..Default::default() },
        };
        if cx.api_version < 3 {
            let member_error = response.members.drain(..).map(|member| member.error_code).next().unwrap_or(0);
            if response.error_code == 0 {
                response.error_code = member_error;
            }
        }
        response
    }

    /// ConsumerGroupHeartbeat v0-1.
    pub async fn consumer_group_heartbeat(
        &self,
        cx: GroupContext,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let partition = self.partition_for(&request.group_id);
        if let Err(refusal) = validate_heartbeat(&self.config, &cx, &request) {
            return refused(refusal);
        }
        let submitted = self.runtime.submit(partition, |shard, now| shard.consumer_heartbeat(&cx, &request, now));
        self.commit(submitted).await.unwrap_or_else(|error| refused((error, String::new())))
    }

    /// ConsumerGroupDescribe v0-1. Authorized operations are the caller's to fill in.
    pub async fn consumer_group_describe(
        &self,
        _cx: GroupContext,
        request: ConsumerGroupDescribeRequest,
    ) -> ConsumerGroupDescribeResponse {
        let mut groups = Vec::with_capacity(request.group_ids.len());
        // What is no group's id is said first, as Kafka does.
        let (valid, invalid): (Vec<_>, Vec<_>) =
            request.group_ids.into_iter().partition(|group_id| validate_group_id(group_id).is_ok());
        for group_id in invalid.into_iter().chain(valid) {
            let partition = self.partition_for(&group_id);
            let described = match validate_group_id(&group_id) {
                Ok(()) => {
                    let describe =
                        |shard: &mut GroupShard, _| Outcome::response(shard.describe_consumer_group(&group_id));
                    self.commit(self.runtime.submit(partition, describe)).await
                }
                Err(error) => Err(error),
            };
            groups.push(described.unwrap_or_else(|error| DescribedConsumerGroup {
                group_id,
                error_code: error.code(),
                ..Default::default()
            }));
        }
        ConsumerGroupDescribeResponse { groups, ..Default::default() }
    }

    /// OffsetCommit v0-10; every topic has its name, and its id if that is known. The empty group id is a group like any other.
    pub async fn offset_commit(&self, cx: GroupContext, request: OffsetCommitRequest) -> OffsetCommitResponse {
        let partition = self.partition_for(&request.group_id);
        let result = match validate_offsets_group_id(&request.group_id) {
            Ok(()) => {
                self.commit(self.runtime.submit(partition, |shard, now| shard.commit_offsets(&cx, &request, now))).await
            }
            Err(error) => Err(error),
        };
        result.and_then(|response| response).unwrap_or_else(|error| commit_error(&request, error))
    }

    /// OffsetFetch v0-10. v0 to v7 ask for one group, later ones for many; `name` is resolved, and `topic_id` sent back, for v10.
    /// All topics of a group are given by name: the caller looks their ids up, and removes topics that may not be seen.
    pub async fn offset_fetch(&self, cx: GroupContext, request: OffsetFetchRequest) -> OffsetFetchResponse {
        if cx.api_version >= 8 {
            let mut groups = Vec::with_capacity(request.groups.len());
            for group in request.groups {
                groups.push(self.offset_fetch_group(group, request.require_stable).await);
            }
            return OffsetFetchResponse { groups, ..Default::default() };
        }
        let topics = request.topics.map(|topics| {
            let topic = |topic: milena_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
                OffsetFetchRequestTopics {
                    name: topic.name,
                    partition_indexes: topic.partition_indexes,
                    ..Default::default()
                }
            };
            topics.into_iter().map(topic).collect()
        });
        let group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
        let asked = group.topics.clone();
        let fetched = self.offset_fetch_group(group, request.require_stable).await;
        single_group_response(&cx, asked.unwrap_or_default(), fetched)
    }

    /// OffsetFetch of one group, in the form of v8 and later.
    pub async fn offset_fetch_group(
        &self,
        group: OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        let partition = self.partition_for(&group.group_id);
        let result = match validate_offsets_group_id(&group.group_id) {
            Ok(()) => {
                self.commit(
                    self.runtime
                        .submit(partition, |shard, _| Outcome::response(shard.fetch_offsets(&group, require_stable))),
                )
                .await
            }
            Err(error) => Err(error),
        };
        result.unwrap_or_else(|error| OffsetFetchResponseGroup {
            group_id: group.group_id,
            error_code: error.code(),
            ..Default::default()
        })
    }

    /// OffsetDelete v0.
    pub async fn offset_delete(&self, _cx: GroupContext, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
        let partition = self.partition_for(&request.group_id);
        let result = match validate_group_id(&request.group_id) {
            Ok(()) => {
                self.commit(self.runtime.submit(partition, |shard, now| shard.delete_offsets(&request, now))).await
            }
            Err(error) => Err(error),
        };
        result.unwrap_or_else(|error| OffsetDeleteResponse { error_code: error.code(), ..Default::default() })
    }

    /// ListGroups v0-5: the groups of all partitions that this broker coordinates.
    pub async fn list_groups(&self, _cx: GroupContext, request: ListGroupsRequest) -> ListGroupsResponse {
        let mut response = ListGroupsResponse::default();
        for partition in self.runtime.partitions() {
            match self
                .commit(self.runtime.submit(partition, |shard, _| Outcome::response(shard.list_groups(&request))))
                .await
            {
                Ok(groups) => response.groups.extend(groups),
                // Moved away in the meantime: its new coordinator lists it.
                Err(ErrorCode::NotCoordinator) => {}
                Err(error) => {
                    return ListGroupsResponse { error_code: error.code(), ..Default::default() };
                }
            }
        }
        response
    }

    /// DescribeGroups v0-6. Authorized operations are the caller's to fill in.
    pub async fn describe_groups(&self, cx: GroupContext, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group_id in request.groups {
            let partition = self.partition_for(&group_id);
            let described = self
                .commit(
                    self.runtime.submit(partition, |shard, _| Outcome::response(shard.describe_group(&cx, &group_id))),
                )
                .await;
            groups.push(described.unwrap_or_else(|error| DescribedGroup {
                group_id,
                error_code: error.code(),
                ..Default::default()
            }));
        }
        DescribeGroupsResponse { groups, ..Default::default() }
    }

    /// DeleteGroups v0-2.
    pub async fn delete_groups(&self, _cx: GroupContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let mut results = Vec::with_capacity(request.groups_names.len());
        for group_id in request.groups_names {
            let partition = self.partition_for(&group_id);
            let deleted =
                self.commit(self.runtime.submit(partition, |shard, now| shard.delete_group(&group_id, now))).await;
            results.push(deleted.unwrap_or_else(|error| DeletableGroupResult { group_id, error_code: error.code() }));
        }
        DeleteGroupsResponse { results, ..Default::default() }
    }

    /// Waits `offsets.commit.timeout.ms` at most; the operation stays done if it is late. Errors come in the words clients know.
    async fn commit<R>(&self, submitted: impl Future<Output = Result<R, ErrorCode>>) -> Result<R, ErrorCode> {
        let timeout = Duration::from_millis(self.config.offsets_commit_timeout_ms);
        tokio::time::timeout(timeout, submitted).await.unwrap_or(Err(ErrorCode::RequestTimedOut)).map_err(to_client)
    }
}

/// `abs(String.hashCode) % n`, as Kafka computes it: over UTF-16 units, with `Integer.MIN_VALUE` counting as 0.
pub fn partition_for(group_id: &str, num_partitions: i32) -> i32 {
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % num_partitions.max(1)
}

/// Errors of the log as the APIs of coordinators report them.
pub(crate) fn to_client(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError | ErrorCode::FencedLeaderEpoch => {
            ErrorCode::NotCoordinator
        }
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::UnknownServerError
        }
        other => other,
    }
}

/// Groups that only store offsets may have the empty id.
fn validate_offsets_group_id(group_id: &str) -> Result<(), ErrorCode> {
    if group_id.is_empty() { Ok(()) } else { validate_group_id(group_id) }
}

/// The error of a group, on every partition: OffsetCommit has no other place for it.
fn commit_error(request: &OffsetCommitRequest, error: ErrorCode) -> OffsetCommitResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                })
                .collect(),
        })
        .collect();
    OffsetCommitResponse { topics, ..Default::default() }
}

/// v0 to v7 name no group, and before v2 an error of the group stands on each partition. To v0, which once read ZooKeeper,
/// a missing offset is UNKNOWN_TOPIC_OR_PARTITION.
fn single_group_response(
    cx: &GroupContext,
    asked: Vec<OffsetFetchRequestTopics>,
    fetched: OffsetFetchResponseGroup,
) -> OffsetFetchResponse {
    if fetched.error_code != 0 {
        let partition = |partition_index| OffsetFetchResponsePartition {
            partition_index,
            committed_offset: -1,
            committed_leader_epoch: -1,
            metadata: Some(String::new()),
            error_code: fetched.error_code,
        };
        let topic = |topic: OffsetFetchRequestTopics| OffsetFetchResponseTopic {
            name: topic.name,
            partitions: topic.partition_indexes.into_iter().map(partition).collect(),
        };
        let topics = if cx.api_version < 2 { asked.into_iter().map(topic).collect() } else { Vec::new() };
        return OffsetFetchResponse { error_code: fetched.error_code, topics, ..Default::default() };
    }
    let topics = fetched
        .topics
        .into_iter()
        .map(|topic| OffsetFetchResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .map(|partition| OffsetFetchResponsePartition {
                    partition_index: partition.partition_index,
                    committed_offset: partition.committed_offset,
                    committed_leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.metadata,
                    error_code: if cx.api_version == 0 && partition.committed_offset == -1 && partition.error_code == 0
                    {
                        ErrorCode::UnknownTopicOrPartition.code()
                    } else {
                        partition.error_code
                    },
                })
                .collect(),
        })
        .collect();
    OffsetFetchResponse { topics, ..Default::default() }
}
