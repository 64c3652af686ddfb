//! What a leader accepts into its log, and the stamping of what it accepts.
//!
//! Owns the rules for produced batches (sizes, checksum, counts, timestamps, keys, codecs) and the few header bytes a
//! leader may change. Pure: bytes, rules and the time go in, stamped bytes or a refusal come out. Never touches
//! files, never looks at producer state (duplicates and sequences are `producer_state`'s) and never keeps what it saw.
//! Called under the log's lock by `UnifiedLog`: [`validate_and_assign`] for a leader's append, [`check_copied`] for
//! bytes another leader stamped (followers, KRaft). [`check_produce_version`] is for the produce handler.
//!
//! A batch that is accepted as it came is not copied: the result is a new 61-byte header and a slice of the input.
//! Its records are walked without allocating, a compressed one through a small buffer, however large it would become.

mod up_convert;

use bytes::{Bytes, BytesMut};
use milena_common::limits::MAX_DECOMPRESSED_BATCH_BYTES;
use milena_protocol::records::{
    BatchBuilder, BatchView, Compression, DecompressLimit, HEADER_LEN, NO_TIMESTAMP, RecordsError, ScannedRecord,
    TimestampType, batches, set_base_offset, set_leader_epoch, set_timestamps_of_split,
};
use thiserror::Error;

/// The most bytes of records that are written anew (another codec or format), before compression.
pub const MAX_REWRITTEN_BYTES: usize = 64 << 20;
/// The most refused records listed by index; the batch is refused whole anyway.
pub const MAX_RECORD_ERRORS: usize = 256;
/// The first Produce version that carries magic 2, and only it.
const FIRST_MAGIC_2_PRODUCE: i16 = 3;
/// The first Produce version that may carry zstd (KIP-110).
const FIRST_ZSTD_PRODUCE: i16 = 7;

/// Where an append comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A produce request.
    Client,
    /// A coordinator of this broker: its records and transaction markers.
    Coordinator,
}

/// The codec a topic's log is written with (`compression.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetCompression {
    /// What the producer chose.
    #[default]
    Producer,
    /// This codec, at this level if the codec has levels.
    Codec(Compression, Option<i32>),
}

/// What a topic's configuration says about appends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// `compression.type` and the level of that codec.
    pub compression: TargetCompression,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far behind the broker's clock a timestamp may be.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far ahead of the broker's clock a timestamp may be.
    pub timestamp_after_max_ms: i64,
    /// `max.message.bytes`: the largest batch, as stored.
    pub max_message_bytes: i32,
    /// `segment.bytes`: what one append may not exceed.
    pub segment_bytes: i32,
    /// Whether `cleanup.policy` contains `compact`: every record then needs a key.
    pub compacted: bool,
}

impl Default for Rules {
    /// Kafka's defaults.
    fn default() -> Self {
        Rules {
            compression: TargetCompression::Producer,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            max_message_bytes: 1_048_588,
            segment_bytes: 1 << 30,
            compacted: false,
        }
    }
}

/// What one append is stamped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append {
    /// Who appends.
    pub origin: Origin,
    /// The version of the produce request, if there is one: see [`check_produce_version`].
    pub produce_version: Option<i16>,
    /// The leader epoch the batch gets.
    pub leader_epoch: i32,
    /// The offset the first record gets (the log end offset).
    pub next_offset: i64,
    /// The broker's wall clock, in milliseconds.
    pub now_ms: i64,
}

/// Bytes ready to be written, in one or two pieces: the header, where it had to be changed, and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    head: Bytes,
    body: Bytes,
}

impl Stamped {
    fn whole(bytes: Bytes) -> Stamped {
        Stamped { head: bytes, body: Bytes::new() }
    }

    /// The pieces, in order; write both with one vectored write.
    pub fn chunks(&self) -> [&Bytes; 2] {
        [&self.head, &self.body]
    }

    /// The pieces, in order.
    pub fn into_chunks(self) -> [Bytes; 2] {
        [self.head, self.body]
    }

