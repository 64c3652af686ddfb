//! Where requests wait for partitions: one [`Waiter`] per request, however many partitions it waits for, and one [`WatchList`] per
//! partition with who waits there.
//!
//! A waiter counts down what is missing (partitions of a produce, bytes of a fetch) and its task is woken once, when nothing is.
//! Nobody is woken while a lock is held: lists hand out who is ready. Knows offsets and bytes, no logs. Called by `replica.rs` and
//! `replica_manager.rs`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use milena_common::limits::MAX_UNCOMMITTED_MARKS;
use parking_lot::Mutex;

use crate::error::ReplicaError;

/// Far below zero, so that nothing counted later brings it back.
const READY: i64 = i64::MIN / 2;
/// A list is tidied when it has grown to twice what was alive last time, and at least this.
const TIDY_FROM: usize = 32;

/// One waiting request.
pub(crate) struct Waiter {
    missing: AtomicI64,
    waker: AtomicWaker,
    failures: Mutex<Vec<(usize, ReplicaError)>>,
}

impl Waiter {
    pub fn new(missing: i64) -> Arc<Waiter> {
        Arc::new(Waiter { missing: AtomicI64::new(missing), waker: AtomicWaker::new(), failures: Mutex::default() })
    }

    fn is_ready(&self) -> bool {
        self.missing.load(Ordering::Acquire) <= 0
    }

    /// Nothing is missing and nothing failed.
    pub fn is_done(&self) -> bool {
        self.is_ready() && self.failures.lock().is_empty()
    }

    /// Counts down; whether that was the last. The caller then wakes, without a lock.
    pub fn arrived(&self, count: i64) -> bool {
        let before = self.missing.fetch_sub(count, Ordering::AcqRel);
        before > 0 && before <= count
    }

    fn fail(&self, part: usize, error: ReplicaError) -> bool {
        self.failures.lock().push((part, error));
        self.arrived(1)
    }

    /// Nobody waits any more, or need wait.
    pub fn finish(&self) -> bool {
        self.missing.swap(READY, Ordering::AcqRel) > 0
    }

    pub fn wake(&self) {
        self.waker.wake();
    }

    /// What failed, by the number of the part.
    pub fn take_failures(&self) -> Vec<(usize, ReplicaError)> {
        std::mem::take(&mut *self.failures.lock())
    }

