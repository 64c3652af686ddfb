//! The quorum of controllers (KIP-595, KIP-853).

use std::collections::BTreeMap;

use milena_common::Uuid;
use milena_protocol::messages::{
    AddRaftVoterRequest, DescribeQuorumRequest, RemoveRaftVoterRequest, add_raft_voter_request as add,
    describe_quorum_request as ask, describe_quorum_response as answer,
};

use super::Admin;
use crate::error::ClientError;

/// The quorum as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumInfo {
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub high_watermark: i64,
    pub voters: Vec<QuorumReplica>,
    pub observers: Vec<QuorumReplica>,
    /// Node id to its endpoints, where the leader knows them.
    pub nodes: BTreeMap<i32, Vec<VoterEndpoint>>,
}

/// One replica of the metadata log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumReplica {
    pub replica_id: i32,
    /// Zero when unknown.
    pub directory_id: Uuid,
    pub log_end_offset: i64,
    /// Wall time in milliseconds; -1 when unknown.
    pub last_fetch_ms: i64,
    /// Wall time in milliseconds; -1 when unknown.
    pub last_caught_up_ms: i64,
}

/// Where a controller listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoterEndpoint {
    pub listener: String,
    pub host: String,
    pub port: u16,
}

impl Admin {
    /// Asks the leader of the quorum for it.
    pub async fn describe_quorum(&self) -> Result<QuorumInfo, ClientError> {
        let request = DescribeQuorumRequest {
            topics: vec![ask::TopicData {
                topic_name: "__cluster_metadata".into(),
                partitions: vec![ask::PartitionData { partition_index: 0, ..Default::default() }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = self.client.request_any("describeMetadataQuorum", &request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "quorum")?;
        let nodes = response.nodes.into_iter().map(|node| {
            let endpoint = |l: answer::Listener| VoterEndpoint { listener: l.name, host: l.host, port: l.port };
            (node.node_id, node.listeners.into_iter().map(endpoint).collect())
        });
        let nodes = nodes.collect();
        let found = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let Some(partition) = found else {
            return Err(ClientError::Malformed {
                api: "DescribeQuorum".into(),
                reason: "the metadata partition is missing".into(),
            });
        };
        ClientError::check(partition.error_code, partition.error_message.as_deref(), "quorum")?;
        let replica = |r: answer::ReplicaState| QuorumReplica {
            replica_id: r.replica_id,
            directory_id: r.replica_directory_id,
            log_end_offset: r.log_end_offset,
            last_fetch_ms: r.last_fetch_timestamp,
            last_caught_up_ms: r.last_caught_up_timestamp,
        };
        Ok(QuorumInfo {
            leader_id: partition.leader_id,
            leader_epoch: partition.leader_epoch,
            high_watermark: partition.high_watermark,
            voters: partition.current_voters.into_iter().map(replica).collect(),
            observers: partition.observers.into_iter().map(replica).collect(),
            nodes,
        })
    }

    /// Makes a controller a voter.
    pub async fn add_voter(
        &self,
        voter_id: i32,
        directory_id: Uuid,
        endpoints: &[VoterEndpoint],
    ) -> Result<(), ClientError> {
        let listener = |e: &VoterEndpoint| add::Listener {
            name: e.listener.clone(),
            host: e.host.clone(),
            port: e.port,
            ..Default::default()
        };
        let request = AddRaftVoterRequest {
            timeout_ms: self.timeout_ms(),
            voter_id,
            voter_directory_id: directory_id,
            listeners: endpoints.iter().map(listener).collect(),
            ack_when_committed: true,
            ..Default::default()
        };
        let response = self.client.request_controller("addRaftVoter", &request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "voter")
    }

    /// Takes a controller's vote.
    pub async fn remove_voter(&self, voter_id: i32, directory_id: Uuid) -> Result<(), ClientError> {
        let request = RemoveRaftVoterRequest { voter_id, voter_directory_id: directory_id, ..Default::default() };
        let response = self.client.request_controller("removeRaftVoter", &request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "voter")
    }
}
