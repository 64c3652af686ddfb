//! CreateTopics (key 19), versions 0-7 (KIP-4, KIP-464, KIP-525). The controller checks and decides; the answer waits until it is
//! committed, at most the request's timeout.
//!
//! Without an authorizer everybody may create topics and see their configurations. NOT_CONTROLLER makes clients ask again.
//! With `validate_only`, version 7 tells no topic id: there is none.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::create_topics_response::CreatableTopicResult;
use milena_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use crate::broker::Broker;
use crate::patience::within;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct CreateTopics;

impl Handler for CreateTopics {
    type Request = CreateTopicsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=7;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: CreateTopicsRequest,
    ) -> Reply<CreateTopicsResponse> {
        let names: BTreeSet<String> = request.topics.iter().map(|topic| topic.name.clone()).collect();
        let answer = within(request.timeout_ms, broker.controller.create_topics(request)).await;
        Reply::Now(answer.unwrap_or_else(|error| CreateTopicsResponse {
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
        }))
    }
}
