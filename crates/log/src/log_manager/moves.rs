//! Logs that move to another directory of this broker (KIP-113): a copy beside the others (`-future`) is filled batch by batch, and once it has
//! caught up the log takes it over. One thread does it as long as there are any. A move survives a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use milena_common::TopicPartition;
use milena_common::config::value::AckDurability;
use parking_lot::Mutex;

use super::{Dir, LogDir, LogManager, named_aside, partition_of};
use crate::error::{At as _, LogError};
use crate::unified_log::UnifiedLog;

/// Bytes that are copied at once.
const STEP_BYTES: usize = 1 << 20;
/// Wait between two looks at copies that cannot go on just now.
const IDLE: Duration = Duration::from_millis(20);

/// A copy and the directory it is in.
#[derive(Clone)]
pub(super) struct Move {
    to: usize,
    copy: Arc<UnifiedLog>,
    /// How often the log had been cut when the copy began.
    truncations: u64,
}

/// What a step of a move came to.
enum Step {
    Copied(usize),
    Waiting,
    Done,
}

/// Why a log cannot be moved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MoveError {
    /// `LOG_DIR_NOT_FOUND`: the path is none of `log.dirs`.
    #[error("{0} is not a log directory of this broker")]
    DirNotFound(PathBuf),
    /// `UNKNOWN_TOPIC_OR_PARTITION`, or who leads it: the log is not here.
    #[error("no replica of the partition is here")]
    NotHere,
    /// `KAFKA_STORAGE_ERROR`: one of the directories is offline.
    #[error(transparent)]
    Storage(#[from] LogError),
}

impl LogManager {
    /// Begins to move a partition's log to the directory with this path; a move to another one is given up. Nothing if it is there.
    pub fn move_log(self: &Arc<Self>, tp: &TopicPartition, to: &Path) -> Result<(), MoveError> {
        let (to, dir) = self.dir_at(to)?;
        let (from, log) = self.logs.read().get(tp).cloned().ok_or(MoveError::NotHere)?;
        if log.is_dir_offline() {
            return Err(LogError::offline(&log.dir()).into());
        }
        let mut moves = self.moves.lock();
        if moves.get(tp).is_some_and(|m| m.to == to) {
            return Ok(());
        }
        if let Some(other) = moves.remove(tp) {
            self.forget_copy(tp, &other)?;
        }
        if from == to {
            self.cleaner.resume(tp);
            return Ok(());
        }
        // what is copied must not be compacted meanwhile: the copy would hold records that count as cleaned
        self.cleaner.pause(tp);
        let copy = self.open_copy(dir, tp, named_aside(&dir.path, tp, "future"), &log)?;
        moves.insert(tp.clone(), Move { to, copy, truncations: log.truncations() });
        drop(moves);
        self.start_mover();
        Ok(())
    }

    /// Whether there is an online directory with this path.
    pub fn check_dir(&self, path: &Path) -> Result<(), MoveError> {
        self.dir_at(path).map(|_| ())
    }

    fn dir_at(&self, path: &Path) -> Result<(usize, &Dir), MoveError> {
        let found = self.dirs.iter().enumerate().find(|(_, d)| d.path == path);
        let known = self.options.dirs.iter().any(|d| d == path);
        match found {
            Some((_, dir)) if dir.committer.failed() => Err(LogError::offline(path).into()),
            Some((i, dir)) => Ok((i, dir)),
            None if known => Err(LogError::offline(path).into()),
            None => Err(MoveError::DirNotFound(path.to_path_buf())),
        }
    }

    fn open_copy(
        &self,
        dir: &Dir,
        tp: &TopicPartition,
        path: PathBuf,
        log: &UnifiedLog,
    ) -> Result<Arc<UnifiedLog>, LogError> {
        // it is synced once, before it is the log
        let mut config = (*log.config()).clone();
        config.ack_durability = AckDurability::PageCache;
        self.open_log(dir, tp, path, log.topic_id(), Arc::new(config), self.options.clock.now())
    }

