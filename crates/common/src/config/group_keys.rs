//! The keys of the resource GROUP: one row each, sorted by name.

use super::def::config_def;

config_def! {
    /// The dynamic configuration of one group.
    pub struct GroupConfig;

    "consumer.assignment.interval.ms" => consumer_assignment_interval_ms: i32 = "1000", AtLeast(0), ClusterWide Public live, "Shortest time between two assignments of a consumer group.";
    "consumer.heartbeat.interval.ms" => consumer_heartbeat_interval_ms: i32 = "5000", AtLeast(1), ClusterWide Public live, "How often a consumer group member sends a heartbeat.";
    "consumer.session.timeout.ms" => consumer_session_timeout_ms: i32 = "45000", AtLeast(1), ClusterWide Public live, "A consumer group member that is silent for so long is removed.";
    "share.assignment.interval.ms" => share_assignment_interval_ms: i32 = "1000", AtLeast(0), ClusterWide Public idle, "Shortest time between two assignments of a share group.";
    "share.auto.offset.reset" => share_auto_offset_reset: String = "latest", SHARE_RESET, ClusterWide Public idle, "Where a share group starts: earliest, latest, or by_duration: and how long ago.";
    "share.delivery.count.limit" => share_delivery_count_limit: i32 = "5", AtLeast(2), ClusterWide Public idle, "How often a record is delivered before it is given up.";
    "share.heartbeat.interval.ms" => share_heartbeat_interval_ms: i32 = "5000", AtLeast(1), ClusterWide Public idle, "How often a share group member sends a heartbeat.";
    "share.isolation.level" => share_isolation_level: String = "read_uncommitted", OneOf(&["read_committed", "read_uncommitted"]), ClusterWide Public idle, "Whether a share group reads records of open transactions.";
    "share.partition.max.record.locks" => share_partition_max_record_locks: i32 = "2000", AtLeast(100), ClusterWide Public idle, "Most records of one share partition that are out for delivery.";
    "share.record.lock.duration.ms" => share_record_lock_duration_ms: i32 = "30000", AtLeast(1000), ClusterWide Public idle, "How long a delivered record is reserved for its consumer.";
    "share.renew.acknowledge.enable" => share_renew_acknowledge_enable: bool = "true", Any, ClusterWide Public idle, "Consumers may extend the lock on a record.";
    "share.session.timeout.ms" => share_session_timeout_ms: i32 = "45000", AtLeast(1), ClusterWide Public idle, "A share group member that is silent for so long is removed.";
    "streams.assignment.interval.ms" => streams_assignment_interval_ms: i32 = "1000", AtLeast(0), ClusterWide Public idle, "Shortest time between two assignments of a streams group.";
    "streams.heartbeat.interval.ms" => streams_heartbeat_interval_ms: i32 = "5000", AtLeast(1), ClusterWide Public idle, "How often a streams group member sends a heartbeat.";
    "streams.initial.rebalance.delay.ms" => streams_initial_rebalance_delay_ms: i32 = "3000", AtLeast(0), ClusterWide Public idle, "How long a new streams group waits for more members.";
    "streams.num.standby.replicas" => streams_num_standby_replicas: i32 = "0", AtLeast(0), ClusterWide Public idle, "Standby replicas of each task of a streams group.";
    "streams.session.timeout.ms" => streams_session_timeout_ms: i32 = "45000", AtLeast(1), ClusterWide Public idle, "A streams group member that is silent for so long is removed.";
}
