//! What a log knows about producers: the last batches of each idempotent one, open transactions, and the snapshot file of it.
//!
//! Pure: batches go in as headers, verdicts come out. Derived from the log and rebuilt from it; never the only home of anything.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes};
use hashbrown::HashMap;
use milena_common::limits::MAX_PRODUCERS_PER_PARTITION;
use milena_protocol::records::{NO_PRODUCER_EPOCH, crc32c};

use crate::error::LogError;
use crate::index::AbortedTransaction;

/// Batches of a producer that are recognised when they come again.
const RETAINED_BATCHES: usize = 5;
const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_HEADER_BYTES: usize = 10;
const SNAPSHOT_ENTRY_BYTES: usize = 46;

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMetadata {
    pub last_sequence: i32,
    pub last_offset: i64,
    /// Records in the batch, less one.
    pub offset_delta: i32,
    /// Its largest timestamp, in milliseconds.
    pub timestamp: i64,
}

impl BatchMetadata {
    /// Sequences go round after 2^31 - 1.
    pub fn first_sequence(&self) -> i32 {
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        i32::try_from(first.rem_euclid(1 << 31)).unwrap_or(0)
    }

    /// Offset of its first record.
    pub fn first_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }
}

/// One producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerEntry {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// The last batches, oldest first; at most five.
    pub batches: VecDeque<BatchMetadata>,
    /// When it last wrote, in milliseconds.
    pub last_timestamp: i64,
    /// Epoch of the coordinator that last ended a transaction, or -1.
    pub coordinator_epoch: i32,
    /// Offset of the first record of its open transaction.
    pub current_txn_first_offset: Option<i64>,
}

impl ProducerEntry {
    fn new(producer_id: i64) -> Self {
        ProducerEntry {
            producer_id,
            producer_epoch: NO_PRODUCER_EPOCH,
            batches: VecDeque::new(),
            last_timestamp: -1,
            coordinator_epoch: -1,
            current_txn_first_offset: None,
        }
    }

    /// Sequence of the last record, or -1.
    pub fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |b| b.last_sequence)
    }
}

/// What the header of a batch says to producer state.
#[derive(Debug, Clone, Copy)]
pub struct ProducerBatch {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub first_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
    pub is_transactional: bool,
}

/// A transaction marker in the log.
#[derive(Debug, Clone, Copy)]
pub struct Marker {
    pub committed: bool,
    pub coordinator_epoch: i32,
    /// From 2 on every transaction ends with another epoch (KIP-890).
    pub transaction_version: i16,
}

/// What must be so for records of a transaction to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransactionCheck {
    /// Nothing is asked about transactions.
    #[default]
    Off,
    /// A batch may begin a transaction only with the ticket that [`ProducerState::begin_verification`] gave before the coordinator was
    /// asked (KIP-890); without one it must belong to an open one.
    Ticket(Option<u64>),
    /// A marker of this transaction version (KIP-1228).
    Marker(i16),
}

/// A producer whose transaction the coordinator is being asked about.
#[derive(Debug, Clone, Copy)]
struct Verification {
    ticket: u64,
    producer_epoch: i16,
    /// Of the batches that wait for the answer.
    lowest_sequence: i32,
    bumps_epochs: bool,
}

/// All producers of one log.
#[derive(Debug, Clone, Default)]
pub struct ProducerState {
    producers: HashMap<i64, ProducerEntry>,
    /// Open transactions by the offset of their first record.
    ongoing: BTreeMap<i64, i64>,
    /// Ended transactions whose marker lies above the high watermark: first offset -> offset of the marker.
    unreplicated: BTreeMap<i64, i64>,
    /// By producer id. A marker voids the ticket: what was verified before a transaction ended does not begin the next one.
    verifying: HashMap<i64, Verification>,
    next_ticket: u64,
}

