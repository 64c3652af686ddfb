//! DeleteTopics (key 20), versions 0-6 (KIP-4, KIP-322, KIP-516). The controller decides; the answer waits until it is committed, at most
//! the request's timeout. The replicas delete their logs after that.
//!
//! From version 5 on a client over its quota is refused, older ones are slowed down (KIP-599); a topic counts when all else is in order.
//! Without an authorizer everybody may delete topics.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::Uuid;
use milena_protocol::ErrorCode;
use milena_protocol::messages::delete_topics_response::DeletableTopicResult;
use milena_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use crate::broker::Broker;
use crate::mutation_quota::MutationQuota;
use crate::patience::within;
use crate::quota::Quota;
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
        request: DeleteTopicsRequest,
    ) -> Reply<DeleteTopicsResponse> {
        let quota = MutationQuota::new(cx, broker, FIRST_STRICT_QUOTA);
        let mut count = quota.counter();
        let by_name = request.topic_names.iter().map(|name| (Some(name.clone()), Uuid::ZERO));
        let asked: Vec<_> =
            by_name.chain(request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id))).collect();
        let answer = match broker.file_config.delete_topic_enable {
            true => within(request.timeout_ms, broker.controller.delete_topics_within(request, &mut count)).await,
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
        answer.throttle_time_ms = cx.throttle(broker, Quota::Mutation, quota.throttle_ms());
        Reply::Now(answer)
    }
}
