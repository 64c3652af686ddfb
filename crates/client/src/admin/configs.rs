//! Configurations of topics, brokers, groups, client metrics and loggers.

use milena_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
    describe_configs_request::DescribeConfigsResource, incremental_alter_configs_request as alter,
};

use super::Admin;
use crate::error::ClientError;

/// What a configuration belongs to, by its wire number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
pub enum ResourceType {
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    ClientMetrics = 16,
    Group = 32,
}

/// A type and a name; the empty name is the default of all brokers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigResource {
    pub kind: ResourceType,
    pub name: String,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    DynamicTopic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
    DynamicBrokerLogger,
    DynamicClientMetrics,
    DynamicGroup,
    Unknown,
}

impl ConfigSource {
    fn from_wire(source: i8) -> ConfigSource {
        match source {
            1 => ConfigSource::DynamicTopic,
            2 => ConfigSource::DynamicBroker,
            3 => ConfigSource::DynamicDefaultBroker,
            4 => ConfigSource::StaticBroker,
            5 => ConfigSource::Default,
            6 => ConfigSource::DynamicBrokerLogger,
            7 => ConfigSource::DynamicClientMetrics,
            8 => ConfigSource::DynamicGroup,
            _ => ConfigSource::Unknown,
        }
    }

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            ConfigSource::DynamicTopic => "DYNAMIC_TOPIC_CONFIG",
            ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
            ConfigSource::Default => "DEFAULT_CONFIG",
            ConfigSource::DynamicBrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
            ConfigSource::DynamicClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
            ConfigSource::DynamicGroup => "DYNAMIC_GROUP_CONFIG",
            ConfigSource::Unknown => "UNKNOWN",
        }
    }
}

/// One key, its value and where else it could come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` when unset, or hidden because it is sensitive.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub sensitive: bool,
    pub read_only: bool,
    pub synonyms: Vec<ConfigSynonym>,
}

/// A value that would apply if those before it were not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: String,
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigOp {
    pub name: String,
    pub value: Option<String>,
    pub kind: OpKind,
}

/// What to do with the value (KIP-339).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpKind {
    Set = 0,
    Delete = 1,
    Append = 2,
    Subtract = 3,
}

impl Admin {
    /// The configurations of the resources, in the broker's order. A broker's own are asked from that broker.
    pub async fn describe_configs(
        &self,
        resources: &[ConfigResource],
        include_synonyms: bool,
    ) -> Result<Vec<(ConfigResource, Result<Vec<ConfigEntry>, ClientError>)>, ClientError> {
        let mut all = Vec::new();
        for (node, group) in by_node(resources) {
            let request = DescribeConfigsRequest {
                resources: group
                    .iter()
                    .map(|r| DescribeConfigsResource {
                        resource_type: r.kind as i8,
                        resource_name: r.name.clone(),
                        configuration_keys: None,
                        ..Default::default()
                    })
                    .collect(),
                include_synonyms,
                include_documentation: false,
                ..Default::default()
            };
            let response = match node {
                Some(node) => self.client.request_node("describeConfigs", node, &request).await?,
                None => self.client.request_any("describeConfigs", &request).await?,
            };
            all.extend(entries(response, &group));
        }
        Ok(all)
    }

    /// Changes keys of one resource; all or none take effect.
    pub async fn alter_configs(&self, resource: &ConfigResource, ops: &[ConfigOp]) -> Result<(), ClientError> {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![alter::AlterConfigsResource {
                resource_type: resource.kind as i8,
                resource_name: resource.name.clone(),
                configs: ops
                    .iter()
                    .map(|op| alter::AlterableConfig {
                        name: op.name.clone(),
                        config_operation: op.kind as i8,
                        value: op.value.clone(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }],
            validate_only: false,
            ..Default::default()
        };
        let response = match owner(resource) {
            Some(node) => self.client.request_node("incrementalAlterConfigs", node, &request).await?,
            None => self.client.request_controller("incrementalAlterConfigs", &request).await?,
        };
        response
            .responses
            .iter()
            .try_for_each(|r| ClientError::check(r.error_code, r.error_message.as_deref(), &r.resource_name))
    }

    /// The names of the configured resources of a type (KIP-1142); only client metrics with older brokers.
    pub async fn list_config_resources(&self, kind: ResourceType) -> Result<Vec<String>, ClientError> {
        let request = ListConfigResourcesRequest { resource_types: vec![kind as i8], ..Default::default() };
        let response = self.client.request_any("listConfigResources", &request).await?;
        ClientError::check(response.error_code, None, "config resources")?;
        Ok(response
            .config_resources
            .into_iter()
            .filter(|r| r.resource_type == kind as i8)
            .map(|r| r.resource_name)
            .collect())
    }
}

/// The broker that must answer for the resource itself, if it is one broker's.
fn owner(resource: &ConfigResource) -> Option<i32> {
    match resource.kind {
        ResourceType::Broker | ResourceType::BrokerLogger => resource.name.parse().ok(),
        _ => None,
    }
}

fn by_node(resources: &[ConfigResource]) -> Vec<(Option<i32>, Vec<&ConfigResource>)> {
    let mut groups: Vec<(Option<i32>, Vec<&ConfigResource>)> = Vec::new();
    for resource in resources {
        let node = owner(resource);
        match groups.iter_mut().find(|(known, _)| *known == node) {
            Some((_, group)) => group.push(resource),
            None => groups.push((node, vec![resource])),
        }
    }
    groups
}

fn entries(
    response: DescribeConfigsResponse,
    asked: &[&ConfigResource],
) -> Vec<(ConfigResource, Result<Vec<ConfigEntry>, ClientError>)> {
    let mut found = Vec::new();
    for result in response.results {
        let Some(resource) =
            asked.iter().find(|r| r.kind as i8 == result.resource_type && r.name == result.resource_name)
        else {
            continue;
        };
        let entries = ClientError::check(result.error_code, result.error_message.as_deref(), &result.resource_name)
            .map(|()| {
                let entry = |c: milena_protocol::messages::describe_configs_response::DescribeConfigsResourceResult| {
                    ConfigEntry {
                        name: c.name,
                        value: c.value,
                        source: ConfigSource::from_wire(c.config_source),
                        sensitive: c.is_sensitive,
                        read_only: c.read_only,
                        synonyms: c
                            .synonyms
                            .into_iter()
                            .map(|s| ConfigSynonym {
                                name: s.name,
                                value: s.value,
                                source: ConfigSource::from_wire(s.source),
                            })
                            .collect(),
                    }
                };
                result.configs.into_iter().map(entry).collect()
            });
        found.push(((*resource).clone(), entries));
    }
    found
}
