//! Dynamic configurations: what a client may set, and what it becomes in the log (KIP-339, KIP-412).

use std::collections::{BTreeMap, BTreeSet};

use milena_common::config::describe::{self, BrokerLayers, ConfigEntry, ConfigSource};
use milena_common::config::{BrokerConfig, ClientMetricsConfig, ConfigKey, GroupConfig, TopicConfig, Type};
use milena_common::limits::MAX_CONFIG_VALUE_BYTES;
use milena_common::{ConfigError, Outcome};
use milena_protocol::ErrorCode;
use milena_protocol::messages as msg;
use milena_protocol::messages::create_topics_response::CreatableTopicConfigs;
use milena_protocol::stored::metadata::{ClearElrRecord, ConfigRecord, MetadataRecord};

use super::replication::cluster_defaults;
use super::{ApiError, Cx, Decision, client_metrics};
use crate::image::{ConfigResource, ResourceType};

type Settings = BTreeMap<String, String>;

const MIN_ISR: &str = "min.insync.replicas";

/// One change of one key.
enum Change<'a> {
    Set(&'a str),
    Delete,
    Append(&'a str),
    Subtract(&'a str),
}

/// Everything asked of one resource.
struct Asked<'a> {
    resource_type: i8,
    name: &'a str,
    /// All that is not named is deleted.
    replace: bool,
    changes: Vec<(&'a str, Result<Change<'a>, ApiError>)>,
}

pub(crate) fn alter_configs(
    cx: &mut Cx<'_>,
    request: &msg::AlterConfigsRequest,
) -> Decision<msg::AlterConfigsResponse> {
    let asked = request.resources.iter().map(|resource| Asked {
        resource_type: resource.resource_type,
        name: &resource.resource_name,
        replace: true,
        changes: resource
            .configs
            .iter()
            .map(|c| (c.name.as_str(), non_null(&c.name, c.value.as_deref()).map(Change::Set)))
            .collect(),
    });
    let (records, results) = alter_all(cx, asked.collect(), request.validate_only);
    let responses = request.resources.iter().zip(results).map(|(resource, result)| {
        let (error_code, error_message) = split(result);
        msg::alter_configs_response::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
        }
    });
    Ok(Outcome::new(records, msg::AlterConfigsResponse { responses: responses.collect(), ..Default::default() }))
}

pub(crate) fn incremental_alter_configs(
    cx: &mut Cx<'_>,
    request: &msg::IncrementalAlterConfigsRequest,
) -> Decision<msg::IncrementalAlterConfigsResponse> {
    let asked = request.resources.iter().map(|resource| Asked {
        resource_type: resource.resource_type,
        name: &resource.resource_name,
        replace: false,
        changes: resource
            .configs
            .iter()
            .map(|c| {
                let value = || non_null(&c.name, c.value.as_deref());
                let change = match c.config_operation {
                    0 => value().map(Change::Set),
                    1 => Ok(Change::Delete),
                    2 => value().map(Change::Append),
                    3 => value().map(Change::Subtract),
                    other => Err(ApiError::new(ErrorCode::InvalidRequest, format!("Unknown operation type {other}."))),
                };
                (c.name.as_str(), change)
            })
            .collect(),
    });
    let (records, results) = alter_all(cx, asked.collect(), request.validate_only);
    let responses = request.resources.iter().zip(results).map(|(resource, result)| {
        let (error_code, error_message) = split(result);
        msg::incremental_alter_configs_response::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
        }
    });
    Ok(Outcome::new(
        records,
        msg::IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() },
    ))
}

fn split(result: Result<(), ApiError>) -> (i16, Option<String>) {
    match result {
        Ok(()) => (0, None),
        Err(error) => (error.code.code(), Some(error.text().to_owned())),
    }
}

fn non_null<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, ApiError> {
    value.ok_or_else(|| ApiError::new(ErrorCode::InvalidRequest, format!("Null value not supported for : {name}")))
}

fn alter_all(
    cx: &Cx<'_>,
    asked: Vec<Asked<'_>>,
    validate_only: bool,
) -> (Vec<MetadataRecord>, Vec<Result<(), ApiError>>) {
    let mut records = Vec::new();
    let times =
        |one: &Asked<'_>| asked.iter().filter(|a| (a.resource_type, a.name) == (one.resource_type, one.name)).count();
    let mut results = Vec::with_capacity(asked.len());
    for one in &asked {
        if times(one) > 1 {
            results.push(Err(ApiError::new(ErrorCode::InvalidRequest, "Each resource must appear at most once.")));
            continue;
        }
        results.push(alter_one(cx, one).map(|new| records.extend(new)));
    }
    if validate_only {
        records.clear();
    }
    (records, results)
}

