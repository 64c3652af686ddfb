//! The logs of a node that stopped, against what its metadata say: whether each is there and can be read, and what is in the internal ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use milena_common::Uuid;
use milena_log::checkpoint::PARTITION_METADATA;
use milena_metadata::image::{ConfigResource, MetadataImage, ResourceType};
use milena_protocol::framing::StoredKey as _;
use milena_protocol::records::{BatchView, DecompressLimit};
use milena_protocol::stored::group::{
    ConsumerGroupMetadataKey, GroupMetadataKey, ShareGroupMetadataKey, StreamsGroupMetadataKey,
};

use super::batches::walk;
use super::metadata::METADATA_LOG;
use super::{Question, Report};
use crate::storage_format::read_if_there;

const GROUPS: &str = "__consumer_offsets";
const SHARE_STATE: &str = "__share_group_state";
const REMOTE_LOG_METADATA: &str = "__remote_log_metadata";
/// Names listed in one remark.
const MOST_NAMED: usize = 5;

/// A log's directory.
struct Found {
    topic: String,
    partition: i32,
    path: PathBuf,
    /// The directory it is in was left in order.
    clean: bool,
}

/// Looks at every log.
pub(super) fn read(
    question: &Question,
    image: &MetadataImage,
    node_id: i32,
    report: &mut Report,
    progress: &mut dyn FnMut(u64, u64),
) {
    let found = list(question, report);
    compare(&found, image, node_id, report);
    name_what_is_not_served(image, report);
    let mut files = Vec::new();
    for log in &found {
        for (base_offset, file) in segments(&log.path) {
            let size = size_of(&file).unwrap_or(0);
            files.push((log, base_offset, file, size));
        }
    }
    let total = files.iter().map(|(.., size)| size).sum();
    (report.segments, report.log_bytes) = (files.len(), total);
    let mut groups = Groups::default();
    let mut done = 0;
    for (i, (log, base_offset, file, size)) in files.iter().enumerate() {
        let last = files.get(i + 1).is_none_or(|(next, ..)| next.path != log.path);
        read_segment(question, log, *base_offset, file, last, &mut groups, report);
        done += size;
        progress(done, total);
    }
    groups.finish(report);
}

fn list(question: &Question, report: &mut Report) -> Vec<Found> {
    let mut found = Vec::new();
    let mut moves = Vec::new();
    for (path, directory) in question.directories.iter().zip(&mut report.directories) {
        for name in names(path) {
            let log = path.join(&name);
            if name == METADATA_LOG || !log.is_dir() {
                continue;
            }
            if name.ends_with("-future") {
                moves.push(name);
            } else if let Some((topic, partition)) = partition_of(&name) {
                directory.logs += 1;
                found.push(Found { topic, partition, path: log, clean: directory.clean });
            }
        }
        if !directory.clean && directory.logs > 0 {
            let logs = directory.logs;
            report.remarks.push(format!(
                "{}: the node was not stopped in order; {logs} logs are checked from their recovery points at the first start",
                path.display()
            ));
        }
    }
    remark(report, &moves, "logs were being moved to another directory; the moves are not resumed");
    found
}

