//! InitProducerId (key 22), versions 0-6: an id for an idempotent producer (KIP-98, KIP-360).
//!
//! Gap: transactions. A request with a transactional id is refused with UNSUPPORTED_VERSION, which no client takes for something that
//! passes; FindCoordinator refuses earlier. Versions 3-6 may ask for a new epoch; without a transactional id everyone gets a new id,
//! as in Kafka.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct InitProducerId;

impl Handler for InitProducerId {
    type Request = InitProducerIdRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: InitProducerIdRequest,
    ) -> Reply<InitProducerIdResponse> {
        Reply::Now(match init(broker, &request).await {
            Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
            Err(error) => InitProducerIdResponse {
                error_code: error.code(),
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            },
        })
    }
}

async fn init(broker: &Arc<Broker>, request: &InitProducerIdRequest) -> Result<i64, ErrorCode> {
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    match request.transactional_id.as_deref() {
        None => {}
        Some("") => return Err(ErrorCode::InvalidRequest),
        Some(_) => return Err(ErrorCode::UnsupportedVersion),
    }
    // Whatever the controller's trouble is, the client has only to ask again.
    broker.producer_ids.next().await.map_err(|_| ErrorCode::CoordinatorLoadInProgress)
}
