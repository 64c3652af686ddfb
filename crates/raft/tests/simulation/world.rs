//! Members of a quorum with their disks and the network between them, on virtual time; everything follows from a seed.
//!
//! After every effect the promises of the protocol are checked: one leader in an epoch, who leads has all that is committed, and what is
//! committed is the same everywhere for ever.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use milena_common::{Now, Uuid};
use milena_raft::{
    Epochs, Input, LogBatch, OffsetAndEpoch, Output, QuorumState, RaftConfig, RaftCore, Request, RequestId, Response,
    Timeouts, Voter, read_batches,
};
use milena_raft::{Fetched, Head};

/// What may be wrong with a member's disk, to see that the checks notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    None,
    /// A crash forgets what was said to be durable.
    SyncsNothing,
    /// A crash forgets the vote.
    ForgetsVotes,
    /// Nothing is ever cut off.
    TruncatesNothing,
    /// A leader counts records as committed that only it has.
    CommitsAlone,
}

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678_9ABC_DEF1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    pub fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

struct Batch {
    read: LogBatch,
    raw: Bytes,
}

#[derive(Default)]
struct Disk {
    state: QuorumState,
    batches: Vec<Batch>,
    durable_end: i64,
    /// How often it was cut: a sync that began before says nothing about what came after.
    cuts: u64,
}

impl Disk {
    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.read.last_offset + 1)
    }

    fn append(&mut self, bytes: &Bytes) {
        let mut rest = bytes.clone();
        for read in read_batches(bytes.clone()).expect("whole batches") {
            assert_eq!(read.base_offset, self.end(), "appended out of order");
            let raw = rest.split_to(read.size_in_bytes);
            self.batches.push(Batch { read, raw });
        }
    }

    fn truncate_to(&mut self, offset: i64) {
        self.batches.retain(|batch| batch.read.base_offset < offset);
        assert!(self.end() <= offset, "cut within a batch");
        self.durable_end = self.durable_end.min(offset);
        self.cuts += 1;
    }

    fn epochs(&self) -> Epochs {
        let starts = self.batches.iter().map(|batch| (batch.read.epoch, batch.read.base_offset));
        Epochs::new(OffsetAndEpoch::default(), self.end(), starts)
    }

    /// The batch that holds an offset, as it is compared.
    fn at(&self, offset: i64) -> Option<&Bytes> {
        let i = self.batches.partition_point(|batch| batch.read.last_offset < offset);
        self.batches.get(i).map(|batch| &batch.raw)
    }

    fn read(&self, from: i64, most: usize) -> Bytes {
        let mut out = BytesMut::new();
        self.batches
            .iter()
            .filter(|b| b.read.base_offset >= from)
            .take(most)
            .for_each(|b| out.extend_from_slice(&b.raw));
        out.freeze()
    }
}

struct Member {
    core: Option<RaftCore>,
    disk: Disk,
    checked: i64,
}

enum Event {
    Ask { to: i32, from: i32, call: RequestId, request: Request },
    Answer { to: i32, from: i32, call: RequestId, response: Option<Response> },
    Synced { id: i32, end: i64, cuts: u64 },
    Restart { id: i32 },
}

pub struct World {
    pub random: Random,
    pub now_ms: u64,
    members: BTreeMap<i32, Member>,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    /// Who asked what, of the requests that wait for an answer.
    open: BTreeMap<(i32, RequestId), (i32, RequestId)>,
    last_request: u64,
    /// From whom to whom nothing gets through.
    cut: BTreeSet<(i32, i32)>,
    /// One message in so many is lost, and in so many doubled.
    loss: u64,
    leaders: BTreeMap<i32, i32>,
    committed: Vec<Bytes>,
    lie: Lie,
    pub appended: u64,
    pub elections: u64,
}