    /// Waits until nothing is missing.
    pub async fn ready(&self) {
        poll_fn(|cx| {
            if self.is_ready() {
                return Poll::Ready(());
            }
            self.waker.register(cx.waker());
            if self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// What a watched offset is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    HighWatermark,
    DurableEnd,
    LowWatermark,
}

/// Who waits until an offset is reached.
struct Append {
    offset: i64,
    part: usize,
    waiter: Arc<Waiter>,
}

#[derive(Default)]
struct Watch {
    /// By offset.
    appends: VecDeque<Append>,
    tidy_appends_at: usize,
    fetches: Vec<Arc<Waiter>>,
    tidy_fetches_at: usize,
    /// Bytes of batches that have not reached this watermark: where each ends.
    marks: VecDeque<(i64, i64)>,
    reached: i64,
}

impl Watch {
    fn add_fetch(&mut self, waiter: Arc<Waiter>) {
        if self.fetches.len() >= self.tidy_fetches_at.max(TIDY_FROM) {
            self.fetches.retain(|w| !w.is_ready());
            self.tidy_fetches_at = self.fetches.len() * 2;
        }
        self.fetches.push(waiter);
    }

    fn add_append(&mut self, append: Append) {
        if self.appends.len() >= self.tidy_appends_at.max(TIDY_FROM) {
            self.appends.retain(|a| !a.waiter.is_ready());
            self.tidy_appends_at = self.appends.len() * 2;
        }
        // nearly always the last
        let at = self.appends.iter().rposition(|a| a.offset <= append.offset).map_or(0, |i| i + 1);
        self.appends.insert(at, append);
    }

    fn add_mark(&mut self, end: i64, bytes: i64) {
        if self.marks.len() >= MAX_UNCOMMITTED_MARKS
            && let Some(last) = self.marks.back_mut()
        {
            *last = (last.0.max(end), last.1 + bytes);
            return;
        }
        let at = self.marks.iter().rposition(|(e, _)| *e <= end).map_or(0, |i| i + 1);
        self.marks.insert(at, (end, bytes));
    }

    fn reach(&mut self, offset: i64, enough: bool, ready: &mut Vec<Arc<Waiter>>) {
        self.reached = self.reached.max(offset);
        while let Some(append) = self.appends.pop_front_if(|a| a.offset <= offset) {
            let last = match enough {
                true => append.waiter.arrived(1),
                false => append.waiter.fail(append.part, ReplicaError::NotEnoughReplicasAfterAppend),
            };
            if last {
                ready.push(append.waiter);
            }
        }
        let mut bytes = 0;
        while let Some((_, size)) = self.marks.pop_front_if(|(end, _)| *end <= offset) {
            bytes += size;
        }
        if bytes > 0 {
            self.fetches.retain(|waiter| {
                if waiter.arrived(bytes) {
                    ready.push(Arc::clone(waiter));
                }
                !waiter.is_ready()
            });
        }
    }
}

/// Those who wait for one partition.
#[derive(Default)]
pub(crate) struct WatchList {
    watches: Mutex<[Watch; 3]>,
}

impl WatchList {
    /// A batch was appended: it ends before `end` and has so many bytes.
    pub fn on_append(&self, end: i64, bytes: i64) {
        let mut ready = Vec::new();
        {
            let mut watches = self.watches.lock();
            for watched in [Watched::HighWatermark, Watched::DurableEnd] {
                let watch = &mut watches[watched as usize];
                watch.add_mark(end, bytes);
                // the commit was quicker than the one who tells of the append
                if end <= watch.reached {
                    watch.reach(watch.reached, true, &mut ready);
                }
            }
        }
        wake_all(ready);
    }

    /// Registers part number `part` of an append until `watched` is at least `offset`. `now` is asked under the lock, so that
    /// nothing is missed; false, and nothing is registered, if it is there already.
    pub fn add_append(
        &self,
        watched: Watched,
        offset: i64,
        part: usize,
        waiter: &Arc<Waiter>,
        now: impl FnOnce() -> i64,
    ) -> bool {
        let mut watches = self.watches.lock();
        if now() >= offset {
            return false;
        }
        watches[watched as usize].add_append(Append { offset, part, waiter: Arc::clone(waiter) });
        true
    }

    /// Registers a fetch until enough bytes come.
    pub fn add_fetch(&self, watched: Watched, waiter: &Arc<Waiter>) {
        self.watches.lock()[watched as usize].add_fetch(Arc::clone(waiter));
    }

    /// The watched offset is at least `offset`. `enough`: with as many in-sync replicas as acks=all asks for.
    pub fn on_reached(&self, watched: Watched, offset: i64, enough: bool) {
        let mut ready = Vec::new();
        self.watches.lock()[watched as usize].reach(offset, enough, &mut ready);
        wake_all(ready);
    }

    /// Nothing will come any more, at least not here: appends fail, fetches look again.
    pub fn on_failed(&self, error: &ReplicaError) {
        let mut ready = Vec::new();
        for watch in &mut *self.watches.lock() {
            ready.extend(watch.fetches.drain(..).filter(|waiter| waiter.finish()));
            for append in watch.appends.drain(..) {
                if append.waiter.fail(append.part, error.clone()) {
                    ready.push(append.waiter);
                }
            }
            *watch = Watch::default();
        }
        wake_all(ready);
    }

    /// Fetches look again at once.
    pub fn release_fetches(&self) {
        let mut ready = Vec::new();
        for watch in &mut *self.watches.lock() {
            ready.extend(watch.fetches.drain(..).filter(|waiter| waiter.finish()));
        }
        wake_all(ready);
    }
}

fn wake_all(ready: Vec<Arc<Waiter>>) {
    ready.iter().for_each(|waiter| waiter.wake());
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    fn polled(waiter: &Waiter, woken: &Arc<Woken>) -> bool {
        let waker = Arc::clone(woken).into();
        std::pin::pin!(waiter.ready()).poll(&mut Context::from_waker(&waker)).is_ready()
    }

    #[test]
    fn an_append_waits_for_its_offset_on_every_partition() {
        let (a, b) = (WatchList::default(), WatchList::default());
        let (waiter, woken) = (Waiter::new(2), Arc::<Woken>::default());
        assert!(a.add_append(Watched::HighWatermark, 5, 0, &waiter, || 0));
        assert!(b.add_append(Watched::HighWatermark, 2, 1, &waiter, || 1));
        assert!(!b.add_append(Watched::HighWatermark, 2, 1, &waiter, || 2), "is there");
        assert!(!polled(&waiter, &woken));
        a.on_reached(Watched::DurableEnd, 9, true);
        a.on_reached(Watched::HighWatermark, 4, true);
        b.on_reached(Watched::HighWatermark, 3, true);
        assert!(!woken.0.load(Ordering::SeqCst));
        a.on_reached(Watched::HighWatermark, 5, true);
        assert!(woken.0.load(Ordering::SeqCst) && polled(&waiter, &woken));
        assert!(waiter.take_failures().is_empty());
    }

    #[test]
    fn what_fails_is_told_part_by_part() {
        let (a, b) = (WatchList::default(), WatchList::default());
        let waiter = Waiter::new(3);
        assert!(a.add_append(Watched::HighWatermark, 5, 0, &waiter, || 0));
        assert!(a.add_append(Watched::HighWatermark, 7, 1, &waiter, || 0));
        assert!(b.add_append(Watched::HighWatermark, 2, 2, &waiter, || 0));
        a.on_reached(Watched::HighWatermark, 6, false);
        a.on_failed(&ReplicaError::NotLeader);
        a.on_failed(&ReplicaError::Offline);
        assert!(!waiter.is_ready());
        b.on_reached(Watched::HighWatermark, 2, true);
        assert!(waiter.is_ready() && !waiter.is_done());
        let failures: Vec<_> = waiter.take_failures().into_iter().map(|(part, e)| (part, e.code().name())).collect();
        assert_eq!(failures, [(0, "NOT_ENOUGH_REPLICAS_AFTER_APPEND"), (1, "NOT_LEADER_OR_FOLLOWER")]);
    }

    #[test]
    fn a_fetch_waits_for_bytes_that_are_committed() {
        let list = WatchList::default();
        list.on_append(3, 100);
        let waiter = Waiter::new(150);
        list.add_fetch(Watched::HighWatermark, &waiter);
        list.on_reached(Watched::HighWatermark, 3, true);
        list.on_append(5, 60);
        assert!(!waiter.is_ready());
        list.on_reached(Watched::DurableEnd, 5, true);
        assert!(!waiter.is_ready());
        list.on_reached(Watched::HighWatermark, 5, true);
        assert!(waiter.is_ready());
        // the commit may be told before the append
        let waiter = Waiter::new(1);
        list.add_fetch(Watched::HighWatermark, &waiter);
        list.on_reached(Watched::HighWatermark, 9, true);
        assert!(!waiter.is_ready());
        list.on_append(9, 10);
        assert!(waiter.is_ready());
    }

    #[test]
    fn lists_stay_small() {
        let list = WatchList::default();
        for i in 1..=10_000 {
            let waiter = Waiter::new(1);
            list.add_fetch(Watched::HighWatermark, &waiter);
            list.add_append(Watched::HighWatermark, 1 << 40, 0, &waiter, || 0);
            list.on_append(i, 1);
            waiter.finish();
        }
        let watches = list.watches.lock();
        let watch = &watches[Watched::HighWatermark as usize];
        assert!(watch.fetches.len() <= 2 * TIDY_FROM && watch.appends.len() <= 2 * TIDY_FROM);
        assert_eq!(watch.marks.len(), MAX_UNCOMMITTED_MARKS);
        assert_eq!(watch.marks.iter().map(|(_, bytes)| bytes).sum::<i64>(), 10_000);
    }

    /// Whoever registers while the offset moves is ready in the end, whatever came first.
    #[test]
    fn nobody_is_forgotten() {
        let list = WatchList::default();
        let position = AtomicI64::new(0);
        let waiters: Vec<_> = (0..2_000).map(|_| Waiter::new(1)).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for offset in 1..=2_000 {
                    list.on_append(offset, 1);
                    position.store(offset, Ordering::Release);
                    list.on_reached(Watched::HighWatermark, offset, true);
                }
            });
            for half in 0..2 {
                let (list, position, waiters) = (&list, &position, &waiters);
                scope.spawn(move || {
                    for (offset, waiter) in (1..).zip(waiters).skip(half).step_by(2) {
                        let now = || position.load(Ordering::Acquire);
                        if !list.add_append(Watched::HighWatermark, offset, 0, waiter, now) {
                            waiter.arrived(1);
                        }
                    }
                });
            }
        });
        assert!(waiters.iter().all(|waiter| waiter.is_done()));
    }
}
