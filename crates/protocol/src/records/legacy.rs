//! Magic 0 and 1: the message sets of clients older than Kafka 0.11, and of logs older than it.
//!
//! Owns reading them (also compressed, where one wrapper message holds a message set), building them, and turning
//! stored batches into what an old consumer understands. A message is `offset i64, size i32, crc u32, magic i8,
//! attributes i8, [timestamp i64, magic 1 only], key i32+bytes, value i32+bytes`; the checksum is CRC-32 over all after
//! it. Never decides what a broker accepts. Called by [`super::BatchView::records`], by the validation of produced
//! records and by the fetch path.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::batch::{BatchView, LOG_OVERHEAD, MAGIC_OFFSET, batches};
use super::compress::{Compression, DecompressLimit, Decompressor, HeaderChecksum, compress_with};
use super::record::{RecordIter, size32};
use super::{NO_TIMESTAMP, Record, RecordsError, TimestampType};

const CODEC_MASK: u8 = 0x07;
const TIMESTAMP_TYPE_BIT: u8 = 0x08;
/// Checksum, magic and attributes.
const FIXED_LEN: usize = 6;

/// Whether messages inside a compressed one have their checksums checked. The wrapper's covers them in transit; their
/// own matter when a producer hands them over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InnerChecksums {
    /// Compare.
    Check,
    /// Leave them.
    Trust,
}

/// The records of one message, which is several if it is compressed. Decompresses to at most `limit` bytes; keys and
/// values are slices of that. The offsets are absolute, as far as the message tells: those of a compressed message of
/// magic 1 are counted back from the wrapper's, unless that is 0 (as old librdkafka sends it).
pub fn records(
    batch: &BatchView,
    limit: DecompressLimit,
    checksums: InnerChecksums,
) -> Result<RecordIter, RecordsError> {
    let message = Message::parse(batch.bytes())?;
    let codec = batch.compression()?;
    if codec == Compression::None {
        return Ok(RecordIter::from_messages(Messages::one(message)));
    }
    let set = decompress_set(&message, codec, limit)?;
    let last_inner = walk_set(&set, message.magic, checksums)?;
    let base_offset = if message.magic == 0 || message.offset == 0 {
        0
    } else {
        message
            .offset
            .checked_sub(last_inner)
            .filter(|base| *base >= 0)
            .ok_or(RecordsError::Corrupt("offset of a compressed message is below its last inner offset"))?
    };
    let append_time = (batch.timestamp_type() == TimestampType::LogAppendTime).then_some(message.timestamp);
    Ok(RecordIter::from_messages(Messages { set, one: None, base_offset, append_time }))
}

/// The offset of the first record of a message; for a compressed one only decompression tells.
pub fn first_offset(batch: &BatchView, limit: DecompressLimit) -> Result<i64, RecordsError> {
    match records(batch, limit, InnerChecksums::Trust)?.next() {
        Some(record) => Ok(record?.offset),
        None => Err(EMPTY_WRAPPER),
    }
}

const EMPTY_WRAPPER: RecordsError = RecordsError::Corrupt("a compressed message without messages in it");

fn decompress_set(message: &Message, codec: Compression, limit: DecompressLimit) -> Result<Bytes, RecordsError> {
    let value = message.value.as_ref().ok_or(RecordsError::Corrupt("a compressed message without a value"))?;
    let stream = Decompressor::with_lz4_header(codec, value, limit, HeaderChecksum::of(message.magic))?;
    Ok(Bytes::from(stream.into_vec(value.len())?))
}

/// Checks every message of a decompressed set, allocating nothing, and gives the last one's offset.
fn walk_set(set: &Bytes, magic: i8, checksums: InnerChecksums) -> Result<i64, RecordsError> {
    let mut rest = set.clone();
    let mut last = None;
    while !rest.is_empty() {
        let message = Message::take(&mut rest)?;
        if message.magic != magic {
            return Err(RecordsError::Corrupt("a compressed message holds one of another magic"));
        }
        if message.attributes & CODEC_MASK != 0 {
            return Err(RecordsError::Corrupt("a compressed message inside a compressed message"));
        }
        if checksums == InnerChecksums::Check {
            message.ensure_crc()?;
        }
        last = Some(message.offset);
    }
    last.ok_or(EMPTY_WRAPPER)
}

impl HeaderChecksum {
    /// What LZ4 frames in messages of this magic have.
    fn of(magic: i8) -> HeaderChecksum {
        if magic == 0 { HeaderChecksum::Legacy } else { HeaderChecksum::Standard }
    }
}

/// One message as it lies.
#[derive(Debug, Clone)]
struct Message {
    offset: i64,
    magic: i8,
    attributes: u8,
    timestamp: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    crc: u32,
    covered: Bytes,
}

