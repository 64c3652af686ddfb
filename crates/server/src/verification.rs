//! Before records begin a transaction in a partition, the coordinator is asked whether they may (KIP-890): a request that is late must not
//! open a transaction that nobody ends.
//!
//! Decides nothing: the log says whether there is something to ask about, the coordinator answers, and the log checks the ticket at the
//! append. Called by Produce and TxnOffsetCommit.

use std::time::Duration;

use milena_common::TopicPartition;
use milena_coordinator::TRANSACTION_VERSION_2;
use milena_log::TransactionCheck;
use milena_protocol::ErrorCode;
use milena_protocol::messages::AddPartitionsToTxnRequest;
use milena_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use milena_replica::ReplicaError;

use crate::auto_topics::TRANSACTION_STATE_TOPIC;
use crate::broker::Broker;

/// What a request's version can be told, and asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// Knows no TRANSACTION_ABORTABLE.
    Old,
    Abortable,
    /// Adds its partitions to the transaction by itself, as producers do that get an epoch with each transaction.
    Implicit,
}

/// Whose transaction it is.
pub(crate) struct Transaction<'a> {
    pub(crate) transactional_id: &'a str,
    pub(crate) producer: (i64, i16),
    pub(crate) support: Support,
}

/// Records that may begin the transaction in a partition.
pub(crate) struct Beginning {
    pub(crate) partition: TopicPartition,
    /// -1 if there is none.
    pub(crate) base_sequence: i32,
}

/// What the append to each partition is checked by, or why there is to be none; in order.
pub(crate) async fn ask(
    broker: &Broker,
    transaction: &Transaction<'_>,
    beginnings: &[Beginning],
) -> Vec<Result<TransactionCheck, ErrorCode>> {
    let is_implicit = transaction.support == Support::Implicit;
    if !is_implicit && !broker.config.load().transaction_partition_verification_enable {
        return beginnings.iter().map(|_| Ok(TransactionCheck::Off)).collect();
    }
    let (producer_id, producer_epoch) = transaction.producer;
    let begin = |beginning: &Beginning| {
        // Who does not lead the partition is told so by the append.
        let Ok(log) = broker.replicas.leader_log(&beginning.partition) else { return Ok(None) };
        let begun = log.begin_verification(producer_id, producer_epoch, beginning.base_sequence, is_implicit);
        begun.map_err(|error| ReplicaError::from(error).code())
    };
    let tickets: Vec<Result<Option<u64>, ErrorCode>> = beginnings.iter().map(begin).collect();
    let asked: Vec<TopicPartition> = (beginnings.iter().zip(&tickets))
        .filter(|(_, ticket)| matches!(ticket, Ok(Some(_))))
        .map(|(beginning, _)| beginning.partition.clone())
        .collect();
    if asked.is_empty() {
        return tickets.into_iter().map(|ticket| ticket.map(TransactionCheck::Ticket)).collect();
    }
    let answer = match (coordinator_elsewhere(broker, transaction.transactional_id), transaction.support) {
        (Some(coordinator), _) => ask_elsewhere(broker, coordinator, transaction, &asked).await,
        (None, Support::Implicit) => {
            add(broker, transaction, &asked).await.map(|()| vec![ErrorCode::None; asked.len()])
        }
        (None, _) => {
            broker.transactions.verify_partitions(transaction.transactional_id, transaction.producer, &asked).await
        }
    };
    let mut answers = answer.unwrap_or_else(|error| vec![error; asked.len()]).into_iter();
    let result = |ticket: Result<Option<u64>, ErrorCode>| {
        let ticket = ticket?;
        match ticket.map(|_| answers.next().unwrap_or(ErrorCode::UnknownServerError)) {
            None | Some(ErrorCode::None) => Ok(TransactionCheck::Ticket(ticket)),
            Some(error) => Err(worded(error, transaction.support)),
        }
    };
    tickets.into_iter().map(result).collect()
}

/// The broker that coordinates a transaction, if it is another.
fn coordinator_elsewhere(broker: &Broker, transactional_id: &str) -> Option<i32> {
    let image = broker.metadata.load();
    let partition = broker.transactions.partition_for(transactional_id);
    let leader = image.topics.partition(TRANSACTION_STATE_TOPIC, partition)?.leader;
    (leader >= 0 && leader != broker.node_id).then_some(leader)
}

/// As [`ask`], at another broker.
async fn ask_elsewhere(
    broker: &Broker,
    coordinator: i32,
    transaction: &Transaction<'_>,
    asked: &[TopicPartition],
) -> Result<Vec<ErrorCode>, ErrorCode> {
    let topic = |(name, partitions)| AddPartitionsToTxnTopic { name, partitions };
    let request = AddPartitionsToTxnRequest {
        transactions: vec![AddPartitionsToTxnTransaction {
            transactional_id: transaction.transactional_id.to_owned(),
            producer_id: transaction.producer.0,
            producer_epoch: transaction.producer.1,
            verify_only: transaction.support != Support::Implicit,
            topics: TopicPartition::by_topic(asked).into_iter().map(topic).collect(),
        }],
        ..Default::default()
    };
    let answer = broker.peers.send(coordinator, request).await.map_err(|error| {
        tracing::debug!(coordinator, %error, "the coordinator of a transaction does not answer");
        // the client asks again
        ErrorCode::NotCoordinator
    })?;
    if answer.error_code != 0 {
        return Err(ErrorCode::from_code(answer.error_code));
    }
    let topics: Vec<_> = answer.results_by_transaction.iter().flat_map(|result| &result.topic_results).collect();
    let told = |partition: &TopicPartition| {
        let topic = topics.iter().find(|topic| *topic.name == *partition.topic)?;
        let result = topic.results_by_partition.iter().find(|p| p.partition_index == partition.partition)?;
        Some(ErrorCode::from_code(result.partition_error_code))
    };
    Ok(asked.iter().map(|partition| told(partition).unwrap_or(ErrorCode::UnknownServerError)).collect())
}

/// Adds the partitions. While the transaction before is being completed it is tried again for a moment, which is mostly enough.
async fn add(broker: &Broker, transaction: &Transaction<'_>, asked: &[TopicPartition]) -> Result<(), ErrorCode> {
    let (backoff_ms, most_ms) = {
        let config = broker.config.load();
        let ms = |value: i32| u64::try_from(value).unwrap_or(0);
        (
            ms(config.add_partitions_to_txn_retry_backoff_ms).max(1),
            ms(config.add_partitions_to_txn_retry_backoff_max_ms),
        )
    };
    let Transaction { transactional_id, producer, .. } = *transaction;
    let mut waited_ms = 0;
    loop {
        let added = broker.transactions.add_partitions(transactional_id, producer, asked, TRANSACTION_VERSION_2).await;
        if added != Err(ErrorCode::ConcurrentTransactions) || waited_ms >= most_ms {
            return added;
        }
        tokio::time::sleep(Duration::from_millis(backoff_ms)).await;
        waited_ms += backoff_ms;
    }
}

/// In words that the client knows.
fn worded(error: ErrorCode, support: Support) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if support == Support::Old => ErrorCode::InvalidTxnState,
        error => error,
    }
}
