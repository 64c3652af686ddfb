//! Consumer groups (KIP-848) as their members see them: Java kafka-clients and librdkafka, both protocols, one group at a time.
//!
//! Set MILENA_TEST_BOOTSTRAP to a real Kafka with the settings of `SETTINGS` to check the tests themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use milena_compat::broker::{Broker, repository};
use milena_compat::clients::cache;
use milena_compat::wire::{Body, Wire};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

/// Short intervals, so that the tests do not take long.
const SETTINGS: &[&str] = &[
    "group.initial.rebalance.delay.ms=0",
    "group.consumer.min.heartbeat.interval.ms=300",
    "group.consumer.heartbeat.interval.ms=300",
    "group.consumer.min.session.timeout.ms=6000",
    "group.consumer.session.timeout.ms=6000",
];

/// How long a group may take to settle; far beyond what any takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    broker: Option<Broker>,
    address: String,
    unique: u32,
}

impl World {
    fn start() -> Result<World> {
        let unique = std::process::id();
        if let Ok(address) = std::env::var("MILENA_TEST_BOOTSTRAP") {
            return Ok(World { broker: None, address, unique });
        }
        let broker = Broker::start_with(SETTINGS)?;
        Ok(World { address: broker.address(), broker: Some(broker), unique })
    }

    /// A name that no other run uses.
    fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.unique)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", &self.address).create()?)
    }

    fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let created = wait(self.admin()?.create_topics([&new], &AdminOptions::new()))??;
        for result in created {
            result.map_err(|(topic, error)| anyhow::anyhow!("{topic}: {error}"))?;
        }
        Ok(())
    }

    fn add_partitions(&self, topic: &str, partitions: usize) -> Result<()> {
        let results =
            wait(self.admin()?.create_partitions([&NewPartitions::new(topic, partitions)], &AdminOptions::new()))??;
        for result in results {
            result.map_err(|(topic, error)| anyhow::anyhow!("{topic}: {error}"))?;
        }
        Ok(())
    }
}

/// Waits for a future of librdkafka's, whose own threads complete it.
fn wait<T>(future: impl Future<Output = T>) -> Result<T> {
    use std::task::{Context as TaskContext, Poll, Waker};
    let mut future = std::pin::pin!(future);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Poll::Ready(value) = future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
            return Ok(value);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("no answer in time")
}

/// Java consumers of one group, and what each has by its last word.
struct JavaGroup {
    process: Child,
    lines: Receiver<String>,
    has: BTreeMap<String, BTreeSet<String>>,
    stopped: BTreeSet<String>,
}

impl JavaGroup {
    fn start(world: &World, group: &str) -> Result<JavaGroup> {
        let libraries = format!("{}/*", cache().join("java/4.3.1/libs").display());
        let source = repository().join("compat/clients/java/Groups.java");
        let mut process = Command::new("java")
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", &libraries])
            .arg(source)
            .args([&world.address, group])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting java")?;
        let output = process.stdout.take().context("its output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(JavaGroup { process, lines, has: BTreeMap::new(), stopped: BTreeSet::new() })
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.process.stdin.as_mut().context("its input")?, "{line}")?)
    }

    fn start_member(&mut self, name: &str, subscription: &str, settings: &str) -> Result<()> {
        self.tell(format!("start {name} {subscription} {settings}").trim_end())
    }

    fn stop_member(&mut self, name: &str) -> Result<()> {
        self.tell(&format!("stop {name}"))?;
        self.until(&format!("{name} is stopped"), |group| group.stopped.contains(name))?;
        self.has.remove(name);
        Ok(())
    }

    /// Listens until the condition holds.
    fn until(&mut self, what: &str, condition: impl Fn(&JavaGroup) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => bail!("not in time: {what}; it is {:?}", self.has),
                Err(RecvTimeoutError::Disconnected) => bail!("the consumers ended before: {what}"),
            };
            let mut words = line.split(' ');
            let (Some(name), Some(verb)) = (words.next(), words.next()) else { continue };
            match verb {
                "has" => {
                    self.has.insert(name.to_owned(), words.map(str::to_owned).collect());
                }
                "stopped" => {
                    self.stopped.insert(name.to_owned());
                }
                "lost" => {}
                _ => bail!("{line}"),
            }
        }
        Ok(())
    }

    /// Listens until the members have so many partitions each, all of them different.
    fn until_have(&mut self, counts: &[(&str, usize)]) -> Result<()> {
        let expected: BTreeMap<String, usize> = counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        self.until(&format!("{expected:?}"), |group| {
            let counts: BTreeMap<String, usize> =
                group.has.iter().map(|(name, has)| (name.clone(), has.len())).collect();
            let all: BTreeSet<&String> = group.has.values().flatten().collect();
            counts == expected && all.len() == expected.values().sum::<usize>()
        })
    }
}

