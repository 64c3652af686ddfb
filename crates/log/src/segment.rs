//! One segment: a `.log` file, its indexes, and the walk over its batches. Called by `UnifiedLog` under its lock, and by recovery.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use milena_protocol::records::{BatchView, LOG_OVERHEAD, batches};

use crate::error::{At as _, LogError};
use crate::fs::{File, Fs};
use crate::index::{AbortedTransaction, OffsetEntry, TimeEntry, offset, time, txn};

/// Bytes read at once when a segment is walked.
const WALK_BYTES: usize = 4 << 20;
/// Bytes read at once when only batch headers are looked for.
const PROBE_BYTES: usize = 8 << 10;
/// What of a batch is needed to know its size, offsets and largest timestamp.
const PROBE_HEADER_BYTES: usize = 43;

/// The least and the most bytes that the active segment's file is longer than what was appended: see [`Segment::make_room`].
const MIN_AHEAD: u64 = 16 << 10;
const MAX_AHEAD: u64 = 4 << 20;
const PAGE_BYTES: u64 = 4096;

/// The name of a segment's file.
pub fn file_name(base_offset: i64, suffix: &str) -> String {
    format!("{base_offset:020}.{suffix}")
}

/// What the names of compaction's output end with.
pub const CLEANED_SUFFIX: &str = ".cleaned";
/// What they end with once it is decided that they take the place of their sources.
pub const SWAP_SUFFIX: &str = ".swap";

fn cleaned_name(base_offset: i64, suffix: &str) -> String {
    file_name(base_offset, suffix) + CLEANED_SUFFIX
}

/// The base offset in a segment file's name.
pub fn base_offset_of(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?.strip_suffix('.')?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

/// The few fields of a batch that lookups need; never validated beyond being readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub base_offset: i64,
    pub last_offset: i64,
    pub size: usize,
    pub max_timestamp: i64,
    pub leader_epoch: i32,
}

impl Probe {
    /// From the first bytes of a batch; none if they are too few or not a batch.
    pub fn parse(mut bytes: &[u8]) -> Option<Probe> {
        if bytes.len() < PROBE_HEADER_BYTES {
            return None;
        }
        let base_offset = bytes.get_i64();
        let length = usize::try_from(bytes.get_i32()).ok()?;
        let size = length.checked_add(LOG_OVERHEAD)?;
        let leader_epoch = bytes.get_i32();
        let magic = bytes.get_i8();
        if magic < 2 {
            // magic 0 and 1: the offset is the last one; the timestamp of magic 1 follows crc, magic and attributes
            bytes.advance(1);
            let timestamp = if magic == 1 { bytes.get_i64() } else { -1 };
            return Some(Probe {
                base_offset,
                last_offset: base_offset,
                size,
                max_timestamp: timestamp,
                leader_epoch: -1,
            });
        }
        bytes.advance(4 + 2);
        let last_offset = base_offset.checked_add(i64::from(bytes.get_i32()))?;
        bytes.advance(8);
        Some(Probe { base_offset, last_offset, size, max_timestamp: bytes.get_i64(), leader_epoch })
    }
}

enum Index {
    /// In memory; no file yet.
    Active { offsets: Vec<OffsetEntry>, times: Vec<TimeEntry>, bytes_since_entry: u64 },
    /// In the file.
    Closed { offsets: Arc<dyn File>, times: Arc<dyn File> },
}

/// Where to look for an offset, without the log's lock.
#[derive(Clone)]
pub(crate) struct SegmentReader {
    pub base_offset: i64,
    pub file: Arc<dyn File>,
    pub size: u64,
    path: PathBuf,
    start: Start,
}

#[derive(Clone)]
enum Start {
    At(u32),
    Lookup(Arc<dyn File>, u32),
}

