//! The loads: what is produced and consumed, and what is counted. The client is librdkafka in this process; only the server's CPU is reported.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::Arguments;
use crate::server::Server;
use crate::usage::{Cpu, fine_cpu, memory_mb};

const PARTITIONS: i32 = 6;

/// A row of the table.
#[derive(Clone, Copy)]
pub enum Row {
    /// Produces and then consumes records of this many bytes, as fast as it goes.
    Throughput { bytes: usize },
    /// Produces single records of 1 KB at this rate per second, each a request of its own.
    Paced { per_second: u64 },
    /// Nothing is asked.
    Idle,
}

impl Row {
    /// Every row, in the order of the table.
    pub fn all() -> Vec<Row> {
        vec![
            Row::Idle,
            Row::Throughput { bytes: 100 },
            Row::Throughput { bytes: 1000 },
            Row::Paced { per_second: 1000 },
        ]
    }

    /// As the table names it.
    pub fn name(self) -> String {
        match self {
            Row::Throughput { bytes } => format!("{bytes} B"),
            Row::Paced { per_second } => format!("1 KB at {per_second}/s unbatched"),
            Row::Idle => "idle".into(),
        }
    }
}

/// Runs a row; its figures by name.
pub fn run(row: Row, server: &Server, arguments: &Arguments) -> Result<Vec<(String, f64)>> {
    match row {
        Row::Throughput { bytes } => throughput(row, bytes, server, arguments.megabytes * 1_000_000),
        Row::Paced { per_second } => paced(row, per_second, server, arguments.seconds),
        Row::Idle => idle(row, server, arguments.seconds),
    }
}

fn idle(row: Row, server: &Server, seconds: u64) -> Result<Vec<(String, f64)>> {
    // what a start leaves to do
    std::thread::sleep(Duration::from_secs(2));
    let (cpu, begin) = (fine_cpu(server.pid())?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let used = (fine_cpu(server.pid())? - cpu) / begin.elapsed().as_secs_f64();
    let name = row.name();
    Ok(vec![
        (format!("{name}: memory (MB)"), memory_mb(server.pid())?),
        (format!("{name}: CPU (% of a core)"), used * 100.0),
    ])
}

fn throughput(row: Row, bytes: usize, server: &Server, total: u64) -> Result<Vec<(String, f64)>> {
    let topic = format!("throughput-{bytes}");
    create(server, &topic)?;
    // before the clock starts the producer connects, and a just-in-time compiler sees what it will have to do
    let warm_up = total / bytes as u64 / 10;
    let producer = producer(server, "5", Deliveries::new())?;
    send_all(&producer, &topic, bytes, warm_up)?;
    producer.context().failed.store(0, Ordering::Relaxed);

    let count = total / bytes as u64;
    let (cpu, begin) = (Cpu::of(server.pid())?, Instant::now());
    send_all(&producer, &topic, bytes, count)?;
    let (produced, produce_cpu) = (begin.elapsed().as_secs_f64(), Cpu::of(server.pid())?);
    ensure!(producer.context().failed.load(Ordering::Relaxed) == 0, "records were not acknowledged");

    let (cpu_before, begin) = (Cpu::of(server.pid())?, Instant::now());
    consume_all(server, &topic, warm_up + count)?;
    let (consumed, consume_cpu) = (begin.elapsed().as_secs_f64(), Cpu::of(server.pid())?);

    let (name, gb) = (row.name(), total as f64 / 1e9);
    let read = (warm_up + count) as f64 * bytes as f64;
    Ok(vec![
        (format!("{name} produce (MB/s)"), total as f64 / 1e6 / produced),
        (format!("{name} produce (thousand records/s)"), count as f64 / 1e3 / produced),
        (format!("{name} produce: CPU (s/GB)"), (produce_cpu.total() - cpu.total()) / gb),
        (format!("{name} produce: of it in the kernel (s/GB)"), (produce_cpu.system - cpu.system) / gb),
        (format!("{name} consume (MB/s)"), read / 1e6 / consumed),
        (format!("{name} consume: CPU (s/GB)"), (consume_cpu.total() - cpu_before.total()) / (read / 1e9)),
    ])
}

fn paced(row: Row, per_second: u64, server: &Server, seconds: u64) -> Result<Vec<(String, f64)>> {
    let topic = format!("paced-{per_second}");
    create(server, &topic)?;
    let producer = producer(server, "0", Deliveries::new())?;
    send_all(&producer, &topic, 1000, 5000)?;
    producer.context().latencies_us.lock().unwrap_or_else(|e| e.into_inner()).clear();

    let value = vec![b'x'; 1000];
    let (cpu, begin) = (Cpu::of(server.pid())?, Instant::now());
    let count = per_second * seconds;
    for i in 0..count {
        let due = Duration::from_secs_f64(i as f64 / per_second as f64);
        while let Some(left) = due.checked_sub(begin.elapsed()) {
            if left < Duration::from_micros(80) {
                std::hint::spin_loop();
            } else {
                std::thread::sleep(left - Duration::from_micros(60));
            }
        }
        let record = BaseRecord::<(), [u8], usize>::with_opaque_to(&topic, producer.context().now_ns()).payload(&value);
        producer.send(record).map_err(|(e, _)| e)?;
    }
    producer.flush(Duration::from_secs(60))?;
    let used = Cpu::of(server.pid())?.total() - cpu.total();
    let mut latencies = std::mem::take(&mut *producer.context().latencies_us.lock().unwrap_or_else(|e| e.into_inner()));
    ensure!(latencies.len() as u64 == count, "{} of {count} records were acknowledged", latencies.len());
    latencies.sort_unstable();
    let at = |q: f64| latencies.get(((latencies.len() - 1) as f64 * q) as usize).copied().unwrap_or(0) as f64 / 1000.0;
    let name = row.name();
    Ok(vec![
        (format!("{name}: p50 (ms)"), at(0.5)),
        (format!("{name}: p99 (ms)"), at(0.99)),
        (format!("{name}: p99.9 (ms)"), at(0.999)),
        (format!("{name}: CPU per request (us)"), used * 1e6 / count as f64),
    ])
}

/// What the producer's callbacks saw. A record's opaque is the time it was sent, in ns since `begin`; 0 is not measured.
struct Deliveries {
    begin: Instant,
    failed: AtomicU64,
    latencies_us: Mutex<Vec<u32>>,
}

impl Deliveries {
    fn new() -> Deliveries {
        Deliveries { begin: Instant::now(), failed: AtomicU64::new(0), latencies_us: Mutex::new(Vec::new()) }
    }

    fn now_ns(&self) -> usize {
        self.begin.elapsed().as_nanos() as usize
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        if result.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        } else if sent > 0 {
            let us = u32::try_from((self.now_ns() - sent) / 1000).unwrap_or(u32::MAX);
            self.latencies_us.lock().unwrap_or_else(|e| e.into_inner()).push(us);
        }
    }
}

