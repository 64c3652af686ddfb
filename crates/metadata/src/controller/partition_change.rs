//! One change of one partition: elects a leader, keeps the eligible leader replicas, and says what differs as a record.
//!
//! Rules: KIP-631 (elections), KIP-704 (recovery state), KIP-966 (eligible leader replicas). Pure.

use milena_common::Uuid;
use milena_protocol::stored::metadata::PartitionChangeRecord;

use crate::image::{LeaderRecoveryState, NO_LEADER, NO_LEADER_CHANGE, PartitionImage};
use crate::versions::gates;

/// How hard to look for a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Election {
    /// The first replica if it may lead, else as `Online`.
    Preferred,
    /// The present leader if it may go on, else any that may.
    #[default]
    Online,
    /// As `Online`, and a replica that is merely alive if there is no other: may lose records.
    Unclean,
}

/// What is wanted of one partition.
pub(crate) struct PartitionChange<'a> {
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) old: &'a PartitionImage,
    /// A broker that may lead this partition if it is in sync.
    pub(crate) acceptable: &'a dyn Fn(i32) -> bool,
    pub(crate) metadata_version: i16,
    pub(crate) elr_enabled: bool,
    /// `min.insync.replicas` of the topic.
    pub(crate) min_isr: i32,
    pub(crate) election: Election,
    pub(crate) target_isr: Vec<i32>,
    pub(crate) target_replicas: Vec<i32>,
    pub(crate) target_removing: Vec<i32>,
    pub(crate) target_adding: Vec<i32>,
    pub(crate) target_recovery: Option<LeaderRecoveryState>,
    /// Brokers that stopped without saying so, and may have lost what they had.
    pub(crate) unclean_shutdown: Vec<i32>,
    /// Directory that a replica gets when it is new.
    pub(crate) directory_of_new: &'a dyn Fn(i32) -> Uuid,
}

struct Elected {
    leader: i32,
    unclean: bool,
}