fn alter_one(cx: &Cx<'_>, asked: &Asked<'_>) -> Result<Vec<MetadataRecord>, ApiError> {
    let kind = kind_of(asked)?;
    let resource = ConfigResource::new(kind, asked.name);
    let mut names = BTreeSet::new();
    if asked.changes.iter().any(|(name, _)| !names.insert(*name)) {
        return Err(ApiError::new(ErrorCode::InvalidRequest, "Error due to duplicate config keys"));
    }
    let present = cx.image.configs.get(&resource);
    let mut wanted: Settings = if asked.replace { Settings::new() } else { present.clone() };
    for (name, change) in &asked.changes {
        match change.as_ref().map_err(ApiError::clone)? {
            Change::Set(value) => {
                wanted.insert((*name).to_owned(), (*value).to_owned());
            }
            Change::Delete => {
                wanted.remove(*name);
            }
            Change::Append(value) => {
                let mut list = list_of(cx, &resource, name, "APPEND", &wanted)?;
                for part in parts(value) {
                    if !list.contains(&part) {
                        list.push(part);
                    }
                }
                wanted.insert((*name).to_owned(), list.join(","));
            }
            Change::Subtract(value) => {
                let gone = parts(value);
                let mut list = list_of(cx, &resource, name, "SUBTRACT", &wanted)?;
                list.retain(|part| !gone.contains(part));
                wanted.insert((*name).to_owned(), list.join(","));
            }
        }
    }
    check_name(kind, asked.name)?;
    wanted
        .iter()
        .filter(|(name, value)| present.get(*name) != Some(*value))
        .try_for_each(|(name, value)| check_length(name, value))?;
    check(cx, &resource, present, &wanted)?;
    // last, as in Kafka: what is wrong with the settings is said of a resource that is not there too
    check_existence(cx, kind, asked.name)?;
    Ok(records_for(cx, &resource, asked, present, &wanted))
}

fn parts(list: &str) -> Vec<String> {
    if list.is_empty() { Vec::new() } else { list.split(',').map(|part| part.trim().to_owned()).collect() }
}

/// What kind of resource is asked for, if it can be altered at all.
fn kind_of(asked: &Asked<'_>) -> Result<ResourceType, ApiError> {
    let unexpected =
        |what: String| ApiError::new(ErrorCode::InvalidRequest, format!("Unexpected resource type {what}."));
    match ResourceType::from_i8(asked.resource_type) {
        None => Err(unexpected(asked.resource_type.to_string())),
        Some(ResourceType::BrokerLogger) => Err(unexpected("BROKER_LOGGER".to_owned())),
        Some(kind) => Ok(kind),
    }
}

/// Whether a resource can be called so.
fn check_name(kind: ResourceType, name: &str) -> Result<(), ApiError> {
    let request = |message: String| ApiError::new(ErrorCode::InvalidRequest, message);
    let default_refused = |what: &str| Err(request(format!("Default {what} resources are not allowed.")));
    match kind {
        ResourceType::Topic if name.is_empty() => default_refused("topic"),
        ResourceType::Topic => super::topics::check_name(name),
        ResourceType::Broker if !name.is_empty() && name.parse::<i32>().is_err() => {
            Err(request(format!("Node id must be an integer, but it is: {name}")))
        }
        ResourceType::ClientMetrics if name.is_empty() => default_refused("client metrics"),
        ResourceType::Group if name.is_empty() => default_refused("group"),
        _ => Ok(()),
    }
}

fn check_existence(cx: &Cx<'_>, kind: ResourceType, name: &str) -> Result<(), ApiError> {
    match (kind, name.parse::<i32>()) {
        (ResourceType::Topic, _) if cx.image.topics.by_name(name).is_none() => {
            let message = format!("The topic '{name}' does not exist.");
            Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message))
        }
        (ResourceType::Broker, Ok(id))
            if cx.image.cluster.broker(id).is_none() && !cx.image.cluster.controllers.contains_key(&id) =>
        {
            Err(ApiError::new(ErrorCode::BrokerIdNotRegistered, format!("No node with id {id} found.")))
        }
        _ => Ok(()),
    }
}

