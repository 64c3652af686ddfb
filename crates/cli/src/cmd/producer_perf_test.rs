//! `kafka-producer-perf-test`: writes records as fast as it goes, or at a rate, and says how long they took.
//!
//! Same flags, output and exit codes as Kafka's ProducerPerformance. `perf_stats` counts; this file sends.

use bytes::Bytes;
use milena_client::{ClientError, Delivery, Producer, ProducerConfig, ProducerRecord};
use tokio::time::{Duration, Instant};

use super::perf_stats::{Stats, Throttle};
use crate::client_keys::{self, CONFIG_EXCEPTION};
use crate::opts::command::{Asked, Command, Given, Takes, option};
use crate::tool::{self, Stop, client_file, err, out, properties_of, thrown};
use crate::{java, progress};

const COMMAND: Command = Command {
    name: "kafka-producer-perf-test",
    doc: "Measures how fast a producer writes. With a transactional id or a transaction duration the records are written in transactions; the id comes from --transactional-id, from transactional.id in --command-property, or from the file of --command-config.",
    arguments: &[
        option(
            "--bootstrap-server",
            Takes::Text,
            "BOOTSTRAP-SERVER",
            "The brokers to start from; goes before bootstrap.servers in --command-property and --command-config.",
        ),
        option("--topic", Takes::Text, "TOPIC", "The topic to write to.").required(),
        option("--num-records", Takes::Long, "NUM-RECORDS", "How many records to write.").required(),
        option(
            "--payload-delimiter",
            Takes::Text,
            "PAYLOAD-DELIMITER",
            "What stands between the payloads in the file of --payload-file; without that file it means nothing. (default: \\n)",
        ),
        option(
            "--throughput",
            Takes::Double,
            "THROUGHPUT",
            "How many records a second to write at most, approximately; -1 for no limit.",
        )
        .required(),
        option(
            "--producer-props",
            Takes::Many,
            "PROP-NAME=PROP-VALUE",
            "(DEPRECATED) The same as --command-property, which is to be used instead.",
        ),
        option(
            "--command-property",
            Takes::Many,
            "PROP-NAME=PROP-VALUE",
            "Settings of the producer; they go before those of --command-config. Example: --command-property linger.ms=10 batch.size=32768",
        ),
        option(
            "--producer.config",
            Takes::Text,
            "CONFIG-FILE",
            "(DEPRECATED) The same as --command-config, which is to be used instead.",
        ),
        option("--command-config", Takes::Text, "CONFIG-FILE", "A properties file of producer settings."),
        option("--print-metrics", Takes::Nothing, "", "Show the producer's metrics at the end. (default: false)"),
        option(
            "--transactional-id",
            Takes::Text,
            "TRANSACTIONAL-ID",
            "The transactional id; goes before transactional.id elsewhere. With --transaction-duration-ms and no id it is performance-producer- and a random uuid.",
        ),
        option(
            "--transaction-duration-ms",
            Takes::Long,
            "TRANSACTION-DURATION",
            "How long a transaction lasts before it is committed; more than 0. With an id and no duration it is 3000.",
        ),
        option(
            "--warmup-records",
            Takes::Long,
            "WARMUP-RECORDS",
            "How many records at the start to leave out of a second summary, that of the steady state. (default: 0)",
        ),
        option(
            "--reporting-interval",
            Takes::Long,
            "INTERVAL-MS",
            "How often to say how it goes, in milliseconds. (default: 5000)",
        ),
    ],
    group: None,
    choice: Some((
        true,
        &[
            option("--record-size", Takes::Int, "RECORD-SIZE", "The size of a record in bytes; its content is random."),
            option(
                "--payload-file",
                Takes::Text,
                "PAYLOAD-FILE",
                "A text file in UTF-8 whose payloads are sent in random order.",
            ),
            option("--payload-monotonic", Takes::Nothing, "", "Send growing numbers. (default: false)"),
        ],
    )),
};

const CLIENT_ID: &str = "perf-producer-client";
const DEFAULT_DURATION_MS: u64 = 3000;

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

/// What a record holds.
enum Payload {
    Random(usize),
    File(Vec<Bytes>),
    Monotonic,
}

struct Plan {
    config: ProducerConfig,
    topic: String,
    records: u64,
    payload: Payload,
    throughput: f64,
    /// `None`: no transactions.
    transaction_ms: Option<u64>,
    warmup: u64,
    interval_ms: f64,
    print_metrics: bool,
}

fn execute(given: &Given) -> Result<(), Stop> {
    if let Err(message) = check(given) {
        err(COMMAND.wrong(&message));
        return Err(Stop::Exit(1));
    }
    let plan = plan(given)?;
    tool::block_on_threads(perform(plan))
}

