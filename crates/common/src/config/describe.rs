//! DescribeConfigs as pure data: every key of a resource with its value, where the value comes from, and the settings it hides.
//!
//! Follows Kafka's order of precedence: topic, this broker (dynamic), all brokers (dynamic), properties file, default.

use std::collections::{BTreeMap, BTreeSet};

use super::broker_keys::BrokerConfig;
use super::client_metrics_keys::ClientMetricsConfig;
use super::def::{Audience, ConfigKey, Scope, Type};
use super::dynamic;
use super::group_keys::GroupConfig;
use super::topic;
use super::topic_keys::TopicConfig;

/// Settings of one resource as the metadata hold them.
pub type Settings = BTreeMap<String, String>;

/// Where a value comes from; the numbers are those of DescribeConfigs responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    DynamicBrokerLogger = 6,
    ClientMetrics = 7,
    Group = 8,
}

impl ConfigSource {
    /// Kafka's name, as its tools print it.
    pub fn name(self) -> &'static str {
        match self {
            ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
            ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
            ConfigSource::Default => "DEFAULT_CONFIG",
            ConfigSource::DynamicBrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
            ConfigSource::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
            ConfigSource::Group => "DYNAMIC_GROUP_CONFIG",
        }
    }
}

/// One of the settings from which a value is chosen, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: String,
    /// `None` if sensitive.
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// One key of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` if the key has no value or is sensitive.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub read_only: bool,
    pub sensitive: bool,
    /// `None` for a key that nobody knows.
    pub ty: Option<Type>,
    pub doc: Option<&'static str>,
    pub synonyms: Vec<ConfigSynonym>,
}

/// The settings of a broker, weakest first.
#[derive(Debug, Clone, Copy)]
pub struct BrokerLayers<'a> {
    /// The properties file.
    pub file: &'a Settings,
    /// Dynamic, for all brokers (resource name "").
    pub default: &'a Settings,
    /// Dynamic, for this broker.
    pub own: &'a Settings,
}

impl BrokerLayers<'_> {
    /// Every setting of these names, the strongest first; those before `name` itself are overrides of something narrower.
    fn synonyms(&self, name: &str, names: &[&str], sensitive: bool) -> Vec<ConfigSynonym> {
        let mut found = Vec::new();
        let mut add = |name: &str, value: Option<&str>, source| {
            if let Some(value) = value {
                let value = (!sensitive).then(|| value.to_owned());
                found.push(ConfigSynonym { name: name.to_owned(), value, source });
            }
        };
        let layers = [
            (self.own, ConfigSource::DynamicBroker),
            (self.default, ConfigSource::DynamicDefaultBroker),
            (self.file, ConfigSource::StaticBroker),
        ];
        for (layer, source) in layers {
            names.iter().for_each(|n| add(n, layer.get(*n).map(String::as_str), source));
        }
        for n in names.iter().filter(|n| !REQUIRED_BY_KRAFT.contains(n)) {
            add(n, BrokerConfig::key(n).and_then(|k| k.default), ConfigSource::Default);
        }
        let first = found.iter().position(|s| s.name == name).unwrap_or(found.len());
        found.split_off(first)
    }

    /// The strongest setting of a key.
    fn value(&self, name: &str) -> Option<&str> {
        let given = self.own.get(name).or_else(|| self.default.get(name)).or_else(|| self.file.get(name));
        given.map(String::as_str).or_else(|| BrokerConfig::key(name)?.default)
    }
}

/// Keys whose default in the table stands for "not given", which only a node on ZooKeeper may leave so.
const REQUIRED_BY_KRAFT: [&str; 3] = ["controller.listener.names", "node.id", "process.roles"];

/// The names under which a broker key may be given, the finest unit first.
fn broker_names(name: &str) -> Vec<&str> {
    const FAMILIES: [&[&str]; 3] = [
        &["log.roll.ms", "log.roll.hours"],
        &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    ];
    if name == "log.flush.interval.ms" {
        return vec![name, "log.flush.scheduler.interval.ms"];
    }
    match FAMILIES.iter().find(|f| f.contains(&name)) {
        Some(family) => family.to_vec(),
        None => vec![name],
    }
}

