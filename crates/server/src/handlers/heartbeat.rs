//! Heartbeat (key 12), versions 0-4: a member of a classic group is alive, and learns whether its group rebalances (KIP-345).
//!
//! Answered `Later`, so that a member's requests run one after the other, as they do in Kafka.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct Heartbeat;

impl Handler for Heartbeat {
    type Request = HeartbeatRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    async fn handle(cx: &RequestContext, broker: &Arc<Broker>, request: HeartbeatRequest) -> Reply<HeartbeatResponse> {
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        Reply::Later(Box::pin(async move { broker.groups.heartbeat(cx, request).await }))
    }
}
