//! The same requests about transactions to Milena and to Apache Kafka: both protocols of clients, fencing, verification, offsets, markers,
//! tools, and what must go wrong. The answers of Kafka 4.3.1 stand in `golden/transactions`.
//!
//! `TRANSACTIONS_RECORD=127.0.0.1:9092=file` records the answers of a running Kafka instead; it must be a fresh one.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

mod client;
mod steps;

use std::fmt::Write as _;
use std::path::Path;

use milena_common::Uuid;
use milena_common::config::BrokerConfig;
use milena_metadata::{Bootstrap, versions};
use milena_server::storage_format::{self, FormatDirectory, FormatPlan};

use client::Client;
use steps::{play, play_exhaustion};

const THEN: i64 = 1_700_000_000_000;

async fn start(dir: &Path) -> milena_server::Node {
    let bootstrap = Bootstrap::default();
    let features = versions::default_feature_levels(bootstrap.metadata_version());
    let plan = FormatPlan {
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        node_id: 1,
        metadata_version: bootstrap.metadata_version(),
        features: features.into_iter().map(|(name, level)| (name.to_owned(), level)).collect(),
        directories: vec![FormatDirectory { path: dir.to_owned(), metadata: true, id: Uuid::random() }],
        voters: Vec::new(),
    };
    storage_format::format(&plan, THEN).expect("formats");
    let log_dirs = dir.display().to_string();
    let given = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "1@127.0.0.1:0"),
        ("listeners", "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"),
        ("log.dirs", log_dirs.as_str()),
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", "2"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "2"),
    ];
    let pairs = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    milena_server::Node::start(BrokerConfig::from_properties(pairs).expect("valid")).await.expect("starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_kafkas() {
    if let Ok(wish) = std::env::var("TRANSACTIONS_RECORD") {
        let (address, file) = wish.split_once('=').expect("address=file");
        return std::fs::write(file, play(address)).expect("is written");
    }
    compare(include_str!("../golden/transactions/kafka-4.3.1.txt"), play).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn answers_are_kafkas_when_epochs_are_used_up() {
    let play = |address: &str| {
        let mut client = Client::new(address);
        client.create("t");
        client.find(1, "any");
        play_exhaustion(&mut client);
        client.told
    };
    if let Ok(wish) = std::env::var("TRANSACTIONS_RECORD") {
        let (address, file) = wish.split_once('=').expect("address=file");
        return std::fs::write(file, play(address)).expect("is written");
    }
    compare(include_str!("../golden/transactions/kafka-4.3.1-epochs.txt"), play).await;
}

async fn compare(kafkas: &str, play: fn(&str) -> String) {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    let (_, address) = node.listeners().iter().find(|(name, _)| name == "PLAINTEXT").expect("listens");
    let address = address.to_string();
    let ours = tokio::task::spawn_blocking(move || play(&address)).await.expect("answers");
    node.stop().await;
    if let Ok(file) = std::env::var("TRANSACTIONS_OURS") {
        std::fs::write(file, &ours).expect("is written");
    }
    let kafkas: Vec<&str> = kafkas.lines().collect();
    let mut differences = String::new();
    let mut step = "";
    for (at, line) in ours.lines().enumerate() {
        if !line.starts_with("    ") {
            step = line;
        }
        let kafkas = kafkas.get(at).copied().unwrap_or_default();
        if kafkas != line {
            writeln!(differences, "line {}: {step}\n  ours   {line}\n  Kafka's {kafkas}", at + 1).expect("fits");
        }
    }
    assert_eq!(ours.lines().count(), kafkas.len());
    assert!(differences.is_empty(), "{differences}");
}
