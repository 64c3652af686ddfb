//! The tables against what Apache Kafka answers to DescribeConfigs: every key, with type, default, source, marks and synonyms.
//!
//! `golden/configs-<release>.tsv` is the whole answer of a broker of that release for itself and for one topic.

use std::collections::{BTreeMap, BTreeSet};

use milena_common::config::describe::{self, BrokerLayers, ConfigEntry, Settings};
use milena_common::config::{BrokerConfig, ClientMetricsConfig, ConfigKey, GroupConfig, TopicConfig};

struct Row {
    topic: bool,
    name: String,
    value: String,
    ty: String,
    source: String,
    read_only: bool,
    sensitive: bool,
    synonyms: String,
}

fn rows(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let c: Vec<&str> = line.split('\t').collect();
        let [resource, name, value, ty, source, read_only, sensitive, synonyms] = c[..] else {
            panic!("bad row {line}")
        };
        Row {
            topic: resource == "TOPIC",
            name: name.into(),
            value: value.into(),
            ty: ty.into(),
            source: source.into(),
            read_only: read_only == "true",
            sensitive: sensitive == "true",
            synonyms: synonyms.into(),
        }
    };
    text.lines().skip(1).map(row).collect()
}

fn synonyms(entry: &ConfigEntry) -> String {
    let each: Vec<String> = entry.synonyms.iter().map(|s| format!("{}:{}", s.source.name(), s.name)).collect();
    format!("[{}]", each.join(", "))
}

fn show(entry: &ConfigEntry) -> String {
    let value = entry.value.as_deref().unwrap_or("null");
    let ty = entry.ty.map_or("?", |t| t.name());
    format!(
        "{} = {value} {ty} {} {} {} {}",
        entry.name,
        entry.source.name(),
        entry.read_only,
        entry.sensitive,
        synonyms(entry)
    )
}

#[test]
fn describe_configs_answers_as_kafka_4_3_does() {
    let rows = rows(include_str!("golden/configs-4.3.1.tsv"));
    // The settings of that broker are those whose source is not the default.
    let mut file = Settings::new();
    let mut default = Settings::new();
    for row in rows.iter().filter(|r| !r.topic) {
        match row.source.as_str() {
            "STATIC_BROKER_CONFIG" => _ = file.insert(row.name.clone(), row.value.clone()),
            "DYNAMIC_DEFAULT_BROKER_CONFIG" => _ = default.insert(row.name.clone(), row.value.clone()),
            _ => {}
        }
    }
    let own = Settings::new();
    let layers = BrokerLayers { file: &file, default: &default, own: &own };
    let config = BrokerConfig::from_properties(file.clone()).unwrap().with_dynamic(&default, &own).unwrap();
    let answers: BTreeMap<(bool, String), ConfigEntry> = describe::broker(layers, None)
        .into_iter()
        .map(|e| ((false, e.name.clone()), e))
        .chain(describe::topic(&config, layers, &own, None).into_iter().map(|e| ((true, e.name.clone()), e)))
        .collect();

    let mut wrong = Vec::new();
    for r in &rows {
        let expected =
            format!("{} = {} {} {} {} {} {}", r.name, r.value, r.ty, r.source, r.read_only, r.sensitive, r.synonyms);
        let got = answers.get(&(r.topic, r.name.clone())).map_or("nothing".to_owned(), show);
        if got != expected {
            wrong.push(format!("expected {expected}\n     got {got}"));
        }
    }
    assert!(wrong.is_empty(), "{} keys differ:\n{}", wrong.len(), wrong.join("\n"));

    let known: BTreeSet<(bool, &str)> = rows.iter().map(|r| (r.topic, r.name.as_str())).collect();
    let extra: Vec<&str> =
        answers.keys().filter(|(t, n)| !known.contains(&(*t, n.as_str()))).map(|(_, n)| n.as_str()).collect();
    assert_eq!(
        extra,
        ["log.ack.durability", "milena.metrics.listen", "milena.telemetry.otlp.endpoint", "ack.durability"],
        "keys that Kafka does not list"
    );
}

