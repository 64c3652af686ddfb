//! What makes a log shorter: DeleteRecords and retention at its start, truncation at its end.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use milena_common::Now;

use super::{Inner, UnifiedLog, preallocated_bytes};
use crate::committer::CommitBy;
use crate::error::LogError;
use crate::recovery;
use crate::segment::Segment;

impl UnifiedLog {
    /// Raises the log start: what lies below is not served any more and its segments may be deleted.
    pub fn increment_log_start_offset(&self, offset: i64) -> Result<(), LogError> {
        let end = self.log_end_offset();
        if offset > end {
            return Err(LogError::OffsetOutOfRange {
                offset,
                log_start_offset: self.log_start_offset(),
                log_end_offset: end,
            });
        }
        let mut inner = self.inner.lock();
        if offset > self.log_start_offset() {
            self.log_start.store(offset, Ordering::Release);
            self.high_watermark.fetch_max(offset, Ordering::AcqRel);
            if inner.epochs.truncate_from_start(offset) {
                self.write_epochs(&mut inner)?;
            }
            let inner = &mut *inner;
            inner.cache.drop_before(offset);
        }
        Ok(())
    }

    /// DeleteRecords: everything below `offset` (the high watermark for -1) is gone. The new log start.
    pub fn delete_records(&self, offset: i64) -> Result<i64, LogError> {
        let high_watermark = self.high_watermark();
        let target = if offset == -1 { high_watermark } else { offset };
        if target < 0 || target > high_watermark {
            return Err(LogError::OffsetOutOfRange {
                offset,
                log_start_offset: self.log_start_offset(),
                log_end_offset: high_watermark,
            });
        }
        self.increment_log_start_offset(target)?;
        Ok(self.log_start_offset())
    }

    /// Drops everything from `offset` on.
    pub fn truncate_to(&self, offset: i64, now: Now) -> Result<(), LogError> {
        if offset >= self.log_end_offset() {
            // a leader that wrote nothing left its epoch here: the next leader does not know it
            let mut inner = self.inner.lock();
            if inner.epochs.truncate_from_end(self.log_end_offset()) {
                self.write_epochs(&mut inner)?;
            }
            return Ok(());
        }
        if offset < self.log_start_offset() {
            return self.truncate_fully_and_start_at(offset, now);
        }
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        self.home.load().clean_offsets.truncate(&self.topic_partition, offset)?;
        let config = self.config.load();
        let keep = inner.segments.partition_point(|s| s.base_offset <= offset).max(1);
        // the last one first: a crash in between leaves a shorter log, not one with a hole
        for dropped in inner.segments.drain(keep..).rev().collect::<Vec<_>>() {
            recovery::remove_segment(&*self.fs, &inner.dir, dropped.base_offset)?;
        }
        if inner.segments.first().is_some_and(|s| s.base_offset > offset) {
            drop(guard);
            return self.truncate_fully_and_start_at(offset, now);
        }
        if let Some(last) = inner.segments.last_mut() {
            last.truncate_to(&*self.fs, &inner.dir, offset, config.index_interval_bytes)?;
        }
        self.after_truncation(inner, offset, now)
    }

    /// Drops everything; the next record has `offset`.
    pub fn truncate_fully_and_start_at(&self, offset: i64, now: Now) -> Result<(), LogError> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        self.home.load().clean_offsets.truncate(&self.topic_partition, offset)?;
        for dropped in std::mem::take(&mut inner.segments).into_iter().rev() {
            recovery::remove_segment(&*self.fs, &inner.dir, dropped.base_offset)?;
        }
        let bytes = preallocated_bytes(&self.config.load());
        inner.segments.push(Segment::create(&*self.fs, &inner.dir, offset, now.wall_ms, bytes)?);
        inner.dir_dirty = true;
        inner.epochs.clear();
        self.log_start.store(offset, Ordering::Release);
        self.after_truncation(inner, offset, now)?;
        // never below where the log begins
        self.high_watermark.store(offset, Ordering::Release);
        inner.producers.on_high_watermark(offset);
        Ok(())
    }

    fn after_truncation(&self, inner: &mut Inner, end: i64, now: Now) -> Result<(), LogError> {
        inner.truncations += 1;
        inner.cache.clear();
        inner.epochs.truncate_from_end(end);
        self.write_epochs(inner)?;
        recovery::remove_snapshots_from(&*self.fs, &inner.dir, end)?;
        inner.producers =
            recovery::producer_state(&*self.fs, &inner.dir, &inner.segments, end, now, self.producer_expiration_ms())?;
        self.log_end.store(end, Ordering::Release);
        self.durable_end.fetch_min(end, Ordering::AcqRel);
        self.recovery_point.fetch_min(end, Ordering::AcqRel);
        let before = self.high_watermark.fetch_min(end, Ordering::AcqRel);
        inner.producers.on_high_watermark(before.min(end));
        (inner.active_dirty, inner.dir_dirty) = (true, true);
        self.submit(inner, CommitBy::Thread);
        Ok(())
    }

    /// Applies retention: by the log start, by age, by size. Files that are out of the log and may be removed after `file.delete.delay.ms`.
    pub fn delete_old_segments(&self, now: Now) -> Result<Vec<PathBuf>, LogError> {
        let config = self.config.load_full();
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let high_watermark = self.high_watermark();
        let mut excess = match config.retention_bytes {
            limit if limit >= 0 && config.cleanup_policy.delete => {
                inner.segments.iter().map(|s| s.size).sum::<u64>().checked_sub(limit.unsigned_abs())
            }
            _ => None,
        };
        let mut doomed = 0;
        let end = self.log_end_offset();
        for (i, s) in inner.segments.iter().enumerate() {
            let next = inner.segments.get(i + 1).map_or(end, |n| n.base_offset);
            let is_active = i + 1 == inner.segments.len();
            if next > high_watermark || (is_active && s.size == 0) {
                break;
            }
            let expired = config.cleanup_policy.delete
                && config.retention_ms >= 0
                && now.wall_ms - if s.max_timestamp >= 0 { s.max_timestamp } else { s.created_ms }
                    > config.retention_ms;
            let below_start = next <= self.log_start_offset() && !is_active;
            let too_much = excess.is_some_and(|excess| excess >= s.size);
            if !(expired || below_start || too_much) {
                break;
            }
            excess = excess.map(|excess| excess.saturating_sub(s.size));
            doomed = i + 1;
        }
        if doomed == 0 {
            return Ok(Vec::new());
        }
        if doomed == inner.segments.len() {
            self.roll(inner, end, now)?;
            inner.active_dirty = true;
            self.submit(inner, CommitBy::Thread);
        }
        let mut files = Vec::new();
        for s in inner.segments.drain(..doomed).collect::<Vec<_>>() {
            tracing::info!(partition = %self.topic_partition, base_offset = s.base_offset, bytes = s.size, "deleting a segment");
            files.extend(recovery::mark_deleted(&*self.fs, &inner.dir, s.base_offset)?);
        }
        let start = inner.segments.first().map_or(end, |s| s.base_offset);
        if start > self.log_start_offset() {
            self.log_start.store(start, Ordering::Release);
            inner.epochs.truncate_from_start(start);
            self.write_epochs(inner)?;
            inner.cache.drop_before(start);
        }
        Ok(files)
    }
}
