//! A client of Kafka's protocol: connections, metadata, administration, producer and consumer.
//!
//! Speaks to Milena and to Apache Kafka alike, to the highest version that both sides know. Owns no policy of any tool: the command
//! line, connectors and tests stand on it. It sees the wire only, never the crates of the broker.
//!
//! ```no_run
//! # async fn example() -> Result<(), milena_client::ClientError> {
//! use milena_client::{Admin, Client, ClientConfig};
//! let config = ClientConfig { bootstrap_servers: vec!["localhost:9092".into()], ..Default::default() };
//! let admin = Admin::new(Client::new(config)?);
//! for topic in admin.list_topics().await? {
//!     println!("{}", topic.name);
//! }
//! # Ok(())
//! # }
//! ```

#![allow(clippy::needless_update, reason = "messages get new fields; requests name those they mean")]

pub mod admin;
mod cluster;
mod config;
mod connection;
pub mod consumer;
mod error;
pub mod metadata;
pub mod producer;

pub use admin::Admin;
pub use cluster::{Client, CoordinatorKind};
pub use config::{ClientConfig, parse_address};
pub use connection::{Connection, Features};
pub use consumer::{Consumer, ConsumerConfig, ConsumerRecord};
pub use error::ClientError;
pub use producer::{Delivery, Producer, ProducerConfig, ProducerRecord, RecordMetadata};
