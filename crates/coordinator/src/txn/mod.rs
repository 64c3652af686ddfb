//! One partition of `__transaction_state` as a state machine: `Hard` is what its records say, `Soft` what is never recorded.
//!
//! Operations read `Hard`, change `Soft` and return records; only `replay` changes `Hard`. Nothing here awaits, reads a clock
//! or locks: the driver (`shard`) passes `now` and runs the operations of a partition one after another. What must happen
//! outside, the writing of markers, is asked for by an `Effect` once the decision is committed.
//!
//! Two protocols of clients live side by side. The old one (transaction versions 0 and 1) keeps its epoch through many
//! transactions; the new one (version 2, KIP-890) gets a new epoch with the end of each.

mod admin;
mod config;
mod coordinator;
mod end;
mod expiry;
mod hard;
mod init;
mod partitions;
pub(crate) mod record;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use milena_common::{Now, Outcome, StateMachine, TopicPartition};
use milena_protocol::ErrorCode;

pub use admin::TxnFilter;
pub use config::TxnConfig;
pub use coordinator::{MarkerWriter, ProducerIdSource, TransactionCoordinator};
pub use end::Ended;
pub use hard::Transaction;
pub use init::InitProducer;
pub use record::TxnRecord;

use crate::shard::{ReplyId, Shard};
use crate::writer::{CoordinatorRecord, LoadedRecord};
use hard::Hard;

/// The transaction protocol of clients that have their epoch bumped with each transaction (KIP-890).
pub const TRANSACTION_VERSION_2: i16 = 2;

/// A loaded partition of `__transaction_state`.
pub struct TxnShard {
    config: Arc<TxnConfig>,
    hard: Hard,
    soft: Soft,
}

#[derive(Default)]
struct Soft {
    /// What producers had before the last bump, to tell one that asks again from one that is fenced.
    last: HashMap<Arc<str>, LastProducer>,
    /// Ids whose transactions were decided.
    decided: Vec<Arc<str>>,
}

/// A producer's identity before its epoch was bumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LastProducer {
    producer_id: i64,
    /// -1 if whoever had it is fenced.
    producer_epoch: i16,
}

/// Markers to write for a transaction that was decided. When they are written, `TxnShard::complete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    pub producer_id: i64,
    /// The epoch that the markers carry.
    pub producer_epoch: i16,
    pub committed: bool,
    /// The transaction version that the markers are checked by (KIP-1228).
    pub client_version: i16,
    pub partitions: Vec<TopicPartition>,
}

/// What an operation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<T> {
    Done(Result<T, ErrorCode>),
    /// The epochs of the producer id are used up, or there is none: the operation is to be run again with a fresh one.
    NeedsProducerId,
}

type TxnOutcome<R> = Outcome<R, TxnRecord>;

fn refuse<T>(error: ErrorCode) -> TxnOutcome<Step<T>> {
    Outcome::response(Step::Done(Err(error)))
}

impl TxnShard {
    /// An empty partition.
    pub fn new(config: Arc<TxnConfig>) -> Self {
        TxnShard { config, hard: Hard::default(), soft: Soft::default() }
    }

    /// Remembers whom a producer was before it got another epoch.
    fn remember(&mut self, transactional_id: &Arc<str>, last: LastProducer) {
        self.soft.last.insert(transactional_id.clone(), last);
    }

    fn last_epoch(&self, transactional_id: &str) -> i16 {
        self.soft.last.get(transactional_id).map_or(-1, |last| last.producer_epoch)
    }
}

impl StateMachine for TxnShard {
    type Record = TxnRecord;

    fn replay(&mut self, offset: i64, record: &TxnRecord) {
        self.hard.replay(offset, record);
    }
}

impl Shard for TxnShard {
    /// Nobody waits here: clients ask again.
    type Parked = std::convert::Infallible;
    /// An id whose transaction was decided; `TxnShard::pending_completion` says how.
    type Effect = Arc<str>;

    fn encode(record: &TxnRecord) -> Result<CoordinatorRecord, ErrorCode> {
        record.encode()
    }

    fn decode(loaded: LoadedRecord) -> TxnRecord {
        TxnRecord::decode(loaded)
    }

    /// Whatever was decided and not completed goes on.
    fn on_loaded(&mut self, _now: Now) {
        let prepared = self.hard.iter().filter(|(_, t)| t.state.is_prepared());
        self.soft.decided = prepared.map(|(id, _)| id.clone()).collect();
    }

    fn on_timer(&mut self, _now: Now) -> Option<TxnOutcome<()>> {
        None
    }

    fn next_deadline(&self) -> Option<u64> {
        None
    }

    fn take_replies(&mut self) -> Vec<(ReplyId, Self::Parked)> {
        Vec::new()
    }

    fn take_effects(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.soft.decided)
    }
}

/// Strings in keys have an i16 length.
///
/// Errors: INVALID_REQUEST if the id is empty or cannot be recorded.
pub(crate) fn validate_transactional_id(transactional_id: &str) -> Result<(), ErrorCode> {
    match transactional_id.is_empty() || transactional_id.len() > i16::MAX as usize {
        true => Err(ErrorCode::InvalidRequest),
        false => Ok(()),
    }
}
