//! Decides for one fetcher: which partitions are asked for next, from where, and what an answer means for each.
//!
//! Pure: metadata, answers and the time go in; requests and [`Step`]s come out. The driver carries the steps out on the logs and says
//! how far they are then. A partition is asked for only when all that was given of it is durable here: its offset is what the leader
//! counts, and under `log.ack.durability=fsync` that must stand on the disk.
//!
//! A leader that finds another log at the follower says where they part (KIP-595); every leader of a KRaft cluster can, so
//! OffsetForLeaderEpoch is not asked. An offset out of range is resolved by the ends of the leader's log.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use milena_common::{Now, TopicPartition, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages::fetch_response::PartitionData;
use milena_protocol::messages::{FetchRequest, FetchResponse};

use super::session::{ClientSession, Wanted};
use crate::replica::{Cut, LeaderData};

/// The first wait after a failure is the longest halved so often.
const FIRST_BACKOFF_SHIFT: u32 = 5;

/// Wait of a fetcher whose partitions all exceed their quota.
const HELD_BACK_MS: u64 = 100;

/// How far a follower's log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogPosition {
    pub log_end: i64,
    /// The leader epoch of the last batch; -1 if the log is empty or too old to tell.
    pub last_epoch: i32,
    pub log_start: i64,
    pub high_watermark: i64,
}

/// How a fetcher asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FetchLimits {
    pub replica_id: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
    pub backoff_ms: u64,
}

/// What the driver does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Waits until these logs are durable up to there, and tells.
    Sync(Vec<(TopicPartition, i64)>),
    /// Cuts these logs first, and tells.
    Cut(Vec<Step>),
    /// Asks the leader where these logs begin and end.
    Ends(Vec<Asked>),
    Fetch(FetchRequest),
    /// Nothing to do before this time, in milliseconds of the monotonic clock, or before something changes.
    Wait(Option<u64>),
}

/// A partition that was asked for, and in which epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub partition: TopicPartition,
    pub leader_epoch: i32,
}

/// What is to be done with one log.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Append(TopicPartition, LeaderData),
    Cut { partition: TopicPartition, leader_epoch: i32, cut: Cut },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A log without epochs cannot be compared: only what is committed is sure to be the leader's.
    TooOld,
    Fetching,
    /// The leader has nothing at this offset.
    OutOfRange,
    /// The leader knows a newer epoch: metadata will say which.
    Fenced,
}

#[derive(Debug)]
struct Followed {
    topic_id: Uuid,
    leader_epoch: i32,
    position: LogPosition,
    /// All of the log is.
    durable: bool,
    stage: Stage,
    not_before_ms: u64,
    /// One after the other.
    failures: u32,
    /// The leader had nothing more when it was asked last.
    caught_up: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FetcherCore {
    limits: FetchLimits,
    followed: BTreeMap<TopicPartition, Followed>,
    names: HashMap<(Uuid, i32), TopicPartition>,
    session: ClientSession,
    /// What the request that is on its way asked for: epochs and offsets.
    asked: HashMap<TopicPartition, (i32, i64)>,
}

impl FetcherCore {
    pub fn new(limits: FetchLimits) -> FetcherCore {
        FetcherCore {
            limits,
            followed: BTreeMap::new(),
            names: HashMap::new(),
            session: ClientSession::default(),
            asked: HashMap::new(),
        }
    }

    /// Follows the leader in this epoch from where the log ends.
    pub fn follow(&mut self, partition: TopicPartition, topic_id: Uuid, leader_epoch: i32, position: LogPosition) {
        self.unfollow(&partition);
        self.names.insert((topic_id, partition.partition), partition.clone());
        let stage = match position.last_epoch < 0 && position.log_end > position.high_watermark {
            true => Stage::TooOld,
            false => Stage::Fetching,
        };
        let followed = Followed {
            topic_id,
            leader_epoch,
            position,
            durable: false,
            stage,
            not_before_ms: 0,
            failures: 0,
            caught_up: false,
        };
        self.followed.insert(partition, followed);
    }

    /// Whether it was followed.
    pub fn unfollow(&mut self, partition: &TopicPartition) -> bool {
        let Some(gone) = self.followed.remove(partition) else { return false };
        self.names.remove(&(gone.topic_id, partition.partition));
        self.asked.remove(partition);
        true
    }

    pub fn is_empty(&self) -> bool {
        self.followed.is_empty()
    }

