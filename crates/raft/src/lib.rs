//! KRaft: the quorum that owns the metadata log, in Kafka's files and records.
//!
//! `RaftCore` decides (pure: no clock, file, socket or lock); `RaftNode` runs it over a `RaftLog` and a `QuorumStateStore`.
//! The log holds opaque records: what they mean is the metadata crate's business, which this crate never sees.
//! Other members are reached through `RaftNetwork`; static voters only, and snapshots are not fetched yet.

mod batch;
mod core;
mod log;
mod node;
mod quorum_state;
mod snapshot;
pub mod testing;
mod voters;

pub use batch::{BatchError, LogBatch, MAX_BATCH_BYTES, read_batches};
pub use core::{
    BeginEpoch, EndEpoch, Epochs, Fetch, Fetched, Head, Input, Output, RaftConfig, RaftCore, ReplicaProgress, Request,
    RequestId, Response, Timeouts, Vote, Voter,
};
pub use log::{LogListener, LogNews, OffsetAndEpoch, RaftLog, RaftLogError, SnapshotFile};
pub use node::{AppendError, NoNetwork, NodeConfig, QuorumStatus, RaftError, RaftNetwork, RaftNode, ReadError};
pub use quorum_state::{QuorumState, QuorumStateError, QuorumStateStore};
pub use snapshot::{Snapshot, SnapshotError, build_snapshot, read_snapshot};
pub use voters::QuorumRecords;
