//! `kafka-topics`: create, list, describe, alter and delete topics.
//!
//! Same flags, output and exit codes as Kafka's TopicCommand. The checks of options are pure and come before any connection.

use std::collections::BTreeMap;

use milena_client::ClientError;
use milena_client::admin::{
    Admin, ConfigEntry, ConfigResource, ConfigSource, NewPartitions, NewTopic, PartitionDescription, Reassignment,
    ResourceType, TopicDescription, TopicListing,
};
use milena_common::Uuid;
use milena_protocol::ErrorCode;

use crate::java::{self, JavaError};
use crate::opts::{self, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, err, exclude, help_or_version, log_line, out, require, usage};
use crate::topic_filter::TopicFilter;

const LOGGER: &str = "org.apache.kafka.tools.TopicCommand";

pub(crate) const OPTIONS: &[Opt] = &[
    value(
        "bootstrap-server",
        "String",
        "server to connect to",
        "REQUIRED: the brokers to start from, as HOST1:PORT1,HOST2:PORT2.",
    ),
    value(
        "command-config",
        "String",
        "command config property file",
        "A properties file with settings of the admin client.",
    ),
    flag("list", "Show the names of all topics."),
    flag("create", "Make a new topic."),
    flag("delete", "Remove a topic."),
    flag("alter", "Change the number of partitions of a topic. (Configurations are changed with kafka-configs.)"),
    flag("describe", "Show the details of topics."),
    value("topic", "String", "topic", "The topic to act on. A regular expression except with --create."),
    value("topic-id", "String", "topic-id", "The id of the topic to describe."),
    value(
        "config",
        "String",
        "name=value",
        "A configuration of the topic being created; may be repeated. See the reference of topic configurations for the names. Only with --create. (Later changes are made with kafka-configs.)",
    ),
    value("delete-config", "String", "name", "Has no effect any more; kept since 4.0 for old scripts."),
    value(
        "partitions",
        "Integer",
        "# of partitions",
        "How many partitions a created or altered topic shall have; the cluster's default if not given with --create. (WARNING: more partitions change where the records of a key go.)",
    ),
    value(
        "replication-factor",
        "Integer",
        "replication factor",
        "On how many brokers each partition of a created topic is kept; the cluster's default if not given.",
    ),
    value(
        "replica-assignment",
        "String",
        "broker_id_for_part1_replica1 : broker_id_for_part1_replica2 , broker_id_for_part2_replica1 : broker_id_for_part2_replica2 , ...",
        "Which brokers keep which partition of a created or altered topic.",
    ),
    flag("under-replicated-partitions", "With --describe: only partitions with fewer in-sync replicas than replicas."),
    flag("unavailable-partitions", "With --describe: only partitions without a live leader."),
    flag(
        "under-min-isr-partitions",
        "With --describe: only partitions with fewer in-sync replicas than min.insync.replicas.",
    ),
    flag(
        "at-min-isr-partitions",
        "With --describe: only partitions with exactly min.insync.replicas in-sync replicas.",
    ),
    flag("topics-with-overrides", "With --describe: only topics with configurations of their own."),
    flag("if-exists", "With --alter, --delete or --describe: no error if the topic does not exist."),
    flag("if-not-exists", "With --create: no error if the topic exists already. The request is sent all the same."),
    flag("exclude-internal", "With --list or --describe: leave out the cluster's internal topics."),
    value(
        "partition-size-limit-per-response",
        "Integer",
        "maximum number of partitions per response",
        "How many partitions one answer to --describe may hold.",
    ),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

const ACTIONS: [&str; 5] = ["list", "describe", "create", "alter", "delete"];
const MIN_ISR: &str = "min.insync.replicas";

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    if args.is_empty() {
        return usage("Create, delete, describe, or change a topic.");
    }
    let parsed =
        opts::parse(OPTIONS, args).map_err(|error| Stop::Message(format!("{error}\n{}: {error}\n", error.class())))?;
    check(&parsed)?;
    tool::block_on(async {
        let admin = Admin::new(tool::admin_client(&parsed).await?);
        let result = if parsed.has("create") {
            create(&admin, &parsed).await
        } else if parsed.has("alter") {
            alter(&admin, &parsed).await
        } else if parsed.has("list") {
            list(&admin, &parsed).await
        } else if parsed.has("describe") {
            describe(&admin, &parsed).await
        } else {
            delete(&admin, &parsed).await
        };
        result.map_err(|error| {
            out(format_args!("Error while executing topic command : {}\n", error.message));
            tool::flush();
            log_line("ERROR", format_args!("{}: {}\n", error.class, error.message), LOGGER);
            Stop::Exit(1)
        })
    })
}

