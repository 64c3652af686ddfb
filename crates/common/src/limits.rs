//! Named bounds: every queue, cache and loop that outside input can grow has its bound here, with what happens when it is full.
//!
//! Bounds that Kafka lets an operator set are configuration keys, not constants.

/// Longest topic name in bytes; longer names are refused (INVALID_TOPIC_EXCEPTION).
pub const MAX_TOPIC_NAME_BYTES: usize = 249;

/// Most partitions created by one request; beyond it the topic is refused (INVALID_PARTITIONS). Kafka's controller has the same bound.
pub const MAX_PARTITIONS_PER_BATCH: i32 = 10_000;

/// Partitions whose leaders one look at the balance changes; the rest is looked at right after. Kafka's number.
pub const MAX_ELECTIONS_PER_BALANCE: usize = 1_000;

/// Most bytes one compressed batch may become; a larger one is refused as corrupt. More than any client puts into one.
pub const MAX_DECOMPRESSED_BATCH_BYTES: usize = 128 << 20;

/// Requests of one connection that are appended but not answered yet; beyond it the connection is not read.
pub const MAX_PIPELINED_REQUESTS: usize = 64;

/// Largest produce request whose connection does the sync itself, if nothing else came with it; a larger one leaves it to the thread of the
/// log directory, so that the connection can be read meanwhile.
pub const MAX_COMMIT_HERE_BYTES: usize = 64 << 10;

/// Bytes of responses waiting for a slow reader per connection; beyond it the connection is not read. One response may exceed it.
pub const MAX_PENDING_RESPONSE_BYTES: usize = 1 << 20;

/// Idempotent producers remembered per partition; beyond it the longest idle one is forgotten.
pub const MAX_PRODUCERS_PER_PARTITION: usize = 100_000;

/// Size of a frame on the controller's and brokers' own connections.
pub const MAX_INTERBROKER_FRAME_BYTES: usize = 100 << 20;

/// Longest value of one configuration entry that the metadata log takes; longer ones are refused (INVALID_CONFIG).
pub const MAX_CONFIG_VALUE_BYTES: usize = i16::MAX as usize;

/// Appends of one partition whose bytes are counted one by one until the high watermark passes them; beyond it neighbours are counted
/// together, and a waiting fetch may hear of them later.
pub const MAX_UNCOMMITTED_MARKS: usize = 1024;

/// Clients whose rates are measured, per quota; beyond it those that are silent are forgotten, then all.
pub const MAX_QUOTA_SENSORS: usize = 50_000;

/// Partitions of one fetch session; a larger fetch is answered without a session.
pub const MAX_FETCH_SESSION_PARTITIONS: usize = 100_000;

/// Client instances whose metrics are asked for (KIP-714); beyond it the least recently heard is forgotten. Kafka's number.
pub const MAX_TELEMETRY_INSTANCES: usize = 16_384;

/// Bytes of clients' metrics that wait for their export; beyond it what comes is dropped, and the log says so.
pub const MAX_TELEMETRY_QUEUE_BYTES: usize = 32 << 20;

/// Pushes of clients' metrics that wait for their export; beyond it as with their bytes.
pub const MAX_TELEMETRY_QUEUE: usize = 4_096;
