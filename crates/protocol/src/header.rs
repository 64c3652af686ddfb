//! The header before every request and response: which API, which version, which answer belongs to which question.
//!
//! Owns the rule that picks a header version for a key and a version (KIP-482, KIP-511). Called by connections of the server
//! and by the client.

use bytes::Bytes;

use crate::messages::{ApiKey, RequestHeader, ResponseHeader};
use crate::primitives::{DecodeError, EncodeError, Reader, Writer};

/// The header version of a request.
pub fn request_header_version(key: ApiKey, version: i16) -> i16 {
    match key {
        // the one request that went without a client id
        ApiKey::ControlledShutdown if version == 0 => 0,
        _ if key.is_flexible(version) => 2,
        _ => 1,
    }
}

/// The header version of a response. ApiVersions keeps to 0, so that a client can read an answer to a version unknown here.
pub fn response_header_version(key: ApiKey, version: i16) -> i16 {
    if key != ApiKey::ApiVersions && key.is_flexible(version) { 1 } else { 0 }
}

/// What can be said of a request from its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preamble {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
}

impl Preamble {
    /// Reads the eight bytes that every header version starts with, without consuming them.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn peek(frame: &Bytes) -> Result<Preamble, DecodeError> {
        let mut r = Reader::new(frame.clone());
        Ok(Preamble { api_key: r.get_i16()?, api_version: r.get_i16()?, correlation_id: r.get_i32()? })
    }
}

impl RequestHeader {
    /// Reads the header of a request whose key and version [`Preamble::peek`] told.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode_for(r: &mut Reader, key: ApiKey, version: i16) -> Result<RequestHeader, DecodeError> {
        RequestHeader::read(r, request_header_version(key, version))
    }

    /// Writes the header of a request.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn encode_for(&self, w: &mut Writer, key: ApiKey, version: i16) -> Result<(), EncodeError> {
        self.write(w, request_header_version(key, version))
    }
}

/// Writes the header of a response.
pub fn put_response_header(w: &mut Writer, key: ApiKey, version: i16, correlation_id: i32) {
    w.put_i32(correlation_id);
    if response_header_version(key, version) > 0 {
        w.put_uvarint(0);
    }
}

/// Reads the header of a response to a request of a key and a version.
///
/// # Errors
/// See [`DecodeError`].
pub fn get_response_header(r: &mut Reader, key: ApiKey, version: i16) -> Result<i32, DecodeError> {
    ResponseHeader::read(r, response_header_version(key, version)).map(|header| header.correlation_id)
}
