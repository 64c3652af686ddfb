//! DescribeProducers (key 61), version 0: the producers that a partition's leader knows, and their open transactions (KIP-664).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::TopicPartition;
use milena_log::ProducerEntry;
use milena_protocol::ErrorCode;
use milena_protocol::messages::describe_producers_request::TopicRequest;
use milena_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use milena_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DescribeProducers;

impl Handler for DescribeProducers {
    type Request = DescribeProducersRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: DescribeProducersRequest,
    ) -> Reply<DescribeProducersResponse> {
        let image = broker.metadata.image();
        let topics = request.topics.into_iter().map(|topic| {
            if image.topics.by_name(&topic.name).is_none() {
                return unknown(topic);
            }
            let name: Arc<str> = topic.name.as_str().into();
            let describe = |index| describe(broker, &TopicPartition::new(name.clone(), index));
            let partitions = topic.partition_indexes.into_iter().map(describe).collect();
            TopicResponse { name: topic.name, partitions }
        });
        Reply::Now(DescribeProducersResponse { topics: topics.collect(), ..Default::default() })
    }
}

/// In words only when the whole topic is not there, as in Kafka.
fn unknown(topic: TopicRequest) -> TopicResponse {
    let error = match milena_metadata::controller::check_topic_name(&topic.name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    let unknown = |partition_index| PartitionResponse {
        partition_index,
        error_code: error.code(),
        error_message: Some(error.message().to_owned()),
        ..Default::default()
    };
    TopicResponse { partitions: topic.partition_indexes.into_iter().map(unknown).collect(), name: topic.name }
}

fn describe(broker: &Broker, partition: &TopicPartition) -> PartitionResponse {
    let told = PartitionResponse { partition_index: partition.partition, ..Default::default() };
    match broker.replicas.leader_log(partition) {
        Ok(log) => PartitionResponse { active_producers: log.producers().iter().map(state_of).collect(), ..told },
        Err(error) => PartitionResponse { error_code: error.code().code(), ..told },
    }
}

fn state_of(entry: &ProducerEntry) -> ProducerState {
    ProducerState {
        producer_id: entry.producer_id,
        producer_epoch: entry.producer_epoch.into(),
        last_sequence: entry.last_sequence(),
        last_timestamp: entry.last_timestamp,
        coordinator_epoch: entry.coordinator_epoch,
        current_txn_start_offset: entry.current_txn_first_offset.unwrap_or(-1),
    }
}
