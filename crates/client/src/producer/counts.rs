//! What a producer counts of its work, under the names of Kafka's producer metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::accumulator::Batch;

/// Counts since the producer was made.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) requests: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) errors: AtomicU64,
    records: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
    largest_batch: AtomicU64,
}

impl Counts {
    pub(super) fn on_batches(&self, batches: &[Batch]) {
        // a repeated batch was counted when it first went
        for batch in batches.iter().filter(|batch| batch.attempts == 0) {
            self.records.fetch_add(batch.records.len() as u64, Ordering::Relaxed);
            self.batches.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(batch.size as u64, Ordering::Relaxed);
            self.largest_batch.fetch_max(batch.size as u64, Ordering::Relaxed);
        }
    }

    /// Group, name and value.
    pub(super) fn metrics(&self) -> Vec<(&'static str, &'static str, f64)> {
        const GROUP: &str = "producer-metrics";
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let (requests, batches, records) = (get(&self.requests), get(&self.batches), get(&self.records));
        vec![
            (GROUP, "batch-size-avg", get(&self.bytes) / batches),
            (GROUP, "batch-size-max", get(&self.largest_batch)),
            (GROUP, "record-error-total", get(&self.errors)),
            (GROUP, "record-retry-total", get(&self.retries)),
            (GROUP, "record-send-total", records),
            (GROUP, "record-size-avg", get(&self.bytes) / records),
            (GROUP, "records-per-request-avg", records / requests),
            (GROUP, "request-total", requests),
        ]
    }
}
