//! `kafka-leader-election`: gives partitions the leader they should have.
//!
//! Same flags, file, output and exit codes as Kafka's LeaderElectionCommand.

use milena_client::ClientError;
use milena_client::admin::{Admin, ElectionType};
use milena_common::TopicPartition;
use milena_protocol::ErrorCode;

use crate::java::{self, JavaError};
use crate::json;
use crate::opts::{Opt, OptError, Parsed, flag, value};
use crate::tool::{self, Stop, exclude, help_or_version, out};

const OPTIONS: &[Opt] = &[
    value("bootstrap-server", "String", "host:port", "REQUIRED: the brokers to start from, with commas."),
    value("command-config", "String", "Config file", "A properties file with settings of the admin client."),
    value(
        "admin.config",
        "String",
        "config file",
        "(DEPRECATED) A properties file with settings of the admin client. Use --command-config instead.",
    ),
    value(
        "path-to-json-file",
        "String",
        "Path to JSON file",
        "A JSON file with the partitions:\n{\"partitions\":\n\t[{\"topic\": \"foo\", \"partition\": 1},\n\t {\"topic\": \"foobar\", \"partition\": 2}]\n}\nNot with --all-topic-partitions or --topic.",
    ),
    value("topic", "String", "topic name", "The topic. Not with --path-to-json-file or --all-topic-partitions."),
    value("partition", "Integer", "partition id", "The partition. REQUIRED with --topic."),
    flag("all-topic-partitions", "All partitions that need a leader. Not with --topic or --path-to-json-file."),
    value(
        "election-type",
        "[PREFERRED,UNCLEAN]",
        "election type",
        "REQUIRED: \"preferred\" gives leadership back to the first replica where another one leads; \"unclean\" makes any live replica the leader where there is none, and may lose records.",
    ),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn failed(message: impl Into<String>) -> JavaError {
    JavaError::of_tools("AdminCommandFailedException", message)
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = tool::parse(OPTIONS, args)?;
    help_or_version(
        &parsed,
        "This tool attempts to elect a new leader for a set of topic partitions. The type of elections supported are preferred replicas and unclean replicas.",
    )?;
    exclude(&parsed, "admin.config", &["command-config"])?;
    check(&parsed)?;
    let kind = match tool::value(&parsed, "election-type")?.map(str::to_ascii_uppercase).as_deref() {
        Some("PREFERRED") => ElectionType::Preferred,
        Some("UNCLEAN") => ElectionType::Unclean,
        _ => {
            let value = parsed.value("election-type")?.unwrap_or_default().to_string();
            return Err(Stop::Thrown(OptError::Conversion { option: "election-type".into(), value }.into()));
        }
    };
    let partitions = match tool::value(&parsed, "path-to-json-file")? {
        Some(path) => {
            let text = tool::read_file(path).map_err(|error| JavaError {
                class: "java.lang.RuntimeException".into(),
                message: error.to_string(),
            })?;
            Some(partitions(&text)?)
        }
        None => match tool::value(&parsed, "topic")? {
            Some(topic) => {
                let number = parsed.number::<i32>("partition").map_err(|error| Stop::Thrown(error.into()))?;
                Some(vec![TopicPartition::new(topic, number.unwrap_or_default())])
            }
            None => None,
        },
    };
    if parsed.has("admin.config") {
        out(
            "Option --admin.config has been deprecated and will be removed in a future version. Use --command-config instead.\n",
        );
    }
    let config = match tool::value(&parsed, "command-config")? {
        Some(path) => Some(path),
        None => tool::value(&parsed, "admin.config")?,
    };
    tool::block_on(async {
        let admin = Admin::new(tool::client(tool::value(&parsed, "bootstrap-server")?, None, config)?);
        let results = match admin.elect_leaders(kind, partitions.as_deref()).await {
            Ok(results) => results,
            Err(error) => return Err(whole(&error)),
        };
        let word = if kind == ElectionType::Preferred { "PREFERRED" } else { "UNCLEAN" };
        let mut results: Vec<_> = results.into_iter().collect();
        java::partition_order(&mut results, |(tp, _)| tp);
        let (mut done, mut valid, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for (tp, result) in results {
            match result {
                Ok(()) => done.push(tp.to_string()),
                Err(error) if error.code() == Some(ErrorCode::ElectionNotNeeded) => valid.push(tp.to_string()),
                Err(error) => wrong.push((tp, error)),
            }
        }
        if !done.is_empty() {
            out(format_args!("Successfully completed leader election ({word}) for partitions {}\n", done.join(", ")));
        }
        if !valid.is_empty() {
            out(format_args!("Valid replica already elected for partitions {}\n", valid.join(", ")));
        }
        for (tp, error) in &wrong {
            out(format_args!(
                "Error completing leader election ({word}) for partition: {tp}: {}\n",
                tool::java_error(error)
            ));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(failed(format!("{} replica(s) could not be elected", wrong.len())).into())
        }
    })
}

/// A failure of the whole request.
fn whole(error: &ClientError) -> Stop {
    match error {
        ClientError::Timeout(_) => {
            out("Timeout waiting for election results\n");
            Stop::Thrown(failed("Timeout waiting for election results"))
        }
        error if error.code() == Some(ErrorCode::ClusterAuthorizationFailed) => {
            out("Not authorized to perform leader election\n");
            Stop::Thrown(failed("Not authorized to perform leader election"))
        }
        error => {
            out("Error while making request\n");
            Stop::Thrown(JavaError::from(error.clone()))
        }
    }
}

fn check(parsed: &Parsed) -> Result<(), JavaError> {
    let missing: Vec<&str> =
        ["bootstrap-server", "election-type"].into_iter().filter(|option| !parsed.has(option)).collect();
    if !missing.is_empty() {
        return Err(failed(format!("Missing required option(s): {}", missing.join(", "))));
    }
    let ways = ["topic", "all-topic-partitions", "path-to-json-file"];
    if ways.iter().filter(|way| parsed.has(way)).count() != 1 {
        return Err(failed(
            "One and only one of the following options is required: topic, all-topic-partitions, path-to-json-file",
        ));
    }
    if parsed.has("topic") && !parsed.has("partition") {
        return Err(failed("Missing required option(s): partition"));
    }
    if !parsed.has("topic") && parsed.has("partition") {
        return Err(failed("Option partition is only allowed if topic is used"));
    }
    Ok(())
}

/// Reads the file.
fn partitions(text: &str) -> Result<Vec<TopicPartition>, JavaError> {
    let operation = |message: &str| JavaError::of_tools("AdminOperationException", message);
    let root = json::parse(text).ok_or_else(|| operation("Replica election data is empty"))?;
    let list =
        root.get("partitions").ok_or_else(|| operation("Replica election data is missing \"partitions\" field"))?;
    let mut found: Vec<TopicPartition> = Vec::new();
    for entry in json::array(list)? {
        let entry = json::object(entry)?;
        let topic = json::text(json::field(entry, "topic")?)?;
        found.push(TopicPartition::new(topic, json::int(json::field(entry, "partition")?)?));
    }
    let mut seen = Vec::new();
    let mut twice: Vec<String> = Vec::new();
    for tp in &found {
        if seen.contains(&tp) {
            twice.push(tp.to_string());
        }
        seen.push(tp);
    }
    if !twice.is_empty() {
        return Err(operation(&format!("Replica election data contains duplicate partitions: [{}]", twice.join(", "))));
    }
    Ok(found)
}
