//! WriteTxnMarkers (key 27), versions 0-2: ends of transactions for partitions that this broker leads (KIP-98). Coordinators of other brokers
//! send it, and tools that end a hanging transaction (KIP-664). Version 2 says which transaction version the marker is checked by (KIP-1228).

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
            let mut markers = Vec::with_capacity(request.markers.len());
            for marker in request.markers {
                markers.push(write(&broker, marker).await);
            }
            WriteTxnMarkersResponse { markers }
        }))
    }
}

async fn write(broker: &Broker, asked: WritableTxnMarker) -> WritableTxnMarkerResult {
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
    let results = match marker.producer_id < 0 || marker.producer_epoch < 0 {
        // No batch of a producer, so none that a log could hold.
        true => partitions.iter().map(|_| Err(ErrorCode::UnknownServerError)).collect(),
        false => broker.markers.write(marker, &partitions).await,
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
    WritableTxnMarkerResult { producer_id: asked.producer_id, topics: topics.collect() }
}
