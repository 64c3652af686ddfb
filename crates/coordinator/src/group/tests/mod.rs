//! Tests of the group state machine: a harness with manual time that, after every operation, encodes, decodes and replays
//! what the operation decided, and compares with a partition loaded from scratch.

mod consumer;
mod consumer_golden;
mod consumer_replay;
mod membership;
mod migration;
mod offsets;
mod rebalance;
mod replay;
mod txn_offsets;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use milena_common::{Now, StateMachine, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use milena_protocol::messages::leave_group_request::MemberIdentity;
use milena_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use milena_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use milena_protocol::messages::*;

use super::*;

pub(super) const GROUP: &str = "group";
pub(super) const SESSION_MS: i32 = 10_000;
pub(super) const REBALANCE_MS: i32 = 30_000;

pub(super) struct Harness {
    pub(super) config: Arc<GroupConfig>,
    pub(super) cluster: ClusterView,
    pub(super) shard: GroupShard,
    pub(super) now: Now,
    pub(super) log: Vec<CoordinatorRecord>,
    pub(super) answers: HashMap<ReplyId, Parked>,
    next_reply: u64,
}

pub(super) fn config() -> GroupConfig {
    GroupConfig { initial_rebalance_delay_ms: 3_000, max_size: 100, ..GroupConfig::default() }
}

/// Ids that count up, so that tests are repeatable.
fn counting_uuids(start: u128) -> impl FnMut() -> Uuid + Send {
    let mut next = start;
    move || {
        next += 1;
        Uuid::from_u128(next)
    }
}

pub(super) fn cx(api_version: i16) -> GroupContext {
    GroupContext { client_id: "client".into(), client_host: "/127.0.0.1".into(), api_version }
}

/// A consumer's subscription to topics.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    bytes.into()
}

pub(super) fn join_request(member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        ..Default::default()
    }
}

pub(super) fn protocols(names: &[&str]) -> Vec<JoinGroupRequestProtocol> {
    names
        .iter()
        .map(|name| JoinGroupRequestProtocol { name: (*name).into(), metadata: subscription(&["topic"]) })
        .collect()
}

