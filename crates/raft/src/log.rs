//! The seam to the log's files: what the quorum needs of a log and of its snapshots.

use std::sync::Arc;

use bytes::Bytes;
use milena_common::Now;

/// A position in the log with the epoch of the record before it; names a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OffsetAndEpoch {
    /// Exclusive: the first offset that is not contained.
    pub offset: i64,
    pub epoch: i32,
}

impl OffsetAndEpoch {
    /// The name of the snapshot's file.
    pub fn snapshot_file_name(&self) -> String {
        format!("{:020}-{:010}.checkpoint", self.offset, self.epoch)
    }

    /// The position that a snapshot's file name holds.
    pub fn from_snapshot_file_name(name: &str) -> Option<Self> {
        let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
        let digits = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(offset, 20) || !digits(epoch, 10) {
            return None;
        }
        Some(OffsetAndEpoch { offset: offset.parse().ok()?, epoch: epoch.parse().ok()? })
    }
}

/// Why the log failed. Except for `OutOfRange` the node cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RaftLogError {
    #[error("offset {offset} is outside the log, which holds {start} to {end}")]
    OutOfRange { offset: i64, start: i64, end: i64 },
    #[error("metadata log: {0}")]
    Storage(String),
}

/// A snapshot that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotFile {
    pub id: OffsetAndEpoch,
    pub size_in_bytes: u64,
}

/// News of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogNews {
    /// Everything below this offset is on disk.
    Durable(i64),
    /// Nothing more ever will be.
    Failed,
}

/// Who is told.
pub type LogListener = Arc<dyn Fn(LogNews) + Send + Sync>;

/// The log of `__cluster_metadata-0` and the snapshots beside it. Appends come from one caller at a time.
pub trait RaftLog: Send + Sync {
    fn start_offset(&self) -> i64;
    /// The offset the next record gets.
    fn end_offset(&self) -> i64;
    /// Everything below is on disk.
    fn durable_end_offset(&self) -> i64;
    /// Epochs of the batches and the offsets at which they begin, oldest first.
    fn epochs(&self) -> Vec<(i32, i64)>;

    /// Appends batches whose offsets and epochs are set already and continue the log. They become durable without being asked.
    fn append(&self, batch: Bytes, now: Now) -> Result<(), RaftLogError>;

    /// Whole batches from the one that holds `from` up to, exclusively, `up_to`: at least one if there is one, at most about
    /// `max_bytes`.
    fn read(&self, from: i64, up_to: i64, max_bytes: usize) -> Result<Bytes, RaftLogError>;

    /// Removes what is at and above `offset`.
    fn truncate_to(&self, offset: i64) -> Result<(), RaftLogError>;

    /// Forgets everything; the log goes on at `offset`, after a snapshot that is newer than the log.
    fn truncate_fully_and_start_at(&self, offset: i64) -> Result<(), RaftLogError>;

    /// Allows forgetting what is below `offset`, which a snapshot holds.
    fn advance_start_offset(&self, offset: i64) -> Result<(), RaftLogError>;

    /// Bytes of the log without its snapshots.
    fn size_in_bytes(&self) -> u64;

    /// Registers who is told what became of appends; once per log. May call from another thread, and during an append.
    fn set_listener(&self, listener: LogListener);

    /// Everything below is committed, and may be forgotten once a snapshot holds it.
    fn set_high_watermark(&self, offset: i64);

    /// Complete snapshots, oldest first.
    fn snapshots(&self) -> Result<Vec<SnapshotFile>, RaftLogError>;

    fn read_snapshot(&self, id: OffsetAndEpoch) -> Result<Bytes, RaftLogError>;

    /// Writes a snapshot so that it is there completely or not at all, also after a crash.
    fn write_snapshot(&self, id: OffsetAndEpoch, content: &[Bytes]) -> Result<(), RaftLogError>;

    fn delete_snapshot(&self, id: OffsetAndEpoch) -> Result<(), RaftLogError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_names_are_kafkas() {
        let id = OffsetAndEpoch { offset: 133, epoch: 1 };
        assert_eq!(id.snapshot_file_name(), "00000000000000000133-0000000001.checkpoint");
        assert_eq!(OffsetAndEpoch::from_snapshot_file_name("00000000000000000133-0000000001.checkpoint"), Some(id));
        for other in
            ["00000000000000000133-0000000001.checkpoint.part", "133-1.checkpoint", "00000000000000000133.snapshot"]
        {
            assert_eq!(OffsetAndEpoch::from_snapshot_file_name(other), None, "{other}");
        }
    }
}
