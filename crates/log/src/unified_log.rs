//! One partition's log: segments, producer state and leader epochs behind one lock; offsets readable without it.
//!
//! Invariants: `log_start <= high_watermark`, `durable_end <= log_end`; batches are never changed once written; nothing is synced under the
//! lock. Called by the replica manager (produce, fetch), the coordinators and the metadata log. Knows its directory, not the cluster.

mod adopt;
mod commit;
mod compact;
mod producers;
mod read;
mod shrink;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use milena_common::config::topic::TopicConfig;
use milena_common::config::value::{AckDurability, CompressionType, TimestampType as ConfiguredTimestamp};
use milena_common::{Now, TopicPartition, Uuid};
use milena_protocol::records::control::EndTxnMarker;
use milena_protocol::records::{BatchView, Compression, DecompressLimit, TimestampType, batches};
use parking_lot::Mutex;

use crate::cache::TailCache;
use crate::checkpoint;
use crate::cleaner::clean_offsets::CleanOffsets;
use crate::committer::{CommitBy, Committer};
use crate::error::{At as _, LogError};
use crate::fs::{File, Fs};
use crate::index::AbortedTransaction;
use crate::leader_epoch::{EpochEntry, LeaderEpochs};
use crate::producer_state::{Marker, ProducerBatch, ProducerState, TransactionCheck};
use crate::recovery;
use crate::segment::{Probe, Segment, file_name};
use crate::validate::{Append, Origin, Rules, TargetCompression, check_copied, validate_and_assign};

pub(crate) use compact::{CleanView, Source};

/// News of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEvent {
    /// Everything below this offset is on disk.
    Durable(i64),
    /// The directory is offline: nothing more ever will be.
    Failed,
}

/// Told after each commit, on the thread that committed, without the log's lock.
pub type LogListener = Arc<dyn Fn(LogEvent) + Send + Sync>;

/// How a leader appends.
#[derive(Debug, Clone, Copy)]
pub struct AppendOptions {
    pub leader_epoch: i32,
    pub now: Now,
    pub origin: Origin,
    /// The version of the produce request, if it is one.
    pub produce_version: Option<i16>,
    pub transaction: TransactionCheck,
    pub commit: CommitBy,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    pub first_offset: i64,
    pub last_offset: i64,
    /// The largest timestamp, in milliseconds.
    pub max_timestamp: i64,
    /// The time that all records got (`LogAppendTime`), else -1; of a duplicate, its largest timestamp.
    pub log_append_time_ms: i64,
    pub log_start_offset: i64,
    /// The batch had been appended before; the offsets are those of then and nothing was written.
    pub duplicate: bool,
}

/// What a read found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadData {
    /// Whole batches, in order, in as many pieces as they lie in memory.
    pub records: Vec<Bytes>,
    /// The offset after the last of them; where the read began if there is none.
    pub next_offset: i64,
}

impl ReadData {
    /// Bytes of all pieces.
    pub fn size_in_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }

    /// One piece; copies if there are several.
    pub fn into_contiguous(self) -> Bytes {
        match <[Bytes; 1]>::try_from(self.records) {
            Ok([one]) => one,
            Err(several) => Bytes::from(several.concat()),
        }
    }
}

/// An offset found by a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    pub timestamp: i64,
    pub offset: i64,
    pub leader_epoch: Option<i32>,
}

/// Where and how a log is opened.
pub(crate) struct LogOptions {
    pub fs: Arc<dyn Fs>,
    pub committer: Arc<Committer>,
    pub clean_offsets: Arc<CleanOffsets>,
    pub dir: PathBuf,
    pub topic_partition: TopicPartition,
    pub topic_id: Option<Uuid>,
    pub config: Arc<TopicConfig>,
    /// The directory was shut down cleanly: nothing needs to be checked.
    pub clean: bool,
    pub recovery_point: i64,
    pub log_start_offset: i64,
    pub high_watermark: i64,
    pub producer_expiration_ms: i64,
    pub now: Now,
}

