//! `kafka-configs`: describe and change the configurations of topics, brokers, groups, client metrics and loggers, and client quotas.
//!
//! Same flags, output and exit codes as Kafka's ConfigCommand. `config_entities` reads which entity is meant.

use milena_client::ClientError;
use milena_client::admin::{
    Admin, ConfigEntry, ConfigOp, ConfigResource, ConfigSource, OpKind, QuotaEntity, QuotaMatch, ResourceType,
};

use super::config_entities::{Entity, Kind, entities};
use super::scram;
use crate::java;
use crate::opts::{self, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, err, exclude, help_or_version, out, refuse, usage};

pub(crate) const OPTIONS: &[Opt] = &[
    value("bootstrap-server", "String", "server to connect to", "The brokers to start from."),
    value("bootstrap-controller", "String", "controller to connect to", "The controllers to start from."),
    value(
        "command-config",
        "String",
        "command config property file",
        "A properties file with settings of the admin client.",
    ),
    flag("alter", "Change the configuration of an entity."),
    flag("describe", "Show the configuration of entities."),
    flag("all", "With --describe: all keys, also those that were not changed."),
    value(
        "entity-type",
        "String",
        "",
        "The type of the entity (topics/clients/users/brokers/broker-loggers/ips/client-metrics/groups).",
    ),
    value(
        "entity-name",
        "String",
        "",
        "The name of the entity (topic/client id/user/broker id/ip/client metrics/group id).",
    ),
    flag("entity-default", "The default entity of clients, users, brokers or ips."),
    value(
        "add-config",
        "String",
        "",
        "What to set: 'k1=v1,k2=[v1,v2,v2],k3=v3'. The reference of configurations names the keys; users and clients take consumer_byte_rate, controller_mutation_rate, producer_byte_rate and request_percentage, ips take connection_creation_rate. Users and clients may be given together: the clients of one user.",
    ),
    value("add-config-file", "String", "", "A properties file of what to set; see add-config."),
    value("delete-config", "String", "", "What to unset: 'k1,k2'."),
    value("topic", "String", "", "The name of a topic."),
    value("client", "String", "", "The id of a client."),
    flag("client-defaults", "The defaults of all clients."),
    value("user", "String", "", "The name of a user."),
    flag("user-defaults", "The defaults of all users."),
    value("broker", "String", "", "The id of a broker."),
    flag("broker-defaults", "The defaults of all brokers."),
    value("broker-logger", "String", "", "The id of the broker whose loggers are meant."),
    value("ip", "String", "", "An IP address."),
    flag("ip-defaults", "The defaults of all addresses."),
    value("group", "String", "", "The id of a group."),
    value("client-metrics", "String", "", "The name of a subscription of client metrics."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

const QUOTAS: [&str; 4] =
    ["consumer_byte_rate", "controller_mutation_rate", "producer_byte_rate", "request_percentage"];
const IP_QUOTAS: [&str; 1] = ["connection_creation_rate"];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = opts::parse(OPTIONS, args)?;
    help_or_version(
        &parsed,
        "This tool helps to manipulate and describe entity config for a topic, client, user, broker, ip, client-metrics or group",
    )?;
    if parsed.has("alter") == parsed.has("describe") {
        return usage("Command must include exactly one action: --describe, --alter");
    }
    exclude(&parsed, "describe", &["add-config", "add-config-file", "delete-config"])?;
    let entities = entities(&parsed, args)?;
    if parsed.has("bootstrap-server") == parsed.has("bootstrap-controller") {
        return refuse(if parsed.has("bootstrap-server") {
            "Only one of --bootstrap-server or --bootstrap-controller can be specified"
        } else {
            "Either --bootstrap-server or --bootstrap-controller must be specified."
        });
    }
    let changes = if parsed.has("alter") { Some(changes(&parsed, &entities, args)?) } else { None };
    tool::block_on(async {
        let admin = Admin::new(tool::admin_client(&parsed).await?);
        let result = match changes {
            Some(changes) => alter(&admin, &entities, changes).await,
            None => describe(&admin, &parsed, &entities).await,
        };
        result.map_err(|failure| match failure {
            Failure::Stop(stop) => stop,
            Failure::Client(error) => {
                let text = tool::java_error(&error);
                tool::flush();
                err(format_args!(
                    "Error while executing config command with args '{}'\njava.util.concurrent.ExecutionException: {text}\n",
                    args.join(" ")
                ));
                err(format_args!("Caused by: {text}\n"));
                Stop::Exit(1)
            }
        })
    })
}

enum Failure {
    Stop(Stop),
    Client(ClientError),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::Client(error)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Failure::Stop(stop)
    }
}

/// What to set and what to unset.
struct Changes {
    add: Vec<(String, String)>,
    delete: Vec<String>,
}

