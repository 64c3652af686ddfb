//! The controller: the one place that decides changes of the cluster's metadata.
//!
//! Every operation is a pure function of the image, the soft state and the time that returns records and a response; this
//! file runs it, appends the records as one atomic batch, replays them, and answers once they are committed. It never
//! reads requests from sockets, authorizes, or touches files: handlers call it, the metadata log is behind a seam.

mod balance;
mod bootstrap;
mod client_metrics;
mod cluster;
mod config;
mod directories;
mod election;
mod error;
mod features;
mod partition_change;
mod partitions;
mod placement;
mod producer_ids;
mod quota;
mod reassignment;
mod replication;
mod scram;
mod topics;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use milena_common::config::BrokerConfig;
use milena_common::limits::MAX_ELECTIONS_PER_BALANCE;
use milena_common::{Clock, Now, Outcome, StateMachine, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages as msg;
use milena_protocol::stored::metadata::{AbortTransactionRecord, MetadataRecord};
use tokio::sync::watch;

pub use bootstrap::Bootstrap;
pub use client_metrics::matching_pattern;
pub use error::ApiError;
pub use topics::check_name as check_topic_name;

use crate::image::{Endpoint, MetadataImage, VersionRange};
use crate::store::{AppendError, MetadataLog};
use crate::versions;
use balance::Balance;
use cluster::Sessions;

/// What the controller knows besides the metadata.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    pub node_id: i32,
    pub cluster_id: String,
    /// This node's properties file: defaults for topics, and what validation of configurations starts from.
    pub broker: Arc<BrokerConfig>,
    /// What a cluster without a metadata log begins with.
    pub bootstrap: Bootstrap,
}

/// A change decided by an operation.
pub(crate) type Decision<R> = Result<Outcome<R, MetadataRecord>, ApiError>;

/// What an operation may look at.
pub(crate) struct Cx<'a> {
    pub(crate) image: &'a MetadataImage,
    pub(crate) config: &'a ControllerConfig,
    pub(crate) now: Now,
    /// The offset that the first record of this operation gets.
    pub(crate) next_offset: i64,
    /// Differs from call to call; for spreading replicas and new topic ids.
    pub(crate) random: &'a mut dyn FnMut() -> Uuid,
}

/// Counts the partitions that one topic's change touches, after everything else was checked; an error refuses that topic (KIP-599).
pub type MutationQuota<'a> = dyn FnMut(usize) -> Result<(), ApiError> + Send + 'a;

/// State that is never recorded and starts anew with every term.
#[derive(Debug, Default)]
pub(crate) struct Soft {
    pub(crate) sessions: Sessions,
    pub(crate) balance: Balance,
}

struct Active {
    epoch: i32,
    image: MetadataImage,
    soft: Soft,
}

/// Where the log is committed up to, as far as waiting answers are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Committed {
    /// Epoch this node leads; -1 when it does not.
    leading: i32,
    /// Offset of the last committed record.
    offset: i64,
}

struct Shared {
    config: ControllerConfig,
    log: Arc<dyn MetadataLog>,
    clock: Arc<dyn Clock>,
    active: Mutex<Option<Active>>,
    committed: watch::Sender<Committed>,
}

/// Handle of the controller of this node. Cheap to clone; every method answers NOT_CONTROLLER while another node leads.
#[derive(Clone)]
pub struct Controller {
    shared: Arc<Shared>,
}

impl Controller {
    pub fn new(config: ControllerConfig, log: Arc<dyn MetadataLog>, clock: Arc<dyn Clock>) -> Self {
        let (committed, _) = watch::channel(Committed { leading: -1, offset: -1 });
        Controller { shared: Arc::new(Shared { config, log, clock, active: Mutex::new(None), committed }) }
    }

    // ---- Told by the driver of the metadata log ----

