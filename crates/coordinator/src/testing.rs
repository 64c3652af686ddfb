//! `MemoryLog`: a `PartitionWriter` in memory, for tests of this crate and of those that use it.

use std::collections::HashMap;
use std::sync::Arc;

use milena_common::Now;
use milena_protocol::ErrorCode;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::writer::{BoxFuture, CoordinatorRecord, LoadedBatch, LoadedRecord, PartitionWriter};

/// Partitions as lists of records. Commits can be held back, appends made to fail.
#[derive(Clone)]
pub struct MemoryLog {
    partitions: Arc<Mutex<HashMap<i32, Vec<CoordinatorRecord>>>>,
    /// What appends that wait, and later ones, come to; `None` holds them back.
    verdict: watch::Sender<Option<Result<(), ErrorCode>>>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        MemoryLog {
            partitions: Arc::default(),
            verdict: watch::Sender::new(Some(Ok(()))),
        }
    }
}

impl MemoryLog {
    /// From now on appends are not committed until `release` or `fail`.
    pub fn hold(&self) {
        self.verdict.send_replace(None);
    }

    /// Commits what waits, and what comes.
    pub fn release(&self) {
        self.verdict.send_replace(Some(Ok(())));
    }

    /// Fails what waits, and what comes.
    pub fn fail(&self, error: ErrorCode) {
        self.verdict.send_replace(Some(Err(error)));
    }

    /// The records of a partition; those of failed appends are among them, as in a real log.
    pub fn records(&self, partition: i32) -> Vec<CoordinatorRecord> {
        self.partitions
            .lock()
            .get(&partition)
            .cloned()
            .unwrap_or_default()
    }

    /// Puts the content of a partition.
    pub fn set_records(&self, partition: i32, records: Vec<CoordinatorRecord>) {
        self.partitions.lock().insert(partition, records);
    }
}

impl PartitionWriter for MemoryLog {
    fn append(
        &self,
        partition: i32,
        records: Vec<CoordinatorRecord>,
        _now: Now,
    ) -> BoxFuture<Result<i64, ErrorCode>> {
        let last_offset = {
            let mut partitions = self.partitions.lock();
            let log = partitions.entry(partition).or_default();
            log.extend(records);
            log.len() as i64 - 1
        };
        let mut verdict = self.verdict.subscribe();
        Box::pin(async move {
            let decided = verdict
                .wait_for(Option::is_some)
                .await
                .map_err(|_| ErrorCode::KafkaStorageError)?;
            decided
                .unwrap_or(Err(ErrorCode::KafkaStorageError))
                .map(|()| last_offset)
        })
    }

    fn load(&self, partition: i32, from_offset: i64) -> BoxFuture<Result<LoadedBatch, ErrorCode>> {
        const BATCH: usize = 3;
        let records = self.records(partition);
        let start = usize::try_from(from_offset).unwrap_or(0).min(records.len());
        let end = (start + BATCH).min(records.len());
        let loaded = (start..end)
            .map(|offset| LoadedRecord::Record {
                offset: offset as i64,
                producer_id: -1,
                record: records[offset].clone(),
            })
            .collect();
        let next_offset = (end < records.len()).then_some(end as i64);
        Box::pin(async move {
            Ok(LoadedBatch {
                records: loaded,
                next_offset,
            })
        })
    }
}
