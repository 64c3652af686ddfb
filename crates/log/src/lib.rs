//! One partition's log on disk, and the manager of all logs of a broker: Kafka's files, recovery after a crash, retention, and the group commit
//! that makes acknowledged mean on disk.
//!
//! No async, no sockets, no cluster: directories, bytes and offsets. [`LogManager`] opens the log directories, [`UnifiedLog`] is one partition.

mod cache;
pub mod checkpoint;
mod cleaner;
mod committer;
mod error;
pub mod fs;
mod index;
mod leader_epoch;
mod lock;
mod log_manager;
mod producer_state;
mod recovery;
mod segment;
#[cfg(test)]
mod testing;
mod unified_log;
pub mod validate;

pub use cleaner::{Cleaned, CleanedRound, CleanerOptions};
pub use committer::CommitBy;
pub use error::LogError;
pub use index::AbortedTransaction;
pub use leader_epoch::EpochEntry;
pub use log_manager::{LogDir, LogManager, LogManagerOptions, MoveError, MoveListener};
pub use producer_state::{BatchMetadata, ProducerEntry, TransactionCheck};
pub use unified_log::{AppendInfo, AppendOptions, LogEvent, LogListener, ReadData, TimestampOffset, UnifiedLog};
pub use validate::Origin;
