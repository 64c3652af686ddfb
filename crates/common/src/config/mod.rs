//! Configuration keys: declared once as a table, from which typed structs, validation, DescribeConfigs, the docs and the samples follow.
//!
//! Pure: texts in, values or Kafka's error words out. Reading files is the program's business.
//! `broker_keys.rs` and its sisters are the tables; `def.rs` is the machinery under them.

pub mod broker;
mod broker_keys;
mod checks;
mod client_metrics_keys;
pub mod def;
pub mod describe;
mod dynamic;
pub mod group;
mod group_keys;
pub mod listeners;
pub mod properties;
pub mod providers;
pub mod quorum;
pub mod topic;
mod topic_keys;
mod validate;
pub mod value;

pub use broker_keys::BrokerConfig;
pub use client_metrics_keys::ClientMetricsConfig;
pub use def::{Audience, Check, Class, ConfigKey, Password, Scope, Type, Value};
pub use group_keys::GroupConfig;
pub use listeners::{EndPoint, SecurityProtocol};
pub use quorum::{HostPort, Voter};
pub use topic_keys::TopicConfig;
pub use value::{AckDurability, CleanupPolicy, CompressionType, TimestampType};
