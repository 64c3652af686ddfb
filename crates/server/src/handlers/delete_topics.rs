//! DeleteTopics (key 20), versions 0-6 (KIP-4, KIP-322, KIP-516). The controller decides; the answer waits until it is committed, at most
//! the request's timeout. The replicas delete their logs after that.
//!
//! From version 5 on a client over its quota is refused, older ones are slowed down (KIP-599).
//! Without an authorizer everybody may delete topics.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::Uuid;
use milena_metadata::image::TopicImage;
use milena_protocol::ErrorCode;
use milena_protocol::messages::delete_topics_response::DeletableTopicResult;
use milena_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use crate::broker::Broker;
use crate::patience::within;
use crate::quota::Mutations;
use crate::request::{Handler, Reply, RequestContext};

/// From here on whoever is over the quota is refused, where older clients are only slowed down (KIP-599).
const FIRST_STRICT_QUOTA: i16 = 5;

pub(crate) struct DeleteTopics;

impl Handler for DeleteTopics {
    type Request = DeleteTopicsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        mut request: DeleteTopicsRequest,
    ) -> Reply<DeleteTopicsResponse> {
        let (throttle_ms, throttled) = throttle(cx, broker, &mut request);
        let by_name = request.topic_names.iter().map(|name| (Some(name.clone()), Uuid::ZERO));
        let asked: Vec<_> =
            by_name.chain(request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id))).collect();
        let answer = match broker.file_config.delete_topic_enable {
            true => within(request.timeout_ms, broker.controller.delete_topics(request)).await,
            false => Err(ErrorCode::TopicDeletionDisabled.into()),
        };
        let mut answer = answer.unwrap_or_else(|error| {
            // Clients before version 3 do not know TOPIC_DELETION_DISABLED.
            let code = match error.code {
                ErrorCode::TopicDeletionDisabled if cx.api_version < 3 => ErrorCode::InvalidRequest,
                code => code,
            };
            let failed = |(name, topic_id)| DeletableTopicResult {
                name,
                topic_id,
                error_code: code.code(),
                error_message: error.message.clone(),
            };
            DeleteTopicsResponse { responses: asked.into_iter().map(failed).collect(), ..Default::default() }
        });
        answer.responses.extend(throttled);
        answer.throttle_time_ms = cx.throttle(throttle_ms);
        Reply::Now(answer)
    }
}

/// Takes out what the client's quota does not allow, and says so; how long the client must wait.
fn throttle(
    cx: &RequestContext,
    broker: &Broker,
    request: &mut DeleteTopicsRequest,
) -> (u64, Vec<DeletableTopicResult>) {
    let (mut mutations, mut throttled) = (Mutations::default(), Vec::new());
    let (image, now) = (broker.metadata.load(), broker.clock.now());
    let mut may = |topic: Option<&Arc<TopicImage>>| {
        let partitions = topic.map_or(0, |topic| topic.partitions.len());
        let strict = cx.api_version >= FIRST_STRICT_QUOTA;
        mutations.may(broker.quotas.mutate(&image.quotas, cx.client_id(), partitions, strict, now))
    };
    let code = ErrorCode::ThrottlingQuotaExceeded;
    let refused = |name: Option<String>, topic_id| DeletableTopicResult {
        name,
        topic_id,
        error_code: code.code(),
        error_message: Some(code.message().to_owned()),
    };
    request.topic_names.retain(|name| {
        let may = may(image.topics.by_name(name));
        if !may {
            throttled.push(refused(Some(name.clone()), Uuid::ZERO));
        }
        may
    });
    request.topics.retain(|topic| {
        let known = match &topic.name {
            Some(name) => image.topics.by_name(name),
            None => image.topics.by_id(topic.topic_id),
        };
        let may = may(known);
        if !may {
            throttled.push(refused(topic.name.clone(), topic.topic_id));
        }
        may
    });
    (mutations.throttle_ms, throttled)
}
