//! Produce (key 0), versions 0-13: appends, and answers when the records are as durable as `acks` asks for.
//!
//! Versions 0-2 carry message sets of magic 0 and 1, which the log takes as one batch each; 3 on magic 2; 7 zstd (KIP-110); 8 names the
//! records at fault (KIP-467); 10 tells where the leader is (KIP-951); 13 names topics by id (KIP-516).
//! A client over its quota is answered, and its connection is not read for that long (KIP-219).
//! Gaps: transactional ids are not checked against a coordinator (KIP-890 verification, version 12's implicit adding).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::TopicPartition;
use milena_log::validate::check_produce_version;
use milena_log::{AppendInfo, LogError, Origin};
use milena_protocol::ErrorCode;
use milena_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use milena_protocol::messages::{ProduceRequest, ProduceResponse};
use milena_replica::{AppendPart, AppendRequest, ReplicaError};

use crate::broker::Broker;
use crate::leader_hint::LeaderHints;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct Produce;

/// The first version that names topics by id.
const FIRST_TOPIC_ID: i16 = 13;
/// The first version that may be told of storage errors; older ones look for another leader.
const FIRST_STORAGE_ERROR: i16 = 4;
/// The first version that is told where the leader is.
const FIRST_LEADER_HINT: i16 = 10;

/// Where the answer of an accepted part goes.
struct Place {
    topic: usize,
    partition: usize,
    name: TopicPartition,
}

impl Handler for Produce {
    type Request = ProduceRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=13;

    async fn handle(cx: &RequestContext, broker: &Arc<Broker>, request: ProduceRequest) -> Reply<ProduceResponse> {
        let (acks, timeout_ms) = (request.acks, u64::try_from(request.timeout_ms).unwrap_or(0));
        let (mut answer, parts, places) = sort(cx, broker, request);
        let refused = answer.responses.iter().flat_map(|t| &t.partition_responses).any(|p| p.error_code != 0);
        let appended = broker.replicas.append(AppendRequest {
            acks,
            origin: Origin::Client,
            produce_version: Some(cx.api_version),
            timeout_ms,
            parts,
        });
        if acks == 0 {
            let failed = refused || appended.results().iter().any(Result::is_err);
            throttle(cx, broker);
            return if failed { Reply::Close("a produce with acks=0 failed") } else { Reply::Nothing };
        }
        if appended.is_committed() {
            word(cx, broker, &mut answer, &places, &appended.into_results());
            answer.throttle_time_ms = throttle(cx, broker);
            return Reply::Now(answer);
        }
        let (cx, broker) = (cx.clone(), Arc::clone(broker));
        Reply::Later(Box::pin(async move {
            let results = appended.committed().await;
            word(&cx, &broker, &mut answer, &places, &results);
            answer.throttle_time_ms = throttle(&cx, &broker);
            answer
        }))
    }
}

/// Counts the request for the client's quota.
fn throttle(cx: &RequestContext, broker: &Broker) -> i32 {
    let quotas = &broker.metadata.load().quotas;
    cx.throttle(broker.quotas.produced(quotas, cx.client_id(), cx.request_bytes, broker.clock.now()))
}

/// The answer with all that is refused at once, and what is to be appended.
fn sort(cx: &RequestContext, broker: &Broker, request: ProduceRequest) -> (ProduceResponse, Vec<AppendPart>, Vec<Place>) {
    let by_id = cx.api_version >= FIRST_TOPIC_ID;
    let image = broker.metadata.load();
    let mut answer = ProduceResponse { responses: Vec::with_capacity(request.topic_data.len()), ..Default::default() };
    let (mut parts, mut places) = (Vec::new(), Vec::new());
    for topic in request.topic_data {
        let found =
            if by_id { image.topics.by_id(topic.topic_id) } else { image.topics.by_name(&topic.name) };
        let found = found.ok_or(if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition });
        let accepted = found.and_then(|found| {
            let may = broker.replicas.check_client_may_append(&found.name, cx.client_id.as_deref());
            may.map(|()| Arc::clone(&found.name)).map_err(|error| error.code())
        });
        let mut answers = Vec::with_capacity(topic.partition_data.len());
        for partition in topic.partition_data {
            let mut told = PartitionProduceResponse { index: partition.index, base_offset: -1, ..Default::default() };
            let records = partition.records.unwrap_or_default();
            let checked = accepted.as_ref().map_err(|code| *code).and_then(|name| {
                let checked = check_produce_version(&records, cx.api_version);
                checked.map(|()| name).map_err(|error| ReplicaError::from(LogError::from(error)).code())
            });
            match checked {
                // an empty message set of old is no error, and nothing
                Ok(_) if records.is_empty() => {}
                Ok(name) => {
                    let name = TopicPartition::new(Arc::clone(name), partition.index);
                    let place = Place { topic: answer.responses.len(), partition: answers.len(), name: name.clone() };
                    places.push(place);
                    parts.push(AppendPart { partition: name, records });
                }
                Err(code) => told.error_code = code.code(),
            }
            answers.push(told);
        }
        answer.responses.push(TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: answers,
        });
    }
    (answer, parts, places)
}

/// Writes the results into the answer.
fn word(
    cx: &RequestContext,
    broker: &Broker,
    answer: &mut ProduceResponse,
    places: &[Place],
    results: &[Result<AppendInfo, ReplicaError>],
) {
    let image = broker.metadata.load();
    let mut hints = LeaderHints::new(&image, &cx.connection.listener);
    for (place, result) in places.iter().zip(results) {
        let topic = answer.responses.get_mut(place.topic);
        let Some(told) = topic.and_then(|topic| topic.partition_responses.get_mut(place.partition)) else { continue };
        match result {
            Ok(info) => {
                told.base_offset = info.first_offset;
                told.log_append_time_ms = info.log_append_time_ms;
                told.log_start_offset = info.log_start_offset;
            }
            Err(error) => {
                word_error(cx, broker, told, &place.name, error);
                if error.code() == ErrorCode::NotLeaderOrFollower && cx.api_version >= FIRST_LEADER_HINT {
                    let (leader_id, leader_epoch) = hints.leader_of(&place.name.topic, place.name.partition);
                    told.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
                }
            }
        }
    }
    answer.node_endpoints = (hints.nodes().into_iter())
        .map(|node| NodeEndpoint {
            node_id: node.id,
            host: node.endpoint.host,
            port: i32::from(node.endpoint.port),
            rack: node.rack,
        })
        .collect();
}

fn word_error(
    cx: &RequestContext,
    broker: &Broker,
    told: &mut PartitionProduceResponse,
    partition: &TopicPartition,
    error: &ReplicaError,
) {
    let code = error.code();
    told.error_code = match code {
        ErrorCode::KafkaStorageError if cx.api_version < FIRST_STORAGE_ERROR => ErrorCode::NotLeaderOrFollower,
        code => code,
    }
    .code();
    // as Kafka does: words only where single records are at fault
    if !error.record_errors().is_empty() {
        told.error_message = Some(error.to_string());
    }
    told.record_errors = (error.record_errors().iter())
        .map(|record| BatchIndexAndErrorMessage {
            batch_index: record.batch_index,
            batch_index_error_message: Some(record.message.clone()),
        })
        .collect();
    let known_start = !matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::CorruptMessage
            | ErrorCode::KafkaStorageError
            | ErrorCode::InvalidRequiredAcks
    );
    if known_start && let Ok(log) = broker.replicas.leader_log(partition) {
        told.log_start_offset = log.log_start_offset();
    }
}
