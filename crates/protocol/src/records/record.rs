//! One record, and the walk over the records of a batch.
//!
//! Owns the record layout of magic 2. Keys, values and headers are slices of the batch's bytes (or of the one buffer it
//! was decompressed to). Never trusts a count or a length: nothing is allocated on the strength of one.

use bytes::{BufMut, Bytes};

use super::batch::BatchView;
use super::legacy::Messages;
use super::varint::{Cursor, put_varint, put_varlong, varint_len, varlong_len};
use super::{RecordsError, TimestampType};

/// A record header (KIP-82): a key, UTF-8 by convention, and a value that may be absent.
pub type Header = (Bytes, Option<Bytes>);

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Absolute offset.
    pub offset: i64,
    /// Milliseconds since 1970, or [`super::NO_TIMESTAMP`].
    pub timestamp: i64,
    /// The key; absent is not the same as empty.
    pub key: Option<Bytes>,
    /// The value; absent (a tombstone on compacted topics) is not the same as empty.
    pub value: Option<Bytes>,
    /// The headers, in order; magic 0 and 1 have none.
    pub headers: Vec<Header>,
}

/// Walks the records of one batch. After an error the walk is over. Bytes left after the last record, and records
/// missing before the end, are errors.
#[derive(Debug, Clone)]
pub struct RecordIter {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Packed { body: Bytes, base_offset: i64, base_timestamp: i64, append_time: Option<i64>, left: i32 },
    Messages(Messages),
    Done,
}

impl RecordIter {
    /// `body` is the record area, decompressed.
    pub(super) fn new(batch: &BatchView, body: Bytes) -> RecordIter {
        let append_time = (batch.timestamp_type() == TimestampType::LogAppendTime).then(|| batch.max_timestamp());
        RecordIter {
            source: Source::Packed {
                body,
                base_offset: batch.base_offset(),
                base_timestamp: batch.base_timestamp(),
                append_time,
                left: batch.record_count(),
            },
        }
    }

    /// The records of magic 0 and 1.
    pub(super) fn from_messages(messages: Messages) -> RecordIter {
        RecordIter { source: Source::Messages(messages) }
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = match &mut self.source {
            Source::Done => return None,
            Source::Messages(messages) => messages.next()?,
            Source::Packed { body, left, .. } if *left <= 0 => {
                let result = if *left < 0 {
                    Err(RecordsError::Corrupt("negative record count"))
                } else if !body.is_empty() {
                    Err(RecordsError::Corrupt("bytes after the last record of the batch"))
                } else {
                    self.source = Source::Done;
                    return None;
                };
                self.source = Source::Done;
                return Some(result);
            }
            Source::Packed { body, base_offset, base_timestamp, append_time, left } => {
                *left -= 1;
                parse(body).map(|mut record| {
                    record.offset = base_offset.wrapping_add(record.offset);
                    record.timestamp = append_time.unwrap_or_else(|| base_timestamp.wrapping_add(record.timestamp));
                    record
                })
            }
        };
        if result.is_err() {
            self.source = Source::Done;
        }
        Some(result)
    }
}

/// Takes one record off the front of `body`; offset and timestamp are deltas.
fn parse(body: &mut Bytes) -> Result<Record, RecordsError> {
    let (start, length) = {
        let mut cursor = Cursor::new(body);
        let length = usize::try_from(cursor.varint()?).map_err(|_| RecordsError::Corrupt("negative record length"))?;
        if length > cursor.remaining() {
            return Err(RecordsError::Truncated);
        }
        (cursor.position(), length)
    };
    let whole = body.split_to(start + length).split_off(start);
    let mut cursor = Cursor::new(&whole);
    cursor.u8()?; // attributes: unused so far
    let timestamp = cursor.varlong()?;
    let offset = i64::from(cursor.varint()?);
    let key = nullable(&whole, &mut cursor)?;
    let value = nullable(&whole, &mut cursor)?;
    let count = cursor.varint()?;
    if count < 0 {
        return Err(RecordsError::Corrupt("negative number of record headers"));
    }
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = nullable(&whole, &mut cursor)?.ok_or(RecordsError::Corrupt("record header without a key"))?;
        headers.push((name, nullable(&whole, &mut cursor)?));
    }
    if cursor.remaining() != 0 {
        return Err(RecordsError::Corrupt("record is longer than its fields"));
    }
    Ok(Record { offset, timestamp, key, value, headers })
}

fn nullable(whole: &Bytes, cursor: &mut Cursor<'_>) -> Result<Option<Bytes>, RecordsError> {
    let Ok(length) = usize::try_from(cursor.varint()?) else {
        return Ok(None);
    };
    let start = cursor.position();
    cursor.take(length)?;
    Ok(Some(whole.slice(start..start + length)))
}

/// Appends one record in the layout of magic 2. Absent sizes are written as -1.
pub(super) fn put_record(
    out: &mut impl BufMut,
    offset_delta: i32,
    timestamp_delta: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header],
) -> Result<(), RecordsError> {
    let length = body_len(offset_delta, timestamp_delta, key, value, headers)?;
    put_varint(out, length);
    out.put_u8(0);
    put_varlong(out, timestamp_delta);
    put_varint(out, offset_delta);
    put_nullable(out, key);
    put_nullable(out, value);
    put_varint(out, size32(headers.len())?);
    for (name, value) in headers {
        put_nullable(out, Some(name));
        put_nullable(out, value.as_deref());
    }
    Ok(())
}

/// What the record's length field says: its bytes without that field.
fn body_len(
    offset_delta: i32,
    timestamp_delta: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header],
) -> Result<i32, RecordsError> {
    let mut length = 1 + varlong_len(timestamp_delta) + varint_len(offset_delta) + varint_len(size32(headers.len())?);
    length += nullable_len(key)? + nullable_len(value)?;
    for (name, value) in headers {
        length += nullable_len(Some(name))? + nullable_len(value.as_deref())?;
    }
    size32(length)
}

fn nullable_len(field: Option<&[u8]>) -> Result<usize, RecordsError> {
    Ok(match field {
        None => 1,
        Some(bytes) => varint_len(size32(bytes.len())?) + bytes.len(),
    })
}

/// Sizes have been checked by [`body_len`] before.
fn put_nullable(out: &mut impl BufMut, field: Option<&[u8]>) {
    match field {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i32);
            out.put_slice(bytes);
        }
    }
}

pub(super) fn size32(size: usize) -> Result<i32, RecordsError> {
    i32::try_from(size).map_err(|_| RecordsError::TooLarge)
}