impl World {
    pub fn new(seed: u64, size: i32, lie: Lie) -> World {
        let mut world = World {
            random: Random::new(seed),
            now_ms: 1000,
            members: (1..=size).map(|id| (id, Member { core: None, disk: Disk::default(), checked: 0 })).collect(),
            events: BTreeMap::new(),
            scheduled: 0,
            open: BTreeMap::new(),
            last_request: 0,
            cut: BTreeSet::new(),
            loss: 20,
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            lie,
            appended: 0,
            elections: 0,
        };
        (1..=size).for_each(|id| world.start(id));
        world
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: 1_700_000_000_000 + i64::try_from(self.now_ms).expect("small") }
    }

    fn schedule(&mut self, in_ms: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now_ms + in_ms, self.scheduled), event);
    }

    pub fn ids(&self) -> Vec<i32> {
        self.members.keys().copied().collect()
    }

    fn start(&mut self, id: i32) {
        let voter = |id| Voter { id, directory_id: Uuid::ZERO };
        let config = RaftConfig {
            node_id: id,
            directory_id: Uuid::from_u128(id.unsigned_abs().into()),
            voters: self.members.keys().copied().map(voter).collect(),
            kraft_version: 0,
            bootstrap: Vec::new(),
            timeouts: Timeouts::default(),
            seed: self.random.below(u64::MAX),
        };
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.core.is_some() {
            return;
        }
        // what was found is synced before it is counted
        member.disk.durable_end = member.disk.end();
        member.checked = 0;
        let disk = &member.disk;
        member.core = Some(RaftCore::new(config, disk.state.clone(), disk.epochs(), disk.durable_end, 0));
        self.step(id, Input::Start);
    }

    /// Stops a member at once; its disk keeps what was synced, and perhaps more.
    pub fn crash(&mut self, id: i32) {
        let keep_ms = self.random.below(3);
        let lie = self.lie;
        let Some(member) = self.members.get_mut(&id).filter(|member| member.core.is_some()) else { return };
        member.core = None;
        let disk = &mut member.disk;
        let mut kept = if lie == Lie::SyncsNothing { 0 } else { disk.durable_end };
        if keep_ms == 0 {
            kept = disk.end();
        }
        disk.batches.retain(|batch| batch.read.base_offset < kept);
        disk.cuts += 1;
        disk.durable_end = disk.durable_end.min(disk.end());
        if lie == Lie::ForgetsVotes {
            disk.state = QuorumState::default();
        }
        self.open.retain(|(at, _), _| *at != id);
        let pause = 1 + self.random.below(4000);
        self.schedule(pause, Event::Restart { id });
    }

    pub fn cut(&mut self, from: i32, to: i32) {
        self.cut.insert((from, to));
    }

    /// All is well from now on.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.loss = u64::MAX;
        self.ids().into_iter().for_each(|id| self.start(id));
    }

    pub fn heal_network(&mut self) {
        self.cut.clear();
    }

    pub fn leader(&self) -> Option<i32> {
        let mut leading: Vec<(i32, i32)> = (self.members.iter())
            .filter_map(|(id, member)| {
                member.core.as_ref().filter(|c| c.epoch_start_offset().is_some()).map(|c| (c.epoch(), *id))
            })
            .collect();
        leading.sort_unstable();
        leading.pop().map(|(_, id)| id)
    }

    /// Whoever believes to lead is given records.
    pub fn append(&mut self) {
        let leading =
            |member: &Member| member.core.as_ref().filter(|c| c.epoch_start_offset().is_some()).map(RaftCore::epoch);
        let leaders: Vec<(i32, i32)> =
            self.members.iter().filter_map(|(id, member)| leading(member).map(|epoch| (*id, epoch))).collect();
        for (id, epoch) in leaders {
            self.appended += 1;
            let records =
                (0..1 + self.random.below(3)).map(|i| Bytes::from(format!("{}-{i}", self.appended))).collect();
            self.step(id, Input::Append { epoch, records });
        }
    }

    pub fn shut_down(&mut self, id: i32) {
        self.step(id, Input::Shutdown);
    }

    /// Lets time pass.
    pub fn run(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        loop {
            let deadlines =
                (self.members.iter()).filter_map(|(id, member)| Some((member.core.as_ref()?.next_deadline_ms()?, *id)));
            let deadline = deadlines.min();
            let event = self.events.keys().next().map(|(at, _)| *at);
            let next = deadline.map(|(at, _)| at).into_iter().chain(event).min().unwrap_or(u64::MAX);
            if next > until {
                self.now_ms = until;
                return;
            }
            self.now_ms = self.now_ms.max(next);
            match deadline {
                Some((at, id)) if event.is_none_or(|event| at < event) => self.step(id, Input::Tick),
                _ => self.next_event(),
            }
        }
    }

    fn next_event(&mut self) {
        let Some((_, event)) = self.events.pop_first() else { return };
        match event {
            Event::Ask { to, from, call, request } => {
                self.last_request += 1;
                let id = RequestId(self.last_request);
                self.open.insert((to, id), (from, call));
                self.step(to, Input::Request { id, request });
            }
            Event::Answer { to, from, call, response } => self.step(to, Input::Response { from, id: call, response }),
            Event::Synced { id, end, cuts } => {
                let Some(member) = self.members.get_mut(&id).filter(|member| member.core.is_some()) else { return };
                if member.disk.cuts != cuts {
                    return;
                }
                member.disk.durable_end = member.disk.durable_end.max(end);
                self.step(id, Input::Durable { end_offset: end });
            }
            Event::Restart { id } => self.start(id),
        }
    }

    fn step(&mut self, id: i32, input: Input) {
        let now = self.now();
        let Some(core) = self.members.get_mut(&id).and_then(|member| member.core.as_mut()) else { return };
        let outputs = core.step(now, input);
        for output in outputs {
            // a crash may come between any two effects
            if self.loss < u64::MAX && self.random.one_in(3000) {
                return self.crash(id);
            }
            self.carry_out(id, output);
        }
    }

    fn carry_out(&mut self, id: i32, output: Output) {
        let lie = self.lie;
        let delay = 1 + self.random.below(20);
        let Some(member) = self.members.get_mut(&id) else { return };
        match output {
            Output::WriteQuorumState(state) => member.disk.state = state,
            Output::AppendBatch(bytes) | Output::AppendFetched(bytes) => {
                if lie == Lie::TruncatesNothing
                    && read_batches(bytes.clone()).expect("batches")[0].base_offset != member.disk.end()
                {
                    return;
                }
                member.disk.append(&bytes);
                let end = member.disk.end();
                let cuts = member.disk.cuts;
                self.schedule(delay, Event::Synced { id, end, cuts });
            }
            Output::TruncateTo(offset) => {
                if lie != Lie::TruncatesNothing {
                    member.disk.truncate_to(offset);
                }
            }
            Output::HighWatermark(offset) => self.check_committed(id, offset),
            Output::Appended { last_offset } if lie == Lie::CommitsAlone => self.check_committed(id, last_offset + 1),
            Output::LeaderChanged { leader_id, epoch } if leader_id == id => self.check_leader(id, epoch),
            Output::Send { to, id: call, request } => self.send(id, to, Event::Ask { to, from: id, call, request }),
            Output::Respond { id: request, response } => self.respond(id, request, response),
            Output::RespondRecords { id: request, head, from, high_watermark } => {
                let most = 1 + usize::try_from(self.random.below(4)).expect("small");
                let Some(member) = self.members.get(&id) else { return };
                let fetched = Fetched::Records { records: member.disk.read(from, most), high_watermark };
                let response = Response::Fetch { head: Head { ..head }, fetched };
                self.respond(id, request, response);
            }
            Output::NeedSnapshot { .. } => panic!("no log here begins late"),
            Output::Appended { .. } | Output::NotLeader | Output::TooLarge { .. } | Output::LeaderChanged { .. } => {}
        }
    }

    fn respond(&mut self, id: i32, request: RequestId, response: Response) {
        let Some((asker, call)) = self.open.remove(&(id, request)) else { return };
        self.send(id, asker, Event::Answer { to: asker, from: id, call, response: Some(response) });
    }

    fn send(&mut self, from: i32, to: i32, event: Event) {
        if self.cut.contains(&(from, to)) || (self.loss < u64::MAX && self.random.one_in(self.loss)) {
            return;
        }
        let slow = if self.random.one_in(10) { 600 } else { 15 };
        let delay = 1 + self.random.below(slow);
        if self.loss < u64::MAX
            && self.random.one_in(self.loss)
            && let Event::Ask { to, from, call, request } = &event
        {
            let again = Event::Ask { to: *to, from: *from, call: *call, request: request.clone() };
            let later = delay + self.random.below(3000);
            self.schedule(later, again);
        }
        self.schedule(delay, event);
    }

    fn check_leader(&mut self, id: i32, epoch: i32) {
        self.elections += 1;
        let known = *self.leaders.entry(epoch).or_insert(id);
        assert_eq!(known, id, "two leaders in epoch {epoch}");
        let Some(member) = self.members.get(&id) else { return };
        for (offset, committed) in self.committed.iter().enumerate() {
            let held = member.disk.at(offset as i64);
            assert_eq!(held, Some(committed), "leader {id} of epoch {epoch} lacks offset {offset}");
        }
    }

    fn check_committed(&mut self, id: i32, high_watermark: i64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        for offset in member.checked..high_watermark {
            let held = member.disk.at(offset).cloned();
            let Some(held) = held else { panic!("member {id} lacks offset {offset}, which it says is committed") };
            match self.committed.get(offset as usize) {
                Some(committed) => assert_eq!(&held, committed, "member {id} differs at offset {offset}"),
                None => self.committed.push(held),
            }
        }
        member.checked = member.checked.max(high_watermark);
    }

    /// Everybody follows one leader and has the same log, all of it committed.
    pub fn check_converged(&mut self) {
        let leader = self.leader().expect("a leader");
        let ends: Vec<_> = self.members.iter().map(|(id, m)| (*id, m.disk.end(), m.checked)).collect();
        let end = self.members.get(&leader).expect("the leader").disk.end();
        for (id, log_end, checked) in ends {
            assert_eq!((log_end, checked), (end, end), "member {id}");
            let core = self.members.get(&id).and_then(|member| member.core.as_ref()).expect("it runs");
            assert_eq!(core.leader_id(), leader, "member {id}");
        }
        assert_eq!(self.committed.len() as i64, end);
    }
}
