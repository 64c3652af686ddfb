//! The world of the simulation: brokers with model logs, a network, the real controller, and what goes wrong.

mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_common::config::BrokerConfig;
use milena_common::{Clock as _, ManualClock, Now, TopicPartition, Uuid};
use milena_metadata::image::{MetadataImage, PartitionImage};
use milena_metadata::testing::{CLUSTER_ID, MemoryLog, block_on, registration};
use milena_metadata::versions::LATEST_METADATA_VERSION;
use milena_metadata::{Bootstrap, Controller, ControllerConfig, MetadataCache, MetadataLoader};
use milena_protocol::messages as msg;
use milena_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use milena_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};

use self::replicas::position;
use super::disk::{Disk, Entry};
use crate::fetch_session::FetchSessions;
use crate::fetcher::{FetchLimits, FetcherCore};
use crate::partition::{Effects, Ends, Partition, Proposal, Role};

const BROKERS: i32 = 4;
/// The controller's place in the network.
const CONTROLLER: i32 = 0;
const LAG_MAX_MS: u64 = 600;
const REQUEST_TIMEOUT_MS: u64 = 400;
/// Bytes of a record in an answer.
const ENTRY_BYTES: usize = 12;

/// One rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    None,
    /// A follower asks for more before what it has is on its disk.
    FollowerCountsUnsynced,
    /// A leader counts what is not on its own disk.
    LeaderCountsUnsynced,
    /// A follower keeps what its leader does not have.
    NeverCut,
    /// A follower cuts at the leader's end of an epoch that it does not know itself.
    CutWithoutEpochs,
    /// Whoever is alive may lead.
    UncleanElection,
    /// A leader serves followers of older epochs.
    NoEpochFencing,
    /// A smaller set of in-sync replicas counts before the controller recorded it.
    ShrinkAtOnce,
    /// A replica that is proposed does not count before the controller recorded it.
    ProposedDoesNotCount,
    /// What an old leader sent is appended although another leads.
    LateAnswersCount,
    /// A replica is in sync as soon as it fetches.
    JoinsBehind,
    /// A new leader takes all it has for committed.
    LeaderCommitsAll,
}

impl Variant {
    pub const BROKEN: [Variant; 11] = [
        Variant::FollowerCountsUnsynced,
        Variant::LeaderCountsUnsynced,
        Variant::NeverCut,
        Variant::CutWithoutEpochs,
        Variant::UncleanElection,
        Variant::NoEpochFencing,
        Variant::ShrinkAtOnce,
        Variant::ProposedDoesNotCount,
        Variant::LateAnswersCount,
        Variant::JoinsBehind,
        Variant::LeaderCommitsAll,
    ];
}

/// What happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub acknowledged: u64,
    pub crashes: u64,
    pub elections: u64,
    pub cuts: u64,
    pub isr_changes: u64,
    pub reassignments: u64,
}

