//! Quotas in virtual time: what is counted, and how long that waits. Rates themselves are checked in `rate.rs`.

use milena_common::config::BrokerConfig;

use super::limits::tests::{Given, image};
use super::*;

const PRODUCE: &str = "producer_byte_rate";
const REQUEST: &str = "request_percentage";
const MUTATION: &str = "controller_mutation_rate";
const CONNECTION: &str = "connection_creation_rate";
const ME: Who<'static> = Who { user: ANONYMOUS, client_id: "c" };

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: 0 }
}

fn quotas(given: &[Given<'_>]) -> Quotas {
    let properties =
        [("node.id", "1"), ("process.roles", "broker,controller"), ("controller.listener.names", "CONTROLLER")];
    let more = [("listeners", "PLAINTEXT://:0,CONTROLLER://:0"), ("controller.quorum.voters", "1@localhost:1")];
    let all = properties.into_iter().chain(more).map(|(k, v)| (k.to_owned(), v.to_owned()));
    let quotas = Quotas::new(&BrokerConfig::from_properties(all).expect("valid"));
    quotas.set(&image(given));
    quotas
}

#[test]
fn a_burst_waits_until_its_rate_is_the_quota() {
    let quotas = quotas(&[(&[("client-id", Some("c"))], PRODUCE, 1000.0)]);
    assert_eq!(quotas.produced(ME, 10_000, at(0)), 0);
    // 20,000 bytes over ten seconds are 2,000 a second: twice the quota, as long as the window
    assert_eq!(quotas.produced(ME, 10_000, at(0)), 10_000);
    assert_eq!(quotas.produced(Who { client_id: "other", ..ME }, 1 << 30, at(0)), 0);
    assert_eq!(quotas.fetched(ME, 1 << 30, at(0)), 0);
    // long after, nothing is left of it
    assert_eq!(quotas.produced(ME, 1000, at(60_000)), 0);
}

#[test]
fn what_is_not_given_does_not_count() {
    let quotas = quotas(&[(&[("user", None)], "consumer_byte_rate", 1000.0)]);
    assert_eq!(quotas.most_fetched(ME), Some(10_000));
    assert_eq!(quotas.fetched(ME, 15_000, at(0)), 5000);
    quotas.not_fetched(ME, 15_000, at(0));
    assert_eq!(quotas.fetched(ME, 10_000, at(0)), 0);
}

#[test]
fn nobody_waits_longer_than_a_sample_for_its_requests() {
    let quotas = quotas(&[(&[("user", Some(ANONYMOUS))], REQUEST, 1.0)]);
    assert!(quotas.measures_requests());
    // a tenth of a second in ten seconds is one percent
    assert_eq!(quotas.requested(ME, 100_000_000, at(0)), 0);
    assert_eq!(quotas.requested(ME, 2_000_000, at(0)), 200);
    assert_eq!(quotas.requested(ME, 1_000_000_000, at(0)), 1000);
}

#[test]
fn changes_may_overdraw_once() {
    let quotas = quotas(&[(&[("user", None)], MUTATION, 2.0)]);
    // a bucket of 22
    assert_eq!(quotas.mutate(ME, 30, true, at(0)), Ok(0));
    assert_eq!(quotas.mutate(ME, 1, true, at(0)), Err(4000));
    assert_eq!(quotas.mutate(ME, 2, false, at(0)), Ok(5000));
    assert_eq!(quotas.mutate(ME, 1, true, at(5000)), Ok(0));
}

#[test]
fn addresses_connect_at_their_rate() {
    let quotas =
        quotas(&[(&[("ip", Some("10.0.0.1"))][..], CONNECTION, 1.0), (&[("ip", None)][..], CONNECTION, 100.0)]);
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let waits: Vec<u64> = (0..12).map(|_| quotas.connected(address("10.0.0.1"), at(0))).collect();
    assert_eq!(waits[..10], [0; 10]);
    assert_eq!(waits[10..], [1000, 1000]);
    assert_eq!(quotas.connected(address("10.0.0.2"), at(0)), 0);
}

#[test]
fn rates_are_told_by_the_names_that_dashboards_know() {
    let quotas = quotas(&[(&[("client-id", Some("c"))], PRODUCE, 1000.0), (&[("user", None)], MUTATION, 2.0)]);
    quotas.produced(ME, 10_000, at(0));
    quotas.mutate(ME, 5, true, at(0)).expect("allowed");
    quotas.throttled(Quota::Produce, ME, 30, at(0));
    let metrics = Metrics::new();
    quotas.report(&metrics, at(0));
    let text = metrics.expose();
    for line in [
        "kafka_server_quota_byte_rate{resource=\"Produce\",clientId=\"c\"} 1000\n",
        "kafka_server_quota_throttle_time{resource=\"Produce\",clientId=\"c\"} 30\n",
        "kafka_server_quota_tokens{resource=\"ControllerMutation\",user=\"ANONYMOUS\"} 17\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    quotas.report(&metrics, at(SHOWN_MS));
    assert_eq!(metrics.expose(), "");
}
