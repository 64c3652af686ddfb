//! The settings of one group: its own (`kafka-configs --entity-type groups`) within the broker's bounds, else the broker's.

use std::collections::BTreeMap;

use crate::group::config::{Bounded, GroupConfig};

/// Units in the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupSettings {
    pub(crate) session_timeout_ms: i32,
    pub(crate) heartbeat_interval_ms: i32,
    pub(crate) assignment_interval_ms: i64,
}

impl GroupSettings {
    /// `broker` are the dynamic settings of the cluster, `overrides` those of the group. What is out of bounds is brought within them.
    pub(super) fn new(
        config: &GroupConfig,
        broker: &BTreeMap<String, String>,
        overrides: &BTreeMap<String, String>,
    ) -> Self {
        let number = |texts: &BTreeMap<String, String>, key: &str| texts.get(key)?.trim().parse::<i32>().ok();
        let own =
            |key: &str, bounded: &Bounded| number(overrides, key).map_or(bounded.default, |value| bounded.clamp(value));
        let interval = "consumer.assignment.interval.ms";
        let broker_interval = Bounded {
            default: number(broker, &format!("group.{interval}"))
                .map_or(config.consumer_assignment_interval_ms.default, |value| {
                    config.consumer_assignment_interval_ms.clamp(value)
                }),
            ..config.consumer_assignment_interval_ms
        };
        GroupSettings {
            session_timeout_ms: own("consumer.session.timeout.ms", &config.consumer_session_timeout_ms),
            heartbeat_interval_ms: own("consumer.heartbeat.interval.ms", &config.consumer_heartbeat_interval_ms),
            assignment_interval_ms: own(interval, &broker_interval).into(),
        }
    }
}
