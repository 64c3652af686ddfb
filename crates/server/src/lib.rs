//! server

pub mod storage_format;
