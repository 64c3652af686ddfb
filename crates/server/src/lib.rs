//! The process: sockets in, one handler per API, and the wiring of everything below.

pub mod adoption;
mod auto_topics;
mod broker;
mod config_resources;
mod connection;
mod controller_channel;
mod coordinator_log;
mod coordinator_publisher;
mod dynamic_config;
mod handlers;
mod heavy_work;
mod leader_hint;
mod listener;
mod loggers;
mod metrics_http;
mod mutation_quota;
mod node;
mod operations;
mod patience;
mod peers;
mod producer_ids;
pub mod quorum;
mod quorum_network;
mod quorum_wire;
mod quota;
pub mod raft_log;
mod registration;
mod replication;
mod request;
mod request_time;
pub mod storage_format;
mod telemetry;
mod topology;
mod txn_markers;
mod verification;

pub use node::{Node, StartError};
