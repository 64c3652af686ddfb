//! `kafka-console-producer`: lines of standard input become records.
//!
//! Same flags, output and exit codes as Kafka's ConsoleProducer. `line_reader` turns lines into records; this file wires options to
//! the producer.

use std::io::{BufRead, IsTerminal};

use milena_client::{ClientError, Delivery, Producer, ProducerConfig, ProducerRecord};

use super::line_reader::LineReader;
use crate::client_keys;
use crate::opts::{self, Arg, Opt, Parsed, flag, value};
use crate::progress;
use crate::tool::{self, Stop, err, help_or_version, log_line, out, refuse, require, usage};

const READER_DOC: &str = "A setting of the line reader, as key=value. The default reader knows:\n parse.key=false\n parse.headers=false\n ignore.error=false\n key.separator=\\t\n headers.delimiter=\\t\n headers.separator=,\n headers.key.separator=:\n null.marker=   a text that stands for null in key, value and headers\nWith parse.headers and parse.key a line is\n \"h1:v1,h2:v2...\\tkey\\tvalue\"";

pub(crate) const OPTIONS: &[Opt] = &[
    value("topic", "String", "topic", "REQUIRED: the topic to write to."),
    value(
        "bootstrap-server",
        "String",
        "server to connect to",
        "REQUIRED: the brokers to start from, as HOST1:PORT1,HOST2:PORT2.",
    ),
    flag("sync", "Wait for the answer to each record before the next is sent."),
    Opt {
        name: "compression-codec",
        arg: Arg::Optional("String", "compression-codec"),
        doc: "How batches are compressed: 'none', 'gzip', 'snappy', 'lz4' or 'zstd'; 'gzip' if no value follows.",
        default: None,
        must: false,
    },
    value(
        "batch-size",
        "Integer",
        "size",
        "At how many bytes the batch of a partition is closed (batch.size). Gives way to max-partition-memory-bytes.",
    )
    .or("16384"),
    value(
        "message-send-max-retries",
        "Integer",
        "",
        "How often a record is sent again before it is given up (retries).",
    )
    .or("3"),
    value("retry-backoff-ms", "Long", "", "How long to wait before a record is sent again (retry.backoff.ms).")
        .or("100"),
    value("timeout", "Long", "timeout_ms", "How long a batch waits for more records (linger.ms).").or("1000"),
    value("request-required-acks", "String", "request required acks", "Whose answers count: all or -1, 1, 0 (acks).")
        .or("-1"),
    value(
        "request-timeout-ms",
        "Integer",
        "request timeout ms",
        "How long a request may stay unanswered (request.timeout.ms).",
    )
    .or("1500"),
    value(
        "metadata-expiry-ms",
        "Long",
        "metadata expiration interval",
        "At what age metadata are asked for again (metadata.max.age.ms).",
    )
    .or("300000"),
    value(
        "max-block-ms",
        "Long",
        "max block on send",
        "How long sending may wait for metadata or memory (max.block.ms).",
    )
    .or("60000"),
    value("max-memory-bytes", "Long", "total memory in bytes", "How much memory records may wait in (buffer.memory).")
        .or("33554432"),
    value(
        "max-partition-memory-bytes",
        "Integer",
        "memory in bytes per partition",
        "(Deprecated) The same as --batch-size, which is to be used instead.",
    )
    .or("16384"),
    value("line-reader", "String", "reader_class", "The class that reads lines; only the default one is known here.")
        .or("org.apache.kafka.tools.LineMessageReader"),
    value("socket-buffer-size", "Integer", "size", "The size of the socket's send buffer (send.buffer.bytes).")
        .or("102400"),
    value("reader-property", "String", "prop", READER_DOC),
    value("property", "String", "prop", "(DEPRECATED) The same as --reader-property, which is to be used instead."),
    value(
        "reader-config",
        "String",
        "config file",
        "A properties file for the line reader; [reader-property] goes before it.",
    ),
    value("command-property", "String", "producer_prop", "A producer setting as key=value."),
    value(
        "producer-property",
        "String",
        "producer_prop",
        "(DEPRECATED) The same as --command-property, which is to be used instead.",
    ),
    value(
        "command-config",
        "String",
        "config file",
        "A properties file of producer settings; [command-property] goes before it.",
    ),
    value(
        "producer.config",
        "String",
        "config file",
        "(DEPRECATED) The same as --command-config, which is to be used instead.",
    ),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = opts::parse(OPTIONS, args).map_err(|error| Stop::Usage(error.to_string()))?;
    help_or_version(&parsed, "This tool helps to read data from standard input and publish it to Kafka.")?;
    require(&parsed, &["topic"])?;
    for (old, new) in [
        ("property", "reader-property"),
        ("producer-property", "command-property"),
        ("producer.config", "command-config"),
    ] {
        if parsed.has(old) && parsed.has(new) {
            return usage(format!("Options {old} and {new} cannot be specified together."));
        }
        if parsed.has(old) {
            out(format_args!(
                "Warning: --{old} is deprecated and will be removed in a future version. Use --{new} instead.\n"
            ));
        }
    }
    if parsed.has("max-partition-memory-bytes") {
        out(
            "Warning: --max-partition-memory-bytes is deprecated and will be removed in Apache Kafka 5.0. Use --batch-size instead.\n",
        );
    }
    let config = producer_config(&parsed)?;
    let reader = LineReader::new(&reader_properties(&parsed)?)?;
    let topic = parsed.value("topic")?.unwrap_or_default().to_string();
    tool::block_on(produce(config, reader, topic, parsed.has("sync")))
}

