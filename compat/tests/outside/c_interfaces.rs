//! The crate rdkafka and Debian's kcat: the same records as the client matrix, through their own interfaces.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use milena_compat::broker::Broker;
use milena_compat::clients::Client;
use milena_compat::records;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

const PARTITIONS: i32 = 3;

fn with_broker(body: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    if let Ok(address) = std::env::var("MILENA_TEST_BOOTSTRAP") {
        return body(&address);
    }
    let broker =
        Broker::start_with(&["num.partitions=3", "group.initial.rebalance.delay.ms=0", "message.max.bytes=4194304"])?;
    body(&broker.address())
}

fn bytes(v: &Value) -> Result<Option<Vec<u8>>> {
    let Some(text) = v.as_str() else { return Ok(None) };
    let hex = |s: &str| {
        (0..s.len() / 2)
            .map(|i| Ok(u8::from_str_radix(s.get(2 * i..2 * i + 2).context("hex")?, 16)?))
            .collect::<Result<Vec<u8>>>()
    };
    if let Some(rest) = text.strip_prefix("repeat:") {
        let (byte, count) = rest.split_once(':').context("repeat")?;
        return Ok(Some(hex(byte)?.repeat(count.parse()?)));
    }
    Ok(Some(hex(text)?))
}

#[test]
fn crate_rdkafka() -> Result<()> {
    let reader = Client::librdkafka("2.16.0")?;
    let sent = records::cases(reader.abilities, PARTITIONS);
    with_broker(|address| {
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let topic = format!("crate-rdkafka-{codec}-{}", std::process::id());
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", address)
                .set("acks", "all")
                .set("message.max.bytes", "4000000")
                .set("enable.idempotence", "true")
                .set("compression.type", codec)
                .create()?;
            // the partitions are known once the topic exists
            producer.client().fetch_metadata(Some(&topic), Duration::from_secs(20))?;
            for r in &sent {
                let (key, value) = (bytes(&r["key"])?, bytes(&r["value"])?);
                let mut headers = OwnedHeaders::new();
                for h in r["headers"].as_array().into_iter().flatten() {
                    let v = bytes(&h[1])?;
                    headers = headers.insert(Header { key: h[0].as_str().unwrap_or_default(), value: v.as_ref() });
                }
                let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&topic)
                    .partition(i32::try_from(r["partition"].as_i64().context("partition")?)?)
                    .timestamp(r["timestamp"].as_i64().context("timestamp")?)
                    .headers(headers);
                record.key = key.as_deref();
                record.payload = value.as_deref();
                producer.send(record).map_err(|(e, _)| e)?;
            }
            producer.flush(Duration::from_secs(60))?;
            let seen = reader.consume(address, &topic, sent.len())?;
            records::compare(&sent, &seen, &[format!("crate rdkafka with {codec}")])?;
        }
        Ok(())
    })
}

fn kcat(arguments: &[&str]) -> Result<String> {
    let out = Command::new("timeout").args(["60", "kcat"]).args(arguments).output().context("kcat")?;
    ensure!(out.status.success(), "kcat {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?)
}

#[test]
fn debian_kcat() -> Result<()> {
    with_broker(|address| {
        let folder = tempfile::tempdir()?;
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let topic = format!("kcat-{codec}-{}", std::process::id());
            let file = folder.path().join("values");
            std::fs::write(&file, format!("k1:one\n:no key\nk2:\nbig:{}\n", "x".repeat(1_000_000)))?;
            let path = file.display().to_string();
            kcat(&[
                "-b",
                address,
                "-P",
                "-t",
                &topic,
                "-p",
                "1",
                "-z",
                codec,
                "-K:",
                "-H",
                "h=v",
                "-X",
                "message.max.bytes=4000000",
                "-l",
                &path,
            ])?;
            kcat(&[
                "-b",
                address,
                "-P",
                "-t",
                &topic,
                "-p",
                "1",
                "-z",
                codec,
                "-K:",
                "-Z",
                "-l",
                &path,
                "-X",
                "message.max.bytes=4000000",
            ])?;
            let seen = kcat(&[
                "-b",
                address,
                "-C",
                "-t",
                &topic,
                "-p",
                "1",
                "-e",
                "-q",
                "-o",
                "beginning",
                "-f",
                "%o|%k|%K|%S|%h\\n",
            ])?;
            let expected = [
                "0|k1|2|3|h=v",
                "1||0|6|h=v",
                "2|k2|2|0|h=v",
                "3|big|3|1000000|h=v",
                "4|k1|2|3|",
                "5||-1|6|",
                "6|k2|2|-1|",
                "7|big|3|1000000|",
            ];
            ensure!(seen.lines().eq(expected), "{codec}:\n{seen}");
            let group = format!("g-{topic}");
            let seen = kcat(&[
                "-b",
                address,
                "-G",
                &group,
                "-e",
                "-q",
                "-X",
                "auto.offset.reset=earliest",
                "-f",
                "%o\\n",
                &topic,
            ])?;
            ensure!(seen.lines().count() == 8, "{codec} by a group:\n{seen}");
        }
        Ok(())
    })
}
