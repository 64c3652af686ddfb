//! Clients that push their own metrics (KIP-714): what they say ends up where the broker was told to export it to.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use milena_compat::broker::Broker;
use milena_compat::clients::Client;
use milena_compat::records;
use milena_compat::wire::{Body, Wire};

const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
const CLIENT_METRICS: i8 = 16;
/// A client pushes after its first interval, which is a tenth of a second here.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// What the broker exported while the client consumed, a line per push: until this was said, at the latest.
fn exported(client: &Client, metrics: &str, awaited: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let (file, sent) = (folder.path().join("records"), folder.path().join("metrics.json"));
    let cases = records::cases(client.abilities, 1);
    records::write(&file, &cases)?;
    let endpoint = format!("milena.telemetry.otlp.endpoint=file:{}", sent.display());
    let mut broker = Broker::start_with(&[&endpoint, "group.initial.rebalance.delay.ms=0"])?;
    let address = broker.address();
    subscribe(&address, metrics)?;
    client.produce(&address, "t", &["none"], &file)?;
    std::thread::scope(|scope| -> Result<()> {
        // ends when everything was produced once more
        let consumer = scope.spawn(|| client.consume(&address, "t", 2 * cases.len()));
        let begun = Instant::now();
        while !std::fs::read_to_string(&sent).unwrap_or_default().contains(awaited) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
        client.produce(&address, "t", &["none"], &file)?;
        consumer.join().expect("the consumer's thread").map(drop)
    })?;
    broker.stop()?;
    std::fs::read_to_string(&sent).with_context(|| format!("{} pushed nothing", client.name))
}

const CREATIONS: &str = "\"name\":\"org.apache.kafka.consumer.connection.creation.total\"";

#[test]
fn java_pushes_what_it_is_asked_for() -> Result<()> {
    let all = exported(&Client::java("4.3.1"), "org.apache.kafka.consumer.connection.", CREATIONS)?;
    for line in all.lines() {
        ensure!(line.contains("\"client_software_name\":\"apache-kafka-java\""), "{line}");
        ensure!(line.contains("\"client_software_version\":\"4.3.1\""), "{line}");
    }
    ensure!(all.contains(CREATIONS), "{all}");
    ensure!(!all.contains("\"name\":\"org.apache.kafka.consumer.fetch"), "more than was asked for: {all}");
    Ok(())
}

#[test]
fn librdkafka_pushes_what_it_has() -> Result<()> {
    let all = exported(&Client::librdkafka("2.16.0")?, "*", CREATIONS)?;
    ensure!(all.contains("\"client_software_name\":\"librdkafka\""), "{all}");
    ensure!(all.contains(CREATIONS), "{all}");
    Ok(())
}
