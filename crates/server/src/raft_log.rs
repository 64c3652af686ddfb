//! The metadata quorum's log on a partition's log, with its snapshots and the vote file beside it in `__cluster_metadata-0`.
//!
//! Owns the file names and the order of syncs; never looks into a record. Used by `quorum.rs` through raft's seams.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use milena_common::{Clock, Now};
use milena_log::fs::Fs;
use milena_log::{LogError, LogEvent, UnifiedLog};
use milena_raft::{LogListener, LogNews, OffsetAndEpoch, QuorumStateStore, RaftLog, RaftLogError, SnapshotFile};

const QUORUM_STATE: &str = "quorum-state";
/// What a snapshot is called while it is written.
const PART: &str = ".part";

/// The log of `__cluster_metadata-0`.
pub struct UnifiedRaftLog {
    log: Arc<UnifiedLog>,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
}

impl UnifiedRaftLog {
    /// Over a log that is always synced; removes snapshots that were not finished.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn new(log: Arc<UnifiedLog>, fs: Arc<dyn Fs>, clock: Arc<dyn Clock>) -> Result<Self, RaftLogError> {
        let this = UnifiedRaftLog { log, fs, clock };
        for name in this.names()?.iter().filter(|name| name.ends_with(PART)) {
            let path = this.log.dir().join(name);
            this.fs.remove_file(&path).map_err(|error| failed(&path, &error))?;
        }
        Ok(this)
    }

    /// The vote file that belongs to this log.
    pub fn votes(&self) -> QuorumStateFile {
        QuorumStateFile { path: self.log.dir().join(QUORUM_STATE), fs: self.fs.clone() }
    }

    /// Completes the log's files; before the log manager says that all is shut down in order. Appends fail from here on.
    ///
    /// # Errors
    /// When a file cannot be written: the log is whole, but will be checked at the next start.
    pub fn close(&self) -> Result<(), LogError> {
        self.log.close()
    }

    fn names(&self) -> Result<Vec<String>, RaftLogError> {
        let dir = self.log.dir();
        self.fs.list(&dir).map_err(|error| failed(&dir, &error))
    }

    fn snapshot_path(&self, id: OffsetAndEpoch) -> PathBuf {
        self.log.dir().join(id.snapshot_file_name())
    }
}

fn failed(path: &std::path::Path, error: &io::Error) -> RaftLogError {
    RaftLogError::Storage(format!("{}: {error}", path.display()))
}

fn raft_error(error: LogError) -> RaftLogError {
    match error {
        LogError::OffsetOutOfRange { offset, log_start_offset, log_end_offset } => {
            RaftLogError::OutOfRange { offset, start: log_start_offset, end: log_end_offset }
        }
        other => RaftLogError::Storage(other.to_string()),
    }
}

impl RaftLog for UnifiedRaftLog {
    fn start_offset(&self) -> i64 {
        self.log.log_start_offset()
    }

    fn end_offset(&self) -> i64 {
        self.log.log_end_offset()
    }

    fn durable_end_offset(&self) -> i64 {
        self.log.durable_end_offset()
    }

    fn epochs(&self) -> Vec<(i32, i64)> {
        self.log.epochs().into_iter().map(|entry| (entry.epoch, entry.start_offset)).collect()
    }

    fn append(&self, batch: Bytes, now: Now) -> Result<(), RaftLogError> {
        // The batch has its offsets: it must land exactly there.
        let info = self.log.append_as_follower(batch, now).map_err(raft_error)?;
        let end = self.log.log_end_offset();
        if info.last_offset + 1 != end {
            let last = info.last_offset;
            return Err(RaftLogError::Storage(format!("appended up to {last}, but the log ends at {end}")));
        }
        Ok(())
    }

    fn read(&self, from: i64, up_to: i64, max_bytes: usize) -> Result<Bytes, RaftLogError> {
        let data = self.log.read(from, max_bytes, up_to, true).map_err(raft_error)?;
        Ok(data.into_contiguous())
    }

    fn truncate_to(&self, offset: i64) -> Result<(), RaftLogError> {
        self.log.truncate_to(offset, self.clock.now()).map_err(raft_error)
    }

    fn truncate_fully_and_start_at(&self, offset: i64) -> Result<(), RaftLogError> {
        self.log.truncate_fully_and_start_at(offset, self.clock.now()).map_err(raft_error)
    }

    fn advance_start_offset(&self, offset: i64) -> Result<(), RaftLogError> {
        self.log.increment_log_start_offset(offset).map_err(raft_error)?;
        for path in self.log.delete_old_segments(self.clock.now()).map_err(raft_error)? {
            self.fs.remove_file(&path).map_err(|error| failed(&path, &error))?;
        }
        Ok(())
    }

    fn size_in_bytes(&self) -> u64 {
        self.log.size_in_bytes()
    }

    fn set_listener(&self, listener: LogListener) {
        self.log.set_listener(Arc::new(move |event| {
            listener(match event {
                LogEvent::Durable(end_offset) => LogNews::Durable(end_offset),
                LogEvent::Failed => LogNews::Failed,
            });
        }));
    }

    fn set_high_watermark(&self, offset: i64) {
        self.log.set_high_watermark(offset);
    }

    fn snapshots(&self) -> Result<Vec<SnapshotFile>, RaftLogError> {
        let mut found = Vec::new();
        for id in self.names()?.iter().filter_map(|name| OffsetAndEpoch::from_snapshot_file_name(name)) {
            let path = self.snapshot_path(id);
            let file = self.fs.open(&path, false).map_err(|error| failed(&path, &error))?;
            found.push(SnapshotFile { id, size_in_bytes: file.len().map_err(|error| failed(&path, &error))? });
        }
        found.sort_by_key(|file| file.id);
        Ok(found)
    }

    fn read_snapshot(&self, id: OffsetAndEpoch) -> Result<Bytes, RaftLogError> {
        let path = self.snapshot_path(id);
        self.fs.read(&path).map_err(|error| failed(&path, &error))
    }

    fn write_snapshot(&self, id: OffsetAndEpoch, content: &[Bytes]) -> Result<(), RaftLogError> {
        let path = self.snapshot_path(id);
        let mut part = path.clone().into_os_string();
        part.push(PART);
        let part = PathBuf::from(part);
        let written = || -> io::Result<()> {
            let file = self.fs.open(&part, true)?;
            file.set_len(0)?;
            let mut position = 0;
            for piece in content {
                file.write_at(&[piece], position)?;
                position += piece.len() as u64;
            }
            file.sync_data()?;
            self.fs.rename(&part, &path)?;
            self.fs.sync_dir(&self.log.dir())
        };
        written().map_err(|error| failed(&path, &error))
    }

    fn delete_snapshot(&self, id: OffsetAndEpoch) -> Result<(), RaftLogError> {
        let path = self.snapshot_path(id);
        self.fs.remove_file(&path).map_err(|error| failed(&path, &error))
    }
}

/// `quorum-state`, always synced.
pub struct QuorumStateFile {
    path: PathBuf,
    fs: Arc<dyn Fs>,
}

impl QuorumStateStore for QuorumStateFile {
    fn read(&self) -> io::Result<Option<String>> {
        if !self.fs.exists(&self.path) {
            return Ok(None);
        }
        let bytes = self.fs.read(&self.path)?;
        String::from_utf8(bytes.to_vec()).map(Some).map_err(io::Error::other)
    }

    fn write(&self, content: &str) -> io::Result<()> {
        self.fs.replace(&self.path, content.as_bytes(), true)
    }
}
