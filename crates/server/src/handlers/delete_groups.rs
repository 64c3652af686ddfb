//! DeleteGroups (key 42), versions 0-2: removes groups without members, and what they committed (KIP-229).

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DeleteGroups;

impl Handler for DeleteGroups {
    type Request = DeleteGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        mut request: DeleteGroupsRequest,
    ) -> Reply<DeleteGroupsResponse> {
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        // A group that is named twice is one answer.
        let mut seen = HashSet::new();
        request.groups_names.retain(|group| seen.insert(group.clone()));
        Reply::Later(Box::pin(async move { broker.groups.delete_groups(cx, request).await }))
    }
}