/// What Kafka looks at after the options are read.
fn check(given: &Given) -> Result<(), String> {
    let positive = |option: &str| match given.number::<i64>(option) {
        Some(number) if number <= 0 => Err(format!("{option} should be greater than zero.")),
        _ => Ok(()),
    };
    positive("--num-records")?;
    let records = given.number::<i64>("--num-records").unwrap_or_default();
    if given.number::<i64>("--warmup-records").is_some_and(|warmup| warmup >= records) {
        return Err("The value for --warmup-records must be strictly fewer than the number of records in the test, --num-records.".into());
    }
    positive("--reporting-interval")?;
    positive("--record-size")?;
    let sources =
        ["--bootstrap-server", "--command-property", "--producer-props", "--producer.config", "--command-config"];
    if !sources.iter().any(|option| given.has(option)) {
        return Err("At least one of --bootstrap-server, --command-property, --producer-props, --producer.config or --command-config must be specified.".into());
    }
    if given.has("--command-property") && given.has("--producer-props") {
        return Err("--command-property and --producer-props cannot be specified together.".into());
    }
    if given.has("--command-config") && given.has("--producer.config") {
        return Err("--command-config and --producer.config cannot be specified together.".into());
    }
    positive("--transaction-duration-ms")
}

fn plan(given: &Given) -> Result<Plan, Stop> {
    for (old, new) in [("--producer-props", "--command-property"), ("--producer.config", "--command-config")] {
        if given.has(old) {
            out(format_args!(
                "Option {old} has been deprecated and will be removed in a future version. Use {new} instead.\n"
            ));
        }
    }
    let payload = payload(given)?;
    let mut properties = Vec::new();
    if let Some(path) = given.text("--command-config").or(given.text("--producer.config")) {
        properties.extend(client_file(path)?);
    }
    properties.extend(properties_of(given.all("--command-property"))?);
    properties.extend(properties_of(given.all("--producer-props"))?);
    if let Some(servers) = given.text("--bootstrap-server") {
        properties.push(("bootstrap.servers".into(), servers.into()));
    }
    if let Some(id) = given.text("--transactional-id") {
        properties.push(("transactional.id".into(), id.into()));
    }
    let duration: Option<u64> = given.number("--transaction-duration-ms");
    let has_id = properties.iter().any(|(key, value)| key == "transactional.id" && !value.is_empty());
    if duration.is_some() && !has_id {
        let id = format!("performance-producer-{}", milena_common::Uuid::random());
        properties.push(("transactional.id".into(), id));
    }
    let config = client_keys::producer(CLIENT_ID, &properties).or_else(|message| thrown(CONFIG_EXCEPTION, message))?;
    let transaction_ms = config.transactional_id.is_some().then(|| duration.unwrap_or(DEFAULT_DURATION_MS));
    Ok(Plan {
        config,
        topic: given.text("--topic").unwrap_or_default().to_string(),
        records: given.number("--num-records").unwrap_or_default(),
        payload,
        throughput: given.number("--throughput").unwrap_or(-1.0),
        transaction_ms,
        warmup: given.number::<i64>("--warmup-records").and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        interval_ms: given.number::<i64>("--reporting-interval").unwrap_or(5000) as f64,
        print_metrics: given.has("--print-metrics"),
    })
}

#[expect(clippy::disallowed_methods, reason = "the tool reads the file that it is pointed at")]
fn payload(given: &Given) -> Result<Payload, Stop> {
    if let Some(size) = given.number::<usize>("--record-size") {
        return Ok(Payload::Random(size));
    }
    let Some(path) = given.text("--payload-file") else {
        return Ok(Payload::Monotonic);
    };
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.into());
    out(format_args!("Reading payloads from: {}\n", shown.display()));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if text.is_empty() {
        return thrown("java.lang.IllegalArgumentException", "File does not exist or empty file provided.");
    }
    let delimiter = given.text("--payload-delimiter").unwrap_or("\n").replace("\\n", "\n");
    let Ok(delimiter) = regex::Regex::new(&delimiter) else {
        return thrown("java.util.regex.PatternSyntaxException", delimiter);
    };
    let mut payloads: Vec<Bytes> = delimiter.split(&text).map(|part| Bytes::copy_from_slice(part.as_bytes())).collect();
    // empty parts at the end are none
    while payloads.last().is_some_and(Bytes::is_empty) {
        payloads.pop();
    }
    out(format_args!("Number of records read: {}\n", payloads.len()));
    Ok(Payload::File(payloads))
}

/// A cheap source of numbers; equal runs give equal records, as in Kafka's tool.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

