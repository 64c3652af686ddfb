//! Opening a log: what is on disk becomes segments, producer state and leader epochs; after a crash it is checked first and cut where it is bad.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use milena_common::Now;
use milena_protocol::records::BatchView;

use crate::checkpoint::LEADER_EPOCHS;
use crate::error::{At as _, LogError};
use crate::fs::{File, Fs};
use crate::index::AbortedTransaction;
use crate::leader_epoch::LeaderEpochs;
use crate::producer_state::{Marker, ProducerBatch, ProducerState};
use crate::segment::{CLEANED_SUFFIX, SWAP_SUFFIX, Segment, base_offset_of, file_name, next_offset_of_file};
use crate::unified_log::{LogOptions, preallocated_bytes};

pub(crate) use crate::unified_log::end_txn_marker as marker;

/// Files of a segment, by suffix.
pub(crate) const SEGMENT_SUFFIXES: &[&str] = &["log", "index", "timeindex", "txnindex"];

/// A log as it was found.
pub(crate) struct Loaded {
    pub segments: Vec<Segment>,
    pub producers: ProducerState,
    pub epochs: LeaderEpochs,
    pub log_end_offset: i64,
    /// There was no segment: its name is not on disk yet.
    pub created: bool,
    /// Files that were checked or made again, and that the recovery point may only pass once they are on disk.
    pub unsynced: Vec<Arc<dyn File>>,
}

/// Loads a log's directory; there is always a segment after it.
pub(crate) fn load(o: &LogOptions) -> Result<Loaded, LogError> {
    let (fs, dir) = (&*o.fs, o.dir.as_path());
    let mut bases = clean_up(fs, dir)?;
    bases.sort_unstable();
    let interval = o.config.index_interval_bytes;
    // checking starts with the segment that holds the recovery point
    let first_checked =
        if o.clean { bases.len() } else { bases.partition_point(|b| *b <= o.recovery_point).saturating_sub(1) };
    let mut segments: Vec<Segment> = Vec::with_capacity(bases.len().max(1));
    let mut cut_at = None;
    for (i, base) in bases.iter().enumerate() {
        let active = i + 1 == bases.len();
        if i < first_checked {
            segments.push(Segment::open(fs, dir, *base, active, interval, o.now.wall_ms)?);
            continue;
        }
        for suffix in ["index", "timeindex", "txnindex"] {
            remove_if_there(fs, &dir.join(file_name(*base, suffix)))?;
        }
        let mut segment = Segment::open(fs, dir, *base, true, interval, o.now.wall_ms)?;
        let cut = segment.recover(dir, interval)?;
        segments.push(segment);
        if cut > 0 {
            cut_at = Some(i);
            break;
        }
    }
    if let Some(i) = cut_at {
        for base in bases.iter().skip(i + 1) {
            tracing::warn!(partition = %o.topic_partition, base_offset = base, "dropping a segment after a bad batch");
            remove_segment(fs, dir, *base)?;
        }
    }
    let created = segments.is_empty();
    if created {
        segments.push(Segment::create(
            fs,
            dir,
            o.log_start_offset.max(0),
            o.now.wall_ms,
            preallocated_bytes(&o.config),
        )?);
    }
    let log_end_offset = match segments.last() {
        Some(last) => last.next_offset(dir)?,
        None => 0,
    };
    // closed segments keep their indexes in files; a checked one that is not the last is closed now
    let last = segments.len() - 1;
    let mut unsynced = Vec::new();
    for (i, s) in segments.iter_mut().enumerate().take(last) {
        unsynced.extend(s.close(fs, dir)?);
        if i >= first_checked {
            unsynced.push(Arc::clone(&s.file));
        }
    }
    // transactions that ended in a checked segment are found anew, so that producer state must be known from its beginning
    let checked_from = bases.get(first_checked).copied();
    if let Some(base) = checked_from {
        remove_snapshots_from(fs, dir, base + 1)?;
    }
    let known_epochs = read_epochs(fs, dir);
    let relearn_from = if known_epochs.is_some() { first_checked } else { 0 };
    let mut epochs = known_epochs.unwrap_or_default();
    epochs.truncate_from_end(log_end_offset.max(1));
    let replay_from = checked_from.unwrap_or(i64::MAX);
    let mut aborted: Vec<AbortedTransaction> = Vec::new();
    let producers = replay(fs, dir, &segments, log_end_offset, o.now, o.producer_expiration_ms, |batch, found| {
        aborted.extend(found.filter(|_| batch.base_offset() >= replay_from));
    })?;
    if !o.clean {
        relearn_epochs(&segments, dir, relearn_from, &mut epochs)?;
        let path = dir.join(LEADER_EPOCHS);
        // most logs have nothing new to say, and there may be many thousands
        let say_more = fs.exists(&path) || !epochs.entries().is_empty();
        if say_more && read_epochs(fs, dir).as_ref() != Some(&epochs) {
            fs.replace(&path, epochs.encode().as_bytes(), false).at(&path)?;
        }
        if say_more {
            unsynced.push(fs.open(&path, false).at(&path)?);
        }
        for a in aborted {
            if let Some(s) = segments.iter_mut().rev().find(|s| s.base_offset <= a.last_offset)
                && !s.aborted.contains(&a)
            {
                s.add_aborted(fs, dir, a);
            }
        }
    }
    for s in segments.iter().take(last).skip(first_checked).filter(|s| !s.aborted.is_empty()) {
        let path = dir.join(file_name(s.base_offset, "txnindex"));
        unsynced.push(fs.open(&path, true).at(&path)?);
    }
    Ok(Loaded { segments, producers, epochs, log_end_offset, created, unsynced })
}

