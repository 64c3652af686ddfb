//! The cheap walk over the records of a magic 2 batch, for those who check and do not keep.
//!
//! Owns reading sizes, offsets and timestamps while skipping keys, values and headers; a compressed batch passes
//! through one small buffer, however large it would be. Never allocates per record. Called by the validation of
//! produced batches.

use super::RecordsError;
use super::batch::{BatchView, HEADER_LEN};
use super::compress::{Compression, DecompressLimit, Decompressor};
use super::varint::{MAX_VARINT_BYTES, MAX_VARLONG_BYTES, unzigzag32, unzigzag64};

/// What a scan tells of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScannedRecord {
    /// Offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// Timestamp relative to the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// Size of the key in bytes, if there is a key.
    pub key_size: Option<usize>,
    /// Size of the value in bytes, if there is a value.
    pub value_size: Option<usize>,
}

/// Walks the records of one batch; see [`BatchView::scan`].
pub struct RecordScan<'a> {
    input: Input<'a>,
    left: i32,
}

enum Input<'a> {
    Slice(SliceInput<'a>),
    Stream(Box<StreamInput<'a>>),
}

impl<'a> RecordScan<'a> {
    pub(super) fn new(batch: &'a BatchView, limit: DecompressLimit) -> Result<Self, RecordsError> {
        if batch.is_legacy() {
            return Err(RecordsError::Magic(batch.magic()));
        }
        let body = batch.bytes().get(HEADER_LEN..).unwrap_or_default();
        let input = match batch.compression()? {
            Compression::None => Input::Slice(SliceInput { rest: body }),
            codec => Input::Stream(Box::new(StreamInput {
                source: Decompressor::new(codec, body, limit)?,
                buffer: [0; STREAM_BUFFER],
                start: 0,
                end: 0,
                consumed: 0,
            })),
        };
        Ok(RecordScan { input, left: batch.record_count() })
    }

    /// The next record; none after as many as the header claims, if the records end there too.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<ScannedRecord>, RecordsError> {
        if self.left < 0 {
            return Err(RecordsError::Corrupt("negative record count"));
        }
        if self.left == 0 {
            let at_end = match &mut self.input {
                Input::Slice(input) => input.rest.is_empty(),
                Input::Stream(input) => input.start == input.end && !input.fill()?,
            };
            return if at_end {
                Ok(None)
            } else {
                Err(RecordsError::Corrupt("bytes after the last record of the batch"))
            };
        }
        self.left -= 1;
        match &mut self.input {
            Input::Slice(input) => scan_record(input),
            Input::Stream(input) => scan_record(&mut **input),
        }
        .map(Some)
    }
}

trait Read {
    fn u8(&mut self) -> Result<u8, RecordsError>;
    fn skip(&mut self, count: usize) -> Result<(), RecordsError>;
    /// A number that grows by one with every byte consumed.
    fn position(&self) -> usize;

    /// One and two bytes, which is nearly all there are, without a loop.
    #[inline(always)]
    fn varint(&mut self) -> Result<i32, RecordsError> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(unzigzag32(u32::from(first)));
        }
        let second = self.u8()?;
        let value = u32::from(first & 0x7f) | (u32::from(second & 0x7f) << 7);
        if second < 0x80 {
            return Ok(unzigzag32(value));
        }
        self.varint_rest(value)
    }

    #[inline(never)]
    fn varint_rest(&mut self, mut value: u32) -> Result<i32, RecordsError> {
        for index in 2..MAX_VARINT_BYTES {
            let byte = self.u8()?;
            if index == MAX_VARINT_BYTES - 1 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(unzigzag32(value));
            }
        }
        Err(RecordsError::Corrupt("a varint is longer than 32 bits"))
    }

    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, RecordsError> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(unzigzag64(u64::from(first)));
        }
        self.varlong_rest(u64::from(first & 0x7f))
    }

    #[inline(never)]
    fn varlong_rest(&mut self, mut value: u64) -> Result<i64, RecordsError> {
        for index in 1..MAX_VARLONG_BYTES {
            let byte = self.u8()?;
            if index == MAX_VARLONG_BYTES - 1 && byte > 0x01 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(unzigzag64(value));
            }
        }
        Err(RecordsError::Corrupt("a varint is longer than 64 bits"))
    }

    /// Skips bytes behind their size; none if that is negative.
    #[inline(always)]
    fn nullable(&mut self) -> Result<Option<usize>, RecordsError> {
        let Ok(size) = usize::try_from(self.varint()?) else {
            return Ok(None);
        };
        self.skip(size)?;
        Ok(Some(size))
    }
}

#[inline]
fn scan_record(input: &mut impl Read) -> Result<ScannedRecord, RecordsError> {
    let length = usize::try_from(input.varint()?).map_err(|_| RecordsError::Corrupt("negative record length"))?;
    let start = input.position();
    input.u8()?;
    let timestamp_delta = input.varlong()?;
    let offset_delta = input.varint()?;
    let key_size = input.nullable()?;
    let value_size = input.nullable()?;
    let headers = input.varint()?;
    if headers < 0 {
        return Err(RecordsError::Corrupt("negative number of record headers"));
    }
    for _ in 0..headers {
        if input.nullable()?.is_none() {
            return Err(RecordsError::Corrupt("record header without a key"));
        }
        input.nullable()?;
    }
    if input.position().wrapping_sub(start) != length {
        return Err(RecordsError::Corrupt("record length does not match its fields"));
    }
    Ok(ScannedRecord { offset_delta, timestamp_delta, key_size, value_size })
}

struct SliceInput<'a> {
    rest: &'a [u8],
}

impl Read for SliceInput<'_> {
    #[inline]
    fn u8(&mut self) -> Result<u8, RecordsError> {
        let (first, rest) = self.rest.split_first().ok_or(RecordsError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<(), RecordsError> {
        self.rest = self.rest.get(count..).ok_or(RecordsError::Truncated)?;
        Ok(())
    }

    /// Counts up from a start that does not matter: only differences are looked at.
    #[inline]
    fn position(&self) -> usize {
        usize::MAX - self.rest.len()
    }
}

/// Bytes of decompressed records looked at in one go.
const STREAM_BUFFER: usize = 16 * 1024;

struct StreamInput<'a> {
    source: Decompressor<'a>,
    buffer: [u8; STREAM_BUFFER],
    start: usize,
    end: usize,
    consumed: usize,
}

impl StreamInput<'_> {
    /// Reads more; false at the end. Only called when the buffer is empty.
    fn fill(&mut self) -> Result<bool, RecordsError> {
        self.start = 0;
        self.end = self.source.read(&mut self.buffer)?;
        Ok(self.end > 0)
    }
}

impl Read for StreamInput<'_> {
    #[inline]
    fn u8(&mut self) -> Result<u8, RecordsError> {
        if self.start == self.end && !self.fill()? {
            return Err(RecordsError::Truncated);
        }
        let byte = *self.buffer.get(self.start).ok_or(RecordsError::Truncated)?;
        self.start += 1;
        self.consumed += 1;
        Ok(byte)
    }

    fn skip(&mut self, mut count: usize) -> Result<(), RecordsError> {
        while count > self.end - self.start {
            let had = self.end - self.start;
            count -= had;
            self.consumed += had;
            self.start = self.end;
            if !self.fill()? {
                return Err(RecordsError::Truncated);
            }
        }
        self.start += count;
        self.consumed += count;
        Ok(())
    }

    #[inline]
    fn position(&self) -> usize {
        self.consumed
    }
}
