//! One round of cleaning of one log: the dirty part is read into an offset map, then everything up to its end is copied without what the map
//! supersedes, a few segments into one.
//!
//! Works on a view of the log and its own files; the log changes only where [`UnifiedLog::replace_segments`] says so.

use std::path::PathBuf;

use milena_common::Now;
use milena_common::config::topic::TopicConfig;
use milena_protocol::records::{BatchView, DecompressLimit};

use super::filter::{Filter, Kept};
use super::offset_map::{OffsetMap, SLOT_BYTES};
use super::transactions::CleanedTransactions;
use crate::error::LogError;
use crate::segment::{Probe, Segment, file_name, walk};
use crate::unified_log::{CleanView, Source, UnifiedLog};

/// What a round may use.
pub(crate) struct Means<'a> {
    /// Bytes of the offset map.
    pub map_bytes: usize,
    pub load_factor: f64,
    /// Bytes read at once; as many are gathered before they are written.
    pub io_bytes: usize,
    /// Told of bytes that were read or written; waits if that is too fast. False: stop.
    pub pace: &'a (dyn Fn(usize) -> bool + Sync),
}

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanedRound {
    /// The first dirty offset before and after it.
    pub first_dirty: i64,
    pub end: i64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub records_read: u64,
    pub records_kept: u64,
    pub records_without_key: u64,
    /// How full the offset map became.
    pub map_percent: i64,
}

/// Why a round ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The log changed, or it is time to end.
    Abandoned,
    Failed(LogError),
}

impl From<LogError> for Stopped {
    fn from(error: LogError) -> Self {
        Stopped::Failed(error)
    }
}

/// Cleans `first_dirty..bound`, as far as the map reaches; `doomed` gets the files that may be removed, also if it fails later.
pub(crate) fn clean(
    log: &UnifiedLog,
    view: &CleanView,
    (first_dirty, bound): (i64, i64),
    means: &Means,
    now: Now,
    doomed: &mut Vec<PathBuf>,
) -> Result<CleanedRound, Stopped> {
    let config = log.config();
    let mut round = CleanedRound { first_dirty, ..CleanedRound::default() };
    let map = fill_map(view, first_dirty, bound, means, &mut round)?;
    round.end = map.latest_offset() + 1;
    round.map_percent = map.utilization_percent();
    if round.end <= first_dirty {
        return Err(LogError::corrupt(&view.dir, "log.cleaner.dedupe.buffer.size has no room for a single key").into());
    }
    let before_dirty = view.sources.iter().take_while(|s| s.base_offset < first_dirty).last();
    let legacy_horizon = before_dirty.map_or(0, |s| s.modified_ms().saturating_sub(config.delete_retention_ms));
    let last_records = log.last_records();
    let mut transactions = CleanedTransactions::default();
    let mut filter = Filter {
        map: &map,
        last_records: &last_records,
        round_end: round.end,
        now_ms: now.wall_ms,
        delete_retention_ms: config.delete_retention_ms,
        keep_legacy_tombstones: true,
        records_read: 0,
        records_kept: 0,
        records_without_key: 0,
    };
    let count = view.sources.partition_point(|s| s.base_offset < round.end);
    let mut at = 0;
    while at < count {
        let len = group_len(view, at, count, &config);
        let group = view.sources.get(at..at + len).unwrap_or_default();
        let copy = Copy { log, view, means, config: &config, legacy_horizon };
        doomed.extend(copy.group(at, group, &mut filter, &mut transactions, &mut round)?);
        at += len.max(1);
    }
    (round.records_read, round.records_kept) = (filter.records_read, filter.records_kept);
    round.records_without_key = filter.records_without_key;
    Ok(round)
}

fn fill_map(
    view: &CleanView,
    start: i64,
    bound: i64,
    means: &Means,
    round: &mut CleanedRound,
) -> Result<OffsetMap, Stopped> {
    // there cannot be more keys than offsets
    let most = usize::try_from(bound.saturating_sub(start)).unwrap_or(usize::MAX);
    let wanted = (most as f64 / means.load_factor.clamp(0.01, 1.0)) as usize;
    let mut map = OffsetMap::new((means.map_bytes / SLOT_BYTES).min(wanted.saturating_add(2)), means.load_factor);
    let mut transactions = CleanedTransactions::default();
    transactions.expect(view.aborted(start, bound));
    for (i, source) in view.sources.iter().enumerate() {
        if view.end_of(i) <= start || source.base_offset >= bound {
            continue;
        }
        let mut full = false;
        read(view, source, means, round, |batch| {
            full = !enter(&mut map, &mut transactions, batch, start)?;
            Ok(!full)
        })?;
        if full {
            break;
        }
        // offsets may be missing at its end
        map.advance_to(view.end_of(i) - 1);
    }
    Ok(map)
}

/// Enters a batch's records; false if there is no room for one.
fn enter(
    map: &mut OffsetMap,
    transactions: &mut CleanedTransactions,
    batch: &BatchView,
    start: i64,
) -> Result<bool, milena_protocol::records::RecordsError> {
    batch.ensure_crc()?;
    if batch.is_control() {
        transactions.on_control(batch)?;
    } else if !transactions.on_data(batch) && batch.last_offset() >= start {
        for record in batch.records(DecompressLimit::default())? {
            let record = record?;
            if let Some(key) = record.key.filter(|_| record.offset >= start)
                && !map.put(&key, record.offset)
            {
                return Ok(false);
            }
        }
    }
    if batch.last_offset() >= start {
        map.advance_to(batch.last_offset());
    }
    Ok(true)
}

