//! DescribeConfigs (key 32), versions 0-4: the settings of topics, this broker, all brokers, groups and client-metrics subscriptions, with
//! where they come from (KIP-133, KIP-226, KIP-412, KIP-569). Entries come sorted by name.
//! Version 0 is told which values are defaults, which Kafka 3.3 forgets.
//!
//! Without an authorizer everybody may see them; secrets are never shown. Gap: the broker has one logger, `root`, where Kafka lists its Java
//! classes. `ack.durability` and its broker key are Milena's own.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::config::describe::{self, BrokerLayers, ConfigEntry, ConfigSource};
use milena_metadata::image::{ConfigResource, ResourceType};
use milena_metadata::{ApiError, MetadataImage};
use milena_protocol::ErrorCode;
use milena_protocol::messages::describe_configs_request::DescribeConfigsResource;
use milena_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use milena_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use crate::broker::Broker;
use crate::loggers;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DescribeConfigs;

impl Handler for DescribeConfigs {
    type Request = DescribeConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: DescribeConfigsRequest,
    ) -> Reply<DescribeConfigsResponse> {
        let image = broker.metadata.image();
        let describe = |resource: &DescribeConfigsResource| {
            let (error_code, error_message, entries) = match entries(broker, &image, resource) {
                Ok(entries) => (0, Some(String::new()), entries),
                Err(error) => (error.code.code(), Some(error.message.unwrap_or_default()), Vec::new()),
            };
            DescribeConfigsResult {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                configs: entries.into_iter().map(|entry| word(entry, cx.api_version, &request)).collect(),
            }
        };
        let results = request.resources.iter().map(describe).collect();
        Reply::Now(DescribeConfigsResponse { results, ..Default::default() })
    }
}

fn entries(
    broker: &Broker,
    image: &MetadataImage,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, ApiError> {
    let name = resource.resource_name.as_str();
    // No names and an empty list of names both mean all of them.
    let names = resource.configuration_keys.as_deref().filter(|names| !names.is_empty());
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    let kind = ResourceType::from_i8(resource.resource_type)
        .ok_or_else(|| ApiError::new(ErrorCode::InvalidRequest, ErrorCode::InvalidRequest.message()))?;
    let layers = BrokerLayers {
        file: &broker.file_config.originals,
        default: image.configs.broker_defaults(),
        own: image.configs.broker(broker.node_id),
    };
    let overrides = |kind| image.configs.get(&ConfigResource::new(kind, name));
    Ok(match kind {
        ResourceType::Topic => {
            milena_metadata::controller::check_topic_name(name)?;
            if image.topics.by_name(name).is_none() {
                return Err(ErrorCode::UnknownTopicOrPartition.into());
            }
            describe::topic(&broker.config.load(), layers, overrides(kind), names)
        }
        ResourceType::Broker if name.is_empty() => describe::broker_defaults(layers.default, names),
        ResourceType::Broker => {
            check_broker_id(broker, name, "expected {} or empty string,")?;
            describe::broker(layers, names)
        }
        ResourceType::BrokerLogger if name.is_empty() => return invalid("Broker id must not be empty"),
        ResourceType::BrokerLogger => {
            check_broker_id(broker, name, "expected {}")?;
            loggers::describe(names)
        }
        ResourceType::ClientMetrics if name.is_empty() => {
            return invalid("Client metrics subscription name must not be empty");
        }
        ResourceType::ClientMetrics => describe::client_metrics(overrides(kind), names),
        ResourceType::Group if name.is_empty() => return invalid("Group name must not be empty"),
        ResourceType::Group => describe::group(&broker.config.load(), layers, overrides(kind), names),
    })
}

/// Another broker's settings are asked of that broker.
fn check_broker_id(broker: &Broker, name: &str, expected: &str) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    match name.parse::<i32>() {
        Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
        Ok(id) if id != broker.node_id => {
            let expected = expected.replace("{}", &broker.node_id.to_string());
            invalid(format!("Unexpected broker id, {expected} but received {id}"))
        }
        Ok(_) => Ok(()),
    }
}

fn word(entry: ConfigEntry, version: i16, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = match request.include_synonyms {
        true => entry.synonyms,
        false => Vec::new(),
    };
    DescribeConfigsResourceResult {
        name: entry.name,
        value: entry.value,
        read_only: entry.read_only,
        is_default: version == 0 && entry.source == ConfigSource::Default,
        config_source: entry.source as i8,
        is_sensitive: entry.sensitive,
        synonyms: synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name,
                value: synonym.value,
                source: synonym.source as i8,
            })
            .collect(),
        config_type: entry.ty.map_or(0, |ty| ty as i8),
        documentation: entry.doc.filter(|_| request.include_documentation).map(str::to_owned),
    }
}
