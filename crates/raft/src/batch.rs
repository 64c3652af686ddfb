//! Batches of the metadata log: building them at their place in the log, and taking them apart again.

use bytes::Bytes;
use milena_protocol::records::control::ControlType;
use milena_protocol::records::{self, BatchBuilder, Compression, DecompressLimit, RecordsError};

/// Most bytes of one batch, as in Kafka: a change that needs more could not be atomic.
pub const MAX_BATCH_BYTES: usize = 8 << 20;

/// Why bytes of the log are no batches of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("record at offset {0} has no value")]
    NoValue(i64),
}

/// One batch, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    pub base_offset: i64,
    pub last_offset: i64,
    pub epoch: i32,
    /// When the leader appended it, milliseconds since 1970.
    pub append_timestamp_ms: i64,
    pub size_in_bytes: usize,
    /// Values of the records; empty for a control batch.
    pub records: Vec<Bytes>,
    /// Types and values of the control records; empty for a data batch.
    pub controls: Vec<(Option<ControlType>, Bytes)>,
}

/// Takes complete batches apart. A partial batch at the end is left out.
///
/// # Errors
/// When a checksum is wrong or a batch does not hold what it claims.
pub fn read_batches(bytes: Bytes) -> Result<Vec<LogBatch>, BatchError> {
    let mut all = Vec::new();
    for view in records::batches(bytes) {
        let view = view?;
        view.ensure_crc()?;
        let mut batch = LogBatch {
            base_offset: view.base_offset(),
            last_offset: view.last_offset(),
            epoch: view.leader_epoch(),
            append_timestamp_ms: view.max_timestamp(),
            size_in_bytes: view.size_in_bytes(),
            records: Vec::new(),
            controls: Vec::new(),
        };
        for record in view.records(DecompressLimit::default())? {
            let record = record?;
            let value = record.value.clone().ok_or(BatchError::NoValue(record.offset))?;
            if view.is_control() {
                batch.controls.push((ControlType::of(&record)?, value));
            } else {
                batch.records.push(value);
            }
        }
        all.push(batch);
    }
    Ok(all)
}

/// A batch of records that share one time.
pub(crate) fn data_batch(
    base_offset: i64,
    epoch: i32,
    timestamp_ms: i64,
    values: &[Bytes],
) -> Result<Bytes, RecordsError> {
    let mut builder = BatchBuilder::new(Compression::None).with_leader_epoch(epoch);
    for value in values {
        builder.append(timestamp_ms, None, Some(value), &[])?;
    }
    builder.build(base_offset)
}

/// A batch of control records.
pub(crate) fn control_batch(
    base_offset: i64,
    epoch: i32,
    timestamp_ms: i64,
    controls: &[(ControlType, Bytes)],
) -> Result<Bytes, RecordsError> {
    let mut builder = BatchBuilder::new(Compression::None).with_leader_epoch(epoch).with_control(true);
    for (kind, value) in controls {
        builder.append(timestamp_ms, Some(&kind.key()), Some(value), &[])?;
    }
    builder.build(base_offset)
}