    /// This node leads `epoch` and `image` holds everything before it, but for a transaction that was left open
    /// (`in_transaction`) and is now ended. A log that holds nothing yet gets its first records.
    ///
    /// # Errors
    /// When those records cannot be appended.
    pub fn on_become_leader(&self, epoch: i32, image: MetadataImage, in_transaction: bool) -> Result<(), ApiError> {
        let now = self.shared.clock.now();
        let mut soft = Soft { balance: Balance::new(&self.shared.config.broker, now), ..Soft::default() };
        soft.sessions.reset(&image, now, self.session_timeout_ms());
        let empty = image.features.metadata_version == 0;
        {
            let mut active = self.lock();
            *active = Some(Active { epoch, image, soft });
            self.shared.committed.send_modify(|committed| committed.leading = epoch);
        }
        if in_transaction {
            let reason = Some("controller failover".to_owned());
            let abort = MetadataRecord::AbortTransaction(AbortTransactionRecord { reason });
            self.decide(|_, _| Ok(Outcome::new(vec![abort], ())))?;
        }
        if empty {
            let config = &self.shared.config;
            let records = config.bootstrap.first_records(config.broker.min_insync_replicas);
            self.decide(|_, _| Ok(Outcome::new(records, ())))?;
        }
        Ok(())
    }

    /// This node leads no more; waiting answers become NOT_CONTROLLER.
    pub fn on_resign(&self) {
        *self.lock() = None;
        self.shared.committed.send_modify(|committed| committed.leading = -1);
    }

    /// Everything up to `offset` is committed (and, where the caller wishes answers to wait for it, published).
    pub fn on_committed(&self, offset: i64) {
        self.shared.committed.send_if_modified(|committed| {
            let newer = offset > committed.offset;
            committed.offset = committed.offset.max(offset);
            newer
        });
    }

    /// Fences brokers whose session ended, and holds the elections that nobody asks for. To be called a few times a second.
    pub fn on_tick(&self) {
        self.fence_expired();
        self.keep_balance();
    }

    fn keep_balance(&self) {
        let (config, now) = (&self.shared.config.broker, self.shared.clock.now());
        let due = |is_due: fn(&mut Balance, &BrokerConfig, Now) -> bool| {
            self.lock().as_mut().is_some_and(|active| is_due(&mut active.soft.balance, config, now))
        };
        if due(Balance::is_preferred_due) {
            match self.decide(|cx, _| balance::elect_preferred(cx)) {
                Ok((0, ..)) => {}
                Ok((partitions, ..)) => {
                    tracing::info!(partitions, "preferred replicas lead again");
                    if partitions >= MAX_ELECTIONS_PER_BALANCE
                        && let Some(active) = self.lock().as_mut()
                    {
                        active.soft.balance.look_again(now);
                    }
                }
                Err(error) => tracing::warn!(%error, "leadership cannot be balanced"),
            }
        }
        if due(Balance::is_unclean_due) {
            match self.decide(|cx, _| balance::elect_unclean(cx)) {
                Ok((0, ..)) => {}
                Ok((partitions, ..)) => tracing::warn!(partitions, "elected leaders that may lack records"),
                Err(error) => tracing::warn!(%error, "no unclean leaders can be elected"),
            }
        }
    }

    fn fence_expired(&self) {
        while let Some(broker_id) = self.next_expired() {
            let fenced = self.decide(|cx, soft| cluster::fence_expired(cx, soft, broker_id));
            match fenced {
                Ok(_) => tracing::warn!(broker_id, "fencing broker: its session timed out"),
                Err(error) => {
                    tracing::warn!(broker_id, %error, "cannot fence broker whose session timed out");
                    return;
                }
            }
        }
    }

    /// Records where this node's controller listens and what it understands (KIP-919), unless that is known.
    ///
    /// # Errors
    /// When it does not lead, or the log cannot be written.
    pub fn register_self(
        &self,
        endpoints: Vec<Endpoint>,
        features: BTreeMap<String, VersionRange>,
    ) -> Result<(), ApiError> {
        let id = self.shared.config.node_id;
        self.decide(|cx, _| cluster::register_controller(cx, id, endpoints, features)).map(|_| ())
    }

