//! This broker's ways to the others for replication: to the leaders that it follows, and to the active controller.
//!
//! What is asked, and what answers mean, is `milena-replica`'s affair; here requests only become what the other side understands. Made by
//! `node.rs`, on the connections of `peers.rs`.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use milena_common::config::BrokerConfig;
use milena_metadata::image::Endpoint;
use milena_metadata::{Controller, MetadataCache};
use milena_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
};
use milena_replica::{ClusterLinks, ControllerEndpoint, EndpointError, LeaderEndpoint, LeaderEndpoints};

use crate::controller_channel::ControllerChannel;
use crate::fetch_versions::{FIRST_TOPIC_ID, for_version};
use crate::peers::{PeerError, Remote, broker_endpoint, client_config};

/// The first version of AlterPartition with epochs of brokers.
const FIRST_BROKER_EPOCHS: i16 = 3;

/// Where leaders are.
#[derive(Clone)]
pub(crate) struct ReplicationLinks {
    config: Arc<BrokerConfig>,
    metadata: MetadataCache,
}

impl ReplicationLinks {
    /// A broker's ways: to leaders as the metadata know them, and to the controller that `controllers` reaches.
    pub(crate) fn links(
        config: Arc<BrokerConfig>,
        metadata: MetadataCache,
        controllers: &ControllerChannel,
    ) -> ClusterLinks {
        let controller = ToController(controllers.for_purpose(&config, "alter-partition"));
        ClusterLinks { leaders: Arc::new(ReplicationLinks { config, metadata }), controller: Arc::new(controller) }
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
        broker_endpoint(&self.links.config, &self.links.metadata, self.leader)
    }
}

impl LeaderEndpoint for ToLeader {
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, EndpointError>> {
        // metadata of KRaft clusters allow ids always
        let fit = |request, version| match version < FIRST_TOPIC_ID {
            true => Err(PeerError(format!("a leader that fetches no topics by id (version {version})"))),
            false => Ok(for_version(request, version)),
        };
        Box::pin(async move { self.remote.send(self.endpoint(), request, fit).await.map_err(unanswered) })
    }

    fn list_offsets(&self, request: ListOffsetsRequest) -> BoxFuture<'_, Result<ListOffsetsResponse, EndpointError>> {
        let plain = |request, _| Ok(request);
        Box::pin(async move { self.remote.send(self.endpoint(), request, plain).await.map_err(unanswered) })
    }
}

struct ToController(ControllerChannel);

impl ControllerEndpoint for ToController {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> BoxFuture<'_, Result<AlterPartitionResponse, EndpointError>> {
        let fit = |request, version| Ok(without_epochs(request, version));
        let local = async |c: Controller, request| c.alter_partition(request).await;
        Box::pin(async move {
            let answer = self.0.ask_fitting(request, local, fit).await;
            answer.map_err(|error| EndpointError(error.to_string()))
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
