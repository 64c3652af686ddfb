//! Formatting of data directories: `meta.properties` and `bootstrap.checkpoint` in each, as Kafka's tool does it; the server reads
//! the latter where the metadata log is.
//!
//! Writes what it is told; deciding what that is, and talking about it, is the tool's business. Called by `kafka-storage
//! format` and `milena dev`; the server reads back what lies here at start. Files are those of Apache Kafka 4.3.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use milena_common::Uuid;
use milena_metadata::Bootstrap;
use milena_metadata::versions::encode_record;
use milena_protocol::stored::control::VotersRecord;
use milena_protocol::stored::control::voters_record::{
    Endpoint as VoterEndpoint, KRaftVersionFeature, Voter as VoterRecord,
};
use milena_protocol::stored::metadata::{MetadataRecord, decode_framed};
use milena_raft::{OffsetAndEpoch, QuorumRecords, Snapshot, SnapshotError, build_snapshot, read_snapshot};

const META_PROPERTIES: &str = "meta.properties";
const METADATA_LOG: &str = "__cluster_metadata-0";
const BOOTSTRAP: &str = "bootstrap.checkpoint";

/// A directory to format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatDirectory {
    pub path: PathBuf,
    /// Holds the metadata log.
    pub metadata: bool,
    pub id: Uuid,
}

/// What to write where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatPlan {
    pub cluster_id: String,
    pub node_id: i32,
    /// Level of `metadata.version`.
    pub metadata_version: i16,
    /// Levels of the other features; 0 is left out.
    pub features: BTreeMap<String, i16>,
    pub directories: Vec<FormatDirectory>,
    /// The first voters of a quorum that the log itself names (`kraft.version` 1); empty when the configuration names them.
    pub voters: Vec<FormatVoter>,
}

/// A first member of the quorum (KIP-853).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatVoter {
    pub id: i32,
    /// Its metadata directory.
    pub directory_id: Uuid,
    /// Name of its controller listener, in capitals.
    pub listener: String,
    pub host: String,
    pub port: u16,
}

/// What a formatted directory says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    /// `None` in directories of before JBOD.
    pub directory_id: Option<Uuid>,
    /// 1; 0 in directories of brokers that used ZooKeeper.
    pub version: i32,
}

/// Why a directory cannot be formatted or read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
    #[error("{path}: {error}")]
    Snapshot { path: String, error: SnapshotError },
    #[error("{path}: {what}")]
    Content { path: String, what: String },
}

impl FormatError {
    fn io(path: &Path, error: io::Error) -> Self {
        FormatError::Io { path: path.display().to_string(), error }
    }

    fn content(path: &Path, what: impl Into<String>) -> Self {
        FormatError::Content { path: path.display().to_string(), what: what.into() }
    }
}

/// Formats all directories of a plan; those of other data directories are left alone. `now_ms` is the present, in
/// milliseconds since 1970. The metadata directory comes last: its `meta.properties` says that everything is there.
///
/// # Errors
/// See [`FormatError`]; what was written until then stays.
pub fn format(plan: &FormatPlan, now_ms: i64) -> Result<(), FormatError> {
    let (metadata, data): (Vec<_>, Vec<_>) = plan.directories.iter().partition(|directory| directory.metadata);
    for directory in data.into_iter().chain(metadata) {
        let path = &directory.path;
        create_dir(path).map_err(|error| FormatError::io(path, error))?;
        write_bootstrap(path, plan, now_ms)?;
        if directory.metadata && !plan.voters.is_empty() {
            write_voters(path, plan, now_ms)?;
        }
        let properties = MetaProperties {
            cluster_id: plan.cluster_id.clone(),
            node_id: plan.node_id,
            directory_id: Some(directory.id),
            version: 1,
        };
        let file = path.join(META_PROPERTIES);
        write_durably(&file, &[properties.to_text().into()]).map_err(|error| FormatError::io(&file, error))?;
    }
    Ok(())
}

/// The snapshot before the log that names the first voters, as Kafka writes it.
fn write_voters(directory: &Path, plan: &FormatPlan, now_ms: i64) -> Result<(), FormatError> {
    let voter = |voter: &FormatVoter| VoterRecord {
        voter_id: voter.id,
        voter_directory_id: voter.directory_id,
        endpoints: vec![VoterEndpoint { name: voter.listener.clone(), host: voter.host.clone(), port: voter.port }],
        kraft_version_feature: KRaftVersionFeature { min_supported_version: 0, max_supported_version: 1 },
    };
    let voters = VotersRecord { version: 0, voters: plan.voters.iter().map(voter).collect() };
    let snapshot = Snapshot {
        last_contained_log_timestamp_ms: now_ms,
        quorum: QuorumRecords { kraft_version: 1, voters: Some(voters) },
        records: Vec::new(),
    };
    let path = directory.join(METADATA_LOG);
    create_dir(&path).map_err(|error| FormatError::io(&path, error))?;
    let file = path.join(OffsetAndEpoch { offset: 0, epoch: 0 }.snapshot_file_name());
    let content = build_snapshot(&snapshot, 0, now_ms)
        .map_err(|error| FormatError::Snapshot { path: file.display().to_string(), error })?;
    write_durably(&file, &content).map_err(|error| FormatError::io(&file, error))
}