/// What the metadata place on this node must be there, and the other way round.
fn compare(found: &[Found], image: &MetadataImage, node_id: i32, report: &mut Report) {
    let mut here: BTreeMap<(&str, i32), &Found> = BTreeMap::new();
    for log in found {
        if let Some(twice) = here.insert((&log.topic, log.partition), log) {
            let (one, other) = (twice.path.display(), log.path.display());
            report.obstacles.push(format!("{}-{} is in {one} and in {other}", log.topic, log.partition));
        }
    }
    let (mut missing, mut strays, mut shared) = (Vec::new(), Vec::new(), Vec::new());
    report.topics = image.topics.len();
    for topic in image.topics.sorted_by_name() {
        for (partition, state) in &topic.partitions {
            if !state.replicas.contains(&node_id) {
                continue;
            }
            report.partitions += 1;
            let name = format!("{}-{partition}", topic.name);
            if state.replicas.len() > 1 {
                shared.push(name.clone());
            }
            let Some(log) = here.remove(&(&*topic.name, *partition)) else {
                missing.push(name);
                continue;
            };
            match topic_id(&log.path) {
                Ok(Some(id)) if id != topic.id => strays.push(name),
                Ok(_) => {}
                Err(error) => report.obstacles.push(error),
            }
        }
    }
    strays.extend(here.values().map(|log| format!("{}-{}", log.topic, log.partition)));
    remark(report, &missing, "partitions have no log here, and begin empty");
    remark(report, &strays, "logs belong to no topic that there is: they are set aside, not served and not deleted");
    if !shared.is_empty() {
        let brokers: BTreeSet<_> = image.cluster.brokers.keys().filter(|id| **id != node_id).collect();
        let (count, brokers) = (shared.len(), format!("{brokers:?}"));
        report.obstacles.push(format!(
            "{count} partitions have replicas on other brokers {brokers}; this version runs clusters of one node"
        ));
    }
}

fn name_what_is_not_served(image: &MetadataImage, report: &mut Report) {
    let tiered = |name: &str| image.configs.topic(name).get("remote.storage.enable").is_some_and(|v| v == "true");
    let topics: Vec<String> =
        image.topics.sorted_by_name().iter().filter(|t| tiered(&t.name)).map(|t| t.name.to_string()).collect();
    if !topics.is_empty() {
        let named = named(&topics);
        report.obstacles.push(format!(
            "{} topics keep older segments in remote storage, which is not read by this version: {named}",
            topics.len()
        ));
    } else if image.topics.by_name(REMOTE_LOG_METADATA).is_some() {
        report.remarks.push(format!(
            "tiered storage was on ({REMOTE_LOG_METADATA} exists) but no topic uses it; it is not served"
        ));
    }
    let subscriptions: Vec<&str> = image
        .configs
        .iter()
        .filter(|(resource, _)| matches!(resource.kind, ResourceType::ClientMetrics))
        .map(|(resource, _): (&ConfigResource, _)| &*resource.name)
        .collect();
    if !subscriptions.is_empty() {
        let names = subscriptions.join(", ");
        report.remarks.push(format!(
            "client metrics subscriptions are kept; clients are asked once milena.telemetry.otlp.endpoint is set: {names}"
        ));
    }
    if image.topics.by_name(SHARE_STATE).is_some() {
        report.remarks.push(format!("{SHARE_STATE} exists: share groups are kept as they are but not served"));
    }
    if !image.acls.entries.is_empty() {
        report.remarks.push(format!("{} ACLs are kept; they bind only under an authorizer", image.acls.entries.len()));
    }
}

/// Reads as much of a segment as was asked for.
fn read_segment(
    question: &Question,
    log: &Found,
    base_offset: i64,
    file: &Path,
    last: bool,
    groups: &mut Groups,
    report: &mut Report,
) {
    // what will be recovered is read to its end; what was closed in order only to its first batch, unless it is asked for
    let whole = question.deep || log.topic == GROUPS || (last && !log.clean);
    let mut next = base_offset;
    let mut damage = None;
    let walked = walk(file, |batch| {
        // offsets of old formats are checked by whoever unpacks them
        if batch.base_offset() < next && !batch.is_legacy() {
            damage = Some(format!("offset {} after {next}", batch.base_offset()));
        } else if question.deep
            && let Err(error) = batch.ensure_crc()
        {
            damage = Some(format!("offset {}: {error}", batch.base_offset()));
        }
        next = batch.last_offset() + 1;
        if log.topic == GROUPS && damage.is_none() {
            groups.learn(batch);
        }
        damage.is_none() && whole
    });
    let name = file.display();
    match walked {
        Err(error) => report.obstacles.push(format!("{name} cannot be read: {error}")),
        Ok(walked) if damage.is_some() || !walked.complete() => {
            let what = damage.unwrap_or_else(|| format!("no whole batch at byte {} of {}", walked.whole, walked.size));
            if last && !log.clean {
                report.remarks.push(format!("{name} is cut at the first start: {what}"));
            } else {
                report.obstacles.push(format!("{name} is damaged: {what}"));
            }
        }
        Ok(_) => {}
    }
}

