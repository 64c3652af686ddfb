//! The client matrix: each client produces and consumes the same records with every codec it knows, and a reference client agrees.

use std::process::Command;

use anyhow::{Context, Result};
use milena_compat::broker::Broker;
use milena_compat::clients::Client;
use milena_compat::records;

const PARTITIONS: i32 = 3;

/// The broker to test: our own, or the one at MILENA_TEST_BOOTSTRAP (real Kafka, to check the harness itself).
fn with_broker(body: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    if let Ok(address) = std::env::var("MILENA_TEST_BOOTSTRAP") {
        return body(&address);
    }
    let broker =
        Broker::start_with(&["num.partitions=3", "group.initial.rebalance.delay.ms=0", "message.max.bytes=4194304"])?;
    body(&broker.address())
}

/// The clients that take long to install are tested with `cargo xtask test --all`.
fn only_with_all(client: &Client) -> Result<()> {
    if std::env::var_os("MILENA_TEST_ALL").is_none() {
        eprintln!("skipped: {} is tested by `cargo xtask test --all`", client.name);
        return Ok(());
    }
    matrix(client)
}

fn matrix(client: &Client) -> Result<()> {
    let reference = Client::librdkafka("2.16.0")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("records");
    let sent = records::cases(client.abilities, PARTITIONS);
    records::write(&file, &sent)?;
    // one after the other into one topic: readers meet every codec of every writer there
    let mut copies = Vec::new();
    for writer in [client, &reference] {
        copies.extend(client.codecs.iter().map(|codec| format!("{} with {codec}", writer.name)));
    }
    with_broker(|address| {
        let topic =
            format!("{}-{}", client.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"), std::process::id());
        create(address, &topic)?;
        client.produce(address, &topic, client.codecs, &file)?;
        reference.produce(address, &topic, client.codecs, &file)?;
        for reader in [client, &reference] {
            let seen = reader.consume(address, &topic, copies.len() * sent.len())?;
            records::compare(&sent, &seen, &copies).with_context(|| format!("read by {}", reader.name))?;
        }
        Ok(())
    })
}

/// Creates the topic with three partitions, by asking for its metadata: `num.partitions` is 3.
fn create(address: &str, topic: &str) -> Result<()> {
    let out = Command::new("kcat")
        .args(["-b", address, "-L", "-t", topic, "-X", "allow.auto.create.topics=true"])
        .output()
        .context("kcat")?;
    anyhow::ensure!(out.status.success(), "kcat -L: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

macro_rules! clients {
    ($($name:ident: $client:expr;)*) => { $(
        #[test]
        fn $name() -> Result<()> { matrix(&$client) }
    )* };
}

clients! {
    kafka_python_1_4: Client::kafka_python("1.4.7");
    kafka_python_2_0: Client::kafka_python("2.0.2");
    kafka_python_2_2: Client::kafka_python("2.2.21");
    kafka_python_3_0: Client::kafka_python("3.0.12");
    aiokafka: Client::aiokafka();
    librdkafka_1_0: Client::librdkafka("1.0.0")?;
    librdkafka_1_3: Client::librdkafka("1.3.0")?;
    librdkafka_1_5: Client::librdkafka("1.5.0")?;
    librdkafka_1_7: Client::librdkafka("1.7.0")?;
    librdkafka_1_9: Client::librdkafka("1.9.2")?;
    librdkafka_2_0: Client::librdkafka("2.0.2")?;
    librdkafka_2_5: Client::librdkafka("2.5.0")?;
    librdkafka_2_16: Client::librdkafka("2.16.0")?;
    kafkajs: Client::kafkajs();
    platformatic: Client::platformatic();
    java_2_1: Client::java("2.1.1");
    java_2_8: Client::java("2.8.2");
    java_3_3: Client::java("3.3.1");
    java_3_9: Client::java("3.9.1");
    java_4_3: Client::java("4.3.1");
}

#[test]
fn confluent_javascript() -> Result<()> {
    only_with_all(&Client::confluent_javascript())
}
