//! Replication quotas (KIP-73): how fast replicas that are moved or catch up may be copied, so that clients do not suffer.
//!
//! Which replicas count stands in the topics (`leader.replication.throttled.replicas`, `follower.replication.throttled.replicas`), how
//! fast in the dynamic settings of the brokers. A replica in sync is never held back. Pure but for a lock of its own; called by
//! `replica_manager.rs` for what leaders give and by `fetcher` for what followers take.

use std::collections::VecDeque;

use milena_common::{Now, TopicPartition};
use parking_lot::Mutex;

/// Bytes per second over a sliding window. Without a rate nothing is held back.
#[derive(Debug)]
pub(crate) struct ReplicationQuota {
    samples: usize,
    sample_ms: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes_per_second: Option<u64>,
    /// When a sample began, and its bytes; the newest last.
    window: VecDeque<(u64, u64)>,
}

impl ReplicationQuota {
    pub fn new(samples: i32, sample_seconds: i32) -> ReplicationQuota {
        ReplicationQuota {
            samples: usize::try_from(samples).unwrap_or(1).max(1),
            sample_ms: u64::try_from(sample_seconds).unwrap_or(1).max(1) * 1_000,
            state: Mutex::default(),
        }
    }

    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.state.lock().bytes_per_second = bytes_per_second;
    }

    pub fn record(&self, bytes: usize, now: Now) {
        let mut state = self.state.lock();
        let bytes = bytes as u64;
        match state.window.back_mut() {
            Some((began, sum)) if now.mono_ms < *began + self.sample_ms => *sum += bytes,
            _ => state.window.push_back((now.mono_ms, bytes)),
        }
        while state.window.len() > self.samples {
            state.window.pop_front();
        }
    }

    pub fn is_exceeded(&self, now: Now) -> bool {
        let mut state = self.state.lock();
        let Some(rate) = state.bytes_per_second else { return false };
        let window_ms = self.sample_ms * self.samples as u64;
        while state.window.front().is_some_and(|(began, _)| now.mono_ms >= *began + window_ms) {
            state.window.pop_front();
        }
        let bytes: u64 = state.window.iter().map(|(_, bytes)| bytes).sum();
        let elapsed_ms = state.window.front().map_or(0, |(began, _)| now.mono_ms.saturating_sub(*began));
        // what came in one moment is spread over a sample
        u128::from(bytes) * 1_000 > u128::from(rate) * u128::from(elapsed_ms.max(self.sample_ms))
    }
}

/// Whether a topic's list names the replica of a partition on a broker.
pub(crate) fn names(list: &[String], partition: &TopicPartition, broker: i32) -> bool {
    list.iter().any(|entry| {
        let named = || {
            let (index, id) = entry.split_once(':')?;
            Some((index.trim().parse().ok()?, id.trim().parse().ok()?))
        };
        entry == "*" || named() == Some((partition.partition, broker))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: 0 }
    }

    #[test]
    fn bytes_are_spread_over_the_window() {
        let quota = ReplicationQuota::new(5, 1);
        quota.record(10_000, at(0));
        assert!(!quota.is_exceeded(at(0)), "no rate is set");
        quota.set_rate(Some(4_000));
        assert!(quota.is_exceeded(at(0)));
        assert!(quota.is_exceeded(at(2_400)));
        assert!(!quota.is_exceeded(at(2_500)));
        quota.record(5_000, at(2_500));
        assert!(quota.is_exceeded(at(2_500)));
        assert!(!quota.is_exceeded(at(5_000)), "the oldest sample is forgotten");
        quota.set_rate(Some(0));
        assert!(quota.is_exceeded(at(5_000)));
    }

    #[test]
    fn lists_name_replicas() {
        let partition = TopicPartition::new("t", 3);
        let list = |entries: &[&str]| entries.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>();
        assert!(names(&list(&["0:1", "3:2"]), &partition, 2));
        assert!(!names(&list(&["0:2", "3:1", "3", "x:y"]), &partition, 2));
        assert!(names(&list(&["*"]), &partition, 2));
        assert!(!names(&[], &partition, 2));
    }
}
