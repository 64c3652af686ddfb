//! The tail of a log as it was written: readers that keep up are served from here, without a system call or a copy.
//!
//! Bounded per log and over all logs; what does not fit is read from the file. Small batches are copied together: kept as they came, each
//! would hold on to its whole request, or to all that one read of a socket brought.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

use crate::segment::Probe;
use crate::unified_log::ReadData;

/// Most bytes of one log's tail.
const MAX_LOG_BYTES: usize = 4 << 20;
/// Most bytes of all tails of the process.
const MAX_TOTAL_BYTES: usize = 16 << 20;
/// Larger batches are kept as they came.
const MAX_COPIED_BYTES: usize = 8 << 10;
/// Memory taken at once for small ones: as much as there are already, within these bounds.
const MIN_BLOCK_BYTES: usize = 4 << 10;
const MAX_BLOCK_BYTES: usize = 64 << 10;

static TOTAL_BYTES: AtomicUsize = AtomicUsize::new(0);

struct Cached {
    base_offset: i64,
    last_offset: i64,
    size: usize,
    chunks: [Bytes; 2],
}

/// See the module.
#[derive(Default)]
pub(crate) struct TailCache {
    batches: VecDeque<Cached>,
    bytes: usize,
    /// Where the next small batch goes.
    block: BytesMut,
    /// Nothing was added since the last [`TailCache::age`].
    idle: bool,
}

impl TailCache {
    /// The batch that was written last.
    pub fn push(&mut self, probe: &Probe, chunks: &[Bytes; 2]) {
        self.idle = false;
        if probe.size > MAX_LOG_BYTES {
            self.clear();
            return;
        }
        let chunks = match probe.size {
            ..=MAX_COPIED_BYTES => [self.copy(probe.size, chunks), Bytes::new()],
            _ => chunks.clone(),
        };
        let Probe { base_offset, last_offset, size, .. } = *probe;
        self.batches.push_back(Cached { base_offset, last_offset, size, chunks });
        self.bytes += probe.size;
        let mut total = TOTAL_BYTES.fetch_add(probe.size, Ordering::Relaxed) + probe.size;
        while (self.bytes > MAX_LOG_BYTES || total > MAX_TOTAL_BYTES) && !self.batches.is_empty() {
            total -= self.pop();
        }
    }

    fn copy(&mut self, size: usize, chunks: &[Bytes; 2]) -> Bytes {
        if self.block.capacity() < size {
            self.block = BytesMut::with_capacity(self.bytes.clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES).max(size));
        }
        chunks.iter().for_each(|chunk| self.block.extend_from_slice(chunk));
        self.block.split().freeze()
    }

    fn pop(&mut self) -> usize {
        let size = self.batches.pop_front().map_or(0, |b| b.size);
        self.bytes -= size;
        TOTAL_BYTES.fetch_sub(size, Ordering::Relaxed);
        size
    }

    /// The pieces of whole batches, or none if the tail begins after the offset.
    pub fn read(&self, offset: i64, max_bytes: usize, upper_bound: i64, min_one: bool) -> Option<ReadData> {
        if self.batches.front()?.base_offset > offset {
            return None;
        }
        let first = self.batches.partition_point(|b| b.last_offset < offset);
        let mut out = ReadData { records: Vec::new(), next_offset: offset };
        let mut size = 0;
        for b in self.batches.iter().skip(first) {
            let fits = size + b.size <= max_bytes || (min_one && size == 0);
            if b.last_offset >= upper_bound || !fits {
                break;
            }
            size += b.size;
            out.next_offset = b.last_offset + 1;
            out.records.extend(b.chunks.iter().filter(|c| !c.is_empty()).cloned());
        }
        Some(out)
    }

    /// Forgets batches that end before the offset.
    pub fn drop_before(&mut self, offset: i64) {
        while self.batches.front().is_some_and(|b| b.last_offset < offset) {
            self.pop();
        }
    }

    /// Forgets everything if nothing was added since the last call; whether that was so.
    pub fn age(&mut self) -> bool {
        let idle = std::mem::replace(&mut self.idle, true);
        if idle {
            self.clear();
        }
        idle
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        while !self.batches.is_empty() {
            self.pop();
        }
        self.batches.shrink_to_fit();
        self.block = BytesMut::new();
    }
}

impl Drop for TailCache {
    fn drop(&mut self) {
        self.clear();
    }
}
