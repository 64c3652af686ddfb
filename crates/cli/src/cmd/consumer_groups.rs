//! `kafka-consumer-groups`: list, describe and delete groups, reset and delete their offsets.
//!
//! Same flags, output and exit codes as Kafka's ConsumerGroupCommand; most failures are a line on standard output and exit 0, as there.
//! `group_rows` formats tables, `offset_reset` finds the offsets to reset to.

use std::collections::{BTreeMap, BTreeSet};

use milena_client::ClientError;
use milena_client::admin::{Admin, CommittedOffset, GroupDescription, GroupListing, OffsetSpec};
use milena_common::TopicPartition;

use super::group_rows::{MemberRow, OffsetRow, members_table, offsets_table, reset_table, state_table};
use super::offset_reset::{self, Plan};
use crate::java::JavaError;
use crate::opts::{self, Arg, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, err, exclude, help_or_version, out, require, usage};

const fn optional(name: &'static str, doc: &'static str) -> Opt {
    Opt { name, arg: Arg::Optional("String", ""), doc, default: None, must: false }
}

pub(crate) const OPTIONS: &[Opt] = &[
    value(
        "bootstrap-server",
        "String",
        "server to connect to",
        "The brokers to start from. REQUIRED with every action but --validate-regex.",
    ),
    value(
        "command-config",
        "String",
        "command config property file",
        "A properties file with settings of the admin client and the consumer.",
    ),
    value("group", "String", "consumer group", "The group to act on; may be repeated where it makes sense."),
    value(
        "topic",
        "String",
        "topic",
        "The topic whose offsets are reset or deleted, as `topic` or `topic:0,1,2`; may be repeated.",
    ),
    flag("all-topics", "With --reset-offsets: all topics that the group has offsets of."),
    flag("list", "Show the names of all groups."),
    flag("describe", "Show a group: what it has read and how far it is behind."),
    flag("all-groups", "Act on all groups."),
    flag(
        "delete",
        "Delete groups with their offsets and owners.\nExample: --bootstrap-server localhost:9092 --group g1 --group g2 --delete",
    ),
    flag("delete-offsets", "Delete the offsets of a group. One group and one or more topics."),
    flag(
        "reset-offsets",
        "Set the offsets of a group that nobody reads in.\nShows the result (--dry-run) or does it (--execute); --export writes it as CSV.\nNeeds one of: --to-datetime, --by-duration, --to-earliest, --to-latest, --shift-by, --from-file, --to-current, --to-offset; and one of --all-topics, --topic unless --from-file.",
    ),
    value("timeout", "Long", "timeout (ms)", "How long to wait for the group to settle when it is described.")
        .or("30000"),
    flag("dry-run", "Only show what --reset-offsets would do."),
    flag("execute", "Do what --reset-offsets shows."),
    flag("export", "Write the offsets of --reset-offsets as CSV."),
    value("to-offset", "Long", "offset", "Reset to this offset."),
    value("from-file", "String", "path to CSV file", "Reset to the offsets in this CSV file."),
    value("to-datetime", "String", "datetime", "Reset to the first offset after this time: 'YYYY-MM-DDThh:mm:ss.sss'."),
    value("by-duration", "String", "duration", "Reset to the first offset after so long before now: 'PnDTnHnMnS'."),
    flag("to-earliest", "Reset to the earliest offset."),
    flag("to-latest", "Reset to the latest offset."),
    flag("to-current", "Reset to the offset that is committed now."),
    value("shift-by", "Long", "number-of-offsets", "Move the committed offset by 'n', which may be negative."),
    flag(
        "members",
        "With --describe: the members of the group.\nExample: --bootstrap-server localhost:9092 --describe --group g1 --members",
    ),
    flag(
        "offsets",
        "With --describe: the offsets of the group. This is the default.\nExample: --bootstrap-server localhost:9092 --describe --group g1 --offsets",
    ),
    optional(
        "state",
        "With --describe: the state of the group. With --list: the state of each group, or only groups in one of these states.\nExample: --bootstrap-server localhost:9092 --list --state stable,empty",
    ),
    optional(
        "type",
        "With --list: the type of each group, or only groups of one of these types.\nExample: --bootstrap-server localhost:9092 --list --type classic,consumer",
    ),
    value(
        "validate-regex",
        "String",
        "regex",
        "Say whether this regular expression may be used in a subscription (RE2/J).",
    ),
    flag("verbose", "With --describe: more columns."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

const SCENARIOS: [&str; 8] =
    ["from-file", "shift-by", "to-offset", "to-earliest", "to-current", "to-latest", "by-duration", "to-datetime"];
const STATES: [&str; 7] =
    ["Stable", "CompletingRebalance", "Reconciling", "PreparingRebalance", "Assigning", "Dead", "Empty"];
const TYPES: [&str; 2] = ["Consumer", "Classic"];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = opts::parse(OPTIONS, args)
        .map_err(|error| Stop::Message(format!("Exception in thread \"main\" {}: {error}", error.class())))?;
    help_or_version(
        &parsed,
        "This tool helps to list all consumer groups, describe a consumer group, delete consumer group info, or reset consumer group offsets.",
    )?;
    check(&parsed)?;
    if let Some(text) = parsed.value("validate-regex")? {
        match regex::Regex::new(text) {
            Ok(_) => out(format_args!("The regular expression `{text}` is valid.\n")),
            Err(error) => out(format_args!("The regular expression `{text}` is invalid: {}.\n", regex_words(&error))),
        }
        return Ok(());
    }
    let states = states(&parsed)?;
    let types = types(&parsed)?;
    tool::block_on(async {
        let admin = Admin::new(tool::admin_client(&parsed).await?);
        let result = if parsed.has("list") {
            list(&admin, &parsed, states, types).await
        } else if parsed.has("describe") {
            describe(&admin, &parsed).await
        } else if parsed.has("delete") {
            delete(&admin, &parsed).await
        } else if parsed.has("reset-offsets") {
            reset_offsets(&admin, &parsed).await
        } else {
            delete_offsets(&admin, &parsed).await
        };
        match result {
            Ok(()) => Ok(()),
            Err(Failure::Stop(stop)) => Err(stop),
            Err(Failure::Java { shown, thrown }) => {
                out(format_args!("\nError: Executing consumer group command failed due to {shown}\n"));
                tool::flush();
                err(format_args!("{thrown}\n"));
                Ok(())
            }
        }
    })
}

/// How an action fails: before Kafka would have asked the cluster, or with an exception.
pub(super) enum Failure {
    Stop(Stop),
    /// What the error line says, and the exception below it.
    Java {
        shown: String,
        thrown: String,
    },
}

impl Failure {
    /// An exception as it is.
    pub(super) fn plain(error: JavaError) -> Failure {
        Failure::Java { shown: error.message.clone(), thrown: format!("{}: {}", error.class, error.message) }
    }

    /// An exception that came out of a future: the error line names its class.
    fn executed(error: ClientError) -> Failure {
        let text = tool::java_error(&error);
        Failure::Java { shown: text.clone(), thrown: format!("java.util.concurrent.ExecutionException: {text}") }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::executed(error)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Failure::Stop(stop)
    }
}

impl From<opts::OptError> for Failure {
    fn from(error: opts::OptError) -> Self {
        Failure::plain(error.into())
    }
}

/// Refuses combinations of options that mean nothing, in Kafka's words.
fn check(parsed: &Parsed) -> Result<(), Stop> {
    let actions = ["list", "describe", "delete", "reset-offsets", "delete-offsets", "validate-regex"];
    let chosen: Vec<&&str> = actions.iter().filter(|action| parsed.has(action)).collect();
    if chosen.is_empty() {
        return usage(
            "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets, --validate-regex",
        );
    }
    if !parsed.has("validate-regex") {
        require(parsed, &["bootstrap-server"])?;
    }
    let one_of =
        |action: &str, options: &str| usage::<()>(format!("Option [{action}] takes one of these options: {options}"));
    let some_group = parsed.has("group") || parsed.has("all-groups");
    if parsed.has("describe") {
        if !some_group {
            return one_of("describe", "[all-groups], [group]");
        }
        if ["members", "offsets", "state"].iter().filter(|part| parsed.has(part)).count() > 1 {
            return usage("Option [describe] takes at most one of these options: [members], [offsets], [state]");
        }
        if !parsed.values("state").is_empty() {
            return usage("Option [describe] does not take a value for [state]");
        }
    }
    if parsed.has("delete") && !some_group {
        return one_of("delete", "[all-groups], [group]");
    }
    if parsed.has("delete") && parsed.has("topic") {
        return usage("The consumer does not support topic-specific offset deletion from a consumer group.");
    }
    if parsed.has("delete-offsets") && !(parsed.has("group") && parsed.has("topic")) {
        return usage("Option [delete-offsets] takes the following options: [topic], [group]");
    }
    if parsed.has("reset-offsets") {
        if parsed.has("dry-run") && parsed.has("execute") {
            return usage("Option [reset-offsets] only accepts one of [execute] and [dry-run]");
        }
        if !parsed.has("dry-run") && !parsed.has("execute") {
            err(
                "WARN: No action will be performed as the --execute option is missing. In version 5.0, this command will require either --dry-run or --execute to be specified. You should add the --dry-run option explicitly if you are scripting this command and want to keep the current default behavior without prompting.\n",
            );
        }
        if !some_group {
            return one_of("reset-offsets", "[all-groups], [group]");
        }
        if !SCENARIOS.iter().any(|scenario| parsed.has(scenario)) {
            return usage(
                "Option '[reset-offsets]' requires one of the following scenarios: [[from-file], [shift-by], [to-offset], [to-earliest], [to-current], [to-latest], [by-duration], [to-datetime]]",
            );
        }
        // Kafka looks at the scenarios in this order
        for scenario in [
            "to-offset",
            "to-datetime",
            "by-duration",
            "to-earliest",
            "to-latest",
            "to-current",
            "shift-by",
            "from-file",
        ] {
            let others: Vec<&str> = SCENARIOS.into_iter().filter(|other| *other != scenario).collect();
            exclude(parsed, scenario, &others)?;
        }
    }
    exclude(parsed, "group", &["all-groups"])?;
    if parsed.has("list") {
        exclude(parsed, "group", &["list"])?;
        exclude(parsed, "all-groups", &["list"])?;
        exclude(parsed, "topic", &["list"])?;
    }
    exclude(parsed, "topic", &["describe", "all-topics"])?;
    Ok(())
}

fn states(parsed: &Parsed) -> Result<Option<BTreeSet<String>>, Stop> {
    let [text] = parsed.values("state") else {
        return Ok(None);
    };
    if !parsed.has("list") {
        return Ok(None);
    }
    let known = |word: &str| STATES.into_iter().find(|state| state.eq_ignore_ascii_case(word.trim())).map(String::from);
    match text.split(',').map(known).collect::<Option<BTreeSet<_>>>() {
        Some(states) => Ok(Some(states)),
        None => usage(format!("Invalid state list '{text}'. Valid states are: {}", STATES.join(", "))),
    }
}

fn types(parsed: &Parsed) -> Result<Option<BTreeSet<String>>, Stop> {
    let [text] = parsed.values("type") else {
        return Ok(None);
    };
    let known = |word: &str| TYPES.into_iter().find(|kind| kind.eq_ignore_ascii_case(word.trim())).map(String::from);
    match text.split(',').map(known).collect::<Option<BTreeSet<_>>>() {
        Some(types) => Ok(Some(types)),
        None => usage(format!("Invalid types list '{text}'. Valid types are: {}", TYPES.join(", "))),
    }
}

/// The groups that consumers made: of the two consumer protocols, or with offsets only.
async fn consumer_groups(admin: &Admin) -> Result<Vec<GroupListing>, ClientError> {
    let mut groups = admin.list_groups(&[], &[]).await?;
    groups.retain(|group| {
        let kind_fits = group.kind.is_empty() || TYPES.iter().any(|kind| kind.eq_ignore_ascii_case(&group.kind));
        kind_fits && (group.protocol_type.is_empty() || group.protocol_type == "consumer")
    });
    Ok(groups)
}

async fn list(
    admin: &Admin,
    parsed: &Parsed,
    states: Option<BTreeSet<String>>,
    types: Option<BTreeSet<String>>,
) -> Result<(), Failure> {
    let mut groups = consumer_groups(admin).await?;
    crate::java::hash_order(&mut groups, |group| group.group_id.as_str());
    groups.retain(|group| states.as_ref().is_none_or(|states| states.contains(&group.state)));
    let kind = |group: &GroupListing| {
        match group.kind.to_ascii_lowercase().as_str() {
            "consumer" => "Consumer",
            // brokers before 3.8 do not say
            "" => "Unknown",
            _ => "Classic",
        }
    };
    groups.retain(|group| types.as_ref().is_none_or(|types| kind(group) == "Unknown" || types.contains(kind(group))));
    let (with_type, with_state) = (parsed.has("type"), parsed.has("state"));
    if !with_type && !with_state {
        groups.iter().for_each(|group| out(format_args!("{}\n", group.group_id)));
        return Ok(());
    }
    let width = groups.iter().map(|group| group.group_id.len()).max().unwrap_or(0).max(15) + 10;
    let line = |id: &str, kind: &str, state: &str| {
        let mut line = format!("{id:<width$}");
        if with_type {
            line.push_str(&format!(" {kind:<20}"));
        }
        if with_state {
            line.push_str(&format!(" {state:<20}"));
        }
        out(format_args!("{line}\n"));
    };
    line("GROUP", "TYPE", "STATE");
    groups.iter().for_each(|group| line(&group.group_id, kind(group), &group.state));
    Ok(())
}

/// The groups that the options name, in the order in which Kafka prints them.
async fn chosen(admin: &Admin, parsed: &Parsed) -> Result<Vec<String>, ClientError> {
    let mut groups: Vec<String> = if parsed.has("all-groups") {
        consumer_groups(admin).await?.into_iter().map(|group| group.group_id).collect()
    } else {
        parsed.values("group").to_vec()
    };
    groups.sort();
    groups.dedup();
    Ok(groups)
}

async fn describe(admin: &Admin, parsed: &Parsed) -> Result<(), Failure> {
    let verbose = parsed.has("verbose");
    // all are asked before the first is shown
    let mut described = Vec::new();
    for group in chosen(admin, parsed).await? {
        described.push((admin.describe_group(&group).await?, group));
    }
    for (description, group) in described {
        if parsed.has("members") {
            let rows: Vec<MemberRow> = description.members.iter().map(MemberRow::of).collect();
            if state_allows_rows(&description, 1) {
                out(members_table(&group, &rows, verbose));
            }
        } else if parsed.has("state") {
            if state_allows_rows(&description, 1) {
                out(state_table(&description, verbose));
            }
        } else {
            let rows = offset_rows(admin, &description).await?;
            if state_allows_rows(&description, rows.len()) {
                out(offsets_table(&rows, verbose));
            }
        }
        tool::flush();
    }
    Ok(())
}

/// Says what is special about the group's state; whether there is a table to print.
fn state_allows_rows(group: &GroupDescription, rows: usize) -> bool {
    let id = &group.group_id;
    match group.state.as_str() {
        "Dead" => out(format_args!("\nError: Consumer group '{id}' does not exist.\n")),
        "Empty" => err(format_args!("\nConsumer group '{id}' has no active members.\n")),
        "PreparingRebalance" | "CompletingRebalance" | "Assigning" | "Reconciling" => {
            err(format_args!("\nWarning: Consumer group '{id}' is rebalancing.\n"));
        }
        _ => {}
    }
    group.state != "Dead" && rows > 0
}

async fn offset_rows(admin: &Admin, group: &GroupDescription) -> Result<Vec<OffsetRow>, Failure> {
    let committed = admin.client().committed_offsets(&group.group_id, None, false).await?;
    let mut assigned: Vec<(TopicPartition, Option<usize>)> = Vec::new();
    let mut members: Vec<usize> = (0..group.members.len()).collect();
    members.sort_by_key(|index| std::cmp::Reverse(group.members.get(*index).map_or(0, |m| m.assignment.len())));
    for index in members {
        let mut partitions = group.members.get(index).map(|m| m.assignment.clone()).unwrap_or_default();
        partitions.sort();
        assigned.extend(partitions.into_iter().map(|tp| (tp, Some(index))));
    }
    let taken: BTreeSet<TopicPartition> = assigned.iter().map(|(tp, _)| tp.clone()).collect();
    assigned.extend(committed.keys().filter(|tp| !taken.contains(tp)).map(|tp| (tp.clone(), None)));
    let wanted: Vec<(TopicPartition, OffsetSpec)> =
        assigned.iter().map(|(tp, _)| (tp.clone(), OffsetSpec::Latest)).collect();
    let ends = if wanted.is_empty() { BTreeMap::new() } else { admin.list_offsets(&wanted).await? };
    Ok(assigned
        .into_iter()
        .map(|(tp, member)| {
            let committed = committed.get(&tp);
            let member = member.and_then(|index| group.members.get(index));
            OffsetRow {
                group: group.group_id.clone(),
                current: committed.map(|c| c.offset),
                leader_epoch: committed.and_then(|c| c.leader_epoch),
                end: ends.get(&tp).and_then(|end| end.as_ref().ok()).map(|end| end.offset),
                partition: tp,
                consumer_id: member.map(|m| m.member_id.clone()),
                host: member.map(|m| m.host.clone()),
                client_id: member.map(|m| m.client_id.clone()),
            }
        })
        .collect())
}

async fn delete(admin: &Admin, parsed: &Parsed) -> Result<(), Failure> {
    let groups: Vec<String> =
        if parsed.has("all-groups") { chosen(admin, parsed).await? } else { parsed.values("group").to_vec() };
    let mut deleted = Vec::new();
    let mut failed = Vec::new();
    for group in groups {
        match admin.delete_group(&group).await {
            Ok(()) => deleted.push(format!("'{group}'")),
            Err(error) => {
                failed.push(format!("* Group '{group}' could not be deleted due to: {}\n", tool::java_error(&error)))
            }
        }
    }
    if failed.is_empty() {
        out(format_args!("Deletion of requested consumer groups ({}) was successful.\n", deleted.join(", ")));
        return Ok(());
    }
    out(format_args!("\nError: Deletion of some consumer groups failed:\n{}", failed.concat()));
    if !deleted.is_empty() {
        out(format_args!("\nThese consumer groups were deleted successfully: {}\n", deleted.join(", ")));
    }
    Ok(())
}

async fn delete_offsets(admin: &Admin, parsed: &Parsed) -> Result<(), Failure> {
    let group = parsed.value("group")?.unwrap_or_default().to_string();
    let arguments = offset_reset::topic_arguments(parsed.values("topic"))?;
    let topics: Vec<String> = arguments.iter().map(|argument| argument.topic.clone()).collect();
    let picture = admin.client().refresh_metadata(Some(&topics), false).await?;
    let mut partitions = Vec::new();
    // (topic, partition if it is known to exist, error)
    let mut lines: Vec<(String, Option<i32>, Option<String>)> = Vec::new();
    for argument in &arguments {
        let known = picture.topics.get(&argument.topic).filter(|topic| !topic.partitions.is_empty());
        match (&argument.partitions, known) {
            (Some(list), _) => partitions.extend(list.iter().map(|p| TopicPartition::new(argument.topic.as_str(), *p))),
            (None, Some(topic)) => {
                partitions
                    .extend(topic.partitions.iter().map(|p| TopicPartition::new(argument.topic.as_str(), p.partition)));
            }
            (None, None) => {
                let error =
                    ClientError::api(milena_protocol::ErrorCode::UnknownTopicOrPartition, argument.topic.as_str());
                lines.push((argument.topic.clone(), None, Some(tool::java_error(&error))));
            }
        }
    }
    let top = match admin.delete_group_offsets(&group, &partitions).await {
        Ok(results) => {
            let mut partial = false;
            for tp in &partitions {
                let error = match results.get(tp) {
                    Some(Ok(())) => None,
                    Some(Err(error)) => Some(tool::java_error(error)),
                    None => Some("missing in the answer".to_string()),
                };
                partial |= error.is_some();
                lines.push((tp.topic.to_string(), Some(tp.partition), error));
            }
            if partial {
                "\nError: Encountered some partition-level error, see the follow-up details.".to_string()
            } else {
                format!("Request succeeded for deleting offsets from group {group}.")
            }
        }
        Err(error) => {
            let text = tool::java_error(&error);
            lines.extend(partitions.iter().map(|tp| (tp.topic.to_string(), Some(tp.partition), Some(text.clone()))));
            format!("\nError: {}", crate::java::message_of(&error))
        }
    };
    out(format_args!("{top}\n"));
    out(format_args!("\n{:<15} {:<10} {:<15}\n", "TOPIC", "PARTITION", "STATUS"));
    lines.sort();
    for (topic, partition, error) in lines {
        let partition = partition.map_or("-".to_string(), |partition| partition.to_string());
        let status = error.map_or("Successful".to_string(), |error| format!("Error: {error}"));
        out(format_args!("{topic:<15} {partition:<10} {status:<15}\n"));
    }
    Ok(())
}

async fn reset_offsets(admin: &Admin, parsed: &Parsed) -> Result<(), Failure> {
    let mut plans: Vec<(String, Plan)> = Vec::new();
    for group in chosen(admin, parsed).await? {
        let state = match admin.describe_group(&group).await {
            Ok(description) => description.state,
            Err(error) if error.code() == Some(milena_protocol::ErrorCode::GroupIdNotFound) => "Dead".into(),
            Err(error) => return Err(error.into()),
        };
        match state.as_str() {
            "Empty" | "Dead" => {
                let plan = offset_reset::plan(admin, parsed, &group).await?;
                if parsed.has("execute") {
                    let offsets: BTreeMap<TopicPartition, CommittedOffset> = plan.iter().cloned().collect();
                    for result in admin.client().commit_offsets(&group, None, &offsets).await?.into_values() {
                        result?;
                    }
                }
                plans.push((group, plan));
            }
            state => {
                out(format_args!(
                    "\nError: Assignments can only be reset if the group '{group}' is inactive, but the current state is {state}.\n"
                ));
                plans.push((group, Vec::new()));
            }
        }
    }
    if parsed.has("export") {
        let single = parsed.values("group").len() == 1;
        let mut text = String::new();
        for (group, plan) in &plans {
            for (tp, offset) in plan {
                let row = format!("{},{},{}\n", csv(&tp.topic), tp.partition, offset.offset);
                text.push_str(&if single { row } else { format!("{},{row}", csv(group)) });
            }
        }
        out(format_args!("{text}\n"));
        return Ok(());
    }
    out(reset_table(&plans));
    Ok(())
}

/// A CSV field, quoted when it must be.
fn csv(field: &str) -> String {
    if field.contains([',', '"', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_string() }
}

/// The reason of a bad expression, in RE2's words where they are known.
fn regex_words(error: &regex::Error) -> String {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
    match reason.as_str() {
        "repetition operator missing expression" => "missing argument to repetition operator".into(),
        "unclosed group" => "missing closing )".into(),
        "unclosed character class" => "missing closing ]".into(),
        _ => reason,
    }
}
