//! What a new cluster's metadata log begins with: feature levels, and what formatting was asked to add.

use std::collections::BTreeMap;

use milena_protocol::stored::metadata::{ConfigRecord, FeatureLevelRecord, MetadataRecord};

use crate::image::{METADATA_VERSION, ResourceType};
use crate::versions::{LATEST_METADATA_VERSION, default_feature_levels};

/// The first records of a metadata log.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    pub records: Vec<MetadataRecord>,
}

impl Default for Bootstrap {
    /// A cluster of the newest level with that level's default features.
    fn default() -> Self {
        Self::at_level(LATEST_METADATA_VERSION)
    }
}

impl Bootstrap {
    /// A cluster of one `metadata.version` with that level's default features.
    pub fn at_level(metadata_version: i16) -> Self {
        let levels = default_feature_levels(metadata_version);
        Self::with_features(
            metadata_version,
            levels.into_iter().map(|(name, level)| (name.to_owned(), level)).collect(),
        )
    }

    /// Features at level 0 are left out.
    pub fn with_features(metadata_version: i16, levels: BTreeMap<String, i16>) -> Self {
        let mut records = vec![feature(METADATA_VERSION, metadata_version)];
        records.extend(levels.iter().filter(|&(_, &level)| level > 0).map(|(name, &level)| feature(name, level)));
        Bootstrap { records }
    }

    /// From the records of a `bootstrap.checkpoint`; `None` when they do not say which level the cluster has.
    pub fn from_records(records: Vec<MetadataRecord>) -> Option<Self> {
        let bootstrap = Bootstrap { records };
        bootstrap.level(METADATA_VERSION).map(|_| bootstrap)
    }

    /// The level a feature gets; `None` when it is not mentioned.
    pub fn level(&self, feature: &str) -> Option<i16> {
        self.records.iter().rev().find_map(|record| match record {
            MetadataRecord::FeatureLevel(r) if r.name == feature => Some(r.feature_level),
            _ => None,
        })
    }

    pub fn metadata_version(&self) -> i16 {
        self.level(METADATA_VERSION).unwrap_or(0)
    }

    /// The records with what the first controller adds: with eligible leader replicas on, `min.insync.replicas` is a
    /// setting of the cluster, so that the controller knows it (KIP-966).
    pub(crate) fn first_records(&self, min_insync_replicas: i32) -> Vec<MetadataRecord> {
        let mut records = self.records.clone();
        if self.level("eligible.leader.replicas.version").unwrap_or(0) >= 1 {
            records.push(MetadataRecord::Config(ConfigRecord {
                resource_type: ResourceType::Broker as i8,
                resource_name: String::new(),
                name: "min.insync.replicas".to_owned(),
                value: Some(min_insync_replicas.to_string()),
            }));
        }
        records
    }
}

fn feature(name: &str, feature_level: i16) -> MetadataRecord {
    MetadataRecord::FeatureLevel(FeatureLevelRecord { name: name.to_owned(), feature_level })
}
