//! Work that may take a thread of the runtime for long: records that have to be decompressed.
//!
//! Owns the decision what is heavy, and gives the other tasks of the thread away while it is done. Never decides what the work is. Called by
//! the handlers of Produce and Fetch.

use milena_protocol::records::{Compression, batches};
use tokio::runtime::{Handle, RuntimeFlavor};

use bytes::Bytes;

/// Compressed records of fewer bytes are not worth the move; the codecs' bound on what they become still holds for them.
const HEAVY_BYTES: usize = 4 << 10;

/// Whether checking these records may take long. A megabyte can become a hundred, and a node whose threads all do that
/// answers nobody, not even its controller.
pub(crate) fn is_heavy(records: &Bytes) -> bool {
    records.len() >= HEAVY_BYTES
        && batches(records.clone())
            .next()
            .and_then(Result::ok)
            .is_some_and(|batch| batch.is_legacy() || batch.compression() != Ok(Compression::None))
}

/// Does the work here, while other threads take over the tasks of this one.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    // the runtime of a test may have a single thread, which has no others to give its tasks to
    let others = Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
    if others { tokio::task::block_in_place(work) } else { work() }
}
