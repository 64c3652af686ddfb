//! `cleaner-offset-checkpoint`: up to where each compacted log of a directory was cleaned.
//!
//! A truncation lowers it at once: were it to stay above what is written next, a tombstone could vanish before what it deletes. Called by the
//! cleaner, and by logs that are cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use milena_common::TopicPartition;
use parking_lot::Mutex;

use crate::checkpoint::{self, Offsets};
use crate::error::LogError;
use crate::fs::Fs;

/// See the module.
pub(crate) struct CleanOffsets {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    offsets: Mutex<Offsets>,
}

impl CleanOffsets {
    /// Reads the file; a damaged one is as good as none, the logs are then cleaned from their start.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path) -> CleanOffsets {
        let path = dir.join(checkpoint::CLEANER_OFFSETS);
        let offsets = checkpoint::read_offsets(&*fs, &path).unwrap_or_else(|error| {
            tracing::warn!(%error, "the cleaner begins from the start of each log");
            Offsets::new()
        });
        CleanOffsets { fs, path, offsets: Mutex::new(offsets) }
    }

    pub fn get(&self, tp: &TopicPartition) -> Option<i64> {
        self.offsets.lock().get(tp).copied()
    }

    pub fn set(&self, tp: &TopicPartition, offset: i64) -> Result<(), LogError> {
        let mut offsets = self.offsets.lock();
        if offsets.insert(tp.clone(), offset) == Some(offset) {
            return Ok(());
        }
        checkpoint::write_offsets(&*self.fs, &self.path, &offsets)
    }

    /// The log ends at `end` now.
    pub fn truncate(&self, tp: &TopicPartition, end: i64) -> Result<(), LogError> {
        match self.get(tp) {
            Some(offset) if offset > end => self.set(tp, end),
            _ => Ok(()),
        }
    }

    /// The log is gone.
    pub fn remove(&self, tp: &TopicPartition) -> Result<(), LogError> {
        let mut offsets = self.offsets.lock();
        if offsets.remove(tp).is_none() {
            return Ok(());
        }
        checkpoint::write_offsets(&*self.fs, &self.path, &offsets)
    }
}
