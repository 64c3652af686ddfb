//! ListPartitionReassignments (key 46), version 0: the moves of replicas that go on (KIP-455).
//!
//! Without an authorizer everybody may see them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct ListPartitionReassignments;

impl Handler for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: ListPartitionReassignmentsRequest,
    ) -> Reply<ListPartitionReassignmentsResponse> {
        let answer = broker.controller.list_partition_reassignments(&request);
        Reply::Now(answer.unwrap_or_else(|error| ListPartitionReassignmentsResponse {
            error_code: error.code.code(),
            error_message: error.message,
            ..Default::default()
        }))
    }
}
