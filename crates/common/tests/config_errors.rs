//! What a bad configuration is told, against what Apache Kafka 4.3.1 says to the same settings.
//!
//! `golden/config-errors-4.3.1.tsv`: kind, settings separated by `;;` (BASE = a sound combined node), Kafka's error or `ok`.

use std::collections::BTreeMap;

use milena_common::config::{BrokerConfig, GroupConfig, TopicConfig};

/// Where we answer otherwise on purpose: the settings, and our answer.
const OURS: &[(&str, &str)] = &[
    // Java's own words for a text without the expected colon say nothing.
    (
        "BASE;;listener.security.protocol.map=PLAINTEXT",
        "Error parsing configuration property 'listener.security.protocol.map': 'PLAINTEXT' is not of the form NAME:PROTOCOL",
    ),
    (
        "BASE;;max.connections.per.ip.overrides=a",
        "Error parsing configuration property 'max.connections.per.ip.overrides': 'a' is not of the form host:connections",
    ),
    (
        "BASE;;max.connections.per.ip.overrides=127.0.0.1:x",
        "Error parsing configuration property 'max.connections.per.ip.overrides': '127.0.0.1:x' is not of the form host:connections",
    ),
    // Kafka finds out when it binds.
    (
        "BASE;;listeners=PLAINTEXT://:99999,CONTROLLER://:9093",
        "Error creating broker listeners from '[PLAINTEXT://:99999, CONTROLLER://:9093]': Port 99999 is not between 0 and 65535",
    ),
    (
        "BASE;;listeners=PLAINTEXT://:-1,CONTROLLER://:9093",
        "Error creating broker listeners from '[PLAINTEXT://:-1, CONTROLLER://:9093]': Port -1 is not between 0 and 65535",
    ),
    // There are no classes here; a name that means nothing is noted at start.
    ("BASE;;group.share.assignors=foo", "ok"),
    ("BASE;;principal.builder.class=foo.Bar", "ok"),
    // A key of 3.3 topics, still taken from its clients.
    ("message.format.version=3.0", "ok"),
];

fn settings(text: &str) -> BTreeMap<String, String> {
    const BASE: &str = "process.roles=broker,controller;;node.id=1;;controller.listener.names=CONTROLLER;;\
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093;;controller.quorum.voters=1@localhost:9093;;log.dirs=/tmp/x";
    let text = text.replace("BASE", BASE);
    let pairs = text.split(";;").filter_map(|s| s.split_once('='));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[test]
fn bad_settings_are_refused_in_kafkas_words() {
    let broker = BrokerConfig::from_properties(settings("BASE")).unwrap();
    let mut wrong = Vec::new();
    for line in include_str!("golden/config-errors-4.3.1.tsv").lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, text, theirs] = columns[..] else { panic!("bad row {line}") };
        let expected = OURS.iter().find(|(t, _)| *t == text).map_or(theirs, |(_, ours)| ours);
        let given = settings(text);
        let result = match kind {
            "BROKER" => BrokerConfig::from_properties(given).map(|_| ()),
            "TOPIC" => TopicConfig::validate(&broker, &given).map(|_| ()),
            _ => GroupConfig::validate(&broker, &given).map(|_| ()),
        };
        let got = result.map_or_else(|e| e.to_string(), |()| "ok".to_owned());
        if got != expected {
            wrong.push(format!("{kind} {text}\n  expected {expected}\n  got      {got}"));
        }
    }
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
}

proptest::proptest! {
    /// Whatever stands in the keys that are parsed further, the answer is a configuration or an error, and a configuration can be
    /// read in full.
    #[test]
    fn any_text_is_a_configuration_or_an_error(
        listeners in "(PLAINTEXT|SSL|X|é|)(:/{0,2})[a-z0-9.:\\[\\]]{0,12}(,[A-Z]{0,9}://:[0-9]{0,6})?",
        map in "([A-Z]{0,4}:?(PLAINTEXT|SSL|Y)?,?){0,3}",
        voters in "([0-9]{0,11}@?[a-z]{0,3}:?[0-9]{0,6},?){0,3}",
        limits in "([0-9.]{0,9}:?[0-9]{0,4},?){0,3}",
    ) {
        for key_and_text in [
            ("listeners", &listeners),
            ("advertised.listeners", &listeners),
            ("listener.security.protocol.map", &map),
            ("controller.quorum.voters", &voters),
            ("controller.quorum.bootstrap.servers", &voters),
            ("max.connections.per.ip.overrides", &limits),
        ] {
            let mut given = settings("BASE");
            given.insert(key_and_text.0.to_owned(), key_and_text.1.clone());
            if let Ok(config) = BrokerConfig::from_properties(given) {
                for endpoint in config.endpoints().unwrap() {
                    let again = format!("{endpoint}");
                    proptest::prop_assert!(again.starts_with(&endpoint.listener));
                }
                config.advertised_endpoints().unwrap();
                config.voters().unwrap();
                config.connections_per_ip().unwrap();
            }
        }
    }
}
