//! The records of `__transaction_state` and their bytes.
//!
//! A key carries an i16 type, 0, and a transactional id. Values have version 0 until `transaction.version` 1 is finalized, then
//! version 1. What a later Kafka wrote is left in the log as it is and has no effect here: `TxnRecord::Other`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::stored::txn::transaction_log_value::PartitionsSchema;
use milena_protocol::stored::txn::{
    Key, TransactionLogKey, TransactionLogValue, decode_value, encode_key, encode_value,
};

use super::hard::{Transaction, TxnState};
use crate::writer::{CoordinatorRecord, LoadedRecord};

/// One record by meaning.
#[derive(Debug, Clone, PartialEq)]
pub enum TxnRecord {
    /// `transaction: None` is a tombstone: the id is forgotten.
    State {
        transactional_id: Arc<str>,
        transaction: Option<Transaction>,
        /// Of the value.
        version: i16,
    },
    /// Not ours to understand.
    Other,
}

impl TxnRecord {
    /// The new state of an id, as it is recorded under this level of `transaction.version`: below 1 some fields have no place.
    pub(crate) fn state(transactional_id: &Arc<str>, transaction: Transaction, level: i16) -> Self {
        let version = i16::from(level >= 1);
        let transaction = match version {
            0 => Transaction {
                previous_producer_id: -1,
                next_producer_id: -1,
                next_producer_epoch: -1,
                client_version: 0,
                ..transaction
            },
            _ => transaction,
        };
        TxnRecord::State { transactional_id: transactional_id.clone(), transaction: Some(transaction), version }
    }

    /// The id is forgotten.
    pub(crate) fn tombstone(transactional_id: &Arc<str>) -> Self {
        TxnRecord::State { transactional_id: transactional_id.clone(), transaction: None, version: 0 }
    }

    /// Fails on ids longer than 32767 bytes, which operations refuse before they decide on a record.
    pub(crate) fn encode(&self) -> Result<CoordinatorRecord, ErrorCode> {
        let TxnRecord::State { transactional_id, transaction, version } = self else {
            return Err(ErrorCode::UnknownServerError);
        };
        let key = TransactionLogKey { transactional_id: transactional_id.to_string() };
        let encoded = encode_key(&key).and_then(|key| {
            let value = transaction.as_ref().map(|t| encode_value(&value_of(t), *version)).transpose()?;
            Ok(CoordinatorRecord { key, value })
        });
        encoded.map_err(|error| {
            tracing::error!(%error, "cannot encode a record of the transaction coordinator");
            ErrorCode::UnknownServerError
        })
    }

    pub(crate) fn decode(loaded: LoadedRecord) -> Self {
        let LoadedRecord::Record { offset, record, .. } = loaded else {
            return TxnRecord::Other;
        };
        decode_record(&record).unwrap_or_else(|| {
            tracing::debug!(offset, "a record unknown to the transaction coordinator is left alone");
            TxnRecord::Other
        })
    }
}

fn value_of(t: &Transaction) -> TransactionLogValue {
    let partitions = |(topic, indexes): (&Arc<str>, &BTreeSet<i32>)| PartitionsSchema {
        topic: topic.to_string(),
        partition_ids: indexes.iter().copied().collect(),
    };
    TransactionLogValue {
        producer_id: t.producer_id,
        previous_producer_id: t.previous_producer_id,
        next_producer_id: t.next_producer_id,
        producer_epoch: t.producer_epoch,
        next_producer_epoch: t.next_producer_epoch,
        transaction_timeout_ms: t.timeout_ms,
        transaction_status: t.state as i8,
        transaction_partitions: (t.state != TxnState::Empty).then(|| t.partitions.iter().map(partitions).collect()),
        transaction_last_update_timestamp_ms: t.last_update_ms,
        transaction_start_timestamp_ms: t.start_ms,
        client_transaction_version: t.client_version,
    }
}

/// `None` for what is not understood.
fn decode_record(record: &CoordinatorRecord) -> Option<TxnRecord> {
    let Ok(Key::TransactionLog(key)) = Key::decode(&record.key) else { return None };
    let transactional_id = key.transactional_id.into();
    let Some(value) = &record.value else {
        return Some(TxnRecord::State { transactional_id, transaction: None, version: 0 });
    };
    let version = i16::from_be_bytes(*value.first_chunk()?);
    let value: TransactionLogValue = decode_value(value).ok()?;
    let mut partitions: BTreeMap<Arc<str>, BTreeSet<i32>> = BTreeMap::new();
    for topic in value.transaction_partitions.unwrap_or_default() {
        partitions.entry(topic.topic.into()).or_default().extend(topic.partition_ids);
    }
    let transaction = Transaction {
        producer_id: value.producer_id,
        previous_producer_id: value.previous_producer_id,
        next_producer_id: value.next_producer_id,
        producer_epoch: value.producer_epoch,
        next_producer_epoch: value.next_producer_epoch,
        timeout_ms: value.transaction_timeout_ms,
        state: TxnState::from_id(value.transaction_status)?,
        partitions,
        last_update_ms: value.transaction_last_update_timestamp_ms,
        start_ms: value.transaction_start_timestamp_ms,
        client_version: value.client_transaction_version,
    };
    match transaction.state {
        // To be forgotten: a tombstone follows.
        TxnState::Dead => Some(TxnRecord::State { transactional_id, transaction: None, version: 0 }),
        TxnState::PrepareEpochFence => None,
        _ => Some(TxnRecord::State { transactional_id, transaction: Some(transaction), version }),
    }
}
