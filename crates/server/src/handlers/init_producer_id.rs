//! InitProducerId (key 22), versions 0-5: who a producer is (KIP-98, KIP-360, KIP-890).
//!
//! Without a transactional id everyone gets a fresh producer id, also who brings one (versions 3 and later). With one the transaction
//! coordinator answers. Versions 0-3 know no PRODUCER_FENCED. Version 6 (KIP-939, two-phase commits) is Kafka 4.3's unstable one, which it
//! does not advertise either; its fields are understood.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_coordinator::InitProducer;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::txn::before_producer_fenced;
use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct InitProducerId;

/// The first version that understands PRODUCER_FENCED.
const FIRST_PRODUCER_FENCED: i16 = 4;

impl Handler for InitProducerId {
    type Request = InitProducerIdRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: InitProducerIdRequest,
    ) -> Reply<InitProducerIdResponse> {
        let (broker, version) = (Arc::clone(broker), cx.api_version);
        Reply::Later(Box::pin(async move {
            match init(&broker, request).await {
                Ok((producer_id, producer_epoch)) => {
                    InitProducerIdResponse { producer_id, producer_epoch, ..Default::default() }
                }
                Err(error) => InitProducerIdResponse {
                    error_code: before_producer_fenced(error, version < FIRST_PRODUCER_FENCED).code(),
                    producer_id: -1,
                    producer_epoch: -1,
                    ..Default::default()
                },
            }
        }))
    }
}

async fn init(broker: &Arc<Broker>, request: InitProducerIdRequest) -> Result<(i64, i16), ErrorCode> {
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    let Some(transactional_id) = request.transactional_id else {
        // Whatever the controller's trouble is, the client has only to ask again.
        let next = broker.producer_ids.next().await;
        return next.map(|id| (id, 0)).map_err(|_| ErrorCode::CoordinatorLoadInProgress);
    };
    let init = InitProducer {
        transactional_id: transactional_id.into(),
        timeout_ms: request.transaction_timeout_ms,
        expected: (request.producer_id != -1).then_some((request.producer_id, request.producer_epoch)),
    };
    broker.transactions.init_producer_id(init, request.enable2_pc, request.keep_prepared_txn).await
}