impl ProducerState {
    /// A ticket for a transaction that a batch of this producer would begin; none if it is open already. The coordinator must be asked
    /// after this and before the append. `bumps_epochs` says that the producer gets an epoch with each transaction.
    ///
    /// # Errors
    /// The epoch is an old one: the coordinator need not be asked, and must not add anything to a transaction for it.
    pub fn begin_verification(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
        bumps_epochs: bool,
        partition: &dyn std::fmt::Display,
    ) -> Result<Option<u64>, LogError> {
        self.check_producer_epoch(producer_id, producer_epoch, partition)?;
        if self.is_open(producer_id, producer_epoch) {
            return Ok(None);
        }
        if self.verifying.len() >= MAX_PRODUCERS_PER_PARTITION {
            // Those who wait are refused, and ask again.
            self.verifying.clear();
        }
        let ticket = self.next_ticket;
        let fresh = || Verification { ticket, producer_epoch, lowest_sequence: base_sequence, bumps_epochs };
        let verification = self.verifying.entry(producer_id).or_insert_with(fresh);
        if verification.producer_epoch != producer_epoch {
            *verification = fresh();
        }
        verification.lowest_sequence = verification.lowest_sequence.min(base_sequence);
        if verification.ticket == ticket {
            self.next_ticket += 1;
        }
        Ok(Some(verification.ticket))
    }

    fn is_open(&self, producer_id: i64, producer_epoch: i16) -> bool {
        self.producers
            .get(&producer_id)
            .is_some_and(|e| e.current_txn_first_offset.is_some() && e.producer_epoch == producer_epoch)
    }

    /// Whether a client's batch goes with what is known of transactions.
    pub fn check_transaction(
        &self,
        batch: &ProducerBatch,
        check: TransactionCheck,
        partition: &dyn std::fmt::Display,
    ) -> Result<(), LogError> {
        let entry = self.producers.get(&batch.producer_id);
        let refused = |reason| LogError::InvalidTxnState {
            producer_id: batch.producer_id,
            partition: partition.to_string(),
            reason,
        };
        if !batch.is_transactional {
            return match entry.is_some_and(|e| e.current_txn_first_offset.is_some()) {
                true => Err(refused("the producer's transaction is open")),
                false => Ok(()),
            };
        }
        let TransactionCheck::Ticket(ticket) = check else { return Ok(()) };
        if self.is_open(batch.producer_id, batch.producer_epoch) {
            return Ok(());
        }
        let verification = self.verifying.get(&batch.producer_id).filter(|v| Some(v.ticket) == ticket);
        let Some(verification) = verification else {
            return Err(refused("the records belong to no open transaction"));
        };
        let first = match verification.bumps_epochs && entry.is_none() {
            true => 0,
            false => verification.lowest_sequence,
        };
        if batch.base_sequence > first {
            return Err(LogError::OutOfOrderSequence {
                producer_id: batch.producer_id,
                offset: batch.last_offset,
                partition: partition.to_string(),
                found: batch.base_sequence,
                expected: first,
            });
        }
        Ok(())
    }

    /// An earlier append of the same batch, if it is one of the last five.
    pub fn duplicate(&self, batch: &ProducerBatch) -> Option<BatchMetadata> {
        let entry = self.producers.get(&batch.producer_id)?;
        if entry.producer_epoch != batch.producer_epoch {
            return None;
        }
        entry
            .batches
            .iter()
            .find(|b| b.first_sequence() == batch.base_sequence && b.last_sequence == batch.last_sequence)
            .copied()
    }

    /// Whether a client's batch may be appended now. `partition` is for the error's text.
    pub fn check(&self, batch: &ProducerBatch, partition: &dyn std::fmt::Display) -> Result<(), LogError> {
        self.check_epoch(batch, partition)?;
        let Some(entry) = self.producers.get(&batch.producer_id) else { return Ok(()) };
        let expected = if entry.producer_epoch == NO_PRODUCER_EPOCH {
            return Ok(());
        } else if batch.producer_epoch != entry.producer_epoch {
            0
        } else {
            match entry.last_sequence() {
                i32::MAX => 0,
                last => last + 1,
            }
        };
        if batch.base_sequence == expected {
            return Ok(());
        }
        Err(LogError::OutOfOrderSequence {
            producer_id: batch.producer_id,
            offset: batch.last_offset,
            partition: partition.to_string(),
            found: batch.base_sequence,
            expected,
        })
    }

