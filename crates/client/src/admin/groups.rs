//! Groups: who they are, who is in them, and their end.

use milena_common::TopicPartition;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, LeaveGroupRequest, ListGroupsRequest,
    consumer_group_describe_response as consumer_describe, leave_group_request::MemberIdentity,
};

use super::Admin;
use crate::cluster::CoordinatorKind;
use crate::consumer::protocol::decode_assignment;
use crate::error::ClientError;
use crate::metadata::Node;

/// A group as a broker lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    pub group_id: String,
    /// `consumer`, `connect`, ...; empty for groups that only have offsets.
    pub protocol_type: String,
    /// Kafka's name of the state; empty with brokers before 2.6.
    pub state: String,
    /// `Classic`, `Consumer`, ...; empty with brokers before 3.8.
    pub kind: String,
}

/// A group and its members.
#[derive(Debug, Clone)]
pub struct GroupDescription {
    pub group_id: String,
    pub state: String,
    /// Whether this is a group of the consumer protocol (KIP-848), which has epochs.
    pub is_consumer_protocol: bool,
    pub assignor: String,
    pub group_epoch: Option<i32>,
    pub target_epoch: Option<i32>,
    pub coordinator: Node,
    pub members: Vec<GroupMember>,
}

/// A member and what it reads.
#[derive(Debug, Clone)]
pub struct GroupMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    pub assignment: Vec<TopicPartition>,
    /// What the member will read once it has caught up with its group (KIP-848).
    pub target_assignment: Option<Vec<TopicPartition>>,
    pub epoch: Option<i32>,
    /// Whether the member still speaks the classic protocol in a KIP-848 group; `None` when unknown.
    pub upgraded: Option<bool>,
}

impl Admin {
    /// The groups of all brokers in one of the states and of one of the types (empty: any).
    ///
    /// # Errors
    /// [`ClientError::UnsupportedVersion`] when a filter is asked of a broker that cannot filter.
    pub async fn list_groups(&self, states: &[String], kinds: &[String]) -> Result<Vec<GroupListing>, ClientError> {
        let picture =
            self.client.retrying("listGroups", async || self.client.refresh_metadata(Some(&[]), false).await).await?;
        let mut found: Vec<GroupListing> = Vec::new();
        for node in picture.nodes.keys() {
            let request = ListGroupsRequest {
                states_filter: states.to_vec(),
                types_filter: kinds.to_vec(),
                ..Default::default()
            };
            let response = self
                .client
                .retrying("listGroups", async || {
                    let response = self.client.connection(*node).await?.request(&request).await?;
                    ClientError::check(response.error_code, None, "groups")?;
                    Ok(response)
                })
                .await?;
            for g in response.groups {
                if !found.iter().any(|known| known.group_id == g.group_id) {
                    let listing = GroupListing {
                        group_id: g.group_id,
                        protocol_type: g.protocol_type,
                        state: g.group_state,
                        kind: g.group_type,
                    };
                    found.push(listing);
                }
            }
        }
        Ok(found)
    }

