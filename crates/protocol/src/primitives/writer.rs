//! Writing in chunks: small fields are copied into a growing tail, large payloads are appended as they are.

use bytes::{BufMut, Bytes, BytesMut};
use milena_common::Uuid;

use super::EncodeError;

/// From this many bytes on, a payload becomes a chunk of its own instead of being copied.
const SHARED_FROM_BYTES: usize = 1024;

/// Collects a message. `finish` gives the chunks in order, ready for a vectored write.
#[derive(Debug, Default)]
pub struct Writer {
    chunks: Vec<Bytes>,
    chunked_len: usize,
    tail: BytesMut,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    /// With room for a tail of so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { tail: BytesMut::with_capacity(bytes), ..Self::default() }
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.chunked_len + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that was written, in order. No chunk is empty.
    pub fn finish(mut self) -> Vec<Bytes> {
        if !self.tail.is_empty() {
            self.chunks.push(self.tail.freeze());
        }
        self.chunks
    }

    pub fn put_bool(&mut self, value: bool) {
        self.tail.put_u8(value.into());
    }

    pub fn put_i8(&mut self, value: i8) {
        self.tail.put_i8(value);
    }

    pub fn put_i16(&mut self, value: i16) {
        self.tail.put_i16(value);
    }

    pub fn put_u16(&mut self, value: u16) {
        self.tail.put_u16(value);
    }

    pub fn put_i32(&mut self, value: i32) {
        self.tail.put_i32(value);
    }

    pub fn put_u32(&mut self, value: u32) {
        self.tail.put_u32(value);
    }

    pub fn put_i64(&mut self, value: i64) {
        self.tail.put_i64(value);
    }

    pub fn put_f64(&mut self, value: f64) {
        self.tail.put_f64(value);
    }

    pub fn put_uuid(&mut self, value: Uuid) {
        self.tail.put_slice(&value.to_bytes());
    }

    /// An unsigned integer in groups of seven bits, the lowest first.
    pub fn put_uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.tail.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }

    /// Bytes without a length before them. Large ones are shared, not copied.
    pub fn put_raw(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_FROM_BYTES {
            self.tail.put_slice(&bytes);
            return;
        }
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.chunked_len += tail.len();
            self.chunks.push(tail);
        }
        self.chunked_len += bytes.len();
        self.chunks.push(bytes);
    }

    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    fn put_compact_length(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        let plus_one = match length {
            None => 0,
            Some(length) => i32::try_from(length).map_err(|_| EncodeError::TooLong(length))? as u32 + 1,
        };
        self.put_uvarint(plus_one);
        Ok(())
    }

    fn put_length(&mut self, length: Option<usize>, flexible: bool) -> Result<(), EncodeError> {
        if flexible {
            return self.put_compact_length(length);
        }
        self.put_i32(match length {
            None => -1,
            Some(length) => i32::try_from(length).map_err(|_| EncodeError::TooLong(length))?,
        });
        Ok(())
    }

    /// At most 32767 bytes, in the compact form too.
    pub fn put_nullable_string(&mut self, value: Option<&str>, flexible: bool) -> Result<(), EncodeError> {
        let length = match value {
            None => -1,
            Some(text) => i16::try_from(text.len()).map_err(|_| EncodeError::TooLong(text.len()))?,
        };
        if flexible {
            self.put_uvarint((i32::from(length) + 1) as u32)
        } else {
            self.put_i16(length)
        }
        self.tail.put_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    pub fn put_string(&mut self, value: &str, flexible: bool) -> Result<(), EncodeError> {
        self.put_nullable_string(Some(value), flexible)
    }

    pub fn put_nullable_bytes(&mut self, value: Option<&Bytes>, flexible: bool) -> Result<(), EncodeError> {
        self.put_length(value.map(Bytes::len), flexible)?;
        if let Some(bytes) = value {
            self.put_raw(bytes.clone());
        }
        Ok(())
    }

    pub fn put_bytes(&mut self, value: &Bytes, flexible: bool) -> Result<(), EncodeError> {
        self.put_nullable_bytes(Some(value), flexible)
    }

    /// One value in several pieces, none of them copied.
    pub fn put_nullable_pieces(&mut self, pieces: Option<&Vec<Bytes>>, flexible: bool) -> Result<(), EncodeError> {
        self.put_length(pieces.map(|pieces| pieces.iter().map(Bytes::len).sum()), flexible)?;
        for piece in pieces.into_iter().flatten() {
            self.put_raw(piece.clone());
        }
        Ok(())
    }

    pub fn put_nullable_array_len(&mut self, length: Option<usize>, flexible: bool) -> Result<(), EncodeError> {
        self.put_length(length, flexible)
    }

    pub fn put_array_len(&mut self, length: usize, flexible: bool) -> Result<(), EncodeError> {
        self.put_length(Some(length), flexible)
    }

    /// A tagged field whose content was written apart.
    pub fn put_tagged(&mut self, tag: u32, field: Writer) -> Result<(), EncodeError> {
        self.put_uvarint(tag);
        self.put_uvarint(u32::try_from(field.len()).map_err(|_| EncodeError::TooLong(field.len()))?);
        for chunk in field.finish() {
            self.put_raw(chunk);
        }
        Ok(())
    }
}
