//! OffsetDelete (key 47), version 0: forgets what a group committed for topics that it reads no more (KIP-496).

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_metadata::MetadataImage;
use milena_protocol::ErrorCode;
use milena_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use milena_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct OffsetDelete;

impl Handler for OffsetDelete {
    type Request = OffsetDeleteRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        mut request: OffsetDeleteRequest,
    ) -> Reply<OffsetDeleteResponse> {
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        Reply::Later(Box::pin(async move {
            let refused = take_missing(&broker.metadata.load(), &mut request);
            // Asked even if nothing is left: an error of the group comes before those of its topics.
            let response = broker.groups.offset_delete(cx, request).await;
            if response.error_code == 0 { merge(refused, response) } else { response }
        }))
    }
}

/// Takes out of the request what does not exist, and gives back the answers to it.
fn take_missing(image: &MetadataImage, request: &mut OffsetDeleteRequest) -> Vec<OffsetDeleteResponseTopic> {
    let mut refused = Vec::new();
    request.topics.retain_mut(|topic| {
        let known = image.topics.by_name(&topic.name);
        let exists = |partition: i32| known.is_some_and(|known| known.partition(partition).is_some());
        let missing: Vec<_> = (topic.partitions.iter())
            .filter(|partition| !exists(partition.partition_index))
            .map(|partition| OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
            })
            .collect();
        if known.is_none() || !missing.is_empty() {
            refused.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions: missing });
        }
        topic.partitions.retain(|partition| exists(partition.partition_index));
        !topic.partitions.is_empty()
    });
    refused
}

/// What was refused comes first; what the coordinator says of the same topics is added to it.
fn merge(refused: Vec<OffsetDeleteResponseTopic>, response: OffsetDeleteResponse) -> OffsetDeleteResponse {
    if refused.is_empty() {
        return response;
    }
    let mut topics: Vec<OffsetDeleteResponseTopic> = Vec::with_capacity(refused.len() + response.topics.len());
    let mut index: HashMap<String, usize> = HashMap::new();
    for mut topic in refused.into_iter().chain(response.topics) {
        match index.get(&topic.name).and_then(|&index| topics.get_mut(index)) {
            Some(known) => known.partitions.append(&mut topic.partitions),
            None => {
                index.insert(topic.name.clone(), topics.len());
                topics.push(topic);
            }
        }
    }
    OffsetDeleteResponse { topics, ..response }
}
