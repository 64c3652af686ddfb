//! IncrementalAlterConfigs (key 44), versions 0-1: changes single settings of topics, brokers, groups and client-metrics subscriptions
//! (KIP-339). The controller checks and decides; the answer waits until it is committed.
//!
//! Without an authorizer everybody may change them. Gap: the broker's one logger keeps the level that it started with (KIP-412); to
//! set another is refused. Kafka's limit of twice or half the threads at a time is not enforced: threads of that kind do not exist.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_metadata::ApiError;
use milena_metadata::image::ResourceType;
use milena_protocol::ErrorCode;
use milena_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use milena_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use milena_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use crate::broker::Broker;
use crate::config_resources::{merge, refuse};
use crate::loggers;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct IncrementalAlterConfigs;

/// The one operation that needs no value.
const DELETE: i8 = 1;

impl Handler for IncrementalAlterConfigs {
    type Request = IncrementalAlterConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        mut request: IncrementalAlterConfigsRequest,
    ) -> Reply<IncrementalAlterConfigsResponse> {
        let asked: Vec<_> = request.resources.iter().map(|r| (r.resource_type, r.resource_name.clone())).collect();
        let own: Vec<_> = request.resources.iter().map(|resource| answer(broker, resource)).collect();
        let mut verdicts = own.iter();
        request.resources.retain(|_| verdicts.next().is_some_and(Option::is_none));
        let count = request.resources.len();
        let passed_on = match broker
            .controllers
            .ask(request, async |c, request| c.incremental_alter_configs(request).await)
            .await
        {
            Ok(answer) => answer.responses.into_iter().map(|r| (r.error_code, r.error_message)).collect(),
            Err(error) => vec![(error.code.code(), error.message); count],
        };
        let answers = merge(own, passed_on);
        let responses =
            asked.into_iter().zip(answers).map(|((resource_type, resource_name), (error_code, error_message))| {
                AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
            });
        Reply::Now(IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() })
    }
}

/// The broker's own answer; `None` if the controller is to decide.
fn answer(broker: &Broker, resource: &AlterConfigsResource) -> Option<Result<(), ApiError>> {
    let (kind, name) = (resource.resource_type, resource.resource_name.as_str());
    let without: Vec<&str> = (resource.configs.iter())
        .filter(|change| change.value.is_none() && change.config_operation != DELETE)
        .map(|change| change.name.as_str())
        .collect();
    if !without.is_empty() {
        let message = format!("Null value not supported for : {}", without.join(", "));
        return Some(Err(ApiError::new(ErrorCode::InvalidRequest, message)));
    }
    match ResourceType::from_i8(kind) {
        Some(ResourceType::BrokerLogger) => {
            let changes = resource.configs.iter().map(|c| (c.name.as_str(), c.config_operation, c.value.as_deref()));
            Some(loggers::alter(broker.node_id, name, changes))
        }
        _ => refuse(broker.node_id, kind, name).map(Err),
    }
}
