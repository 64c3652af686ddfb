//! The building blocks of every message: bounded reading, chunked writing, and the traits the generated code implements.
//!
//! Owns how Kafka's primitive types look on the wire (KIP-482 for the compact forms and tagged fields). Never interprets a
//! message. Called by the generated code in `messages` and `stored`, and by whoever encodes or decodes a whole message.

mod reader;
mod writer;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

pub use reader::Reader;
pub use writer::Writer;

use crate::messages::ApiKey;

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The message has no such version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
    /// The bytes end inside a field.
    #[error("{needed} bytes expected where {remaining} are left")]
    Truncated { needed: usize, remaining: usize },
    /// An array claims more elements than the bytes that are left could hold.
    #[error("an array of {length} elements in {remaining} bytes")]
    ArrayTooLong { length: usize, remaining: usize },
    /// Arrays of elements so small on the wire that they would take too much memory.
    #[error("{needed} bytes of memory for an array where {left} are left")]
    TooMuchMemory { needed: usize, left: usize },
    /// A length below null's.
    #[error("a length of {0}")]
    NegativeLength(i64),
    /// Null in a field that has no null at this version.
    #[error("null where a value is required")]
    UnexpectedNull,
    /// A string of more than the 32767 bytes that every form allows.
    #[error("a string of {0} bytes")]
    StringTooLong(usize),
    /// A string that is not UTF-8.
    #[error("a string that is not UTF-8")]
    InvalidUtf8,
    /// A variable-length integer of more than its five bytes.
    #[error("a variable-length integer that is too long")]
    VarintTooLong,
    /// Bytes are left behind the last field.
    #[error("{0} bytes behind the last field")]
    Trailing(usize),
}

/// Why a value cannot be said at a version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The message has no such version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
    /// The field is set, but the version cannot carry it and it may not be left out.
    #[error("{field} cannot be sent at version {version}")]
    FieldNotInVersion { field: &'static str, version: i16 },
    /// Null in a field that has no null at this version.
    #[error("{field} cannot be null")]
    Null { field: &'static str },
    /// A string, bytes or array longer than its length field can say.
    #[error("a length of {0} is too long to encode")]
    TooLong(usize),
}

/// What every message says of itself. Versions are Kafka's, from the oldest that 3.3 served to the newest of 4.3.
pub trait Message {
    const NAME: &'static str;
    const MIN_VERSION: i16;
    const MAX_VERSION: i16;
    /// The first version with compact lengths and tagged fields (KIP-482).
    const FLEXIBLE_FROM: Option<i16>;
}

/// A message that can be written.
pub trait Encode: Message {
    /// Appends the message as `version` has it. A field that this version does not carry must hold its default, unless it is
    /// one that may be left out.
    ///
    /// # Errors
    /// See [`EncodeError`]; `w` then holds part of the message.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;

    /// The message as one piece. Copies large payloads: for stored records and tests, not for responses.
    ///
    /// # Errors
    /// See [`EncodeError`].
    fn encode_to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        self.encode(&mut writer, version)?;
        let mut chunks = writer.finish();
        if chunks.len() <= 1 {
            return Ok(chunks.pop().unwrap_or_default());
        }
        let mut all = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
        chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
        Ok(all.freeze())
    }
}

/// A message that can be read.
pub trait Decode: Message + Sized {
    /// Reads the message as `version` has it. Fields that the version does not carry get their defaults; unknown tagged
    /// fields are skipped. Bytes behind the message stay in `r`: see [`Reader::finish`].
    ///
    /// # Errors
    /// See [`DecodeError`].
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;
}

/// A request: knows its API and its answer.
pub trait Request: Encode + Decode {
    const KEY: ApiKey;
    type Response: Response;
}

/// The answer to a request.
pub trait Response: Encode + Decode {
    /// Where it says for how many milliseconds the client was throttled; `None` if no version can say so.
    fn throttle_time_ms_mut(&mut self) -> Option<&mut i32> {
        None
    }
}

/// Ties a generated struct to the traits.
macro_rules! message {
    ($name:ident, $min:literal, $max:literal, $flexible:expr) => {
        impl $name {
            pub const MIN_VERSION: i16 = $min;
            pub const MAX_VERSION: i16 = $max;
        }
        impl $crate::primitives::Message for $name {
            const NAME: &'static str = stringify!($name);
            const MIN_VERSION: i16 = $min;
            const MAX_VERSION: i16 = $max;
            const FLEXIBLE_FROM: Option<i16> = $flexible;
        }
        impl $crate::primitives::Encode for $name {
            fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
                if version < $min || version > $max {
                    return Err(EncodeError::UnsupportedVersion { message: stringify!($name), version });
                }
                self.write(w, version)
            }
        }
        impl $crate::primitives::Decode for $name {
            fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
                if version < $min || version > $max {
                    return Err(DecodeError::UnsupportedVersion { message: stringify!($name), version });
                }
                Self::read(r, version)
            }
        }
    };
}
pub(crate) use message;

/// A value that the version must have.
pub(crate) fn required<'a, T>(value: &'a Option<T>, field: &'static str) -> Result<&'a T, EncodeError> {
    value.as_ref().ok_or(EncodeError::Null { field })
}

#[cold]
pub(crate) fn absent(field: &'static str, version: i16) -> EncodeError {
    EncodeError::FieldNotInVersion { field, version }
}
