//! What the options of `kafka-acls` mean: resources, patterns, operations and the rules made of them. Pure.

use milena_client::admin::{AclEntry, AclMatch};

use crate::java::JavaError;
use crate::opts::{OptError, Parsed};
use crate::tool::{Stop, usage};

/// Any type, operation, pattern or permission, as a filter says it.
pub(super) const ANY: i8 = 1;

const ALLOW: i8 = 3;
const DENY: i8 = 2;

/// Kinds of resources by their wire numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Any,
    Topic,
    Group,
    Cluster,
    TransactionalId,
    DelegationToken,
    User,
    /// One that is newer than this program.
    Other(i8),
}

impl Kind {
    fn of(code: i8) -> Kind {
        match code {
            1 => Kind::Any,
            2 => Kind::Topic,
            3 => Kind::Group,
            4 => Kind::Cluster,
            5 => Kind::TransactionalId,
            6 => Kind::DelegationToken,
            7 => Kind::User,
            other => Kind::Other(other),
        }
    }

    pub(super) fn code(self) -> i8 {
        match self {
            Kind::Any => 1,
            Kind::Topic => 2,
            Kind::Group => 3,
            Kind::Cluster => 4,
            Kind::TransactionalId => 5,
            Kind::DelegationToken => 6,
            Kind::User => 7,
            Kind::Other(code) => code,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Any => "ANY",
            Kind::Topic => "TOPIC",
            Kind::Group => "GROUP",
            Kind::Cluster => "CLUSTER",
            Kind::TransactionalId => "TRANSACTIONAL_ID",
            Kind::DelegationToken => "DELEGATION_TOKEN",
            Kind::User => "USER",
            Kind::Other(_) => "UNKNOWN",
        }
    }

    /// What may be allowed or denied on it, besides everything.
    fn operations(self) -> &'static [&'static str] {
        match self {
            Kind::Topic => {
                &["READ", "WRITE", "CREATE", "DESCRIBE", "DELETE", "ALTER", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"]
            }
            Kind::Group => &["READ", "DESCRIBE", "DELETE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"],
            Kind::Cluster => &[
                "CREATE",
                "CLUSTER_ACTION",
                "DESCRIBE_CONFIGS",
                "ALTER_CONFIGS",
                "IDEMPOTENT_WRITE",
                "ALTER",
                "DESCRIBE",
            ],
            Kind::TransactionalId => &["DESCRIBE", "WRITE", "TWO_PHASE_COMMIT"],
            Kind::DelegationToken => &["DESCRIBE"],
            Kind::User => &["CREATE_TOKENS", "DESCRIBE_TOKENS"],
            Kind::Any | Kind::Other(_) => &[],
        }
    }
}

/// A resource, or a pattern of several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    /// `None`: any.
    pub(super) name: Option<String>,
    pub(super) pattern: i8,
}

impl Resource {
    /// Everything that has rules.
    pub(super) fn any() -> Resource {
        Resource { kind: Kind::Any, name: None, pattern: ANY }
    }

    pub(super) fn of(found: &AclMatch) -> Resource {
        Resource { kind: Kind::of(found.resource_type), name: Some(found.name.clone()), pattern: found.pattern_type }
    }

    pub(super) fn to_match(&self) -> AclMatch {
        AclMatch {
            resource_type: self.kind.code(),
            name: self.name.clone().unwrap_or_default(),
            pattern_type: self.pattern,
        }
    }
}

/// How names are meant, by the wire's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern(i8);

const PATTERNS: [(&str, i8); 4] = [("ANY", 1), ("MATCH", 2), ("LITERAL", 3), ("PREFIXED", 4)];
const LITERAL: i8 = 3;

impl Pattern {
    pub(super) fn is_specific(self) -> bool {
        self.0 >= LITERAL
    }

    pub(super) fn name(self) -> &'static str {
        PATTERNS.iter().find(|(_, code)| *code == self.0).map_or("UNKNOWN", |(name, _)| name)
    }
}

/// `--resource-pattern-type`.
pub(super) fn pattern_type(parsed: &Parsed) -> Result<Pattern, Stop> {
    let text = parsed.value("resource-pattern-type").map_err(|error| Stop::Thrown(error.into()))?.unwrap_or_default();
    match PATTERNS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        Some((_, code)) => Ok(Pattern(*code)),
        None => Err(Stop::Thrown(
            OptError::Conversion { option: "resource-pattern-type".into(), value: text.into() }.into(),
        )),
    }
}