/// One segment.
pub(crate) struct Segment {
    pub base_offset: i64,
    pub file: Arc<dyn File>,
    pub size: u64,
    /// The length of the file: more than the size while there is room for the next appends.
    file_len: u64,
    /// The largest timestamp, in milliseconds, and an offset at or after the record that has it; -1 without any.
    pub max_timestamp: i64,
    pub offset_of_max_timestamp: i64,
    /// The largest timestamp of its first batch: rolling by time counts from it.
    pub first_timestamp: Option<i64>,
    pub created_ms: i64,
    pub aborted: Vec<AbortedTransaction>,
    /// How many of them are in the file.
    aborted_saved: usize,
    index: Index,
}

impl Segment {
    /// A new, empty, active segment, whose file gets `preallocated_bytes` at once.
    pub fn create(
        fs: &dyn Fs,
        dir: &Path,
        base_offset: i64,
        now_ms: i64,
        preallocated_bytes: u64,
    ) -> Result<Segment, LogError> {
        let path = dir.join(file_name(base_offset, "log"));
        let file = fs.open(&path, true).at(&path)?;
        file.set_len(0).at(&path)?;
        let mut segment = Segment::over(file, base_offset, 0, now_ms);
        if preallocated_bytes > 0 {
            segment.file.allocate(preallocated_bytes).at(&path)?;
            segment.file_len = preallocated_bytes;
        }
        Ok(segment)
    }

    /// A segment that is on disk and complete, with its indexes if they are whole; else they are made anew. The active one keeps them in memory.
    pub fn open(
        fs: &dyn Fs,
        dir: &Path,
        base_offset: i64,
        active: bool,
        interval_bytes: i32,
        now_ms: i64,
    ) -> Result<Segment, LogError> {
        let path = dir.join(file_name(base_offset, "log"));
        let mut segment = Segment::create_over(fs, &path, base_offset, now_ms)?;
        segment.load_aborted(fs, dir);
        if let Some((offsets, times)) = segment.load_indexes(fs, dir) {
            if let Some(last) = times.last() {
                segment.max_timestamp = last.timestamp;
                segment.offset_of_max_timestamp = base_offset + i64::from(last.relative_offset);
            }
            segment.first_timestamp = segment
                .file
                .read_at(PROBE_HEADER_BYTES, 0)
                .ok()
                .and_then(|b| Probe::parse(&b))
                .map(|p| p.max_timestamp);
            let from = offsets.last().map_or(0, |e| e.position);
            segment.index = Index::Active { offsets, times, bytes_since_entry: segment.size - u64::from(from) };
            if !active {
                let closed = |suffix| -> Result<Arc<dyn File>, LogError> {
                    let path = dir.join(file_name(base_offset, suffix));
                    fs.open(&path, false).at(&path)
                };
                segment.index = Index::Closed { offsets: closed("index")?, times: closed("timeindex")? };
            }
        } else {
            segment.rebuild_indexes(&path, interval_bytes)?;
        }
        if !active {
            segment.close(fs, dir)?;
        }
        Ok(segment)
    }

    fn create_over(fs: &dyn Fs, path: &Path, base_offset: i64, now_ms: i64) -> Result<Segment, LogError> {
        let file = fs.open(path, false).at(path)?;
        let size = file.len().at(path)?;
        Ok(Segment::over(file, base_offset, size, now_ms))
    }

    fn over(file: Arc<dyn File>, base_offset: i64, size: u64, created_ms: i64) -> Segment {
        Segment {
            base_offset,
            file,
            size,
            file_len: size,
            max_timestamp: -1,
            offset_of_max_timestamp: -1,
            first_timestamp: None,
            created_ms,
            aborted: Vec::new(),
            aborted_saved: 0,
            index: Index::Active { offsets: Vec::new(), times: Vec::new(), bytes_since_entry: 0 },
        }
    }

    fn load_aborted(&mut self, fs: &dyn Fs, dir: &Path) {
        let path = dir.join(file_name(self.base_offset, "txnindex"));
        if fs.exists(&path) {
            self.aborted = fs.read(&path).ok().and_then(txn::decode).unwrap_or_default();
            self.aborted_saved = self.aborted.len();
        }
    }