/// Refuses combinations of options that mean nothing, in Kafka's order.
fn check(parsed: &Parsed) -> Result<(), Stop> {
    help_or_version(parsed, "This tool helps to create, delete, describe, or change a topic.")?;
    if ACTIONS.iter().filter(|action| parsed.has(action)).count() != 1 {
        return usage("Command must include exactly one action: --list, --describe, --create, --alter or --delete");
    }
    if !parsed.has("bootstrap-server") {
        let message = "--bootstrap-server must be specified";
        return tool::refuse(format!("{message}\njava.lang.IllegalArgumentException: {message}\n"));
    }
    let single = [
        "bootstrap-server",
        "command-config",
        "topic",
        "topic-id",
        "partitions",
        "replication-factor",
        "replica-assignment",
    ];
    for name in single {
        parsed.value(name).map_err(|error| Stop::Message(format!("{error}\n{}: {error}\n", error.class())))?;
    }
    if parsed.has("delete-config") {
        err(
            "delete-config option is no longer supported and deprecated since version 4.0. The config will be fully removed in future releases.\n",
        );
    }
    if parsed.has("describe") && parsed.has("if-exists") && !parsed.has("topic") && !parsed.has("topic-id") {
        return usage("--topic or --topic-id is required to describe a topic");
    }
    if !parsed.has("list") && !parsed.has("describe") {
        require(parsed, &["topic"])?;
    }
    if parsed.has("alter") {
        if parsed.has("config") {
            return usage(
                "Option combination \"[[config], [bootstrap-server]]\" can't be used with option \"[alter]\" (To alter topic configurations, the kafka-configs tool can be used.)",
            );
        }
        require(parsed, &["partitions"])?;
    }
    let all_but =
        |allowed: &[&str]| -> Vec<&'static str> { ACTIONS.into_iter().filter(|a| !allowed.contains(a)).collect() };
    exclude(parsed, "config", &all_but(&["alter", "create"]))?;
    exclude(parsed, "partitions", &all_but(&["alter", "create"]))?;
    exclude(parsed, "replication-factor", &all_but(&["create"]))?;
    exclude(parsed, "replica-assignment", &all_but(&["alter", "create"]))?;
    if parsed.has("create") {
        exclude(parsed, "replica-assignment", &["partitions", "replication-factor"])?;
    }
    let reports =
        ["under-replicated-partitions", "under-min-isr-partitions", "at-min-isr-partitions", "unavailable-partitions"];
    for report in reports {
        let mut others = all_but(&["describe"]);
        others.push("topics-with-overrides");
        exclude(parsed, report, &others)?;
    }
    exclude(parsed, "topics-with-overrides", &all_but(&["describe"]))?;
    exclude(parsed, "if-exists", &all_but(&["alter", "delete", "describe"]))?;
    exclude(parsed, "if-not-exists", &all_but(&["create"]))?;
    exclude(parsed, "exclude-internal", &all_but(&["list", "describe"]))
}

