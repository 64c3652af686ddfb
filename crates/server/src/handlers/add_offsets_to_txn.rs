//! AddOffsetsToTxn (key 25), versions 0-4: a transaction is about to commit offsets of a group (KIP-98). The partition of
//! `__consumer_offsets` that keeps them becomes part of the transaction.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::TopicPartition;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::txn::before_producer_fenced;
use crate::auto_topics::GROUP_METADATA_TOPIC;
use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct AddOffsetsToTxn;

/// The first version that understands PRODUCER_FENCED.
const FIRST_PRODUCER_FENCED: i16 = 2;

impl Handler for AddOffsetsToTxn {
    type Request = AddOffsetsToTxnRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: AddOffsetsToTxnRequest,
    ) -> Reply<AddOffsetsToTxnResponse> {
        let (broker, is_old) = (Arc::clone(broker), cx.api_version < FIRST_PRODUCER_FENCED);
        Reply::Later(Box::pin(async move {
            let partition = TopicPartition::new(GROUP_METADATA_TOPIC, broker.groups.partition_for(&request.group_id));
            let producer = (request.producer_id, request.producer_epoch);
            let added = broker.transactions.add_partitions(&request.transactional_id, producer, &[partition], 0).await;
            let error = added.err().unwrap_or(ErrorCode::None);
            AddOffsetsToTxnResponse { error_code: before_producer_fenced(error, is_old).code(), ..Default::default() }
        }))
    }
}