fn changes(parsed: &Parsed, entities: &[Entity], args: &[String]) -> Result<Changes, Stop> {
    for entity in entities {
        if entity.name.is_none() {
            return refuse(format!("An entity name must be specified with --alter of {}", entity.kind.plural()));
        }
        let has_default = matches!(entity.kind, Kind::Users | Kind::Clients | Kind::Brokers | Kind::Ips);
        if entity.name.as_deref() == Some("") && !has_default {
            return refuse(format!("An entity name must be specified with --alter of {}", entity.kind.plural()));
        }
    }
    if !["add-config", "add-config-file", "delete-config"].iter().any(|option| parsed.has(option)) {
        return refuse(
            "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter",
        );
    }
    if parsed.has("add-config") && parsed.has("add-config-file") {
        return refuse("Only one of --add-config or --add-config-file must be specified");
    }
    let mut add = Vec::new();
    if let Some(path) = parsed.value("add-config-file")? {
        add = tool::load_properties(path).map_err(|_| {
            Stop::Message(format!(
                "Error while executing config command with args '{}'\njava.nio.file.NoSuchFileException: {path}",
                args.join(" ")
            ))
        })?;
    }
    if let Some(text) = parsed.value("add-config")? {
        add = pairs(text)?;
    }
    let delete: Vec<String> = match parsed.value("delete-config")? {
        Some(text) => text.split(',').map(|key| key.trim().to_string()).filter(|key| !key.is_empty()).collect(),
        None => Vec::new(),
    };
    Ok(Changes { add, delete })
}

/// `k1=v1,k2=[a,b]` as pairs; brackets keep commas together.
fn pairs(text: &str) -> Result<Vec<(String, String)>, Stop> {
    let mut depth = 0usize;
    let mut parts = vec![String::new()];
    for letter in text.chars() {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            letter => {
                if let Some(part) = parts.last_mut() {
                    part.push(letter);
                }
            }
        }
    }
    parts
        .iter()
        .map(|part| part.trim())
        .filter(|part| !part.is_empty())
        .map(|part| match part.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_string(), value.trim().to_string())),
            None => refuse(
                "requirement failed: Invalid entity config: all configs to be added must be in the format \"key=val\" or  \"key=[val1,val2]\" to group values which contain commas.",
            ),
        })
        .collect()
}

async fn alter(admin: &Admin, entities: &[Entity], changes: Changes) -> Result<(), Failure> {
    let Some(first) = entities.first() else {
        return Ok(());
    };
    match first.kind.resource() {
        Some(kind) => {
            let resource = ConfigResource { kind, name: first.name.clone().unwrap_or_default() };
            if kind == ResourceType::BrokerLogger {
                known_loggers(admin, &resource, &changes).await?;
            }
            let set = |(name, value): (String, String)| ConfigOp { name, value: Some(value), kind: OpKind::Set };
            let delete = |name: String| ConfigOp { name, value: None, kind: OpKind::Delete };
            let ops: Vec<ConfigOp> =
                changes.add.into_iter().map(set).chain(changes.delete.into_iter().map(delete)).collect();
            admin.alter_configs(&resource, &ops).await?;
        }
        None => alter_quotas(admin, entities, changes).await?,
    }
    match first.name.as_deref() {
        Some(name) if !name.is_empty() => {
            out(format_args!("Completed updating config for {} {name}.\n", first.kind.singular()));
        }
        _ => out(format_args!("Completed updating default config for {} in the cluster.\n", first.kind.plural())),
    }
    Ok(())
}

async fn known_loggers(admin: &Admin, resource: &ConfigResource, changes: &Changes) -> Result<(), Failure> {
    let mut known = Vec::new();
    for (_, entries) in admin.describe_configs(std::slice::from_ref(resource), true).await? {
        known.extend(entries?.into_iter().map(|entry| entry.name));
    }
    let unknown: Vec<&str> = changes
        .add
        .iter()
        .map(|(name, _)| name.as_str())
        .chain(changes.delete.iter().map(String::as_str))
        .filter(|name| !known.iter().any(|known| known == name))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Ok(refuse(format!("Invalid broker logger(s): {}", unknown.join(",")))?)
}

