//! What `__transaction_state` says: a function of its records, changed by `replay` alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use milena_common::{StateMachine, TopicPartition};

use super::record::TxnRecord;

/// Recorded state of one partition of `__transaction_state`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Hard {
    transactions: HashMap<Arc<str>, Transaction>,
}

/// Where a transactional id stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i8)]
pub(crate) enum TxnState {
    /// No transaction since its producer was initialised.
    Empty = 0,
    Ongoing = 1,
    /// Decided; markers are being written.
    PrepareCommit = 2,
    /// Decided; markers are being written.
    PrepareAbort = 3,
    CompleteCommit = 4,
    CompleteAbort = 5,
    /// About to be forgotten. Never recorded here.
    Dead = 6,
    /// Its producer is being fenced. Never recorded here: fencing and aborting are one record.
    PrepareEpochFence = 7,
}

impl TxnState {
    const ALL: [TxnState; 8] = [
        TxnState::Empty,
        TxnState::Ongoing,
        TxnState::PrepareCommit,
        TxnState::PrepareAbort,
        TxnState::CompleteCommit,
        TxnState::CompleteAbort,
        TxnState::Dead,
        TxnState::PrepareEpochFence,
    ];

    pub(crate) fn from_id(id: i8) -> Option<TxnState> {
        TxnState::ALL.into_iter().find(|state| *state as i8 == id)
    }

    pub(crate) fn from_name(name: &str) -> Option<TxnState> {
        TxnState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// As DescribeTransactions and ListTransactions name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            TxnState::Empty => "Empty",
            TxnState::Ongoing => "Ongoing",
            TxnState::PrepareCommit => "PrepareCommit",
            TxnState::PrepareAbort => "PrepareAbort",
            TxnState::CompleteCommit => "CompleteCommit",
            TxnState::CompleteAbort => "CompleteAbort",
            TxnState::Dead => "Dead",
            TxnState::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// Its markers are not all written.
    pub(crate) fn is_prepared(self) -> bool {
        matches!(self, TxnState::PrepareCommit | TxnState::PrepareAbort)
    }

    /// Nothing is open: the id may begin a transaction, be initialised again, or expire.
    pub(crate) fn is_idle(self) -> bool {
        matches!(self, TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort)
    }
}

/// What is recorded of one transactional id.
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    pub(crate) producer_id: i64,
    /// The producer id before the last change of state; -1 if unknown.
    pub(crate) previous_producer_id: i64,
    /// The producer id that takes over when the markers are written, because the epochs of this one are used up; else -1.
    pub(crate) next_producer_id: i64,
    pub(crate) producer_epoch: i16,
    /// KIP-939; kept as it was read.
    pub(crate) next_producer_epoch: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) state: TxnState,
    pub(crate) partitions: BTreeMap<Arc<str>, BTreeSet<i32>>,
    pub(crate) last_update_ms: i64,
    /// -1 while no transaction was begun.
    pub(crate) start_ms: i64,
    /// The transaction protocol of its producer: 2 bumps the epoch with each transaction (KIP-890).
    pub(crate) client_version: i16,
}

/// The largest epoch a producer gets to see; the one above is left for fencing it.
pub(crate) const LAST_PRODUCER_EPOCH: i16 = i16::MAX - 1;

impl Transaction {
    /// An id whose producer was never initialised.
    pub(crate) fn new(producer_id: i64) -> Transaction {
        Transaction {
            producer_id,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: -1,
            next_producer_epoch: -1,
            timeout_ms: 0,
            state: TxnState::Empty,
            partitions: BTreeMap::new(),
            last_update_ms: -1,
            start_ms: -1,
            client_version: 0,
        }
    }

    /// This transaction as it will be in `state`.
    pub(crate) fn to_state(&self, state: TxnState, now_ms: i64) -> Transaction {
        Transaction { state, previous_producer_id: self.producer_id, last_update_ms: now_ms, ..self.clone() }
    }

    /// No epoch is left for its producer.
    pub(crate) fn is_epoch_exhausted(&self) -> bool {
        self.producer_epoch >= LAST_PRODUCER_EPOCH
    }

    pub(crate) fn contains(&self, partition: &TopicPartition) -> bool {
        self.partitions.get(&partition.topic).is_some_and(|indexes| indexes.contains(&partition.partition))
    }

    pub(crate) fn topic_partitions(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.partitions
            .iter()
            .flat_map(|(topic, indexes)| indexes.iter().map(|&index| TopicPartition::new(topic.clone(), index)))
    }
}

impl StateMachine for Hard {
    type Record = TxnRecord;

    fn replay(&mut self, _offset: i64, record: &TxnRecord) {
        match record {
            TxnRecord::State { transactional_id, transaction: Some(transaction), .. } => {
                self.transactions.insert(transactional_id.clone(), transaction.clone());
            }
            TxnRecord::State { transactional_id, transaction: None, .. } => {
                self.transactions.remove(transactional_id);
            }
            TxnRecord::Other => {}
        }
    }
}

impl Hard {
    pub(crate) fn get(&self, transactional_id: &str) -> Option<&Transaction> {
        self.transactions.get(transactional_id)
    }

    pub(crate) fn entry(&self, transactional_id: &str) -> Option<(&Arc<str>, &Transaction)> {
        self.transactions.get_key_value(transactional_id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Transaction)> {
        self.transactions.iter()
    }
}
