//! JoinGroup (key 11), versions 0-9: a member asks to be in the next generation of its group; answered when the rebalance has gathered everybody
//! (KIP-345, KIP-394, KIP-559, KIP-800, KIP-814).
//!
//! Answered `Later`, so that a member's requests run one after the other, as they do in Kafka.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct JoinGroup;

impl Handler for JoinGroup {
    type Request = JoinGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=9;

    async fn handle(cx: &RequestContext, broker: &Arc<Broker>, request: JoinGroupRequest) -> Reply<JoinGroupResponse> {
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        Reply::Later(Box::pin(async move { broker.groups.join_group(cx, request).await }))
    }
}
