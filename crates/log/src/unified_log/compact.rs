//! A log as the cleaner sees it: what there is to clean, and the exchange of segments for their cleaned successor.
//!
//! The cleaner works on a view, without the lock. Whatever happened meanwhile (a truncation, retention, deletion) shows when the successor
//! is to take its place: then it is given up, and nothing has changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Inner, UnifiedLog};
use crate::cleaner::clean_offsets::CleanOffsets;
use crate::cleaner::filter::LastRecord;
use crate::error::{At as _, LogError};
use crate::fs::{File, Fs};
use crate::index::AbortedTransaction;
use crate::recovery::SEGMENT_SUFFIXES;
use crate::segment::{CLEANED_SUFFIX, SWAP_SUFFIX, Segment, file_name};

/// A closed segment.
#[derive(Clone)]
pub(crate) struct Source {
    pub base_offset: i64,
    pub file: Arc<dyn File>,
    pub size: u64,
    pub max_timestamp: i64,
    pub first_timestamp: Option<i64>,
    pub created_ms: i64,
    pub aborted: Vec<AbortedTransaction>,
    /// Bytes of its offset and its time index.
    pub index_sizes: (u64, u64),
}

impl Source {
    /// Its largest timestamp, or else when its file was written last.
    pub fn largest_timestamp(&self) -> i64 {
        if self.max_timestamp >= 0 { self.max_timestamp } else { self.modified_ms() }
    }

    /// When its file was written last.
    pub fn modified_ms(&self) -> i64 {
        self.file.modified_ms().unwrap_or(self.created_ms)
    }
}

/// A log at one moment.
pub(crate) struct CleanView {
    pub dir: PathBuf,
    pub log_start: i64,
    pub log_end: i64,
    /// Nothing from here on may be cleaned: the active segment, what is not committed, stable and on disk.
    pub bound: i64,
    pub active_base: i64,
    /// The closed segments.
    pub sources: Vec<Source>,
    pub aborted_in_active: Vec<AbortedTransaction>,
    truncations: u64,
}

impl CleanView {
    /// Aborted transactions that touch `from..to`.
    pub fn aborted(&self, from: i64, to: i64) -> impl Iterator<Item = AbortedTransaction> + '_ {
        let all = self.sources.iter().flat_map(|s| &s.aborted).chain(&self.aborted_in_active);
        all.filter(move |a| a.last_offset >= from && a.first_offset < to).copied()
    }

    /// Where a closed segment ends: where the next one begins.
    pub fn end_of(&self, index: usize) -> i64 {
        self.sources.get(index + 1).map_or(self.active_base, |next| next.base_offset)
    }
}

impl UnifiedLog {
    pub(crate) fn clean_view(&self) -> CleanView {
        let high_watermark = self.high_watermark();
        let inner = self.inner.lock();
        let stable = inner.producers.first_unstable_offset().map_or(high_watermark, |o| o.min(high_watermark));
        let closed = inner.segments.split_last().map_or(&[][..], |(_, closed)| closed);
        let active_base = inner.segments.last().map_or(0, |s| s.base_offset);
        CleanView {
            dir: inner.dir.clone(),
            log_start: self.log_start_offset(),
            log_end: self.log_end_offset(),
            // a record never makes way for one that a power cut could take back
            bound: stable.min(active_base).min(self.recovery_point()),
            active_base,
            sources: closed
                .iter()
                .map(|s| Source {
                    base_offset: s.base_offset,
                    file: Arc::clone(&s.file),
                    size: s.size,
                    max_timestamp: s.max_timestamp,
                    first_timestamp: s.first_timestamp,
                    created_ms: s.created_ms,
                    aborted: s.aborted.clone(),
                    index_sizes: s.index_sizes(),
                })
                .collect(),
            aborted_in_active: inner.segments.last().map_or_else(Vec::new, |s| s.aborted.clone()),
            truncations: inner.truncations,
        }
    }

