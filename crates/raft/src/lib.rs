//! KRaft: the quorum that owns the metadata log, in Kafka's files and records.
//!
//! `RaftCore` decides (pure: no clock, file, socket or lock); `RaftNode` runs it over a `RaftLog` and a `QuorumStateStore`.
//! The log holds opaque records: what they mean is the metadata crate's business, which this crate never sees.
//! Quorums of one for now; the seams are those that more voters need.

mod batch;
mod core;
mod log;
mod node;
mod quorum_state;
mod snapshot;
pub mod testing;
mod voters;

pub use batch::{BatchError, LogBatch, MAX_BATCH_BYTES, read_batches};
pub use core::{Input, Output, RaftConfig, RaftCore, Role, Voter};
pub use log::{LogListener, LogNews, OffsetAndEpoch, RaftLog, RaftLogError, SnapshotFile};
pub use node::{AppendError, NodeConfig, QuorumStatus, RaftError, RaftNode, ReadError};
pub use quorum_state::{QuorumState, QuorumStateError, QuorumStateStore};
pub use snapshot::{Snapshot, SnapshotError, build_snapshot, read_snapshot};
pub use voters::QuorumRecords;
