//! The offset index: relative offset (i32) and position (i32), 8 bytes an entry, one about every `index.interval.bytes`.

use std::io;

use bytes::{Buf, BufMut, Bytes};

use crate::fs::File;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 8;

/// The last offset of the batch that starts at `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Offset, relative to the segment's base offset.
    pub relative_offset: u32,
    /// Where the batch starts in the segment, in bytes.
    pub position: u32,
}

/// The entries as bytes.
pub fn encode(entries: &[OffsetEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for e in entries {
        out.put_u32(e.relative_offset);
        out.put_u32(e.position);
    }
    out
}

/// The entries of a file that was written by [`encode`] or preallocated by Kafka: zeros after the last entry are not entries.
/// None if they are not in order or point behind the segment.
pub fn decode(mut bytes: Bytes, segment_bytes: u64) -> Option<Vec<OffsetEntry>> {
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return None;
    }
    let mut out: Vec<OffsetEntry> = Vec::with_capacity(bytes.len().min(1 << 20) / ENTRY_BYTES);
    while bytes.remaining() >= ENTRY_BYTES {
        let e = OffsetEntry { relative_offset: bytes.get_u32(), position: bytes.get_u32() };
        if e.relative_offset == 0 && e.position == 0 {
            // an index may rightly begin with an entry of offset 0 at position 0; further zeros are the preallocated rest
            if bytes.iter().all(|b| *b == 0) {
                break;
            }
            if !out.is_empty() {
                return None;
            }
        }
        if u64::from(e.position) >= segment_bytes
            || out.last().is_some_and(|l| l.relative_offset >= e.relative_offset || l.position >= e.position)
        {
            return None;
        }
        out.push(e);
    }
    Some(out)
}

/// The position of the last entry at or before a relative offset; 0 without one.
pub fn floor(entries: &[OffsetEntry], relative_offset: u32) -> u32 {
    match entries.partition_point(|e| e.relative_offset <= relative_offset).checked_sub(1) {
        Some(i) => entries.get(i).map_or(0, |e| e.position),
        None => 0,
    }
}

/// As [`floor`], reading the file entry by entry.
pub fn floor_in_file(file: &dyn File, relative_offset: u32) -> io::Result<u32> {
    let (mut low, mut high) = (0, file.len()? / ENTRY_BYTES as u64);
    let mut position = 0;
    while low < high {
        let middle = low + (high - low) / 2;
        let mut bytes = file.read_at(ENTRY_BYTES, middle * ENTRY_BYTES as u64)?;
        if bytes.len() < ENTRY_BYTES {
            return Ok(0);
        }
        let (relative, at) = (bytes.get_u32(), bytes.get_u32());
        let preallocated_rest = middle > 0 && relative == 0 && at == 0;
        if relative <= relative_offset && !preallocated_rest {
            position = at;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(position)
}
