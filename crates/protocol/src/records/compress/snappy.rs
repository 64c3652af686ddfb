//! Snappy as Kafka's clients use it: the framing of snappy-java (16-byte header, then blocks behind their sizes), or,
//! from some old clients, one bare block. We write the framing, with blocks of 32 KiB as Java's.

use super::{Compression, failed};
use crate::records::RecordsError;

const HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const MAGIC_LEN: usize = 8;
const BLOCK: usize = 32 * 1024;
/// No Snappy element yields more than this many bytes for one of its own.
const MAX_EXPANSION: usize = 32;

pub(super) fn compress(data: &[u8]) -> Result<Vec<u8>, RecordsError> {
    let mut out = Vec::with_capacity(HEADER.len() + data.len() / 2 + 64);
    out.extend_from_slice(&HEADER);
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(BLOCK.min(data.len()))];
    for chunk in data.chunks(BLOCK) {
        let size = encoder.compress(chunk, &mut block).map_err(|error| failed(Compression::Snappy, &error))?;
        out.extend_from_slice(&(size as u32).to_be_bytes());
        out.extend_from_slice(block.get(..size).unwrap_or_default());
    }
    Ok(out)
}

/// The blocks of compressed bytes, decompressed one at a time.
pub(super) struct Blocks<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    start: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        let framed = data.starts_with(HEADER.get(..MAGIC_LEN).unwrap_or_default());
        Blocks { rest: data, framed, block: Vec::new(), start: 0 }
    }

    /// `left` is what the caller still allows.
    pub(super) fn read(&mut self, out: &mut [u8], left: usize) -> Result<usize, RecordsError> {
        while self.start == self.block.len() {
            if !self.next_block(left)? {
                return Ok(0);
            }
        }
        let ready = self.block.get(self.start..).unwrap_or_default();
        let count = ready.len().min(out.len());
        if let (Some(slot), Some(bytes)) = (out.get_mut(..count), ready.get(..count)) {
            slot.copy_from_slice(bytes);
        }
        self.start += count;
        Ok(count)
    }

    fn next_block(&mut self, left: usize) -> Result<bool, RecordsError> {
        let block = if self.framed {
            // Concatenated streams repeat the header.
            while self.rest.starts_with(HEADER.get(..MAGIC_LEN).unwrap_or_default()) {
                self.rest = self.rest.get(HEADER.len()..).ok_or(RecordsError::Truncated)?;
            }
            let Some((size, rest)) = self.rest.split_first_chunk::<4>() else {
                return if self.rest.is_empty() { Ok(false) } else { Err(RecordsError::Truncated) };
            };
            let size = usize::try_from(i32::from_be_bytes(*size)).map_err(|_| corrupt("negative block size"))?;
            let block = rest.get(..size).ok_or(RecordsError::Truncated)?;
            self.rest = rest.get(size..).unwrap_or_default();
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        if block.is_empty() {
            return if self.framed { Err(corrupt("empty block")) } else { Ok(false) };
        }
        let size = snap::raw::decompress_len(block).map_err(|error| failed(Compression::Snappy, &error))?;
        if size > block.len().saturating_mul(MAX_EXPANSION) {
            return Err(corrupt("block claims more bytes than it can hold"));
        }
        if size > left {
            return Err(RecordsError::DecompressLimit { limit: left });
        }
        self.block.resize(size, 0);
        self.start = 0;
        let written = snap::raw::Decoder::new()
            .decompress(block, &mut self.block)
            .map_err(|error| failed(Compression::Snappy, &error))?;
        self.block.truncate(written);
        Ok(true)
    }
}

fn corrupt(reason: &'static str) -> RecordsError {
    failed(Compression::Snappy, &reason)
}
