//! `kafka-streams-application-reset`: takes a Kafka Streams application back to its beginning.
//!
//! Same flags, output and exit codes as Kafka's StreamsResetter: offsets of input topics are set back, internal topics are deleted.

use std::collections::{BTreeMap, BTreeSet};

use milena_client::ClientError;
use milena_client::admin::{Admin, CommittedOffset, ListedOffset, OffsetSpec};
use milena_common::TopicPartition;
use milena_protocol::ErrorCode;

use super::offset_reset::{datetime_ms, duration_ms};
use crate::java;
use crate::opts::{self, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, err, out, usage, wall_ms};

const PURPOSE: &str = "This tool helps to quickly reset an application in order to reprocess its data from scratch.\n* It sets the offsets of input topics to the earliest there is, or to where another option says.\n* It deletes the internal topics of the application (their names begin with \"<application.id>-\"). It finds them by itself; '--internal-topics' names some of them.\n* It does not delete output topics, and it does not touch the local state of the application's instances: clean that up too, or the results will be wrong.\n* Members with a long session timeout keep the reset from being made; '--force' removes them. Stop every instance first.\n\n*** What it does cannot be undone. Run it with '--dry-run' first.\n\n";

const OFFSET_OPTIONS: [&str; 7] =
    ["to-offset", "to-datetime", "by-duration", "to-earliest", "to-latest", "from-file", "shift-by"];

pub(crate) const OPTIONS: &[Opt] = &[
    value("application-id", "String", "id", "REQUIRED: the application.id of the Kafka Streams application.").must(),
    value(
        "bootstrap-server",
        "String",
        "server to connect to",
        "The brokers to start from, as HOST1:PORT1,HOST2:PORT2.",
    )
    .or("localhost:9092"),
    value("input-topics", "String", "list", "The input topics, as a list with commas; their offsets are reset."),
    value(
        "intermediate-topics",
        "String",
        "list",
        "[deprecated] Topics that are input and output, as a list with commas; their offsets are set to the end.",
    ),
    value(
        "internal-topics",
        "String",
        "list",
        "The internal topics to delete, as a list with commas; a subset of those that are found without this option.",
    ),
    value("to-offset", "Long", "", "Set offsets to this one."),
    value("to-datetime", "String", "", "Set offsets to a time: 'YYYY-MM-DDThh:mm:ss.sss'."),
    value("by-duration", "String", "", "Set offsets to so long ago: 'PnDTnHnMnS'."),
    flag("to-earliest", "Set offsets to the earliest."),
    flag("to-latest", "Set offsets to the latest."),
    value("from-file", "String", "", "Set offsets to what stands in a CSV file."),
    value("shift-by", "Long", "number-of-offsets", "Move offsets by so many, forward or back."),
    value("command-config", "String", "file name", "A properties file for the clients."),
    value(
        "config-file",
        "String",
        "file name",
        "(DEPRECATED) The same as --command-config, which is to be used instead.",
    ),
    flag("force", "Remove the members of the group first."),
    flag("dry-run", "Show what would be done and do not do it."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = opts::parse(OPTIONS, args).map_err(|error| Stop::Usage(error.to_string()))?;
    if parsed.is_empty() || parsed.has("help") {
        return usage(PURPOSE);
    }
    if parsed.has("version") {
        out(format_args!("{}\n", tool::KAFKA_VERSION));
        return Err(Stop::Exit(0));
    }
    for (index, option) in OFFSET_OPTIONS.iter().enumerate() {
        if let Some(other) = OFFSET_OPTIONS.iter().enumerate().find(|(at, other)| *at != index && parsed.has(other))
            && parsed.has(option)
        {
            return usage(format!("Option \"[{option}]\" can't be used with option \"[{}]\"", other.1));
        }
    }
    if parsed.has("config-file") && parsed.has("command-config") {
        return usage("Option \"[config-file]\" can't be used with option \"[command-config]\"");
    }
    if parsed.has("config-file") {
        out(
            "Option --config-file has been deprecated and will be removed in a future version. Use --command-config instead.\n",
        );
    }
    tool::block_on(async {
        let settings = parsed.value("command-config")?.or(parsed.value("config-file")?);
        let admin = Admin::new(tool::client(parsed.value("bootstrap-server")?, None, settings)?);
        match reset(&admin, &parsed).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Stop::Exit(1)),
            Err(message) => {
                err(format_args!("ERROR: {message}\n"));
                Err(Stop::Exit(1))
            }
        }
    })
}

fn list(parsed: &Parsed, option: &str) -> Vec<String> {
    parsed
        .values(option)
        .iter()
        .flat_map(|text| text.split(','))
        .map(|topic| topic.trim().to_string())
        .filter(|topic| !topic.is_empty())
        .collect()
}

