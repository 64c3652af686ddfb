//! Who is tested, who must not notice, and how much memory it takes.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use milena_compat::batch::Batch;
use milena_compat::broker::Broker;
use milena_compat::wire::{self, Wire};

/// The broker under test: our own, or the one at MILENA_TEST_BOOTSTRAP.
pub struct Target {
    pub broker: Option<Broker>,
    pub address: String,
    neighbour: Option<Neighbour>,
}

impl Target {
    /// Starts it, and a neighbour on it.
    pub fn start() -> Result<Target> {
        Target::start_with(&[])
    }

    /// As [`Target::start`], with settings over the defaults.
    pub fn start_with(overrides: &[&str]) -> Result<Target> {
        if let Ok(address) = std::env::var("MILENA_TEST_BOOTSTRAP") {
            let neighbour = Some(Neighbour::start(&address)?);
            return Ok(Target { broker: None, address, neighbour });
        }
        Target::around(Broker::start_with(&[&["auto.create.topics.enable=false"], overrides].concat())?)
    }

    /// Around a broker that runs.
    pub fn around(broker: Broker) -> Result<Target> {
        let address = broker.address();
        let neighbour = Some(Neighbour::start(&address)?);
        Ok(Target { broker: Some(broker), address, neighbour })
    }

    /// A new connection.
    pub fn connect(&self) -> Result<Wire> {
        Wire::connect(&self.address)
    }

    /// A new topic of so many partitions; its name.
    pub fn topic(&self, partitions: i32, configs: &[(&str, &str)]) -> Result<String> {
        let name = name("bad");
        let mut wire = self.connect()?;
        let (error, message) = wire::create_topic(&mut wire, &name, partitions, 1, configs)?;
        ensure!(error == 0, "creating {name}: {error} {message:?}");
        wire::wait_until_led(&mut wire, &name, partitions)?;
        Ok(name)
    }

    /// What the process holds in memory, in MB; 0 of a broker that is not ours.
    pub fn memory(&self) -> Result<Memory> {
        self.broker.as_ref().and_then(Broker::pid).map_or(Ok(Memory { now: 0, peak: 0 }), Memory::of)
    }

    /// The neighbour was served all along, and the process took at most so many MB more than `before`.
    pub fn ends_well(mut self, before: Memory, allowed: u64) -> Result<()> {
        self.serves()?;
        let after = self.memory()?;
        println!("memory: {} MB before, {} MB after, {} MB at most", before.now, after.now, after.peak);
        ensure!(
            after.peak <= before.now + allowed,
            "{} MB before, {} MB at most: more than {allowed} MB for bad input",
            before.now,
            after.peak
        );
        Ok(())
    }

    /// The neighbour was served all along.
    pub fn serves(&mut self) -> Result<()> {
        self.neighbour.take().context("asked twice")?.finish()
    }
}

/// A name nobody has used.
pub fn name(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Memory of a process in MB.
#[derive(Clone, Copy)]
pub struct Memory {
    /// Resident.
    pub now: u64,
    /// Resident at most, since the last call.
    pub peak: u64,
}

impl Memory {
    /// Of this process; the peak starts anew afterwards.
    pub fn of(pid: u32) -> Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the broker's /proc entry")?;
        let field = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|l| l.strip_prefix(name)).context("a field of /proc/PID/status")?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
        };
        let memory = Memory { now: field("VmRSS:")?, peak: field("VmHWM:")? };
        fs::write(format!("/proc/{pid}/clear_refs"), "5").context("resetting the peak")?;
        Ok(memory)
    }
}

/// A client without a fault: it produces one record after the other and reads each back.
struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u32>>,
}

impl Neighbour {
    fn start(address: &str) -> Result<Neighbour> {
        let mut wire = Wire::connect(address)?;
        let topic = name("neighbour");
        let (error, message) = wire::create_topic(&mut wire, &topic, 1, 1, &[])?;
        ensure!(error == 0, "the neighbour's topic: {error} {message:?}");
        wire::wait_until_led(&mut wire, &topic, 1)?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut rounds = 0;
            while !seen.load(Ordering::Relaxed) || rounds == 0 {
                let batch = Batch::of(&[format!("record {rounds}").as_bytes()]).bytes();
                let begin = Instant::now();
                let p = wire::produce(&mut wire, &topic, &[&batch])?.pop().context("an answer")?;
                ensure!((p.error, p.base_offset) == (0, i64::from(rounds)), "round {rounds}: {p:?}");
                let (error, high_watermark, records) = wire::fetch(&mut wire, &topic, 0, i64::from(rounds))?;
                ensure!(
                    error == 0 && high_watermark == i64::from(rounds) + 1,
                    "round {rounds}: {error} {high_watermark}"
                );
                // all behind the base offset and the leader epoch, which the leader stamps
                ensure!(records.get(16..) == batch.get(16..), "round {rounds}: other records came back");
                rounds += 1;
                let slow = begin.elapsed();
                if slow > Duration::from_secs(1) {
                    println!("the neighbour waited {} ms", slow.as_millis());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(rounds)
        });
        Ok(Neighbour { stop, thread })
    }

    fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let rounds = self.thread.join().map_err(|_| anyhow::anyhow!("the neighbour panicked"))?;
        println!("the neighbour was served {} times", rounds.context("the neighbour was not served")?);
        Ok(())
    }
}
