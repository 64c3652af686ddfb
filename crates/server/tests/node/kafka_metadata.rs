//! What Apache Kafka 4.3.1 wrote (golden files of a broker that created, altered and deleted topics): its metadata log
//! replays here to what its own snapshots say, and a quorum here goes on where it stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use milena_metadata::image::{MetadataImage, Provenance};
use milena_metadata::store::CommittedBatch;
use milena_metadata::{Bootstrap, MetadataCache, MetadataLoader};
use milena_protocol::stored::metadata::{decode_framed, encode_framed};
use milena_raft::{QuorumState, read_batches, read_snapshot};
use milena_server::storage_format::read_bootstrap;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kafka-4.3.1-metadata")
}

fn file(name: &str) -> Bytes {
    std::fs::read(golden().join(name)).expect(name).into()
}

fn batches() -> Vec<CommittedBatch> {
    let read = read_batches(file("00000000000000000000.log")).expect("Kafka's log");
    read.into_iter()
        .map(|b| CommittedBatch {
            base_offset: b.base_offset,
            last_offset: b.last_offset,
            epoch: b.epoch,
            append_timestamp_ms: b.append_timestamp_ms,
            size_in_bytes: b.size_in_bytes,
            records: b.records,
        })
        .collect()
}

fn image_below(offset: i64) -> Arc<MetadataImage> {
    let mut loader = MetadataLoader::new(MetadataCache::default());
    for batch in batches().iter().filter(|b| b.last_offset < offset) {
        loader.replay(batch).expect("replays");
    }
    loader.publish();
    loader.published().clone()
}

fn image_of_snapshot(name: &str, offset: i64) -> Arc<MetadataImage> {
    let mut loader = MetadataLoader::new(MetadataCache::default());
    let end = Provenance { last_offset: offset - 1, last_epoch: 1, last_timestamp_ms: 0 };
    loader.load_snapshot(end, read_snapshot(file(name)).expect("Kafka's snapshot").records).expect("loads");
    loader.publish();
    loader.published().clone()
}

#[test]
fn kafkas_log_and_kafkas_snapshots_agree() {
    for offset in [47, 91, 133] {
        let from_log = image_below(offset);
        let from_snapshot = image_of_snapshot(&format!("{offset:020}-0000000001.checkpoint"), offset);
        assert!(from_log.same_content(&from_snapshot), "at {offset}:\n{from_log:?}\n{from_snapshot:?}");
    }
    let last = image_below(i64::MAX);
    let orders = last.topics.by_name("orders").expect("was created");
    assert_eq!(orders.partitions.len(), 5);
    assert!(last.topics.by_name("gone").is_none());
    assert_eq!(
        last.configs.topic("orders").keys().collect::<Vec<_>>(),
        ["cleanup.policy", "max.message.bytes", "segment.bytes"]
    );
    assert_eq!(last.configs.broker_defaults().get("log.retention.ms").map(String::as_str), Some("99999"));
    let p = orders.partition(0).expect("a partition");
    assert_eq!(
        (p.leader, p.leader_epoch, &*p.elr, &*p.last_known_elr),
        (-1, 1, &[1][..], &[1][..]),
        "after a shutdown in good order"
    );
}

#[test]
fn our_snapshots_hold_what_kafkas_hold() {
    let kafkas = read_snapshot(file("00000000000000000133-0000000001.checkpoint")).expect("Kafka's snapshot").records;
    let ours = image_below(133).to_records();
    assert_eq!(ours.len(), kafkas.len());
    for record in kafkas {
        let mut record = decode_framed(record).expect("decodes");
        // The order of a broker's features, and whether "no cordoned directories" is said or not, are free.
        if let milena_protocol::stored::metadata::MetadataRecord::RegisterBroker(r) = &mut record {
            r.features.sort_by(|a, b| a.name.cmp(&b.name));
            r.cordoned_log_dirs = r.cordoned_log_dirs.take().filter(|dirs| !dirs.is_empty());
        }
        if let milena_protocol::stored::metadata::MetadataRecord::RegisterController(r) = &mut record {
            r.features.sort_by(|a, b| a.name.cmp(&b.name));
        }
        assert!(ours.contains(&record), "{record:?}");
    }
}

/// Every record that Kafka wrote is encoded again to the same bytes.
#[test]
fn records_keep_their_bytes() {
    for record in batches().into_iter().flat_map(|b| b.records) {
        let version = i16::from(record[2]);
        let again = encode_framed(&decode_framed(record.clone()).expect("decodes"), version).expect("encodes");
        assert_eq!(again, record);
    }
}

#[test]
fn kafkas_other_files_are_read() {
    assert_eq!(read_bootstrap(&golden()).expect("reads"), Some(Bootstrap::at_level(30)));
    let text = file("quorum-state");
    let text = String::from_utf8_lossy(&text);
    let state = QuorumState::from_json(&text).expect("reads");
    assert_eq!((state.leader_epoch, state.to_json().as_str()), (1, &*text));
}
