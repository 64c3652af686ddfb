//! Writes records: gathers them into batches per partition, sends them to leaders, repeats what may be repeated.
//!
//! Owns the memory bound, the choice of partitions and the life of a batch. A few batches of a partition are under way at a time; with
//! idempotence (the default, as in Kafka 3.0 and later) a repeated batch is never written twice and the order within a partition always
//! holds. `accumulator` is the pure part, `sender` the one that waits for the network, `transactions` speaks with the coordinator.

mod accumulator;
mod counts;
mod partitioner;
mod sender;
mod transactions;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use milena_common::{Clock, SystemClock, TopicPartition};
use milena_protocol::ErrorCode;
use milena_protocol::records::Compression;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::Client;
use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::metadata::Metadata;
use accumulator::{Accumulator, Pending};
use counts::Counts;
use transactions::Transactions;

pub use partitioner::{murmur2, partition_for_key};
pub use transactions::GroupMetadata;

/// Settings of a producer, by Kafka's names. Times in milliseconds, sizes in bytes.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    pub client: ClientConfig,
    /// `acks`: -1 (all in-sync replicas), 1 (the leader), 0 (nobody: offsets are unknown).
    pub acks: i16,
    /// `enable.idempotence`; counts only with `acks` -1.
    pub idempotent: bool,
    /// `batch.size`: a batch is closed when it is this large.
    pub batch_size: usize,
    /// `linger.ms`: how long a batch waits for company.
    pub linger_ms: u64,
    /// `compression.type`.
    pub compression: Compression,
    /// `retries`: how often a batch is sent again.
    pub retries: u32,
    /// `delivery.timeout.ms`: a record that is not delivered by then is given up.
    pub delivery_timeout_ms: u64,
    /// `max.block.ms`: how long [`Producer::send`] may wait for metadata or memory.
    pub max_block_ms: u64,
    /// `buffer.memory`.
    pub buffer_memory: usize,
    /// `max.request.size`.
    pub max_request_size: usize,
    /// `max.in.flight.requests.per.connection`; more than 5 would break the order of an idempotent producer.
    pub max_in_flight: usize,
    /// `transactional.id`: records are written in transactions ([`Producer::begin_transaction`]).
    pub transactional_id: Option<String>,
    /// `transaction.timeout.ms`: the coordinator aborts a transaction that is open longer.
    pub transaction_timeout_ms: i32,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        ProducerConfig {
            client: ClientConfig::default(),
            acks: -1,
            idempotent: true,
            batch_size: 16 << 10,
            linger_ms: 5,
            compression: Compression::None,
            retries: u32::MAX,
            delivery_timeout_ms: 120_000,
            max_block_ms: 60_000,
            buffer_memory: 32 << 20,
            max_request_size: 1 << 20,
            max_in_flight: 5,
            transactional_id: None,
            transaction_timeout_ms: 60_000,
        }
    }
}

/// A record to write.
#[derive(Debug, Clone, Default)]
pub struct ProducerRecord {
    pub topic: String,
    /// `None`: by the key's hash, or wherever the current batch goes.
    pub partition: Option<i32>,
    /// Wall time in milliseconds; `None`: now.
    pub timestamp: Option<i64>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Where a record was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    pub topic: Arc<str>,
    pub partition: i32,
    /// -1 with acks 0.
    pub offset: i64,
    /// The record's time, or the broker's if the topic stamps on append.
    pub timestamp: i64,
}

/// The outcome of one record, ready when the broker has answered. May be dropped; the record is sent all the same.
pub struct Delivery(oneshot::Receiver<Result<RecordMetadata, ClientError>>);

impl Delivery {
    /// Waits for the broker's answer.
    pub async fn wait(self) -> Result<RecordMetadata, ClientError> {
        self.0.await.unwrap_or(Err(ClientError::Closed))
    }
}

/// A producer. Dropping it gives up what is not sent; [`Producer::close`] sends it first.
pub struct Producer {
    shared: Arc<Shared>,
    sender: JoinHandle<()>,
}

struct Shared {
    config: ProducerConfig,
    client: Client,
    state: Mutex<Accumulator>,
    /// `Some` with a `transactional.id`.
    transactions: Option<Transactions>,
    /// The partitions of topics, as of one picture of the cluster.
    topics: Mutex<HashMap<String, Available>>,
    counts: Counts,
    /// Something may have become ready to send.
    work: Notify,
    /// Batches were finished: memory is free, a flush may be done.
    done: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Accumulator> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<String, Available>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether batches carry a producer id and sequences.
    fn is_idempotent(&self) -> bool {
        self.config.acks == -1 && (self.config.idempotent || self.transactions.is_some())
    }
}

