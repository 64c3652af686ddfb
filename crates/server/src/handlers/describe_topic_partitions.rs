//! DescribeTopicPartitions (key 75), version 0: topics page by page, with eligible leader replicas (KIP-966).
//!
//! A page has at most as many partitions as the request says, and `max.request.partition.size.limit`, but at least one. Topics come sorted
//! by name, from the cursor on. Without an authorizer everybody may see every topic and do everything with it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_metadata::MetadataImage;
use milena_metadata::image::PartitionImage;
use milena_protocol::ErrorCode;
use milena_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use milena_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use crate::auto_topics::is_internal;
use crate::broker::Broker;
use crate::operations;
use crate::request::{Handler, Reply, RequestContext};
use crate::topology::Topology;

pub(crate) struct DescribeTopicPartitions;

impl Handler for DescribeTopicPartitions {
    type Request = DescribeTopicPartitionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: DescribeTopicPartitionsRequest,
    ) -> Reply<DescribeTopicPartitionsResponse> {
        let most = broker.config.load().max_request_partition_size_limit;
        let limit = request.response_partition_limit.clamp(1, most.max(1));
        let image = broker.metadata.image();
        Reply::Now(page(&image, &cx.connection.listener, &request, limit))
    }
}

fn page(
    image: &MetadataImage,
    listener: &str,
    request: &DescribeTopicPartitionsRequest,
    limit: i32,
) -> DescribeTopicPartitionsResponse {
    let all = request.topics.is_empty();
    let mut names: BTreeSet<&str> = match all {
        true => image.topics.iter().map(|topic| &*topic.name).collect(),
        false => request.topics.iter().map(|topic| topic.name.as_str()).collect(),
    };
    let mut start = 0;
    if let Some(cursor) = &request.cursor {
        let listed = all || names.contains(cursor.topic_name.as_str());
        if !listed || cursor.partition_index < 0 {
            return refuse(request);
        }
        names.retain(|name| *name >= cursor.topic_name.as_str());
        if names.contains(cursor.topic_name.as_str()) {
            start = cursor.partition_index;
        }
    }
    let topology = Topology::new(image, listener);
    let mut left = usize::try_from(limit).unwrap_or(1);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        let first = std::mem::take(&mut start);
        let next = |partition_index| Some(Cursor { topic_name: name.to_owned(), partition_index });
        if left == 0 {
            response.next_cursor = next(first);
            break;
        }
        let Some(topic) = image.topics.by_name(name) else {
            response.topics.push(missing(name));
            continue;
        };
        let mut partitions = topic.partitions.range(first..);
        let shown: Vec<_> = partitions.by_ref().take(left).map(|(&n, image)| partition(&topology, n, image)).collect();
        left -= shown.len();
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(name.to_owned()),
            topic_id: topic.id,
            is_internal: is_internal(name),
            partitions: shown,
            topic_authorized_operations: operations::TOPIC,
            ..Default::default()
        });
        if let Some((&n, _)) = partitions.next() {
            response.next_cursor = next(n);
            break;
        }
    }
    response
}

fn refuse(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let refused = |name: &String| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(name.clone()),
        ..Default::default()
    };
    let topics = request.topics.iter().map(|topic| refused(&topic.name)).collect();
    DescribeTopicPartitionsResponse { topics, ..Default::default() }
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match milena_metadata::controller::check_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(name.to_owned()),
        is_internal: is_internal(name),
        topic_authorized_operations: operations::TOPIC,
        ..Default::default()
    }
}

fn partition(topology: &Topology<'_>, index: i32, image: &PartitionImage) -> DescribeTopicPartitionsResponsePartition {
    let (leader_id, error) = match topology.leader(image) {
        Ok(leader) => (leader, ErrorCode::None),
        Err(error) => (-1, error),
    };
    DescribeTopicPartitionsResponsePartition {
        error_code: error.code(),
        partition_index: index,
        leader_id,
        leader_epoch: image.leader_epoch,
        replica_nodes: image.replicas.clone(),
        isr_nodes: image.isr.clone(),
        eligible_leader_replicas: Some(image.elr.clone()),
        last_known_elr: Some(image.last_known_elr.clone()),
        offline_replicas: topology.offline(image),
    }
}
