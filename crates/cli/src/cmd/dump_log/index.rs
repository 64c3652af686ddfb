//! The files beside a segment: offset, time and transaction index, and snapshots of producers.
//!
//! Reads the formats as they lie on disk; entries are compared with the log they point into.

use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use milena_protocol::records::{NO_TIMESTAMP, crc32c};

use super::segment::{Batches, records};
use super::{Findings, Plan, Printer, absolute, base_offset, thrown};
use crate::tool::{Stop, err};

const CORRUPT: &str = "org.apache.kafka.storage.internals.log.CorruptIndexException";
const OFFSET_ENTRY: usize = 8;
const TIME_ENTRY: usize = 12;
const TRANSACTION_ENTRY: usize = 34;
const PRODUCER_ENTRY: usize = 46;
const PRODUCER_HEADER: usize = 10;

#[expect(clippy::disallowed_methods, reason = "the tool reads the files that it is pointed at")]
fn read(path: &Path) -> Result<Bytes, Stop> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(_) => thrown("java.nio.file.NoSuchFileException", path.display()),
    }
}

/// The segment that an index belongs to, and its size.
fn log_of(path: &Path, name: &str) -> Result<(Batches, u64, PathBuf), Stop> {
    let base = name.split('.').next().unwrap_or_default();
    let log = path.with_file_name(format!("{base}.log"));
    let batches = Batches::open(&log, u64::MAX)?;
    let size = batches.end();
    Ok((batches, size, log))
}

/// Relative offsets and positions.
fn offset_entries(mut bytes: Bytes) -> Vec<(i64, u64)> {
    let mut entries = Vec::new();
    while bytes.remaining() >= OFFSET_ENTRY {
        entries.push((i64::from(bytes.get_u32()), u64::from(bytes.get_u32())));
    }
    entries
}

fn corrupt<T>(path: &Path, size: usize, entry: usize) -> Result<T, Stop> {
    thrown(
        CORRUPT,
        format_args!(
            "Index file {} is corrupt, found {size} bytes which is neither positive nor a multiple of {entry}.",
            absolute(path)
        ),
    )
}

pub(super) fn offsets(
    plan: &Plan,
    path: &Path,
    name: &str,
    printer: &mut Printer,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let base = base_offset(name)?;
    let (mut batches, size, _) = log_of(path, name)?;
    let bytes = read(path)?;
    if bytes.is_empty() {
        printer.line(format_args!("{} is empty.", path.display()));
        return Ok(());
    }
    let whole = bytes.len().is_multiple_of(OFFSET_ENTRY);
    let entries = offset_entries(bytes.clone());
    if plan.sanity_only {
        if !whole {
            return corrupt(path, bytes.len(), OFFSET_ENTRY);
        }
        printer.line(format_args!("{} passed sanity check.", path.display()));
        return Ok(());
    }
    for (index, (relative, position)) in entries.into_iter().enumerate() {
        let offset = base + relative;
        // what was made ready for later entries is zeros
        if offset == base && index > 0 {
            return Ok(());
        }
        batches.seek(position, plan.max_message_size, size)?;
        let found = batches.next()?.map_or(-1, |(_, batch)| batch.last_offset());
        if found != offset {
            findings.mismatches.entry(absolute(path)).or_default().push((offset, found));
        }
        if !plan.verify_only {
            printer.line(format_args!("offset: {offset} position: {position}"));
        }
    }
    Ok(())
}

