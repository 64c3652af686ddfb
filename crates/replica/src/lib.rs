//! The replicas of this broker: who leads, how far a partition is committed, and who waits for that.
//!
//! `partition` decides for one replica and touches nothing; `replica` ties it to its log; [`ReplicaManager`] finds them all, follows the
//! cluster's metadata, and is what handlers and coordinators call; `fetcher` copies from other brokers what this one follows, `isr_changes`
//! tells the controller who is in sync. Never sees a socket or the version of a request.

mod append;
mod error;
mod fetch;
mod fetch_session;
mod fetcher;
mod isr_changes;
mod offsets;
mod partition;
mod purgatory;
mod replica;
mod replica_manager;
#[cfg(test)]
mod simulation;
mod throttle;

pub use append::{AppendPart, AppendRequest, Appended};
pub use error::ReplicaError;
pub use fetch::{FetchParams, FetchPart, FetchedPart, Isolation};
pub use fetch_session::{FetchContext, FetchSessions, PartNews, SessionError, SessionPart, SessionRequest, TopicRef};
pub use fetcher::{EndpointError, LeaderEndpoint, LeaderEndpoints};
pub use isr_changes::ControllerEndpoint;
pub use offsets::{OffsetQuery, OffsetSpec};
pub use replica_manager::{ClusterLinks, ReplicaManager, is_internal};
