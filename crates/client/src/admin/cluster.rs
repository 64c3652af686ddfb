//! The cluster as a whole.

use milena_common::Uuid;
use milena_protocol::messages::{DescribeClusterRequest, MetadataRequest};

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
}
