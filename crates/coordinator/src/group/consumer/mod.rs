//! The consumer group protocol (KIP-848): ConsumerGroupHeartbeat v0-1, ConsumerGroupDescribe v0-1, and members of the classic
//! protocol in such groups.
//!
//! `ConsumerGroup` is what is recorded. An operation writes the records it decides on to a `Draft`, by `Steps`; timers are set
//! when it has decided. `heartbeat` is the members' one API, `departure` how members go, `classic_member` what the classic APIs mean here,
//! `migration` how a group changes its kind.

mod classic_member;
mod departure;
mod describe;
mod draft;
mod embedded;
mod group;
mod heartbeat;
mod member;
mod migration;
mod offsets;
mod patterns;
mod reconcile;
pub(crate) mod record;
mod settings;
mod steps;
mod topics;

use milena_protocol::ErrorCode;

pub(crate) use group::{ConsumerGroup, GroupState};
pub(crate) use heartbeat::{refused, validate_heartbeat};
pub(crate) use steps::ConsumerSoft;

/// Why a request is refused, in the words its client is told.
pub(crate) type Refusal = (ErrorCode, String);