/// What a log shares with the others of its log directory.
pub(crate) struct Home {
    pub committer: Arc<Committer>,
    pub clean_offsets: Arc<CleanOffsets>,
}

/// See the module.
pub struct UnifiedLog {
    this: Weak<UnifiedLog>,
    topic_partition: TopicPartition,
    topic_id: OnceLock<Uuid>,
    fs: Arc<dyn Fs>,
    home: ArcSwap<Home>,
    listener: OnceLock<LogListener>,
    config: ArcSwap<TopicConfig>,
    log_start: AtomicI64,
    log_end: AtomicI64,
    durable_end: AtomicI64,
    high_watermark: AtomicI64,
    recovery_point: AtomicI64,
    producer_expiration_ms: AtomicI64,
    inner: Mutex<Inner>,
}

struct Inner {
    dir: PathBuf,
    /// In order; the last is active.
    segments: Vec<Segment>,
    producers: ProducerState,
    epochs: LeaderEpochs,
    /// The file does not say them all.
    epochs_dirty: bool,
    cache: TailCache,
    rules: Rules,
    durability: AckDurability,
    /// A commit is on its way and will include what is written now.
    submitted: bool,
    /// Written since the last commit.
    active_dirty: bool,
    /// Asked for although the durability is the page cache's.
    flush: bool,
    /// When the first record was written that is not synced, on the monotonic clock.
    unflushed_since_ms: Option<u64>,
    closed_dirty: Vec<Arc<dyn File>>,
    dir_dirty: bool,
    /// A failed write left bytes that could not be cut off, or the log is closed: no more appends.
    broken: bool,
    jitter_ms: i64,
    /// A sync that ran while the log was cut says nothing about what was written after the cut.
    truncations: u64,
}

impl UnifiedLog {
    /// Opens a log, or makes an empty one; after a crash everything from the recovery point on is checked.
    pub(crate) fn open(o: LogOptions) -> Result<Arc<UnifiedLog>, LogError> {
        if !o.fs.is_dir(&o.dir) {
            o.fs.create_dir_all(&o.dir).at(&o.dir)?;
            o.committer.parent_changed();
        }
        if let Some(id) = o.topic_id
            && checkpoint::read_topic_id(&*o.fs, &o.dir)?.is_none()
        {
            checkpoint::write_topic_id(&*o.fs, &o.dir, id)?;
        }
        let mut loaded = recovery::load(&o)?;
        let end = loaded.log_end_offset;
        o.clean_offsets.truncate(&o.topic_partition, end)?;
        let log_start = o.log_start_offset.max(loaded.segments.first().map_or(0, |s| s.base_offset)).min(end);
        let high_watermark = o.high_watermark.clamp(log_start, end);
        // nobody may raise it further and say so
        loaded.producers.on_high_watermark(high_watermark);
        let topic_id = OnceLock::new();
        if let Some(id) = o.topic_id {
            let _ = topic_id.set(id);
        }
        let log = Arc::new_cyclic(|this| UnifiedLog {
            this: this.clone(),
            topic_partition: o.topic_partition,
            topic_id,
            fs: o.fs,
            home: ArcSwap::from_pointee(Home { committer: o.committer, clean_offsets: o.clean_offsets }),
            listener: OnceLock::new(),
            config: ArcSwap::new(Arc::clone(&o.config)),
            log_start: AtomicI64::new(log_start),
            log_end: AtomicI64::new(end),
            durable_end: AtomicI64::new(end),
            high_watermark: AtomicI64::new(high_watermark),
            recovery_point: AtomicI64::new(if o.clean { end } else { o.recovery_point.min(end) }),
            producer_expiration_ms: AtomicI64::new(o.producer_expiration_ms),
            inner: Mutex::new(Inner {
                dir: o.dir,
                segments: loaded.segments,
                producers: loaded.producers,
                epochs: loaded.epochs,
                epochs_dirty: false,
                cache: TailCache::default(),
                rules: rules_of(&o.config),
                durability: o.config.ack_durability,
                submitted: false,
                active_dirty: false,
                flush: false,
                unflushed_since_ms: None,
                closed_dirty: loaded.unsynced,
                dir_dirty: loaded.created || !o.clean,
                broken: false,
                jitter_ms: jitter_ms(&o.config, log_start),
                truncations: 0,
            }),
        });
        if !o.clean && end > 0 {
            // what was found after a crash may be in the page cache only: it is not served as durable before it was synced
            log.durable_end.store(log.recovery_point.load(Ordering::Relaxed).min(end), Ordering::Release);
            let mut inner = log.inner.lock();
            (inner.active_dirty, inner.flush) = (true, true);
            log.submit(&mut inner, CommitBy::Thread);
        }
        Ok(log)
    }