    /// What to do now. Only one request is on its way at a time. `is_held_back`: a partition that would exceed its quota, unless it has
    /// all its leader has.
    pub fn next(&mut self, now: Now, is_held_back: &dyn Fn(&TopicPartition) -> bool) -> Next {
        let ready = |f: &Followed| f.stage != Stage::Fenced && f.not_before_ms <= now.mono_ms;
        let unsynced = self.followed.iter().filter(|(_, f)| !f.durable && ready(f));
        let unsynced: Vec<_> = unsynced.map(|(partition, f)| (partition.clone(), f.position.log_end)).collect();
        if !unsynced.is_empty() {
            return Next::Sync(unsynced);
        }
        let too_old = self.followed.iter().filter(|(_, f)| f.stage == Stage::TooOld && ready(f));
        let too_old: Vec<_> = too_old
            .map(|(partition, f)| Step::Cut {
                partition: partition.clone(),
                leader_epoch: f.leader_epoch,
                cut: Cut::ToHighWatermark,
            })
            .collect();
        if !too_old.is_empty() {
            return Next::Cut(too_old);
        }
        let lost = self.followed.iter().filter(|(_, f)| f.stage == Stage::OutOfRange && ready(f));
        let lost: Vec<_> =
            lost.map(|(partition, f)| Asked { partition: partition.clone(), leader_epoch: f.leader_epoch }).collect();
        if !lost.is_empty() {
            return Next::Ends(lost);
        }
        let in_turn = || self.followed.iter().filter(|(_, f)| f.stage == Stage::Fetching && ready(f));
        let fetching: Vec<_> = in_turn().filter(|(partition, f)| f.caught_up || !is_held_back(partition)).collect();
        if fetching.is_empty() && in_turn().next().is_some() {
            return Next::Wait(Some(now.mono_after(HELD_BACK_MS)));
        }
        if fetching.is_empty() {
            let pending = self.followed.values().filter(|f| f.stage != Stage::Fenced);
            return Next::Wait(pending.map(|f| f.not_before_ms).min());
        }
        let wanted = fetching.iter().map(|(partition, f)| Wanted {
            topic_id: f.topic_id,
            topic: partition.topic.clone(),
            partition: partition.partition,
            leader_epoch: f.leader_epoch,
            fetch_offset: f.position.log_end,
            last_fetched_epoch: f.position.last_epoch,
            log_start_offset: f.position.log_start,
            high_watermark: f.position.high_watermark,
            max_bytes: self.limits.partition_max_bytes,
        });
        let wanted: Vec<Wanted> = wanted.collect();
        self.asked = fetching.into_iter().map(|(p, f)| (p.clone(), (f.leader_epoch, f.position.log_end))).collect();
        let mut request = self.session.request(wanted);
        let limits = &self.limits;
        request.replica_state.replica_id = limits.replica_id;
        request.max_wait_ms = limits.max_wait_ms;
        request.min_bytes = limits.min_bytes;
        request.max_bytes = limits.max_bytes;
        Next::Fetch(request)
    }

    /// No answer came, or none that can be read.
    pub fn on_no_answer(&mut self, now: Now) {
        self.session.on_no_answer();
        for partition in std::mem::take(&mut self.asked).into_keys() {
            self.back_off(&partition, now);
        }
    }

    /// What the leader answered. The steps are carried out in order.
    pub fn on_answer(&mut self, response: FetchResponse, now: Now) -> Vec<Step> {
        let code = ErrorCode::from_code(response.error_code);
        self.session.on_answer(code, response.session_id);
        let asked = std::mem::take(&mut self.asked);
        if code != ErrorCode::None {
            // a session that is gone is made anew at once; whatever else it is, it needs time
            if !ClientSession::is_about_session(code) {
                asked.keys().for_each(|partition| self.back_off(partition, now));
            }
            return Vec::new();
        }
        let mut steps = Vec::new();
        for topic in response.responses {
            for data in topic.partitions {
                let Some(partition) = self.names.get(&(topic.topic_id, data.partition_index)).cloned() else {
                    continue;
                };
                let Some(&(epoch, offset)) = asked.get(&partition) else { continue };
                let Some(followed) = self.followed.get(&partition) else { continue };
                // it began anew while the request was on its way
                if followed.leader_epoch == epoch && followed.position.log_end == offset {
                    steps.extend(self.on_partition(partition, epoch, data, now));
                }
            }
        }
        steps
    }

