//! What every room of Milena shares: ids, time, configuration keys, the record-and-replay loop, bounds and metrics.
//!
//! The list of modules is closed: a helper that only one crate needs lives in that crate.
//! Nothing here knows the wire protocol, files of a log, or an async runtime.

pub mod config;
pub mod error;
pub mod ids;
pub mod limits;
pub mod metrics;
pub mod replicated;
pub mod time;

pub use error::ConfigError;
pub use ids::{TopicIdPartition, TopicPartition, Uuid, UuidParseError};
pub use replicated::{Outcome, StateMachine};
pub use time::{Clock, ManualClock, Now, SystemClock, Timers};
