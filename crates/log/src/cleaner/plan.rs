//! Which part of a log is to be cleaned, and how badly. Pure.

use milena_common::config::topic::TopicConfig;

use crate::unified_log::{CleanView, Source};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    /// Everything below has been cleaned before.
    pub first_dirty: i64,
    /// Where cleaning must stop: the beginning of a segment.
    pub bound: i64,
    /// Bytes between the two, and their share of all bytes below `bound`.
    pub dirty_bytes: u64,
    pub ratio: f64,
    /// For how long it has been overdue by `max.compaction.lag.ms`, in milliseconds.
    pub overdue_ms: i64,
}

impl Plan {
    /// `last_clean` is where the round before ended.
    pub fn of(view: &CleanView, config: &TopicConfig, last_clean: Option<i64>, now_ms: i64) -> Plan {
        // ahead of the log's end something is wrong: all of it is looked at again
        let first_dirty = last_clean.filter(|o| (view.log_start..=view.log_end).contains(o)).unwrap_or(view.log_start);
        let dirty = view.sources.get(floor(&view.sources, first_dirty)..).unwrap_or_default();
        let mut bound = view.bound;
        if config.min_compaction_lag_ms > 0 {
            let youngest = now_ms.saturating_sub(config.min_compaction_lag_ms);
            let young = dirty.iter().find(|s| s.largest_timestamp() > youngest);
            bound = young.map_or(bound, |s| bound.min(s.base_offset));
        }
        // a segment is cleaned whole or not at all
        if bound < view.active_base {
            bound = view.sources.get(floor(&view.sources, bound)).map_or(bound, |s| s.base_offset.min(bound));
        }
        let bound = bound.max(first_dirty);
        let bytes = |from: i64, to: i64| -> u64 {
            let first = floor(&view.sources, from);
            view.sources.iter().skip(first).take_while(|s| s.base_offset < to).map(|s| s.size).sum()
        };
        let clean_bytes: u64 = view.sources.iter().take_while(|s| s.base_offset < first_dirty).map(|s| s.size).sum();
        let dirty_bytes = if bound > first_dirty { bytes(first_dirty, bound) } else { 0 };
        let all = clean_bytes + dirty_bytes;
        let oldest = dirty.iter().filter_map(|s| s.first_timestamp).filter(|t| *t > 0).min();
        let due = now_ms.saturating_sub(config.max_compaction_lag_ms.max(0));
        Plan {
            first_dirty,
            bound,
            dirty_bytes,
            ratio: if all == 0 { 0.0 } else { dirty_bytes as f64 / all as f64 },
            overdue_ms: oldest.filter(|t| *t < due).map_or(0, |t| due - t),
        }
    }

    /// Whether it is worth it, or required.
    pub fn is_due(&self, config: &TopicConfig) -> bool {
        self.dirty_bytes > 0 && (self.overdue_ms > 0 || self.ratio > config.min_cleanable_dirty_ratio)
    }
}

/// The segment that holds an offset.
fn floor(sources: &[Source], offset: i64) -> usize {
    sources.partition_point(|s| s.base_offset <= offset).saturating_sub(1)
}
