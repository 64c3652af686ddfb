//! The process: sockets in, one handler per API, and the wiring of everything below.

mod broker;
mod connection;
mod handlers;
mod listener;
mod node;
pub mod quorum;
pub mod raft_log;
mod registration;
mod request;
pub mod storage_format;

pub use node::{Node, StartError};
