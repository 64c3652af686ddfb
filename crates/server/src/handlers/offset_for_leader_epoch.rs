//! OffsetForLeaderEpoch (key 23), versions 0-4: where a leader epoch ends, so that a reader sees whether its log was cut (KIP-101,
//! KIP-279, KIP-320).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::TopicPartition;
use milena_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;
use milena_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use milena_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct OffsetForLeaderEpoch;

impl Handler for OffsetForLeaderEpoch {
    type Request = OffsetForLeaderEpochRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: OffsetForLeaderEpochRequest,
    ) -> Reply<OffsetForLeaderEpochResponse> {
        let topics = request.topics.into_iter().map(|topic| answer(broker, topic)).collect();
        Reply::Now(OffsetForLeaderEpochResponse { topics, ..Default::default() })
    }
}

fn answer(broker: &Broker, topic: OffsetForLeaderTopic) -> OffsetForLeaderTopicResult {
    let name: Arc<str> = topic.topic.as_str().into();
    let partitions = topic.partitions.into_iter().map(|asked| {
        let partition = TopicPartition::new(Arc::clone(&name), asked.partition);
        let found = broker.replicas.end_offset_for_epoch(&partition, asked.current_leader_epoch, asked.leader_epoch);
        match found {
            Ok((leader_epoch, end_offset)) => {
                EpochEndOffset { partition: asked.partition, leader_epoch, end_offset, ..Default::default() }
            }
            Err(error) => {
                EpochEndOffset { partition: asked.partition, error_code: error.code().code(), ..Default::default() }
            }
        }
    });
    OffsetForLeaderTopicResult { partitions: partitions.collect(), topic: topic.topic }
}