    /// Where each producer that is known wrote last.
    pub(crate) fn last_records(&self) -> HashMap<i64, LastRecord> {
        let inner = self.inner.lock();
        let of = |e: &crate::ProducerEntry| LastRecord {
            last_data_offset: e.batches.back().map(|b| b.last_offset).filter(|o| *o >= 0),
            producer_epoch: e.producer_epoch,
        };
        inner.producers.producers().map(|e| (e.producer_id, of(e))).collect()
    }

    /// Puts a complete cleaned segment in the place of its sources, on disk and in memory. The files that may be removed; none if the log is not
    /// what it was any more, and nothing was done.
    ///
    /// # Errors
    /// The directory failed on the way: it is offline, and the next start completes or forgets the exchange.
    pub(crate) fn replace_segments(
        &self,
        view: &CleanView,
        sources: &[Source],
        cleaned: Segment,
    ) -> Result<Option<Vec<PathBuf>>, LogError> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(at) = self.place_of(inner, view, sources) else { return Ok(None) };
        let dir = inner.dir.clone();
        let exchanged = self.exchange_files(&dir, sources, cleaned.base_offset);
        let doomed = exchanged.inspect_err(|_| {
            inner.broken = true;
            self.home.load().committer.fail();
        })?;
        inner.segments.splice(at..at + sources.len(), [cleaned]);
        let end = inner.segments.get(at + 1).map_or(self.log_end_offset(), |next| next.base_offset);
        inner.cache.drop_before(end);
        drop(guard);
        // what was replaced is gone for good only if the names are on disk
        self.fs.sync_dir(&dir).at(&dir).inspect_err(|_| self.home.load().committer.fail())?;
        Ok(Some(doomed))
    }

    /// Where the sources stand, if they still do.
    fn place_of(&self, inner: &Inner, view: &CleanView, sources: &[Source]) -> Option<usize> {
        if inner.broken
            || self.home.load().committer.failed()
            || inner.truncations != view.truncations
            || inner.dir != view.dir
        {
            return None;
        }
        let first = sources.first()?.base_offset;
        let at = inner.segments.iter().position(|s| s.base_offset == first)?;
        let here = inner.segments.get(at..at + sources.len())?;
        here.iter().zip(sources).all(|(s, source)| Arc::ptr_eq(&s.file, &source.file)).then_some(at)
    }

    fn exchange_files(&self, dir: &Path, sources: &[Source], base_offset: i64) -> Result<Vec<PathBuf>, LogError> {
        let fs = &*self.fs;
        let rename = |from: PathBuf, to: PathBuf| -> Result<bool, LogError> {
            if !fs.exists(&from) {
                return Ok(false);
            }
            fs.rename(&from, &to).at(&to)?;
            Ok(true)
        };
        let named = |suffix: &str, ending: &str| dir.join(file_name(base_offset, suffix) + ending);
        // the order matters to the next start after a crash in between: see `recovery::clean_up`
        for suffix in SEGMENT_SUFFIXES {
            rename(named(suffix, CLEANED_SUFFIX), named(suffix, SWAP_SUFFIX))?;
        }
        let mut doomed = Vec::new();
        for source in sources.iter().rev() {
            let snapshot = (source.base_offset != base_offset).then_some("snapshot");
            for suffix in SEGMENT_SUFFIXES.iter().copied().chain(snapshot) {
                let name = file_name(source.base_offset, suffix);
                let to = dir.join(format!("{name}.deleted"));
                if rename(dir.join(name), to.clone())? {
                    doomed.push(to);
                }
            }
        }
        for suffix in SEGMENT_SUFFIXES {
            rename(named(suffix, SWAP_SUFFIX), named(suffix, ""))?;
        }
        Ok(doomed)
    }

    /// The file that says up to where logs of the directory were cleaned.
    pub(crate) fn clean_offsets(&self) -> Arc<CleanOffsets> {
        Arc::clone(&self.home.load().clean_offsets)
    }

    pub(crate) fn file_system(&self) -> &dyn Fs {
        &*self.fs
    }
}
