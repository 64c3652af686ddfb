//! `kafka-replica-verification`: whether all replicas of partitions hold the same records, again and again.
//!
//! Same flags, output and exit codes as Kafka's ReplicaVerificationTool. Every replica is read as a follower would; batches are
//! compared by offset, checksum and size below the high watermark.

use std::collections::{BTreeMap, BTreeSet};

use milena_client::admin::{Admin, OffsetSpec};
use milena_client::{Client, ClientConfig, ClientError};
use milena_common::TopicPartition;
use milena_protocol::messages::{FetchRequest, fetch_request as request};
use milena_protocol::records;
use tokio::time::{Duration, Instant};

use crate::opts::{self, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, help_or_version, log_line, out, require, thrown, usage};
use crate::topic_filter::TopicFilter;
use crate::{client_keys, java};

const LOGGER: &str = "org.apache.kafka.tools.ReplicaVerificationTool";

/// What a fetch says when it comes from a tool and not from a replica: any replica may answer.
const DEBUGGING_CONSUMER: i32 = -2;

pub(crate) const OPTIONS: &[Opt] = &[
    value("broker-list", "String", "hostname:port,...,hostname:port", "REQUIRED: the brokers to start from."),
    value("fetch-size", "Integer", "bytes", "How much to read of a replica in one request at most.").or("1048576"),
    value("max-wait-ms", "Integer", "ms", "How long a broker may wait for records.").or("1000"),
    value("topics-include", "String", "Java regex (String)", "A regular expression of the topics to look at.").or(".*"),
    value("time", "Long", "timestamp/-1(latest)/-2(earliest)", "Where to begin.").or("-1"),
    value("report-interval-ms", "Long", "ms", "How often to say how it goes.").or("30000"),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

struct Plan {
    fetch_size: i32,
    max_wait_ms: i32,
    start: OffsetSpec,
    interval: Duration,
}

fn execute(args: &[String]) -> Result<(), Stop> {
    log_line("WARN", "This tool is deprecated and may be removed in a future major release.", LOGGER);
    let parsed = opts::parse(OPTIONS, args).map_err(|error| Stop::Usage(error.to_string()))?;
    help_or_version(&parsed, "Validate that all replicas for a set of topics have the same data.")?;
    require(&parsed, &["broker-list"])?;
    let filter = match TopicFilter::new(parsed.value("topics-include")?.unwrap_or(".*")) {
        Ok(filter) => filter,
        Err(wrong) => return thrown(&wrong.class, wrong.message),
    };
    let number = |name: &str| number(&parsed, name);
    let plan = Plan {
        fetch_size: i32::try_from(number("fetch-size")?).unwrap_or(i32::MAX),
        max_wait_ms: i32::try_from(number("max-wait-ms")?).unwrap_or(i32::MAX),
        start: match number("time")? {
            -1 => OffsetSpec::Latest,
            -2 => OffsetSpec::Earliest,
            time => OffsetSpec::Timestamp(time),
        },
        interval: Duration::from_millis(u64::try_from(number("report-interval-ms")?).unwrap_or_default()),
    };
    let mut config = ClientConfig { client_id: "replica-verification".into(), ..Default::default() };
    client_keys::set_client(&mut config, "bootstrap.servers", parsed.value("broker-list")?.unwrap_or_default());
    if config.bootstrap_servers.iter().any(|address| milena_client::parse_address(address).is_err()) {
        return usage("Please provide valid host:port like host1:9091,host2:9092\n");
    }
    tool::block_on(async {
        let client = Client::new(config).map_err(|error| Stop::Message(tool::java_error(&error)))?;
        tokio::select! {
            result = verify(&client, &plan, &filter) => result,
            code = tool::signal() => Err(Stop::Exit(code)),
        }
    })
}

fn number(parsed: &Parsed, name: &str) -> Result<i64, Stop> {
    match parsed.number::<i64>(name) {
        Ok(number) => Ok(number.unwrap_or_default()),
        Err(error) => thrown(error.class(), error),
    }
}

fn failed<T>(error: ClientError) -> Result<T, Stop> {
    thrown(&java::class_of(&error), java::message_of(&error))
}

fn now() -> String {
    jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S,%3f").to_string()
}

/// A batch as far as replicas must agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    last_offset: i64,
    crc: u32,
    size: usize,
}

