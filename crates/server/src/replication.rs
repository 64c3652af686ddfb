//! This broker's ways to the others for replication: to the leaders that it follows, and to the active controller.
//!
//! What is asked, and what answers mean, is `milena-replica`'s affair; here requests only become what the other side understands. Made by
//! `node.rs`, on the connections of `peers.rs`.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use milena_common::config::BrokerConfig;
use milena_metadata::image::Endpoint;
use milena_metadata::{Controller, MetadataCache};
use milena_protocol::messages::fetch_request::ReplicaState;
use milena_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
};
use milena_raft::RaftNode;
use milena_replica::{ClusterLinks, ControllerEndpoint, EndpointError, LeaderEndpoint, LeaderEndpoints};

use crate::peers::{PeerError, Remote, client_config};

/// The first version of Fetch with a state of the replica in place of its id alone.
const FIRST_REPLICA_STATE: i16 = 15;
/// The first version of Fetch that names topics by id; metadata of KRaft clusters allow it always.
const FIRST_TOPIC_ID: i16 = 13;
/// The first version of AlterPartition with epochs of brokers.
const FIRST_BROKER_EPOCHS: i16 = 3;

/// What the ways are made of.
#[derive(Clone)]
pub(crate) struct ReplicationLinks {
    config: Arc<BrokerConfig>,
    metadata: MetadataCache,
    raft: Arc<RaftNode>,
    local: Controller,
}

impl ReplicationLinks {
    /// Ways of a broker whose node's part of the quorum is `raft`, with the controller `local`.
    pub(crate) fn links(
        config: Arc<BrokerConfig>,
        metadata: MetadataCache,
        raft: Arc<RaftNode>,
        local: Controller,
    ) -> ClusterLinks {
        let links = ReplicationLinks { config, metadata, raft, local };
        let controller =
            ToController { remote: Remote::new(client_config(&links.config, "alter-partition")), links: links.clone() };
        ClusterLinks { leaders: Arc::new(links), controller: Arc::new(controller) }
    }
}

impl LeaderEndpoints for ReplicationLinks {
    fn leader(&self, broker_id: i32, fetcher: usize) -> Arc<dyn LeaderEndpoint> {
        let remote = Remote::new(client_config(&self.config, &format!("fetcher-{fetcher}")));
        Arc::new(ToLeader { links: self.clone(), leader: broker_id, remote })
    }
}

struct ToLeader {
    links: ReplicationLinks,
    leader: i32,
    remote: Remote,
}

impl ToLeader {
    fn endpoint(&self) -> Option<Endpoint> {
        let image = self.links.metadata.load();
        let listener = self.links.config.inter_broker_listener();
        image.cluster.broker(self.leader).and_then(|broker| broker.endpoint(&listener)).cloned()
    }
}

impl LeaderEndpoint for ToLeader {
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, EndpointError>> {
        let fit = |mut request: FetchRequest, version: i16| {
            if version < FIRST_TOPIC_ID {
                return Err(PeerError(format!("a leader that fetches no topics by id (version {version})")));
            }
            if version < FIRST_REPLICA_STATE {
                request.replica_id = request.replica_state.replica_id;
                request.replica_state = ReplicaState::default();
            }
            Ok(request)
        };
        Box::pin(async move { self.remote.send(self.endpoint(), request, fit).await.map_err(unanswered) })
    }

    fn list_offsets(&self, request: ListOffsetsRequest) -> BoxFuture<'_, Result<ListOffsetsResponse, EndpointError>> {
        let plain = |request, _| Ok(request);
        Box::pin(async move { self.remote.send(self.endpoint(), request, plain).await.map_err(unanswered) })
    }
}

/// The active controller: this node's own, or that of the node which leads the quorum.
struct ToController {
    links: ReplicationLinks,
    remote: Remote,
}

impl ControllerEndpoint for ToController {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> BoxFuture<'_, Result<AlterPartitionResponse, EndpointError>> {
        Box::pin(async move {
            let leader = self.links.raft.status().leader_id;
            if leader == self.links.config.node_id {
                let answer = self.links.local.alter_partition(request).await;
                return answer.map_err(|error| EndpointError(error.to_string()));
            }
            let listener = self.links.config.controller_listener_names.first().cloned().unwrap_or_default();
            let endpoint = {
                let image = self.links.metadata.load();
                let controller = image.cluster.controllers.get(&leader);
                controller.and_then(|c| c.endpoints.iter().find(|e| e.name == listener)).cloned()
            };
            let fit = |request, version| Ok(without_epochs(request, version));
            self.remote.send(endpoint, request, fit).await.map_err(unanswered)
        })
    }
}

fn unanswered(error: PeerError) -> EndpointError {
    EndpointError(error.0)
}

fn without_epochs(mut request: AlterPartitionRequest, version: i16) -> AlterPartitionRequest {
    if version < FIRST_BROKER_EPOCHS {
        for partition in request.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let members = std::mem::take(&mut partition.new_isr_with_epochs);
            partition.new_isr = members.into_iter().map(|member| member.broker_id).collect();
        }
    }
    request
}
