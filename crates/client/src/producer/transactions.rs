//! The producer's side of transactions: its identity, what belongs to the open transaction, and its end.
//!
//! Owns the conversation with the transaction coordinator (KIP-98, KIP-890). With transactions of version 2 the leaders and the group
//! coordinator add themselves; before, the producer tells the coordinator first. Never touches records.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use milena_common::TopicPartition;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, TxnOffsetCommitRequest,
    add_partitions_to_txn_request as add, txn_offset_commit_request as commit,
};
use tokio::time::Instant;

use crate::admin::CommittedOffset;
use crate::cluster::{Client, CoordinatorKind};
use crate::error::ClientError;

/// The feature that says which version of transactions a cluster speaks.
const FEATURE: &str = "transaction.version";

/// The consumer whose offsets are committed with a transaction (KIP-447).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupMetadata {
    pub group_id: String,
    /// -1 when the offsets are not those of a member.
    pub generation: i32,
    pub member_id: String,
    pub group_instance_id: Option<String>,
}

/// Where the producer stands.
enum Stage {
    /// The id was not taken over yet.
    New,
    Ready,
    Open,
    /// A record or an offset of the transaction is lost.
    Broken(ClientError),
    /// Somebody else has the id now.
    Fenced(ClientError),
}

struct State {
    stage: Stage,
    identity: (i64, i16),
    /// Whether leaders add partitions by themselves (version 2).
    implicit: bool,
    /// The partitions that the coordinator knows to be in the transaction.
    added: HashSet<TopicPartition>,
    /// Whether there is anything to end.
    begun: bool,
}

/// The transactions of one producer.
pub(super) struct Transactions {
    client: Client,
    id: String,
    timeout_ms: i32,
    state: Mutex<State>,
}

/// What records that were not sent are answered when their transaction is aborted.
pub(super) fn aborted() -> ClientError {
    invalid("Failing batch since transaction was aborted")
}

fn invalid(message: &str) -> ClientError {
    ClientError::Api { code: ErrorCode::InvalidTxnState, message: Some(message.into()), resource: None }
}