/// What one replica holds from the common offset on.
struct Replica {
    high_watermark: i64,
    pieces: Vec<Piece>,
}

async fn verify(client: &Client, plan: &Plan, filter: &TopicFilter) -> Result<(), Stop> {
    let admin = Admin::new(client.clone());
    let picture =
        client.retrying("metadata", async || client.refresh_metadata(None, false).await).await.or_else(failed)?;
    let topics: Vec<String> = picture.topics.keys().filter(|topic| filter.matches(topic)).cloned().collect();
    if topics.is_empty() {
        log_line(
            "ERROR",
            "No topics found. [topics-include] if specified, is either filtering out all topics or there is no topic.",
            LOGGER,
        );
        return Err(Stop::Exit(1));
    }
    let mut replicas: BTreeMap<TopicPartition, Vec<i32>> = BTreeMap::new();
    for topic in topics.iter().filter_map(|topic| picture.topics.get(topic)) {
        for p in topic.partitions.iter().filter(|p| p.leader.is_some()) {
            replicas.insert(TopicPartition::new(topic.name.as_str(), p.partition), p.replicas.clone());
        }
    }
    let wanted: Vec<_> = replicas.keys().map(|tp| (tp.clone(), plan.start)).collect();
    let ends: Vec<_> = replicas.keys().map(|tp| (tp.clone(), OffsetSpec::Latest)).collect();
    let mut offsets: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    let latest = admin.list_offsets(&ends).await.or_else(failed)?;
    for (tp, result) in admin.list_offsets(&wanted).await.or_else(failed)? {
        let found = result.or_else(failed)?.offset;
        let end = latest.get(&tp).and_then(|found| found.as_ref().ok()).map_or(0, |found| found.offset);
        offsets.insert(tp, if found < 0 { end } else { found });
    }
    out(format_args!("{}: verification process is started\n", now()));
    let brokers: BTreeSet<i32> = replicas.values().flatten().copied().collect();
    let mut reported = Instant::now();
    let mut worst: Option<(i64, TopicPartition, i64)> = None;
    loop {
        let mut found: BTreeMap<TopicPartition, BTreeMap<i32, Replica>> = BTreeMap::new();
        for broker in &brokers {
            let mine: Vec<&TopicPartition> =
                replicas.iter().filter(|(_, ids)| ids.contains(broker)).map(|(tp, _)| tp).collect();
            match fetch(client, plan, *broker, &mine, &offsets).await {
                Ok(answers) => answers.into_iter().for_each(|(tp, replica)| {
                    found.entry(tp).or_default().insert(*broker, replica);
                }),
                Err(error) => tracing::error!(target: LOGGER,
                    "fetching from broker {broker} failed: {error}"),
            }
        }
        for (tp, answers) in &found {
            let from = offsets.get(tp).copied().unwrap_or_default();
            let (next, lag) = compare(tp, from, answers);
            offsets.insert(tp.clone(), next);
            if worst.as_ref().is_none_or(|(known, ..)| lag > *known) {
                worst = Some((lag, tp.clone(), next));
            }
        }
        if reported.elapsed() >= plan.interval {
            reported = Instant::now();
            if let Some((lag, tp, offset)) = worst.take() {
                out(format_args!(
                    "{}: max lag is {lag} for partition {tp} at offset {offset} among {} partitions\n",
                    now(),
                    offsets.len()
                ));
                tool::flush();
            }
        }
    }
}

