//! The classic group protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup (KIP-62, 134, 345, 394, 559, 800, 814).
//!
//! `ClassicGroup` is live state, never recorded as such: what is recorded is the outcome of a rebalance (members, generation,
//! assignments), from which a loaded group starts as Stable or Empty. The transitions are spread over this folder:
//! `join` and `sync` for the two phases, `membership` for heartbeats, leaving and expiry, `rebalance` for what they share.

mod join;
mod member;
mod membership;
mod rebalance;
mod sync;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use milena_protocol::ErrorCode;
use milena_protocol::stored::group::GroupMetadataValue;
use milena_protocol::stored::group::group_metadata_value::MemberMetadata;

pub(crate) use member::Member;
pub(crate) use rebalance::{join_error, sync_error};

use super::fx::Fx;
use super::subscription;
use crate::shard::ReplyId;

/// The protocol type of consumers.
pub(crate) const CONSUMER: &str = "consumer";

/// Where a classic group stands. A group that was deleted is gone: it has no `Dead` state here, readers of a missing group are told `Dead`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// A live classic group.
///
/// Invariants: `awaiting_join` counts the members with a parked JoinGroup; `supported_protocols` counts members per protocol;
/// `static_members` maps instance ids of exactly the static members; `leader_id` names a member if there are members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassicGroup {
    pub(crate) id: Arc<str>,
    pub(crate) state: State,
    pub(crate) previous_state: State,
    /// Wall time of the last transition; `None` on a group loaded from a record that did not say.
    pub(crate) state_timestamp_ms: Option<i64>,
    pub(crate) generation_id: i32,
    /// `None` until a first member joins: a simple group, which only stores offsets.
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol_name: Option<String>,
    pub(crate) leader_id: Option<Arc<str>>,
    pub(crate) members: BTreeMap<Arc<str>, Member>,
    static_members: HashMap<String, Arc<str>>,
    /// Member ids handed out with MEMBER_ID_REQUIRED that have not joined yet.
    pub(crate) pending_join: HashSet<Arc<str>>,
    /// Members that have the JoinGroup response of this generation but have not sent SyncGroup.
    pub(crate) pending_sync: HashSet<Arc<str>>,
    /// A member joined since the initial delay was last set: it is worth extending.
    new_member_added: bool,
    /// While the initial delay runs: its length, and how much the rebalance timeout leaves for extensions (KIP-134).
    initial_delay: Option<InitialDelay>,
    supported_protocols: HashMap<String, usize>,
    awaiting_join: usize,
    /// Topics all consumers subscribe to together; `None` if that is not known.
    pub(crate) subscribed_topics: Option<BTreeSet<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InitialDelay {
    delay_ms: u64,
    remaining_ms: u64,
}

impl ClassicGroup {
    /// A group that nobody has joined.
    pub(crate) fn new(id: Arc<str>, now_wall_ms: i64) -> Self {
        ClassicGroup {
            id,
            state: State::Empty,
            previous_state: State::Empty,
            state_timestamp_ms: Some(now_wall_ms),
            generation_id: 0,
            protocol_type: None,
            protocol_name: None,
            leader_id: None,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            pending_join: HashSet::new(),
            pending_sync: HashSet::new(),
            new_member_added: false,
            initial_delay: None,
            supported_protocols: HashMap::new(),
            awaiting_join: 0,
            subscribed_topics: None,
        }
    }

    /// The group that a record describes: Stable if it has members, else Empty.
    pub(crate) fn from_record(id: Arc<str>, value: &GroupMetadataValue) -> Self {
        let chosen: HashMap<&str, Vec<(String, Bytes)>> = (value.members.iter())
            .map(|member| {
                let protocols = value.protocol.iter().map(|name| (name.clone(), member.subscription.clone())).collect();
                (member.member_id.as_str(), protocols)
            })
            .collect();
        Self::from_record_with(id, value, |member| chosen.get(member).cloned().unwrap_or_default())
    }

    /// As `from_record`, where the protocols that each member supports are known, and not only the chosen one.
    pub(crate) fn from_record_with(
        id: Arc<str>,
        value: &GroupMetadataValue,
        protocols_of: impl Fn(&str) -> Vec<(String, Bytes)>,
    ) -> Self {
        let mut group = ClassicGroup::new(id, -1);
        group.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        group.previous_state = group.state;
        group.state_timestamp_ms = (value.current_state_timestamp != -1).then_some(value.current_state_timestamp);
        group.generation_id = value.generation;
        group.protocol_type = Some(value.protocol_type.clone()).filter(|name| !name.is_empty());
        group.protocol_name = value.protocol.clone();
        group.leader_id = value.leader.as_deref().map(Arc::from);
        for stored in &value.members {
            let member = Member {
                id: Arc::from(stored.member_id.as_str()),
                instance_id: stored.group_instance_id.clone(),
                client_id: stored.client_id.clone(),
                client_host: stored.client_host.clone(),
                rebalance_timeout_ms: if stored.rebalance_timeout == -1 {
                    stored.session_timeout
                } else {
                    stored.rebalance_timeout
                },
                session_timeout_ms: stored.session_timeout,
                protocols: protocols_of(&stored.member_id),
                assignment: stored.assignment.clone(),
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
            };
            group.add(member);
        }
        group.subscribed_topics = group.compute_subscribed_topics();
        group
    }