/// Removes what earlier runs left half done, and completes compactions that were decided; the base offsets of the segments.
///
/// Compaction's output is `.cleaned` until it is complete and synced; then all its files become `.swap`, its sources `.deleted`, and the `.swap` lose
/// that ending. As long as a `.cleaned` is left the decision was not made, and `.swap` files from its base offset on go, too.
fn clean_up(fs: &dyn Fs, dir: &Path) -> Result<Vec<i64>, LogError> {
    let names = fs.list(dir).at(dir)?;
    let base_of = |name: &str| SEGMENT_SUFFIXES.iter().find_map(|suffix| base_offset_of(name, suffix));
    let first_undecided = names.iter().filter_map(|n| base_of(n.strip_suffix(CLEANED_SUFFIX)?)).min();
    let mut swaps = Vec::new();
    for done in names.iter().filter_map(|n| n.strip_suffix(SWAP_SUFFIX)) {
        let path = dir.join(format!("{done}{SWAP_SUFFIX}"));
        match base_of(done) {
            Some(base) if first_undecided.is_none_or(|first| base < first) => swaps.push(done),
            // of a log that was to be split or replaced, but not wholly prepared
            _ => fs.remove_file(&path).at(&path)?,
        }
    }
    for name in &names {
        if name.ends_with(".deleted") || name.ends_with(CLEANED_SUFFIX) || name.ends_with(".tmp") {
            let path = dir.join(name);
            fs.remove_file(&path).at(&path)?;
        }
    }
    // sources that a decided compaction had not put away yet
    let mut replaced = Vec::new();
    for done in &swaps {
        if let Some(base) = base_offset_of(done, "log") {
            let path = dir.join(format!("{done}{SWAP_SUFFIX}"));
            replaced.push((base, next_offset_of_file(fs, &path, base)?.max(base + 1)));
        }
    }
    for name in &names {
        if base_of(name).is_some_and(|base| replaced.iter().any(|(from, to)| (*from..*to).contains(&base))) {
            let path = dir.join(name);
            fs.remove_file(&path).at(&path)?;
        }
    }
    for done in &swaps {
        let (from, to) = (dir.join(format!("{done}{SWAP_SUFFIX}")), dir.join(done));
        fs.rename(&from, &to).at(&to)?;
    }
    if !swaps.is_empty() {
        fs.sync_dir(dir).at(dir)?;
    }
    Ok(fs.list(dir).at(dir)?.iter().filter_map(|name| base_offset_of(name, "log")).collect())
}

/// None if there is no file, or a torn one.
fn read_epochs(fs: &dyn Fs, dir: &Path) -> Option<LeaderEpochs> {
    let text = fs.read(&dir.join(LEADER_EPOCHS)).ok()?;
    LeaderEpochs::decode(&String::from_utf8_lossy(&text))
}

fn relearn_epochs(segments: &[Segment], dir: &Path, from: usize, epochs: &mut LeaderEpochs) -> Result<(), LogError> {
    for s in segments.iter().skip(from) {
        s.walk(&dir.join(file_name(s.base_offset, "log")), 0, |batch, _| {
            epochs.assign(batch.leader_epoch(), batch.base_offset());
            true
        })?;
    }
    Ok(())
}

