//! The tree that an image is shown as: directories and the texts of their files, as Kafka's shell names and words them.
//!
//! Pure. Secrets (salted passwords, tokens) are not in it.

use std::collections::BTreeMap;
use std::fmt::Display;

use milena_common::Uuid;
use milena_metadata::MetadataImage;
use milena_metadata::image::{Endpoint, PartitionImage, VersionRange};

use super::super::storage_features::RELEASES;
use crate::{java, tool};

/// A directory or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Directory(BTreeMap<String, Node>),
    File(String),
}

impl Node {
    /// The node at a path from here.
    pub(super) fn at(&self, path: &[String]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| match node {
            Node::Directory(children) => children.get(name),
            Node::File(_) => None,
        })
    }
}

fn file(text: impl Display) -> Node {
    Node::File(text.to_string())
}

fn directory(children: impl IntoIterator<Item = (String, Node)>) -> Node {
    Node::Directory(children.into_iter().collect())
}

/// The whole tree.
pub(super) fn root(image: &MetadataImage) -> Node {
    let local = [
        ("commitId".to_string(), file(concat!("milena-", env!("CARGO_PKG_VERSION")))),
        ("version".to_string(), file(tool::KAFKA_VERSION)),
    ];
    let parts = [
        ("acls", acls(image)),
        ("clientQuotas", quotas(image)),
        ("cluster", cluster(image)),
        ("configs", configs(image)),
        ("delegationToken", tokens(image)),
        ("features", features(image)),
        ("producerIds", producer_ids(image)),
        ("provenance", provenance(image)),
        ("scram", scram(image)),
        ("topics", topics(image)),
    ];
    directory([
        ("image".to_string(), directory(parts.map(|(name, node)| (name.to_string(), node)))),
        ("local".to_string(), directory(local)),
    ])
}

fn provenance(image: &MetadataImage) -> Node {
    let at = &image.provenance;
    let time = jiff::Timestamp::from_millisecond(at.last_timestamp_ms).unwrap_or_default();
    // as many decimals as there are
    let shown = match at.last_timestamp_ms.rem_euclid(1000) {
        0 => time.strftime("%Y-%m-%dT%H:%M:%SZ[UTC]").to_string(),
        _ => time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ[UTC]").to_string(),
    };
    file(format_args!("offset {}, epoch {}, time {shown}", at.last_offset, at.last_epoch))
}

fn acls(image: &MetadataImage) -> Node {
    let words = |table: &[&str], value: i8| -> String {
        usize::try_from(value).ok().and_then(|at| table.get(at)).map_or("UNKNOWN".into(), |word| word.to_string())
    };
    const RESOURCES: [&str; 8] =
        ["UNKNOWN", "ANY", "TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID", "DELEGATION_TOKEN", "USER"];
    const PATTERNS: [&str; 5] = ["UNKNOWN", "ANY", "MATCH", "LITERAL", "PREFIXED"];
    const OPERATIONS: [&str; 16] = [
        "UNKNOWN",
        "ANY",
        "ALL",
        "READ",
        "WRITE",
        "CREATE",
        "DELETE",
        "ALTER",
        "DESCRIBE",
        "CLUSTER_ACTION",
        "DESCRIBE_CONFIGS",
        "ALTER_CONFIGS",
        "IDEMPOTENT_WRITE",
        "CREATE_TOKENS",
        "DESCRIBE_TOKENS",
        "TWO_PHASE_COMMIT",
    ];
    const PERMISSIONS: [&str; 4] = ["UNKNOWN", "ANY", "DENY", "ALLOW"];
    let entries = image.acls.entries.iter().map(|(id, acl)| {
        let text = format!(
            "StandardAcl(resourceType={}, resourceName={}, patternType={}, principal={}, host={}, operation={}, permissionType={})",
            words(&RESOURCES, acl.resource_type),
            acl.resource_name,
            words(&PATTERNS, acl.pattern_type),
            acl.principal,
            acl.host,
            words(&OPERATIONS, acl.operation),
            words(&PERMISSIONS, acl.permission_type)
        );
        (id.to_string(), Node::File(text))
    });
    directory([("byId".to_string(), directory(entries))])
}

fn quotas(image: &MetadataImage) -> Node {
    let entities = image.quotas.entities.iter().map(|(entity, values)| {
        let names: Vec<String> = [("ip", "ip"), ("client-id", "clientId"), ("user", "user")]
            .into_iter()
            .filter_map(|(kind, shown)| {
                entity.get(kind).map(|name| match name {
                    Some(name) => format!("{shown}({})", name.replace('\\', "\\\\").replace(['(', ')'], "\\$0")),
                    None => format!("{shown}Default"),
                })
            })
            .collect();
        let values = values.iter().map(|(key, value)| (key.clone(), file(java::double(*value))));
        (names.join("_"), directory(values))
    });
    directory(entities)
}

fn endpoints(list: &[Endpoint]) -> String {
    let protocol = |id: i16| match id {
        0 => "PLAINTEXT",
        1 => "SSL",
        2 => "SASL_PLAINTEXT",
        _ => "SASL_SSL",
    };
    let mut sorted: Vec<&Endpoint> = list.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let each: Vec<String> = sorted
        .iter()
        .map(|e| {
            format!(
                "Endpoint(listenerName='{}', securityProtocol={}, host='{}', port={})",
                e.name,
                protocol(e.security_protocol),
                e.host,
                e.port
            )
        })
        .collect();
    each.join(", ")
}

