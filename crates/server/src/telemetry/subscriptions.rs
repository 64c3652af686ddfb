//! Which metrics are asked of which clients: the `client-metrics` resources of the metadata (KIP-714).
//!
//! Pure. Several subscriptions that match a client are one to it: all their metrics, at the shortest of their intervals. Called by `mod.rs`.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use milena_common::Uuid;
use milena_common::config::ClientMetricsConfig;
use milena_metadata::image::{ConfigsImage, ResourceType};
use milena_metadata::matching_pattern;
use milena_protocol::records::crc32c;
use regex::Regex;

/// Asked for by this name: all metrics.
const ALL_METRICS: &str = "*";
/// The interval of whom no subscription matches, and the longest there is.
const DEFAULT_INTERVAL_MS: u32 = 300_000;

/// A client as subscriptions see it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) instance_id: Uuid,
    pub(crate) client_id: String,
    pub(crate) software_name: String,
    pub(crate) software_version: String,
    pub(crate) address: SocketAddr,
    pub(crate) principal: String,
}

/// What a client is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// Differs whenever the rest does, and from client to client.
    pub(crate) id: i32,
    /// Beginnings of the metrics' names, or `*`; none asks for nothing.
    pub(crate) metrics: Vec<String>,
    pub(crate) interval_ms: u32,
}

/// All subscriptions, as of one image.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Grows with every change.
    pub(super) version: u64,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    metrics: Vec<String>,
    interval_ms: u32,
    /// A selector, and what its value must match as a whole; `None` matches nothing.
    selectors: Vec<(String, Option<Regex>)>,
}

impl Subscriptions {
    pub(super) fn new(version: u64, image: &ConfigsImage) -> Subscriptions {
        let ours = image.iter().filter(|(resource, _)| resource.kind == ResourceType::ClientMetrics);
        let rows = ours.filter_map(|(resource, settings)| {
            // the controller has checked them
            let config = ClientMetricsConfig::validate(settings);
            let row = config.and_then(|config| Row::new(&config));
            row.inspect_err(
                |error| tracing::warn!(name = resource.name, %error, "a client-metrics subscription is ignored"),
            )
            .ok()
        });
        Subscriptions { version, rows: rows.collect() }
    }

    pub(super) fn of(&self, client: &Client) -> Subscription {
        let matching: Vec<&Row> = self.rows.iter().filter(|row| row.matches(client)).collect();
        let mut metrics: BTreeSet<&str> = matching.iter().flat_map(|row| &row.metrics).map(String::as_str).collect();
        if metrics.contains(ALL_METRICS) {
            metrics = BTreeSet::from([ALL_METRICS]);
        }
        let intervals = matching.iter().map(|row| row.interval_ms);
        let interval_ms = intervals.min().unwrap_or(DEFAULT_INTERVAL_MS).min(DEFAULT_INTERVAL_MS);
        let metrics: Vec<String> = metrics.into_iter().map(str::to_owned).collect();
        Subscription { id: id(&metrics, interval_ms, client.instance_id), metrics, interval_ms }
    }
}

/// As Kafka computes it, so that brokers agree.
fn id(metrics: &[String], interval_ms: u32, instance_id: Uuid) -> i32 {
    let halves = instance_id.to_u128();
    let folded = (halves >> 64) as u64 ^ halves as u64;
    let hash = (folded >> 32) as u32 ^ folded as u32;
    (crc32c(format!("[{}]{interval_ms}", metrics.join(", ")).as_bytes()) ^ hash) as i32
}

impl Row {
    fn new(config: &ClientMetricsConfig) -> Result<Row, milena_common::ConfigError> {
        let selectors = config.selectors()?;
        let compile = |pattern: &str| {
            // Kafka may have recorded what this controller would refuse
            let compiled = matching_pattern(pattern);
            if compiled.is_none() {
                tracing::warn!(pattern, "a client matching pattern matches nobody");
            }
            compiled
        };
        Ok(Row {
            metrics: config.metrics.clone(),
            interval_ms: u32::try_from(config.interval_ms).unwrap_or(DEFAULT_INTERVAL_MS),
            selectors: selectors.into_iter().map(|(name, pattern)| (name.to_owned(), compile(pattern))).collect(),
        })
    }

