//! How stored records are wrapped: a frame of varints in the metadata log, an i16 prefix in the logs of coordinators.
//!
//! Owns nothing but these few bytes; the records are generated. Called by the controller, the coordinators and snapshots,
//! through `stored::{metadata, group, txn, share}`.

use bytes::Bytes;

use crate::primitives::{Decode, DecodeError, Encode, EncodeError, Reader, Writer};
use crate::stored::metadata::MetadataRecord;

/// The only frame version there is (KIP-631).
const FRAME_VERSION: u32 = 1;

/// Why the value of a batch in the metadata log is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FramedError {
    /// A frame of a later Kafka.
    #[error("metadata record frame version {0}")]
    UnknownFrameVersion(u32),
    /// A record type of a later Kafka.
    #[error("metadata record type {0}")]
    UnknownType(u32),
    /// The record itself.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A record of the metadata log behind frame version, type and version.
///
/// # Errors
/// See [`Encode::encode`].
pub fn encode_framed(record: &MetadataRecord, version: i16) -> Result<Bytes, EncodeError> {
    let mut w = Writer::new();
    w.put_uvarint(FRAME_VERSION);
    w.put_uvarint(u32::from(record.type_id() as u16));
    w.put_uvarint(u32::from(version as u16));
    record.encode_body(&mut w, version)?;
    Ok(join(w))
}

/// The record in a frame.
///
/// # Errors
/// [`FramedError`]: an unknown frame version, type or version, bytes that are not such a record, or bytes behind it.
pub fn decode_framed(bytes: Bytes) -> Result<MetadataRecord, FramedError> {
    decode_framed_at(bytes).map(|(record, _)| record)
}

/// The record in a frame and the version it is written in.
///
/// # Errors
/// Those of [`decode_framed`].
pub fn decode_framed_at(bytes: Bytes) -> Result<(MetadataRecord, i16), FramedError> {
    let mut r = Reader::new(bytes);
    let frame_version = r.get_uvarint()?;
    if frame_version != FRAME_VERSION {
        return Err(FramedError::UnknownFrameVersion(frame_version));
    }
    let type_id = r.get_uvarint()?;
    let version = i16::try_from(r.get_uvarint()?).unwrap_or(-1);
    let known = i16::try_from(type_id).map_err(|_| FramedError::UnknownType(type_id))?;
    let record = MetadataRecord::decode_body(known, &mut r, version)?.ok_or(FramedError::UnknownType(type_id))?;
    r.finish()?;
    Ok((record, version))
}

/// A key of a coordinator's log.
pub trait StoredKey: Encode + Decode {
    /// What stands before the key.
    const TYPE: i16;
    type Value: Encode + Decode;
}

/// A key behind its i16 type.
///
/// # Errors
/// See [`Encode::encode`].
pub fn encode_key<K: StoredKey>(key: &K) -> Result<Bytes, EncodeError> {
    prefixed(K::TYPE, key, K::MAX_VERSION)
}

/// A value behind its i16 version.
///
/// # Errors
/// See [`Encode::encode`].
pub fn encode_value<V: Encode>(value: &V, version: i16) -> Result<Bytes, EncodeError> {
    prefixed(version, value, version)
}

/// A value behind its i16 version. Slices the bytes: a long-lived value should be decoded from a copy.
///
/// # Errors
/// See [`Decode::decode`].
pub fn decode_value<V: Decode>(bytes: &Bytes) -> Result<V, DecodeError> {
    let (version, mut r) = split_prefix(bytes)?;
    V::decode(&mut r, version)
}

fn prefixed(prefix: i16, message: &impl Encode, version: i16) -> Result<Bytes, EncodeError> {
    let mut w = Writer::new();
    w.put_i16(prefix);
    message.encode(&mut w, version)?;
    Ok(join(w))
}

/// The i16 before a key or a value, and what follows.
pub(crate) fn split_prefix(bytes: &Bytes) -> Result<(i16, Reader), DecodeError> {
    let mut r = Reader::new(bytes.clone());
    let prefix = r.get_i16()?;
    Ok((prefix, r))
}

fn join(w: Writer) -> Bytes {
    let mut chunks = w.finish();
    if chunks.len() == 1 { chunks.pop().unwrap_or_default() } else { chunks.concat().into() }
}