    /// Describes one group, of the consumer protocol or classic.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND` when there is none; brokers before 4.0 describe it with the state `Dead` instead.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        self.client
            .retrying("describeConsumerGroups", async || {
                let node = self.client.find_coordinator(CoordinatorKind::Group, group).await?;
                let coordinator = match self.client.metadata().nodes.get(&node) {
                    Some(node) => node.clone(),
                    None => {
                        return Err(ClientError::api(ErrorCode::CoordinatorNotAvailable, group));
                    }
                };
                let connection = self.client.connection(node).await?;
                if connection.version_of::<ConsumerGroupDescribeRequest>(i16::MAX).is_ok() {
                    let request = ConsumerGroupDescribeRequest { group_ids: vec![group.into()], ..Default::default() };
                    let response = connection.request(&request).await?;
                    if let Some(found) = response.groups.into_iter().next() {
                        // a classic group, or a broker with the new protocol switched off: ask the old way
                        let classic = [ErrorCode::GroupIdNotFound.code(), ErrorCode::UnsupportedVersion.code()];
                        if !classic.contains(&found.error_code) {
                            ClientError::check(found.error_code, found.error_message.as_deref(), group)?;
                            return Ok(consumer_group(found, coordinator));
                        }
                    }
                }
                let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
                let response = connection.request(&request).await?;
                let Some(found) = response.groups.into_iter().next() else {
                    return Err(ClientError::api(ErrorCode::GroupIdNotFound, group));
                };
                ClientError::check(found.error_code, found.error_message.as_deref(), group)?;
                let is_consumer = found.protocol_type == "consumer";
                Ok(GroupDescription {
                    group_id: found.group_id,
                    state: found.group_state,
                    is_consumer_protocol: false,
                    assignor: found.protocol_data,
                    group_epoch: None,
                    target_epoch: None,
                    coordinator,
                    members: found
                        .members
                        .into_iter()
                        .map(|m| GroupMember {
                            member_id: m.member_id,
                            group_instance_id: m.group_instance_id,
                            client_id: m.client_id,
                            host: m.client_host,
                            // other protocols (connect) put bytes of their own here
                            assignment: if is_consumer {
                                decode_assignment(m.member_assignment).unwrap_or_default()
                            } else {
                                Vec::new()
                            },
                            target_assignment: None,
                            epoch: None,
                            upgraded: None,
                        })
                        .collect(),
                })
            })
            .await
    }

    /// Removes members of a classic group: by their instance id if they have one, else by their member id.
    pub async fn remove_members(&self, group: &str, members: &[(String, Option<String>)]) -> Result<(), ClientError> {
        let request = LeaveGroupRequest {
            group_id: group.into(),
            members: members
                .iter()
                .map(|(member_id, instance)| MemberIdentity {
                    member_id: if instance.is_some() { String::new() } else { member_id.clone() },
                    group_instance_id: instance.clone(),
                    reason: Some("member was removed by an admin".into()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let response = self
            .client
            .request_coordinator("removeMembersFromConsumerGroup", CoordinatorKind::Group, group, &request, |r| {
                r.error_code
            })
            .await?;
        ClientError::check(response.error_code, None, group)?;
        response.members.iter().try_for_each(|member| ClientError::check(member.error_code, None, &member.member_id))
    }

    /// Deletes an empty group and its offsets.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest { groups_names: vec![group.into()], ..Default::default() };
        let response = self
            .client
            .request_coordinator("deleteConsumerGroups", CoordinatorKind::Group, group, &request, |r| {
                r.results.first().map_or(0, |result| result.error_code)
            })
            .await?;
        response.results.iter().try_for_each(|r| ClientError::check(r.error_code, None, group))
    }
}

fn consumer_group(found: consumer_describe::DescribedGroup, coordinator: Node) -> GroupDescription {
    let partitions = |assignment: consumer_describe::Assignment| -> Vec<TopicPartition> {
        let topics = assignment.topic_partitions.into_iter();
        topics
            .flat_map(|t| t.partitions.into_iter().map(move |p| TopicPartition::new(t.topic_name.as_str(), p)))
            .collect()
    };
    GroupDescription {
        group_id: found.group_id,
        state: found.group_state,
        is_consumer_protocol: true,
        assignor: found.assignor_name,
        group_epoch: Some(found.group_epoch),
        target_epoch: Some(found.assignment_epoch),
        coordinator,
        members: found
            .members
            .into_iter()
            .map(|m| GroupMember {
                member_id: m.member_id,
                group_instance_id: m.instance_id,
                client_id: m.client_id,
                host: m.client_host,
                assignment: partitions(m.assignment),
                target_assignment: Some(partitions(m.target_assignment)),
                epoch: Some(m.member_epoch),
                upgraded: match m.member_type {
                    0 => Some(false),
                    1 => Some(true),
                    _ => None,
                },
            })
            .collect(),
    }
}