impl Drop for JavaGroup {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const CONSUMER: &str = "group.protocol=consumer";
const CLASSIC: &str = "group.protocol=classic session.timeout.ms=6000 heartbeat.interval.ms=300";

#[test]
fn members_come_and_go_and_partitions_follow() -> Result<()> {
    let mut world = World::start()?;
    let topic = world.name("handover");
    world.create_topic(&topic, 4)?;
    let mut group = JavaGroup::start(&world, &topic)?;
    group.start_member("a", &topic, CONSUMER)?;
    group.until_have(&[("a", 4)])?;
    group.start_member("b", &topic, CONSUMER)?;
    group.until_have(&[("a", 2), ("b", 2)])?;
    let before = group.has.clone();
    group.start_member("c", &topic, CONSUMER)?;
    group.until("three members share", |group| {
        let counts: Vec<usize> = group.has.values().map(BTreeSet::len).collect();
        counts.len() == 3 && counts.iter().sum::<usize>() == 4 && counts.iter().all(|&n| n >= 1)
    })?;
    for name in ["a", "b"] {
        ensure!(group.has[name].is_subset(&before[name]), "{name} got something new when it had to give up");
    }
    if let Some(broker) = &mut world.broker {
        // What everybody has survives the broker.
        let has = group.has.clone();
        broker.kill();
        broker.restart()?;
        std::thread::sleep(Duration::from_secs(3));
        group.until("all have what they had", |group| group.has == has)?;
    }
    world.add_partitions(&topic, 6)?;
    group.until_have(&[("a", 2), ("b", 2), ("c", 2)])?;
    group.stop_member("b")?;
    group.until_have(&[("a", 3), ("c", 3)])?;
    group.stop_member("a")?;
    group.until_have(&[("c", 6)])
}

#[test]
fn patterns_are_matched_by_the_broker() -> Result<()> {
    let world = World::start()?;
    let (one, two) = (world.name("pattern-one"), world.name("pattern-two"));
    world.create_topic(&one, 2)?;
    world.create_topic(&two, 3)?;
    let mut group = JavaGroup::start(&world, &world.name("patterns"))?;
    group.start_member("a", &format!("re2:pattern-(one|two)-{}", world.unique), CONSUMER)?;
    group.until_have(&[("a", 5)])?;
    group.start_member("b", &format!("re2:pattern-on.-{}", world.unique), CONSUMER)?;
    group.until("both have some", |group| group.has.get("b").is_some_and(|has| !has.is_empty()))?;
    ensure!(group.has["b"].iter().all(|partition| partition.starts_with(&one)), "{:?}", group.has);
    Ok(())
}

#[test]
fn a_static_member_comes_back_to_what_it_had() -> Result<()> {
    let world = World::start()?;
    let topic = world.name("static");
    world.create_topic(&topic, 4)?;
    let mut group = JavaGroup::start(&world, &topic)?;
    for name in ["a", "b"] {
        group.start_member(name, &topic, &format!("{CONSUMER} group.instance.id=i-{name}"))?;
    }
    group.until_have(&[("a", 2), ("b", 2)])?;
    let before = group.has.clone();
    group.stop_member("a")?;
    group.start_member("a", &topic, &format!("{CONSUMER} group.instance.id=i-a"))?;
    group.until_have(&[("a", 2), ("b", 2)])?;
    ensure!(group.has == before, "{:?} was {before:?}", group.has);
    // And if it does not come back, the other has everything once its session ended.
    group.stop_member("a")?;
    group.until_have(&[("b", 4)])
}

#[test]
fn a_group_changes_its_protocol_and_back_while_it_works() -> Result<()> {
    let world = World::start()?;
    let topic = world.name("migration");
    world.create_topic(&topic, 4)?;
    let mut group = JavaGroup::start(&world, &topic)?;
    group.start_member("old", &topic, CLASSIC)?;
    group.until_have(&[("old", 4)])?;
    group.start_member("new", &topic, CONSUMER)?;
    group.until_have(&[("old", 2), ("new", 2)])?;
    group.start_member("older", &topic, CLASSIC)?;
    group.until("three members share", |group| {
        let counts: Vec<usize> = group.has.values().map(BTreeSet::len).collect();
        counts.len() == 3 && counts.iter().sum::<usize>() == 4
    })?;
    group.stop_member("new")?;
    group.until_have(&[("old", 2), ("older", 2)])?;
    group.start_member("new2", &topic, CONSUMER)?;
    group.until("the new one has a share", |group| group.has.get("new2").is_some_and(|has| !has.is_empty()))?;
    group.stop_member("old")?;
    group.stop_member("older")?;
    group.until_have(&[("new2", 4)])
}

#[test]
fn librdkafka_and_java_share_a_group() -> Result<()> {
    let world = World::start()?;
    let topic = world.name("mixed");
    world.create_topic(&topic, 4)?;
    let mut group = JavaGroup::start(&world, &topic)?;
    group.start_member("java", &topic, CONSUMER)?;
    group.until_have(&[("java", 4)])?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.address)
        .set("group.id", &topic)
        .set("group.protocol", "consumer")
        .set("auto.offset.reset", "earliest")
        .create()?;
    consumer.subscribe(&[&topic])?;
    let deadline = Instant::now() + PATIENCE;
    while consumer.assignment()?.count() != 2 {
        ensure!(Instant::now() < deadline, "librdkafka has {} partitions", consumer.assignment()?.count());
        if let Some(message) = consumer.poll(Duration::from_millis(50)) {
            message?;
        }
    }
    group.until_have(&[("java", 2)])?;
    drop(consumer);
    group.until_have(&[("java", 4)])
}

