//! The keys of `server.properties` that the group coordinator reads.

use milena_common::config::BrokerConfig;

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
    /// Largest group metadata record: what one batch of `__consumer_offsets` takes.
    pub max_record_bytes: usize,
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
            max_record_bytes: 1024 * 1024,
        }
    }
}

impl From<&BrokerConfig> for GroupConfig {
    /// Signs were checked when the configuration was read; what is negative all the same counts as zero.
    fn from(broker: &BrokerConfig) -> Self {
        let ms = |value: i64| u64::try_from(value).unwrap_or(0);
        let size = |value: i32| usize::try_from(value).unwrap_or(0);
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
            max_record_bytes: size(broker.message_max_bytes).saturating_sub(BATCH_OVERHEAD_BYTES),
            ..GroupConfig::default()
        }
    }
}

/// Header of a record batch.
const BATCH_OVERHEAD_BYTES: usize = 61;
