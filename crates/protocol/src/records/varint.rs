//! Variable-length integers as records use them: zigzag, seven bits a byte, least significant first.
//!
//! Owns reading from a slice, writing to a buffer and the encoded sizes. Never allocates and never panics on outside
//! bytes. Called by the record parser, the builder and the streaming validator.

use bytes::BufMut;

use super::RecordsError;

/// The most bytes a 32-bit varint may take.
pub const MAX_VARINT_BYTES: usize = 5;
/// The most bytes a 64-bit varint may take.
pub const MAX_VARLONG_BYTES: usize = 10;

/// A cursor over a slice that only moves forward and never past the end.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    /// Bytes consumed so far.
    pub(crate) fn position(&self) -> usize {
        self.pos
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.pos
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RecordsError> {
        let byte = *self.bytes.get(self.pos).ok_or(RecordsError::Truncated)?;
        self.pos += 1;
        Ok(byte)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], RecordsError> {
        let end = self.pos.checked_add(len).ok_or(RecordsError::Truncated)?;
        let slice = self.bytes.get(self.pos..end).ok_or(RecordsError::Truncated)?;
        self.pos = end;
        Ok(slice)
    }

    /// A zigzag varint of at most 32 bits.
    pub(crate) fn varint(&mut self) -> Result<i32, RecordsError> {
        let mut value: u32 = 0;
        for index in 0..MAX_VARINT_BYTES {
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

    /// A zigzag varint of at most 64 bits.
    pub(crate) fn varlong(&mut self) -> Result<i64, RecordsError> {
        let mut value: u64 = 0;
        for index in 0..MAX_VARLONG_BYTES {
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
}

pub(crate) fn unzigzag32(value: u32) -> i32 {
    ((value >> 1) as i32) ^ -((value & 1) as i32)
}

pub(crate) fn unzigzag64(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Appends `value` as a zigzag varint.
pub fn put_varint(out: &mut impl BufMut, value: i32) {
    put_unsigned(out, u64::from(zigzag32(value)));
}

/// Appends `value` as a zigzag varint.
pub fn put_varlong(out: &mut impl BufMut, value: i64) {
    put_unsigned(out, zigzag64(value));
}

fn put_unsigned(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Bytes that [`put_varint`] writes for `value`.
pub fn varint_len(value: i32) -> usize {
    unsigned_len(u64::from(zigzag32(value)))
}

/// Bytes that [`put_varlong`] writes for `value`.
pub fn varlong_len(value: i64) -> usize {
    unsigned_len(zigzag64(value))
}

fn unsigned_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(small: i32, large: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, small);
            prop_assert_eq!(out.len(), varint_len(small));
            put_varlong(&mut out, large);
            prop_assert_eq!(out.len(), varint_len(small) + varlong_len(large));
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.varint().unwrap(), small);
            prop_assert_eq!(cursor.varlong().unwrap(), large);
            prop_assert_eq!(cursor.remaining(), 0);
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = Cursor::new(&bytes).varint();
            let _ = Cursor::new(&bytes).varlong();
        }
    }

    #[test]
    fn known_encodings() {
        let mut out = Vec::new();
        for value in [0, -1, 1, 63, -64, 64, i32::MAX, i32::MIN] {
            put_varint(&mut out, value);
        }
        assert_eq!(out, [0, 1, 2, 0x7e, 0x7f, 0x80, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(Cursor::new(&[0xff; 11]).varint().is_err());
        assert!(Cursor::new(&[0xff; 11]).varlong().is_err());
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).varint().is_err());
    }
}
