//! What a process used, from /proc: CPU time of user and system, peak memory; and what the machine is.

use std::fs;

use anyhow::{Context, Result};

/// CPU seconds of a process so far.
#[derive(Clone, Copy)]
pub struct Cpu {
    /// In user mode, seconds.
    pub user: f64,
    /// In the kernel, seconds.
    pub system: f64,
}

impl Cpu {
    /// Of this process.
    pub fn of(pid: u32) -> Result<Cpu> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the server's /proc entry")?;
        let after_name = text.rsplit_once(") ").context("stat")?.1;
        let fields: Vec<&str> = after_name.split(' ').collect();
        let ticks = |i: usize| -> Result<f64> { Ok(fields.get(i).context("stat field")?.parse::<f64>()?) };
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        Ok(Cpu { user: ticks(11)? / per_second, system: ticks(12)? / per_second })
    }

    /// User and system together.
    pub fn total(self) -> f64 {
        self.user + self.system
    }
}

/// CPU seconds of the threads that a process has, to the nanosecond: for stretches in which a tick of the clock is too coarse.
pub fn fine_cpu(pid: u32) -> Result<f64> {
    let mut ns = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("the server's threads")?.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        ns += text.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(ns / 1e9)
}

/// The memory that the process has resident now, in MB.
pub fn memory_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmRSS:")
}

/// The most memory that the process had resident at once, in MB.
pub fn peak_memory_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmHWM:")
}

/// The peak begins anew at what is resident now.
pub fn forget_peak(pid: u32) -> Result<()> {
    /// What `clear_refs` takes for this (proc_pid_clear_refs(5)).
    const RESET_PEAK: &str = "5";
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), RESET_PEAK)?)
}

fn status_mb(pid: u32, field: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|l| l.strip_prefix(field)).context("a field of /proc/PID/status")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1024.0)
}

/// Allocates, writes and frees this much, so that the host has given the pages before anything is measured.
pub fn touch_memory(bytes: usize) {
    const STEP: usize = 64 << 20;
    let mut held = Vec::new();
    for _ in 0..bytes / STEP {
        held.push(vec![1u8; STEP]);
    }
    std::hint::black_box(&held);
}

/// Machine and load, in a line.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        cpu.lines().find_map(|l| l.strip_prefix("model name")).map_or("", |l| l.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{cores} cores of {name}; load average at the end {}",
        load.split(' ').take(3).collect::<Vec<_>>().join(" ")
    )
}
