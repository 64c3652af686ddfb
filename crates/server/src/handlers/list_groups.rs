//! ListGroups (key 16), versions 0-5: the groups that this broker coordinates (KIP-518, KIP-848).
//!
//! Answered `Later`, so that a member's requests run one after the other, as they do in Kafka.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct ListGroups;

impl Handler for ListGroups {
    type Request = ListGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: ListGroupsRequest,
    ) -> Reply<ListGroupsResponse> {
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        Reply::Later(Box::pin(async move { broker.groups.list_groups(cx, request).await }))
    }
}
