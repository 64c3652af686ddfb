//! The partitions of `__consumer_offsets` and `__transaction_state` as their coordinators write and read them.
//!
//! Owns the step from records to a batch and back; appends and waits through `ReplicaManager`, which knows who leads and what is
//! committed. Never decides what a record means. Made by `node.rs` for the coordinators.

use std::sync::Arc;

use bytes::Bytes;
use milena_common::config::BrokerConfig;
use milena_common::{Now, TopicPartition};
use milena_coordinator::{
    BoxFuture, Committed, CoordinatorRecord, LoadedBatch, LoadedRecord, PartitionWriter, TransactionalProducer,
    TxnMarker, Verified,
};
use milena_log::{CommitBy, Origin, TransactionCheck, UnifiedLog};
use milena_protocol::ErrorCode;
use milena_protocol::records::control::EndTxnMarker;
use milena_protocol::records::{
    BatchBuilder, BatchView, Compression, DecompressLimit, HEADER_LEN, NO_PRODUCER_ID, NO_SEQUENCE, batches,
};
use milena_replica::{AppendPart, AppendRequest, ReplicaError, ReplicaManager};

use crate::auto_topics::{GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC};

/// How long an append may stay uncommitted before it counts as failed. The coordinator has a shorter patience with its answers
/// (`offsets.commit.timeout.ms`); what it must not do is to load the partition again because a follower is slow.
const COMMIT_TIMEOUT_MS: u64 = i32::MAX as u64;

/// See the module.
pub(crate) struct CoordinatorLog {
    topic: &'static str,
    replicas: Arc<ReplicaManager>,
    compression: Compression,
    load_buffer_bytes: usize,
}

impl CoordinatorLog {
    /// `__consumer_offsets`. Reads `offsets.topic.compression.codec` and `offsets.load.buffer.size`.
    pub(crate) fn of_groups(config: &BrokerConfig, replicas: Arc<ReplicaManager>) -> CoordinatorLog {
        let codec = u8::try_from(config.offsets_topic_compression_codec).ok();
        CoordinatorLog {
            topic: GROUP_METADATA_TOPIC,
            replicas,
            // The configuration was checked when it was read.
            compression: codec.and_then(|id| Compression::from_id(id).ok()).unwrap_or_default(),
            load_buffer_bytes: usize::try_from(config.offsets_load_buffer_size).unwrap_or(1).max(1),
        }
    }

    /// `__transaction_state`. Reads `transaction.state.log.load.buffer.size`.
    pub(crate) fn of_transactions(config: &BrokerConfig, replicas: Arc<ReplicaManager>) -> CoordinatorLog {
        CoordinatorLog {
            topic: TRANSACTION_STATE_TOPIC,
            replicas,
            compression: Compression::None,
            load_buffer_bytes: usize::try_from(config.transaction_state_log_load_buffer_size).unwrap_or(1).max(1),
        }
    }

    fn batch_of(
        &self,
        records: &[CoordinatorRecord],
        producer: Option<TransactionalProducer>,
        now: Now,
    ) -> Result<Bytes, ErrorCode> {
        let mut batch = BatchBuilder::new(self.compression);
        if let Some(TransactionalProducer { producer_id, producer_epoch, .. }) = producer {
            batch = batch.with_producer(producer_id, producer_epoch, NO_SEQUENCE).with_transactional(true);
        }
        for record in records {
            batch
                .append(now.wall_ms, Some(&record.key), record.value.as_deref(), &[])
                .map_err(|_| ErrorCode::MessageTooLarge)?;
        }
        batch.build(0).map_err(|_| ErrorCode::MessageTooLarge)
    }

    /// Writes a batch. Errors at once if it was not written.
    fn write(&self, partition: i32, records: Bytes, transaction: TransactionCheck) -> Result<Committed, ErrorCode> {
        let appended = self.replicas.append(AppendRequest {
            acks: -1,
            origin: Origin::Coordinator,
            produce_version: None,
            timeout_ms: COMMIT_TIMEOUT_MS,
            commit: CommitBy::Thread,
            parts: vec![AppendPart { partition: TopicPartition::new(self.topic, partition), records, transaction }],
        });
        if let Some(Err(error)) = appended.results().first() {
            return Err(code_of(error));
        }
        Ok(Box::pin(async move {
            match appended.committed().await.pop() {
                Some(Ok(info)) => Ok(info.last_offset),
                Some(Err(error)) => Err(code_of(&error)),
                None => Err(ErrorCode::UnknownServerError),
            }
        }))
    }
}

