//! The two scripts a newcomer starts with: a producer of a hundred messages and a consumer in a group, with kafka-python of several ages.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use milena_compat::broker::{Broker, repository};
use milena_compat::clients::cache;

const PATIENCE: Duration = Duration::from_secs(60);
/// kafka-python commits every 5 s by default.
const AUTO_COMMIT: Duration = Duration::from_secs(6);

pub struct Scripts {
    broker: Option<Broker>,
    address: String,
    version: &'static str,
}

impl Scripts {
    pub fn new(version: &'static str) -> Result<Scripts> {
        if let Ok(address) = std::env::var("MILENA_TEST_BOOTSTRAP") {
            return Ok(Scripts { broker: None, address, version });
        }
        let broker = Broker::start_with(&["num.partitions=3", "group.initial.rebalance.delay.ms=0"])?;
        Ok(Scripts { address: broker.address(), broker: Some(broker), version })
    }

    fn command(&self, script: &str, arguments: &[&str]) -> Command {
        let mut c = Command::new(cache().join(format!("kafka-python-{}/bin/python", self.version)));
        c.arg(repository().join("compat/scripts").join(script)).arg(&self.address).args(arguments).stdin(Stdio::null());
        c
    }

    pub fn produce(&self, arguments: &[&str]) -> Result<()> {
        let out = self.command("producer.py", arguments).output()?;
        ensure!(out.status.success(), "producer.py: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }

    pub fn consumer(&self, group: &str) -> Result<Consumer> {
        let mut process =
            self.command("consumer.py", &[group]).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let (send, lines) = channel();
        let out = process.stdout.take().expect("piped");
        std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).for_each(|l| drop(send.send(l))));
        Ok(Consumer { process, lines })
    }
}

pub struct Consumer {
    process: Child,
    lines: Receiver<String>,
}

impl Consumer {
    /// Exactly `count` lines, and no more within a second after them.
    pub fn take(&self, count: usize) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while seen.len() < count {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => seen.push(line),
                Err(_) => anyhow::bail!("{} of {count} messages arrived", seen.len()),
            }
        }
        let more: Vec<String> = std::iter::from_fn(|| self.lines.recv_timeout(Duration::from_secs(1)).ok()).collect();
        ensure!(more.is_empty(), "{} messages more than {count}: {more:?}", more.len());
        Ok(seen)
    }

    /// What arrives within this time.
    fn take_for(&self, time: Duration) -> Vec<String> {
        let deadline = Instant::now() + time;
        std::iter::from_fn(|| self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok())
            .collect()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Each of 0..100 exactly `times` times.
pub fn numbers(lines: &[String], times: usize) -> Result<()> {
    ensure!(lines.len() == 100 * times, "{} lines", lines.len());
    let numbers: BTreeSet<&str> = lines.iter().filter_map(|l| l.split("\"num\": ").nth(1)?.split(',').next()).collect();
    ensure!(numbers.len() == 100, "{} different numbers", numbers.len());
    Ok(())
}

fn story(version: &'static str) -> Result<()> {
    let s = Scripts::new(version)?;
    s.produce(&["--no-pause"])?;

    // all hundred arrive once
    let first = s.consumer("test")?;
    numbers(&first.take(100)?, 1)?;

    // another group gets them all again
    numbers(&s.consumer("another")?.take(100)?, 1)?;

    // a consumer restarted after SIGKILL goes on from its committed offset
    std::thread::sleep(AUTO_COMMIT);
    drop(first);
    s.produce(&["--no-pause"])?;
    let again = s.consumer("test")?;
    numbers(&again.take(100)?, 1)?;

    // a second member of the group shares the partitions: between them everything once, and both get some
    let second = s.consumer("test")?;
    std::thread::sleep(Duration::from_secs(8));
    s.produce(&["--no-pause"])?;
    let (mut a, b) = (again.take_for(Duration::from_secs(6)), second.take_for(Duration::from_secs(1)));
    ensure!(!a.is_empty() && !b.is_empty(), "the members got {} and {} messages", a.len(), b.len());
    a.extend(b);
    numbers(&a, 1)?;
    drop(s.broker);
    Ok(())
}

#[test]
fn two_scripts_kafka_python_2_0() -> Result<()> {
    story("2.0.2")
}

#[test]
fn two_scripts_kafka_python_2_2() -> Result<()> {
    story("2.2.21")
}

#[test]
fn two_scripts_kafka_python_3_0() -> Result<()> {
    story("3.0.12")
}