/// Walks a source; it must be whole.
fn read(
    view: &CleanView,
    source: &Source,
    means: &Means,
    round: &mut CleanedRound,
    mut visit: impl FnMut(&BatchView) -> Result<bool, milena_protocol::records::RecordsError>,
) -> Result<(), Stopped> {
    let path = view.dir.join(file_name(source.base_offset, "log"));
    let mut stopped = None;
    let mut ended = false;
    let reached = walk(&*source.file, &path, 0, source.size, means.io_bytes, |batch, _| {
        round.bytes_read += batch.size_in_bytes() as u64;
        if !(means.pace)(batch.size_in_bytes()) {
            stopped = Some(Stopped::Abandoned);
            return false;
        }
        match visit(batch) {
            Ok(more) => ended = !more,
            Err(e) => {
                let at = batch.base_offset();
                stopped = Some(LogError::corrupt(&path, format!("the batch at offset {at}: {e}")).into());
            }
        }
        !ended && stopped.is_none()
    })?;
    match stopped {
        Some(stopped) => Err(stopped),
        None if !ended && reached < source.size => {
            Err(LogError::corrupt(&path, format!("no whole batch at position {reached}")).into())
        }
        None => Ok(()),
    }
}

/// How many segments from `at` on become one: as many as fit by their sizes, and by the offsets that an index can say.
fn group_len(view: &CleanView, at: usize, count: usize, config: &TopicConfig) -> usize {
    let Some(first) = view.sources.get(at) else { return 0 };
    let max_bytes = u64::from(config.segment_bytes.unsigned_abs());
    let max_index = u64::from(config.segment_index_bytes.unsigned_abs());
    let (mut size, mut indexes) = (first.size, first.index_sizes);
    let mut len = 1;
    while at + len < count {
        let Some(next) = view.sources.get(at + len) else { break };
        size += next.size;
        indexes = (indexes.0 + next.index_sizes.0, indexes.1 + next.index_sizes.1);
        let far = view.end_of(at + len) - 1 - first.base_offset > i64::from(i32::MAX);
        if size > max_bytes || indexes.0 > max_index || indexes.1 > max_index || far {
            break;
        }
        len += 1;
    }
    len
}

struct Copy<'a> {
    log: &'a UnifiedLog,
    view: &'a CleanView,
    means: &'a Means<'a>,
    config: &'a TopicConfig,
    legacy_horizon: i64,
}

impl Copy<'_> {
    /// Writes the cleaned successor of a group and puts it in its place; the files that may be removed.
    fn group(
        &self,
        at: usize,
        group: &[Source],
        filter: &mut Filter,
        transactions: &mut CleanedTransactions,
        round: &mut CleanedRound,
    ) -> Result<Vec<PathBuf>, Stopped> {
        let Some(base_offset) = group.first().map(|s| s.base_offset) else { return Ok(Vec::new()) };
        let forget = || Segment::remove_cleaned(self.log.file_system(), &self.view.dir, base_offset);
        let cleaned = self.write_group(at, group, filter, transactions, round).inspect_err(|_| {
            // no space, or no directory any more: what is left is removed at the next start
            let _ = forget();
        })?;
        match self.log.replace_segments(self.view, group, cleaned)? {
            Some(doomed) => Ok(doomed),
            None => {
                let _ = forget();
                Err(Stopped::Abandoned)
            }
        }
    }

    fn write_group(
        &self,
        at: usize,
        group: &[Source],
        filter: &mut Filter,
        transactions: &mut CleanedTransactions,
        round: &mut CleanedRound,
    ) -> Result<Segment, Stopped> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Err(Stopped::Abandoned) };
        let fs = self.log.file_system();
        let path = self.view.dir.join(file_name(first.base_offset, "log"));
        let mut cleaned = Segment::create_cleaned(fs, &self.view.dir, first.base_offset, last.created_ms)?;
        for (i, source) in group.iter().enumerate() {
            transactions.expect(self.view.aborted(source.base_offset, self.view.end_of(at + i)));
            filter.keep_legacy_tombstones = source.modified_ms() > self.legacy_horizon;
            let mut out = Pending::default();
            let mut failed = None;
            read(self.view, source, self.means, round, |batch| {
                match filter.apply(batch, transactions)? {
                    Kept::Whole => out.push(batch.bytes()),
                    Kept::Rewritten(bytes) => out.push(&bytes),
                    Kept::Nothing => {}
                }
                if out.bytes.len() >= self.means.io_bytes {
                    failed = self.write(&mut cleaned, &mut out, &path).err();
                }
                Ok(failed.is_none())
            })?;
            failed.map_or(Ok(()), Err)?;
            self.write(&mut cleaned, &mut out, &path)?;
        }
        round.bytes_written += cleaned.size;
        cleaned.finish_cleaned(fs, &self.view.dir, transactions.take_index(), last.modified_ms())?;
        Ok(cleaned)
    }

    fn write(&self, cleaned: &mut Segment, out: &mut Pending, path: &std::path::Path) -> Result<(), Stopped> {
        if out.bytes.is_empty() {
            return Ok(());
        }
        if !(self.means.pace)(out.bytes.len()) {
            return Err(Stopped::Abandoned);
        }
        cleaned.append_all(&out.bytes, &out.probes, self.config.index_interval_bytes, path)?;
        out.bytes.clear();
        out.probes.clear();
        Ok(())
    }
}

/// Batches that are written together.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    probes: Vec<Probe>,
}

impl Pending {
    fn push(&mut self, batch: &[u8]) {
        // a rewritten set of uncompressed magic 0 or 1 is one message each, so that a probe describes all of it
        if let Some(probe) = Probe::parse(batch) {
            self.bytes.extend_from_slice(batch);
            self.probes.push(probe);
        }
    }
}
