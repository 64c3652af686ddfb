//! For tests of this crate and of those that use it: `MemoryLog`, a `PartitionWriter` in memory, `MemoryOutside`, and
//! `partition_writer_suite`, which every implementation of the seam must pass.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use milena_common::{Now, TopicPartition};
use milena_protocol::ErrorCode;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::txn::{MarkerWriter, ProducerIdSource};
use crate::writer::{
    BoxFuture, Committed, CoordinatorRecord, LoadedBatch, LoadedRecord, PartitionWriter, TransactionalProducer,
    TxnMarker, Verified,
};

/// Partitions as lists of records. Commits can be held back, appends made to fail.
#[derive(Clone)]
pub struct MemoryLog {
    partitions: Arc<Mutex<HashMap<i32, MemoryPartition>>>,
    not_led: Arc<Mutex<HashSet<i32>>>,
    /// What appends that wait, and later ones, come to; `None` holds them back.
    verdict: watch::Sender<Option<Result<(), ErrorCode>>>,
}

#[derive(Default)]
struct MemoryPartition {
    log: Vec<LoadedRecord>,
    /// Epochs of transactional producers.
    epochs: HashMap<i64, i16>,
}

impl MemoryPartition {
    fn push(&mut self, producer_id: i64, records: Vec<CoordinatorRecord>) {
        for record in records {
            let offset = self.log.len() as i64;
            self.log.push(LoadedRecord::Record { offset, producer_id, record });
        }
    }

