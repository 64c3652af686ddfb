//! CreateTopics (key 19), versions 0-7 (KIP-4, KIP-464, KIP-525). The controller checks and decides; the answer waits until it is
//! committed, at most the request's timeout.
//!
//! From version 6 on a client over its quota is refused, older ones are slowed down (KIP-599).
//! Without an authorizer everybody may create topics and see their configurations. NOT_CONTROLLER makes clients ask again.
//! With `validate_only`, version 7 tells no topic id: there is none.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::create_topics_response::CreatableTopicResult;
use milena_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use crate::broker::Broker;
use crate::patience::within;
use crate::quota::Mutations;
use crate::request::{Handler, Reply, RequestContext};

/// From here on whoever is over the quota is refused, where older clients are only slowed down (KIP-599).
const FIRST_STRICT_QUOTA: i16 = 6;

pub(crate) struct CreateTopics;

impl Handler for CreateTopics {
    type Request = CreateTopicsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=7;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        mut request: CreateTopicsRequest,
    ) -> Reply<CreateTopicsResponse> {
        let (throttle_ms, throttled) = throttle(cx, broker, &mut request);
        let names: BTreeSet<String> = request.topics.iter().map(|topic| topic.name.clone()).collect();
        let answer = within(request.timeout_ms, broker.controller.create_topics(request)).await;
        let mut answer = answer.unwrap_or_else(|error| CreateTopicsResponse {
            topics: names
                .into_iter()
                .map(|name| CreatableTopicResult {
                    name,
                    error_code: error.code.code(),
                    error_message: error.message.clone(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        answer.topics.extend(throttled);
        answer.throttle_time_ms = cx.throttle(throttle_ms);
        Reply::Now(answer)
    }
}

/// Takes out what the client's quota does not allow, and says so; how long the client must wait.
fn throttle(
    cx: &RequestContext,
    broker: &Broker,
    request: &mut CreateTopicsRequest,
) -> (u64, Vec<CreatableTopicResult>) {
    let (mut mutations, mut throttled) = (Mutations::default(), Vec::new());
    if request.validate_only {
        return (0, throttled);
    }
    let (image, now) = (broker.metadata.load(), broker.clock.now());
    let default = broker.config.load().num_partitions;
    let code = ErrorCode::ThrottlingQuotaExceeded;
    request.topics.retain(|topic| {
        let asked = if topic.num_partitions == -1 { default } else { topic.num_partitions };
        let partitions = topic.assignments.len().max(usize::try_from(asked).unwrap_or(0));
        let strict = cx.api_version >= FIRST_STRICT_QUOTA;
        let may = mutations.may(broker.quotas.mutate(&image.quotas, cx.client_id(), partitions, strict, now));
        if !may {
            throttled.push(CreatableTopicResult {
                name: topic.name.clone(),
                error_code: code.code(),
                error_message: Some(code.message().to_owned()),
                ..Default::default()
            });
        }
        may
    });
    (mutations.throttle_ms, throttled)
}
