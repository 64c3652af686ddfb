//! A disk that is full: producers are told, nothing is damaged, and with space it goes on.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use milena_compat::batch::Batch;
use milena_compat::broker::Broker;
use milena_compat::wire::{Wire, create_topic, fetch, produce};

use super::target::name;

const STORAGE_ERROR: i16 = 56;

/// A file system of 24 MB in memory; unmounted on drop.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Result<SmallDisk> {
        let folder = tempfile::tempdir()?;
        let out = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(folder.path()).output()?;
        ensure!(out.status.success(), "mount: {}", String::from_utf8_lossy(&out.stderr));
        Ok(SmallDisk { folder })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Takes what is left, to the last byte.
    fn fill(&self) -> Result<()> {
        let mut file = fs::File::create(self.filler())?;
        for size in [1 << 20, 4096, 1] {
            let block = vec![0; size];
            while std::io::Write::write_all(&mut file, &block).is_ok() {}
        }
        Ok(())
    }

    /// Gives it back.
    fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).output();
    }
}

/// The values of a log, from its start to its end.
fn values(wire: &mut Wire, topic: &str) -> Result<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    loop {
        let (error, high_watermark, records) = fetch(wire, topic, 0, out.len() as i64)?;
        ensure!(error == 0, "fetch at {}: {error}", out.len());
        if out.len() as i64 == high_watermark {
            return Ok(out);
        }
        let mut at = 0;
        while let Some(head) = records.get(at..at + 61) {
            let word = |from: usize| u32::from_be_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
            let offset = (u64::from(word(0)) << 32) | u64::from(word(4));
            let length = 12 + word(8) as usize;
            let Some(whole) = records.get(at..at + length) else { break };
            let mut sealed = whole.to_vec();
            milena_compat::batch::seal(&mut sealed);
            ensure!(sealed == whole, "the batch at {offset} is damaged");
            ensure!(offset == out.len() as u64, "offset {offset} where {} is due", out.len());
            out.push(whole[61..].to_vec());
            at += length;
        }
    }
}

/// Produces one record; its offset, or the error.
fn append(wire: &mut Wire, topic: &str, fill: u8) -> Result<std::result::Result<i64, i16>> {
    let batch = Batch::of(&[&[fill; 50_000]]).bytes();
    let p = produce(wire, topic, &[&batch])?.pop().context("an answer")?;
    Ok(if p.error == 0 { Ok(p.base_offset) } else { Err(p.error) })
}

#[test]
fn a_full_disk_is_told_and_harms_nothing() -> Result<()> {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(e) => {
            println!("skipped: no file system can be mounted here ({e:#})");
            return Ok(());
        }
    };
    // few and small files, so that the records are what fills the disk
    let mut broker = Broker::start_at(
        disk.data(),
        &[
            "num.partitions=1",
            "offsets.topic.num.partitions=1",
            "log.index.size.max.bytes=4096",
            "log.segment.bytes=1048576",
        ],
    )?;
    let mut wire = Wire::connect(&broker.address())?;
    let topic = name("full");
    ensure!(create_topic(&mut wire, &topic, 1, 1, &[])?.0 == 0, "a topic");
    let mut acknowledged = Vec::new();
    for i in 0..20 {
        let offset = append(&mut wire, &topic, i)?.map_err(|e| anyhow::anyhow!("error {e} with space"))?;
        ensure!(offset == i64::from(i), "{offset}");
        acknowledged.push(i);
    }

    disk.fill()?;
    let mut errors = Vec::new();
    for i in 100..110 {
        match append(&mut wire, &topic, i)? {
            Ok(_) => acknowledged.push(i),
            Err(e) => errors.push(e),
        }
    }
    ensure!(!errors.is_empty(), "ten produces were acknowledged on a full disk");
    ensure!(errors.iter().all(|e| *e == STORAGE_ERROR), "{errors:?} instead of KAFKA_STORAGE_ERROR");
    // what is there is read all along
    let seen = values(&mut wire, &topic)?;
    ensure!(seen.len() == acknowledged.len(), "{} records of {}", seen.len(), acknowledged.len());

    disk.empty()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut restarted = false;
    loop {
        if let Ok(Ok(_)) = append(&mut wire, &topic, 200) {
            acknowledged.push(200);
            break;
        }
        if Instant::now() > deadline {
            ensure!(!restarted, "no produce is acknowledged though there is space, and not after a restart either");
            broker.kill();
            broker.restart()?;
            wire = Wire::connect(&broker.address())?;
            restarted = true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("a full disk: works again with space {}", if restarted { "after a restart" } else { "at once" });

    for round in ["in the running broker", "after a stop", "after a SIGKILL"] {
        match round {
            "after a stop" => broker.stop()?,
            "after a SIGKILL" => broker.kill(),
            _ => {}
        }
        if round != "in the running broker" {
            broker.restart()?;
            wire = Wire::connect(&broker.address())?;
        }
        let seen = values(&mut wire, &topic)?;
        ensure!(seen.len() == acknowledged.len(), "{round}: {} records of {}", seen.len(), acknowledged.len());
        for (value, fill) in seen.iter().zip(&acknowledged) {
            ensure!(value.windows(50_000).any(|w| w.iter().all(|b| b == fill)), "{round}: record {fill} is another");
        }
    }
    Ok(())
}

/// A topic that cannot be written down is not there, and the broker does not forget those that are.
#[test]
fn a_full_disk_creates_no_topics() -> Result<()> {
    let Ok(disk) = SmallDisk::mount() else {
        println!("skipped: no file system can be mounted here");
        return Ok(());
    };
    let mut broker =
        Broker::start_at(disk.data(), &["offsets.topic.num.partitions=1", "log.index.size.max.bytes=4096"])?;
    let mut wire = Wire::connect(&broker.address())?;
    let before = name("before");
    ensure!(create_topic(&mut wire, &before, 1, 1, &[])?.0 == 0, "a topic");
    append(&mut wire, &before, 1)?.map_err(|e| anyhow::anyhow!("error {e} with space"))?;
    disk.fill()?;
    let full = name("full");
    match create_topic(&mut wire, &full, 1, 1, &[]) {
        Ok((error, message)) => println!("a topic on a full disk: {error} {message:?}"),
        Err(e) => println!("a topic on a full disk: {e:#}"),
    }
    disk.empty()?;
    broker.kill();
    broker.restart()?;
    let mut wire = Wire::connect(&broker.address())?;
    ensure!(values(&mut wire, &before)?.len() == 1, "the record from before");
    let after = name("after");
    ensure!(create_topic(&mut wire, &after, 1, 1, &[])?.0 == 0, "a topic with space");
    append(&mut wire, &after, 1)?.map_err(|e| anyhow::anyhow!("error {e} with space"))?;
    Ok(())
}
