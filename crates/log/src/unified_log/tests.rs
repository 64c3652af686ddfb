//! Random lives of a log on a disk that fills up, loses power and tears what was not synced: what was durable is there afterwards, bytes and
//! producers and epochs, and nothing that was refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use milena_common::config::broker::BrokerConfig;
use milena_common::config::topic::TopicConfig;
use milena_common::{Now, TopicPartition};
use milena_protocol::records::control::EndTxnMarker;
use milena_protocol::records::{BatchBuilder, Compression, batches};
use proptest::prelude::*;

use super::{AppendOptions, LogOptions, UnifiedLog};
use crate::cleaner::clean_offsets::CleanOffsets;
use crate::committer::{CommitBy, Committer};
use crate::error::LogError;
use crate::fs::Fs;
use crate::producer_state::ProducerState;
use crate::producer_state::TransactionCheck;
use crate::recovery;
use crate::testing::sim_fs::SimFs;
use crate::validate::Origin;

const START: i64 = 1_700_000_000_000;

struct World {
    fs: SimFs,
    config: Arc<TopicConfig>,
    committer: Arc<Committer>,
    log: Arc<UnifiedLog>,
    recovery_point: i64,
    epoch: i32,
    /// What was taken, as it was stored, by base offset.
    batches: BTreeMap<i64, Bytes>,
    /// Everything below was said to be durable.
    durable: i64,
    sequences: BTreeMap<i64, i32>,
    ms: i64,
}

fn open(
    fs: &SimFs,
    config: &Arc<TopicConfig>,
    ms: i64,
    clean: bool,
    recovery_point: i64,
) -> (Arc<Committer>, Arc<UnifiedLog>) {
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let committer = Committer::start(Path::new("/data"), Arc::clone(&shared)).unwrap();
    let log = UnifiedLog::open(LogOptions {
        clean_offsets: Arc::new(CleanOffsets::open(Arc::clone(&shared), Path::new("/data"))),
        fs: shared,
        committer: Arc::clone(&committer),
        dir: PathBuf::from("/data/t-0"),
        topic_partition: TopicPartition::new("t", 0),
        topic_id: None,
        config: Arc::clone(config),
        clean,
        recovery_point,
        log_start_offset: 0,
        high_watermark: 0,
        producer_expiration_ms: i64::MAX,
        now: Now { mono_ms: 0, wall_ms: START + ms },
    })
    .unwrap();
    (committer, log)
}

impl World {
    fn new(seed: u64, durability: &str) -> World {
        let fs = SimFs::new(seed);
        fs.create_dir_all(Path::new("/data")).unwrap();
        let all = [("internal.segment.bytes", "700"), ("index.interval.bytes", "100"), ("ack.durability", durability)];
        let pairs = all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let broker = BrokerConfig::parse(BTreeMap::new()).unwrap();
        let config = Arc::new(TopicConfig::from_overrides(&broker, &pairs).unwrap());
        let (committer, log) = open(&fs, &config, 0, true, 0);
        World {
            fs,
            config,
            committer,
            log,
            recovery_point: 0,
            epoch: 0,
            batches: BTreeMap::new(),
            durable: 0,
            sequences: BTreeMap::new(),
            ms: 0,
        }
    }

    fn append(&mut self, producer: i64, marker: Option<bool>, size: usize) {
        self.ms += 1;
        let (bytes, origin) = match marker {
            Some(committed) => {
                let marker = EndTxnMarker { committed, coordinator_epoch: 0 };
                (marker.to_batch(0, START + self.ms, producer, 0, 0).unwrap(), Origin::Coordinator)
            }
            None => {
                let next = self.sequences.get(&producer).copied().unwrap_or(0);
                let mut batch = BatchBuilder::new(Compression::None);
                if producer > 0 {
                    batch = batch.with_producer(producer, 0, next).with_transactional(true);
                }
                for _ in 0..2 {
                    batch.append(START + self.ms, None, Some("v".repeat(size).as_bytes()), &[]).unwrap();
                }
                (batch.build(0).unwrap(), Origin::Client)
            }
        };
        let now = Now { mono_ms: self.ms.unsigned_abs(), wall_ms: START + self.ms };
        let options = AppendOptions {
            leader_epoch: self.epoch,
            now,
            origin,
            produce_version: None,
            transaction: Default::default(),
            commit: CommitBy::Thread,
        };
        match self.log.append_as_leader(bytes, options) {
            Ok(info) => {
                if marker.is_none() {
                    *self.sequences.entry(producer).or_insert(0) += 2;
                }
                let stored = self.log.read(info.first_offset, 1 << 20, i64::MAX, true).unwrap().into_contiguous();
                self.batches.insert(info.first_offset, stored);
                assert_eq!(self.log.log_end_offset(), info.last_offset + 1);
            }
            Err(e) => assert!(e.is_full_disk(), "{e}"),
        }
    }

    fn settle(&mut self) {
        self.log.flush();
        while self.log.recovery_point() < self.log.log_end_offset() {
            std::thread::yield_now();
        }
        self.durable = self.log.log_end_offset();
    }

    fn reopen(&mut self, clean: bool, power: bool) {
        self.committer.stop();
        let before = self.log.log_end_offset();
        if power {
            self.fs.power_cut();
        }
        (self.committer, self.log) =
            open(&self.fs, &self.config, self.ms, clean, if clean { before } else { self.recovery_point });
        let end = self.log.log_end_offset();
        assert!(end >= self.durable && end <= before, "{end}: {} were durable of {before}", self.durable);
        assert!(power || end == before, "{end}, not {before}: only power cuts lose");
        self.batches.split_off(&end);
        self.recovery_point = self.recovery_point.min(end);
        self.durable = self.durable.min(end);
        self.check();
        self.sequences = self.log.producers().iter().map(|p| (p.producer_id, p.last_sequence() + 1)).collect();
    }

