//! The keys of the resource GROUP: one row each, sorted by name.

use super::def::config_def;

config_def! {
    /// The dynamic configuration of one group.
    pub struct GroupConfig;

    "consumer.assignment.interval.ms" => consumer_assignment_interval_ms: i32 = "1000", AtLeast(0), ClusterWide Public idle, "";
    "consumer.heartbeat.interval.ms" => consumer_heartbeat_interval_ms: i32 = "5000", AtLeast(1), ClusterWide Public idle, "";
    "consumer.session.timeout.ms" => consumer_session_timeout_ms: i32 = "45000", AtLeast(1), ClusterWide Public idle, "";
    "share.assignment.interval.ms" => share_assignment_interval_ms: i32 = "1000", AtLeast(0), ClusterWide Public idle, "";
    "share.auto.offset.reset" => share_auto_offset_reset: String = "latest", SHARE_RESET, ClusterWide Public idle, "";
    "share.delivery.count.limit" => share_delivery_count_limit: i32 = "5", AtLeast(2), ClusterWide Public idle, "";
    "share.heartbeat.interval.ms" => share_heartbeat_interval_ms: i32 = "5000", AtLeast(1), ClusterWide Public idle, "";
    "share.isolation.level" => share_isolation_level: String = "read_uncommitted", OneOf(&["read_committed", "read_uncommitted"]), ClusterWide Public idle, "";
    "share.partition.max.record.locks" => share_partition_max_record_locks: i32 = "2000", AtLeast(100), ClusterWide Public idle, "";
    "share.record.lock.duration.ms" => share_record_lock_duration_ms: i32 = "30000", AtLeast(1000), ClusterWide Public idle, "";
    "share.renew.acknowledge.enable" => share_renew_acknowledge_enable: bool = "true", Any, ClusterWide Public idle, "";
    "share.session.timeout.ms" => share_session_timeout_ms: i32 = "45000", AtLeast(1), ClusterWide Public idle, "";
    "streams.assignment.interval.ms" => streams_assignment_interval_ms: i32 = "1000", AtLeast(0), ClusterWide Public idle, "";
    "streams.heartbeat.interval.ms" => streams_heartbeat_interval_ms: i32 = "5000", AtLeast(1), ClusterWide Public idle, "";
    "streams.initial.rebalance.delay.ms" => streams_initial_rebalance_delay_ms: i32 = "3000", AtLeast(0), ClusterWide Public idle, "";
    "streams.num.standby.replicas" => streams_num_standby_replicas: i32 = "0", AtLeast(0), ClusterWide Public idle, "";
    "streams.session.timeout.ms" => streams_session_timeout_ms: i32 = "45000", AtLeast(1), ClusterWide Public idle, "";
}