    /// This node is the active controller.
    pub fn is_active(&self) -> bool {
        self.lock().is_some()
    }

    /// The state that decisions are based on: what is appended, committed or not. `None` while another node leads.
    pub fn image(&self) -> Option<MetadataImage> {
        self.lock().as_ref().map(|active| active.image.clone())
    }

    /// The epoch that this node leads.
    pub fn epoch(&self) -> Option<i32> {
        self.lock().as_ref().map(|active| active.epoch)
    }

    // ---- Topics ----

    /// Errors are per topic. Configurations in the answer are filled in; hiding them is the handler's business.
    pub async fn create_topics(
        &self,
        request: msg::CreateTopicsRequest,
    ) -> Result<msg::CreateTopicsResponse, ApiError> {
        self.create_topics_within(request, &mut |_| Ok(())).await
    }

    /// As [`Controller::create_topics`], within the quota of who asked.
    pub async fn create_topics_within(
        &self,
        request: msg::CreateTopicsRequest,
        quota: &mut MutationQuota<'_>,
    ) -> Result<msg::CreateTopicsResponse, ApiError> {
        self.write(|cx, _| topics::create_topics(cx, &request, quota)).await
    }

    /// By name or by id.
    pub async fn delete_topics(
        &self,
        request: msg::DeleteTopicsRequest,
    ) -> Result<msg::DeleteTopicsResponse, ApiError> {
        self.delete_topics_within(request, &mut |_| Ok(())).await
    }

    /// As [`Controller::delete_topics`], within the quota of who asked.
    pub async fn delete_topics_within(
        &self,
        request: msg::DeleteTopicsRequest,
        quota: &mut MutationQuota<'_>,
    ) -> Result<msg::DeleteTopicsResponse, ApiError> {
        self.write(|cx, _| topics::delete_topics(cx, &request, quota)).await
    }

    pub async fn create_partitions(
        &self,
        request: msg::CreatePartitionsRequest,
    ) -> Result<msg::CreatePartitionsResponse, ApiError> {
        self.create_partitions_within(request, &mut |_| Ok(())).await
    }

    /// As [`Controller::create_partitions`], within the quota of who asked.
    pub async fn create_partitions_within(
        &self,
        request: msg::CreatePartitionsRequest,
        quota: &mut MutationQuota<'_>,
    ) -> Result<msg::CreatePartitionsResponse, ApiError> {
        self.write(|cx, _| partitions::create_partitions(cx, &request, quota)).await
    }

    // ---- Configurations (broker loggers are the broker's own business) ----

    pub async fn alter_configs(
        &self,
        request: msg::AlterConfigsRequest,
    ) -> Result<msg::AlterConfigsResponse, ApiError> {
        self.write(|cx, _| config::alter_configs(cx, &request)).await
    }

    pub async fn incremental_alter_configs(
        &self,
        request: msg::IncrementalAlterConfigsRequest,
    ) -> Result<msg::IncrementalAlterConfigsResponse, ApiError> {
        self.write(|cx, _| config::incremental_alter_configs(cx, &request)).await
    }

    // ---- Brokers ----

    /// Answers with the new broker's epoch.
    pub async fn register_broker(
        &self,
        request: msg::BrokerRegistrationRequest,
    ) -> Result<msg::BrokerRegistrationResponse, ApiError> {
        let timeout_ms = self.session_timeout_ms();
        let response = self.write(|cx, soft| cluster::register_broker(cx, soft, &request, timeout_ms)).await;
        Ok(response.unwrap_or_else(|error| msg::BrokerRegistrationResponse {
            error_code: error.code.code(),
            broker_epoch: -1,
            ..Default::default()
        }))
    }

    pub async fn heartbeat(
        &self,
        request: msg::BrokerHeartbeatRequest,
    ) -> Result<msg::BrokerHeartbeatResponse, ApiError> {
        let timeout_ms = self.session_timeout_ms();
        let response = self.write(|cx, soft| cluster::heartbeat(cx, soft, &request, timeout_ms)).await;
        Ok(response.unwrap_or_else(|error| msg::BrokerHeartbeatResponse {
            error_code: error.code.code(),
            ..Default::default()
        }))
    }

