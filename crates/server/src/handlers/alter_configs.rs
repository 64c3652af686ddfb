//! AlterConfigs (key 33), versions 0-2: replaces all settings of topics, brokers, groups and client-metrics subscriptions (KIP-133, KIP-226).
//! The controller checks and decides; the answer waits until it is committed.
//!
//! Without an authorizer everybody may change them. Unlike Kafka 4.3, which never answers, a resource that is named twice or is of
//! no known type is refused with INVALID_REQUEST.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use milena_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use crate::broker::Broker;
use crate::config_resources::{merge, refuse};
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct AlterConfigs;

impl Handler for AlterConfigs {
    type Request = AlterConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        mut request: AlterConfigsRequest,
    ) -> Reply<AlterConfigsResponse> {
        let asked: Vec<_> = request.resources.iter().map(|r| (r.resource_type, r.resource_name.clone())).collect();
        let own: Vec<_> = asked.iter().map(|(kind, name)| refuse(broker.node_id, *kind, name).map(Err)).collect();
        let mut verdicts = own.iter();
        request.resources.retain(|_| verdicts.next().is_some_and(Option::is_none));
        let count = request.resources.len();
        let passed_on = match broker.controllers.ask(request, async |c, request| c.alter_configs(request).await).await {
            Ok(answer) => answer.responses.into_iter().map(|r| (r.error_code, r.error_message)).collect(),
            Err(error) => vec![(error.code.code(), error.message); count],
        };
        let answers = merge(own, passed_on);
        let responses =
            asked.into_iter().zip(answers).map(|((resource_type, resource_name), (error_code, error_message))| {
                AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
            });
        Reply::Now(AlterConfigsResponse { responses: responses.collect(), ..Default::default() })
    }
}
