//! A log moves to another directory: it takes over the segments of its copy there (KIP-113). Readers, appends and those who listen go on with it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use milena_common::Now;

use super::{Home, LogEvent, UnifiedLog};
use crate::checkpoint::LEADER_EPOCHS;
use crate::error::{At as _, LogError};
use crate::segment::file_name;

/// The most bytes that are copied while appends wait.
const MAX_LAST_BYTES: usize = 1 << 20;

impl UnifiedLog {
    /// How often the log was cut or moved.
    pub(crate) fn truncations(&self) -> u64 {
        self.inner.lock().truncations
    }

    /// Copies what came last, and takes the copy's place: its directory becomes `to`, the log's old one `aside`. False if the log was cut since it
    /// had been cut `truncations` times, or is too far ahead of its copy.
    ///
    /// Takes the copy's lock under its own: nobody else knows the copy.
    pub(crate) fn adopt(
        &self,
        copy: &UnifiedLog,
        truncations: u64,
        to: &Path,
        aside: &Path,
        now: Now,
    ) -> Result<bool, LogError> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        self.ensure_writable(inner)?;
        let end = self.log_end_offset();
        if inner.truncations != truncations || copy.log_start_offset() > self.log_start_offset() {
            return Ok(false);
        }
        let mut copied = 0;
        while copy.log_end_offset() < end {
            let data = self.read_locked(inner, copy.log_end_offset(), MAX_LAST_BYTES, end, true)?;
            copied += data.size_in_bytes();
            if data.records.is_empty() || copied > MAX_LAST_BYTES {
                return Ok(false);
            }
            copy.append_as_follower(data.into_contiguous(), now)?;
        }
        if copy.log_end_offset() != end {
            return Ok(false);
        }
        let mut other = copy.inner.lock();
        if other.broken {
            return Ok(false);
        }
        let home = copy.home.load_full();
        let fails = |_: &LogError| home.committer.fail();
        // all of the copy is on disk before it is the log
        let epochs = other.dir.join(LEADER_EPOCHS);
        self.fs.replace(&epochs, inner.epochs.encode().as_bytes(), true).at(&epochs)?;
        if !inner.producers.is_empty() {
            let snapshot = other.dir.join(file_name(end, "snapshot"));
            self.fs.replace(&snapshot, &inner.producers.encode(), true).at(&snapshot)?;
        }
        let active = other.segments.last().map(|s| Arc::clone(&s.file));
        for file in std::mem::take(&mut other.closed_dirty).into_iter().chain(active) {
            file.sync_data().at(&other.dir).inspect_err(fails)?;
        }
        self.fs.sync_dir(&other.dir).at(&other.dir).inspect_err(fails)?;
        let sync_parent = |path: &Path| path.parent().map_or(Ok(()), |dir| self.fs.sync_dir(dir).at(dir));
        self.fs.rename(&other.dir, to).at(to)?;
        other.dir = to.to_path_buf();
        sync_parent(to).inspect_err(fails)?;
        // from here on the log is there; two of the same name after a crash are told apart at the next start
        let old_home = self.home.load_full();
        if let Err(error) = self.fs.rename(&inner.dir, aside).at(aside).and_then(|()| sync_parent(aside)) {
            tracing::error!(partition = %self.topic_partition, %error, "the directory that the log left is offline");
            old_home.committer.fail();
        }
        inner.segments = std::mem::take(&mut other.segments);
        inner.dir = to.to_path_buf();
        inner.closed_dirty.clear();
        (inner.active_dirty, inner.dir_dirty, inner.flush, inner.submitted) = (false, false, false, false);
        inner.unflushed_since_ms = None;
        inner.truncations += 1;
        other.broken = true;
        self.home.store(Arc::new(Home {
            committer: Arc::clone(&home.committer),
            clean_offsets: Arc::clone(&home.clean_offsets),
        }));
        self.durable_end.store(end, Ordering::Release);
        self.recovery_point.store(end, Ordering::Release);
        drop(other);
        drop(guard);
        if let Some(listener) = self.listener.get() {
            listener(LogEvent::Durable(end));
        }
        Ok(true)
    }
}
