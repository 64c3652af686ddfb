//! The codecs of record batches.
//!
//! Owns the choice of codec, their levels, and the bound on what decompression may produce. Compressed bytes come from
//! outside: a frame that would decompress to more than the caller's limit is refused, and no size it claims is
//! allocated before it is earned. Called by the batch view, the builder, the scan and the legacy formats.

mod lz4;
mod snappy;
mod zstd_stream;

use std::io::{Read, Write};

use milena_common::limits::MAX_DECOMPRESSED_BATCH_BYTES;

use super::RecordsError;

pub(super) use lz4::HeaderChecksum;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// Snappy in the framing of snappy-java; bare blocks are understood too.
    Snappy = 2,
    /// LZ4 frames with independent blocks.
    Lz4 = 3,
    /// Zstandard (KIP-110; magic 2 only).
    Zstd = 4,
}

impl Compression {
    /// Every codec, `None` first.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The number in a batch's attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The codec with this number.
    pub fn from_id(id: u8) -> Result<Compression, RecordsError> {
        Self::ALL.get(usize::from(id)).copied().ok_or(RecordsError::Codec(id))
    }

    /// The name in Kafka's configuration (`compression.type`).
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// The codec with this name in Kafka's configuration; a topic's `uncompressed` is `none` too.
    pub fn from_name(name: &str) -> Option<Compression> {
        if name == "uncompressed" {
            return Some(Compression::None);
        }
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

/// The most bytes one batch may decompress to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecompressLimit(pub usize);

impl DecompressLimit {
    pub const DEFAULT: DecompressLimit = DecompressLimit(MAX_DECOMPRESSED_BATCH_BYTES);
}

impl Default for DecompressLimit {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Compresses a record area. Levels outside a codec's range are brought into it; snappy and our LZ4 have none.
pub fn compress(codec: Compression, level: Option<i32>, data: &[u8]) -> Result<Vec<u8>, RecordsError> {
    compress_with(codec, level, data, HeaderChecksum::Standard)
}

pub(super) fn compress_with(
    codec: Compression,
    level: Option<i32>,
    data: &[u8],
    lz4_header: HeaderChecksum,
) -> Result<Vec<u8>, RecordsError> {
    match codec {
        Compression::None => Ok(data.to_vec()),
        Compression::Gzip => {
            let level = match level {
                Some(level) => flate2::Compression::new(u32::try_from(level.clamp(1, 9)).unwrap_or(6)),
                None => flate2::Compression::default(),
            };
            let out = Vec::with_capacity(data.len() / 2 + 64);
            let mut encoder = flate2::write::GzEncoder::new(out, level);
            encoder.write_all(data).map_err(|error| failed(codec, &error))?;
            encoder.finish().map_err(|error| failed(codec, &error))
        }
        Compression::Snappy => snappy::compress(data),
        Compression::Lz4 => lz4::compress(data, lz4_header),
        Compression::Zstd => {
            let range = zstd::compression_level_range();
            let level =
                level.map_or(zstd::DEFAULT_COMPRESSION_LEVEL, |level| level.clamp(*range.start(), *range.end()));
            zstd::bulk::compress(data, level).map_err(|error| failed(codec, &error))
        }
    }
}

/// Decompresses a record area to at most `limit` bytes.
pub fn decompress(codec: Compression, data: &[u8], limit: DecompressLimit) -> Result<Vec<u8>, RecordsError> {
    Decompressor::new(codec, data, limit)?.into_vec(data.len())
}

/// Gives the decompressed bytes piece by piece, within a limit.
pub struct Decompressor<'a> {
    codec: Compression,
    stream: Stream<'a>,
    limit: usize,
    produced: usize,
}

enum Stream<'a> {
    None(&'a [u8]),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(snappy::Blocks<'a>),
    Lz4(lz4::Blocks<'a>),
    Zstd(zstd_stream::Frames<'a>),
}

impl<'a> Decompressor<'a> {
    /// Begins; headers may be read already.
    pub fn new(codec: Compression, data: &'a [u8], limit: DecompressLimit) -> Result<Self, RecordsError> {
        Self::with_lz4_header(codec, data, limit, HeaderChecksum::Standard)
    }

    pub(super) fn with_lz4_header(
        codec: Compression,
        data: &'a [u8],
        limit: DecompressLimit,
        lz4_header: HeaderChecksum,
    ) -> Result<Self, RecordsError> {
        let stream = match codec {
            Compression::None => Stream::None(data),
            Compression::Gzip => Stream::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(data))),
            Compression::Snappy => Stream::Snappy(snappy::Blocks::new(data)),
            Compression::Lz4 => Stream::Lz4(lz4::Blocks::new(data, lz4_header)?),
            Compression::Zstd => Stream::Zstd(zstd_stream::Frames::new(data)?),
        };
        Ok(Decompressor { codec, stream, limit: limit.0, produced: 0 })
    }

    /// Reads some bytes into `out`; 0 at the end.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, RecordsError> {
        let codec = self.codec;
        let left = self.limit - self.produced;
        let count = match &mut self.stream {
            Stream::None(data) => data.read(out).map_err(|error| failed(codec, &error))?,
            Stream::Gzip(decoder) => decoder.read(out).map_err(|error| failed(codec, &error))?,
            Stream::Snappy(blocks) => blocks.read(out, left).map_err(|error| match error {
                RecordsError::DecompressLimit { .. } => RecordsError::DecompressLimit { limit: self.limit },
                other => other,
            })?,
            Stream::Lz4(blocks) => blocks.read(out)?,
            Stream::Zstd(frames) => frames.read(out)?,
        };
        if count > left {
            return Err(RecordsError::DecompressLimit { limit: self.limit });
        }
        self.produced += count;
        Ok(count)
    }

    /// Reads everything; `compressed_len` only guides the first allocation.
    pub(super) fn into_vec(mut self, compressed_len: usize) -> Result<Vec<u8>, RecordsError> {
        let mut out = Vec::with_capacity(compressed_len.saturating_mul(4).min(self.limit).min(1 << 20));
        loop {
            let start = out.len();
            let step = start.clamp(16 * 1024, 1 << 20);
            if out.capacity() < start + step {
                // Doubling, but not beyond what may come at all.
                let most = self.limit.saturating_add(1).saturating_sub(start);
                out.reserve_exact(start.min(most).max(step));
            }
            out.resize(start + step, 0);
            let mut filled = start;
            while filled < out.len() {
                let count = self.read(out.get_mut(filled..).unwrap_or_default())?;
                if count == 0 {
                    out.truncate(filled);
                    return Ok(out);
                }
                filled += count;
            }
        }
    }
}

fn failed(codec: Compression, error: &dyn std::fmt::Display) -> RecordsError {
    RecordsError::Decompress { codec: codec.name(), reason: error.to_string() }
}
