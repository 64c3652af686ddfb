//! The batches of one segment file, read in pieces and without the right to write.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use milena_protocol::records::{self, BatchView};

/// Bytes read at once; more only for a batch that is larger.
const CHUNK_BYTES: usize = 1 << 20;
/// Base offset and length, which precede what the length counts.
const OVERHEAD_BYTES: usize = 12;

/// Where reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Walked {
    /// Bytes of whole batches.
    pub whole: u64,
    /// Bytes of the file.
    pub size: u64,
    /// What follows the whole batches is but zeros: room that was allocated ahead.
    pub only_zeros: bool,
}

impl Walked {
    /// Everything in the file is a batch.
    pub(super) fn complete(&self) -> bool {
        self.whole == self.size || self.only_zeros
    }
}

/// Calls `visit` with each whole batch until it says no or the file has no more.
#[expect(
    clippy::disallowed_methods,
    reason = "files are read as they lie, before there is a log with a door of its own"
)]
pub(super) fn walk(path: &Path, mut visit: impl FnMut(&BatchView) -> bool) -> io::Result<Walked> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let (mut position, mut want) = (0u64, CHUNK_BYTES);
    let mut stopped = false;
    while position < size && !stopped {
        let chunk = read(&file, position, want, size)?;
        let mut iter = records::batches(chunk.clone());
        let mut done = 0;
        while let Some(Ok(batch)) = iter.next() {
            done = iter.position();
            if !visit(&batch) {
                stopped = true;
                break;
            }
        }
        if done == 0 {
            match batch_size(&chunk) {
                Some(needed) if needed > chunk.len() && position + needed as u64 <= size => want = needed,
                _ => break,
            }
        } else {
            position += done as u64;
            want = CHUNK_BYTES;
        }
    }
    let only_zeros = !stopped && position < size && zeros(&file, position, size)?;
    let whole = if stopped { size } else { position };
    Ok(Walked { whole, size, only_zeros })
}

fn read(file: &File, position: u64, want: usize, size: u64) -> io::Result<Bytes> {
    let len = usize::try_from(size - position).unwrap_or(usize::MAX).min(want);
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, position)?;
    Ok(buffer.into())
}

/// Bytes of the batch that begins here, as it says itself.
fn batch_size(bytes: &[u8]) -> Option<usize> {
    let length: [u8; 4] = bytes.get(8..OVERHEAD_BYTES)?.try_into().ok()?;
    usize::try_from(i32::from_be_bytes(length)).ok()?.checked_add(OVERHEAD_BYTES)
}

fn zeros(file: &File, from: u64, size: u64) -> io::Result<bool> {
    let mut position = from;
    while position < size {
        let chunk = read(file, position, CHUNK_BYTES, size)?;
        if chunk.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        position += chunk.len() as u64;
    }
    Ok(true)
}