    /// Whether the producer's epoch is not an old one: all that is asked of a coordinator's batch.
    pub fn check_epoch(&self, batch: &ProducerBatch, partition: &dyn std::fmt::Display) -> Result<(), LogError> {
        self.check_producer_epoch(batch.producer_id, batch.producer_epoch, partition)
    }

    fn check_producer_epoch(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        partition: &dyn std::fmt::Display,
    ) -> Result<(), LogError> {
        match self.producers.get(&producer_id) {
            Some(entry) if producer_epoch < entry.producer_epoch => Err(LogError::InvalidProducerEpoch {
                producer_id,
                partition: partition.to_string(),
                found: producer_epoch,
                current: entry.producer_epoch,
            }),
            _ => Ok(()),
        }
    }

    /// Whether a marker may be appended now.
    pub fn check_marker(
        &self,
        producer_id: i64,
        epoch: i16,
        marker: &Marker,
        partition: &dyn std::fmt::Display,
    ) -> Result<(), LogError> {
        let unknown = ProducerEntry::new(producer_id);
        let entry = self.producers.get(&producer_id).unwrap_or(&unknown);
        // One that comes again finds its transaction ended; the last epoch of all has no next one.
        let is_late = match marker.transaction_version >= 2 && epoch != i16::MAX {
            true if entry.current_txn_first_offset.is_some() => epoch <= entry.producer_epoch,
            _ => epoch < entry.producer_epoch,
        };
        if is_late {
            return Err(LogError::InvalidProducerEpoch {
                producer_id,
                partition: partition.to_string(),
                found: epoch,
                current: entry.producer_epoch,
            });
        }
        if marker.coordinator_epoch < entry.coordinator_epoch {
            return Err(LogError::CoordinatorFenced {
                producer_id,
                partition: partition.to_string(),
                found: marker.coordinator_epoch,
                current: entry.coordinator_epoch,
            });
        }
        Ok(())
    }

    /// A data batch is in the log.
    pub fn on_batch(&mut self, batch: &ProducerBatch) {
        self.make_room(batch.producer_id);
        let entry = self.producers.entry(batch.producer_id).or_insert_with(|| ProducerEntry::new(batch.producer_id));
        if entry.producer_epoch != batch.producer_epoch {
            entry.producer_epoch = batch.producer_epoch;
            entry.batches.clear();
        }
        if entry.batches.len() == RETAINED_BATCHES {
            entry.batches.pop_front();
        }
        entry.batches.push_back(BatchMetadata {
            last_sequence: batch.last_sequence,
            last_offset: batch.last_offset,
            offset_delta: i32::try_from(batch.last_offset - batch.first_offset).unwrap_or(i32::MAX),
            timestamp: batch.max_timestamp,
        });
        entry.last_timestamp = batch.max_timestamp;
        if batch.is_transactional && entry.current_txn_first_offset.is_none() {
            self.verifying.remove(&batch.producer_id);
            entry.current_txn_first_offset = Some(batch.first_offset);
            self.ongoing.insert(batch.first_offset, batch.producer_id);
        }
    }

    /// A marker is in the log. The transaction that it aborted, if it did and there was one.
    pub fn on_marker(
        &mut self,
        producer_id: i64,
        epoch: i16,
        marker: &Marker,
        offset: i64,
        timestamp: i64,
    ) -> Option<AbortedTransaction> {
        self.make_room(producer_id);
        // A marker with the epoch of the next transaction leaves alone who is about to begin that one.
        let is_next = |v: &Verification| marker.transaction_version >= 2 && v.producer_epoch >= epoch;
        if self.verifying.get(&producer_id).is_some_and(|v| !is_next(v)) {
            self.verifying.remove(&producer_id);
        }
        let entry = self.producers.entry(producer_id).or_insert_with(|| ProducerEntry::new(producer_id));
        if entry.producer_epoch != epoch {
            entry.producer_epoch = epoch;
            entry.batches.clear();
        }
        entry.coordinator_epoch = marker.coordinator_epoch;
        entry.last_timestamp = timestamp;
        let first_offset = entry.current_txn_first_offset.take()?;
        self.ongoing.remove(&first_offset);
        self.unreplicated.insert(first_offset, offset);
        let last_stable_offset = self.ongoing.first_key_value().map_or(offset + 1, |(first, _)| *first);
        (!marker.committed).then_some(AbortedTransaction {
            producer_id,
            first_offset,
            last_offset: offset,
            last_stable_offset,
        })
    }

