//! BrokerHeartbeat (key 63), versions 0-2: a broker is alive, and says how far it is (KIP-631). The active controller decides; the answer waits until it is committed.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct BrokerHeartbeat;

impl Handler for BrokerHeartbeat {
    type Request = BrokerHeartbeatRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: BrokerHeartbeatRequest,
    ) -> Reply<BrokerHeartbeatResponse> {
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            let answer = broker.controller.heartbeat(request).await;
            answer
                .unwrap_or_else(|error| BrokerHeartbeatResponse { error_code: error.code.code(), ..Default::default() })
        }))
    }
}
