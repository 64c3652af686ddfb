//! The task that sends batches to leaders and deals with the answers.
//!
//! One request per broker and round holds one batch per partition. Errors decide: tell the caller, or send again after new metadata
//! and a pause. An idempotent producer takes a new identity when the broker no longer knows its sequence.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use milena_common::TopicPartition;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{InitProducerIdRequest, ProduceRequest, produce_request as produce};
use milena_protocol::records::BatchBuilder;
use tokio::time::Instant;

use super::accumulator::Batch;
use super::{RecordMetadata, Shared};
use crate::error::ClientError;

/// How long the task sleeps when nothing is waiting; any new record wakes it.
const IDLE: Duration = Duration::from_secs(60);

/// What became of one batch.
struct Answer {
    batch: Batch,
    /// Base offset and the broker's append time (-1: the records keep theirs).
    result: Result<(i64, i64), ClientError>,
}

/// A request under way: the broker it goes to, and in the end what became of its batches.
type UnderWay = FuturesUnordered<BoxFuture<'static, (Option<i32>, Vec<Answer>)>>;

/// Runs until the producer is closed and everything is answered.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut identity: Option<(i64, i16)> = None;
    let mut requests = UnderWay::new();
    let mut busy: HashMap<i32, usize> = HashMap::new();
    // a new identity is taken only when nothing with the old one is under way
    let mut lost_identity = false;
    loop {
        if lost_identity && requests.is_empty() {
            lost_identity = false;
            identity = None;
            shared.state().reset_sequences();
        }
        let (ready, next) = if lost_identity {
            (Vec::new(), None)
        } else {
            let picture = shared.client.metadata();
            let may_go = |tp: &TopicPartition| {
                let leader = picture.leader(&tp.topic, tp.partition).unwrap_or(-1);
                busy.get(&leader).is_none_or(|count| *count < shared.config.max_in_flight)
            };
            let mut state = shared.state();
            if state.is_closed() && state.is_empty() {
                return;
            }
            state.take_ready(Instant::now(), may_go)
        };
        if ready.is_empty() {
            let at = next.unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                Some((leader, answers)) = requests.next(), if !requests.is_empty() => {
                    if let Some(count) = busy.get_mut(&leader.unwrap_or(-1)) {
                        *count = count.saturating_sub(1);
                    }
                    for answer in answers {
                        lost_identity |= settle(&shared, answer);
                    }
                    shared.done.notify_waiters();
                }
                () = news(&shared, at) => {}
            }
            continue;
        }
        shared.counts.on_batches(&ready);
        match prepare(&shared, &mut identity, ready).await {
            Ok(batches) => {
                for (leader, batches) in group_by_leader(&shared, batches).await {
                    *busy.entry(leader.unwrap_or(-1)).or_default() += 1;
                    shared.counts.requests.fetch_add(1, Ordering::Relaxed);
                    let shared = shared.clone();
                    requests.push(Box::pin(async move { (leader, send(&shared, leader, batches).await) }));
                }
            }
            Err((batches, error)) => {
                for batch in batches {
                    lost_identity |= settle(&shared, Answer { batch, result: Err(error.clone()) });
                }
                shared.done.notify_waiters();
            }
        }
    }
}

/// Waits until something new is there to be sent, or until `at`.
async fn news(shared: &Shared, at: Instant) {
    let _ = tokio::time::timeout_at(at, shared.work.notified()).await;
}

/// Gives batches their identity and sequences, and has their partitions be part of the transaction.
async fn prepare(
    shared: &Shared,
    identity: &mut Option<(i64, i16)>,
    mut batches: Vec<Batch>,
) -> Result<Vec<Batch>, (Vec<Batch>, ClientError)> {
    if let Some(transactions) = &shared.transactions {
        let partitions: Vec<TopicPartition> = batches.iter().map(|batch| batch.tp.clone()).collect();
        if let Err(error) = transactions.add_partitions(&partitions).await {
            return Err((batches, error));
        }
        *identity = Some(transactions.identity().0);
    } else if shared.is_idempotent() && identity.is_none() {
        match new_identity(shared).await {
            Ok(fresh) => *identity = Some(fresh),
            Err(error) => return Err((batches, error)),
        }
    }
    if let Some((id, epoch)) = *identity {
        let mut state = shared.state();
        for batch in batches.iter_mut().filter(|batch| batch.identity.is_none()) {
            let sequence = state.next_sequence(&batch.tp, batch.records.len());
            batch.identity = Some((id, epoch, sequence));
        }
    }
    Ok(batches)
}

