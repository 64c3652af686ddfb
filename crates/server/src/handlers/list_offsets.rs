//! ListOffsets (key 2), versions 0-11: offsets by timestamp, and the ends of what a client may read.
//!
//! 0 lists ends of segments; 1 answers with one offset (KIP-79); 2 isolation levels; 4 leader epochs (KIP-320); 5 may say that the offset
//! is not known yet (KIP-207); 7 largest timestamp (KIP-734); 8 local start (KIP-405); 9 end of remote storage (KIP-1005); 11 start of
//! what is not in remote storage (KIP-1023).
//! Gaps: there is no remote storage, so its offsets are -1.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::TopicPartition;
use milena_protocol::ErrorCode;
use milena_protocol::messages::list_offsets_request::ListOffsetsPartition;
use milena_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use milena_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use milena_replica::{Isolation, OffsetQuery, OffsetSpec};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct ListOffsets;

/// The replica id of tools that may ask any replica.
const DEBUGGING_REPLICA: i32 = -2;
/// The first version that is told the leader epoch.
const FIRST_LEADER_EPOCH: i16 = 4;
/// The first version that understands OFFSET_NOT_AVAILABLE.
const FIRST_NOT_AVAILABLE: i16 = 5;
/// Most offsets that a request of version 0 gets.
const MAX_OLD_OFFSETS: i32 = 10_000;

impl Handler for ListOffsets {
    type Request = ListOffsetsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=11;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: ListOffsetsRequest,
    ) -> Reply<ListOffsetsResponse> {
        let mut seen = HashMap::<(&str, i32), usize>::new();
        for topic in &request.topics {
            for partition in &topic.partitions {
                *seen.entry((&topic.name, partition.partition_index)).or_default() += 1;
            }
        }
        let mut twice: HashMap<(String, i32), bool> = seen
            .into_iter()
            .filter(|(_, n)| *n > 1)
            .map(|((name, index), _)| ((name.to_owned(), index), false))
            .collect();
        let isolation = match (request.replica_id >= 0, request.isolation_level) {
            (true, _) => Isolation::LogEnd,
            (false, 1) => Isolation::LastStable,
            (false, _) => Isolation::HighWatermark,
        };
        // Kafka stumbles over a level that there is not
        let is_unreadable = request.replica_id < 0 && !matches!(request.isolation_level, 0 | 1);
        let must_lead = request.replica_id != DEBUGGING_REPLICA;
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let name: Arc<str> = topic.name.as_str().into();
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in topic.partitions {
                let query = OffsetQuery { current_leader_epoch: asked.current_leader_epoch, must_lead, isolation };
                let partition = TopicPartition::new(Arc::clone(&name), asked.partition_index);
                let mut is_twice = false;
                if cx.api_version > 0
                    && !twice.is_empty()
                    && let Some(told) = twice.get_mut(&(topic.name.clone(), asked.partition_index))
                {
                    // however often it is asked for, it is refused once
                    if std::mem::replace(told, true) {
                        continue;
                    }
                    is_twice = true;
                }
                partitions.push(match cx.api_version {
                    0 => old_offsets(broker, &partition, &asked, &query),
                    _ if is_unreadable => refused(asked.partition_index, ErrorCode::UnknownServerError),
                    _ if is_twice => refused(asked.partition_index, ErrorCode::InvalidRequest),
                    version => offset(version, broker, &partition, &asked, &query),
                });
            }
            topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
        }
        Reply::Now(ListOffsetsResponse { topics, ..Default::default() })
    }
}

fn refused(partition_index: i32, code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse { partition_index, error_code: code.code(), ..Default::default() }
}

fn offset(
    version: i16,
    broker: &Broker,
    partition: &TopicPartition,
    asked: &ListOffsetsPartition,
    query: &OffsetQuery,
) -> ListOffsetsPartitionResponse {
    let Some(spec) = spec(asked.timestamp, version) else {
        return refused(asked.partition_index, ErrorCode::UnsupportedVersion);
    };
    match broker.replicas.offset_for(partition, spec, query) {
        Ok(found) => {
            let (timestamp, offset, epoch) = found.map_or((-1, -1, None), |f| (f.timestamp, f.offset, f.leader_epoch));
            ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                timestamp,
                offset,
                leader_epoch: epoch.filter(|_| version >= FIRST_LEADER_EPOCH).unwrap_or(-1),
                ..Default::default()
            }
        }
        Err(error) => refused(
            asked.partition_index,
            match error.code() {
                ErrorCode::OffsetNotAvailable if version < FIRST_NOT_AVAILABLE => ErrorCode::LeaderNotAvailable,
                code => code,
            },
        ),
    }
}

/// What a timestamp asks for; none if the version has no such question.
fn spec(timestamp: i64, version: i16) -> Option<OffsetSpec> {
    let (spec, since) = match timestamp {
        -1 => (OffsetSpec::Latest, 1),
        -2 => (OffsetSpec::Earliest, 1),
        -3 => (OffsetSpec::MaxTimestamp, 7),
        -4 => (OffsetSpec::EarliestLocal, 8),
        -5 => (OffsetSpec::LatestTiered, 9),
        -6 => (OffsetSpec::EarliestPendingUpload, 11),
        timestamp if timestamp < 0 => return None,
        timestamp => (OffsetSpec::Timestamp(timestamp), 1),
    };
    (version >= since).then_some(spec)
}

fn old_offsets(
    broker: &Broker,
    partition: &TopicPartition,
    asked: &ListOffsetsPartition,
    query: &OffsetQuery,
) -> ListOffsetsPartitionResponse {
    let max = usize::try_from(asked.max_num_offsets.min(MAX_OLD_OFFSETS)).unwrap_or(0);
    match broker.replicas.offsets_before(partition, asked.timestamp, max, query) {
        Ok(old_style_offsets) => ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            old_style_offsets,
            ..Default::default()
        },
        Err(error) => refused(asked.partition_index, error.code()),
    }
}