    pub async fn unregister_broker(
        &self,
        request: msg::UnregisterBrokerRequest,
    ) -> Result<msg::UnregisterBrokerResponse, ApiError> {
        let response = self.write(|cx, soft| cluster::unregister_broker(cx, soft, request.broker_id)).await;
        Ok(response.unwrap_or_else(|error| msg::UnregisterBrokerResponse {
            error_code: error.code.code(),
            error_message: error.message,
            ..Default::default()
        }))
    }

    /// A block of producer ids for one broker.
    pub async fn allocate_producer_ids(
        &self,
        request: msg::AllocateProducerIdsRequest,
    ) -> Result<msg::AllocateProducerIdsResponse, ApiError> {
        let response = self.write(|cx, _| producer_ids::allocate(cx, &request)).await;
        Ok(response.unwrap_or_else(|error| msg::AllocateProducerIdsResponse {
            error_code: error.code.code(),
            ..Default::default()
        }))
    }

    /// Where replicas live, from the broker that has them. Errors are per partition.
    pub async fn assign_replicas_to_dirs(
        &self,
        request: msg::AssignReplicasToDirsRequest,
    ) -> Result<msg::AssignReplicasToDirsResponse, ApiError> {
        let response = self.write(|cx, _| directories::assign(cx, &request)).await;
        Ok(response.unwrap_or_else(|error| msg::AssignReplicasToDirsResponse {
            error_code: error.code.code(),
            ..Default::default()
        }))
    }

    /// Changes of the ISR, from a partition's leader.
    pub async fn alter_partition(
        &self,
        request: msg::AlterPartitionRequest,
    ) -> Result<msg::AlterPartitionResponse, ApiError> {
        let response = self.write(|cx, _| replication::alter_partition(cx, &request)).await;
        Ok(response.unwrap_or_else(|error| msg::AlterPartitionResponse {
            error_code: error.code.code(),
            ..Default::default()
        }))
    }

    // ---- What operators ask for ----

    /// Errors are per partition; an unknown type of election is an error of the whole.
    pub async fn elect_leaders(
        &self,
        request: msg::ElectLeadersRequest,
    ) -> Result<msg::ElectLeadersResponse, ApiError> {
        self.write(|cx, _| election::elect_leaders(cx, &request)).await
    }

    /// Errors are per partition.
    pub async fn alter_partition_reassignments(
        &self,
        request: msg::AlterPartitionReassignmentsRequest,
    ) -> Result<msg::AlterPartitionReassignmentsResponse, ApiError> {
        self.write(|cx, _| reassignment::alter(cx, &request)).await
    }

    pub fn list_partition_reassignments(
        &self,
        request: &msg::ListPartitionReassignmentsRequest,
    ) -> Result<msg::ListPartitionReassignmentsResponse, ApiError> {
        let image = self.image().ok_or_else(not_controller)?;
        Ok(reassignment::list(&image, request))
    }

    /// All or nothing. `version` is that of the request: it decides what is told. `kraft_version` is the quorum's own level.
    pub async fn update_features(
        &self,
        request: msg::UpdateFeaturesRequest,
        version: i16,
        kraft_version: i16,
    ) -> Result<msg::UpdateFeaturesResponse, ApiError> {
        self.write(|cx, _| features::update(cx, &request, version, kraft_version)).await
    }

    /// Errors are per entity. That an address can be resolved is the handler's business.
    pub async fn alter_client_quotas(
        &self,
        request: msg::AlterClientQuotasRequest,
    ) -> Result<msg::AlterClientQuotasResponse, ApiError> {
        self.write(|cx, _| quota::alter(cx, &request)).await
    }

    /// Errors are per user.
    pub async fn alter_user_scram_credentials(
        &self,
        request: msg::AlterUserScramCredentialsRequest,
    ) -> Result<msg::AlterUserScramCredentialsResponse, ApiError> {
        self.write(|cx, _| scram::alter(cx, &request)).await
    }

