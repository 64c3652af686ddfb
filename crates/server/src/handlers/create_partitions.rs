//! CreatePartitions (key 37), versions 0-3 (KIP-195). The controller checks and decides; the answer waits until it is committed, at most
//! the request's timeout.
//!
//! From version 3 on a client over its quota is refused, older ones are slowed down (KIP-599).
//! Without an authorizer everybody may add partitions. More than 10,000 at once are refused with POLICY_VIOLATION, where Kafka 4.3 stumbles
//! (UNKNOWN_SERVER_ERROR).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use milena_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::broker::Broker;
use crate::patience::within;
use crate::quota::Mutations;
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
        mut request: CreatePartitionsRequest,
    ) -> Reply<CreatePartitionsResponse> {
        let (throttle_ms, throttled) = throttle(cx, broker, &mut request);
        let names: BTreeSet<String> = request.topics.iter().map(|topic| topic.name.clone()).collect();
        let answer = within(request.timeout_ms, broker.controller.create_partitions(request)).await;
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
        answer.results.extend(throttled);
        answer.throttle_time_ms = cx.throttle(throttle_ms);
        Reply::Now(answer)
    }
}

/// Takes out what the client's quota does not allow, and says so; how long the client must wait.
fn throttle(
    cx: &RequestContext,
    broker: &Broker,
    request: &mut CreatePartitionsRequest,
) -> (u64, Vec<CreatePartitionsTopicResult>) {
    let (mut mutations, mut throttled) = (Mutations::default(), Vec::new());
    if request.validate_only {
        return (0, throttled);
    }
    let (image, now) = (broker.metadata.load(), broker.clock.now());
    let code = ErrorCode::ThrottlingQuotaExceeded;
    request.topics.retain(|topic| {
        let present = image.topics.by_name(&topic.name).map_or(0, |topic| topic.partitions.len());
        let more = usize::try_from(topic.count).unwrap_or(0).saturating_sub(present);
        let strict = cx.api_version >= FIRST_STRICT_QUOTA;
        let may = mutations.may(broker.quotas.mutate(&image.quotas, cx.client_id(), more, strict, now));
        if !may {
            throttled.push(CreatePartitionsTopicResult {
                name: topic.name.clone(),
                error_code: code.code(),
                error_message: Some(code.message().to_owned()),
            });
        }
        may
    });
    (mutations.throttle_ms, throttled)
}
