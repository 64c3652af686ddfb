//! Compaction: keeps the last record of each key in logs whose `cleanup.policy` says `compact` (KIP-58, KIP-354, KIP-534).
//!
//! [`LogCleaner`] chooses the dirtiest log and runs rounds on its threads; `plan` decides what is due, `round` copies, `filter` decides about a batch,
//! `clean_offsets` remembers. Segments change hands only in [`UnifiedLog::replace_segments`]. Started by the `LogManager`'s owner.

pub(crate) mod clean_offsets;
pub(crate) mod filter;
mod offset_map;
mod plan;
mod pool;
mod round;
#[cfg(test)]
mod tests;
mod transactions;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use milena_common::time::Clock;
use milena_common::{Now, TopicPartition};
use parking_lot::Mutex;

pub(crate) use pool::Pool;
pub use round::CleanedRound;

use crate::error::LogError;
use crate::unified_log::UnifiedLog;
use plan::Plan;
use round::{Means, Stopped};

/// The keys `log.cleaner.*`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanerOptions {
    /// `log.cleaner.enable`; otherwise no thread runs.
    pub enabled: bool,
    /// `log.cleaner.threads`.
    pub threads: usize,
    /// `log.cleaner.dedupe.buffer.size`: of all threads together.
    pub dedupe_buffer_bytes: usize,
    /// `log.cleaner.io.buffer.size`: of all threads together.
    pub io_buffer_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`.
    pub load_factor: f64,
    /// `log.cleaner.io.max.bytes.per.second`.
    pub io_max_bytes_per_second: f64,
    /// `log.cleaner.backoff.ms`.
    pub backoff_ms: u64,
}

impl Default for CleanerOptions {
    /// Kafka's defaults.
    fn default() -> Self {
        CleanerOptions {
            enabled: true,
            threads: 1,
            dedupe_buffer_bytes: 128 << 20,
            io_buffer_bytes: 512 << 10,
            load_factor: 0.9,
            io_max_bytes_per_second: f64::MAX,
            backoff_ms: 15_000,
        }
    }
}

/// What became of the log that was chosen.
#[derive(Debug, Clone)]
pub enum Cleaned {
    Round(TopicPartition, CleanedRound),
    /// It changed meanwhile, or could not be cleaned (and will not be tried again, if it is damaged).
    Nothing(TopicPartition, Option<LogError>),
}

/// Rounds and who may run them.
pub(crate) struct LogCleaner {
    clock: Arc<dyn Clock>,
    options: Mutex<CleanerOptions>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Logs that a round is working on.
    busy: HashSet<TopicPartition>,
    /// Logs that cannot be cleaned: damaged.
    uncleanable: HashSet<TopicPartition>,
    /// Logs that move to another directory.
    paused: HashSet<TopicPartition>,
    /// Bytes that were read and written since `window_start_ms`, for the limit per second.
    window_bytes: f64,
    window_start_ms: u64,
}

impl LogCleaner {
    pub fn new(clock: Arc<dyn Clock>) -> LogCleaner {
        LogCleaner { clock, options: Mutex::new(CleanerOptions::default()), state: Mutex::default() }
    }

    pub fn options(&self) -> CleanerOptions {
        *self.options.lock()
    }

    pub fn set_options(&self, options: CleanerOptions) {
        *self.options.lock() = options;
    }

    /// Logs that are damaged and therefore not cleaned.
    pub fn uncleanable(&self) -> Vec<TopicPartition> {
        self.state.lock().uncleanable.iter().cloned().collect()
    }

    /// The log was deleted: its name may come again.
    pub fn forget(&self, tp: &TopicPartition) {
        self.state.lock().uncleanable.remove(tp);
    }

    /// No round begins on the log any more; one may still run.
    pub fn pause(&self, tp: &TopicPartition) {
        self.state.lock().paused.insert(tp.clone());
    }

    pub fn resume(&self, tp: &TopicPartition) {
        self.state.lock().paused.remove(tp);
    }

    /// Whether a round runs on the log.
    pub fn is_busy(&self, tp: &TopicPartition) -> bool {
        self.state.lock().busy.contains(tp)
    }

    /// Runs a round on the dirtiest log, if one is due; `sleep` waits that many milliseconds and says whether to go on.
    pub fn clean_dirtiest(
        &self,
        logs: &[(TopicPartition, Arc<UnifiedLog>)],
        sleep: &(dyn Fn(u64) -> bool + Sync),
        doomed: &mut Vec<PathBuf>,
    ) -> Option<Cleaned> {
        let now = self.clock.now();
        let (tp, log, plan) = self.choose(logs, now)?;
        let cleaned = self.clean(&tp, &log, &plan, sleep, now, doomed);
        self.state.lock().busy.remove(&tp);
        Some(cleaned)
    }

    /// Chooses the log with the largest dirty share and marks it as busy.
    fn choose(
        &self,
        logs: &[(TopicPartition, Arc<UnifiedLog>)],
        now: Now,
    ) -> Option<(TopicPartition, Arc<UnifiedLog>, Plan)> {
        let candidates: Vec<_> = {
            let state = self.state.lock();
            let free = |tp: &TopicPartition| !state.busy.contains(tp) && !state.uncleanable.contains(tp);
            logs.iter().filter(|(tp, log)| log.config().cleanup_policy.compact && free(tp)).collect()
        };
        let mut due: Vec<_> = candidates
            .into_iter()
            .filter(|(_, log)| !log.is_offline())
            .filter_map(|(tp, log)| {
                let config = log.config();
                let plan = Plan::of(&log.clean_view(), &config, log.clean_offsets().get(tp), now.wall_ms);
                plan.is_due(&config).then(|| (tp.clone(), Arc::clone(log), plan))
            })
            .collect();
        due.sort_by(|(_, _, a), (_, _, b)| b.ratio.total_cmp(&a.ratio));
        let mut state = self.state.lock();
        due.into_iter().find(|(tp, _, _)| !state.paused.contains(tp) && state.busy.insert(tp.clone()))
    }

    fn clean(
        &self,
        tp: &TopicPartition,
        log: &UnifiedLog,
        plan: &Plan,
        sleep: &(dyn Fn(u64) -> bool + Sync),
        now: Now,
        doomed: &mut Vec<PathBuf>,
    ) -> Cleaned {
        let options = self.options();
        let threads = options.threads.max(1);
        let pace = |bytes: usize| self.pace(bytes, options.io_max_bytes_per_second, sleep);
        let means = Means {
            map_bytes: options.dedupe_buffer_bytes / threads,
            load_factor: options.load_factor,
            io_bytes: (options.io_buffer_bytes / threads / 2).max(4096),
            pace: &pace,
        };
        let view = log.clean_view();
        let cleaned = round::clean(log, &view, (plan.first_dirty, plan.bound), &means, now, doomed)
            .and_then(|round| Ok(log.clean_offsets().set(tp, round.end).map(|()| round)?));
        match cleaned {
            Ok(round) => {
                tracing::info!(
                    partition = %tp, from = round.first_dirty, to = round.end, read_bytes = round.bytes_read,
                    written_bytes = round.bytes_written, records = round.records_read, kept = round.records_kept, "compacted"
                );
                if round.records_without_key > 0 {
                    tracing::warn!(partition = %tp, records = round.records_without_key, "records without a key were dropped");
                }
                Cleaned::Round(tp.clone(), round)
            }
            Err(Stopped::Abandoned) => Cleaned::Nothing(tp.clone(), None),
            Err(Stopped::Failed(error)) => {
                // a full disk, or a directory that was deleted meanwhile, may be well the next time
                if matches!(error, LogError::Storage { .. }) {
                    tracing::warn!(partition = %tp, %error, "compaction failed");
                } else {
                    tracing::error!(partition = %tp, %error, "the log cannot be compacted and will not be tried again");
                    self.state.lock().uncleanable.insert(tp.clone());
                }
                Cleaned::Nothing(tp.clone(), Some(error))
            }
        }
    }

    /// Counts bytes and waits while there are more of them than the limit allows.
    fn pace(&self, bytes: usize, limit: f64, sleep: &(dyn Fn(u64) -> bool + Sync)) -> bool {
        if limit >= f64::MAX {
            return sleep(0);
        }
        let now = self.clock.now().mono_ms;
        let wait_ms = {
            let mut state = self.state.lock();
            let elapsed = now.saturating_sub(state.window_start_ms) as f64;
            // what was allowed and not used is gone after a second
            state.window_bytes = (state.window_bytes - elapsed * limit / 1000.0).max(0.0) + bytes as f64;
            state.window_start_ms = now;
            ((state.window_bytes / limit.max(1.0) - 1.0) * 1000.0).max(0.0)
        };
        sleep(wait_ms as u64)
    }
}
