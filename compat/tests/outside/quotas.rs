//! Quotas as Apache Kafka 4.3.1 enforces them: the same load under the same quota waits as long. With MILENA_TEST_BOOTSTRAP a real one is asked.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use milena_compat::batch::Batch;
use milena_compat::broker::Broker;
use milena_compat::wire::{
    Body, CREATE_TOPICS, FETCH, PRODUCE, Wire, create_topic, fetch_body, produce_body, produced, wait_until_led,
};

const ALTER_CLIENT_QUOTAS: i16 = 49;

static TARGETS: AtomicU32 = AtomicU32::new(0);

/// A broker with a topic.
struct Target {
    address: String,
    topic: String,
    _ours: Option<Broker>,
}

impl Target {
    fn start() -> Result<Target> {
        let ours = match std::env::var("MILENA_TEST_BOOTSTRAP") {
            Ok(_) => None,
            Err(_) => Some(Broker::start()?),
        };
        let address =
            ours.as_ref().map_or_else(|| std::env::var("MILENA_TEST_BOOTSTRAP"), |broker| Ok(broker.address()))?;
        // a new one each time: what is in it counts
        let topic = format!("quotas-{}-{}", std::process::id(), TARGETS.fetch_add(1, Ordering::Relaxed));
        let target = Target { address, topic, _ours: ours };
        let mut wire = Wire::connect(&target.address)?;
        create_topic(&mut wire, &target.topic, 1, 1, &[])?;
        wait_until_led(&mut wire, &target.topic, 1)?;
        Ok(target)
    }

    /// A client that has a quota.
    fn client(&self, client_id: &str, key: &str, value: f64) -> Result<Wire> {
        let body = Body::new().i32(1).i32(1).string("client-id").string(client_id).i32(1).string(key);
        let body = body.raw(&value.to_be_bytes()).i8(0).i8(0);
        let mut answer = Wire::connect(&self.address)?.ask(ALTER_CLIENT_QUOTAS, 0, body)?;
        let _throttle = answer.i32()?;
        ensure!(answer.count()? == 1 && answer.i16()? == 0, "the quota is refused");
        // Kafka's broker learns of it a moment later
        std::thread::sleep(Duration::from_millis(500));
        Wire::connect_as(&self.address, client_id)
    }
}

/// For how many milliseconds the client is to wait after producing this.
fn produce(wire: &mut Wire, topic: &str, bytes: usize) -> Result<i32> {
    let batch = Batch::of(&[&vec![7; bytes]]).bytes();
    let mut answer = wire.ask(PRODUCE, 8, produce_body(topic, 1, &[&batch]))?;
    ensure!(produced(&mut answer)?[0].error == 0, "the records are refused");
    answer.i32()
}

/// The same, and the bytes that a fetch gives.
fn fetch(wire: &mut Wire, topic: &str, max_bytes: i32) -> Result<(i32, usize)> {
    let mut answer = wire.ask(FETCH, 4, fetch_body(topic, 0, 0, max_bytes))?;
    let throttle_ms = answer.i32()?;
    Ok((throttle_ms, answer.left()))
}

/// Throttle time and error of a new topic, at a version that is refused or one that is slowed down.
fn create(wire: &mut Wire, topic: &str, partitions: i32, validate_only: bool) -> Result<(i32, i16)> {
    let body = Body::new().i32(1).string(topic).i32(partitions).i16(1).i32(0).i32(0).i32(30_000);
    let mut answer = wire.ask(CREATE_TOPICS, 4, body.i8(i8::from(validate_only)))?;
    let throttle_ms = answer.i32()?;
    ensure!(answer.count()? == 1, "one topic");
    answer.string()?;
    Ok((throttle_ms, answer.i16()?))
}

fn is_about(expected: i32, seen: i32) -> bool {
    (seen - expected).abs() <= expected / 5
}

#[test]
fn bursts_wait_as_long_as_on_kafka() -> Result<()> {
    let target = Target::start()?;
    // 300,000 bytes at 10,000 a second, where ten seconds are free
    let mut producer = target.client("burst", "producer_byte_rate", 10_000.0)?;
    let waits = produce(&mut producer, &target.topic, 300_000)?;
    ensure!(is_about(20_011, waits), "produce: {waits}");

    let mut consumer = target.client("reader", "consumer_byte_rate", 40_000.0)?;
    let (waits, got) = fetch(&mut consumer, &target.topic, 350_000)?;
    ensure!(waits == 0 && got > 300_000, "the first fetch: {waits} ms, {got} bytes");
    let (waits, got) = fetch(&mut consumer, &target.topic, 350_000)?;
    ensure!(is_about(5000, waits) && got < 100, "over the quota there is nothing: {waits} ms, {got} bytes");

    let mut changer = target.client("changer", "controller_mutation_rate", 2.0)?;
    // a bucket of 22; what is only tried counts as well, what is wrong does not
    ensure!(create(&mut changer, "a b", 1000, false)? == (0, 17), "a wrong name comes first");
    let (waits, error) = create(&mut changer, "tried", 24, true)?;
    ensure!(error == 0 && is_about(1000, waits), "tried: {waits} ms, error {error}");
    Ok(())
}

/// Half a minute of load; what is expected are the figures of Kafka 4.3.1 on this load.
#[test]
#[ignore = "takes half a minute"]
fn sustained_load_is_slowed_down_as_on_kafka() -> Result<()> {
    let target = Target::start()?;
    let mut producer = target.client("steady", "producer_byte_rate", 100_000.0)?;
    let (begun, mut count, mut free) = (Instant::now(), 0, None);
    while begun.elapsed() < Duration::from_secs(15) {
        if produce(&mut producer, &target.topic, 20_000)? > 0 && free.is_none() {
            free = Some(count);
        }
        count += 1;
    }
    let rate = f64::from(count) * 20_070.0 / begun.elapsed().as_secs_f64();
    println!("produce: {free:?} requests before the first that waits, {rate:.0} bytes a second");
    ensure!(free.is_some_and(|free| (48..=64).contains(&free)), "{free:?} before the first that waits");
    ensure!((115_000.0..175_000.0).contains(&rate), "{rate} bytes a second");

    let mut busy = target.client("busy", "request_percentage", 2.0)?;
    let (begun, mut waited) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(15) {
        let waits = produce(&mut busy, &target.topic, 100)?;
        ensure!(waits <= 1000, "longer than a sample: {waits}");
        waited += waits;
    }
    println!("requests: {waited} ms of 15 s waited");
    ensure!(waited > 3000, "hardly throttled: {waited} ms of 15 s");
    Ok(())
}
