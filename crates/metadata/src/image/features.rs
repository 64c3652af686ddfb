//! Finalized feature levels and the next producer id.

use std::collections::BTreeMap;

/// Name of the feature that versions the metadata log itself.
pub const METADATA_VERSION: &str = "metadata.version";

/// Levels that the whole cluster has agreed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeaturesImage {
    /// Level of `metadata.version`; 0 while no record has said.
    pub metadata_version: i16,
    /// The other features with a level above 0.
    pub levels: BTreeMap<String, i16>,
    /// State of a migration from ZooKeeper as its record says it; 0 none.
    pub zk_migration_state: i8,
}

impl FeaturesImage {
    /// The finalized level; 0 for a feature that is not finalized.
    pub fn level(&self, feature: &str) -> i16 {
        if feature == METADATA_VERSION { self.metadata_version } else { self.levels.get(feature).copied().unwrap_or(0) }
    }

    /// All finalized features, `metadata.version` included, as ApiVersions tells them.
    pub fn finalized(&self) -> BTreeMap<&str, i16> {
        let mut all: BTreeMap<&str, i16> = self.levels.iter().map(|(name, &level)| (name.as_str(), level)).collect();
        if self.metadata_version > 0 {
            all.insert(METADATA_VERSION, self.metadata_version);
        }
        all
    }

    /// Eligible leader replicas are recorded (KIP-966).
    pub fn elr_enabled(&self) -> bool {
        self.level("eligible.leader.replicas.version") >= 1
    }
}
