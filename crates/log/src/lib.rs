//! log
pub mod validate;
