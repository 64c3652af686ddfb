//! `kafka-get-offsets`: the offsets of partitions, by time.
//!
//! Same flags, output and exit codes as Kafka's GetOffsetShell: `topic:partition:offset`, sorted as text; partitions without such an
//! offset are left out.

use milena_client::ClientError;
use milena_client::admin::{Admin, OffsetSpec};
use milena_common::TopicPartition;
use milena_protocol::ErrorCode;

use crate::java::{self, JavaError};
use crate::opts::{Opt, Parsed, flag, value};
use crate::tool::{self, Stop, err, help_or_version, out, usage};
use crate::topic_filter::TopicFilter;

const OPTIONS: &[Opt] = &[
    value("bootstrap-server", "String", "HOST1:PORT1,...,HOST3:PORT3", "REQUIRED: the brokers to start from."),
    value(
        "topic-partitions",
        "String",
        "topic1:1,topic2:0-3,topic3,topic4:5-,topic5:-3",
        "Which partitions, as a list with commas. Before a colon: the topic, a regular expression; any if left out. After it: a number, or a range `from-to` (without `to`; either end may be left out); all if left out.",
    ),
    value("topic", "String", "topic", "The topic, a regular expression; all if not given. Not with --topic-partitions."),
    value("partitions", "String", "partition ids", "Partition numbers with commas. Not with --topic-partitions."),
    value(
        "time",
        "String",
        "<timestamp> / -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered / -6 or earliest-pending-upload",
        "Which offset: of the first record at or after a time in milliseconds, or one of the words. (None is shown for a time after the newest record.)",
    )
    .or("latest"),
    value("command-config", "String", "config file", "A properties file with settings of the admin client."),
    flag("exclude-internal-topics", "Leave out the cluster's internal topics."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = crate::opts::parse(OPTIONS, args).map_err(|error| said(&error.to_string()))?;
    help_or_version(&parsed, "An interactive shell for getting topic-partition offsets.")?;
    if !parsed.has("bootstrap-server") {
        return usage("Missing required argument \"[bootstrap-server]\"");
    }
    if parsed.has("topic-partitions") && (parsed.has("topic") || parsed.has("partitions")) {
        return Err(said("--topic-partitions cannot be used with --topic or --partitions"));
    }
    tool::block_on(fetch(&parsed))
}

/// How this tool reports everything that goes wrong.
fn said(message: &str) -> Stop {
    err(format_args!("Error occurred: {message}\n"));
    Stop::Exit(1)
}

fn failed(error: &ClientError) -> Stop {
    thrown(&JavaError::executed(JavaError { class: java::class_of(error), message: java::message_of(error) }))
}

/// An exception that the tool did not expect: its class, too.
fn thrown(error: &JavaError) -> Stop {
    said(&format!("{}\n{error}", error.message))
}

async fn fetch(parsed: &Parsed) -> Result<(), Stop> {
    let spec = spec(one(parsed, "time")?.unwrap_or_default())?;
    let patterns = match one(parsed, "topic-partitions")? {
        Some(text) => text.split(',').map(Pattern::read).collect::<Result<Vec<_>, _>>()?,
        None => vec![Pattern {
            topic: one(parsed, "topic")?.map(topic_filter).transpose()?,
            partitions: Partitions::of_list(one(parsed, "partitions")?)?,
        }],
    };
    let servers = one(parsed, "bootstrap-server")?;
    if servers.unwrap_or_default().split(',').any(|server| milena_client::parse_address(server.trim()).is_err()) {
        return usage("Please provide valid host:port like host1:9091,host2:9092\n");
    }
    let client = tool::client(servers, None, one(parsed, "command-config")?);
    let admin = Admin::new(client.map_err(|stop| match stop {
        Stop::Thrown(error) => thrown(&error),
        stop => stop,
    })?);
    let internal = !parsed.has("exclude-internal-topics");
    let topics = admin.list_topics().await.map_err(|error| failed(&error))?;
    let names: Vec<String> =
        topics.into_iter().filter(|topic| internal || !topic.internal).map(|topic| topic.name).collect();
    let names: Vec<String> = names.into_iter().filter(|name| patterns.iter().any(|p| p.names(name))).collect();
    let mut wanted: Vec<TopicPartition> = Vec::new();
    for (name, description) in admin.describe_topics(&names, 2000).await.map_err(|error| failed(&error))? {
        let description = description.map_err(|error| failed(&error))?;
        let numbers = description.partitions.iter().map(|p| p.partition);
        let matching = numbers.filter(|number| patterns.iter().any(|p| p.names(&name) && p.partitions.has(*number)));
        wanted.extend(matching.map(|number| TopicPartition::new(name.as_str(), number)));
    }
    if wanted.is_empty() {
        return Err(said("Could not match any topic-partitions with the specified filters"));
    }
    let specs: Vec<(TopicPartition, OffsetSpec)> = wanted.into_iter().map(|tp| (tp, spec)).collect();
    let answers = admin.list_offsets(&specs).await.map_err(|error| failed(&error))?;
    let mut found = Vec::new();
    for (tp, answer) in answers {
        match answer {
            Ok(answer) if answer.offset >= 0 => found.push((tp, answer.offset)),
            Ok(_) => {}
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                err(format_args!(
                    "Skip getting offsets for topic-partition {tp} due to: {}\n",
                    java::message_of(&error)
                ));
            }
            Err(error) => return Err(failed(&error)),
        }
    }
    found.sort_by_key(|(tp, _)| tp.to_string());
    for (tp, offset) in found {
        out(format_args!("{}:{}:{offset}\n", tp.topic, tp.partition));
    }
    Ok(())
}

