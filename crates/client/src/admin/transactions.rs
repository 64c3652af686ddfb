//! Transactions and the producers in partitions (KIP-664).

use std::time::Duration;

use milena_common::TopicPartition;
use milena_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, InitProducerIdRequest, ListTransactionsRequest,
    WriteTxnMarkersRequest, describe_producers_request as producers, write_txn_markers_request as markers,
};

use super::{Admin, PerPartition};
use crate::cluster::CoordinatorKind;
use crate::error::ClientError;

/// A transactional id as its coordinator lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionListing {
    pub transactional_id: String,
    pub producer_id: i64,
    pub state: String,
    /// The broker that said so.
    pub coordinator_id: i32,
}

/// A transactional id and its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    pub coordinator_id: i32,
    pub state: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub timeout_ms: i32,
    /// Wall time in milliseconds; `None` while there is no transaction.
    pub started_ms: Option<i64>,
    pub partitions: Vec<TopicPartition>,
}

/// A producer that a partition remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    pub producer_id: i64,
    pub producer_epoch: i32,
    pub last_sequence: i32,
    pub last_timestamp: i64,
    /// `None` when no transaction of it ended here yet.
    pub coordinator_epoch: Option<i32>,
    pub txn_start_offset: Option<i64>,
}

/// The end of a transaction that hangs in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbortSpec {
    pub partition: TopicPartition,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
}

impl Admin {
    /// The transactional ids that one broker coordinates; `duration_ms` (-1: any) keeps those whose transaction is older.
    pub async fn list_transactions(
        &self,
        broker: i32,
        producer_ids: &[i64],
        duration_ms: i64,
        pattern: Option<&str>,
    ) -> Result<Vec<TransactionListing>, ClientError> {
        let request = ListTransactionsRequest {
            producer_id_filters: producer_ids.to_vec(),
            duration_filter: duration_ms,
            transactional_id_pattern: pattern.map(String::from),
            ..Default::default()
        };
        let response = self.client.request_node("listTransactions", broker, &request).await?;
        ClientError::check(response.error_code, None, "transactions")?;
        Ok(response
            .transaction_states
            .into_iter()
            .map(|t| TransactionListing {
                transactional_id: t.transactional_id,
                producer_id: t.producer_id,
                state: t.transaction_state,
                coordinator_id: broker,
            })
            .collect())
    }

    /// The state of one transactional id, from its coordinator.
    pub async fn describe_transaction(&self, id: &str) -> Result<TransactionDescription, ClientError> {
        let request = DescribeTransactionsRequest { transactional_ids: vec![id.to_string()], ..Default::default() };
        self.client
            .retrying("describeTransactions", async || {
                let coordinator = self.client.find_coordinator(CoordinatorKind::Transaction, id).await?;
                let response = self.client.connection(coordinator).await?.request(&request).await?;
                let Some(state) = response.transaction_states.into_iter().next() else {
                    return Err(ClientError::Malformed {
                        api: "DescribeTransactions".into(),
                        reason: "no transaction in the answer".into(),
                    });
                };
                ClientError::check(state.error_code, None, id)?;
                let partitions = state.topics.into_iter().flat_map(|topic| {
                    topic.partitions.into_iter().map(move |p| TopicPartition::new(topic.topic.as_str(), p))
                });
                Ok(TransactionDescription {
                    coordinator_id: coordinator,
                    state: state.transaction_state,
                    producer_id: state.producer_id,
                    producer_epoch: state.producer_epoch,
                    timeout_ms: state.transaction_timeout_ms,
                    started_ms: (state.transaction_start_time_ms >= 0).then_some(state.transaction_start_time_ms),
                    partitions: partitions.collect(),
                })
            })
            .await
    }

    /// The producers of partitions, from the leaders or from one broker.
    pub async fn describe_producers(
        &self,
        partitions: &[TopicPartition],
        broker: Option<i32>,
    ) -> Result<PerPartition<Vec<ProducerState>>, ClientError> {
        let (by_node, mut found) = match broker {
            Some(broker) => ([(broker, partitions.to_vec())].into(), PerPartition::new()),
            None => self.leaders("describeProducers", partitions).await?,
        };
        for (node, partitions) in by_node {
            let request = DescribeProducersRequest {
                topics: TopicPartition::by_topic(&partitions)
                    .into_iter()
                    .map(|(name, partition_indexes)| producers::TopicRequest {
                        name,
                        partition_indexes,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            };
            let response = self.client.request_node("describeProducers", node, &request).await?;
            for topic in response.topics {
                for p in topic.partitions {
                    let tp = TopicPartition::new(topic.name.as_str(), p.partition_index);
                    let result = ClientError::check(p.error_code, p.error_message.as_deref(), &tp.to_string());
                    let states = p.active_producers.into_iter().map(|s| ProducerState {
                        producer_id: s.producer_id,
                        producer_epoch: s.producer_epoch,
                        last_sequence: s.last_sequence,
                        last_timestamp: s.last_timestamp,
                        coordinator_epoch: (s.coordinator_epoch >= 0).then_some(s.coordinator_epoch),
                        txn_start_offset: (s.current_txn_start_offset >= 0).then_some(s.current_txn_start_offset),
                    });
                    found.insert(tp, result.map(|()| states.collect()));
                }
            }
        }
        Ok(found)
    }

    /// Ends a transaction that hangs in one partition: its leader writes the marker of an abort.
    pub async fn abort_transaction(&self, spec: &AbortSpec) -> Result<(), ClientError> {
        let partitions = [spec.partition.clone()];
        let (by_leader, found) = self.leaders::<()>("abortTransaction", &partitions).await?;
        if let Some(Err(error)) = found.into_values().next() {
            return Err(error);
        }
        let request = WriteTxnMarkersRequest {
            markers: vec![markers::WritableTxnMarker {
                producer_id: spec.producer_id,
                producer_epoch: spec.producer_epoch,
                transaction_result: false,
                topics: vec![markers::WritableTxnMarkerTopic {
                    name: spec.partition.topic.to_string(),
                    partition_indexes: vec![spec.partition.partition],
                    ..Default::default()
                }],
                coordinator_epoch: spec.coordinator_epoch,
                ..Default::default()
            }],
            ..Default::default()
        };
        for leader in by_leader.into_keys() {
            let response = self.client.request_node("abortTransaction", leader, &request).await?;
            let results = response.markers.into_iter().flat_map(|m| m.topics).flat_map(|t| t.partitions);
            for p in results {
                ClientError::check(p.error_code, None, &spec.partition.to_string())?;
            }
        }
        Ok(())
    }

    /// Ends whatever transaction a transactional id has, by taking its place as a producer would.
    pub async fn fence_producer(&self, id: &str) -> Result<(), ClientError> {
        let request = InitProducerIdRequest {
            transactional_id: Some(id.to_string()),
            // so long may the transaction have been that is ended
            transaction_timeout_ms: 1,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        self.client
            .retrying("fenceProducers", async || {
                let coordinator = self.client.find_coordinator(CoordinatorKind::Transaction, id).await?;
                let connection = self.client.connection(coordinator).await?;
                let version = connection.version_of::<InitProducerIdRequest>(5)?;
                let wait = Duration::from_millis(self.client.config().request_timeout_ms);
                let response = connection.request_at(&request, version, wait).await?;
                ClientError::check(response.error_code, None, id)
            })
            .await
    }
}