    /// Goes on with a move that the last run had begun; `name` is the directory of the copy.
    pub(super) fn load_copy(&self, index: usize, name: &str) -> Result<(), LogError> {
        let Some(dir) = self.dirs.get(index) else { return Ok(()) };
        let partition =
            name.strip_suffix("-future").and_then(|n| n.rsplit_once('.')).and_then(|(p, _)| partition_of(p));
        let log = partition.as_ref().and_then(|tp| self.logs.read().get(tp).cloned());
        let path = dir.path.join(name);
        match (partition, log) {
            (Some(tp), Some((from, log))) if from != index && !self.moves.lock().contains_key(&tp) => {
                self.cleaner.pause(&tp);
                let copy = self.open_copy(dir, &tp, path, &log)?;
                self.moves.lock().insert(tp, Move { to: index, copy, truncations: log.truncations() });
                Ok(())
            }
            // whose copy it was is gone, or has moved on
            _ => self.fs.remove_dir_all(&path).at(&path),
        }
    }

    /// Copies of logs that move, and where they are.
    pub fn future_logs(&self) -> Vec<(LogDir, Arc<UnifiedLog>)> {
        let dirs = self.dirs();
        let moves = self.moves.lock();
        moves.values().filter_map(|m| Some((dirs.get(m.to)?.clone(), Arc::clone(&m.copy)))).collect()
    }

    /// Most bytes per second that moves copy together (`replica.alter.log.dirs.io.max.bytes.per.second`).
    pub fn set_move_limit(&self, bytes_per_second: f64) {
        *self.move_limit.lock() = bytes_per_second;
    }

    /// The partition is gone from here, and a copy of it goes, too.
    pub(super) fn stop_moving(&self, tp: &TopicPartition) {
        let known = self.moves.lock().remove(tp);
        if let Some(m) = known {
            self.give_up(tp, &m);
        }
    }

    fn give_up(&self, tp: &TopicPartition, m: &Move) {
        if let Err(error) = self.forget_copy(tp, m) {
            tracing::error!(partition = %tp, %error, "the copy of a log could not be removed");
        }
        self.cleaner.resume(tp);
    }

    /// Ends this move, if no other one has taken its place.
    fn take_move(&self, tp: &TopicPartition, m: &Move) -> Option<Move> {
        let mut moves = self.moves.lock();
        let same = moves.get(tp).is_some_and(|now| Arc::ptr_eq(&now.copy, &m.copy));
        if same { moves.remove(tp) } else { None }
    }

    fn forget_copy(&self, tp: &TopicPartition, m: &Move) -> Result<(), LogError> {
        let Some(dir) = self.dirs.get(m.to) else { return Ok(()) };
        let to = named_aside(&dir.path, tp, "delete");
        dir.clean_offsets.remove(tp)?;
        m.copy.retire(&to)?;
        self.doom([to], 0);
        Ok(())
    }

    pub(super) fn start_mover(self: &Arc<Self>) {
        if self.mover_runs.swap(true, Ordering::AcqRel) {
            return;
        }
        let (weak, stop) = (Arc::downgrade(self), Arc::clone(&self.stop));
        let run = move || {
            loop {
                let Some(m) = weak.upgrade() else { return };
                let wait = m.move_step();
                let idle = m.moves.lock().is_empty();
                if idle {
                    m.mover_runs.store(false, Ordering::Release);
                    // one that came between the two would wait for ever
                    if m.moves.lock().is_empty() || m.mover_runs.swap(true, Ordering::AcqRel) {
                        return;
                    }
                }
                drop(m);
                if stop.wait(wait) {
                    return;
                }
            }
        };
        match std::thread::Builder::new().name("log-dir-mover".into()).spawn(run) {
            Ok(thread) => *self.mover.lock() = Some(thread),
            Err(error) => {
                tracing::error!(%error, "logs cannot be moved");
                self.mover_runs.store(false, Ordering::Release);
            }
        }
    }