/// True when everything asked for was found.
async fn reset(admin: &Admin, parsed: &Parsed) -> Result<bool, String> {
    let group = parsed.values("application-id").last().cloned().unwrap_or_default();
    let dry = parsed.has("dry-run");
    end_members(admin, &group, parsed.has("force")).await?;
    let topics: BTreeSet<String> =
        admin.list_topics().await.map_err(words)?.into_iter().map(|topic| topic.name).collect();
    if dry {
        out("----Dry run displays the actions which will be performed when running Streams Reset Tool----\n");
    }
    let input = list(parsed, "input-topics");
    let intermediate = list(parsed, "intermediate-topics");
    let mut complete = true;
    if !input.is_empty() || !intermediate.is_empty() {
        complete &= offsets(admin, parsed, &group, &topics, &input, &intermediate, dry).await?;
    }
    complete &= internal_topics(admin, parsed, &group, &topics, dry).await?;
    Ok(complete)
}

fn words(error: ClientError) -> String {
    format!("{}: {}", java::class_of(&error), java::message_of(&error))
}

async fn end_members(admin: &Admin, group: &str, force: bool) -> Result<(), String> {
    let members = match admin.describe_group(group).await {
        Ok(description) => description.members,
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => Vec::new(),
        Err(error) => return Err(words(error)),
    };
    if members.is_empty() {
        return Ok(());
    }
    if !force {
        let shown: Vec<&str> = members.iter().map(|member| member.member_id.as_str()).collect();
        return Err(format!(
            "java.lang.IllegalStateException: Consumer group '{group}' is still active and has following members: [{}]. Make sure to stop all running application instances before running the reset tool. You can use option '--force' to remove active members from the group.",
            shown.join(", ")
        ));
    }
    out("Force deleting all active members in the group: ");
    out(format_args!("{group}\n"));
    let members: Vec<(String, Option<String>)> =
        members.into_iter().map(|member| (member.member_id, member.group_instance_id)).collect();
    admin.remove_members(group, &members).await.map_err(words)
}

async fn offsets(
    admin: &Admin,
    parsed: &Parsed,
    group: &str,
    topics: &BTreeSet<String>,
    input: &[String],
    intermediate: &[String],
    dry: bool,
) -> Result<bool, String> {
    if !input.is_empty() {
        out(format_args!("Reset-offsets for input topics [{}]\n", input.join(", ")));
    }
    if !intermediate.is_empty() {
        out(format_args!("Reset-offsets for intermediate topics [{}]\n", intermediate.join(", ")));
    }
    let missing =
        |list: &[String]| -> Vec<String> { list.iter().filter(|topic| !topics.contains(*topic)).cloned().collect() };
    let (missing_input, missing_intermediate) = (missing(input), missing(intermediate));
    let mut complete = true;
    for (kind, missing) in [("input", &missing_input), ("intermediate", &missing_intermediate)] {
        if missing.is_empty() {
            continue;
        }
        complete = false;
        out(format_args!("Following {kind} topics are not found, skipping them\n"));
        missing.iter().for_each(|topic| out(format_args!("Topic: {topic}\n")));
    }
    let present = |list: &[String]| -> Vec<String> { list.iter().filter(|t| topics.contains(*t)).cloned().collect() };
    let input = partitions(admin, &present(input)).await?;
    let intermediate = partitions(admin, &present(intermediate)).await?;
    if input.is_empty() && intermediate.is_empty() {
        return Ok(complete);
    }
    let mut planned: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    if !intermediate.is_empty() {
        out("Following intermediate topics offsets will be reset to end (for consumer group ");
        out(format_args!("{group})\n"));
        let ends = listed(admin, &intermediate, OffsetSpec::Latest).await?;
        ends.keys()
            .map(|tp| tp.topic.clone())
            .collect::<BTreeSet<_>>()
            .iter()
            .for_each(|topic| out(format_args!("Topic: {topic}\n")));
        planned.extend(ends.into_iter().map(|(tp, found)| (tp, found.offset)));
    }
    if !input.is_empty() {
        let wanted = input_offsets(admin, parsed, group, &input).await?;
        out(format_args!("Following input topics offsets will be reset to (for consumer group {group})\n"));
        for (tp, offset) in &wanted {
            out(format_args!("Topic: {} Partition: {} Offset: {offset}\n", tp.topic, tp.partition));
        }
        planned.extend(wanted);
    }
    if !dry {
        let commits = planned
            .into_iter()
            .map(|(tp, offset)| (tp, CommittedOffset { offset, leader_epoch: None, metadata: String::new() }))
            .collect();
        for (_, result) in admin.client().commit_offsets(group, None, &commits).await.map_err(words)? {
            result.map_err(words)?;
        }
    }
    out("Done.\n");
    Ok(complete)
}

async fn partitions(admin: &Admin, topics: &[String]) -> Result<Vec<TopicPartition>, String> {
    let mut all = Vec::new();
    if topics.is_empty() {
        return Ok(all);
    }
    for (name, description) in admin.describe_topics(topics, 2000).await.map_err(words)? {
        let description = description.map_err(words)?;
        all.extend(description.partitions.iter().map(|p| TopicPartition::new(name.as_str(), p.partition)));
    }
    all.sort();
    Ok(all)
}

