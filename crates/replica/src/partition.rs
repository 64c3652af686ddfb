//! Decides for one replica: its role, its leader epoch, the in-sync replicas and the high watermark.
//!
//! Pure: offsets, metadata and the time go in, [`Effects`] come out. Never touches a log, a lock or a clock. Called by `replica.rs`, which
//! carries the effects out.
//!
//! Offsets of followers are what they hold for good: under `log.ack.durability=fsync` their durable ends, as the leader's own end is
//! its durable end. So the high watermark stands on disks.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_common::Now;
use milena_metadata::image::PartitionImage;

/// What the core wants done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// The role or the leader epoch changed: what waits under the old one must be told.
    pub role: Option<Role>,
    /// The high watermark rose to this.
    pub high_watermark: Option<i64>,
    /// In-sync replicas to ask the controller for.
    pub propose_isr: Option<Vec<i32>>,
}

/// What this broker is to the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Leader { epoch: i32 },
    Follower { leader: i32, epoch: i32 },
}

/// The two ends of the local log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub log_end: i64,
    pub durable_end: i64,
}

/// What a leader knows of another replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Follower {
    /// -1 until it fetched in this epoch.
    end: i64,
    log_start: i64,
    last_fetch_ms: u64,
    /// The leader's end when it fetched last.
    leader_end_then: i64,
    last_caught_up_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Partition {
    broker_id: i32,
    /// `None` until the first metadata.
    role: Option<Role>,
    image: Arc<PartitionImage>,
    /// Where the epoch of this leader begins.
    epoch_start: i64,
    ends: Ends,
    high_watermark: i64,
    min_isr: usize,
    followers: BTreeMap<i32, Follower>,
    /// Asked of the controller, not decided yet.
    proposed_isr: Option<Vec<i32>>,
}

impl Partition {
    pub fn new(broker_id: i32, ends: Ends, high_watermark: i64) -> Partition {
        Partition {
            broker_id,
            role: None,
            image: Arc::default(),
            epoch_start: 0,
            ends,
            high_watermark,
            min_isr: 1,
            followers: BTreeMap::new(),
            proposed_isr: None,
        }
    }

    /// The controller recorded this. What is older than what is known is ignored.
    pub fn on_metadata(&mut self, image: &Arc<PartitionImage>, ends: Ends, now: Now) -> Effects {
        let known = (self.image.leader_epoch, self.image.partition_epoch);
        if self.role.is_some() && (image.leader_epoch, image.partition_epoch) < known {
            return Effects::default();
        }
        self.ends = ends;
        self.proposed_isr = None;
        self.image = Arc::clone(image);
        let epoch = image.leader_epoch;
        let role = match image.leader == self.broker_id {
            true => Role::Leader { epoch },
            false => Role::Follower { leader: image.leader, epoch },
        };
        let changed = self.role != Some(role);
        self.role = Some(role);
        match role {
            Role::Leader { .. } if changed => {
                self.epoch_start = ends.log_end;
                self.followers.clear();
            }
            Role::Leader { .. } => {}
            Role::Follower { .. } => self.followers.clear(),
        }
        if self.is_leader() {
            self.know_followers(now);
        }
        Effects { role: changed.then_some(role), high_watermark: self.raise_high_watermark(), propose_isr: None }
    }

    /// Keeps an entry for every other replica; those in sync count as caught up now, so that a new leader gives them time.
    fn know_followers(&mut self, now: Now) {
        let image = Arc::clone(&self.image);
        self.followers.retain(|id, _| image.replicas.contains(id));
        for &id in image.replicas.iter().filter(|id| **id != self.broker_id) {
            let last_caught_up_ms = if image.isr.contains(&id) { now.mono_ms } else { 0 };
            self.followers.entry(id).or_insert(Follower {
                end: -1,
                log_start: -1,
                last_fetch_ms: 0,
                leader_end_then: 0,
                last_caught_up_ms,
            });
        }
    }

    /// `min.insync.replicas` of the topic.
    pub fn on_min_isr(&mut self, min_isr: usize) -> Effects {
        self.min_isr = min_isr;
        Effects { high_watermark: self.raise_high_watermark(), ..Effects::default() }
    }

    /// The local log grew.
    #[cfg_attr(not(test), expect(dead_code, reason = "the fetchers of a cluster tell"))]
    pub fn on_local_append(&mut self, log_end: i64) {
        self.ends.log_end = self.ends.log_end.max(log_end);
    }

    /// Everything below is on the local disk.
    pub fn on_durable(&mut self, durable_end: i64) -> Effects {
        self.ends.durable_end = self.ends.durable_end.max(durable_end);
        self.ends.log_end = self.ends.log_end.max(durable_end);
        Effects { high_watermark: self.raise_high_watermark(), ..Effects::default() }
    }

