//! Bounded reading. Every length is checked against the bytes that are left before anything is allocated for it.

use bytes::{Buf, Bytes};
use milena_common::Uuid;

use super::DecodeError;

/// A cursor over bytes that came from outside. `bytes` and `records` come out as slices of the same allocation.
///
/// The elements of arrays are small on the wire and large in memory (a string of one byte takes 24). What they may take together
/// is bounded by [`MEMORY_BASE`] and [`MEMORY_PER_BYTE`], so that a frame of the greatest size does not become gigabytes.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
    memory: usize,
}

/// Memory that array elements may take however short the bytes: every honest message fits.
pub const MEMORY_BASE: usize = 16 << 20;
/// Memory that array elements may take for each byte beyond.
pub const MEMORY_PER_BYTE: usize = 4;

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
        let memory = MEMORY_BASE + MEMORY_PER_BYTE * bytes.len();
        Self { bytes, memory }
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
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.bytes.len())) }
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
            .map_err(|e| DecodeError::Truncated { needed: e.requested, remaining: e.available })?;
        Ok(Uuid::from_u128(value))
    }

    /// The next bytes, as a slice of the same allocation.
    pub fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.bytes.len() {
            return Err(DecodeError::Truncated { needed: length, remaining: self.bytes.len() });
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
            length => usize::try_from(length).map(Some).map_err(|_| DecodeError::NegativeLength(length.into())),
        }
    }

    /// A length of four bytes, or compact.
    fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return self.compact_length();
        }
        match self.get_i32()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| DecodeError::NegativeLength(length.into())),
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.get_uvarint()?.checked_sub(1).map(|length| length as usize))
    }

    pub fn get_nullable_string(&mut self, flexible: bool) -> Result<Option<String>, DecodeError> {
        let Some(length) = self.short_length(flexible)? else {
            return Ok(None);
        };
        if length > i16::MAX as usize {
            return Err(DecodeError::StringTooLong(length));
        }
        let remaining = self.bytes.len();
        let bytes = self.bytes.get(..length).ok_or(DecodeError::Truncated { needed: length, remaining })?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::InvalidUtf8)?.to_owned();
        self.bytes.advance(length);
        Ok(Some(text))
    }

    pub fn get_string(&mut self, flexible: bool) -> Result<String, DecodeError> {
        self.get_nullable_string(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    pub fn get_nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        match self.length(flexible)? {
            None => Ok(None),
            Some(length) => self.take(length).map(Some),
        }
    }

    pub fn get_bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.get_nullable_bytes(flexible)?.ok_or(DecodeError::UnexpectedNull)
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
    pub fn get_array_len(&mut self, flexible: bool, min_element_size: usize) -> Result<usize, DecodeError> {
        self.get_nullable_array_len(flexible, min_element_size)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// Room for `length` elements; the length was checked against the bytes that are left.
    pub(crate) fn vec_for<T>(&mut self, length: usize) -> Result<Vec<T>, DecodeError> {
        let needed = length.saturating_mul(size_of::<T>());
        let left = self.memory;
        self.memory = left.checked_sub(needed).ok_or(DecodeError::TooMuchMemory { needed, left })?;
        Ok(Vec::with_capacity(length))
    }

    /// A tag and the bytes of its field. The field reads on this reader's memory: give it back with [`Reader::end_tagged`].
    pub fn get_tagged(&mut self) -> Result<(u32, Reader), DecodeError> {
        let tag = self.get_uvarint()?;
        let length = self.get_uvarint()? as usize;
        Ok((tag, Reader { bytes: self.take(length)?, memory: self.memory }))
    }

    pub fn end_tagged(&mut self, field: &Reader) {
        self.memory = field.memory;
    }

    /// Skips a section of tagged fields.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.get_uvarint()? {
            self.get_uvarint()?;
            let length = self.get_uvarint()? as usize;
            self.take(length)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader {
        Reader::new(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn varints_have_five_bytes_at_most() {
        assert_eq!(reader(&[0xac, 0x02]).get_uvarint(), Ok(300));
        assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f]).get_uvarint(), Ok(u32::MAX));
        assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x1f]).get_uvarint(), Err(DecodeError::VarintTooLong));
        assert_eq!(reader(&[0x80; 6]).get_uvarint(), Err(DecodeError::VarintTooLong));
        assert_eq!(reader(&[0x80]).get_uvarint(), Err(DecodeError::Truncated { needed: 1, remaining: 0 }));
    }

    #[test]
    fn lengths_below_null_are_refused() {
        assert_eq!(reader(&[0xff, 0xff]).get_nullable_string(false), Ok(None));
        assert_eq!(reader(&[0xff, 0xfe]).get_nullable_string(false), Err(DecodeError::NegativeLength(-2)));
        assert_eq!(reader(&[0x80, 0, 0, 0]).get_bytes(false), Err(DecodeError::NegativeLength(i32::MIN.into())));
        assert_eq!(reader(&[0]).get_string(true), Err(DecodeError::UnexpectedNull));
        assert_eq!(reader(&[2, 0xff]).get_string(true), Err(DecodeError::InvalidUtf8));
        assert_eq!(reader(&[0x81, 0x80, 0x02]).get_string(true), Err(DecodeError::StringTooLong(32768)));
    }

    #[test]
    fn arrays_are_bounded_by_the_bytes_that_are_left() {
        let lying = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(
            reader(&lying).get_array_len(false, 1),
            Err(DecodeError::ArrayTooLong { length: i32::MAX as usize, remaining: 4 })
        );
        assert_eq!(reader(&[0, 0, 0, 2, 0, 0, 0, 0]).get_array_len(false, 2), Ok(2));
        assert!(reader(&[0, 0, 0, 3, 0, 0, 0, 0]).get_array_len(false, 2).is_err());
    }

    #[test]
    fn bytes_are_slices_of_what_was_given() {
        let whole = Bytes::from_static(&[0, 0, 0, 2, 7, 8, 9]);
        let mut r = Reader::new(whole.clone());
        let taken = r.get_bytes(false).unwrap();
        assert_eq!(taken.as_ptr(), whole[4..].as_ptr());
        assert_eq!(r.finish(), Err(DecodeError::Trailing(1)));
    }

    #[test]
    fn a_tagged_field_draws_on_the_memory_of_its_message() {
        let mut r = reader(&[1, 1, 0]);
        let (_, mut field) = r.get_tagged().unwrap();
        field.vec_for::<u8>(MEMORY_BASE).unwrap();
        r.end_tagged(&field);
        assert!(matches!(r.vec_for::<u8>(100), Err(DecodeError::TooMuchMemory { .. })));
    }
}
