//! CreatePartitions (key 37), versions 0-3 (KIP-195). The controller checks and decides; the answer waits until it is committed, at most
//! the request's timeout.
//!
//! From version 3 on a client over its quota is refused, older ones are slowed down (KIP-599); a topic counts when all else is in order, with
//! `validate_only` too.
//! Without an authorizer everybody may add partitions. More than 10,000 at once are refused with POLICY_VIOLATION, where Kafka 4.3 stumbles
//! (UNKNOWN_SERVER_ERROR).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use milena_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::broker::Broker;
use crate::mutation_quota::MutationQuota;
use crate::patience::within;
use crate::quota::Quota;
use crate::request::{Handler, Reply, RequestContext};

/// From here on whoever is over the quota is refused, where older clients are only slowed down (KIP-599).
const FIRST_STRICT_QUOTA: i16 = 3;

pub(crate) struct CreatePartitions;

impl Handler for CreatePartitions {
    type Request = CreatePartitionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: CreatePartitionsRequest,
    ) -> Reply<CreatePartitionsResponse> {
        let quota = MutationQuota::new(cx, broker, FIRST_STRICT_QUOTA);
        let mut count = quota.counter();
        let names: BTreeSet<String> = request.topics.iter().map(|topic| topic.name.clone()).collect();
        let answer = within(request.timeout_ms, broker.controller.create_partitions_within(request, &mut count)).await;
        let mut answer = answer.unwrap_or_else(|error| CreatePartitionsResponse {
            results: names
                .into_iter()
                .map(|name| CreatePartitionsTopicResult {
                    name,
                    error_code: error.code.code(),
                    error_message: error.message.clone(),
                })
                .collect(),
            ..Default::default()
        });
        answer.throttle_time_ms = cx.throttle(broker, Quota::Mutation, quota.throttle_ms());
        Reply::Now(answer)
    }
}
