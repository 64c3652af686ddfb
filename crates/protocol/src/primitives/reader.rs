//! Bounded reading. Every length is checked against the bytes that are left before anything is allocated for it.

use bytes::{Buf, Bytes};
use milena_common::Uuid;

use super::DecodeError;

/// A cursor over bytes that came from outside. `bytes` and `records` come out as slices of the same allocation.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $get:ident $inner:ident $ty:ty;)*) => {
        $($(#[$doc])*
        pub fn $get(&mut self) -> Result<$ty, DecodeError> {
            self.bytes.$inner().map_err(|e| DecodeError::Truncated { needed: e.requested, remaining: e.available })
        })*
    };
}

impl Reader {
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes that are left.
    pub fn into_rest(self) -> Bytes {
        self.bytes
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing(self.bytes.len()))
        }
    }

    fixed! {
        /// A big-endian integer of one byte; so on for the wider ones.
        get_i8 try_get_i8 i8;
        get_u8 try_get_u8 u8;
        get_i16 try_get_i16 i16;
        get_u16 try_get_u16 u16;
        get_i32 try_get_i32 i32;
        get_u32 try_get_u32 u32;
        get_i64 try_get_i64 i64;
        get_f64 try_get_f64 f64;
    }

    /// One byte; anything but zero is true.
    pub fn get_bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.get_u8()? != 0)
    }

    pub fn get_uuid(&mut self) -> Result<Uuid, DecodeError> {
        let value = self
            .bytes
            .try_get_u128()
            .map_err(|e| DecodeError::Truncated {
                needed: e.requested,
                remaining: e.available,
            })?;
        Ok(Uuid::from_u128(value))
    }

    /// The next bytes, as a slice of the same allocation.
    pub fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.bytes.len() {
            return Err(DecodeError::Truncated {
                needed: length,
                remaining: self.bytes.len(),
            });
        }
        Ok(self.bytes.split_to(length))
    }

    /// An unsigned integer in groups of seven bits, the lowest first.
    pub fn get_uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.get_u8()?;
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::VarintTooLong);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// A length of two bytes, or compact (one more than the length, zero for null).
    fn short_length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return self.compact_length();
        }
        match self.get_i16()? {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| DecodeError::NegativeLength(length.into())),
        }
    }

    /// A length of four bytes, or compact.
    fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return self.compact_length();
        }
        match self.get_i32()? {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| DecodeError::NegativeLength(length.into())),
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self
            .get_uvarint()?
            .checked_sub(1)
            .map(|length| length as usize))
    }

    pub fn get_nullable_string(&mut self, flexible: bool) -> Result<Option<String>, DecodeError> {
        let Some(length) = self.short_length(flexible)? else {
            return Ok(None);
        };
        let remaining = self.bytes.len();
        let bytes = self.bytes.get(..length).ok_or(DecodeError::Truncated {
            needed: length,
            remaining,
        })?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| DecodeError::InvalidUtf8)?
            .to_owned();
        self.bytes.advance(length);
        Ok(Some(text))
    }

    pub fn get_string(&mut self, flexible: bool) -> Result<String, DecodeError> {
        self.get_nullable_string(flexible)?
            .ok_or(DecodeError::UnexpectedNull)
    }

    pub fn get_nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        match self.length(flexible)? {
            None => Ok(None),
            Some(length) => self.take(length).map(Some),
        }
    }

    pub fn get_bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.get_nullable_bytes(flexible)?
            .ok_or(DecodeError::UnexpectedNull)
    }

    /// The length of an array whose elements take at least `min_element_size` bytes each.
    ///
    /// # Errors
    /// [`DecodeError::ArrayTooLong`] when the bytes that are left cannot hold so many.
    pub fn get_nullable_array_len(
        &mut self,
        flexible: bool,
        min_element_size: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(length) = self.length(flexible)? else {
            return Ok(None);
        };
        let remaining = self.bytes.len();
        if length > remaining / min_element_size.max(1) {
            return Err(DecodeError::ArrayTooLong { length, remaining });
        }
        Ok(Some(length))
    }

    /// As [`Reader::get_nullable_array_len`], for an array that has no null.
    pub fn get_array_len(
        &mut self,
        flexible: bool,
        min_element_size: usize,
    ) -> Result<usize, DecodeError> {
        self.get_nullable_array_len(flexible, min_element_size)?
            .ok_or(DecodeError::UnexpectedNull)
    }

    /// Room for `length` elements, but no more memory than there are bytes left: what is beyond grows as elements prove real.
    pub(crate) fn vec_for<T>(&self, length: usize) -> Vec<T> {
        Vec::with_capacity(length.min(self.bytes.len() / size_of::<T>().max(1)))
    }

    /// A tag and the bytes of its field.
    pub fn get_tagged(&mut self) -> Result<(u32, Reader), DecodeError> {
        let tag = self.get_uvarint()?;
        let length = self.get_uvarint()? as usize;
        Ok((tag, Reader::new(self.take(length)?)))
    }

    /// Skips a section of tagged fields.
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.get_uvarint()? {
            self.get_tagged()?;
        }
        Ok(())
    }
}
