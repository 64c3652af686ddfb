//! SIGKILL under load, again and again: what was acknowledged is there, at the offset that was told, once if the producer is idempotent.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use milena_compat::broker::Broker;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

const ROUNDS: u64 = 20;
const PARTITIONS: i32 = 3;

/// Where each record went, by the number in its value, as the broker acknowledged it.
#[derive(Default)]
struct Acknowledged(Mutex<HashMap<u64, (i32, i64)>>);

impl ClientContext for Acknowledged {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        if let Ok(m) = result {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number as u64, (m.partition(), m.offset()));
        }
    }
}

/// Produces numbers until told to stop; what was acknowledged.
fn produce(
    address: &str,
    topic: &'static str,
    idempotent: bool,
    stop: &Arc<AtomicBool>,
) -> Result<ThreadedProducer<Acknowledged>> {
    let producer: ThreadedProducer<Acknowledged> = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("acks", "all")
        .set("enable.idempotence", idempotent.to_string())
        .set("linger.ms", "1")
        .set("message.timeout.ms", "120000")
        .set("reconnect.backoff.max.ms", "200")
        .create_with_context(Acknowledged::default())?;
    for number in 0usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = format!("{number}:{}", "x".repeat(number % 500));
        let partition = i32::try_from(number)? % PARTITIONS;
        let record = BaseRecord::<(), str, usize>::with_opaque_to(topic, number).payload(&value).partition(partition);
        match producer.send(record) {
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                std::thread::sleep(Duration::from_millis(5))
            }
            other => other.map_err(|(e, _)| e)?,
        }
        if number % 20 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    producer.flush(Duration::from_secs(120)).context("flush")?;
    Ok(producer)
}

/// Every record of a partition, from its start to its end: offset and value.
fn read(address: &str, topic: &str, partition: i32) -> Result<Vec<(i64, String)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "crash")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()?;
    let (low, high) = consumer.fetch_watermarks(topic, partition, Duration::from_secs(20))?;
    ensure!(low == 0, "the log starts at {low}");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)?;
    consumer.assign(&list)?;
    let mut out = Vec::new();
    while (out.len() as i64) < high {
        let m = consumer
            .poll(Duration::from_secs(20))
            .with_context(|| format!("{topic}-{partition}: {} of {high} records", out.len()))??;
        out.push((m.offset(), String::from_utf8_lossy(m.payload().unwrap_or_default()).into_owned()));
    }
    Ok(out)
}

fn check(address: &str, topic: &str, acknowledged: &Acknowledged, idempotent: bool) -> Result<()> {
    let acknowledged = acknowledged.0.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(acknowledged.len() > 1000, "only {} records were acknowledged: no load", acknowledged.len());
    let mut at: BTreeMap<(i32, i64), u64> = BTreeMap::new();
    let mut times: HashMap<u64, u32> = HashMap::new();
    for partition in 0..PARTITIONS {
        for (i, (offset, value)) in read(address, topic, partition)?.into_iter().enumerate() {
            ensure!(offset == i as i64, "{topic}-{partition}: offset {offset} stands where {i} should");
            let (number, rest) = value.split_once(':').context("a number")?;
            let number: u64 = number.parse()?;
            ensure!(rest.len() as u64 == number % 500, "{topic}-{partition} offset {offset}: damaged");
            at.insert((partition, offset), number);
            *times.entry(number).or_default() += 1;
        }
    }
    for (number, place) in acknowledged.iter() {
        // librdkafka reports no offset for a batch that the broker had already
        if place.1 >= 0 {
            ensure!(
                at.get(place) == Some(number),
                "{topic}: record {number} was acknowledged at {place:?}; there is {:?}",
                at.get(place)
            );
        }
        ensure!(times.contains_key(number), "{topic}: acknowledged record {number} is lost");
    }
    if idempotent {
        let twice: Vec<_> = times.iter().filter(|(_, n)| **n > 1).collect();
        ensure!(twice.is_empty(), "{topic}: records that are there more than once: {twice:?}");
    }
    println!("{topic}: {} acknowledged, {} in the log", acknowledged.len(), at.len());
    Ok(())
}