/// Compares what replicas hold, says where they differ, and how far they agree; the lag of the slowest.
fn compare(tp: &TopicPartition, from: i64, answers: &BTreeMap<i32, Replica>) -> (i64, i64) {
    let high_watermark = answers.values().map(|replica| replica.high_watermark).max().unwrap_or(from);
    let shortest = answers.values().map(|replica| replica.pieces.len()).min().unwrap_or(0);
    let mut next = from;
    for index in 0..shortest {
        let mut pieces = answers.iter().filter_map(|(broker, replica)| Some((broker, replica.pieces.get(index)?)));
        let Some((first_broker, first)) = pieces.next() else { break };
        if first.last_offset >= high_watermark {
            break;
        }
        for (broker, piece) in pieces {
            if piece.last_offset != first.last_offset {
                out(format_args!(
                    "{}: partition {tp}: replica {first_broker}'s offset {} doesn't match replica {broker}'s offset {}\n",
                    now(),
                    first.last_offset,
                    piece.last_offset
                ));
                return (next, high_watermark - next);
            }
            if piece.crc != first.crc || piece.size != first.size {
                out(format_args!(
                    "{}: partition {tp} has unmatched checksum at offset {}; replica {first_broker}'s checksum {}; replica {broker}'s checksum {}\n",
                    now(),
                    first.last_offset,
                    first.crc,
                    piece.crc
                ));
            }
        }
        next = first.last_offset + 1;
    }
    (next, high_watermark - next)
}

async fn fetch(
    client: &Client,
    plan: &Plan,
    broker: i32,
    partitions: &[&TopicPartition],
    offsets: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, Replica>, ClientError> {
    let connection = client.connection(broker).await?;
    // topics by name; the tool's own kind of replica id is in these versions
    let version = connection.version_of::<FetchRequest>(12)?;
    let mut topics: BTreeMap<&str, Vec<request::FetchPartition>> = BTreeMap::new();
    for tp in partitions {
        topics.entry(&tp.topic).or_default().push(request::FetchPartition {
            partition: tp.partition,
            fetch_offset: offsets.get(*tp).copied().unwrap_or_default(),
            partition_max_bytes: plan.fetch_size,
            ..Default::default()
        });
    }
    let message = FetchRequest {
        replica_id: DEBUGGING_CONSUMER,
        max_wait_ms: plan.max_wait_ms,
        min_bytes: 1,
        max_bytes: i32::MAX,
        topics: topics
            .into_iter()
            .map(|(topic, partitions)| request::FetchTopic { topic: topic.into(), partitions, ..Default::default() })
            .collect(),
        ..Default::default()
    };
    let wait =
        Duration::from_millis(client.config().request_timeout_ms + u64::try_from(plan.max_wait_ms).unwrap_or_default());
    let answer = connection.request_at(&message, version, wait).await?;
    let mut found = BTreeMap::new();
    for topic in answer.responses {
        for mut data in topic.partitions {
            if data.error_code != 0 {
                continue;
            }
            let bytes = data.records.take().and_then(|mut pieces| pieces.pop()).unwrap_or_default();
            let pieces = records::batches(bytes)
                .map_while(Result::ok)
                .map(|batch| Piece { last_offset: batch.last_offset(), crc: batch.crc(), size: batch.size_in_bytes() })
                .collect();
            let tp = TopicPartition::new(topic.topic.as_str(), data.partition_index);
            found.insert(tp, Replica { high_watermark: data.high_watermark, pieces });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(high_watermark: i64, pieces: &[(i64, u32)]) -> Replica {
        let pieces = pieces.iter().map(|(last_offset, crc)| Piece { last_offset: *last_offset, crc: *crc, size: 9 });
        Replica { high_watermark, pieces: pieces.collect() }
    }

    #[test]
    fn replicas_agree_as_far_as_all_of_them_are() {
        let tp = TopicPartition::new("t", 0);
        let answers = BTreeMap::from([(1, replica(6, &[(2, 7), (5, 8)])), (2, replica(6, &[(2, 7)]))]);
        assert_eq!(compare(&tp, 0, &answers), (3, 3));
        let apart = BTreeMap::from([(1, replica(6, &[(2, 7)])), (2, replica(6, &[(3, 7)]))]);
        assert_eq!(compare(&tp, 0, &apart), (0, 6));
    }
}
