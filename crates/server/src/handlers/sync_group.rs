//! SyncGroup (key 14), versions 0-5: the leader hands in the assignment, and everybody gets their part of it (KIP-345, KIP-559).
//!
//! Answered `Later`, so that a member's requests run one after the other, as they do in Kafka.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct SyncGroup;

impl Handler for SyncGroup {
    type Request = SyncGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(cx: &RequestContext, broker: &Arc<Broker>, request: SyncGroupRequest) -> Reply<SyncGroupResponse> {
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        Reply::Later(Box::pin(async move { broker.groups.sync_group(cx, request).await }))
    }
}