impl Summary {
    pub fn add(&mut self, other: &Summary) {
        self.acknowledged += other.acknowledged;
        self.crashes += other.crashes;
        self.elections += other.elections;
        self.cuts += other.cuts;
        self.isr_changes += other.isr_changes;
        self.reassignments += other.reassignments;
    }
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// Which life of which broker an event is for.
type Life = (i32, u64);

enum Event {
    Pull(Life),
    Heartbeat(Life),
    Register(Life),
    Tick(Life),
    Poll(Life),
    Synced { life: Life, end: i64, cuts: u64 },
    FetchArrives { from: Life, to: i32, number: u64, request: msg::FetchRequest },
    FetchAnswered { to: Life, from: i32, number: u64, response: msg::FetchResponse },
    FetchTimedOut { life: Life, number: u64 },
    IsrSend(Life),
    IsrArrives { from: Life, number: u64, proposal: Proposal, request: msg::AlterPartitionRequest },
    IsrAnswered { to: Life, number: u64, proposal: Proposal, response: msg::AlterPartitionResponse },
    IsrTimedOut { life: Life, number: u64 },
    ControllerTick,
    Produce,
    Chaos,
}

/// A replica of a broker that runs.
struct Copy {
    core: Partition,
    image: Option<Arc<PartitionImage>>,
    fetcher: Option<(i32, FetcherCore)>,
    in_flight: Option<u64>,
    syncing: bool,
    /// Offset, epoch and value of what clients wait for.
    waiting: Vec<(i64, i32, u64)>,
    /// Compared with what is committed.
    checked: i64,
    last_high_watermark: i64,
    proposal: Option<Proposal>,
    isr_in_flight: Option<u64>,
}

struct Running {
    image: usize,
    broker_epoch: i64,
    sessions: FetchSessions,
    copy: Option<Copy>,
}

struct Broker {
    life: u64,
    running: Option<Running>,
    disk: Option<Disk>,
}

pub(super) struct World {
    rng: Rng,
    variant: Variant,
    clock: Arc<ManualClock>,
    next_event: u64,
    events: BTreeMap<(u64, u64), Event>,
    controller: Controller,
    log: Arc<MemoryLog>,
    fed: usize,
    loader: MetadataLoader,
    images: Vec<Arc<MetadataImage>>,
    topic_id: Uuid,
    brokers: BTreeMap<i32, Broker>,
    cut: BTreeSet<(i32, i32)>,
    committed: Vec<Entry>,
    next_value: u64,
    next_number: u64,
    calm: bool,
    producing: bool,
    violation: Option<String>,
    summary: Summary,
}

impl World {
    pub fn new(seed: u64, variant: Variant) -> World {
        let given = [
            ("process.roles", "broker,controller"),
            ("node.id", "100"),
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.voters", "100@127.0.0.1:20750"),
            ("listeners", "PLAINTEXT://127.0.0.1:19750,CONTROLLER://127.0.0.1:20750"),
            ("broker.session.timeout.ms", "1500"),
        ];
        let pairs = given.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let broker = Arc::new(BrokerConfig::from_properties(pairs).expect("valid"));
        let elr = BTreeMap::from([("eligible.leader.replicas.version".to_owned(), i16::from(seed.is_multiple_of(2)))]);
        let config = ControllerConfig {
            node_id: 100,
            cluster_id: CLUSTER_ID.to_owned(),
            broker,
            bootstrap: Bootstrap::with_features(LATEST_METADATA_VERSION, elr),
        };
        let clock = Arc::new(ManualClock::new(Now { mono_ms: 1_000, wall_ms: 1_000 }));
        let log = Arc::new(MemoryLog::default());
        let controller = Controller::new(config, log.clone(), clock.clone());
        controller.on_become_leader(1, MetadataImage::default(), false).expect("begins");
        controller.on_committed(i64::MAX);
        let mut world = World {
            rng: Rng(seed ^ 0x5EED),
            variant,
            clock,
            next_event: 0,
            events: BTreeMap::new(),
            controller,
            log,
            fed: 0,
            loader: MetadataLoader::new(MetadataCache::default()),
            images: Vec::new(),
            topic_id: Uuid::ZERO,
            brokers: BTreeMap::new(),
            cut: BTreeSet::new(),
            committed: Vec::new(),
            next_value: 0,
            next_number: 0,
            calm: false,
            producing: true,
            violation: None,
            summary: Summary::default(),
        };
        for id in 1..=BROKERS {
            world.brokers.insert(id, Broker { life: 0, running: None, disk: None });
            world.publish();
            world.start(id);
        }
        world.at(100, Event::ControllerTick);
        world.calm = true;
        world.pass(400);
        world.create_topic();
        world.calm = false;
        world.at(1, Event::Produce);
        world.at(200, Event::Chaos);
        world
    }

