//! ConsumerGroupHeartbeat (key 68), versions 0-1: a member of a consumer group joins, stays or leaves, and learns what it is to read
//! (KIP-848; patterns and members that name themselves from version 1 on).
//!
//! Gaps: a pattern is matched against all topics, there being no authorizer to ask which of them the client may see.
//!
//! Answered `Later`, so that a member's requests run one after the other, as they do in Kafka.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct ConsumerGroupHeartbeat;

impl Handler for ConsumerGroupHeartbeat {
    type Request = ConsumerGroupHeartbeatRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Reply<ConsumerGroupHeartbeatResponse> {
        if !is_enabled(broker) {
            return Reply::Now(ConsumerGroupHeartbeatResponse {
                error_code: ErrorCode::UnsupportedVersion.code(),
                ..Default::default()
            });
        }
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        Reply::Later(Box::pin(async move { broker.groups.consumer_group_heartbeat(cx, request).await }))
    }
}

/// Whether the cluster speaks the protocol: `group.version` is finalized, and `group.coordinator.rebalance.protocols` names it.
pub(super) fn is_enabled(broker: &Broker) -> bool {
    let is_finalized = broker.metadata.load().features.level("group.version") > 0;
    let protocols = &broker.config.load().group_coordinator_rebalance_protocols;
    is_finalized && protocols.iter().any(|protocol| protocol.eq_ignore_ascii_case("consumer"))
}
