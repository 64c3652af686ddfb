//! Fetch (key 1), versions 0-18: reads records for consumers and followers, and waits for them if there are too few.
//!
//! 4 isolation levels, 5 log starts, 7 sessions (KIP-227), 9 leader epochs (KIP-320), 10 zstd (KIP-110), 11 followers may serve consumers
//! (KIP-392), 12 diverging epochs (KIP-595), 13 topic ids (KIP-516), 15 epochs of brokers that replicate (KIP-903), 16 tells where the
//! leader is (KIP-951). Versions 0-3 get batches converted to magic 0 or 1.
//! A consumer over its quota is given nothing but for how long it must wait, and its connection is not read for that long (KIP-219). One
//! fetch gives no more than the quota allows in all its samples.
//! Gaps: a replica's directory (17) and high watermark (18) are not looked at.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use milena_common::config::value::CompressionType;
use milena_common::{TopicPartition, Uuid};
use milena_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use milena_protocol::messages::{FetchRequest, FetchResponse};
use milena_protocol::records::{DecompressLimit, RecordsError, legacy};
use milena_protocol::{ErrorCode, Listeners};
use milena_replica::{
    FetchContext, FetchParams, FetchPart, FetchedPart, ReplicaError, SessionError, SessionPart, SessionRequest,
    TopicRef,
};

use crate::broker::Broker;
use crate::fetch_versions::{self, FIRST_TOPIC_ID};
use crate::heavy_work::{aside, is_heavy};
use crate::leader_hint::LeaderHints;
use crate::quota::Quota;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct Fetch;

/// The first version whose response has a limit of its own; before, every partition may exceed its limit by one batch.
const FIRST_MAX_BYTES: i16 = 3;
/// The first version that understands magic 2.
const FIRST_MAGIC_2: i16 = 4;
/// The first version that may be told of storage errors; older ones look for another leader.
const FIRST_STORAGE_ERROR: i16 = 6;
/// The first version that understands zstd.
const FIRST_ZSTD: i16 = 10;
/// The first version of consumers that followers may serve.
const FIRST_FROM_FOLLOWER: i16 = 11;
/// The first version that is told where the leader is.
const FIRST_LEADER_HINT: i16 = 16;
/// The only selector of replicas that there is.
const RACK_AWARE_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
/// Stretches without anything an old consumer understands that are passed over in one fetch.
const MAX_SKIPS: usize = 64;

/// A fetch on its way.
struct Fetching {
    cx: RequestContext,
    broker: Arc<Broker>,
    params: FetchParams,
    context: FetchContext,
    /// The name of each of the context's partitions, or why it is not read.
    names: Vec<Result<TopicPartition, ReplicaError>>,
    /// Those that are read.
    parts: Vec<FetchPart>,
}

impl Handler for Fetch {
    type Request = FetchRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=18;

    async fn handle(cx: &RequestContext, broker: &Arc<Broker>, request: FetchRequest) -> Reply<FetchResponse> {
        if cx.connection.kind == Listeners::CONTROLLER {
            return Reply::Later(Box::pin(fetch_metadata(Arc::clone(broker), request, cx.api_version)));
        }
        if !matches!(request.isolation_level, 0 | 1) {
            return Reply::Now(stumble(cx, &request));
        }
        let params = params(cx, broker, &request);
        let session = SessionRequest::new(request, cx.api_version >= FIRST_TOPIC_ID, params.replica_id >= 0);
        let context = match broker.replicas.sessions().begin(session, broker.clock.now()) {
            Ok(context) => context,
            Err(error) => return Reply::Now(FetchResponse { error_code: error.code().code(), ..Default::default() }),
        };
        let fetching = Fetching::new(cx.clone(), Arc::clone(broker), params, context);
        let results = broker.replicas.fetch_now(&fetching.params, &fetching.parts);
        if broker.replicas.is_enough(&fetching.params, &results) {
            return Reply::Now(fetching.answer(results));
        }
        Reply::Later(Box::pin(async move {
            let replicas = Arc::clone(&fetching.broker.replicas);
            let results = replicas.fetch_more(&fetching.params, &fetching.parts, results).await;
            fetching.answer(results)
        }))
    }
}

