//! CreateTopics (key 19), versions 0-7 (KIP-4, KIP-464, KIP-525). The controller checks and decides; the answer waits until it is
//! committed, at most the request's timeout.
//!
//! From version 6 on a client over its quota is refused, older ones are slowed down (KIP-599); a topic counts when all else is in order, with
//! `validate_only` too.
//! Without an authorizer everybody may create topics and see their configurations. NOT_CONTROLLER makes clients ask again.
//! With `validate_only`, version 7 tells no topic id: there is none.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::create_topics_response::CreatableTopicResult;
use milena_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use crate::broker::Broker;
use crate::mutation_quota::MutationQuota;
use crate::patience::within;
use crate::quota::Quota;
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
        request: CreateTopicsRequest,
    ) -> Reply<CreateTopicsResponse> {
        let quota = MutationQuota::new(cx, broker, FIRST_STRICT_QUOTA);
        let mut count = quota.counter();
        let names: BTreeSet<String> = request.topics.iter().map(|topic| topic.name.clone()).collect();
        let answer = within(request.timeout_ms, broker.controller.create_topics_within(request, &mut count)).await;
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
        answer.throttle_time_ms = cx.throttle(broker, Quota::Mutation, quota.throttle_ms());
        Reply::Now(answer)
    }
}
