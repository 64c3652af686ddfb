//! Zstandard frames, decompressed piece by piece with contexts that are used again: making one costs more than
//! decompressing a small batch. Each thread keeps at most one, and only a small one.

use std::cell::Cell;

use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::{Compression, failed};
use crate::records::RecordsError;

/// The most bytes a context may hold to be kept: its window has grown with the largest frame it saw.
const KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static SPARE: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

pub(super) struct Frames<'a> {
    /// Always there until the drop.
    context: Option<DCtx<'static>>,
    rest: &'a [u8],
    /// Whether the last frame has ended.
    complete: bool,
}

impl<'a> Frames<'a> {
    pub(super) fn new(data: &'a [u8]) -> Result<Self, RecordsError> {
        let context = match SPARE.try_with(Cell::take).ok().flatten() {
            Some(context) => context,
            None => DCtx::try_create().ok_or_else(|| refused(&"no memory for a context"))?,
        };
        Ok(Frames { context: Some(context), rest: data, complete: true })
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, RecordsError> {
        let Some(context) = self.context.as_mut() else {
            return Ok(0);
        };
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if self.rest.is_empty() && self.complete {
                return Ok(0);
            }
            let mut input = InBuffer::around(self.rest);
            let mut output = OutBuffer::around(&mut *out);
            let hint =
                context.decompress_stream(&mut output, &mut input).map_err(|code| refused(&get_error_name(code)))?;
            let (read, written) = (input.pos(), output.pos());
            self.rest = self.rest.get(read..).unwrap_or_default();
            self.complete = hint == 0;
            if written > 0 {
                return Ok(written);
            }
            if read == 0 && !self.complete {
                return Err(RecordsError::Truncated);
            }
        }
    }
}

impl Drop for Frames<'_> {
    fn drop(&mut self) {
        let Some(mut context) = self.context.take() else {
            return;
        };
        if context.sizeof() <= KEPT_BYTES && context.reset(ResetDirective::SessionOnly).is_ok() {
            // While the thread ends there is nowhere to keep it.
            let _ = SPARE.try_with(|spare| spare.set(Some(context)));
        }
    }
}

fn refused(reason: &dyn std::fmt::Display) -> RecordsError {
    failed(Compression::Zstd, reason)
}
