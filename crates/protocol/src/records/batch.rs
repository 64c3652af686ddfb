//! A view of one batch over its bytes, the walk over concatenated batches, and the stamps a leader sets in place.
//!
//! Owns the layout of the 61-byte magic 2 header. A view of a magic 0 or 1 message answers what that format knows
//! (offset, size, magic, codec, timestamp) and the absent value for the rest; its records come from `legacy`.
//! Never copies a batch. Called on every append, recovery scan and fetch.

use bytes::Bytes;

use super::compress::{Compression, DecompressLimit};
use super::legacy;
use super::record::RecordIter;
use super::scan::RecordScan;
use super::{
    NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, RecordsError, TimestampType,
};

/// Bytes before the part that `batchLength` counts: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// Bytes of a magic 2 batch header, up to the first record.
pub const HEADER_LEN: usize = 61;
/// Where the leader epoch lies in a magic 2 batch.
pub const LEADER_EPOCH_OFFSET: usize = 12;
/// Where the magic byte lies, in every format.
pub const MAGIC_OFFSET: usize = 16;
/// Where the CRC lies in a magic 2 batch.
pub const CRC_OFFSET: usize = 17;
/// Where the attributes lie in a magic 2 batch; the CRC covers everything from here.
pub const ATTRIBUTES_OFFSET: usize = 21;
/// Where the maximum timestamp lies in a magic 2 batch.
pub const MAX_TIMESTAMP_OFFSET: usize = 35;

const LENGTH_OFFSET: usize = 8;
const LAST_OFFSET_DELTA_OFFSET: usize = 23;
const BASE_TIMESTAMP_OFFSET: usize = 27;
const PRODUCER_ID_OFFSET: usize = 43;
const PRODUCER_EPOCH_OFFSET: usize = 51;
const BASE_SEQUENCE_OFFSET: usize = 53;
const RECORD_COUNT_OFFSET: usize = 57;

const CODEC_MASK: u8 = 0x07;
pub(crate) const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
pub(crate) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(crate) const CONTROL_BIT: i16 = 1 << 5;
pub(crate) const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// The least `batchLength` a message of any format has (magic 0, no key, no value).
const MIN_LENGTH: usize = 14;
const LEGACY_ATTRIBUTES_OFFSET: usize = 17;
const LEGACY_TIMESTAMP_OFFSET: usize = 18;

/// One batch: whole, its header read, its checksum not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    bytes: Bytes,
}

impl BatchView {
    /// Takes exactly the first batch of `bytes`, which must be complete.
    pub fn parse(bytes: &Bytes) -> Result<BatchView, RecordsError> {
        match split_first(bytes)? {
            Some(size) => Ok(BatchView { bytes: bytes.slice(..size) }),
            None => Err(RecordsError::Truncated),
        }
    }

    /// The batch's bytes, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The batch's bytes, header included.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Size of the whole batch in bytes, header included.
    pub fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The format version: 0, 1 or 2.
    pub fn magic(&self) -> i8 {
        get::<1>(&self.bytes, MAGIC_OFFSET)[0] as i8
    }

    /// Whether this is a magic 0 or 1 message and not a magic 2 batch.
    pub fn is_legacy(&self) -> bool {
        self.magic() < 2
    }

    /// Offset of the first record. Of a compressed magic 0 or 1 message this is the offset of the wrapper, which is
    /// the offset of its **last** record: only decompression knows the first (`legacy::first_offset`).
    pub fn base_offset(&self) -> i64 {
        i64_at(&self.bytes, 0)
    }

    /// Offset of the last record the batch was written with (compaction keeps it even if that record is gone).
    pub fn last_offset(&self) -> i64 {
        self.base_offset().saturating_add(i64::from(self.last_offset_delta()))
    }

    /// The offset after [`BatchView::last_offset`].
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Offset of the last record relative to the first.
    pub fn last_offset_delta(&self) -> i32 {
        if self.is_legacy() { 0 } else { i32_at(&self.bytes, LAST_OFFSET_DELTA_OFFSET) }
    }

    /// The epoch of the leader that appended the batch; [`NO_LEADER_EPOCH`] before magic 2.
    pub fn leader_epoch(&self) -> i32 {
        if self.is_legacy() { NO_LEADER_EPOCH } else { i32_at(&self.bytes, LEADER_EPOCH_OFFSET) }
    }

    /// The attribute bits (magic 0 and 1 have only the low eight).
    pub fn attributes(&self) -> i16 {
        if self.is_legacy() {
            i16::from(get::<1>(&self.bytes, LEGACY_ATTRIBUTES_OFFSET)[0])
        } else {
            i16::from_be_bytes(get(&self.bytes, ATTRIBUTES_OFFSET))
        }
    }

    /// The codec of the records, or the error of one that does not exist (magic 0 and 1 have no zstd).
    pub fn compression(&self) -> Result<Compression, RecordsError> {
        let id = (self.attributes() as u8) & CODEC_MASK;
        let compression = Compression::from_id(id)?;
        if compression == Compression::Zstd && self.is_legacy() {
            return Err(RecordsError::Codec(id));
        }
        Ok(compression)
    }