#[test]
fn the_first_member_has_its_partitions_within_a_tenth_of_a_second() -> Result<()> {
    const FIND_COORDINATOR: i16 = 10;
    const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
    let world = World::start()?;
    let topic = world.name("first");
    world.create_topic(&topic, 3)?;
    let mut wire = Wire::connect(&world.address)?;
    let ask = |wire: &mut Wire, key: i16, version: i16, body: &Body| {
        wire.send_flexible(key, version, &body.0)?;
        wire.answer()
    };
    let mut fastest = Duration::MAX;
    for round in 0..10 {
        let group = world.name(&format!("first-{round}"));
        // The coordinator's topic may have to be made first.
        let find = Body::default().raw(&[0, 2]).raw(&compact(&group)).raw(&[0]);
        let join = Body::default()
            .raw(&compact(&group))
            .raw(&compact("member"))
            .raw(&[0, 0, 0, 0, 0, 0])
            .raw(&30_000i32.to_be_bytes())
            .raw(&[2])
            .raw(&compact(&topic))
            .raw(&[0, 0, 1, 0]);
        let deadline = Instant::now() + PATIENCE;
        loop {
            ask(&mut wire, FIND_COORDINATOR, 4, &find)?;
            let asked_at = Instant::now();
            let mut answer = ask(&mut wire, CONSUMER_GROUP_HEARTBEAT, 1, &join)?;
            let took = asked_at.elapsed();
            // Tags of the header, throttle time.
            answer.i8()?;
            answer.i32()?;
            let error = answer.i16()?;
            if error == 0 {
                let rest = answer.rest();
                // A member id, its epoch, the interval, and an assignment with one topic of three partitions.
                ensure!(rest.ends_with(&[4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]), "{rest:?}");
                fastest = fastest.min(took);
                break;
            }
            ensure!(Instant::now() < deadline, "error {error}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    ensure!(fastest < Duration::from_millis(100), "the fastest of ten joins took {fastest:?}");
    Ok(())
}

/// A string of the compact form.
fn compact(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("a short name");
    [&[length], text.as_bytes()].concat()
}
