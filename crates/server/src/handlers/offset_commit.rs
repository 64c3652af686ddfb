//! OffsetCommit (key 8), versions 0-10: how far a group has read (KIP-211, KIP-320, KIP-345, KIP-848; topic ids from version 10 on).
//!
//! Version 0 went to ZooKeeper; it is refused with UNSUPPORTED_VERSION, as by a Kafka 3.3 without ZooKeeper.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::Uuid;
use milena_metadata::MetadataImage;
use milena_metadata::image::TopicImage;
use milena_protocol::ErrorCode;
use milena_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use milena_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use milena_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct OffsetCommit;

impl Handler for OffsetCommit {
    type Request = OffsetCommitRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=10;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        mut request: OffsetCommitRequest,
    ) -> Reply<OffsetCommitResponse> {
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        Reply::Later(Box::pin(async move {
            let refused = {
                let image = broker.metadata.load();
                if cx.api_version == 0 && request.topics.iter().any(|topic| image.topics.by_name(&topic.name).is_some())
                {
                    return unsupported(&request);
                }
                resolve(&image, cx.api_version, &mut request)
            };
            if request.topics.is_empty() {
                return OffsetCommitResponse { topics: refused.topics, ..Default::default() };
            }
            let response = broker.groups.offset_commit(cx, request).await;
            refused.merge(response)
        }))
    }
}

/// Leaves in the request what can be committed, with both name and id; gives back the answers to the rest.
fn resolve(image: &MetadataImage, api_version: i16, request: &mut OffsetCommitRequest) -> Refused {
    let mut refused = Refused::default();
    request.topics.retain_mut(|topic| {
        let by_id = api_version >= 10;
        let known = if by_id { image.topics.by_id(topic.topic_id) } else { image.topics.by_name(&topic.name) };
        let Some(known) = known else {
            let error = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
            refused.add(topic, topic.partitions.iter(), error);
            return false;
        };
        known.name.as_ref().clone_into(&mut topic.name);
        topic.topic_id = known.id;
        let is_missing = |partition: &OffsetCommitRequestPartition| !has_partition(known, partition.partition_index);
        if topic.partitions.iter().any(is_missing) {
            let missing = topic.partitions.iter().filter(|partition| is_missing(partition));
            refused.add(topic, missing, ErrorCode::UnknownTopicOrPartition);
            topic.partitions.retain(|partition| !is_missing(partition));
        }
        !topic.partitions.is_empty()
    });
    refused
}

fn has_partition(topic: &TopicImage, partition: i32) -> bool {
    topic.partition(partition).is_some()
}

/// Answers that need no coordinator. They come first, and what the coordinator says of the same topics is added to them.
#[derive(Default)]
struct Refused {
    topics: Vec<OffsetCommitResponseTopic>,
    /// Where a topic is in `topics`.
    index: HashMap<(String, Uuid), usize>,
}

impl Refused {
    fn add<'a>(
        &mut self,
        topic: &OffsetCommitRequestTopic,
        partitions: impl Iterator<Item = &'a OffsetCommitRequestPartition>,
        error: ErrorCode,
    ) {
        let partitions = partitions.map(|partition| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: error.code(),
        });
        let index = *self.index.entry((topic.name.clone(), topic.topic_id)).or_insert_with(|| {
            let topic =
                OffsetCommitResponseTopic { name: topic.name.clone(), topic_id: topic.topic_id, ..Default::default() };
            self.topics.push(topic);
            self.topics.len() - 1
        });
        if let Some(topic) = self.topics.get_mut(index) {
            topic.partitions.extend(partitions);
        }
    }

    fn merge(mut self, response: OffsetCommitResponse) -> OffsetCommitResponse {
        if self.topics.is_empty() {
            return response;
        }
        for mut topic in response.topics {
            let index = self.index.get(&(topic.name.clone(), topic.topic_id));
            match index.and_then(|&index| self.topics.get_mut(index)) {
                Some(known) => known.partitions.append(&mut topic.partitions),
                None => self.topics.push(topic),
            }
        }
        OffsetCommitResponse { topics: self.topics, ..response }
    }
}

fn unsupported(request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let mut refused = Refused::default();
    for topic in &request.topics {
        refused.add(topic, topic.partitions.iter(), ErrorCode::UnsupportedVersion);
    }
    OffsetCommitResponse { topics: refused.topics, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use milena_common::StateMachine;
    use milena_protocol::stored::metadata::{MetadataRecord, PartitionRecord, TopicRecord};

    use super::*;

    const KNOWN: Uuid = Uuid::from_u128(1 << 64);
    const UNKNOWN: Uuid = Uuid::from_u128(2 << 64);

    fn image() -> MetadataImage {
        let mut image = MetadataImage::default();
        let records = [
            MetadataRecord::Topic(TopicRecord { name: "known".into(), topic_id: KNOWN }),
            MetadataRecord::Partition(PartitionRecord { topic_id: KNOWN, partition_id: 0, ..Default::default() }),
        ];
        records.iter().zip(0..).for_each(|(record, offset)| image.replay(offset, record));
        image
    }

    fn request(topics: &[(&str, Uuid, &[i32])]) -> OffsetCommitRequest {
        let partition = |&partition_index| OffsetCommitRequestPartition { partition_index, ..Default::default() };
        let topics = topics.iter().map(|&(name, topic_id, partitions)| OffsetCommitRequestTopic {
            name: name.into(),
            topic_id,
            partitions: partitions.iter().map(partition).collect(),
        });
        OffsetCommitRequest { topics: topics.collect(), ..Default::default() }
    }

    /// Topics and partitions with their errors, where the coordinator takes all that is left.
    fn answered(api_version: i16, mut request: OffsetCommitRequest) -> Vec<(String, Vec<(i32, i16)>)> {
        let refused = resolve(&image(), api_version, &mut request);
        assert!(request.topics.iter().all(|topic| (topic.name.as_str(), topic.topic_id) == ("known", KNOWN)));
        let mut taken = Refused::default();
        request.topics.iter().for_each(|topic| taken.add(topic, topic.partitions.iter(), ErrorCode::None));
        let response = refused.merge(OffsetCommitResponse { topics: taken.topics, ..Default::default() });
        let errors = |topic: &OffsetCommitResponseTopic| {
            topic.partitions.iter().map(|partition| (partition.partition_index, partition.error_code)).collect()
        };
        response.topics.iter().map(|topic| (topic.name.clone(), errors(topic))).collect()
    }

    #[test]
    fn what_does_not_exist_comes_first_as_in_kafka() {
        let topics = request(&[("known", Uuid::ZERO, &[0, 9]), ("missing", Uuid::ZERO, &[0, 1])]);
        let expected = [("known".into(), vec![(9, 3), (0, 0)]), ("missing".into(), vec![(0, 3), (1, 3)])];
        assert_eq!(answered(9, topics), expected);
        let topics = request(&[("", KNOWN, &[0]), ("", UNKNOWN, &[0]), ("", Uuid::ZERO, &[1])]);
        let expected =
            [(String::new(), vec![(0, 100)]), (String::new(), vec![(1, 100)]), ("known".into(), vec![(0, 0)])];
        assert_eq!(answered(10, topics), expected);
        assert_eq!(answered(9, request(&[("known", Uuid::ZERO, &[])])), []);
        assert_eq!(answered(9, request(&[("missing", Uuid::ZERO, &[])])), [("missing".into(), vec![])]);
    }
}
