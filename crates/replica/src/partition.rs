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
    pub propose_isr: Option<Proposal>,
}

/// The in-sync replicas that a leader asks the controller for, and the state that it asks them for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// Each with the epoch of its broker, as its fetches told (KIP-903); -1 if not known.
    pub isr: Vec<(i32, i64)>,
    pub leader_epoch: i32,
    pub partition_epoch: i32,
}

impl Proposal {
    /// The replicas without the epochs of their brokers.
    pub fn ids(&self) -> impl Iterator<Item = i32> {
        self.isr.iter().map(|(id, _)| *id)
    }
}

/// What became of a proposal that the controller did not grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It was not looked at, or a member may not be in sync: what is recorded stays so.
    NotAttempted,
    /// Metadata are on their way that this leader does not know yet. The proposal may even be granted there, so it counts until then.
    AwaitMetadata,
}

/// A follower's fetch, as far as the core cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FollowerFetch {
    pub id: i32,
    /// Of its broker; -1 if it does not tell.
    pub broker_epoch: i64,
    /// It holds everything before, for good.
    pub end: i64,
    pub log_start: i64,
    /// Its broker is registered with this epoch, unfenced and not about to stop.
    pub is_eligible: bool,
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
    broker_epoch: i64,
    last_fetch_ms: u64,
    /// The leader's durable end when it fetched last.
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
    proposal: Option<Proposal>,
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
            proposal: None,
        }
    }

    /// The controller recorded this, or answered it. What is older than what is known is ignored.
    pub fn on_metadata(&mut self, image: &Arc<PartitionImage>, ends: Ends, now: Now) -> Effects {
        if self.role.is_some() && epochs_of(image) < epochs_of(&self.image) {
            return Effects::default();
        }
        self.ends = ends;
        // what was asked for on top of this very state is still open
        if self.proposal.as_ref().is_some_and(|p| (p.leader_epoch, p.partition_epoch) != epochs_of(image)) {
            self.proposal = None;
        }
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
                broker_epoch: -1,
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
    pub fn on_local_append(&mut self, log_end: i64) {
        self.ends.log_end = self.ends.log_end.max(log_end);
    }

    /// Everything below is on the local disk.
    pub fn on_durable(&mut self, durable_end: i64) -> Effects {
        self.ends.durable_end = self.ends.durable_end.max(durable_end);
        self.ends.log_end = self.ends.log_end.max(durable_end);
        Effects { high_watermark: self.raise_high_watermark(), ..Effects::default() }
    }

    /// The local log was cut: it ends here now, and its high watermark lies within.
    pub fn on_truncated(&mut self, ends: Ends, high_watermark: i64) {
        self.ends = ends;
        self.high_watermark = high_watermark;
    }

    /// A replica asked for what follows its end. `None` if it is no replica of this partition, or this broker does not lead.
    ///
    /// It is compared with what this leader can give: under `log.ack.durability=fsync` that is what is durable here.
    pub fn on_follower_fetch(&mut self, fetch: &FollowerFetch, now: Now) -> Option<Effects> {
        let leader_end = self.ends.durable_end;
        let follower = self.followers.get_mut(&fetch.id)?;
        // caught up now, or with everything that was there when it asked last
        if fetch.end >= leader_end {
            follower.last_caught_up_ms = follower.last_caught_up_ms.max(now.mono_ms);
        } else if fetch.end >= follower.leader_end_then && follower.last_fetch_ms > 0 {
            follower.last_caught_up_ms = follower.last_caught_up_ms.max(follower.last_fetch_ms);
        }
        (follower.end, follower.log_start) = (fetch.end, fetch.log_start);
        (follower.last_fetch_ms, follower.leader_end_then) = (now.mono_ms, leader_end);
        follower.broker_epoch = fetch.broker_epoch;
        let joins = !self.image.isr.contains(&fetch.id)
            && self.proposal.is_none()
            && fetch.is_eligible
            && fetch.end >= self.high_watermark
            && fetch.end >= self.epoch_start;
        let propose_isr = joins.then(|| self.propose(self.image.isr.iter().copied().chain([fetch.id]).collect()));
        Some(Effects { high_watermark: self.raise_high_watermark(), propose_isr, role: None })
    }

    fn propose(&mut self, ids: Vec<i32>) -> Proposal {
        let epoch_of = |id: i32| self.followers.get(&id).map_or(-1, |follower| follower.broker_epoch);
        let proposal = Proposal {
            isr: ids.into_iter().map(|id| (id, epoch_of(id))).collect(),
            leader_epoch: self.image.leader_epoch,
            partition_epoch: self.image.partition_epoch,
        };
        self.proposal = Some(proposal.clone());
        proposal
    }

    /// In-sync replicas that have been behind for longer than `replica.lag.time.max.ms` must go.
    pub fn on_tick(&mut self, now: Now, lag_max_ms: u64) -> Effects {
        if !self.is_leader() || self.proposal.is_some() {
            return Effects::default();
        }
        let leader_end = self.ends.durable_end;
        let lags = |id: &i32| {
            let Some(follower) = self.followers.get(id) else { return false };
            follower.end < leader_end && now.mono_ms.saturating_sub(follower.last_caught_up_ms) > lag_max_ms
        };
        let stay: Vec<i32> = self.image.isr.iter().filter(|id| !lags(id)).copied().collect();
        if stay.len() == self.image.isr.len() {
            return Effects::default();
        }
        Effects { propose_isr: Some(self.propose(stay)), ..Effects::default() }
    }

    /// The controller did not grant this proposal. One that nobody answered is still open: it may have been granted.
    pub fn on_refused(&mut self, proposal: &Proposal, refusal: Refusal) {
        if refusal == Refusal::NotAttempted && self.proposal.as_ref() == Some(proposal) {
            self.proposal = None;
        }
    }

    /// The controller granted a proposal of this leader: its metadata, before they come with the others. `None` if they are old or
    /// another's.
    pub fn granted(&self, leader: i32, leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> Option<PartitionImage> {
        let known = &self.image;
        let newer = self.is_leader()
            && (leader, leader_epoch) == (self.broker_id, known.leader_epoch)
            && partition_epoch > known.partition_epoch;
        newer.then(|| PartitionImage { isr: isr.to_vec(), partition_epoch, ..PartitionImage::clone(known) })
    }

    /// A leader's high watermark, as this follower hears of it.
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
        let proposed = self.proposal.iter().flat_map(Proposal::ids);
        let others = self.image.isr.iter().copied().chain(proposed).filter(|id| *id != self.broker_id);
        let end_of = |id: i32| self.followers.get(&id).map_or(-1, |follower| follower.end);
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

    /// Whether this broker follows in this epoch.
    pub fn follows_in(&self, epoch: i32) -> bool {
        matches!(self.role, Some(Role::Follower { epoch: current, .. }) if current == epoch)
    }

    pub fn is_replica(&self, id: i32) -> bool {
        self.followers.contains_key(&id)
    }

    /// Of these brokers the in-sync replica that is furthest and has the offset; none if this broker does not lead (KIP-392).
    pub fn read_replica(&self, brokers: &[i32], offset: i64) -> Option<i32> {
        let has = |(id, f): &(&i32, &Follower)| {
            brokers.contains(id) && self.image.isr.contains(id) && f.end >= offset && f.log_start <= offset
        };
        let readable = self.followers.iter().filter(has);
        readable.max_by_key(|(id, f)| (f.end, f.last_caught_up_ms, **id)).map(|(id, _)| *id)
    }

    /// What the controller recorded, as far as this replica knows.
    pub fn image(&self) -> &Arc<PartitionImage> {
        &self.image
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

fn epochs_of(image: &PartitionImage) -> (i32, i32) {
    (image.leader_epoch, image.partition_epoch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: 0 }
    }

    fn image(leader: i32, epoch: i32, partition_epoch: i32, isr: &[i32]) -> Arc<PartitionImage> {
        Arc::new(PartitionImage {
            replicas: vec![1, 2, 3],
            isr: isr.to_vec(),
            leader,
            leader_epoch: epoch,
            partition_epoch,
            ..Default::default()
        })
    }

    fn ends(log_end: i64, durable_end: i64) -> Ends {
        Ends { log_end, durable_end }
    }

    fn fetch(p: &mut Partition, id: i32, end: i64, log_start: i64, mono_ms: u64) -> Option<Effects> {
        let fetch = FollowerFetch { id, broker_epoch: 40 + i64::from(id), end, log_start, is_eligible: true };
        p.on_follower_fetch(&fetch, at(mono_ms))
    }

    fn proposed(effects: &Effects) -> Option<Vec<i32>> {
        effects.propose_isr.as_ref().map(|proposal| proposal.ids().collect())
    }

    fn leader(isr: &[i32], log_end: i64) -> Partition {
        let mut p = Partition::new(1, ends(log_end, log_end), 0);
        let effects = p.on_metadata(&image(1, 5, 1, isr), ends(log_end, log_end), at(0));
        assert_eq!(effects.role, Some(Role::Leader { epoch: 5 }));
        p
    }

    #[test]
    fn a_lone_leader_commits_what_is_durable() {
        let mut p = leader(&[1], 4);
        assert_eq!(p.high_watermark(), 4);
        p.on_local_append(9);
        assert_eq!(p.on_durable(7).high_watermark, Some(7));
        assert_eq!(p.on_durable(7), Effects::default());
        assert_eq!(p.on_durable(6), Effects::default(), "never back");
    }

    #[test]
    fn the_slowest_of_the_in_sync_replicas_decides() {
        let mut p = leader(&[1, 2, 3], 10);
        assert_eq!(p.high_watermark(), 0);
        assert_eq!(fetch(&mut p, 2, 10, 0, 1), Some(Effects::default()));
        assert_eq!(fetch(&mut p, 3, 6, 0, 1).unwrap().high_watermark, Some(6));
        assert_eq!(fetch(&mut p, 9, 6, 0, 1), None, "no replica");
        // a smaller set, recorded by the controller
        let effects = p.on_metadata(&image(1, 5, 2, &[1, 2]), ends(10, 10), at(2));
        assert_eq!((effects.role, effects.high_watermark), (None, Some(10)));
    }

    #[test]
    fn a_follower_that_caught_up_is_proposed_and_counts_from_then_on() {
        let mut p = leader(&[1], 0);
        p.on_durable(10);
        assert_eq!(fetch(&mut p, 2, 9, 0, 1), Some(Effects::default()), "behind the high watermark");
        let effects = fetch(&mut p, 2, 10, 0, 2).unwrap();
        let proposal = effects.propose_isr.unwrap();
        assert_eq!(proposal.isr, [(1, -1), (2, 42)]);
        assert_eq!((proposal.leader_epoch, proposal.partition_epoch), (5, 1));
        assert_eq!(p.on_durable(12), Effects::default(), "the proposed one must have it too");
        assert_eq!(fetch(&mut p, 2, 12, 0, 3).unwrap().high_watermark, Some(12));
        // the same metadata once more, or an answer that says to wait for newer ones: it may be granted all the same
        p.on_metadata(&image(1, 5, 1, &[1]), ends(12, 12), at(3));
        p.on_refused(&proposal, Refusal::AwaitMetadata);
        assert_eq!(p.on_durable(13), Effects::default());
        p.on_refused(&proposal, Refusal::NotAttempted);
        assert_eq!(p.on_durable(14).high_watermark, Some(14));
        // granted, and known before the metadata come
        assert_eq!(p.granted(2, 5, 2, &[1, 2]), None);
        assert_eq!(p.granted(1, 5, 1, &[1, 2]), None);
        assert_eq!(p.granted(1, 5, 2, &[1, 2]).unwrap().isr, [1, 2]);
    }

    #[test]
    fn a_follower_that_lags_is_to_leave_and_counts_until_it_has() {
        let mut p = leader(&[1, 2, 3], 0);
        p.on_durable(10);
        fetch(&mut p, 2, 10, 0, 100);
        assert_eq!(p.on_tick(at(100), 100), Effects::default());
        // what was there at the last fetch is what it must have had by the next
        fetch(&mut p, 3, 5, 0, 90);
        p.on_durable(20);
        fetch(&mut p, 3, 10, 0, 120);
        assert_eq!(p.on_tick(at(190), 100), Effects::default());
        assert_eq!(proposed(&p.on_tick(at(201), 100)), Some(vec![1]));
        assert_eq!(p.on_tick(at(300), 100), Effects::default(), "once");
        assert_eq!(p.on_durable(20), Effects::default());
        let effects = p.on_metadata(&image(1, 5, 2, &[1]), ends(20, 20), at(400));
        assert_eq!(effects.high_watermark, Some(20));
    }

    #[test]
    fn too_few_in_sync_replicas_commit_nothing() {
        let mut p = leader(&[1], 0);
        assert_eq!(p.on_min_isr(2), Effects::default());
        assert!(!p.has_enough_in_sync());
        assert_eq!(p.on_durable(5), Effects::default());
        assert_eq!(p.on_min_isr(1).high_watermark, Some(5));
        p.on_min_isr(7);
        assert_eq!(p.on_metadata(&image(1, 5, 2, &[1, 2, 3]), ends(5, 5), at(0)), Effects::default());
        assert!(p.has_enough_in_sync(), "all there are");
    }

    #[test]
    fn old_metadata_change_nothing() {
        let mut p = leader(&[1, 2], 3);
        assert_eq!(p.on_metadata(&image(2, 4, 9, &[2]), ends(3, 3), at(0)), Effects::default());
        assert_eq!(p.on_metadata(&image(1, 5, 0, &[1]), ends(3, 3), at(0)), Effects::default());
        let follows = p.on_metadata(&image(2, 6, 2, &[2]), ends(3, 3), at(0));
        assert_eq!(follows.role, Some(Role::Follower { leader: 2, epoch: 6 }));
        assert_eq!(p.on_durable(9), Effects::default());
        assert_eq!(p.on_leader_high_watermark(20).high_watermark, Some(9));
        assert_eq!(p.on_leader_high_watermark(8), Effects::default());
        assert_eq!(fetch(&mut p, 3, 9, 0, 0), None);
        let leads = p.on_metadata(&image(1, 7, 3, &[1, 2]), ends(9, 9), at(0));
        assert_eq!(leads.role, Some(Role::Leader { epoch: 7 }));
        assert_eq!((p.epoch_start(), p.leader_epoch()), (9, 7));
    }

    #[test]
    fn who_may_not_be_in_sync_does_not_join() {
        let mut p = leader(&[1], 0);
        let fenced = FollowerFetch { id: 2, broker_epoch: 1, end: 0, log_start: 0, is_eligible: false };
        assert_eq!(p.on_follower_fetch(&fenced, at(1)), Some(Effects::default()));
        assert_eq!(proposed(&fetch(&mut p, 2, 0, 0, 2).unwrap()), Some(vec![1, 2]));
    }

    #[test]
    fn a_consumer_is_sent_to_a_replica_near_it() {
        let mut p = leader(&[1, 2, 3], 10);
        for (id, end, log_start) in [(2, 10, 0), (3, 8, 4)] {
            fetch(&mut p, id, end, log_start, 1);
        }
        assert_eq!(p.read_replica(&[2, 3], 5), Some(2), "the furthest");
        assert_eq!(p.read_replica(&[3, 9], 5), Some(3));
        assert_eq!(p.read_replica(&[3], 9), None, "not there yet");
        assert_eq!(p.read_replica(&[3], 3), None, "not there any more");
        p.on_metadata(&image(1, 5, 2, &[1, 2]), ends(10, 10), at(2));
        assert_eq!(p.read_replica(&[3], 5), None, "not in sync");
    }

    #[test]
    fn a_cut_takes_the_high_watermark_along() {
        let mut p = Partition::new(1, ends(9, 9), 7);
        p.on_metadata(&image(2, 5, 1, &[2, 1]), ends(9, 9), at(0));
        p.on_truncated(ends(5, 5), 5);
        assert_eq!(p.high_watermark(), 5);
        assert!(p.follows_in(5) && !p.follows_in(4));
        assert_eq!(p.on_leader_high_watermark(8), Effects::default());
        p.on_local_append(6);
        assert_eq!(p.on_leader_high_watermark(8).high_watermark, Some(6));
    }

    #[test]
    fn the_low_watermark_waits_for_all() {
        let mut p = leader(&[1, 2, 3], 10);
        assert_eq!(p.low_watermark(5), -1);
        fetch(&mut p, 2, 10, 3, 0);
        fetch(&mut p, 3, 10, 7, 0);
        assert_eq!(p.low_watermark(5), 3);
    }

    proptest! {
        /// The high watermark never falls, and never passes what any replica of the recorded in-sync set holds for good.
        #[test]
        fn the_high_watermark_is_held_by_all_in_sync(steps in prop::collection::vec((0..5u8, 1..4i32, 0..8i64), 1..80)) {
            let mut p = leader(&[1, 2], 0);
            let (mut log_end, mut durable, mut isr, mut epoch) = (0i64, 0i64, vec![1, 2], 1);
            let mut held = BTreeMap::from([(2, -1i64), (3, -1i64)]);
            let mut last = 0;
            for (now, (what, id, by)) in (1..).zip(steps) {
                match what {
                    0 => { log_end += by; p.on_local_append(log_end); }
                    1 => { durable = (durable + by).min(log_end); p.on_durable(durable); }
                    2 | 3 if id != 1 => {
                        let end = (held[&id].max(0) + by).min(durable);
                        held.insert(id, end);
                        let effects = fetch(&mut p, id, end, 0, now).unwrap();
                        if let (Some(wider), true) = (proposed(&effects), by % 2 == 0) {
                            (isr, epoch) = (wider, epoch + 1);
                            p.on_metadata(&image(1, 5, epoch, &isr), ends(log_end, durable), at(now));
                        }
                    }
                    4 => {
                        if let Some(smaller) = proposed(&p.on_tick(at(now), 10)) {
                            (isr, epoch) = (smaller, epoch + 1);
                            p.on_metadata(&image(1, 5, epoch, &isr), ends(log_end, durable), at(now));
                        }
                    }
                    _ => if let Some(open) = p.proposal.clone() { p.on_refused(&open, Refusal::NotAttempted) },
                }
                let high_watermark = p.high_watermark();
                prop_assert!(high_watermark >= last && high_watermark <= durable);
                for id in isr.iter().filter(|id| **id != 1) {
                    prop_assert!(high_watermark <= held[id].max(last));
                }
                last = high_watermark;
            }
        }
    }
}
