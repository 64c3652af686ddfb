//! Message sets of magic 0 and 1, as producers before Kafka 0.11 send them, made into one magic 2 batch.
//!
//! Owns the rules that differ from magic 2's: a set is many messages, each with its own checksum, some of them
//! compressed message sets themselves. Offsets that such producers wrote are not looked at (many wrote them wrongly);
//! their order is. Called by [`super::validate_and_assign`].

use bytes::Bytes;
use milena_protocol::records::legacy::{self, InnerChecksums};
use milena_protocol::records::{
    BatchBuilder, Compression, DecompressLimit, NO_TIMESTAMP, RecordsError, TimestampType, batches,
};

use super::{
    Append, MAX_REWRITTEN_BYTES, RecordChecks, Rules, Stamped, StampedHeader, TargetCompression, ValidateError,
    Validated, check_segment, check_size, log_append_time, malformed, unreadable,
};

/// Checks a message set and writes it as a batch. Like Kafka's, but several compressed messages are taken too.
pub(super) fn up_convert(set: &Bytes, rules: &Rules, append: &Append) -> Result<Validated, ValidateError> {
    let (magic, source) = survey(set, rules)?;
    let (codec, level) = match rules.compression {
        TargetCompression::Producer => (source, None),
        TargetCompression::Codec(codec, level) => (codec, level),
    };
    let append_time = log_append_time(rules, append);
    let mut builder = BatchBuilder::new(codec).with_level(level).with_leader_epoch(append.leader_epoch);
    if let Some(now_ms) = append_time {
        builder = builder.with_log_append_time(now_ms);
    }
    let mut checks = RecordChecks::new(rules, append);
    let mut newest = (NO_TIMESTAMP, 0);
    let mut index = 0;
    for message in batches(set.clone()) {
        let message = message.map_err(malformed)?;
        if message.magic() != magic {
            return Err(ValidateError::invalid(format!(
                "a message of magic {} in a set that begins with magic {magic}",
                message.magic()
            )));
        }
        let limit = DecompressLimit(MAX_REWRITTEN_BYTES.saturating_sub(builder.uncompressed_size()));
        let appended = message.timestamp_type() == TimestampType::LogAppendTime;
        let records = legacy::records(&message, limit, InnerChecksums::Check).map_err(|error| match error {
            damaged @ RecordsError::Crc { .. } => malformed(damaged),
            other => unreadable(other),
        })?;
        for record in records {
            let record = record.map_err(unreadable)?;
            checks.check(index, record.timestamp, record.key.is_some(), appended);
            if record.timestamp > newest.0 {
                newest = (record.timestamp, index);
            }
            builder
                .append(record.timestamp, record.key.as_deref(), record.value.as_deref(), &[])
                .map_err(unreadable)?;
            index += 1;
        }
    }
    checks.finish()?;

    let header = StampedHeader {
        first_offset: append.next_offset,
        last_offset: append.next_offset.saturating_add(i64::from(index) - 1),
        max_timestamp: builder.max_timestamp(),
        record_count: index,
        compression: codec,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        last_sequence: -1,
        is_transactional: false,
        is_control: false,
    };
    let bytes = builder.build(append.next_offset).map_err(unreadable)?;
    check_size(bytes.len(), rules)?;
    check_segment(bytes.len(), rules)?;
    Ok(Validated {
        records: Stamped::whole(bytes),
        header,
        log_append_time_ms: append_time,
        offset_of_max_timestamp: match append_time {
            Some(_) => append.next_offset,
            None => append.next_offset.saturating_add(i64::from(newest.1)),
        },
        rewritten: true,
    })
}

/// Checks the messages as they lie and tells the set's magic and codec (of its last compressed message).
fn survey(set: &Bytes, rules: &Rules) -> Result<(i8, Compression), ValidateError> {
    let mut walk = batches(set.clone());
    let (mut magic, mut source) = (0, Compression::None);
    for message in walk.by_ref() {
        let message = message.map_err(malformed)?;
        check_size(message.size_in_bytes(), rules)?;
        message.ensure_crc().map_err(malformed)?;
        magic = message.magic();
        match message.compression().map_err(malformed)? {
            Compression::None => {}
            codec => source = codec,
        }
    }
    if walk.remaining() > 0 {
        return Err(malformed(RecordsError::Truncated));
    }
    Ok((magic, source))
}