impl Transactions {
    pub(super) fn new(client: Client, id: String, timeout_ms: i32) -> Transactions {
        let state =
            State { stage: Stage::New, identity: (-1, -1), implicit: false, added: HashSet::new(), begun: false };
        Transactions { client, id, timeout_ms, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Producer id and epoch, and whether leaders add partitions by themselves.
    pub(super) fn identity(&self) -> ((i64, i16), bool) {
        let state = self.state();
        (state.identity, state.implicit)
    }

    pub(super) async fn init(&self) -> Result<(), ClientError> {
        let identity = self.take_identity((-1, -1)).await?;
        let implicit = self.is_implicit().await?;
        let mut state = self.state();
        *state = State { stage: Stage::Ready, identity, implicit, added: HashSet::new(), begun: false };
        Ok(())
    }

    async fn take_identity(&self, known: (i64, i16)) -> Result<(i64, i16), ClientError> {
        let request = InitProducerIdRequest {
            transactional_id: Some(self.id.clone()),
            transaction_timeout_ms: self.timeout_ms,
            producer_id: known.0,
            producer_epoch: known.1,
            ..Default::default()
        };
        self.client
            .retrying("initProducerId", async || {
                let response = self
                    .client
                    .request_coordinator("initProducerId", CoordinatorKind::Transaction, &self.id, &request, |r| {
                        r.error_code
                    })
                    .await?;
                ClientError::check(response.error_code, None, &self.id)?;
                Ok((response.producer_id, response.producer_epoch))
            })
            .await
    }

    async fn is_implicit(&self) -> Result<bool, ClientError> {
        let connection = self.client.any_connection().await?;
        let level = connection.features().finalized.iter().find(|(name, _)| name == FEATURE).map(|(_, level)| *level);
        let known = connection.version_of::<EndTxnRequest>(i16::MAX).is_ok_and(|version| version >= 5);
        Ok(level.is_some_and(|level| level >= 2) && known)
    }

    pub(super) fn begin(&self) -> Result<(), ClientError> {
        let mut state = self.state();
        match &state.stage {
            Stage::Ready => {
                state.stage = Stage::Open;
                state.added.clear();
                state.begun = false;
                Ok(())
            }
            Stage::New => Err(invalid("Cannot begin a transaction before initTransactions has been called")),
            Stage::Open => Err(invalid("Cannot begin a transaction while another one is open")),
            Stage::Broken(error) | Stage::Fenced(error) => Err(error.clone()),
        }
    }

    pub(super) fn may_send(&self) -> Result<(), ClientError> {
        match &self.state().stage {
            Stage::Open => Ok(()),
            Stage::New | Stage::Ready => Err(invalid("Cannot add partition to transaction while not in a transaction")),
            Stage::Broken(error) | Stage::Fenced(error) => Err(error.clone()),
        }
    }

    /// A record or an offset was lost: the transaction can only be aborted, and not even that by a producer that was fenced.
    pub(super) fn on_error(&self, error: &ClientError) {
        use ErrorCode as E;
        let fenced = matches!(
            error.code(),
            Some(
                E::InvalidProducerEpoch
                    | E::ProducerFenced
                    | E::InvalidProducerIdMapping
                    | E::TransactionalIdAuthorizationFailed
                    | E::TransactionCoordinatorFenced
            )
        );
        let mut state = self.state();
        match (&state.stage, fenced) {
            (Stage::Fenced(_), _) => {}
            (_, true) => state.stage = Stage::Fenced(error.clone()),
            (Stage::Open, false) => state.stage = Stage::Broken(error.clone()),
            _ => {}
        }
    }

    /// Tells the coordinator of partitions that it does not know yet, before records go there.
    pub(super) async fn add_partitions(&self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        let (identity, new) = {
            let mut state = self.state();
            state.begun = true;
            let new: Vec<TopicPartition> = match state.implicit {
                true => Vec::new(),
                false => partitions.iter().filter(|tp| !state.added.contains(tp)).cloned().collect(),
            };
            (state.identity, new)
        };
        if new.is_empty() {
            return Ok(());
        }
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        new.iter().for_each(|tp| topics.entry(&tp.topic).or_default().push(tp.partition));
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.clone(),
            v3_and_below_producer_id: identity.0,
            v3_and_below_producer_epoch: identity.1,
            v3_and_below_topics: topics
                .into_iter()
                .map(|(name, partitions)| add::AddPartitionsToTxnTopic {
                    name: name.into(),
                    partitions,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        // a loop of its own: this runs in the sender's task, which async closures cannot
        let deadline = Instant::now() + Duration::from_millis(self.client.config().api_timeout_ms);
        for attempt in 0.. {
            match self.ask_to_add(&request).await {
                Ok(()) => break,
                Err(error) if error.is_retriable() && Instant::now() < deadline => {
                    tokio::time::sleep(self.client.config().backoff(attempt)).await;
                }
                Err(error) => return Err(error),
            }
        }
        self.state().added.extend(new);
        Ok(())
    }

    async fn ask_to_add(&self, request: &AddPartitionsToTxnRequest) -> Result<(), ClientError> {
        let node = self.client.find_coordinator(CoordinatorKind::Transaction, &self.id).await?;
        let connection = self.client.connection(node).await?;
        // later versions are for brokers
        let version = connection.version_of::<AddPartitionsToTxnRequest>(3)?;
        let wait = Duration::from_millis(self.client.config().request_timeout_ms);
        let response = connection.request_at(request, version, wait).await?;
        for topic in response.results_by_topic_v3_and_below {
            for p in topic.results_by_partition {
                ClientError::check(p.partition_error_code, None, &topic.name)?;
            }
        }
        Ok(())
    }

    pub(super) async fn add_offsets(
        &self,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
        group: &GroupMetadata,
    ) -> Result<(), ClientError> {
        self.may_send()?;
        let result = self.try_add_offsets(offsets, group).await;
        if let Err(error) = &result {
            self.on_error(error);
        }
        result
    }

    async fn try_add_offsets(
        &self,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
        group: &GroupMetadata,
    ) -> Result<(), ClientError> {
        let (identity, implicit) = self.identity();
        self.state().begun = true;
        if !implicit {
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.id.clone(),
                producer_id: identity.0,
                producer_epoch: identity.1,
                group_id: group.group_id.clone(),
                ..Default::default()
            };
            self.client
                .retrying("addOffsetsToTxn", async || {
                    let response = self
                        .client
                        .request_coordinator("addOffsetsToTxn", CoordinatorKind::Transaction, &self.id, &request, |r| {
                            r.error_code
                        })
                        .await?;
                    ClientError::check(response.error_code, None, &self.id)
                })
                .await?;
        }
        let mut topics: BTreeMap<&str, Vec<commit::TxnOffsetCommitRequestPartition>> = BTreeMap::new();
        for (tp, offset) in offsets {
            topics.entry(&tp.topic).or_default().push(commit::TxnOffsetCommitRequestPartition {
                partition_index: tp.partition,
                committed_offset: offset.offset,
                committed_leader_epoch: offset.leader_epoch.unwrap_or(-1),
                committed_metadata: Some(offset.metadata.clone()),
                ..Default::default()
            });
        }
        let request = TxnOffsetCommitRequest {
            transactional_id: self.id.clone(),
            group_id: group.group_id.clone(),
            producer_id: identity.0,
            producer_epoch: identity.1,
            generation_id: group.generation,
            member_id: group.member_id.clone(),
            group_instance_id: group.group_instance_id.clone(),
            topics: topics
                .into_iter()
                .map(|(name, partitions)| commit::TxnOffsetCommitRequestTopic {
                    name: name.into(),
                    partitions,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        self.client
            .retrying("txnOffsetCommit", async || {
                let node = self.client.find_coordinator(CoordinatorKind::Group, &group.group_id).await?;
                let connection = self.client.connection(node).await?;
                let version = connection.version_of::<TxnOffsetCommitRequest>(if implicit { i16::MAX } else { 4 })?;
                let wait = Duration::from_millis(self.client.config().request_timeout_ms);
                let response = connection.request_at(&request, version, wait).await?;
                for topic in response.topics {
                    for p in topic.partitions {
                        ClientError::check(p.error_code, None, &topic.name)?;
                    }
                }
                Ok(())
            })
            .await
    }

    /// Commits or aborts. True when sequences begin again, under a new identity.
    pub(super) async fn end(&self, commit: bool) -> Result<bool, ClientError> {
        let (identity, implicit, begun, broken) = {
            let state = self.state();
            match &state.stage {
                Stage::Open => {}
                Stage::Broken(_) if !commit => {}
                Stage::Broken(error) | Stage::Fenced(error) => return Err(error.clone()),
                Stage::New | Stage::Ready => return Err(invalid("There is no open transaction")),
            }
            (state.identity, state.implicit, state.begun, matches!(state.stage, Stage::Broken(_)))
        };
        let mut fresh = identity;
        if begun {
            fresh = match self.try_end(identity, implicit, commit).await {
                Ok(fresh) => fresh,
                Err(error) => {
                    self.on_error(&error);
                    return Err(error);
                }
            };
        }
        if broken && fresh == identity {
            // what was lost left a hole in the sequences, which only a new epoch closes
            fresh = self.take_identity(identity).await?;
        }
        let mut state = self.state();
        state.stage = Stage::Ready;
        state.identity = fresh;
        state.added.clear();
        state.begun = false;
        Ok(fresh != identity)
    }

    async fn try_end(&self, identity: (i64, i16), implicit: bool, committed: bool) -> Result<(i64, i16), ClientError> {
        let request = EndTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: identity.0,
            producer_epoch: identity.1,
            committed,
            ..Default::default()
        };
        self.client
            .retrying("endTxn", async || {
                let node = self.client.find_coordinator(CoordinatorKind::Transaction, &self.id).await?;
                let connection = self.client.connection(node).await?;
                let version = connection.version_of::<EndTxnRequest>(if implicit { i16::MAX } else { 4 })?;
                let wait = Duration::from_millis(self.client.config().request_timeout_ms);
                let response = connection.request_at(&request, version, wait).await?;
                ClientError::check(response.error_code, None, &self.id)?;
                Ok(match response.producer_id {
                    -1 => identity,
                    id => (id, response.producer_epoch),
                })
            })
            .await
    }
}