    /// Size of all pieces, in bytes.
    pub fn size_in_bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// One piece; copies if there are two.
    pub fn into_contiguous(self) -> Bytes {
        if self.body.is_empty() {
            return self.head;
        }
        let mut whole = BytesMut::with_capacity(self.size_in_bytes());
        whole.extend_from_slice(&self.head);
        whole.extend_from_slice(&self.body);
        whole.freeze()
    }
}

/// An accepted append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validated {
    /// What to write: exactly one magic 2 batch.
    pub records: Stamped,
    /// The fields of its header, as stamped.
    pub header: StampedHeader,
    /// The time all records got, in milliseconds, if the topic uses `LogAppendTime`.
    pub log_append_time_ms: Option<i64>,
    /// The offset of the first record that has the largest timestamp (with `LogAppendTime`: of the first record).
    pub offset_of_max_timestamp: i64,
    /// Whether the records were written anew (another codec, another format, offsets with gaps).
    pub rewritten: bool,
}

/// The fields of the stamped batch that the log keeps state about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StampedHeader {
    /// Offset of the first record.
    pub first_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// The largest timestamp, in milliseconds, or [`NO_TIMESTAMP`].
    pub max_timestamp: i64,
    /// How many records there are.
    pub record_count: i32,
    /// The codec as stored.
    pub compression: Compression,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence of the first record, or -1.
    pub base_sequence: i32,
    /// The sequence of the last record, or -1.
    pub last_sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub is_transactional: bool,
    /// Whether its records are control records.
    pub is_control: bool,
}

/// One refused record of a refused batch (KIP-467).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// The record's place in the batch, from 0.
    pub batch_index: i32,
    /// Why, for the producer's eyes.
    pub message: String,
}

/// Why an append is refused. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValidateError {
    /// `CORRUPT_MESSAGE`: damaged on the way; the producer may send it again.
    #[error("corrupt record batch: {0}")]
    Corrupt(String),
    /// `INVALID_RECORD`: the producer wrote what the log cannot hold.
    #[error("{message}")]
    InvalidRecord {
        /// Why.
        message: String,
        /// The records at fault, if single ones are; at most [`MAX_RECORD_ERRORS`].
        record_errors: Vec<RecordError>,
    },
    /// `INVALID_TIMESTAMP`: a timestamp outside the topic's range.
    #[error("{message}")]
    InvalidTimestamp {
        /// Why.
        message: String,
        /// The records at fault; at most [`MAX_RECORD_ERRORS`].
        record_errors: Vec<RecordError>,
    },
    /// `MESSAGE_TOO_LARGE`: the batch exceeds `max.message.bytes` (or would decompress without bound).
    #[error("the record batch of {size} bytes exceeds the limit of {limit} bytes")]
    MessageTooLarge {
        /// Bytes of the batch.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// `RECORD_LIST_TOO_LARGE`: the append does not fit into one segment.
    #[error("the append of {size} bytes exceeds the segment size of {limit} bytes")]
    RecordListTooLarge {
        /// Bytes of the append.
        size: usize,
        /// `segment.bytes`.
        limit: usize,
    },
    /// `UNSUPPORTED_COMPRESSION_TYPE`: no such codec, or not for a client this old.
    #[error("{0}")]
    UnsupportedCompression(String),
    /// Offsets that do not continue the log (copied bytes only).
    #[error("offset {found} does not continue the log, which ends at {expected}")]
    OutOfOrder {
        /// The log end offset, or the end of the batch before.
        expected: i64,
        /// The base offset of the batch.
        found: i64,
    },
}

impl ValidateError {
    fn invalid(message: impl Into<String>) -> Self {
        ValidateError::InvalidRecord { message: message.into(), record_errors: Vec::new() }
    }

    /// The records at fault, if single ones are.
    pub fn record_errors(&self) -> &[RecordError] {
        match self {
            ValidateError::InvalidRecord { record_errors, .. }
            | ValidateError::InvalidTimestamp { record_errors, .. } => record_errors,
            _ => &[],
        }
    }
}

