//! TxnOffsetCommit (key 28), versions 0-5: offsets that count when a transaction is committed (KIP-98, KIP-447).
//!
//! Versions 0-4 come after AddOffsetsToTxn, which is checked (KIP-890); version 5 makes the group's partition part of the transaction.
//! Versions 0 and 1 do not know COORDINATOR_LOAD_IN_PROGRESS, versions 0-3 not TRANSACTION_ABORTABLE.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::TopicPartition;
use milena_coordinator::{Verified, txn_commit_error};
use milena_log::TransactionCheck;
use milena_metadata::MetadataImage;
use milena_protocol::ErrorCode;
use milena_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use milena_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use crate::auto_topics::GROUP_METADATA_TOPIC;
use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};
use crate::verification::{Beginning, Support, Transaction, ask};

pub(crate) struct TxnOffsetCommit;

/// The first version that understands COORDINATOR_LOAD_IN_PROGRESS.
const FIRST_LOADING: i16 = 2;
/// The first version that understands TRANSACTION_ABORTABLE.
const FIRST_ABORTABLE: i16 = 4;
/// The first version that adds to the transaction by itself.
const FIRST_IMPLICIT: i16 = 5;

impl Handler for TxnOffsetCommit {
    type Request = TxnOffsetCommitRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        mut request: TxnOffsetCommitRequest,
    ) -> Reply<TxnOffsetCommitResponse> {
        let (cx, broker) = (cx.clone(), Arc::clone(broker));
        Reply::Later(Box::pin(async move {
            let mut refused = refuse_unknown(&broker.metadata.load(), &mut request);
            if request.topics.is_empty() {
                return TxnOffsetCommitResponse { topics: refused, ..Default::default() };
            }
            let mut response = match request.group_id.is_empty() {
                true => txn_commit_error(&request, ErrorCode::InvalidGroupId),
                false => commit(&cx, &broker, request).await,
            };
            let is_old = cx.api_version < FIRST_LOADING;
            for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if is_old && partition.error_code == ErrorCode::CoordinatorLoadInProgress.code() {
                    // Producers of that time fail for good on an error that they do not know.
                    partition.error_code = ErrorCode::CoordinatorNotAvailable.code();
                }
            }
            if refused.is_empty() {
                return response;
            }
            // as in Kafka: one entry for a topic, those that are refused first
            for topic in std::mem::take(&mut response.topics) {
                match refused.iter_mut().find(|known| known.name == topic.name) {
                    Some(known) => known.partitions.extend(topic.partitions),
                    None => refused.push(topic),
                }
            }
            response.topics = refused;
            response
        }))
    }
}

async fn commit(cx: &RequestContext, broker: &Broker, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let support = match cx.api_version {
        FIRST_IMPLICIT.. => Support::Implicit,
        FIRST_ABORTABLE.. => Support::Abortable,
        _ => Support::Old,
    };
    let transaction = Transaction {
        transactional_id: &request.transactional_id,
        producer: (request.producer_id, request.producer_epoch),
        support,
    };
    let partition = TopicPartition::new(GROUP_METADATA_TOPIC, broker.groups.partition_for(&request.group_id));
    let beginning = Beginning { partition, base_sequence: -1 };
    let verified = match ask(broker, &transaction, &[beginning]).await.pop() {
        Some(Ok(TransactionCheck::Ticket(ticket))) => Verified::Asked(ticket),
        Some(Ok(_)) | None => Verified::NotAsked,
        Some(Err(error)) => return txn_commit_error(&request, error),
    };
    broker.groups.txn_offset_commit(cx.group_context(), request, verified).await
}

/// Takes out of the request what does not exist; gives back the answers to it.
fn refuse_unknown(image: &MetadataImage, request: &mut TxnOffsetCommitRequest) -> Vec<TxnOffsetCommitResponseTopic> {
    let mut refused = Vec::new();
    request.topics.retain_mut(|topic| {
        let mut unknown = Vec::new();
        topic.partitions.retain(|partition| {
            let exists = image.topics.partition(&topic.name, partition.partition_index).is_some();
            if !exists {
                unknown.push(TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                });
            }
            exists
        });
        if !unknown.is_empty() {
            refused.push(TxnOffsetCommitResponseTopic { name: topic.name.clone(), partitions: unknown });
        }
        !topic.partitions.is_empty()
    });
    refused
}
