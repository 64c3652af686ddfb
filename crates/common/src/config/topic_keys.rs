//! Every key of a topic: one row each, sorted by name. Their broker-side defaults stand in `topic.rs`.

use super::def::config_def;
use super::value::{AckDurability, CleanupPolicy, CompressionType, TimestampType};

config_def! {
    /// The configuration of one topic, the broker's defaults filled in.
    pub struct TopicConfig;

    "ack.durability" => ack_durability: AckDurability = "fsync", OneOf(&["fsync", "page-cache"]), ClusterWide Milena idle, "";
    "cleanup.policy" => cleanup_policy: CleanupPolicy = "delete", EachOf(&["compact", "delete"]), ClusterWide Public idle, "";
    "compression.gzip.level" => compression_gzip_level: i32 = "-1", GZIP_LEVEL, ClusterWide Public idle, "";
    "compression.lz4.level" => compression_lz4_level: i32 = "9", Between(1, 17), ClusterWide Public idle, "";
    "compression.type" => compression_type: CompressionType = "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide Public idle, "";
    "compression.zstd.level" => compression_zstd_level: i32 = "3", Between(-131072, 22), ClusterWide Public idle, "";
    "delete.retention.ms" => delete_retention_ms: i64 = "86400000", AtLeast(0), ClusterWide Public idle, "";
    "file.delete.delay.ms" => file_delete_delay_ms: i64 = "60000", AtLeast(0), ClusterWide Public idle, "";
    "flush.messages" => flush_messages: i64 = "9223372036854775807", AtLeast(1), ClusterWide Public idle, "";
    "flush.ms" => flush_ms: i64 = "9223372036854775807", AtLeast(0), ClusterWide Public idle, "";
    "follower.replication.throttled.replicas" => follower_replication_throttled_replicas: Vec<String> = "", THROTTLED_REPLICAS, ClusterWide Public idle, "";
    "index.interval.bytes" => index_interval_bytes: i32 = "4096", AtLeast(0), ClusterWide Public idle, "";
    "internal.segment.bytes" => internal_segment_bytes: Option<i32> = null, Any, ClusterWide Internal idle, "";
    "leader.replication.throttled.replicas" => leader_replication_throttled_replicas: Vec<String> = "", THROTTLED_REPLICAS, ClusterWide Public idle, "";
    "local.retention.bytes" => local_retention_bytes: i64 = "-2", AtLeast(-2), ClusterWide Public idle, "";
    "local.retention.ms" => local_retention_ms: i64 = "-2", AtLeast(-2), ClusterWide Public idle, "";
    "max.compaction.lag.ms" => max_compaction_lag_ms: i64 = "9223372036854775807", AtLeast(1), ClusterWide Public idle, "";
    "max.message.bytes" => max_message_bytes: i32 = "1048588", AtLeast(0), ClusterWide Public idle, "";
    "message.downconversion.enable" => message_downconversion_enable: bool = "true", Any, ClusterWide Legacy idle, "";
    "message.format.version" => message_format_version: String = "3.0-IV1", Any, ClusterWide Legacy idle, "";
    "message.timestamp.after.max.ms" => message_timestamp_after_max_ms: i64 = "3600000", AtLeast(0), ClusterWide Public idle, "";
    "message.timestamp.before.max.ms" => message_timestamp_before_max_ms: i64 = "9223372036854775807", AtLeast(0), ClusterWide Public idle, "";
    "message.timestamp.difference.max.ms" => message_timestamp_difference_max_ms: i64 = "9223372036854775807", AtLeast(0), ClusterWide Legacy idle, "";
    "message.timestamp.type" => message_timestamp_type: TimestampType = "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide Public idle, "";
    "min.cleanable.dirty.ratio" => min_cleanable_dirty_ratio: f64 = "0.5", Fraction(0.0, 1.0), ClusterWide Public idle, "";
    "min.compaction.lag.ms" => min_compaction_lag_ms: i64 = "0", AtLeast(0), ClusterWide Public idle, "";
    "min.insync.replicas" => min_insync_replicas: i32 = "1", AtLeast(1), ClusterWide Public idle, "";
    "preallocate" => preallocate: bool = "false", Any, ClusterWide Public idle, "";
    "remote.log.copy.disable" => remote_log_copy_disable: bool = "false", Any, ClusterWide Public idle, "";
    "remote.log.delete.on.disable" => remote_log_delete_on_disable: bool = "false", Any, ClusterWide Public idle, "";
    "remote.storage.enable" => remote_storage_enable: bool = "false", Any, ClusterWide Public idle, "";
    "retention.bytes" => retention_bytes: i64 = "-1", Any, ClusterWide Public idle, "";
    "retention.ms" => retention_ms: i64 = "604800000", AtLeast(-1), ClusterWide Public idle, "";
    "segment.bytes" => segment_bytes: i32 = "1073741824", AtLeast(1048576), ClusterWide Public idle, "";
    "segment.index.bytes" => segment_index_bytes: i32 = "10485760", AtLeast(4), ClusterWide Public idle, "";
    "segment.jitter.ms" => segment_jitter_ms: i64 = "0", AtLeast(0), ClusterWide Public idle, "";
    "segment.ms" => segment_ms: i64 = "604800000", AtLeast(1), ClusterWide Public idle, "";
    "unclean.leader.election.enable" => unclean_leader_election_enable: bool = "false", Any, ClusterWide Public idle, "";
}
