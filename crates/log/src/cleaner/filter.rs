//! What compaction leaves of one batch. Pure: a batch and what the round knows go in, the batch as it shall be comes out.
//!
//! Offsets, timestamps, headers, codec and format of what stays never change; the batch keeps its first and last offset and its sequences.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use milena_protocol::records::legacy::MessageSetBuilder;
use milena_protocol::records::{
    BatchBuilder, BatchView, Compression, DecompressLimit, Record, RecordsError, TimestampType, set_timestamps,
};

use super::offset_map::OffsetMap;
use super::transactions::CleanedTransactions;

/// Where a producer that is known to the log wrote last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastRecord {
    /// Offset of its last data record; none if only a marker is known.
    pub last_data_offset: Option<i64>,
    pub producer_epoch: i16,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It stays as it is.
    Whole,
    Nothing,
    /// These bytes take its place.
    Rewritten(Bytes),
}

/// What one round knows.
pub(crate) struct Filter<'a> {
    pub map: &'a OffsetMap,
    pub last_records: &'a HashMap<i64, LastRecord>,
    /// Where the round ends: the last batch before it stays, if only as a header.
    pub round_end: i64,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
    /// Whether tombstones of the segment stay that cannot carry a horizon (before magic 2).
    pub keep_legacy_tombstones: bool,
    /// Records that were looked at and that stay.
    pub records_read: u64,
    pub records_kept: u64,
    /// Records without a key: compacted topics refuse them, but the policy may be newer than they are.
    pub records_without_key: u64,
}

impl Filter<'_> {
    /// Decides about one batch.
    pub fn apply(&mut self, batch: &BatchView, transactions: &mut CleanedTransactions) -> Result<Kept, RecordsError> {
        batch.ensure_crc()?;
        let horizon = batch.delete_horizon_ms();
        let (discard, empty_transaction) = if batch.is_control() {
            let may_go = transactions.on_control(batch)?;
            (may_go && horizon.is_some_and(|h| h <= self.now_ms), may_go)
        } else {
            (transactions.on_data(batch), false)
        };
        let keep_header = !batch.is_legacy()
            && ((batch.has_producer_id() && self.is_last_of_producer(batch)) || batch.next_offset() == self.round_end);
        if discard && !keep_header {
            self.records_read += u64::try_from(batch.record_count()).unwrap_or(1);
            return Ok(Kept::Nothing);
        }
        let mut kept = Vec::new();
        let (mut all, mut tombstones) = (true, false);
        for record in batch.records(DecompressLimit::default())? {
            let record = record?;
            self.records_read += 1;
            if !discard && (batch.is_control() || self.keeps(batch, &record, horizon)) {
                tombstones |= record.value.is_none();
                kept.push(record);
            } else {
                all = false;
            }
        }
        self.records_kept += kept.len() as u64;
        if kept.is_empty() {
            return Ok(match keep_header {
                true if batch.record_count() == 0 => Kept::Whole,
                true => Kept::Rewritten(empty(batch)?),
                false => Kept::Nothing,
            });
        }
        let sets_horizon = !batch.is_legacy() && (tombstones || empty_transaction) && horizon.is_none();
        if all && !sets_horizon {
            return Ok(Kept::Whole);
        }
        if batch.is_legacy() {
            return Ok(Kept::Rewritten(rewrite_legacy(batch, &kept)?));
        }
        let horizon = if sets_horizon { Some(self.now_ms.saturating_add(self.delete_retention_ms)) } else { horizon };
        Ok(Kept::Rewritten(rewrite(batch, &kept, horizon)?))
    }

    fn keeps(&mut self, batch: &BatchView, record: &Record, horizon: Option<i64>) -> bool {
        if record.offset > self.map.latest_offset() {
            return true;
        }
        let Some(key) = &record.key else {
            self.records_without_key += 1;
            return false;
        };
        let is_last = self.map.get(key).is_none_or(|last| record.offset >= last);
        let keeps_tombstone = if batch.is_legacy() {
            self.keep_legacy_tombstones
        } else {
            horizon.is_none_or(|horizon| self.now_ms < horizon)
        };
        is_last && (record.value.is_some() || keeps_tombstone)
    }

    /// The header of a producer's last batch is where its epoch and sequence are read from after a loss of the snapshots.
    fn is_last_of_producer(&self, batch: &BatchView) -> bool {
        let Some(last) = self.last_records.get(&batch.producer_id()) else { return false };
        match last.last_data_offset {
            Some(offset) => batch.last_offset() == offset,
            None => batch.is_control() && batch.producer_epoch() == last.producer_epoch,
        }
    }
}

fn builder(batch: &BatchView, codec: Compression) -> BatchBuilder {
    BatchBuilder::new(codec)
        .with_leader_epoch(batch.leader_epoch())
        .with_producer(batch.producer_id(), batch.producer_epoch(), batch.base_sequence())
        .with_transactional(batch.is_transactional())
        .with_control(batch.is_control())
        .with_last_offset_delta(batch.last_offset_delta())
}

fn rewrite(batch: &BatchView, kept: &[Record], horizon: Option<i64>) -> Result<Bytes, RecordsError> {
    let mut out = builder(batch, batch.compression()?).with_delete_horizon(horizon);
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        out = out.with_log_append_time(batch.max_timestamp());
    }
    for record in kept {
        out.append_record(batch.base_offset(), record)?;
    }
    out.build(batch.base_offset())
}

/// The header alone, with the largest timestamp that the batch had.
fn empty(batch: &BatchView) -> Result<Bytes, RecordsError> {
    let mut out = BytesMut::from(&builder(batch, Compression::None).build(batch.base_offset())?[..]);
    set_timestamps(&mut out, batch.timestamp_type(), batch.max_timestamp());
    Ok(out.freeze())
}

fn rewrite_legacy(batch: &BatchView, kept: &[Record]) -> Result<Bytes, RecordsError> {
    let mut out = MessageSetBuilder::new(batch.magic(), batch.compression()?, batch.timestamp_type())?;
    for r in kept {
        out.append(r.offset, r.timestamp, r.key.as_deref(), r.value.as_deref())?;
    }
    out.build()
}