    /// Appends as the partition's leader: validates, gives offsets, refuses what producer state forbids, writes, and asks for the commit.
    pub fn append_as_leader(&self, records: Bytes, o: AppendOptions) -> Result<AppendInfo, LogError> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        self.ensure_writable(inner)?;
        let append = Append {
            origin: o.origin,
            produce_version: o.produce_version,
            leader_epoch: o.leader_epoch,
            next_offset: self.log_end_offset(),
            now_ms: o.now.wall_ms,
        };
        let validated = validate_and_assign(&records, &inner.rules, &append)?;
        let h = validated.header;
        let mut info = AppendInfo {
            first_offset: h.first_offset,
            last_offset: h.last_offset,
            max_timestamp: h.max_timestamp,
            log_append_time_ms: validated.log_append_time_ms.unwrap_or(-1),
            log_start_offset: self.log_start_offset(),
            duplicate: false,
        };
        let mut marker = None;
        let producer = (h.producer_id >= 0).then_some(ProducerBatch {
            producer_id: h.producer_id,
            producer_epoch: h.producer_epoch,
            base_sequence: h.base_sequence,
            last_sequence: h.last_sequence,
            first_offset: h.first_offset,
            last_offset: h.last_offset,
            max_timestamp: h.max_timestamp,
            is_transactional: h.is_transactional,
        });
        if let Some(batch) = &producer {
            if h.is_control {
                marker = marker_of(&records, o.transaction)?;
                if let Some(m) = &marker {
                    inner.producers.check_marker(h.producer_id, h.producer_epoch, m, &self.topic_partition)?;
                }
            } else if o.origin == Origin::Client {
                if let Some(earlier) = inner.producers.duplicate(batch) {
                    info.first_offset = earlier.first_offset();
                    info.last_offset = earlier.last_offset;
                    info.max_timestamp = earlier.timestamp;
                    // as Kafka does, whoever set the timestamp
                    info.log_append_time_ms = earlier.timestamp;
                    info.duplicate = true;
                    return Ok(info);
                }
                inner.producers.check(batch, &self.topic_partition)?;
                inner.producers.check_transaction(batch, o.transaction, &self.topic_partition)?;
            } else {
                inner.producers.check_epoch(batch, &self.topic_partition)?;
                inner.producers.check_transaction(batch, o.transaction, &self.topic_partition)?;
            }
        }
        let chunks = validated.records.into_chunks();
        let probe = Probe {
            base_offset: h.first_offset,
            last_offset: h.last_offset,
            size: chunks.iter().map(Bytes::len).sum(),
            max_timestamp: h.max_timestamp,
            leader_epoch: o.leader_epoch,
        };
        self.write(inner, &chunks, &probe, o.now)?;
        match (&producer, &marker) {
            (Some(b), Some(m)) => self.end_transaction(inner, b, m),
            (Some(b), None) if !h.is_control => inner.producers.on_batch(b),
            _ => {}
        }
        self.written(inner, &probe, i64::from(h.record_count), o.commit);
        Ok(info)
    }

    /// Appends batches that have their offsets: a follower's, or the metadata log's. They must continue the log.
    pub fn append_as_follower(&self, records: Bytes, now: Now) -> Result<AppendInfo, LogError> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        self.ensure_writable(inner)?;
        let copied = check_copied(&records, self.log_end_offset())?;
        let mut info = AppendInfo {
            first_offset: copied.first_offset.unwrap_or(self.log_end_offset()),
            last_offset: copied.last_offset,
            max_timestamp: copied.max_timestamp,
            log_append_time_ms: -1,
            log_start_offset: self.log_start_offset(),
            duplicate: false,
        };
        for batch in batches(records.slice(..copied.valid_bytes)).flatten() {
            let Some(probe) = Probe::parse(batch.bytes()) else { continue };
            self.write(inner, &[batch.bytes().clone(), Bytes::new()], &probe, now)?;
            let aborted = recovery::learn(&mut inner.producers, &batch);
            self.add_aborted(inner, aborted);
            self.written(inner, &probe, i64::from(batch.record_count()), CommitBy::Thread);
            info.log_start_offset = self.log_start_offset();
        }
        Ok(info)
    }

    fn ensure_writable(&self, inner: &Inner) -> Result<(), LogError> {
        if inner.broken || self.home.load().committer.failed() {
            return Err(LogError::offline(&inner.dir));
        }
        Ok(())
    }

    /// Puts one batch behind the last, in a new segment if it is time for one.
    fn write(&self, inner: &mut Inner, chunks: &[Bytes; 2], probe: &Probe, now: Now) -> Result<(), LogError> {
        let config = self.config.load();
        if self.should_roll(inner, &config, probe, now) {
            self.roll(inner, probe.base_offset, now)?;
        }
        if inner.epochs_dirty || inner.epochs.latest() != Some(probe.leader_epoch) {
            let before = inner.epochs.clone();
            if (inner.epochs.assign(probe.leader_epoch, probe.base_offset) || inner.epochs_dirty)
                && let Err(e) = self.write_epochs(inner)
            {
                inner.epochs = before;
                return Err(e);
            }
        }
        let Inner { segments, dir, cache, broken, .. } = inner;
        let active = segments.last_mut().ok_or_else(|| LogError::corrupt(dir, "no segment"))?;
        let [head, body] = chunks;
        let path = dir.join(file_name(active.base_offset, "log"));
        if let Err(failed) = active.append(&[head, body], probe, config.index_interval_bytes, &path) {
            *broken = !failed.restored;
            if !failed.error.is_full_disk() {
                self.home.load().committer.fail();
            }
            return Err(failed.error);
        }
        cache.push(probe, chunks);
        inner.unflushed_since_ms.get_or_insert(now.mono_ms);
        Ok(())
    }

    /// After the write: offsets, and the commit.
    fn written(&self, inner: &mut Inner, probe: &Probe, records: i64, by: CommitBy) {
        let end = probe.last_offset + 1;
        self.log_end.store(end, Ordering::Release);
        inner.active_dirty = true;
        if inner.durability == AckDurability::PageCache {
            self.durable_end.store(end, Ordering::Release);
            let unflushed = end - self.recovery_point.load(Ordering::Relaxed);
            inner.flush |= unflushed.max(records) >= self.config.load().flush_messages;
        }
        self.submit(inner, by);
    }

    fn end_transaction(&self, inner: &mut Inner, b: &ProducerBatch, marker: &Marker) {
        let aborted =
            inner.producers.on_marker(b.producer_id, b.producer_epoch, marker, b.last_offset, b.max_timestamp);
        self.add_aborted(inner, aborted);
    }

    fn add_aborted(&self, inner: &mut Inner, aborted: Option<AbortedTransaction>) {
        let Inner { segments, dir, .. } = inner;
        if let (Some(aborted), Some(active)) = (aborted, segments.last_mut()) {
            active.add_aborted(&*self.fs, dir, aborted);
        }
    }

    fn should_roll(&self, inner: &Inner, config: &TopicConfig, probe: &Probe, now: Now) -> bool {
        let Some(active) = inner.segments.last() else { return true };
        if active.size == 0 {
            return false;
        }
        let age_ms = match active.first_timestamp {
            Some(first) if first >= 0 && probe.max_timestamp >= 0 => probe.max_timestamp - first,
            _ => now.wall_ms - active.created_ms,
        };
        active.size + probe.size as u64 > u64::from(config.segment_bytes.unsigned_abs())
            || age_ms > max_segment_ms(config).saturating_sub(inner.jitter_ms)
            || active.index_bytes() + 12 > usize::try_from(config.segment_index_bytes).unwrap_or(usize::MAX)
            || probe.last_offset - active.base_offset > i64::from(i32::MAX)
    }

    /// Closes the active segment and begins a new one at `base_offset`.
    fn roll(&self, inner: &mut Inner, base_offset: i64, now: Now) -> Result<(), LogError> {
        let bytes = preallocated_bytes(&self.config.load());
        let new = Segment::create(&*self.fs, &inner.dir, base_offset, now.wall_ms, bytes)?;
        let closed = self.write_snapshot(inner, base_offset, false).and_then(|()| match inner.segments.last_mut() {
            Some(active) => {
                active.close(&*self.fs, &inner.dir).map(|indexes| (Arc::clone(&active.file), indexes)).map(Some)
            }
            None => Ok(None),
        });
        match closed {
            Ok(Some((file, indexes))) => {
                inner.closed_dirty.push(file);
                inner.closed_dirty.extend(indexes);
            }
            Ok(None) => {}
            Err(e) => {
                // an empty segment must not stay behind: the active one may still grow beyond its name
                let _ = recovery::remove_segment(&*self.fs, &inner.dir, base_offset);
                return Err(e);
            }
        }
        inner.dir_dirty = true;
        inner.segments.push(new);
        inner.jitter_ms = jitter_ms(&self.config.load(), base_offset);
        Ok(())
    }

    fn write_snapshot(&self, inner: &Inner, offset: i64, durable: bool) -> Result<(), LogError> {
        if inner.producers.is_empty() {
            return Ok(());
        }
        let path = inner.dir.join(file_name(offset, "snapshot"));
        self.fs.replace(&path, &inner.producers.encode(), durable).at(&path)
    }

    /// The next commit syncs it, before the recovery point can pass what it says; a torn one is made again from the log.
    fn write_epochs(&self, inner: &mut Inner) -> Result<(), LogError> {
        let path = inner.dir.join(checkpoint::LEADER_EPOCHS);
        self.fs.replace(&path, inner.epochs.encode().as_bytes(), false).at(&path)?;
        inner.closed_dirty.push(self.fs.open(&path, false).at(&path)?);
        inner.dir_dirty = true;
        inner.epochs_dirty = false;
        Ok(())
    }

    /// The largest leader epoch at or below `epoch`, and where it ends; (-1, -1) if that is not known.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        self.inner.lock().epochs.end_offset_for(epoch, self.log_end_offset()).unwrap_or((-1, -1))
    }

    /// The leader epoch of the last batch, or of a leader that has not written yet.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.inner.lock().epochs.latest()
    }

    /// The leader epoch that wrote an offset.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        self.inner.lock().epochs.epoch_of(offset)
    }

    /// All leader epochs and where they begin.
    pub fn epochs(&self) -> Vec<EpochEntry> {
        self.inner.lock().epochs.entries().to_vec()
    }

    /// A new leader's epoch begins at the log's end.
    ///
    /// The file follows with the first batch, or when the log is closed: an epoch that wrote nothing need not survive a crash, and a node
    /// that starts leads in a new epoch everywhere.
    pub fn on_become_leader(&self, epoch: i32) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.epochs_dirty |= inner.epochs.assign(epoch, self.log_end_offset());
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start.load(Ordering::Acquire)
    }

    /// The offset of the next record.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end.load(Ordering::Acquire)
    }

    /// Everything below is on disk (or in the page cache, where that is asked for).
    pub fn durable_end_offset(&self) -> i64 {
        self.durable_end.load(Ordering::Acquire)
    }

    /// Everything below was synced: after a crash checking begins here.
    pub fn recovery_point(&self) -> i64 {
        self.recovery_point.load(Ordering::Acquire)
    }

    /// As last told by [`UnifiedLog::set_high_watermark`].
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::Acquire)
    }

    /// Where consumers of committed records must stop, below the high watermark.
    pub fn last_stable_offset(&self, high_watermark: i64) -> i64 {
        self.inner.lock().producers.first_unstable_offset().map_or(high_watermark, |o| o.min(high_watermark))
    }

    /// Raises the high watermark: retention and the last stable offset follow it.
    pub fn set_high_watermark(&self, offset: i64) {
        let offset = offset.clamp(self.log_start_offset(), self.log_end_offset());
        self.high_watermark.store(offset, Ordering::Release);
        self.inner.lock().producers.on_high_watermark(offset);
    }

    /// Aborted transactions that touch `from..to`.
    pub fn aborted_transactions(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        let inner = self.inner.lock();
        inner
            .segments
            .iter()
            .flat_map(|s| &s.aborted)
            .filter(|a| a.last_offset >= from && a.first_offset < to)
            .copied()
            .collect()
    }

    /// Bytes of all segments.
    pub fn size_in_bytes(&self) -> u64 {
        self.inner.lock().segments.iter().map(|s| s.size).sum()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.inner.lock().segments.len()
    }

    /// Its partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The id of its topic, if its directory says one.
    pub fn topic_id(&self) -> Option<Uuid> {
        self.topic_id.get().copied()
    }

    /// Its directory.
    pub fn dir(&self) -> PathBuf {
        self.inner.lock().dir.clone()
    }

    /// Its configuration.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    /// Whether its directory is offline: a write or a sync failed there. Takes no lock.
    pub fn is_dir_offline(&self) -> bool {
        self.home.load().committer.failed()
    }

    /// Whether nothing can be written any more.
    pub fn is_offline(&self) -> bool {
        self.home.load().committer.failed() || self.inner.lock().broken
    }

    /// A new configuration, from the next append on.
    pub fn update_config(&self, config: Arc<TopicConfig>) {
        let mut inner = self.inner.lock();
        inner.rules = rules_of(&config);
        inner.durability = config.ack_durability;
        self.config.store(config);
    }

    /// Registers who is told what became durable; once.
    pub fn set_listener(&self, listener: LogListener) {
        let _ = self.listener.set(listener);
    }

    /// Gives back the memory of a tail that nobody added to for a while, and the room behind it on the disk.
    pub fn trim_tail(&self) {
        let mut inner = self.inner.lock();
        let Inner { cache, segments, .. } = &mut *inner;
        if cache.age()
            && !self.config.load().preallocate
            && let Some(active) = segments.last_mut()
            && let Err(error) = active.trim()
        {
            tracing::debug!(partition = %self.topic_partition, %error, "the room behind the last batch stays");
        }
    }

    /// Syncs what is not synced, regardless of `ack.durability`.
    pub fn flush(&self) {
        let mut inner = self.inner.lock();
        if inner.active_dirty || !inner.closed_dirty.is_empty() {
            inner.flush = true;
            self.submit(&mut inner, CommitBy::Thread);
        }
    }

    /// Flushes what has waited for `flush.ms`; how long the rest may wait, in milliseconds. Only for `ack.durability=page-cache`: otherwise nothing waits.
    pub(crate) fn flush_if_due(&self, now: Now) -> Option<u64> {
        let flush_ms = u64::try_from(self.config.load().flush_ms).ok().filter(|ms| *ms < i64::MAX.unsigned_abs())?;
        let mut inner = self.inner.lock();
        let since = inner.unflushed_since_ms.filter(|_| inner.durability == AckDurability::PageCache)?;
        let due = since.saturating_add(flush_ms);
        if due > now.mono_ms {
            return Some(due - now.mono_ms);
        }
        inner.flush = true;
        self.submit(&mut inner, CommitBy::Thread);
        None
    }

    /// Writes everything that only memory has, and syncs it: the log is complete on disk. No append is taken after this.
    pub fn close(&self) -> Result<(), LogError> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if inner.broken || self.home.load().committer.failed() {
            return Err(LogError::offline(&inner.dir));
        }
        inner.broken = true;
        if inner.epochs_dirty {
            self.write_epochs(inner)?;
        }
        self.write_snapshot(inner, self.log_end_offset(), true)?;
        let mut files = std::mem::take(&mut inner.closed_dirty);
        if let Some(active) = inner.segments.last_mut() {
            files.extend(active.close(&*self.fs, &inner.dir)?);
            files.push(Arc::clone(&active.file));
        }
        for f in files {
            f.sync_data().at(&inner.dir)?;
        }
        self.fs.sync_dir(&inner.dir).at(&inner.dir)?;
        let end = self.log_end_offset();
        self.durable_end.store(end, Ordering::Release);
        self.recovery_point.store(end, Ordering::Release);
        Ok(())
    }

    /// Takes the log out of service under another directory name (`-delete`, `-stray`).
    pub(crate) fn retire(&self, to: &Path) -> Result<(), LogError> {
        let mut inner = self.inner.lock();
        inner.broken = true;
        self.fs.rename(&inner.dir, to).at(to)?;
        inner.dir = to.to_path_buf();
        inner.cache.clear();
        self.home.load().committer.parent_changed();
        Ok(())
    }
}

