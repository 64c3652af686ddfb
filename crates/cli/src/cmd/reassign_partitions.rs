//! `kafka-reassign-partitions`: moves the replicas of partitions between brokers and log directories.
//!
//! Same flags, files, output and exit codes as Kafka's ReassignPartitionsCommand. `reassign_files` reads and writes the JSON,
//! `reassign_moves` calculates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_client::ClientError;
use milena_client::admin::{Admin, ConfigOp, ConfigResource, OpKind, ReplicaInDir, ResourceType};
use milena_common::{TopicPartition, Uuid};
use milena_protocol::ErrorCode;

use super::reassign_files::{
    Assignment, Dirs, assignment, brokers, check as check_assignment, listed, to_json, topics,
};
use super::reassign_moves::{Place, spread, throttled};
use crate::java::JavaError;
use crate::opts::{self, Arg, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, help_or_version, out, require, usage};

const OPTIONS: &[Opt] = &[
    Opt {
        name: "bootstrap-server",
        arg: Arg::Optional("String", "Server(s) to use for bootstrapping"),
        doc: "The brokers to start from.",
        default: None,
        must: false,
    },
    Opt {
        name: "bootstrap-controller",
        arg: Arg::Optional("String", "bootstrap controller to connect to"),
        doc: "The controllers to start from, instead of brokers; for --cancel and --list.",
        default: None,
        must: false,
    },
    value("command-config", "String", "Admin client property file", "A properties file with settings of the admin client."),
    flag("verify", "Say how far the reassignment of --reassignment-json-file is; once it is complete, remove its throttles."),
    flag("generate", "Propose a reassignment. It is shown, not executed."),
    flag("execute", "Start the reassignment of --reassignment-json-file."),
    flag("cancel", "End the reassignment of --reassignment-json-file."),
    flag("list", "Show all reassignments that are under way."),
    value(
        "reassignment-json-file",
        "String",
        "manual assignment json file path",
        "A JSON file that says which partition shall lie where:\n{\"partitions\":\n\t[{\"topic\": \"foo\",\n\t  \"partition\": 1,\n\t  \"replicas\": [1,2,3],\n\t  \"log_dirs\": [\"dir1\",\"dir2\",\"dir3\"]\n  }],\n\"version\":1\n}\n\"log_dirs\" may be left out, or be as long as the replicas: a path on the broker, or \"any\".",
    ),
    value(
        "topics-to-move-json-file",
        "String",
        "topics to reassign json file path",
        "With --generate: a JSON file with the topics to move to the brokers of --broker-list:\n{\"topics\":\n\t[{\"topic\": \"foo\"},{\"topic\": \"foo1\"}],\n\"version\":1\n}",
    ),
    value("broker-list", "String", "brokerlist", "With --generate: the brokers to move to, as 0,1,2."),
    flag("disable-rack-aware", "With --generate: do not look at racks."),
    value(
        "throttle",
        "Long",
        "throttle",
        "With --execute: at most so many bytes a second between brokers, at least 1 KB/s. With --additional it changes the throttle of a running reassignment.",
    )
    .or("-1"),
    value(
        "replica-alter-log-dirs-throttle",
        "Long",
        "replicaAlterLogDirsThrottle",
        "With --execute: at most so many bytes a second between the log directories of a broker, at least 1 KB/s.",
    )
    .or("-1"),
    value("timeout", "Long", "timeout", "How many milliseconds to wait for moves between log directories to begin.")
        .or("10000"),
    flag("additional", "With --execute: besides reassignments that are under way."),
    flag("preserve-throttles", "Leave throttles as they are."),
    flag("disallow-replication-factor-change", "With --execute: refuse to change how many replicas a partition has."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const DIRS_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";

/// Per action: the options that it needs, and those that it may have besides.
const ACTIONS: [(&str, &[&str], &[&str]); 5] = [
    ("verify", &["reassignment-json-file"], &["bootstrap-server", "command-config", "preserve-throttles"]),
    (
        "generate",
        &["topics-to-move-json-file", "broker-list"],
        &["bootstrap-server", "command-config", "disable-rack-aware"],
    ),
    (
        "execute",
        &["reassignment-json-file"],
        &[
            "additional",
            "bootstrap-server",
            "command-config",
            "throttle",
            "replica-alter-log-dirs-throttle",
            "timeout",
            "disallow-replication-factor-change",
        ],
    ),
    (
        "cancel",
        &["reassignment-json-file"],
        &["bootstrap-server", "bootstrap-controller", "command-config", "preserve-throttles", "timeout"],
    ),
    ("list", &[], &["bootstrap-server", "bootstrap-controller", "command-config"]),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute_line(args))
}

fn execute_line(args: &[String]) -> Result<(), Stop> {
    let parsed = opts::parse(OPTIONS, args)
        .map_err(|error| Stop::Message(format!("Exception in thread \"main\" {}: {error}", error.class())))?;
    let action = check(&parsed)?;
    match tool::block_on(act(&parsed, action)) {
        Err(Stop::Thrown(error)) => {
            out(format_args!("Error: {}\n{error}\n\n", error.message));
            Err(Stop::Exit(1))
        }
        // short refusals have no class
        Err(Stop::Message(message)) => {
            out(format_args!("Error: {message}\n"));
            Err(Stop::Exit(1))
        }
        result => result,
    }
}

fn check(parsed: &Parsed) -> Result<&'static str, Stop> {
    help_or_version(parsed, "This tool helps to move topic partitions between replicas.")?;
    let mut chosen = ACTIONS.iter().filter(|(action, ..)| parsed.has(action));
    let (Some((action, needed, allowed)), None) = (chosen.next(), chosen.next()) else {
        return usage("Command must include exactly one action: --generate, --execute, --verify, --cancel, --list");
    };
    match (parsed.has("bootstrap-server"), parsed.has("bootstrap-controller")) {
        (true, true) => return usage("Please don't specify both --bootstrap-server and --bootstrap-controller"),
        (false, false) => return usage("Please specify either --bootstrap-server or --bootstrap-controller"),
        _ => {}
    }
    // without the option itself in the list, a stranger is named before what is missing
    let all_there = needed.iter().all(|option| parsed.has(option));
    if !all_there {
        require(parsed, needed)?;
    }
    for option in OPTIONS.iter().filter(|option| parsed.has(option.name) && option.name != *action) {
        if !needed.contains(&option.name) && !allowed.contains(&option.name) {
            return usage(format!("Option \"[{}]\" can't be used with action \"[{action}]\"", option.name));
        }
    }
    Ok(action)
}

