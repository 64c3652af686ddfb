//! The replicas of this broker: who leads, how far a partition is committed, and who waits for that.
//!
//! `partition` decides for one replica and touches nothing; `replica` ties it to its log; [`ReplicaManager`] finds them all, follows the
//! cluster's metadata, and is what handlers and coordinators call. Never sees a socket or the version of a request.

mod error;
mod replica_manager;

pub use error::ReplicaError;
pub use replica_manager::{AppendPart, AppendRequest, Appended, ReplicaManager};
