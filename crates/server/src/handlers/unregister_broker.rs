//! UnregisterBroker (key 64), version 0: forgets a broker that will not come back (KIP-631). The controller decides; the answer waits until
//! it is committed.
//!
//! Without an authorizer everybody may do so.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct UnregisterBroker;

impl Handler for UnregisterBroker {
    type Request = UnregisterBrokerRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: UnregisterBrokerRequest,
    ) -> Reply<UnregisterBrokerResponse> {
        let answer = broker.controller.unregister_broker(request).await;
        Reply::Now(answer.unwrap_or_else(|error| UnregisterBrokerResponse {
            error_code: error.code.code(),
            error_message: error.message,
            ..Default::default()
        }))
    }
}
