//! Records of `__remote_log_metadata` (KIP-405), in the words of Kafka's own text form of them.
//!
//! Owns the layout of its records: Milena keeps no such topic itself. Pure.

use milena_common::Uuid;
use milena_protocol::records::Record;
use milena_protocol::{DecodeError, Reader};

use super::decoder::Shown;

pub(super) fn show(record: &Record) -> Shown {
    let payload = match read(record) {
        Ok(Some(text)) => text,
        Ok(None) => format!("Error at offset {}, skipping. Unknown record type", record.offset),
        Err(error) => format!("Error at offset {}, skipping. {error}", record.offset),
    };
    Shown { key: None, payload: Some(payload) }
}

fn read(record: &Record) -> Result<Option<String>, DecodeError> {
    let mut r = Reader::new(record.value.clone().unwrap_or_default());
    let (kind, _version) = (r.get_uvarint()?, r.get_uvarint()?);
    Ok(Some(match kind {
        0 => segment(&mut r)?,
        1 => update(&mut r)?,
        2 => deletion(&mut r)?,
        _ => return Ok(None),
    }))
}

fn segment(r: &mut Reader) -> Result<String, DecodeError> {
    let id = segment_id(r)?;
    let (start, end, broker) = (r.get_i64()?, r.get_i64()?, r.get_i32()?);
    let (max_timestamp, event) = (r.get_i64()?, r.get_i64()?);
    let mut epochs = Vec::new();
    for _ in 0..r.get_array_len(true, 13)? {
        epochs.push(format!("{}={}", r.get_i32()?, r.get_i64()?));
        r.skip_tagged_fields()?;
    }
    let size = r.get_i32()?;
    let state = r.get_i8()?;
    let (custom, empty) = tagged(r)?;
    Ok(format!(
        "RemoteLogSegmentMetadata{{remoteLogSegmentId={id}, startOffset={start}, endOffset={end}, brokerId={broker}, maxTimestampMs={max_timestamp}, eventTimestampMs={event}, segmentLeaderEpochs={{{}}}, segmentSizeInBytes={size}, customMetadata={custom}, state={}, txnIdxEmpty={empty}}}",
        epochs.join(", "),
        segment_state(state)
    ))
}

fn update(r: &mut Reader) -> Result<String, DecodeError> {
    let id = segment_id(r)?;
    let (broker, event) = (r.get_i32()?, r.get_i64()?);
    let state = r.get_i8()?;
    let (custom, _) = tagged(r)?;
    Ok(format!(
        "RemoteLogSegmentMetadataUpdate{{remoteLogSegmentId={id}, customMetadata={custom}, state={}, eventTimestampMs={event}, brokerId={broker}}}",
        segment_state(state)
    ))
}

fn deletion(r: &mut Reader) -> Result<String, DecodeError> {
    let partition = partition(r)?;
    let (broker, event) = (r.get_i32()?, r.get_i64()?);
    let state = match r.get_i8()? {
        0 => "DELETE_PARTITION_MARKED",
        1 => "DELETE_PARTITION_STARTED",
        2 => "DELETE_PARTITION_FINISHED",
        _ => "null",
    };
    Ok(format!(
        "RemotePartitionDeleteMetadata{{topicPartition={partition}, state={state}, eventTimestampMs={event}, brokerId={broker}}}"
    ))
}

fn segment_id(r: &mut Reader) -> Result<String, DecodeError> {
    let partition = partition(r)?;
    let id = r.get_uuid()?;
    r.skip_tagged_fields()?;
    Ok(format!("RemoteLogSegmentId{{topicIdPartition={partition}, id={id}}}"))
}

fn partition(r: &mut Reader) -> Result<String, DecodeError> {
    let (name, id, partition): (String, Uuid, i32) = (r.get_string(true)?, r.get_uuid()?, r.get_i32()?);
    r.skip_tagged_fields()?;
    Ok(format!("{id}:{name}-{partition}"))
}

/// The plugin's own bytes, and whether the segment has no transaction index.
fn tagged(r: &mut Reader) -> Result<(String, bool), DecodeError> {
    let mut custom = "Optional.empty".to_string();
    let mut empty = false;
    for _ in 0..r.get_uvarint()? {
        let (tag, mut field) = r.get_tagged()?;
        match tag {
            0 => {
                if let Some(bytes) = field.get_nullable_bytes(true)? {
                    custom = format!("Optional[CustomMetadata{{{} bytes}}]", bytes.len());
                }
            }
            1 => empty = field.get_bool()?,
            _ => {}
        }
        r.end_tagged(&field);
    }
    Ok((custom, empty))
}

fn segment_state(state: i8) -> &'static str {
    match state {
        0 => "COPY_SEGMENT_STARTED",
        1 => "COPY_SEGMENT_FINISHED",
        2 => "DELETE_SEGMENT_STARTED",
        3 => "DELETE_SEGMENT_FINISHED",
        _ => "null",
    }
}