    /// Who set the timestamps. Magic 0 has none and says `CreateTime`.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.magic() > 0 && self.attributes() & TIMESTAMP_TYPE_BIT != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        !self.is_legacy() && self.attributes() & TRANSACTIONAL_BIT != 0
    }

    /// Whether the records are control records (transaction markers, KRaft).
    pub fn is_control(&self) -> bool {
        !self.is_legacy() && self.attributes() & CONTROL_BIT != 0
    }

    /// When compaction may drop the batch's tombstones, in milliseconds, if a pass of it has said so.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (!self.is_legacy() && self.attributes() & DELETE_HORIZON_BIT != 0).then(|| self.base_timestamp())
    }

    /// The timestamp the record deltas count from, in milliseconds.
    pub fn base_timestamp(&self) -> i64 {
        match self.magic() {
            0 => NO_TIMESTAMP,
            1 => i64_at(&self.bytes, LEGACY_TIMESTAMP_OFFSET),
            _ => i64_at(&self.bytes, BASE_TIMESTAMP_OFFSET),
        }
    }

    /// The largest timestamp of the records, in milliseconds.
    pub fn max_timestamp(&self) -> i64 {
        if self.is_legacy() { self.base_timestamp() } else { i64_at(&self.bytes, MAX_TIMESTAMP_OFFSET) }
    }

    /// The idempotent producer's id, or [`NO_PRODUCER_ID`].
    pub fn producer_id(&self) -> i64 {
        if self.is_legacy() { NO_PRODUCER_ID } else { i64_at(&self.bytes, PRODUCER_ID_OFFSET) }
    }

    /// Whether an idempotent producer wrote the batch.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id() > NO_PRODUCER_ID
    }

    /// The producer's epoch, or [`NO_PRODUCER_EPOCH`].
    pub fn producer_epoch(&self) -> i16 {
        if self.is_legacy() { NO_PRODUCER_EPOCH } else { i16::from_be_bytes(get(&self.bytes, PRODUCER_EPOCH_OFFSET)) }
    }

    /// The sequence number of the first record, or [`NO_SEQUENCE`].
    pub fn base_sequence(&self) -> i32 {
        if self.is_legacy() { NO_SEQUENCE } else { i32_at(&self.bytes, BASE_SEQUENCE_OFFSET) }
    }

    /// The sequence number of the last record; after `i32::MAX` comes 0.
    pub fn last_sequence(&self) -> i32 {
        let base = self.base_sequence();
        if base == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        let last = i64::from(base) + i64::from(self.last_offset_delta());
        let wrapped = if last > i64::from(i32::MAX) { last - i64::from(i32::MAX) - 1 } else { last };
        i32::try_from(wrapped).unwrap_or(NO_SEQUENCE)
    }

    /// How many records the header claims; -1 for a compressed magic 0 or 1 message, whose count only
    /// decompression knows.
    pub fn record_count(&self) -> i32 {
        if !self.is_legacy() {
            i32_at(&self.bytes, RECORD_COUNT_OFFSET)
        } else if self.compression() == Ok(Compression::None) {
            1
        } else {
            -1
        }
    }

    /// The stored checksum: CRC-32C from magic 2 on, CRC-32 before.
    pub fn crc(&self) -> u32 {
        let at = if self.is_legacy() { LEADER_EPOCH_OFFSET } else { CRC_OFFSET };
        u32::from_be_bytes(get(&self.bytes, at))
    }

    /// Computes the checksum over the bytes it covers.
    pub fn computed_crc(&self) -> u32 {
        if self.is_legacy() {
            crc32fast::hash(self.bytes.get(MAGIC_OFFSET..).unwrap_or_default())
        } else {
            crc32c(self.bytes.get(ATTRIBUTES_OFFSET..).unwrap_or_default())
        }
    }

    /// Whether the stored checksum is right.
    pub fn crc_valid(&self) -> bool {
        self.crc() == self.computed_crc()
    }

    /// The error of a wrong checksum.
    pub fn ensure_crc(&self) -> Result<(), RecordsError> {
        let (stored, computed) = (self.crc(), self.computed_crc());
        if stored == computed { Ok(()) } else { Err(RecordsError::Crc { stored, computed }) }
    }

    /// The record area of a magic 2 batch: compressed if the attributes say so.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_LEN.min(self.bytes.len())..)
    }

    /// The records, in offset order. Those of an uncompressed batch are slices of it; a compressed one is
    /// decompressed first, to at most `limit` bytes. Magic 0 and 1 messages give theirs too.
    pub fn records(&self, limit: DecompressLimit) -> Result<RecordIter, RecordsError> {
        if self.is_legacy() {
            return legacy::records(self, limit, legacy::InnerChecksums::Trust);
        }
        let body = match self.compression()? {
            Compression::None => self.body(),
            codec => Bytes::from(super::compress::decompress(codec, &self.body(), limit)?),
        };
        Ok(RecordIter::new(self, body))
    }

    /// Walks the records of a magic 2 batch in a small fixed buffer, looking at sizes and numbers only: for those
    /// who check and do not keep.
    pub fn scan(&self, limit: DecompressLimit) -> Result<RecordScan<'_>, RecordsError> {
        RecordScan::new(self, limit)
    }
}