async fn new_identity(shared: &Shared) -> Result<(i64, i16), ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let deadline = Instant::now() + Duration::from_millis(shared.config.max_block_ms);
    for attempt in 0.. {
        match ask_identity(shared, &request).await {
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                tokio::time::sleep(shared.client.config().backoff(attempt)).await;
            }
            result => return result,
        }
    }
    Err(ClientError::Closed)
}

async fn ask_identity(shared: &Shared, request: &InitProducerIdRequest) -> Result<(i64, i16), ClientError> {
    let response = shared.client.any_connection().await?.request(request).await?;
    ClientError::check(response.error_code, None, "producer id")?;
    Ok((response.producer_id, response.producer_epoch))
}

/// Batches by the broker that leads their partition; `None` where no leader is known.
async fn group_by_leader(shared: &Shared, batches: Vec<Batch>) -> BTreeMap<Option<i32>, Vec<Batch>> {
    let client = &shared.client;
    let unknown = |batch: &Batch| client.metadata().leader(&batch.tp.topic, batch.tp.partition).is_none();
    if client.metadata_is_old() || batches.iter().any(unknown) {
        let mut topics: Vec<String> = batches.iter().map(|b| b.tp.topic.to_string()).collect();
        topics.sort();
        topics.dedup();
        // a failure shows as a missing leader, and that is tried again
        let _ = client.refresh_metadata(Some(&topics), false).await;
    }
    let picture = client.metadata();
    let mut groups: BTreeMap<Option<i32>, Vec<Batch>> = BTreeMap::new();
    for batch in batches {
        groups.entry(picture.leader(&batch.tp.topic, batch.tp.partition)).or_default().push(batch);
    }
    groups
}

async fn send(shared: &Shared, leader: Option<i32>, batches: Vec<Batch>) -> Vec<Answer> {
    let all = |batches: Vec<Batch>, error: ClientError| -> Vec<Answer> {
        batches.into_iter().map(|batch| Answer { batch, result: Err(error.clone()) }).collect()
    };
    let Some(leader) = leader else {
        return all(batches, ClientError::api(ErrorCode::LeaderNotAvailable, "leader"));
    };
    let mut answers = Vec::new();
    let mut left = batches.into_iter().peekable();
    while left.peek().is_some() {
        // as many batches as fit into one request
        let mut size = 0;
        let mut chunk = Vec::new();
        while let Some(batch) =
            left.next_if(|batch| chunk.is_empty() || size + batch.size <= shared.config.max_request_size)
        {
            size += batch.size;
            chunk.push(batch);
        }
        match exchange(shared, leader, &chunk).await {
            Ok(mut results) => {
                for batch in chunk {
                    let missing = || Err(ClientError::api(ErrorCode::UnknownServerError, batch.tp.to_string()));
                    let result = results.remove(&batch.tp).unwrap_or_else(missing);
                    answers.push(Answer { batch, result });
                }
            }
            Err(error) => answers.extend(all(chunk, error)),
        }
    }
    answers
}

type Results = BTreeMap<TopicPartition, Result<(i64, i64), ClientError>>;

