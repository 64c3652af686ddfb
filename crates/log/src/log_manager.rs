//! All logs of a broker: its directories (`log.dirs`), their locks and checkpoint files, opening and recovery, retention, deletion, shutdown.
//!
//! One housekeeping thread does what is due: checkpoints, retention, removal of deleted files, the memory of idle tails. Directories fail one by
//! one; the logs of the others go on.

mod moves;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use milena_common::config::topic::TopicConfig;
use milena_common::time::Clock;
use milena_common::{Now, TopicPartition, Uuid};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::checkpoint::{self, MetaProperties, Offsets};
use crate::cleaner::clean_offsets::CleanOffsets;
use crate::cleaner::{Cleaned, CleanerOptions, LogCleaner, Pool};
use crate::committer::Committer;
use crate::error::{At as _, LogError};
use crate::fs::{Fs, RealFs};
use crate::lock::DirLock;
use crate::unified_log::{LogOptions, UnifiedLog};

pub use moves::{MoveError, MoveListener};

/// The log of the metadata quorum: opened by [`LogManager::open_metadata_log`], not with the others.
pub const METADATA_LOG: &str = "__cluster_metadata-0";

/// How logs are managed.
#[derive(Clone)]
pub struct LogManagerOptions {
    /// `log.dirs`.
    pub dirs: Vec<PathBuf>,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads: usize,
    /// `log.retention.check.interval.ms`.
    pub retention_check_ms: u64,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub recovery_point_checkpoint_ms: u64,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermark_checkpoint_ms: u64,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    pub clock: Arc<dyn Clock>,
}

/// A log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir {
    pub path: PathBuf,
    /// `directory.id` of its `meta.properties`.
    pub id: Uuid,
    pub online: bool,
}