async fn listed(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, ListedOffset>, String> {
    let wanted: Vec<_> = partitions.iter().map(|tp| (tp.clone(), spec)).collect();
    let mut found = BTreeMap::new();
    for (tp, result) in admin.list_offsets(&wanted).await.map_err(words)? {
        found.insert(tp, result.map_err(words)?);
    }
    Ok(found)
}

async fn input_offsets(
    admin: &Admin,
    parsed: &Parsed,
    group: &str,
    input: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, i64>, String> {
    let begins = listed(admin, input, OffsetSpec::Earliest).await?;
    let ends = listed(admin, input, OffsetSpec::Latest).await?;
    let begin = |tp: &TopicPartition| begins.get(tp).map_or(0, |found| found.offset);
    let end = |tp: &TopicPartition| ends.get(tp).map_or(0, |found| found.offset);
    let within = |tp: &TopicPartition, offset: i64| {
        let (begin, end) = (begin(tp), end(tp));
        if offset > end {
            err(format_args!("New offset ({offset}) is higher than latest offset. Value will be set to {end}\n"));
            end
        } else if offset < begin {
            err(format_args!("New offset ({offset}) is lower than earliest offset. Value will be set to {begin}\n"));
            begin
        } else {
            offset
        }
    };
    let number = |option: &str| parsed.number::<i64>(option).map_err(|error| error.to_string());
    let text = |option: &str| parsed.value(option).map_err(|error| error.to_string()).map(Option::unwrap_or_default);
    let time = if parsed.has("to-datetime") {
        Some(datetime_ms(text("to-datetime")?)?)
    } else if parsed.has("by-duration") {
        Some(wall_ms() - duration_ms(text("by-duration")?)?)
    } else {
        None
    };
    let mut wanted = BTreeMap::new();
    if let Some(time) = time {
        for (tp, found) in listed(admin, input, OffsetSpec::Timestamp(time)).await? {
            let offset = if found.offset < 0 { end(&tp) } else { found.offset };
            wanted.insert(tp, offset);
        }
        return Ok(wanted);
    }
    if parsed.has("shift-by") {
        let by = number("shift-by")?.unwrap_or_default();
        let committed = admin.client().committed_offsets(group, Some(input), false).await.map_err(words)?;
        for tp in input {
            let position = committed.get(tp).map_or_else(|| begin(tp), |found| found.offset);
            wanted.insert(tp.clone(), within(tp, position.saturating_add(by)));
        }
        return Ok(wanted);
    }
    if parsed.has("from-file") {
        let path = text("from-file")?;
        for (tp, offset) in super::offset_reset::read_csv(path, group)? {
            if input.contains(&tp) {
                let offset = within(&tp, offset);
                wanted.insert(tp, offset);
            }
        }
        return Ok(wanted);
    }
    let fixed = number("to-offset")?;
    for tp in input {
        let offset = match fixed {
            Some(offset) => within(tp, offset),
            None if parsed.has("to-latest") => end(tp),
            None => begin(tp),
        };
        wanted.insert(tp.clone(), offset);
    }
    Ok(wanted)
}

async fn internal_topics(
    admin: &Admin,
    parsed: &Parsed,
    group: &str,
    topics: &BTreeSet<String>,
    dry: bool,
) -> Result<bool, String> {
    let inferred: Vec<String> = topics.iter().filter(|topic| is_internal(group, topic)).cloned().collect();
    let asked = list(parsed, "internal-topics");
    let chosen = if asked.is_empty() {
        out(format_args!("Deleting inferred internal topics [{}]\n", inferred.join(", ")));
        inferred
    } else {
        if asked.iter().any(|topic| !inferred.contains(topic)) {
            return Err("java.lang.IllegalArgumentException: Invalid topic specified for the --internal-topics option. Ensure that the topics specified are all internal topics. Do a dry run without the --internal-topics option to see the list of all internal topics that can be deleted.".into());
        }
        out(format_args!("Deleting specified internal topics [{}]\n", asked.join(", ")));
        asked
    };
    let mut complete = true;
    if !dry && !chosen.is_empty() {
        for (topic, result) in admin.delete_topics(&chosen).await.map_err(words)? {
            if let Err(error) = result {
                complete = false;
                err(format_args!("ERROR: Deleting topic {topic} failed\n{}\n", words(error)));
            }
        }
    }
    out("Done.\n");
    Ok(complete)
}

/// Whether Kafka Streams made the topic for the application.
fn is_internal(application: &str, topic: &str) -> bool {
    let Some(rest) = topic.strip_prefix(application).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    // joins of tables by foreign key have topics of their own, with or without a number
    let joins = ["registration", "response"].iter().any(|kind| {
        rest.ends_with(&format!("-subscription-{kind}-topic"))
            || rest.split_once(&format!("KTABLE-FK-JOIN-SUBSCRIPTION-{}-", kind.to_uppercase())).is_some_and(
                |(_, tail)| {
                    tail.strip_suffix("-topic").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
                },
            )
    });
    rest.ends_with("-changelog") || rest.ends_with("-repartition") || joins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_topics_are_those_that_streams_made() {
        assert!(is_internal("app", "app-store-changelog"));
        assert!(is_internal("app", "app-x-repartition"));
        assert!(is_internal("app", "app-KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-0000000006-topic"));
        assert!(!is_internal("app", "app-output") && !is_internal("app", "other-changelog"));
    }
}