    /// The first offset that a reader of committed records must not pass.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        let ongoing = self.ongoing.first_key_value().map(|(first, _)| *first);
        let unreplicated = self.unreplicated.first_key_value().map(|(first, _)| *first);
        match (ongoing, unreplicated) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Markers below the high watermark are stable.
    pub fn on_high_watermark(&mut self, high_watermark: i64) {
        if !self.unreplicated.is_empty() {
            self.unreplicated.retain(|_, marker| *marker >= high_watermark);
        }
    }

    /// Forgets producers that wrote nothing for so long and have no open transaction.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.retain(|_, e| {
            e.current_txn_first_offset.is_some() || now_ms.saturating_sub(e.last_timestamp) < expiration_ms
        });
    }

    /// All producers, in no order.
    pub fn producers(&self) -> impl Iterator<Item = &ProducerEntry> {
        self.producers.values()
    }

    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    fn make_room(&mut self, producer_id: i64) {
        if self.producers.len() < MAX_PRODUCERS_PER_PARTITION || self.producers.contains_key(&producer_id) {
            return;
        }
        let idle = self
            .producers
            .values()
            .filter(|e| e.current_txn_first_offset.is_none())
            .min_by_key(|e| e.last_timestamp)
            .map(|e| e.producer_id);
        if let Some(id) = idle {
            self.producers.remove(&id);
        }
    }

    /// The snapshot file: version, CRC-32C of what follows it, and the last batch of each producer.
    pub fn encode(&self) -> Vec<u8> {
        let mut entries: Vec<&ProducerEntry> = self.producers.values().collect();
        entries.sort_by_key(|e| e.producer_id);
        let mut out = Vec::with_capacity(SNAPSHOT_HEADER_BYTES + entries.len() * SNAPSHOT_ENTRY_BYTES);
        out.put_i16(SNAPSHOT_VERSION);
        out.put_u32(0);
        out.put_i32(i32::try_from(entries.len()).unwrap_or(i32::MAX));
        for e in entries {
            let last = e.batches.back();
            out.put_i64(e.producer_id);
            out.put_i16(e.producer_epoch);
            out.put_i32(last.map_or(-1, |b| b.last_sequence));
            out.put_i64(last.map_or(-1, |b| b.last_offset));
            out.put_i32(last.map_or(0, |b| b.offset_delta));
            out.put_i64(e.last_timestamp);
            out.put_i32(e.coordinator_epoch);
            out.put_i64(e.current_txn_first_offset.unwrap_or(-1));
        }
        let crc = crc32c(out.get(6..).unwrap_or_default());
        if let Some(place) = out.get_mut(2..6) {
            place.copy_from_slice(&crc.to_be_bytes());
        }
        out
    }

    /// From a snapshot file; none if it is damaged. Producers that expired by now are left out.
    pub fn decode(bytes: &Bytes, now_ms: i64, expiration_ms: i64) -> Option<ProducerState> {
        let mut b = bytes.clone();
        if b.remaining() < SNAPSHOT_HEADER_BYTES || b.get_i16() != SNAPSHOT_VERSION {
            return None;
        }
        if b.get_u32() != crc32c(bytes.get(6..)?) {
            return None;
        }
        let count = usize::try_from(b.get_i32()).ok()?;
        if b.remaining() != count.checked_mul(SNAPSHOT_ENTRY_BYTES)? {
            return None;
        }
        let mut state = ProducerState::default();
        for _ in 0..count {
            let mut e = ProducerEntry::new(b.get_i64());
            e.producer_epoch = b.get_i16();
            let last = BatchMetadata {
                last_sequence: b.get_i32(),
                last_offset: b.get_i64(),
                offset_delta: b.get_i32(),
                timestamp: b.get_i64(),
            };
            e.last_timestamp = last.timestamp;
            e.coordinator_epoch = b.get_i32();
            e.current_txn_first_offset = Some(b.get_i64()).filter(|o| *o >= 0);
            if last.last_offset >= 0 {
                e.batches.push_back(last);
            }
            if let Some(first) = e.current_txn_first_offset {
                state.ongoing.insert(first, e.producer_id);
            }
            state.producers.insert(e.producer_id, e);
        }
        state.expire(now_ms, expiration_ms);
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer_epoch: i16, base_sequence: i32, count: i32, first_offset: i64) -> ProducerBatch {
        let last = (i64::from(base_sequence) + i64::from(count) - 1).rem_euclid(1 << 31);
        ProducerBatch {
            producer_id: 7,
            producer_epoch,
            base_sequence,
            last_sequence: last as i32,
            first_offset,
            last_offset: first_offset + i64::from(count) - 1,
            max_timestamp: 1000,
            is_transactional: false,
        }
    }

    #[test]
    fn duplicates_gaps_and_old_epochs() {
        let mut s = ProducerState::default();
        for i in 0..7 {
            let b = batch(0, i * 2, 2, i64::from(i) * 2);
            s.check(&b, &"t-0").unwrap();
            s.on_batch(&b);
        }
        assert_eq!(s.duplicate(&batch(0, 4, 2, 99)).map(|b| b.first_offset()), Some(4));
        assert_eq!(s.duplicate(&batch(0, 2, 2, 99)), None, "only the last five are remembered");
        assert!(matches!(s.check(&batch(0, 2, 2, 99), &"t-0"), Err(LogError::OutOfOrderSequence { expected: 14, .. })));
        assert!(matches!(s.check(&batch(1, 3, 1, 99), &"t-0"), Err(LogError::OutOfOrderSequence { expected: 0, .. })));
        s.check(&batch(1, 0, 1, 99), &"t-0").unwrap();
        s.on_batch(&batch(1, 0, 1, 14));
        assert!(matches!(s.check(&batch(0, 14, 1, 99), &"t-0"), Err(LogError::InvalidProducerEpoch { .. })));
    }

    #[test]
    fn sequences_go_round() {
        let mut s = ProducerState::default();
        let b = batch(0, i32::MAX - 1, 4, 0);
        assert_eq!(b.last_sequence, 1);
        s.on_batch(&b);
        assert_eq!(s.duplicate(&b).map(|b| b.first_sequence()), Some(i32::MAX - 1));
        s.check(&batch(0, 2, 1, 4), &"t-0").unwrap();
    }

    #[test]
    fn snapshot_keeps_the_last_batch_and_the_open_transaction() {
        let mut s = ProducerState::default();
        let mut b = batch(3, 0, 5, 10);
        b.is_transactional = true;
        s.on_batch(&b);
        let bytes = Bytes::from(s.encode());
        let back = ProducerState::decode(&bytes, 1000, 1000).unwrap();
        assert_eq!(back.producers().next(), s.producers().next());
        assert_eq!(back.first_unstable_offset(), Some(10));
        let mut damaged = bytes.to_vec();
        damaged[20] ^= 1;
        assert!(ProducerState::decode(&Bytes::from(damaged), 1000, 1000).is_none());
        let aborted = s
            .on_marker(7, 3, &Marker { committed: false, coordinator_epoch: 1, transaction_version: 0 }, 15, 1001)
            .unwrap();
        assert_eq!((aborted.first_offset, aborted.last_offset, aborted.last_stable_offset), (10, 15, 16));
        assert_eq!(s.first_unstable_offset(), Some(10), "the marker is not below the high watermark yet");
        s.on_high_watermark(16);
        assert_eq!(s.first_unstable_offset(), None);
    }

    fn begin(s: &mut ProducerState, epoch: i16, base_sequence: i32, bumps_epochs: bool) -> Option<u64> {
        s.begin_verification(7, epoch, base_sequence, bumps_epochs, &"t-0").unwrap()
    }

    fn transactional(producer_epoch: i16, base_sequence: i32, first_offset: i64) -> ProducerBatch {
        ProducerBatch { is_transactional: true, ..batch(producer_epoch, base_sequence, 1, first_offset) }
    }

    #[test]
    fn a_transaction_begins_only_with_a_valid_ticket() {
        let mut s = ProducerState::default();
        let check = |s: &ProducerState, b: &ProducerBatch, ticket| {
            s.check_transaction(b, TransactionCheck::Ticket(ticket), &"t-0").map_err(|error| error.to_string())
        };
        let first = transactional(0, 0, 0);
        assert!(check(&s, &first, None).is_err());
        let ticket = begin(&mut s, 0, 0, false);
        assert_eq!(begin(&mut s, 0, 1, false), ticket, "batches of one transaction share it");
        assert!(check(&s, &transactional(0, 1, 0), ticket).is_err(), "the first one is still to come");
        check(&s, &first, ticket).unwrap();
        s.on_batch(&first);
        assert_eq!(begin(&mut s, 0, 2, false), None, "it is open");
        check(&s, &transactional(0, 1, 1), None).unwrap();
        assert!(check(&s, &batch(0, 1, 1, 1), None).is_err(), "what is not of the transaction waits for its end");
        let marker = Marker { committed: true, coordinator_epoch: 1, transaction_version: 0 };
        let late = begin(&mut s, 0, 2, false);
        s.on_marker(7, 0, &marker, 1, 1000);
        assert_eq!(late, None);
        assert!(check(&s, &transactional(0, 1, 2), ticket).is_err(), "verified for the transaction before");
        let ticket = begin(&mut s, 0, 1, false);
        s.on_marker(7, 0, &marker, 2, 1000);
        assert!(check(&s, &transactional(0, 1, 3), ticket).is_err(), "voided by the marker");
    }

    #[test]
    fn producers_that_get_an_epoch_with_each_transaction_begin_at_zero() {
        let mut s = ProducerState::default();
        let ticket = begin(&mut s, 0, 3, true);
        let check =
            |s: &ProducerState, b: &ProducerBatch| s.check_transaction(b, TransactionCheck::Ticket(ticket), &"t-0");
        assert!(matches!(check(&s, &transactional(0, 3, 0)), Err(LogError::OutOfOrderSequence { expected: 0, .. })));
        begin(&mut s, 0, 0, true);
        check(&s, &transactional(0, 0, 0)).unwrap();
    }

    #[test]
    fn a_marker_leaves_the_next_transaction_alone() {
        let marker = Marker { committed: true, coordinator_epoch: 1, transaction_version: 2 };
        let begins = |epoch: i16, base_sequence| {
            let mut s = ProducerState::default();
            s.on_batch(&transactional(0, 0, 0));
            let ticket = begin(&mut s, epoch, base_sequence, true);
            s.on_marker(7, 1, &marker, 1, 1000);
            s.check_transaction(&transactional(epoch, base_sequence, 2), TransactionCheck::Ticket(ticket), &"t-0")
                .is_ok()
        };
        assert!(begins(1, 0), "its producer had the answer before the marker was here");
        assert!(!begins(0, 1), "of the transaction that the marker ended");
    }

    #[test]
    fn markers_of_the_new_protocol_need_a_new_epoch() {
        let mut s = ProducerState::default();
        s.on_batch(&transactional(3, 0, 0));
        let check = |s: &ProducerState, epoch, transaction_version| {
            s.check_marker(7, epoch, &Marker { committed: true, coordinator_epoch: 1, transaction_version }, &"t-0")
                .is_ok()
        };
        assert_eq!([check(&s, 2, 0), check(&s, 3, 0), check(&s, 4, 0)], [false, true, true]);
        assert_eq!([check(&s, 2, 2), check(&s, 3, 2), check(&s, 4, 2)], [false, false, true]);
        s.on_marker(7, 4, &Marker { committed: true, coordinator_epoch: 1, transaction_version: 2 }, 1, 1000);
        assert_eq!([check(&s, 3, 2), check(&s, 4, 2)], [false, true], "the same marker may come again");
    }
}