/// Either spelling's values.
fn either<'a>(parsed: &'a Parsed, new: &str, old: &str) -> &'a [String] {
    match parsed.values(new) {
        [] => parsed.values(old),
        values => values,
    }
}

fn reader_properties(parsed: &Parsed) -> Result<Vec<(String, String)>, Stop> {
    let mut properties = Vec::new();
    if let Some(path) = parsed.value("reader-config")? {
        properties.extend(tool::load_properties(path)?);
    }
    properties.extend(pairs(either(parsed, "reader-property", "property"))?);
    Ok(properties)
}

/// `key=value` arguments; a missing value is an empty one.
pub(super) fn pairs(arguments: &[String]) -> Result<Vec<(String, String)>, Stop> {
    arguments
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) => Ok((key.to_string(), value.to_string())),
            None => Ok((text.clone(), String::new())),
        })
        .collect()
}

fn producer_config(parsed: &Parsed) -> Result<ProducerConfig, Stop> {
    let Some(servers) = parsed.value("bootstrap-server")? else {
        return usage("Error while validating the bootstrap address\n");
    };
    let mut properties: Vec<(String, String)> = Vec::new();
    if let Some(path) = either(parsed, "command-config", "producer.config").last() {
        properties.extend(tool::load_properties(path)?);
    }
    properties.extend(pairs(either(parsed, "command-property", "producer-property"))?);
    let given = |key: &str| properties.iter().any(|(known, _)| known == key);
    let batch = if parsed.has("max-partition-memory-bytes") { "max-partition-memory-bytes" } else { "batch-size" };
    // an option on the command line goes before the properties, its default after them
    let options = [
        ("retries", "message-send-max-retries"),
        ("retry.backoff.ms", "retry-backoff-ms"),
        ("linger.ms", "timeout"),
        ("acks", "request-required-acks"),
        ("request.timeout.ms", "request-timeout-ms"),
        ("metadata.max.age.ms", "metadata-expiry-ms"),
        ("max.block.ms", "max-block-ms"),
        ("buffer.memory", "max-memory-bytes"),
        ("batch.size", batch),
    ];
    let mut merged = properties.clone();
    for (key, option) in options {
        if option != "request-required-acks" {
            parsed.number::<i64>(option)?;
        }
        if (parsed.has(option) || !given(key))
            && let Some(value) = parsed.value(option)?
        {
            merged.push((key.to_string(), value.to_string()));
        }
    }
    let mut config = ProducerConfig::default();
    config.client.client_id = "console-producer".into();
    merged.push(("bootstrap.servers".into(), servers.to_string()));
    if parsed.has("compression-codec") {
        let codec = parsed.value("compression-codec")?.filter(|codec| !codec.is_empty()).unwrap_or("gzip");
        merged.push(("compression.type".into(), codec.to_string()));
    }
    for (key, value) in &merged {
        apply(&mut config, key, value)?;
    }
    if config.client.bootstrap_servers.iter().any(|address| milena_client::parse_address(address).is_err()) {
        return usage("Please provide valid host:port like host1:9091,host2:9092\n");
    }
    Ok(config)
}

