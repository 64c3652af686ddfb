//! The time index: timestamp (i64) and relative offset (i32), 12 bytes an entry. An entry says: up to this offset no timestamp is larger.

use bytes::{Buf, BufMut, Bytes};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 12;

/// The largest timestamp so far and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeEntry {
    /// Milliseconds.
    pub timestamp: i64,
    /// Offset, relative to the segment's base offset.
    pub relative_offset: u32,
}

/// The entries as bytes.
pub fn encode(entries: &[TimeEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for e in entries {
        out.put_i64(e.timestamp);
        out.put_u32(e.relative_offset);
    }
    out
}

/// The entries of a file; none if they are not in order.
pub fn decode(mut bytes: Bytes) -> Option<Vec<TimeEntry>> {
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return None;
    }
    let mut out: Vec<TimeEntry> = Vec::with_capacity(bytes.len().min(1 << 20) / ENTRY_BYTES);
    while bytes.remaining() >= ENTRY_BYTES {
        let e = TimeEntry { timestamp: bytes.get_i64(), relative_offset: bytes.get_u32() };
        if e.timestamp == 0 && e.relative_offset == 0 && bytes.iter().all(|b| *b == 0) {
            break;
        }
        if out.last().is_some_and(|l| l.timestamp >= e.timestamp || l.relative_offset > e.relative_offset) {
            return None;
        }
        out.push(e);
    }
    Some(out)
}

/// The relative offset of the last entry whose timestamp is below `timestamp`: a record that old or younger is not before it.
pub fn floor(entries: &[TimeEntry], timestamp: i64) -> u32 {
    match entries.partition_point(|e| e.timestamp < timestamp).checked_sub(1) {
        Some(i) => entries.get(i).map_or(0, |e| e.relative_offset),
        None => 0,
    }
}
