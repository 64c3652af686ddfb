//! The small text files of a log directory: offset checkpoints, `meta.properties`, `partition.metadata`, `.kafka_cleanshutdown`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use milena_common::{TopicPartition, Uuid};

use crate::error::{At as _, LogError};
use crate::fs::Fs;

pub const RECOVERY_POINT: &str = "recovery-point-offset-checkpoint";
pub const LOG_START: &str = "log-start-offset-checkpoint";
pub const HIGH_WATERMARK: &str = "replication-offset-checkpoint";
pub const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
pub const META_PROPERTIES: &str = "meta.properties";
pub const PARTITION_METADATA: &str = "partition.metadata";
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";

/// Offsets by partition, as an `*-offset-checkpoint` file has them.
pub type Offsets = BTreeMap<TopicPartition, i64>;

/// Reads an offset checkpoint; a missing file is empty.
pub fn read_offsets(fs: &dyn Fs, path: &Path) -> Result<Offsets, LogError> {
    if !fs.exists(path) {
        return Ok(Offsets::new());
    }
    let bytes = fs.read(path).at(path)?;
    let text = String::from_utf8_lossy(&bytes);
    decode_offsets(&text).ok_or_else(|| {
        LogError::corrupt(
            path,
            "not an offset checkpoint: version 0, a count, and lines of topic, partition and offset",
        )
    })
}

fn decode_offsets(text: &str) -> Option<Offsets> {
    // Kafka makes the files before it has anything to say
    if text.is_empty() {
        return Some(Offsets::new());
    }
    let mut lines = text.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let mut out = Offsets::new();
    for line in lines.take(count) {
        let mut words = line.split(' ');
        let (topic, partition, offset) = (words.next()?, words.next()?, words.next()?);
        out.insert(TopicPartition::new(topic, partition.parse().ok()?), offset.parse().ok()?);
    }
    (out.len() == count).then_some(out)
}

/// Writes an offset checkpoint.
pub fn write_offsets(fs: &dyn Fs, path: &Path, offsets: &Offsets) -> Result<(), LogError> {
    let mut text = format!("0\n{}\n", offsets.len());
    for (tp, offset) in offsets {
        let _ = writeln!(text, "{} {} {offset}", tp.topic, tp.partition);
    }
    fs.replace(path, text.as_bytes(), true).at(path)
}

/// What `meta.properties` says: whose directory this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    /// Zero if the file has none (it is then given one).
    pub directory_id: Uuid,
}

impl MetaProperties {
    /// Reads it; none if the directory was never formatted.
    pub fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<MetaProperties>, LogError> {
        let path = dir.join(META_PROPERTIES);
        if !fs.exists(&path) {
            return Ok(None);
        }
        let bytes = fs.read(&path).at(&path)?;
        let text = String::from_utf8_lossy(&bytes);
        let pairs =
            milena_common::config::properties::parse(&text).map_err(|e| LogError::corrupt(&path, e.to_string()))?;
        let get = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.trim());
        let node = get("node.id")
            .or_else(|| get("broker.id"))
            .ok_or_else(|| LogError::corrupt(&path, "node.id is missing"))?;
        Ok(Some(MetaProperties {
            cluster_id: get("cluster.id").unwrap_or_default().to_string(),
            node_id: node.parse().map_err(|_| LogError::corrupt(&path, format!("node.id is not a number: {node}")))?,
            directory_id: match get("directory.id") {
                Some(id) => {
                    id.parse().map_err(|_| LogError::corrupt(&path, format!("directory.id is not an id: {id}")))?
                }
                None => Uuid::ZERO,
            },
        }))
    }

    /// Writes it, version 1.
    pub fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<(), LogError> {
        let path = dir.join(META_PROPERTIES);
        let text = format!(
            "#\nversion=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
            self.cluster_id, self.node_id, self.directory_id
        );
        fs.replace(&path, text.as_bytes(), true).at(&path)
    }
}

/// Reads `partition.metadata`; none if the log was made before topic ids.
pub fn read_topic_id(fs: &dyn Fs, partition_dir: &Path) -> Result<Option<Uuid>, LogError> {
    let path = partition_dir.join(PARTITION_METADATA);
    if !fs.exists(&path) {
        return Ok(None);
    }
    let bytes = fs.read(&path).at(&path)?;
    let text = String::from_utf8_lossy(&bytes);
    let id = text.lines().find_map(|l| l.strip_prefix("topic_id: ")).and_then(|id| id.trim().parse().ok());
    id.map(Some).ok_or_else(|| LogError::corrupt(&path, "no topic_id"))
}

/// Writes `partition.metadata`.
pub fn write_topic_id(fs: &dyn Fs, partition_dir: &Path, topic_id: Uuid) -> Result<(), LogError> {
    let path = partition_dir.join(PARTITION_METADATA);
    fs.replace(&path, format!("version: 0\ntopic_id: {topic_id}\n").as_bytes(), false).at(&path)
}

/// The broker epoch of the run that was shut down cleanly; none after a crash. -1 if the file does not say.
pub fn read_clean_shutdown(fs: &dyn Fs, dir: &Path) -> Option<i64> {
    let bytes = fs.read(&dir.join(CLEAN_SHUTDOWN)).ok()?;
    let json: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    Some(json.and_then(|j| j.get("brokerEpoch")?.as_i64()).unwrap_or(-1))
}

/// Says that everything in the directory is complete.
pub fn write_clean_shutdown(fs: &dyn Fs, dir: &Path, broker_epoch: i64) -> Result<(), LogError> {
    let path = dir.join(CLEAN_SHUTDOWN);
    fs.replace(&path, format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}").as_bytes(), true).at(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_need_all_their_lines() {
        let text = "0\n2\na 0 5\nb-c 1 7\n";
        let offsets = decode_offsets(text).unwrap();
        assert_eq!(offsets.get(&TopicPartition::new("b-c", 1)), Some(&7));
        assert_eq!(decode_offsets(""), Some(Offsets::new()));
        assert_eq!(decode_offsets("0\n2\na 0 5\n"), None);
        assert_eq!(decode_offsets("1\n0\n"), None);
    }
}
