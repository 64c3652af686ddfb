//! `kafka-verifiable-consumer`: reads as the member of a group and says, as JSON, what it reads, commits and is assigned.
//!
//! Same flags, output and exit codes as Kafka's VerifiableConsumer, which system tests run and read.

use std::collections::BTreeMap;

use milena_client::consumer::RebalanceEvent;
use milena_client::{ClientError, Consumer, ConsumerConfig, ConsumerRecord};
use milena_common::TopicPartition;
use tokio::time::Duration;

use crate::client_keys::{self, CONFIG_EXCEPTION};
use crate::java;
use crate::opts::command::{Asked, Command, Given, Takes, option};
use crate::tool::{self, Stop, client_file, err, out, thrown, wall_ms};

const COMMAND: Command = Command {
    name: "verifiable-consumer",
    doc: "Reads a topic and shows what happens to the consumer (rebalances, messages, commits) as JSON on standard output.",
    arguments: &[
        option("--topic", Takes::Text, "TOPIC", "The topic to read.").required(),
        option(
            "--group-protocol",
            Takes::Text,
            "GROUP-PROTOCOL",
            "The protocol of the group: CLASSIC or CONSUMER. (default: classic)",
        ),
        option(
            "--group-remote-assignor",
            Takes::Text,
            "GROUP-REMOTE-ASSIGNOR",
            "The coordinator's assignor; only with the protocol CONSUMER.",
        ),
        option("--group-id", Takes::Text, "GROUP-ID", "The id of the group.").required(),
        option("--group-instance-id", Takes::Text, "GROUP-INSTANCE-ID", "The instance id of a static member."),
        option(
            "--max-messages",
            Takes::Int,
            "MAX-MESSAGES",
            "How many messages to read; -1 for as long as the process lives. (default: -1)",
        ),
        option(
            "--session-timeout",
            Takes::Int,
            "TIMEOUT-MS",
            "The session timeout of the consumer; not with the protocol CONSUMER.",
        ),
        option("--verbose", Takes::Nothing, "", "Show each message. (default: false)"),
        option("--enable-autocommit", Takes::Nothing, "", "Commit automatically. (default: false)"),
        option(
            "--reset-policy",
            Takes::Text,
            "RESET-POLICY",
            "Where to start without an offset: 'earliest', 'latest' or 'none'. (default: earliest)",
        ),
        option(
            "--assignment-strategy",
            Takes::Text,
            "ASSIGNMENT-STRATEGY",
            "The class of the assignor; only with the protocol CLASSIC. (default: org.apache.kafka.clients.consumer.RangeAssignor)",
        ),
        option(
            "--consumer.config",
            Takes::Text,
            "CONFIG-FILE",
            "(DEPRECATED) The same as --command-config, which is to be used instead.",
        ),
        option(
            "--command-config",
            Takes::Text,
            "CONFIG-FILE",
            "A properties file; what is on the command line goes before it.",
        ),
    ],
    group: Some((
        "Connection Group",
        "Group of arguments for connection to brokers",
        &[option(
            "--bootstrap-server",
            Takes::Text,
            "HOST1:PORT1[,HOST2:PORT2[...]]",
            "The brokers to start from, as HOST1:PORT1,HOST2:PORT2.",
        )
        .required()],
    )),
    choice: None,
};

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    if args.is_empty() {
        out(COMMAND.help());
        return 0;
    }
    match COMMAND.parse(args) {
        Asked::Help(text) => {
            out(text);
            1
        }
        Asked::Wrong(text) => {
            err(text);
            1
        }
        Asked::Run(given) => tool::finish(&[], execute(&given)),
    }
}

struct Plan {
    config: ConsumerConfig,
    topic: String,
    max_messages: Option<u64>,
    verbose: bool,
    auto_commit: bool,
}

fn execute(given: &Given) -> Result<(), Stop> {
    let mut properties: Vec<(String, String)> = Vec::new();
    if given.has("--command-config") && given.has("--consumer.config") {
        err(COMMAND.wrong("Options --consumer.config and --command-config are mutually exclusive."));
        return Err(Stop::Exit(1));
    }
    if given.has("--consumer.config") {
        out(
            "Option --consumer.config has been deprecated and will be removed in a future version. Use --command-config instead.\n",
        );
    }
    if let Some(path) = given.text("--command-config").or(given.text("--consumer.config")) {
        properties.extend(client_file(path)?);
    }
    let protocol = given.text("--group-protocol").unwrap_or("classic");
    let mut set = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            properties.push((key.to_string(), value.to_string()));
        }
    };
    set("group.protocol", Some(protocol));
    if protocol.eq_ignore_ascii_case("consumer") {
        set("group.remote.assignor", given.text("--group-remote-assignor"));
    } else {
        set("session.timeout.ms", given.text("--session-timeout"));
        let strategy = given.text("--assignment-strategy");
        set("partition.assignment.strategy", strategy.or(Some("org.apache.kafka.clients.consumer.RangeAssignor")));
    }
    set("group.instance.id", given.text("--group-instance-id"));
    set("bootstrap.servers", given.text("--bootstrap-server"));
    set("group.id", given.text("--group-id"));
    set("enable.auto.commit", Some(if given.has("--enable-autocommit") { "true" } else { "false" }));
    set("auto.offset.reset", given.text("--reset-policy").or(Some("earliest")));
    let mut config = ConsumerConfig::default();
    config.client.client_id = format!("consumer-{}-1", given.text("--group-id").unwrap_or_default());
    for (key, text) in &properties {
        client_keys::set_consumer(&mut config, key, text).or_else(|message| thrown(CONFIG_EXCEPTION, message))?;
    }
    let plan = Plan {
        config,
        topic: given.text("--topic").unwrap_or_default().to_string(),
        max_messages: given.number::<i64>("--max-messages").and_then(|count| u64::try_from(count).ok()),
        verbose: given.has("--verbose"),
        auto_commit: given.has("--enable-autocommit"),
    };
    tool::block_on(consume(plan))
}

