//! The metadata log of a node that stopped: its vote, its newest snapshot and what follows, replayed into an image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use milena_metadata::image::{MetadataImage, Provenance};
use milena_metadata::store::CommittedBatch;
use milena_metadata::{MetadataCache, MetadataLoader};
use milena_protocol::records::control::ControlType;
use milena_protocol::stored::control::{KRaftVersionRecord, VotersRecord};
use milena_protocol::stored::metadata::decode_framed;
use milena_protocol::{Decode as _, Reader};
use milena_raft::{OffsetAndEpoch, QuorumState, Snapshot, read_batches, read_snapshot};

use super::Report;
use super::batches::walk;
use super::partitions::{names, segments};
use crate::storage_format::{read_bootstrap, read_if_there};

pub(super) const METADATA_LOG: &str = "__cluster_metadata-0";

/// The cluster as the log leaves it. What is wrong with the log is in the report.
pub(super) fn read(directories: &[PathBuf], report: &mut Report) -> MetadataImage {
    let mut with_log = directories.iter().filter(|d| d.join(METADATA_LOG).is_dir());
    let Some(directory) = with_log.next() else {
        report.remarks.push("there is no metadata log: the node was formatted and never started".to_owned());
        let found = directories.iter().find_map(|d| read_bootstrap(d).ok().flatten());
        report.metadata_version = found.as_ref().map_or(0, |bootstrap| bootstrap.metadata_version());
        return MetadataImage::default();
    };
    if let Some(other) = with_log.next() {
        let (one, other) = (directory.display(), other.display());
        report
            .obstacles
            .push(format!("both {one} and {other} hold a metadata log; metadata.log.dir says which is the one"));
    }
    let mut log = Log { loader: MetadataLoader::new(MetadataCache::default()), report, unreadable: BTreeMap::new() };
    let path = directory.join(METADATA_LOG);
    log.read_vote(&path);
    let end = log.read_snapshots(&path);
    log.read_segments(&path, end);
    log.finish()
}

struct Log<'a> {
    loader: MetadataLoader,
    report: &'a mut Report,
    /// Records that this version cannot read: how many, by what is wrong, with the first one's offset.
    unreadable: BTreeMap<String, (u64, i64)>,
}

