//! `kafka-console-consumer`: records become lines of standard output.
//!
//! Same flags, output and exit codes as Kafka's ConsoleConsumer. `formatter` prints a record; this file wires options to the consumer.

use std::io::Write;
use std::time::Duration;

use milena_client::admin::OffsetSpec;
use milena_client::consumer::OffsetReset;
use milena_client::{Consumer, ConsumerConfig, ConsumerRecord};
use milena_common::TopicPartition;
use tokio::time::Instant;

use super::console_producer::pairs;
use super::formatter::{Deserializer, Formatter};
use crate::client_keys;
use crate::opts::{self, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, err, help_or_version, log_line, out, refuse, require, usage};
use crate::topic_filter::TopicFilter;

const LOGGER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const DEFAULT_FORMATTER: &str = "org.apache.kafka.tools.consumer.DefaultMessageFormatter";
const FORMATTER_DOC: &str = "A setting of the formatter, as key=value. The default formatter knows:\n print.timestamp=true|false\n print.key=true|false\n print.offset=true|false\n print.epoch=true|false\n print.partition=true|false\n print.headers=true|false\n print.value=true|false\n key.separator=<text>\n line.separator=<text>\n headers.separator=<text>\n null.literal=<text>\n key.deserializer=<class>\n value.deserializer=<class>\n headers.deserializer=<class>";