/// Checks what the version of a produce request promises about its records: from version 3 on exactly one magic 2
/// batch per partition, zstd from version 7 on. Older requests may carry anything. Cheap: headers only. As in Kafka,
/// bytes that begin another batch and do not end it are passed over, and a batch that is not whole is none.
pub fn check_produce_version(records: &Bytes, version: i16) -> Result<(), ValidateError> {
    if version < FIRST_MAGIC_2_PRODUCE {
        return Ok(());
    }
    let mut walk = batches(records.clone());
    let batch = match walk.next() {
        Some(batch) => batch.map_err(malformed)?,
        None => {
            return Err(ValidateError::invalid(format!(
                "a produce request of version {version} must have one whole record batch per partition"
            )));
        }
    };
    if batch.magic() != 2 {
        return Err(ValidateError::invalid(format!(
            "a produce request of version {version} must have record batches of magic 2, not {}",
            batch.magic()
        )));
    }
    if version < FIRST_ZSTD_PRODUCE && batch.compression() == Ok(Compression::Zstd) {
        return Err(ValidateError::UnsupportedCompression(format!(
            "a produce request of version {version} must not use zstd"
        )));
    }
    if walk.next().transpose().map_err(malformed)?.is_some() {
        return Err(ValidateError::invalid(format!(
            "a produce request of version {version} must have exactly one record batch per partition"
        )));
    }
    Ok(())
}

/// Decides whether a leader takes `records` for one partition, and stamps them with offsets, leader epoch and, if the
/// topic says so, the time. The result is one magic 2 batch whose offsets are dense from `append.next_offset`.
pub fn validate_and_assign(records: &Bytes, rules: &Rules, append: &Append) -> Result<Validated, ValidateError> {
    if let Some(version) = append.produce_version {
        check_produce_version(records, version)?;
    }
    let mut walk = batches(records.clone());
    let batch = match walk.next() {
        Some(batch) => batch.map_err(malformed)?,
        None if records.is_empty() => {
            return Err(ValidateError::invalid("there is no record batch to append"));
        }
        None => return Err(malformed(RecordsError::Truncated)),
    };
    if batch.is_legacy() {
        return up_convert::up_convert(records, rules, append);
    }
    if walk.next().transpose().map_err(malformed)?.is_some() {
        return Err(ValidateError::invalid("an append must have exactly one record batch"));
    }
    validate_batch(&batch, rules, append)
}

/// One magic 2 batch.
fn validate_batch(batch: &BatchView, rules: &Rules, append: &Append) -> Result<Validated, ValidateError> {
    check_size(batch.size_in_bytes(), rules)?;
    batch.ensure_crc().map_err(malformed)?;
    check_counts(batch)?;
    if append.origin == Origin::Client {
        check_client_header(batch)?;
    }
    let source = batch.compression().map_err(malformed)?;
    let target = match rules.compression {
        // Control records are left as they are written.
        TargetCompression::Codec(codec, level) if !batch.is_control() => (codec, level),
        _ => (source, None),
    };
    let walked = walk_records(batch, rules, append)?;
    if source != target.0 || !walked.dense {
        return rewrite(batch, target, rules, append);
    }
    check_segment(batch.size_in_bytes(), rules)?;

    let mut head = BytesMut::from(batch.bytes().get(..HEADER_LEN).unwrap_or_default());
    let body = batch.body();
    set_base_offset(&mut head, append.next_offset);
    set_leader_epoch(&mut head, append.leader_epoch);
    let append_time = log_append_time(rules, append);
    let (timestamp_type, max_timestamp) = match append_time {
        Some(now_ms) => (TimestampType::LogAppendTime, now_ms),
        None => (TimestampType::CreateTime, walked.max_timestamp),
    };
    if batch.timestamp_type() != timestamp_type || batch.max_timestamp() != max_timestamp {
        set_timestamps_of_split(&mut head, &body, timestamp_type, max_timestamp);
    }
    Ok(Validated {
        records: Stamped { head: head.freeze(), body },
        header: header_of(batch, append, source, max_timestamp, batch.record_count()),
        log_append_time_ms: append_time,
        offset_of_max_timestamp: match append_time {
            Some(_) => append.next_offset,
            None => append.next_offset.saturating_add(i64::from(walked.max_timestamp_delta)),
        },
        rewritten: false,
    })
}

