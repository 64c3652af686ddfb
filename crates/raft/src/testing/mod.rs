//! A log and a vote file in memory, and the suite that every `RaftLog` must pass.
//!
//! For tests of this crate and of those that join a real log to the seam.

mod memory;
pub mod suite;

pub use memory::{MemoryLog, MemoryVotes};