/// Walks concatenated batches. Stops, without an error, before a batch that is not whole, as the end of a fetch
/// result or of a segment after a crash may have one; [`BatchIter::remaining`] tells the bytes left. After an error
/// the walk is over.
pub fn batches(bytes: Bytes) -> BatchIter {
    BatchIter { rest: bytes, position: 0, failed: false }
}

/// The walk that [`batches`] begins.
#[derive(Debug, Clone)]
pub struct BatchIter {
    rest: Bytes,
    position: usize,
    failed: bool,
}

impl BatchIter {
    /// Bytes from the start to the end of the last batch given out.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes after the last batch given out.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for BatchIter {
    type Item = Result<BatchView, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match split_first(&self.rest) {
            Ok(Some(size)) => {
                self.position += size;
                Some(Ok(BatchView { bytes: self.rest.split_to(size) }))
            }
            Ok(None) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// The size of the first batch; none if it is not whole.
fn split_first(bytes: &[u8]) -> Result<Option<usize>, RecordsError> {
    if bytes.len() < LOG_OVERHEAD {
        return Ok(None);
    }
    let length =
        usize::try_from(i32_at(bytes, LENGTH_OFFSET)).map_err(|_| RecordsError::Corrupt("negative batch length"))?;
    if length < MIN_LENGTH {
        return Err(RecordsError::Corrupt("batch length is smaller than any batch"));
    }
    if bytes.len() > MAGIC_OFFSET {
        let magic = get::<1>(bytes, MAGIC_OFFSET)[0] as i8;
        let least = match magic {
            0 => MIN_LENGTH,
            1 => MIN_LENGTH + 8,
            2 => HEADER_LEN - LOG_OVERHEAD,
            other => return Err(RecordsError::Magic(other)),
        };
        if length < least {
            return Err(RecordsError::Corrupt("batch length is smaller than its header"));
        }
    }
    let size = LOG_OVERHEAD + length;
    Ok((bytes.len() >= size).then_some(size))
}

/// CRC-32C (Castagnoli), the checksum of magic 2.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Stamps the offset of the first record. Outside the checksum. Does nothing if `batch` has no room for it.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    put(batch, 0, base_offset.to_be_bytes());
}

/// Stamps the leader epoch of a magic 2 batch. Outside the checksum.
pub fn set_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    put(batch, LEADER_EPOCH_OFFSET, leader_epoch.to_be_bytes());
}

/// Sets timestamp type and maximum timestamp (milliseconds) of a magic 2 batch and renews the checksum. With
/// [`TimestampType::LogAppendTime`] every record of the batch then has `max_timestamp`.
pub fn set_timestamps(batch: &mut [u8], timestamp_type: TimestampType, max_timestamp: i64) {
    set_timestamps_of_split(batch, &[], timestamp_type, max_timestamp);
}

/// [`set_timestamps`] of a batch in two pieces: `head`, at least the header, is changed; `body`, the rest, is only read.
pub fn set_timestamps_of_split(head: &mut [u8], body: &[u8], timestamp_type: TimestampType, max_timestamp: i64) {
    let Some(&[high, low]) = head.get(ATTRIBUTES_OFFSET..ATTRIBUTES_OFFSET + 2) else {
        return;
    };
    let mut attributes = i16::from_be_bytes([high, low]) & !TIMESTAMP_TYPE_BIT;
    if timestamp_type == TimestampType::LogAppendTime {
        attributes |= TIMESTAMP_TYPE_BIT;
    }
    put(head, ATTRIBUTES_OFFSET, attributes.to_be_bytes());
    put(head, MAX_TIMESTAMP_OFFSET, max_timestamp.to_be_bytes());
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(head.get(ATTRIBUTES_OFFSET..).unwrap_or_default());
    digest.update(body);
    let crc = digest.finalize() as u32;
    put(head, CRC_OFFSET, crc.to_be_bytes());
}

fn put<const N: usize>(batch: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(slot) = batch.get_mut(at..at + N) {
        slot.copy_from_slice(&value);
    }
}

/// Fields of a view are always there: `split_first` has compared the length with the header. Zero bytes otherwise.
fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    if let Some(slice) = bytes.get(at..at + N) {
        value.copy_from_slice(slice);
    }
    value
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(get(bytes, at))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(get(bytes, at))
}

impl From<BatchView> for Bytes {
    fn from(view: BatchView) -> Bytes {
        view.bytes
    }
}