    pub fn describe_user_scram_credentials(
        &self,
        request: &msg::DescribeUserScramCredentialsRequest,
    ) -> Result<msg::DescribeUserScramCredentialsResponse, ApiError> {
        let image = self.image().ok_or_else(not_controller)?;
        Ok(scram::describe(&image, request))
    }

    // ---- The machinery ----

    fn lock(&self) -> MutexGuard<'_, Option<Active>> {
        // A panic in an operation leaves the image as it was: replay is the only writer and comes after the append.
        self.shared.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session_timeout_ms(&self) -> u64 {
        u64::try_from(self.shared.config.broker.broker_session_timeout_ms).unwrap_or(0)
    }

    fn next_expired(&self) -> Option<i32> {
        let now = self.shared.clock.now();
        self.lock().as_mut()?.soft.sessions.pop_expired(now)
    }

    /// Runs an operation and waits until what it wrote is committed.
    async fn write<R>(&self, operation: impl FnOnce(&mut Cx<'_>, &mut Soft) -> Decision<R>) -> Result<R, ApiError> {
        let mut committed = self.shared.committed.subscribe();
        let (response, epoch, last_offset) = self.decide(operation)?;
        let Some(offset) = last_offset else {
            return Ok(response);
        };
        let waited = committed.wait_for(|now| now.offset >= offset || now.leading != epoch).await;
        match waited {
            Ok(now) if now.offset >= offset => Ok(response),
            _ => Err(not_controller()),
        }
    }

    /// Runs an operation, appends and replays its records. The offset is that of the last record, `None` without any.
    fn decide<R>(
        &self,
        operation: impl FnOnce(&mut Cx<'_>, &mut Soft) -> Decision<R>,
    ) -> Result<(R, i32, Option<i64>), ApiError> {
        let mut guard = self.lock();
        let active = guard.as_mut().ok_or_else(not_controller)?;
        let mut cx = Cx {
            image: &active.image,
            config: &self.shared.config,
            now: self.shared.clock.now(),
            next_offset: self.shared.log.end_offset(),
            random: &mut Uuid::random,
        };
        let Outcome { mut records, response } = operation(&mut cx, &mut active.soft)?;
        if records.is_empty() {
            return Ok((response, active.epoch, None));
        }
        let level = level_after(active.image.features.metadata_version, &records);
        records.iter_mut().for_each(|record| versions::fit_to_level(record, level));
        let framed = records
            .iter()
            .map(|record| versions::encode_record(record, level))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| {
                ApiError::new(ErrorCode::InvalidRequest, format!("The change cannot be stored: {error}"))
            })?;
        let last_offset = self.shared.log.append(active.epoch, framed).map_err(append_error)?;
        let first_offset = last_offset + 1 - records.len() as i64;
        for (offset, record) in (first_offset..).zip(&records) {
            active.image.replay(offset, record);
        }
        Ok((response, active.epoch, Some(last_offset)))
    }
}

/// The level that records are written for: the first records of all bring their own.
fn level_after(level: i16, records: &[MetadataRecord]) -> i16 {
    let bootstrap = records.iter().find_map(|record| match record {
        MetadataRecord::FeatureLevel(r) if r.name == crate::image::METADATA_VERSION => Some(r.feature_level),
        _ => None,
    });
    bootstrap.unwrap_or(level)
}

fn not_controller() -> ApiError {
    ApiError::new(ErrorCode::NotController, "This is not the active controller.")
}

fn append_error(error: AppendError) -> ApiError {
    match error {
        AppendError::NotLeader(_) => not_controller(),
        AppendError::TooLarge { .. } => ApiError::new(ErrorCode::InvalidRequest, error.to_string()),
        AppendError::Storage(_) => {
            tracing::error!(%error, "the controller cannot append");
            ApiError::new(ErrorCode::UnknownServerError, error.to_string())
        }
    }
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}
