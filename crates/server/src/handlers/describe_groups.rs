//! DescribeGroups (key 15), versions 0-6: the state and the members of classic groups (KIP-345, KIP-430, KIP-1043).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

use crate::broker::Broker;
use crate::operations;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DescribeGroups;

impl Handler for DescribeGroups {
    type Request = DescribeGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: DescribeGroupsRequest,
    ) -> Reply<DescribeGroupsResponse> {
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        Reply::Later(Box::pin(async move {
            let include_operations = request.include_authorized_operations;
            let mut response = broker.groups.describe_groups(cx, request).await;
            if include_operations {
                for group in response.groups.iter_mut().filter(|group| group.error_code == 0) {
                    group.authorized_operations = operations::GROUP;
                }
            }
            response
        }))
    }
}
