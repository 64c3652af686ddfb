//! Assignors on the server's side (KIP-848): who of a group reads what.
//!
//! Pure functions of their input, so that the same group gets the same assignment wherever it is computed. They know no epochs
//! and no states; called by `group/consumer/target.rs`.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_common::Uuid;

/// Partitions by topic id.
pub(crate) type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// One member, as assignors see it.
#[derive(Debug, Clone)]
pub(crate) struct MemberSpec {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<String>,
    /// Topics that exist and that the member reads.
    pub(crate) topics: Arc<BTreeSet<Uuid>>,
    /// What it was to have before.
    pub(crate) previous: Arc<Partitions>,
}

/// A group, as assignors see it: members in the order of their ids, and how many partitions each topic has.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupSpec {
    pub(crate) members: Vec<MemberSpec>,
    pub(crate) num_partitions: BTreeMap<Uuid, i32>,
}

impl GroupSpec {
    fn num_partitions(&self, topic: Uuid) -> i32 {
        self.num_partitions.get(&topic).copied().unwrap_or(0)
    }
}

/// Assignors by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    /// By its name, or by that of Kafka's class.
    pub(crate) fn by_name(name: &str) -> Option<Assignor> {
        match name {
            "uniform" | "org.apache.kafka.coordinator.group.assignor.UniformAssignor" => Some(Assignor::Uniform),
            "range" | "org.apache.kafka.coordinator.group.assignor.RangeAssignor" => Some(Assignor::Range),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// One entry per member, in the order of the members.
    pub(crate) fn assign(self, group: &GroupSpec) -> Vec<Partitions> {
        match self {
            Assignor::Uniform => uniform::assign(group),
            Assignor::Range => range::assign(group),
        }
    }
}
