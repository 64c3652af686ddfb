//! Questions about offsets: by timestamp, by leader epoch, and raising the log start.

use std::sync::Arc;
use std::time::Duration;

use milena_common::TopicPartition;
use milena_log::TimestampOffset;
use tokio::time::timeout;

use crate::error::ReplicaError;
use crate::fetch::Isolation;
use crate::purgatory::{Waiter, Watched};
use crate::replica::Replica;
use crate::replica_manager::{ReplicaManager, is_internal};

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// Where the records begin.
    Earliest,
    /// Where the reader's records end.
    Latest,
    /// Of the first record with the largest timestamp.
    MaxTimestamp,
    /// Where the records on this broker's disk begin.
    EarliestLocal,
    /// Of the last record in remote storage.
    LatestTiered,
    /// Of the first record that remote storage lacks.
    EarliestPendingUpload,
    /// Of the first record at this time, in milliseconds, or later.
    Timestamp(i64),
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct OffsetQuery {
    /// -1 if the client knows none.
    pub current_leader_epoch: i32,
    /// Only the leader may answer.
    pub must_lead: bool,
    pub isolation: Isolation,
}

impl ReplicaManager {
    /// Finds an offset; none if no record is like that.
    ///
    /// # Errors
    /// Not the leader, another epoch, or the log cannot be read.
    pub fn offset_for(
        &self,
        partition: &TopicPartition,
        spec: OffsetSpec,
        query: &OffsetQuery,
    ) -> Result<Option<TimestampOffset>, ReplicaError> {
        let replica = self.find(partition)?;
        replica.check_leader(query.current_leader_epoch, query.must_lead)?;
        let log = replica.log();
        let at = |offset: i64, leader_epoch: Option<i32>| TimestampOffset { timestamp: -1, offset, leader_epoch };
        let found = match spec {
            OffsetSpec::Latest => {
                return Ok(Some(at(replica.readable_end(query.isolation)?, Some(replica.leader_epoch()))));
            }
            OffsetSpec::Earliest | OffsetSpec::EarliestLocal => {
                let start = log.log_start_offset();
                let first = log.epochs().into_iter().next().filter(|first| first.start_offset <= start);
                return Ok(Some(at(start, first.map(|first| first.epoch))));
            }
            OffsetSpec::LatestTiered | OffsetSpec::EarliestPendingUpload => return Ok(Some(at(-1, None))),
            OffsetSpec::MaxTimestamp => log.offset_for_max_timestamp()?,
            OffsetSpec::Timestamp(timestamp) => log.offset_for_timestamp(timestamp)?,
        };
        let Some(found) = found else { return Ok(None) };
        match replica.readable_end(query.isolation) {
            Ok(end) => Ok(Some(found).filter(|found| found.offset < end)),
            // what is committed in any case may be told
            Err(_) if found.offset < log.high_watermark() => Ok(Some(found)),
            Err(error) => Err(error),
        }
    }

    /// As clients of before 2016 ask: the ends of segments written before `timestamp`, newest first, at most `max`.
    ///
    /// # Errors
    /// Not the leader.
    pub fn offsets_before(
        &self,
        partition: &TopicPartition,
        timestamp: i64,
        max: usize,
        query: &OffsetQuery,
    ) -> Result<Vec<i64>, ReplicaError> {
        let replica = self.find(partition)?;
        replica.check_leader(query.current_leader_epoch, query.must_lead)?;
        let log = replica.log();
        let mut times = log.segment_times();
        let log_end = log.log_end_offset();
        if times.last().is_some_and(|(base, _)| *base < log_end) {
            times.push((log_end, self.now().wall_ms));
        }
        let upto = match timestamp {
            -1 => times.len(),
            -2 => 1,
            timestamp => times.iter().rposition(|(_, written)| *written <= timestamp).map_or(0, |i| i + 1),
        };
        let end = match query.isolation {
            Isolation::LogEnd => log_end,
            _ => log.high_watermark(),
        };
        let mut offsets: Vec<i64> =
            times.iter().take(upto).rev().take(max).map(|(offset, _)| (*offset).min(end)).collect();
        offsets.dedup();
        Ok(offsets)
    }

    /// The largest leader epoch at or below `epoch`, and where it ends; (-1, -1) if that is not known.
    ///
    /// # Errors
    /// Not the leader, or another epoch.
    pub fn end_offset_for_epoch(
        &self,
        partition: &TopicPartition,
        current_leader_epoch: i32,
        epoch: i32,
    ) -> Result<(i32, i64), ReplicaError> {
        let replica = self.find(partition)?;
        replica.check_leader(current_leader_epoch, true)?;
        Ok(replica.log().end_offset_for_epoch(epoch))
    }

    /// DeleteRecords: raises the log starts, and waits until every replica has done so, at most `timeout_ms`. The low watermarks.
    pub async fn delete_records(
        &self,
        parts: Vec<(TopicPartition, i64)>,
        timeout_ms: u64,
    ) -> Vec<Result<i64, ReplicaError>> {
        let mut waiting: Vec<(usize, i64, Arc<Replica>)> = Vec::new();
        let mut results: Vec<Result<i64, ReplicaError>> = Vec::with_capacity(parts.len());
        for (index, (partition, offset)) in parts.iter().enumerate() {
            let deleted = match is_internal(&partition.topic) {
                true => Err(ReplicaError::InternalTopic(partition.topic.to_string())),
                false => self.find(partition),
            };
            let deleted = deleted.and_then(|replica| {
                let target = replica.delete_records(*offset)?;
                waiting.push((index, target, replica));
                Ok(-1)
            });
            results.push(deleted);
        }
        let waiter = Waiter::new(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        for (index, target, replica) in &waiting {
            if !replica.wait_for(Watched::LowWatermark, *target, *index, &waiter) {
                waiter.arrived(1);
            }
        }
        let _ = timeout(Duration::from_millis(timeout_ms), waiter.ready()).await;
        waiter.finish();
        for (index, target, replica) in waiting {
            let low = replica.low_watermark();
            if let Some(result) = results.get_mut(index) {
                *result = if low >= target { Ok(low) } else { Err(ReplicaError::TimedOut) };
            }
        }
        for (index, error) in waiter.take_failures() {
            if let Some(result) = results.get_mut(index) {
                *result = Err(error);
            }
        }
        results
    }
}