    fn on_partition(&mut self, partition: TopicPartition, epoch: i32, data: PartitionData, now: Now) -> Option<Step> {
        match ErrorCode::from_code(data.error_code) {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => {
                self.followed.get_mut(&partition)?.stage = Stage::OutOfRange;
                return None;
            }
            ErrorCode::FencedLeaderEpoch => {
                tracing::debug!(%partition, leader_epoch = epoch, "the leader is of a newer epoch");
                self.followed.get_mut(&partition)?.stage = Stage::Fenced;
                return None;
            }
            code => {
                tracing::debug!(%partition, leader_epoch = epoch, error = code.name(), "the leader gives nothing");
                self.back_off(&partition, now);
                return None;
            }
        }
        let diverging = &data.diverging_epoch;
        if diverging.end_offset >= 0 {
            let cut = Cut::Diverging { epoch: diverging.epoch, end_offset: diverging.end_offset };
            return Some(Step::Cut { partition, leader_epoch: epoch, cut });
        }
        let records = contiguous(data.records.unwrap_or_default());
        self.followed.get_mut(&partition)?.caught_up = records.is_empty();
        Some(Step::Append(
            partition,
            LeaderData {
                leader_epoch: epoch,
                records,
                high_watermark: data.high_watermark,
                log_start_offset: data.log_start_offset,
            },
        ))
    }

    /// Where the leader's log begins and ends; none if it did not tell.
    pub fn on_ends(&mut self, asked: &Asked, ends: Option<(i64, i64)>, now: Now) -> Option<Step> {
        let followed = self.followed.get_mut(&asked.partition)?;
        if followed.leader_epoch != asked.leader_epoch || followed.stage != Stage::OutOfRange {
            return None;
        }
        let Some((start, end)) = ends else {
            self.back_off(&asked.partition, now);
            return None;
        };
        followed.stage = Stage::Fetching;
        let own_end = followed.position.log_end;
        let cut = match () {
            // a leader that was elected uncleanly lacks what is here
            () if end < own_end => Cut::To(end),
            () if start > own_end => Cut::AllBefore(start),
            // it moved on meanwhile
            () => return None,
        };
        Some(Step::Cut { partition: asked.partition.clone(), leader_epoch: asked.leader_epoch, cut })
    }

    /// A step was carried out in that epoch: the log is there now.
    pub fn on_done(&mut self, partition: &TopicPartition, leader_epoch: i32, position: LogPosition) {
        if let Some(followed) = self.followed.get_mut(partition).filter(|f| f.leader_epoch == leader_epoch) {
            followed.durable &= followed.position.log_end == position.log_end;
            followed.position = position;
            followed.failures = 0;
            if followed.stage == Stage::TooOld {
                followed.stage = Stage::Fetching;
            }
        }
    }

    /// The log is durable up to an offset.
    pub fn on_durable(&mut self, partition: &TopicPartition, end: i64) {
        if let Some(followed) = self.followed.get_mut(partition) {
            followed.durable |= followed.position.log_end <= end;
        }
    }

    /// A request, a step or a sync failed: that partition waits, the longer the more often it failed. At first only as long as a new
    /// leader needs to hear that it is one.
    pub fn back_off(&mut self, partition: &TopicPartition, now: Now) {
        if let Some(followed) = self.followed.get_mut(partition) {
            let most = self.limits.backoff_ms;
            let wait_ms = (most >> FIRST_BACKOFF_SHIFT.saturating_sub(followed.failures)).max(1).min(most);
            followed.failures = followed.failures.saturating_add(1);
            followed.not_before_ms = now.mono_after(wait_ms);
        }
    }
}

/// Up to where a follower keeps its log when the leader says that the epochs up to `epoch` end at `end_offset` there. `own` is the largest
/// epoch at or below that here, and where it ends; -1 if there is none.
pub(crate) fn truncation_offset(epoch: i32, end_offset: i64, own: (i32, i64), log_end: i64) -> i64 {
    let (own_epoch, own_end) = own;
    if epoch < 0 || own_end < 0 {
        return end_offset.min(log_end);
    }
    match own_epoch == epoch {
        true => end_offset.min(own_end).min(log_end),
        // the leader's epoch is not known here: what is older stays, and the next answer says more
        false => own_end.min(log_end),
    }
}

/// One piece; several are copied together.
fn contiguous(pieces: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(pieces) {
        Ok([one]) => one,
        Err(several) => Bytes::from(several.concat()),
    }
}
