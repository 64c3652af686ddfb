//! OffsetFetch (key 9), versions 0-10: what groups committed; several groups from version 8 on (KIP-709), topic ids from version 10 on
//! (KIP-320, KIP-447, KIP-848).
//!
//! Version 0 read from ZooKeeper; it is refused with UNSUPPORTED_VERSION, as by a Kafka 3.3 without ZooKeeper.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::Uuid;
use milena_metadata::MetadataImage;
use milena_protocol::ErrorCode;
use milena_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use milena_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct OffsetFetch;

const NO_OFFSET: i64 = -1;

impl Handler for OffsetFetch {
    type Request = OffsetFetchRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=10;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: OffsetFetchRequest,
    ) -> Reply<OffsetFetchResponse> {
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        Reply::Later(Box::pin(async move {
            match cx.api_version {
                0 => unsupported(request),
                1..=9 => broker.groups.offset_fetch(cx, request).await,
                _ => {
                    let mut groups = Vec::with_capacity(request.groups.len());
                    for group in request.groups {
                        groups.push(fetch_by_id(&broker, group, request.require_stable).await);
                    }
                    OffsetFetchResponse { groups, ..Default::default() }
                }
            }
        }))
    }
}

/// One group of version 10, which names topics by their ids. Topics that do not exist come last.
async fn fetch_by_id(
    broker: &Broker,
    mut group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let asks_for_all = group.topics.is_none();
    let refused = group.topics.as_mut().map(|topics| take_unknown(&broker.metadata.load(), topics)).unwrap_or_default();
    let mut fetched = broker.groups.offset_fetch_group(group, require_stable).await;
    if fetched.error_code != 0 {
        return fetched;
    }
    if asks_for_all {
        let image = broker.metadata.load();
        fetched.topics.retain_mut(|topic| {
            topic.topic_id = image.topics.id_of(&topic.name).unwrap_or(Uuid::ZERO);
            // This version has no other name for a topic.
            topic.topic_id != Uuid::ZERO
        });
    }
    fetched.topics.extend(refused);
    fetched
}

/// Names the topics that exist, takes out the others and gives back the answers to those.
fn take_unknown(image: &MetadataImage, topics: &mut Vec<OffsetFetchRequestTopics>) -> Vec<OffsetFetchResponseTopics> {
    let mut refused = Vec::new();
    topics.retain_mut(|topic| {
        if let Some(name) = image.topics.name_of(topic.topic_id) {
            name.as_ref().clone_into(&mut topic.name);
            return true;
        }
        let partition = |&partition_index: &i32| OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: NO_OFFSET,
            metadata: Some(String::new()),
            error_code: ErrorCode::UnknownTopicId.code(),
            ..Default::default()
        };
        refused.push(OffsetFetchResponseTopics {
            topic_id: topic.topic_id,
            partitions: topic.partition_indexes.iter().map(partition).collect(),
            ..Default::default()
        });
        false
    });
    refused
}

fn unsupported(request: OffsetFetchRequest) -> OffsetFetchResponse {
    let partition = |partition_index| OffsetFetchResponsePartition {
        partition_index,
        committed_offset: NO_OFFSET,
        metadata: Some(String::new()),
        error_code: ErrorCode::UnsupportedVersion.code(),
        ..Default::default()
    };
    let topics = request.topics.unwrap_or_default().into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partition_indexes.into_iter().map(partition).collect(),
    });
    OffsetFetchResponse { topics: topics.collect(), ..Default::default() }
}