impl PartitionWriter for CoordinatorLog {
    fn append(&self, partition: i32, records: Vec<CoordinatorRecord>, now: Now) -> Committed {
        let batch = self.batch_of(&records, None, now);
        let written = batch.and_then(|batch| self.write(partition, batch, TransactionCheck::Off));
        written.unwrap_or_else(|error| Box::pin(async move { Err(error) }))
    }

    fn append_transactional(
        &self,
        partition: i32,
        producer: TransactionalProducer,
        records: Vec<CoordinatorRecord>,
        now: Now,
    ) -> Result<Committed, ErrorCode> {
        let check = match producer.verified {
            Verified::NotAsked => TransactionCheck::Off,
            Verified::Asked(ticket) => TransactionCheck::Ticket(ticket),
        };
        self.write(partition, self.batch_of(&records, Some(producer), now)?, check)
    }

    fn append_marker(&self, partition: i32, marker: TxnMarker, now: Now) -> Result<Committed, ErrorCode> {
        let (batch, check) = marker_batch(&marker, now.wall_ms)?;
        self.write(partition, batch, check)
    }

    fn load(&self, partition: i32, from_offset: i64) -> BoxFuture<Result<LoadedBatch, ErrorCode>> {
        let replicas = Arc::clone(&self.replicas);
        let (topic, max_bytes) = (self.topic, self.load_buffer_bytes);
        Box::pin(async move {
            let partition = TopicPartition::new(topic, partition);
            let log = replicas.leader_log(&partition).map_err(|error| code_of(&error))?;
            let stretch = if log.log_start_offset() == log.log_end_offset() {
                LoadedStretch { records: Vec::new(), end_offset: log.log_end_offset(), is_end: true }
            } else {
                // Files may be slow: this is no work for the threads that serve sockets.
                let read = tokio::task::spawn_blocking(move || read_stretch(&log, from_offset, max_bytes));
                read.await.map_err(|_| ErrorCode::UnknownServerError)??
            };
            if stretch.is_end {
                replicas.wait_committed(&partition, stretch.end_offset).await.map_err(|error| code_of(&error))?;
            }
            let next_offset = (!stretch.is_end).then_some(stretch.end_offset);
            Ok(LoadedBatch { records: stretch.records, next_offset })
        })
    }

    fn max_batch_bytes(&self, partition: i32) -> usize {
        let log = self.replicas.leader_log(&TopicPartition::new(self.topic, partition));
        let max_message_bytes = log.map_or(0, |log| log.config().max_message_bytes);
        // Without a log the append is refused whatever its size.
        usize::try_from(max_message_bytes).unwrap_or(0).saturating_sub(HEADER_LEN)
    }
}

/// What lies between two offsets of a partition.
struct LoadedStretch {
    records: Vec<LoadedRecord>,
    /// The offset after the stretch.
    end_offset: i64,
    /// Nothing comes after it.
    is_end: bool,
}

fn read_stretch(log: &UnifiedLog, from_offset: i64, max_bytes: usize) -> Result<LoadedStretch, ErrorCode> {
    let from_offset = from_offset.max(log.log_start_offset());
    let log_end_offset = log.log_end_offset();
    if from_offset >= log_end_offset {
        return Ok(LoadedStretch { records: Vec::new(), end_offset: log_end_offset, is_end: true });
    }
    let data = log.read(from_offset, max_bytes, log_end_offset, true).map_err(|error| {
        tracing::error!(partition = %log.topic_partition(), offset = from_offset, %error, "cannot read a coordinator partition");
        ErrorCode::KafkaStorageError
    })?;
    // A read that finds nothing below the log end found a hole that compaction left at the end.
    let end_offset = if data.next_offset > from_offset { data.next_offset } else { log_end_offset };
    let mut records = Vec::new();
    // The pieces of a read may end inside a batch.
    for batch in batches(data.into_contiguous()) {
        let read = batch.and_then(|batch| add_records(&batch, from_offset, &mut records));
        if let Err(error) = read {
            // The log checked the batch when it was written: what it holds now is not what was acknowledged. The coordinator tries
            // again; it must not go on without what was in it.
            tracing::error!(partition = %log.topic_partition(), offset = from_offset, %error, "a coordinator partition is corrupt");
            return Err(ErrorCode::CorruptMessage);
        }
    }
    Ok(LoadedStretch { records, end_offset, is_end: end_offset >= log.log_end_offset() })
}