/// Whoever wrote the header: it claims some records, and offsets for just these.
fn check_counts(batch: &BatchView) -> Result<(), ValidateError> {
    let (last_delta, count) = (batch.last_offset_delta(), batch.record_count());
    if last_delta < 0 {
        return Err(ValidateError::invalid(format!(
            "the last offset delta of a produced batch is negative: {last_delta}"
        )));
    }
    if count <= 0 {
        return Err(ValidateError::invalid(format!(
            "the record count of a produced batch must be positive, not {count}"
        )));
    }
    if i64::from(last_delta) + 1 != i64::from(count) {
        return Err(ValidateError::invalid(format!(
            "a produced batch claims {count} records and a last offset delta of {last_delta}"
        )));
    }
    Ok(())
}

/// The rules of a header that a client wrote.
fn check_client_header(batch: &BatchView) -> Result<(), ValidateError> {
    if batch.base_offset() != 0 {
        return Err(ValidateError::invalid(format!(
            "the base offset of a produced batch must be 0, not {}",
            batch.base_offset()
        )));
    }
    if batch.is_control() {
        return Err(ValidateError::invalid("clients are not allowed to write control records"));
    }
    if batch.has_producer_id() && batch.base_sequence() < 0 {
        return Err(ValidateError::invalid(format!(
            "a batch of producer {} has the invalid sequence number {}",
            batch.producer_id(),
            batch.base_sequence()
        )));
    }
    Ok(())
}

/// What the walk over a batch's records found.
struct Walked {
    max_timestamp: i64,
    /// Place of the first record that has it.
    max_timestamp_delta: i32,
    /// Whether the offset deltas are 0, 1, 2, ...
    dense: bool,
}

fn walk_records(batch: &BatchView, rules: &Rules, append: &Append) -> Result<Walked, ValidateError> {
    let mut scan = batch.scan(DecompressLimit(MAX_DECOMPRESSED_BATCH_BYTES)).map_err(unreadable)?;
    let appended = batch.timestamp_type() == TimestampType::LogAppendTime;
    let (base, appended_at) = (batch.base_timestamp(), batch.max_timestamp());
    let mut checks = RecordChecks::new(rules, append);
    let mut walked = Walked { max_timestamp: NO_TIMESTAMP, max_timestamp_delta: 0, dense: true };
    let mut index = 0;
    while let Some(record) = scan.next_record().map_err(unreadable)? {
        let ScannedRecord { offset_delta, timestamp_delta, key_size, .. } = record;
        let timestamp = if appended { appended_at } else { base.wrapping_add(timestamp_delta) };
        checks.check(index, timestamp, key_size.is_some(), appended);
        walked.dense &= offset_delta == index;
        if timestamp > walked.max_timestamp {
            walked.max_timestamp = timestamp;
            walked.max_timestamp_delta = index;
        }
        index += 1;
    }
    checks.finish()?;
    Ok(walked)
}

/// The rules every single record must keep.
struct RecordChecks<'a> {
    rules: &'a Rules,
    now_ms: i64,
    create_time: bool,
    needs_key: bool,
    by_client: bool,
    errors: Vec<RecordError>,
    refused: usize,
    timestamp_refused: bool,
}

impl<'a> RecordChecks<'a> {
    fn new(rules: &'a Rules, append: &Append) -> Self {
        RecordChecks {
            rules,
            now_ms: append.now_ms,
            create_time: rules.timestamp_type == TimestampType::CreateTime,
            needs_key: rules.compacted,
            by_client: append.origin == Origin::Client,
            errors: Vec::new(),
            refused: 0,
            timestamp_refused: false,
        }
    }

