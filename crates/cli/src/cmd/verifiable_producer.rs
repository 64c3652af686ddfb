//! `kafka-verifiable-producer`: writes growing numbers and says of each, as JSON, whether it was written.
//!
//! Same flags, output and exit codes as Kafka's VerifiableProducer, which system tests run and read.

use milena_client::{ClientError, Delivery, Producer, ProducerConfig, ProducerRecord};
use tokio::time::{Duration, Instant};

use super::perf_stats::Throttle;
use crate::client_keys::{self, CONFIG_EXCEPTION};
use crate::java;
use crate::opts::command::{Asked, Command, Given, Takes, option};
use crate::tool::{self, Stop, client_file, err, out, thrown, wall_ms};

const COMMAND: Command = Command {
    name: "verifiable-producer",
    doc: "Writes growing numbers to a topic and shows of each, as JSON on standard output, whether it was acknowledged.",
    arguments: &[
        option("--topic", Takes::Text, "TOPIC", "The topic to write to.").required(),
        option(
            "--max-messages",
            Takes::Int,
            "MAX-MESSAGES",
            "How many messages to write; -1 for as long as the process lives. (default: -1)",
        ),
        option(
            "--throughput",
            Takes::Int,
            "THROUGHPUT",
            "How many messages a second to write at most, approximately; no limit if negative. (default: -1)",
        ),
        option("--acks", Takes::Int, "ACKS", "Whose acknowledgements count. (default: -1)"),
        option(
            "--producer.config",
            Takes::Text,
            "CONFIG-FILE",
            "(DEPRECATED) The same as --command-config, which is to be used instead.",
        ),
        option(
            "--message-create-time",
            Takes::Long,
            "CREATE-TIME",
            "The time that the first message carries, in milliseconds since 1970; it goes on from there. (default: -1)",
        ),
        option("--value-prefix", Takes::Int, "VALUE-PREFIX", "What stands before each value, with a dot between."),
        option(
            "--repeating-keys",
            Takes::Int,
            "REPEATING-KEYS",
            "Keys from 0 up to this number, which is left out, and then from 0 again.",
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
            "REQUIRED: The brokers to start from, as HOST1:PORT1,HOST2:PORT2.",
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
    config: ProducerConfig,
    topic: String,
    max_messages: Option<u64>,
    throughput: i32,
    create_time: Option<i64>,
    prefix: Option<i32>,
    repeating_keys: Option<u64>,
}

fn execute(given: &Given) -> Result<(), Stop> {
    let mut properties = Vec::new();
    if given.has("--command-config") && given.has("--producer.config") {
        err(COMMAND.wrong("Options --producer.config and --command-config are mutually exclusive."));
        return Err(Stop::Exit(1));
    }
    if given.has("--producer.config") {
        out(
            "Option --producer.config has been deprecated and will be removed in a future version. Use --command-config instead.\n",
        );
    }
    if let Some(path) = given.text("--command-config").or(given.text("--producer.config")) {
        properties.extend(client_file(path)?);
    }
    let acks = given.text("--acks").unwrap_or("-1").to_string();
    // no repetition: what was lost is to be seen
    let fixed = [("acks", acks.as_str()), ("retries", "0")];
    properties.splice(0..0, fixed.map(|(key, value)| (key.to_string(), value.to_string())));
    properties.push(("acks".into(), acks));
    properties.push(("bootstrap.servers".into(), given.text("--bootstrap-server").unwrap_or_default().into()));
    let config =
        client_keys::producer("producer-1", &properties).or_else(|message| thrown(CONFIG_EXCEPTION, message))?;
    let plan = Plan {
        config,
        topic: given.text("--topic").unwrap_or_default().to_string(),
        max_messages: given.number::<i64>("--max-messages").and_then(|count| u64::try_from(count).ok()),
        throughput: given.number("--throughput").unwrap_or(-1),
        create_time: given.number::<i64>("--message-create-time").filter(|time| *time >= 0),
        prefix: given.number("--value-prefix"),
        repeating_keys: given.number::<i64>("--repeating-keys").and_then(|keys| u64::try_from(keys).ok()),
    };
    tool::block_on(produce(plan))
}

fn event(name: &str, rest: &str) -> String {
    format!("{{\"timestamp\":{},\"name\":\"{name}\"{rest}}}\n", wall_ms())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

async fn produce(plan: Plan) -> Result<(), Stop> {
    let producer = match Producer::new(plan.config.clone()) {
        Ok(producer) => producer,
        Err(error) => {
            return thrown(
                "org.apache.kafka.common.KafkaException",
                format_args!("Failed to construct kafka producer\nCaused by: {}", tool::java_error(&error)),
            );
        }
    };
    out(event("startup_complete", ""));
    let start = Instant::now();
    let (sender, mut waiting) = tokio::sync::mpsc::unbounded_channel::<(String, String, Delivery)>();
    let mut sent = 0u64;
    let mut acked = 0u64;
    let report = async {
        while let Some((key, value, delivery)) = waiting.recv().await {
            match delivery.wait().await {
                Ok(metadata) => {
                    acked += 1;
                    out(event(
                        "producer_send_success",
                        &format!(
                            ",\"key\":{key},\"value\":{value},\"offset\":{},\"topic\":{},\"partition\":{}",
                            metadata.offset,
                            quoted(&plan.topic),
                            metadata.partition
                        ),
                    ));
                }
                Err(error) => out(failure(&plan.topic, &key, &value, &error)),
            }
        }
    };
    let send = async {
        tokio::select! {
            () = send_all(&plan, &producer, &sender, &mut sent, start) => {}
            _ = tool::signal() => {}
        }
        producer.flush().await;
        drop(sender);
    };
    tokio::join!(send, report);
    producer.close().await;
    out(event("shutdown_complete", ""));
    let seconds = start.elapsed().as_millis() as f64 / 1000.0;
    out(event(
        "tool_data",
        &format!(
            ",\"sent\":{sent},\"acked\":{acked},\"target_throughput\":{},\"avg_throughput\":{}",
            plan.throughput,
            java::double(1000.0 * (acked as f64 / (seconds * 1000.0)))
        ),
    ));
    Ok(())
}

fn failure(topic: &str, key: &str, value: &str, error: &ClientError) -> String {
    event(
        "producer_send_error",
        &format!(
            ",\"key\":{key},\"value\":{value},\"exception\":{},\"message\":{},\"topic\":{}",
            quoted(&format!("class {}", java::class_of(error))),
            quoted(&java::message_of(error)),
            quoted(topic)
        ),
    )
}

async fn send_all(
    plan: &Plan,
    producer: &Producer,
    outcomes: &tokio::sync::mpsc::UnboundedSender<(String, String, Delivery)>,
    sent: &mut u64,
    start: Instant,
) {
    let throttle = Throttle::new(f64::from(plan.throughput), 0.0);
    let mut time = plan.create_time;
    while plan.max_messages.is_none_or(|max| *sent < max) {
        let index = *sent;
        let value = match plan.prefix {
            Some(prefix) => format!("{prefix}.{index}"),
            None => index.to_string(),
        };
        let key = plan.repeating_keys.map(|keys| (index % keys.max(1)).to_string());
        let record = ProducerRecord {
            topic: plan.topic.clone(),
            key: key.clone().map(Into::into),
            value: Some(value.clone().into()),
            timestamp: time.as_mut().map(|time| {
                let now = *time;
                *time += 1;
                now
            }),
            ..Default::default()
        };
        let (key, value) = (key.as_deref().map_or("null".into(), quoted), quoted(&value));
        *sent += 1;
        match producer.send(record).await {
            Ok(delivery) => drop(outcomes.send((key, value, delivery))),
            Err(error) => out(failure(&plan.topic, &key, &value, &error)),
        }
        match throttle.pause_ms(*sent, start.elapsed().as_secs_f64() * 1000.0) {
            Some(pause) if pause.is_finite() => tokio::time::sleep(Duration::from_secs_f64(pause / 1000.0)).await,
            Some(_) => std::future::pending::<()>().await,
            None => tokio::task::yield_now().await,
        }
    }
}