    fn check(&self) {
        let mut offset = 0;
        let mut model = ProducerState::default();
        let mut found = BTreeMap::new();
        let mut epochs: Vec<(i32, i64)> = Vec::new();
        while offset < self.log.log_end_offset() {
            let data = self.log.read(offset, 300, i64::MAX, true).unwrap();
            assert!(data.next_offset > offset, "nothing at {offset}");
            offset = data.next_offset;
            for batch in batches(data.into_contiguous()) {
                let batch = batch.unwrap();
                recovery::learn(&mut model, &batch);
                if epochs.last().is_none_or(|(epoch, _)| *epoch < batch.leader_epoch()) {
                    epochs.push((batch.leader_epoch(), batch.base_offset()));
                }
                found.insert(batch.base_offset(), batch.into_bytes());
            }
        }
        assert_eq!(found, self.batches);
        let of = |s: &[crate::ProducerEntry]| {
            s.iter()
                .map(|p| (p.producer_id, (p.last_sequence(), p.current_txn_first_offset)))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(of(&self.log.producers()), of(&model.producers().cloned().collect::<Vec<_>>()));
        // an epoch in which nothing was written may be known
        let known = self.log.epochs();
        let known = known.iter().map(|e| (e.epoch, e.start_offset)).filter(|(_, start)| *start < offset);
        let known: Vec<(i32, i64)> = known.collect();
        assert_eq!(known, epochs, "leader epochs");
    }
}

#[test]
fn a_failed_write_or_sync_is_final_for_its_directory_only() {
    for changes in [0, 1] {
        let (mut w, other) = (World::new(1, "fsync"), World::new(2, "fsync"));
        w.append(0, None, 10);
        w.settle();
        // the write fails, or the sync after it
        w.fs.die_after(changes);
        let mut batch = BatchBuilder::new(Compression::None);
        batch.append(START, None, Some(b"v"), &[]).unwrap();
        let bytes = batch.build(0).unwrap();
        let options = AppendOptions {
            leader_epoch: 0,
            now: Now { mono_ms: 0, wall_ms: START },
            origin: Origin::Client,
            produce_version: None,
            transaction: TransactionCheck::Off,
            commit: CommitBy::Thread,
        };
        assert_eq!(w.log.append_as_leader(bytes.clone(), options).is_ok(), changes == 1);
        while !w.log.is_dir_offline() {
            std::thread::yield_now();
        }
        w.fs.revive();
        assert!(matches!(w.log.append_as_leader(bytes.clone(), options), Err(LogError::Storage { .. })), "for good");
        assert_eq!(w.log.durable_end_offset(), 2);
        assert!(!other.log.is_offline() && other.log.append_as_leader(bytes, options).is_ok());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append { producer: i64, size: usize },
    End { producer: i64, committed: bool },
    NewEpoch,
    Settle,
    Checkpoint,
    Room { bytes: Option<usize> },
    Restart,
    Kill,
    PowerCut,
    Truncate { to: prop::sample::Index },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..3i64, 1..150usize).prop_map(|(producer, size)| Step::Append { producer, size }),
        2 => (1..3i64, any::<bool>()).prop_map(|(producer, committed)| Step::End { producer, committed }),
        1 => Just(Step::NewEpoch),
        3 => Just(Step::Settle),
        1 => Just(Step::Checkpoint),
        1 => prop_oneof![Just(None), (0..600usize).prop_map(Some)].prop_map(|bytes| Step::Room { bytes }),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        2 => Just(Step::PowerCut),
        1 => any::<prop::sample::Index>().prop_map(|to| Step::Truncate { to }),
    ];
    prop::collection::vec(step, 1..60)
}

fn run(seed: u64, durability: &str, steps: &[Step]) -> Result<(), LogError> {
    let mut w = World::new(seed, durability);
    for step in steps {
        match step {
            Step::Append { producer, size } => w.append(*producer, None, *size),
            Step::End { producer, committed } => {
                if w.log.producers().iter().any(|p| p.producer_id == *producer && p.current_txn_first_offset.is_some())
                {
                    w.append(*producer, Some(*committed), 0);
                }
            }
            Step::NewEpoch => w.epoch += 1,
            Step::Settle => w.settle(),
            Step::Checkpoint => w.recovery_point = w.log.recovery_point(),
            Step::Room { bytes } => w.fs.set_capacity(bytes.map(|more| w.fs.used() + more)),
            Step::Restart => {
                w.fs.set_capacity(None);
                w.log.close()?;
                w.durable = w.log.log_end_offset();
                w.reopen(true, false);
            }
            Step::Kill => {
                w.fs.set_capacity(None);
                w.reopen(false, false);
            }
            Step::PowerCut => {
                w.fs.set_capacity(None);
                w.reopen(false, true);
            }
            Step::Truncate { to } => {
                w.fs.set_capacity(None);
                let offsets: Vec<i64> = w.batches.keys().copied().collect();
                if offsets.is_empty() {
                    continue;
                }
                let to = *to.get(&offsets);
                w.settle();
                w.log.truncate_to(to, Now { mono_ms: 0, wall_ms: START + w.ms })?;
                w.batches.split_off(&to);
                w.recovery_point = w.recovery_point.min(to);
                w.settle();
                w.check();
                w.sequences = w.log.producers().iter().map(|p| (p.producer_id, p.last_sequence() + 1)).collect();
            }
        }
    }
    w.check();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn what_was_durable_is_there(seed in any::<u64>(), cached in any::<bool>(), steps in steps()) {
        run(seed, if cached { "page-cache" } else { "fsync" }, &steps).unwrap();
    }
}
