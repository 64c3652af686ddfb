//! `kafka-e2e-latency`: how long a record takes from a producer to a consumer.
//!
//! Same flags, output and exit codes as Kafka's EndToEndLatency, also in its old form with arguments by position.

use std::collections::BTreeMap;
use std::fmt::Display;

use milena_client::admin::{Admin, NewTopic, OffsetSpec};
use milena_client::{Client, Consumer, ConsumerConfig, Producer, ProducerConfig, ProducerRecord};
use milena_common::TopicPartition;
use tokio::time::{Duration, Instant};

use super::perf_stats::percentiles;
use crate::client_keys::{self, CONFIG_EXCEPTION};
use crate::opts::{self, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, client_file, help_or_version, out, refuse, require, usage};
use crate::{java, progress};

/// How long a record may take before the tool gives up.
const WAIT: Duration = Duration::from_secs(60);
const POSITIONS: [&str; 6] =
    ["bootstrap-server", "topic", "num-records", "producer-acks", "record-size", "command-config"];

pub(crate) const OPTIONS: &[Opt] = &[
    value(
        "bootstrap-server",
        "String",
        "bootstrap server",
        "REQUIRED: the brokers to start from, as HOST1:PORT1,HOST2:PORT2.",
    ),
    value("topic", "String", "topic-name", "REQUIRED: the topic to measure with."),
    value("num-records", "Integer", "count", "REQUIRED: how many records to send."),
    value("producer-acks", "String", "producer-acks", "REQUIRED: whose acknowledgements count: 1 or all."),
    value("record-size", "Integer", "bytes", "REQUIRED: the size of each record's value in bytes."),
    value("record-key-size", "Integer", "bytes", "The size of each record's key in bytes; none if 0.").or("0"),
    value("record-header-key-size", "Integer", "bytes", "The size of each header's key in bytes.").or("0"),
    value("record-header-size", "Integer", "bytes", "The size of each header's value in bytes.").or("0"),
    value("num-headers", "Integer", "count", "How many headers each record has.").or("0"),
    value("command-config", "String", "config-file", "A properties file for producer, consumer and admin client."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

struct Plan {
    servers: String,
    topic: String,
    records: usize,
    acks: String,
    value: usize,
    key: usize,
    headers: usize,
    header_key: usize,
    header_value: usize,
    properties: Vec<(String, String)>,
}

/// Named options as they are; arguments by position get their names.
fn named(args: &[String]) -> Result<Vec<String>, Stop> {
    let known = |arg: &String| {
        POSITIONS.iter().any(|name| arg.strip_prefix("--").is_some_and(|rest| rest.split('=').next() == Some(name)))
    };
    if args.is_empty() || args.iter().any(known) {
        return Ok(args.to_vec());
    }
    if !(5..=6).contains(&args.len()) {
        return refuse(format!(
            "Invalid number of arguments. Expected 5 or 6 positional arguments, but got {}. Usage: bootstrap-server topic num-records producer-acks record-size [optional] command-config",
            args.len()
        ));
    }
    out(
        "WARNING: Positional argument usage is deprecated and will be removed in Apache Kafka 5.0. Please use named arguments instead: --bootstrap-server, --topic, --num-records, --producer-acks, --record-size, --command-config\n",
    );
    Ok(POSITIONS.iter().zip(args).flat_map(|(name, arg)| [format!("--{name}"), arg.clone()]).collect())
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let args = named(args)?;
    let parsed = opts::parse(OPTIONS, &args).map_err(|error| Stop::Usage(error.to_string()))?;
    help_or_version(
        &parsed,
        "This tool measures end-to-end latency in Kafka by sending messages and timing their reception.",
    )?;
    require(&parsed, &["bootstrap-server", "topic", "num-records", "producer-acks", "record-size"])?;
    let plan = plan(&parsed)?;
    tool::block_on_threads(measure(plan))
}

fn plan(parsed: &Parsed) -> Result<Plan, Stop> {
    let acks = parsed.value("producer-acks")?.unwrap_or_default();
    if !["1", "all"].contains(&acks) {
        return usage(
            "Invalid value for --producer-acks. Latency testing requires synchronous acknowledgement. Please use '1' or 'all'.",
        );
    }
    let size = |name: &str| -> Result<usize, Stop> {
        match parsed.number::<i32>(name) {
            Ok(size) => Ok(usize::try_from(size.unwrap_or_default()).unwrap_or_default()),
            Err(error) => thrown(error.class(), error),
        }
    };
    Ok(Plan {
        servers: parsed.value("bootstrap-server")?.unwrap_or_default().into(),
        topic: parsed.value("topic")?.unwrap_or_default().into(),
        records: size("num-records")?,
        acks: acks.into(),
        value: size("record-size")?,
        key: size("record-key-size")?,
        headers: size("num-headers")?,
        header_key: size("record-header-key-size")?,
        header_value: size("record-header-size")?,
        properties: match parsed.value("command-config")?.filter(|path| !path.is_empty()) {
            Some(path) => client_file(path)?,
            None => Vec::new(),
        },
    })
}

/// An exception that ends the tool: its message, then class and message.
fn thrown<T>(class: &str, message: impl Display) -> Result<T, Stop> {
    refuse(format!("{message}\n{class}: {message}\n"))
}

fn failed<T>(error: &milena_client::ClientError) -> Result<T, Stop> {
    thrown(&java::class_of(error), java::message_of(error))
}

fn clients(plan: &Plan) -> Result<(ProducerConfig, ConsumerConfig), String> {
    let mut properties = plan.properties.clone();
    let mut set = |key: &str, value: &str| properties.push((key.to_string(), value.to_string()));
    set("bootstrap.servers", &plan.servers);
    set("linger.ms", "0");
    set("max.block.ms", &i64::MAX.to_string());
    set("acks", &plan.acks);
    let mut producer = client_keys::producer("producer-1", &properties)?;
    producer.max_block_ms = u64::from(u32::MAX);
    let mut consumer = ConsumerConfig::default();
    consumer.client.client_id = "consumer-1".into();
    let mut set = |key: &str, value: &str| properties.push((key.to_string(), value.to_string()));
    set("auto.offset.reset", "latest");
    set("enable.auto.commit", "false");
    // a fetch is answered as soon as there is anything
    set("fetch.max.wait.ms", "0");
    for (key, text) in &properties {
        client_keys::set_consumer(&mut consumer, key, text)?;
    }
    consumer.group_id = None;
    Ok((producer, consumer))
}

async fn measure(plan: Plan) -> Result<(), Stop> {
    let (producer_config, consumer_config) = clients(&plan).or_else(|message| thrown(CONFIG_EXCEPTION, message))?;
    let client = Client::new(consumer_config.client.clone()).or_else(|error| failed(&error))?;
    let partitions = partitions(&Admin::new(client), &plan.topic).await?;
    let mut consumer = Consumer::new(consumer_config).or_else(|error| failed(&error))?;
    let producer = Producer::new(producer_config).or_else(|error| failed(&error))?;
    consumer.assign(&partitions);
    partitions.iter().for_each(|tp| consumer.seek_to(tp, OffsetSpec::Latest));
    // positions are found before the first record goes
    while partitions.iter().any(|tp| consumer.position(tp).is_none()) {
        consumer.poll(Duration::ZERO).await.or_else(|error| failed(&error))?;
    }
    let mut letters = Letters(0x2545_f491_4f6c_dd1d);
    let mut latencies = Vec::with_capacity(plan.records.min(1 << 20));
    let mut total_ms = 0.0;
    let bar = progress::bar(plan.records as u64, "records");
    for index in 0..plan.records {
        let record = ProducerRecord {
            topic: plan.topic.clone(),
            key: (plan.key > 0).then(|| letters.take(plan.key).into()),
            value: Some(letters.take(plan.value).into()),
            headers: (0..plan.headers)
                .map(|_| (letters.take(plan.header_key), Some(letters.take(plan.header_value).into())))
                .collect(),
            ..Default::default()
        };
        let (key, value) = (record.key.clone(), record.value.clone());
        let begin = Instant::now();
        let delivery = producer.send(record).await.or_else(|error| failed(&error))?;
        delivery.wait().await.or_else(|error| failed(&error))?;
        let got = loop {
            let records = consumer.poll(WAIT).await.or_else(|error| failed(&error))?;
            if !records.is_empty() || begin.elapsed() >= WAIT {
                break records;
            }
        };
        let elapsed_ms = begin.elapsed().as_secs_f64() * 1000.0;
        match got.as_slice() {
            [] => {
                return thrown(
                    "java.lang.RuntimeException",
                    format_args!("poll() timed out before finding a result (timeout:[{}ms])", WAIT.as_millis()),
                );
            }
            [one] if one.value == value && one.key == key => {}
            [_] => {
                return thrown(
                    "java.lang.RuntimeException",
                    "The message value read does not match the message value sent.",
                );
            }
            more => {
                return thrown(
                    "java.lang.RuntimeException",
                    format_args!("Only one result was expected during this test. We found [{}]", more.len()),
                );
            }
        }
        if index % 1000 == 0 {
            bar.suspend(|| out(format_args!("{index}\t{}\n", java::double((elapsed_ms * 1e6).round() / 1e6))));
        }
        bar.inc(1);
        total_ms += elapsed_ms;
        latencies.push(elapsed_ms as u32);
    }
    bar.finish_and_clear();
    let count = latencies.len().max(1) as f64;
    let [p50, p99, p999] = percentiles(&mut latencies, [0.5, 0.99, 0.999]);
    out(format_args!("Avg latency: {:.4} ms\n", total_ms / count));
    out(format_args!("Percentiles: 50th = {p50}, 99th = {p99}, 99.9th = {p999}\n"));
    producer.close().await;
    Ok(())
}

/// The partitions of the topic, which is made if there is none.
async fn partitions(admin: &Admin, topic: &str) -> Result<Vec<TopicPartition>, Stop> {
    let names = admin.list_topics().await.or_else(|error| failed(&error))?;
    if !names.iter().any(|known| known.name == topic) {
        out(format_args!(
            "Topic \"{topic}\" does not exist. Will create topic with 1 partition(s) and replication factor = 1\n"
        ));
        let new = NewTopic {
            name: topic.into(),
            partitions: 1,
            replication_factor: 1,
            assignments: BTreeMap::new(),
            configs: Vec::new(),
        };
        for (_, result) in admin.create_topics(&[new], false).await.or_else(|error| failed(&error))? {
            result.or_else(|error| failed(&error))?;
        }
    }
    let mut found = Vec::new();
    for (_, described) in admin.describe_topics(&[topic.to_string()], 2000).await.or_else(|error| failed(&error))? {
        let described = described.or_else(|error| failed(&error))?;
        found.extend(described.partitions.iter().map(|p| TopicPartition::new(topic, p.partition)));
    }
    Ok(found)
}

/// Random letters; the same in every run.
struct Letters(u64);

impl Letters {
    fn take(&mut self, count: usize) -> String {
        let letter = |_| {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            char::from(b'A' + (self.0 % 26) as u8)
        };
        (0..count).map(letter).collect()
    }
}
