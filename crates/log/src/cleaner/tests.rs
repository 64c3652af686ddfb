//! Random histories (keys, tombstones, transactions) against a model: whatever is cleaned, crashes and restarts in between, a reader of committed
//! records finds the last value of each key where it was written, and nothing that had been superseded comes back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use milena_common::config::broker::BrokerConfig;
use milena_common::config::topic::TopicConfig;
use milena_common::{Now, TopicPartition};
use milena_protocol::records::control::{ControlType, EndTxnMarker};
use milena_protocol::records::{BatchBuilder, Compression, DecompressLimit, Record, batches};
use proptest::prelude::*;

use super::clean_offsets::CleanOffsets;
use super::plan::Plan;
use super::round::{self, CleanedRound, Means, Stopped};
use crate::committer::{CommitBy, Committer};
use crate::fs::Fs;
use crate::producer_state::TransactionCheck;
use crate::testing::sim_fs::SimFs;
use crate::unified_log::{AppendOptions, LogOptions, UnifiedLog};
use crate::validate::Origin;

const START: i64 = 1_700_000_000_000;
const DIR: &str = "/data/t-0";
const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn config(overrides: &[(&str, &str)]) -> Arc<TopicConfig> {
    let all = [
        ("cleanup.policy", "compact"),
        ("internal.segment.bytes", "700"),
        ("index.interval.bytes", "200"),
        ("delete.retention.ms", "1000"),
        ("message.timestamp.after.max.ms", "9223372036854775807"),
    ];
    let pairs = all.iter().chain(overrides).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let broker = BrokerConfig::parse(BTreeMap::new()).unwrap();
    Arc::new(TopicConfig::from_overrides(&broker, &pairs).unwrap())
}

/// Offset, key, value.
type Written = (i64, Vec<u8>, Option<Vec<u8>>);

/// A log on a simulated disk, and what must be in it.
struct World {
    fs: SimFs,
    config: Arc<TopicConfig>,
    ms: i64,
    committer: Arc<Committer>,
    log: Arc<UnifiedLog>,
    /// As a checkpoint would have it.
    recovery_point: i64,
    /// Committed records by offset.
    visible: BTreeMap<i64, (Vec<u8>, Option<Vec<u8>>)>,
    /// Records of open transactions, by producer.
    open: HashMap<i64, Vec<Written>>,
    sequences: HashMap<i64, i32>,
    written: u32,
}

