//! Time as a value: cores take `Now`, drivers read it from a `Clock`, deadlines live in `Timers`.
//!
//! The only door to the machine's clocks is `SystemClock`. Sessions, timeouts and leases use `mono_ms`;
//! record timestamps and retention use `wall_ms`.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds of the monotonic clock since an arbitrary start; never goes back.
    pub mono_ms: u64,
    /// Milliseconds since 1970-01-01 UTC; may jump.
    pub wall_ms: i64,
}

impl Now {
    /// The monotonic instant `ms` from here, without overflow.
    pub fn mono_after(&self, ms: u64) -> u64 {
        self.mono_ms.saturating_add(ms)
    }
}

/// Where drivers get `Now`.
pub trait Clock: Send + Sync {
    fn now(&self) -> Now;
}

/// The machine's clocks. All instances of a process share one monotonic start.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The `Instant` of a monotonic reading, for handing a deadline to an async runtime.
    pub fn instant_of(mono_ms: u64) -> Instant {
        let start = mono_start();
        start.checked_add(Duration::from_millis(mono_ms)).unwrap_or(start)
    }
}

#[expect(clippy::disallowed_methods, reason = "the door to the machine's monotonic clock")]
fn mono_start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the door to the machine's clocks")]
    fn now(&self) -> Now {
        let start = mono_start();
        Now {
            mono_ms: Instant::now().saturating_duration_since(start).as_millis() as u64,
            wall_ms: match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => since.as_millis() as i64,
                Err(before) => -(before.duration().as_millis() as i64),
            },
        }
    }
}

/// A clock that tests and the simulator move by hand.
#[derive(Debug, Default)]
pub struct ManualClock {
    mono_ms: AtomicU64,
    wall_ms: AtomicI64,
}

impl ManualClock {
    pub fn new(now: Now) -> Self {
        ManualClock { mono_ms: AtomicU64::new(now.mono_ms), wall_ms: AtomicI64::new(now.wall_ms) }
    }

    /// Moves both clocks forward.
    pub fn advance_ms(&self, ms: u64) {
        self.mono_ms.fetch_add(ms, Ordering::SeqCst);
        self.wall_ms.fetch_add(ms as i64, Ordering::SeqCst);
    }

    /// Makes the wall clock jump; the monotonic clock stays.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms.load(Ordering::SeqCst), wall_ms: self.wall_ms.load(Ordering::SeqCst) }
    }
}

/// A pure queue of deadlines, one per key. Equal deadlines come out in the order they were set.
#[derive(Debug, Clone)]
pub struct Timers<K> {
    by_deadline: BTreeMap<(u64, u64), K>,
    by_key: HashMap<K, (u64, u64)>,
    next_seq: u64,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Timers { by_deadline: BTreeMap::new(), by_key: HashMap::new(), next_seq: 0 }
    }
}

impl<K: Clone + Eq + Hash> Timers<K> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the deadline of `key`, replacing an earlier one.
    pub fn schedule(&mut self, key: K, at_mono_ms: u64) {
        self.cancel(&key);
        let slot = (at_mono_ms, self.next_seq);
        self.next_seq += 1;
        self.by_deadline.insert(slot, key.clone());
        self.by_key.insert(key, slot);
    }

    /// Forgets the deadline of `key`; says whether there was one.
    pub fn cancel(&mut self, key: &K) -> bool {
        match self.by_key.remove(key) {
            Some(slot) => self.by_deadline.remove(&slot).is_some(),
            None => false,
        }
    }

    /// Takes the earliest key whose deadline is at or before `now`.
    pub fn pop_due(&mut self, now: Now) -> Option<K> {
        let (&slot, _) = self.by_deadline.first_key_value()?;
        if slot.0 > now.mono_ms {
            return None;
        }
        let key = self.by_deadline.remove(&slot)?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// The monotonic instant at which `pop_due` next yields something.
    pub fn next_deadline(&self) -> Option<u64> {
        self.by_deadline.first_key_value().map(|(&(at_mono_ms, _), _)| at_mono_ms)
    }

    /// The deadline of one key.
    pub fn deadline_of(&self, key: &K) -> Option<u64> {
        self.by_key.get(key).map(|&(at_mono_ms, _)| at_mono_ms)
    }

    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: 0 }
    }

    #[test]
    fn manual_clock_moves_only_by_hand() {
        let clock = ManualClock::new(Now { mono_ms: 5, wall_ms: 1_000 });
        clock.advance_ms(10);
        assert_eq!(clock.now(), Now { mono_ms: 15, wall_ms: 1_010 });
        clock.set_wall_ms(-3);
        assert_eq!(clock.now(), Now { mono_ms: 15, wall_ms: -3 });
    }

    #[test]
    fn system_clock_does_not_go_back() {
        let first = SystemClock.now();
        let second = SystemClock.now();
        assert!(second.mono_ms >= first.mono_ms);
        assert!(first.wall_ms > 1_600_000_000_000);
    }

    proptest! {
        /// Against the obvious model: a map of deadlines, popped in order of (deadline, time of setting).
        #[test]
        fn timers_agree_with_a_model(steps in proptest::collection::vec((0u8..3, 0u8..6, 0u64..20), 0..200)) {
            let mut timers = Timers::new();
            let mut model: Vec<(u64, u8)> = Vec::new();
            for (op, key, value) in steps {
                match op {
                    0 => {
                        timers.schedule(key, value);
                        model.retain(|&(_, k)| k != key);
                        model.push((value, key));
                    }
                    1 => {
                        let had = model.iter().any(|&(_, k)| k == key);
                        model.retain(|&(_, k)| k != key);
                        prop_assert_eq!(timers.cancel(&key), had);
                    }
                    _ => {
                        let due = model.iter().filter(|&&(deadline, _)| deadline <= value).min_by_key(|&&(deadline, _)| deadline).copied();
                        if let Some((_, k)) = due {
                            model.retain(|&(_, other)| other != k);
                        }
                        prop_assert_eq!(timers.pop_due(at(value)), due.map(|(_, k)| k));
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
                prop_assert_eq!(timers.next_deadline(), model.iter().map(|&(deadline, _)| deadline).min());
            }
        }
    }
}
