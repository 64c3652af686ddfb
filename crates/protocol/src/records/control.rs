//! Control records: what a log says to its readers and not to applications (transaction markers, KRaft).
//!
//! Owns the key that names a control record's type, and the transaction marker. The bodies of the KRaft ones are
//! generated structs of [`crate`]'s stored records. Called by the transaction and KRaft code and by readers that must
//! tell a marker from data.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{BatchBuilder, Compression, NO_SEQUENCE, Record, RecordsError};

/// What a control record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum ControlType {
    /// The producer's transaction was aborted.
    Abort = 0,
    /// The producer's transaction was committed.
    Commit = 1,
    /// A KRaft leader was elected.
    LeaderChange = 2,
    /// The first record of a KRaft snapshot.
    SnapshotHeader = 3,
    /// The last record of a KRaft snapshot.
    SnapshotFooter = 4,
    /// The KRaft protocol version (KIP-853).
    KraftVersion = 5,
    /// The KRaft voters (KIP-853).
    KraftVoters = 6,
}

impl ControlType {
    /// The type with this number, if it is known.
    pub fn from_id(id: i16) -> Option<ControlType> {
        use ControlType::*;
        [Abort, Commit, LeaderChange, SnapshotHeader, SnapshotFooter, KraftVersion, KraftVoters]
            .into_iter()
            .find(|known| *known as i16 == id)
    }

    /// Reads a control record's key; none for a type this version does not know, which readers skip.
    pub fn from_key(key: &[u8]) -> Result<Option<ControlType>, RecordsError> {
        let mut key = key;
        if key.remaining() < 4 {
            return Err(RecordsError::Corrupt("control record key is shorter than version and type"));
        }
        if key.get_i16() < 0 {
            return Err(RecordsError::Corrupt("control record key has a negative version"));
        }
        Ok(ControlType::from_id(key.get_i16()))
    }

    /// Reads the type of a record of a control batch.
    pub fn of(record: &Record) -> Result<Option<ControlType>, RecordsError> {
        ControlType::from_key(record.key.as_deref().unwrap_or_default())
    }

    /// The key of a control record of this type: version 0 and the type.
    pub fn key(self) -> [u8; 4] {
        let [high, low] = (self as i16).to_be_bytes();
        [0, 0, high, low]
    }
}

/// The end of a transaction as the partition's log records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Whether the transaction was committed.
    pub committed: bool,
    /// The epoch of the transaction coordinator that wrote the marker.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads a marker; none if the record is another control record.
    pub fn parse(record: &Record) -> Result<Option<EndTxnMarker>, RecordsError> {
        let committed = match ControlType::of(record)? {
            Some(ControlType::Commit) => true,
            Some(ControlType::Abort) => false,
            _ => return Ok(None),
        };
        let mut value = record.value.as_deref().unwrap_or_default();
        if value.remaining() < 6 {
            return Err(RecordsError::Corrupt("transaction marker is shorter than version and epoch"));
        }
        if value.get_i16() < 0 {
            return Err(RecordsError::Corrupt("transaction marker has a negative version"));
        }
        Ok(Some(EndTxnMarker { committed, coordinator_epoch: value.get_i32() }))
    }

    /// The marker's key.
    pub fn key(&self) -> [u8; 4] {
        if self.committed { ControlType::Commit.key() } else { ControlType::Abort.key() }
    }

    /// The marker's value: version 0 and the coordinator epoch.
    pub fn value(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(6);
        value.put_i16(0);
        value.put_i32(self.coordinator_epoch);
        value.freeze()
    }

    /// The marker as the batch a partition's leader appends.
    pub fn to_batch(
        &self,
        base_offset: i64,
        timestamp_ms: i64,
        producer_id: i64,
        producer_epoch: i16,
        leader_epoch: i32,
    ) -> Result<Bytes, RecordsError> {
        let mut batch = BatchBuilder::new(Compression::None)
            .with_leader_epoch(leader_epoch)
            .with_producer(producer_id, producer_epoch, NO_SEQUENCE)
            .with_transactional(true)
            .with_control(true);
        batch.append(timestamp_ms, Some(&self.key()), Some(&self.value()), &[])?;
        batch.build(base_offset)
    }
}