    fn load_indexes(&self, fs: &dyn Fs, dir: &Path) -> Option<(Vec<OffsetEntry>, Vec<TimeEntry>)> {
        let (index, times) =
            (dir.join(file_name(self.base_offset, "index")), dir.join(file_name(self.base_offset, "timeindex")));
        if !fs.exists(&index) || !fs.exists(&times) {
            return None;
        }
        let offsets = offset::decode(fs.read(&index).ok()?, self.size)?;
        let times = time::decode(fs.read(&times).ok()?)?;
        // an index that Kafka had no time to write cannot tell the largest timestamp
        (self.size == 0 || !times.is_empty()).then_some((offsets, times))
    }

    /// Makes the indexes again from the batches, which are trusted.
    fn rebuild_indexes(&mut self, path: &Path, interval_bytes: i32) -> Result<(), LogError> {
        let mut position = 0u64;
        let mut found = Vec::new();
        while let Some(probe) = probe_at(&*self.file, position, self.size).at(path)? {
            found.push((probe, position));
            position += probe.size as u64;
        }
        self.reset_indexes();
        for (probe, at) in found {
            self.note(&probe, at, interval_bytes);
        }
        Ok(())
    }

    fn reset_indexes(&mut self) {
        self.index = Index::Active { offsets: Vec::new(), times: Vec::new(), bytes_since_entry: 0 };
        (self.max_timestamp, self.offset_of_max_timestamp, self.first_timestamp) = (-1, -1, None);
    }

    /// Appends one or more batches that `probe` describes as one; a failed write leaves the segment as it was, or says that it could not.
    pub fn append(
        &mut self,
        chunks: &[&[u8]],
        probe: &Probe,
        interval_bytes: i32,
        path: &Path,
    ) -> Result<(), AppendFailed> {
        self.make_room(probe.size as u64);
        if let Err(e) = self.file.write_at(chunks, self.size) {
            let restored = self.file.set_len(self.size).is_ok();
            self.file_len = self.size;
            return Err(AppendFailed { error: LogError::storage(path, e), restored });
        }
        let position = self.size;
        self.size += probe.size as u64;
        self.file_len = self.file_len.max(self.size);
        self.note(probe, position, interval_bytes);
        Ok(())
    }

    /// Makes the file longer than the next append needs, so that most appends change no more than its data: their sync then waits for one
    /// write, not also for the journal of the file system. What is ahead is zeros, which no reader of the format takes for a batch, and goes
    /// when the segment is closed or nobody appended for a while. Without room on the disk there is none ahead.
    fn make_room(&mut self, bytes: u64) {
        let end = self.size + bytes;
        if end > self.file_len {
            let len = (end + (end / 4).clamp(MIN_AHEAD, MAX_AHEAD)).next_multiple_of(PAGE_BYTES);
            if self.file.allocate(len).is_ok() {
                self.file_len = len;
            }
        }
    }

    /// Gives the room behind the last batch back to the disk.
    pub fn trim(&mut self) -> std::io::Result<()> {
        if self.file_len > self.size {
            self.file.set_len(self.size)?;
            self.file_len = self.size;
        }
        Ok(())
    }

    /// Enters a batch into the indexes.
    fn note(&mut self, probe: &Probe, position: u64, interval_bytes: i32) {
        if self.first_timestamp.is_none() {
            self.first_timestamp = Some(probe.max_timestamp);
        }
        if probe.max_timestamp > self.max_timestamp {
            self.max_timestamp = probe.max_timestamp;
            self.offset_of_max_timestamp = probe.last_offset;
        }
        let (base, max_timestamp, at_max) = (self.base_offset, self.max_timestamp, self.offset_of_max_timestamp);
        let Index::Active { offsets, times, bytes_since_entry } = &mut self.index else { return };
        if *bytes_since_entry > u64::from(interval_bytes.unsigned_abs()) {
            if let (Ok(relative_offset), Ok(position)) =
                (u32::try_from(probe.last_offset - base), u32::try_from(position))
            {
                offsets.push(OffsetEntry { relative_offset, position });
            }
            push_time(times, max_timestamp, at_max - base);
            *bytes_since_entry = 0;
        }
        *bytes_since_entry += probe.size as u64;
    }

