//! ConsumerGroupDescribe (key 69), versions 0-1: consumer groups with their members and assignments (KIP-848, KIP-1099).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::consumer_group_describe_response::DescribedGroup;
use milena_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

use super::consumer_group_heartbeat::is_enabled;
use crate::broker::Broker;
use crate::operations;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct ConsumerGroupDescribe;

impl Handler for ConsumerGroupDescribe {
    type Request = ConsumerGroupDescribeRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: ConsumerGroupDescribeRequest,
    ) -> Reply<ConsumerGroupDescribeResponse> {
        if !is_enabled(broker) {
            let unsupported = |group_id| DescribedGroup {
                group_id,
                error_code: ErrorCode::UnsupportedVersion.code(),
                ..Default::default()
            };
            let groups = request.group_ids.into_iter().map(unsupported).collect();
            return Reply::Now(ConsumerGroupDescribeResponse { groups, ..Default::default() });
        }
        let (cx, broker) = (cx.group_context(), Arc::clone(broker));
        Reply::Later(Box::pin(async move {
            let include_operations = request.include_authorized_operations;
            let mut response = broker.groups.consumer_group_describe(cx, request).await;
            if include_operations {
                for group in response.groups.iter_mut().filter(|group| group.error_code == 0) {
                    group.authorized_operations = operations::GROUP;
                }
            }
            response
        }))
    }
}
