//! AlterPartitionReassignments (key 45), versions 0-1: moves replicas to other brokers, or calls that off (KIP-455; version 1 may insist on
//! as many replicas as before, KIP-860). The controller decides; the answer waits until it is committed, at most the request's timeout.
//!
//! Without an authorizer everybody may move replicas. On a single node there is nowhere to go: what asks for the only broker is done at once.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_metadata::ApiError;
use milena_protocol::messages::alter_partition_reassignments_request::ReassignableTopic;
use milena_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use milena_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use crate::broker::Broker;
use crate::patience::within;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct AlterPartitionReassignments;

impl Handler for AlterPartitionReassignments {
    type Request = AlterPartitionReassignmentsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: AlterPartitionReassignmentsRequest,
    ) -> Reply<AlterPartitionReassignmentsResponse> {
        let asked = request.topics.clone();
        let answer = within(request.timeout_ms, broker.controller.alter_partition_reassignments(request)).await;
        Reply::Now(answer.unwrap_or_else(|error| refused(asked, error)))
    }
}

fn refused(asked: Vec<ReassignableTopic>, error: ApiError) -> AlterPartitionReassignmentsResponse {
    let responses = asked.into_iter().map(|topic| ReassignableTopicResponse {
        name: topic.name,
        partitions: (topic.partitions.into_iter())
            .map(|partition| ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code: error.code.code(),
                error_message: error.message.clone(),
            })
            .collect(),
    });
    AlterPartitionReassignmentsResponse {
        error_code: error.code.code(),
        responses: responses.collect(),
        error_message: error.message.clone(),
        ..Default::default()
    }
}
