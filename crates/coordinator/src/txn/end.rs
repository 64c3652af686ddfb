//! The end of a transaction: EndTxn of both protocols, fencing, and the record that says that all markers are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_common::{Now, Outcome};
use milena_protocol::ErrorCode;

use super::hard::{LAST_PRODUCER_EPOCH, Transaction, TxnState};
use super::partitions::Producer;
use super::record::TxnRecord;
use super::{Completion, LastProducer, Step, TRANSACTION_VERSION_2, TxnOutcome, TxnShard, refuse};

/// Who the producer is after its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub producer_id: i64,
    pub producer_epoch: i16,
}

impl TxnShard {
    /// EndTxn v0-4: the producer keeps its epoch.
    ///
    /// Errors: INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, INVALID_TXN_STATE, CONCURRENT_TRANSACTIONS.
    pub(crate) fn end_transaction(
        &mut self,
        transactional_id: &str,
        producer: Producer,
        commit: bool,
        level: i16,
        now: Now,
    ) -> TxnOutcome<Step<Ended>> {
        let (id, current) = match self.hard.entry(transactional_id) {
            Some((id, current)) if current.producer_id == producer.producer_id => (id.clone(), current.clone()),
            _ => return refuse(ErrorCode::InvalidProducerIdMapping),
        };
        if current.producer_epoch != producer.producer_epoch {
            return refuse(ErrorCode::ProducerFenced);
        }
        let ended = Ended { producer_id: current.producer_id, producer_epoch: current.producer_epoch };
        match (current.state, commit) {
            (TxnState::Ongoing, _) => {
                let prepared = Transaction { client_version: 0, ..current.to_state(prepare(commit), now.wall_ms) };
                Outcome::new(vec![self.decide(&id, prepared, level)], Step::Done(Ok(ended)))
            }
            (TxnState::CompleteCommit, true) | (TxnState::CompleteAbort, false) => {
                Outcome::response(Step::Done(Ok(ended)))
            }
            (TxnState::PrepareCommit | TxnState::PrepareAbort, _) => refuse(ErrorCode::ConcurrentTransactions),
            _ => refuse(ErrorCode::InvalidTxnState),
        }
    }

    /// EndTxn v5 (KIP-890): the producer gets a new epoch, also from aborting nothing. A request that comes again is known by the epoch
    /// before the bump.
    ///
    /// Errors: as `end_transaction`.
    pub(crate) fn end_transaction_and_bump(
        &mut self,
        transactional_id: &str,
        producer: Producer,
        commit: bool,
        level: i16,
        fresh: Option<i64>,
        now: Now,
    ) -> TxnOutcome<Step<Ended>> {
        let Some((id, current)) = self.hard.entry(transactional_id) else {
            return refuse(ErrorCode::InvalidProducerIdMapping);
        };
        if current.state.is_prepared() {
            // First of all: the producer may have the id already that takes over when the markers are written.
            return refuse(ErrorCode::ConcurrentTransactions);
        }
        let (id, current) = (id.clone(), current.clone());
        let epoch = producer.producer_epoch;
        let again_after_rotation = current.previous_producer_id == producer.producer_id
            && epoch == LAST_PRODUCER_EPOCH
            && current.producer_epoch == 0;
        let again_after_bump = epoch.checked_add(1) == Some(current.producer_epoch);
        if current.producer_id != producer.producer_id && !again_after_rotation {
            return refuse(ErrorCode::InvalidProducerIdMapping);
        }
        let is_current = epoch == current.producer_epoch;
        let is_valid = match current.state {
            TxnState::CompleteCommit | TxnState::CompleteAbort => {
                again_after_bump || again_after_rotation || is_current
            }
            _ => is_current,
        };
        if !is_valid {
            return refuse(ErrorCode::ProducerFenced);
        }
        let is_again = again_after_bump || again_after_rotation;
        match (current.state, commit) {
            (TxnState::Ongoing, _) => self.prepare_and_bump(&id, &current, commit, level, fresh, now),
            (TxnState::CompleteCommit, true) | (TxnState::CompleteAbort, false) if is_again => {
                let Transaction { producer_id, producer_epoch, .. } = current;
                Outcome::response(Step::Done(Ok(Ended { producer_id, producer_epoch })))
            }
            (TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort, false) if !is_again => {
                self.prepare_and_bump(&id, &current, false, level, fresh, now)
            }
            _ => refuse(ErrorCode::InvalidTxnState),
        }
    }

