//! server

pub mod quorum;
pub mod raft_log;
pub mod storage_format;