async fn act(parsed: &Parsed, action: &str) -> Result<(), Stop> {
    let value = |name| tool::value(parsed, name);
    let admin =
        Admin::new(tool::client(value("bootstrap-server")?, value("bootstrap-controller")?, value("command-config")?)?);
    let file = |name| -> Result<String, Stop> { Ok(tool::read_file(value(name)?.unwrap_or_default())?) };
    match action {
        "list" => list(&admin).await,
        "generate" => generate(&admin, parsed, &file("topics-to-move-json-file")?).await,
        "execute" => execute(&admin, parsed, &file("reassignment-json-file")?).await,
        "verify" => verify(&admin, parsed, &file("reassignment-json-file")?).await,
        _ => cancel(&admin, parsed, &file("reassignment-json-file")?).await,
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn names(parts: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    parts.into_iter().map(|tp| tp.to_string()).collect::<Vec<_>>().join(",")
}

fn unknown(message: String) -> Stop {
    let class = crate::java::class_of_code(ErrorCode::UnknownTopicOrPartition);
    Stop::Thrown(JavaError::executed(JavaError { class, message }))
}

async fn list(admin: &Admin) -> Result<(), Stop> {
    let found = admin.list_reassignments().await?;
    if found.is_empty() {
        out("No partition reassignments found.\n");
        return Ok(());
    }
    out("Current partition reassignments:\n");
    for ((topic, partition), change) in found {
        let part = |what: &str, ids: &[i32]| match ids {
            [] => String::new(),
            ids => format!(" {what}: {}.", listed(ids, ",")),
        };
        out(format_args!(
            "{topic}-{partition}: replicas: {}.{}{}\n",
            listed(&change.replicas, ","),
            part("adding", &change.adding),
            part("removing", &change.removing)
        ));
    }
    Ok(())
}

/// Where the replicas of topics lie.
async fn replicas_of(admin: &Admin, topics: &[String]) -> Result<BTreeMap<TopicPartition, Vec<i32>>, Stop> {
    let mut found = BTreeMap::new();
    for (name, description) in admin.describe_topics(topics, 2000).await? {
        match description {
            Ok(topic) => found.extend(
                topic.partitions.into_iter().map(|p| (TopicPartition::new(name.as_str(), p.partition), p.replicas)),
            ),
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                return Err(unknown(format!("Topic {name} not found.")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// The replicas in the log directories of brokers.
async fn in_dirs(admin: &Admin, brokers: &BTreeSet<i32>) -> Result<Vec<(i32, String, ReplicaInDir)>, Stop> {
    let mut found = Vec::new();
    for broker in brokers {
        for dir in admin.describe_log_dirs(*broker).await? {
            found.extend(dir.replicas.into_iter().map(|replica| (*broker, dir.path.clone(), replica)));
        }
    }
    Ok(found)
}

/// The log directories that these replicas lie in now.
async fn dirs_of(admin: &Admin, parts: &BTreeMap<TopicPartition, Vec<i32>>) -> Result<Dirs, Stop> {
    let brokers: BTreeSet<i32> = parts.values().flatten().copied().collect();
    let live: BTreeSet<i32> = admin.describe_cluster().await?.nodes.into_iter().map(|node| node.id).collect();
    let replicas = in_dirs(admin, &brokers.intersection(&live).copied().collect()).await?;
    let current = replicas.into_iter().filter(|(_, _, replica)| !replica.is_future);
    Ok(current.map(|(broker, path, replica)| ((replica.partition, broker), path)).collect())
}

async fn generate(admin: &Admin, parsed: &Parsed, text: &str) -> Result<(), Stop> {
    let ids = brokers(tool::value(parsed, "broker-list")?.unwrap_or_default())?;
    let topics = topics(text)?;
    let current = replicas_of(admin, &topics).await?;
    let mut places: Vec<Place> = admin
        .describe_cluster()
        .await?
        .nodes
        .into_iter()
        .filter(|node| ids.contains(&node.id))
        .map(|node| Place { id: node.id, rack: node.rack })
        .collect();
    places.sort_by_key(|place| place.id);
    if parsed.has("disable-rack-aware") {
        places.iter_mut().for_each(|place| place.rack = None);
    }
    let racked = places.iter().filter(|place| place.rack.is_some()).count();
    if racked != 0 && racked != places.len() {
        return Err(Stop::Thrown(JavaError {
            class: "org.apache.kafka.server.common.AdminOperationException".into(),
            message: "Not all brokers have rack information. Add --disable-rack-aware in command line to make replica assignment without rack information.".into(),
        }));
    }
    let mut proposed = BTreeMap::new();
    for topic in &topics {
        let parts: Vec<(&TopicPartition, &Vec<i32>)> = current.iter().filter(|(tp, _)| *tp.topic == **topic).collect();
        let factor = parts.first().map_or(0, |(_, replicas)| replicas.len());
        // anywhere, so that topics do not all begin on the same broker
        let random =
            Uuid::random().to_string().bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
        let start = random % places.len().max(1);
        let spread = spread(&places, parts.len(), factor, start, random / 7 % places.len().max(1))?;
        proposed.extend(parts.into_iter().map(|(tp, _)| tp.clone()).zip(spread));
    }
    out(format_args!(
        "Current partition replica assignment\n{}\n\nProposed partition reassignment configuration\n{}\n",
        to_json(&current, &dirs_of(admin, &current).await?),
        to_json(&proposed, &Dirs::new())
    ));
    Ok(())
}

fn number(parsed: &Parsed, name: &str) -> Result<i64, Stop> {
    let number = parsed.number::<i64>(name).map_err(|error| Stop::Thrown(error.into()))?;
    Ok(number.unwrap_or(-1))
}

async fn execute(admin: &Admin, parsed: &Parsed, text: &str) -> Result<(), Stop> {
    let (throttle, dirs_throttle) = (number(parsed, "throttle")?, number(parsed, "replica-alter-log-dirs-throttle")?);
    let timeout_ms = number(parsed, "timeout")?;
    let (proposed, dirs) = assignment(text)?;
    check_assignment(&proposed)?;
    let running = admin.list_reassignments().await?;
    if !parsed.has("additional") && !running.is_empty() {
        return tool::refuse(
            "Cannot execute because there is an existing partition assignment.  Use --additional to override this and create a new partition assignment in addition to the existing one. The --additional flag can also be used to change the throttle by resubmitting the current reassignment.",
        );
    }
    let live: BTreeSet<i32> = admin.describe_cluster().await?.nodes.into_iter().map(|node| node.id).collect();
    let wanted: BTreeSet<i32> = proposed.iter().flat_map(|(_, replicas)| replicas).copied().collect();
    if let Some(stranger) = wanted.difference(&live).next() {
        let message = format!("Unknown broker id {stranger}");
        return Err(JavaError::of_tools("AdminCommandFailedException", message).into());
    }
    let current = replicas_of(admin, &topics_in(&proposed)).await?;
    let mut now = BTreeMap::new();
    for (tp, _) in &proposed {
        match current.get(tp) {
            Some(replicas) => drop(now.insert(tp.clone(), replicas.clone())),
            None => return Err(unknown(format!("Unable to find partition: {tp}"))),
        }
    }
    out(format_args!(
        "Current partition replica assignment\n\n{}\n\nSave this to use as the --reassignment-json-file option during rollback\n",
        to_json(&now, &dirs_of(admin, &now).await?)
    ));
    if throttle >= 0 || dirs_throttle >= 0 {
        out(
            "Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is removed.\n",
        );
    }
    if throttle >= 0 {
        let sources = |tp: &TopicPartition, now: Vec<i32>| match running.get(&(tp.topic.to_string(), tp.partition)) {
            // those that are still being added have nothing to give
            Some(change) => change.replicas.iter().copied().filter(|id| !change.adding.contains(id)).collect(),
            None => now,
        };
        let moves = now
            .iter()
            .filter_map(|(tp, replicas)| {
                let (_, target) = proposed.iter().find(|(known, _)| known == tp)?;
                Some((tp.clone(), (sources(tp, replicas.clone()), target.clone())))
            })
            .collect();
        let throttled = throttled(&moves);
        for broker in &throttled.brokers {
            set(admin, ResourceType::Broker, &broker.to_string(), &[LEADER_RATE, FOLLOWER_RATE], &throttle.to_string())
                .await?;
        }
        for (topic, replicas) in &throttled.leaders {
            set(admin, ResourceType::Topic, topic, &[LEADER_REPLICAS], replicas).await?;
        }
        for (topic, replicas) in &throttled.followers {
            set(admin, ResourceType::Topic, topic, &[FOLLOWER_REPLICAS], replicas).await?;
        }
        out(format_args!("The inter-broker throttle limit was set to {throttle} B/s\n"));
    }
    if dirs_throttle >= 0 {
        let brokers: BTreeSet<i32> = dirs.keys().map(|(_, broker)| *broker).collect();
        for broker in brokers {
            set(admin, ResourceType::Broker, &broker.to_string(), &[DIRS_RATE], &dirs_throttle.to_string()).await?;
        }
        out(format_args!("The replica-alter-dir throttle limit was set to {dirs_throttle} B/s\n"));
    }
    let changes: Vec<_> = proposed.iter().map(|(tp, replicas)| (tp.clone(), Some(replicas.clone()))).collect();
    let results = admin.alter_reassignments(&changes, !parsed.has("disallow-replication-factor-change")).await?;
    let wrong = wrong_of(&results);
    if !wrong.is_empty() {
        return tool::refuse(format!("Error reassigning partition(s):\n{wrong}"));
    }
    let started: BTreeSet<&TopicPartition> = proposed.iter().map(|(tp, _)| tp).collect();
    out(format_args!("Successfully started partition reassignment{} for {}\n", plural(started.len()), names(started)));
    if dirs.is_empty() { Ok(()) } else { start_moves(admin, dirs, timeout_ms).await }
}

fn wrong_of(results: &BTreeMap<TopicPartition, Result<(), ClientError>>) -> String {
    let line = |(tp, result): (&TopicPartition, &Result<(), ClientError>)| {
        result.as_ref().err().map(|error| format!("{tp}: {}", crate::java::message_of(error)))
    };
    results.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

fn topics_in(parts: &Assignment) -> Vec<String> {
    let topics: BTreeSet<String> = parts.iter().map(|(tp, _)| tp.topic.to_string()).collect();
    topics.into_iter().collect()
}

async fn set(admin: &Admin, kind: ResourceType, name: &str, keys: &[&str], value: &str) -> Result<(), Stop> {
    let op = |key: &&str| ConfigOp { name: key.to_string(), value: Some(value.to_string()), kind: OpKind::Set };
    let ops: Vec<ConfigOp> = keys.iter().map(op).collect();
    Ok(admin.alter_configs(&ConfigResource { kind, name: name.to_string() }, &ops).await?)
}

/// Moves replicas between the directories of their brokers; one that is not there yet is waited for.
async fn start_moves(admin: &Admin, mut pending: Dirs, timeout_ms: i64) -> Result<(), Stop> {
    let deadline = tokio::time::Instant::now() + Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    loop {
        let mut done = Vec::new();
        let brokers: BTreeSet<i32> = pending.keys().map(|(_, broker)| *broker).collect();
        for broker in brokers {
            let moves: Vec<(TopicPartition, String)> = pending
                .iter()
                .filter(|((_, of), _)| *of == broker)
                .map(|((tp, _), path)| (tp.clone(), path.clone()))
                .collect();
            for (tp, result) in admin.alter_replica_log_dirs(broker, &moves).await? {
                match result {
                    Ok(()) => done.push((tp, broker)),
                    Err(error) if error.code() == Some(ErrorCode::ReplicaNotAvailable) => {}
                    Err(_) => {
                        let message = format!("Failed to alter dir for {tp}-{broker}");
                        return Err(JavaError::of_tools("AdminCommandFailedException", message).into());
                    }
                }
            }
        }
        if !done.is_empty() {
            let list: Vec<String> = done.iter().map(|(tp, broker)| format!("{tp}-{broker}")).collect();
            out(format_args!(
                "Successfully started log directory move{} for: {}\n",
                plural(done.len()),
                list.join(",")
            ));
        }
        pending.retain(|replica, _| !done.contains(replica));
        if pending.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            let list: Vec<String> = pending.keys().map(|(tp, broker)| format!("{tp}-{broker}")).collect();
            return tool::refuse(format!(
                "Timed out before log directory move{} could be started for: {}",
                plural(list.len()),
                list.join(",")
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn verify(admin: &Admin, parsed: &Parsed, text: &str) -> Result<(), Stop> {
    let (targets, dirs) = assignment(text)?;
    let running = admin.list_reassignments().await?;
    let mut lines = vec!["Status of partition reassignment:".to_string()];
    let mut ongoing = false;
    let mut current: BTreeMap<TopicPartition, Vec<i32>> = BTreeMap::new();
    for topic in topics_in(&targets) {
        // a topic that is gone has no replicas
        if let Ok(found) = replicas_of(admin, &[topic]).await {
            current.extend(found);
        }
    }
    let sorted: BTreeMap<&TopicPartition, &Vec<i32>> = targets.iter().map(|(tp, replicas)| (tp, replicas)).collect();
    for (tp, target) in sorted {
        let now = current.get(tp).cloned().unwrap_or_default();
        if running.contains_key(&(tp.topic.to_string(), tp.partition)) {
            ongoing = true;
            lines.push(format!("Reassignment of partition {tp} is still in progress."));
        } else if now == *target {
            lines.push(format!("Reassignment of partition {tp} is completed."));
        } else {
            lines.push(format!(
                "There is no active reassignment of partition {tp}, but replica set is {} rather than {}.",
                listed(&now, ","),
                listed(target, ",")
            ));
        }
    }
    out(format_args!("{}\n", lines.join("\n")));
    let (moves, moving) = verify_moves(admin, &dirs).await?;
    out(format_args!("{}\n", moves.join("\n")));
    if !ongoing && !moving && !parsed.has("preserve-throttles") {
        clear_throttles(admin, &targets).await?;
    }
    Ok(())
}

/// How far moves between directories are, and whether one is under way.
async fn verify_moves(admin: &Admin, dirs: &Dirs) -> Result<(Vec<String>, bool), Stop> {
    let brokers: BTreeSet<i32> = dirs.keys().map(|(_, broker)| *broker).collect();
    let replicas = in_dirs(admin, &brokers).await?;
    let mut moving = false;
    let mut lines = Vec::new();
    for ((tp, broker), target) in dirs {
        let find = |future: bool| {
            let mut theirs = replicas.iter().filter(|(of, _, r)| of == broker && r.partition == *tp);
            theirs.find(|(_, _, r)| r.is_future == future).map(|(_, path, _)| path)
        };
        lines.push(match (find(false), find(true)) {
            (_, Some(future)) if future == target => {
                moving = true;
                format!("Reassignment of replica {tp}-{broker} is still in progress.")
            }
            (_, Some(future)) => {
                format!("Partition {tp} on broker {broker} is being moved to log dir {future} instead of {target}.")
            }
            (Some(path), None) if path == target => {
                format!("Reassignment of replica {tp}-{broker} completed successfully.")
            }
            (Some(path), None) => {
                format!("Partition {tp} on broker {broker} is not being moved from log dir {path} to {target}.")
            }
            (None, None) => format!("Partition {tp} cannot be found in any live log directory on broker {broker}."),
        });
    }
    Ok((lines, moving))
}

async fn cancel(admin: &Admin, parsed: &Parsed, text: &str) -> Result<(), Stop> {
    let (targets, dirs) = assignment(text)?;
    let running = admin.list_reassignments().await?;
    let active: BTreeSet<TopicPartition> = targets
        .iter()
        .map(|(tp, _)| tp)
        .filter(|tp| running.contains_key(&(tp.topic.to_string(), tp.partition)))
        .cloned()
        .collect();
    if active.is_empty() {
        out("None of the specified partition reassignments are active.\n");
    } else {
        let changes: Vec<_> = active.iter().map(|tp| (tp.clone(), None)).collect();
        let wrong = wrong_of(&admin.alter_reassignments(&changes, true).await?);
        if !wrong.is_empty() {
            return tool::refuse(format!(
                "Error cancelling partition reassignment{} for:\n{wrong}",
                plural(active.len())
            ));
        }
        out(format_args!(
            "Successfully cancelled partition reassignment{} for: {}\n",
            plural(active.len()),
            names(active)
        ));
    }
    // a move ends when the replica is told to lie where it does
    let brokers: BTreeSet<i32> = dirs.keys().map(|(_, broker)| *broker).collect();
    let replicas = in_dirs(admin, &brokers).await?;
    let of = |tp: &TopicPartition, broker: i32, future: bool| {
        let mut theirs = replicas.iter().filter(|(id, _, r)| *id == broker && r.partition == *tp);
        theirs.find(|(_, _, r)| r.is_future == future).map(|(_, path, _)| path.clone())
    };
    let back: Dirs = dirs
        .iter()
        .filter(|((tp, broker), target)| of(tp, *broker, true).as_ref() == Some(*target))
        .filter_map(|((tp, broker), _)| Some(((tp.clone(), *broker), of(tp, *broker, false)?)))
        .collect();
    if back.is_empty() {
        out("None of the specified partition moves are active.");
    } else {
        for ((tp, broker), path) in &back {
            admin.alter_replica_log_dirs(*broker, &[(tp.clone(), path.clone())]).await?;
        }
        let list: Vec<String> = back.keys().map(|(tp, broker)| format!("{tp}-{broker}")).collect();
        out(format_args!("Successfully cancelled log directory move{} for: {}\n", plural(list.len()), list.join(",")));
    }
    if !parsed.has("preserve-throttles") {
        clear_throttles(admin, &targets).await?;
    }
    Ok(())
}

/// Removes what a reassignment may have throttled: on all brokers, and in the topics of the file.
async fn clear_throttles(admin: &Admin, targets: &Assignment) -> Result<(), Stop> {
    let live: BTreeSet<i32> = if admin.client().config().controllers {
        BTreeSet::new()
    } else {
        admin.describe_cluster().await?.nodes.into_iter().map(|node| node.id).collect()
    };
    let mut brokers = live.clone();
    brokers.extend(targets.iter().flat_map(|(_, replicas)| replicas));
    let all: Vec<i32> = brokers.into_iter().collect();
    out(format_args!("Clearing broker-level throttles on broker{} {}\n", plural(all.len()), listed(&all, ",")));
    let unset = |keys: &[&str]| -> Vec<ConfigOp> {
        keys.iter()
            .map(|key| ConfigOp { name: key.to_string(), value: Some(String::new()), kind: OpKind::Delete })
            .collect()
    };
    for broker in all {
        if !live.contains(&broker) {
            // Kafka's client waits for such a broker until its time is up
            let message = "Timed out waiting for a node assignment. Call: incrementalAlterConfigs";
            return Err(ClientError::Timeout(message.into()).into());
        }
        let resource = ConfigResource { kind: ResourceType::Broker, name: broker.to_string() };
        admin.alter_configs(&resource, &unset(&[LEADER_RATE, FOLLOWER_RATE, DIRS_RATE])).await?;
    }
    let topics = topics_in(targets);
    out(format_args!("Clearing topic-level throttles on topic{} {}\n", plural(topics.len()), topics.join(",")));
    for topic in topics {
        let resource = ConfigResource { kind: ResourceType::Topic, name: topic };
        admin.alter_configs(&resource, &unset(&[LEADER_REPLICAS, FOLLOWER_REPLICAS])).await?;
    }
    Ok(())
}
