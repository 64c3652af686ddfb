//! Reading a log: by offset, from the tail cache or the files, and by timestamp.
//!
//! Holds the lock only to find what to read; the files are read without it.

use std::path::Path;

use milena_protocol::records::{BatchView, DecompressLimit};

use super::{Inner, ReadData, TimestampOffset, UnifiedLog};
use crate::error::LogError;
use crate::segment::SegmentReader;

impl UnifiedLog {
    /// Whole batches from `start_offset` on, below `upper_bound_offset`, at most `max_bytes` of them; with `min_one_batch` the first comes
    /// however large it is. From the tail cache if it is there, else from the file.
    pub fn read(
        &self,
        start_offset: i64,
        max_bytes: usize,
        upper_bound_offset: i64,
        min_one_batch: bool,
    ) -> Result<ReadData, LogError> {
        let (log_start, log_end) = (self.log_start_offset(), self.log_end_offset());
        let nothing = ReadData { records: Vec::new(), next_offset: start_offset };
        if start_offset < log_start || start_offset > log_end {
            return Err(LogError::OffsetOutOfRange {
                offset: start_offset,
                log_start_offset: log_start,
                log_end_offset: log_end,
            });
        }
        if start_offset >= upper_bound_offset.min(log_end) || (max_bytes == 0 && !min_one_batch) {
            return Ok(nothing);
        }
        let found = {
            let inner = self.inner.lock();
            self.find(&inner, start_offset, max_bytes, upper_bound_offset, min_one_batch)
        };
        read_found(found, start_offset, max_bytes, upper_bound_offset, min_one_batch)
    }

    /// As [`UnifiedLog::read`], for who holds the lock.
    pub(super) fn read_locked(
        &self,
        inner: &Inner,
        start_offset: i64,
        max_bytes: usize,
        upper_bound_offset: i64,
        min_one_batch: bool,
    ) -> Result<ReadData, LogError> {
        let found = self.find(inner, start_offset, max_bytes, upper_bound_offset, min_one_batch);
        read_found(found, start_offset, max_bytes, upper_bound_offset, min_one_batch)
    }

    fn find(&self, inner: &Inner, offset: i64, max_bytes: usize, upper_bound: i64, min_one: bool) -> Found {
        if let Some(data) = inner.cache.read(offset, max_bytes, upper_bound, min_one) {
            return Found::InMemory(data);
        }
        let first = inner.segments.partition_point(|s| s.base_offset <= offset).saturating_sub(1);
        // a compacted segment may end before the offset that is asked for: the next one has it then
        let near = inner.segments.iter().skip(first).filter(|s| s.size > 0).take(2);
        Found::OnDisk(near.map(|s| s.reader(&inner.dir, offset)).collect())
    }

    /// The first record whose timestamp is at least `timestamp`, if there is one.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, LogError> {
        let log_start = self.log_start_offset();
        let readers = {
            let inner = self.inner.lock();
            let readers: Vec<_> = inner
                .segments
                .iter()
                .filter(|s| s.max_timestamp >= timestamp)
                .map(|s| s.reader(&inner.dir, s.offset_before_timestamp(timestamp)))
                .collect();
            readers
        };
        for reader in readers {
            let mut found = None;
            let mut damaged = None;
            reader.walk(|batch, _| {
                if batch.last_offset() < log_start || batch.max_timestamp() < timestamp {
                    return true;
                }
                match first_record(batch, |ts, offset| ts >= timestamp && offset >= log_start) {
                    Ok(Some((timestamp, offset))) => {
                        found = Some(TimestampOffset {
                            timestamp,
                            offset,
                            leader_epoch: Some(batch.leader_epoch()).filter(|e| *e >= 0),
                        });
                        false
                    }
                    Ok(None) => true,
                    Err(e) => {
                        damaged = Some(e);
                        false
                    }
                }
            })?;
            if let Some(e) = damaged {
                return Err(e);
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Where each segment begins and when it was written last, as far as its records tell; for clients that know no offsets by time.
    pub fn segment_times(&self) -> Vec<(i64, i64)> {
        let start = self.log_start_offset();
        let inner = self.inner.lock();
        let time = |s: &crate::segment::Segment| if s.max_timestamp >= 0 { s.max_timestamp } else { s.created_ms };
        inner.segments.iter().map(|s| (s.base_offset.max(start), time(s))).collect()
    }

    /// The first record that has the largest timestamp, if there is any record.
    pub fn offset_for_max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        let max = self.inner.lock().segments.iter().map(|s| s.max_timestamp).max().filter(|t| *t >= 0);
        match max {
            Some(max) => self.offset_for_timestamp(max),
            None => Ok(None),
        }
    }
}

/// Where a read finds what it wants.
enum Found {
    InMemory(ReadData),
    OnDisk(Vec<SegmentReader>),
}

fn read_found(
    found: Found,
    offset: i64,
    max_bytes: usize,
    upper_bound: i64,
    min_one: bool,
) -> Result<ReadData, LogError> {
    let nothing = ReadData { records: Vec::new(), next_offset: offset };
    let readers = match found {
        Found::InMemory(data) => return Ok(data),
        Found::OnDisk(readers) => readers,
    };
    for reader in readers {
        match reader.read(offset, max_bytes, upper_bound, min_one)? {
            // too large for the caller: what follows must not come in its place
            Some(found) if found.records.is_empty() => return Ok(nothing),
            Some(found) => return Ok(ReadData { records: vec![found.records], next_offset: found.next_offset }),
            None => {}
        }
        if reader.base_offset >= upper_bound {
            break;
        }
    }
    Ok(nothing)
}

/// The first record of a batch that passes: its timestamp and offset.
fn first_record(batch: &BatchView, pass: impl Fn(i64, i64) -> bool) -> Result<Option<(i64, i64)>, LogError> {
    let records =
        batch.records(DecompressLimit::default()).map_err(|e| LogError::corrupt(Path::new("batch"), e.to_string()))?;
    for r in records {
        let r = r.map_err(|e| LogError::corrupt(Path::new("batch"), e.to_string()))?;
        if pass(r.timestamp, r.offset) {
            return Ok(Some((r.timestamp, r.offset)));
        }
    }
    Ok(None)
}
