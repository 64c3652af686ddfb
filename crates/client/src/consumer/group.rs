//! A member of a classic group: joining, leading when the coordinator says so, heartbeats, leaving.
//!
//! The heartbeat task only reports: that a rebalance began, or that the member is out. [`super::Consumer::poll`] acts on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use milena_common::TopicPartition;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
    join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
    sync_group_request::SyncGroupRequestAssignment,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::ConsumerConfig;
use super::assignor::{Assignor, Member};
use super::protocol::{Subscription, decode_assignment, decode_sticky, encode_assignment, encode_sticky};
use crate::cluster::{Client, CoordinatorKind};
use crate::error::ClientError;

const STABLE: u8 = 0;
const REJOIN: u8 = 1;
/// The coordinator no longer knows the member id.
const LOST: u8 = 2;

/// A member of one generation of a group.
pub(super) struct Membership {
    group: String,
    member_id: String,
    generation: i32,
    /// What the generation gave it.
    given: Vec<TopicPartition>,
    signal: Arc<Signal>,
    heartbeat: JoinHandle<()>,
}

struct Signal {
    state: AtomicU8,
    changed: Arc<Notify>,
}

impl Signal {
    fn raise(&self, state: u8) {
        self.state.fetch_max(state, Ordering::AcqRel);
        self.changed.notify_one();
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

impl Membership {
    /// Joins or rejoins, and returns what the member is given to read.
    pub(super) async fn join(
        client: &Client,
        config: &Arc<ConsumerConfig>,
        group: &str,
        topics: Vec<String>,
        owned: Vec<TopicPartition>,
        previous: Option<Membership>,
    ) -> Result<(Membership, Vec<TopicPartition>), ClientError> {
        let mut member_id = match &previous {
            Some(previous) if previous.signal.state.load(Ordering::Acquire) != LOST => previous.member_id.clone(),
            _ => String::new(),
        };
        let last_generation = previous.as_ref().map_or(-1, |previous| previous.generation);
        let given = previous.as_ref().map(|previous| previous.given.clone()).unwrap_or_default();
        drop(previous);
        let subscription = Subscription {
            topics,
            user_data: None,
            owned_partitions: owned,
            generation: last_generation,
            rack: config.client.rack.clone(),
        };
        let sticky_data = encode_sticky(&given, last_generation);
        let mut attempt = 0;
        loop {
            match try_join(client, config, group, &subscription, &sticky_data, &mut member_id).await {
                Ok((node, generation, partitions)) => {
                    let signal = Arc::new(Signal { state: AtomicU8::new(STABLE), changed: Arc::new(Notify::new()) });
                    let beat = Beat {
                        client: client.clone(),
                        config: config.clone(),
                        group: group.to_string(),
                        member_id: member_id.clone(),
                        generation,
                        signal: signal.clone(),
                    };
                    let heartbeat = spawn(beat.run(node));
                    return Ok((
                        Membership {
                            group: group.to_string(),
                            member_id,
                            generation,
                            given: partitions.clone(),
                            signal,
                            heartbeat,
                        },
                        partitions,
                    ));
                }
                Err(error) => match error.code() {
                    // the coordinator gave us an id to come back with (KIP-394)
                    Some(ErrorCode::MemberIdRequired) => {}
                    Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => member_id.clear(),
                    Some(ErrorCode::RebalanceInProgress) => {}
                    _ if error.is_retriable() => {
                        tokio::time::sleep(client.config().backoff(attempt)).await;
                        attempt += 1;
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    pub(super) fn member_id(&self) -> &str {
        &self.member_id
    }

    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    /// Whether nothing has called for a rejoin.
    pub(super) fn is_stable(&self) -> bool {
        self.signal.state.load(Ordering::Acquire) == STABLE
    }

    /// Whether the coordinator no longer knows the member, and may have given its partitions away.
    pub(super) fn is_lost(&self) -> bool {
        self.signal.state.load(Ordering::Acquire) == LOST
    }

    /// Wakes when [`Membership::is_stable`] may have changed.
    pub(super) fn changed(&self) -> Arc<Notify> {
        self.signal.changed.clone()
    }

    /// Calls for a rejoin, under a new id if the old one is `lost`.
    pub(super) fn rejoin(&self, lost: bool) {
        self.signal.raise(if lost { LOST } else { REJOIN });
    }

    /// Leaves the group at once; a static member stays until its session ends, as it is meant to.
    pub(super) async fn leave(self, client: &Client, config: &ConsumerConfig) {
        if config.group_instance_id.is_some() {
            return;
        }
        let left = async {
            let node = client.find_coordinator(CoordinatorKind::Group, &self.group).await?;
            let connection = client.connection(node).await?;
            let version = connection.version_of::<LeaveGroupRequest>(i16::MAX)?;
            let mut request = LeaveGroupRequest { group_id: self.group.clone(), ..Default::default() };
            if version >= 3 {
                request.members = vec![MemberIdentity {
                    member_id: self.member_id.clone(),
                    reason: (version >= 5).then(|| "the consumer is being closed".into()),
                    ..Default::default()
                }];
            } else {
                request.member_id = self.member_id.clone();
            }
            connection.request_at(&request, version, Duration::from_secs(5)).await
        };
        // the session timeout ends the membership anyway
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(5), left).await {
            tracing::debug!(target: "org.apache.kafka.clients.consumer.internals.ConsumerCoordinator",
                "leaving group {} failed: {error}", self.group);
        }
    }
}

async fn try_join(
    client: &Client,
    config: &ConsumerConfig,
    group: &str,
    subscription: &Subscription,
    sticky_data: &Bytes,
    member_id: &mut String,
) -> Result<(i32, i32, Vec<TopicPartition>), ClientError> {
    let node = client.find_coordinator(CoordinatorKind::Group, group).await?;
    let connection = client.connection(node).await?;
    let metadata = |assignor: Assignor| {
        let user_data = match assignor {
            Assignor::Sticky => Some(sticky_data.clone()),
            // the generation alone
            Assignor::CooperativeSticky => Some(Bytes::copy_from_slice(&subscription.generation.to_be_bytes())),
            Assignor::Range | Assignor::RoundRobin => None,
        };
        Subscription { user_data, ..subscription.clone() }.encode()
    };
    let request = JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: i32::try_from(config.session_timeout_ms).unwrap_or(i32::MAX),
        rebalance_timeout_ms: i32::try_from(config.max_poll_interval_ms).unwrap_or(i32::MAX),
        member_id: member_id.clone(),
        group_instance_id: config.group_instance_id.clone(),
        protocol_type: "consumer".into(),
        protocols: config
            .assignors
            .iter()
            .map(|a| JoinGroupRequestProtocol { name: a.name().into(), metadata: metadata(*a), ..Default::default() })
            .collect(),
        ..Default::default()
    };
    let version = connection.version_of::<JoinGroupRequest>(i16::MAX)?;
    // the answer comes when all members are there, or their time is up
    let wait = Duration::from_millis(config.max_poll_interval_ms.max(config.session_timeout_ms) + 5_000);
    let joined = connection.request_at(&request, version, wait).await?;
    if !joined.member_id.is_empty() {
        *member_id = joined.member_id.clone();
    }
    ClientError::check(joined.error_code, None, group)?;
    let leads = joined.leader == joined.member_id;
    let assignments = if leads && !joined.skip_assignment { lead(client, &joined).await? } else { Vec::new() };
    let request = SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: member_id.clone(),
        group_instance_id: config.group_instance_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: joined.protocol_name.clone(),
        assignments,
        ..Default::default()
    };
    let version = connection.version_of::<SyncGroupRequest>(i16::MAX)?;
    let synced = connection.request_at(&request, version, wait).await?;
    ClientError::check(synced.error_code, None, group)?;
    let partitions = decode_assignment(synced.assignment)
        .map_err(|error| ClientError::Malformed { api: "SyncGroup".into(), reason: error.to_string() })?;
    Ok((node, joined.generation_id, partitions))
}

/// Shares the partitions of all members' topics.
async fn lead(client: &Client, joined: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
    let name = joined.protocol_name.as_deref().unwrap_or_default();
    let Some(assignor) = Assignor::from_name(name) else {
        return Err(ClientError::api(ErrorCode::InconsistentGroupProtocol, name));
    };
    let members: Vec<Member> = joined
        .members
        .iter()
        .map(|m| {
            // a member whose bytes are unreadable gets nothing; the others go on
            let told = Subscription::decode(m.metadata.clone()).unwrap_or_default();
            let (owned, generation) = match (assignor, told.user_data) {
                (Assignor::Sticky, Some(data)) => decode_sticky(data).unwrap_or_default(),
                _ => (told.owned_partitions, told.generation),
            };
            Member {
                member_id: m.member_id.clone(),
                group_instance_id: m.group_instance_id.clone(),
                topics: told.topics,
                owned,
                generation,
            }
        })
        .collect();
    let topics: BTreeSet<String> = members.iter().flat_map(|m| m.topics.iter().cloned()).collect();
    let topics: Vec<String> = topics.into_iter().collect();
    let picture = client.retrying("metadata", async || client.refresh_metadata(Some(&topics), false).await).await?;
    let counts: BTreeMap<String, i32> = topics
        .iter()
        .filter_map(|t| {
            let count = picture.topics.get(t)?.partitions.len();
            Some((t.clone(), i32::try_from(count).ok()?))
        })
        .collect();
    let assignment = assignor.assign(&counts, &members);
    Ok(assignment
        .into_iter()
        .map(|(member_id, partitions)| SyncGroupRequestAssignment {
            member_id,
            assignment: encode_assignment(&partitions),
            ..Default::default()
        })
        .collect())
}

#[allow(clippy::disallowed_methods, reason = "a membership owns its heartbeat task and ends it")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

struct Beat {
    client: Client,
    config: Arc<ConsumerConfig>,
    group: String,
    member_id: String,
    generation: i32,
    signal: Arc<Signal>,
}

impl Beat {
    async fn run(self, mut node: i32) {
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            ..Default::default()
        };
        let mut pause = Duration::from_millis(self.config.heartbeat_interval_ms);
        loop {
            tokio::time::sleep(pause).await;
            pause = Duration::from_millis(self.config.heartbeat_interval_ms);
            let answer = async { self.client.connection(node).await?.request(&request).await };
            let error = match answer.await.and_then(|r| ClientError::check(r.error_code, None, &self.group)) {
                Ok(()) => continue,
                Err(error) => error,
            };
            match error.code() {
                Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => {
                    // the caller may take its time to come back and rejoin: the session goes on until then
                    self.signal.raise(REJOIN);
                }
                Some(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId) => {
                    return self.signal.raise(LOST);
                }
                _ => {
                    // the coordinator moved or is away: look for it, soon
                    pause = self.client.config().backoff(0);
                    if let Ok(found) = self.client.find_coordinator(CoordinatorKind::Group, &self.group).await {
                        node = found;
                    }
                }
            }
        }
    }
}
