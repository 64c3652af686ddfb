//! The broker as handlers see it: a facade of a few deep nouns.
//!
//! Owns what they share and nothing else; made by `node.rs`, which also starts and stops the parts.

use std::sync::Arc;

use arc_swap::ArcSwap;
use milena_common::Clock;
use milena_common::config::BrokerConfig;
use milena_common::metrics::Metrics;
use milena_coordinator::{GroupCoordinator, TransactionCoordinator};
use milena_metadata::{Controller, MetadataCache};
use milena_protocol::ErrorCode;
use milena_raft::{RaftNode, Request, Response};
use milena_replica::ReplicaManager;

use crate::auto_topics::AutoTopics;
use crate::controller_channel::ControllerChannel;
use crate::peers::Peers;
use crate::producer_ids::ProducerIds;
use crate::quorum_wire::QuorumWire;
use crate::quota::Quotas;
use crate::telemetry::Telemetry;
use crate::txn_markers::LocalMarkers;

/// See the module.
pub(crate) struct Broker {
    pub(crate) node_id: i32,
    pub(crate) cluster_id: String,
    /// The properties file with the dynamic settings on top.
    pub(crate) config: ArcSwap<BrokerConfig>,
    /// The properties file alone.
    pub(crate) file_config: Arc<BrokerConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    /// What the cluster is.
    pub(crate) metadata: MetadataCache,
    /// Who may change it, where this node leads the quorum.
    pub(crate) controller: Controller,
    /// The way to whoever may, wherever that is.
    pub(crate) controllers: ControllerChannel,
    /// How members of the quorum speak to this node.
    pub(crate) quorum_wire: Arc<QuorumWire>,
    /// The quorum that keeps the metadata, as this node sees it.
    pub(crate) raft: Arc<RaftNode>,
    /// Topics that are made because somebody asked for them.
    pub(crate) auto_topics: AutoTopics,
    /// Ids for idempotent producers.
    pub(crate) producer_ids: Arc<ProducerIds>,
    pub(crate) replicas: Arc<ReplicaManager>,
    pub(crate) groups: GroupCoordinator,
    /// How fast clients are, and may be.
    pub(crate) quotas: Quotas,
    /// What clients tell of themselves.
    pub(crate) telemetry: Telemetry,
    pub(crate) metrics: Metrics,
    pub(crate) transactions: TransactionCoordinator,
    /// Other brokers.
    pub(crate) peers: Arc<Peers>,
    /// The ends of transactions on their way to this broker's partitions.
    pub(crate) markers: Arc<LocalMarkers>,
}

impl Broker {
    /// What this member of the quorum answers to another's request, if that can be read.
    ///
    /// # Errors
    /// The request's, or BROKER_NOT_AVAILABLE: a member that is stopping has no say any more.
    pub(crate) async fn quorum_answer(&self, request: Result<Request, ErrorCode>) -> Result<Response, ErrorCode> {
        self.raft.handle(request?).await.ok_or(ErrorCode::BrokerNotAvailable)
    }

    /// Ends what waits inside the coordinators and for records: whoever is parked there is answered.
    pub(crate) fn stop_coordinators(&self) {
        self.transactions.shutdown();
        self.groups.shutdown();
        self.replicas.shutdown();
    }
}
