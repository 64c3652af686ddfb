//! One Fetch to one leader: the request, and the records in its answer.
//!
//! Sessions are not used: a consumer that names its partitions each time needs none. Decoding skips control batches, records before
//! the wanted offset and, with read_committed, the records of aborted transactions.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_common::{TopicPartition, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages::{FetchRequest, fetch_request as request, fetch_response as response};
use milena_protocol::records::{self, DecompressLimit};

use super::{ConsumerConfig, ConsumerRecord, TimestampType};
use crate::cluster::Client;
use crate::error::ClientError;

/// A partition to read.
pub(super) struct Wanted {
    pub(super) tp: TopicPartition,
    pub(super) topic_id: Uuid,
    pub(super) offset: i64,
    pub(super) generation: u64,
}

/// The answers of one leader.
pub(super) struct Fetched {
    pub(super) leader: i32,
    pub(super) answers: Vec<Answer>,
}

pub(super) struct Answer {
    pub(super) tp: TopicPartition,
    pub(super) generation: u64,
    pub(super) result: Result<Data, ClientError>,
}

/// Records and the offset after them.
pub(super) struct Data {
    pub(super) records: Vec<ConsumerRecord>,
    pub(super) next_offset: i64,
}

/// Reads from `leader`; every wanted partition gets an answer.
pub(super) async fn fetch(client: Client, config: Arc<ConsumerConfig>, leader: i32, wanted: Vec<Wanted>) -> Fetched {
    let answers = match exchange(&client, &config, leader, &wanted).await {
        Ok(mut found) => wanted
            .into_iter()
            .map(|w| {
                let result = match found.remove(&w.tp) {
                    Some(data) => read(&config, &w, data),
                    None => Ok(Data { records: Vec::new(), next_offset: w.offset }),
                };
                Answer { tp: w.tp, generation: w.generation, result }
            })
            .collect(),
        Err(error) => wanted
            .into_iter()
            .map(|w| Answer { tp: w.tp, generation: w.generation, result: Err(error.clone()) })
            .collect(),
    };
    Fetched { leader, answers }
}

async fn exchange(
    client: &Client,
    config: &ConsumerConfig,
    leader: i32,
    wanted: &[Wanted],
) -> Result<BTreeMap<TopicPartition, response::PartitionData>, ClientError> {
    let connection = client.connection(leader).await?;
    // from version 13 on topics go by id
    let ids_known = wanted.iter().all(|w| !w.topic_id.is_zero());
    let version = connection.version_of::<FetchRequest>(if ids_known { i16::MAX } else { 12 })?;
    let mut topics: BTreeMap<(&str, Uuid), Vec<request::FetchPartition>> = BTreeMap::new();
    for w in wanted {
        topics.entry((&w.tp.topic, w.topic_id)).or_default().push(request::FetchPartition {
            partition: w.tp.partition,
            fetch_offset: w.offset,
            partition_max_bytes: config.max_partition_fetch_bytes,
            ..Default::default()
        });
    }
    let message = FetchRequest {
        replica_id: -1,
        max_wait_ms: i32::try_from(config.fetch_max_wait_ms).unwrap_or(i32::MAX),
        min_bytes: config.fetch_min_bytes,
        max_bytes: config.fetch_max_bytes,
        isolation_level: i8::from(config.read_committed),
        topics: topics
            .into_iter()
            .map(|((topic, topic_id), partitions)| request::FetchTopic {
                topic: topic.into(),
                topic_id,
                partitions,
                ..Default::default()
            })
            .collect(),
        rack_id: config.client.rack.clone().unwrap_or_default(),
        ..Default::default()
    };
    let wait = Duration::from_millis(config.client.request_timeout_ms.saturating_add(config.fetch_max_wait_ms));
    let answer = connection.request_at(&message, version, wait).await?;
    ClientError::check(answer.error_code, None, "fetch")?;
    let mut found = BTreeMap::new();
    for topic in answer.responses {
        let name = if version >= 13 {
            wanted.iter().find(|w| w.topic_id == topic.topic_id).map(|w| w.tp.topic.clone())
        } else {
            Some(topic.topic.into())
        };
        let Some(name) = name else { continue };
        for data in topic.partitions {
            found.insert(TopicPartition::new(name.clone(), data.partition_index), data);
        }
    }
    Ok(found)
}

fn read(config: &ConsumerConfig, wanted: &Wanted, mut data: response::PartitionData) -> Result<Data, ClientError> {
    ClientError::check(data.error_code, None, &wanted.tp.to_string())?;
    // what is received is one piece
    let bytes = data.records.take().and_then(|mut pieces| pieces.pop()).unwrap_or_default();
    let mut aborted: Vec<(i64, i64)> = match data.aborted_transactions.take() {
        Some(list) if config.read_committed => list.iter().map(|t| (t.first_offset, t.producer_id)).collect(),
        _ => Vec::new(),
    };
    aborted.sort_unstable();
    decode(config, wanted, bytes, aborted)
}

fn decode(
    config: &ConsumerConfig,
    wanted: &Wanted,
    bytes: Bytes,
    aborted: Vec<(i64, i64)>,
) -> Result<Data, ClientError> {
    let corrupt = |reason: String| ClientError::Api {
        code: ErrorCode::CorruptMessage,
        message: Some(format!("{} at offset {}: {reason}", wanted.tp, wanted.offset)),
        resource: Some(wanted.tp.to_string()),
    };
    let mut aborted = aborted.into_iter().peekable();
    let mut aborted_producers: HashSet<i64> = HashSet::new();
    let mut data = Data { records: Vec::new(), next_offset: wanted.offset };
    for batch in records::batches(bytes) {
        let batch = batch.map_err(|error| corrupt(error.to_string()))?;
        if batch.last_offset() < wanted.offset {
            continue;
        }
        while let Some((_, producer)) = aborted.next_if(|(first, _)| *first <= batch.last_offset()) {
            aborted_producers.insert(producer);
        }
        if config.check_crcs && !batch.crc_valid() {
            return Err(corrupt("the checksum does not match".into()));
        }
        let skip = if batch.is_control() {
            // the marker ends the transaction, whichever way it went
            aborted_producers.remove(&batch.producer_id());
            true
        } else {
            batch.is_transactional() && aborted_producers.contains(&batch.producer_id())
        };
        if !skip {
            let leader_epoch = (batch.leader_epoch() >= 0).then_some(batch.leader_epoch());
            let timestamp_type = match batch.timestamp_type() {
                records::TimestampType::CreateTime => TimestampType::CreateTime,
                records::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
            };
            let list = batch.records(DecompressLimit::default()).map_err(|error| corrupt(error.to_string()))?;
            for record in list {
                let record = record.map_err(|error| corrupt(error.to_string()))?;
                if record.offset < wanted.offset {
                    continue;
                }
                data.records.push(ConsumerRecord {
                    topic: wanted.tp.topic.clone(),
                    partition: wanted.tp.partition,
                    offset: record.offset,
                    leader_epoch,
                    timestamp: record.timestamp,
                    timestamp_type,
                    key: record.key,
                    value: record.value,
                    headers: record
                        .headers
                        .into_iter()
                        .map(|(name, value)| (String::from_utf8_lossy(&name).into_owned(), value))
                        .collect(),
                });
            }
        }
        data.next_offset = data.next_offset.max(batch.last_offset() + 1);
    }
    Ok(data)
}
