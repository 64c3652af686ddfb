//! protocol
pub mod records;
