//! Record batches: the bytes that producers send, logs keep and consumers fetch.
//!
//! Owns the three formats (magic 2 batches, and the magic 0 and 1 message sets of old clients), their compression and
//! their checksums. A batch stays a slice of the bytes it came in; a header field is read where it lies. Never decides
//! what a broker accepts (that is `milena-log`'s validation) and never touches files or sockets.
//!
//! Called by the log (append, recovery, reads), the coordinators and the controller (their own records), the fetch
//! path (conversion for old clients) and our own client.

mod batch;
mod builder;
pub mod compress;
pub mod control;
pub mod legacy;
mod record;
mod scan;
pub mod varint;

use thiserror::Error;

pub use batch::{
    ATTRIBUTES_OFFSET, BatchIter, BatchView, CRC_OFFSET, HEADER_LEN, LEADER_EPOCH_OFFSET, LOG_OVERHEAD, MAGIC_OFFSET,
    MAX_TIMESTAMP_OFFSET, batches, crc32c, set_base_offset, set_leader_epoch, set_timestamps, set_timestamps_of_split,
};
pub use builder::BatchBuilder;
pub use compress::{Compression, DecompressLimit};
pub use record::{Header, Record, RecordIter};
pub use scan::{RecordScan, ScannedRecord};

/// The timestamp of a record that has none (magic 0), in milliseconds.
pub const NO_TIMESTAMP: i64 = -1;
/// The producer id of a batch that was not written by an idempotent producer.
pub const NO_PRODUCER_ID: i64 = -1;
/// The producer epoch beside [`NO_PRODUCER_ID`].
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// The base sequence beside [`NO_PRODUCER_ID`].
pub const NO_SEQUENCE: i32 = -1;
/// The leader epoch of a batch no leader has stamped yet.
pub const NO_LEADER_EPOCH: i32 = -1;

/// Who set the timestamps of a batch (KIP-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer, record by record.
    #[default]
    CreateTime,
    /// The leader, one time for the whole batch.
    LogAppendTime,
}

/// Why bytes are not the records they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordsError {
    /// The bytes end inside a field.
    #[error("record data ends before it is complete")]
    Truncated,
    /// A field holds what it cannot hold.
    #[error("corrupt records: {0}")]
    Corrupt(&'static str),
    /// The checksum does not match the bytes.
    #[error("record checksum mismatch: stored {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The format version is none of 0, 1, 2.
    #[error("invalid magic {0} in record batch")]
    Magic(i8),
    /// The attributes name a codec that does not exist, or one the format version does not have.
    #[error("unknown compression codec {0}")]
    Codec(u8),
    /// The codec refused the compressed bytes.
    #[error("cannot decompress {codec} records: {reason}")]
    Decompress {
        /// The codec's name in Kafka's configuration.
        codec: &'static str,
        /// What the codec said.
        reason: String,
    },
    /// The records would decompress to more than the caller allows.
    #[error("records decompress to more than the limit of {limit} bytes")]
    DecompressLimit {
        /// The limit, in bytes.
        limit: usize,
    },
    /// What was to be built does not fit the format's 31-bit sizes.
    #[error("record batch would be larger than 2 GiB")]
    TooLarge,
}
