//! The settings of clients by Kafka's keys: which there are, what values they take, and what they mean to our client.
//!
//! Owns the checks in the words of Kafka's `ConfigException`, whose message every function here gives as its error. A key that nobody
//! knows is left alone, as Kafka does. Called by every tool that makes a producer or a consumer.

use milena_client::consumer::OffsetReset;
use milena_client::consumer::assignor::Assignor;
use milena_client::{ClientConfig, ConsumerConfig, ProducerConfig};
use milena_protocol::records::Compression;

/// The exception whose messages these are.
pub(crate) const CONFIG_EXCEPTION: &str = "org.apache.kafka.common.config.ConfigException";

#[derive(Clone, Copy)]
enum Kind {
    Int,
    Long,
    Boolean,
}

/// The keys whose values are not free text, with the least value.
const TYPED: &[(&str, Kind, i64)] = &[
    ("allow.auto.create.topics", Kind::Boolean, 0),
    ("auto.commit.interval.ms", Kind::Int, 0),
    ("batch.size", Kind::Int, 0),
    ("bootstrap.resolve.timeout.ms", Kind::Long, 0),
    ("buffer.memory", Kind::Long, 0),
    ("check.crcs", Kind::Boolean, 0),
    ("connections.max.idle.ms", Kind::Long, i64::MIN),
    ("default.api.timeout.ms", Kind::Int, 0),
    ("delivery.timeout.ms", Kind::Int, 0),
    ("enable.auto.commit", Kind::Boolean, 0),
    ("enable.idempotence", Kind::Boolean, 0),
    ("enable.metrics.push", Kind::Boolean, 0),
    ("exclude.internal.topics", Kind::Boolean, 0),
    ("fetch.max.bytes", Kind::Int, 0),
    ("fetch.max.wait.ms", Kind::Int, 0),
    ("fetch.min.bytes", Kind::Int, 0),
    ("heartbeat.interval.ms", Kind::Int, i64::MIN),
    ("linger.ms", Kind::Long, 0),
    ("max.block.ms", Kind::Long, 0),
    ("max.in.flight.requests.per.connection", Kind::Int, 1),
    ("max.partition.fetch.bytes", Kind::Int, 0),
    ("max.poll.interval.ms", Kind::Int, 1),
    ("max.poll.records", Kind::Int, 1),
    ("max.request.size", Kind::Int, 0),
    ("metadata.cluster.check.enable", Kind::Boolean, 0),
    ("metadata.max.age.ms", Kind::Long, 0),
    ("metadata.max.idle.ms", Kind::Long, 5_000),
    ("metadata.recovery.rebootstrap.trigger.ms", Kind::Long, 0),
    ("metrics.num.samples", Kind::Int, 1),
    ("metrics.sample.window.ms", Kind::Long, 0),
    ("partitioner.adaptive.partitioning.enable", Kind::Boolean, 0),
    ("partitioner.availability.timeout.ms", Kind::Long, 0),
    ("partitioner.ignore.keys", Kind::Boolean, 0),
    ("partitioner.rack.aware", Kind::Boolean, 0),
    ("receive.buffer.bytes", Kind::Int, -1),
    ("reconnect.backoff.max.ms", Kind::Long, 0),
    ("reconnect.backoff.ms", Kind::Long, 0),
    ("request.timeout.ms", Kind::Int, 0),
    ("retries", Kind::Int, 0),
    ("retry.backoff.max.ms", Kind::Long, 0),
    ("retry.backoff.ms", Kind::Long, 0),
    ("send.buffer.bytes", Kind::Int, -1),
    ("session.timeout.ms", Kind::Int, i64::MIN),
    ("socket.connection.setup.timeout.max.ms", Kind::Long, i64::MIN),
    ("socket.connection.setup.timeout.ms", Kind::Long, i64::MIN),
    ("transaction.timeout.ms", Kind::Int, i64::MIN),
    ("transaction.two.phase.commit.enable", Kind::Boolean, 0),
];

fn invalid(key: &str, text: &str, allowed: &str) -> String {
    format!("Invalid value {text} for configuration {key}: {allowed}")
}

/// Refuses a value that is not of the key's type or below its least.
fn check(key: &str, text: &str) -> Result<(), String> {
    let Ok(at) = TYPED.binary_search_by_key(&key, |(name, ..)| name) else {
        return Ok(());
    };
    let (_, kind, least) = TYPED[at];
    let text = text.trim();
    let number = match kind {
        Kind::Boolean if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => return Ok(()),
        Kind::Boolean => return Err(invalid(key, text, "Expected value to be either true or false")),
        Kind::Int => match text.parse::<i32>() {
            Ok(number) => i64::from(number),
            Err(_) => return Err(invalid(key, text, "Not a number of type INT")),
        },
        Kind::Long => match text.parse::<i64>() {
            Ok(number) => number,
            Err(_) => return Err(invalid(key, text, "Not a number of type LONG")),
        },
    };
    if number < least {
        return Err(invalid(key, text, &format!("Value must be at least {least}")));
    }
    Ok(())
}