impl Producer {
    /// Starts a producer; needs a running tokio runtime. Connects with the first record.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`].
    #[allow(clippy::disallowed_methods, reason = "a producer owns its sender task and ends it")]
    pub fn new(config: ProducerConfig) -> Result<Producer, ClientError> {
        let client = Client::new(config.client.clone())?;
        let seed = SystemClock.now().wall_ms as u64 ^ u64::from(std::process::id());
        let in_flight = config.max_in_flight.min(5);
        let accumulator = Accumulator::new(config.batch_size, config.linger_ms, in_flight, seed);
        let transactions = config
            .transactional_id
            .as_ref()
            .map(|id| Transactions::new(client.clone(), id.clone(), config.transaction_timeout_ms));
        let shared = Arc::new(Shared {
            config,
            client,
            state: Mutex::new(accumulator),
            transactions,
            topics: Mutex::default(),
            counts: Counts::default(),
            work: Notify::new(),
            done: Notify::new(),
        });
        let sender = tokio::spawn(sender::run(shared.clone()));
        Ok(Producer { shared, sender })
    }

    /// The client beneath.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Hands a record over; returns when it is in a batch. The outcome comes through [`Delivery`].
    ///
    /// # Errors
    /// Metadata or memory did not come within `max.block.ms`; the topic or the partition does not exist; the record is too large.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ClientError> {
        if let Some(transactions) = &self.shared.transactions {
            transactions.may_send()?;
        }
        let deadline = Instant::now() + Duration::from_millis(self.shared.config.max_block_ms);
        let available = self.partitions_of(&record.topic, deadline).await?;
        let size = record_size(&record);
        if size > self.shared.config.max_request_size {
            return Err(ClientError::Api {
                code: ErrorCode::MessageTooLarge,
                message: Some(format!(
                    "The message is {size} bytes when serialized which is larger than {}, which is the value of the max.request.size configuration.",
                    self.shared.config.max_request_size
                )),
                resource: Some(record.topic),
            });
        }
        loop {
            let room = self.shared.done.notified();
            {
                let mut state = self.shared.state();
                if state.is_closed() {
                    return Err(ClientError::Closed);
                }
                // one record always fits an empty buffer
                if state.buffered_bytes() == 0 || state.buffered_bytes() + size <= self.shared.config.buffer_memory {
                    let (sender, receiver) = oneshot::channel();
                    let partition = match (record.partition, &record.key) {
                        (Some(partition), _) => partition,
                        (None, Some(key)) => partition_for_key(key, available.count),
                        (None, None) => state.sticky_partition(&record.topic, &available.with_leader).unwrap_or(0),
                    };
                    let pending = Pending {
                        timestamp: record.timestamp.unwrap_or_else(|| SystemClock.now().wall_ms),
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                        outcome: sender,
                    };
                    let tp = TopicPartition::new(available.topic.clone(), partition);
                    let now = Instant::now();
                    let expires = now + Duration::from_millis(self.shared.config.delivery_timeout_ms);
                    state.append(tp, pending, size, now, expires, &available.with_leader);
                    drop(state);
                    self.shared.work.notify_one();
                    return Ok(Delivery(receiver));
                }
            }
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                return Err(ClientError::Timeout(format!(
                    "Failed to allocate {size} bytes within the configured max blocking time {} ms.",
                    self.shared.config.max_block_ms
                )));
            }
        }
    }

    /// Sends everything that was handed over and waits until all of it is answered or given up.
    pub async fn flush(&self) {
        loop {
            let progress = self.shared.done.notified();
            {
                let mut state = self.shared.state();
                if state.is_empty() {
                    state.set_flushing(false);
                    return;
                }
                state.set_flushing(true);
            }
            self.shared.work.notify_one();
            progress.await;
        }
    }

    /// What was counted so far: group, name and value, by the names of Kafka's producer.
    pub fn metrics(&self) -> Vec<(&'static str, &'static str, f64)> {
        let mut metrics = self.shared.counts.metrics();
        let total = self.shared.config.buffer_memory;
        let used = self.shared.state().buffered_bytes();
        metrics.push(("producer-metrics", "buffer-total-bytes", total as f64));
        metrics.push(("producer-metrics", "buffer-available-bytes", total.saturating_sub(used) as f64));
        metrics
    }

    /// Flushes, then ends.
    pub async fn close(self) {
        self.flush().await;
        self.shared.state().close();
        self.shared.work.notify_one();
    }

    /// How many partitions the topic has, as metadata say; asks for them if need be.
    ///
    /// # Errors
    /// They did not come within `max.block.ms`; the topic cannot be used.
    pub async fn partition_count(&self, topic: &str) -> Result<i32, ClientError> {
        let deadline = Instant::now() + Duration::from_millis(self.shared.config.max_block_ms);
        Ok(self.partitions_of(topic, deadline).await?.count)
    }

    /// Takes the transactional id over from whoever had it, and ends what they left open. Called once, before the first transaction.
    ///
    /// # Errors
    /// No `transactional.id` is set; the coordinator refuses.
    pub async fn init_transactions(&self) -> Result<(), ClientError> {
        self.transactions()?.init().await?;
        self.shared.state().reset_sequences();
        Ok(())
    }

    /// Begins a transaction: what is sent from now on becomes visible together, or not at all.
    ///
    /// # Errors
    /// There is one already, or the id was not taken over.
    pub fn begin_transaction(&self) -> Result<(), ClientError> {
        self.transactions()?.begin()
    }

    /// Commits offsets of a consumer with the transaction.
    ///
    /// # Errors
    /// No transaction is open; the group or the coordinator refuses.
    pub async fn send_offsets_to_transaction(
        &self,
        offsets: &std::collections::BTreeMap<TopicPartition, crate::admin::CommittedOffset>,
        group: &GroupMetadata,
    ) -> Result<(), ClientError> {
        self.transactions()?.add_offsets(offsets, group).await
    }

    /// Sends what is left and commits.
    ///
    /// # Errors
    /// A record of the transaction was not written: only [`Producer::abort_transaction`] is left. Or the coordinator refuses.
    pub async fn commit_transaction(&self) -> Result<(), ClientError> {
        self.flush().await;
        if self.transactions()?.end(true).await? {
            self.shared.state().reset_sequences();
        }
        Ok(())
    }

    /// Gives up what is not sent and aborts.
    ///
    /// # Errors
    /// No transaction is open, or the coordinator refuses.
    pub async fn abort_transaction(&self) -> Result<(), ClientError> {
        let transactions = self.transactions()?;
        let waiting = self.shared.state().take_waiting();
        for record in waiting.into_iter().flat_map(|batch| batch.records) {
            let _ = record.outcome.send(Err(transactions::aborted()));
        }
        self.flush().await;
        if transactions.end(false).await? {
            self.shared.state().reset_sequences();
        }
        Ok(())
    }

    fn transactions(&self) -> Result<&Transactions, ClientError> {
        self.shared.transactions.as_ref().ok_or_else(|| {
            ClientError::InvalidConfig(
                "Cannot use transactional methods without enabling transactions by setting the transactional.id configuration property".into(),
            )
        })
    }

    async fn partitions_of(&self, topic: &str, deadline: Instant) -> Result<Available, ClientError> {
        let client = &self.shared.client;
        for attempt in 0.. {
            let picture = client.metadata();
            if attempt == 0
                && !client.metadata_is_old()
                && let Some(known) = self.shared.topics().get(topic)
                && Arc::ptr_eq(&known.picture, &picture)
            {
                return Ok(known.clone());
            }
            let known = picture.topics.get(topic);
            if let Some(found) = known.filter(|t| !t.partitions.is_empty())
                && !(attempt == 0 && client.metadata_is_old())
            {
                let with_leader = found.partitions.iter().filter(|p| p.leader.is_some()).map(|p| p.partition).collect();
                let available = Available {
                    topic: topic.into(),
                    count: i32::try_from(found.partitions.len()).unwrap_or(i32::MAX),
                    with_leader,
                    picture: picture.clone(),
                };
                let mut topics = self.shared.topics();
                topics.retain(|_, known| Arc::ptr_eq(&known.picture, &picture));
                topics.insert(topic.to_string(), available.clone());
                return Ok(available);
            }
            if attempt > 0
                && let Some(found) = known
            {
                match found.error {
                    ErrorCode::None | ErrorCode::UnknownTopicOrPartition | ErrorCode::LeaderNotAvailable => {}
                    ErrorCode::InvalidTopicException => {
                        tracing::error!(target: "org.apache.kafka.clients.Metadata",
                            "[Producer clientId={}] Metadata response reported invalid topics [{topic}]", client.config().client_id);
                        return Err(ClientError::Api {
                            code: found.error,
                            message: Some(format!("Invalid topics: [{topic}]")),
                            resource: Some(topic.into()),
                        });
                    }
                    error => return Err(ClientError::api(error, topic)),
                }
            }
            let missing = || {
                ClientError::Timeout(format!(
                    "Topic {topic} not present in metadata after {} ms.",
                    self.shared.config.max_block_ms
                ))
            };
            if attempt > 1 {
                let pause = client.config().backoff(attempt - 2);
                if Instant::now() + pause >= deadline {
                    return Err(missing());
                }
                tokio::time::sleep(pause).await;
            }
            match tokio::time::timeout_at(deadline, client.refresh_metadata(Some(&[topic.to_string()]), true)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.is_retriable() => tracing::warn!(
                    target: "org.apache.kafka.clients.NetworkClient", "metadata of topic {topic} could not be read: {error}"),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(missing()),
            }
        }
        Err(ClientError::Closed)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if !self.shared.state().is_closed() {
            self.sender.abort();
        }
    }
}

/// The partitions of a topic that records can go to.
#[derive(Clone)]
struct Available {
    topic: Arc<str>,
    count: i32,
    with_leader: Arc<[i32]>,
    /// What this was taken from.
    picture: Arc<Metadata>,
}

/// An upper bound of the bytes that a record takes in a batch.
fn record_size(record: &ProducerRecord) -> usize {
    let field = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + field(value) + 10).sum();
    field(&record.key) + field(&record.value) + headers + 36
}
