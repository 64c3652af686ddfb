//! DeleteRecords (key 21), versions 0-2: raises where partitions begin (KIP-107), and answers when every replica has done so.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::TopicPartition;
use milena_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use milena_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DeleteRecords;

impl Handler for DeleteRecords {
    type Request = DeleteRecordsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: DeleteRecordsRequest,
    ) -> Reply<DeleteRecordsResponse> {
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            let mut parts = Vec::new();
            for topic in &request.topics {
                let name: Arc<str> = topic.name.as_str().into();
                let of_topic = topic.partitions.iter();
                parts.extend(of_topic.map(|p| (TopicPartition::new(Arc::clone(&name), p.partition_index), p.offset)));
            }
            let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0);
            let mut results = broker.replicas.delete_records(parts, timeout_ms).await.into_iter();
            let topics = request.topics.into_iter().map(|topic| {
                let results = topic.partitions.iter().zip(results.by_ref()).map(|(asked, result)| {
                    let (low_watermark, error_code) = match result {
                        Ok(low_watermark) => (low_watermark, 0),
                        Err(error) => (-1, error.code().code()),
                    };
                    DeleteRecordsPartitionResult { partition_index: asked.partition_index, low_watermark, error_code }
                });
                DeleteRecordsTopicResult { partitions: results.collect(), name: topic.name }
            });
            DeleteRecordsResponse { topics: topics.collect(), ..Default::default() }
        }))
    }
}