fn open(
    fs: &SimFs,
    config: &Arc<TopicConfig>,
    ms: i64,
    clean: bool,
    recovery_point: i64,
) -> (Arc<Committer>, Arc<UnifiedLog>) {
    let dir = Path::new("/data");
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let committer = Committer::start(dir, Arc::clone(&shared)).unwrap();
    let log = UnifiedLog::open(LogOptions {
        clean_offsets: Arc::new(CleanOffsets::open(Arc::clone(&shared), dir)),
        fs: shared,
        committer: Arc::clone(&committer),
        dir: PathBuf::from(DIR),
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
    fn new(seed: u64, config: Arc<TopicConfig>) -> World {
        let fs = SimFs::new(seed);
        fs.create_dir_all(Path::new("/data")).unwrap();
        let (committer, log) = open(&fs, &config, 0, true, 0);
        World {
            fs,
            config,
            ms: 0,
            committer,
            log,
            recovery_point: 0,
            visible: BTreeMap::new(),
            open: HashMap::new(),
            sequences: HashMap::new(),
            written: 0,
        }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.ms.unsigned_abs(), wall_ms: START + self.ms }
    }

    fn settle(&self) {
        while self.log.durable_end_offset() < self.log.log_end_offset() {
            std::thread::yield_now();
        }
        self.log.set_high_watermark(self.log.log_end_offset());
    }

    /// A batch with these keys (a tombstone where the flag says so); producer 0 is none.
    fn append(&mut self, producer: i64, transactional: bool, codec: usize, keys: &[(u8, bool)]) {
        self.ms += 1;
        let mut batch = BatchBuilder::new(CODECS[codec % CODECS.len()]).with_transactional(transactional);
        if producer > 0 {
            let next = self.sequences.entry(producer).or_insert(0);
            batch = batch.with_producer(producer, 0, *next);
            *next += keys.len() as i32;
        }
        let mut records = Vec::new();
        for (key, tombstone) in keys {
            self.written += 1;
            let key = vec![b'k', *key];
            let value = (!tombstone).then(|| format!("value {} {}", self.written, "x".repeat(40)).into_bytes());
            let headers = [(Bytes::from_static(b"h"), Some(Bytes::from(self.written.to_string())))];
            batch.append(START + self.ms, Some(&key), value.as_deref(), &headers).unwrap();
            records.push((key, value));
        }
        let options = AppendOptions {
            leader_epoch: 5,
            now: self.now(),
            origin: Origin::Client,
            produce_version: Some(11),
            transaction: TransactionCheck::Off,
            commit: CommitBy::Thread,
        };
        let first = self.log.append_as_leader(batch.build(0).unwrap(), options).unwrap().first_offset;
        for (offset, (key, value)) in (first..).zip(records) {
            if transactional {
                self.open.entry(producer).or_default().push((offset, key, value));
            } else {
                self.visible.insert(offset, (key, value));
            }
        }
        self.settle();
    }

    fn end_transaction(&mut self, producer: i64, committed: bool) {
        let Some(records) = self.open.remove(&producer) else { return };
        self.ms += 1;
        let marker = EndTxnMarker { committed, coordinator_epoch: 1 };
        let batch = marker.to_batch(0, START + self.ms, producer, 0, 5).unwrap();
        let options = AppendOptions {
            leader_epoch: 5,
            now: self.now(),
            origin: Origin::Coordinator,
            produce_version: None,
            transaction: TransactionCheck::Off,
            commit: CommitBy::Thread,
        };
        self.log.append_as_leader(batch, options).unwrap();
        if committed {
            self.visible.extend(records.into_iter().map(|(o, k, v)| (o, (k, v))));
        }
        self.settle();
    }

    fn clean(&self, map_entries: usize) -> Result<CleanedRound, Stopped> {
        let view = self.log.clean_view();
        let plan =
            Plan::of(&view, &self.config, self.log.clean_offsets().get(self.log.topic_partition()), START + self.ms);
        if plan.dirty_bytes == 0 {
            return Ok(CleanedRound::default());
        }
        let means = Means { map_bytes: map_entries * 24, load_factor: 1.0, io_bytes: 300, pace: &|_| true };
        let mut doomed = Vec::new();
        let round = round::clean(&self.log, &view, (plan.first_dirty, plan.bound), &means, self.now(), &mut doomed)?;
        for path in doomed {
            self.fs.remove_file(&path).map_err(|e| crate::LogError::storage(&path, e))?;
        }
        self.log.clean_offsets().set(self.log.topic_partition(), round.end)?;
        Ok(round)
    }

    fn reopen(&mut self, clean: bool) {
        self.committer.stop();
        let before = self.producers();
        let clean = clean && self.log.close().is_ok();
        let recovery_point = if clean { self.log.log_end_offset() } else { self.recovery_point };
        let end = self.log.log_end_offset();
        (self.committer, self.log) = open(&self.fs, &self.config, self.ms, clean, recovery_point);
        assert_eq!(self.log.log_end_offset(), end);
        self.settle();
        assert_eq!(self.producers(), before, "producers after a restart");
    }

    fn producers(&self) -> BTreeMap<i64, (i16, i32, Option<i64>)> {
        let all = self.log.producers();
        all.iter().map(|p| (p.producer_id, (p.producer_epoch, p.last_sequence(), p.current_txn_first_offset))).collect()
    }

    /// What a consumer with `read_committed` gets from an offset on.
    fn read_committed(&self, from: i64) -> Vec<Record> {
        let (mut offset, end) = (from, self.log.last_stable_offset(self.log.high_watermark()));
        let mut aborted = self.log.aborted_transactions(from, end);
        aborted.sort_by_key(|a| std::cmp::Reverse(a.first_offset));
        let mut dropping = HashSet::new();
        let mut out: Vec<Record> = Vec::new();
        while offset < end {
            let data = self.log.read(offset, 900, end, true).unwrap();
            let next = data.next_offset;
            let bytes = data.into_contiguous();
            if bytes.is_empty() {
                break;
            }
            for batch in batches(bytes) {
                let batch = batch.unwrap();
                assert!(batch.crc_valid());
                while aborted.last().is_some_and(|a| a.first_offset <= batch.last_offset()) {
                    dropping.extend(aborted.pop().map(|a| a.producer_id));
                }
                if batch.is_control() {
                    let marker = batch.records(DecompressLimit::DEFAULT).unwrap().next();
                    if marker.is_some_and(|m| ControlType::of(&m.unwrap()).unwrap() == Some(ControlType::Abort)) {
                        dropping.remove(&batch.producer_id());
                    }
                } else if !(batch.is_transactional() && dropping.contains(&batch.producer_id())) {
                    let records = batch.records(DecompressLimit::DEFAULT).unwrap().map(Result::unwrap);
                    out.extend(records.filter(|r| r.offset >= from));
                }
            }
            assert!(next > offset);
            offset = next;
        }
        out
    }

    fn cleaned_to(&self) -> i64 {
        self.log.clean_offsets().get(self.log.topic_partition()).unwrap_or(0)
    }

    /// Below the cleaned offset each key has its last record only; if no round was broken off, everything is there above it.
    fn check(&self, whole_rounds: bool) {
        let cleaned_to = self.cleaned_to();
        let stable = self.log.last_stable_offset(self.log.high_watermark());
        let mut last: HashMap<&[u8], (i64, Option<&[u8]>)> = HashMap::new();
        let mut last_below: HashMap<&[u8], i64> = HashMap::new();
        for (offset, (key, value)) in self.visible.range(..stable) {
            last.insert(key, (*offset, value.as_deref()));
            if *offset < cleaned_to {
                last_below.insert(key, *offset);
            }
        }
        let found = self.read_committed(0);
        assert!(found.windows(2).all(|w| w[0].offset < w[1].offset), "offsets grow");
        let mut seen: HashMap<Vec<u8>, (i64, Option<Vec<u8>>)> = HashMap::new();
        for r in &found {
            let (key, value) = self.visible.get(&r.offset).unwrap_or_else(|| panic!("{r:?} was never committed"));
            assert_eq!((r.key.as_deref(), r.value.as_deref()), (Some(&key[..]), value.as_deref()));
            assert_eq!(r.headers.len(), 1);
            if r.offset < cleaned_to {
                assert_eq!(last_below.get(&key[..]), Some(&r.offset), "superseded below {cleaned_to}");
            }
            seen.insert(key.clone(), (r.offset, value.clone()));
        }
        for (key, (offset, value)) in &last {
            match seen.get(*key) {
                Some(found) => assert_eq!((found.0, found.1.as_deref()), (*offset, *value), "the last of {key:?}"),
                None => assert_eq!(*value, None, "{key:?} is lost"),
            }
        }
        for (offset, (key, _)) in self.visible.range(cleaned_to..stable).filter(|_| whole_rounds) {
            assert!(found.iter().any(|r| r.offset == *offset), "{key:?} at {offset} is not in the cleaned part");
        }
        let middle = stable / 2;
        let tail: Vec<_> = found.iter().filter(|r| r.offset >= middle).cloned().collect();
        assert_eq!(self.read_committed(middle), tail, "from the middle");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append { producer: i64, codec: usize, keys: Vec<(u8, bool)> },
    Transactional { producer: i64, codec: usize, keys: Vec<(u8, bool)> },
    End { producer: i64, committed: bool },
    Clean { map_entries: usize },
    CrashWhileCleaning { map_entries: usize, after: u64, power: bool },
    Advance { ms: i64 },
    Checkpoint,
    Restart { clean: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = || prop::collection::vec((0..6u8, prop::bool::weighted(0.25)), 1..5);
    let step = prop_oneof![
        6 => (prop_oneof![Just(0i64), Just(1)], 0..9usize, keys())
            .prop_map(|(producer, codec, keys)| Step::Append { producer, codec: codec.saturating_sub(4), keys }),
        5 => (10..13i64, 0..9usize, keys())
            .prop_map(|(producer, codec, keys)| Step::Transactional { producer, codec: codec.saturating_sub(4), keys }),
        4 => (10..13i64, any::<bool>()).prop_map(|(producer, committed)| Step::End { producer, committed }),
        2 => prop_oneof![Just(3usize), Just(5), Just(100)].prop_map(|map_entries| Step::Clean { map_entries }),
        2 => (prop_oneof![Just(3usize), Just(100)], 0..60u64, any::<bool>())
            .prop_map(|(map_entries, after, power)| Step::CrashWhileCleaning { map_entries, after, power }),
        1 => prop_oneof![Just(10i64), Just(600), Just(1500)].prop_map(|ms| Step::Advance { ms }),
        1 => Just(Step::Checkpoint),
        1 => any::<bool>().prop_map(|clean| Step::Restart { clean }),
    ];
    prop::collection::vec(step, 1..70)
}

fn run(seed: u64, steps: &[Step]) {
    let mut w = World::new(seed, config(&[]));
    let mut broken_off = false;
    for step in steps {
        match step {
            Step::Append { producer, codec, keys } => w.append(*producer, false, *codec, keys),
            Step::Transactional { producer, codec, keys } => w.append(*producer, true, *codec, keys),
            Step::End { producer, committed } => w.end_transaction(*producer, *committed),
            Step::Clean { map_entries } => {
                w.clean(*map_entries).unwrap();
                w.check(!broken_off);
            }
            Step::CrashWhileCleaning { map_entries, after, power } => {
                w.fs.die_after(*after);
                broken_off |= w.clean(*map_entries).is_err();
                w.committer.stop();
                if *power {
                    w.fs.power_cut();
                } else {
                    w.fs.revive();
                }
                w.reopen(false);
                w.check(!broken_off);
            }
            Step::Advance { ms } => w.ms += ms,
            Step::Checkpoint => w.recovery_point = w.log.recovery_point(),
            Step::Restart { clean } => {
                if *clean {
                    w.log.close().unwrap();
                }
                w.reopen(*clean);
                w.check(!broken_off);
            }
        }
    }
    // two rounds with the tombstones' time between them: nothing that was deleted is left
    w.clean(1000).unwrap();
    w.ms += 5000;
    (0..4).for_each(|_| w.append(0, false, 0, &[(99, false); 4]));
    w.clean(1000).unwrap();
    w.check(false);
}

/// A history with a bit of everything, several segments long.
fn story(w: &mut World) {
    for n in 0..7u8 {
        w.append(0, false, usize::from(n), &[(n % 5, n % 4 == 0), (n % 3, false)]);
        w.append(10 + i64::from(n % 2), true, usize::from(n), &[(n % 4, false), (5, n % 2 == 0)]);
        w.end_transaction(10 + i64::from(n % 2), n % 3 > 0);
    }
}

#[test]
fn a_crash_at_any_step_of_a_round_is_survived() {
    for power in [false, true] {
        let mut steps = 0;
        loop {
            let mut w = World::new(steps, config(&[]));
            story(&mut w);
            w.recovery_point = if steps % 2 == 0 { 0 } else { w.log.recovery_point() };
            w.fs.die_after(steps);
            let complete = w.clean(1000).is_ok();
            w.committer.stop();
            if power {
                w.fs.power_cut()
            } else {
                w.fs.revive()
            }
            w.reopen(false);
            w.check(complete);
            for name in w.fs.list(Path::new(DIR)).unwrap() {
                assert!([".cleaned", ".swap", ".deleted", ".tmp"].iter().all(|e| !name.ends_with(e)), "{name}");
            }
            w.clean(1000).unwrap();
            w.check(complete);
            assert_eq!(w.cleaned_to(), w.log.clean_view().active_base);
            if complete {
                break;
            }
            steps += 1;
        }
        assert!(steps > 60, "{steps}");
    }
}

#[test]
fn a_full_disk_stops_a_round_and_nothing_else() {
    let mut w = World::new(1, config(&[]));
    story(&mut w);
    let used = w.fs.used();
    for more in [0, 100, 300] {
        w.fs.set_capacity(Some(used + more));
        assert!(matches!(w.clean(1000), Err(Stopped::Failed(_))), "{more}");
        assert!(!w.log.is_offline());
        w.check(false);
    }
    w.fs.set_capacity(None);
    w.clean(1000).unwrap();
    w.check(true);
    assert!(w.fs.used() < used);
    w.reopen(true);
    w.check(true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_last_of_each_key_stays_and_nothing_comes_back(seed in any::<u64>(), steps in steps()) {
        run(seed, &steps);
    }
}
