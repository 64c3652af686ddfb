//! One member of a classic group. Plain data; the group keeps its counters in step.

use std::sync::Arc;

use bytes::Bytes;

use crate::shard::ReplyId;

/// A member that has joined (a pending member, that only got its id, is just a name in `ClassicGroup::pending_join`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    /// `group.instance.id`: present on a static member (KIP-345).
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    /// As Java prints an address: `/127.0.0.1`.
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// Supported protocols, most preferred first, each with its metadata.
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    /// The JoinGroup that waits for the rebalance to complete.
    pub(crate) awaiting_join: Option<ReplyId>,
    /// The SyncGroup that waits for the leader's assignment.
    pub(crate) awaiting_sync: Option<ReplyId>,
    /// Joined during the current rebalance and may not know its member id, so it cannot heartbeat.
    pub(crate) is_new: bool,
}

impl Member {
    pub(crate) fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// The metadata sent with `protocol`; empty when the member does not support it.
    pub(crate) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| Some(name.as_str()) == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// The member's first choice among protocols that everybody supports.
    pub(crate) fn vote(&self, is_candidate: impl Fn(&str) -> bool) -> Option<&str> {
        self.protocols.iter().map(|(name, _)| name.as_str()).find(|name| is_candidate(name))
    }

    /// A heartbeat that is due is excused while the member waits for us.
    pub(crate) fn is_excused_from_heartbeat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}
