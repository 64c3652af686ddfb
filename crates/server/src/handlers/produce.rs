//! Produce (key 0), versions 0-13: appends, and answers when the records are as durable as `acks` asks for.
//!
//! Versions 0-2 carry message sets of magic 0 and 1, which the log takes as one batch each; 3 on magic 2; 7 zstd (KIP-110); 8 names the
//! records at fault (KIP-467); 10 tells where the leader is (KIP-951); 13 names topics by id (KIP-516).
//! Records that begin a transaction in a partition wait for the transaction coordinator, and so does what follows on the connection
//! (KIP-890): it is asked whether they may; 12 on adds the partition to the transaction.
//! A client over its quota is answered, and its connection is not read for that long (KIP-219).

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use milena_common::TopicPartition;
use milena_common::limits::MAX_COMMIT_HERE_BYTES;
use milena_log::validate::check_produce_version;
use milena_log::{AppendInfo, CommitBy, LogError, Origin, TransactionCheck};
use milena_protocol::ErrorCode;
use milena_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use milena_protocol::messages::{ProduceRequest, ProduceResponse};
use milena_protocol::records::BatchView;
use milena_replica::{AppendPart, AppendRequest, ReplicaError};

use crate::broker::Broker;
use crate::heavy_work::{aside, is_heavy};
use crate::leader_hint::LeaderHints;
use crate::quota::Quota;
use crate::request::{Handler, Reply, RequestContext};
use crate::verification::{Beginning, Support, Transaction, ask};

pub(crate) struct Produce;

/// The timeout is about other replicas; Kafka does not wait for the disk, so nobody means the disk by it.
const LEAST_TIMEOUT_MS: u64 = 1000;
/// The first version that names topics by id.
const FIRST_TOPIC_ID: i16 = 13;
/// The first version that may be told of storage errors; older ones look for another leader.
const FIRST_STORAGE_ERROR: i16 = 4;
/// The first version that is told where the leader is.
const FIRST_LEADER_HINT: i16 = 10;
/// The first version that understands TRANSACTION_ABORTABLE.
const FIRST_ABORTABLE: i16 = 11;
/// The first version that adds to its transaction by itself.
const FIRST_IMPLICIT: i16 = 12;

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
        let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0).max(LEAST_TIMEOUT_MS);
        let acks = request.acks;
        let transactional_id = request.transactional_id.clone();
        let (mut answer, mut parts, mut places) = sort(cx, broker, request);
        verify(cx, broker, transactional_id.as_deref(), &mut answer, &mut parts, &mut places).await;
        let refused = answer.responses.iter().flat_map(|t| &t.partition_responses).any(|p| p.error_code != 0);
        let heavy = parts.iter().any(|part| is_heavy(&part.records));
        let request = AppendRequest {
            acks,
            origin: Origin::Client,
            produce_version: Some(cx.api_version),
            timeout_ms,
            // a small one with nothing behind it saves more than others lose while a thread is busy with its sync
            commit: if cx.alone && cx.request_bytes <= MAX_COMMIT_HERE_BYTES {
                CommitBy::Caller
            } else {
                CommitBy::Thread
            },
            parts,
        };
        let append = || broker.replicas.append(request);
        let appended = if heavy { aside(append) } else { append() };
        if acks == 0 {
            let failed = refused || appended.results().iter().any(Result::is_err);
            cx.exempt();
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
    let wait_ms = broker.quotas.produced(cx.who(), cx.request_bytes, broker.clock.now());
    cx.throttle(broker, Quota::Produce, wait_ms)
}