fn write_bootstrap(directory: &Path, plan: &FormatPlan, now_ms: i64) -> Result<(), FormatError> {
    let file = directory.join(BOOTSTRAP);
    let bootstrap = Bootstrap::with_features(plan.metadata_version, plan.features.clone());
    let encode = |record: &MetadataRecord| encode_record(record, plan.metadata_version);
    let records: Vec<Bytes> = bootstrap
        .records
        .iter()
        .map(encode)
        .collect::<Result<_, _>>()
        .map_err(|error| FormatError::content(&file, error.to_string()))?;
    let snapshot = Snapshot { records, ..Default::default() };
    let content = build_snapshot(&snapshot, 0, now_ms)
        .map_err(|error| FormatError::Snapshot { path: file.display().to_string(), error })?;
    write_durably(&file, &content).map_err(|error| FormatError::io(&file, error))
}

/// What `bootstrap.checkpoint` says; `None` when there is no such file.
///
/// # Errors
/// When it cannot be read, or does not say which level the cluster has.
pub fn read_bootstrap(metadata_directory: &Path) -> Result<Option<Bootstrap>, FormatError> {
    let file = metadata_directory.join(BOOTSTRAP);
    let Some(bytes) = read_if_there(&file).map_err(|error| FormatError::io(&file, error))? else {
        return Ok(None);
    };
    let snapshot = read_snapshot(bytes.into())
        .map_err(|error| FormatError::Snapshot { path: file.display().to_string(), error })?;
    let records: Vec<MetadataRecord> = snapshot
        .records
        .into_iter()
        .map(decode_framed)
        .collect::<Result<_, _>>()
        .map_err(|error| FormatError::content(&file, error.to_string()))?;
    match Bootstrap::from_records(records) {
        Some(bootstrap) => Ok(Some(bootstrap)),
        None => Err(FormatError::content(&file, "no record sets metadata.version")),
    }
}

impl MetaProperties {
    fn to_text(&self) -> String {
        let directory = self.directory_id.map(|id| format!("directory.id={id}\n")).unwrap_or_default();
        format!("#\nnode.id={}\n{directory}version={}\ncluster.id={}\n", self.node_id, self.version, self.cluster_id)
    }
}

/// What `meta.properties` says; `None` when the directory is not formatted.
///
/// # Errors
/// When the file cannot be read or lacks what it must have.
pub fn read_meta_properties(directory: &Path) -> Result<Option<MetaProperties>, FormatError> {
    let file = directory.join(META_PROPERTIES);
    let Some(bytes) = read_if_there(&file).map_err(|error| FormatError::io(&file, error))? else {
        return Ok(None);
    };
    let text = milena_common::config::properties::decode_latin1(&bytes);
    let pairs = milena_common::config::properties::parse(&text)
        .map_err(|error| FormatError::content(&file, error.to_string()))?;
    let pairs: BTreeMap<String, String> = pairs.into_iter().collect();
    let integer = |key: &str| match pairs.get(key) {
        Some(text) => text
            .trim()
            .parse::<i32>()
            .map_err(|_| FormatError::content(&file, format!("{key} is not a number: {text}"))),
        None => Err(FormatError::content(&file, format!("{key} is missing"))),
    };
    let version = integer("version")?;
    let node_id = integer(if version == 0 { "broker.id" } else { "node.id" })?;
    let cluster_id = match pairs.get("cluster.id") {
        Some(id) => id.clone(),
        None if version == 0 => String::new(),
        None => return Err(FormatError::content(&file, "cluster.id is missing")),
    };
    let directory_id = match pairs.get("directory.id") {
        Some(text) => {
            Some(text.parse().map_err(|_| FormatError::content(&file, format!("directory.id is not an id: {text}")))?)
        }
        None => None,
    };
    Ok(Some(MetaProperties { cluster_id, node_id, directory_id, version }))
}

