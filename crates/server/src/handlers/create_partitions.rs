//! CreatePartitions (key 37), versions 0-3 (KIP-195). The controller checks and decides; the answer waits until it is committed, at most
//! the request's timeout.
//!
//! Without an authorizer everybody may add partitions. More than 10,000 at once are refused with POLICY_VIOLATION, where Kafka 4.3 stumbles
//! (UNKNOWN_SERVER_ERROR).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use milena_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::broker::Broker;
use crate::patience::within;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct CreatePartitions;

impl Handler for CreatePartitions {
    type Request = CreatePartitionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: CreatePartitionsRequest,
    ) -> Reply<CreatePartitionsResponse> {
        let names: BTreeSet<String> = request.topics.iter().map(|topic| topic.name.clone()).collect();
        let answer = within(request.timeout_ms, broker.controller.create_partitions(request)).await;
        Reply::Now(answer.unwrap_or_else(|error| CreatePartitionsResponse {
            results: names
                .into_iter()
                .map(|name| CreatePartitionsTopicResult {
                    name,
                    error_code: error.code.code(),
                    error_message: error.message.clone(),
                })
                .collect(),
            ..Default::default()
        }))
    }
}