async fn create(admin: &Admin, parsed: &Parsed) -> Result<(), JavaError> {
    let name = parsed.value("topic")?.unwrap_or_default();
    let assignments = assignment(parsed)?;
    let configs = parsed.values("config").iter().map(|text| config(text)).collect::<Result<Vec<_>, _>>()?;
    if name.contains(['.', '_']) {
        out(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide. To avoid issues it is best to use either, but not both.\n",
        );
    }
    let replication_factor = parsed.number::<i32>("replication-factor")?;
    let partitions = parsed.number::<i32>("partitions")?;
    if replication_factor.is_some_and(|factor| !(1..=i32::from(i16::MAX)).contains(&factor)) {
        return Err(JavaError::illegal_argument("The replication factor must be between 1 and 32767 inclusive"));
    }
    if partitions.is_some_and(|count| count < 1) {
        return Err(JavaError::illegal_argument("The partitions must be greater than 0"));
    }
    let topic = NewTopic {
        name: name.into(),
        partitions: partitions.unwrap_or(-1),
        replication_factor: replication_factor.and_then(|factor| i16::try_from(factor).ok()).unwrap_or(-1),
        assignments,
        configs,
    };
    match all(admin.create_topics(&[topic], false).await?) {
        Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) && parsed.has("if-not-exists") => Ok(()),
        Err(error) => {
            let mut error = JavaError::from(error);
            // Kafka's tool looks at the values itself, before the broker does
            if error.message.starts_with("Invalid value ") {
                error.class = "org.apache.kafka.common.config.ConfigException".into();
            }
            Err(error)
        }
        Ok(()) => {
            out(format_args!("Created topic {name}.\n"));
            Ok(())
        }
    }
}

async fn list(admin: &Admin, parsed: &Parsed) -> Result<(), JavaError> {
    let mut names: Vec<String> = topics(admin, parsed).await?.into_iter().map(|topic| topic.name).collect();
    names.sort();
    out(format_args!("{}\n", names.join("\n")));
    Ok(())
}

