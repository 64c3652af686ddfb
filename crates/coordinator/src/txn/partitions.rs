//! What belongs to a transaction: AddPartitionsToTxn, AddOffsetsToTxn, and the question of a partition's leader (KIP-890).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_common::{Now, Outcome, TopicPartition};
use milena_protocol::ErrorCode;

use super::hard::{Transaction, TxnState};
use super::record::TxnRecord;
use super::{TxnOutcome, TxnShard};

/// Who says that it is the producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
}

impl TxnShard {
    /// The partitions belong to the producer's transaction, which this begins if there is none.
    ///
    /// Errors: INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, CONCURRENT_TRANSACTIONS.
    pub(crate) fn add_partitions(
        &mut self,
        transactional_id: &str,
        producer: Producer,
        added: &[TopicPartition],
        client_version: i16,
        level: i16,
        now: Now,
    ) -> TxnOutcome<Result<(), ErrorCode>> {
        if self.hard.get(transactional_id).is_some_and(|t| t.state.is_prepared()) {
            // First of all: the producer may have the id already that takes over when the markers are written.
            return Outcome::response(Err(ErrorCode::ConcurrentTransactions));
        }
        let (id, current) = match self.of_producer(transactional_id, producer) {
            Ok(found) => found,
            Err(error) => return Outcome::response(Err(error)),
        };
        let is_ongoing = current.state == TxnState::Ongoing;
        if is_ongoing && added.iter().all(|partition| current.contains(partition)) {
            return Outcome::response(Ok(()));
        }
        let mut partitions: BTreeMap<Arc<str>, BTreeSet<i32>> =
            if is_ongoing { current.partitions.clone() } else { BTreeMap::new() };
        for partition in added {
            partitions.entry(partition.topic.clone()).or_default().insert(partition.partition);
        }
        let ongoing = Transaction {
            partitions,
            start_ms: if is_ongoing { current.start_ms } else { now.wall_ms },
            client_version,
            ..current.to_state(TxnState::Ongoing, now.wall_ms)
        };
        Outcome::new(vec![TxnRecord::state(id, ongoing, level)], Ok(()))
    }

    /// Which of the partitions belong to the producer's transaction; the others get TRANSACTION_ABORTABLE.
    ///
    /// Errors, of all: INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, CONCURRENT_TRANSACTIONS.
    pub(crate) fn verify_partitions(
        &self,
        transactional_id: &str,
        producer: Producer,
        asked: &[TopicPartition],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let (_, current) = self.of_producer(transactional_id, producer)?;
        // What a transaction that is over had does not count: its partitions went with it.
        let verdict = |partition| match current.contains(partition) {
            true => ErrorCode::None,
            false => ErrorCode::TransactionAbortable,
        };
        Ok(asked.iter().map(verdict).collect())
    }

    fn of_producer(&self, transactional_id: &str, producer: Producer) -> Result<(&Arc<str>, &Transaction), ErrorCode> {
        let (id, current) = self.hard.entry(transactional_id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if current.producer_id != producer.producer_id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if current.producer_epoch != producer.producer_epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        if current.state.is_prepared() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok((id, current))
    }
}