    fn prepare_and_bump(
        &mut self,
        id: &Arc<str>,
        current: &Transaction,
        commit: bool,
        level: i16,
        fresh: Option<i64>,
        now: Now,
    ) -> TxnOutcome<Step<Ended>> {
        let next_producer_id = match (current.is_epoch_exhausted(), fresh) {
            (false, _) => -1,
            (true, Some(fresh)) => fresh,
            (true, None) => return Outcome::response(Step::NeedsProducerId),
        };
        let producer_epoch = current.producer_epoch.saturating_add(1);
        let prepared = Transaction {
            producer_epoch,
            next_producer_id,
            // Without partitions there was no transaction before this request.
            start_ms: if current.state == TxnState::Ongoing { current.start_ms } else { now.wall_ms },
            client_version: TRANSACTION_VERSION_2,
            ..current.to_state(prepare(commit), now.wall_ms)
        };
        let ended = match next_producer_id {
            -1 => Ended { producer_id: current.producer_id, producer_epoch },
            next => Ended { producer_id: next, producer_epoch: 0 },
        };
        let last = LastProducer { producer_id: current.producer_id, producer_epoch: current.producer_epoch };
        self.remember(id, last);
        Outcome::new(vec![self.decide(id, prepared, level)], Step::Done(Ok(ended)))
    }

    /// Aborts an open transaction under an epoch that its producer does not have. Under `transaction.version` 2 it ends as if its producer
    /// had aborted it, who may ask for that late and go on; below that the producer is fenced.
    pub(super) fn fence_and_abort(
        &mut self,
        id: &Arc<str>,
        current: &Transaction,
        level: i16,
        fresh: Option<i64>,
        now: Now,
    ) -> TxnOutcome<Step<Ended>> {
        if level >= TRANSACTION_VERSION_2 {
            return self.prepare_and_bump(id, current, false, level, fresh, now);
        }
        let prepared = Transaction {
            producer_epoch: current.producer_epoch.saturating_add(1),
            client_version: level,
            ..current.to_state(TxnState::PrepareAbort, now.wall_ms)
        };
        let Transaction { producer_id, producer_epoch, .. } = prepared;
        self.remember(id, LastProducer { producer_id, producer_epoch: -1 });
        Outcome::new(vec![self.decide(id, prepared, level)], Step::Done(Ok(Ended { producer_id, producer_epoch })))
    }

    /// The record of a decision; the markers are written when it is committed.
    fn decide(&mut self, id: &Arc<str>, prepared: Transaction, level: i16) -> TxnRecord {
        self.soft.decided.push(id.clone());
        TxnRecord::state(id, prepared, level)
    }

    /// The markers that an id's transaction waits for, if it is decided and not complete.
    pub(crate) fn pending_completion(&self, transactional_id: &str) -> Option<Completion> {
        let t = self.hard.get(transactional_id).filter(|t| t.state.is_prepared())?;
        Some(Completion {
            producer_id: t.producer_id,
            producer_epoch: t.producer_epoch,
            committed: t.state == TxnState::PrepareCommit,
            client_version: t.client_version,
            partitions: t.topic_partitions().collect(),
        })
    }

    /// All markers of a decided transaction are written.
    ///
    /// Errors: INVALID_TXN_STATE when the id is no longer where the completion left it.
    pub(crate) fn complete(
        &mut self,
        transactional_id: &str,
        producer: Producer,
        committed: bool,
        level: i16,
        now: Now,
    ) -> TxnOutcome<Result<(), ErrorCode>> {
        let Some((id, current)) = self.hard.entry(transactional_id) else {
            return Outcome::response(Err(ErrorCode::InvalidTxnState));
        };
        let is_same = current.producer_id == producer.producer_id
            && current.producer_epoch == producer.producer_epoch
            && current.state == prepare(committed);
        if !is_same {
            return Outcome::response(Err(ErrorCode::InvalidTxnState));
        }
        let state = if committed { TxnState::CompleteCommit } else { TxnState::CompleteAbort };
        let (producer_id, producer_epoch) = match current.next_producer_id {
            -1 => (current.producer_id, current.producer_epoch),
            next => (next, 0),
        };
        let complete = Transaction {
            producer_id,
            producer_epoch,
            next_producer_id: -1,
            partitions: BTreeMap::new(),
            ..current.to_state(state, now.wall_ms)
        };
        Outcome::new(vec![TxnRecord::state(id, complete, level)], Ok(()))
    }
}

fn prepare(commit: bool) -> TxnState {
    if commit { TxnState::PrepareCommit } else { TxnState::PrepareAbort }
}