#[test]
fn twenty_rounds_of_sigkill_under_load() -> Result<()> {
    let mut broker = Broker::start_with(&["num.partitions=3", "log.segment.bytes=1048576"])?;
    let address = broker.address();
    let stop = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = [("plain", false), ("idempotent", true)]
        .map(|(topic, idempotent)| {
            let (address, stop) = (address.clone(), Arc::clone(&stop));
            std::thread::spawn(move || produce(&address, topic, idempotent, &stop))
        })
        .into();
    for round in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(300 + 137 * (round % 5)));
        broker.kill();
        broker.restart().with_context(|| format!("round {round}"))?;
    }
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    for ((topic, idempotent), p) in [("plain", false), ("idempotent", true)].into_iter().zip(producers) {
        let producer = p.join().map_err(|_| anyhow::anyhow!("the producer panicked"))??;
        check(&address, topic, producer.context(), idempotent)?;
    }
    Ok(())
}

/// Ten batches of one record in one partition, and the broker killed: its last segment.
fn damaged(damage: impl FnOnce(&mut fs::File, u64) -> Result<()>) -> Result<(Broker, Vec<(i64, String)>)> {
    let mut broker = Broker::start_with(&["num.partitions=1"])?;
    let producer: ThreadedProducer<Acknowledged> = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("acks", "all")
        .set("linger.ms", "0")
        .create_with_context(Acknowledged::default())?;
    for number in 0..10usize {
        let value = format!("{number}:{}", "x".repeat(100));
        producer
            .send(BaseRecord::<(), str, usize>::with_opaque_to("tail", number).payload(&value))
            .map_err(|(e, _)| e)?;
        producer.flush(Duration::from_secs(20))?;
    }
    broker.kill();
    let segment: PathBuf = broker.data().join("tail-0/00000000000000000000.log");
    let mut file =
        fs::OpenOptions::new().read(true).write(true).open(&segment).with_context(|| segment.display().to_string())?;
    let size = end_of_batches(&mut file)?;
    damage(&mut file, size)?;
    drop(file);
    broker.restart()?;
    let seen = read(&broker.address(), "tail", 0)?;
    Ok((broker, seen))
}

/// Where the last batch of a segment ends: behind it a killed broker leaves the room that it had allocated ahead.
fn end_of_batches(file: &mut fs::File) -> Result<u64> {
    const BEFORE_THE_LENGTH: u64 = 8;
    let whole = file.metadata()?.len();
    let mut end = 0;
    while end + 12 <= whole {
        let mut length = [0; 4];
        file.seek(SeekFrom::Start(end + BEFORE_THE_LENGTH))?;
        file.read_exact(&mut length)?;
        match u32::from_be_bytes(length) {
            0 => break,
            length => end += 12 + u64::from(length),
        }
    }
    ensure!(end > 0 && end <= whole, "batches end at {end} of {whole} bytes");
    Ok(end)
}

#[test]
fn a_segment_cut_at_its_tail_is_truncated() -> Result<()> {
    let (_broker, seen) = damaged(|file, size| Ok(file.set_len(size - 7)?))?;
    ensure!(seen.len() == 9, "{} records", seen.len());
    Ok(())
}

#[test]
fn a_segment_flipped_at_its_tail_is_truncated() -> Result<()> {
    let (_broker, seen) = damaged(|file, size| {
        let mut byte = [0];
        file.seek(SeekFrom::Start(size - 20))?;
        file.read_exact(&mut byte)?;
        file.seek(SeekFrom::Start(size - 20))?;
        Ok(file.write_all(&[byte[0] ^ 0x10])?)
    })?;
    ensure!(seen.len() == 9, "{} records", seen.len());
    ensure!(seen.iter().enumerate().all(|(i, (_, v))| v.starts_with(&format!("{i}:"))), "{seen:?}");
    Ok(())
}
