//! Records waiting to be sent, in batches per partition. Pure: the caller gives the time.
//!
//! Invariants: batches leave in the order they were opened, a few of a partition before the first is answered; one that failed goes
//! alone, when those after it are answered too; a batch keeps its sequence number while it is repeated, so that the broker can tell.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use milena_common::TopicPartition;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::RecordMetadata;
use super::partitioner::Sticky;
use crate::error::ClientError;

/// One record and whom to tell.
pub(super) struct Pending {
    pub(super) timestamp: i64,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<(String, Option<Bytes>)>,
    pub(super) outcome: oneshot::Sender<Result<RecordMetadata, ClientError>>,
}

/// Records that travel together.
pub(super) struct Batch {
    pub(super) tp: TopicPartition,
    pub(super) records: Vec<Pending>,
    pub(super) size: usize,
    /// Counts batches in the order they were opened.
    number: u64,
    opened: Instant,
    pub(super) expires: Instant,
    pub(super) attempts: u32,
    retry_at: Option<Instant>,
    /// Producer id, epoch and first sequence, once it was sent with them.
    pub(super) identity: Option<(i64, i16, i32)>,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Batch>,
    /// How many are under way.
    taken: usize,
    next_sequence: i32,
    /// The sequence that the broker expects: after the newest batch that it has answered with success.
    acknowledged: i32,
}

/// All waiting batches.
pub(super) struct Accumulator {
    batch_size: usize,
    linger: Duration,
    /// How many batches of a partition may be under way.
    max_in_flight: usize,
    queues: HashMap<TopicPartition, Queue>,
    sticky: HashMap<String, Sticky>,
    seed: u64,
    opened: u64,
    buffered_bytes: usize,
    taken: usize,
    flushing: bool,
    closed: bool,
}

impl Accumulator {
    pub(super) fn new(batch_size: usize, linger_ms: u64, max_in_flight: usize, seed: u64) -> Self {
        Accumulator {
            batch_size: batch_size.max(1),
            linger: Duration::from_millis(linger_ms),
            max_in_flight: max_in_flight.max(1),
            queues: HashMap::new(),
            sticky: HashMap::new(),
            seed,
            opened: 0,
            buffered_bytes: 0,
            taken: 0,
            flushing: false,
            closed: false,
        }
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0 && self.queues.values().all(|queue| queue.batches.is_empty())
    }