fn event(name: &str, rest: &str) {
    out(format_args!("{{\"timestamp\":{},\"name\":\"{name}\"{rest}}}\n", wall_ms()));
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn partitions(list: &[TopicPartition]) -> String {
    let each: Vec<String> =
        list.iter().map(|tp| format!("{{\"topic\":{},\"partition\":{}}}", quoted(&tp.topic), tp.partition)).collect();
    format!(",\"partitions\":[{}]", each.join(","))
}

async fn consume(plan: Plan) -> Result<(), Stop> {
    let mut consumer = match Consumer::new(plan.config.clone()) {
        Ok(consumer) => consumer,
        Err(error) => {
            return thrown(
                "org.apache.kafka.common.KafkaException",
                format_args!("Failed to construct kafka consumer\nCaused by: {}", tool::java_error(&error)),
            );
        }
    };
    event("startup_complete", "");
    let subscribed = consumer.subscribe(std::slice::from_ref(&plan.topic));
    let mut asked_to_end = false;
    let result = match subscribed {
        Ok(()) => tokio::select! {
            result = read(&plan, &mut consumer) => result,
            _ = tool::signal() => {
                asked_to_end = true;
                Ok(())
            }
        },
        Err(error) => Err(error),
    };
    if asked_to_end {
        event("shutdown_requested", "");
    }
    let assignment = consumer.assignment();
    let closed = consumer.close().await;
    if !assignment.is_empty() {
        event("partitions_revoked", &partitions(&assignment));
    }
    event("shutdown_complete", "");
    if !asked_to_end {
        // the process is about to end, which Kafka's tool takes for a request to shut down
        event("shutdown_requested", "");
    }
    match result.and(closed) {
        Ok(()) => Ok(()),
        Err(error) => thrown(&java::class_of(&error), java::message_of(&error)),
    }
}

async fn read(plan: &Plan, consumer: &mut Consumer) -> Result<(), ClientError> {
    let mut count = 0;
    while plan.max_messages.is_none_or(|max| count < max) {
        let result = consumer.poll(Duration::from_secs(1)).await;
        while let Some(change) = consumer.next_event() {
            match change {
                RebalanceEvent::Assigned(list) => event("partitions_assigned", &partitions(&list)),
                RebalanceEvent::Revoked(list) => event("partitions_revoked", &partitions(&list)),
            }
        }
        let records = result?;
        if records.is_empty() {
            continue;
        }
        let total = records.len();
        let left = plan.max_messages.map_or(usize::MAX, |max| usize::try_from(max - count).unwrap_or(usize::MAX));
        let ranges = show(plan, consumer, &records, left);
        count += total.min(left) as u64;
        let each: Vec<String> = ranges
            .iter()
            .map(|(tp, (count, min, max))| {
                format!(
                    "{{\"topic\":{},\"partition\":{},\"count\":{count},\"minOffset\":{min},\"maxOffset\":{max}}}",
                    quoted(&tp.topic),
                    tp.partition
                )
            })
            .collect();
        event("records_consumed", &format!(",\"count\":{total},\"partitions\":[{}]", each.join(",")));
        if !plan.auto_commit {
            let committed: Vec<String> = ranges
                .iter()
                .map(|(tp, (_, _, max))| {
                    format!("{{\"topic\":{},\"partition\":{},\"offset\":{}}}", quoted(&tp.topic), tp.partition, max + 1)
                })
                .collect();
            let offsets = format!(",\"offsets\":[{}]", committed.join(","));
            match consumer.commit().await {
                Ok(()) => event("offsets_committed", &format!("{offsets},\"success\":true")),
                Err(error) => {
                    let reason = quoted(&java::message_of(&error));
                    event("offsets_committed", &format!("{offsets},\"error\":{reason},\"success\":false"));
                }
            }
        }
    }
    Ok(())
}

/// Shows the records that still count and takes the others back; count, first and last offset per partition.
fn show(
    plan: &Plan,
    consumer: &mut Consumer,
    records: &[ConsumerRecord],
    left: usize,
) -> BTreeMap<TopicPartition, (usize, i64, i64)> {
    let mut ranges: BTreeMap<TopicPartition, (usize, i64, i64)> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        let tp = TopicPartition::new(record.topic.clone(), record.partition);
        if index >= left {
            // what was not shown is not committed either
            if consumer.position(&tp).is_some_and(|position| position > record.offset) {
                consumer.seek(&tp, record.offset);
            }
            continue;
        }
        if plan.verbose {
            let text = |bytes: &Option<bytes::Bytes>| {
                bytes.as_ref().map_or("null".to_string(), |bytes| quoted(&String::from_utf8_lossy(bytes)))
            };
            event(
                "record_data",
                &format!(
                    ",\"key\":{},\"value\":{},\"topic\":{},\"partition\":{},\"offset\":{}",
                    text(&record.key),
                    text(&record.value),
                    quoted(&record.topic),
                    record.partition,
                    record.offset
                ),
            );
        }
        let range = ranges.entry(tp).or_insert((0, record.offset, record.offset));
        range.0 += 1;
        range.2 = record.offset;
    }
    ranges
}
