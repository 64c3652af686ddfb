//! Administration of a cluster: topics, configurations, groups and offsets, the cluster itself.
//!
//! Each call is one question with its retries; answers come per topic, group or resource, so that one failure never hides another.

mod cluster;
mod configs;
mod groups;
mod offsets;
mod quotas;
mod topics;

use crate::cluster::Client;

pub use cluster::ClusterDescription;
pub use configs::{ConfigEntry, ConfigOp, ConfigResource, ConfigSource, ConfigSynonym, OpKind, ResourceType};
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use offsets::{CommittedOffset, ListedOffset, OffsetSpec};
pub use quotas::{QuotaEntity, QuotaEntry, QuotaMatch, ScramCredential};
pub use topics::{NewPartitions, NewTopic, PartitionDescription, Reassignment, TopicDescription, TopicListing};

/// Administrative calls over a [`Client`]. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub fn new(client: Client) -> Admin {
        Admin { client }
    }

    /// The client beneath.
    pub fn client(&self) -> &Client {
        &self.client
    }
}