    /// Bytes of the larger index.
    pub fn index_bytes(&self) -> usize {
        match &self.index {
            Index::Active { offsets, times, .. } => {
                (offsets.len() * offset::ENTRY_BYTES).max(times.len() * time::ENTRY_BYTES)
            }
            Index::Closed { .. } => 0,
        }
    }

    /// Writes the indexes; the files to sync. Nothing is appended after this.
    pub fn close(&mut self, fs: &dyn Fs, dir: &Path) -> Result<Vec<Arc<dyn File>>, LogError> {
        self.close_as(fs, dir, "")
    }

    fn close_as(&mut self, fs: &dyn Fs, dir: &Path, suffix_of_name: &str) -> Result<Vec<Arc<dyn File>>, LogError> {
        if suffix_of_name.is_empty() {
            self.save_aborted(fs, dir)?;
        }
        self.trim().at(dir)?;
        let Index::Active { offsets, times, .. } = &mut self.index else { return Ok(Vec::new()) };
        push_time(times, self.max_timestamp, self.offset_of_max_timestamp - self.base_offset);
        let write = |suffix: &str, content: &[u8]| -> Result<Arc<dyn File>, LogError> {
            let path = dir.join(file_name(self.base_offset, suffix) + suffix_of_name);
            let file = fs.open(&path, true).at(&path)?;
            file.set_len(0).at(&path)?;
            file.write_at(&[content], 0).at(&path)?;
            Ok(file)
        };
        let index = write("index", &offset::encode(offsets))?;
        let times = write("timeindex", &time::encode(times))?;
        self.index = Index::Closed { offsets: Arc::clone(&index), times: Arc::clone(&times) };
        let mut files = vec![index, times];
        if !self.aborted.is_empty() && suffix_of_name.is_empty() {
            // once the recovery point has passed the segment nobody makes it again
            let path = dir.join(file_name(self.base_offset, "txnindex"));
            files.push(fs.open(&path, true).at(&path)?);
        }
        Ok(files)
    }

    /// Notes an aborted transaction, in memory and in the file. If the file cannot be written (its marker is in the log already), that is made up for
    /// by the next one, or when the segment is closed.
    pub fn add_aborted(&mut self, fs: &dyn Fs, dir: &Path, aborted: AbortedTransaction) {
        self.aborted.push(aborted);
        if let Err(error) = self.save_aborted(fs, dir) {
            tracing::warn!(%error, "the transaction index will be written later");
        }
    }

    /// Writes the entries that are not in the file.
    fn save_aborted(&mut self, fs: &dyn Fs, dir: &Path) -> Result<(), LogError> {
        let unsaved = self.aborted.get(self.aborted_saved..).unwrap_or_default();
        if !unsaved.is_empty() {
            let path = dir.join(file_name(self.base_offset, "txnindex"));
            let file = fs.open(&path, true).at(&path)?;
            file.write_at(&[&txn::encode(unsaved)], (self.aborted_saved * txn::ENTRY_BYTES) as u64).at(&path)?;
            self.aborted_saved = self.aborted.len();
        }
        Ok(())
    }

    /// For a read without the log's lock: near `offset`.
    pub fn reader(&self, dir: &Path, offset: i64) -> SegmentReader {
        let relative = u32::try_from((offset - self.base_offset).max(0)).unwrap_or(u32::MAX);
        let start = match &self.index {
            Index::Active { offsets, .. } => Start::At(offset::floor(offsets, relative)),
            Index::Closed { offsets, .. } => Start::Lookup(Arc::clone(offsets), relative),
        };
        SegmentReader {
            base_offset: self.base_offset,
            file: Arc::clone(&self.file),
            size: self.size,
            path: dir.join(file_name(self.base_offset, "log")),
            start,
        }
    }

