//! Frames: every request and response travels behind its length in four bytes, big-endian.
//!
//! Owns the length prefix and its bounds; the sockets are the server's and the client's.

use bytes::Bytes;
use thiserror::Error;

use crate::primitives::Writer;

/// Bytes before a frame.
pub const LENGTH_BYTES: usize = 4;

/// A length that no frame can have. The connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("a frame of negative length {0}")]
    Negative(i32),
    #[error("a frame of {length} bytes is over the limit of {limit} bytes")]
    TooLarge { length: usize, limit: usize },
}

/// The length a prefix tells, checked against the limit (`socket.request.max.bytes`).
///
/// # Errors
/// See [`FrameError`].
pub fn frame_length(prefix: [u8; LENGTH_BYTES], limit: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    let length = usize::try_from(length).map_err(|_| FrameError::Negative(length))?;
    if length > limit { Err(FrameError::TooLarge { length, limit }) } else { Ok(length) }
}

/// The chunks of a frame, behind their length.
///
/// # Errors
/// [`FrameError::TooLarge`] when the length does not fit.
pub fn into_frame(writer: Writer) -> Result<Vec<Bytes>, FrameError> {
    let limit = i32::MAX as usize;
    let length = writer.len();
    let prefix = i32::try_from(length).map_err(|_| FrameError::TooLarge { length, limit })?;
    let mut chunks = writer.finish();
    chunks.insert(0, Bytes::copy_from_slice(&prefix.to_be_bytes()));
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(frame_length([0, 0, 1, 0], 256), Ok(256));
        assert_eq!(frame_length([0, 0, 1, 1], 256), Err(FrameError::TooLarge { length: 257, limit: 256 }));
        assert_eq!(frame_length([0xff; 4], 256), Err(FrameError::Negative(-1)));
    }
}
