//! EndTxn (key 26), versions 0-5: commits or aborts a transaction (KIP-98). Answered when the decision is on record; the markers follow.
//!
//! Version 5 is that of producers that get an epoch with each transaction, and the answer tells it (KIP-890). Versions 0 and 1 know
//! no PRODUCER_FENCED.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_coordinator::TRANSACTION_VERSION_2;
use milena_protocol::messages::{EndTxnRequest, EndTxnResponse};

use super::txn::before_producer_fenced;
use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct EndTxn;

/// The first version that understands PRODUCER_FENCED.
const FIRST_PRODUCER_FENCED: i16 = 2;
/// The first version whose producers get an epoch with each transaction.
const FIRST_EPOCH_BUMP: i16 = 5;

impl Handler for EndTxn {
    type Request = EndTxnRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(cx: &RequestContext, broker: &Arc<Broker>, request: EndTxnRequest) -> Reply<EndTxnResponse> {
        let (broker, version) = (Arc::clone(broker), cx.api_version);
        Reply::Later(Box::pin(async move {
            let producer = (request.producer_id, request.producer_epoch);
            let client_version = if version >= FIRST_EPOCH_BUMP { TRANSACTION_VERSION_2 } else { 0 };
            let (id, commit) = (&request.transactional_id, request.committed);
            match broker.transactions.end_transaction(id, producer, commit, client_version).await {
                Ok(ended) if version >= FIRST_EPOCH_BUMP => EndTxnResponse {
                    producer_id: ended.producer_id,
                    producer_epoch: ended.producer_epoch,
                    ..Default::default()
                },
                Ok(_) => EndTxnResponse::default(),
                Err(error) => EndTxnResponse {
                    error_code: before_producer_fenced(error, version < FIRST_PRODUCER_FENCED).code(),
                    ..Default::default()
                },
            }
        }))
    }
}
