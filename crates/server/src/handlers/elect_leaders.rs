//! ElectLeaders (key 43), versions 0-2: gives partitions their preferred leader, or any that is alive (KIP-183, KIP-460). The controller
//! decides; the answer waits until it is committed, at most the request's timeout.
//!
//! Without an authorizer everybody may ask for elections. Version 0 knows preferred leaders only, and has no error of the whole.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_metadata::ApiError;
use milena_protocol::messages::elect_leaders_request::TopicPartitions;
use milena_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use milena_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

use crate::broker::Broker;
use crate::patience::within;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct ElectLeaders;

impl Handler for ElectLeaders {
    type Request = ElectLeadersRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: ElectLeadersRequest,
    ) -> Reply<ElectLeadersResponse> {
        let asked = request.topic_partitions.clone().unwrap_or_default();
        let answer = within(request.timeout_ms, broker.controller.elect_leaders(request)).await;
        Reply::Now(answer.unwrap_or_else(|error| refused(asked, &error, cx.api_version)))
    }
}

/// The error of the whole, told of every partition that was named too.
fn refused(asked: Vec<TopicPartitions>, error: &ApiError, version: i16) -> ElectLeadersResponse {
    let results = asked.into_iter().map(|topic| ReplicaElectionResult {
        topic: topic.topic,
        partition_result: (topic.partitions.into_iter())
            .map(|partition_id| PartitionResult {
                partition_id,
                error_code: error.code.code(),
                error_message: error.message.clone(),
            })
            .collect(),
    });
    ElectLeadersResponse {
        error_code: if version >= 1 { error.code.code() } else { 0 },
        replica_election_results: results.collect(),
        ..Default::default()
    }
}