fn wanted(name: &str, names: Option<&[String]>) -> bool {
    names.is_none_or(|names| names.iter().any(|n| n == name))
}

/// The text shown for a value: as Kafka prints the parsed one.
fn shown(key: &ConfigKey, text: Option<&str>) -> Option<String> {
    let text = text.filter(|_| !key.sensitive())?;
    Some(key.parse(text).map_or_else(|_| text.to_owned(), |value| value.show()))
}

/// Is the key listed? Internal keys never are, those of old releases only when they were set.
fn listed(key: &ConfigKey, set: bool) -> bool {
    match key.audience {
        Audience::Public | Audience::Milena => true,
        Audience::Internal => false,
        Audience::Legacy => set,
    }
}

/// Every key of one broker (`names`: only these).
pub fn broker(layers: BrokerLayers<'_>, names: Option<&[String]>) -> Vec<ConfigEntry> {
    let set = |name: &str| [layers.own, layers.default, layers.file].iter().any(|l| l.contains_key(name));
    let mut entries: Vec<ConfigEntry> = BrokerConfig::KEYS
        .iter()
        .filter(|key| wanted(key.name, names) && listed(key, set(key.name)))
        .map(|key| broker_entry(layers, key))
        .collect();
    let given: BTreeSet<&String> = [layers.own, layers.default, layers.file].iter().flat_map(|l| l.keys()).collect();
    let foreign = given.into_iter().filter(|name| BrokerConfig::key(name).is_none() && wanted(name, names));
    entries.extend(foreign.map(|name| foreign_entry(layers, name)));
    entries
}

