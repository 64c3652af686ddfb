//! AllocateProducerIds (key 67), version 0: a block of producer ids for one broker (KIP-730). The active controller decides; the answer waits until it is committed.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct AllocateProducerIds;

impl Handler for AllocateProducerIds {
    type Request = AllocateProducerIdsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: AllocateProducerIdsRequest,
    ) -> Reply<AllocateProducerIdsResponse> {
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            let answer = broker.controller.allocate_producer_ids(request).await;
            answer.unwrap_or_else(|error| AllocateProducerIdsResponse {
                error_code: error.code.code(),
                ..Default::default()
            })
        }))
    }
}
