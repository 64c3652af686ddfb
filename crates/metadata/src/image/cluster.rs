//! Brokers and controllers of the image, as they registered.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_common::Uuid;

/// Where a node listens, as it advertises itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, upper case.
    pub name: String,
    pub host: String,
    pub port: u16,
    /// Kafka's id of the security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// Levels of one feature that a node understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VersionRange {
    pub min: i16,
    pub max: i16,
}

impl VersionRange {
    pub fn contains(&self, level: i16) -> bool {
        level >= self.min && level <= self.max
    }
}

/// One broker's registration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerRegistration {
    pub id: i32,
    /// The offset of the record that registered this incarnation.
    pub epoch: i64,
    /// Chosen by the broker at each start.
    pub incarnation_id: Uuid,
    pub endpoints: Vec<Endpoint>,
    pub features: BTreeMap<String, VersionRange>,
    pub rack: Option<String>,
    /// A fenced broker leads nothing and is not shown to clients.
    pub fenced: bool,
    pub in_controlled_shutdown: bool,
    pub is_migrating_zk_broker: bool,
    /// Sorted ids of the directories that are online; empty when the broker did not say (before JBOD).
    pub log_dirs: Vec<Uuid>,
    /// Directories that get no new partitions (4.3).
    pub cordoned_log_dirs: Vec<Uuid>,
}

impl BrokerRegistration {
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.name == listener)
    }

    /// May lead partitions.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    pub fn has_online_dir(&self, directory: Uuid) -> bool {
        self.log_dirs.is_empty()
            || directory == Uuid::UNASSIGNED_DIR
            || directory == Uuid::MIGRATING_DIR
            || self.log_dirs.binary_search(&directory).is_ok()
    }
}

/// One controller's registration (KIP-919).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ControllerRegistration {
    pub id: i32,
    pub incarnation_id: Uuid,
    pub zk_migration_ready: bool,
    pub endpoints: Vec<Endpoint>,
    pub features: BTreeMap<String, VersionRange>,
}

/// All nodes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterImage {
    pub brokers: BTreeMap<i32, Arc<BrokerRegistration>>,
    pub controllers: BTreeMap<i32, Arc<ControllerRegistration>>,
}

impl ClusterImage {
    pub fn broker(&self, id: i32) -> Option<&Arc<BrokerRegistration>> {
        self.brokers.get(&id)
    }

    /// The brokers that clients are told about.
    pub fn unfenced_brokers(&self) -> impl Iterator<Item = &Arc<BrokerRegistration>> {
        self.brokers.values().filter(|broker| !broker.fenced)
    }

    pub fn is_alive(&self, id: i32) -> bool {
        self.broker(id).is_some_and(|broker| !broker.fenced)
    }
}
