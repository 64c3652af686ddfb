//! Tests of the transaction state machine: a harness with manual time that encodes, decodes and replays whatever an operation
//! decides, and compares with a partition loaded from scratch.

mod replay;
mod transitions;

use milena_common::Now;

use super::expiry::Looked;
use super::hard::TxnState;
use super::partitions::Producer;
use super::*;

pub(super) const ID: &str = "id";

pub(super) struct Harness {
    pub(super) config: Arc<TxnConfig>,
    pub(super) shard: TxnShard,
    pub(super) now: Now,
    pub(super) log: Vec<CoordinatorRecord>,
    /// Finalized `transaction.version`.
    pub(super) level: i16,
    /// Ids whose completion was asked for, in order.
    pub(super) decided: Vec<Arc<str>>,
    next_producer_id: i64,
}

pub(super) fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

impl Harness {
    pub(super) fn new(level: i16) -> Harness {
        let config = Arc::new(TxnConfig::default());
        Harness {
            shard: TxnShard::new(config.clone()),
            config,
            now: Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 },
            log: Vec::new(),
            level,
            decided: Vec::new(),
            next_producer_id: 100,
        }
    }

    /// Takes an outcome as the driver does; the records must survive encoding.
    pub(super) fn apply<R>(&mut self, outcome: TxnOutcome<R>) -> R {
        for record in &outcome.records {
            let encoded = TxnShard::encode(record).expect("encodes");
            let offset = self.log.len() as i64;
            let decoded = TxnShard::decode(LoadedRecord::Record { offset, producer_id: -1, record: encoded.clone() });
            assert_eq!(&decoded, record, "a record means the same after encoding");
            self.shard.replay(offset, record);
            self.log.push(encoded);
        }
        self.decided.extend(self.shard.take_effects());
        outcome.response
    }

    /// A shard that has just loaded `log`.
    pub(super) fn load(&self, log: &[CoordinatorRecord]) -> TxnShard {
        let mut shard = TxnShard::new(self.config.clone());
        for (offset, record) in log.iter().enumerate() {
            let offset = offset as i64;
            let loaded = LoadedRecord::Record { offset, producer_id: -1, record: record.clone() };
            shard.replay(offset, &TxnShard::decode(loaded));
        }
        shard.on_loaded(self.now);
        shard
    }

    /// The coordinator starts again, from its records.
    pub(super) fn restart(&mut self) {
        self.shard = self.load(&self.log);
        self.decided = self.shard.take_effects();
    }

    fn step<T>(&mut self, op: impl Fn(&mut TxnShard, Option<i64>, Now) -> TxnOutcome<Step<T>>) -> Result<T, ErrorCode> {
        let mut fresh = None;
        loop {
            let outcome = op(&mut self.shard, fresh, self.now);
            match self.apply(outcome) {
                Step::Done(result) => return result,
                Step::NeedsProducerId => {
                    assert!(fresh.is_none(), "one fresh id is enough");
                    fresh = Some(self.next_producer_id);
                    self.next_producer_id += 1;
                }
            }
        }
    }

    pub(super) fn init(&mut self) -> Result<(i64, i16), ErrorCode> {
        self.init_with(ID, None)
    }

    pub(super) fn init_with(&mut self, id: &str, expected: Option<(i64, i16)>) -> Result<(i64, i16), ErrorCode> {
        let request = InitProducer { transactional_id: id.into(), timeout_ms: 60_000, expected };
        let level = self.level;
        self.step(|shard, fresh, now| shard.init_producer(&request, level, fresh, now))
    }

    pub(super) fn add(&mut self, producer: (i64, i16), partitions: &[TopicPartition]) -> Result<(), ErrorCode> {
        self.add_to(ID, producer, partitions)
    }

    pub(super) fn add_to(
        &mut self,
        id: &str,
        producer: (i64, i16),
        partitions: &[TopicPartition],
    ) -> Result<(), ErrorCode> {
        let outcome = self.shard.add_partitions(id, of(producer), partitions, 0, self.level, self.now);
        self.apply(outcome)
    }

    pub(super) fn end(&mut self, producer: (i64, i16), commit: bool) -> Result<(), ErrorCode> {
        self.end_of(ID, producer, commit)
    }

    pub(super) fn end_of(&mut self, id: &str, producer: (i64, i16), commit: bool) -> Result<(), ErrorCode> {
        let level = self.level;
        self.step(|shard, _, now| shard.end_transaction(id, of(producer), commit, level, now)).map(|_| ())
    }

    pub(super) fn end_v2(&mut self, producer: (i64, i16), commit: bool) -> Result<(i64, i16), ErrorCode> {
        self.end_v2_of(ID, producer, commit)
    }

    pub(super) fn end_v2_of(&mut self, id: &str, producer: (i64, i16), commit: bool) -> Result<(i64, i16), ErrorCode> {
        let level = self.level;
        self.step(|shard, fresh, now| shard.end_transaction_and_bump(id, of(producer), commit, level, fresh, now))
            .map(|ended| (ended.producer_id, ended.producer_epoch))
    }

    /// Writes the markers that are asked for; `None` if none are.
    pub(super) fn complete(&mut self, id: &str) -> Option<Completion> {
        let completion = self.shard.pending_completion(id)?;
        let producer = of((completion.producer_id, completion.producer_epoch));
        let outcome = self.shard.complete(id, producer, completion.committed, self.level, self.now);
        self.apply(outcome).expect("is where it was left");
        Some(completion)
    }

    /// As the coordinator does from time to time.
    pub(super) fn look_for_timeouts(&mut self) {
        let mut fresh = None;
        loop {
            let (level, now) = (self.level, self.now);
            let look = self.shard.abort_timed_out(level, fresh.take(), now);
            match self.apply(look) {
                Looked::AtAll => return,
                Looked::AtSome => {}
                Looked::NeedsProducerId => {
                    fresh = Some(self.next_producer_id);
                    self.next_producer_id += 1;
                }
            }
        }
    }

    pub(super) fn state(&self) -> Option<TxnState> {
        self.shard.hard.get(ID).map(|t| t.state)
    }

    pub(super) fn producer(&self) -> (i64, i16) {
        self.shard.hard.get(ID).map_or((-1, -1), |t| (t.producer_id, t.producer_epoch))
    }

    pub(super) fn advance(&mut self, ms: u64) {
        self.now = Now { mono_ms: self.now.mono_ms + ms, wall_ms: self.now.wall_ms + ms as i64 };
    }

    /// Puts an id where a test wants it.
    pub(super) fn put(&mut self, change: impl FnOnce(&mut Transaction)) {
        let mut transaction = self.shard.hard.get(ID).cloned().unwrap_or_else(|| Transaction::new(7));
        change(&mut transaction);
        let record = TxnRecord::state(&Arc::from(ID), transaction, self.level);
        self.apply(Outcome::new(vec![record], ()));
    }
}

pub(super) fn of((producer_id, producer_epoch): (i64, i16)) -> Producer {
    Producer { producer_id, producer_epoch }
}
