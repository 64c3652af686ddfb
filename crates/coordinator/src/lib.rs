//! Coordinators: who is in a group and where it stands, which transactions are open and how they end, and how that survives.
//!
//! `GroupCoordinator` is the face; `group` decides as a pure state machine; `shard` drives partitions; `writer` is the seam to
//! the log that stores them. Nothing here sees a socket, a log or a replica.
//!
//! A broker wires it so: `GroupCoordinator::new(GroupConfig::from(&broker_config), writer, clock)` inside a tokio runtime;
//! `set_num_partitions` when `__consumer_offsets` is first seen in the metadata; `on_election` (spawned) and `on_resignation` as this
//! broker gains and loses leadership of its partitions, `on_metadata_update` with every image and before the elections it brings,
//! `on_topics_deleted` as topics go. A handler authorises the group,
//! removes topics that may not be used or do not exist, calls the method of its API, and merges what it had removed. Every topic of
//! an OffsetCommit is given by name and id, whichever of the two its version carries: Kafka records both. An OffsetFetch is
//! given names, from v10 on also ids, which come back. FindCoordinator is the handler's: `partition_for` names the partition
//! whose leader it answers with, after creating the topic if need be.

mod cluster;
mod coordinator;
mod group;
mod shard;
pub mod testing;
mod txn;
mod writer;

pub use coordinator::{GroupCoordinator, partition_for, txn_commit_error};
pub use group::{Assignor, Bounded, GroupConfig, GroupContext, GroupKind, GroupRecord, GroupShard, Parked};
pub use shard::{OnEffect, ReplyId, Runtime, Shard};
pub use txn::{
    Completion, Ended, InitProducer, MarkerWriter, ProducerIdSource, Step, TRANSACTION_VERSION_2, Transaction,
    TransactionCoordinator, TxnConfig, TxnFilter, TxnRecord, TxnShard,
};
pub use writer::{
    BoxFuture, Committed, CoordinatorRecord, LoadedBatch, LoadedRecord, PartitionWriter, TransactionalProducer,
    TxnMarker, Verified,
};
