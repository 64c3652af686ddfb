//! Looking at groups and removing them: ListGroups v0-5, DescribeGroups v0-6, DeleteGroups v0-2.

use std::sync::Arc;

use milena_common::{Now, Outcome};
use milena_protocol::ErrorCode;
use milena_protocol::messages::ListGroupsRequest;
use milena_protocol::messages::delete_groups_response::DeletableGroupResult;
use milena_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use milena_protocol::messages::list_groups_response::ListedGroup;

use super::classic::{CONSUMER, ClassicGroup, State};
use super::consumer::GroupState;
use super::fx::TimerKey;
use super::record::{GroupKind, GroupRecord};
use super::{GroupContext, GroupOutcome, GroupShard};

/// State of a group that is not there, as old clients are told.
const DEAD: &str = "Dead";
const CLASSIC: &str = "classic";

impl GroupShard {
    /// ListGroups: the groups that pass both filters; an empty filter passes all, names are compared without case.
    pub fn list_groups(&self, request: &ListGroupsRequest) -> Vec<ListedGroup> {
        let passes = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let live =
            self.soft.groups.values().map(|group| {
                (&group.id, group.state.name(), group.protocol_type.as_deref().unwrap_or_default(), CLASSIC)
            });
        let others = self.hard.groups().filter(|(id, _)| !self.soft.groups.contains_key(*id)).map(|(id, recorded)| {
            if let Some(consumer) = &recorded.consumer {
                return (id, consumer.state().name(), CONSUMER, GroupKind::Consumer.name());
            }
            let kind = recorded.foreign_kind();
            let protocol_type = kind.map_or("", GroupKind::name);
            (id, State::Empty.name(), protocol_type, kind.map_or(CLASSIC, GroupKind::name))
        });
        // Offsets that wait for the end of a transaction make a group too.
        let awaited = (self.hard.groups_with_pending_offsets())
            .filter(|id| !self.exists(id))
            .map(|id| (id, State::Empty.name(), "", CLASSIC));
        let mut listed: Vec<ListedGroup> = live
            .chain(others)
            .chain(awaited)
            .filter(|(_, state, _, group_type)| {
                passes(&request.states_filter, state) && passes(&request.types_filter, group_type)
            })
            .map(|(id, state, protocol_type, group_type)| ListedGroup {
                group_id: id.to_string(),
                protocol_type: protocol_type.to_owned(),
                group_state: state.to_owned(),
                group_type: group_type.to_owned(),
            })
            .collect();
        listed.sort_unstable_by(|a, b| a.group_id.cmp(&b.group_id));
        listed
    }

    /// DescribeGroups of one group. Before v6 a missing group is `Dead` without an error (KIP-1043).
    pub fn describe_group(&self, cx: &GroupContext, group_id: &str) -> DescribedGroup {
        let described = DescribedGroup { group_id: group_id.to_owned(), ..Default::default() };
        let recorded = self.hard.group(group_id);
        let is_foreign =
            recorded.is_some_and(|recorded| recorded.consumer.is_some() || recorded.foreign_kind().is_some());
        match self.soft.groups.get(group_id) {
            Some(group) => describe(group, described),
            None if !is_foreign && (recorded.is_some() || self.hard.has_pending_offsets(group_id)) => {
                DescribedGroup { group_state: State::Empty.name().to_owned(), ..described }
            }
            None if cx.api_version >= 6 => DescribedGroup {
                group_state: DEAD.to_owned(),
                error_code: ErrorCode::GroupIdNotFound.code(),
                error_message: Some(if is_foreign {
                    format!("Group {group_id} is not a classic group.")
                } else {
                    format!("Group {group_id} not found.")
                }),
                ..described
            },
            None => DescribedGroup { group_state: DEAD.to_owned(), ..described },
        }
    }

    /// DeleteGroups of one group: tombstones for its offsets and for itself.
    ///
    /// Errors: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP.
    pub fn delete_group(&mut self, group_id: &str, _now: Now) -> GroupOutcome<DeletableGroupResult> {
        let result =
            |error: ErrorCode| DeletableGroupResult { group_id: group_id.to_owned(), error_code: error.code() };
        if self.soft.groups.get(group_id).is_some_and(|group| group.state != State::Empty) {
            return Outcome::response(result(ErrorCode::NonEmptyGroup));
        }
        if self.hard.consumer_group(group_id).is_some_and(|group| group.state() != GroupState::Empty) {
            return Outcome::response(result(ErrorCode::NonEmptyGroup));
        }
        let pending = self.hard.pending_offsets(group_id);
        if !self.exists(group_id) && pending.is_empty() {
            return Outcome::response(result(ErrorCode::GroupIdNotFound));
        }
        let id: Arc<str> = Arc::from(group_id);
        // Transactions that commit to it later do not bring it back.
        let mut records: Vec<GroupRecord> =
            pending.iter().map(|(topic, partition)| GroupRecord::offset(&id, topic, *partition, None)).collect();
        if let Some(recorded) = self.hard.group(group_id) {
            if recorded.foreign_kind().is_some() {
                // More state of these stands elsewhere.
                return Outcome::response(result(ErrorCode::GroupIdNotFound));
            }
            for (topic, partitions) in &recorded.offsets {
                let recorded = partitions.keys().filter(|&&partition| !pending.contains(&(topic.clone(), partition)));
                records.extend(recorded.map(|&partition| GroupRecord::offset(&id, topic, partition, None)));
            }
        }
        let consumer = self.consumer_tombstones(&id);
        if consumer.is_empty() {
            // Also for a simple group, which may have had a record in an earlier life.
            records.push(GroupRecord::group(&id, None));
        }
        records.extend(consumer);
        if let Some(group) = self.soft.groups.remove(group_id) {
            for member in group.pending_join {
                self.soft.timers.cancel(&TimerKey::Session { group: id.clone(), member });
            }
        }
        Outcome::new(records, result(ErrorCode::None))
    }
}

/// Subscriptions are shown while the group is stable, when they belong to a chosen protocol.
fn describe(group: &ClassicGroup, described: DescribedGroup) -> DescribedGroup {
    let protocol = group.protocol_name.as_deref().filter(|_| group.state == State::Stable);
    DescribedGroup {
        group_state: group.state.name().to_owned(),
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        protocol_data: protocol.unwrap_or_default().to_owned(),
        members: group
            .members
            .values()
            .map(|member| DescribedGroupMember {
                member_id: member.id.to_string(),
                group_instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                member_metadata: protocol.map(|name| member.metadata(Some(name))).unwrap_or_default(),
                member_assignment: member.assignment.clone(),
            })
            .collect(),
        ..described
    }
}
