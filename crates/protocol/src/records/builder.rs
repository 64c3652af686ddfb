//! Building magic 2 batches: our client's, the coordinators', the controller's, and those a conversion makes.
//!
//! Owns the header it writes, the deltas and the checksum. Never assigns offsets or sequences by itself. The records
//! are gathered uncompressed and compressed once, in [`BatchBuilder::build`].

use bytes::{BufMut, Bytes, BytesMut};

use super::batch::{
    ATTRIBUTES_OFFSET, CONTROL_BIT, CRC_OFFSET, DELETE_HORIZON_BIT, HEADER_LEN, LOG_OVERHEAD, TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT, crc32c,
};
use super::compress::{Compression, compress};
use super::record::{Header, put_record, size32};
use super::{NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, Record, RecordsError};

/// Gathers records and writes them as one batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    compression: Compression,
    level: Option<i32>,
    append_time: Option<i64>,
    delete_horizon_ms: Option<i64>,
    leader_epoch: i32,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    flags: i16,
    last_offset_delta: Option<i32>,
    /// Room for the header, then the records.
    bytes: BytesMut,
    count: i32,
    next_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch of data records, timestamps by the producer, no producer id.
    pub fn new(compression: Compression) -> BatchBuilder {
        BatchBuilder {
            compression,
            level: None,
            append_time: None,
            delete_horizon_ms: None,
            leader_epoch: NO_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            flags: 0,
            last_offset_delta: None,
            bytes: BytesMut::zeroed(HEADER_LEN),
            count: 0,
            next_delta: 0,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    /// The codec's level; its default otherwise.
    pub fn with_level(mut self, level: Option<i32>) -> Self {
        self.level = level;
        self
    }

    /// Gives every record the time of the append, in milliseconds (`LogAppendTime`): readers take it for all of them.
    /// As Kafka does, the records keep the differences of their own times in their bytes.
    pub fn with_log_append_time(mut self, append_time_ms: i64) -> Self {
        self.append_time = Some(append_time_ms);
        self
    }

    /// The epoch of the leader that writes the batch.
    pub fn with_leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    /// The idempotent producer, and the sequence number of the first record.
    pub fn with_producer(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = producer_id;
        self.producer_epoch = producer_epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Makes the batch part of the producer's transaction.
    pub fn with_transactional(mut self, transactional: bool) -> Self {
        self.flags = if transactional { self.flags | TRANSACTIONAL_BIT } else { self.flags & !TRANSACTIONAL_BIT };
        self
    }

    /// Makes the records control records.
    pub fn with_control(mut self, control: bool) -> Self {
        self.flags = if control { self.flags | CONTROL_BIT } else { self.flags & !CONTROL_BIT };
        self
    }

    /// Keeps the last offset a batch was first written with, as compaction must.
    pub fn with_last_offset_delta(mut self, last_offset_delta: i32) -> Self {
        self.last_offset_delta = Some(last_offset_delta);
        self
    }

    /// When compaction may drop the batch's tombstones (KIP-534); becomes the base timestamp.
    pub fn with_delete_horizon(mut self, delete_horizon_ms: Option<i64>) -> Self {
        self.delete_horizon_ms = delete_horizon_ms;
        self
    }

    /// Appends a record after the last one.
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), RecordsError> {
        self.append_at(self.next_delta, timestamp_ms, key, value, headers)
    }

    /// Appends a record; its offset and timestamp are taken as they are, the offset relative to `base_offset`.
    pub fn append_record(&mut self, base_offset: i64, record: &Record) -> Result<(), RecordsError> {
        let delta = record
            .offset
            .checked_sub(base_offset)
            .and_then(|delta| i32::try_from(delta).ok())
            .ok_or(RecordsError::TooLarge)?;
        self.append_at(delta, record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers)
    }

    /// Appends a record at an offset relative to the base offset, which must be beyond the last one's.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), RecordsError> {
        if offset_delta < self.next_delta {
            return Err(RecordsError::Corrupt("record offsets of a batch must grow"));
        }
        let next_delta = offset_delta.checked_add(1).ok_or(RecordsError::TooLarge)?;
        if self.count == 0 {
            self.base_timestamp = self.delete_horizon_ms.unwrap_or(timestamp_ms);
        }
        put_record(&mut self.bytes, offset_delta, timestamp_ms.wrapping_sub(self.base_timestamp), key, value, headers)?;
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        self.next_delta = next_delta;
        self.count += 1;
        Ok(())
    }

    /// How many records were appended.
    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// Whether no record was appended.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the batch so far, before compression, in bytes.
    pub fn uncompressed_size(&self) -> usize {
        self.bytes.len()
    }

    /// The largest timestamp so far, in milliseconds.
    pub fn max_timestamp(&self) -> i64 {
        self.append_time.unwrap_or(self.max_timestamp)
    }

    /// Writes the batch. The first record that was appended with [`BatchBuilder::append`] has `base_offset`.
    pub fn build(self, base_offset: i64) -> Result<Bytes, RecordsError> {
        let max_timestamp = self.max_timestamp();
        let mut bytes = self.bytes;
        if self.compression != Compression::None {
            let compressed = compress(self.compression, self.level, bytes.get(HEADER_LEN..).unwrap_or_default())?;
            bytes.truncate(HEADER_LEN);
            bytes.extend_from_slice(&compressed);
        }
        let mut attributes = i16::from(self.compression.id()) | self.flags;
        if self.append_time.is_some() {
            attributes |= TIMESTAMP_TYPE_BIT;
        }
        if self.delete_horizon_ms.is_some() {
            attributes |= DELETE_HORIZON_BIT;
        }
        let length = size32(bytes.len() - LOG_OVERHEAD)?;
        let last_offset_delta = self.last_offset_delta.unwrap_or((self.next_delta - 1).max(0));
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.put_i64(base_offset);
        header.put_i32(length);
        header.put_i32(self.leader_epoch);
        header.put_i8(2);
        header.put_u32(0);
        header.put_i16(attributes);
        header.put_i32(last_offset_delta);
        header.put_i64(self.base_timestamp);
        header.put_i64(max_timestamp);
        header.put_i64(self.producer_id);
        header.put_i16(self.producer_epoch);
        header.put_i32(self.base_sequence);
        header.put_i32(self.count);
        for (slot, byte) in bytes.iter_mut().zip(header) {
            *slot = byte;
        }
        let crc = crc32c(bytes.get(ATTRIBUTES_OFFSET..).unwrap_or_default());
        if let Some(slot) = bytes.get_mut(CRC_OFFSET..ATTRIBUTES_OFFSET) {
            slot.copy_from_slice(&crc.to_be_bytes());
        }
        Ok(bytes.freeze())
    }
}
