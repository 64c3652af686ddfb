//! The follower's part, and the observer's: it fetches, appends what continues its log, and cuts what the leader's log does not hold.

use bytes::Bytes;
use milena_common::Now;
use milena_protocol::ErrorCode;
use milena_protocol::records::batches;

use super::messages::{Fetch, Fetched, Head, Request};
use super::{Output, RaftCore, Role};
use crate::log::OffsetAndEpoch;

/// What a follower knows.
#[derive(Debug)]
pub(super) struct Following {
    /// By then the leader must have answered; none for an observer.
    pub deadline_ms: Option<u64>,
    /// It answered in this epoch.
    pub has_fetched: bool,
}

impl RaftCore {
    /// Asks for what follows the log, once all of it is on disk: the leader counts what it is told.
    pub(super) fn fetch(&mut self, now: Now) {
        let leader_id = self.state.leader_id;
        if self.durable_end_offset < self.log_end_offset() {
            return;
        }
        self.call(now, leader_id, |core| {
            Request::Fetch(Fetch {
                epoch: core.epoch(),
                replica: core.me(),
                log_end: core.log.end(),
                high_watermark: core.high_watermark,
                max_wait_ms: core.config.timeouts.fetch_max_wait_ms,
            })
        });
    }

    pub(super) fn on_fetched(&mut self, now: Now, from: i32, head: Head, fetched: Fetched) {
        let fetch_ms = self.config.timeouts.fetch_ms;
        let Role::Follower(following) = &mut self.role else { return };
        if head.error != ErrorCode::None {
            return self.back_off(now, from);
        }
        following.has_fetched = true;
        following.deadline_ms = following.deadline_ms.map(|_| now.mono_ms + fetch_ms);
        match fetched {
            Fetched::Records { records, high_watermark } => {
                self.append_fetched(records);
                self.follow_high_watermark(high_watermark);
            }
            Fetched::Diverging(end) => self.truncate(end),
            Fetched::Snapshot(snapshot) => {
                self.back_off(now, from);
                self.out.push(Output::NeedSnapshot { leader_id: from, snapshot });
            }
            Fetched::Nothing => self.back_off(now, from),
        }
    }

    /// Takes the batches that continue the log, up to the first that does not.
    fn append_fetched(&mut self, records: Bytes) {
        let mut taken = 0;
        let mut walk = batches(records.clone());
        while let Some(Ok(batch)) = walk.next() {
            let end = self.log.end();
            let epoch = batch.leader_epoch();
            let continues = batch.base_offset() == end.offset && epoch >= end.epoch && epoch <= self.epoch();
            if !continues || !batch.crc_valid() || batch.last_offset() < batch.base_offset() {
                break;
            }
            self.log.append(epoch, batch.last_offset() + 1);
            taken = walk.position();
        }
        if taken > 0 {
            self.out.push(Output::AppendFetched(records.slice(..taken)));
        }
    }

    fn follow_high_watermark(&mut self, leaders: i64) {
        let known = leaders.min(self.log_end_offset());
        if known > self.high_watermark {
            self.high_watermark = known;
            self.out.push(Output::HighWatermark(known));
        }
    }

    /// The leader's records of that epoch end there: so do the common ones, or where this log's of the epoch end.
    fn truncate(&mut self, leaders_end: OffsetAndEpoch) {
        let own_end = self.log.end_of(leaders_end.epoch);
        let offset = match own_end.epoch == leaders_end.epoch {
            true => own_end.offset.min(leaders_end.offset),
            false => own_end.offset,
        };
        // what is committed is in the log of every leader: one that says otherwise is not believed
        let offset = offset.max(self.high_watermark);
        if offset < self.log_end_offset() {
            self.log.truncate_to(offset);
            self.durable_end_offset = self.durable_end_offset.min(offset);
            self.out.push(Output::TruncateTo(offset));
        }
    }
}
