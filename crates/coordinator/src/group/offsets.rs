//! Committed offsets: OffsetCommit v0-10, OffsetFetch v0-10, OffsetDelete v0, and their expiry (KIP-211).
//!
//! Topics come with their names: whoever calls resolves topic ids (v10) and checks that topics exist and may be used.

use std::collections::BTreeSet;
use std::sync::Arc;

use milena_common::{Now, Outcome};
use milena_protocol::ErrorCode;
use milena_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use milena_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use milena_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use milena_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use milena_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use milena_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse};
use milena_protocol::stored::group::OffsetCommitValue;

use super::classic::{ClassicGroup, State};
use super::consumer::{ConsumerGroup, GroupState};
use super::fx::TimerKey;
use super::hard::CommittedOffset;
use super::record::GroupRecord;
use super::{GroupContext, GroupOutcome, GroupShard, Soft};

/// "No offset is stored" on the wire.
const INVALID_OFFSET: i64 = -1;

/// Tombstones one expiry step writes before it lets others run.
const MAX_EXPIRED_PER_STEP: usize = 2_000;

impl GroupShard {
    /// OffsetCommit. An error of the group comes as `Err`; an error of one partition in the response.
    pub fn commit_offsets(
        &mut self,
        cx: &GroupContext,
        request: &OffsetCommitRequest,
        now: Now,
    ) -> GroupOutcome<Result<OffsetCommitResponse, ErrorCode>> {
        if let Err(error) = self.validate_commit(cx, request) {
            return Outcome::response(Err(error));
        }
        let mut records = Vec::new();
        // Committing shows that a member of the classic protocol is alive.
        self.with_group(&request.group_id, now, &mut records, |group, fx| {
            if matches!(group.state, State::Stable | State::PreparingRebalance) {
                group.extend_session(fx, &request.member_id);
            }
        });
        let group: Arc<str> = Arc::from(request.group_id.as_str());
        let expire_timestamp =
            if request.retention_time_ms == -1 { -1 } else { now.wall_ms.saturating_add(request.retention_time_ms) };
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let name: Arc<str> = Arc::from(topic.name.as_str());
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
                let error = if self.is_metadata_too_large(metadata) {
                    ErrorCode::OffsetMetadataTooLarge
                } else {
                    let expires = expire_timestamp != -1;
                    let value = OffsetCommitValue {
                        offset: partition.committed_offset,
                        // The version with an expiration has neither.
                        leader_epoch: if expires { -1 } else { partition.committed_leader_epoch },
                        topic_id: if expires { Default::default() } else { topic.topic_id },
                        metadata: metadata.to_owned(),
                        commit_timestamp: commit_timestamp(cx, partition, now),
                        expire_timestamp,
                    };
                    records.push(GroupRecord::offset(&group, &name, partition.partition_index, Some(value)));
                    ErrorCode::None
                };
                partitions.push(OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                });
            }
            topics.push(OffsetCommitResponseTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions });
        }
        Outcome::new(records, Ok(OffsetCommitResponse { topics, ..Default::default() }))
    }

    fn validate_commit(&self, cx: &GroupContext, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        let generation_id = request.generation_id_or_member_epoch;
        if let Some(group) = self.hard.consumer_group(&request.group_id) {
            let instance_id = request.group_instance_id.as_deref();
            let partitions = (request.topics.iter())
                .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, partition.partition_index)));
            return group.validate_offset_commit(
                &request.member_id,
                instance_id,
                generation_id,
                false,
                cx.api_version,
                partitions,
            );
        }
        if let Some(group) = self.soft.groups.get(request.group_id.as_str()) {
            return group.validate_offset_commit(
                &request.member_id,
                request.group_instance_id.as_deref(),
                generation_id,
                false,
            );
        }
        if generation_id < 0 {
            // An administrator, or a consumer that assigns partitions itself: a simple group comes into being with its offsets.
            return Ok(());
        }
        match self.hard.group(&request.group_id) {
            // A simple group has no members.
            Some(_) => Err(ErrorCode::UnknownMemberId),
            None if cx.api_version >= 9 => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    pub(super) fn is_metadata_too_large(&self, metadata: &str) -> bool {
        metadata.len() > i16::MAX as usize
            || metadata.len() > self.config.offset_metadata_max_bytes
                && metadata.encode_utf16().count() > self.config.offset_metadata_max_bytes
    }

    /// OffsetFetch of one group, in the form of v8; `topics: None` asks for all.
    pub fn fetch_offsets(&self, request: &OffsetFetchRequestGroup, require_stable: bool) -> OffsetFetchResponseGroup {
        let group_id = request.group_id.as_str();
        // Before version 9 nobody says who asks.
        if let Some(group) = self.hard.consumer_group(group_id)
            && let Err(error) = group.validate_offset_fetch(request.member_id.as_deref(), request.member_epoch)
        {
            return OffsetFetchResponseGroup {
                group_id: group_id.to_owned(),
                error_code: error.code(),
                ..Default::default()
            };
        }
        let topics = match &request.topics {
            Some(topics) => topics
                .iter()
                .map(|topic| OffsetFetchResponseTopics {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    partitions: topic
                        .partition_indexes
                        .iter()
                        .map(|&partition| {
                            self.fetch_offset(
                                group_id,
                                &topic.name,
                                partition,
                                self.hard
                                    .offset(group_id, &topic.name, partition)
                                    .filter(|committed| committed.may_be_of(topic.topic_id)),
                                require_stable,
                            )
                        })
                        .collect(),
                })
                .collect(),
            None => self.fetch_all_offsets(group_id, require_stable),
        };
        OffsetFetchResponseGroup { group_id: group_id.to_owned(), topics, ..Default::default() }
    }

    fn fetch_all_offsets(&self, group_id: &str, require_stable: bool) -> Vec<OffsetFetchResponseTopics> {
        let Some(recorded) = self.hard.group(group_id) else {
            return Vec::new();
        };
        recorded
            .offsets
            .iter()
            .map(|(topic, partitions)| OffsetFetchResponseTopics {
                name: topic.to_string(),
                partitions: partitions
                    .iter()
                    .map(|(&partition, committed)| {
                        self.fetch_offset(group_id, topic, partition, Some(committed), require_stable)
                    })
                    .collect(),
                ..Default::default()
            })
            .collect()
    }

    fn fetch_offset(
        &self,
        group_id: &str,
        topic: &str,
        partition_index: i32,
        committed: Option<&CommittedOffset>,
        require_stable: bool,
    ) -> OffsetFetchResponsePartitions {
        let none = OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: INVALID_OFFSET,
            committed_leader_epoch: -1,
            metadata: Some(String::new()),
            ..Default::default()
        };
        if require_stable && self.hard.has_pending_offset(group_id, topic, partition_index) {
            return OffsetFetchResponsePartitions { error_code: ErrorCode::UnstableOffsetCommit.code(), ..none };
        }
        match committed {
            None => none,
            Some(committed) => OffsetFetchResponsePartitions {
                committed_offset: committed.offset,
                committed_leader_epoch: committed.leader_epoch,
                metadata: Some(committed.metadata.to_string()),
                ..none
            },
        }
    }

    /// OffsetDelete: offsets of topics that no member subscribes to.
    ///
    /// Errors: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP (members of an unknown protocol); per partition GROUP_SUBSCRIBED_TO_TOPIC.
    pub fn delete_offsets(&mut self, request: &OffsetDeleteRequest, now: Now) -> GroupOutcome<OffsetDeleteResponse> {
        let live = self.soft.groups.get(request.group_id.as_str());
        let error = match live {
            None if self.hard.group(&request.group_id).is_none() => ErrorCode::GroupIdNotFound,
            Some(group) if group.state != State::Empty && !group.uses_consumer_protocol() => ErrorCode::NonEmptyGroup,
            _ => ErrorCode::None,
        };
        if error != ErrorCode::None {
            return Outcome::response(OffsetDeleteResponse { error_code: error.code(), ..Default::default() });
        }
        let consumer = self.hard.consumer_group(&request.group_id);
        let group_id: Arc<str> = Arc::from(request.group_id.as_str());
        let mut records = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let is_subscribed = live.is_some_and(|group| group.is_subscribed_to(&topic.name))
                || consumer.is_some_and(|group| group.is_subscribed_to(&topic.name));
            let error = if is_subscribed { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
            let name: Arc<str> = Arc::from(topic.name.as_str());
            for partition in &topic.partitions {
                if !is_subscribed && self.hard.offset(&group_id, &name, partition.partition_index).is_some() {
                    records.push(GroupRecord::offset(&group_id, &name, partition.partition_index, None));
                }
            }
            let partition = |index| OffsetDeleteResponsePartition { partition_index: index, error_code: error.code() };
            let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
            topics.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
        }
        if live.is_none() && consumer.is_none() {
            // A simple group outlives its offsets until the next look for expired ones: it can still be described and deleted.
            let group = ClassicGroup::new(group_id.clone(), now.wall_ms);
            self.soft.groups.insert(group_id, group);
        }
        Outcome::new(records, OffsetDeleteResponse { topics, ..Default::default() })
    }

    /// Topics were deleted: nobody can read on from their offsets.
    pub fn on_topics_deleted(&mut self, deleted: &[String]) -> GroupOutcome<()> {
        let mut records = Vec::new();
        for (group, recorded) in self.hard.groups() {
            for topic in deleted {
                if let Some((topic, partitions)) = recorded.offsets.get_key_value(topic.as_str()) {
                    records
                        .extend(partitions.keys().map(|&partition| GroupRecord::offset(group, topic, partition, None)));
                }
            }
        }
        Outcome::new(records, ())
    }

    /// One step of the look for expired offsets and for groups that nothing is left of.
    pub(super) fn expire_offsets(&mut self, now: Now, records: &mut Vec<GroupRecord>) {
        let mut group_ids: Vec<Arc<str>> = self.hard.groups().map(|(id, _)| id.clone()).collect();
        group_ids.sort_unstable();
        let start = self.soft.expiry_cursor.take().map_or(0, |cursor| group_ids.partition_point(|id| *id <= cursor));
        let mut again_after_ms = self.config.offsets_retention_check_interval_ms;
        for group_id in group_ids.into_iter().skip(start) {
            if records.len() >= MAX_EXPIRED_PER_STEP {
                again_after_ms = 1;
                break;
            }
            self.expire_group(&group_id, now, records);
            self.soft.expiry_cursor = Some(group_id);
        }
        if again_after_ms != 1 {
            self.soft.expiry_cursor = None;
            // Came into being over a simple group whose offsets are gone, and nobody stayed.
            let Soft { groups, .. } = &mut self.soft;
            groups.retain(|id, group| {
                group.state != State::Empty || !group.pending_join.is_empty() || self.hard.group(id).is_some()
            });
        }
        self.soft.timers.schedule(TimerKey::OffsetExpiry, now.mono_after(again_after_ms));
    }

    fn expire_group(&mut self, group_id: &Arc<str>, now: Now, records: &mut Vec<GroupRecord>) {
        let Some(recorded) = self.hard.group(group_id) else {
            return;
        };
        // Who still reads for a group of another kind cannot be told here.
        if recorded.foreign_kind().is_some() {
            return;
        }
        let live = self.soft.groups.get(group_id);
        let consumer = recorded.consumer.as_deref();
        let read: BTreeSet<&str> = consumer.map(ConsumerGroup::subscribed_topics).unwrap_or_default();
        let mut all_expired = true;
        for (topic, partitions) in &recorded.offsets {
            let is_subscribed = live.is_some_and(|group| group.is_subscribed_to(topic)) || read.contains(&**topic);
            for (&partition, committed) in partitions {
                let is_expired = !is_subscribed
                    && !self.hard.has_pending_offset(group_id, topic, partition)
                    && expires_at_ms(live, committed, self.config.offsets_retention_ms)
                        .is_some_and(|at_ms| now.wall_ms >= at_ms);
                if is_expired {
                    records.push(GroupRecord::offset(group_id, topic, partition, None));
                } else {
                    all_expired = false;
                }
            }
        }
        let is_empty = live.is_none_or(|group| group.state == State::Empty && group.pending_join.is_empty())
            && consumer.is_none_or(|group| group.state() == GroupState::Empty);
        if all_expired && is_empty && !self.hard.has_pending_offsets(group_id) {
            if recorded.metadata.is_some() {
                records.push(GroupRecord::group(group_id, None));
            }
            records.extend(self.consumer_tombstones(group_id));
            tracing::info!(group = &**group_id, "group has no members and no offsets left and is removed");
            self.soft.groups.remove(group_id);
        }
    }
}

/// When an offset is due: its own expiry if the client set one, else the retention after the group became empty, after the
/// last commit (simple groups; topics a stable group no longer reads), or never.
fn expires_at_ms(live: Option<&ClassicGroup>, committed: &CommittedOffset, retention_ms: i64) -> Option<i64> {
    let base_ms = match live {
        Some(group) if group.protocol_type.is_some() => match group.state {
            State::Empty => group.state_timestamp_ms.unwrap_or(committed.commit_timestamp_ms),
            State::Stable if group.uses_consumer_protocol() && group.subscribed_topics.is_some() => {
                committed.commit_timestamp_ms
            }
            _ => return None,
        },
        _ => committed.commit_timestamp_ms,
    };
    Some(committed.expire_timestamp_ms.unwrap_or_else(|| base_ms.saturating_add(retention_ms)))
}

/// v1 brought its own commit time, -1 standing for now.
fn commit_timestamp(cx: &GroupContext, partition: &OffsetCommitRequestPartition, now: Now) -> i64 {
    if cx.api_version == 1 && partition.commit_timestamp != -1 { partition.commit_timestamp } else { now.wall_ms }
}
