//! How members go: they leave, go away for a while (static members), or fall silent.

use std::sync::Arc;

use milena_common::Now;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::Refusal;
use super::draft::Draft;
use super::heartbeat::{check_instance, unknown_member};
use super::member::{AWAY_EPOCH, Current, MemberState, Owned};
use super::record::ConsumerRecord;
use super::steps::Steps;
use crate::group::GroupShard;
use crate::group::fx::TimerKey;
use crate::group::record::GroupRecord;

impl GroupShard {
    /// Member epochs -1 and -2.
    ///
    /// Errors: GROUP_ID_NOT_FOUND, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
    pub(super) fn consumer_leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        now: Now,
    ) -> Result<(Vec<GroupRecord>, ConsumerGroupHeartbeatResponse), Refusal> {
        let group_id: Arc<str> = Arc::from(request.group_id.as_str());
        let Some(group) = self.hard.consumer_group(&group_id) else {
            let text = if self.exists(&group_id) {
                format!("Group {group_id} is not a consumer group.")
            } else {
                format!("Group {group_id} not found.")
            };
            return Err((ErrorCode::GroupIdNotFound, text));
        };
        let member_id = match request.instance_id.as_deref() {
            Some(instance_id) => {
                let known = group.static_member_id(instance_id);
                check_instance(known, instance_id, &request.member_id)?;
                known.cloned()
            }
            None => group.member(&request.member_id).map(|(id, _)| id.clone()),
        };
        let member_id = member_id.ok_or_else(|| unknown_member(&request.member_id, &group_id))?;
        let records = if request.member_epoch == AWAY_EPOCH {
            self.go_away(&group_id, &member_id)
        } else {
            tracing::info!(group = &*group_id, member = &*member_id, "member left the group");
            self.remove_consumers(&group_id, std::slice::from_ref(&member_id), now)
        };
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id.to_string()),
            member_epoch: request.member_epoch,
            ..Default::default()
        };
        Ok((records, response))
    }

    /// A static member stops and means to come back: it keeps what it has until its session ends.
    fn go_away(&mut self, group_id: &Arc<str>, member_id: &Arc<str>) -> Vec<GroupRecord> {
        let Some(group) = self.hard.consumer_group(group_id) else {
            return Vec::new();
        };
        let current = group.current(member_id);
        // Its process is gone, so what it was told to give up is given up. Commits of the old process are not to be told from those of
        // the new one by the epochs of single partitions, so these start anew.
        let assigned: Owned = (current.assigned.iter())
            .map(|(&topic, partitions)| (topic, partitions.keys().map(|&partition| (partition, 0)).collect()))
            .collect();
        let away = Current { epoch: AWAY_EPOCH, assigned, revoking: Owned::new(), ..(*current).clone() };
        let mut draft = Draft::new(group_id.clone(), group);
        draft.push_last(ConsumerRecord::Current { member: member_id.clone(), value: Some(away.to_record()) });
        let records = draft.into_records();
        self.soft.timers.cancel(&TimerKey::ConsumerRevocation { group: group_id.clone(), member: member_id.clone() });
        records
    }

    /// Takes members out; what is left may become a classic group.
    pub(super) fn remove_consumers(
        &mut self,
        group_id: &Arc<str>,
        member_ids: &[Arc<str>],
        now: Now,
    ) -> Vec<GroupRecord> {
        for member_id in member_ids {
            self.cancel_consumer_timers(group_id, member_id);
        }
        if let Some(records) = self.downgrade_without(group_id, member_ids, now) {
            return records;
        }
        let cluster = self.cluster.load();
        let config = self.config.clone();
        let Some(group) = self.hard.consumer_group(group_id) else {
            return Vec::new();
        };
        let steps = Steps { config: &config, cluster: &cluster, now };
        let mut draft = Draft::new(group_id.clone(), group);
        let mut soft = self.soft.consumers.get(group_id).copied().unwrap_or_default();
        steps.remove(&mut draft, &mut soft, member_ids);
        let records = draft.into_records();
        self.soft.consumers.insert(group_id.clone(), soft);
        records
    }

    pub(super) fn cancel_consumer_timers(&mut self, group: &Arc<str>, member: &Arc<str>) {
        let (group, member) = (group.clone(), member.clone());
        self.soft.timers.cancel(&TimerKey::ConsumerSession { group: group.clone(), member: member.clone() });
        self.soft.timers.cancel(&TimerKey::ConsumerRevocation { group: group.clone(), member: member.clone() });
        self.soft.timers.cancel(&TimerKey::ConsumerRejoin { group: group.clone(), member: member.clone() });
        self.soft.timers.cancel(&TimerKey::ConsumerSync { group, member });
    }

    /// A member was not heard of for its session timeout.
    pub(crate) fn on_consumer_session_timer(
        &mut self,
        group: &Arc<str>,
        member: &Arc<str>,
        now: Now,
    ) -> Vec<GroupRecord> {
        if !self.has_consumer(group, member) {
            return Vec::new();
        }
        tracing::info!(group = &**group, member = &**member, "member fell silent and is removed from the group");
        self.remove_consumers(group, std::slice::from_ref(member), now)
    }

    /// A member did not give up its partitions within its rebalance timeout.
    pub(crate) fn on_revocation_timer(&mut self, group: &Arc<str>, member: &Arc<str>, now: Now) -> Vec<GroupRecord> {
        let is_due = self.hard.consumer_group(group).is_some_and(|recorded| {
            recorded.member(member).is_some() && recorded.current(member).state == MemberState::UnrevokedPartitions
        });
        if !is_due {
            return Vec::new();
        }
        tracing::info!(group = &**group, member = &**member, "member did not give up its partitions and is removed");
        self.remove_consumers(group, std::slice::from_ref(member), now)
    }

    /// After a load every member gets its time anew: nobody knows when it was heard of last.
    pub(crate) fn start_consumer_timers(&mut self, now: Now) {
        let cluster = self.cluster.load();
        let config = self.config.clone();
        let steps = Steps { config: &config, cluster: &cluster, now };
        let mut starts = Vec::new();
        for (id, group) in self.hard.groups().filter_map(|(id, recorded)| Some((id, recorded.consumer.as_deref()?))) {
            let settings = steps.settings(id);
            for (member_id, member) in group.members() {
                let classic = member.classic_member_metadata.as_ref();
                let session_timeout_ms =
                    classic.map_or(settings.session_timeout_ms, |classic| classic.session_timeout_ms);
                let state = if classic.is_some() { MemberState::Stable } else { group.current(member_id).state };
                starts.push((id.clone(), member_id.clone(), session_timeout_ms, state, member.rebalance_timeout_ms));
            }
        }
        for (group, member, session_timeout_ms, state, rebalance_timeout_ms) in starts {
            self.schedule_consumer_session(&group, &member, session_timeout_ms, now);
            self.watch_revocation(&group, &member, state, rebalance_timeout_ms, now);
        }
    }

    pub(super) fn has_consumer(&self, group: &str, member: &str) -> bool {
        self.hard.consumer_group(group).is_some_and(|group| group.member(member).is_some())
    }
}