impl Payload {
    fn next(&self, index: u64, numbers: &mut Numbers) -> Bytes {
        match self {
            Payload::Random(size) => {
                let mut letters = Vec::with_capacity(size + 8);
                while letters.len() < *size {
                    let mut number = numbers.next();
                    for _ in 0..8 {
                        letters.push(b'A' + (((number & 0xff) * 26) >> 8) as u8);
                        number >>= 8;
                    }
                }
                letters.truncate(*size);
                Bytes::from(letters)
            }
            Payload::File(payloads) => {
                let at = numbers.next() % payloads.len().max(1) as u64;
                payloads.get(at as usize).cloned().unwrap_or_default()
            }
            Payload::Monotonic => Bytes::from(index.to_string()),
        }
    }
}

/// A record that was handed over: when, and how large.
struct Sent {
    at: Instant,
    size: u64,
    counts_as_steady: bool,
    delivery: Delivery,
}

async fn perform(plan: Plan) -> Result<(), Stop> {
    let producer = match Producer::new(plan.config.clone()) {
        Ok(producer) => producer,
        Err(error) => {
            return thrown(
                "org.apache.kafka.common.KafkaException",
                format_args!("Failed to construct kafka producer\nCaused by: {}", tool::java_error(&error)),
            );
        }
    };
    if plan.warmup > 0 {
        out(format_args!(
            "Warmup first {} records. Steady state results will print after the complete test summary.\n",
            plan.warmup
        ));
    }
    let exception = |error: &ClientError| thrown(&java::class_of(error), java::message_of(error));
    if plan.transaction_ms.is_some() {
        producer.init_transactions().await.or_else(|error| exception(&error))?;
    }
    let start = Instant::now();
    let ms = move |at: Instant| at.duration_since(start).as_secs_f64() * 1000.0;
    let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel::<Sent>();
    let bar = progress::bar(plan.records, "records");
    let mut stats = Stats::new(plan.records, plan.interval_ms, 0.0, false);
    let steady_records = plan.records - plan.warmup;
    let reporting = async {
        let mut steady = None;
        while let Some(Sent { at, size, counts_as_steady, delivery }) = sent.recv().await {
            let result = delivery.wait().await;
            let now = Instant::now();
            bar.inc(1);
            let latency = u32::try_from(now.duration_since(at).as_millis()).unwrap_or(u32::MAX);
            match result {
                Ok(_) => {
                    if let Some(line) = stats.record(latency, size, ms(now)) {
                        bar.suspend(|| out(line));
                    }
                    if counts_as_steady {
                        let steady =
                            steady.get_or_insert_with(|| Stats::new(steady_records, f64::INFINITY, ms(at), true));
                        let _ = steady.record(latency, size, ms(now));
                    }
                }
                Err(error) => err(format_args!("{}\n", tool::java_error(&error))),
            }
        }
        steady
    };
    let sending = async {
        let result = send_all(&plan, &producer, &sender, ms).await;
        producer.flush().await;
        drop(sender);
        result
    };
    let (result, steady) = tokio::join!(sending, reporting);
    bar.finish_and_clear();
    if let Err(error) = result {
        return exception(&error);
    }
    let end = ms(Instant::now());
    out(stats.total(end));
    if let Some(mut steady) = steady {
        out(steady.total(end));
    }
    if plan.print_metrics {
        out(super::client_metrics_table::render(CLIENT_ID, &producer.metrics()));
    }
    producer.close().await;
    Ok(())
}

async fn send_all(
    plan: &Plan,
    producer: &Producer,
    sent: &tokio::sync::mpsc::UnboundedSender<Sent>,
    ms: impl Fn(Instant) -> f64,
) -> Result<(), ClientError> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let throttle = Throttle::new(plan.throughput, 0.0);
    let mut transaction: Option<Instant> = None;
    for index in 0..plan.records {
        let value = plan.payload.next(index, &mut numbers);
        if let (Some(_), None) = (plan.transaction_ms, transaction) {
            producer.begin_transaction()?;
            transaction = Some(Instant::now());
        }
        let at = Instant::now();
        let size = value.len() as u64;
        let record = ProducerRecord { topic: plan.topic.clone(), value: Some(value), ..Default::default() };
        match producer.send(record).await {
            Ok(delivery) => {
                let counts_as_steady = plan.warmup > 0 && index >= plan.warmup;
                let _ = sent.send(Sent { at, size, counts_as_steady, delivery });
            }
            Err(error) => err(format_args!("{}\n", tool::java_error(&error))),
        }
        if let (Some(limit), Some(since)) = (plan.transaction_ms, transaction)
            && since.elapsed() >= Duration::from_millis(limit)
        {
            producer.commit_transaction().await?;
            transaction = None;
        }
        match throttle.pause_ms(index + 1, ms(Instant::now())) {
            Some(pause) if pause.is_finite() => tokio::time::sleep(Duration::from_secs_f64(pause / 1000.0)).await,
            Some(_) => std::future::pending::<()>().await,
            // the sender shares these threads
            None if index % 64 == 63 => tokio::task::yield_now().await,
            None => {}
        }
    }
    if transaction.is_some() {
        producer.commit_transaction().await?;
    }
    Ok(())
}