pub(super) fn times(
    plan: &Plan,
    path: &Path,
    name: &str,
    printer: &mut Printer,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let base = base_offset(name)?;
    let (mut batches, size, _) = log_of(path, name)?;
    let offsets_path = path.with_file_name(format!("{}.index", name.split('.').next().unwrap_or_default()));
    // without the other index the log is read from its beginning
    let offset_index = read(&offsets_path).map(offset_entries).unwrap_or_default();
    let mut bytes = read(path)?;
    if bytes.is_empty() {
        printer.line(format_args!("{} is empty.", path.display()));
        return Ok(());
    }
    if plan.sanity_only {
        if !bytes.len().is_multiple_of(TIME_ENTRY) {
            return corrupt(path, bytes.len(), TIME_ENTRY);
        }
        let time = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, i64::from_be_bytes);
        let (first, last) = (time(0), time(bytes.len() - TIME_ENTRY));
        if last < first {
            return thrown(
                CORRUPT,
                format_args!(
                    "Corrupt time index found, time index file ({}) has non-zero size but the last timestamp is {last} which is less than the first timestamp {first}",
                    absolute(path)
                ),
            );
        }
        printer.line(format_args!("{} passed sanity check.", path.display()));
        return Ok(());
    }
    let file = absolute(path);
    let mut before = NO_TIMESTAMP;
    let mut first = true;
    while bytes.remaining() >= TIME_ENTRY {
        let (timestamp, relative) = (bytes.get_i64(), i64::from(bytes.get_u32()));
        let offset = base + relative;
        if relative == 0 && !first {
            return Ok(());
        }
        first = false;
        let position = offset_index
            .iter()
            .take_while(|(known, position)| *known <= relative && (*known > 0 || *position == 0))
            .last()
            .map_or(0, |(_, position)| *position);
        batches.seek(position, u64::MAX, size)?;
        let mut found = None;
        while let Some((_, batch)) = batches.next()? {
            if batch.last_offset() >= offset {
                found = Some(batch);
                break;
            }
        }
        match found {
            Some(batch) if batch.last_offset() == offset => {
                let latest = records(&batch)?.iter().map(|record| record.timestamp).max().unwrap_or(NO_TIMESTAMP);
                if latest != timestamp {
                    findings.wrong_times.entry(file.clone()).or_default().push((timestamp, latest));
                }
                if before >= timestamp {
                    findings.unordered_times.entry(file.clone()).or_default().push((timestamp, before));
                }
            }
            other => {
                let log = other.map_or(-1, |batch| batch.last_offset());
                findings.missing_offsets.entry(file.clone()).or_default().push((offset, log));
            }
        }
        if !plan.verify_only {
            printer.line(format_args!("timestamp: {timestamp} offset: {offset}"));
        }
        before = timestamp;
    }
    Ok(())
}

pub(super) fn transactions(plan: &Plan, path: &Path, name: &str, printer: &mut Printer) -> Result<(), Stop> {
    base_offset(name)?;
    let mut bytes = read(path)?;
    if plan.sanity_only {
        printer.line(format_args!("{} passed sanity check.", path.display()));
        return Ok(());
    }
    while bytes.remaining() >= TRANSACTION_ENTRY {
        let version = bytes.get_i16();
        let [producer, first, last, stable] = [(); 4].map(|()| bytes.get_i64());
        printer.line(format_args!(
            "version: {version} producerId: {producer} firstOffset: {first} lastOffset: {last} lastStableOffset: {stable}"
        ));
    }
    Ok(())
}

pub(super) fn producers(path: &Path, printer: &mut Printer) -> Result<(), Stop> {
    let bytes = read(path)?;
    let wrong = |reason: &str| {
        err(format_args!("{reason}\n"));
        Ok(())
    };
    if bytes.len() < PRODUCER_HEADER {
        return wrong("Snapshot failed schema validation: ");
    }
    let mut rest = bytes.clone();
    let version = rest.get_i16();
    if version != 1 {
        return wrong(&format!("Snapshot contained an unknown file version {version}"));
    }
    let stored = rest.get_u32();
    let computed = crc32c(bytes.get(6..).unwrap_or_default());
    if stored != computed {
        return wrong(&format!(
            "Snapshot is corrupt (CRC is no longer valid). Stored crc: {stored}. Computed crc: {computed}"
        ));
    }
    let _count = rest.get_i32();
    while rest.remaining() >= PRODUCER_ENTRY {
        let (producer, epoch) = (rest.get_i64(), rest.get_i16());
        let (last_sequence, last_offset, delta) = (rest.get_i32(), rest.get_i64(), rest.get_i32());
        let (timestamp, coordinator_epoch, open) = (rest.get_i64(), rest.get_i32(), rest.get_i64());
        let open = if open < 0 { ".empty".to_string() } else { format!("[{open}]") };
        let mut line = format!(
            "producerId: {producer} producerEpoch: {epoch} coordinatorEpoch: {coordinator_epoch} currentTxnFirstOffset: OptionalLong{open} lastTimestamp: {timestamp} "
        );
        if last_offset >= 0 {
            let first_sequence = last_sequence.wrapping_sub(delta) & i32::MAX;
            line.push_str(&format!(
                "firstSequence: {first_sequence} lastSequence: {last_sequence} lastOffset: {last_offset} offsetDelta: {delta} timestamp: {timestamp}"
            ));
        }
        printer.line(line);
    }
    Ok(())
}
