//! Every key of a topic: one row each, sorted by name. Their broker-side defaults stand in `topic.rs`.

use super::def::config_def;
use super::value::{AckDurability, CleanupPolicy, CompressionType, TimestampType};

config_def! {
    /// The configuration of one topic, the broker's defaults filled in.
    pub struct TopicConfig;

    "ack.durability" => ack_durability: AckDurability = "fsync", OneOf(&["fsync", "page-cache"]), ClusterWide Milena live, "When a record counts as stored: fsync (it is on disk) or page-cache (the operating system has it).";
    "cleanup.policy" => cleanup_policy: CleanupPolicy = "delete", EachOf(&["compact", "delete"]), ClusterWide Public live, "What happens to old records: delete, compact, both, or (empty) nothing.";
    "compression.gzip.level" => compression_gzip_level: i32 = "-1", GZIP_LEVEL, ClusterWide Public live, "Level when the broker compresses with gzip; -1 is the library's own.";
    "compression.lz4.level" => compression_lz4_level: i32 = "9", Between(1, 17), ClusterWide Public live, "Level when the broker compresses with lz4.";
    "compression.type" => compression_type: CompressionType = "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide Public live, "How batches are compressed on disk; producer keeps them as they came.";
    "compression.zstd.level" => compression_zstd_level: i32 = "3", Between(-131072, 22), ClusterWide Public live, "Level when the broker compresses with zstd.";
    "delete.retention.ms" => delete_retention_ms: i64 = "86400000", AtLeast(0), ClusterWide Public live, "How long a deletion marker survives compaction.";
    "file.delete.delay.ms" => file_delete_delay_ms: i64 = "60000", AtLeast(0), ClusterWide Public live, "Wait before the files of a deleted segment are removed.";
    "flush.messages" => flush_messages: i64 = "9223372036854775807", AtLeast(1), ClusterWide Public live, "Records after which the log is forced to disk.";
    "flush.ms" => flush_ms: i64 = "9223372036854775807", AtLeast(0), ClusterWide Public live, "Time after which the log is forced to disk.";
    "follower.replication.throttled.replicas" => follower_replication_throttled_replicas: Vec<String> = "", THROTTLED_REPLICAS, ClusterWide Public live, "Replicas whose fetching is throttled: partition:broker, or *.";
    "index.interval.bytes" => index_interval_bytes: i32 = "4096", AtLeast(0), ClusterWide Public live, "Bytes of records between two index entries.";
    "internal.segment.bytes" => internal_segment_bytes: Option<i32> = null, Any, ClusterWide Internal live, "Segment size without a lower bound, for tests.";
    "leader.replication.throttled.replicas" => leader_replication_throttled_replicas: Vec<String> = "", THROTTLED_REPLICAS, ClusterWide Public live, "Replicas whose serving of followers is throttled: partition:broker, or *.";
    "local.retention.bytes" => local_retention_bytes: i64 = "-2", AtLeast(-2), ClusterWide Public idle, "Bytes kept on local disks of what is in remote storage; -2 follows retention.bytes.";
    "local.retention.ms" => local_retention_ms: i64 = "-2", AtLeast(-2), ClusterWide Public idle, "Time that records stay on local disks once in remote storage; -2 follows retention.ms.";
    "max.compaction.lag.ms" => max_compaction_lag_ms: i64 = "9223372036854775807", AtLeast(1), ClusterWide Public live, "A record waits at most so long for compaction.";
    "max.message.bytes" => max_message_bytes: i32 = "1048588", AtLeast(0), ClusterWide Public live, "Largest batch that is accepted.";
    "message.downconversion.enable" => message_downconversion_enable: bool = "true", Any, ClusterWide Legacy idle, "Old consumers are served by converting batches.";
    "message.format.version" => message_format_version: String = "3.0-IV1", Any, ClusterWide Legacy idle, "Record format of new batches, before 4.0.";
    "message.timestamp.after.max.ms" => message_timestamp_after_max_ms: i64 = "3600000", AtLeast(0), ClusterWide Public live, "How far a producer's timestamp may lie in the future.";
    "message.timestamp.before.max.ms" => message_timestamp_before_max_ms: i64 = "9223372036854775807", AtLeast(0), ClusterWide Public live, "How far a producer's timestamp may lie in the past.";
    "message.timestamp.difference.max.ms" => message_timestamp_difference_max_ms: i64 = "9223372036854775807", AtLeast(0), ClusterWide Legacy idle, "How far a producer's timestamp may lie off, before 3.6.";
    "message.timestamp.type" => message_timestamp_type: TimestampType = "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide Public live, "Whose clock stamps records: CreateTime or LogAppendTime.";
    "min.cleanable.dirty.ratio" => min_cleanable_dirty_ratio: f64 = "0.5", Fraction(0.0, 1.0), ClusterWide Public live, "Share of not yet compacted bytes at which the log is compacted.";
    "min.compaction.lag.ms" => min_compaction_lag_ms: i64 = "0", AtLeast(0), ClusterWide Public live, "A record stays at least so long before compaction.";
    "min.insync.replicas" => min_insync_replicas: i32 = "1", AtLeast(1), ClusterWide Public live, "In-sync replicas without which acks=all is refused.";
    "preallocate" => preallocate: bool = "false", Any, ClusterWide Public live, "A new segment file gets its full size at once.";
    "remote.log.copy.disable" => remote_log_copy_disable: bool = "false", Any, ClusterWide Public idle, "Nothing more is copied to remote storage.";
    "remote.log.delete.on.disable" => remote_log_delete_on_disable: bool = "false", Any, ClusterWide Public idle, "Switching remote storage off deletes what is there.";
    "remote.storage.enable" => remote_storage_enable: bool = "false", Any, ClusterWide Public idle, "Closed segments are copied to remote storage.";
    "retention.bytes" => retention_bytes: i64 = "-1", Any, ClusterWide Public live, "Bytes of a partition above which its oldest segments are deleted; -1 is no bound.";
    "retention.ms" => retention_ms: i64 = "604800000", AtLeast(-1), ClusterWide Public live, "Age at which records are deleted; -1 is never.";
    "segment.bytes" => segment_bytes: i32 = "1073741824", AtLeast(1048576), ClusterWide Public live, "Size at which a segment is closed.";
    "segment.index.bytes" => segment_index_bytes: i32 = "10485760", AtLeast(4), ClusterWide Public live, "Largest offset index file.";
    "segment.jitter.ms" => segment_jitter_ms: i64 = "0", AtLeast(0), ClusterWide Public live, "Random part taken off segment.ms.";
    "segment.ms" => segment_ms: i64 = "604800000", AtLeast(1), ClusterWide Public live, "Age at which a segment is closed.";
    "unclean.leader.election.enable" => unclean_leader_election_enable: bool = "false", Any, ClusterWide Public live, "A replica that lacks records may become leader if no other is left; records are lost.";
}