async fn delete(admin: &Admin, parsed: &Parsed) -> Result<(), JavaError> {
    let names: Vec<String> = existing(admin, parsed).await?.into_iter().map(|topic| topic.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    Ok(all(admin.delete_topics(&names).await?)?)
}

async fn alter(admin: &Admin, parsed: &Parsed) -> Result<(), JavaError> {
    let names: Vec<String> = existing(admin, parsed).await?.into_iter().map(|topic| topic.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let total = parsed.number::<i32>("partitions")?.unwrap_or_default();
    let assignments = assignment(parsed)?;
    let mut changes = Vec::new();
    for (name, description) in admin.describe_topics(&names, 2000).await? {
        let existing = description?.partitions.len();
        let new = (!assignments.is_empty()).then(|| assignments.values().skip(existing).cloned().collect());
        changes.push(NewPartitions { topic: name, total, assignments: new });
    }
    Ok(all(admin.create_partitions(&changes).await?)?)
}

async fn describe(admin: &Admin, parsed: &Parsed) -> Result<(), JavaError> {
    let found = existing(admin, parsed).await?;
    if found.is_empty() {
        return Ok(());
    }
    let mut names: Vec<String> = found.into_iter().map(|topic| topic.name).collect();
    java::sized_hash_order(&mut names, |name| name.as_str());
    let page = parsed.number::<i32>("partition-size-limit-per-response")?.unwrap_or(2000);
    let mut described: BTreeMap<String, TopicDescription> = BTreeMap::new();
    for (name, result) in admin.describe_topics(&names, page).await? {
        match result {
            Ok(description) => drop(described.insert(name, description)),
            Err(error) => return Err(error.into()),
        }
    }
    let resources: Vec<ConfigResource> =
        names.iter().map(|name| ConfigResource { kind: ResourceType::Topic, name: name.clone() }).collect();
    let mut configs: BTreeMap<String, Vec<ConfigEntry>> = BTreeMap::new();
    for (resource, entries) in admin.describe_configs(&resources, false).await? {
        let mut entries = entries?;
        java::hash_order(&mut entries, |entry| entry.name.as_str());
        configs.insert(resource.name, entries);
    }
    let reassignments = match admin.list_reassignments().await {
        Ok(reassignments) => reassignments,
        // not allowed to see them, or a broker that does not know of them: describe without
        Err(error)
            if matches!(error, ClientError::UnsupportedVersion(_))
                || error.code() == Some(ErrorCode::ClusterAuthorizationFailed) =>
        {
            BTreeMap::new()
        }
        Err(error) => return Err(error.into()),
    };
    let live: Vec<i32> = if parsed.has("unavailable-partitions") {
        admin.describe_cluster().await?.nodes.into_iter().map(|node| node.id).collect()
    } else {
        Vec::new()
    };
    let only_partitions =
        ["under-replicated-partitions", "under-min-isr-partitions", "at-min-isr-partitions", "unavailable-partitions"]
            .iter()
            .any(|report| parsed.has(report));
    let only_overridden = parsed.has("topics-with-overrides");
    for name in &names {
        let Some(topic) = described.get(name) else {
            continue;
        };
        let entries = configs.get(name).map_or(&[][..], Vec::as_slice);
        let overridden: Vec<&ConfigEntry> = entries.iter().filter(|e| e.source != ConfigSource::Default).collect();
        if !only_partitions && (!only_overridden || !overridden.is_empty()) {
            out(headline(topic, &overridden, &reassignments));
        }
        if only_overridden {
            continue;
        }
        let min_isr = entries.iter().find(|e| e.name == MIN_ISR).and_then(|e| e.value.as_ref()?.parse().ok());
        for partition in &topic.partitions {
            let change = reassignments.get(&(name.clone(), partition.partition));
            // several reports at once show what any of them shows
            let shown = !only_partitions
                || (parsed.has("under-replicated-partitions")
                    && partition.isr.len() < replication_factor(partition, change))
                || (parsed.has("unavailable-partitions")
                    && partition.leader.is_none_or(|leader| !live.contains(&leader)))
                || (parsed.has("under-min-isr-partitions")
                    && (partition.leader.is_none() || min_isr.is_some_and(|min| partition.isr.len() < min)))
                || (parsed.has("at-min-isr-partitions") && min_isr == Some(partition.isr.len()));
            if shown {
                out(partition_line(name, partition, change));
            }
        }
    }
    Ok(())
}

/// How many replicas the partition shall have once a running change is done.
fn replication_factor(partition: &PartitionDescription, change: Option<&Reassignment>) -> usize {
    partition.replicas.len() - change.map_or(0, |change| change.adding.len())
}

fn headline(
    topic: &TopicDescription,
    overridden: &[&ConfigEntry],
    changes: &BTreeMap<(String, i32), Reassignment>,
) -> String {
    let first = topic.partitions.first();
    let factor = first.map_or(0, |p| replication_factor(p, changes.get(&(topic.name.clone(), p.partition))));
    let configs: Vec<String> =
        overridden.iter().map(|e| format!("{}={}", e.name, e.value.as_deref().unwrap_or("null"))).collect();
    let id = if topic.topic_id == Uuid::ZERO { String::new() } else { format!("\tTopicId: {}", topic.topic_id) };
    format!(
        "Topic: {}{id}\tPartitionCount: {}\tReplicationFactor: {factor}\tConfigs: {}\n",
        topic.name,
        topic.partitions.len(),
        configs.join(",")
    )
}

fn partition_line(topic: &str, partition: &PartitionDescription, change: Option<&Reassignment>) -> String {
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let known = |list: &Option<Vec<i32>>| list.as_deref().map_or("N/A".to_string(), ids);
    let leader = partition.leader.map_or("none".to_string(), |leader| leader.to_string());
    let change = change.map_or(String::new(), |change| {
        format!("\tAdding Replicas: {}\tRemoving Replicas: {}", ids(&change.adding), ids(&change.removing))
    });
    format!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}{change}\tElr: {}\tLastKnownElr: {}\n",
        partition.partition,
        ids(&partition.replicas),
        ids(&partition.isr),
        known(&partition.elr),
        known(&partition.last_known_elr),
    )
}

/// The topics that `--topic` or `--topic-id` select.
async fn topics(admin: &Admin, parsed: &Parsed) -> Result<Vec<TopicListing>, JavaError> {
    let id = match parsed.value("topic-id")? {
        Some(text) => Some(topic_id(text)?),
        None => None,
    };
    let filter = parsed.value("topic")?.map(TopicFilter::new).transpose()?;
    let mut found = admin.list_topics().await?;
    found.retain(|topic| {
        let selected = match id.filter(|id| *id != Uuid::ZERO) {
            Some(id) => topic.topic_id == id,
            None => filter.as_ref().is_none_or(|filter| filter.matches(&topic.name)),
        };
        selected && !(parsed.has("exclude-internal") && topic.internal)
    });
    Ok(found)
}

