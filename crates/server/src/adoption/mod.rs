//! Whether this program can take over the directories of a node that stopped, Apache Kafka's or its own: who they belong to, what the metadata
//! ask for, whether every log can be read, and what of it all is not served.
//!
//! Reads only: not even a lock is taken, and files are opened without the right to write. Decides what is an obstacle and what a remark;
//! wording the whole for people is the program's business. Called by `milena adopt`.

mod batches;
mod locks;
mod metadata;
mod partitions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use milena_common::Uuid;
use milena_common::config::BrokerConfig;
use milena_log::checkpoint::CLEAN_SHUTDOWN;
use milena_metadata::versions::{MIN_METADATA_VERSION, supported_features, version_name};

use crate::storage_format::{read_if_there, read_meta_properties};

/// What to look at, and how closely.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// `log.dirs`, and the metadata directory if it is none of them.
    pub directories: Vec<PathBuf>,
    /// Who wants to take over; `None` if only directories were named.
    pub node_id: Option<i32>,
    /// Read every batch of every log and check its checksum.
    pub deep: bool,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub cluster_id: Option<String>,
    pub node_id: Option<i32>,
    pub directories: Vec<Directory>,
    /// Level of `metadata.version`; 0 if nothing says.
    pub metadata_version: i16,
    /// The other finalized features.
    pub features: BTreeMap<String, i16>,
    /// Members of the metadata quorum.
    pub voters: Vec<i32>,
    /// 0: the configuration names them; 1: the log does.
    pub kraft_version: i16,
    /// Records of the metadata log that were read, its newest snapshot included.
    pub metadata_records: u64,
    pub topics: usize,
    /// Replicas that the metadata place on this node.
    pub partitions: usize,
    pub segments: usize,
    pub log_bytes: u64,
    /// Groups with offsets or members, by kind.
    pub groups: BTreeMap<&'static str, usize>,
    /// Why a node cannot start here, or would lose or refuse something that is there.
    pub obstacles: Vec<String>,
    /// What its owner should know: what is not served, what will be repaired.
    pub remarks: Vec<String>,
}

/// One of the directories.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    pub path: PathBuf,
    pub id: Option<Uuid>,
    /// The node that used it last was stopped in order.
    pub clean: bool,
    /// The process that uses it.
    pub held_by: Option<i32>,
    /// Logs in it, whether the metadata know them or not.
    pub logs: usize,
}

impl Report {
    /// Nothing is in the way.
    pub fn can_take_over(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// Why a node with this configuration cannot start, whatever its directories hold.
pub fn unsupported(config: &BrokerConfig) -> Option<String> {
    crate::node::check_roles(config).err().map(|error| error.to_string())
}

/// Kafka's name of a level of `metadata.version`.
pub fn release_of(level: i16) -> Option<&'static str> {
    version_name(level)
}

/// Looks at everything. `progress` is told how many bytes of logs were dealt with, of how many.
pub fn survey(question: &Question, progress: &mut dyn FnMut(u64, u64)) -> Report {
    let mut report = Report::default();
    for path in &question.directories {
        look_at_directory(path, question, &mut report);
    }
    if report.cluster_id.is_none() {
        return report;
    }
    let image = metadata::read(&question.directories, &mut report);
    judge_features(&mut report);
    let node_id = question.node_id.or(report.node_id).unwrap_or(-1);
    partitions::read(question, &image, node_id, &mut report, progress);
    report
}

/// Whose a directory is, and whether it is free.
fn look_at_directory(path: &Path, question: &Question, report: &mut Report) {
    let shown = path.display();
    let mut directory = Directory { path: path.to_path_buf(), ..Default::default() };
    match read_meta_properties(path) {
        Ok(Some(properties)) => {
            if properties.version == 0 {
                report
                    .obstacles
                    .push(format!("{shown} belongs to a node that uses ZooKeeper: migrate it to KRaft first"));
            }
            directory.id = properties.directory_id;
            if directory.id.is_none() {
                report.remarks.push(format!("{shown} has no directory.id yet: it is given one at the first start"));
            }
            if let Some(wanted) = question.node_id.filter(|wanted| *wanted != properties.node_id) {
                let owner = properties.node_id;
                report
                    .obstacles
                    .push(format!("{shown} belongs to node {owner}, the configuration is that of node {wanted}"));
            }
            match (&report.cluster_id, report.node_id) {
                (Some(cluster), Some(node)) if *cluster != properties.cluster_id || node != properties.node_id => {
                    report.obstacles.push(format!(
                        "{shown} belongs to node {} of cluster {}, other directories to node {node} of cluster {cluster}",
                        properties.node_id, properties.cluster_id
                    ));
                }
                _ => {
                    report.cluster_id = Some(properties.cluster_id);
                    report.node_id = Some(properties.node_id);
                }
            }
        }
        Ok(None) if path.is_dir() => {
            report.obstacles.push(format!("{shown} is not formatted: it has no meta.properties"));
        }
        Ok(None) => report.obstacles.push(format!("{shown} is no directory")),
        Err(error) => report.obstacles.push(error.to_string()),
    }
    directory.held_by = match locks::holder(path) {
        Ok(holder) => holder,
        Err(error) => {
            report.obstacles.push(format!("{shown}: the lock file cannot be looked at: {error}"));
            None
        }
    };
    if let Some(process) = directory.held_by {
        report.obstacles.push(format!("{shown} is in use by process {process}: stop it first"));
    }
    directory.clean = matches!(read_if_there(&path.join(CLEAN_SHUTDOWN)), Ok(Some(_)));
    report.directories.push(directory);
}

fn judge_features(report: &mut Report) {
    let known = supported_features();
    let level = report.metadata_version;
    if level == 0 {
        report.obstacles.push("nothing says which metadata.version the cluster has".to_owned());
    } else if version_name(level).is_none() {
        let relation = if level < MIN_METADATA_VERSION { "older" } else { "newer" };
        report.obstacles.push(format!("metadata.version {level} is {relation} than what this version knows"));
    }
    for (name, level) in &report.features {
        match known.get(name) {
            Some(range) if (range.min..=range.max).contains(level) => {}
            Some(range) => {
                report.obstacles.push(format!(
                    "feature {name} is at level {level}; this version knows {} to {}",
                    range.min, range.max
                ));
            }
            None => report.obstacles.push(format!("feature {name} (level {level}) is not known to this version")),
        }
    }
}
