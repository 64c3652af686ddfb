//! Elections that nobody asks for: leadership goes back to preferred replicas from time to time (`auto.leader.rebalance.enable`), and
//! partitions without leader get an unclean one where their topic allows that (`unclean.leader.election.interval.ms`).

use milena_common::config::BrokerConfig;
use milena_common::limits::MAX_ELECTIONS_PER_BALANCE;
use milena_common::{Now, Outcome};
use milena_protocol::stored::metadata::MetadataRecord;

use super::partition_change::Election;
use super::replication::{self, BrokerChange};
use super::{Cx, Decision, cluster, config};

/// When to look again, in milliseconds of the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    preferred_at_ms: u64,
    unclean_at_ms: u64,
}

impl Balance {
    /// A new term gives replicas their time.
    pub(crate) fn new(config: &BrokerConfig, now: Now) -> Balance {
        Balance {
            preferred_at_ms: now.mono_after(preferred_interval_ms(config)),
            unclean_at_ms: now.mono_after(unclean_interval_ms(config)),
        }
    }

    pub(crate) fn is_preferred_due(&mut self, config: &BrokerConfig, now: Now) -> bool {
        let due = config.auto_leader_rebalance_enable && self.preferred_at_ms <= now.mono_ms;
        if due {
            self.preferred_at_ms = now.mono_after(preferred_interval_ms(config));
        }
        due
    }

    pub(crate) fn is_unclean_due(&mut self, config: &BrokerConfig, now: Now) -> bool {
        let due = self.unclean_at_ms <= now.mono_ms;
        if due {
            self.unclean_at_ms = now.mono_after(unclean_interval_ms(config));
        }
        due
    }

    /// More is left than one look may change.
    pub(crate) fn look_again(&mut self, now: Now) {
        self.preferred_at_ms = now.mono_ms;
    }
}

fn preferred_interval_ms(config: &BrokerConfig) -> u64 {
    u64::try_from(config.leader_imbalance_check_interval_seconds).unwrap_or(1).saturating_mul(1_000)
}

fn unclean_interval_ms(config: &BrokerConfig) -> u64 {
    u64::try_from(config.unclean_leader_election_interval_ms).unwrap_or(1)
}

/// Preferred replicas lead where they can. How many partitions changed.
pub(crate) fn elect_preferred(cx: &mut Cx<'_>) -> Decision<usize> {
    let mut records = Vec::new();
    'all: for topic in cx.image.topics.iter() {
        for (&partition, old) in &topic.partitions {
            let preferred = old.replicas.first().copied().unwrap_or(-1);
            if old.leader == preferred || !old.isr.contains(&preferred) {
                continue;
            }
            let acceptable = |id: i32| cluster::is_active(cx.image, id) && replication::online(cx.image, old, id);
            if !acceptable(preferred) {
                continue;
            }
            let directory = |id| cluster::default_directory(cx.image, id);
            let mut change = replication::unchanged(cx, topic, partition, old, &acceptable, &directory);
            change.election = Election::Preferred;
            records.extend(change.build().map(MetadataRecord::PartitionChange));
            if records.len() >= MAX_ELECTIONS_PER_BALANCE {
                break 'all;
            }
        }
    }
    let changed = records.len();
    Ok(Outcome::new(records, changed))
}

/// Whoever is alive leads where nobody does, if the topic would rather lose records. How many partitions changed.
pub(crate) fn elect_unclean(cx: &mut Cx<'_>) -> Decision<usize> {
    let allowed: Vec<_> = cx
        .image
        .topics
        .iter()
        .filter(|topic| topic.partitions.values().any(|p| !p.has_leader()) && config::unclean_election(cx, &topic.name))
        .map(|topic| topic.id)
        .collect();
    let mut records = match allowed.is_empty() {
        true => Vec::new(),
        false => replication::leader_and_isr_updates(cx, BrokerChange::default(), |p| !p.has_leader()),
    };
    records.retain(|record| matches!(record, MetadataRecord::PartitionChange(c) if allowed.contains(&c.topic_id)));
    records.truncate(MAX_ELECTIONS_PER_BALANCE);
    let changed = records.len();
    Ok(Outcome::new(records, changed))
}