    pub(super) fn set_flushing(&mut self, flushing: bool) {
        self.flushing = flushing;
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The partition that records of the topic without a key go to now.
    pub(super) fn sticky_partition(&mut self, topic: &str, available: &[i32]) -> Option<i32> {
        if let Some(sticky) = self.sticky.get_mut(topic) {
            return sticky.partition(available);
        }
        let mut sticky = Sticky::new(self.seed);
        let partition = sticky.partition(available);
        self.sticky.insert(topic.to_string(), sticky);
        partition
    }

    /// Puts a record into the partition's open batch, or a new one.
    pub(super) fn append(
        &mut self,
        tp: TopicPartition,
        record: Pending,
        size: usize,
        now: Instant,
        expires: Instant,
        available: &[i32],
    ) {
        self.buffered_bytes += size;
        if !self.queues.contains_key(&tp) {
            self.queues.insert(tp.clone(), Queue::default());
        }
        let Some(queue) = self.queues.get_mut(&tp) else { return };
        let open = queue
            .batches
            .back_mut()
            .filter(|b| b.attempts == 0 && b.identity.is_none() && b.size + size <= self.batch_size);
        if let Some(batch) = open {
            batch.size += size;
            batch.records.push(record);
            return;
        }
        if !queue.batches.is_empty()
            && record.key.is_none()
            && let Some(sticky) = self.sticky.get_mut(&*tp.topic)
        {
            // the batch before is full: the next record without a key goes elsewhere
            sticky.advance(available);
        }
        self.opened += 1;
        queue.batches.push_back(Batch {
            tp,
            records: vec![record],
            size,
            number: self.opened,
            opened: now,
            expires,
            attempts: 0,
            retry_at: None,
            identity: None,
        });
    }

    /// Takes the batches that should go now, one per partition, of those partitions that `may_go`; and says when to look again.
    pub(super) fn take_ready(
        &mut self,
        now: Instant,
        may_go: impl Fn(&TopicPartition) -> bool,
    ) -> (Vec<Batch>, Option<Instant>) {
        let mut ready = Vec::new();
        let mut next: Option<Instant> = None;
        let mut wake = |at: Instant| next = Some(next.map_or(at, |known| known.min(at)));
        for (tp, queue) in &mut self.queues {
            let Some(first) = queue.batches.front() else {
                continue;
            };
            // one that is repeated waits until all that were sent with it are answered
            let limit = if first.attempts > 0 { 1 } else { self.max_in_flight };
            if queue.taken >= limit {
                continue;
            }
            if let Some(retry_at) = first.retry_at.filter(|at| *at > now) {
                wake(retry_at);
                continue;
            }
            let full = queue.batches.len() > 1 || first.size >= self.batch_size;
            let due = first.opened + self.linger;
            if full || first.attempts > 0 || self.flushing || self.closed || due <= now {
                if !may_go(tp) {
                    continue;
                }
                queue.taken += 1;
                self.taken += 1;
                ready.extend(queue.batches.pop_front());
            } else {
                wake(due);
            }
        }
        (ready, next)
    }

    /// Takes everything that waits, to give it up.
    pub(super) fn take_waiting(&mut self) -> Vec<Batch> {
        let mut all = Vec::new();
        for queue in self.queues.values_mut() {
            all.extend(queue.batches.drain(..));
        }
        self.buffered_bytes = self.buffered_bytes.saturating_sub(all.iter().map(|batch| batch.size).sum());
        all
    }

    /// The sequence of the first record of a batch that has none yet; counts on for the next.
    pub(super) fn next_sequence(&mut self, tp: &TopicPartition, records: usize) -> i32 {
        let queue = self.queues.entry(tp.clone()).or_default();
        let first = queue.next_sequence;
        queue.next_sequence = after(first, records);
        first
    }

    /// Whether the broker must have every batch before the one that begins with `sequence`.
    pub(super) fn is_next(&self, tp: &TopicPartition, sequence: i32) -> bool {
        self.queues.get(tp).is_none_or(|queue| queue.acknowledged == sequence)
    }

    /// The broker has the batch that begins with `sequence`.
    pub(super) fn acknowledge(&mut self, tp: &TopicPartition, sequence: i32, records: usize) {
        if let Some(queue) = self.queues.get_mut(tp) {
            queue.acknowledged = after(sequence, records);
        }
    }

    /// Starts all sequences again: the producer has a new identity.
    pub(super) fn reset_sequences(&mut self) {
        for queue in self.queues.values_mut() {
            queue.next_sequence = 0;
            queue.acknowledged = 0;
            queue.batches.iter_mut().for_each(|batch| batch.identity = None);
        }
    }

    /// The batch is answered or given up.
    pub(super) fn finish(&mut self, tp: &TopicPartition, size: usize) {
        self.buffered_bytes = self.buffered_bytes.saturating_sub(size);
        self.release(tp);
    }

    /// The batch goes back into its queue, before those that were opened after it, to be sent again at `retry_at`.
    pub(super) fn put_back(&mut self, mut batch: Batch, retry_at: Instant) {
        batch.attempts += 1;
        batch.retry_at = Some(retry_at);
        let tp = batch.tp.clone();
        let waiting = &mut self.queues.entry(tp.clone()).or_default().batches;
        let before = waiting.iter().take_while(|other| other.number < batch.number).count();
        waiting.insert(before, batch);
        self.release(&tp);
    }

    fn release(&mut self, tp: &TopicPartition) {
        if let Some(queue) = self.queues.get_mut(tp) {
            queue.taken = queue.taken.saturating_sub(1);
            self.taken = self.taken.saturating_sub(1);
        }
    }
}

/// The sequence after so many records: after the largest comes 0.
fn after(sequence: i32, records: usize) -> i32 {
    ((i64::from(sequence) + records as i64) & i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Pending {
        let (outcome, _) = oneshot::channel();
        Pending { timestamp: 1, key: None, value: None, headers: Vec::new(), outcome }
    }

    fn append(accumulator: &mut Accumulator, partition: i32, size: usize, now: Instant) {
        accumulator.append(
            TopicPartition::new("t", partition),
            record(),
            size,
            now,
            now + Duration::from_secs(9),
            &[0, 1],
        );
    }

    #[tokio::test]
    async fn a_batch_leaves_when_it_is_full_or_has_lingered() {
        let now = Instant::now();
        let mut accumulator = Accumulator::new(100, 5, 1, 1);
        append(&mut accumulator, 0, 40, now);
        append(&mut accumulator, 0, 40, now);
        let (ready, next) = accumulator.take_ready(now, |_| true);
        assert!(ready.is_empty());
        assert_eq!(next, Some(now + Duration::from_millis(5)));
        append(&mut accumulator, 0, 40, now);
        let (ready, _) = accumulator.take_ready(now, |_| true);
        assert_eq!(ready.iter().map(|b| b.records.len()).collect::<Vec<_>>(), [2]);
        // the second batch waits for the first one's answer, even when its time has come
        assert!(accumulator.take_ready(now + Duration::from_millis(50), |_| true).0.is_empty());
        accumulator.finish(&ready[0].tp, ready[0].size);
        assert_eq!(accumulator.take_ready(now + Duration::from_millis(50), |_| true).0.len(), 1);
    }

    #[tokio::test]
    async fn a_repeated_batch_stays_first_and_keeps_its_sequence() {
        let now = Instant::now();
        let mut accumulator = Accumulator::new(100, 0, 5, 1);
        append(&mut accumulator, 0, 90, now);
        append(&mut accumulator, 0, 90, now);
        let mut first = accumulator.take_ready(now, |_| true).0.remove(0);
        let sequence = accumulator.next_sequence(&first.tp, first.records.len());
        first.identity = Some((7, 0, sequence));
        accumulator.put_back(first, now + Duration::from_millis(10));
        assert!(accumulator.take_ready(now, |_| true).0.is_empty());
        let again = accumulator.take_ready(now + Duration::from_millis(10), |_| true).0.remove(0);
        assert_eq!((again.identity, again.attempts), (Some((7, 0, 0)), 1));
        assert_eq!(accumulator.next_sequence(&again.tp, 1), 1);
        assert!(!accumulator.is_empty());
    }

    #[tokio::test]
    async fn batches_sent_together_come_back_in_their_order_and_go_one_by_one() {
        let now = Instant::now();
        let mut accumulator = Accumulator::new(100, 0, 2, 1);
        for _ in 0..3 {
            append(&mut accumulator, 0, 90, now);
        }
        let first = accumulator.take_ready(now, |_| true).0.remove(0);
        let second = accumulator.take_ready(now, |_| true).0.remove(0);
        assert!(accumulator.take_ready(now, |_| true).0.is_empty(), "two are under way");
        let (one, two) = (first.number, second.number);
        accumulator.put_back(second, now);
        assert!(accumulator.take_ready(now, |_| true).0.is_empty(), "the first is not answered yet");
        accumulator.put_back(first, now);
        let again = accumulator.take_ready(now, |_| true).0.remove(0);
        assert_eq!(again.number, one);
        assert!(accumulator.take_ready(now, |_| true).0.is_empty(), "a repeated batch goes alone");
        accumulator.acknowledge(&again.tp, 0, 1);
        assert!(accumulator.is_next(&again.tp, 1));
        accumulator.finish(&again.tp, again.size);
        assert_eq!(accumulator.take_ready(now, |_| true).0.remove(0).number, two);
        assert_eq!(accumulator.take_waiting().len(), 1);
    }
}
