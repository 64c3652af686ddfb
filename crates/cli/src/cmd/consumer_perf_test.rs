//! `kafka-consumer-perf-test`: reads as fast as it goes and says how fast that was.
//!
//! Same flags, output and exit codes as Kafka's ConsumerPerformance.

use std::fmt::Display;

use milena_client::consumer::{OffsetReset, RebalanceEvent};
use milena_client::{Consumer, ConsumerConfig};
use tokio::time::{Duration, Instant};

use super::client_metrics_table;
use crate::client_keys::{self, CONFIG_EXCEPTION};
use crate::opts::{self, Arg, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, client_file, help_or_version, out, properties_of, refuse, require, usage, wall_ms};
use crate::topic_filter::TopicFilter;
use crate::{java, progress};

const DATE_FORMAT: &str = "yyyy-MM-dd HH:mm:ss:SSS";
const CLIENT_ID: &str = "perf-consumer-client";

pub(crate) const OPTIONS: &[Opt] = &[
    value("bootstrap-server", "String", "server to connect to", "REQUIRED: the brokers to start from."),
    value("topic", "String", "topic", "The topic to read."),
    value("include", "String", "Java regex (String)", "A regular expression of the topics to read."),
    value("group", "String", "gid", "The id of the group to read in. (default: perf-consumer- and a random number)"),
    value("fetch-size", "Integer", "size", "How much of a partition to fetch in one request at most.").or("1048576"),
    value("command-property", "String", "prop1=val1", "A consumer setting as key=value; goes before --command-config."),
    flag("from-latest", "Start with the newest records, not the oldest, if the group has no offset yet."),
    value("socket-buffer-size", "Integer", "size", "The size of the socket's receive buffer.").or("2097152"),
    value(
        "consumer.config",
        "String",
        "config file",
        "(DEPRECATED) The same as --command-config, which is to be used instead.",
    ),
    value("command-config", "String", "config file", "A properties file of consumer settings."),
    flag("print-metrics", "Show the consumer's metrics at the end."),
    flag("show-detailed-stats", "Show figures at every reporting interval."),
    Opt {
        name: "timeout",
        arg: Arg::Optional("Long", "milliseconds"),
        doc: "End when no record came for so long.",
        default: Some("10000"),
        must: false,
    },
    value("messages", "Long", "count", "(DEPRECATED) The same as --num-records, which is to be used instead."),
    value("num-records", "Long", "count", "REQUIRED: how many records to read."),
    value("reporting-interval", "Long", "interval_ms", "How often to say how it goes, in milliseconds.").or("5000"),
    value("date-format", "String", "date format", "How times are shown, as in java.text.SimpleDateFormat.")
        .or(DATE_FORMAT),
    flag("hide-header", "Do not show the names of the columns."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

enum What {
    Topic(String),
    Matching(TopicFilter),
}

struct Plan {
    config: ConsumerConfig,
    what: What,
    records: u64,
    timeout: Duration,
    interval_ms: f64,
    detailed: bool,
    print_metrics: bool,
    date_format: String,
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = opts::parse(OPTIONS, args).map_err(|error| Stop::Usage(error.to_string()))?;
    help_or_version(&parsed, "This tool is used to verify the consumer performance.")?;
    check(&parsed)?;
    if !parsed.has("hide-header") {
        let start = if parsed.has("show-detailed-stats") { "time, threadId, " } else { "start.time, end.time, " };
        out(format_args!(
            "{start}data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n"
        ));
    }
    let plan = plan(&parsed)?;
    tool::block_on_threads(consume(plan))
}

/// An exception that the tool shows twice: its message, then class and message.
fn thrown<T>(class: &str, message: impl Display) -> Result<T, Stop> {
    refuse(format!("{message}\n{class}: {message}\n"))
}

fn check(parsed: &Parsed) -> Result<(), Stop> {
    require(parsed, &["bootstrap-server"])?;
    if parsed.has("topic") == parsed.has("include") {
        return usage("Exactly one of the following arguments is required: [topic], [include]");
    }
    if parsed.has("messages") == parsed.has("num-records") {
        return usage("Exactly one of the following arguments is required: [messages], [num-records]");
    }
    if parsed.has("messages") {
        out("Warning: --messages is deprecated. Use --num-records instead.\n");
    }
    if parsed.has("consumer.config") && parsed.has("command-config") {
        return usage("Option \"[consumer.config]\" can't be used with option \"[command-config]\"");
    }
    if parsed.has("consumer.config") {
        out("Warning: --consumer.config is deprecated. Use --command-config instead.\n");
    }
    Ok(())
}

fn plan(parsed: &Parsed) -> Result<Plan, Stop> {
    let number = |name: &str| match parsed.number::<i64>(name) {
        Ok(number) => Ok(number.unwrap_or_default()),
        Err(error) => thrown(error.class(), error),
    };
    let records = number(if parsed.has("messages") { "messages" } else { "num-records" })?;
    let what = match (parsed.value("topic")?, parsed.value("include")?) {
        (Some(topic), _) => What::Topic(topic.to_string()),
        (None, include) => match TopicFilter::new(include.unwrap_or_default()) {
            Ok(filter) => What::Matching(filter),
            Err(wrong) => return thrown(&wrong.class, &wrong.message),
        },
    };
    Ok(Plan {
        config: config(parsed)?,
        what,
        records: u64::try_from(records).unwrap_or_default(),
        timeout: Duration::from_millis(u64::try_from(number("timeout")?).unwrap_or_default()),
        interval_ms: number("reporting-interval")? as f64,
        detailed: parsed.has("show-detailed-stats"),
        print_metrics: parsed.has("print-metrics"),
        date_format: parsed.value("date-format")?.unwrap_or(DATE_FORMAT).to_string(),
    })
}

fn config(parsed: &Parsed) -> Result<ConsumerConfig, Stop> {
    let mut properties = Vec::new();
    if let Some(path) = parsed.value("command-config")?.or(parsed.value("consumer.config")?) {
        properties.extend(client_file(path)?);
    }
    properties.extend(properties_of(parsed.values("command-property"))?);
    let group = match parsed.value("group")? {
        Some(group) => group.to_string(),
        None => format!("perf-consumer-{}", milena_common::Uuid::random().to_u128() % 100_000),
    };
    let mut set = |key: &str, value: &str| properties.push((key.to_string(), value.to_string()));
    set("bootstrap.servers", parsed.value("bootstrap-server")?.unwrap_or_default());
    set("group.id", &group);
    set("max.partition.fetch.bytes", parsed.value("fetch-size")?.unwrap_or_default());
    set("receive.buffer.bytes", parsed.value("socket-buffer-size")?.unwrap_or_default());
    set("check.crcs", "false");
    let mut config = ConsumerConfig { auto_offset_reset: OffsetReset::Earliest, ..Default::default() };
    config.client.client_id = CLIENT_ID.into();
    for (key, text) in &properties {
        client_keys::set_consumer(&mut config, key, text).or_else(|message| thrown(CONFIG_EXCEPTION, message))?;
    }
    config.auto_offset_reset = if parsed.has("from-latest") { OffsetReset::Latest } else { OffsetReset::Earliest };
    Ok(config)
}

const MB: f64 = 1024.0 * 1024.0;

/// What was read up to a moment.
#[derive(Clone, Copy, Default)]
struct Read {
    records: u64,
    bytes: u64,
    /// Milliseconds since the start.
    at_ms: f64,
}

/// The part of a row that every kind of row ends with.
fn figures(since: Read, now: Read, rebalance_ms: f64) -> (f64, f64, f64, u64, f64, f64) {
    let mb = (now.bytes - since.bytes) as f64 / MB;
    let records = now.records - since.records;
    let seconds = (now.at_ms - since.at_ms).trunc() / 1000.0;
    let fetch_ms = (now.at_ms - since.at_ms).trunc() - rebalance_ms.trunc();
    (mb, mb / seconds, seconds, records, records as f64 / seconds, fetch_ms)
}

/// Nothing in no time is nothing a second.
fn four(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { "0.0000".into() }
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
    let subscribed = match plan.what {
        What::Topic(ref topic) => consumer.subscribe(std::slice::from_ref(topic)),
        What::Matching(filter) => consumer.subscribe_matching(move |topic| filter.matches(topic)),
    };
    if let Err(error) = subscribed {
        return thrown(&java::class_of(&error), java::message_of(&error));
    }
    let start_wall = wall_ms();
    let start = Instant::now();
    let ms = |at: Instant| at.duration_since(start).as_secs_f64() * 1000.0;
    let mut read = Read::default();
    let mut reported = Read::default();
    let (mut rebalance_ms, mut rebalance_since) = (0.0, 0.0);
    let mut joining_since = Some(start);
    let mut last_record = start;
    let bar = progress::bar(plan.records, "records");
    while read.records < plan.records {
        if last_record.elapsed() > plan.timeout {
            out(format_args!(
                "WARNING: Exiting before consuming the expected number of records: timeout ({} ms) exceeded. You can use the --timeout option to increase the timeout.\n",
                plan.timeout.as_millis()
            ));
            break;
        }
        let polled = consumer.poll(Duration::from_millis(100)).await;
        let now = Instant::now();
        while let Some(event) = consumer.next_event() {
            match event {
                RebalanceEvent::Revoked(_) => joining_since = Some(now),
                RebalanceEvent::Assigned(_) => {
                    if let Some(since) = joining_since.take() {
                        let took = now.duration_since(since).as_secs_f64() * 1000.0;
                        rebalance_ms += took;
                        rebalance_since += took;
                    }
                }
            }
        }
        let records = match polled {
            Ok(records) => records,
            Err(error) => return thrown(&java::class_of(&error), java::message_of(&error)),
        };
        if !records.is_empty() {
            last_record = now;
        }
        bar.inc(records.len() as u64);
        for record in records {
            read.records += 1;
            read.bytes += (record.key.map_or(0, |key| key.len()) + record.value.map_or(0, |value| value.len())) as u64;
            read.at_ms = ms(now);
            if read.at_ms - reported.at_ms >= plan.interval_ms {
                if plan.detailed {
                    let time = show_time(&plan.date_format, start_wall + read.at_ms as i64);
                    bar.suspend(|| out(detailed_row(&time, reported, read, rebalance_since)));
                }
                rebalance_since = 0.0;
                reported = read;
            }
        }
    }
    let end = Instant::now();
    bar.finish_and_clear();
    read.at_ms = ms(end);
    if let Err(error) = consumer.close().await {
        return thrown(&java::class_of(&error), java::message_of(&error));
    }
    if !plan.detailed {
        let (mb, mb_sec, _, records, records_sec, fetch_ms) = figures(Read::default(), read, rebalance_ms);
        out(format_args!(
            "{}, {}, {}, {}, {records}, {}, {}, {fetch_ms:.0}, {}, {}\n",
            show_time(&plan.date_format, start_wall),
            show_time(&plan.date_format, start_wall + read.at_ms as i64),
            four(mb),
            four(mb_sec),
            four(records_sec),
            rebalance_ms as i64,
            four(mb / (fetch_ms / 1000.0)),
            four(records as f64 / (fetch_ms / 1000.0)),
        ));
    }
    if plan.print_metrics {
        const GROUP: &str = "consumer-fetch-manager-metrics";
        let metrics = [
            (GROUP, "bytes-consumed-total", read.bytes as f64),
            (GROUP, "records-consumed-total", read.records as f64),
        ];
        out(client_metrics_table::render(CLIENT_ID, &metrics));
    }
    Ok(())
}

fn detailed_row(time: &str, since: Read, now: Read, rebalance_ms: f64) -> String {
    let (mb, mb_sec, _, records, records_sec, fetch_ms) = figures(since, now, rebalance_ms);
    let rate = |amount: f64| if fetch_ms <= 0.0 { 0.0 } else { amount / (fetch_ms / 1000.0) };
    format!(
        "{time}, 0, {}, {}, {}, {}, {}, {fetch_ms:.0}, {}, {}\n",
        four(now.bytes as f64 / MB),
        four(mb_sec),
        now.records,
        four(records_sec),
        rebalance_ms as i64,
        four(rate(mb)),
        four(rate(records as f64))
    )
}

/// A time in the pattern of Java's SimpleDateFormat, as far as its numbers go.
pub(super) fn show_time(pattern: &str, wall_ms: i64) -> String {
    let Ok(timestamp) = jiff::Timestamp::from_millisecond(wall_ms) else {
        return wall_ms.to_string();
    };
    let time = timestamp.to_zoned_datetime(jiff::tz::TimeZone::system());
    let mut text = String::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\'' {
            // quoted text, in which two quotes are one
            let mut empty = true;
            for quoted in letters.by_ref() {
                if quoted == '\'' {
                    break;
                }
                empty = false;
                text.push(quoted);
            }
            if empty {
                text.push('\'');
            }
            continue;
        }
        let mut width = 1;
        while letters.next_if_eq(&letter).is_some() {
            width += 1;
        }
        let number = match letter {
            'y' if width == 2 => i64::from(time.year()) % 100,
            'y' => i64::from(time.year()),
            'M' if width < 3 => i64::from(time.month()),
            'd' => i64::from(time.day()),
            'H' => i64::from(time.hour()),
            'k' => (i64::from(time.hour()) + 23) % 24 + 1,
            'h' => (i64::from(time.hour()) + 11) % 12 + 1,
            'K' => i64::from(time.hour()) % 12,
            'm' => i64::from(time.minute()),
            's' => i64::from(time.second()),
            'S' => i64::from(time.millisecond()),
            'M' => {
                text.push_str(&time.strftime(if width == 3 { "%b" } else { "%B" }).to_string());
                continue;
            }
            'E' => {
                text.push_str(&time.strftime(if width < 4 { "%a" } else { "%A" }).to_string());
                continue;
            }
            'a' => {
                text.push_str(if time.hour() < 12 { "AM" } else { "PM" });
                continue;
            }
            'Z' => {
                text.push_str(&time.strftime("%z").to_string());
                continue;
            }
            other => {
                text.extend(std::iter::repeat_n(other, width));
                continue;
            }
        };
        text.push_str(&format!("{number:0width$}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detailed_row_is_kafkas() {
        let now = Read { records: 1, bytes: 100, at_ms: 3483.0 };
        assert_eq!(
            detailed_row("t", Read::default(), now, 3404.0),
            "t, 0, 0.0001, 0.0000, 1, 0.2871, 3404, 79, 0.0012, 12.6582\n"
        );
    }

    #[test]
    fn times_follow_the_pattern() {
        let shown = show_time("yyyy-MM-dd'T'HH:mm:ss:SSS ''yy", 0);
        assert_eq!((shown.len(), &shown[..8], &shown[16..]), (27, "1970-01-", ":00:000 '70"));
    }
}