impl Message {
    /// Takes the message that is exactly `bytes`.
    fn parse(bytes: &Bytes) -> Result<Message, RecordsError> {
        let mut rest = bytes.clone();
        let message = Message::take(&mut rest)?;
        if rest.is_empty() { Ok(message) } else { Err(RecordsError::Corrupt("bytes after the message")) }
    }

    /// Takes one message off the front.
    fn take(rest: &mut Bytes) -> Result<Message, RecordsError> {
        let (offset, size) = match rest.first_chunk::<LOG_OVERHEAD>() {
            Some(head) => {
                let mut head = head.as_slice();
                (head.get_i64(), head.get_i32())
            }
            None => return Err(RecordsError::Truncated),
        };
        let size = usize::try_from(size).map_err(|_| RecordsError::Corrupt("negative message size"))?;
        if rest.len() - LOG_OVERHEAD < size {
            return Err(RecordsError::Truncated);
        }
        let mut body = rest.split_to(LOG_OVERHEAD + size).split_off(LOG_OVERHEAD);
        if size < FIXED_LEN {
            return Err(RecordsError::Corrupt("message is shorter than its header"));
        }
        let crc = body.get_u32();
        let covered = body.clone();
        let magic = body.get_i8();
        let attributes = body.get_u8();
        let timestamp = match magic {
            0 => NO_TIMESTAMP,
            1 => body.try_get_i64().map_err(|_| RecordsError::Truncated)?,
            other => return Err(RecordsError::Magic(other)),
        };
        let key = nullable(&mut body)?;
        let value = nullable(&mut body)?;
        if !body.is_empty() {
            return Err(RecordsError::Corrupt("message is longer than its fields"));
        }
        Ok(Message { offset, magic, attributes, timestamp, key, value, crc, covered })
    }

    fn ensure_crc(&self) -> Result<(), RecordsError> {
        let computed = crc32fast::hash(&self.covered);
        if self.crc == computed { Ok(()) } else { Err(RecordsError::Crc { stored: self.crc, computed }) }
    }

    fn into_record(self, base_offset: i64, append_time: Option<i64>) -> Record {
        Record {
            offset: base_offset.wrapping_add(self.offset),
            timestamp: append_time.unwrap_or(self.timestamp),
            key: self.key,
            value: self.value,
            headers: Vec::new(),
        }
    }
}

fn nullable(body: &mut Bytes) -> Result<Option<Bytes>, RecordsError> {
    let size = body.try_get_i32().map_err(|_| RecordsError::Truncated)?;
    let Ok(size) = usize::try_from(size) else {
        return Ok(None);
    };
    if body.len() < size {
        return Err(RecordsError::Truncated);
    }
    Ok(Some(body.split_to(size)))
}

/// The messages that [`RecordIter`] still has to give: one, or those of a decompressed set.
#[derive(Debug, Clone)]
pub(super) struct Messages {
    one: Option<Box<Message>>,
    set: Bytes,
    base_offset: i64,
    append_time: Option<i64>,
}

impl Messages {
    fn one(message: Message) -> Messages {
        Messages { one: Some(Box::new(message)), set: Bytes::new(), base_offset: 0, append_time: None }
    }

    pub(super) fn next(&mut self) -> Option<Result<Record, RecordsError>> {
        if let Some(message) = self.one.take() {
            return Some(Ok(message.into_record(0, None)));
        }
        if self.set.is_empty() {
            return None;
        }
        let (base_offset, append_time) = (self.base_offset, self.append_time);
        Some(Message::take(&mut self.set).map(|m| m.into_record(base_offset, append_time)))
    }
}

/// Gathers records and writes them as a message set: message after message, or one compressed message around them.
#[derive(Debug, Clone)]
pub struct MessageSetBuilder {
    magic: i8,
    compression: Compression,
    timestamp_type: TimestampType,
    bytes: BytesMut,
    first_offset: Option<i64>,
    last_offset: i64,
    max_timestamp: i64,
}

impl MessageSetBuilder {
    /// An empty set. `magic` is 0 or 1; zstd is neither's.
    pub fn new(
        magic: i8,
        compression: Compression,
        timestamp_type: TimestampType,
    ) -> Result<MessageSetBuilder, RecordsError> {
        if !(0..=1).contains(&magic) {
            return Err(RecordsError::Magic(magic));
        }
        if compression == Compression::Zstd {
            return Err(RecordsError::Codec(compression.id()));
        }
        Ok(MessageSetBuilder {
            magic,
            compression,
            timestamp_type,
            bytes: BytesMut::new(),
            first_offset: None,
            last_offset: 0,
            max_timestamp: NO_TIMESTAMP,
        })
    }

