//! Which transactions hang: open in a partition for longer than any may last, while their coordinator knows nothing of them (KIP-664).
//!
//! Asks the cluster; changes nothing. Called by `transactions`.

use std::collections::BTreeMap;

use milena_client::ClientError;
use milena_client::admin::{Admin, ProducerState, TransactionDescription};
use milena_common::{Clock as _, SystemClock, TopicPartition};

use super::text_table::text_table;
use super::transactions::failed;
use crate::opts::argparse::{Found, number, one};
use crate::tool::{Stop, out, refuse};

/// Producers may not be asked to last longer than this by default (`transaction.max.timeout.ms`).
const MAX_MINUTES: i64 = 15;

/// A transaction that is open in a partition.
type Open = (TopicPartition, ProducerState);

/// `find-hanging`.
pub(super) async fn find(admin: &Admin, found: &Found) -> Result<(), Stop> {
    let (topic, broker) = (one(found, "--topic"), number::<i32>(found, "--broker-id"));
    if topic.is_none() && broker.is_none() {
        return refuse(
            "The `find-hanging` command requires either --topic or --broker-id to limit the scope of the search",
        );
    }
    let partitions = candidates(admin, topic, number(found, "--partition"), broker).await?;
    let minutes = number::<i64>(found, "--max-transaction-timeout").unwrap_or(MAX_MINUTES);
    let now = SystemClock.now().wall_ms;
    let open = old(admin, &partitions, broker, now.saturating_sub(minutes.saturating_mul(60_000))).await?;
    let mut rows = Vec::new();
    for (tp, state) in unknown_to_coordinators(admin, open).await? {
        let lasted = now.saturating_sub(state.last_timestamp) / 60_000;
        rows.push(vec![
            tp.topic.to_string(),
            tp.partition.to_string(),
            state.producer_id.to_string(),
            state.producer_epoch.to_string(),
            state.coordinator_epoch.unwrap_or(-1).to_string(),
            state.txn_start_offset.unwrap_or(-1).to_string(),
            state.last_timestamp.to_string(),
            lasted.to_string(),
        ]);
    }
    let head = [
        "Topic",
        "Partition",
        "ProducerId",
        "ProducerEpoch",
        "CoordinatorEpoch",
        "StartOffset",
        "LastTimestamp",
        "Duration(min)",
    ];
    out(text_table(&head, &rows));
    Ok(())
}

/// The partitions to look into.
async fn candidates(
    admin: &Admin,
    topic: Option<&str>,
    partition: Option<i32>,
    broker: Option<i32>,
) -> Result<Vec<TopicPartition>, Stop> {
    if let (Some(topic), Some(partition)) = (topic, partition) {
        return Ok(vec![TopicPartition::new(topic, partition)]);
    }
    let names = match topic {
        Some(topic) => vec![topic.to_string()],
        None => match admin.list_topics().await {
            Ok(topics) => topics.into_iter().map(|topic| topic.name).collect(),
            Err(error) => return failed("Failed to list topics", &error),
        },
    };
    let what = format!("Failed to describe {} topics", names.len());
    let described = match admin.describe_topics(&names, 2000).await {
        Ok(described) => described,
        Err(error) => return failed(&what, &error),
    };
    let mut found = Vec::new();
    for (name, description) in described {
        let description = match description {
            Ok(description) => description,
            Err(error) => return failed(&what, &error),
        };
        let kept = description.partitions.iter().filter(|p| broker.is_none_or(|broker| p.replicas.contains(&broker)));
        found.extend(kept.map(|p| TopicPartition::new(name.as_str(), p.partition)));
    }
    Ok(found)
}

/// Transactions in the partitions that were last written to before `deadline_ms`.
async fn old(
    admin: &Admin,
    partitions: &[TopicPartition],
    broker: Option<i32>,
    deadline_ms: i64,
) -> Result<Vec<Open>, Stop> {
    let described = match admin.describe_producers(partitions, broker).await {
        Ok(described) => described,
        Err(error) => {
            return failed(&format!("Failed to describe producers for {} partitions", partitions.len()), &error);
        }
    };
    let mut open = Vec::new();
    for (tp, states) in described {
        match states {
            Ok(states) => open.extend(
                states
                    .into_iter()
                    .filter(|state| state.txn_start_offset.is_some() && state.last_timestamp < deadline_ms)
                    .map(|state| (tp.clone(), state)),
            ),
            Err(error) => {
                return failed(&format!("Failed to describe producers for {} partitions", partitions.len()), &error);
            }
        }
    }
    Ok(open)
}

/// Those whose producer has no transactional id, or whose coordinator has another transaction or none in that partition.
async fn unknown_to_coordinators(admin: &Admin, open: Vec<Open>) -> Result<Vec<Open>, Stop> {
    if open.is_empty() {
        return Ok(open);
    }
    let producer_ids: Vec<i64> = open.iter().map(|(_, state)| state.producer_id).collect();
    let mut known: BTreeMap<i64, TransactionDescription> = BTreeMap::new();
    let whole = async {
        for node in admin.describe_cluster().await?.nodes {
            for listing in admin.list_transactions(node.id, &producer_ids, -1, None).await? {
                known.insert(listing.producer_id, admin.describe_transaction(&listing.transactional_id).await?);
            }
        }
        Ok::<(), ClientError>(())
    };
    if let Err(error) = whole.await {
        return failed(&format!("Failed to list transactions for {} producers", producer_ids.len()), &error);
    }
    Ok(open.into_iter().filter(|(tp, state)| hangs(tp, state, known.get(&state.producer_id))).collect())
}

fn hangs(tp: &TopicPartition, state: &ProducerState, coordinated: Option<&TransactionDescription>) -> bool {
    coordinated.is_none_or(|t| {
        // a coordinator that is past this epoch, or has no such partition, will not end it
        !t.partitions.contains(tp) || i32::from(t.producer_epoch) < state.producer_epoch
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_hangs_when_its_coordinator_does_not_have_the_partition() {
        let tp = TopicPartition::new("t", 0);
        let state = ProducerState {
            producer_id: 7,
            producer_epoch: 2,
            last_sequence: 0,
            last_timestamp: 0,
            coordinator_epoch: Some(0),
            txn_start_offset: Some(5),
        };
        let mut known = TransactionDescription {
            coordinator_id: 1,
            state: "Ongoing".into(),
            producer_id: 7,
            producer_epoch: 2,
            timeout_ms: 1,
            started_ms: Some(0),
            partitions: vec![tp.clone()],
        };
        assert!(hangs(&tp, &state, None) && !hangs(&tp, &state, Some(&known)));
        known.partitions.clear();
        assert!(hangs(&tp, &state, Some(&known)));
    }
}