    /// What is recorded of the group now.
    pub(crate) fn to_record(&self) -> GroupMetadataValue {
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation_id,
            protocol: self.protocol_name.clone(),
            leader: self.leader_id.as_deref().map(str::to_owned),
            current_state_timestamp: self.state_timestamp_ms.unwrap_or(-1),
            members: self
                .members
                .values()
                .map(|member| MemberMetadata {
                    member_id: member.id.to_string(),
                    group_instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    rebalance_timeout: member.rebalance_timeout_ms,
                    session_timeout: member.session_timeout_ms,
                    subscription: member.metadata(self.protocol_name.as_deref()),
                    assignment: member.assignment.clone(),
                })
                .collect(),
        }
    }

    /// What is recorded when the group comes into being: that it exists.
    pub(crate) fn to_empty_record(&self) -> GroupMetadataValue {
        GroupMetadataValue {
            protocol: None,
            leader: None,
            current_state_timestamp: self.state_timestamp_ms.unwrap_or(-1),
            ..Default::default()
        }
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader_id.as_deref() == Some(member_id)
    }

    pub(crate) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Whether a member may be reading `topic`; when subscriptions cannot be read, every topic counts as subscribed.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    pub(crate) fn static_member_id(&self, instance_id: &str) -> Option<&Arc<str>> {
        self.static_members.get(instance_id)
    }

    /// That the member exists, and is the one its instance id stands for.
    ///
    /// Errors: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID (another process took the instance id over).
    pub(crate) fn validate_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if &**known != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether a member with these protocols fits in: the group's type, and a protocol that all members support.
    pub(crate) fn supports_protocols<'a>(&self, protocol_type: &str, mut names: impl Iterator<Item = &'a str>) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && names.next().is_some();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && names.any(|name| self.supported_protocols.get(name).copied().unwrap_or(0) == self.members.len())
    }

    fn add(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        if self.leader_id.is_none() {
            self.leader_id = Some(member.id.clone());
        }
        self.pending_join.remove(&member.id);
        self.count_protocols(&member, true);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.members.insert(member.id.clone(), member);
    }

    /// Forgets a member, also one that is only pending; another member becomes leader in its place.
    fn remove(&mut self, member_id: &str) -> Option<Member> {
        let removed = self.members.remove(member_id);
        if let Some(member) = &removed {
            self.count_protocols(member, false);
            self.awaiting_join -= usize::from(member.awaiting_join.is_some());
            if let Some(instance_id) = &member.instance_id {
                self.static_members.remove(instance_id);
            }
        }
        if self.is_leader(member_id) {
            self.leader_id = self.members.keys().next().cloned();
        }
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        removed
    }

    fn count_protocols(&mut self, member: &Member, added: bool) {
        for (name, _) in &member.protocols {
            if added {
                *self.supported_protocols.entry(name.clone()).or_default() += 1;
            } else if let Some(count) = self.supported_protocols.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supported_protocols.remove(name);
                }
            }
        }
    }

    fn take_join(&mut self, member_id: &str) -> Option<ReplyId> {
        let reply = self.members.get_mut(member_id)?.awaiting_join.take();
        self.awaiting_join -= usize::from(reply.is_some());
        reply
    }

    /// Longest rebalance timeout of any member, which is how long a rebalance may take.
    fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| member.rebalance_timeout_ms.max(0) as u64).max().unwrap_or(0)
    }

    fn has_all_members_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_join.is_empty()
    }

    fn transition_to(&mut self, state: State, fx: &Fx<'_>) {
        self.previous_state = self.state;
        self.state = state;
        self.state_timestamp_ms = Some(fx.now.wall_ms);
    }

    /// The protocol with most votes among those everybody supports; the leader's preference breaks ties.
    fn select_protocol(&self) -> Option<String> {
        let is_candidate = |name: &str| self.supported_protocols.get(name).copied() == Some(self.members.len());
        let mut votes: HashMap<&str, usize> = HashMap::new();
        for member in self.members.values() {
            if let Some(name) = member.vote(is_candidate) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let leader = self.leader_id.as_ref().and_then(|id| self.members.get(id));
        let by_preference = leader.and_then(|leader| leader.vote(|name| votes.get(name).copied() == Some(most)));
        by_preference
            .or_else(|| votes.iter().filter(|&(_, count)| *count == most).map(|(&name, _)| name).min())
            .map(str::to_owned)
    }

    /// See `subscribed_topics`.
    fn compute_subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol_name.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription::topics(&member.metadata(Some(protocol)))?);
        }
        Some(topics)
    }

    /// Recounts what is kept as counters and indexes.
    #[cfg(test)]
    pub(crate) fn assert_invariants(&self) {
        let waiting = self.members.values().filter(|member| member.awaiting_join.is_some()).count();
        assert_eq!(self.awaiting_join, waiting);
        let statics: HashMap<String, Arc<str>> =
            self.members.values().filter_map(|member| Some((member.instance_id.clone()?, member.id.clone()))).collect();
        assert_eq!(self.static_members, statics);
        let mut supported: HashMap<String, usize> = HashMap::new();
        for (name, _) in self.members.values().flat_map(|member| &member.protocols) {
            *supported.entry(name.clone()).or_default() += 1;
        }
        assert_eq!(self.supported_protocols, supported);
        assert_eq!(self.leader_id.is_none(), self.members.is_empty());
        assert!(self.leader_id.as_ref().is_none_or(|id| self.members.contains_key(id)));
        assert!(self.members.is_empty() || self.select_protocol().is_some());
        assert_eq!(self.state == State::Empty, self.members.is_empty() && self.state != State::PreparingRebalance);
        assert!(self.pending_sync.iter().all(|id| self.members.contains_key(id)));
        for member in self.members.values() {
            assert!(member.awaiting_join.is_none() || self.state == State::PreparingRebalance);
            assert!(member.awaiting_sync.is_none() || self.state == State::CompletingRebalance);
        }
    }
}