impl Harness {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: GroupConfig) -> Self {
        let config = Arc::new(config);
        let now = Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 };
        let cluster = ClusterView::default();
        let mut shard = GroupShard::new(config.clone(), counting_uuids(0)).with_cluster(cluster.clone());
        shard.on_loaded(now);
        Harness { config, cluster, shard, now, log: Vec::new(), answers: HashMap::new(), next_reply: 0 }
    }

    /// Takes an outcome as the driver does; the records must survive encoding, and recovery must lead to the same state.
    pub(super) fn apply<R>(&mut self, outcome: GroupOutcome<R>) -> (R, Vec<GroupRecord>) {
        for record in &outcome.records {
            let encoded = GroupShard::encode(record).expect("encodes");
            let offset = self.log.len() as i64;
            let decoded = GroupShard::decode(LoadedRecord::Record { offset, producer_id: -1, record: encoded.clone() });
            assert_eq!(&decoded, record, "a record means the same after encoding");
            self.shard.replay(offset, record);
            self.log.push(encoded);
        }
        for (reply, answer) in self.shard.take_replies() {
            assert!(self.answers.insert(reply, answer).is_none(), "answered twice");
        }
        (outcome.response, outcome.records)
    }

    /// A shard that has just loaded `log`.
    pub(super) fn load(&self, log: &[CoordinatorRecord]) -> GroupShard {
        // No id comes twice, however often the broker restarts.
        let mut shard = GroupShard::new(self.config.clone(), counting_uuids((1 + self.log.len() as u128) << 64))
            .with_cluster(self.cluster.clone());
        for (offset, record) in log.iter().enumerate() {
            let offset = offset as i64;
            shard.replay(
                offset,
                &GroupShard::decode(LoadedRecord::Record { offset, producer_id: -1, record: record.clone() }),
            );
        }
        shard.on_loaded(self.now);
        shard
    }

    /// The broker crashes and comes back: nobody is answered.
    pub(super) fn restart(&mut self) {
        let log = self.log.clone();
        self.shard = self.load(&log);
        self.answers.clear();
    }

    pub(super) fn advance(&mut self, ms: u64) -> Vec<GroupRecord> {
        let until = Now { mono_ms: self.now.mono_ms + ms, wall_ms: self.now.wall_ms + ms as i64 };
        let mut records = Vec::new();
        while let Some(deadline) = self.shard.next_deadline().filter(|deadline| *deadline <= until.mono_ms) {
            let step = deadline.saturating_sub(self.now.mono_ms);
            self.now = Now { mono_ms: self.now.mono_ms + step, wall_ms: self.now.wall_ms + step as i64 };
            let outcome = self.shard.on_timer(self.now).expect("a timer is due");
            records.extend(self.apply(outcome).1);
        }
        self.now = until;
        records
    }

    pub(super) fn join_with(&mut self, cx: &GroupContext, request: &JoinGroupRequest) -> (ReplyId, Vec<GroupRecord>) {
        self.next_reply += 1;
        let reply = ReplyId(self.next_reply);
        let outcome = self.shard.join(cx, request, reply, self.now);
        (reply, self.apply(outcome).1)
    }

    pub(super) fn join(&mut self, version: i16, request: &JoinGroupRequest) -> ReplyId {
        self.join_with(&cx(version), request).0
    }

    pub(super) fn joined(&self, reply: ReplyId) -> Option<&JoinGroupResponse> {
        match self.answers.get(&reply)? {
            Parked::Join(response) => Some(response),
            Parked::Sync(_) => panic!("a join was answered with a sync"),
        }
    }

    #[track_caller]
    pub(super) fn join_now(&mut self, version: i16, request: &JoinGroupRequest) -> JoinGroupResponse {
        let reply = self.join(version, request);
        self.joined(reply).expect("answered at once").clone()
    }

    pub(super) fn sync_with(&mut self, request: &SyncGroupRequest) -> (ReplyId, Vec<GroupRecord>) {
        self.next_reply += 1;
        let reply = ReplyId(self.next_reply);
        let outcome = self.shard.sync(request, reply, self.now);
        (reply, self.apply(outcome).1)
    }

    pub(super) fn sync(
        &mut self,
        member_id: &str,
        generation_id: i32,
        assignments: &[(&str, &'static [u8])],
    ) -> ReplyId {
        self.sync_with(&sync_request(member_id, generation_id, assignments)).0
    }

    pub(super) fn synced(&self, reply: ReplyId) -> Option<&SyncGroupResponse> {
        match self.answers.get(&reply)? {
            Parked::Sync(response) => Some(response),
            Parked::Join(_) => panic!("a sync was answered with a join"),
        }
    }

    pub(super) fn heartbeat(&mut self, member_id: &str, generation_id: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: GROUP.into(),
            member_id: member_id.into(),
            generation_id,
            ..Default::default()
        };
        let outcome = self.shard.heartbeat(&request, self.now);
        error(self.apply(outcome).0.error_code)
    }

    pub(super) fn leave(&mut self, members: &[(&str, Option<&str>)]) -> (Vec<ErrorCode>, Vec<GroupRecord>) {
        let members = members
            .iter()
            .map(|(id, instance)| MemberIdentity {
                member_id: (*id).into(),
                group_instance_id: instance.map(Into::into),
                ..Default::default()
            })
            .collect();
        let outcome =
            self.shard.leave(&LeaveGroupRequest { group_id: GROUP.into(), members, ..Default::default() }, self.now);
        let (response, records) = self.apply(outcome);
        (response.members.iter().map(|member| error(member.error_code)).collect(), records)
    }

    pub(super) fn commit_with(
        &mut self,
        version: i16,
        request: &OffsetCommitRequest,
    ) -> (Result<Vec<ErrorCode>, ErrorCode>, Vec<GroupRecord>) {
        let outcome = self.shard.commit_offsets(&cx(version), request, self.now);
        let (response, records) = self.apply(outcome);
        let errors = |response: OffsetCommitResponse| {
            response.topics.iter().flat_map(|t| &t.partitions).map(|p| error(p.error_code)).collect()
        };
        (response.map(errors), records)
    }

    /// A commit that must succeed.
    #[track_caller]
    pub(super) fn commit(
        &mut self,
        group: &str,
        member_id: &str,
        generation: i32,
        topic: &str,
        partition: i32,
        offset: i64,
    ) {
        let (response, _) =
            self.commit_with(8, &commit_request(group, member_id, generation, topic, partition, offset));
        assert_eq!(response, Ok(vec![ErrorCode::None]));
    }

    pub(super) fn fetch(&self, group: &str, topic: &str, partition: i32) -> i64 {
        self.shard.fetch_offsets(&fetch_request(group, topic, partition), false).topics[0].partitions[0]
            .committed_offset
    }

    pub(super) fn state(&self) -> &'static str {
        self.shard.soft.groups.get(GROUP).map_or("none", |group| group.state.name())
    }

    /// Lets `count` dynamic members join a new group and sync; the member ids, leader first.
    pub(super) fn stable_group(&mut self, count: usize) -> (Vec<String>, i32) {
        let replies: Vec<_> = (0..count).map(|_| self.join(2, &join_request(""))).collect();
        while self.joined(replies[0]).is_none() {
            self.advance(self.config.initial_rebalance_delay_ms);
        }
        let joins: Vec<_> = replies.iter().map(|reply| self.joined(*reply).expect("joined").clone()).collect();
        let generation = joins[0].generation_id;
        let leader = joins[0].leader.clone();
        let mut ids: Vec<_> = joins.into_iter().map(|join| join.member_id).collect();
        ids.sort_by_key(|id| *id != leader);
        for id in ids.iter().rev() {
            self.sync(id, generation, &[]);
        }
        assert_eq!(self.state(), "Stable");
        (ids, generation)
    }
}

pub(super) fn sync_request(
    member_id: &str,
    generation_id: i32,
    assignments: &[(&str, &'static [u8])],
) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: GROUP.into(),
        generation_id,
        member_id: member_id.into(),
        assignments: assignments
            .iter()
            .map(|(id, bytes)| SyncGroupRequestAssignment {
                member_id: (*id).into(),
                assignment: Bytes::from_static(bytes),
            })
            .collect(),
        ..Default::default()
    }
}

pub(super) fn commit_request(
    group: &str,
    member_id: &str,
    generation: i32,
    topic: &str,
    partition: i32,
    offset: i64,
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        member_id: member_id.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(super) fn fetch_request(group: &str, topic: &str, partition: i32) -> offset_fetch_request::OffsetFetchRequestGroup {
    offset_fetch_request::OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: Some(vec![offset_fetch_request::OffsetFetchRequestTopics {
            name: topic.into(),
            partition_indexes: vec![partition],
            ..Default::default()
        }]),
        ..Default::default()
    }
}

pub(super) fn error(code: i16) -> ErrorCode {
    ErrorCode::from_code(code)
}