async fn alter_quotas(admin: &Admin, entities: &[Entity], changes: Changes) -> Result<(), Failure> {
    let kind = entities.first().map_or(Kind::Users, |entity| entity.kind);
    let only_user = entities.len() == 1 && kind == Kind::Users;
    let names: Vec<&str> =
        changes.add.iter().map(|(k, _)| k.as_str()).chain(changes.delete.iter().map(String::as_str)).collect();
    let quota_keys: &[&str] = if kind == Kind::Ips { &IP_QUOTAS } else { &QUOTAS };
    if only_user && names.iter().any(|name| scram::MECHANISMS.contains(name)) {
        let user = entities.first().and_then(|entity| entity.name.clone()).unwrap_or_default();
        return alter_scram(admin, &user, changes).await;
    }
    let unknown: Vec<&str> = changes.add.iter().map(|(k, _)| k.as_str()).filter(|k| !quota_keys.contains(k)).collect();
    if !unknown.is_empty() {
        let may = match kind {
            Kind::Users => "quota and SCRAM credential configs",
            Kind::Ips => "connection quota configs",
            _ => "quota configs",
        };
        return Ok(refuse(format!(
            "Only {may} can be added for '{}' using --bootstrap-server. Unexpected config names: Set({})",
            kind.plural(),
            unknown.join(", ")
        ))?);
    }
    let entity: QuotaEntity = entities
        .iter()
        .map(|entity| (entity.kind.quota_type().to_string(), entity.name.clone().filter(|name| !name.is_empty())))
        .collect();
    let mut ops = Vec::new();
    for (key, text) in changes.add {
        match text.parse::<f64>() {
            Ok(value) => ops.push((key, Some(value))),
            Err(_) => {
                return Ok(refuse(format!("Cannot parse quota configuration value for {key}: {text}"))?);
            }
        }
    }
    ops.extend(changes.delete.into_iter().map(|key| (key, None)));
    Ok(admin.alter_quotas(&entity, &ops).await?)
}

/// Credentials and quotas go different ways, so one command line changes only one of them.
async fn alter_scram(admin: &Admin, user: &str, changes: Changes) -> Result<(), Failure> {
    let all = changes.add.iter().map(|(key, _)| key).chain(&changes.delete);
    if all.clone().any(|key| scram::mechanism(key).is_none()) {
        return Ok(refuse(format!(
            "Cannot alter both quota and SCRAM credential configs simultaneously for '{user}'"
        ))?);
    }
    if user.is_empty() {
        return Ok(refuse(
            "The use of --entity-default or --user-defaults is not allowed with User SCRAM Credentials using --bootstrap-server.",
        )?);
    }
    let mut set = Vec::new();
    for (name, value) in &changes.add {
        set.push(scram::upsertion(user, name, value).map_err(|error| Stop::Message(error.message))?);
    }
    let gone: Vec<(String, i8)> =
        changes.delete.iter().filter_map(|name| Some((user.to_string(), scram::mechanism(name)?))).collect();
    Ok(admin.alter_scram(&set, &gone).await?)
}

async fn describe(admin: &Admin, parsed: &Parsed, entities: &[Entity]) -> Result<(), Failure> {
    let Some(first) = entities.first() else {
        return Ok(());
    };
    match first.kind.resource() {
        Some(kind) => describe_resources(admin, parsed, first, kind).await,
        None => describe_quotas(admin, entities).await,
    }
}

async fn describe_resources(
    admin: &Admin,
    parsed: &Parsed,
    entity: &Entity,
    kind: ResourceType,
) -> Result<(), Failure> {
    let all = parsed.has("all");
    let names = match &entity.name {
        Some(name) if name.is_empty() => vec![String::new()],
        Some(name) => {
            if !exists(admin, kind, name).await? {
                out(format_args!(
                    "The {} '{name}' doesn't exist and doesn't have dynamic config.\n",
                    entity.kind.singular()
                ));
                return Ok(());
            }
            vec![name.clone()]
        }
        None => every(admin, kind).await?,
    };
    for name in names {
        let resource = ConfigResource { kind, name: name.clone() };
        if name.is_empty() {
            out(format_args!("Default configs for {} in the cluster are:\n", entity.kind.plural()));
        } else {
            let which = if all { "All" } else { "Dynamic" };
            out(format_args!("{which} configs for {} {name} are:\n", entity.kind.singular()));
        }
        for (_, entries) in admin.describe_configs(&[resource], true).await? {
            let mut entries = entries?;
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            let dynamic = dynamic_source(kind, &name);
            entries
                .iter()
                .filter(|e| all || dynamic.is_none_or(|source| e.source == source))
                .for_each(|e| out(line(e)));
        }
    }
    Ok(())
}

fn line(entry: &ConfigEntry) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".into());
    let synonyms: Vec<String> =
        entry.synonyms.iter().map(|s| format!("{}:{}={}", s.source.name(), s.name, text(&s.value))).collect();
    format!(
        "  {}={} sensitive={} synonyms={{{}}}\n",
        entry.name,
        text(&entry.value),
        entry.sensitive,
        synonyms.join(", ")
    )
}

