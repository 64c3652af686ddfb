//! A topic's configuration: its own settings over the broker's defaults, whose keys have other names and sometimes other units.
//!
//! Used by the controller (to check what a client asks for), by the log (typed values) and by DescribeConfigs (the synonyms).

use std::collections::BTreeMap;

use super::broker_keys::BrokerConfig;
use crate::ConfigError;

pub use super::topic_keys::TopicConfig;

/// Topic key -> the broker key that holds its default. Keys that are absent have no broker-side default.
pub(crate) const BROKER_SYNONYMS: &[(&str, &str)] = &[
    ("ack.durability", "log.ack.durability"),
    ("cleanup.policy", "log.cleanup.policy"),
    ("compression.gzip.level", "compression.gzip.level"),
    ("compression.lz4.level", "compression.lz4.level"),
    ("compression.type", "compression.type"),
    ("compression.zstd.level", "compression.zstd.level"),
    ("delete.retention.ms", "log.cleaner.delete.retention.ms"),
    ("file.delete.delay.ms", "log.segment.delete.delay.ms"),
    ("flush.messages", "log.flush.interval.messages"),
    ("flush.ms", "log.flush.interval.ms"),
    ("index.interval.bytes", "log.index.interval.bytes"),
    ("local.retention.bytes", "log.local.retention.bytes"),
    ("local.retention.ms", "log.local.retention.ms"),
    ("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"),
    ("max.message.bytes", "message.max.bytes"),
    ("message.downconversion.enable", "log.message.downconversion.enable"),
    ("message.format.version", "log.message.format.version"),
    ("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms"),
    ("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms"),
    ("message.timestamp.difference.max.ms", "log.message.timestamp.difference.max.ms"),
    ("message.timestamp.type", "log.message.timestamp.type"),
    ("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio"),
    ("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms"),
    ("min.insync.replicas", "min.insync.replicas"),
    ("preallocate", "log.preallocate"),
    ("retention.bytes", "log.retention.bytes"),
    ("retention.ms", "log.retention.ms"),
    ("segment.bytes", "log.segment.bytes"),
    ("segment.index.bytes", "log.index.size.max.bytes"),
    ("segment.jitter.ms", "log.roll.jitter.ms"),
    ("segment.ms", "log.roll.ms"),
    ("unclean.leader.election.enable", "unclean.leader.election.enable"),
];

/// The broker key that holds a topic key's default.
pub(crate) fn broker_synonym(topic_key: &str) -> Option<&'static str> {
    BROKER_SYNONYMS
        .binary_search_by(|(t, _)| (*t).cmp(topic_key))
        .ok()
        .and_then(|i| BROKER_SYNONYMS.get(i))
        .map(|(_, b)| *b)
}

impl TopicConfig {
    /// The broker's defaults with a topic's own settings on top. Unknown keys are kept in `originals` and otherwise ignored,
    /// so that a log written by a newer release still loads.
    pub fn from_overrides(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut texts = broker_defaults(broker);
        texts.extend(overrides.iter().map(|(k, v)| (k.clone(), v.clone())));
        let mut config = Self::parse(texts)?;
        if let Some(bytes) = config.internal_segment_bytes {
            config.segment_bytes = bytes;
        }
        config.originals = overrides.clone();
        Ok(config)
    }

    /// What a client wants to set: like `from_overrides`, but an unknown key is an error and so is a contradiction.
    pub fn validate(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        if let Some(key) = overrides.keys().find(|k| Self::key(k).is_none()) {
            return Err(ConfigError::UnknownKey { resource: "topic", key: key.clone() });
        }
        let config = Self::from_overrides(broker, overrides)?;
        let (min, max) = (config.min_compaction_lag_ms, config.max_compaction_lag_ms);
        if min > max {
            let what =
                format!("conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})");
            return Err(ConfigError::Conflict(what));
        }
        if config.remote_storage_enable {
            if !broker.remote_log_storage_system_enable {
                return Err(ConfigError::Conflict(
                    "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
                        .to_owned(),
                ));
            }
            remote(&config)?;
        }
        Ok(config)
    }
}

