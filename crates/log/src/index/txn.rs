//! The transaction index: aborted transactions whose marker is in the segment, 34 bytes an entry, in the order of their markers.

use bytes::{Buf, BufMut, Bytes};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 34;
const VERSION: i16 = 0;

/// An aborted transaction of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of its marker.
    pub last_offset: i64,
    /// The last stable offset once it had ended.
    pub last_stable_offset: i64,
}

/// The entries as bytes.
pub fn encode(entries: &[AbortedTransaction]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for e in entries {
        out.put_i16(VERSION);
        for field in [e.producer_id, e.first_offset, e.last_offset, e.last_stable_offset] {
            out.put_i64(field);
        }
    }
    out
}

/// The entries of a file; none if it holds something else.
pub fn decode(mut bytes: Bytes) -> Option<Vec<AbortedTransaction>> {
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return None;
    }
    let mut out = Vec::with_capacity(bytes.len().min(1 << 20) / ENTRY_BYTES);
    while bytes.remaining() >= ENTRY_BYTES {
        if bytes.get_i16() != VERSION {
            return None;
        }
        out.push(AbortedTransaction {
            producer_id: bytes.get_i64(),
            first_offset: bytes.get_i64(),
            last_offset: bytes.get_i64(),
            last_stable_offset: bytes.get_i64(),
        });
    }
    Some(out)
}
