//! One step of a member towards its target assignment (KIP-848): give up first, then wait for what others give up, then have it.
//!
//! Pure; called whenever a member of the group is heard of.

use std::collections::{BTreeMap, BTreeSet};

use milena_common::Uuid;
use milena_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as OwnedPartitions;

use super::member::{Current, MemberState, Owned, Partitions, has_any};

/// What a step goes by.
pub(crate) struct Step<'a> {
    pub(crate) target_epoch: i32,
    pub(crate) target: &'a Partitions,
    /// Ids of the topics that the member reads and that exist.
    pub(crate) subscribed: &'a BTreeSet<Uuid>,
    /// What the member says it has; `None` if it did not say.
    pub(crate) reported: Option<&'a [OwnedPartitions]>,
    /// Whether another member has the partition, or has not given it up yet.
    pub(crate) is_taken: &'a dyn Fn(Uuid, i32) -> bool,
}

/// The member's state was written by a later Kafka, and it did not start anew.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownState;

impl Step<'_> {
    /// The next state of a member; its present one if there is nothing to do.
    pub(crate) fn next(&self, current: &Current) -> Result<Current, UnknownState> {
        match current.state {
            MemberState::Stable if current.epoch == self.target_epoch => Ok(self.drop_unsubscribed(current)),
            MemberState::Stable | MemberState::UnreleasedPartitions => Ok(self.advance(current, current.epoch)),
            MemberState::UnrevokedPartitions if has_any(self.reported, &current.revoking) => {
                Ok(self.drop_unsubscribed(current))
            }
            MemberState::UnrevokedPartitions => Ok(self.advance(current, current.epoch)),
            MemberState::Unknown if self.reported.is_some_and(<[_]>::is_empty) => {
                Ok(self.advance(current, self.target_epoch))
            }
            MemberState::Unknown => Err(UnknownState),
        }
    }

    /// Takes topics back that the member does not read any more (or that are gone), without looking at the target.
    fn drop_unsubscribed(&self, current: &Current) -> Current {
        if current.assigned.keys().all(|topic| self.subscribed.contains(topic)) {
            return current.clone();
        }
        let mut next = Current { previous_epoch: current.epoch, ..current.clone() };
        let (kept, dropped): (Owned, Owned) =
            std::mem::take(&mut next.assigned).into_iter().partition(|(topic, _)| self.subscribed.contains(topic));
        next.assigned = kept;
        let mut revoking = current.revoking.clone();
        for (topic, partitions) in dropped {
            revoking.entry(topic).or_default().extend(partitions);
        }
        if has_any(self.reported, &revoking) {
            next.state = MemberState::UnrevokedPartitions;
            next.revoking = revoking;
        }
        next
    }

    fn advance(&self, current: &Current, epoch: i32) -> Current {
        let mut kept = Owned::new();
        let mut revoking = Owned::new();
        for (&topic, partitions) in &current.assigned {
            let target = self.target_of(topic);
            let (keep, revoke): (BTreeMap<i32, i32>, BTreeMap<i32, i32>) =
                partitions.iter().partition(|(partition, _)| target.is_some_and(|target| target.contains(partition)));
            insert_if_any(&mut kept, topic, keep);
            insert_if_any(&mut revoking, topic, revoke);
        }
        if !revoking.is_empty() && has_any(self.reported, &revoking) {
            return Current {
                epoch,
                previous_epoch: current.epoch,
                state: MemberState::UnrevokedPartitions,
                assigned: kept,
                revoking,
            };
        }
        let mut waits = false;
        for (&topic, partitions) in self.target.iter().filter(|(topic, _)| self.subscribed.contains(topic)) {
            let mut free = kept.remove(&topic).unwrap_or_default();
            for &partition in partitions {
                if free.contains_key(&partition) {
                    continue;
                }
                if (self.is_taken)(topic, partition) {
                    waits = true;
                } else {
                    free.insert(partition, self.target_epoch);
                }
            }
            insert_if_any(&mut kept, topic, free);
        }
        Current {
            epoch: self.target_epoch,
            previous_epoch: current.epoch,
            state: if waits { MemberState::UnreleasedPartitions } else { MemberState::Stable },
            assigned: kept,
            revoking: Owned::new(),
        }
    }

    fn target_of(&self, topic: Uuid) -> Option<&BTreeSet<i32>> {
        self.target.get(&topic).filter(|_| self.subscribed.contains(&topic))
    }
}

fn insert_if_any(owned: &mut Owned, topic: Uuid, partitions: BTreeMap<i32, i32>) {
    if !partitions.is_empty() {
        owned.insert(topic, partitions);
    }
}