/// The answer with all that is refused at once, and what is to be appended.
fn sort(
    cx: &RequestContext,
    broker: &Broker,
    request: ProduceRequest,
) -> (ProduceResponse, Vec<AppendPart>, Vec<Place>) {
    let by_id = cx.api_version >= FIRST_TOPIC_ID;
    // nobody's transaction: the whole request is refused, before anything else is looked at
    let is_nobodys = request.transactional_id.is_none()
        && (request.topic_data.iter().flat_map(|topic| &topic.partition_data))
            .filter_map(|partition| partition.records.as_ref())
            .any(|records| BatchView::parse(records).is_ok_and(|batch| batch.is_transactional()));
    let image = broker.metadata.load();
    let mut answer = ProduceResponse { responses: Vec::with_capacity(request.topic_data.len()), ..Default::default() };
    let (mut parts, mut places) = (Vec::new(), Vec::new());
    // as in Kafka, nothing is said of a topic without partitions
    for topic in request.topic_data.into_iter().filter(|topic| !topic.partition_data.is_empty()) {
        let found = if by_id { image.topics.by_id(topic.topic_id) } else { image.topics.by_name(&topic.name) };
        let found = found.ok_or(if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition });
        let accepted = found.and_then(|found| {
            let may = broker.replicas.check_client_may_append(&found.name, cx.client_id.as_deref());
            may.map(|()| found).map_err(|error| error.code())
        });
        let accepted = if is_nobodys { Err(ErrorCode::TransactionalIdAuthorizationFailed) } else { accepted };
        let mut answers = Vec::with_capacity(topic.partition_data.len());
        for partition in topic.partition_data {
            let mut told = PartitionProduceResponse { index: partition.index, base_offset: -1, ..Default::default() };
            let records = partition.records.unwrap_or_default();
            let checked = accepted.and_then(|topic| {
                // before anything is said of the records
                topic.partition(partition.index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
                let checked = check_produce_version(&records, cx.api_version);
                checked.map(|()| &topic.name).map_err(|error| ReplicaError::from(LogError::from(error)).code())
            });
            match checked {
                // an empty message set of old is no error, and nothing
                Ok(_) if records.is_empty() => {}
                Ok(name) => {
                    let name = TopicPartition::new(Arc::clone(name), partition.index);
                    let place = Place { topic: answer.responses.len(), partition: answers.len(), name: name.clone() };
                    places.push(place);
                    parts.push(AppendPart { partition: name, records, transaction: TransactionCheck::Off });
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

/// Asks about the parts whose records may begin a transaction, and takes out those that may not.
async fn verify(
    cx: &RequestContext,
    broker: &Broker,
    transactional_id: Option<&str>,
    answer: &mut ProduceResponse,
    parts: &mut Vec<AppendPart>,
    places: &mut Vec<Place>,
) {
    let headers: Vec<_> = parts.iter().map(|part| transactional_header(&part.records)).collect();
    let Some(producer) = headers.iter().flatten().map(|header| header.producer).next() else { return };
    let support = match cx.api_version {
        FIRST_IMPLICIT.. => Support::Implicit,
        FIRST_ABORTABLE.. => Support::Abortable,
        _ => Support::Old,
    };
    let results = match transactional_id {
        None => vec![Err(ErrorCode::TransactionalIdAuthorizationFailed); parts.len()],
        Some(_) if headers.iter().flatten().any(|header| header.producer != producer) => {
            vec![Err(ErrorCode::InvalidProducerIdMapping); parts.len()]
        }
        Some(transactional_id) => {
            let beginnings: Vec<Beginning> = (parts.iter().zip(&headers))
                .filter_map(|(part, header)| Some((part, header.as_ref()?)))
                .map(|(part, header)| Beginning {
                    partition: part.partition.clone(),
                    base_sequence: header.base_sequence,
                })
                .collect();
            let transaction = Transaction { transactional_id, producer, support };
            let mut asked = ask(broker, &transaction, &beginnings).await.into_iter();
            let not_asked = Ok(TransactionCheck::Ticket(None));
            let result =
                |is_transactional| if is_transactional { asked.next().unwrap_or(not_asked) } else { not_asked };
            headers.iter().map(Option::is_some).map(result).collect()
        }
    };
    let mut results = results.into_iter();
    let mut kept = Vec::with_capacity(places.len());
    parts.retain_mut(|part| match results.next() {
        Some(Ok(check)) => {
            part.transaction = check;
            kept.push(Ok(()));
            true
        }
        Some(Err(error)) => {
            kept.push(Err(retriable_for(error, support)));
            false
        }
        None => false,
    });
    let mut kept = kept.into_iter();
    places.retain(|place| match kept.next() {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            let topic = answer.responses.get_mut(place.topic);
            if let Some(told) = topic.and_then(|topic| topic.partition_responses.get_mut(place.partition)) {
                told.error_code = error.code();
                if error == ErrorCode::InvalidTxnState {
                    told.error_message = Some("Partition was not added to the transaction".to_owned());
                }
            }
            false
        }
        None => false,
    });
}

/// What the header of a batch says about its transaction.
struct TransactionalHeader {
    producer: (i64, i16),
    base_sequence: i32,
}

/// `None` if the records belong to none, or cannot be read, which the append says better.
fn transactional_header(records: &Bytes) -> Option<TransactionalHeader> {
    let batch = BatchView::parse(records).ok().filter(|b| b.is_transactional() && b.producer_id() >= 0)?;
    let producer = (batch.producer_id(), batch.producer_epoch());
    Some(TransactionalHeader { producer, base_sequence: batch.base_sequence() })
}

/// Old producers do not ask again for what only passes in the coordinator's time: they are told what makes them.
fn retriable_for(error: ErrorCode, support: Support) -> ErrorCode {
    match error {
        ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        ErrorCode::ConcurrentTransactions if support != Support::Implicit => ErrorCode::NotEnoughReplicas,
        error => error,
    }
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