/// What validation needs of a configuration.
fn rules_of(config: &TopicConfig) -> Rules {
    let level = |l: i32, default: i32| Some(l).filter(|l| *l != default);
    Rules {
        compression: match config.compression_type {
            CompressionType::Producer => TargetCompression::Producer,
            CompressionType::Uncompressed => TargetCompression::Codec(Compression::None, None),
            CompressionType::Snappy => TargetCompression::Codec(Compression::Snappy, None),
            CompressionType::Gzip => {
                TargetCompression::Codec(Compression::Gzip, level(config.compression_gzip_level, -1))
            }
            CompressionType::Lz4 => TargetCompression::Codec(Compression::Lz4, level(config.compression_lz4_level, 9)),
            CompressionType::Zstd => TargetCompression::Codec(Compression::Zstd, Some(config.compression_zstd_level)),
        },
        timestamp_type: match config.message_timestamp_type {
            ConfiguredTimestamp::CreateTime => TimestampType::CreateTime,
            ConfiguredTimestamp::LogAppendTime => TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: config.message_timestamp_before_max_ms,
        timestamp_after_max_ms: config.message_timestamp_after_max_ms,
        max_message_bytes: config.max_message_bytes,
        segment_bytes: config.segment_bytes,
        compacted: config.cleanup_policy.compact,
    }
}

/// The size that a new segment's file gets at once.
pub(crate) fn preallocated_bytes(config: &TopicConfig) -> u64 {
    if config.preallocate { u64::from(config.segment_bytes.unsigned_abs()) } else { 0 }
}

/// The age at which a segment is closed: what is to be compacted in time must be closed in time.
fn max_segment_ms(config: &TopicConfig) -> i64 {
    if config.cleanup_policy.compact { config.segment_ms.min(config.max_compaction_lag_ms) } else { config.segment_ms }
}

/// A part of `segment.jitter.ms` that differs from log to log and roll to roll.
fn jitter_ms(config: &TopicConfig, seed: i64) -> i64 {
    match config.segment_jitter_ms.min(config.segment_ms) {
        jitter if jitter > 0 => (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) >> 8).rem_euclid(jitter),
        _ => 0,
    }
}

/// The marker in a control batch.
fn marker_of(records: &Bytes, check: TransactionCheck) -> Result<Option<Marker>, LogError> {
    let transaction_version = match check {
        TransactionCheck::Marker(version) => version,
        TransactionCheck::Off | TransactionCheck::Ticket(_) => 0,
    };
    let batch = BatchView::parse(records).ok();
    Ok(batch.and_then(|b| recovery::marker(&b)).map(|marker| Marker { transaction_version, ..marker }))
}

/// The marker that a batch holds, if it is a control batch of a transaction.
pub(crate) fn end_txn_marker(batch: &BatchView) -> Option<Marker> {
    let record = batch.records(DecompressLimit::default()).ok()?.next()?.ok()?;
    let m = EndTxnMarker::parse(&record).ok()??;
    Some(Marker { committed: m.committed, coordinator_epoch: m.coordinator_epoch, transaction_version: 0 })
}
