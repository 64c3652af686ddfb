//! DescribeQuorum (key 55), versions 0-2: who votes on the metadata and how far everybody has read (KIP-595, KIP-836, KIP-853).
//!
//! Without an authorizer everybody may see it. Anything but partition 0 of `__cluster_metadata`, asked for alone, is unknown.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use milena_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use milena_raft::ReplicaProgress;

use crate::broker::Broker;
use crate::quorum_wire::METADATA_TOPIC;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DescribeQuorum;

impl Handler for DescribeQuorum {
    type Request = DescribeQuorumRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: DescribeQuorumRequest,
    ) -> Reply<DescribeQuorumResponse> {
        let alone = match request.topics.as_slice() {
            [topic] => {
                topic.topic_name == METADATA_TOPIC
                    && matches!(topic.partitions.as_slice(), [p] if p.partition_index == 0)
            }
            _ => false,
        };
        if !alone {
            return Reply::Now(unknown(request, cx.api_version));
        }
        let nodes = if cx.api_version >= 2 { nodes(broker) } else { Vec::new() };
        let topic =
            TopicData { topic_name: METADATA_TOPIC.to_owned(), partitions: vec![partition(broker, cx.api_version)] };
        Reply::Now(DescribeQuorumResponse { topics: vec![topic], nodes, ..Default::default() })
    }
}

/// What the leader knows of the quorum's only partition.
fn partition(broker: &Broker, version: i16) -> PartitionData {
    let status = broker.raft.status();
    let state = |progress: ReplicaProgress| ReplicaState {
        replica_id: progress.replica.id,
        replica_directory_id: if version >= 2 { progress.replica.directory_id } else { milena_common::Uuid::ZERO },
        log_end_offset: progress.log_end_offset,
        last_fetch_timestamp: if version >= 1 { progress.last_fetch_wall_ms } else { -1 },
        last_caught_up_timestamp: if version >= 1 { progress.last_caught_up_wall_ms } else { -1 },
    };
    let (voters, observers): (Vec<_>, Vec<_>) = broker.raft.replicas().into_iter().partition(|p| p.is_voter);
    if status.epoch_start_offset.is_none() {
        return PartitionData { error_code: ErrorCode::NotLeaderOrFollower.code(), ..Default::default() };
    }
    PartitionData {
        leader_id: status.leader_id,
        leader_epoch: status.epoch,
        high_watermark: status.high_watermark,
        current_voters: voters.into_iter().map(state).collect(),
        observers: observers.into_iter().map(state).collect(),
        ..Default::default()
    }
}

/// Where the controllers listen.
fn nodes(broker: &Broker) -> Vec<Node> {
    let image = broker.metadata.image();
    let node = |id: i32| {
        let endpoints = image.cluster.controllers.get(&id).map(|controller| controller.endpoints.as_slice());
        let listener = |endpoint: &milena_metadata::image::Endpoint| Listener {
            name: endpoint.name.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
        };
        Node { node_id: id, listeners: endpoints.unwrap_or_default().iter().map(listener).collect() }
    };
    broker.raft.voters().into_iter().map(|voter| node(voter.id)).collect()
}

fn unknown(request: DescribeQuorumRequest, version: i16) -> DescribeQuorumResponse {
    let code = ErrorCode::UnknownTopicOrPartition;
    let message = if version >= 2 { code.message() } else { "" };
    let topics = request.topics.into_iter().map(|topic| TopicData {
        topic_name: topic.topic_name,
        partitions: (topic.partitions.into_iter())
            .map(|partition| PartitionData {
                partition_index: partition.partition_index,
                error_code: code.code(),
                error_message: Some(message.to_owned()),
                ..Default::default()
            })
            .collect(),
    });
    DescribeQuorumResponse { topics: topics.collect(), ..Default::default() }
}
