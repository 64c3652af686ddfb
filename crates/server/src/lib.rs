//! The process: sockets in, one handler per API, and the wiring of everything below.

mod auto_topics;
mod broker;
mod handlers;
mod operations;
mod producer_ids;
pub mod quorum;
pub mod raft_log;
mod request;
pub mod storage_format;
mod topology;
