//! What many producers, groups and partitions cost one node in memory, and how long groups take to settle. Ignored by default: these take
//! minutes, and their figures mean something on a quiet machine and a release build only:
//!
//! `MILENA_BIN=target/release/milena cargo test -p milena-compat --test outside figures -- --ignored --nocapture --test-threads=1`

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use milena_compat::batch::Batch;
use milena_compat::broker::Broker;
use milena_compat::wire::{Body, Fields, PRODUCE, Wire, create_topic, produce_body, produced, wait_until_led};

const OFFSET_COMMIT: i16 = 8;
const FIND_COORDINATOR: i16 = 10;
const JOIN_GROUP: i16 = 11;
const SYNC_GROUP: i16 = 14;
const CONSUMER_GROUP_HEARTBEAT: i16 = 68;

const PATIENCE: Duration = Duration::from_secs(60);
/// How many requests are under way at once on one connection.
const PIPELINE: usize = 50;

/// Memory that the process holds (`VmRSS`), in MiB.
fn resident(broker: &Broker) -> Result<f64> {
    let pid = broker.pid().context("a running broker")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024.0)
}

/// Prints what `load` adds to the memory of a broker that had `before`.
fn print(what: &str, broker: &Broker, before: f64, begin: Instant) -> Result<()> {
    let after = resident(broker)?;
    println!("{what}: {before:.1} -> {after:.1} MiB resident, loaded in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Sends all, some at the same time, and hands each answer to `check`.
fn pipeline(
    wire: &mut Wire,
    key: i16,
    version: i16,
    bodies: impl Iterator<Item = Body>,
    mut check: impl FnMut(Fields) -> Result<()>,
) -> Result<()> {
    let mut bodies = bodies.peekable();
    while bodies.peek().is_some() {
        let mut sent = 0;
        for body in bodies.by_ref().take(PIPELINE) {
            wire.send(key, version, &body.0)?;
            sent += 1;
        }
        for _ in 0..sent {
            let frame = wire.receive()?.context("the connection was closed")?;
            let mut fields = Fields::of(frame);
            fields.i32()?;
            check(fields)?;
        }
    }
    Ok(())
}

/// Waits until the coordinator of this group answers.
fn wait_for_coordinator(wire: &mut Wire, group: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        let mut f = wire.ask(FIND_COORDINATOR, 1, Body::new().string(group).i8(0))?;
        let _throttle = f.i32()?;
        let mut error = f.i16()?;
        if error == 0 {
            let mut f = wire.ask(OFFSET_COMMIT, 2, commit(group))?;
            error = committed(&mut f)?;
        }
        if error == 0 {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "the coordinator of {group} answers {error}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// OffsetCommit v2 of a consumer outside its group, for partition 0 of `figures`.
fn commit(group: &str) -> Body {
    let body = Body::new().string(group).i32(-1).string("").i64(-1);
    body.i32(1).string("figures").i32(1).i32(0).i64(7).string("")
}

fn committed(f: &mut Fields) -> Result<i16> {
    ensure!(f.count()? == 1, "one topic");
    f.string()?;
    ensure!(f.count()? == 1, "one partition");
    f.i32()?;
    f.i16()
}

#[test]
#[ignore = "takes minutes"]
fn figures_of_a_hundred_thousand_producers() -> Result<()> {
    const PRODUCERS: i64 = 100_000;
    let broker = Broker::start()?;
    let mut wire = Wire::connect(&broker.address())?;
    ensure!(create_topic(&mut wire, "figures", 1, 1, &[])?.0 == 0, "the topic");
    wait_until_led(&mut wire, "figures", 1)?;
    let (before, begin) = (resident(&broker)?, Instant::now());
    let bodies = (0..PRODUCERS).map(|id| {
        let mut batch = Batch::of(&[b"x"]);
        (batch.producer_id, batch.producer_epoch, batch.base_sequence) = (1_000_000 + id, 0, 0);
        produce_body("figures", 1, &[&batch.bytes()])
    });
    let mut last = -1;
    pipeline(&mut wire, PRODUCE, 8, bodies, |mut f| {
        let answer = produced(&mut f)?;
        ensure!(answer[0].error == 0, "{answer:?}");
        last = answer[0].base_offset;
        Ok(())
    })?;
    ensure!(last == PRODUCERS - 1, "every batch has an offset of its own: {last}");
    print("100,000 producer ids in one partition", &broker, before, begin)
}

#[test]
#[ignore = "takes minutes"]
fn figures_of_ten_thousand_groups() -> Result<()> {
    const GROUPS: usize = 10_000;
    let broker = Broker::start_with(&["group.initial.rebalance.delay.ms=0"])?;
    let mut wire = Wire::connect(&broker.address())?;
    ensure!(create_topic(&mut wire, "figures", 1, 1, &[])?.0 == 0, "the topic");
    wait_for_coordinator(&mut wire, "first")?;
    let (before, begin) = (resident(&broker)?, Instant::now());
    let bodies = (0..GROUPS).map(|i| commit(&format!("group-{i}")));
    pipeline(&mut wire, OFFSET_COMMIT, 2, bodies, |mut f| {
        let error = committed(&mut f)?;
        ensure!(error == 0, "a commit is refused: {error}");
        Ok(())
    })?;
    print("10,000 groups with an offset", &broker, before, begin)?;
    let (before, begin) = (resident(&broker)?, Instant::now());
    for i in 0..GROUPS {
        let group = format!("group-{i}");
        let mut member = Member::default();
        member.join(&mut wire, &group, "one")?;
        member.joined(&mut wire)?;
        member.sync(&mut wire, &group)?;
        ensure!(member.synced(&mut wire)? == 0, "{group} does not settle");
    }
    print("10,000 groups with a member too", &broker, before, begin)
}

#[test]
#[ignore = "takes minutes"]
fn figures_of_ten_thousand_partitions() -> Result<()> {
    const TOPICS: usize = 100;
    let broker = Broker::start()?;
    let mut wire = Wire::connect(&broker.address())?;
    let (before, begin) = (resident(&broker)?, Instant::now());
    for i in 0..TOPICS {
        let topic = format!("figures-{i}");
        let (error, message) = create_topic(&mut wire, &topic, 100, 1, &[])?;
        ensure!(error == 0, "{topic}: {error} {message:?}");
        wait_until_led(&mut wire, &topic, 100)?;
    }
    print("10,000 partitions", &broker, before, begin)
}

#[test]
#[ignore = "its limit is that of a quiet machine"]
fn figures_of_the_first_member_of_a_new_group() -> Result<()> {
    let broker = Broker::start()?;
    let mut wire = Wire::connect(&broker.address())?;
    ensure!(create_topic(&mut wire, "figures", 1, 1, &[])?.0 == 0, "the topic");
    wait_for_coordinator(&mut wire, "first")?;
    let compact = |body: Body, s: &str| body.uvarint(s.len() as u32 + 1).raw(s.as_bytes());
    let mut worst = Duration::ZERO;
    for i in 0..20 {
        let begin = Instant::now();
        // version 0, epoch 0: joins; the answer carries the assignment as soon as there is one
        let mut epoch = 0;
        let mut member = String::new();
        loop {
            let body = compact(compact(Body::new(), &format!("new-{i}")), &member).i32(epoch);
            let body = body.uvarint(0).uvarint(0).i32(300_000).uvarint(2);
            let body = compact(body, "figures").uvarint(0).uvarint(1).uvarint(0);
            wire.send_flexible(CONSUMER_GROUP_HEARTBEAT, 0, &body.0)?;
            let mut f = wire.answer()?;
            f.take(1)?;
            let (_throttle, error) = (f.i32()?, f.i16()?);
            let message = compact_string(&mut f)?;
            ensure!(error == 0, "{error} {message:?}");
            member = compact_string(&mut f)?.context("a member id")?;
            epoch = f.i32()?;
            let _interval = f.i32()?;
            // an assignment that is there, with partitions in it
            if f.i8()? == 1 && f.i8()? > 1 {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "no assignment");
        }
        worst = worst.max(begin.elapsed());
    }
    println!("the first member's assignment: {} ms at worst of 20", worst.as_millis());
    ensure!(worst <= Duration::from_millis(100), "more than 100 ms: {worst:?}");
    Ok(())
}

fn compact_string(f: &mut Fields) -> Result<Option<String>> {
    // shorter than 127 in these answers, so that the length has one byte
    let Some(n) = u8::try_from(f.i8()?)?.checked_sub(1) else { return Ok(None) };
    Ok(Some(String::from_utf8(f.take(usize::from(n))?.to_vec())?))
}

#[test]
#[ignore = "its limit is that of a quiet machine"]
fn figures_of_a_rebalance_of_fifty_members() -> Result<()> {
    const MEMBERS: usize = 50;
    let broker = Broker::start_with(&["group.initial.rebalance.delay.ms=500"])?;
    let mut wire = Wire::connect(&broker.address())?;
    ensure!(create_topic(&mut wire, "figures", 1, 1, &[])?.0 == 0, "the topic");
    wait_for_coordinator(&mut wire, "first")?;
    let mut members = (0..MEMBERS)
        .map(|_| Ok((Wire::connect(&broker.address())?, Member::default())))
        .collect::<Result<Vec<(Wire, Member)>>>()?;
    // the first time the delay is waited for, and once more because members came while it ran
    let took = rebalance(&mut members, "one")?;
    let beyond = took.saturating_sub(Duration::from_millis(1000));
    println!("50 members join: {} ms, {} ms beyond the delays", took.as_millis(), beyond.as_millis());
    ensure!(beyond <= Duration::from_secs(1), "more than a second beyond the delays: {took:?}");
    // everybody is known: nothing is waited for but their joins
    let took = rebalance(&mut members, "another")?;
    println!("50 members join again: {} ms", took.as_millis());
    ensure!(took <= Duration::from_secs(1), "more than a second: {took:?}");
    Ok(())
}

/// All join, all synchronise.
fn rebalance(members: &mut [(Wire, Member)], subscription: &str) -> Result<Duration> {
    let begin = Instant::now();
    for (wire, member) in members.iter_mut() {
        member.join(wire, "fifty", subscription)?;
    }
    for (wire, member) in members.iter_mut() {
        member.joined(wire)?;
    }
    let generation = members[0].1.generation;
    ensure!(members.iter().all(|(_, m)| m.generation == generation), "one generation");
    for (wire, member) in members.iter_mut() {
        member.sync(wire, "fifty")?;
    }
    for (wire, member) in members.iter_mut() {
        let error = member.synced(wire)?;
        ensure!(error == 0, "a member is refused: {error}");
    }
    Ok(begin.elapsed())
}

/// A member of a classic group.
#[derive(Default)]
struct Member {
    id: String,
    generation: i32,
    /// Everybody, if this one leads.
    others: Vec<String>,
}

impl Member {
    /// A known member that joins with another subscription than before starts a rebalance, whoever it is.
    fn join(&self, wire: &mut Wire, group: &str, subscription: &str) -> Result<()> {
        let body = Body::new().string(group).i32(45_000).i32(60_000).string(&self.id).string("consumer");
        wire.send(JOIN_GROUP, 2, &body.i32(1).string("range").bytes(subscription.as_bytes()).0)
    }

    fn joined(&mut self, wire: &mut Wire) -> Result<()> {
        let mut f = wire.answer()?;
        let (_throttle, error) = (f.i32()?, f.i16()?);
        ensure!(error == 0, "a member may not join: {error}");
        self.generation = f.i32()?;
        let (_protocol, _leader) = (f.string()?, f.string()?);
        self.id = f.string()?.context("a member id")?;
        self.others.clear();
        for _ in 0..f.count()? {
            self.others.push(f.string()?.context("a member id")?);
            f.bytes()?;
        }
        Ok(())
    }

    fn sync(&self, wire: &mut Wire, group: &str) -> Result<()> {
        let mut body = Body::new().string(group).i32(self.generation).string(&self.id).i32(self.others.len() as i32);
        for other in &self.others {
            body = body.string(other).bytes(b"assignment");
        }
        wire.send(SYNC_GROUP, 1, &body.0)
    }

    fn synced(&self, wire: &mut Wire) -> Result<i16> {
        let mut f = wire.answer()?;
        f.i32()?;
        f.i16()
    }
}