/// Adds the records of a batch from `from_offset` on.
fn add_records(
    batch: &BatchView,
    from_offset: i64,
    records: &mut Vec<LoadedRecord>,
) -> Result<(), milena_protocol::records::RecordsError> {
    let producer_id = if batch.is_transactional() { batch.producer_id() } else { NO_PRODUCER_ID };
    for record in batch.records(DecompressLimit::DEFAULT)? {
        let record = record?;
        if record.offset < from_offset {
            continue;
        }
        let offset = record.offset;
        if batch.is_control() {
            if let Some(EndTxnMarker { committed, .. }) = EndTxnMarker::parse(&record)? {
                records.push(LoadedRecord::TransactionEnd { offset, producer_id: batch.producer_id(), committed });
            }
        } else {
            let record = CoordinatorRecord { key: record.key.unwrap_or_default(), value: record.value };
            records.push(LoadedRecord::Record { offset, producer_id, record });
        }
    }
    Ok(())
}

/// A marker as the batch that a partition's leader appends, and what the log checks it by.
pub(crate) fn marker_batch(marker: &TxnMarker, timestamp_ms: i64) -> Result<(Bytes, TransactionCheck), ErrorCode> {
    let TxnMarker { producer_id, producer_epoch, committed, coordinator_epoch, transaction_version } = *marker;
    let batch = EndTxnMarker { committed, coordinator_epoch }.to_batch(0, timestamp_ms, producer_id, producer_epoch, 0);
    let batch = batch.map_err(|_| ErrorCode::UnknownServerError)?;
    Ok((batch, TransactionCheck::Marker(transaction_version)))
}