    fn create_topic(&mut self) {
        let assignments = vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1, 2, 3] }];
        let unclean = (self.variant == Variant::UncleanElection).to_string();
        let configs = [("min.insync.replicas", "2"), ("unclean.leader.election.enable", unclean.as_str())];
        let configs =
            configs.map(|(k, v)| CreatableTopicConfig { name: k.to_owned(), value: Some(v.to_owned()) }).to_vec();
        let topic =
            CreatableTopic { name: "t".to_owned(), num_partitions: -1, replication_factor: -1, assignments, configs };
        let request = msg::CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let answer = block_on(self.controller.create_topics(request)).expect("answers");
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
        self.topic_id = answer.topics[0].topic_id;
        self.publish();
    }

    pub fn summary(&self) -> Summary {
        self.summary.clone()
    }

    // ---- Time ----

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn at(&mut self, in_ms: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now().mono_ms + in_ms, self.next_event), event);
    }

    /// Lives so many events.
    pub fn run(&mut self, events: usize) -> Result<(), String> {
        for _ in 0..events {
            self.step()?;
        }
        Ok(())
    }

    /// Lets time pass, whatever happens in it.
    fn pass(&mut self, ms: u64) {
        let end = self.now().mono_ms + ms;
        while self.events.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            let _ = self.step();
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let ((at, _), event) = self.events.pop_first().expect("something always comes");
        let ahead = at.saturating_sub(self.now().mono_ms);
        self.clock.advance_ms(ahead);
        self.happen(event);
        match self.violation.take() {
            Some(why) => Err(format!("at {at} ms: {why}")),
            None => Ok(()),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ControllerTick => {
                self.controller.on_tick();
                self.publish();
                self.at(100, Event::ControllerTick);
            }
            Event::Produce => {
                self.produce();
                let pause = self.rng.between(5, 40);
                self.at(pause, Event::Produce);
            }
            Event::Chaos => {
                if !self.calm {
                    self.go_wrong();
                }
                let pause = self.rng.between(100, 500);
                self.at(pause, Event::Chaos);
            }
            Event::Register(life) if self.lives(life) => self.register(life),
            Event::Heartbeat(life) if self.lives(life) => self.heartbeat(life),
            Event::Pull(life) if self.lives(life) => {
                if !self.is_cut(CONTROLLER, life.0) {
                    self.catch_up(life);
                }
                let pause = if self.rng.percent(3) { 400 } else { self.rng.between(2, 40) };
                self.at(pause, Event::Pull(life));
            }
            Event::Tick(life) if self.lives(life) => {
                let now = self.now();
                if let Some((copy, disk)) = self.copy(life.0) {
                    disk.checkpointed_high_watermark = copy.core.high_watermark();
                    let effects = copy.core.on_tick(now, LAG_MAX_MS);
                    self.act(life, effects);
                }
                self.at(LAG_MAX_MS / 2, Event::Tick(life));
            }
            Event::Poll(life) if self.lives(life) => self.poll(life),
            Event::Synced { life, end, cuts } if self.lives(life) => self.synced(life, end, cuts),
            Event::FetchArrives { from, to, number, request } => self.serve(from, to, number, request),
            Event::FetchAnswered { to, from, number, response } if self.lives(to) => {
                self.fetch_answered(to, from, number, response);
            }
            Event::FetchTimedOut { life, number } if self.lives(life) => {
                let now = self.now();
                if let Some((copy, _)) = self.copy(life.0)
                    && copy.in_flight == Some(number)
                {
                    copy.in_flight = None;
                    if let Some((_, fetcher)) = &mut copy.fetcher {
                        fetcher.on_no_answer(now);
                    }
                    self.poll(life);
                }
            }
            Event::IsrSend(life) if self.lives(life) => self.send_proposal(life),
            Event::IsrArrives { from, number, proposal, request } => {
                if self.is_cut(from.0, CONTROLLER) {
                    return;
                }
                let response = block_on(self.controller.alter_partition(request)).expect("answers");
                self.publish();
                if !self.is_lost(CONTROLLER, from.0) {
                    let delay = self.delay();
                    self.at(delay, Event::IsrAnswered { to: from, number, proposal, response });
                }
            }
            Event::IsrAnswered { to, number, proposal, response } if self.lives(to) => {
                self.proposal_answered(to, number, &proposal, &response);
            }
            Event::IsrTimedOut { life, number } if self.lives(life) => {
                if let Some((copy, _)) = self.copy(life.0)
                    && copy.isr_in_flight == Some(number)
                {
                    copy.isr_in_flight = None;
                    self.at(1, Event::IsrSend(life));
                }
            }
            // for a life that is over
            _ => {}
        }
    }

    // ---- The network ----

    fn is_cut(&self, from: i32, to: i32) -> bool {
        self.cut.contains(&(from, to))
    }

    fn is_lost(&mut self, from: i32, to: i32) -> bool {
        self.is_cut(from, to) || (!self.calm && self.rng.percent(4))
    }

    fn delay(&mut self) -> u64 {
        match !self.calm && self.rng.percent(3) {
            true => self.rng.between(200, 3_000),
            false => self.rng.between(1, 15),
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    // ---- Lives of brokers ----

    fn lives(&self, (id, life): Life) -> bool {
        self.brokers.get(&id).is_some_and(|b| b.life == life && b.running.is_some())
    }

    fn start(&mut self, id: i32) {
        let image = self.images.len() - 1;
        let Some(broker) = self.brokers.get_mut(&id) else { return };
        broker.life += 1;
        broker.running = Some(Running { image, broker_epoch: -1, sessions: FetchSessions::new(1_000), copy: None });
        let life = (id, broker.life);
        self.apply(life);
        self.at(1, Event::Register(life));
        self.at(2, Event::Pull(life));
        self.at(LAG_MAX_MS / 2, Event::Tick(life));
    }

    fn crash(&mut self, id: i32) {
        let kept = self.rng.below(3) as i64;
        let Some(broker) = self.brokers.get_mut(&id) else { return };
        if broker.running.take().is_some() {
            self.summary.crashes += 1;
            if let Some(disk) = &mut broker.disk {
                disk.crash(kept);
            }
        }
    }

    fn register(&mut self, life: Life) {
        let incarnation_id = Uuid::from_u128((u128::from(life.1) << 8) + life.0 as u128 + (1 << 64));
        let request = registration(life.0, incarnation_id);
        let refused = self.is_lost(life.0, CONTROLLER) || {
            let answer = block_on(self.controller.register_broker(request)).expect("answers");
            self.publish();
            if answer.error_code == 0
                && let Some(running) = self.brokers.get_mut(&life.0).and_then(|b| b.running.as_mut())
            {
                running.broker_epoch = answer.broker_epoch;
            }
            answer.error_code != 0
        };
        match refused {
            true => self.at(100, Event::Register(life)),
            false => self.at(1, Event::Heartbeat(life)),
        }
    }

    fn heartbeat(&mut self, life: Life) {
        self.at(300, Event::Heartbeat(life));
        if self.is_lost(life.0, CONTROLLER) {
            return;
        }
        let Some(running) = self.brokers.get(&life.0).and_then(|b| b.running.as_ref()) else { return };
        let request = msg::BrokerHeartbeatRequest {
            broker_id: life.0,
            broker_epoch: running.broker_epoch,
            current_metadata_offset: self.images[running.image].last_offset(),
            ..Default::default()
        };
        block_on(self.controller.heartbeat(request)).expect("answers");
        self.publish();
    }

    fn go_wrong(&mut self) {
        let id = self.rng.between(1, BROKERS as u64 + 1) as i32;
        match self.rng.below(12) {
            0..=2 => self.crash(id),
            3..=6 => {
                if self.brokers[&id].running.is_none() {
                    self.start(id);
                }
            }
            7 => {
                let other = self.rng.below(BROKERS as u64 + 1) as i32;
                self.cut.insert((id, other));
                if self.rng.percent(50) {
                    self.cut.insert((other, id));
                }
            }
            8..=9 => self.cut.clear(),
            10 => self.reassign(),
            _ => {
                let request = msg::ElectLeadersRequest { election_type: 0, ..Default::default() };
                block_on(self.controller.elect_leaders(request)).expect("answers");
                self.publish();
            }
        }
    }

    fn reassign(&mut self) {
        let first = self.rng.below(BROKERS as u64) as i32;
        let replicas = (0..3).map(|n| (first + n) % BROKERS + 1).collect();
        let partitions = vec![ReassignablePartition { partition_index: 0, replicas: Some(replicas) }];
        let topics = vec![ReassignableTopic { name: "t".to_owned(), partitions }];
        let request = msg::AlterPartitionReassignmentsRequest { topics, ..Default::default() };
        block_on(self.controller.alter_partition_reassignments(request)).expect("answers");
        self.summary.reassignments += 1;
        self.publish();
    }

    // ---- Metadata ----

    fn publish(&mut self) {
        let batches: Vec<_> = self.log.batches_after(self.fed);
        self.fed += batches.len();
        for batch in batches {
            self.loader.replay(&batch).expect("replays");
            self.loader.publish();
            let image = Arc::clone(self.loader.published());
            let of = |image: &MetadataImage| image.topics.partition("t", 0).cloned();
            if let (Some(old), Some(new)) = (self.images.last().and_then(|image| of(image)), of(&image)) {
                self.summary.elections += u64::from(old.leader != new.leader && new.has_leader());
                self.summary.isr_changes += u64::from(old.isr != new.isr);
            }
            self.images.push(image);
        }
    }

    fn catch_up(&mut self, life: Life) {
        loop {
            let Some(running) = self.brokers.get_mut(&life.0).and_then(|b| b.running.as_mut()) else { return };
            if running.image + 1 >= self.images.len() {
                return;
            }
            running.image += 1;
            self.apply(life);
        }
    }

    /// What the broker's image says of the partition.
    fn apply(&mut self, life: Life) {
        let (id, now) = (life.0, self.now());
        let Some(broker) = self.brokers.get_mut(&id) else { return };
        let Some(running) = &mut broker.running else { return };
        let Some(image) = self.images[running.image].topics.partition("t", 0).cloned() else { return };
        if !image.replicas.contains(&id) {
            (running.copy, broker.disk) = (None, None);
            return;
        }
        let disk = broker.disk.get_or_insert_default();
        let ends = Ends { log_end: disk.end(), durable_end: disk.durable_end };
        let copy = running.copy.get_or_insert_with(|| Copy {
            core: Partition::new(id, ends, disk.checkpointed_high_watermark),
            image: None,
            fetcher: None,
            in_flight: None,
            syncing: false,
            waiting: Vec::new(),
            checked: 0,
            last_high_watermark: disk.checkpointed_high_watermark,
            proposal: None,
            isr_in_flight: None,
        });
        if copy.image.as_ref() == Some(&image) {
            return;
        }
        copy.image = Some(Arc::clone(&image));
        copy.core.on_min_isr(2);
        let effects = copy.core.on_metadata(&image, ends, now);
        if let Some(role) = effects.role {
            copy.waiting.clear();
            (copy.fetcher, copy.in_flight) = (None, None);
            match role {
                Role::Leader { epoch } => {
                    disk.begin_epoch(epoch);
                    let has_all = disk.entries.get(..self.committed.len()) == Some(&self.committed[..]);
                    if !has_all {
                        self.violation =
                            Some(format!("broker {id} leads in epoch {epoch} without all that is committed"));
                    }
                }
                Role::Follower { leader, epoch } if leader > 0 => {
                    let limits = FetchLimits {
                        replica_id: id,
                        max_wait_ms: 0,
                        min_bytes: 1,
                        max_bytes: 1 << 20,
                        partition_max_bytes: 1 << 20,
                        backoff_ms: 200,
                    };
                    let mut fetcher = FetcherCore::new(limits);
                    let position = position(disk, &copy.core);
                    fetcher.follow(TopicPartition::new("t", 0), self.topic_id, epoch, position);
                    copy.fetcher = Some((leader, fetcher));
                }
                Role::Follower { .. } => {}
            }
            if self.variant == Variant::LeaderCommitsAll && copy.core.is_leader() {
                let all = Effects { high_watermark: Some(disk.end()), ..Effects::default() };
                copy.core.on_truncated(ends, disk.end());
                self.act(life, all);
            }
        }
        self.act(life, effects);
        self.sync(life);
        self.poll(life);
    }

    // ---- The end ----

    /// Nothing goes wrong any more: all replicas must become the same, in sync, and writable.
    pub fn heal_and_converge(&mut self) -> Result<(), String> {
        self.calm = true;
        self.cut.clear();
        for id in 1..=BROKERS {
            if self.brokers[&id].running.is_none() {
                self.start(id);
            }
        }
        let (acknowledged, end) = (self.summary.acknowledged, self.now().mono_ms + 15_000);
        while self.now().mono_ms < end {
            self.producing = self.now().mono_ms + 3_000 < end;
            self.step()?;
        }
        let image = self.images.last().and_then(|image| image.topics.partition("t", 0).cloned()).expect("there is");
        if image.is_reassigning() || image.isr.len() != image.replicas.len() {
            return Err(format!("not all replicas came in sync: {image:?}"));
        }
        if self.summary.acknowledged == acknowledged {
            return Err("nothing is acknowledged although all is well".to_owned());
        }
        let committed = self.committed.clone();
        for id in image.replicas.clone() {
            let Some((copy, disk)) = self.copy(id) else { return Err(format!("broker {id} has no copy")) };
            let high_watermark = copy.core.high_watermark();
            if disk.entries != committed || high_watermark != disk.end() {
                let end = disk.end();
                return Err(format!("broker {id} has {end}, committed {high_watermark} of {}", committed.len()));
            }
        }
        Ok(())
    }
}
