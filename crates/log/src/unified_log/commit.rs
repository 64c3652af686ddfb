//! The log's side of the group commit: what it hands to the committer of its directory, and what that tells it.
//!
//! Never syncs by itself. Called by the rest of `unified_log`, by `committer.rs`, and by who promised a commit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use milena_common::config::AckDurability;

use super::{Inner, LogEvent, UnifiedLog};
use crate::committer::{Commit, CommitBy, Pending};

impl UnifiedLog {
    pub(super) fn submit(&self, inner: &mut Inner, by: CommitBy) {
        let home = self.home.load();
        if inner.submitted {
            // by somebody who may have promised the commit, and not be there yet
            if by == CommitBy::Thread {
                home.committer.commit_elsewhere();
            }
        } else if let Some(this) = self.this.upgrade() {
            inner.submitted = true;
            home.committer.submit(this, by);
        }
    }

    /// Makes durable, on this thread, what was appended with [`CommitBy::Caller`]; at once if a commit is running that will take it along.
    pub fn commit_here(&self) {
        self.home.load().committer.commit_here();
    }

    /// Gives up the commit that [`CommitBy::Caller`] promised.
    pub fn commit_elsewhere(&self) {
        self.home.load().committer.commit_elsewhere();
    }
}

impl Commit for UnifiedLog {
    fn begin_commit(&self) -> Pending {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.submitted = false;
        let sync_active = inner.active_dirty && (inner.durability == AckDurability::Fsync || inner.flush);
        let mut files = std::mem::take(&mut inner.closed_dirty);
        if sync_active {
            (inner.active_dirty, inner.flush) = (false, false);
            inner.unflushed_since_ms = None;
            files.extend(inner.segments.last().map(|s| Arc::clone(&s.file)));
        }
        let dir = std::mem::take(&mut inner.dir_dirty).then(|| inner.dir.clone());
        let end_offset = self.log_end_offset();
        let active_base = inner.segments.last().map_or(end_offset, |s| s.base_offset);
        let synced_to = if inner.active_dirty { active_base } else { end_offset };
        Pending { files, dir, end_offset, synced_to, truncations: inner.truncations }
    }

    fn end_commit(&self, pending: &Pending) {
        {
            let inner = self.inner.lock();
            // after a truncation in between its own commit is on the way
            if inner.truncations == pending.truncations {
                self.durable_end.fetch_max(pending.end_offset, Ordering::AcqRel);
                self.recovery_point.fetch_max(pending.synced_to, Ordering::AcqRel);
            }
        }
        if let Some(listener) = self.listener.get() {
            listener(LogEvent::Durable(self.durable_end_offset()));
        }
    }

    fn commit_failed(&self) {
        if let Some(listener) = self.listener.get() {
            listener(LogEvent::Failed);
        }
    }
}