fn producer(server: &Server, linger_ms: &str, context: Deliveries) -> Result<ThreadedProducer<Deliveries>> {
    ClientConfig::new()
        .set("bootstrap.servers", server.address())
        .set("acks", "all")
        .set("linger.ms", linger_ms)
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "262144")
        .create_with_context(context)
        .context("a producer")
}

fn send_all(producer: &ThreadedProducer<Deliveries>, topic: &str, bytes: usize, count: u64) -> Result<()> {
    let value = vec![b'x'; bytes];
    for i in 0..count {
        let partition = i32::try_from(i % PARTITIONS as u64)?;
        let mut record = BaseRecord::<(), [u8], usize>::with_opaque_to(topic, 0).payload(&value).partition(partition);
        while let Err((error, back)) = producer.send(record) {
            ensure!(error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "{error}");
            std::thread::sleep(Duration::from_micros(500));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(120)).context("flush")
}

fn consume_all(server: &Server, topic: &str, count: u64) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", server.address())
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "false")
        .set("queued.min.messages", "1000000")
        // else it rests for a second when its queue is full, which a fast server makes it
        .set("fetch.queue.backoff.ms", "1")
        .set("fetch.message.max.bytes", "1048576")
        .create()?;
    let mut list = TopicPartitionList::new();
    for p in 0..PARTITIONS {
        list.add_partition_offset(topic, p, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut seen = 0;
    while seen < count {
        let message =
            consumer.poll(Duration::from_secs(20)).with_context(|| format!("{seen} of {count} records arrived"))??;
        seen += 1;
        std::hint::black_box(message.payload());
    }
    Ok(())
}

fn create(server: &Server, topic: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", server.address()).create()?;
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let results = futures_executor(admin.create_topics([&new], &AdminOptions::new()))?;
    for r in results {
        r.map_err(|(name, code)| anyhow::anyhow!("creating {name}: {code}"))?;
    }
    Ok(())
}

fn futures_executor<T>(future: impl Future<Output = rdkafka::error::KafkaResult<T>>) -> Result<T> {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(r) = future.as_mut().poll(&mut cx) {
            return Ok(r?);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
