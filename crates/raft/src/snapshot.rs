//! Snapshot files (`<offset>-<epoch>.checkpoint`, `bootstrap.checkpoint`): a header, the records of the state, a footer,
//! in batches like those of the log (KIP-630).

use bytes::Bytes;
use milena_protocol::records::RecordsError;
use milena_protocol::records::control::ControlType;
use milena_protocol::stored::control::{SnapshotFooterRecord, SnapshotHeaderRecord};
use milena_protocol::{Decode, DecodeError, Encode, EncodeError, Reader};

use crate::batch::{BatchError, control_batch, data_batch, read_batches};
use crate::voters::QuorumRecords;

/// Bytes of records after which a batch of a snapshot ends.
const BATCH_BYTES: usize = 1 << 20;

/// Why a file is no usable snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("snapshot: {0}")]
    Batch(#[from] BatchError),
    #[error("snapshot: {0}")]
    Decode(#[from] DecodeError),
    #[error("snapshot: {0}")]
    Encode(#[from] EncodeError),
    #[error("snapshot does not begin with a header")]
    NoHeader,
    #[error("snapshot does not end with a footer: it was not written completely")]
    NoFooter,
}

impl From<RecordsError> for SnapshotError {
    fn from(error: RecordsError) -> Self {
        SnapshotError::Batch(error.into())
    }
}

/// A snapshot's content.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Append time of the last batch that the snapshot contains, milliseconds since 1970.
    pub last_contained_log_timestamp_ms: i64,
    /// What the log said about its voters.
    pub quorum: QuorumRecords,
    /// Records of the state, in order.
    pub records: Vec<Bytes>,
}

/// The bytes of a snapshot file, in pieces. `epoch` is that of the last record it contains; `written_at_ms` the present time.
///
/// # Errors
/// When a record is larger than a batch can be.
pub fn build_snapshot(snapshot: &Snapshot, epoch: i32, written_at_ms: i64) -> Result<Vec<Bytes>, SnapshotError> {
    let header =
        SnapshotHeaderRecord { version: 0, last_contained_log_timestamp: snapshot.last_contained_log_timestamp_ms };
    let mut controls = vec![(ControlType::SnapshotHeader, header.encode_to_bytes(0)?)];
    controls.extend(snapshot.quorum.controls()?);
    let mut offset = controls.len() as i64;
    let mut out = vec![control_batch(0, epoch, written_at_ms, &controls)?];
    let mut rest = snapshot.records.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |record: &&Bytes| {
            bytes += record.len();
            bytes <= BATCH_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        out.push(data_batch(offset, epoch, written_at_ms, now)?);
        offset += count as i64;
        rest = later;
    }
    let footer = SnapshotFooterRecord { version: 0 }.encode_to_bytes(0)?;
    out.push(control_batch(offset, epoch, written_at_ms, &[(ControlType::SnapshotFooter, footer)])?);
    Ok(out)
}

/// Reads a whole snapshot file.
///
/// # Errors
/// See [`SnapshotError`]: nothing of a damaged or unfinished file is given back.
pub fn read_snapshot(bytes: Bytes) -> Result<Snapshot, SnapshotError> {
    let mut timestamp = None;
    let mut finished = false;
    let mut quorum = QuorumRecords::default();
    let mut records = Vec::new();
    for batch in read_batches(bytes)? {
        for (kind, value) in batch.controls {
            match kind {
                Some(ControlType::SnapshotHeader) => {
                    let header = SnapshotHeaderRecord::decode(&mut Reader::new(value), 0)?;
                    timestamp = Some(header.last_contained_log_timestamp);
                }
                Some(ControlType::SnapshotFooter) => finished = true,
                other => quorum.apply(other, &value)?,
            }
        }
        if timestamp.is_none() {
            return Err(SnapshotError::NoHeader);
        }
        records.extend(batch.records);
    }
    let last_contained_log_timestamp_ms = timestamp.ok_or(SnapshotError::NoHeader)?;
    if !finished {
        return Err(SnapshotError::NoFooter);
    }
    Ok(Snapshot { last_contained_log_timestamp_ms, quorum, records })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(records: usize) -> Snapshot {
        let records = (0..records).map(|n| Bytes::from(format!("record {n}").repeat(1 + n % 7))).collect();
        Snapshot { last_contained_log_timestamp_ms: 1_795_486_059_991, records, ..Default::default() }
    }

    #[test]
    fn what_was_written_is_read() {
        for records in [0, 1, 5, 100_000] {
            let snapshot = snapshot(records);
            let bytes = build_snapshot(&snapshot, 3, 77).expect("builds").concat();
            assert_eq!(read_snapshot(bytes.into()).as_ref(), Ok(&snapshot));
        }
    }

    /// The header and footer batches are as long as Kafka's.
    #[test]
    fn has_kafkas_sizes() {
        let batches = build_snapshot(&snapshot(1), 1, 77).expect("builds");
        assert_eq!(batches.iter().map(Bytes::len).collect::<Vec<_>>()[0], 83);
        assert_eq!(batches.last().map(Bytes::len), Some(75));
    }

    #[test]
    fn unfinished_and_damaged_files_are_refused() {
        let pieces = build_snapshot(&snapshot(20), 3, 77).expect("builds");
        let whole = pieces.concat();
        let footer = pieces.last().map_or(0, Bytes::len);
        for end in 0..=whole.len() - footer {
            assert!(read_snapshot(Bytes::copy_from_slice(&whole[..end])).is_err(), "{end} bytes");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            // Offsets and epochs of batches are not covered by a checksum, and not used.
            if let Ok(read) = read_snapshot(damaged.into()) {
                assert_eq!(read, snapshot(20), "byte {at}");
            }
        }
    }
}
