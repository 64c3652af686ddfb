//! Coordinators: who is in a group, where it stands, and how that survives.
//!
//! `GroupCoordinator` is the face; `group` decides as a pure state machine; `shard` drives partitions; `writer` is the seam to
//! the log that stores them. Nothing here sees a socket, a log or a replica.

mod coordinator;
mod group;
mod shard;
pub mod testing;
mod writer;

pub use coordinator::{GroupCoordinator, partition_for};
pub use group::{GroupConfig, GroupContext, GroupRecord, GroupShard, Parked};
pub use shard::{ReplyId, Runtime, Shard};
pub use writer::{BoxFuture, CoordinatorRecord, LoadedBatch, LoadedRecord, PartitionWriter};
