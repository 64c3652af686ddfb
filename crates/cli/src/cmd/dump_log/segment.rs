//! A segment or a snapshot of the metadata log: its batches, and their records when they are asked for.
//!
//! Reads one batch at a time, so that the size of a file does not matter.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use milena_protocol::records::{BatchView, DecompressLimit, LOG_OVERHEAD, Record, TimestampType};

use super::{Findings, Plan, Printer, absolute, base_offset, decoder, thrown};
use crate::progress;
use crate::tool::Stop;

/// Bytes that hold the magic byte, whatever the format.
const HEAD: usize = 17;
/// The least length a message of the oldest format has.
const LEAST: u64 = 14;

/// The batches of a file from a position on.
pub(crate) struct Batches {
    file: BufReader<File>,
    position: u64,
    end: u64,
}

impl Batches {
    /// Opens the file; at most `max_bytes` of it will be read.
    #[expect(clippy::disallowed_methods, reason = "the tool reads the files that it is pointed at")]
    pub(crate) fn open(path: &Path, max_bytes: u64) -> Result<Batches, Stop> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((size, file)) => Ok(Batches { file: BufReader::new(file), position: 0, end: size.min(max_bytes) }),
            Err(_) => thrown("java.nio.file.NoSuchFileException", path.display()),
        }
    }

    /// Goes on from `position`, to read `max_bytes` at most.
    pub(super) fn seek(&mut self, position: u64, max_bytes: u64, size: u64) -> Result<(), Stop> {
        self.position = position.min(size);
        self.end = size.min(position.saturating_add(max_bytes));
        self.file.seek(SeekFrom::Start(self.position)).or_else(broken)?;
        Ok(())
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The next batch and where it starts; none at the end or before one that is not whole.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, BatchView)>, Stop> {
        let left = self.end.saturating_sub(self.position);
        if left < HEAD as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; HEAD];
        self.file.read_exact(&mut bytes).or_else(broken)?;
        let length = bytes.get(8..12).and_then(|b| b.try_into().ok()).map(i32::from_be_bytes).unwrap_or_default();
        let Some(length) = u64::try_from(length).ok().filter(|length| *length >= LEAST) else {
            return thrown(
                "org.apache.kafka.common.errors.CorruptRecordException",
                format_args!(
                    "Found record size {length} smaller than minimum record overhead (14) in file at position {}.",
                    self.position
                ),
            );
        };
        let size = length + LOG_OVERHEAD as u64;
        if size > left {
            return Ok(None);
        }
        // no larger than the file, whatever the length says
        bytes.resize(size as usize, 0);
        self.file.read_exact(&mut bytes[HEAD..]).or_else(broken)?;
        let position = self.position;
        self.position += size;
        match BatchView::parse(&Bytes::from(bytes)) {
            Ok(batch) => Ok(Some((position, batch))),
            Err(error) => thrown("org.apache.kafka.common.errors.CorruptRecordException", error),
        }
    }
}

fn broken<T>(error: std::io::Error) -> Result<T, Stop> {
    thrown("java.io.IOException", error)
}

/// The records of a batch, as far as they can be read.
pub(crate) fn records(batch: &BatchView) -> Result<Vec<Record>, Stop> {
    let read = batch.records(DecompressLimit::default()).and_then(Iterator::collect);
    read.or_else(|error| thrown("org.apache.kafka.common.InvalidRecordException", error))
}