/// On a listener of the controller there is only the metadata log, for the members of the quorum.
async fn fetch_metadata(broker: Arc<Broker>, request: FetchRequest, version: i16) -> FetchResponse {
    let answer = broker.quorum_answer(broker.quorum_wire.read_fetch(request, version)).await;
    broker.quorum_wire.word_fetch(answer, broker.raft.start_offset())
}

/// Kafka's answer to an isolation level that there is not.
fn stumble(cx: &RequestContext, request: &FetchRequest) -> FetchResponse {
    let error_code = ErrorCode::UnknownServerError.code();
    if cx.api_version >= FIRST_TOPIC_ID {
        return FetchResponse { error_code, ..Default::default() };
    }
    let responses = request.topics.iter().map(|topic| {
        let failed =
            |index| PartitionData { error_code, ..word(cx, index, refused(ReplicaError::UnknownTopicOrPartition)) };
        let partitions = topic.partitions.iter().map(|p| failed(p.partition)).collect();
        FetchableTopicResponse { topic: topic.topic.clone(), partitions, ..Default::default() }
    });
    FetchResponse { error_code, responses: responses.collect(), ..Default::default() }
}

fn params(cx: &RequestContext, broker: &Broker, request: &FetchRequest) -> FetchParams {
    let (replica_id, replica_epoch) = fetch_versions::replica(request, cx.api_version);
    let mut max_bytes = size(request.max_bytes.min(broker.config.load().fetch_max_bytes));
    if replica_id < 0 {
        max_bytes = max_bytes.min(broker.quotas.most_fetched(cx.who()).unwrap_or(usize::MAX));
    }
    FetchParams {
        replica_id,
        replica_epoch,
        read_committed: request.isolation_level == 1,
        from_follower: cx.api_version >= FIRST_FROM_FOLLOWER,
        client_rack: client_rack(cx, broker, &request.rack_id),
        max_wait_ms: u64::try_from(request.max_wait_ms).unwrap_or(0),
        min_bytes: size(request.min_bytes).min(max_bytes),
        max_bytes,
        one_batch_each: cx.api_version < FIRST_MAX_BYTES,
    }
}

/// The consumer's rack, if it counts (`replica.selector.class`).
fn client_rack(cx: &RequestContext, broker: &Broker, rack: &str) -> Option<String> {
    let config = broker.config.load();
    let selects = config.replica_selector_class.as_deref() == Some(RACK_AWARE_SELECTOR);
    (selects && cx.api_version >= FIRST_FROM_FOLLOWER && !rack.is_empty()).then(|| rack.to_owned())
}

fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

impl Fetching {
    fn new(cx: RequestContext, broker: Arc<Broker>, params: FetchParams, context: FetchContext) -> Fetching {
        let image = broker.metadata.load();
        let resolve = |part: &SessionPart| {
            let (topic, unknown) = match &part.topic {
                TopicRef::Id(id) => (image.topics.by_id(*id), ReplicaError::UnknownTopicId),
                TopicRef::Name(name) => (image.topics.by_name(name), ReplicaError::UnknownTopicOrPartition),
            };
            let topic = topic.ok_or(unknown)?;
            let known = topic.partition(part.partition).is_some();
            let name = TopicPartition::new(Arc::clone(&topic.name), part.partition);
            if known { Ok(name) } else { Err(ReplicaError::UnknownTopicOrPartition) }
        };
        let names: Vec<_> = context.parts.iter().map(resolve).collect();
        let parts = context.parts.iter().zip(&names).filter_map(|(part, name)| {
            Some(FetchPart {
                partition: name.as_ref().ok()?.clone(),
                topic_id: match &part.topic {
                    TopicRef::Id(id) => *id,
                    TopicRef::Name(_) => Uuid::ZERO,
                },
                current_leader_epoch: part.current_leader_epoch,
                fetch_offset: part.fetch_offset,
                last_fetched_epoch: part.last_fetched_epoch,
                log_start_offset: part.log_start_offset,
                max_bytes: size(part.max_bytes),
            })
        });
        let parts = parts.collect();
        Fetching { cx, broker, params, context, names, parts }
    }

