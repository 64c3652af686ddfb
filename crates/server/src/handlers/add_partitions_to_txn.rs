//! AddPartitionsToTxn (key 24), versions 0-5: partitions that a transaction is about to write to (KIP-98).
//!
//! Versions 0-3 come from clients; 4 on from partition leaders, for many transactions at once, and to ask only whether a partition
//! belongs to one (KIP-890).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::TopicPartition;
use milena_coordinator::TRANSACTION_VERSION_2;
use milena_protocol::ErrorCode;
use milena_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use milena_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use milena_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::txn::before_producer_fenced;
use crate::auto_topics::is_internal;
use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct AddPartitionsToTxn;

/// The first version that understands PRODUCER_FENCED.
const FIRST_PRODUCER_FENCED: i16 = 2;
/// The first version of brokers.
const FIRST_BATCHED: i16 = 4;

impl Handler for AddPartitionsToTxn {
    type Request = AddPartitionsToTxnRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: AddPartitionsToTxnRequest,
    ) -> Reply<AddPartitionsToTxnResponse> {
        let (broker, version) = (Arc::clone(broker), cx.api_version);
        Reply::Later(Box::pin(async move {
            if version < FIRST_BATCHED {
                let asked = Asked {
                    transactional_id: &request.v3_and_below_transactional_id,
                    producer: (request.v3_and_below_producer_id, request.v3_and_below_producer_epoch),
                    verify_only: false,
                    topics: &request.v3_and_below_topics,
                };
                let results_by_topic_v3_and_below = answer(&broker, &asked, version).await;
                return AddPartitionsToTxnResponse { results_by_topic_v3_and_below, ..Default::default() };
            }
            let mut results_by_transaction = Vec::with_capacity(request.transactions.len());
            for transaction in request.transactions {
                let asked = Asked {
                    transactional_id: &transaction.transactional_id,
                    producer: (transaction.producer_id, transaction.producer_epoch),
                    verify_only: transaction.verify_only,
                    topics: &transaction.topics,
                };
                let topic_results = answer(&broker, &asked, version).await;
                let transactional_id = transaction.transactional_id;
                results_by_transaction.push(AddPartitionsToTxnResult { transactional_id, topic_results });
            }
            AddPartitionsToTxnResponse { results_by_transaction, ..Default::default() }
        }))
    }
}

struct Asked<'a> {
    transactional_id: &'a str,
    producer: (i64, i16),
    verify_only: bool,
    topics: &'a [AddPartitionsToTxnTopic],
}

async fn answer(broker: &Broker, asked: &Asked<'_>, version: i16) -> Vec<AddPartitionsToTxnTopicResult> {
    let of_topic = |topic: &AddPartitionsToTxnTopic| {
        let name: Arc<str> = topic.name.as_str().into();
        topic.partitions.iter().map(move |&index| TopicPartition::new(name.clone(), index)).collect::<Vec<_>>()
    };
    let partitions: Vec<TopicPartition> = asked.topics.iter().flat_map(of_topic).collect();
    let mut errors = errors(broker, asked, &partitions, version)
        .await
        .into_iter()
        .map(|error| before_producer_fenced(error, version < FIRST_PRODUCER_FENCED).code());
    let mut result = |&partition_index: &i32| AddPartitionsToTxnPartitionResult {
        partition_index,
        partition_error_code: errors.next().unwrap_or(ErrorCode::UnknownServerError.code()),
    };
    // as in Kafka, which answers such questions by partition: nothing is said of a topic without any
    let is_told = |topic: &&AddPartitionsToTxnTopic| !asked.verify_only || !topic.partitions.is_empty();
    let topics = asked.topics.iter().filter(is_told).map(|topic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic.partitions.iter().map(&mut result).collect(),
    });
    topics.collect()
}

/// One for each partition, in order.
async fn errors(broker: &Broker, asked: &Asked<'_>, partitions: &[TopicPartition], version: i16) -> Vec<ErrorCode> {
    let exists = {
        let image = broker.metadata.load();
        let exists = |p: &TopicPartition| image.topics.partition(&p.topic, p.partition).is_some();
        partitions.iter().map(exists).collect::<Vec<bool>>()
    };
    // clients write no records of coordinators
    let may_write = |p: &TopicPartition| version >= FIRST_BATCHED || !is_internal(&p.topic);
    if exists.contains(&false) || !partitions.iter().all(may_write) {
        let error = |(exists, partition)| match (may_write(partition), exists) {
            (false, _) => ErrorCode::TopicAuthorizationFailed,
            (true, false) => ErrorCode::UnknownTopicOrPartition,
            (true, true) => ErrorCode::OperationNotAttempted,
        };
        return exists.into_iter().zip(partitions).map(error).collect();
    }
    let Asked { transactional_id, producer, .. } = *asked;
    let result = if asked.verify_only {
        broker.transactions.verify_partitions(transactional_id, producer, partitions).await
    } else {
        let client_version = if version >= FIRST_BATCHED { TRANSACTION_VERSION_2 } else { 0 };
        let added = broker.transactions.add_partitions(transactional_id, producer, partitions, client_version).await;
        added.map(|()| vec![ErrorCode::None; partitions.len()])
    };
    result.unwrap_or_else(|error| vec![error; partitions.len()])
}