    fn matches(&self, client: &Client) -> bool {
        self.selectors.iter().all(|(selector, pattern)| {
            let value = match selector.as_str() {
                "client_id" => client.client_id.clone(),
                "client_instance_id" => client.instance_id.to_string(),
                "client_software_name" => client.software_name.clone(),
                "client_software_version" => client.software_version.clone(),
                "client_source_address" => client.address.ip().to_string(),
                "client_source_port" => client.address.port().to_string(),
                _ => return false,
            };
            pattern.as_ref().is_some_and(|pattern| pattern.is_match(&value))
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use milena_common::StateMachine as _;
    use milena_metadata::image::MetadataImage;
    use milena_protocol::stored::metadata::{ConfigRecord, MetadataRecord};

    use super::*;

    pub(crate) fn client(instance_id: Uuid) -> Client {
        Client {
            instance_id,
            client_id: "app-1".to_owned(),
            software_name: "apache-kafka-java".to_owned(),
            software_version: "4.3.1".to_owned(),
            address: "10.1.2.3:5000".parse().expect("an address"),
            principal: "User:ANONYMOUS".to_owned(),
        }
    }

    pub(crate) fn subscriptions(version: u64, given: &[(&str, &str, &str)]) -> Subscriptions {
        let mut image = MetadataImage::default();
        for (offset, (resource, name, value)) in (0..).zip(given) {
            let record = ConfigRecord {
                resource_type: ResourceType::ClientMetrics as i8,
                resource_name: (*resource).to_owned(),
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
            };
            image.replay(offset, &MetadataRecord::Config(record));
        }
        Subscriptions::new(version, &image.configs)
    }

    #[test]
    fn every_selector_must_match_as_a_whole() {
        let client = client(Uuid::from_u128(1 << 100));
        let id = client.instance_id.to_string();
        let id_is = format!("client_instance_id={id}");
        let rows: &[(&str, bool)] = &[
            ("", true),
            ("client_id=app.*", true),
            ("client_id=app", false),
            ("client_id=app-1,client_software_name=apache-kafka-java", true),
            ("client_id=app-1,client_software_name=librdkafka", false),
            ("client_software_version=4\\..*", true),
            ("client_source_address=10\\.1\\.2\\.3", true),
            ("client_source_address=10.1", false),
            ("client_source_port=5000|6000", true),
            ("client_source_port=500", false),
            (&id_is, true),
            ("client_instance_id=x", false),
        ];
        for (pattern, expected) in rows {
            let all = subscriptions(1, &[("s", "metrics", "m"), ("s", "match", pattern)]);
            assert_eq!(all.of(&client).metrics == ["m"], *expected, "{pattern}");
        }
    }

    /// What Kafka 4.3.1 told this client for these subscriptions.
    #[test]
    fn ids_are_those_of_kafka() {
        let rows: [(u8, &[&str], u32, i32); 5] = [
            (16, &[], 300_000, -725_132_338),
            (16, &["*"], 1000, 848_016_041),
            (30, &[], 300_000, -725_132_352),
            (30, &["*"], 300_000, 1_012_207_421),
            (30, &["a.b", "c.d"], 300_000, -2_018_176_346),
        ];
        for (last, metrics, interval_ms, expected) in rows {
            let instance = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f00 | u128::from(last));
            let metrics: Vec<String> = metrics.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(id(&metrics, interval_ms, instance), expected, "{metrics:?}");
        }
    }

    #[test]
    fn several_subscriptions_are_one() {
        let id = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let given = [
            ("a", "metrics", "org.x,org.y"),
            ("a", "interval.ms", "2000"),
            ("b", "metrics", "org.y,org.z"),
            ("b", "interval.ms", "1000"),
            ("c", "match", "client_id=other"),
            ("c", "interval.ms", "100"),
            ("c", "metrics", "*"),
        ];
        let of = |given: &[_]| subscriptions(1, given).of(&client(id));
        let both = of(&given);
        assert_eq!((both.metrics, both.interval_ms), (vec!["org.x".into(), "org.y".into(), "org.z".into()], 1000));
        let all = [("d", "metrics", "*")];
        let everything = of(&[&given[..], &all].concat());
        assert_eq!(everything.metrics, ["*"]);
        let none = of(&[("a", "match", "client_id=other"), ("a", "metrics", "*")]);
        assert_eq!((none.metrics, none.interval_ms), (vec![], 300_000));
        // a long interval is cut
        assert_eq!(of(&[("a", "interval.ms", "3600000")]).interval_ms, 300_000);
    }
}
