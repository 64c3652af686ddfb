//! What time does to transactions: those that take too long are aborted, ids that nobody uses are forgotten.
//!
//! The coordinator looks from time to time; nothing here waits.

use std::sync::Arc;

use milena_common::{Now, Outcome};

use super::hard::{Transaction, TxnState};
use super::record::TxnRecord;
use super::{Step, TxnOutcome, TxnShard};

/// Records that one look writes; the next look, or the next call, does the rest.
const MAX_PER_LOOK: usize = 1_000;

/// What a look left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looked {
    AtAll,
    /// There is more.
    AtSome,
    /// There is more, and it needs a fresh producer id.
    NeedsProducerId,
}

impl TxnShard {
    /// Aborts the transactions that were begun longer ago than their producers allowed, and fences these.
    pub(crate) fn abort_timed_out(&mut self, level: i16, fresh: Option<i64>, now: Now) -> TxnOutcome<Looked> {
        let is_late = |t: &Transaction| {
            t.state == TxnState::Ongoing && t.start_ms.saturating_add(t.timeout_ms.into()) < now.wall_ms
        };
        let mut late: Vec<(Arc<str>, Transaction)> = Vec::new();
        for (id, t) in self.hard.iter().filter(|(_, t)| is_late(t)).take(MAX_PER_LOOK + 1) {
            late.push((id.clone(), t.clone()));
        }
        let mut left = if late.len() > MAX_PER_LOOK { Looked::AtSome } else { Looked::AtAll };
        late.truncate(MAX_PER_LOOK);
        let mut fresh = fresh;
        let mut records = Vec::with_capacity(late.len());
        for (id, t) in &late {
            let own_fresh = if t.is_epoch_exhausted() { fresh.take() } else { None };
            let fenced = self.fence_and_abort(id, t, level, own_fresh, now);
            if fenced.response == Step::NeedsProducerId {
                left = Looked::NeedsProducerId;
                continue;
            }
            tracing::info!(
                transactional_id = &**id,
                producer_id = t.producer_id,
                producer_epoch = t.producer_epoch,
                timeout_ms = t.timeout_ms,
                "a transaction took too long and is aborted"
            );
            records.extend(fenced.records);
        }
        Outcome::new(records, left)
    }

    /// Forgets the ids that did nothing for `transactional.id.expiration.ms`.
    pub(crate) fn expire_ids(&mut self, now: Now) -> TxnOutcome<Looked> {
        let oldest_ms = now.wall_ms.saturating_sub(self.config.id_expiration_ms);
        let is_expired = |t: &Transaction| t.state.is_idle() && t.last_update_ms <= oldest_ms;
        let expired = self.hard.iter().filter(|(_, t)| is_expired(t)).map(|(id, _)| id.clone());
        let mut expired: Vec<Arc<str>> = expired.take(MAX_PER_LOOK + 1).collect();
        let left = if expired.len() > MAX_PER_LOOK { Looked::AtSome } else { Looked::AtAll };
        expired.truncate(MAX_PER_LOOK);
        for id in &expired {
            self.soft.last.remove(id);
        }
        Outcome::new(expired.iter().map(TxnRecord::tombstone).collect(), left)
    }
}