/// What tiered storage asks of the rest of a topic's keys.
fn remote(c: &TopicConfig) -> Result<(), ConfigError> {
    let local = |key: &str, local: i64, total_key: &str, total: i64| match local {
        -2 => Ok(()),
        -1 if total != -1 => Err(ConfigError::invalid(
            key,
            local,
            format!("Value must not be -1 as {total_key} value is set as {total}."),
        )),
        _ if total != -1 && local > total => {
            Err(ConfigError::invalid(key, local, format!("Value must not be more than property: {total_key} value.")))
        }
        _ => Ok(()),
    };
    local("local.retention.ms", c.local_retention_ms, "retention.ms", c.retention_ms)?;
    local("local.retention.bytes", c.local_retention_bytes, "retention.bytes", c.retention_bytes)
}

/// The texts of every topic key as this broker's configuration gives them.
pub(crate) fn broker_defaults(broker: &BrokerConfig) -> BTreeMap<String, String> {
    let text = |topic_key: &str, broker_key: &str| match topic_key {
        "retention.ms" => Some(broker.retention_ms().to_string()),
        "segment.ms" => Some(broker.roll_ms().to_string()),
        "segment.jitter.ms" => Some(broker.roll_jitter_ms().to_string()),
        "flush.ms" => Some(broker.flush_ms().to_string()),
        _ => broker
            .originals
            .get(broker_key)
            .cloned()
            .or_else(|| BrokerConfig::key(broker_key)?.default.map(str::to_owned)),
    };
    BROKER_SYNONYMS.iter().filter_map(|(t, b)| Some(((*t).to_owned(), text(t, b)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AckDurability, CleanupPolicy};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn topic(broker: &[(&str, &str)], overrides: &[(&str, &str)]) -> Result<TopicConfig, ConfigError> {
        TopicConfig::validate(&BrokerConfig::parse(map(broker))?, &map(overrides))
    }

    #[test]
    fn synonyms_are_known_keys_in_order() {
        assert!(BROKER_SYNONYMS.is_sorted());
        for (topic, broker) in BROKER_SYNONYMS {
            assert!(TopicConfig::key(topic).is_some() && BrokerConfig::key(broker).is_some(), "{topic} {broker}");
        }
    }

    #[test]
    fn the_finest_unit_of_the_broker_wins_and_the_topic_wins_over_it() {
        assert_eq!(topic(&[], &[]).unwrap().retention_ms, 168 * 3_600_000);
        assert_eq!(topic(&[("log.retention.hours", "1")], &[]).unwrap().retention_ms, 3_600_000);
        assert_eq!(
            topic(&[("log.retention.hours", "1"), ("log.retention.minutes", "2")], &[]).unwrap().retention_ms,
            120_000
        );
        assert_eq!(topic(&[("log.retention.ms", "-1"), ("log.retention.minutes", "2")], &[]).unwrap().retention_ms, -1);
        assert_eq!(topic(&[("log.retention.ms", "5")], &[("retention.ms", "7")]).unwrap().retention_ms, 7);
        assert_eq!(topic(&[("log.roll.hours", "2")], &[]).unwrap().segment_ms, 7_200_000);
        assert_eq!(topic(&[("log.flush.scheduler.interval.ms", "9")], &[]).unwrap().flush_ms, 9);
    }

    #[test]
    fn values_are_typed() {
        let t = topic(
            &[("log.ack.durability", "page-cache")],
            &[("cleanup.policy", "compact,delete"), ("internal.segment.bytes", "100")],
        )
        .unwrap();
        assert_eq!(t.cleanup_policy, CleanupPolicy { compact: true, delete: true });
        assert_eq!(t.ack_durability, AckDurability::PageCache);
        assert_eq!(t.segment_bytes, 100);
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |overrides: &[(&str, &str)]| topic(&[], overrides).unwrap_err().to_string();
        assert_eq!(refused(&[("nope", "1")]), "Unknown topic config name: nope");
        assert_eq!(
            refused(&[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "4")]),
            "conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (4)"
        );
    }
}
