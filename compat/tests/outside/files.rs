//! Apache Kafka's own DumpLogSegments reads every file that a broker wrote, and finds nothing wrong.

use anyhow::{Result, ensure};
use milena_compat::broker::Broker;
use milena_compat::clients::Client;
use milena_compat::installation::{dump, files};
use milena_compat::records;

fn ours(name: &str) -> bool {
    !name.starts_with("__")
}

#[test]
fn kafka_reads_every_file() -> Result<()> {
    let mut broker = Broker::start_with(&[
        "num.partitions=3",
        "group.initial.rebalance.delay.ms=0",
        "message.max.bytes=4194304",
        "log.segment.bytes=1048576",
        "log.index.interval.bytes=1024",
    ])?;
    let client = Client::librdkafka("2.16.0")?;
    let sent = records::cases(client.abilities, 3);
    let file = broker.folder().join("records");
    records::write(&file, &sent)?;
    for codec in client.codecs {
        for _ in 0..3 {
            client.produce(&broker.address(), &format!("codec-{codec}"), &[codec], &file)?;
        }
    }
    // an old client writes message sets of its time
    let old = Client::kafka_python("1.4.7");
    records::write(&file, &records::cases(old.abilities, 3))?;
    old.produce(&broker.address(), "old", &["gzip"], &file)?;
    // a group with members and offsets
    client.consume(&broker.address(), "codec-none", 3 * sent.len())?;
    broker.stop()?;

    let data = broker.data();
    let logs = files(&data, "log", ours)?;
    ensure!(logs.len() > 20, "segments were rolled: {logs:?}");
    let text = dump(&["--deep-iteration", "--skip-record-metadata"], &logs)?;
    ensure!(text.contains("compresscodec: zstd") && text.contains("compresscodec: snappy"), "all codecs are there");
    let indexes = [files(&data, "index", ours)?, files(&data, "timeindex", ours)?].concat();
    ensure!(indexes.len() > 20, "indexes have entries: {indexes:?}");
    dump(&[], &indexes)?;
    dump(&["--index-sanity-check"], &indexes)?;
    let snapshots = files(&data, "snapshot", |_| true)?;
    ensure!(!snapshots.is_empty(), "producer snapshots");
    ensure!(dump(&[], &snapshots)?.contains("producerId: "), "a producer in a snapshot");

    let offsets = dump(&["--offsets-decoder"], &files(&data, "log", |n| n.starts_with("__consumer_offsets-"))?)?;
    ensure!(
        offsets.contains("\"topic\":\"codec-none\"") && offsets.contains("\"protocolType\":\"consumer\""),
        "{offsets}"
    );
    let metadata = dump(&["--cluster-metadata-decoder"], &files(&data, "log", |n| n == "__cluster_metadata-0")?)?;
    for record in [
        "LeaderChange",
        "FEATURE_LEVEL_RECORD",
        "REGISTER_BROKER_RECORD",
        "TOPIC_RECORD",
        "PARTITION_RECORD",
        "PRODUCER_IDS_RECORD",
    ] {
        ensure!(metadata.contains(record), "no {record} in the metadata log:\n{metadata}");
    }
    let snapshots = files(&data, "checkpoint", |n| n == "__cluster_metadata-0")?;
    ensure!(!snapshots.is_empty(), "the metadata's bootstrap or snapshot");
    dump(&["--cluster-metadata-decoder"], &snapshots)?;
    Ok(())
}