/// Sets one producer key.
fn apply(config: &mut ProducerConfig, key: &str, text: &str) -> Result<(), Stop> {
    let exception = |message| Stop::Message(format!("{}: {message}", client_keys::CONFIG_EXCEPTION));
    client_keys::set_producer(config, key, text).map_err(exception)
}

/// The size of standard input, if it is a file.
fn input_size() -> Option<u64> {
    let stat = rustix::fs::fstat(std::io::stdin()).ok()?;
    let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
    u64::try_from(stat.st_size).ok().filter(|_| is_file)
}

async fn produce(config: ProducerConfig, mut reader: LineReader, topic: String, sync: bool) -> Result<(), Stop> {
    let producer = Producer::new(config).map_err(|error| Stop::Message(tool::java_error(&error)))?;
    let prompt = std::io::stdin().is_terminal();
    // standard input is read on a thread of its own; a bounded channel keeps it from running ahead
    let (sender, mut lines) = tokio::sync::mpsc::channel(1024);
    let reading = std::thread::spawn(move || {
        let bar = input_size().map(|size| progress::bar_for_silent(size, "bytes"));
        let mut input = std::io::stdin().lock();
        loop {
            if prompt {
                out(">");
                tool::flush();
            }
            let mut line = Vec::new();
            match input.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => {
                    bar.inspect(|bar| bar.finish_and_clear());
                    return;
                }
                Ok(size) => {
                    let _ = bar.as_ref().inspect(|bar| bar.inc(size as u64));
                }
            }
            if line.last() == Some(&b'\n') {
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
            }
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    // outcomes are reported as they come, in order
    let (outcomes, mut waiting) = tokio::sync::mpsc::unbounded_channel::<(Shown, Delivery)>();
    let report = async {
        while let Some((shown, delivery)) = waiting.recv().await {
            if let Err(error) = delivery.wait().await {
                report_error(&shown, &error);
            }
        }
    };
    let feed = async {
        let mut failure = None;
        while let Some(line) = lines.recv().await {
            let record = match reader.record(&topic, &line) {
                Ok(record) => record,
                Err(message) => {
                    failure = Some(message);
                    break;
                }
            };
            let shown = Shown::of(&record);
            match producer.send(record).await {
                Ok(delivery) if sync => {
                    if let Err(error) = delivery.wait().await {
                        failure =
                            Some(format!("java.util.concurrent.ExecutionException: {}", tool::java_error(&error)));
                        break;
                    }
                }
                Ok(delivery) => drop(outcomes.send((shown, delivery))),
                Err(error) if sync => {
                    failure = Some(format!("java.util.concurrent.ExecutionException: {}", tool::java_error(&error)));
                    break;
                }
                Err(error) => report_error(&shown, &error),
            }
        }
        producer.close().await;
        drop(outcomes);
        failure
    };
    let (failure, ()) = tokio::join!(feed, report);
    match failure {
        Some(message) => refuse(message),
        None => {
            let _ = reading.join();
            Ok(())
        }
    }
}

/// What an error line says of a record.
struct Shown {
    topic: String,
    key: String,
    value: String,
}

impl Shown {
    fn of(record: &ProducerRecord) -> Shown {
        let size =
            |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or("null".to_string(), |b| format!("{} bytes", b.len()));
        Shown { topic: record.topic.clone(), key: size(&record.key), value: size(&record.value) }
    }
}

fn report_error(shown: &Shown, error: &ClientError) {
    let Shown { topic, key, value } = shown;
    log_line(
        "ERROR",
        format_args!("Error when sending message to topic {topic} with key: {key}, value: {value} with error:"),
        "org.apache.kafka.clients.producer.internals.ErrorLoggingCallback",
    );
    err(format_args!("{}\n", tool::java_error(error)));
}
