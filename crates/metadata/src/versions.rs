//! Levels of `metadata.version` and of the other features: what they are called, which records a level may write, and
//! how a record is framed in the log.
//!
//! Facts: levels 7 (3.3-IV3) to 30 (4.3-IV0) as Apache Kafka 4.3 knows them.

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_protocol::EncodeError;
use milena_protocol::stored::metadata::{MetadataRecord, encode_framed};

use crate::image::{METADATA_VERSION, VersionRange};

/// The level below which Kafka 4 does not start.
pub const MIN_METADATA_VERSION: i16 = 7;
/// The level that a new cluster gets.
pub const LATEST_METADATA_VERSION: i16 = 30;

const NAMES: [&str; 24] = [
    "3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2", "3.7-IV0", "3.7-IV1",
    "3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0", "4.0-IV1", "4.0-IV2", "4.0-IV3", "4.1-IV0",
    "4.1-IV1", "4.2-IV0", "4.2-IV1", "4.3-IV0",
];

/// Kafka's name of a level, such as `4.3-IV0`.
pub fn version_name(level: i16) -> Option<&'static str> {
    NAMES.get(usize::try_from(level.checked_sub(MIN_METADATA_VERSION)?).ok()?).copied()
}

/// The level of a name or of a release: `4.3-IV0`, `4.3`, `3.9.1`.
pub fn version_level(name: &str) -> Option<i16> {
    let exact = NAMES.iter().position(|known| *known == name);
    let release = || {
        let short = name.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        NAMES.iter().rposition(|known| known.split('-').next() == Some(&short))
    };
    let index = exact.or_else(release)?;
    i16::try_from(index).ok().map(|i| i + MIN_METADATA_VERSION)
}

/// Whether what is stored changed between two levels, so that going back from `current` to `older` could lose something.
pub(crate) fn metadata_changed_since(older: i16, current: i16) -> bool {
    const CHANGES: [i16; 8] = [8, 11, 13, 14, 15, 17, 23, 30];
    CHANGES.iter().any(|level| (older + 1..=current).contains(level))
}

/// `metadata.version` levels that matter to records.
pub(crate) mod gates {
    /// Broker registrations may say that the broker migrates from ZooKeeper.
    pub(crate) const ZK_MIGRATION: i16 = 8;
    /// SCRAM credentials are stored (KIP-900).
    pub(crate) const SCRAM: i16 = 11;
    /// A smaller ISR does not raise the leader epoch any more.
    pub(crate) const NO_EPOCH_BUMP_ON_ISR_SHRINK: i16 = 12;
    /// Controllers register (KIP-919).
    pub(crate) const CONTROLLER_REGISTRATION: i16 = 15;
    /// Replicas have directories (KIP-858).
    pub(crate) const DIRECTORIES: i16 = 17;
    /// Eligible leader replicas (KIP-966).
    pub(crate) const ELR: i16 = 23;
    /// Cordoned log directories.
    pub(crate) const CORDONED: i16 = 30;
}

/// Every feature that this program understands, with its range; what a node says at registration and in ApiVersions.
pub fn supported_features() -> BTreeMap<String, VersionRange> {
    let range = |min, max| VersionRange { min, max };
    [
        (METADATA_VERSION, range(MIN_METADATA_VERSION, LATEST_METADATA_VERSION)),
        ("kraft.version", range(0, 1)),
        ("transaction.version", range(0, 2)),
        ("group.version", range(0, 1)),
        ("eligible.leader.replicas.version", range(0, 1)),
        ("share.version", range(0, 1)),
        ("streams.version", range(0, 1)),
    ]
    .into_iter()
    .map(|(name, range)| (name.to_owned(), range))
    .collect()
}

/// Level each feature other than `metadata.version` gets when a cluster is formatted at `metadata_version`; 0 is left out.
pub fn default_feature_levels(metadata_version: i16) -> BTreeMap<&'static str, i16> {
    [
        ("eligible.leader.replicas.version", 26, 1),
        ("group.version", 22, 1),
        ("share.version", 28, 1),
        ("streams.version", 29, 1),
        ("transaction.version", 24, 2),
    ]
    .into_iter()
    .filter(|&(_, since, _)| metadata_version >= since)
    .map(|(name, _, level)| (name, level))
    .collect()
}

/// The version in which a record is written while `metadata.version` is `level`.
pub fn record_version(record: &MetadataRecord, level: i16) -> i16 {
    match record {
        MetadataRecord::RegisterBroker(_) => match level {
            gates::CORDONED.. => 4,
            gates::DIRECTORIES.. => 3,
            gates::ZK_MIGRATION.. => 2,
            _ => 1,
        },
        MetadataRecord::Partition(_) | MetadataRecord::PartitionChange(_) => match level {
            gates::ELR.. => 2,
            gates::DIRECTORIES.. => 1,
            _ => 0,
        },
        // The lowest that holds what it says, as Kafka writes it.
        MetadataRecord::BrokerRegistrationChange(r) => match r {
            r if r.cordoned_log_dirs.is_some() => 3,
            r if !r.log_dirs.is_empty() => 2,
            r if r.in_controlled_shutdown != 0 => 1,
            _ => 0,
        },
        _ => 0,
    }
}

/// Takes out of a record what `metadata.version` = `level` does not have: eligible leader replicas, directories.
///
/// What is appended and what is replayed must be the same, so this comes before both.
pub fn fit_to_level(record: &mut MetadataRecord, level: i16) {
    match record {
        MetadataRecord::Partition(r) => {
            if level < gates::ELR {
                (r.eligible_leader_replicas, r.last_known_elr) = (None, None);
            }
            if level < gates::DIRECTORIES {
                r.directories.clear();
            }
        }
        MetadataRecord::PartitionChange(r) => {
            if level < gates::ELR {
                (r.eligible_leader_replicas, r.last_known_elr) = (None, None);
            }
            if level < gates::DIRECTORIES {
                r.directories = None;
            }
        }
        MetadataRecord::RegisterBroker(r) => {
            if level < gates::CORDONED {
                r.cordoned_log_dirs = None;
            }
            if level < gates::DIRECTORIES {
                r.log_dirs.clear();
            }
        }
        _ => {}
    }
}

/// A record as the metadata log stores it, for `metadata.version` = `level`; see `fit_to_level`.
///
/// # Errors
/// When the record cannot be encoded, for example because a string is too long.
pub fn encode_record(record: &MetadataRecord, level: i16) -> Result<Bytes, EncodeError> {
    encode_framed(record, record_version(record, level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_kafkas_names() {
        assert_eq!(version_name(30), Some("4.3-IV0"));
        assert_eq!(version_name(7), Some("3.3-IV3"));
        assert_eq!(version_name(23), Some("4.0-IV1"));
        assert_eq!(version_name(31), None);
        assert_eq!(version_level("4.3"), Some(30));
        assert_eq!(version_level("3.9.1"), Some(21));
        assert_eq!(version_level("3.7-IV2"), Some(17));
        assert_eq!(version_level("2.8"), None);
    }
}
