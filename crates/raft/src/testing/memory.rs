//! `RaftLog` and `QuorumStateStore` in memory; what is durable is moved by hand or follows at once.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use milena_common::Now;
use milena_protocol::records::{BatchView, batches};

use crate::log::{LogListener, LogNews, OffsetAndEpoch, RaftLog, RaftLogError, SnapshotFile};

#[derive(Default)]
struct State {
    start: i64,
    end: i64,
    durable: i64,
    batches: Vec<BatchView>,
    snapshots: BTreeMap<OffsetAndEpoch, Bytes>,
    listeners: Vec<LogListener>,
    lazy: bool,
    broken: bool,
}

/// A log in memory. Clones share it, so that it survives the node that used it.
#[derive(Clone, Default)]
pub struct MemoryLog {
    state: Arc<Mutex<State>>,
}

impl MemoryLog {
    /// Everything is durable at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing becomes durable before `sync`.
    pub fn lazy() -> Self {
        let log = Self::default();
        log.lock().lazy = true;
        log
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything durable and tells the listeners.
    pub fn sync(&self) {
        let (listeners, end) = {
            let mut state = self.lock();
            state.durable = state.end;
            (state.listeners.clone(), state.end)
        };
        listeners.iter().for_each(|listener| listener(LogNews::Durable(end)));
    }

    /// Loses what is not durable, as a crash does.
    pub fn crash(&self) {
        let durable = self.lock().durable;
        let _ = self.truncate_to(durable);
    }

    /// Every write fails from now on.
    pub fn break_down(&self) {
        self.lock().broken = true;
    }
}

impl RaftLog for MemoryLog {
    fn start_offset(&self) -> i64 {
        self.lock().start
    }

    fn end_offset(&self) -> i64 {
        self.lock().end
    }

    fn durable_end_offset(&self) -> i64 {
        self.lock().durable
    }

    fn epochs(&self) -> Vec<(i32, i64)> {
        let mut epochs: Vec<(i32, i64)> = Vec::new();
        for batch in &self.lock().batches {
            if epochs.last().is_none_or(|(epoch, _)| *epoch < batch.leader_epoch()) {
                epochs.push((batch.leader_epoch(), batch.base_offset()));
            }
        }
        epochs
    }

    fn append(&self, batch: Bytes, _now: Now) -> Result<(), RaftLogError> {
        let listeners = {
            let mut state = self.lock();
            if state.broken {
                return Err(RaftLogError::Storage("broken by the test".to_owned()));
            }
            for view in batches(batch) {
                let view = view.map_err(|error| RaftLogError::Storage(error.to_string()))?;
                if view.base_offset() != state.end {
                    let (found, end) = (view.base_offset(), state.end);
                    return Err(RaftLogError::Storage(format!("batch at {found} does not continue the log at {end}")));
                }
                state.end = view.next_offset();
                state.batches.push(view);
            }
            if state.lazy { Vec::new() } else { state.listeners.clone() }
        };
        if !listeners.is_empty() || !self.lock().lazy {
            self.sync();
        }
        Ok(())
    }

    fn read(&self, from: i64, up_to: i64, max_bytes: usize) -> Result<Bytes, RaftLogError> {
        let state = self.lock();
        if from < state.start || from > state.end {
            return Err(RaftLogError::OutOfRange { offset: from, start: state.start, end: state.end });
        }
        let mut bytes: Vec<u8> = Vec::new();
        for view in state.batches.iter().filter(|b| b.last_offset() >= from && b.last_offset() < up_to) {
            if !bytes.is_empty() && bytes.len() + view.size_in_bytes() > max_bytes {
                break;
            }
            bytes.extend_from_slice(view.bytes());
        }
        Ok(bytes.into())
    }

    fn truncate_to(&self, offset: i64) -> Result<(), RaftLogError> {
        let mut state = self.lock();
        state.batches.retain(|b| b.last_offset() < offset);
        state.end = state.batches.last().map_or(state.start, BatchView::next_offset);
        state.durable = state.durable.min(state.end);
        Ok(())
    }

    fn truncate_fully_and_start_at(&self, offset: i64) -> Result<(), RaftLogError> {
        let mut state = self.lock();
        state.batches.clear();
        (state.start, state.end, state.durable) = (offset, offset, offset);
        Ok(())
    }

    fn advance_start_offset(&self, offset: i64) -> Result<(), RaftLogError> {
        let mut state = self.lock();
        state.start = state.start.max(offset.min(state.end));
        let start = state.start;
        state.batches.retain(|b| b.last_offset() >= start);
        Ok(())
    }

    fn size_in_bytes(&self) -> u64 {
        self.lock().batches.iter().map(|b| b.size_in_bytes() as u64).sum()
    }

    fn set_listener(&self, listener: LogListener) {
        self.lock().listeners.push(listener);
    }

    fn set_high_watermark(&self, _offset: i64) {}

    fn snapshots(&self) -> Result<Vec<SnapshotFile>, RaftLogError> {
        let state = self.lock();
        Ok(state.snapshots.iter().map(|(&id, bytes)| SnapshotFile { id, size_in_bytes: bytes.len() as u64 }).collect())
    }

    fn read_snapshot(&self, id: OffsetAndEpoch) -> Result<Bytes, RaftLogError> {
        let missing = || RaftLogError::Storage(format!("no snapshot {}", id.snapshot_file_name()));
        self.lock().snapshots.get(&id).cloned().ok_or_else(missing)
    }

    fn write_snapshot(&self, id: OffsetAndEpoch, content: &[Bytes]) -> Result<(), RaftLogError> {
        self.lock().snapshots.insert(id, content.concat().into());
        Ok(())
    }

    fn delete_snapshot(&self, id: OffsetAndEpoch) -> Result<(), RaftLogError> {
        self.lock().snapshots.remove(&id);
        Ok(())
    }
}

/// A vote file in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryVotes {
    content: Arc<Mutex<Option<String>>>,
}

impl crate::QuorumStateStore for MemoryVotes {
    fn read(&self) -> io::Result<Option<String>> {
        Ok(self.content.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn write(&self, content: &str) -> io::Result<()> {
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) = Some(content.to_owned());
        Ok(())
    }
}