    /// The offset from which on a record of at least `timestamp` may stand.
    pub fn offset_before_timestamp(&self, timestamp: i64) -> i64 {
        let relative = match &self.index {
            Index::Active { times, .. } => time::floor(times, timestamp),
            Index::Closed { times, .. } => {
                let entries = times
                    .len()
                    .and_then(|n| times.read_at(usize::try_from(n).unwrap_or(0), 0))
                    .ok()
                    .and_then(time::decode);
                entries.map_or(0, |e| time::floor(&e, timestamp))
            }
        };
        self.base_offset + i64::from(relative)
    }

    /// The offset after its last batch.
    pub fn next_offset(&self, dir: &Path) -> Result<i64, LogError> {
        let reader = self.reader(dir, i64::MAX);
        let mut position = reader.start_position()?;
        let mut next = self.base_offset;
        while let Some(probe) = probe_at(&*self.file, position, self.size).at(&reader.path)? {
            next = probe.last_offset.saturating_add(1);
            position += probe.size as u64;
        }
        Ok(next)
    }

    /// Checks every batch, cuts the segment before the first bad one, and makes the indexes again. Bytes that were cut.
    pub fn recover(&mut self, dir: &Path, interval_bytes: i32) -> Result<u64, LogError> {
        let path = dir.join(file_name(self.base_offset, "log"));
        self.reset_indexes();
        self.aborted.clear();
        self.aborted_saved = 0;
        let mut last_offset = self.base_offset - 1;
        let mut found = Vec::new();
        let valid = self.walk(&path, 0, |batch, position| {
            let follows = batch.base_offset() > last_offset && batch.last_offset() >= batch.base_offset();
            // an index cannot hold more, so the segment would have been rolled
            let near = batch.last_offset().saturating_sub(self.base_offset) <= i64::from(i32::MAX);
            if !batch.crc_valid() || !follows || !near {
                return false;
            }
            last_offset = batch.last_offset();
            if let Some(probe) = Probe::parse(batch.bytes()) {
                found.push((probe, position));
            }
            true
        })?;
        for (probe, position) in found {
            self.note(&probe, position, interval_bytes);
        }
        let cut = self.size - valid;
        if cut > 0 {
            let next = self.file.read_at(LOG_OVERHEAD, valid).at(&path)?;
            if next.iter().any(|byte| *byte != 0) {
                tracing::warn!(file = %path.display(), valid_bytes = valid, cut_bytes = cut, "truncating a segment at the first bad batch");
            } else {
                tracing::debug!(file = %path.display(), bytes = cut, "cutting off the room that was ahead of the log");
            }
            self.file.set_len(valid).at(&path)?;
            (self.size, self.file_len) = (valid, valid);
        }
        Ok(cut)
    }

    /// Keeps only batches that end before `offset`; indexes are in memory after that.
    pub fn truncate_to(&mut self, fs: &dyn Fs, dir: &Path, offset: i64, interval_bytes: i32) -> Result<(), LogError> {
        let path = dir.join(file_name(self.base_offset, "log"));
        let mut position = 0;
        while let Some(probe) = probe_at(&*self.file, position, self.size).at(&path)? {
            if probe.last_offset >= offset {
                break;
            }
            position += probe.size as u64;
        }
        self.file.set_len(position).at(&path)?;
        (self.size, self.file_len) = (position, position);
        let known = self.aborted.len();
        self.aborted.retain(|a| a.last_offset < offset);
        if self.aborted.len() < known {
            let path = dir.join(file_name(self.base_offset, "txnindex"));
            let file = fs.open(&path, true).at(&path)?;
            self.aborted_saved = self.aborted_saved.min(self.aborted.len());
            file.set_len((self.aborted_saved * txn::ENTRY_BYTES) as u64).at(&path)?;
        }
        self.rebuild_indexes(&path, interval_bytes)
    }

    /// Calls `visit` with each whole batch from a position on until it says no; where it stopped.
    pub fn walk(&self, path: &Path, from: u64, visit: impl FnMut(&BatchView, u64) -> bool) -> Result<u64, LogError> {
        walk(&*self.file, path, from, self.size, WALK_BYTES, visit)
    }