    /// A replica asked for what follows `end`; it holds everything before, from `log_start` on. `log_end` is the leader's. False if
    /// it is no replica of this partition.
    pub fn on_follower_fetch(&mut self, id: i32, end: i64, log_start: i64, log_end: i64, now: Now) -> Option<Effects> {
        self.ends.log_end = self.ends.log_end.max(log_end);
        let leader_end = self.ends.log_end;
        let follower = self.followers.get_mut(&id)?;
        // caught up now, or with everything that was there when it asked last
        if end >= leader_end {
            follower.last_caught_up_ms = follower.last_caught_up_ms.max(now.mono_ms);
        } else if end >= follower.leader_end_then && follower.last_fetch_ms > 0 {
            follower.last_caught_up_ms = follower.last_caught_up_ms.max(follower.last_fetch_ms);
        }
        (follower.end, follower.log_start) = (end, log_start);
        (follower.last_fetch_ms, follower.leader_end_then) = (now.mono_ms, leader_end);
        let joins = !self.image.isr.contains(&id)
            && self.proposed_isr.is_none()
            && end >= self.high_watermark
            && end >= self.epoch_start;
        let propose_isr = joins.then(|| self.image.isr.iter().copied().chain([id]).collect::<Vec<_>>());
        if propose_isr.is_some() {
            self.proposed_isr.clone_from(&propose_isr);
        }
        Some(Effects { high_watermark: self.raise_high_watermark(), propose_isr, role: None })
    }

    /// In-sync replicas that have been behind for longer than `replica.lag.time.max.ms` must go.
    #[cfg_attr(not(test), expect(dead_code, reason = "the fetchers of a cluster tell"))]
    pub fn on_tick(&mut self, now: Now, lag_max_ms: u64) -> Effects {
        if !self.is_leader() || self.proposed_isr.is_some() {
            return Effects::default();
        }
        let leader_end = self.ends.log_end;
        let lags = |id: &i32| {
            let Some(follower) = self.followers.get(id) else { return false };
            follower.end < leader_end && now.mono_ms.saturating_sub(follower.last_caught_up_ms) > lag_max_ms
        };
        let stay: Vec<i32> = self.image.isr.iter().filter(|id| !lags(id)).copied().collect();
        if stay.len() == self.image.isr.len() {
            return Effects::default();
        }
        self.proposed_isr = Some(stay.clone());
        Effects { propose_isr: Some(stay), ..Effects::default() }
    }

    /// The controller refused a proposal, or did not answer.
    #[cfg_attr(not(test), expect(dead_code, reason = "the fetchers of a cluster tell"))]
    pub fn on_proposal_failed(&mut self) {
        self.proposed_isr = None;
    }

    /// A leader's high watermark, as this follower hears of it.
    #[cfg_attr(not(test), expect(dead_code, reason = "the fetchers of a cluster tell"))]
    pub fn on_leader_high_watermark(&mut self, offset: i64) -> Effects {
        let offset = offset.min(self.ends.log_end);
        let rises = !self.is_leader() && offset > self.high_watermark;
        if rises {
            self.high_watermark = offset;
        }
        Effects { high_watermark: rises.then_some(offset), ..Effects::default() }
    }

    /// The log begins later: so does the high watermark, at least.
    pub fn on_log_start(&mut self, log_start: i64) {
        self.high_watermark = self.high_watermark.max(log_start);
    }

    /// What all in-sync replicas hold, and those that may soon be: a replica that was proposed counts before it is in, one that is to
    /// go counts until it is out. Never falls while this broker leads.
    fn raise_high_watermark(&mut self) -> Option<i64> {
        if !self.is_leader() || !self.has_enough_in_sync() {
            return None;
        }
        let proposed = self.proposed_isr.iter().flatten();
        let others = self.image.isr.iter().chain(proposed).filter(|id| **id != self.broker_id);
        let end_of = |id: &i32| self.followers.get(id).map_or(-1, |follower| follower.end);
        let held = others.map(end_of).fold(self.ends.durable_end, i64::min);
        (held > self.high_watermark).then(|| {
            self.high_watermark = held;
            held
        })
    }

    pub fn is_leader(&self) -> bool {
        matches!(self.role, Some(Role::Leader { .. }))
    }

    /// Whether this broker is in sync with enough others for acks=all: `min.insync.replicas`, or all replicas if they are fewer.
    pub fn has_enough_in_sync(&self) -> bool {
        self.image.isr.len() >= self.min_isr.min(self.image.replicas.len().max(1))
    }

    pub fn leader_epoch(&self) -> i32 {
        self.image.leader_epoch
    }

    /// Where the epoch of this leader begins: below it, nobody knows yet what is committed.
    pub fn epoch_start(&self) -> i64 {
        self.epoch_start
    }

    #[cfg(test)]
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The smallest log start of all replicas: below it nobody has records any more. -1 while one has not told.
    pub fn low_watermark(&self, log_start: i64) -> i64 {
        self.followers.values().map(|follower| follower.log_start).fold(log_start, i64::min)
    }
}
