//! InitProducerId for transactional ids: who the producer is from now on, and that nobody else is (KIP-98, KIP-360, KIP-890).

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_common::{Now, Outcome};
use milena_protocol::ErrorCode;

use super::hard::{LAST_PRODUCER_EPOCH, Transaction, TxnState};
use super::record::TxnRecord;
use super::{LastProducer, Step, TxnOutcome, TxnShard, refuse};

/// What a producer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducer {
    pub transactional_id: Arc<str>,
    pub timeout_ms: i32,
    /// The id and epoch that the producer has, if it goes on after an error (KIP-360).
    pub expected: Option<(i64, i16)>,
}

impl TxnShard {
    /// The producer's id and epoch. A transaction that is open is aborted first, and the producer told to ask again.
    ///
    /// Errors: CONCURRENT_TRANSACTIONS, PRODUCER_FENCED.
    pub fn init_producer(
        &mut self,
        request: &InitProducer,
        level: i16,
        fresh: Option<i64>,
        now: Now,
    ) -> TxnOutcome<Step<(i64, i16)>> {
        let id = &request.transactional_id;
        let Some(current) = self.hard.get(id) else {
            let Some(producer_id) = fresh else { return Outcome::response(Step::NeedsProducerId) };
            return self.initialise(request, &Transaction::new(producer_id), producer_id, 0, -1, level, now);
        };
        if current.state.is_prepared() {
            return refuse(ErrorCode::ConcurrentTransactions);
        }
        let current = current.clone();
        if let Some(expected) = request.expected
            && !self.may_be(id, &current, expected)
        {
            return refuse(ErrorCode::ProducerFenced);
        }
        match current.state {
            TxnState::Ongoing => {
                let fenced = self.fence_and_abort(id, &current, level, fresh, now);
                fenced.map(|step| match step {
                    Step::NeedsProducerId => Step::NeedsProducerId,
                    Step::Done(_) => Step::Done(Err(ErrorCode::ConcurrentTransactions)),
                })
            }
            state if state.is_idle() => self.init_idle(request, &current, level, fresh, now),
            _ => refuse(ErrorCode::ConcurrentTransactions),
        }
    }

    /// Whether the producer that a request names can be the current one, or the one that it replaced when its epochs were used up.
    fn may_be(&self, id: &str, current: &Transaction, (producer_id, epoch): (i64, i16)) -> bool {
        let was_replaced = |previous: i64| producer_id == previous && epoch >= LAST_PRODUCER_EPOCH;
        current.producer_epoch == -1
            || producer_id == current.producer_id
            || was_replaced(current.previous_producer_id)
            || self.soft.last.get(id).is_some_and(|last| was_replaced(last.producer_id))
    }

    fn init_idle(
        &mut self,
        request: &InitProducer,
        current: &Transaction,
        level: i16,
        fresh: Option<i64>,
        now: Now,
    ) -> TxnOutcome<Step<(i64, i16)>> {
        let expected_epoch = request.expected.map(|(_, epoch)| epoch);
        let is_current = expected_epoch.is_none_or(|epoch| epoch == current.producer_epoch);
        if current.is_epoch_exhausted() && is_current {
            let Some(producer_id) = fresh else { return Outcome::response(Step::NeedsProducerId) };
            let last_epoch = if expected_epoch.is_some() { current.producer_epoch } else { -1 };
            return self.initialise(request, current, producer_id, 0, last_epoch, level, now);
        }
        let bumped = current.producer_epoch.saturating_add(1);
        let last_epoch = self.last_epoch(&request.transactional_id);
        let (epoch, last_epoch) = match expected_epoch {
            None => (bumped, -1),
            Some(_) if is_current || current.producer_epoch == -1 => (bumped, current.producer_epoch),
            // It did not get the answer that told it the new epoch.
            Some(epoch) if epoch == last_epoch => (current.producer_epoch, last_epoch),
            Some(_) => return refuse(ErrorCode::ProducerFenced),
        };
        self.initialise(request, current, current.producer_id, epoch, last_epoch, level, now)
    }

    #[expect(clippy::too_many_arguments, reason = "who it was and who it is now, and how that is recorded")]
    fn initialise(
        &mut self,
        request: &InitProducer,
        current: &Transaction,
        producer_id: i64,
        producer_epoch: i16,
        last_epoch: i16,
        level: i16,
        now: Now,
    ) -> TxnOutcome<Step<(i64, i16)>> {
        let id = &request.transactional_id;
        let initialised = Transaction {
            producer_id,
            next_producer_id: -1,
            producer_epoch,
            timeout_ms: request.timeout_ms,
            partitions: BTreeMap::new(),
            start_ms: -1,
            ..current.to_state(TxnState::Empty, now.wall_ms)
        };
        self.remember(id, LastProducer { producer_id: current.producer_id, producer_epoch: last_epoch });
        let record = TxnRecord::state(id, initialised, level);
        Outcome::new(vec![record], Step::Done(Ok((producer_id, producer_epoch))))
    }
}