    fn check_epoch(&mut self, producer_id: i64, epoch: i16) -> Result<(), ErrorCode> {
        let known = self.epochs.entry(producer_id).or_insert(epoch);
        if epoch < *known {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        *known = epoch;
        Ok(())
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        MemoryLog { partitions: Arc::default(), not_led: Arc::default(), verdict: watch::Sender::new(Some(Ok(()))) }
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

    /// Whether this broker leads a partition; it leads all unless told otherwise.
    pub fn set_led(&self, partition: i32, led: bool) {
        let mut not_led = self.not_led.lock();
        if led {
            not_led.remove(&partition);
        } else {
            not_led.insert(partition);
        }
    }

    /// The records of a partition; those of failed appends are among them, as in a real log.
    pub fn records(&self, partition: i32) -> Vec<CoordinatorRecord> {
        let record = |loaded| match loaded {
            LoadedRecord::Record { record, .. } => Some(record),
            LoadedRecord::TransactionEnd { .. } => None,
        };
        self.log(partition).into_iter().filter_map(record).collect()
    }

    /// As `records`, with markers.
    pub fn log(&self, partition: i32) -> Vec<LoadedRecord> {
        self.partitions.lock().get(&partition).map(|partition| partition.log.clone()).unwrap_or_default()
    }

    /// Puts the content of a partition.
    pub fn set_records(&self, partition: i32, records: Vec<CoordinatorRecord>) {
        let mut content = MemoryPartition::default();
        content.push(-1, records);
        self.partitions.lock().insert(partition, content);
    }

    fn write(
        &self,
        partition: i32,
        write: impl FnOnce(&mut MemoryPartition) -> Result<(), ErrorCode>,
    ) -> Result<Committed, ErrorCode> {
        if self.not_led.lock().contains(&partition) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let last_offset = {
            let mut partitions = self.partitions.lock();
            let partition = partitions.entry(partition).or_default();
            write(partition)?;
            partition.log.len() as i64 - 1
        };
        let mut verdict = self.verdict.subscribe();
        Ok(Box::pin(async move {
            let decided = verdict.wait_for(Option::is_some).await.map_err(|_| ErrorCode::KafkaStorageError)?;
            decided.unwrap_or(Err(ErrorCode::KafkaStorageError)).map(|()| last_offset)
        }))
    }

    fn check_size(&self, partition: i32, records: &[CoordinatorRecord]) -> Result<(), ErrorCode> {
        let size_in_bytes: usize = records.iter().map(CoordinatorRecord::size_in_bytes).sum();
        match size_in_bytes > self.max_batch_bytes(partition) {
            true => Err(ErrorCode::MessageTooLarge),
            false => Ok(()),
        }
    }
}

impl PartitionWriter for MemoryLog {
    fn append(&self, partition: i32, records: Vec<CoordinatorRecord>, _now: Now) -> Committed {
        let written = self.write(partition, |content| {
            self.check_size(partition, &records)?;
            content.push(-1, records);
            Ok(())
        });
        written.unwrap_or_else(|error| Box::pin(async move { Err(error) }))
    }

    fn append_transactional(
        &self,
        partition: i32,
        producer: TransactionalProducer,
        records: Vec<CoordinatorRecord>,
        _now: Now,
    ) -> Result<Committed, ErrorCode> {
        self.write(partition, |content| {
            self.check_size(partition, &records)?;
            content.check_epoch(producer.producer_id, producer.producer_epoch)?;
            content.push(producer.producer_id, records);
            Ok(())
        })
    }

    fn append_marker(&self, partition: i32, marker: TxnMarker, _now: Now) -> Result<Committed, ErrorCode> {
        self.write(partition, |content| {
            content.check_epoch(marker.producer_id, marker.producer_epoch)?;
            let offset = content.log.len() as i64;
            let TxnMarker { producer_id, committed, .. } = marker;
            content.log.push(LoadedRecord::TransactionEnd { offset, producer_id, committed });
            Ok(())
        })
    }

    fn load(&self, partition: i32, from_offset: i64) -> BoxFuture<Result<LoadedBatch, ErrorCode>> {
        const BATCH: usize = 3;
        if self.not_led.lock().contains(&partition) {
            return Box::pin(async { Err(ErrorCode::NotLeaderOrFollower) });
        }
        let records = self.log(partition);
        let start = usize::try_from(from_offset).unwrap_or(0).min(records.len());
        let end = (start + BATCH).min(records.len());
        let loaded = records[start..end].to_vec();
        let next_offset = (end < records.len()).then_some(end as i64);
        let mut verdict = self.verdict.subscribe();
        Box::pin(async move {
            if next_offset.is_none() {
                let is_committed = |verdict: &Option<Result<(), ErrorCode>>| *verdict == Some(Ok(()));
                verdict.wait_for(is_committed).await.map_err(|_| ErrorCode::KafkaStorageError)?;
            }
            Ok(LoadedBatch { records: loaded, next_offset })
        })
    }
}

/// What a transaction coordinator reaches outside, in memory: the markers it wrote, and producer ids that count up.
#[derive(Default)]
pub struct MemoryOutside {
    markers: Mutex<Vec<(TopicPartition, TxnMarker)>>,
    last_producer_id: AtomicI64,
    /// What the next markers come to, first come first served; then they succeed.
    pub refusals: Mutex<Vec<ErrorCode>>,
}

impl MemoryOutside {
    /// The markers so far.
    pub fn markers(&self) -> Vec<(TopicPartition, TxnMarker)> {
        self.markers.lock().clone()
    }
}

impl MarkerWriter for MemoryOutside {
    fn write_markers(
        &self,
        marker: TxnMarker,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<Vec<Result<(), ErrorCode>>> {
        let write = |partition| match self.refusals.lock().pop() {
            Some(error) => Err(error),
            None => {
                self.markers.lock().push((partition, marker));
                Ok(())
            }
        };
        let results = partitions.into_iter().map(write).collect();
        Box::pin(async move { results })
    }
}

impl ProducerIdSource for MemoryOutside {
    fn next(&self) -> BoxFuture<Result<i64, ErrorCode>> {
        let id = self.last_producer_id.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move { Ok(id) })
    }
}

/// Checks an implementation of `PartitionWriter`. `led` is an empty partition that this broker leads, `not_led` one it does not.
/// Leaves its records behind, so that a caller may reopen its log and compare with what `loaded_records` says.
///
/// # Panics
/// When the implementation does not keep the contract.
pub async fn partition_writer_suite(writer: &dyn PartitionWriter, led: i32, not_led: i32) {
    let now = Now { mono_ms: 1, wall_ms: 1_700_000_000_000 };
    let record = |key: &str, value: Option<&str>| CoordinatorRecord {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    };

    assert_eq!(loaded_records(writer, led).await, Ok(Vec::new()), "an empty log loads as nothing");

    // One batch: dense offsets, null and empty values told apart.
    let first = vec![record("a", Some("1")), record("b", None), record("c", Some("")), record("", Some("empty key"))];
    let last_offset = writer.append(led, first.clone(), now).await.expect("committed");
    let mut expected = first;
    let loaded = loaded_records(writer, led).await.expect("loads");
    assert_eq!(loaded.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(
        loaded.last().map(|(offset, _)| *offset),
        Some(last_offset),
        "append answers the offset of its last record"
    );

    // Calls land in the order they were made, whatever becomes of their futures.
    let mut futures = Vec::new();
    for n in 0..50 {
        let batch = vec![record(&format!("k{n}"), Some("x")), record(&format!("k{n}"), Some(&"y".repeat(n)))];
        expected.extend(batch.clone());
        let future = writer.append(led, batch, now);
        if n % 5 == 3 {
            drop(future);
        } else {
            futures.push(future);
        }
    }
    let mut known = last_offset;
    while let Some(future) = futures.pop() {
        let offset = future.await.expect("committed");
        assert!(offset > last_offset && (known == last_offset || offset < known), "later calls have later offsets");
        known = offset;
    }
    let loaded = loaded_records(writer, led).await.expect("loads");
    assert_eq!(loaded.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>(), expected);
    assert!(loaded.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "nothing else was written, so offsets are dense");

    // From the middle, also of a batch.
    let (middle_offset, _) = loaded[loaded.len() / 2];
    let from_middle = writer.load(led, middle_offset).await.expect("loads");
    match from_middle.records.first() {
        Some(LoadedRecord::Record { offset, producer_id, record }) => {
            assert_eq!((*offset, *producer_id, record), (middle_offset, -1, &loaded[loaded.len() / 2].1));
        }
        other => panic!("expected the record at {middle_offset}, not {other:?}"),
    }

    // The largest batch fits, a larger one is refused and leaves nothing behind.
    let max_batch_bytes = writer.max_batch_bytes(led);
    let overhead_bytes = record("big", Some("")).size_in_bytes();
    let big = record("big", Some(&"z".repeat(max_batch_bytes - overhead_bytes)));
    writer.append(led, vec![big.clone()], now).await.expect("the largest batch fits");
    expected.push(big);
    let too_big = record("big", Some(&"z".repeat(max_batch_bytes + 1_024)));
    assert_eq!(writer.append(led, vec![too_big], now).await, Err(ErrorCode::MessageTooLarge));
    let loaded = loaded_records(writer, led).await.expect("loads");
    assert_eq!(loaded.len(), expected.len());

    transactions_suite(writer, led, not_led, now).await;

    assert_eq!(writer.append(not_led, vec![record("a", None)], now).await, Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(loaded_records(writer, not_led).await, Err(ErrorCode::NotLeaderOrFollower));
}

/// The part of `partition_writer_suite` about transactions.
async fn transactions_suite(writer: &dyn PartitionWriter, led: i32, not_led: i32, now: Now) {
    let records = vec![CoordinatorRecord { key: "of a transaction".into(), value: Some("x".into()) }];
    let producer =
        |producer_epoch| TransactionalProducer { producer_id: 9, producer_epoch, verified: Verified::NotAsked };
    let marker = |producer_epoch| TxnMarker {
        producer_id: 9,
        producer_epoch,
        committed: true,
        coordinator_epoch: 3,
        transaction_version: 0,
    };
    let appended = writer.append_transactional(led, producer(1), records.clone(), now).expect("is accepted");
    let offset = appended.await.expect("committed");
    let late = writer.append_transactional(led, producer(0), records.clone(), now);
    assert_eq!(late.err(), Some(ErrorCode::InvalidProducerEpoch), "a fenced producer is refused at once");
    assert_eq!(writer.append_marker(led, marker(0), now).err(), Some(ErrorCode::InvalidProducerEpoch));
    let ended = writer.append_marker(led, marker(1), now).expect("is accepted").await.expect("committed");
    assert_eq!(ended, offset + 1);
    let (mut loaded, mut next) = (Vec::new(), Some(offset));
    while let Some(from) = next {
        let stretch = writer.load(led, from).await.expect("loads");
        loaded.extend(stretch.records);
        next = stretch.next_offset;
    }
    let open = LoadedRecord::Record { offset, producer_id: 9, record: records[0].clone() };
    let end = LoadedRecord::TransactionEnd { offset: ended, producer_id: 9, committed: true };
    assert_eq!(loaded, [open, end]);
    let refused = writer.append_transactional(not_led, producer(1), records, now);
    assert_eq!(refused.err(), Some(ErrorCode::NotLeaderOrFollower));
    assert_eq!(writer.append_marker(not_led, marker(1), now).err(), Some(ErrorCode::NotLeaderOrFollower));
}

/// All records of a partition with their offsets, stretch by stretch as the coordinator loads them.
pub async fn loaded_records(
    writer: &dyn PartitionWriter,
    partition: i32,
) -> Result<Vec<(i64, CoordinatorRecord)>, ErrorCode> {
    let mut all = Vec::new();
    let mut from_offset = 0;
    loop {
        let LoadedBatch { records, next_offset } = writer.load(partition, from_offset).await?;
        for loaded in records {
            if let LoadedRecord::Record { offset, record, .. } = loaded {
                assert!(offset >= from_offset && all.last().is_none_or(|(last, _)| *last < offset), "offsets ascend");
                all.push((offset, record));
            }
        }
        match next_offset {
            Some(next) => {
                assert!(next > from_offset, "a load must move on from {from_offset}");
                from_offset = next;
            }
            None => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_log_keeps_the_contract() {
        let log = MemoryLog::default();
        log.set_led(1, false);
        partition_writer_suite(&log, 0, 1).await;
    }
}
