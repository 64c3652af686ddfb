//! DeleteRecords (key 21), versions 0-2: raises where partitions begin (KIP-107), and answers when every replica has done so.

use std::collections::BTreeMap;
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
            // as in Kafka: whoever names a partition twice means the last
            let mut parts: BTreeMap<TopicPartition, i64> = BTreeMap::new();
            for topic in &request.topics {
                let name: Arc<str> = topic.name.as_str().into();
                let of_topic = topic.partitions.iter();
                parts.extend(of_topic.map(|p| (TopicPartition::new(Arc::clone(&name), p.partition_index), p.offset)));
            }
            let asked: Vec<TopicPartition> = parts.keys().cloned().collect();
            let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0);
            let results = broker.replicas.delete_records(parts.into_iter().collect(), timeout_ms).await;
            let mut topics: Vec<DeleteRecordsTopicResult> = Vec::new();
            for (partition, result) in asked.into_iter().zip(results) {
                let (low_watermark, error_code) = match result {
                    Ok(low_watermark) => (low_watermark, 0),
                    Err(error) => (-1, error.code().code()),
                };
                let partition_index = partition.partition;
                let result = DeleteRecordsPartitionResult { partition_index, low_watermark, error_code };
                match topics.last_mut().filter(|last| *last.name == *partition.topic) {
                    Some(last) => last.partitions.push(result),
                    None => topics
                        .push(DeleteRecordsTopicResult { name: partition.topic.to_string(), partitions: vec![result] }),
                }
            }
            DeleteRecordsResponse { topics, ..Default::default() }
        }))
    }
}