    /// A new segment beside the log's own, for compaction: its files bear `.cleaned` behind their names until they are renamed.
    pub fn create_cleaned(fs: &dyn Fs, dir: &Path, base_offset: i64, created_ms: i64) -> Result<Segment, LogError> {
        Segment::remove_cleaned(fs, dir, base_offset)?;
        let path = dir.join(cleaned_name(base_offset, "log"));
        let file = fs.open(&path, true).at(&path)?;
        Ok(Segment::over(file, base_offset, 0, created_ms))
    }

    /// Removes the files of a segment of [`Segment::create_cleaned`].
    pub fn remove_cleaned(fs: &dyn Fs, dir: &Path, base_offset: i64) -> Result<(), LogError> {
        for suffix in ["log", "index", "timeindex", "txnindex"] {
            let path = dir.join(cleaned_name(base_offset, suffix));
            if fs.exists(&path) {
                fs.remove_file(&path).at(&path)?;
            }
        }
        Ok(())
    }

    /// Appends several batches with one write.
    pub fn append_all(
        &mut self,
        bytes: &[u8],
        probes: &[Probe],
        interval_bytes: i32,
        path: &Path,
    ) -> Result<(), LogError> {
        self.file.write_at(&[bytes], self.size).at(path)?;
        for probe in probes {
            let position = self.size;
            self.size += probe.size as u64;
            self.note(probe, position, interval_bytes);
        }
        self.file_len = self.file_len.max(self.size);
        Ok(())
    }

    /// Completes a segment of [`Segment::create_cleaned`]: indexes and transaction index are written, everything is synced.
    pub fn finish_cleaned(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        aborted: Vec<AbortedTransaction>,
        modified_ms: i64,
    ) -> Result<(), LogError> {
        let mut files = self.close_as(fs, dir, CLEANED_SUFFIX)?;
        if !aborted.is_empty() {
            let path = dir.join(cleaned_name(self.base_offset, "txnindex"));
            let file = fs.open(&path, true).at(&path)?;
            file.write_at(&[&txn::encode(&aborted)], 0).at(&path)?;
            files.push(file);
        }
        self.aborted_saved = aborted.len();
        self.aborted = aborted;
        self.file.set_modified_ms(modified_ms).at(dir)?;
        files.push(Arc::clone(&self.file));
        for file in files {
            file.sync_data().at(dir)?;
        }
        Ok(())
    }

    /// Bytes of the offset and the time index.
    pub fn index_sizes(&self) -> (u64, u64) {
        match &self.index {
            Index::Active { offsets, times, .. } => {
                ((offsets.len() * offset::ENTRY_BYTES) as u64, (times.len() * time::ENTRY_BYTES) as u64)
            }
            Index::Closed { offsets, times } => (offsets.len().unwrap_or(0), times.len().unwrap_or(0)),
        }
    }
}

/// The offset after the last batch of a segment's file, walked from its start.
pub(crate) fn next_offset_of_file(fs: &dyn Fs, path: &Path, base_offset: i64) -> Result<i64, LogError> {
    let file = fs.open(path, false).at(path)?;
    let end = file.len().at(path)?;
    let (mut position, mut next) = (0, base_offset);
    while let Some(probe) = probe_at(&*file, position, end).at(path)? {
        next = probe.last_offset.saturating_add(1);
        position += probe.size as u64;
    }
    Ok(next)
}

/// A write that failed, and whether the segment is as it was before it.
pub(crate) struct AppendFailed {
    pub error: LogError,
    pub restored: bool,
}

fn push_time(times: &mut Vec<TimeEntry>, timestamp: i64, relative_offset: i64) {
    if timestamp < 0 || times.last().is_some_and(|l| l.timestamp >= timestamp) {
        return;
    }
    if let Ok(relative_offset) = u32::try_from(relative_offset) {
        times.push(TimeEntry { timestamp, relative_offset });
    }
}

fn probe_at(file: &dyn File, position: u64, end: u64) -> std::io::Result<Option<Probe>> {
    if position + PROBE_HEADER_BYTES as u64 > end {
        return Ok(None);
    }
    let bytes = file.read_at(PROBE_HEADER_BYTES, position)?;
    Ok(Probe::parse(&bytes).filter(|p| position + p.size as u64 <= end))
}

