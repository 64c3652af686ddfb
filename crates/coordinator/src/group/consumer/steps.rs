//! The steps that operations on a group are made of, in their order: take over what a member says, resolve its pattern, raise the
//! group's epoch, make a new target assignment, move the member towards it; and taking members out.
//!
//! Each writes its records to the draft. No timers and no answers here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_common::{Now, Uuid};
use milena_metadata::image::ConfigResource;
use milena_protocol::ErrorCode;
use milena_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as OwnedPartitions;
use milena_protocol::stored::group::{
    ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue, ConsumerGroupTargetAssignmentMetadataValue,
};

use super::draft::Draft;
use super::group::regex_of;
use super::member::{Current, Partitions, target_record};
use super::reconcile::Step;
use super::record::ConsumerRecord;
use super::settings::GroupSettings;
use super::{ConsumerGroup, Refusal, patterns, topics};
use crate::cluster::Cluster;
use crate::group::assignor::{Assignor, GroupSpec, MemberSpec};
use crate::group::config::GroupConfig;

/// What is never recorded of a group.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ConsumerSoft {
    /// `Cluster::topics_version` for which the topics were looked at last; `None` after a load.
    pub(super) checked_topics: Option<u64>,
}

/// What all steps of one operation go by.
pub(super) struct Steps<'a> {
    pub(super) config: &'a GroupConfig,
    pub(super) cluster: &'a Cluster,
    pub(super) now: Now,
}

/// A member before and after a step towards its target.
pub(super) struct Moved {
    pub(super) before: Arc<Current>,
    pub(super) after: Current,
}

impl Moved {
    pub(super) fn is_change(&self) -> bool {
        *self.before != self.after
    }
}