/// Groups by the records that name them.
#[derive(Default)]
struct Groups(BTreeMap<(i16, String), bool>);

impl Groups {
    fn learn(&mut self, batch: &BatchView) {
        if batch.is_control() {
            return;
        }
        let Ok(records) = batch.records(DecompressLimit::default()) else { return };
        for record in records.flatten() {
            let Some(key) = record.key.as_deref() else { continue };
            if let Some((key_type, group)) = group_of(key) {
                self.0.insert((key_type, group.to_owned()), record.value.is_some());
            }
        }
    }

    fn finish(self, report: &mut Report) {
        for ((key_type, _), _) in self.0.into_iter().filter(|(_, present)| *present) {
            *report.groups.entry(kind_of(key_type)).or_default() += 1;
        }
        for kind in ["share", "streams"] {
            if let Some(count) = report.groups.get(kind) {
                report.remarks.push(format!("{count} {kind} groups are kept as they are but not served"));
            }
        }
    }
}

fn kind_of(key_type: i16) -> &'static str {
    match key_type {
        GroupMetadataKey::TYPE => "classic",
        ConsumerGroupMetadataKey::TYPE => "consumer",
        ShareGroupMetadataKey::TYPE => "share",
        _ => "streams",
    }
}

/// The group that a key is the metadata of.
fn group_of(key: &[u8]) -> Option<(i16, &str)> {
    let number = |at: usize| Some(i16::from_be_bytes(key.get(at..at + 2)?.try_into().ok()?));
    let key_type = number(0)?;
    let known = [
        GroupMetadataKey::TYPE,
        ConsumerGroupMetadataKey::TYPE,
        ShareGroupMetadataKey::TYPE,
        StreamsGroupMetadataKey::TYPE,
    ];
    if !known.contains(&key_type) {
        return None;
    }
    let len = usize::try_from(number(2)?).ok()?;
    Some((key_type, std::str::from_utf8(key.get(4..4 + len)?).ok()?))
}

fn remark(report: &mut Report, names: &[String], what: &str) {
    if !names.is_empty() {
        report.remarks.push(format!("{} {what}: {}", names.len(), named(names)));
    }
}

/// The first few.
fn named(names: &[String]) -> String {
    let mut text = names.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > MOST_NAMED {
        text += ", ...";
    }
    text
}

/// Segments of a log by base offset.
pub(super) fn segments(log: &Path) -> Vec<(i64, PathBuf)> {
    let base = |name: &str| name.strip_suffix(".log").filter(|digits| digits.len() == 20)?.parse().ok();
    let mut found: Vec<(i64, PathBuf)> =
        names(log).iter().filter_map(|name| Some((base(name)?, log.join(name)))).collect();
    found.sort();
    found
}

/// Entries of a directory, in order; none if it cannot be read, which its owner was told.
#[expect(
    clippy::disallowed_methods,
    reason = "directories are looked at before there is a log manager with a door of its own"
)]
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn size_of(file: &Path) -> std::io::Result<u64> {
    Ok(std::fs::metadata(file)?.len())
}

fn partition_of(name: &str) -> Option<(String, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let digits = !partition.is_empty() && partition.bytes().all(|b| b.is_ascii_digit());
    (digits && !topic.is_empty()).then_some((topic.to_owned(), partition.parse().ok()?))
}

fn topic_id(log: &Path) -> Result<Option<Uuid>, String> {
    let file = log.join(PARTITION_METADATA);
    let shown = file.display();
    let Some(bytes) = read_if_there(&file).map_err(|error| format!("{shown}: {error}"))? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id: ")).and_then(|id| id.trim().parse().ok());
    id.map(Some).ok_or_else(|| format!("{shown} names no topic id"))
}