    /// `appended`: whether the batch says `LogAppendTime`, which only a leader may.
    #[inline]
    fn check(&mut self, index: i32, timestamp: i64, has_key: bool, appended: bool) {
        if self.needs_key && !has_key {
            self.refuse(index, || "a record of a compacted topic must have a key".to_owned());
        } else if appended && self.by_client {
            self.timestamp_refused = true;
            self.refuse(index, || "a producer must not set the timestamp type LogAppendTime".to_owned());
        } else if self.create_time
            && timestamp != NO_TIMESTAMP
            && (self.now_ms.saturating_sub(timestamp) > self.rules.timestamp_before_max_ms
                || timestamp.saturating_sub(self.now_ms) > self.rules.timestamp_after_max_ms)
        {
            self.timestamp_refused = true;
            let earliest = self.now_ms.saturating_sub(self.rules.timestamp_before_max_ms);
            let latest = self.now_ms.saturating_add(self.rules.timestamp_after_max_ms);
            self.refuse(index, || format!("timestamp {timestamp} is outside of [{earliest}, {latest}]"));
        }
    }

    #[cold]
    fn refuse(&mut self, batch_index: i32, message: impl FnOnce() -> String) {
        self.refused += 1;
        if self.errors.len() < MAX_RECORD_ERRORS {
            self.errors.push(RecordError { batch_index, message: message() });
        }
    }

    fn finish(self) -> Result<(), ValidateError> {
        let Some(first) = self.errors.first() else {
            return Ok(());
        };
        let message = format!("{} records of the batch are refused, the first: {}", self.refused, first.message);
        let record_errors = self.errors;
        Err(if self.timestamp_refused {
            ValidateError::InvalidTimestamp { message, record_errors }
        } else {
            ValidateError::InvalidRecord { message, record_errors }
        })
    }
}

/// Writes a checked batch anew: another codec, or offsets made dense.
fn rewrite(
    batch: &BatchView,
    (codec, level): (Compression, Option<i32>),
    rules: &Rules,
    append: &Append,
) -> Result<Validated, ValidateError> {
    let append_time = log_append_time(rules, append);
    let mut builder = BatchBuilder::new(codec)
        .with_level(level)
        .with_leader_epoch(append.leader_epoch)
        .with_producer(batch.producer_id(), batch.producer_epoch(), batch.base_sequence())
        .with_transactional(batch.is_transactional())
        .with_control(batch.is_control());
    if let Some(now_ms) = append_time {
        builder = builder.with_log_append_time(now_ms);
    }
    let mut newest = (NO_TIMESTAMP, 0);
    let limit = match codec {
        Compression::None => MAX_REWRITTEN_BYTES.min(usize::try_from(rules.max_message_bytes).unwrap_or(0)),
        _ => MAX_REWRITTEN_BYTES,
    };
    let records = batch.records(DecompressLimit(limit)).map_err(unreadable)?;
    for (index, record) in (0..).zip(records) {
        let record = record.map_err(unreadable)?;
        if record.timestamp > newest.0 {
            newest = (record.timestamp, index);
        }
        builder
            .append(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers)
            .map_err(unreadable)?;
    }
    let (max_timestamp, count) = (builder.max_timestamp(), builder.record_count());
    let bytes = builder.build(append.next_offset).map_err(unreadable)?;
    check_size(bytes.len(), rules)?;
    check_segment(bytes.len(), rules)?;
    Ok(Validated {
        records: Stamped::whole(bytes),
        header: header_of(batch, append, codec, max_timestamp, count),
        log_append_time_ms: append_time,
        offset_of_max_timestamp: match append_time {
            Some(_) => append.next_offset,
            None => append.next_offset.saturating_add(newest.1),
        },
        rewritten: true,
    })
}

fn log_append_time(rules: &Rules, append: &Append) -> Option<i64> {
    (rules.timestamp_type == TimestampType::LogAppendTime).then_some(append.now_ms)
}