fn key_of(kind: ResourceType, name: &str) -> Option<&'static ConfigKey> {
    match kind {
        ResourceType::Topic => TopicConfig::key(name),
        ResourceType::Broker => BrokerConfig::key(name),
        ResourceType::Group => GroupConfig::key(name),
        ResourceType::ClientMetrics => ClientMetricsConfig::key(name),
        ResourceType::BrokerLogger => None,
    }
}

/// The present value of a list key, its default included.
fn list_of(
    cx: &Cx<'_>,
    resource: &ConfigResource,
    name: &str,
    operation: &str,
    wanted: &Settings,
) -> Result<Vec<String>, ApiError> {
    let key = key_of(resource.kind, name).filter(|key| key.ty == Type::List).ok_or_else(|| {
        let message = format!("Can't {operation} to key {name} because its type is not LIST.");
        ApiError::new(ErrorCode::InvalidConfig, message)
    })?;
    if let Some(value) = wanted.get(name) {
        return Ok(parts(value));
    }
    let inherited = match resource.kind {
        ResourceType::Topic => topic_default(cx, name),
        ResourceType::Broker => cx.config.broker.originals.get(name).cloned(),
        _ => None,
    };
    Ok(parts(inherited.as_deref().or(key.default).unwrap_or_default()))
}

/// What a topic without an own setting has.
fn topic_default(cx: &Cx<'_>, name: &str) -> Option<String> {
    let none = Settings::new();
    let layers = BrokerLayers { file: &cx.config.broker.originals, default: cluster_defaults(cx.image), own: &none };
    let names = [name.to_owned()];
    let entries = describe::topic(&cluster_broker(cx), layers, &none, Some(&names));
    entries.into_iter().find(|entry| entry.name == name).and_then(|entry| entry.value)
}

/// The static configuration with the cluster's dynamic defaults on top.
fn cluster_broker(cx: &Cx<'_>) -> BrokerConfig {
    let with = cx.config.broker.with_dynamic(cluster_defaults(cx.image), &Settings::new());
    with.unwrap_or_else(|_| BrokerConfig::clone(&cx.config.broker))
}

fn check(cx: &Cx<'_>, resource: &ConfigResource, present: &Settings, wanted: &Settings) -> Result<(), ApiError> {
    match resource.kind {
        ResourceType::Topic => check_topic(cx, wanted),
        ResourceType::Broker => check_broker(cx, resource, present, wanted),
        ResourceType::Group => Ok(GroupConfig::validate(&cluster_broker(cx), wanted).map(|_| ())?),
        ResourceType::ClientMetrics => client_metrics::check(wanted),
        ResourceType::BrokerLogger => Ok(()),
    }
}

/// All settings of a topic together.
pub(crate) fn check_topic(cx: &Cx<'_>, wanted: &Settings) -> Result<(), ApiError> {
    Ok(TopicConfig::validate(&cluster_broker(cx), wanted).map(|_| ())?)
}

pub(crate) fn check_length(name: &str, value: &str) -> Result<(), ApiError> {
    if value.len() > MAX_CONFIG_VALUE_BYTES {
        let message = format!("The configuration value for {name} is longer than {MAX_CONFIG_VALUE_BYTES} bytes.");
        return Err(ApiError::new(ErrorCode::InvalidConfig, message));
    }
    Ok(())
}

/// A broker's dynamic settings: only keys that may change at run time, and a whole that still makes sense.
fn check_broker(cx: &Cx<'_>, resource: &ConfigResource, present: &Settings, wanted: &Settings) -> Result<(), ApiError> {
    let request = |error: ConfigError| ApiError::new(ErrorCode::InvalidRequest, error.to_string());
    let cluster_wide = resource.name.is_empty();
    cx.config.broker.validate_dynamic(wanted, !cluster_wide).map_err(request)?;
    if cx.image.features.elr_enabled() && present.get(MIN_ISR) != wanted.get(MIN_ISR) {
        let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidConfig, message));
        if !cluster_wide {
            return invalid("Broker-level min.insync.replicas cannot be altered while ELR is enabled.");
        }
        if !wanted.contains_key(MIN_ISR) {
            return invalid("Cluster-level min.insync.replicas cannot be removed while ELR is enabled.");
        }
    }
    let none = Settings::new();
    let (default, own) = if cluster_wide { (wanted, &none) } else { (cluster_defaults(cx.image), wanted) };
    cx.config.broker.with_dynamic(default, own).map(|_| ()).map_err(request)
}