/// Quotas of replication that are set at run time only, by whoever moves partitions; they have no place in a file.
const REPLICATION_QUOTAS: [&str; 3] = [
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

/// A key that is not in the table: a known one under a listener's prefix, or somebody else's. Nobody knows whether the latter
/// is a secret, so its value is not shown.
fn foreign_entry(layers: BrokerLayers<'_>, name: &str) -> ConfigEntry {
    if REPLICATION_QUOTAS.contains(&name) {
        let synonyms = layers.synonyms(name, &[name], false);
        return ConfigEntry {
            name: name.to_owned(),
            value: layers.value(name).map(str::to_owned),
            source: synonyms.first().map_or(ConfigSource::StaticBroker, |s| s.source),
            read_only: false,
            sensitive: false,
            ty: Some(Type::Long),
            doc: None,
            synonyms,
        };
    }
    let base = dynamic::base_key(name);
    let key = BrokerConfig::key(base);
    let sensitive = key.is_none_or(|k| k.sensitive());
    let both = [name, base];
    let names = if key.is_some() { &both[..] } else { &both[..1] };
    let synonyms = layers.synonyms(name, names, sensitive);
    ConfigEntry {
        name: name.to_owned(),
        value: key.and_then(|key| shown(key, layers.value(name))),
        source: synonyms.first().map_or(ConfigSource::StaticBroker, |s| s.source),
        read_only: key.is_none_or(|key| key.scope == Scope::ReadOnly),
        sensitive,
        ty: key.map(|key| key.ty),
        doc: key.map(|key| key.doc),
        synonyms,
    }
}

fn broker_entry(layers: BrokerLayers<'_>, key: &'static ConfigKey) -> ConfigEntry {
    let synonyms = layers.synonyms(key.name, &broker_names(key.name), key.sensitive());
    ConfigEntry {
        name: key.name.to_owned(),
        value: shown(key, layers.value(key.name)),
        source: synonyms.first().map_or(ConfigSource::Default, |s| s.source),
        read_only: key.scope == Scope::ReadOnly,
        sensitive: key.sensitive(),
        ty: Some(key.ty),
        doc: Some(key.doc),
        synonyms,
    }
}

/// The dynamic defaults of all brokers (resource name ""): only what was set.
pub fn broker_defaults(default: &Settings, names: Option<&[String]>) -> Vec<ConfigEntry> {
    let nothing = Settings::new();
    let layers = BrokerLayers { file: &nothing, default, own: &nothing };
    let entry = |name: &String| {
        let mut entry = match BrokerConfig::key(name) {
            Some(key) => broker_entry(layers, key),
            None => foreign_entry(layers, name),
        };
        entry.synonyms.retain(|s| s.source == ConfigSource::DynamicDefaultBroker);
        entry
    };
    default.keys().filter(|name| wanted(name, names)).map(entry).collect()
}

/// Every key of one topic. `broker` is the effective configuration of the answering broker, `layers` where it came from.
pub fn topic(
    broker: &BrokerConfig,
    layers: BrokerLayers<'_>,
    overrides: &Settings,
    names: Option<&[String]>,
) -> Vec<ConfigEntry> {
    let defaults = topic::broker_defaults(broker);
    let keys =
        TopicConfig::KEYS.iter().filter(|key| wanted(key.name, names) && listed(key, overrides.contains_key(key.name)));
    keys.map(|key| {
        let own = overrides.get(key.name);
        let text = own.or_else(|| defaults.get(key.name)).map(String::as_str).or(key.default);
        let mut synonyms = match topic::broker_synonym(key.name) {
            Some(name) => layers.synonyms(name, &broker_names(name), key.sensitive()),
            None => Vec::new(),
        };
        if own.is_some() {
            let value = shown(key, text);
            synonyms.insert(0, ConfigSynonym { name: key.name.to_owned(), value, source: ConfigSource::Topic });
        }
        entry(key, text, synonyms)
    })
    .collect()
}

/// Every key of one group; most have a default at the broker, `group.<key>`.
pub fn group(
    broker: &BrokerConfig,
    layers: BrokerLayers<'_>,
    overrides: &Settings,
    names: Option<&[String]>,
) -> Vec<ConfigEntry> {
    let one = |key: &'static ConfigKey| {
        let broker_name = format!("group.{}", key.name);
        let known = BrokerConfig::key(&broker_name);
        let own = overrides.get(key.name).map(String::as_str);
        let default = broker.originals.get(&broker_name).map(String::as_str).or(known.and_then(|k| k.default));
        let mut synonyms = match known {
            Some(_) => layers.synonyms(&broker_name, &[&broker_name], false),
            None => synonym(key, key.default, ConfigSource::Default).into_iter().collect(),
        };
        synonyms.splice(0..0, synonym(key, own, ConfigSource::Group));
        entry(key, own.or(default).or(key.default), synonyms)
    };
    GroupConfig::KEYS.iter().filter(|key| wanted(key.name, names)).map(one).collect()
}

/// Every key of one client-metrics subscription. Its defaults belong to no broker, so they are no synonyms.
pub fn client_metrics(overrides: &Settings, names: Option<&[String]>) -> Vec<ConfigEntry> {
    let one = |key: &'static ConfigKey| {
        let own = overrides.get(key.name).map(String::as_str);
        let synonyms = synonym(key, own, ConfigSource::ClientMetrics).into_iter().collect();
        entry(key, own.or(key.default), synonyms)
    };
    ClientMetricsConfig::KEYS.iter().filter(|key| wanted(key.name, names)).map(one).collect()
}

fn synonym(key: &ConfigKey, value: Option<&str>, source: ConfigSource) -> Option<ConfigSynonym> {
    Some(ConfigSynonym { name: key.name.to_owned(), value: Some(value?.to_owned()), source })
}

fn entry(key: &'static ConfigKey, text: Option<&str>, synonyms: Vec<ConfigSynonym>) -> ConfigEntry {
    ConfigEntry {
        name: key.name.to_owned(),
        value: shown(key, text),
        source: synonyms.first().map_or(ConfigSource::Default, |s| s.source),
        read_only: false,
        sensitive: key.sensitive(),
        ty: Some(key.ty),
        doc: Some(key.doc),
        synonyms,
    }
}