impl Steps<'_> {
    pub(super) fn settings(&self, group_id: &str) -> GroupSettings {
        let overrides = self.cluster.image.configs.get(&ConfigResource::group(group_id));
        let broker = self.cluster.image.configs.broker_defaults();
        GroupSettings::new(self.config, broker, overrides)
    }

    /// Records what a member says of itself. True if that changes what it reads; the topics of a pattern that nobody has looked up
    /// yet are not among that (see `resolve_patterns`).
    pub(super) fn subscribe(
        &self,
        draft: &mut Draft<'_>,
        member_id: &Arc<str>,
        value: ConsumerGroupMemberMetadataValue,
    ) -> bool {
        let old = draft.group().member(member_id).map(|(_, old)| Arc::clone(old));
        if old.as_deref() == Some(&value) {
            return false;
        }
        let names_before: BTreeSet<&String> = old.iter().flat_map(|old| &old.subscribed_topic_names).collect();
        let names: BTreeSet<&String> = value.subscribed_topic_names.iter().collect();
        let names_changed = names_before != names;
        let regex_before = old.as_deref().and_then(regex_of);
        let regex = regex_of(&value).map(str::to_owned);
        let regex_changed = regex_before != regex.as_deref();
        draft.push(ConsumerRecord::Member { member: member_id.clone(), value: Some(value) });
        if regex_changed {
            self.forget_unused_patterns(draft);
        }
        let is_resolved = regex.is_none_or(|regex| draft.group().regex(&regex).is_some());
        names_changed || regex_changed && is_resolved
    }

    /// Whether the topics of this member's pattern are to be looked up: nobody has, or topics came since and the last look was long
    /// enough ago.
    pub(super) fn needs_patterns(&self, group: &ConsumerGroup, member_id: &str) -> bool {
        let pattern = group.member(member_id).and_then(|(_, member)| regex_of(member));
        pattern.is_some_and(|pattern| group.regex(pattern).is_none_or(|resolved| self.is_stale(resolved)))
    }

    fn is_stale(&self, resolved: &patterns::Resolved) -> bool {
        let age_ms = self.now.wall_ms.saturating_sub(resolved.timestamp);
        age_ms >= self.config.consumer_regex_refresh_interval_ms
            || resolved.version < self.cluster.image.last_offset() && age_ms >= patterns::MIN_REFRESH_INTERVAL_MS
    }

    /// Looks up the topics of all patterns that nobody has looked up, and of all others if some are stale. Runs after the heartbeat that
    /// asked for it was answered. True if some pattern stands for other topics than before.
    pub(super) fn resolve_patterns(&self, draft: &mut Draft<'_>) -> bool {
        let version = self.cluster.image.last_offset();
        let group = draft.group();
        let used: BTreeSet<&str> = group.members().filter_map(|(_, member)| regex_of(member)).collect();
        let refreshes = used.iter().filter_map(|&regex| group.regex(regex)).any(|resolved| self.is_stale(resolved));
        let mut changed = false;
        let mut records = Vec::new();
        for regex in used {
            let known = group.regex(regex);
            if known.is_some() && !refreshes {
                continue;
            }
            let topics = patterns::resolve(regex, &self.cluster.image);
            changed |= known.is_none_or(|known| known.topics != topics);
            let value = Some(patterns::Resolved { topics, version, timestamp: self.now.wall_ms });
            records.push(ConsumerRecord::Regex { regex: Arc::from(regex), value });
        }
        for record in records {
            draft.push(record);
        }
        changed
    }

    fn forget_unused_patterns(&self, draft: &mut Draft<'_>) {
        let used: BTreeSet<&str> = draft.group().members().filter_map(|(_, member)| regex_of(member)).collect();
        let unused: Vec<Arc<str>> = draft
            .group()
            .regexes()
            .map(|(regex, _)| regex)
            .filter(|regex| !used.contains(&***regex))
            .cloned()
            .collect();
        for regex in unused {
            draft.push(ConsumerRecord::Regex { regex, value: None });
        }
    }

    /// Raises the group's epoch if `changed`, or if its topics are not what they were.
    pub(super) fn bump_epoch(&self, draft: &mut Draft<'_>, soft: &mut ConsumerSoft, changed: bool) {
        if !changed && soft.checked_topics == Some(self.cluster.topics_version) {
            return;
        }
        let group = draft.group();
        let metadata_hash = topics::metadata_hash(group.subscribed_topics().into_iter(), &self.cluster.image);
        soft.checked_topics = Some(self.cluster.topics_version);
        if changed || metadata_hash != group.metadata_hash() {
            let epoch = group.epoch().saturating_add(1);
            tracing::debug!(group = &**draft.id(), epoch, metadata_hash, "group epoch raised");
            draft.push(ConsumerRecord::Epoch(Some(ConsumerGroupMetadataValue { epoch, metadata_hash })));
        }
    }

    /// Makes a new target assignment if the group's epoch calls for one, at most one per assignment interval.
    pub(super) fn assign(&self, draft: &mut Draft<'_>) {
        let group = draft.group();
        if group.epoch() <= group.target_epoch() {
            return;
        }
        let interval_ms = self.settings(draft.id()).assignment_interval_ms;
        let since_last_ms = group.target_timestamp_ms().map(|at_ms| self.now.wall_ms.saturating_sub(at_ms));
        // A clock that was set back must not keep the group waiting.
        if since_last_ms.is_some_and(|since_ms| (0..interval_ms).contains(&since_ms)) {
            return;
        }
        let assignor = preferred_assignor(group, self.config);
        let spec = self.spec(group);
        let assigned = assignor.assign(&spec);
        let mut records = Vec::new();
        for (member, partitions) in spec.members.iter().zip(&assigned) {
            if *member.previous != *partitions {
                let value = Some(target_record(partitions));
                records.push(ConsumerRecord::Target { member: member.id.clone(), value });
            }
        }
        tracing::debug!(
            group = &**draft.id(),
            epoch = group.epoch(),
            assignor = assignor.name(),
            members = spec.members.len(),
            "new target assignment"
        );
        records.push(ConsumerRecord::TargetEpoch(Some(ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: group.epoch(),
            assignment_timestamp: self.now.wall_ms,
        })));
        for record in records {
            draft.push(record);
        }
    }

    fn spec(&self, group: &ConsumerGroup) -> GroupSpec {
        let mut spec = GroupSpec::default();
        // Members mostly read the same topics.
        let mut last: Option<Arc<BTreeSet<Uuid>>> = None;
        for (id, member) in group.members() {
            let mut topics = self.subscribed_ids(group, member);
            match &last {
                Some(last) if **last == *topics => topics = last.clone(),
                _ => {
                    for topic in topics.iter().filter_map(|&id| self.cluster.image.topics.by_id(id)) {
                        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                        spec.num_partitions.insert(topic.id, partitions);
                    }
                    last = Some(topics.clone());
                }
            }
            spec.members.push(MemberSpec {
                id: id.clone(),
                instance_id: member.instance_id.clone(),
                topics,
                previous: group.target(id).cloned().unwrap_or_default(),
            });
        }
        spec
    }

    fn subscribed_ids(&self, group: &ConsumerGroup, member: &ConsumerGroupMemberMetadataValue) -> Arc<BTreeSet<Uuid>> {
        Arc::new(group.subscription(member).filter_map(|name| self.cluster.image.topics.id_of(name)).collect())
    }

    /// Moves a member one step towards its target.
    ///
    /// Errors: FENCED_MEMBER_EPOCH for a state that only a later Kafka knows.
    pub(super) fn reconcile(
        &self,
        draft: &mut Draft<'_>,
        member_id: &Arc<str>,
        reported: Option<&[OwnedPartitions]>,
    ) -> Result<Moved, Refusal> {
        let group = draft.group();
        let before = group.current(member_id);
        let Some((_, member)) = group.member(member_id) else {
            return Ok(Moved { after: (*before).clone(), before });
        };
        let none = Partitions::new();
        let step = Step {
            target_epoch: group.target_epoch(),
            target: group.target(member_id).map_or(&none, |target| &**target),
            subscribed: &self.subscribed_ids(group, member),
            reported,
            is_taken: &|topic, partition| group.owner(topic, partition).is_some_and(|owner| owner != member_id),
        };
        let after = step.next(&before).map_err(|_| {
            let text = "The member is in a state that is not known here. \
                        The member must abandon all its partitions and rejoin.";
            (ErrorCode::FencedMemberEpoch, text.to_owned())
        })?;
        let moved = Moved { before, after };
        if moved.is_change() {
            let value = Some(moved.after.to_record());
            draft.push_last(ConsumerRecord::Current { member: member_id.clone(), value });
        }
        Ok(moved)
    }

    /// Takes members out, with what only they used, and raises the group's epoch.
    pub(super) fn remove(&self, draft: &mut Draft<'_>, soft: &mut ConsumerSoft, member_ids: &[Arc<str>]) {
        for member_id in member_ids {
            self.forget_member(draft, member_id);
        }
        self.forget_unused_patterns(draft);
        self.bump_epoch(draft, soft, true);
    }

    pub(super) fn forget_member(&self, draft: &mut Draft<'_>, member_id: &Arc<str>) {
        draft.push(ConsumerRecord::Current { member: member_id.clone(), value: None });
        draft.push(ConsumerRecord::Target { member: member_id.clone(), value: None });
        draft.push(ConsumerRecord::Member { member: member_id.clone(), value: None });
    }
}

/// The assignor that most members ask for, else the first that is configured.
pub(super) fn preferred_assignor(group: &ConsumerGroup, config: &GroupConfig) -> Assignor {
    let default = config.consumer_assignors.first().copied().unwrap_or(Assignor::Uniform);
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for assignor in group.members().filter_map(|(_, member)| member.server_assignor.as_deref()) {
        *votes.entry(assignor).or_default() += 1;
    }
    let most = votes.values().copied().max().unwrap_or(0);
    let wanted = |assignor: &&Assignor| votes.get(assignor.name()).copied().unwrap_or(0) == most && most > 0;
    config.consumer_assignors.iter().find(wanted).copied().unwrap_or(default)
}
