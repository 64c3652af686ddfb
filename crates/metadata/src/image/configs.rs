//! Dynamic configurations of the image, by resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SharedMap;

/// What a configuration belongs to; the numbers are those of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
pub enum ResourceType {
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    ClientMetrics = 16,
    Group = 32,
}

impl ResourceType {
    pub fn from_i8(value: i8) -> Option<Self> {
        match value {
            2 => Some(ResourceType::Topic),
            4 => Some(ResourceType::Broker),
            8 => Some(ResourceType::BrokerLogger),
            16 => Some(ResourceType::ClientMetrics),
            32 => Some(ResourceType::Group),
            _ => None,
        }
    }

    /// Kafka's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            ResourceType::Topic => "TOPIC",
            ResourceType::Broker => "BROKER",
            ResourceType::BrokerLogger => "BROKER_LOGGER",
            ResourceType::ClientMetrics => "CLIENT_METRICS",
            ResourceType::Group => "GROUP",
        }
    }
}

/// One resource. A broker's name is its id in decimal; the empty name is the default of all brokers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigResource {
    pub kind: ResourceType,
    pub name: String,
}

impl ConfigResource {
    pub fn new(kind: ResourceType, name: impl Into<String>) -> Self {
        ConfigResource { kind, name: name.into() }
    }

    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(ResourceType::Topic, name)
    }

    pub fn broker(id: i32) -> Self {
        Self::new(ResourceType::Broker, id.to_string())
    }

    pub fn broker_default() -> Self {
        Self::new(ResourceType::Broker, "")
    }

    pub fn group(name: impl Into<String>) -> Self {
        Self::new(ResourceType::Group, name)
    }
}

/// The overrides that were set, as text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigsImage {
    resources: SharedMap<ConfigResource, Arc<BTreeMap<String, String>>>,
}

static EMPTY: BTreeMap<String, String> = BTreeMap::new();

impl ConfigsImage {
    /// What was set on `resource` itself; empty when nothing was.
    pub fn get(&self, resource: &ConfigResource) -> &BTreeMap<String, String> {
        self.resources.get(resource).map_or(&EMPTY, |map| map)
    }

    pub fn topic(&self, name: &str) -> &BTreeMap<String, String> {
        self.get(&ConfigResource::topic(name))
    }

    /// What was set for one broker; the cluster-wide defaults are `broker_defaults`.
    pub fn broker(&self, id: i32) -> &BTreeMap<String, String> {
        self.get(&ConfigResource::broker(id))
    }

    pub fn broker_defaults(&self) -> &BTreeMap<String, String> {
        self.get(&ConfigResource::broker_default())
    }

    /// Resources that have overrides.
    pub fn iter(&self) -> impl Iterator<Item = (&ConfigResource, &Arc<BTreeMap<String, String>>)> {
        self.resources.iter()
    }

    pub(crate) fn map(&self) -> &SharedMap<ConfigResource, Arc<BTreeMap<String, String>>> {
        &self.resources
    }

    pub(crate) fn set(&mut self, resource: ConfigResource, key: &str, value: Option<&str>) {
        let mut map = self.resources.get(&resource).map_or_else(BTreeMap::new, |map| BTreeMap::clone(map));
        match value {
            Some(value) => map.insert(key.to_owned(), value.to_owned()),
            None => map.remove(key),
        };
        if map.is_empty() {
            self.resources.remove(&resource);
        } else {
            self.resources.insert(resource, Arc::new(map));
        }
    }

    pub(crate) fn remove_resource(&mut self, resource: &ConfigResource) {
        self.resources.remove(resource);
    }
}
