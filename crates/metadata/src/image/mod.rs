//! The metadata image: what the cluster is, as of one offset of the metadata log. Immutable once published.
//!
//! Copies share everything that did not change. Only `replay` (in `replay.rs`) changes an image, record by record; the
//! same code runs in the controller, in every broker and when the log is loaded again. Never reads files or clocks.

mod cluster;
mod configs;
mod features;
mod replay;
mod security;
mod shared_map;
mod to_records;
mod topics;

use std::sync::Arc;

pub use cluster::{BrokerRegistration, ClusterImage, ControllerRegistration, Endpoint, VersionRange};
pub use configs::{ConfigResource, ConfigsImage, ResourceType};
pub use features::{FeaturesImage, METADATA_VERSION};
pub use replay::ReplayError;
pub(crate) use replay::{Transaction, transaction_step};
pub use security::{
    AccessControlEntry, AclsImage, DelegationToken, QuotaEntity, QuotasImage, ScramCredential, ScramImage, TokensImage,
};
pub use shared_map::SharedMap;
pub(crate) use to_records::{controller_record, partition_record};
pub use topics::{LeaderRecoveryState, NO_LEADER, NO_LEADER_CHANGE, PartitionImage, TopicImage, TopicsImage};

/// Which part of the metadata log an image contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provenance {
    /// Offset of the last record applied; -1 for the empty image.
    pub last_offset: i64,
    /// Leader epoch of that record; -1 for the empty image.
    pub last_epoch: i32,
    /// When the leader appended it, milliseconds since 1970.
    pub last_timestamp_ms: i64,
}

impl Provenance {
    pub const EMPTY: Provenance = Provenance { last_offset: -1, last_epoch: -1, last_timestamp_ms: -1 };
}

impl Default for Provenance {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Everything the metadata log says, at one offset.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetadataImage {
    pub provenance: Provenance,
    pub topics: TopicsImage,
    pub cluster: Arc<ClusterImage>,
    pub configs: ConfigsImage,
    pub features: Arc<FeaturesImage>,
    /// The first producer id that was not given to a broker yet.
    pub next_producer_id: i64,
    pub quotas: Arc<QuotasImage>,
    pub scram: Arc<ScramImage>,
    pub acls: Arc<AclsImage>,
    pub tokens: Arc<TokensImage>,
}

impl MetadataImage {
    /// Offset of the last record applied; -1 for the empty image.
    pub fn last_offset(&self) -> i64 {
        self.provenance.last_offset
    }

    /// Says the same about the cluster, whatever offsets it was learnt from.
    pub fn same_content(&self, other: &MetadataImage) -> bool {
        let mut other = other.clone();
        other.provenance = self.provenance;
        *self == other
    }
}