fn dynamic_source(kind: ResourceType, name: &str) -> Option<ConfigSource> {
    match kind {
        ResourceType::Topic => Some(ConfigSource::DynamicTopic),
        ResourceType::Broker if name.is_empty() => Some(ConfigSource::DynamicDefaultBroker),
        ResourceType::Broker => Some(ConfigSource::DynamicBroker),
        ResourceType::BrokerLogger => None,
        ResourceType::ClientMetrics => Some(ConfigSource::DynamicClientMetrics),
        ResourceType::Group => Some(ConfigSource::DynamicGroup),
    }
}

async fn exists(admin: &Admin, kind: ResourceType, name: &str) -> Result<bool, Failure> {
    Ok(match kind {
        ResourceType::Topic => admin.list_topics().await?.iter().any(|topic| topic.name == name),
        ResourceType::Broker | ResourceType::BrokerLogger => {
            admin.describe_cluster().await?.nodes.iter().any(|node| node.id.to_string() == name)
        }
        ResourceType::ClientMetrics => configured(admin, kind).await?.iter().any(|known| known == name),
        ResourceType::Group => every(admin, kind).await?.iter().any(|known| known == name),
    })
}

/// All entities of the type, in the order in which Kafka's tool lists them.
async fn every(admin: &Admin, kind: ResourceType) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = match kind {
        ResourceType::Topic => admin.list_topics().await?.into_iter().map(|topic| topic.name).collect(),
        ResourceType::Broker => {
            let mut ids: Vec<String> =
                admin.describe_cluster().await?.nodes.iter().map(|node| node.id.to_string()).collect();
            ids.push(String::new());
            return Ok(ids);
        }
        ResourceType::BrokerLogger => {
            return Ok(admin.describe_cluster().await?.nodes.iter().map(|node| node.id.to_string()).collect());
        }
        ResourceType::ClientMetrics => configured(admin, kind).await?,
        ResourceType::Group => {
            let mut names: Vec<String> =
                admin.list_groups(&[], &[]).await?.into_iter().map(|group| group.group_id).collect();
            names.extend(configured(admin, kind).await?);
            names
        }
    };
    names.sort();
    names.dedup();
    java::hash_order(&mut names, |name| name.as_str());
    Ok(names)
}

/// The resources that have a configuration; a broker that cannot list them has none to show.
async fn configured(admin: &Admin, kind: ResourceType) -> Result<Vec<String>, Failure> {
    match admin.list_config_resources(kind).await {
        Err(ClientError::UnsupportedVersion(_)) => Ok(Vec::new()),
        result => Ok(result?),
    }
}

async fn describe_quotas(admin: &Admin, entities: &[Entity]) -> Result<(), Failure> {
    let part = |entity: &Entity| {
        let wanted = match entity.name.as_deref() {
            None => QuotaMatch::Any,
            Some("") => QuotaMatch::Default,
            Some(name) => QuotaMatch::Exact(name.to_string()),
        };
        (entity.kind.quota_type().to_string(), wanted)
    };
    let parts: Vec<(String, QuotaMatch)> = entities.iter().map(part).collect();
    for mut entry in admin.describe_quotas(&parts, true).await? {
        entry.values.sort_by(|a, b| a.0.cmp(&b.0));
        let values: Vec<String> =
            entry.values.iter().map(|(key, value)| format!("{key}={}", java::double(*value))).collect();
        let named = |kind: &str, words: &str| {
            entry.entity.iter().find(|(known, _)| known == kind).map(|(_, name)| match name {
                Some(name) => format!("{words} '{name}'"),
                None => format!("the default {words}"),
            })
        };
        let who: Vec<String> = [named("user", "user-principal"), named("client-id", "client-id"), named("ip", "ip")]
            .into_iter()
            .flatten()
            .collect();
        out(format_args!("Quota configs for {} are {}\n", who.join(", "), values.join(", ")));
    }
    if let [Entity { kind: Kind::Users, name }] = entities
        && name.as_deref() != Some("")
    {
        let user = name.clone().map(|name| vec![name]);
        for (user, credentials) in admin.describe_scram(user.as_deref()).await? {
            let list: Vec<String> = credentials
                .iter()
                .map(|c| {
                    format!(
                        "{}=iterations={}",
                        if c.mechanism == 2 { scram::MECHANISMS[1] } else { scram::MECHANISMS[0] },
                        c.iterations
                    )
                })
                .collect();
            out(format_args!("SCRAM credential configs for user-principal '{user}' are {}\n", list.join(", ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_keep_commas_together() {
        let read = |text: &str| pairs(text).ok();
        let pair = |k: &str, v: &str| (k.to_string(), v.to_string());
        assert_eq!(read("a=1,b=[x,y],c=").unwrap(), [pair("a", "1"), pair("b", "x,y"), pair("c", "")]);
        assert_eq!(read("a"), None);
    }
}
