//! What an operation on a group may touch besides the group: timers, parked replies, and the records it decides on.

use std::sync::Arc;

use milena_common::{Now, Timers, Uuid};
use milena_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

use super::config::GroupConfig;
use super::record::GroupRecord;
use crate::shard::ReplyId;

/// The answer to a parked request.
#[derive(Debug, Clone, PartialEq)]
pub enum Parked {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
}

/// What can come due in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TimerKey {
    /// A member's session, its first join, or a pending member id.
    Session { group: Arc<str>, member: Arc<str> },
    /// The join phase of a rebalance, or its initial delay.
    Join { group: Arc<str> },
    /// The sync phase of a rebalance.
    Sync { group: Arc<str> },
    /// The session of a member of a consumer group.
    ConsumerSession { group: Arc<str>, member: Arc<str> },
    /// A member of a consumer group is to give partitions up.
    ConsumerRevocation { group: Arc<str>, member: Arc<str> },
    /// A classic member of a consumer group is to join again.
    ConsumerRejoin { group: Arc<str>, member: Arc<str> },
    /// A classic member of a consumer group is to fetch its assignment.
    ConsumerSync { group: Arc<str>, member: Arc<str> },
    /// Patterns of a consumer group are to be looked up.
    ConsumerPatterns { group: Arc<str> },
    /// The next look for expired offsets.
    OffsetExpiry,
}

/// The effects of one operation.
pub(crate) struct Fx<'a> {
    pub(crate) config: &'a GroupConfig,
    pub(crate) now: Now,
    pub(crate) timers: &'a mut Timers<TimerKey>,
    pub(crate) replies: &'a mut Vec<(ReplyId, Parked)>,
    pub(crate) new_uuid: &'a mut (dyn FnMut() -> Uuid + Send),
    pub(crate) records: &'a mut Vec<GroupRecord>,
}

impl Fx<'_> {
    pub(crate) fn reply_join(&mut self, reply: ReplyId, response: JoinGroupResponse) {
        self.replies.push((reply, Parked::Join(response)));
    }

    pub(crate) fn reply_sync(&mut self, reply: ReplyId, response: SyncGroupResponse) {
        self.replies.push((reply, Parked::Sync(response)));
    }

    pub(crate) fn schedule(&mut self, key: TimerKey, after_ms: u64) {
        self.timers.schedule(key, self.now.mono_after(after_ms));
    }

    pub(crate) fn schedule_session(&mut self, group: &Arc<str>, member: &Arc<str>, after_ms: u64) {
        self.schedule(TimerKey::Session { group: group.clone(), member: member.clone() }, after_ms);
    }

    pub(crate) fn cancel_session(&mut self, group: &Arc<str>, member: &Arc<str>) {
        self.timers.cancel(&TimerKey::Session { group: group.clone(), member: member.clone() });
    }
}
