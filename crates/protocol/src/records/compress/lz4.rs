//! LZ4 frames as Kafka's clients use them: independent blocks of 64 KiB, no content checksum. Frames with linked blocks
//! are refused, as Java's reader refuses them: a broker must not store what consumers cannot read.
//!
//! A content checksum, behind the end mark, is not looked at: the batch has its own.
//!
//! Kafka's first LZ4 implementation computed the header checksum over the frame's magic number too (KAFKA-3160).
//! Messages of magic 0 are written that way for ever; reading them ignores the checksum.

use twox_hash::XxHash32;

use super::{Compression, failed};
use crate::records::RecordsError;

const FRAME_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const VERSION: u8 = 0x40;
const INDEPENDENT: u8 = 0x20;
const BLOCK_CHECKSUM: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const BLOCK_64K: u8 = 4;
const BLOCK: usize = 64 * 1024;
const STORED_BIT: u32 = 0x8000_0000;
/// No LZ4 sequence yields more than this many bytes for one of its own.
const MAX_EXPANSION: usize = 256;

/// Which bytes the checksum of the frame header covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::records) enum HeaderChecksum {
    /// The descriptor, as the LZ4 frame format says.
    Standard,
    /// The frame's magic number too (magic 0); reading accepts any.
    Legacy,
}

pub(super) fn compress(data: &[u8], header: HeaderChecksum) -> Result<Vec<u8>, RecordsError> {
    let mut out = Vec::with_capacity(data.len() / 2 + 64);
    out.extend_from_slice(&FRAME_MAGIC);
    out.extend_from_slice(&[VERSION | INDEPENDENT, BLOCK_64K << 4]);
    out.push(header_checksum(&out, header));
    let mut block = vec![0; lz4_flex::block::get_maximum_output_size(BLOCK.min(data.len()))];
    for chunk in data.chunks(BLOCK) {
        let size =
            lz4_flex::block::compress_into(chunk, &mut block).map_err(|error| failed(Compression::Lz4, &error))?;
        if size < chunk.len() {
            out.extend_from_slice(&(size as u32).to_le_bytes());
            out.extend_from_slice(block.get(..size).unwrap_or_default());
        } else {
            out.extend_from_slice(&(chunk.len() as u32 | STORED_BIT).to_le_bytes());
            out.extend_from_slice(chunk);
        }
    }
    out.extend_from_slice(&[0; 4]);
    Ok(out)
}

/// `frame` begins with the frame's magic number and ends before the checksum.
fn header_checksum(frame: &[u8], header: HeaderChecksum) -> u8 {
    let covered = match header {
        HeaderChecksum::Standard => frame.get(FRAME_MAGIC.len()..).unwrap_or_default(),
        HeaderChecksum::Legacy => frame,
    };
    (XxHash32::oneshot(0, covered) >> 8) as u8
}

/// The blocks of a frame, decompressed one at a time.
pub(super) struct Blocks<'a> {
    rest: &'a [u8],
    block_max: usize,
    block_checksum: bool,
    ended: bool,
    block: Vec<u8>,
    start: usize,
    end: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(data: &'a [u8], header: HeaderChecksum) -> Result<Self, RecordsError> {
        let rest = data.strip_prefix(&FRAME_MAGIC).ok_or_else(|| corrupt("not an LZ4 frame"))?;
        let &[flags, descriptor, ..] = rest else {
            return Err(RecordsError::Truncated);
        };
        if flags & 0xc0 != VERSION || flags & 0x03 != 0 {
            return Err(corrupt("unknown frame version or reserved bits"));
        }
        if flags & INDEPENDENT == 0 {
            return Err(corrupt("linked blocks are not supported"));
        }
        let block_max = match descriptor >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(corrupt("unknown block size")),
        };
        let descriptor_len = if flags & CONTENT_SIZE == 0 { 2 } else { 10 };
        let stored = *rest.get(descriptor_len).ok_or(RecordsError::Truncated)?;
        let covered = data.get(..FRAME_MAGIC.len() + descriptor_len).unwrap_or_default();
        if header == HeaderChecksum::Standard && stored != header_checksum(covered, header) {
            return Err(corrupt("frame header checksum mismatch"));
        }
        let rest = rest.get(descriptor_len + 1..).unwrap_or_default();
        Ok(Blocks {
            rest,
            block_max,
            block_checksum: flags & BLOCK_CHECKSUM != 0,
            ended: false,
            block: Vec::new(),
            start: 0,
            end: 0,
        })
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, RecordsError> {
        while self.start == self.end {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let ready = self.block.get(self.start..self.end).unwrap_or_default();
        let count = ready.len().min(out.len());
        if let (Some(slot), Some(bytes)) = (out.get_mut(..count), ready.get(..count)) {
            slot.copy_from_slice(bytes);
        }
        self.start += count;
        Ok(count)
    }

    fn next_block(&mut self) -> Result<bool, RecordsError> {
        if self.ended {
            return Ok(false);
        }
        let word = self.take_u32()?;
        if word == 0 {
            self.ended = true;
            return Ok(false);
        }
        let size = (word & !STORED_BIT) as usize;
        if size > self.block_max {
            return Err(corrupt("block is larger than the frame allows"));
        }
        let bytes = self.rest.get(..size).ok_or(RecordsError::Truncated)?;
        self.rest = self.rest.get(size..).unwrap_or_default();
        if self.block_checksum && self.take_u32()? != XxHash32::oneshot(0, bytes) {
            return Err(corrupt("block checksum mismatch"));
        }
        self.start = 0;
        if word & STORED_BIT != 0 {
            self.block.clear();
            self.block.extend_from_slice(bytes);
            self.end = size;
        } else {
            let room = self.block_max.min(size.saturating_mul(MAX_EXPANSION));
            if self.block.len() < room {
                self.block.resize(room, 0);
            }
            let slot = self.block.get_mut(..room).unwrap_or_default();
            self.end =
                lz4_flex::block::decompress_into(bytes, slot).map_err(|error| failed(Compression::Lz4, &error))?;
        }
        Ok(true)
    }

    fn take_u32(&mut self) -> Result<u32, RecordsError> {
        let (word, rest) = self.rest.split_first_chunk::<4>().ok_or(RecordsError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*word))
    }
}

fn corrupt(reason: &'static str) -> RecordsError {
    failed(Compression::Lz4, &reason)
}