/// Calls `visit` with each whole batch from a position on until it says no, reading `chunk_bytes` at once; where it stopped.
pub(crate) fn walk(
    file: &dyn File,
    path: &Path,
    from: u64,
    end: u64,
    chunk_bytes: usize,
    mut visit: impl FnMut(&BatchView, u64) -> bool,
) -> Result<u64, LogError> {
    let mut position = from;
    let mut want = chunk_bytes;
    while position < end {
        let len = usize::try_from(end - position).unwrap_or(usize::MAX).min(want);
        let chunk = file.read_at(len, position).at(path)?;
        let mut walk = batches(chunk.clone());
        let mut before = 0;
        while let Some(batch) = walk.next() {
            let Ok(batch) = batch else { return Ok(position + before as u64) };
            if !visit(&batch, position + before as u64) {
                return Ok(position + before as u64);
            }
            before = walk.position();
        }
        if before == 0 {
            // a batch larger than the chunk, or the torn end
            match Probe::parse(&chunk) {
                Some(p) if p.size > len && position + p.size as u64 <= end => want = p.size,
                _ => return Ok(position),
            }
        } else {
            position += before as u64;
            want = chunk_bytes;
        }
    }
    Ok(position)
}

/// Batches read from a segment: a slice of one read.
pub(crate) struct Found {
    pub records: Bytes,
    pub next_offset: i64,
}

impl SegmentReader {
    fn start_position(&self) -> Result<u64, LogError> {
        Ok(u64::from(match &self.start {
            Start::At(position) => *position,
            Start::Lookup(index, relative) => offset::floor_in_file(&**index, *relative).at(&self.path)?,
        }))
    }

    /// Whole batches from the one that holds `offset` (or the next one) up to `upper_bound`, at most `max_bytes`; with `min_one` the first
    /// batch comes however large it is. None if no batch here holds the offset or follows it: then the next segment may.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        upper_bound: i64,
        min_one: bool,
    ) -> Result<Option<Found>, LogError> {
        let mut position = self.start_position()?;
        let mut len = max_bytes.saturating_add(PROBE_BYTES);
        loop {
            let room = usize::try_from(self.size - position.min(self.size)).unwrap_or(usize::MAX);
            let bytes = self.file.read_at(len.min(room), position).at(&self.path)?;
            let mut at = 0;
            let mut first: Option<usize> = None;
            let mut end = 0;
            let mut next_offset = offset;
            let mut again = None;
            while let Some(probe) = Probe::parse(bytes.get(at..).unwrap_or_default()) {
                let next = at.saturating_add(probe.size);
                if probe.last_offset < offset {
                    at = next;
                    continue;
                }
                if probe.last_offset >= upper_bound {
                    break;
                }
                let start = *first.get_or_insert(at);
                if next - start > max_bytes && !(min_one && end == 0) {
                    break;
                }
                if next > bytes.len() {
                    // the first batch is longer than what was read
                    if end == 0 && room > bytes.len() {
                        again = Some((at, probe.size.max(max_bytes)));
                    }
                    break;
                }
                end = next;
                at = next;
                next_offset = probe.last_offset + 1;
            }
            if let Some((skip, want)) = again {
                position += skip as u64;
                len = want;
                continue;
            }
            match first {
                Some(start) if end > start => return Ok(Some(Found { records: bytes.slice(start..end), next_offset })),
                Some(_) => return Ok(Some(Found { records: Bytes::new(), next_offset: offset })),
                // everything read lay before the offset: go on after it
                None if at > 0 && at < room && bytes.len() < room => {
                    position += at as u64;
                    len = max_bytes.saturating_add(PROBE_BYTES);
                }
                None => return Ok(None),
            }
        }
    }

    /// Calls `visit` with each whole batch from near the offset on.
    pub fn walk(&self, visit: impl FnMut(&BatchView, u64) -> bool) -> Result<u64, LogError> {
        walk(&*self.file, &self.path, self.start_position()?, self.size, WALK_BYTES, visit)
    }
}