/// The resources that the options name.
pub(super) fn resources(parsed: &Parsed) -> Result<Vec<Resource>, Stop> {
    let Pattern(pattern) = pattern_type(parsed)?;
    let mut found: Vec<Resource> = Vec::new();
    let named = [
        ("topic", Kind::Topic),
        ("group", Kind::Group),
        ("transactional-id", Kind::TransactionalId),
        ("delegation-token", Kind::DelegationToken),
        ("user-principal", Kind::User),
    ];
    for (option, kind) in named {
        if kind == Kind::Group && pattern == LITERAL && (parsed.has("cluster") || parsed.has("idempotent")) {
            found.push(cluster());
        }
        let names = parsed.values(option).iter();
        found.extend(names.map(|name| Resource { kind, name: Some(name.trim().to_string()), pattern }));
    }
    if pattern != LITERAL && (parsed.has("cluster") || parsed.has("idempotent")) {
        found.push(cluster());
    }
    Ok(found)
}

fn cluster() -> Resource {
    Resource { kind: Kind::Cluster, name: Some("kafka-cluster".into()), pattern: LITERAL }
}

const OPERATIONS: [(&str, i8); 14] = [
    ("ALL", 2),
    ("READ", 3),
    ("WRITE", 4),
    ("CREATE", 5),
    ("DELETE", 6),
    ("ALTER", 7),
    ("DESCRIBE", 8),
    ("CLUSTER_ACTION", 9),
    ("DESCRIBE_CONFIGS", 10),
    ("ALTER_CONFIGS", 11),
    ("IDEMPOTENT_WRITE", 12),
    ("CREATE_TOKENS", 13),
    ("DESCRIBE_TOKENS", 14),
    ("TWO_PHASE_COMMIT", 15),
];

/// An operation by its name with or without underscores; 0 for one that does not exist.
fn operation(text: &str) -> i8 {
    let squeezed = |name: &str| name.replace('_', "").to_ascii_uppercase();
    OPERATIONS.iter().find(|(name, _)| squeezed(name) == squeezed(text)).map_or(0, |(_, code)| *code)
}

fn operation_name(code: i8) -> &'static str {
    match code {
        ANY => "ANY",
        code => OPERATIONS.iter().find(|(_, known)| *known == code).map_or("UNKNOWN", |(name, _)| name),
    }
}

/// A rule without its operation.
#[derive(Debug, Clone)]
struct Permission {
    principal: String,
    host: String,
    permission: i8,
}

/// Who is allowed or denied, from where; `None` when no option says so.
pub(super) fn permissions(parsed: &Parsed) -> Result<Option<()>, Stop> {
    Ok((!parties(parsed)?.is_empty()).then_some(()))
}

fn parties(parsed: &Parsed) -> Result<Vec<Permission>, Stop> {
    let mut found = Vec::new();
    for (who, whence, permission) in [("allow-principal", "allow-host", ALLOW), ("deny-principal", "deny-host", DENY)] {
        let hosts: Vec<String> = match parsed.values(whence) {
            [] if parsed.has(who) => vec!["*".into()],
            hosts => hosts.iter().map(|host| host.trim().to_string()).collect(),
        };
        for principal in parsed.values(who) {
            let principal = principal_of(principal.trim())?;
            found.extend(hosts.iter().map(|host| Permission {
                principal: principal.clone(),
                host: host.clone(),
                permission,
            }));
        }
    }
    Ok(found)
}

/// Checks `principalType:name`.
pub(super) fn principal_of(text: &str) -> Result<String, JavaError> {
    match text.split_once(':') {
        Some((kind, _)) if !kind.is_empty() => Ok(text.to_string()),
        _ => Err(JavaError::illegal_argument(format!(
            "expected a string in format principalType:principalName but got {text}"
        ))),
    }
}

fn made_of(parties: &[Permission], operations: &[i8]) -> Vec<AclEntry> {
    let mut entries: Vec<AclEntry> = Vec::new();
    for operation in operations {
        entries.extend(parties.iter().map(|party| AclEntry {
            principal: party.principal.clone(),
            host: party.host.clone(),
            operation: *operation,
            permission: party.permission,
        }));
    }
    entries.sort();
    entries.dedup();
    entries
}