    /// Appends a record (a timestamp is dropped by magic 0). Offsets must grow.
    pub fn append(
        &mut self,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), RecordsError> {
        if self.first_offset.is_some() && offset <= self.last_offset {
            return Err(RecordsError::Corrupt("record offsets of a set must grow"));
        }
        let first = *self.first_offset.get_or_insert(offset);
        self.last_offset = offset;
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let offset =
            if self.magic == 1 && self.compression != Compression::None { offset.wrapping_sub(first) } else { offset };
        let attributes = self.attributes(Compression::None);
        put_message(&mut self.bytes, self.magic, offset, attributes, timestamp_ms, key, value)
    }

    /// Whether no record was appended.
    pub fn is_empty(&self) -> bool {
        self.first_offset.is_none()
    }

    /// Writes the set; no bytes if there is no record.
    pub fn build(self) -> Result<Bytes, RecordsError> {
        if self.compression == Compression::None || self.is_empty() {
            return Ok(self.bytes.freeze());
        }
        let header = HeaderChecksum::of(self.magic);
        let value = compress_with(self.compression, None, &self.bytes, header)?;
        let mut out = BytesMut::with_capacity(value.len() + 64);
        let attributes = self.attributes(self.compression);
        put_message(&mut out, self.magic, self.last_offset, attributes, self.max_timestamp, None, Some(&value))?;
        Ok(out.freeze())
    }

    fn attributes(&self, compression: Compression) -> u8 {
        let mut attributes = compression.id();
        if self.magic == 1 && self.timestamp_type == TimestampType::LogAppendTime {
            attributes |= TIMESTAMP_TYPE_BIT;
        }
        attributes
    }
}

fn put_message(
    out: &mut BytesMut,
    magic: i8,
    offset: i64,
    attributes: u8,
    timestamp_ms: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<(), RecordsError> {
    let start = out.len();
    let timestamp_len = if magic == 0 { 0 } else { 8 };
    let field = |field: Option<&[u8]>| 4 + field.map_or(0, <[u8]>::len);
    let size = size32(FIXED_LEN + timestamp_len + field(key) + field(value))?;
    out.put_i64(offset);
    out.put_i32(size);
    out.put_u32(0);
    out.put_i8(magic);
    out.put_u8(attributes);
    if magic > 0 {
        out.put_i64(timestamp_ms);
    }
    for field in [key, value] {
        match field {
            None => out.put_i32(-1),
            Some(bytes) => {
                out.put_i32(size32(bytes.len())?);
                out.put_slice(bytes);
            }
        }
    }
    let crc = crc32fast::hash(out.get(start + MAGIC_OFFSET..).unwrap_or_default());
    if let Some(slot) = out.get_mut(start + LOG_OVERHEAD..start + MAGIC_OFFSET) {
        slot.copy_from_slice(&crc.to_be_bytes());
    }
    Ok(())
}

/// What [`down_convert`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownConverted {
    /// The message set: pieces in order.
    pub records: Vec<Bytes>,
    /// The offset after the last batch looked at, converted or left out: where a reader goes on if there are no
    /// records. The fetch offset if there was no batch.
    pub next_offset: i64,
}

/// Turns stored batches into messages an old consumer understands: magic 0 for Fetch versions 0 and 1, magic 1 for 2
/// and 3. Batches that are old enough stay as they are, control batches are left out, headers and producer ids are
/// dropped, compressed batches become compressed messages of the same codec. Records of uncompressed batches before
/// `fetch_offset` are left out. A batch in zstd is the error [`RecordsError::Codec`], unless something was converted
/// before it: then the result ends there.
pub fn down_convert(
    stored: &Bytes,
    magic: i8,
    fetch_offset: i64,
    limit: DecompressLimit,
) -> Result<DownConverted, RecordsError> {
    let mut converted = DownConverted { records: Vec::new(), next_offset: fetch_offset };
    for batch in batches(stored.clone()) {
        let batch = batch?;
        let next_offset = batch.next_offset();
        if !batch.is_control() {
            match convert_batch(&batch, magic, fetch_offset, limit) {
                Ok(Some(bytes)) => converted.records.push(bytes),
                Ok(None) => {}
                Err(RecordsError::Codec(_)) if !converted.records.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        converted.next_offset = converted.next_offset.max(next_offset);
    }
    Ok(converted)
}

fn convert_batch(
    batch: &BatchView,
    magic: i8,
    fetch_offset: i64,
    limit: DecompressLimit,
) -> Result<Option<Bytes>, RecordsError> {
    if batch.magic() <= magic {
        return Ok(Some(batch.bytes().clone()));
    }
    let compression = batch.compression()?;
    let mut builder = MessageSetBuilder::new(magic, compression, batch.timestamp_type())?;
    for record in batch.records(limit)? {
        let record = record?;
        if compression == Compression::None && record.offset < fetch_offset {
            continue;
        }
        builder.append(record.offset, record.timestamp, record.key.as_deref(), record.value.as_deref())?;
    }
    if builder.is_empty() {
        return Ok(None);
    }
    builder.build().map(Some)
}
