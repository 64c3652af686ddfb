//! What a client may change while the cluster runs: settings of brokers and client-metrics subscriptions, checked before they
//! are recorded. Topics and groups have their own `validate`. Errors in Kafka's words.

use std::collections::BTreeMap;

use super::broker_keys::BrokerConfig;
use super::client_metrics_keys::ClientMetricsConfig;
use super::def::Scope;
use crate::ConfigError;

/// Security keys that may change only for one listener, as `listener.name.<listener>.<key>`.
const PER_LISTENER_ONLY: [&str; 10] = [
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

/// The key under a listener's prefix: `listener.name.ssl.ssl.key.password` is `ssl.key.password`, with a SASL mechanism in between
/// or not.
pub(crate) fn base_key(name: &str) -> &str {
    let Some((_, rest)) = name.strip_prefix("listener.name.").and_then(|rest| rest.split_once('.')) else {
        return name;
    };
    let without_mechanism = rest.split_once('.').map(|(_, base)| base);
    match without_mechanism.filter(|base| BrokerConfig::key(rest).is_none() && BrokerConfig::key(base).is_some()) {
        Some(base) => base,
        None => rest,
    }
}

impl BrokerConfig {
    /// Checks new dynamic settings of one broker (`one_broker`) or of all. `self` is the file's configuration. Unknown keys are
    /// allowed: they belong to plug-ins.
    pub fn validate_dynamic(&self, settings: &BTreeMap<String, String>, one_broker: bool) -> Result<(), ConfigError> {
        let refuse = |what: &str, names: Vec<&str>| match names.is_empty() {
            true => Ok(()),
            false => Err(ConfigError::Conflict(format!("{what}: [{}]", names.join(", ")))),
        };
        let scoped = |scope: Scope| {
            let of_scope = |name: &&str| Self::key(base_key(name)).is_some_and(|k| k.scope == scope);
            settings.keys().map(String::as_str).filter(of_scope).collect()
        };
        refuse("Cannot update these configs dynamically", scoped(Scope::ReadOnly))?;
        let names = settings.keys().map(String::as_str);
        refuse(
            "These security configs can be dynamically updated only per-listener using the listener prefix",
            names.filter(|name| PER_LISTENER_ONLY.contains(name)).collect(),
        )?;
        if !one_broker {
            let what = "Cannot update these configs at default cluster level, broker id must be specified";
            refuse(what, scoped(Scope::PerBroker))?;
        }
        for (name, text) in settings {
            if let Some(key) = Self::key(base_key(name)) {
                key.parse(text)?;
            }
        }
        self.with_dynamic(&BTreeMap::new(), settings).map(|_| ())
    }
}

impl ClientMetricsConfig {
    /// Checks the settings of a subscription (KIP-714), but for the syntax of its patterns.
    pub fn validate(settings: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        Self::check_names(settings)?;
        let config = Self::parse(settings.clone())?;
        config.check_interval()?;
        config.selectors()?;
        Ok(config)
    }

    pub fn check_names(settings: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        match settings.keys().find(|name| Self::key(name).is_none()) {
            Some(name) => Err(ConfigError::Conflict(format!("Unknown client metrics configuration: {name}"))),
            None => Ok(()),
        }
    }

    pub fn check_interval(&self) -> Result<(), ConfigError> {
        let interval_ms = self.interval_ms;
        match (100..=3_600_000).contains(&interval_ms) {
            true => Ok(()),
            false => Err(ConfigError::Conflict(format!(
                "Invalid value {interval_ms} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
            ))),
        }
    }

    /// The pairs (selector, pattern) of `match`.
    pub fn selectors(&self) -> Result<Vec<(&str, &str)>, ConfigError> {
        const SELECTORS: [&str; 6] = [
            "client_id",
            "client_instance_id",
            "client_software_name",
            "client_software_version",
            "client_source_address",
            "client_source_port",
        ];
        let mut pairs = Vec::new();
        for entry in &self.match_patterns {
            let pair = entry.split_once('=').map(|(name, pattern)| (name.trim(), pattern.trim()));
            let is_pair = |(name, pattern): &(&str, &str)| {
                SELECTORS.contains(name) && !pattern.is_empty() && !pattern.trim_end_matches('=').contains('=')
            };
            match pair.filter(is_pair) {
                Some(pair) => pairs.push(pair),
                None => return Err(ConfigError::Conflict(format!("Illegal client matching pattern: {entry}"))),
            }
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// Every answer is that of Apache Kafka 4.3.1 to kafka-configs.sh.
    #[test]
    fn brokers_answer_as_kafka_does() {
        let file = include_str!("../../../../config/server.properties");
        let config = BrokerConfig::from_properties(super::super::properties::parse(file).unwrap()).unwrap();
        let rows: &[(&str, &str, bool, &str)] = &[
            ("node.id", "2", true, "Cannot update these configs dynamically: [node.id]"),
            ("node.id", "5", false, "Cannot update these configs dynamically: [node.id]"),
            (
                "listeners",
                "PLAINTEXT://:1",
                false,
                "Cannot update these configs at default cluster level, broker id must be specified: [listeners]",
            ),
            (
                "num.io.threads",
                "abc",
                true,
                "Invalid value abc for configuration num.io.threads: Not a number of type INT",
            ),
            (
                "message.max.bytes",
                "-1",
                true,
                "Invalid value -1 for configuration message.max.bytes: Value must be at least 0",
            ),
            ("foo.bar", "1", true, "ok"),
            (
                "ssl.keystore.location",
                "/x",
                true,
                "These security configs can be dynamically updated only per-listener using the listener prefix: [ssl.keystore.location]",
            ),
            ("listener.name.ssl.ssl.keystore.location", "/x", true, "ok"),
            ("listener.name.x.scram-sha-256.sasl.jaas.config", "secret", true, "ok"),
            ("log.retention.ms", "0", true, "log.retention.ms must be unlimited (-1) or, greater than or equal to 1"),
            ("log.retention.ms", "5", false, "ok"),
        ];
        for (name, value, one_broker, expected) in rows {
            let answer = config.validate_dynamic(&map(&[(name, value)]), *one_broker);
            assert_eq!(answer.map_or_else(|e| e.to_string(), |()| "ok".to_owned()), *expected, "{name}={value}");
        }
    }

    #[test]
    fn client_metrics_answer_as_kafka_does() {
        let rows: &[(&str, &str, &str)] = &[
            ("interval.ms", "1", "Invalid value 1 for interval.ms, interval must be between 100 and 3600000 (1 hour)"),
            ("match", "foo", "Illegal client matching pattern: foo"),
            ("match", "foo=bar", "Illegal client matching pattern: foo=bar"),
            ("match", "client_id=a=b", "Illegal client matching pattern: client_id=a=b"),
            ("match", "client_id=a,", "Configuration 'match' values must not be empty."),
            ("match", "client_id=a.*, client_software_name=b", "ok"),
            ("foo", "1", "Unknown client metrics configuration: foo"),
            ("metrics", "org.apache.kafka.", "ok"),
        ];
        for (name, value, expected) in rows {
            let answer = ClientMetricsConfig::validate(&map(&[(name, value)]));
            assert_eq!(answer.map_or_else(|e| e.to_string(), |_| "ok".to_owned()), *expected, "{name}={value}");
        }
    }

    #[test]
    fn listener_prefixes_are_taken_off() {
        assert_eq!(base_key("listener.name.ssl.ssl.key.password"), "ssl.key.password");
        assert_eq!(base_key("listener.name.x.scram-sha-256.sasl.jaas.config"), "sasl.jaas.config");
        assert_eq!(base_key("log.dirs"), "log.dirs");
    }
}