fn ranges(features: &BTreeMap<String, VersionRange>) -> String {
    let each: Vec<String> = features
        .iter()
        .map(|(name, range)| match range.min == range.max {
            true => format!("{name}: {}", range.min),
            false => format!("{name}: {}-{}", range.min, range.max),
        })
        .collect();
    each.join(", ")
}

fn list<T: Display>(items: &[T]) -> String {
    let each: Vec<String> = items.iter().map(T::to_string).collect();
    format!("[{}]", each.join(", "))
}

fn cluster(image: &MetadataImage) -> Node {
    let brokers = image.cluster.brokers.iter().map(|(id, b)| {
        let rack = b.rack.as_ref().map_or("Optional.empty".to_string(), |rack| format!("Optional[{rack}]"));
        let text = format!(
            "BrokerRegistration(id={id}, epoch={}, incarnationId={}, listeners=[{}], supportedFeatures={{{}}}, rack={rack}, fenced={}, inControlledShutdown={}, isMigratingZkBroker={}, directories={}, cordonedDirectories={})",
            b.epoch,
            b.incarnation_id,
            endpoints(&b.endpoints),
            ranges(&b.features),
            b.fenced,
            b.in_controlled_shutdown,
            b.is_migrating_zk_broker,
            list::<Uuid>(&b.log_dirs),
            list::<Uuid>(&b.cordoned_log_dirs)
        );
        (id.to_string(), Node::File(text))
    });
    let controllers = image.cluster.controllers.iter().map(|(id, c)| {
        let text = format!(
            "ControllerRegistration(id={id}, incarnationId={}, zkMigrationReady={}, listeners=[{}], supportedFeatures={{{}}})",
            c.incarnation_id,
            c.zk_migration_ready,
            endpoints(&c.endpoints),
            ranges(&c.features)
        );
        (id.to_string(), Node::File(text))
    });
    directory([("brokers".to_string(), directory(brokers)), ("controllers".to_string(), directory(controllers))])
}

fn configs(image: &MetadataImage) -> Node {
    directory(image.configs.iter().map(|(resource, entries)| {
        let name = match resource.name.as_str() {
            "" => resource.kind.name().to_string(),
            name => format!("{}:{name}", resource.kind.name()),
        };
        (name, directory(entries.iter().map(|(key, value)| (key.clone(), file(value)))))
    }))
}

fn tokens(image: &MetadataImage) -> Node {
    directory(image.tokens.tokens.iter().map(|(id, token)| {
        let text = format!(
            "TokenInformation{{owner={}, tokenRequester={}, renewers={}, issueTimestamp={}, maxTimestamp={}, expiryTimestamp={}, tokenId='{id}'}}",
            token.owner,
            token.requester,
            list(&token.renewers),
            token.issue_timestamp_ms,
            token.max_timestamp_ms,
            token.expiration_timestamp_ms
        );
        (id.clone(), Node::File(text))
    }))
}

fn features(image: &MetadataImage) -> Node {
    let level = image.features.metadata_version;
    let release = RELEASES.iter().find(|release| release.level == level);
    let shown = release.map_or("Optional.empty".to_string(), |release| format!("Optional[{}]", release.name));
    let finalized = image
        .features
        .levels
        .iter()
        .filter(|(name, _)| *name != "metadata.version")
        .map(|(name, level)| (format!("finalized_{name}"), file(level)));
    directory(finalized.chain([("metadataVersion".to_string(), Node::File(shown))]))
}

fn producer_ids(image: &MetadataImage) -> Node {
    let next = (image.next_producer_id > 0).then(|| ("nextProducerId".to_string(), file(image.next_producer_id)));
    directory(next)
}

fn scram(image: &MetadataImage) -> Node {
    let users = |mechanism: i8| {
        directory(image.scram.credentials.iter().filter(|((of, _), _)| *of == mechanism).map(
            |((_, user), credential)| {
                let text = format!(
                    "ScramCredentialData(salt=[hidden], storedKey=[hidden], serverKey=[hidden], iterations={})",
                    credential.iterations
                );
                (user.clone(), Node::File(text))
            },
        ))
    };
    directory([("SCRAM-SHA-256".to_string(), users(1)), ("SCRAM-SHA-512".to_string(), users(2))])
}

fn topics(image: &MetadataImage) -> Node {
    let topic = |topic: &milena_metadata::image::TopicImage| {
        let partitions = topic.partitions.iter().map(|(id, partition)| (id.to_string(), file(shown(partition))));
        directory(partitions.chain([("id".to_string(), file(topic.id)), ("name".to_string(), file(&topic.name))]))
    };
    let by_id = directory(image.topics.iter().map(|t| (t.id.to_string(), topic(t))));
    let by_name = directory(image.topics.iter().map(|t| (t.name.to_string(), topic(t))));
    directory([("byId".to_string(), by_id), ("byName".to_string(), by_name)])
}

fn shown(p: &PartitionImage) -> String {
    use milena_metadata::image::LeaderRecoveryState;
    let recovery = match p.leader_recovery_state {
        LeaderRecoveryState::Recovered => "RECOVERED",
        LeaderRecoveryState::Recovering => "RECOVERING",
    };
    format!(
        "PartitionRegistration(replicas={}, directories={}, isr={}, removingReplicas={}, addingReplicas={}, elr={}, lastKnownElr={}, leader={}, leaderRecoveryState={recovery}, leaderEpoch={}, partitionEpoch={})",
        list(&p.replicas),
        list::<Uuid>(&p.directories),
        list(&p.isr),
        list(&p.removing_replicas),
        list(&p.adding_replicas),
        list(&p.elr),
        list(&p.last_known_elr),
        p.leader,
        p.leader_epoch,
        p.partition_epoch
    )
}