impl LogDir {
    /// Bytes of the file system it is on, all and free for us.
    pub fn space(&self) -> Option<(u64, u64)> {
        let stat = rustix::fs::statvfs(&self.path).ok()?;
        Some((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
    }
}

struct Dir {
    path: PathBuf,
    id: Uuid,
    committer: Arc<Committer>,
    clean_offsets: Arc<CleanOffsets>,
    /// Where the run before this one said that it shut down cleanly.
    clean: bool,
    recovery_points: Offsets,
    log_starts: Offsets,
    high_watermarks: Offsets,
    lock: DirLock,
}

/// Tells the housekeeping thread to end.
#[derive(Default)]
struct Stop {
    set: Mutex<bool>,
    signal: Condvar,
}

impl Stop {
    fn set(&self) {
        *self.set.lock() = true;
        self.signal.notify_all();
    }

    /// Waits; whether it is time to end.
    fn wait(&self, time: Duration) -> bool {
        let mut set = self.set.lock();
        if !*set {
            self.signal.wait_for(&mut set, time);
        }
        *set
    }
}

/// A file that is out of its log and waits for removal.
struct Doomed {
    path: PathBuf,
    at_mono_ms: u64,
}

/// See the module.
pub struct LogManager {
    options: LogManagerOptions,
    fs: Arc<dyn Fs>,
    dirs: Vec<Dir>,
    /// Directories that could not be opened.
    offline: Vec<PathBuf>,
    logs: RwLock<HashMap<TopicPartition, (usize, Arc<UnifiedLog>)>>,
    doomed: Mutex<Vec<Doomed>>,
    stop: Arc<Stop>,
    housekeeper: Mutex<Option<JoinHandle<()>>>,
    cleaner: LogCleaner,
    cleaner_threads: Pool,
    cleaner_started: AtomicBool,
    moves: Mutex<HashMap<TopicPartition, moves::Move>>,
    mover_runs: AtomicBool,
    mover: Mutex<Option<JoinHandle<()>>>,
    move_limit: Mutex<f64>,
    on_moved: moves::OnMoved,
    producer_expiration_ms: AtomicI64,
    producer_check_ms: AtomicU64,
    closed: AtomicBool,
}

/// `producer.id.expiration.check.interval.ms` until it is set.
const PRODUCER_CHECK_MS: u64 = 600_000;

impl LogManager {
    /// Locks the directories and opens every log in them; `config_of` gives a topic's configuration. Logs of a directory that was not shut
    /// down cleanly are recovered, several at once.
    ///
    /// # Errors
    /// A directory is used by another process, was never formatted, or cannot be read.
    pub fn open(
        options: LogManagerOptions,
        config_of: &(dyn Fn(&str) -> Arc<TopicConfig> + Sync),
    ) -> Result<Arc<LogManager>, LogError> {
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        let (mut dirs, mut offline, mut failure) = (Vec::new(), Vec::new(), None);
        for path in &options.dirs {
            match open_dir(&fs, path) {
                Ok(dir) => dirs.push(dir),
                // one broken disk of several takes only what is on it
                Err(error @ LogError::Storage { .. }) => {
                    tracing::error!(dir = %path.display(), %error, "the log directory is offline");
                    offline.push(path.clone());
                    failure = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = failure.filter(|_| dirs.is_empty()) {
            return Err(error);
        }
        let manager = Arc::new(LogManager {
            cleaner: LogCleaner::new(Arc::clone(&options.clock)),
            cleaner_threads: Pool::default(),
            cleaner_started: AtomicBool::new(false),
            moves: Mutex::default(),
            mover_runs: AtomicBool::new(false),
            mover: Mutex::new(None),
            move_limit: Mutex::new(f64::MAX),
            on_moved: Mutex::default(),
            producer_expiration_ms: AtomicI64::new(options.producer_expiration_ms),
            producer_check_ms: AtomicU64::new(PRODUCER_CHECK_MS),
            options,
            fs,
            dirs,
            offline,
            logs: RwLock::new(HashMap::new()),
            doomed: Mutex::new(Vec::new()),
            stop: Arc::new(Stop::default()),
            housekeeper: Mutex::new(None),
            closed: AtomicBool::new(false),
        });
        let mut copies = Vec::new();
        for i in 0..manager.dirs.len() {
            copies.extend(manager.load_dir(i, config_of)?.into_iter().map(|name| (i, name)));
        }
        for (i, name) in &copies {
            manager.load_copy(*i, name)?;
        }
        if !manager.moves.lock().is_empty() {
            manager.start_mover();
        }
        // from now on a crash must be seen as one
        for dir in &manager.dirs {
            let mark = dir.path.join(checkpoint::CLEAN_SHUTDOWN);
            if manager.fs.exists(&mark) {
                manager.fs.remove_file(&mark).at(&mark)?;
                manager.fs.sync_dir(&dir.path).at(&dir.path)?;
            }
        }
        let weak = Arc::downgrade(&manager);
        let thread = {
            let stop = Arc::clone(&manager.stop);
            std::thread::Builder::new().name("log-housekeeping".into()).spawn(move || housekeep(&weak, &stop))
        };
        *manager.housekeeper.lock() = Some(thread.at(Path::new("thread"))?);
        Ok(manager)
    }

    /// Opens the logs of a directory; the names of copies in it, whose logs may be in another one.
    fn load_dir(
        &self,
        index: usize,
        config_of: &(dyn Fn(&str) -> Arc<TopicConfig> + Sync),
    ) -> Result<Vec<String>, LogError> {
        let Some(dir) = self.dirs.get(index) else { return Ok(Vec::new()) };
        let (mut found, mut copies) = (Vec::new(), Vec::new());
        for name in self.fs.list(&dir.path).at(&dir.path)? {
            let path = dir.path.join(&name);
            if name == METADATA_LOG || !self.fs.is_dir(&path) {
                continue;
            }
            if name.ends_with("-delete") {
                self.fs.remove_dir_all(&path).at(&path)?;
            } else if name.ends_with("-future") {
                copies.push(name);
            } else if let Some(tp) = partition_of(&name) {
                found.push((tp, path));
            }
        }
        let now = self.options.clock.now();
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        let threads = if dir.clean { 1 } else { self.options.recovery_threads.max(1) };
        std::thread::scope(|scope| {
            for _ in 0..threads.min(found.len()) {
                scope.spawn(|| {
                    while let Some((tp, path)) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if failure.lock().is_some() {
                            return;
                        }
                        match self.open_log(dir, tp, path.clone(), None, config_of(&tp.topic), now) {
                            Ok(log) => {
                                if let Err(e) = self.insert_loaded(tp, index, log) {
                                    failure.lock().get_or_insert(e);
                                }
                            }
                            Err(e) => {
                                failure.lock().get_or_insert(e);
                            }
                        }
                    }
                });
            }
        });
        failure.into_inner().map_or(Ok(copies), Err)
    }

    /// A log is in two directories if a crash came between the two renames that end a move: the one with more records counts.
    fn insert_loaded(&self, tp: &TopicPartition, index: usize, log: Arc<UnifiedLog>) -> Result<(), LogError> {
        let mut logs = self.logs.write();
        let loser = match logs.get(tp) {
            Some((_, other)) if other.log_end_offset() >= log.log_end_offset() => Some((index, log)),
            _ => logs.insert(tp.clone(), (index, log)),
        };
        if let Some((i, log)) = loser
            && let Some(dir) = self.dirs.get(i)
        {
            tracing::warn!(partition = %tp, dir = %dir.path.display(), "a second log of the partition is put aside");
            log.retire(&named_aside(&dir.path, tp, "stray"))?;
        }
        Ok(())
    }

    fn open_log(
        &self,
        dir: &Dir,
        tp: &TopicPartition,
        path: PathBuf,
        topic_id: Option<Uuid>,
        config: Arc<TopicConfig>,
        now: Now,
    ) -> Result<Arc<UnifiedLog>, LogError> {
        // checkpoints are of the log that was here at the start; a new one of its name has none
        let is_new = !self.fs.is_dir(&path);
        let known = |offsets: &Offsets| if is_new { 0 } else { offsets.get(tp).copied().unwrap_or(0) };
        let topic_id = match topic_id {
            Some(id) => Some(id),
            None => checkpoint::read_topic_id(&*self.fs, &path)?,
        };
        UnifiedLog::open(LogOptions {
            fs: Arc::clone(&self.fs),
            committer: Arc::clone(&dir.committer),
            clean_offsets: Arc::clone(&dir.clean_offsets),
            dir: path,
            topic_partition: tp.clone(),
            topic_id,
            config,
            clean: dir.clean,
            recovery_point: known(&dir.recovery_points),
            log_start_offset: known(&dir.log_starts),
            high_watermark: known(&dir.high_watermarks),
            producer_expiration_ms: self.producer_expiration_ms.load(Ordering::Relaxed),
            now,
        })
    }

    /// The log of the metadata quorum, in the directory with this path (one of `log.dirs`, or `metadata.log.dir`). Always synced.
    pub fn open_metadata_log(&self, metadata_dir: &Path, mut config: TopicConfig) -> Result<Arc<UnifiedLog>, LogError> {
        let dir = self.dirs.iter().find(|d| d.path == metadata_dir).or(self.dirs.first());
        let dir = dir.ok_or_else(|| LogError::corrupt(metadata_dir, "not a log directory"))?;
        config.ack_durability = milena_common::config::value::AckDurability::Fsync;
        let tp = TopicPartition::new("__cluster_metadata", 0);
        self.open_log(
            dir,
            &tp,
            metadata_dir.join(METADATA_LOG),
            Some(Uuid::METADATA_TOPIC),
            Arc::new(config),
            self.options.clock.now(),
        )
    }

    /// The log of a partition, if it is here.
    pub fn get(&self, tp: &TopicPartition) -> Option<Arc<UnifiedLog>> {
        self.logs.read().get(tp).map(|(_, log)| Arc::clone(log))
    }

    /// The log of a partition, made empty if it is not here: in the directory with the id, if that names one, else in the one with the
    /// fewest logs.
    pub fn get_or_create(
        &self,
        tp: &TopicPartition,
        topic_id: Uuid,
        directory: Uuid,
        config: Arc<TopicConfig>,
    ) -> Result<Arc<UnifiedLog>, LogError> {
        if let Some(log) = self.get(tp) {
            log.update_config(config);
            return Ok(log);
        }
        let mut logs = self.logs.write();
        if let Some((_, log)) = logs.get(tp) {
            return Ok(Arc::clone(log));
        }
        let named = self.dirs.iter().position(|d| d.id == directory && !d.committer.failed());
        // an empty log in place of one that cannot be reached would be a loss
        let assigned = ![Uuid::UNASSIGNED_DIR, Uuid::LOST_DIR, Uuid::MIGRATING_DIR].contains(&directory);
        if let Some(dir) = self.dirs().iter().find(|d| !d.online).filter(|_| named.is_none() && assigned) {
            return Err(LogError::offline(&dir.path));
        }
        let index = match named {
            Some(i) => i,
            None => {
                let mut counts = vec![0usize; self.dirs.len()];
                for (i, _) in logs.values() {
                    if let Some(c) = counts.get_mut(*i) {
                        *c += 1;
                    }
                }
                let online = self.dirs.iter().zip(counts).enumerate().filter(|(_, (d, _))| !d.committer.failed());
                let least = online.min_by_key(|(_, (_, count))| *count).map(|(i, _)| i);
                least.ok_or_else(|| {
                    LogError::offline(self.options.dirs.first().map_or(Path::new(""), PathBuf::as_path))
                })?
            }
        };
        let dir = self.dirs.get(index).ok_or_else(|| LogError::offline(Path::new("log.dirs")))?;
        let path = dir.path.join(tp.to_string());
        let log = self.open_log(dir, tp, path, Some(topic_id), config, self.options.clock.now())?;
        logs.insert(tp.clone(), (index, Arc::clone(&log)));
        Ok(log)
    }

    /// Takes a log out of service; its files are removed after `file.delete.delay.ms`.
    pub fn delete(&self, tp: &TopicPartition) -> Result<(), LogError> {
        if let Some((log, to)) = self.retire(tp, "delete")? {
            let delay_ms = u64::try_from(log.config().file_delete_delay_ms).unwrap_or(0);
            self.doom([to], delay_ms);
        }
        Ok(())
    }

    /// Takes a log out of service and keeps its files, in a directory that no partition has.
    pub fn set_aside(&self, tp: &TopicPartition) -> Result<(), LogError> {
        self.retire(tp, "stray").map(|_| ())
    }

    fn retire(&self, tp: &TopicPartition, why: &str) -> Result<Option<(Arc<UnifiedLog>, PathBuf)>, LogError> {
        let Some((index, log)) = self.logs.write().remove(tp) else { return Ok(None) };
        let Some(dir) = self.dirs.get(index) else { return Ok(None) };
        let to = named_aside(&dir.path, tp, why);
        self.stop_moving(tp);
        log.retire(&to)?;
        self.cleaner.forget(tp);
        dir.clean_offsets.remove(tp)?;
        Ok(Some((log, to)))
    }

    fn doom(&self, paths: impl IntoIterator<Item = PathBuf>, delay_ms: u64) {
        let at_mono_ms = self.options.clock.now().mono_ms.saturating_add(delay_ms);
        self.doomed.lock().extend(paths.into_iter().map(|path| Doomed { path, at_mono_ms }));
    }

    /// Every log.
    pub fn all(&self) -> Vec<(TopicPartition, Arc<UnifiedLog>)> {
        self.logs.read().iter().map(|(tp, (_, log))| (tp.clone(), Arc::clone(log))).collect()
    }

    /// Every log and the directory it is in.
    pub fn all_by_dir(&self) -> Vec<(LogDir, Vec<Arc<UnifiedLog>>)> {
        let logs = self.logs.read();
        let of = |i: usize| logs.values().filter(|(d, _)| *d == i).map(|(_, log)| Arc::clone(log)).collect();
        self.dirs().into_iter().enumerate().map(|(i, d)| (d, of(i))).collect()
    }

    /// The directories.
    pub fn dirs(&self) -> Vec<LogDir> {
        let opened = self.dirs.iter().map(|d| LogDir { path: d.path.clone(), id: d.id, online: !d.committer.failed() });
        let others = self.offline.iter().map(|path| LogDir { path: path.clone(), id: Uuid::ZERO, online: false });
        opened.chain(others).collect()
    }

    /// Registers who is told of a directory that goes offline, by its id, on the thread that found out; at once of those that are.
    pub fn set_failure_listener(&self, listener: &Arc<dyn Fn(Uuid) + Send + Sync>) {
        for dir in &self.dirs {
            let (listener, id) = (Arc::clone(listener), dir.id);
            dir.committer.on_failure(Box::new(move || listener(id)));
        }
    }

    /// The high watermark that the last run wrote down.
    pub fn checkpointed_high_watermark(&self, tp: &TopicPartition) -> Option<i64> {
        self.dirs.iter().find_map(|d| d.high_watermarks.get(tp).copied())
    }

    /// The directory's id of a partition's log.
    pub fn directory_of(&self, tp: &TopicPartition) -> Option<Uuid> {
        let index = self.logs.read().get(tp)?.0;
        self.dirs.get(index).map(|d| d.id)
    }

    /// Deletes what retention allows to.
    pub fn apply_retention(&self) {
        self.apply_retention_to(|_| true);
    }

    fn apply_retention_to(&self, to: impl Fn(&TopicConfig) -> bool) {
        let now = self.options.clock.now();
        for (tp, log) in self.all().into_iter().filter(|(_, log)| to(&log.config())) {
            match log.delete_old_segments(now) {
                Ok(files) => self.doom(files, u64::try_from(log.config().file_delete_delay_ms).unwrap_or(0)),
                Err(e) => tracing::error!(partition = %tp, error = %e, "retention failed"),
            }
        }
    }

    /// Starts the threads that compact. Not before every log has its own configuration: a topic that is compacted by mistake loses records.
    pub fn start_cleaner(self: &Arc<Self>, options: CleanerOptions) {
        self.cleaner_started.store(true, Ordering::Release);
        self.set_cleaner(options);
    }

    /// `producer.id.expiration.ms`, and how often is looked (`producer.id.expiration.check.interval.ms`).
    pub fn set_producer_expiration(&self, expiration_ms: i64, check_ms: u64) {
        self.producer_expiration_ms.store(expiration_ms, Ordering::Relaxed);
        self.producer_check_ms.store(check_ms.max(1), Ordering::Relaxed);
    }

    fn expire_producers(&self) {
        let (now, expiration_ms) = (self.options.clock.now(), self.producer_expiration_ms.load(Ordering::Relaxed));
        self.all().iter().for_each(|(_, log)| log.expire_producers(now, expiration_ms));
    }

    /// What the cleaner may use from now on.
    pub fn set_cleaner(self: &Arc<Self>, options: CleanerOptions) {
        self.cleaner.set_options(options);
        if !self.cleaner_started.load(Ordering::Acquire) || self.closed.load(Ordering::Acquire) {
            return;
        }
        let threads = if options.enabled { options.threads } else { 0 };
        if let Err(error) = self.cleaner_threads.resize(&Arc::downgrade(self), threads) {
            tracing::error!(%error, "a thread of the cleaner could not be started");
        }
    }

    /// As last set.
    pub fn cleaner_options(&self) -> CleanerOptions {
        self.cleaner.options()
    }

    /// Compacts the log that needs it most, if one does. `sleep` waits that many milliseconds and says whether to go on; the cleaner's threads
    /// call this.
    pub fn clean_dirtiest_log(&self, sleep: &(dyn Fn(u64) -> bool + Sync)) -> Option<Cleaned> {
        let mut doomed = Vec::new();
        let cleaned = self.cleaner.clean_dirtiest(&self.all(), sleep, &mut doomed);
        if let Some(Cleaned::Round(tp, _) | Cleaned::Nothing(tp, _)) = &cleaned {
            let delay_ms = self.get(tp).map_or(0, |log| log.config().file_delete_delay_ms);
            self.doom(doomed, u64::try_from(delay_ms).unwrap_or(0));
        }
        cleaned
    }

    /// Logs that are damaged and therefore not compacted.
    pub fn uncleanable_logs(&self) -> Vec<TopicPartition> {
        self.cleaner.uncleanable()
    }

    /// Retention of compacted logs, which Kafka's cleaner applies between its rounds.
    pub(crate) fn delete_in_compacted_logs(&self) {
        self.apply_retention_to(|config| config.cleanup_policy.compact);
    }

    /// Writes the checkpoint files that are asked for.
    fn write_checkpoints(&self, recovery_points: bool, high_watermarks: bool) {
        let logs = self.logs.read();
        for (i, dir) in self.dirs.iter().enumerate().filter(|(_, d)| !d.committer.failed()) {
            let of = |offset: &dyn Fn(&UnifiedLog) -> i64| -> Offsets {
                logs.iter().filter(|(_, (d, _))| *d == i).map(|(tp, (_, log))| (tp.clone(), offset(log))).collect()
            };
            let mut written = Ok(());
            if recovery_points {
                written = checkpoint::write_offsets(
                    &*self.fs,
                    &dir.path.join(checkpoint::RECOVERY_POINT),
                    &of(&|l| l.recovery_point()),
                );
                let starts = of(&|l| l.log_start_offset()).into_iter().filter(|(_, o)| *o > 0).collect();
                written =
                    written.and(checkpoint::write_offsets(&*self.fs, &dir.path.join(checkpoint::LOG_START), &starts));
            }
            if high_watermarks {
                let path = dir.path.join(checkpoint::HIGH_WATERMARK);
                written = written.and(checkpoint::write_offsets(&*self.fs, &path, &of(&|l| l.high_watermark())));
            }
            if let Err(e) = written {
                tracing::error!(dir = %dir.path.display(), error = %e, "a checkpoint could not be written");
                if !e.is_full_disk() {
                    dir.committer.fail();
                }
            }
        }
    }

    /// Flushes logs that have waited for their `flush.ms`; how long the next may wait.
    pub fn flush_due_logs(&self) -> Option<u64> {
        let now = self.options.clock.now();
        self.all().iter().filter_map(|(_, log)| log.flush_if_due(now)).min()
    }

    fn remove_doomed(&self) {
        let now = self.options.clock.now().mono_ms;
        let mut due = Vec::new();
        self.doomed.lock().retain(|d| {
            if d.at_mono_ms <= now {
                due.push(d.path.clone());
            }
            d.at_mono_ms > now
        });
        for path in due {
            let removed =
                if self.fs.is_dir(&path) { self.fs.remove_dir_all(&path) } else { self.fs.remove_file(&path) };
            if let Err(e) = removed
                && e.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), error = %e, "a deleted file could not be removed");
            }
        }
    }

    /// Completes every log on disk, says so in `.kafka_cleanshutdown` and gives the directories up. Appends fail from here on.
    pub fn shutdown(&self, broker_epoch: i64) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.stop.set();
        self.cleaner_threads.stop();
        let (housekeeper, mover) = (self.housekeeper.lock().take(), self.mover.lock().take());
        for thread in [housekeeper, mover].into_iter().flatten() {
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
        self.close_copies();
        let mut incomplete = vec![false; self.dirs.len()];
        for (tp, (dir, log)) in self.logs.read().iter() {
            if let Err(e) = log.close() {
                tracing::error!(partition = %tp, error = %e, "a log could not be completed: it will be checked at the next start");
                if let Some(flag) = incomplete.get_mut(*dir) {
                    *flag = true;
                }
            }
        }
        self.write_checkpoints(true, true);
        for (dir, incomplete) in self.dirs.iter().zip(incomplete) {
            dir.committer.stop();
            if !incomplete
                && !dir.committer.failed()
                && let Err(e) = checkpoint::write_clean_shutdown(&*self.fs, &dir.path, broker_epoch)
            {
                tracing::error!(dir = %dir.path.display(), error = %e, "the clean shutdown could not be noted");
            }
            dir.lock.release();
        }
    }
}

impl Drop for LogManager {
    fn drop(&mut self) {
        self.stop.set();
        self.cleaner_threads.stop();
    }
}

fn open_dir(fs: &Arc<dyn Fs>, path: &Path) -> Result<Dir, LogError> {
    fs.create_dir_all(path).at(path)?;
    let lock = DirLock::take(path)?;
    let mut meta = MetaProperties::read(&**fs, path)?.ok_or_else(|| {
        LogError::corrupt(path, "No `meta.properties` found (have you run `kafka-storage.sh` to format the directory?)")
    })?;
    if meta.directory_id == Uuid::ZERO {
        meta.directory_id = Uuid::random();
        meta.write(&**fs, path)?;
    }
    let clean = checkpoint::read_clean_shutdown(&**fs, path).is_some();
    Ok(Dir {
        path: path.to_path_buf(),
        id: meta.directory_id,
        committer: Committer::start(path, Arc::clone(fs)).at(path)?,
        clean_offsets: Arc::new(CleanOffsets::open(Arc::clone(fs), path)),
        clean,
        recovery_points: checkpoint::read_offsets(&**fs, &path.join(checkpoint::RECOVERY_POINT)).unwrap_or_default(),
        log_starts: checkpoint::read_offsets(&**fs, &path.join(checkpoint::LOG_START)).unwrap_or_default(),
        high_watermarks: checkpoint::read_offsets(&**fs, &path.join(checkpoint::HIGH_WATERMARK)).unwrap_or_default(),
        lock,
    })
}

/// A directory for a log that is not, or not yet, the partition's: its name says why.
fn named_aside(dir: &Path, tp: &TopicPartition, why: &str) -> PathBuf {
    let unique = Uuid::random().to_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>();
    let suffix = format!(".{unique}-{why}");
    let mut name = tp.to_string();
    name.truncate(255 - suffix.len());
    dir.join(name + &suffix)
}

/// The partition whose directory has this name.
fn partition_of(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    if topic.is_empty() || !partition.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(TopicPartition::new(topic, partition.parse().ok()?))
}

/// The housekeeping thread: wakes when the next thing is due, ends when the manager is gone.
fn housekeep(manager: &Weak<LogManager>, stop: &Stop) {
    const TAIL_AGE_MS: u64 = 30_000;
    let Some(m) = manager.upgrade() else { return };
    let start = m.options.clock.now().mono_ms;
    let intervals = [
        m.options.high_watermark_checkpoint_ms.max(100),
        m.options.recovery_point_checkpoint_ms.max(100),
        m.options.retention_check_ms.max(1),
        TAIL_AGE_MS,
    ];
    drop(m);
    let mut due = intervals.map(|i| start.saturating_add(i));
    let mut producers_checked = start;
    loop {
        let Some(m) = manager.upgrade() else { return };
        let now = m.options.clock.now().mono_ms;
        if now.saturating_sub(producers_checked) >= m.producer_check_ms.load(Ordering::Relaxed) {
            producers_checked = now;
            m.expire_producers();
        }
        let mut ready = [false; 4];
        for ((due, interval), ready) in due.iter_mut().zip(intervals).zip(&mut ready) {
            if *due <= now {
                *due = now.saturating_add(interval);
                *ready = true;
            }
        }
        let [high_watermarks, recovery_points, retention, tails] = ready;
        if high_watermarks || recovery_points {
            m.write_checkpoints(recovery_points, high_watermarks);
        }
        if retention {
            m.apply_retention();
        }
        if tails {
            m.all().iter().for_each(|(_, log)| log.trim_tail());
        }
        m.remove_doomed();
        let flush = m.flush_due_logs();
        let next = due.iter().min().copied().unwrap_or(now).saturating_sub(m.options.clock.now().mono_ms);
        let wait = next.min(flush.unwrap_or(u64::MAX)).clamp(50, 1000);
        drop(m);
        if stop.wait(Duration::from_millis(wait)) {
            return;
        }
    }
}