fn one_of(key: &str, text: &str, allowed: &[&str]) -> Result<(), String> {
    if allowed.contains(&text) {
        return Ok(());
    }
    Err(invalid(key, text, &format!("String must be one of: {}", allowed.join(", "))))
}

fn yes(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("true")
}

/// Sets the keys that mean something to every client; the value was checked.
pub(crate) fn set_client(config: &mut ClientConfig, key: &str, text: &str) {
    let number = || text.trim().parse::<u64>().ok();
    let set = |place: &mut u64| *place = number().unwrap_or(*place);
    match key {
        "bootstrap.servers" => {
            config.bootstrap_servers =
                text.split(',').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect();
        }
        "client.id" => config.client_id = text.to_string(),
        "request.timeout.ms" => set(&mut config.request_timeout_ms),
        "default.api.timeout.ms" => set(&mut config.api_timeout_ms),
        "retry.backoff.ms" => set(&mut config.retry_backoff_ms),
        "retry.backoff.max.ms" => set(&mut config.retry_backoff_max_ms),
        "metadata.max.age.ms" => set(&mut config.metadata_max_age_ms),
        "socket.connection.setup.timeout.ms" => set(&mut config.connect_timeout_ms),
        "client.rack" => config.rack = (!text.is_empty()).then(|| text.to_string()),
        _ => {}
    }
}

/// Sets one producer key.
pub(crate) fn set_producer(config: &mut ProducerConfig, key: &str, text: &str) -> Result<(), String> {
    check(key, text)?;
    let number = || text.trim().parse::<u64>().unwrap_or_default();
    let size = || usize::try_from(number()).unwrap_or(usize::MAX);
    match key {
        "acks" => {
            one_of(key, text, &["all", "-1", "0", "1"])?;
            config.acks = text.parse().unwrap_or(-1);
        }
        "compression.type" => match Compression::from_name(text).filter(|_| text != "uncompressed") {
            Some(compression) => config.compression = compression,
            None => return one_of(key, text, &["none", "gzip", "snappy", "lz4", "zstd"]),
        },
        "enable.idempotence" => config.idempotent = yes(text),
        "retries" => config.retries = u32::try_from(number()).unwrap_or(u32::MAX),
        "linger.ms" => config.linger_ms = number(),
        "batch.size" => config.batch_size = size(),
        "buffer.memory" => config.buffer_memory = size(),
        "max.request.size" => config.max_request_size = size(),
        "max.block.ms" => config.max_block_ms = number(),
        "delivery.timeout.ms" => config.delivery_timeout_ms = number(),
        "transactional.id" => config.transactional_id = (!text.is_empty()).then(|| text.to_string()),
        "transaction.timeout.ms" => config.transaction_timeout_ms = text.trim().parse().unwrap_or(60_000),
        _ => set_client(&mut config.client, key, text),
    }
    Ok(())
}

/// A producer's settings from `properties`, the last of a key counting.
pub(crate) fn producer(client_id: &str, properties: &[(String, String)]) -> Result<ProducerConfig, String> {
    let mut config = ProducerConfig::default();
    config.client.client_id = client_id.into();
    for (key, text) in properties {
        set_producer(&mut config, key, text)?;
    }
    let given = |key: &str| properties.iter().any(|(known, _)| known == key);
    let wants_idempotence = given("enable.idempotence") && config.idempotent;
    if config.acks != -1 && (wants_idempotence || config.transactional_id.is_some()) {
        return Err(
            "Must set acks to all in order to use the idempotent producer. Otherwise we cannot guarantee idempotence."
                .into(),
        );
    }
    if !config.idempotent && config.transactional_id.is_some() {
        return Err("Cannot set a transactional.id without also enabling idempotence.".into());
    }
    let needed = config.linger_ms.saturating_add(config.client.request_timeout_ms);
    if config.delivery_timeout_ms < needed {
        if given("delivery.timeout.ms") {
            return Err("delivery.timeout.ms should be equal to or larger than linger.ms + request.timeout.ms".into());
        }
        config.delivery_timeout_ms = needed;
    }
    Ok(config)
}