/// In the words of the seam: a partition that is not here is one that this broker does not lead.
fn code_of(error: &ReplicaError) -> ErrorCode {
    match error.code() {
        ErrorCode::UnknownTopicOrPartition => ErrorCode::NotLeaderOrFollower,
        code => code,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use milena_common::config::TopicConfig;
    use milena_common::{Clock, StateMachine, SystemClock, Uuid};
    use milena_coordinator::testing::{loaded_records, partition_writer_suite};
    use milena_log::checkpoint::MetaProperties;
    use milena_log::fs::RealFs;
    use milena_log::{LogManager, LogManagerOptions};
    use milena_metadata::{MetadataCache, MetadataDelta, MetadataImage, MetadataPublisher};
    use milena_protocol::stored::metadata::{MetadataRecord, PartitionRecord, TopicRecord};

    use super::*;

    const NODE: i32 = 1;
    const OTHER_NODE: i32 = 2;
    const LED: i32 = 0;
    const NOT_LED: i32 = 1;

    /// A broker that leads one of two partitions of `__consumer_offsets`.
    struct Home {
        dir: tempfile::TempDir,
        config: Arc<BrokerConfig>,
    }

    impl Home {
        fn new(overrides: &[(&str, &str)]) -> Home {
            let dir = tempfile::tempdir().expect("a directory");
            let meta = MetaProperties { cluster_id: "c".into(), node_id: NODE, directory_id: Uuid::random() };
            meta.write(&RealFs, dir.path()).expect("formats");
            let overrides = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let node_id = ("node.id".to_owned(), NODE.to_string());
            let config = BrokerConfig::parse(overrides.chain([node_id]).collect()).expect("a configuration");
            Home { dir, config: Arc::new(config) }
        }

        fn open(&self) -> (Arc<LogManager>, CoordinatorLog) {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let options = LogManagerOptions {
                dirs: vec![self.dir.path().to_owned()],
                recovery_threads: 1,
                retention_check_ms: u64::MAX,
                recovery_point_checkpoint_ms: u64::MAX,
                high_watermark_checkpoint_ms: u64::MAX,
                producer_expiration_ms: 86_400_000,
                clock: Arc::clone(&clock),
            };
            let topic_config = Arc::new(TopicConfig::from_overrides(&self.config, &BTreeMap::new()).expect("defaults"));
            let logs = LogManager::open(options, &|_| Arc::clone(&topic_config)).expect("opens");
            let image = image();
            let cache = MetadataCache::new(Arc::clone(&image));
            let replicas = ReplicaManager::new(Arc::clone(&self.config), Arc::clone(&logs), cache, clock);
            replicas.on_metadata_update(&MetadataDelta::between(&Arc::default(), &image), &image);
            (logs, CoordinatorLog::of_groups(&self.config, replicas))
        }
    }

    fn image() -> Arc<MetadataImage> {
        let topic_id = Uuid::from_bytes([7; 16]);
        let topic = TopicRecord { name: GROUP_METADATA_TOPIC.into(), topic_id };
        let partition = |partition_id, leader| {
            MetadataRecord::Partition(PartitionRecord {
                partition_id,
                topic_id,
                replicas: vec![leader],
                isr: vec![leader],
                leader,
                ..Default::default()
            })
        };
        let records = [MetadataRecord::Topic(topic), partition(LED, NODE), partition(NOT_LED, OTHER_NODE)];
        let mut image = MetadataImage::default();
        for (offset, record) in records.iter().enumerate() {
            image.replay(offset as i64, record);
        }
        Arc::new(image)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_the_contract_of_the_seam() {
        for load_buffer_bytes in ["5242880", "1"] {
            let home = Home::new(&[("offsets.load.buffer.size", load_buffer_bytes)]);
            let (logs, log) = home.open();
            partition_writer_suite(&log, LED, NOT_LED).await;
            let written = loaded_records(&log, LED).await.expect("loads");
            logs.shutdown(1);
            drop((logs, log));
            let (logs, log) = home.open();
            assert_eq!(loaded_records(&log, LED).await.expect("loads"), written, "as before the restart");
            logs.shutdown(1);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn compresses_and_reads_markers() {
        for codec in Compression::ALL {
            let home = Home::new(&[("offsets.topic.compression.codec", &codec.id().to_string())]);
            let (logs, log) = home.open();
            let record = CoordinatorRecord { key: "k".into(), value: Some("v".repeat(1_000).into()) };
            let now = SystemClock.now();
            assert_eq!(log.append(LED, vec![record.clone(); 100], now).await, Ok(99));
            let size = logs.get(&TopicPartition::new(GROUP_METADATA_TOPIC, LED)).expect("a log").size_in_bytes();
            assert_eq!(size < 50_000, codec != Compression::None, "{codec:?}: {size}");

            let mut batch = BatchBuilder::new(codec).with_producer(5, 0, 0).with_transactional(true);
            batch.append(now.wall_ms, Some(b"k"), None, &[]).expect("fits");
            let marker = EndTxnMarker { committed: true, coordinator_epoch: 0 };
            for records in [batch.build(0).expect("builds"), marker.to_batch(0, now.wall_ms, 5, 0, 0).expect("builds")]
            {
                let appended = log.replicas.append(AppendRequest {
                    acks: -1,
                    origin: Origin::Coordinator,
                    produce_version: None,
                    timeout_ms: COMMIT_TIMEOUT_MS,
                    commit: CommitBy::Thread,
                    parts: vec![AppendPart {
                        partition: TopicPartition::new(GROUP_METADATA_TOPIC, LED),
                        records,
                        transaction: TransactionCheck::Off,
                    }],
                });
                appended.committed().await.pop().expect("a result").expect("appends");
            }
            let mut loaded = log.load(LED, 0).await.expect("loads");
            assert_eq!(loaded.next_offset, None);
            let tail = loaded.records.split_off(100);
            assert!(
                loaded.records.iter().zip(0..).all(|(loaded, offset)| *loaded
                    == LoadedRecord::Record { offset, producer_id: -1, record: record.clone() })
            );
            let open = CoordinatorRecord { key: "k".into(), value: None };
            assert_eq!(
                tail,
                [
                    LoadedRecord::Record { offset: 100, producer_id: 5, record: open },
                    LoadedRecord::TransactionEnd { offset: 101, producer_id: 5, committed: true }
                ]
            );
            logs.shutdown(1);
        }
    }
}
