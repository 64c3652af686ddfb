//! The process: sockets in, one handler per API, and the wiring of everything below.

mod broker;
mod handlers;
pub mod quorum;
pub mod raft_log;
mod request;
pub mod storage_format;
