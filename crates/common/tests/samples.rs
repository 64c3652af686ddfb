//! The sample files of `config/` are sound: every key known, every node startable.

use milena_common::config::{BrokerConfig, properties};

fn node(text: &str) -> BrokerConfig {
    let config = BrokerConfig::from_properties(properties::parse(text).unwrap()).unwrap();
    assert_eq!(config.unknown_keys(), Vec::<&str>::new());
    config
}

#[test]
fn the_combined_node() {
    let config = node(include_str!("../../../config/server.properties"));
    assert!(config.is_broker() && config.is_controller());
    let shown = |e: Vec<milena_common::config::EndPoint>| e.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(config.broker_endpoints().unwrap()), ["PLAINTEXT://:9092"]);
    assert_eq!(shown(config.controller_endpoints().unwrap()), ["CONTROLLER://:9093"]);
    assert_eq!(shown(config.advertised_endpoints().unwrap()), ["PLAINTEXT://localhost:9092"]);
    assert_eq!(config.data_dirs(), ["/tmp/kraft-combined-logs"]);
}

#[test]
fn the_separate_nodes() {
    let broker = node(include_str!("../../../config/broker.properties"));
    assert!(broker.is_broker() && !broker.is_controller());
    let controller = node(include_str!("../../../config/controller.properties"));
    assert!(!controller.is_broker() && controller.is_controller());
    assert_eq!(controller.advertised_controller_endpoints().unwrap().len(), 1);
}