pub(crate) const OPTIONS: &[Opt] = &[
    value("topic", "String", "topic", "The topic to read."),
    value("include", "String", "Java regex (String)", "A regular expression of the topics to read."),
    value("partition", "Integer", "partition", "The partition to read, from its end unless '--offset' says otherwise."),
    value(
        "offset",
        "String",
        "consume offset",
        "Where to start: a number that is not negative, 'earliest' or 'latest'.",
    )
    .or("latest"),
    value("group", "String", "consumer group id", "The id of the consumer group."),
    flag("from-beginning", "Start with the earliest message if the group has no offset yet, rather than the latest."),
    value(
        "max-messages",
        "Integer",
        "num_messages",
        "How many messages to read before the end; without it, on and on.",
    ),
    value("timeout-ms", "Long", "timeout_ms", "End when no message came for so long."),
    flag("skip-message-on-error", "Go on with the next message when one cannot be handled, rather than end."),
    value("bootstrap-server", "String", "server to connect to", "REQUIRED: the brokers to start from."),
    value("key-deserializer", "String", "deserializer for keys", "The class that reads keys."),
    value("value-deserializer", "String", "deserializer for values", "The class that reads values."),
    value("formatter", "String", "class", "The class that prints messages.").or(DEFAULT_FORMATTER),
    value("formatter-property", "String", "prop", FORMATTER_DOC),
    value("property", "String", "prop", "(DEPRECATED) The same as --formatter-property, which is to be used instead."),
    value(
        "formatter-config",
        "String",
        "config file",
        "A properties file for the formatter; [formatter-property] goes before it.",
    ),
    value("command-property", "String", "consumer_prop", "A consumer setting as key=value."),
    value(
        "consumer-property",
        "String",
        "consumer_prop",
        "(DEPRECATED) The same as --command-property, which is to be used instead.",
    ),
    value(
        "command-config",
        "String",
        "config file",
        "A properties file of consumer settings; [command-property] goes before it.",
    ),
    value(
        "consumer.config",
        "String",
        "config file",
        "(DEPRECATED) The same as --command-config, which is to be used instead.",
    ),
    value(
        "isolation-level",
        "String",
        "",
        "read_committed leaves out the messages of open and aborted transactions; read_uncommitted reads all.",
    )
    .or("read_uncommitted"),
    flag("enable-systest-events", "Also print when the consumer starts and ends (for system tests)."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

struct Plan {
    consumer: ConsumerConfig,
    what: What,
    formatter: Formatter,
    max_messages: Option<u64>,
    timeout: Option<Duration>,
    skip_errors: bool,
    events: bool,
}

enum What {
    Topic(String),
    Matching(String),
    Partition(TopicPartition, Start),
}

#[derive(Clone, Copy)]
enum Start {
    Earliest,
    Latest,
    Offset(i64),
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = opts::parse(OPTIONS, args).map_err(|error| Stop::Usage(error.to_string()))?;
    help_or_version(&parsed, "This tool helps to read data from Kafka topics and outputs it to standard output.")?;
    let plan = plan(&parsed)?;
    tool::block_on(consume(plan))
}

fn plan(parsed: &Parsed) -> Result<Plan, Stop> {
    for (old, new) in [
        ("property", "formatter-property"),
        ("consumer-property", "command-property"),
        ("consumer.config", "command-config"),
    ] {
        if parsed.has(old) && parsed.has(new) {
            return usage(format!("Options {old} and {new} cannot be specified together."));
        }
        if parsed.has(old) {
            out(format_args!(
                "Option --{old} is deprecated and will be removed in a future version. Use --{new} instead.\n"
            ));
        }
    }
    require(parsed, &["bootstrap-server"])?;
    if parsed.has("topic") == parsed.has("include") {
        return usage("Exactly one of the following arguments is required: [topic], [include]");
    }
    if parsed.has("partition") && !parsed.has("topic") {
        return usage("The topic is required when partition is specified.");
    }
    if parsed.has("offset") && !parsed.has("partition") {
        return usage("The partition is required when offset is specified.");
    }
    if parsed.has("from-beginning") && parsed.has("offset") {
        return usage("Options from-beginning and offset cannot be specified together.");
    }
    if parsed.has("group") && parsed.has("partition") {
        return usage("Options group and partition cannot be specified together.");
    }
    let start = if parsed.has("offset") {
        start(parsed.value("offset")?.unwrap_or_default())?
    } else if parsed.has("from-beginning") {
        Start::Earliest
    } else {
        Start::Latest
    };
    let thrown =
        |error: opts::OptError| Stop::Message(format!("Exception in thread \"main\" {}: {error}", error.class()));
    let what = match (parsed.value("topic")?, parsed.number::<i32>("partition").map_err(thrown)?) {
        (Some(topic), Some(partition)) => What::Partition(TopicPartition::new(topic, partition), start),
        (Some(topic), None) => What::Topic(topic.to_string()),
        (None, _) => What::Matching(parsed.value("include")?.unwrap_or_default().to_string()),
    };
    Ok(Plan {
        consumer: consumer_config(parsed)?,
        what,
        formatter: formatter(parsed)?,
        max_messages: parsed.number::<i64>("max-messages").map_err(thrown)?.and_then(|n| u64::try_from(n).ok()),
        timeout: parsed
            .number::<i64>("timeout-ms")
            .map_err(thrown)?
            .and_then(|n| u64::try_from(n).ok())
            .map(Duration::from_millis),
        skip_errors: parsed.has("skip-message-on-error"),
        events: parsed.has("enable-systest-events"),
    })
}

fn start(text: &str) -> Result<Start, Stop> {
    match text.to_ascii_lowercase().as_str() {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        number => match number.parse() {
            Ok(offset) if offset >= 0 => Ok(Start::Offset(offset)),
            _ => usage(format!(
                "The provided offset value '{text}' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long."
            )),
        },
    }
}

fn formatter(parsed: &Parsed) -> Result<Formatter, Stop> {
    let mut properties = Vec::new();
    if let Some(path) = parsed.value("formatter-config")? {
        properties.extend(tool::load_properties(path)?);
    }
    let arguments = [parsed.values("formatter-property"), parsed.values("property")].concat();
    properties.extend(pairs(&arguments)?);
    for (option, key) in [("key-deserializer", "key.deserializer"), ("value-deserializer", "value.deserializer")] {
        if let Some(class) = parsed.value(option)?.filter(|class| !class.is_empty()) {
            properties.push((key.into(), class.to_string()));
        }
    }
    Formatter::by_class(parsed.value("formatter")?.unwrap_or(DEFAULT_FORMATTER), &properties).or_else(usage)
}

fn consumer_config(parsed: &Parsed) -> Result<ConsumerConfig, Stop> {
    let mut from_file = Vec::new();
    let file = parsed.value("command-config")?.or(parsed.value("consumer.config")?);
    if let Some(path) = file {
        from_file = tool::load_properties(path)?;
    }
    let from_command = pairs(&[parsed.values("command-property"), parsed.values("consumer-property")].concat())?;
    let find = |list: &[(String, String)], key: &str| list.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.clone());

    let mut groups: Vec<String> =
        [parsed.value("group")?.map(String::from), find(&from_command, "group.id"), find(&from_file, "group.id")]
            .into_iter()
            .flatten()
            .collect();
    groups.dedup();
    if groups.len() > 1 {
        let shown: Vec<String> = groups.iter().map(|group| format!("'{group}'")).collect();
        return usage(format!(
            "The group ids provided in different places (directly using '--group', via '--consumer-property', or via '--consumer.config') do not match. Detected group ids: {}",
            shown.join(", ")
        ));
    }
    let mut config = ConsumerConfig::default();
    config.client.client_id = "console-consumer".into();
    let mut properties = from_file;
    properties.extend(from_command);
    match find(&properties, "auto.offset.reset") {
        Some(reset) if parsed.has("from-beginning") && reset != "earliest" => {
            return refuse(format!(
                "Can't simultaneously specify --from-beginning and 'auto.offset.reset={reset}', please remove one option"
            ));
        }
        Some(_) => {}
        None if parsed.has("from-beginning") => config.auto_offset_reset = OffsetReset::Earliest,
        None => {}
    }
    properties.push(("bootstrap.servers".into(), parsed.value("bootstrap-server")?.unwrap_or_default().into()));
    properties.push(("isolation.level".into(), parsed.value("isolation-level")?.unwrap_or_default().into()));
    let chosen = find(&properties, "enable.auto.commit").is_some();
    for (key, text) in &properties {
        apply(&mut config, key, text)?;
    }
    match groups.pop() {
        Some(group) => config.group_id = Some(group),
        None => {
            // nobody will come back for the offsets of a made-up group
            let number = milena_common::Uuid::random().to_u128() % 100_000;
            config.group_id = Some(format!("console-consumer-{number}"));
            if !chosen {
                config.enable_auto_commit = false;
            }
        }
    }
    Ok(config)
}

/// Sets one consumer key.
fn apply(config: &mut ConsumerConfig, key: &str, text: &str) -> Result<(), Stop> {
    let set = match key {
        "key.deserializer" | "value.deserializer" => Deserializer::by_class(text)
            .map(|_| ())
            .map_err(|_| format!("Invalid value {text} for configuration {key}: Class {text} could not be found.")),
        _ => client_keys::set_consumer(config, key, text),
    };
    set.or_else(|message| {
        log_line("ERROR", "Unknown error when running consumer: ", LOGGER);
        refuse(format!("{}: {message}", client_keys::CONFIG_EXCEPTION))
    })
}

async fn consume(plan: Plan) -> Result<(), Stop> {
    let mut consumer = match Consumer::new(plan.consumer.clone()) {
        Ok(consumer) => consumer,
        Err(error) => {
            log_line("ERROR", "Unknown error when running consumer: ", LOGGER);
            return refuse(format!(
                "org.apache.kafka.common.KafkaException: Failed to construct kafka consumer\nCaused by: org.apache.kafka.common.config.ConfigException: {error}"
            ));
        }
    };
    subscribe(&mut consumer, &plan.what)?;
    let mut count = 0;
    let mut unreadable = None;
    let interrupted = tokio::select! {
        end = read_all(&mut consumer, &plan, &mut count) => {
            match end {
                End::Enough => {}
                End::Failed(exception) => {
                    log_line("ERROR", "Error processing message, terminating consumer process: ", LOGGER);
                    err(format_args!("{exception}\n"));
                }
                End::Unreadable(exception) => unreadable = Some(exception),
            }
            None
        }
        code = tool::signal() => Some(code),
    };
    tool::flush();
    if let Err(error) = consumer.close().await {
        log_line("ERROR", format_args!("closing the consumer failed: {}", tool::java_error(&error)), LOGGER);
    }
    err(format_args!("Processed a total of {count} messages\n"));
    if plan.events {
        out("shutdown_complete\n");
    }
    if let Some(exception) = unreadable {
        log_line("ERROR", "Unknown error when running consumer: ", LOGGER);
        return refuse(exception);
    }
    match interrupted {
        Some(code) => Err(Stop::Exit(code)),
        None => Ok(()),
    }
}

fn subscribe(consumer: &mut Consumer, what: &What) -> Result<(), Stop> {
    let subscribed = match what {
        What::Topic(topic) => consumer.subscribe(std::slice::from_ref(topic)),
        What::Matching(pattern) => match TopicFilter::new(pattern) {
            Ok(filter) => consumer.subscribe_matching(move |topic| filter.matches(topic)),
            Err(wrong) => return refuse(format!("{}: {}", wrong.class, wrong.message)),
        },
        What::Partition(tp, start) => {
            consumer.assign(std::slice::from_ref(tp));
            match start {
                Start::Earliest => consumer.seek_to(tp, OffsetSpec::Earliest),
                Start::Latest => consumer.seek_to(tp, OffsetSpec::Latest),
                Start::Offset(offset) => consumer.seek(tp, *offset),
            }
            Ok(())
        }
    };
    subscribed.or_else(|error| refuse(tool::java_error(&error)))
}

/// Why reading ended; the texts are exceptions.
enum End {
    Enough,
    /// No more records could be had.
    Failed(String),
    /// A record was had, but could not be shown.
    Unreadable(String),
}

/// Reads until the count is reached, nothing comes for too long or something fails.
async fn read_all(consumer: &mut Consumer, plan: &Plan, count: &mut u64) -> End {
    let mut buffer = Vec::new();
    let mut quiet_since = Instant::now();
    loop {
        if plan.max_messages.is_some_and(|max| *count >= max) {
            return End::Enough;
        }
        let left = plan.timeout.map(|timeout| (quiet_since + timeout).saturating_duration_since(Instant::now()));
        let records = match consumer.poll(left.unwrap_or(Duration::from_secs(3600))).await {
            Ok(records) => records,
            Err(error) => return End::Failed(tool::java_error(&error)),
        };
        if records.is_empty() {
            if plan.timeout.is_some_and(|timeout| quiet_since.elapsed() >= timeout) {
                return End::Failed("org.apache.kafka.common.errors.TimeoutException: null".into());
            }
            continue;
        }
        quiet_since = Instant::now();
        buffer.clear();
        let mut records = records.into_iter();
        let mut failure = None;
        for record in records.by_ref() {
            if plan.max_messages.is_some_and(|max| *count >= max) {
                rewind(consumer, &record);
                break;
            }
            match plan.formatter.write(&record, &mut buffer) {
                Ok(()) => {
                    if let Some(line) = plan.formatter.log_line(&record) {
                        log_line("INFO", line, "org.apache.kafka.tools.consumer.LoggingMessageFormatter");
                    }
                    *count += 1;
                }
                Err(wrong) if plan.skip_errors => {
                    *count += 1;
                    log_line("ERROR", "Error processing message, skipping this message: ", LOGGER);
                    err(format_args!("{wrong}\n"));
                }
                Err(wrong) => {
                    *count += 1;
                    failure = Some(wrong);
                    break;
                }
            }
        }
        // what was read but not shown is to be read again
        records.for_each(|record| rewind(consumer, &record));
        if std::io::stdout().lock().write_all(&buffer).is_err() {
            return End::Failed("Unable to write to standard out, closing consumer.".into());
        }
        tool::flush();
        if let Some(wrong) = failure {
            return End::Unreadable(wrong);
        }
    }
}

fn rewind(consumer: &mut Consumer, record: &ConsumerRecord) {
    let tp = TopicPartition::new(record.topic.clone(), record.partition);
    if consumer.position(&tp).is_some_and(|position| position > record.offset) {
        consumer.seek(&tp, record.offset);
    }
}
