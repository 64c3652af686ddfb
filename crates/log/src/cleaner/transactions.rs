//! Which transactions a walk over a log is in: tells data of aborted ones, and markers whose transaction has no data left.
//!
//! Pure. One for the pass that fills the offset map, another for the pass that copies; batches come in order of their offsets.

use std::collections::{HashMap, HashSet, VecDeque};

use milena_protocol::records::control::ControlType;
use milena_protocol::records::{BatchView, DecompressLimit, RecordsError};

use crate::index::AbortedTransaction;

/// See the module.
#[derive(Default)]
pub(crate) struct CleanedTransactions {
    /// Aborted ones that the walk has not reached, by their first offset.
    coming: VecDeque<AbortedTransaction>,
    /// Producers with an aborted transaction around here, and whether a batch of it was seen.
    aborted: HashMap<i64, (AbortedTransaction, bool)>,
    /// Producers with batches of a transaction that was not aborted.
    committed: HashSet<i64>,
    /// Entries of the transaction index that must stay: their marker was kept since the last [`CleanedTransactions::take_index`].
    index: Vec<AbortedTransaction>,
}

impl CleanedTransactions {
    /// More aborted transactions, from the segments that come next. Those known already may be among them.
    pub fn expect(&mut self, aborted: impl IntoIterator<Item = AbortedTransaction>) {
        for a in aborted {
            let known = self.coming.contains(&a) || self.aborted.get(&a.producer_id).is_some_and(|(k, _)| *k == a);
            if !known {
                self.coming.push_back(a);
            }
        }
        self.coming.make_contiguous().sort_by_key(|a| a.first_offset);
    }

    /// A data batch: whether it belongs to an aborted transaction.
    pub fn on_data(&mut self, batch: &BatchView) -> bool {
        self.reach(batch.last_offset());
        if !batch.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&batch.producer_id()) {
            Some((_, seen)) => {
                *seen = true;
                true
            }
            None => {
                self.committed.insert(batch.producer_id());
                false
            }
        }
    }

    /// A control batch: whether nothing of its transaction is left, so that the marker may go.
    pub fn on_control(&mut self, batch: &BatchView) -> Result<bool, RecordsError> {
        self.reach(batch.last_offset());
        let Some(record) = batch.records(DecompressLimit::default())?.next() else {
            // the marker went before, only the producer's state was kept
            return Ok(true);
        };
        Ok(match ControlType::of(&record?)? {
            Some(ControlType::Abort) => match self.aborted.remove(&batch.producer_id()) {
                Some((transaction, true)) => {
                    self.index.push(transaction);
                    false
                }
                _ => true,
            },
            Some(ControlType::Commit) => !self.committed.remove(&batch.producer_id()),
            _ => false,
        })
    }

    /// The transaction index of the segment that was just written.
    pub fn take_index(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.index)
    }

    fn reach(&mut self, offset: i64) {
        while self.coming.front().is_some_and(|a| a.first_offset <= offset) {
            if let Some(a) = self.coming.pop_front() {
                self.aborted.entry(a.producer_id).or_insert((a, false));
            }
        }
    }
}