fn header_of(
    batch: &BatchView,
    append: &Append,
    compression: Compression,
    max_timestamp: i64,
    record_count: i32,
) -> StampedHeader {
    let last_delta = i64::from(record_count.max(1)) - 1;
    StampedHeader {
        first_offset: append.next_offset,
        last_offset: append.next_offset.saturating_add(last_delta),
        max_timestamp,
        record_count,
        compression,
        producer_id: batch.producer_id(),
        producer_epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
        last_sequence: batch.last_sequence(),
        is_transactional: batch.is_transactional(),
        is_control: batch.is_control(),
    }
}

/// What bytes that a leader has stamped amount to: see [`check_copied`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of whole batches from the front; what follows is a batch cut short, which is fetched again.
    pub valid_bytes: usize,
    /// Offset of the first batch; none if there is no whole batch.
    pub first_offset: Option<i64>,
    /// Offset of the last record.
    pub last_offset: i64,
    /// The largest timestamp, in milliseconds, or [`NO_TIMESTAMP`].
    pub max_timestamp: i64,
    /// The leader epoch of the last batch.
    pub last_leader_epoch: i32,
    /// How many batches there are.
    pub batch_count: usize,
}

/// Checks bytes that already have their offsets: what a follower fetched, what the KRaft leader built. Sizes and
/// checksums must be right and offsets must grow from `next_offset` on (gaps are allowed: compaction leaves them). Any
/// magic; records are not walked.
pub fn check_copied(records: &Bytes, next_offset: i64) -> Result<Copied, ValidateError> {
    let mut copied = Copied {
        valid_bytes: 0,
        first_offset: None,
        last_offset: next_offset.saturating_sub(1),
        max_timestamp: NO_TIMESTAMP,
        last_leader_epoch: -1,
        batch_count: 0,
    };
    let mut walk = batches(records.clone());
    while let Some(batch) = walk.next() {
        let batch = batch.map_err(malformed)?;
        batch.ensure_crc().map_err(malformed)?;
        let expected = copied.last_offset.saturating_add(1);
        if batch.base_offset() < expected {
            return Err(ValidateError::OutOfOrder { expected, found: batch.base_offset() });
        }
        if batch.last_offset_delta() < 0 {
            return Err(ValidateError::Corrupt("negative last offset delta".to_owned()));
        }
        copied.first_offset.get_or_insert(batch.base_offset());
        copied.last_offset = batch.last_offset();
        copied.max_timestamp = copied.max_timestamp.max(batch.max_timestamp());
        copied.last_leader_epoch = batch.leader_epoch();
        copied.batch_count += 1;
        copied.valid_bytes = walk.position();
    }
    Ok(copied)
}

fn check_size(size: usize, rules: &Rules) -> Result<(), ValidateError> {
    let limit = usize::try_from(rules.max_message_bytes).unwrap_or(0);
    if size > limit {
        return Err(ValidateError::MessageTooLarge { size, limit });
    }
    Ok(())
}

fn check_segment(size: usize, rules: &Rules) -> Result<(), ValidateError> {
    let limit = usize::try_from(rules.segment_bytes).unwrap_or(0);
    if size > limit {
        return Err(ValidateError::RecordListTooLarge { size, limit });
    }
    Ok(())
}

/// Errors of the frame around the records: damage on the way.
fn malformed(error: RecordsError) -> ValidateError {
    match error {
        RecordsError::Codec(id) => ValidateError::UnsupportedCompression(format!("unknown compression codec {id}")),
        other => ValidateError::Corrupt(other.to_string()),
    }
}

/// Errors of the records behind a right checksum: the producer wrote them so, and would again.
fn unreadable(error: RecordsError) -> ValidateError {
    match error {
        RecordsError::DecompressLimit { limit } => {
            ValidateError::MessageTooLarge { size: limit.saturating_add(1), limit }
        }
        RecordsError::Codec(id) => ValidateError::UnsupportedCompression(format!("unknown compression codec {id}")),
        other => ValidateError::invalid(other.to_string()),
    }
}