/// Producer state at `end`: the newest usable snapshot, and what the log says after it.
pub(crate) fn producer_state(
    fs: &dyn Fs,
    dir: &Path,
    segments: &[Segment],
    end: i64,
    now: Now,
    expiration_ms: i64,
) -> Result<ProducerState, LogError> {
    replay(fs, dir, segments, end, now, expiration_ms, |_, _| {})
}

fn replay(
    fs: &dyn Fs,
    dir: &Path,
    segments: &[Segment],
    end: i64,
    now: Now,
    expiration_ms: i64,
    mut seen: impl FnMut(&BatchView, Option<AbortedTransaction>),
) -> Result<ProducerState, LogError> {
    let mut snapshots: Vec<i64> =
        fs.list(dir).at(dir)?.iter().filter_map(|n| base_offset_of(n, "snapshot")).filter(|o| *o <= end).collect();
    snapshots.sort_unstable();
    let mut state = ProducerState::default();
    let mut from = segments.first().map_or(0, |s| s.base_offset);
    while let Some(offset) = snapshots.pop() {
        let path = dir.join(file_name(offset, "snapshot"));
        let loaded = fs.read(&path).ok().and_then(|b| ProducerState::decode(&b, now.wall_ms, expiration_ms));
        if let Some(loaded) = loaded {
            (state, from) = (loaded, offset);
            break;
        }
        tracing::warn!(file = %path.display(), "a damaged producer snapshot is removed");
        fs.remove_file(&path).at(&path)?;
    }
    let first = segments.partition_point(|s| s.base_offset <= from).saturating_sub(1);
    for s in segments.iter().skip(first) {
        if from >= end {
            break;
        }
        s.reader(dir, from).walk(|batch, _| {
            if batch.base_offset() >= from && !batch.is_legacy() {
                let aborted = learn(&mut state, batch);
                seen(batch, aborted);
            }
            true
        })?;
    }
    state.expire(now.wall_ms, expiration_ms);
    Ok(state)
}

/// What a batch of the log says to producer state; the transaction that it aborted.
pub(crate) fn learn(state: &mut ProducerState, batch: &BatchView) -> Option<AbortedTransaction> {
    if !batch.has_producer_id() || batch.is_legacy() {
        return None;
    }
    if batch.is_control() {
        let marker: Marker = marker(batch)?;
        return state.on_marker(
            batch.producer_id(),
            batch.producer_epoch(),
            &marker,
            batch.last_offset(),
            batch.max_timestamp(),
        );
    }
    state.on_batch(&ProducerBatch {
        producer_id: batch.producer_id(),
        producer_epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
        last_sequence: batch.last_sequence(),
        first_offset: batch.base_offset(),
        last_offset: batch.last_offset(),
        max_timestamp: batch.max_timestamp(),
        is_transactional: batch.is_transactional(),
    });
    None
}

/// Removes producer snapshots at or after an offset.
pub(crate) fn remove_snapshots_from(fs: &dyn Fs, dir: &Path, offset: i64) -> Result<(), LogError> {
    for name in fs.list(dir).at(dir)? {
        if base_offset_of(&name, "snapshot").is_some_and(|o| o >= offset) {
            remove_if_there(fs, &dir.join(name))?;
        }
    }
    Ok(())
}

fn remove_if_there(fs: &dyn Fs, path: &Path) -> Result<(), LogError> {
    if fs.exists(path) {
        fs.remove_file(path).at(path)?;
    }
    Ok(())
}

/// Removes a segment's files.
pub(crate) fn remove_segment(fs: &dyn Fs, dir: &Path, base_offset: i64) -> Result<(), LogError> {
    for suffix in SEGMENT_SUFFIXES {
        remove_if_there(fs, &dir.join(file_name(base_offset, suffix)))?;
    }
    Ok(())
}

/// Renames a segment's files to `.deleted`; the new names. Its producer snapshot goes with it.
pub(crate) fn mark_deleted(fs: &dyn Fs, dir: &Path, base_offset: i64) -> Result<Vec<PathBuf>, LogError> {
    let mut out = Vec::new();
    for suffix in SEGMENT_SUFFIXES.iter().chain(&["snapshot"]) {
        let from = dir.join(file_name(base_offset, suffix));
        if fs.exists(&from) {
            let to = dir.join(format!("{}.deleted", file_name(base_offset, suffix)));
            fs.rename(&from, &to).at(&to)?;
            out.push(to);
        }
    }
    Ok(out)
}
