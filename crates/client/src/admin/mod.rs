//! Administration of a cluster: topics, configurations, groups and offsets, the cluster itself.
//!
//! Each call is one question with its retries; answers come per topic, group or resource, so that one failure never hides another.

mod acls;
mod cluster;
mod configs;
mod features;
mod groups;
mod log_dirs;
mod offsets;
mod quorum;
mod quotas;
mod reassignments;
mod tokens;
mod topics;
mod transactions;

use std::collections::BTreeMap;

use milena_common::TopicPartition;

use crate::cluster::Client;
use crate::error::ClientError;

pub use acls::{Acl, AclEntry, AclFilter, AclMatch};
pub use cluster::{ClusterDescription, Endpoint};
pub use configs::{ConfigEntry, ConfigOp, ConfigResource, ConfigSource, ConfigSynonym, OpKind, ResourceType};
pub use features::{FeatureMetadata, UpgradeType};
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use log_dirs::{LogDir, ReplicaInDir};
pub use offsets::{CommittedOffset, ListedOffset, OffsetSpec};
pub use quorum::{QuorumInfo, QuorumReplica, VoterEndpoint};
pub use quotas::{QuotaEntity, QuotaEntry, QuotaMatch, ScramCredential, ScramUpsertion};
pub use reassignments::ElectionType;
pub use tokens::{DelegationToken, Principal};
pub use topics::{NewPartitions, NewTopic, PartitionDescription, Reassignment, TopicDescription, TopicListing};
pub use transactions::{AbortSpec, ProducerState, TransactionDescription, TransactionListing};

/// A result per partition.
pub type PerPartition<T> = BTreeMap<TopicPartition, Result<T, ClientError>>;

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