    /// Words what was found, and lets the session leave out what has no news.
    fn answer(self, results: Vec<FetchedPart>) -> FetchResponse {
        let Fetching { cx, broker, params, context, names, parts } = self;
        if params.replica_id >= 0 {
            broker.replicas.on_replicated(&parts, &results);
        }
        let image = broker.metadata.load();
        let mut hints = LeaderHints::new(&image, &cx.connection.listener);
        let (mut read, mut asked) = (results.into_iter(), parts.into_iter());
        let mut news = Vec::with_capacity(names.len());
        let mut data = Vec::with_capacity(names.len());
        for (part, name) in context.parts.iter().zip(&names) {
            let fetched = match name {
                Ok(_) => {
                    let fetched = read.next().unwrap_or_default();
                    match asked.next() {
                        Some(asked) if cx.api_version < FIRST_ZSTD => fit(&cx, &broker, &params, asked, fetched),
                        _ => fetched,
                    }
                }
                Err(error) => refused(error.clone()),
            };
            news.push(fetched.news());
            let mut told = word(&cx, part.partition, fetched);
            let code = ErrorCode::from_code(told.error_code);
            if cx.api_version >= FIRST_LEADER_HINT
                && matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch)
                && let Ok(name) = name
            {
                let (leader_id, leader_epoch) = hints.leader_of(&name.topic, name.partition);
                told.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
            }
            data.push((part.topic.clone(), told));
        }
        let sessions = broker.replicas.sessions();
        let failed = |error: SessionError, throttle_time_ms| FetchResponse {
            error_code: error.code().code(),
            throttle_time_ms,
            ..Default::default()
        };
        // consumers have quotas, followers do not
        let throttle_time_ms = match params.replica_id {
            ..0 => throttle(&cx, &broker, response_bytes(&data)),
            0.. => {
                cx.exempt();
                0
            }
        };
        if throttle_time_ms > 0 {
            return match sessions.postpone(context) {
                Ok(session_id) => FetchResponse { throttle_time_ms, session_id, ..Default::default() },
                Err(error) => failed(error, throttle_time_ms),
            };
        }
        let (session_id, named) = match sessions.finish(context, &news, broker.clock.now()) {
            Ok(finished) => finished,
            Err(error) => return failed(error, 0),
        };
        let named = data.into_iter().zip(named).filter_map(|(data, named)| named.then_some(data)).collect::<Vec<_>>();
        let node_endpoints = (hints.nodes().into_iter())
            .map(|node| NodeEndpoint {
                node_id: node.id,
                host: node.endpoint.host,
                port: i32::from(node.endpoint.port),
                rack: node.rack,
            })
            .collect();
        FetchResponse { session_id, responses: by_topic(named.into_iter()), node_endpoints, ..Default::default() }
    }
}

/// Counts what a consumer is about to be given; if it must wait, it is not given that.
fn throttle(cx: &RequestContext, broker: &Broker, bytes: usize) -> i32 {
    let wait_ms = broker.quotas.fetched(cx.who(), bytes, broker.clock.now());
    let told = cx.throttle(broker, Quota::Fetch, wait_ms);
    if told > 0 {
        broker.quotas.not_fetched(cx.who(), bytes, broker.clock.now());
    }
    told
}

/// About as many bytes as the answer takes.
fn response_bytes(data: &[(TopicRef, PartitionData)]) -> usize {
    /// Of a response, and of a partition in it, besides records and aborted transactions.
    const FIXED: usize = 16;
    const OF_A_PARTITION: usize = 48;
    const OF_AN_ABORTED_TRANSACTION: usize = 17;
    let of_one = |told: &PartitionData| {
        let aborted = told.aborted_transactions.as_ref().map_or(0, Vec::len);
        let records: usize = told.records.iter().flatten().map(Bytes::len).sum();
        OF_A_PARTITION + aborted * OF_AN_ABORTED_TRANSACTION + records
    };
    FIXED + data.iter().map(|(_, told)| of_one(told)).sum::<usize>()
}