pub(super) fn dump(
    plan: &Plan,
    path: &Path,
    name: &str,
    printer: &mut Printer,
    findings: &mut Findings,
) -> Result<(), Stop> {
    if name.ends_with(".log") {
        printer.line(format_args!("Log starting offset: {}", base_offset(name)?));
    } else if name == "bootstrap.checkpoint" {
        printer.line("KRaft bootstrap snapshot");
    } else if let Some((offset, epoch)) = snapshot_id(name) {
        printer.line(format_args!("Snapshot end offset: {offset}, epoch: {epoch}"));
    }
    let mut batches = Batches::open(path, plan.max_bytes)?;
    let bar = progress::bar(batches.end(), "bytes");
    let mut valid_bytes = 0;
    let mut last_offset = -1;
    while let Some((position, batch)) = batches.next()? {
        valid_bytes = position + batch.size_in_bytes() as u64;
        bar.set_position(valid_bytes);
        printer.line(headline(&batch, position));
        if !plan.deep {
            continue;
        }
        for (index, record) in (0..).zip(records(&batch)?) {
            if record.offset != last_offset + 1 {
                findings.gaps.entry(absolute(path)).or_default().push((last_offset, record.offset));
            }
            last_offset = record.offset;
            let (line, end) = record_line(plan, &batch, &record, index);
            printer.text(line);
            // what is known of a record is shown before it fails
            end?;
            printer.line("");
        }
    }
    bar.finish_and_clear();
    let trailing = batches.end() - valid_bytes;
    if trailing > 0 && plan.max_bytes == i32::MAX as u64 {
        printer.line(format_args!("Found {trailing} invalid bytes at the end of {name}"));
    }
    Ok(())
}

fn headline(batch: &BatchView, position: u64) -> String {
    let start = if batch.is_legacy() {
        format!("offset: {}", batch.last_offset())
    } else {
        let horizon = batch.delete_horizon_ms().map_or("empty".to_string(), |ms| format!("[{ms}]"));
        let horizon = if horizon == "empty" { ".empty".into() } else { horizon };
        format!(
            "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: OptionalLong{horizon}",
            batch.base_offset(),
            batch.last_offset(),
            batch.record_count(),
            batch.base_sequence(),
            batch.last_sequence(),
            batch.producer_id(),
            batch.producer_epoch(),
            batch.leader_epoch(),
            batch.is_transactional(),
            batch.is_control(),
        )
    };
    format!(
        "{start} position: {position} {}: {} size: {} magic: {} compresscodec: {} crc: {} isvalid: {}",
        time_name(batch),
        batch.max_timestamp(),
        batch.size_in_bytes(),
        batch.magic(),
        batch.compression().map_or("unknown", |codec| codec.name()),
        batch.crc(),
        batch.crc_valid(),
    )
}

fn time_name(batch: &BatchView) -> &'static str {
    match (batch.magic(), batch.timestamp_type()) {
        (0, _) => "NoTimestampType",
        (_, TimestampType::CreateTime) => "CreateTime",
        (_, TimestampType::LogAppendTime) => "LogAppendTime",
    }
}

fn record_line(plan: &Plan, batch: &BatchView, record: &Record, index: i64) -> (String, Result<(), Stop>) {
    let mut line = String::new();
    if !plan.skip_metadata {
        let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or("-1".to_string(), |bytes| bytes.len().to_string());
        line.push_str(&format!(
            "| offset: {} {}: {} keySize: {} valueSize: {}",
            record.offset,
            time_name(batch),
            record.timestamp,
            size(&record.key),
            size(&record.value)
        ));
        if batch.is_legacy() {
            line.push_str(&format!(" isValid: {} crc: {}}}", batch.crc_valid(), batch.crc()));
        } else {
            let keys: Vec<_> = record.headers.iter().map(|(key, _)| String::from_utf8_lossy(key)).collect();
            let sequence = match batch.base_sequence() {
                -1 => -1,
                base => ((i64::from(base) + index) & i64::from(i32::MAX)) as i32,
            };
            line.push_str(&format!(" sequence: {sequence} headerKeys: [{}]", keys.join(",")));
        }
        if batch.is_control() {
            line.push_str(&decoder::control(record));
        }
    }
    if plan.contents && !batch.is_control() {
        let shown = match plan.decoder.show(record) {
            Ok(shown) => shown,
            Err(stop) => return (line, Err(stop)),
        };
        for (name, text) in [("key: ", shown.key), ("payload: ", shown.payload)] {
            if let Some(text) = text {
                line.push_str(if line.is_empty() { "| " } else { " " });
                line.push_str(name);
                line.push_str(&text);
            }
        }
    }
    (line, Ok(()))
}

/// End offset and epoch out of the name of a snapshot.
fn snapshot_id(name: &str) -> Option<(i64, i32)> {
    let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
    Some((offset.parse().ok()?, epoch.parse().ok()?))
}
