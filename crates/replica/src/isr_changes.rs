//! Carries what leaders ask of the controller: other in-sync replicas (AlterPartition, KIP-497).
//!
//! Leaders only leave their proposals here and go on. One request is on its way at a time, with everything that came meanwhile in the
//! next; what the controller did not answer is asked again. Never decides who is in sync: `partition.rs` does. The way to the
//! controller is behind [`ControllerEndpoint`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use milena_common::{Clock, TopicPartition, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use milena_protocol::messages::alter_partition_response::PartitionData as Answer;
use milena_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::fetcher::EndpointError;
use crate::partition::{Proposal, Refusal};
use crate::replica::Replica;

/// Wait before the controller is asked again, as in Kafka.
const RETRY: Duration = Duration::from_millis(50);

/// The way to the active controller, wherever it is. Requests are in the newest form.
pub trait ControllerEndpoint: Send + Sync {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> BoxFuture<'_, Result<AlterPartitionResponse, EndpointError>>;
}

/// See the module. Bounded by the partitions that this broker leads: each has one proposal.
#[derive(Default)]
pub(crate) struct IsrChanges {
    pending: Mutex<BTreeMap<(Uuid, i32), Pending>>,
    changed: Notify,
}

#[derive(Clone)]
struct Pending {
    replica: Weak<Replica>,
    partition: TopicPartition,
    proposal: Proposal,
}

/// What became of one proposal.
pub(crate) enum Outcome {
    Granted,
    Refused(Refusal),
    AskAgain,
}

impl IsrChanges {
    /// A leader asks for other in-sync replicas. What it asked before is not asked any more.
    pub fn submit(&self, replica: Weak<Replica>, topic_id: Uuid, partition: &TopicPartition, proposal: Proposal) {
        tracing::info!(
            %partition,
            leader_epoch = proposal.leader_epoch,
            partition_epoch = proposal.partition_epoch,
            isr = ?proposal.ids().collect::<Vec<_>>(),
            "asking for other in-sync replicas"
        );
        let pending = Pending { replica, partition: partition.clone(), proposal };
        self.pending.lock().insert((topic_id, partition.partition), pending);
        self.changed.notify_one();
    }

    /// Asks the controller for as long as this is polled.
    pub async fn run(
        &self,
        controller: Arc<dyn ControllerEndpoint>,
        broker_id: i32,
        broker_epoch: Arc<AtomicI64>,
        clock: Arc<dyn Clock>,
    ) {
        loop {
            let batch = self.pending.lock().clone();
            if batch.is_empty() {
                self.changed.notified().await;
                continue;
            }
            let request = request(&batch, broker_id, broker_epoch.load(Ordering::Acquire));
            let all_done = match controller.alter_partition(request).await {
                Ok(response) if response.error_code == 0 => self.on_answer(batch, &response, &*clock),
                Ok(response) => {
                    let error = ErrorCode::from_code(response.error_code).name();
                    tracing::warn!(error, partitions = batch.len(), "the controller does not change in-sync replicas");
                    false
                }
                Err(error) => {
                    tracing::debug!(%error, "the controller does not answer");
                    false
                }
            };
            if !all_done {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Whether nothing of the batch is left to be asked again.
    fn on_answer(
        &self,
        batch: BTreeMap<(Uuid, i32), Pending>,
        response: &AlterPartitionResponse,
        clock: &dyn Clock,
    ) -> bool {
        let answers =
            response.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| ((t.topic_id, p.partition_index), p)));
        let answers: BTreeMap<_, _> = answers.collect();
        let mut all_done = true;
        for (key, pending) in batch {
            let Some(answer) = answers.get(&key) else {
                all_done = false;
                continue;
            };
            let outcome = outcome(answer);
            if matches!(outcome, Outcome::AskAgain) {
                all_done = false;
                continue;
            }
            {
                // unless another proposal came meanwhile
                let mut open = self.pending.lock();
                if open.get(&key).is_some_and(|now| now.proposal == pending.proposal) {
                    open.remove(&key);
                }
            }
            let Some(replica) = pending.replica.upgrade() else { continue };
            match outcome {
                Outcome::Granted => {
                    let Answer { leader_id, leader_epoch, partition_epoch, isr, .. } = answer;
                    replica.on_isr_granted(*leader_id, *leader_epoch, *partition_epoch, isr, clock.now());
                }
                Outcome::Refused(refusal) => {
                    let error = ErrorCode::from_code(answer.error_code).name();
                    tracing::info!(partition = %pending.partition, error, "the in-sync replicas stay as they are");
                    replica.on_isr_refused(&pending.proposal, refusal);
                }
                Outcome::AskAgain => {}
            }
        }
        all_done
    }
}

/// What an answer about one partition means.
pub(crate) fn outcome(answer: &Answer) -> Outcome {
    match ErrorCode::from_code(answer.error_code) {
        ErrorCode::None => Outcome::Granted,
        ErrorCode::OperationNotAttempted | ErrorCode::IneligibleReplica => Outcome::Refused(Refusal::NotAttempted),
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::InvalidUpdateVersion
        | ErrorCode::InvalidRequest
        | ErrorCode::NewLeaderElected => Outcome::Refused(Refusal::AwaitMetadata),
        _ => Outcome::AskAgain,
    }
}

fn request(batch: &BTreeMap<(Uuid, i32), Pending>, broker_id: i32, broker_epoch: i64) -> AlterPartitionRequest {
    let mut topics: Vec<TopicData> = Vec::new();
    for ((topic_id, _), Pending { partition, proposal, .. }) in batch {
        let wanted = wanted(partition.partition, proposal, broker_id, broker_epoch);
        match topics.last_mut().filter(|topic| topic.topic_id == *topic_id) {
            Some(topic) => topic.partitions.push(wanted),
            None => topics.push(TopicData { topic_id: *topic_id, partitions: vec![wanted], ..Default::default() }),
        }
    }
    AlterPartitionRequest { broker_id, broker_epoch, topics }
}

/// A proposal of the leader `broker_id` as the controller hears it.
pub(crate) fn wanted(partition_index: i32, proposal: &Proposal, broker_id: i32, broker_epoch: i64) -> PartitionData {
    let epoch_of = |&(id, epoch): &(i32, i64)| BrokerState {
        broker_id: id,
        broker_epoch: if id == broker_id { broker_epoch } else { epoch },
    };
    PartitionData {
        partition_index,
        leader_epoch: proposal.leader_epoch,
        new_isr_with_epochs: proposal.isr.iter().map(epoch_of).collect(),
        // whoever leads and asks has recovered, however it was elected (KIP-704)
        leader_recovery_state: 0,
        partition_epoch: proposal.partition_epoch,
        ..Default::default()
    }
}
