//! WriteTxnMarkers (key 27), versions 0-2: ends of transactions for partitions that this broker leads (KIP-98). Coordinators of other brokers
//! send it, and tools that end a hanging transaction (KIP-664). Version 2 says which transaction version the marker is checked by (KIP-1228).

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::TopicPartition;
use milena_coordinator::TxnMarker;
use milena_protocol::ErrorCode;
use milena_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use milena_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use milena_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct WriteTxnMarkers;

const NO_PRODUCER_EPOCH: i16 = -1;

impl Handler for WriteTxnMarkers {
    type Request = WriteTxnMarkersRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: WriteTxnMarkersRequest,
    ) -> Reply<WriteTxnMarkersResponse> {
        // other brokers have no quota on threads
        cx.exempt();
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            let mut markers: Vec<WritableTxnMarkerResult> = Vec::with_capacity(request.markers.len());
            for marker in request.markers {
                let Some(result) = write(&broker, marker).await else { continue };
                match markers.iter_mut().find(|known| known.producer_id == result.producer_id) {
                    Some(known) => merge(&mut known.topics, result.topics),
                    None => markers.push(result),
                }
            }
            WriteTxnMarkersResponse { markers }
        }))
    }
}

/// As in Kafka: one answer to a partition of a producer, the last.
fn merge(known: &mut Vec<WritableTxnMarkerTopicResult>, more: Vec<WritableTxnMarkerTopicResult>) {
    for topic in more {
        match known.iter_mut().find(|t| t.name == topic.name) {
            Some(known) => {
                let indexes: Vec<i32> = topic.partitions.iter().map(|p| p.partition_index).collect();
                known.partitions.retain(|p| !indexes.contains(&p.partition_index));
                known.partitions.extend(topic.partitions);
            }
            None => known.push(topic),
        }
    }
}

/// `None` if the marker names no partition, of which Kafka says nothing.
async fn write(broker: &Broker, mut asked: WritableTxnMarker) -> Option<WritableTxnMarkerResult> {
    for topic in &mut asked.topics {
        let mut seen = HashSet::new();
        topic.partition_indexes.retain(|index| seen.insert(*index));
    }
    asked.topics.retain(|topic| !topic.partition_indexes.is_empty());
    if asked.topics.is_empty() {
        return None;
    }
    let marker = TxnMarker {
        producer_id: asked.producer_id,
        producer_epoch: asked.producer_epoch,
        committed: asked.transaction_result,
        coordinator_epoch: asked.coordinator_epoch,
        transaction_version: asked.transaction_version.into(),
    };
    let mut partitions = Vec::new();
    for topic in &asked.topics {
        let name: Arc<str> = topic.name.as_str().into();
        partitions.extend(topic.partition_indexes.iter().map(|&index| TopicPartition::new(name.clone(), index)));
    }
    let results: Vec<Result<(), ErrorCode>> = match marker.producer_id < 0 || marker.producer_epoch == NO_PRODUCER_EPOCH
    {
        // No batch of a producer, so none that a log could hold.
        true => partitions.iter().map(|_| Err(ErrorCode::UnknownServerError)).collect(),
        false => {
            let results = broker.markers.write(marker, &partitions).await;
            let image = broker.metadata.load();
            let is_there = |p: &TopicPartition| image.topics.partition(&p.topic, p.partition).is_some();
            // also of a partition of coordinators, which the coordinator only knows not to be its own
            let told = |(result, p)| if is_there(p) { result } else { Err(ErrorCode::UnknownTopicOrPartition) };
            results.into_iter().zip(&partitions).map(told).collect()
        }
    };
    let mut results = results.into_iter();
    let mut result = |partition_index| {
        let error = results.next().unwrap_or(Err(ErrorCode::UnknownServerError)).err();
        let error_code = error.unwrap_or(ErrorCode::None).code();
        WritableTxnMarkerPartitionResult { partition_index, error_code }
    };
    let topics = asked.topics.into_iter().map(|topic| WritableTxnMarkerTopicResult {
        name: topic.name,
        partitions: topic.partition_indexes.into_iter().map(&mut result).collect(),
    });
    Some(WritableTxnMarkerResult { producer_id: asked.producer_id, topics: topics.collect() })
}
