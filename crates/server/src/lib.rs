//! The process: sockets in, one handler per API, and the wiring of everything below.

mod broker;
mod group_log;
mod group_publisher;
mod handlers;
pub mod quorum;
pub mod raft_log;
mod request;
pub mod storage_format;