/// Neighbours of the same topic together.
fn by_topic(data: impl Iterator<Item = (TopicRef, PartitionData)>) -> Vec<FetchableTopicResponse> {
    let mut topics: Vec<(TopicRef, FetchableTopicResponse)> = Vec::new();
    for (topic, data) in data {
        match topics.last_mut() {
            Some((last, response)) if *last == topic => response.partitions.push(data),
            _ => {
                let mut response = FetchableTopicResponse { partitions: vec![data], ..Default::default() };
                match &topic {
                    TopicRef::Id(id) => response.topic_id = *id,
                    TopicRef::Name(name) => response.topic = name.to_string(),
                }
                topics.push((topic, response));
            }
        }
    }
    topics.into_iter().map(|(_, response)| response).collect()
}

fn word(cx: &RequestContext, partition_index: i32, fetched: FetchedPart) -> PartitionData {
    let code = match fetched.error.as_ref().map_or(ErrorCode::None, ReplicaError::code) {
        ErrorCode::KafkaStorageError if cx.api_version < FIRST_STORAGE_ERROR => ErrorCode::NotLeaderOrFollower,
        code => code,
    };
    let aborted = |found: Vec<milena_log::AbortedTransaction>| {
        let word = |a: milena_log::AbortedTransaction| AbortedTransaction {
            producer_id: a.producer_id,
            first_offset: a.first_offset,
        };
        found.into_iter().map(word).collect()
    };
    PartitionData {
        partition_index,
        error_code: code.code(),
        high_watermark: fetched.high_watermark,
        last_stable_offset: fetched.last_stable_offset,
        log_start_offset: fetched.log_start_offset,
        diverging_epoch: fetched
            .diverging_epoch
            .map_or_else(EpochEndOffset::default, |(epoch, end_offset)| EpochEndOffset { epoch, end_offset }),
        preferred_read_replica: fetched.preferred_read_replica.unwrap_or(-1),
        aborted_transactions: fetched.aborted_transactions.map(aborted),
        records: Some(fetched.records).filter(|_| code != ErrorCode::UnsupportedCompressionType),
        ..Default::default()
    }
}

/// One piece; several are copied together.
fn contiguous(pieces: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(pieces) {
        Ok([one]) => one,
        Err(several) => Bytes::from(several.concat()),
    }
}

/// What was not read at all has, as in Kafka, a list of aborted transactions.
fn refused(error: ReplicaError) -> FetchedPart {
    let mut failed = FetchedPart::failed(error);
    failed.aborted_transactions = Some(Vec::new());
    failed
}

/// Makes of records what an old client understands: before version 4 no magic 2. A topic that the broker compresses with zstd is
/// refused before version 10; what a producer compressed with it is the reader's affair, as in Kafka.
fn fit(
    cx: &RequestContext,
    broker: &Broker,
    params: &FetchParams,
    mut part: FetchPart,
    mut fetched: FetchedPart,
) -> FetchedPart {
    let log = broker.replicas.logs().get(&part.partition);
    if log.is_some_and(|log| log.config().compression_type == CompressionType::Zstd) && fetched.error.is_none() {
        return refused(ReplicaError::UnsupportedCompression);
    }
    if cx.api_version >= FIRST_MAGIC_2 {
        return fetched;
    }
    let magic = if cx.api_version < 2 { 0 } else { 1 };
    for _ in 0..MAX_SKIPS {
        if fetched.records.is_empty() {
            break;
        }
        let stored = contiguous(std::mem::take(&mut fetched.records));
        let convert = || legacy::down_convert(&stored, magic, part.fetch_offset, DecompressLimit::default());
        let fitted = if is_heavy(&stored) { aside(convert) } else { convert() };
        match fitted {
            Ok(fitted) => {
                fetched.records = fitted.records;
                if !fetched.records.is_empty() || fitted.next_offset <= part.fetch_offset {
                    break;
                }
                // nothing but markers: an old consumer would ask for them for ever
                part.fetch_offset = fitted.next_offset;
                let again = broker.replicas.fetch_now(params, std::slice::from_ref(&part));
                fetched = again.into_iter().next().unwrap_or_default();
            }
            Err(error) => return refused(unreadable(error)),
        }
    }
    fetched
}

fn unreadable(error: RecordsError) -> ReplicaError {
    match error {
        RecordsError::Codec(_) => ReplicaError::UnsupportedCompression,
        error => ReplicaError::Unreadable(error.to_string()),
    }
}
