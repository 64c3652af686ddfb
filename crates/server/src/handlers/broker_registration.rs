//! BrokerRegistration (key 62), versions 0-4: a broker joins the cluster (KIP-631). The active controller decides; the answer waits until it is committed.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{BrokerRegistrationRequest, BrokerRegistrationResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct BrokerRegistration;

impl Handler for BrokerRegistration {
    type Request = BrokerRegistrationRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: BrokerRegistrationRequest,
    ) -> Reply<BrokerRegistrationResponse> {
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            let answer = broker.controller.register_broker(request).await;
            answer.unwrap_or_else(|error| BrokerRegistrationResponse {
                error_code: error.code.code(),
                broker_epoch: -1,
                ..Default::default()
            })
        }))
    }
}
