//! Clients that push their own metrics (KIP-714): what they say ends up where the broker was told to export it to.

use anyhow::{Context, Result, ensure};
use milena_compat::broker::Broker;
use milena_compat::clients::Client;
use milena_compat::records;
use milena_compat::wire::{Body, Wire};

const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
const CLIENT_METRICS: i8 = 16;

/// Asks every client for the metrics that begin so.
fn subscribe(address: &str, metrics: &str) -> Result<()> {
    let settings = [("metrics", metrics), ("interval.ms", "100")];
    let mut body = Body::new().i32(1).i8(CLIENT_METRICS).string("all").i32(settings.len() as i32);
    for (name, value) in settings {
        body = body.string(name).i8(0).string(value);
    }
    let mut answer = Wire::connect(address)?.ask(INCREMENTAL_ALTER_CONFIGS, 0, body.i8(0))?;
    let _throttle = answer.i32()?;
    ensure!(answer.count()? == 1, "one resource");
    ensure!(answer.i16()? == 0, "{:?}", answer.string());
    Ok(())
}

/// What the broker exported while the client produced, a line per push.
fn exported(client: &Client, metrics: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let (file, sent) = (folder.path().join("records"), folder.path().join("metrics.json"));
    records::write(&file, &records::cases(client.abilities, 1))?;
    let endpoint = format!("milena.telemetry.otlp.endpoint=file:{}", sent.display());
    let mut broker = Broker::start_with(&[&endpoint])?;
    subscribe(&broker.address(), metrics)?;
    client.produce(&broker.address(), "t", &["zstd"], &file)?;
    broker.stop()?;
    std::fs::read_to_string(&sent).with_context(|| format!("{} pushed nothing", client.name))
}

#[test]
fn java_pushes_what_it_is_asked_for() -> Result<()> {
    let all = exported(&Client::java("4.3.1"), "org.apache.kafka.producer.connection.")?;
    for line in all.lines() {
        ensure!(line.contains("\"client_software_name\":\"apache-kafka-java\""), "{line}");
        ensure!(line.contains("\"client_id\":\"producer-1\""), "{line}");
    }
    let last = all.lines().last().context("a push")?;
    ensure!(last.contains("\"name\":\"org.apache.kafka.producer.connection.creation.total\""), "{last}");
    ensure!(!all.contains("\"name\":\"org.apache.kafka.producer.record"), "more than was asked for");
    ensure!(last.contains("\"terminating\":true"), "the last push says that it is the last: {last}");
    Ok(())
}

#[test]
fn librdkafka_pushes_what_it_has() -> Result<()> {
    let all = exported(&Client::librdkafka("2.16.0")?, "*")?;
    let last = all.lines().last().context("a push")?;
    ensure!(last.contains("\"client_software_name\":\"librdkafka\""), "{last}");
    ensure!(last.contains("\"name\":\"org.apache.kafka.producer.connection.creation.total\""), "{last}");
    Ok(())
}
