//! LeaveGroup (key 13), versions 0-5: members go, so that their partitions need not wait for a timeout (KIP-345, KIP-800).
//!
//! Answered `Later`, so that a member's requests run one after the other, as they do in Kafka.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct LeaveGroup;

impl Handler for LeaveGroup {
    type Request = LeaveGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: LeaveGroupRequest,
    ) -> Reply<LeaveGroupResponse> {
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        Reply::Later(Box::pin(async move { broker.groups.leave_group(cx, request).await }))
    }
}
