//! The keys of `server.properties` that the group coordinator reads.

use milena_common::config::BrokerConfig;

use super::assignor::Assignor;

/// Settings of the group coordinator, units in the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.max.size`
    pub max_size: usize,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: u64,
    /// How long a member that never saw its member id may wait in its first join; not configurable in Kafka.
    pub new_member_join_timeout_ms: u64,
    /// `offset.metadata.max.bytes`; counted in UTF-16 units, as Kafka does
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: u64,
    /// `offsets.commit.timeout.ms`: how long a request waits for its records to be committed
    pub offsets_commit_timeout_ms: u64,
    /// `offsets.topic.num.partitions`, until the real topic is known (`GroupCoordinator::set_num_partitions`)
    pub offsets_topic_num_partitions: i32,
    /// `group.consumer.session.timeout.ms` and its bounds
    pub consumer_session_timeout_ms: Bounded,
    /// `group.consumer.heartbeat.interval.ms` and its bounds
    pub consumer_heartbeat_interval_ms: Bounded,
    /// `group.consumer.assignment.interval.ms` and its bounds
    pub consumer_assignment_interval_ms: Bounded,
    /// `group.consumer.max.size`
    pub consumer_max_size: usize,
    /// `group.consumer.assignors`; the first is the default
    pub consumer_assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`: whether classic groups may become consumer groups
    pub consumer_upgrade: bool,
    /// `group.consumer.migration.policy`: whether consumer groups may become classic groups
    pub consumer_downgrade: bool,
    /// `group.consumer.regex.refresh.interval.ms`
    pub consumer_regex_refresh_interval_ms: i64,
    /// Largest group metadata record: what one batch of `__consumer_offsets` takes.
    pub max_record_bytes: usize,
}

/// A setting that a group may have of its own, within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded {
    pub default: i32,
    pub min: i32,
    pub max: i32,
}

impl Bounded {
    pub(crate) fn clamp(&self, value: i32) -> i32 {
        value.min(self.max).max(self.min)
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: i32::MAX as usize,
            initial_rebalance_delay_ms: 3_000,
            new_member_join_timeout_ms: 300_000,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 10_080 * 60_000,
            offsets_retention_check_interval_ms: 600_000,
            offsets_commit_timeout_ms: 5_000,
            offsets_topic_num_partitions: 50,
            consumer_session_timeout_ms: Bounded { default: 45_000, min: 45_000, max: 60_000 },
            consumer_heartbeat_interval_ms: Bounded { default: 5_000, min: 5_000, max: 15_000 },
            consumer_assignment_interval_ms: Bounded { default: 1_000, min: 0, max: 15_000 },
            consumer_max_size: i32::MAX as usize,
            consumer_assignors: vec![Assignor::Uniform, Assignor::Range],
            consumer_upgrade: true,
            consumer_downgrade: true,
            consumer_regex_refresh_interval_ms: 600_000,
            max_record_bytes: 1024 * 1024,
        }
    }
}

impl From<&BrokerConfig> for GroupConfig {
    /// Signs were checked when the configuration was read; what is negative all the same counts as zero.
    fn from(broker: &BrokerConfig) -> Self {
        let ms = |value: i64| u64::try_from(value).unwrap_or(0);
        let size = |value: i32| usize::try_from(value).unwrap_or(0);
        let policy = broker.group_consumer_migration_policy.to_ascii_lowercase();
        GroupConfig {
            min_session_timeout_ms: broker.group_min_session_timeout_ms,
            max_session_timeout_ms: broker.group_max_session_timeout_ms,
            max_size: size(broker.group_max_size),
            initial_rebalance_delay_ms: ms(broker.group_initial_rebalance_delay_ms.into()),
            offset_metadata_max_bytes: size(broker.offset_metadata_max_bytes),
            offsets_retention_ms: i64::from(broker.offsets_retention_minutes) * 60_000,
            offsets_retention_check_interval_ms: ms(broker.offsets_retention_check_interval_ms),
            offsets_commit_timeout_ms: ms(broker.offsets_commit_timeout_ms.into()),
            offsets_topic_num_partitions: broker.offsets_topic_num_partitions,
            consumer_session_timeout_ms: Bounded {
                default: broker.group_consumer_session_timeout_ms,
                min: broker.group_consumer_min_session_timeout_ms,
                max: broker.group_consumer_max_session_timeout_ms,
            },
            consumer_heartbeat_interval_ms: Bounded {
                default: broker.group_consumer_heartbeat_interval_ms,
                min: broker.group_consumer_min_heartbeat_interval_ms,
                max: broker.group_consumer_max_heartbeat_interval_ms,
            },
            consumer_assignment_interval_ms: Bounded {
                default: broker.group_consumer_assignment_interval_ms,
                min: broker.group_consumer_min_assignment_interval_ms,
                max: broker.group_consumer_max_assignment_interval_ms,
            },
            consumer_max_size: size(broker.group_consumer_max_size),
            consumer_assignors: assignors(&broker.group_consumer_assignors),
            consumer_upgrade: matches!(&*policy, "upgrade" | "bidirectional"),
            consumer_downgrade: matches!(&*policy, "downgrade" | "bidirectional"),
            consumer_regex_refresh_interval_ms: broker.group_consumer_regex_refresh_interval_ms.into(),
            max_record_bytes: size(broker.message_max_bytes).saturating_sub(BATCH_OVERHEAD_BYTES),
            ..GroupConfig::default()
        }
    }
}

/// Names of classes that are not ours are left out: there is nothing here to load them with.
fn assignors(names: &[String]) -> Vec<Assignor> {
    let mut assignors: Vec<Assignor> = Vec::new();
    for name in names {
        match Assignor::by_name(name) {
            Some(assignor) if !assignors.contains(&assignor) => assignors.push(assignor),
            Some(_) => {}
            None => {
                tracing::warn!(name, "group.consumer.assignors names an assignor that is not known; it is left out")
            }
        }
    }
    if assignors.is_empty() { vec![Assignor::Uniform, Assignor::Range] } else { assignors }
}

/// Header of a record batch.
const BATCH_OVERHEAD_BYTES: usize = 61;
