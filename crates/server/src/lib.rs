//! server

pub mod quorum;
pub mod storage_format;
