//! Which entity a `kafka-configs` command line means: by type and name, or by the short options. Pure.

use milena_client::admin::ResourceType;

use crate::opts::Parsed;
use crate::tool::{Stop, refuse};

/// A type of entity, by Kafka's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Topics,
    Clients,
    Users,
    Brokers,
    Ips,
    ClientMetrics,
    Groups,
    BrokerLoggers,
}

const KINDS: [Kind; 8] = [
    Kind::Topics,
    Kind::Clients,
    Kind::Users,
    Kind::Brokers,
    Kind::Ips,
    Kind::ClientMetrics,
    Kind::Groups,
    Kind::BrokerLoggers,
];

impl Kind {
    pub(super) fn plural(self) -> &'static str {
        match self {
            Kind::Topics => "topics",
            Kind::Clients => "clients",
            Kind::Users => "users",
            Kind::Brokers => "brokers",
            Kind::Ips => "ips",
            Kind::ClientMetrics => "client-metrics",
            Kind::Groups => "groups",
            Kind::BrokerLoggers => "broker-loggers",
        }
    }

    /// The plural without its last letter, whatever that gives.
    pub(super) fn singular(self) -> &'static str {
        let plural = self.plural();
        plural.get(..plural.len() - 1).unwrap_or(plural)
    }

    /// The resource whose configuration this is; `None` for quotas.
    pub(super) fn resource(self) -> Option<ResourceType> {
        match self {
            Kind::Topics => Some(ResourceType::Topic),
            Kind::Brokers => Some(ResourceType::Broker),
            Kind::BrokerLoggers => Some(ResourceType::BrokerLogger),
            Kind::ClientMetrics => Some(ResourceType::ClientMetrics),
            Kind::Groups => Some(ResourceType::Group),
            Kind::Clients | Kind::Users | Kind::Ips => None,
        }
    }

    /// The name of the type in quota requests.
    pub(super) fn quota_type(self) -> &'static str {
        match self {
            Kind::Users => "user",
            Kind::Ips => "ip",
            _ => "client-id",
        }
    }
}

/// A type with a name: `None` all of them, empty the default one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entity {
    pub(super) kind: Kind,
    pub(super) name: Option<String>,
}

/// Reads the entities; `args` give the order in which names and defaults stand.
pub(super) fn entities(parsed: &Parsed, args: &[String]) -> Result<Vec<Entity>, Stop> {
    let mut kinds = Vec::new();
    for text in parsed.values("entity-type") {
        match KINDS.into_iter().find(|kind| kind.plural() == text) {
            Some(kind) => kinds.push(kind),
            None => {
                let allowed: Vec<&str> = KINDS.iter().map(|kind| kind.plural()).collect();
                return refuse(format!(
                    "Invalid entity type {text}, the entity type must be one of {} with a --bootstrap-server or --bootstrap-controller argument",
                    allowed.join(", ")
                ));
            }
        }
    }
    let mut found = by_flags(parsed)?;
    let all: Vec<Kind> = kinds.iter().copied().chain(found.iter().map(|entity| entity.kind)).collect();
    if let Some(twice) = all.iter().enumerate().find(|(index, kind)| all.iter().take(*index).any(|k| k == *kind)) {
        return refuse(format!("Duplicate entity type(s) specified: {}", twice.1.plural()));
    }
    if all.is_empty() {
        return refuse("At least one entity type must be specified");
    }
    let generic = ["entity-type", "entity-name", "entity-default"].iter().any(|option| parsed.has(option));
    if generic && !found.is_empty() {
        return refuse("--entity-{type,name,default} should not be used in conjunction with specific entity flags");
    }
    if all.len() > 1 && !(all.len() == 2 && all.contains(&Kind::Users) && all.contains(&Kind::Clients)) {
        return refuse("Only 'users' and 'clients' entity types may be specified together");
    }
    let mut names = names_in_order(args).into_iter();
    found.extend(kinds.into_iter().map(|kind| Entity { kind, name: names.next() }));
    // users come before their clients
    found.sort_by_key(|entity| entity.kind != Kind::Users);
    for Entity { kind, name } in &found {
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else {
            continue;
        };
        match kind {
            Kind::Brokers | Kind::BrokerLoggers if name.parse::<i32>().is_err() => {
                return refuse(format!(
                    "The entity name for {} must be a valid integer broker id, but it is: {name}",
                    kind.plural()
                ));
            }
            Kind::Ips if name.parse::<std::net::IpAddr>().is_err() && !resolves(name) => {
                return refuse(format!(
                    "The entity name for ips must be a valid IP or resolvable host, but it is: {name}"
                ));
            }
            _ => {}
        }
    }
    if found.iter().any(|entity| entity.kind == Kind::BrokerLoggers && entity.name.is_none()) && parsed.has("describe")
    {
        return refuse("An entity name must be specified with --describe of broker-loggers");
    }
    Ok(found)
}

fn resolves(host: &str) -> bool {
    std::net::ToSocketAddrs::to_socket_addrs(&(host, 0u16)).is_ok_and(|mut found| found.next().is_some())
}

fn by_flags(parsed: &Parsed) -> Result<Vec<Entity>, Stop> {
    let named = [
        ("topic", Kind::Topics),
        ("client", Kind::Clients),
        ("user", Kind::Users),
        ("broker", Kind::Brokers),
        ("broker-logger", Kind::BrokerLoggers),
        ("ip", Kind::Ips),
        ("group", Kind::Groups),
        ("client-metrics", Kind::ClientMetrics),
    ];
    let defaults = [
        ("client-defaults", Kind::Clients),
        ("user-defaults", Kind::Users),
        ("broker-defaults", Kind::Brokers),
        ("ip-defaults", Kind::Ips),
    ];
    let mut found = Vec::new();
    for (option, kind) in named {
        if let Some(name) = parsed.value(option)? {
            found.push(Entity { kind, name: Some(name.to_string()) });
        }
    }
    found.extend(
        defaults
            .into_iter()
            .filter(|(option, _)| parsed.has(option))
            .map(|(_, kind)| Entity { kind, name: Some(String::new()) }),
    );
    Ok(found)
}

fn names_in_order(args: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--entity-default" {
            names.push(String::new());
        } else if arg == "--entity-name" {
            names.extend(args.next().cloned());
        } else if let Some(name) = arg.strip_prefix("--entity-name=") {
            names.push(name.to_string());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opts;

    fn read(line: &str) -> Result<Vec<Entity>, String> {
        let args: Vec<String> = line.split_whitespace().map(String::from).collect();
        let parsed = opts::parse(super::super::configs::OPTIONS, &args).unwrap();
        entities(&parsed, &args).map_err(|stop| format!("{stop:?}"))
    }

    #[test]
    fn names_belong_to_types_in_their_order() {
        let found = read("--entity-type clients --entity-name c1 --entity-type users --entity-default").unwrap();
        assert_eq!(found[0], Entity { kind: Kind::Users, name: Some(String::new()) });
        assert_eq!(found[1], Entity { kind: Kind::Clients, name: Some("c1".into()) });
    }

    #[test]
    fn wrong_entities_are_refused_in_kafkas_words() {
        assert!(read("--describe").unwrap_err().contains("At least one entity type must be specified"));
        assert!(
            read("--topic a --entity-type topics").unwrap_err().contains("Duplicate entity type(s) specified: topics")
        );
        assert!(read("--broker abc").unwrap_err().contains("must be a valid integer broker id, but it is: abc"));
        assert_eq!(Kind::ClientMetrics.singular(), "client-metric");
    }
}