    /// Brings every move a step on; how long to wait then.
    fn move_step(&self) -> Duration {
        let all: Vec<(TopicPartition, Move)> =
            self.moves.lock().iter().map(|(tp, m)| (tp.clone(), m.clone())).collect();
        let mut copied = 0;
        for (tp, m) in &all {
            match self.step(tp, m) {
                Ok(Step::Copied(bytes)) => copied += bytes,
                Ok(Step::Waiting) => {}
                Ok(Step::Done) => {
                    tracing::info!(partition = %tp, to = m.to, "a log has moved");
                    if self.take_move(tp, m).is_some() {
                        self.cleaner.resume(tp);
                    }
                }
                Err(error) if error.is_full_disk() => tracing::warn!(partition = %tp, %error, "a move waits for space"),
                Err(error) => {
                    tracing::error!(partition = %tp, %error, "a log stays where it is");
                    if let Some(m) = self.take_move(tp, m) {
                        self.give_up(tp, &m);
                    }
                }
            }
        }
        let limit = *self.move_limit.lock();
        match copied {
            0 => IDLE,
            _ if limit >= f64::MAX => Duration::ZERO,
            _ => Duration::from_secs_f64((copied as f64 / limit.max(1.0)).min(60.0)),
        }
    }

    fn step(&self, tp: &TopicPartition, m: &Move) -> Result<Step, LogError> {
        let Some((from, log)) = self.logs.read().get(tp).cloned() else { return Ok(Step::Waiting) };
        if self.cleaner.is_busy(tp) {
            return Ok(Step::Waiting);
        }
        let (now, copy) = (self.options.clock.now(), &m.copy);
        let start = log.log_start_offset();
        let truncations = log.truncations();
        if truncations != m.truncations || copy.log_end_offset() < start || copy.log_end_offset() > log.log_end_offset()
        {
            copy.truncate_fully_and_start_at(start, now)?;
            if let Some(m) = self.moves.lock().get_mut(tp) {
                m.truncations = truncations;
            }
            return Ok(Step::Copied(0));
        }
        if copy.log_end_offset() == 0 && copy.log_start_offset() == 0 && start > 0 {
            copy.truncate_fully_and_start_at(start, now)?;
        }
        let data = match log.read(copy.log_end_offset(), STEP_BYTES, i64::MAX, true) {
            // its start moved on just now
            Err(LogError::OffsetOutOfRange { .. }) => return Ok(Step::Waiting),
            other => other?,
        };
        let size = data.size_in_bytes();
        if size > 0 {
            copy.append_as_follower(data.into_contiguous(), now)?;
        }
        if log.log_end_offset() - copy.log_end_offset() > 0 && size >= STEP_BYTES / 2 {
            return Ok(Step::Copied(size));
        }
        // nearly there: most of it should be on disk before appends must wait for the rest
        if copy.recovery_point() < copy.log_end_offset() {
            copy.flush();
            return Ok(if size > 0 { Step::Copied(size) } else { Step::Waiting });
        }
        let (Some(to), Some(old)) = (self.dirs.get(m.to), self.dirs.get(from)) else { return Ok(Step::Waiting) };
        if let Some(offset) = old.clean_offsets.get(tp) {
            to.clean_offsets.set(tp, offset)?;
        }
        let (there, aside) = (to.path.join(tp.to_string()), named_aside(&old.path, tp, "delete"));
        // requests that look for the log see it in one place or the other
        let mut logs = self.logs.write();
        if !logs.get(tp).is_some_and(|(_, l)| Arc::ptr_eq(l, &log))
            || !log.adopt(copy, truncations, &there, &aside, now)?
        {
            return Ok(Step::Waiting);
        }
        logs.insert(tp.clone(), (m.to, Arc::clone(&log)));
        drop(logs);
        old.clean_offsets.remove(tp)?;
        self.doom([aside], u64::try_from(log.config().file_delete_delay_ms).unwrap_or(0));
        self.write_checkpoints(true, true);
        if let Some(moved) = &*self.on_moved.lock() {
            moved(tp, to.id);
        }
        Ok(Step::Done)
    }

    /// Registers who is told of a log that has moved, and the id of its new directory.
    pub fn set_move_listener(&self, listener: MoveListener) {
        *self.on_moved.lock() = Some(listener);
    }

    pub(super) fn close_copies(&self) {
        for (tp, m) in std::mem::take(&mut *self.moves.lock()) {
            if let Err(error) = m.copy.close() {
                tracing::error!(partition = %tp, %error, "the copy of a log could not be completed");
            }
        }
    }
}

/// Told of a log that has moved, on the mover's thread.
pub type MoveListener = Arc<dyn Fn(&TopicPartition, milena_common::Uuid) + Send + Sync>;

/// What moves need of the manager.
pub(super) type OnMoved = Mutex<Option<MoveListener>>;