/// [`topics`], and an error if one was named and there is none, unless `--if-exists`.
async fn existing(admin: &Admin, parsed: &Parsed) -> Result<Vec<TopicListing>, JavaError> {
    let found = topics(admin, parsed).await?;
    if found.is_empty() && !parsed.has("if-exists") {
        if let Some(id) = parsed.value("topic-id")? {
            return Err(JavaError::illegal_argument(format!("TopicId '{id}' does not exist as expected")));
        }
        if let Some(topic) = parsed.value("topic")?.filter(|topic| !topic.is_empty()) {
            return Err(JavaError::illegal_argument(format!("Topic '{topic}' does not exist as expected")));
        }
    }
    Ok(found)
}

fn topic_id(text: &str) -> Result<Uuid, JavaError> {
    text.parse().map_err(|_| {
        if text.len() > 24 {
            return JavaError::illegal_argument(format!("Input string with prefix `{}` is too long to be decoded as a base64 UUID", &text[..24.min(text.len())]));
        }
        let decoded = text.len() * 3 / 4;
        JavaError::illegal_argument(format!(
            "Input string `{text}` decoded as {decoded} bytes, which is not equal to the expected 16 bytes of a base64-encoded UUID"
        ))
    })
}

fn config(text: &str) -> Result<(String, String), JavaError> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_string(), value.trim().to_string())),
        None => Err(JavaError::illegal_argument(
            "requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\".",
        )),
    }
}

/// `1:2,2:3` as partition to replicas.
fn assignment(parsed: &Parsed) -> Result<BTreeMap<i32, Vec<i32>>, JavaError> {
    let Some(text) = parsed.value("replica-assignment")? else {
        return Ok(BTreeMap::new());
    };
    let mut assignments: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (partition, list) in (0..).zip(text.split(',')) {
        let mut replicas = Vec::new();
        for id in list.split(':') {
            let id: i32 = id.trim().parse().map_err(|_| JavaError {
                class: "java.lang.NumberFormatException".into(),
                message: format!("For input string: \"{}\"", id.trim()),
            })?;
            if replicas.contains(&id) {
                return Err(JavaError {
                    class: "org.apache.kafka.tools.AdminCommandFailedException".into(),
                    message: format!("Partition replica lists may not contain duplicate entries: {id}"),
                });
            }
            replicas.push(id);
        }
        if assignments.get(&0).is_some_and(|first| first.len() != replicas.len()) {
            return Err(JavaError {
                class: "org.apache.kafka.server.common.AdminOperationException".into(),
                message: format!("Partition {partition} has different replication factor: {replicas:?}"),
            });
        }
        assignments.insert(partition, replicas);
    }
    Ok(assignments)
}

fn all(results: Vec<(String, Result<(), ClientError>)>) -> Result<(), ClientError> {
    results.into_iter().try_for_each(|(_, result)| result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> PartitionDescription {
        PartitionDescription {
            partition: 1,
            leader: Some(2),
            leader_epoch: 0,
            replicas: vec![2, 3],
            isr: vec![2],
            elr: Some(vec![]),
            last_known_elr: None,
            offline: vec![],
        }
    }

    #[test]
    fn a_partition_is_one_line_of_tab_separated_fields() {
        assert_eq!(
            partition_line("t", &partition(), None),
            "\tTopic: t\tPartition: 1\tLeader: 2\tReplicas: 2,3\tIsr: 2\tElr: \tLastKnownElr: N/A\n"
        );
        let change = Reassignment { replicas: vec![2, 3], adding: vec![3], removing: vec![] };
        assert!(
            partition_line("t", &partition(), Some(&change)).contains("\tAdding Replicas: 3\tRemoving Replicas: \tElr")
        );
        assert_eq!(replication_factor(&partition(), Some(&change)), 1);
    }

    #[test]
    fn assignments_are_checked_as_in_kafka() {
        let read = |text: &str| {
            let args = vec!["--replica-assignment".to_string(), text.to_string()];
            assignment(&opts::parse(OPTIONS, &args).unwrap())
        };
        assert_eq!(read("1:2,2:3").unwrap(), BTreeMap::from([(0, vec![1, 2]), (1, vec![2, 3])]));
        assert_eq!(read("1:1").unwrap_err().message, "Partition replica lists may not contain duplicate entries: 1");
        assert_eq!(read("x").unwrap_err().message, "For input string: \"x\"");
    }
}