/// Sets one consumer key.
pub(crate) fn set_consumer(config: &mut ConsumerConfig, key: &str, text: &str) -> Result<(), String> {
    check(key, text)?;
    let number = || text.trim().parse::<u64>().unwrap_or_default();
    let int = || text.trim().parse::<i32>().unwrap_or_default();
    match key {
        "group.id" => config.group_id = Some(text.to_string()),
        "group.instance.id" => config.group_instance_id = Some(text.to_string()),
        "auto.offset.reset" => {
            let reset = match text.strip_prefix("by_duration:") {
                None => match text {
                    "earliest" => Some(OffsetReset::Earliest),
                    "latest" => Some(OffsetReset::Latest),
                    "none" => Some(OffsetReset::None),
                    _ => None,
                },
                Some(duration) => duration_ms(duration).map(OffsetReset::ByDuration),
            };
            match reset {
                Some(reset) => config.auto_offset_reset = reset,
                None => {
                    return Err(invalid(
                        key,
                        text,
                        &format!(
                            "Invalid value `{text}` for configuration auto.offset.reset. The value must be either 'earliest', 'latest', 'none' or of the format 'by_duration:<PnDTnHnMn.nS.>'."
                        ),
                    ));
                }
            }
        }
        "enable.auto.commit" => config.enable_auto_commit = yes(text),
        "auto.commit.interval.ms" => config.auto_commit_interval_ms = number(),
        "session.timeout.ms" => config.session_timeout_ms = number(),
        "heartbeat.interval.ms" => config.heartbeat_interval_ms = number(),
        "max.poll.interval.ms" => config.max_poll_interval_ms = number(),
        "max.poll.records" => config.max_poll_records = usize::try_from(number()).unwrap_or(usize::MAX),
        "fetch.min.bytes" => config.fetch_min_bytes = int(),
        "fetch.max.bytes" => config.fetch_max_bytes = int(),
        "max.partition.fetch.bytes" => config.max_partition_fetch_bytes = int(),
        "fetch.max.wait.ms" => config.fetch_max_wait_ms = number(),
        "check.crcs" => config.check_crcs = yes(text),
        "allow.auto.create.topics" => config.allow_auto_create_topics = yes(text),
        "isolation.level" => {
            one_of(key, text, &["read_committed", "read_uncommitted"])?;
            config.read_committed = text == "read_committed";
        }
        "group.protocol" => match text.to_ascii_lowercase().as_str() {
            "classic" => config.consumer_protocol = false,
            "consumer" => config.consumer_protocol = true,
            _ => return Err(invalid(key, text, "String must be one of (case insensitive): CONSUMER, CLASSIC")),
        },
        "group.remote.assignor" => config.remote_assignor = (!text.is_empty()).then(|| text.to_string()),
        "partition.assignment.strategy" => {
            let mut assignors = Vec::new();
            for class in text.split(',').map(str::trim).filter(|class| !class.is_empty()) {
                match assignor(class) {
                    Some(assignor) => assignors.push(assignor),
                    None => return Err(format!("Class {class} cannot be found")),
                }
            }
            if !assignors.is_empty() {
                config.assignors = assignors;
            }
        }
        _ => set_client(&mut config.client, key, text),
    }
    Ok(())
}

/// The assignor that a Java class stands for.
pub(crate) fn assignor(class: &str) -> Option<Assignor> {
    let name = class.strip_prefix("org.apache.kafka.clients.consumer.").unwrap_or(class);
    Some(match name {
        "RangeAssignor" => Assignor::Range,
        "RoundRobinAssignor" => Assignor::RoundRobin,
        "StickyAssignor" => Assignor::Sticky,
        "CooperativeStickyAssignor" => Assignor::CooperativeSticky,
        _ => return None,
    })
}

/// `PnDTnHnMn.nS` in milliseconds; none if it is something else or negative.
fn duration_ms(text: &str) -> Option<u64> {
    let span: jiff::Span = text.parse().ok()?;
    if span.get_years() != 0 || span.get_months() != 0 || span.get_weeks() != 0 {
        return None;
    }
    let days = i64::from(span.get_days()).checked_mul(86_400_000)?;
    let rest = span.days(0).total(jiff::Unit::Millisecond).ok()?;
    u64::try_from(days.checked_add(rest as i64)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_keys_are_sorted_for_the_search() {
        assert!(TYPED.is_sorted_by_key(|(name, ..)| name));
    }

    #[test]
    fn refusals_have_kafkas_words() {
        let producer = |key: &str, text: &str| producer("c", &[(key.to_string(), text.to_string())]).unwrap_err();
        assert_eq!(
            producer("linger.ms", "x"),
            "Invalid value x for configuration linger.ms: Not a number of type LONG"
        );
        assert_eq!(
            producer("acks", "7"),
            "Invalid value 7 for configuration acks: String must be one of: all, -1, 0, 1"
        );
        assert_eq!(
            producer("batch.size", "-1"),
            "Invalid value -1 for configuration batch.size: Value must be at least 0"
        );
        let mut config = ConsumerConfig::default();
        assert!(set_consumer(&mut config, "check.crcs", "maybe").is_err());
        set_consumer(&mut config, "auto.offset.reset", "by_duration:P1DT1S").unwrap();
        assert_eq!(config.auto_offset_reset, OffsetReset::ByDuration(86_401_000));
    }

    #[test]
    fn weaker_acks_and_transactions_exclude_each_other() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
        };
        assert!(producer("c", &pairs(&[("acks", "1"), ("transactional.id", "t")])).is_err());
        assert!(producer("c", &pairs(&[("acks", "1")])).is_ok());
    }
}