#[test]
fn keys_beyond_the_table_are_described_as_kafka_does() {
    let map =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Settings>();
    let file = map(&[
        ("foo.bar", "1"),
        ("listener.name.plaintext.max.connections", "5"),
        ("listener.name.plaintext.ssl.key.password", "x"),
        ("log.retention.hours", "168"),
    ]);
    let default = map(&[("foo.x", "3"), ("log.retention.ms", "5000")]);
    let own = map(&[("foo.bar", "1")]);
    let layers = BrokerLayers { file: &file, default: &default, own: &own };
    let entries = describe::broker(layers, None);
    let shown = |name: &str| {
        let e = entries.iter().find(|e| e.name == name).unwrap();
        format!("{}={} {} {}", e.name, e.value.as_deref().unwrap_or("null"), e.sensitive, synonyms(e))
    };
    for expected in [
        "foo.bar=null true [DYNAMIC_BROKER_CONFIG:foo.bar, STATIC_BROKER_CONFIG:foo.bar]",
        "foo.x=null true [DYNAMIC_DEFAULT_BROKER_CONFIG:foo.x]",
        "listener.name.plaintext.max.connections=5 false [STATIC_BROKER_CONFIG:listener.name.plaintext.max.connections, DEFAULT_CONFIG:max.connections]",
        "listener.name.plaintext.ssl.key.password=null true [STATIC_BROKER_CONFIG:listener.name.plaintext.ssl.key.password]",
        "log.retention.hours=168 false [STATIC_BROKER_CONFIG:log.retention.hours, DEFAULT_CONFIG:log.retention.hours]",
        "log.retention.minutes=null false []",
        "log.retention.ms=5000 false [DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms, STATIC_BROKER_CONFIG:log.retention.hours, DEFAULT_CONFIG:log.retention.hours]",
    ] {
        assert_eq!(shown(expected.split('=').next().unwrap()), expected);
    }
    let defaults: Vec<String> = describe::broker_defaults(&default, None).into_iter().map(|e| e.name).collect();
    assert_eq!(defaults, ["foo.x", "log.retention.ms"]);
}

#[test]
fn groups_and_client_metrics_are_described_as_kafka_does() {
    let nothing = Settings::new();
    let layers = BrokerLayers { file: &nothing, default: &nothing, own: &nothing };
    let broker = BrokerConfig::parse(Settings::new()).unwrap();
    let set = |key: &str, value: &str| Settings::from([(key.to_owned(), value.to_owned())]);
    let overrides = set("consumer.session.timeout.ms", "50000");
    let mut entries = describe::group(&broker, layers, &overrides, None);
    entries.extend(describe::client_metrics(&set("interval.ms", "1000"), None));
    let shown = |name: &str| {
        let e = entries.iter().find(|e| e.name == name).unwrap();
        format!("{}={} {}", e.name, e.value.as_deref().unwrap_or("null"), synonyms(e))
    };
    for expected in [
        "consumer.session.timeout.ms=50000 [DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms, DEFAULT_CONFIG:group.consumer.session.timeout.ms]",
        "share.delivery.count.limit=5 [DEFAULT_CONFIG:group.share.delivery.count.limit]",
        "share.isolation.level=read_uncommitted [DEFAULT_CONFIG:share.isolation.level]",
        "interval.ms=1000 [DYNAMIC_CLIENT_METRICS_CONFIG:interval.ms]",
        "match= []",
    ] {
        assert_eq!(shown(expected.split('=').next().unwrap()), expected);
    }
}

#[test]
fn every_key_of_kafka_3_3_is_known_with_its_type() {
    // These became lists in 4.x; the text of a list is the same.
    let became_lists = [
        "advertised.listeners",
        "controller.listener.names",
        "early.start.listeners",
        "listeners",
        "log.dir",
        "log.dirs",
    ];
    for row in rows(include_str!("golden/configs-3.3.1.tsv")) {
        let key = if row.topic { TopicConfig::key(&row.name) } else { BrokerConfig::key(&row.name) };
        let key = key.unwrap_or_else(|| panic!("{} is not known", row.name));
        if !became_lists.contains(&key.name) {
            assert_eq!(key.ty.name(), row.ty, "{}", row.name);
        }
        if row.value != "null" && row.value != "DIR" && !key.sensitive() {
            key.parse(&row.value).unwrap_or_else(|e| panic!("the value of 3.3 is refused: {e}"));
        }
    }
}

fn tables() -> [(&'static str, &'static [ConfigKey]); 4] {
    [
        ("broker", BrokerConfig::KEYS),
        ("topic", TopicConfig::KEYS),
        ("group", GroupConfig::KEYS),
        ("client metrics", ClientMetricsConfig::KEYS),
    ]
}

#[test]
fn tables_are_sorted_and_every_default_passes_its_own_check() {
    for (table, keys) in tables() {
        assert!(keys.is_sorted_by(|a, b| a.name < b.name), "{table} is not sorted");
        for key in keys {
            if let Some(default) = key.default {
                let value = key.parse(default).unwrap();
                assert_eq!(
                    value.show(),
                    default,
                    "{table} {}: the default is not written as Kafka prints it",
                    key.name
                );
            }
        }
    }
    BrokerConfig::parse(Settings::new()).unwrap();
    TopicConfig::parse(Settings::new()).unwrap();
    GroupConfig::parse(Settings::new()).unwrap();
    ClientMetricsConfig::parse(Settings::new()).unwrap();
}