fn one<'a>(parsed: &'a Parsed, name: &str) -> Result<Option<&'a str>, Stop> {
    parsed.value(name).map_err(|error| said(&error.to_string()))
}

fn topic_filter(text: &str) -> Result<TopicFilter, Stop> {
    TopicFilter::new(text).map_err(|error| said(&error.message))
}

fn spec(text: &str) -> Result<OffsetSpec, Stop> {
    Ok(match text {
        "earliest" => OffsetSpec::Earliest,
        "latest" => OffsetSpec::Latest,
        "max-timestamp" => OffsetSpec::MaxTimestamp,
        "earliest-local" => OffsetSpec::EarliestLocal,
        "latest-tiered" => OffsetSpec::LatestTiered,
        "earliest-pending-upload" => OffsetSpec::EarliestPendingUpload,
        _ => match text.parse::<i64>() {
            Ok(-1) => OffsetSpec::Latest,
            Ok(-2) => OffsetSpec::Earliest,
            Ok(-3) => OffsetSpec::MaxTimestamp,
            Ok(-4) => OffsetSpec::EarliestLocal,
            Ok(-5) => OffsetSpec::LatestTiered,
            Ok(-6) => OffsetSpec::EarliestPendingUpload,
            Ok(ms) => OffsetSpec::Timestamp(ms),
            Err(_) => {
                return Err(said(&format!(
                    "Malformed time argument {text}. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered / -6 or earliest-pending-upload, or a specified long format timestamp"
                )));
            }
        },
    })
}

/// One part of `--topic-partitions`, or `--topic` with `--partitions`.
struct Pattern {
    topic: Option<TopicFilter>,
    partitions: Partitions,
}

#[derive(Debug, PartialEq, Eq)]
enum Partitions {
    All,
    These(Vec<i32>),
    /// From the first, and before the last.
    Range(i32, i32),
}

impl Pattern {
    fn read(text: &str) -> Result<Pattern, Stop> {
        let wrong = || {
            let inner = JavaError::of_tools("TerseException", format!("Invalid rule specification: {text}"));
            thrown(&JavaError { class: "java.lang.RuntimeException".into(), message: inner.to_string() })
        };
        let (topic, rest) = match text.split_once(':') {
            Some((topic, rest)) => (topic, Some(rest)),
            None => (text, None),
        };
        let partitions = Partitions::of_range(rest).ok_or_else(wrong)?;
        let topic = Some(topic).filter(|topic| !topic.is_empty()).map(topic_filter).transpose()?;
        Ok(Pattern { topic, partitions })
    }

    fn names(&self, topic: &str) -> bool {
        self.topic.as_ref().is_none_or(|filter| filter.matches(topic))
    }
}

impl Partitions {
    fn of_list(text: Option<&str>) -> Result<Partitions, Stop> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(Partitions::All);
        };
        let number = |word: &str| {
            let wrong = || {
                said(&format!(
                    "--partitions expects a comma separated list of numeric partition ids, but received: {text}"
                ))
            };
            word.parse::<i32>().map_err(|_| wrong())
        };
        Ok(Partitions::These(text.split(',').map(number).collect::<Result<Vec<_>, _>>()?))
    }

    fn of_range(text: Option<&str>) -> Option<Partitions> {
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Some(Partitions::All);
        };
        match text.split_once('-') {
            None => digits(text).then(|| text.parse().ok().map(|n| Partitions::These(vec![n]))).flatten(),
            Some((from, to)) if digits(from) && digits(to) => {
                let bound = |text: &str, open: i32| if text.is_empty() { Some(open) } else { text.parse().ok() };
                Some(Partitions::Range(bound(from, 0)?, bound(to, i32::MAX)?))
            }
            Some(_) => None,
        }
    }

    fn has(&self, partition: i32) -> bool {
        match self {
            Partitions::All => true,
            Partitions::These(list) => list.contains(&partition),
            Partitions::Range(from, to) => (*from..*to).contains(&partition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_may_be_open_at_either_end() {
        let read = |text: &str| Partitions::of_range(Some(text));
        assert_eq!(read("3"), Some(Partitions::These(vec![3])));
        assert_eq!(read("1-"), Some(Partitions::Range(1, i32::MAX)));
        assert_eq!(read("-2"), Some(Partitions::Range(0, 2)));
        assert_eq!(read("x"), None);
        assert!(Partitions::Range(0, 2).has(1) && !Partitions::Range(0, 2).has(2));
    }
}