/// The rules for each of the resources: those of a role, or those of `--operation`.
pub(super) fn entries(parsed: &Parsed, resources: Vec<Resource>) -> Result<Vec<(Resource, Vec<AclEntry>)>, Stop> {
    let parties = parties(parsed)?;
    let adding = parsed.has("add");
    if parties.is_empty() && adding {
        return usage("You must specify one of: --allow-principal, --deny-principal when trying to add ACLs.");
    }
    if parsed.has("producer") || parsed.has("consumer") {
        return Ok(roles(parsed, resources, &parties));
    }
    let operations: Vec<i8> = match parsed.values("operation") {
        [] => vec![operation("All")],
        given => given.iter().map(|text| operation(text.trim())).collect(),
    };
    for resource in &resources {
        let fits = |code: &i8| *code == 2 || resource.kind.operations().contains(&operation_name(*code));
        if !operations.iter().all(fits) {
            let mut names: Vec<&str> = resource.kind.operations().to_vec();
            names.push("ALL");
            return usage(format!(
                "ResourceType {} only supports operations [{}]",
                resource.kind.name(),
                names.join(", ")
            ));
        }
    }
    let entries = made_of(&parties, &operations);
    Ok(resources.into_iter().map(|resource| (resource, entries.clone())).collect())
}

fn roles(parsed: &Parsed, resources: Vec<Resource>, parties: &[Permission]) -> Vec<(Resource, Vec<AclEntry>)> {
    let (producer, consumer) = (parsed.has("producer"), parsed.has("consumer"));
    let mut rules = Vec::new();
    for resource in resources {
        let mut names: Vec<&str> = Vec::new();
        match resource.kind {
            Kind::Topic => {
                if producer {
                    names.extend(["Write", "Describe", "Create"]);
                }
                if consumer {
                    names.extend(["Read", "Describe"]);
                }
            }
            Kind::Group if consumer => names.push("Read"),
            Kind::TransactionalId if producer => names.extend(["Write", "Describe"]),
            Kind::Cluster if producer && parsed.has("idempotent") => names.push("IdempotentWrite"),
            _ => {}
        }
        let codes: Vec<i8> = names.into_iter().map(operation).collect();
        if !codes.is_empty() {
            rules.push((resource, made_of(parties, &codes)));
        }
    }
    rules
}

/// As Kafka prints a resource.
pub(super) fn show_resource(resource: &Resource) -> String {
    format!(
        "ResourcePattern(resourceType={}, name={}, patternType={})",
        resource.kind.name(),
        resource.name.as_deref().unwrap_or("null"),
        Pattern(resource.pattern).name()
    )
}

/// As Kafka prints a rule.
pub(super) fn show_entry(entry: &AclEntry) -> String {
    let permission = match entry.permission {
        ANY => "ANY",
        DENY => "DENY",
        ALLOW => "ALLOW",
        _ => "UNKNOWN",
    };
    format!(
        "(principal={}, host={}, operation={}, permissionType={permission})",
        entry.principal,
        entry.host,
        operation_name(entry.operation)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opts;

    fn read(line: &str) -> Result<Vec<(Resource, Vec<AclEntry>)>, String> {
        let args: Vec<String> = line.split_whitespace().map(String::from).collect();
        let parsed = opts::parse(super::super::acls::OPTIONS, &args).unwrap();
        let resources = resources(&parsed).map_err(|stop| format!("{stop:?}"))?;
        entries(&parsed, resources).map_err(|stop| format!("{stop:?}"))
    }

    #[test]
    fn an_operation_must_fit_its_resource() {
        assert!(read("--add --allow-principal User:a --operation Read --topic t").is_ok());
        let refused = read("--add --allow-principal User:a --operation ClusterAction --topic t").unwrap_err();
        assert!(refused.contains("ResourceType TOPIC only supports operations"), "{refused}");
    }

    #[test]
    fn a_producer_writes_describes_and_creates() {
        let rules = read("--add --allow-principal User:a --producer --idempotent --topic t").unwrap();
        let names: Vec<Vec<&str>> =
            rules.iter().map(|(_, rules)| rules.iter().map(|rule| operation_name(rule.operation)).collect()).collect();
        assert_eq!(names, [vec!["WRITE", "CREATE", "DESCRIBE"], vec!["IDEMPOTENT_WRITE"]]);
    }

    #[test]
    fn principals_have_a_type() {
        assert!(principal_of("User:").is_ok() && principal_of("bob").is_err());
    }
}
