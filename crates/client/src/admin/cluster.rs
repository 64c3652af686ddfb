//! The cluster as a whole.

use milena_common::Uuid;
use milena_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, UnregisterBrokerRequest,
};

use super::Admin;
use crate::error::ClientError;
use crate::metadata::Node;

/// Who makes up the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    pub cluster_id: String,
    pub controller_id: Option<i32>,
    pub nodes: Vec<Node>,
}

/// A broker or controller as DescribeCluster shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub node: Node,
    /// Whether the cluster keeps it from leading and following (KIP-1073).
    pub fenced: bool,
}

impl Admin {
    /// The cluster's id, its brokers and the controller (KIP-700; Metadata with older brokers).
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let connection = self.client.retrying("listNodes", async || self.client.any_connection().await).await?;
        if connection.version_of::<DescribeClusterRequest>(i16::MAX).is_err() {
            let picture = self.client.refresh_metadata(Some(&[]), false).await?;
            return Ok(ClusterDescription {
                cluster_id: picture.cluster_id.clone().unwrap_or_default(),
                controller_id: picture.controller_id,
                nodes: picture.nodes.values().cloned().collect(),
            });
        }
        let response = connection.request(&DescribeClusterRequest { endpoint_type: 1, ..Default::default() }).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "cluster")?;
        let nodes = response
            .brokers
            .into_iter()
            .map(|b| Node {
                id: b.broker_id,
                host: b.host,
                port: u16::try_from(b.port).unwrap_or_default(),
                rack: b.rack,
            })
            .collect();
        Ok(ClusterDescription {
            cluster_id: response.cluster_id,
            controller_id: (response.controller_id >= 0).then_some(response.controller_id),
            nodes,
        })
    }

    /// The topic ids of the cluster: name and id.
    pub async fn topic_ids(&self) -> Result<Vec<(String, Uuid)>, ClientError> {
        let response =
            self.client.request_any("listTopics", &MetadataRequest { topics: None, ..Default::default() }).await?;
        Ok(response.topics.into_iter().filter_map(|t| Some((t.name?, t.topic_id))).collect())
    }

    /// The endpoints of the brokers, or of the controllers when the client was started from those; fenced ones on request.
    pub async fn endpoints(&self, include_fenced: bool) -> Result<Vec<Endpoint>, ClientError> {
        let response = self.ask_for_cluster(include_fenced).await?;
        let endpoint = |b: milena_protocol::messages::describe_cluster_response::DescribeClusterBroker| Endpoint {
            node: Node { id: b.broker_id, host: b.host, port: u16::try_from(b.port).unwrap_or_default(), rack: b.rack },
            fenced: b.is_fenced,
        };
        Ok(response.brokers.into_iter().map(endpoint).collect())
    }

    /// The cluster's id, from brokers or from controllers.
    pub async fn cluster_id(&self) -> Result<String, ClientError> {
        Ok(self.ask_for_cluster(false).await?.cluster_id)
    }

    async fn ask_for_cluster(&self, include_fenced: bool) -> Result<DescribeClusterResponse, ClientError> {
        let request = DescribeClusterRequest {
            endpoint_type: if self.client.config().controllers { 2 } else { 1 },
            include_fenced_brokers: include_fenced,
            ..Default::default()
        };
        let response = self.client.request_any("listNodes", &request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "cluster")?;
        Ok(response)
    }

    /// Takes a broker that is gone for good out of the cluster's list.
    pub async fn unregister_broker(&self, broker_id: i32) -> Result<(), ClientError> {
        let request = UnregisterBrokerRequest { broker_id, ..Default::default() };
        let response = self.client.request_controller("unregisterBroker", &request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "broker")
    }
}