impl PartitionChange<'_> {
    /// The record, or `None` when nothing differs.
    pub(crate) fn build(mut self) -> Option<PartitionChangeRecord> {
        let old = self.old;
        let mut record =
            PartitionChangeRecord { topic_id: self.topic_id, partition_id: self.partition, ..Default::default() };
        self.complete_reassignment();
        let (mut elr, last_known_elr) = self.target_elr();
        let elected = self.elect(&elr);
        let mut isr = self.target_isr.clone();
        if elected.leader != old.leader {
            record.leader = elected.leader;
            if elected.unclean {
                // What the others have may differ: they must follow the new leader from scratch.
                isr = vec![elected.leader];
                if old.leader_recovery_state != LeaderRecoveryState::Recovering {
                    record.leader_recovery_state = LeaderRecoveryState::Recovering as i8;
                }
                elr.clear();
            } else if elected.leader != NO_LEADER && isr.is_empty() {
                isr = vec![elected.leader];
                elr.retain(|&id| id != elected.leader);
            }
        }
        self.bump_epoch_where_needed(&mut record, &isr);
        if self.elr_enabled && elr != old.elr {
            record.eligible_leader_replicas = Some(elr);
        }
        if isr != old.isr && (self.elr_enabled || !isr.is_empty()) {
            record.isr = Some(isr);
        }
        if self.elr_enabled {
            record.last_known_elr = self.last_known_leader(&record, last_known_elr);
        }
        self.set_assignment(&mut record);
        if let Some(state) = self.target_recovery.filter(|&state| state != old.leader_recovery_state) {
            record.leader_recovery_state = state as i8;
        }
        (!is_no_op(&record)).then_some(record)
    }

    /// A reassignment ends when everything it adds is in sync, and enough of what stays.
    fn complete_reassignment(&mut self) {
        if self.target_removing.is_empty() && self.target_adding.is_empty() {
            return;
        }
        let without =
            |list: &[i32], gone: &[i32]| -> Vec<i32> { list.iter().copied().filter(|id| !gone.contains(id)).collect() };
        let replicas = without(&self.target_replicas, &self.target_removing);
        let isr = without(&self.target_isr, &self.target_removing);
        let added_in_sync = self.target_adding.iter().all(|id| isr.contains(id));
        // Fewer replicas than before: all of them must be in sync, or records could be lost.
        let shrinks = self.target_removing.len() > self.target_adding.len();
        let enough = if shrinks { replicas.iter().all(|id| isr.contains(id)) } else { true };
        if isr.is_empty() || !added_in_sync || !enough {
            return;
        }
        self.target_replicas = replicas;
        self.target_isr = isr;
        self.target_removing.clear();
        self.target_adding.clear();
    }

    /// The eligible leader replicas after the change, and the last known ones.
    fn target_elr(&self) -> (Vec<i32>, Vec<i32>) {
        let enough = usize::try_from(self.min_isr).unwrap_or(0).min(self.target_replicas.len());
        if !self.elr_enabled || self.target_isr.len() >= enough {
            return (Vec::new(), Vec::new());
        }
        let mut candidates: Vec<i32> = self.old.elr.iter().chain(&self.old.isr).copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let elr = candidates
            .into_iter()
            .filter(|id| !self.target_isr.contains(id) && !self.unclean_shutdown.contains(id))
            .collect();
        (elr, self.old.last_known_elr.clone())
    }

    /// While a partition without leader waits for the last one, remember which that was; forget it when there is a leader.
    fn last_known_leader(&self, record: &PartitionChangeRecord, known: Vec<i32>) -> Option<Vec<i32>> {
        let old = self.old;
        let leaderless_now = record.isr.as_ref().is_some_and(Vec::is_empty);
        let leads = record.leader >= 0 || (old.leader != NO_LEADER && record.leader != NO_LEADER);
        if leaderless_now && old.last_known_elr != [old.leader] && old.leader != NO_LEADER {
            Some(vec![old.leader])
        } else if leads && !old.last_known_elr.is_empty() {
            Some(Vec::new())
        } else {
            // Unchanged, but for a list that a full ISR made pointless.
            (known != old.last_known_elr && record.isr.is_some() && !leaderless_now).then_some(known)
        }
    }

    fn may_lead(&self, id: i32, elr: &[i32]) -> bool {
        let in_sync = self.target_isr.contains(&id) || (self.target_isr.is_empty() && elr.contains(&id));
        in_sync && (self.acceptable)(id)
    }

    fn elect(&self, elr: &[i32]) -> Elected {
        let clean = |leader| Elected { leader, unclean: false };
        let first = self.target_replicas.iter().copied().find(|&id| self.may_lead(id, elr));
        if self.election == Election::Preferred && first.is_some() && first == self.target_replicas.first().copied() {
            return clean(first.unwrap_or(NO_LEADER));
        }
        if self.may_lead(self.old.leader, elr) {
            return clean(self.old.leader);
        }
        if let Some(leader) = first {
            return clean(leader);
        }
        let last_known = match self.old.last_known_elr.as_slice() {
            [only] if self.elr_enabled && self.target_isr.is_empty() && elr.is_empty() => Some(*only),
            _ => None,
        };
        if let Some(leader) = last_known.filter(|&id| (self.acceptable)(id)) {
            return Elected { leader, unclean: true };
        }
        let alive = self.target_replicas.iter().copied().find(|&id| (self.acceptable)(id));
        match alive {
            Some(leader) if self.election == Election::Unclean => Elected { leader, unclean: true },
            _ => clean(NO_LEADER),
        }
    }

    /// The leader stays, but must notice: replicas went away, or (before 3.6) the ISR shrank.
    fn bump_epoch_where_needed(&self, record: &mut PartitionChangeRecord, isr: &[i32]) {
        if record.leader != NO_LEADER_CHANGE {
            return;
        }
        let old = self.old;
        let replicas_removed = old.replicas.iter().any(|id| !self.target_replicas.contains(id));
        let isr_shrank = old.isr.iter().any(|id| !isr.contains(id));
        let shrink_counts = self.metadata_version < gates::NO_EPOCH_BUMP_ON_ISR_SHRINK;
        if replicas_removed || (isr_shrank && shrink_counts) {
            record.leader = old.leader;
        }
    }

    fn set_assignment(&self, record: &mut PartitionChangeRecord) {
        let old = self.old;
        if !self.target_replicas.is_empty() && self.target_replicas != old.replicas {
            let directory = |&id: &i32| {
                if old.replicas.contains(&id) { old.directory_of(id) } else { (self.directory_of_new)(id) }
            };
            record.directories = Some(self.target_replicas.iter().map(directory).collect());
            record.replicas = Some(self.target_replicas.clone());
        }
        if self.target_removing != old.removing_replicas {
            record.removing_replicas = Some(self.target_removing.clone());
        }
        if self.target_adding != old.adding_replicas {
            record.adding_replicas = Some(self.target_adding.clone());
        }
    }
}

fn is_no_op(record: &PartitionChangeRecord) -> bool {
    let nothing =
        PartitionChangeRecord { topic_id: record.topic_id, partition_id: record.partition_id, ..Default::default() };
    *record == nothing
}