impl Log<'_> {
    fn read_vote(&mut self, path: &Path) {
        let file = path.join("quorum-state");
        let text = match read_if_there(&file) {
            Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            Ok(None) => return,
            Err(error) => return self.report.obstacles.push(format!("{}: {error}", file.display())),
        };
        match QuorumState::from_json(text.trim()) {
            Ok(state) => self.report.voters = state.current_voters,
            Err(error) => self.report.obstacles.push(format!("{}: {error}", file.display())),
        }
    }

    /// Loads the newest whole snapshot; where it ends.
    fn read_snapshots(&mut self, path: &Path) -> i64 {
        let mut found: Vec<OffsetAndEpoch> =
            names(path).iter().filter_map(|name| OffsetAndEpoch::from_snapshot_file_name(name)).collect();
        found.sort();
        for id in found.into_iter().rev() {
            let file = path.join(id.snapshot_file_name());
            let read = match read_if_there(&file) {
                Ok(bytes) => read_snapshot(bytes.unwrap_or_default().into()).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match read {
                Ok(snapshot) => {
                    self.load(id, snapshot);
                    return id.offset;
                }
                Err(error) => self.report.remarks.push(format!("{} is passed over: {error}", file.display())),
            }
        }
        0
    }

    fn load(&mut self, id: OffsetAndEpoch, snapshot: Snapshot) {
        self.report.kraft_version = snapshot.quorum.kraft_version;
        if let Some(voters) = snapshot.quorum.voters {
            self.report.voters = voters.voters.iter().map(|voter| voter.voter_id).collect();
        }
        let records: Vec<Bytes> = snapshot.records.into_iter().filter(|r| self.is_readable(id.offset - 1, r)).collect();
        let end = Provenance {
            last_offset: id.offset - 1,
            last_epoch: id.epoch,
            last_timestamp_ms: snapshot.last_contained_log_timestamp_ms,
        };
        if let Err(error) = self.loader.load_snapshot(end, records) {
            self.report.obstacles.push(format!("metadata snapshot {}: {error}", id.snapshot_file_name()));
        }
    }

    fn read_segments(&mut self, path: &Path, snapshot_end: i64) {
        let segments = segments(path);
        let mut expected = segments.first().map_or(0, |(base, _)| *base);
        if expected > snapshot_end {
            self.report
                .obstacles
                .push(format!("the metadata log starts at offset {expected}, and no snapshot holds what came before"));
        }
        let last = segments.len().saturating_sub(1);
        for (i, (_, file)) in segments.iter().enumerate() {
            let mut damage = None;
            let walked = walk(file, |view| {
                let batches = match read_batches(view.bytes().clone()) {
                    Ok(batches) => batches,
                    Err(error) => {
                        damage = Some(format!("at offset {}: {error}", view.base_offset()));
                        return false;
                    }
                };
                for batch in batches {
                    if batch.base_offset != expected {
                        damage = Some(format!("offset {} follows {expected}", batch.base_offset));
                        return false;
                    }
                    expected = batch.last_offset + 1;
                    for (kind, value) in &batch.controls {
                        self.learn_quorum(*kind, value);
                    }
                    self.replay(CommittedBatch {
                        base_offset: batch.base_offset,
                        last_offset: batch.last_offset,
                        epoch: batch.epoch,
                        append_timestamp_ms: batch.append_timestamp_ms,
                        size_in_bytes: batch.size_in_bytes,
                        records: batch.records,
                    });
                }
                true
            });
            let name = file.display();
            match walked {
                Err(error) => self.report.obstacles.push(format!("{name}: {error}")),
                Ok(_) if damage.is_some() => {
                    self.report.obstacles.push(format!("{name} is damaged {}", damage.unwrap_or_default()));
                }
                Ok(walked) if !walked.complete() && i == last => {
                    self.report
                        .remarks
                        .push(format!("{name} ends within a batch, which was not committed and is cut off"));
                }
                Ok(walked) if !walked.complete() => {
                    self.report.obstacles.push(format!("{name} is damaged at byte {}", walked.whole))
                }
                Ok(_) => {}
            }
        }
    }

    fn learn_quorum(&mut self, kind: Option<ControlType>, value: &Bytes) {
        let mut reader = Reader::new(value.clone());
        match kind {
            Some(ControlType::KraftVersion) => {
                if let Ok(record) = KRaftVersionRecord::decode(&mut reader, 0) {
                    self.report.kraft_version = record.kraft_version;
                }
            }
            Some(ControlType::KraftVoters) => {
                if let Ok(record) = VotersRecord::decode(&mut reader, 0) {
                    self.report.voters = record.voters.iter().map(|voter| voter.voter_id).collect();
                }
            }
            _ => {}
        }
    }

    fn replay(&mut self, mut batch: CommittedBatch) {
        let base = batch.base_offset;
        if base >= self.loader.next_offset() {
            let mut offset = base - 1;
            batch.records.retain(|record| {
                offset += 1;
                self.is_readable(offset, record)
            });
        }
        if let Err(error) = self.loader.replay(&batch) {
            self.report.obstacles.push(format!("metadata log: {error}"));
        }
    }

    fn is_readable(&mut self, offset: i64, record: &Bytes) -> bool {
        self.report.metadata_records += 1;
        match decode_framed(record.clone()) {
            Ok(_) => true,
            Err(error) => {
                self.unreadable.entry(error.to_string()).or_insert((0, offset)).0 += 1;
                false
            }
        }
    }

    fn finish(self) -> MetadataImage {
        for (what, (count, first)) in &self.unreadable {
            self.report.obstacles.push(format!(
                "{count} records of the metadata log are unknown to this version ({what}), the first at offset {first}"
            ));
        }
        if self.loader.in_transaction() {
            self.report
                .remarks
                .push("the metadata log ends within a transaction, which is aborted at the first start".to_owned());
        }
        let image = self.loader.stable_image();
        self.report.metadata_version = image.features.metadata_version;
        self.report.features = image.features.levels.clone();
        if self.report.voters.len() > 1 {
            self.report.obstacles.push(format!(
                "the metadata quorum has {} voters ({:?}); this version runs a quorum of one",
                self.report.voters.len(),
                self.report.voters
            ));
        }
        // 1: about to begin, 2: under way; 3 is a finished one (KIP-866)
        if matches!(image.features.zk_migration_state, 1 | 2) {
            self.report
                .obstacles
                .push("a migration from ZooKeeper is not finished: finish it with Apache Kafka 3.9 first".to_owned());
        }
        image
    }
}