fn records_for(
    cx: &Cx<'_>,
    resource: &ConfigResource,
    asked: &Asked<'_>,
    present: &Settings,
    wanted: &Settings,
) -> Vec<MetadataRecord> {
    let record = |name: &str, value: Option<&str>| {
        MetadataRecord::Config(ConfigRecord {
            resource_type: resource.kind as i8,
            resource_name: resource.name.clone(),
            name: name.to_owned(),
            value: value.map(str::to_owned),
        })
    };
    let names: BTreeSet<&String> = present.keys().chain(wanted.keys()).collect();
    let mut records: Vec<MetadataRecord> = names
        .into_iter()
        .filter(|name| {
            // A broker reads files again (key stores) when a setting is written once more, even with the same value.
            let named = asked.changes.iter().any(|(asked, _)| asked == name);
            present.get(*name) != wanted.get(*name) || (resource.kind == ResourceType::Broker && named)
        })
        .map(|name| record(name, wanted.get(name).map(String::as_str)))
        .collect();
    let min_isr_matters = match resource.kind {
        ResourceType::Topic => true,
        ResourceType::Broker => resource.name.is_empty(),
        _ => false,
    };
    if min_isr_matters && cx.image.features.elr_enabled() && present.get(MIN_ISR) != wanted.get(MIN_ISR) {
        // What was eligible under the old minimum need not be under the new one.
        records.push(MetadataRecord::ClearElr(ClearElrRecord { topic_name: resource.name.clone() }));
    }
    records
}

/// A topic's setting, or what it inherits from the cluster.
fn effective<'a>(cx: &Cx<'a>, topic: &str, key: &str) -> Option<&'a str> {
    let own = cx.image.configs.topic(topic).get(key);
    own.or_else(|| cluster_defaults(cx.image).get(key)).map(String::as_str)
}

/// `min.insync.replicas` of a topic.
pub(crate) fn min_isr(cx: &Cx<'_>, topic: &str) -> i32 {
    let set = effective(cx, topic, MIN_ISR).and_then(|text| text.trim().parse().ok());
    set.unwrap_or(cx.config.broker.min_insync_replicas)
}

/// `unclean.leader.election.enable` of a topic.
pub(crate) fn unclean_election(cx: &Cx<'_>, topic: &str) -> bool {
    let set =
        effective(cx, topic, "unclean.leader.election.enable").map(|text| text.trim().eq_ignore_ascii_case("true"));
    set.unwrap_or(cx.config.broker.unclean_leader_election_enable)
}

/// Every key of a new topic, for the answer to its creation.
pub(crate) fn described(cx: &Cx<'_>, overrides: &Settings) -> Vec<CreatableTopicConfigs> {
    let none = Settings::new();
    let own = cx.image.configs.broker(cx.config.node_id);
    let layers = BrokerLayers {
        file: &cx.config.broker.originals,
        default: cluster_defaults(cx.image),
        own: if own.is_empty() { &none } else { own },
    };
    describe::topic(&cluster_broker(cx), layers, overrides, None)
        .into_iter()
        .map(|entry| CreatableTopicConfigs {
            config_source: source(&entry, layers) as i8,
            name: entry.name,
            value: entry.value,
            read_only: entry.read_only,
            is_sensitive: entry.sensitive,
        })
        .collect()
}

/// Topic keys whose default may be given in coarser units, under these names.
const COARSE: [(&str, &[&str]); 4] = [
    ("flush.ms", &["log.flush.scheduler.interval.ms"]),
    ("retention.ms", &["log.retention.minutes", "log.retention.hours"]),
    ("segment.jitter.ms", &["log.roll.jitter.hours"]),
    ("segment.ms", &["log.roll.hours"]),
];

/// Where a value comes from. DescribeConfigs calls what is given in coarser units a default; Kafka's controller knows better.
fn source(entry: &ConfigEntry, layers: BrokerLayers<'_>) -> ConfigSource {
    let coarse = COARSE.iter().find(|(name, _)| *name == entry.name).map_or(&[][..], |(_, names)| names);
    match entry.source {
        ConfigSource::Default if coarse.iter().any(|name| layers.file.contains_key(*name)) => {
            ConfigSource::StaticBroker
        }
        source => source,
    }
}