async fn exchange(shared: &Shared, leader: i32, batches: &[Batch]) -> Result<Results, ClientError> {
    let mut topics: BTreeMap<&str, Vec<produce::PartitionProduceData>> = BTreeMap::new();
    for batch in batches {
        let records = build(shared, batch)?;
        topics.entry(&batch.tp.topic).or_default().push(produce::PartitionProduceData {
            index: batch.tp.partition,
            records: Some(records),
            ..Default::default()
        });
    }
    let transactions = shared.transactions.as_ref();
    let request = ProduceRequest {
        transactional_id: transactions.map(|transactions| transactions.id().to_string()),
        acks: shared.config.acks,
        timeout_ms: i32::try_from(shared.config.client.request_timeout_ms).unwrap_or(i32::MAX),
        topic_data: topics
            .into_iter()
            .map(|(name, partition_data)| produce::TopicProduceData {
                name: name.into(),
                partition_data,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let connection = shared.client.connection(leader).await?;
    // from version 13 on topics go by id, and names serve every broker; version 12 adds partitions to the transaction by itself
    let newest = if transactions.is_some_and(|transactions| !transactions.identity().1) { 11 } else { 12 };
    let version = connection.version_of::<ProduceRequest>(newest)?;
    if shared.config.acks == 0 {
        connection.send_only_at(&request, version).await?;
        return Ok(batches.iter().map(|batch| (batch.tp.clone(), Ok((-1, -1)))).collect());
    }
    let wait = Duration::from_millis(shared.config.client.request_timeout_ms);
    let response = connection.request_at(&request, version, wait).await?;
    let mut results = Results::new();
    for topic in response.responses {
        for p in topic.partition_responses {
            let tp = TopicPartition::new(topic.name.as_str(), p.index);
            let message = p.record_errors.iter().find_map(|e| e.batch_index_error_message.clone()).or(p.error_message);
            let result = ClientError::check(p.error_code, message.as_deref(), &tp.to_string())
                .map(|()| (p.base_offset, p.log_append_time_ms));
            results.insert(tp, result);
        }
    }
    Ok(results)
}

fn build(shared: &Shared, batch: &Batch) -> Result<Bytes, ClientError> {
    let mut builder = BatchBuilder::new(shared.config.compression);
    if let Some((id, epoch, sequence)) = batch.identity {
        builder = builder.with_producer(id, epoch, sequence).with_transactional(shared.transactions.is_some());
    }
    for record in &batch.records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| (Bytes::copy_from_slice(name.as_bytes()), value.clone()))
            .collect();
        builder
            .append(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers)
            .map_err(|error| ClientError::InvalidConfig(format!("{}: {error}", batch.tp)))?;
    }
    builder.build(0).map_err(|error| ClientError::InvalidConfig(format!("{}: {error}", batch.tp)))
}

/// Tells the callers or queues the batch again. True when the producer must take a new identity.
fn settle(shared: &Shared, answer: Answer) -> bool {
    let Answer { batch, result } = answer;
    let tp = batch.tp.clone();
    let error = match result {
        Ok((base_offset, append_time)) => {
            finish(shared, &batch);
            deliver(batch, base_offset, append_time);
            return false;
        }
        // the broker has it already, but no longer knows where
        Err(error) if error.code() == Some(ErrorCode::DuplicateSequenceNumber) => {
            finish(shared, &batch);
            deliver(batch, -1, -1);
            return false;
        }
        Err(error) => error,
    };
    if error.wants_new_metadata() {
        shared.client.forget_age();
    }
    let now = Instant::now();
    let unanswered = matches!(error, ClientError::Timeout(_));
    // a batch before this one failed: once that is written, this one can be
    let early = error.code() == Some(ErrorCode::OutOfOrderSequenceNumber)
        && batch.identity.is_some_and(|(_, _, sequence)| !shared.state().is_next(&tp, sequence));
    if (error.is_retriable() || unanswered || early) && batch.attempts < shared.config.retries && now < batch.expires {
        let pause = shared.client.config().backoff(batch.attempts);
        tracing::warn!(target: "org.apache.kafka.clients.producer.internals.Sender",
            "got error produce response on topic-partition {tp}, retrying ({} attempts left): {error}",
            shared.config.retries - batch.attempts - 1);
        shared.counts.retries.fetch_add(batch.records.len() as u64, Ordering::Relaxed);
        shared.state().put_back(batch, now + pause);
        return false;
    }
    shared.state().finish(&tp, batch.size);
    shared.counts.errors.fetch_add(batch.records.len() as u64, Ordering::Relaxed);
    for record in batch.records {
        let _ = record.outcome.send(Err(error.clone()));
    }
    if let Some(transactions) = &shared.transactions {
        // the identity belongs to the coordinator: aborting renews it
        transactions.on_error(&error);
        return false;
    }
    // whatever the reason, the sequence now has a hole that only a new identity can close
    batch.identity.is_some()
}

fn finish(shared: &Shared, batch: &Batch) {
    let mut state = shared.state();
    if let Some((_, _, sequence)) = batch.identity {
        state.acknowledge(&batch.tp, sequence, batch.records.len());
    }
    state.finish(&batch.tp, batch.size);
}

fn deliver(batch: Batch, base_offset: i64, append_time: i64) {
    for (delta, record) in (0..).zip(batch.records) {
        let _ = record.outcome.send(Ok(RecordMetadata {
            topic: batch.tp.topic.clone(),
            partition: batch.tp.partition,
            offset: if base_offset < 0 { -1 } else { base_offset + delta },
            timestamp: if append_time >= 0 { append_time } else { record.timestamp },
        }));
    }
}
