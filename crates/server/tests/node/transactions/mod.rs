//! The same requests about transactions to Milena and to Apache Kafka: both protocols of clients, fencing, verification, offsets, markers,
//! tools, and what must go wrong. The answers of Kafka 4.3.1 stand in `golden/transactions`.
//!
//! `TRANSACTIONS_RECORD=127.0.0.1:9092=file` records the answers of a running Kafka instead; it must be a fresh one.

mod client;
mod random;
mod steps;

use std::fmt::Write as _;

use crate::support::TestNode;
use client::Client;
use steps::{play, play_exhaustion};

async fn start() -> TestNode {
    TestNode::start(&[("offsets.topic.num.partitions", "2"), ("transaction.state.log.num.partitions", "2")]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_kafkas() {
    if let Ok(wish) = std::env::var("TRANSACTIONS_RECORD") {
        let (address, file) = wish.split_once('=').expect("address=file");
        return std::fs::write(file, play(address)).expect("is written");
    }
    compare(include_str!("../../golden/transactions/kafka-4.3.1.txt"), play).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn answers_are_kafkas_when_epochs_are_used_up() {
    let play = |address: &str| {
        let mut client = Client::new(address);
        client.create("t");
        client.find(1, "any");
        play_exhaustion(&mut client);
        client.connection.told
    };
    if let Ok(wish) = std::env::var("TRANSACTIONS_RECORD") {
        let (address, file) = wish.split_once('=').expect("address=file");
        return std::fs::write(file, play(address)).expect("is written");
    }
    compare(include_str!("../../golden/transactions/kafka-4.3.1-epochs.txt"), play).await;
}

/// `TRANSACTIONS_KAFKA=127.0.0.1:9092` names a running Kafka, `TRANSACTIONS_SEEDS=1..100` what to play on both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka"]
async fn random_histories_are_answered_as_by_kafka() {
    let kafka = std::env::var("TRANSACTIONS_KAFKA").expect("the address of a Kafka");
    let seeds = std::env::var("TRANSACTIONS_SEEDS").unwrap_or_else(|_| "1..20".to_owned());
    let (from, to) = seeds.split_once("..").expect("from..to");
    let seeds = from.parse::<u64>().expect("a number")..to.parse().expect("a number");
    let node = start().await;
    let differing = node.play(move |ours| {
        let told = |address: &str, seed| {
            let mut client = Client::new(address);
            client.find(1, "any");
            random::play_random(&mut client, seed);
            client.connection.told
        };
        let mut differing = Vec::new();
        for address in [ours, &kafka] {
            Client::new(address).create("t");
        }
        for seed in seeds {
            let (ours, kafkas) = (told(ours, seed), told(&kafka, seed));
            if let Some(at) = ours.lines().zip(kafkas.lines()).position(|(ours, kafkas)| ours != kafkas) {
                let before: Vec<&str> = kafkas.lines().take(at).collect();
                println!("seed {seed}, line {at}:\n{}", before[before.len().saturating_sub(160)..].join("\n"));
                println!("  ours    {}\n  Kafka's {}", ours.lines().nth(at).unwrap(), kafkas.lines().nth(at).unwrap());
                differing.push(seed);
            }
        }
        differing
    });
    let differing = differing.await;
    node.stop().await;
    assert!(differing.is_empty(), "seeds {differing:?}");
}

async fn compare(kafkas: &str, play: fn(&str) -> String) {
    let node = start().await;
    let ours = node.play(play).await;
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