#[expect(
    clippy::disallowed_methods,
    reason = "formatting happens before there is a log directory with a door of its own"
)]
fn create_dir(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

#[expect(clippy::disallowed_methods, reason = "the files beside the logs, read before these are open")]
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file so that after a crash it is there as a whole or as it was: temporary file, sync, rename, sync of the directory.
#[expect(clippy::disallowed_methods, reason = "the files beside the logs: vote, snapshots, meta.properties")]
pub(crate) fn write_durably(path: &Path, pieces: &[Bytes]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary)?;
    for piece in pieces {
        file.write_all(piece)?;
    }
    file.sync_all()?;
    drop(file);
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(path: &Path) -> FormatPlan {
        FormatPlan {
            cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
            node_id: 1,
            metadata_version: 30,
            features: Bootstrap::at_level(30)
                .records
                .iter()
                .filter_map(|record| match record {
                    MetadataRecord::FeatureLevel(r) if r.name != "metadata.version" => {
                        Some((r.name.clone(), r.feature_level))
                    }
                    _ => None,
                })
                .collect(),
            directories: vec![
                FormatDirectory { path: path.join("a"), metadata: true, id: Uuid::from_u128(1000) },
                FormatDirectory { path: path.join("b"), metadata: false, id: Uuid::from_u128(2000) },
            ],
            voters: Vec::new(),
        }
    }

    #[test]
    fn what_was_formatted_is_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        format(&plan(dir.path()), 1_795_486_006_244).expect("formats");
        let a = read_meta_properties(&dir.path().join("a")).expect("reads").expect("is formatted");
        assert_eq!((a.cluster_id.as_str(), a.node_id, a.version), ("MkU3OEVBNTcwNTJENDM2Qg", 1, 1));
        assert_eq!(a.directory_id, Some(Uuid::from_u128(1000)));
        assert_eq!(read_bootstrap(&dir.path().join("a")).expect("reads"), Some(Bootstrap::at_level(30)));
        assert_eq!(read_bootstrap(dir.path()).expect("reads"), None);
        assert_eq!(read_meta_properties(dir.path()).expect("reads"), None);
    }

    /// Byte for byte the file of `kafka-storage.sh format` of Kafka 4.3.1, but for the times of its batches.
    #[test]
    fn bootstrap_checkpoint_is_kafkas() {
        let dir = tempfile::tempdir().expect("a directory");
        format(&plan(dir.path()), 1_795_486_006_244).expect("formats");
        let ours = read_if_there(&dir.path().join("a").join(BOOTSTRAP)).expect("reads").expect("is there");
        assert_eq!(ours.len(), 411);
        let records = read_snapshot(ours.into()).expect("is a snapshot").records;
        assert_eq!(records[0], Bytes::from_static(b"\x01\x0c\x00\x11metadata.version\x00\x1e\x00"));
        assert_eq!(records[5], Bytes::from_static(b"\x01\x0c\x00\x14transaction.version\x00\x02\x00"));
    }

    /// The file of `kafka-storage.sh format --standalone` of Kafka 4.3.1, but for the times and checksums of its batches.
    #[test]
    fn first_voters_are_kafkas() {
        let dir = tempfile::tempdir().expect("a directory");
        let voter = FormatVoter {
            id: 1,
            directory_id: "wUgr-B0TR1OV2UEbBXbcpg".parse().expect("an id"),
            listener: "CONTROLLER".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 20760,
        };
        let plan = FormatPlan { voters: vec![voter], ..plan(dir.path()) };
        format(&plan, 1_795_489_029_493).expect("formats");
        let file = dir.path().join("a/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint");
        let ours = read_if_there(&file).expect("reads").expect("is there");
        assert_eq!(ours.len(), 241);
        assert_eq!(ours[0x3d..0x3d + KAFKAS_CONTROLS.len()], *KAFKAS_CONTROLS);
        let read = read_snapshot(ours.into()).expect("is a snapshot");
        assert_eq!(read.quorum.kraft_version, 1);
        assert_eq!(read.quorum.voters.map(|v| v.voters.len()), Some(1));
        assert!(!dir.path().join("b/__cluster_metadata-0").exists());
    }

    /// The header, version and voters records between the header of the first batch and the second batch.
    const KAFKAS_CONTROLS: &[u8] = b"\x2a\x00\x00\x00\x08\x00\x00\x00\x03\x16\x00\x00\x00\x00\x01\xa2\x0b\x7c\x5d\
        \x75\x00\x00\x1e\x00\x00\x02\x08\x00\x00\x00\x05\x0a\x00\x00\x00\x01\x00\x00\x82\x01\x00\x00\x04\x08\x00\x00\x00\x06\
        \x6e\x00\x00\x02\x00\x00\x00\x01\xc1\x48\x2b\xf8\x1d\x13\x47\x53\x95\xd9\x41\x1b\x05\x76\xdc\xa6\x02\x0b\
        CONTROLLER\x0a127.0.0.1\x51\x18\x00\x00\x00\x00\x01\x00\x00\x00";
}
