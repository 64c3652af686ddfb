//! A broker as its users have it: a process, a folder, an address. Owns starting, killing and restarting it; never looks inside.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The `milena` binary under test: `MILENA_BIN`, else the debug build of this workspace.
pub fn milena_bin() -> PathBuf {
    if let Some(path) = std::env::var_os("MILENA_BIN") {
        return path.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    target.join("debug/milena")
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("compat/ has a parent").to_path_buf()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port on the loopback").port()
}

/// One `milena dev` process with a data folder of its own, killed and removed on drop.
pub struct Broker {
    folder: tempfile::TempDir,
    data: PathBuf,
    port: u16,
    overrides: Vec<String>,
    process: Option<Child>,
}

impl Broker {
    /// Starts a broker in a new folder and waits until it answers.
    pub fn start() -> Result<Broker> {
        Broker::start_with(&[])
    }

    /// As [`Broker::start`], with `key=value` settings over the defaults.
    pub fn start_with(overrides: &[&str]) -> Result<Broker> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        Broker::start_in(folder, data, overrides)
    }

    /// As [`Broker::start_with`], with its data in this folder, which stays.
    pub fn start_at(data: PathBuf, overrides: &[&str]) -> Result<Broker> {
        Broker::start_in(tempfile::tempdir()?, data, overrides)
    }

    fn start_in(folder: tempfile::TempDir, data: PathBuf, overrides: &[&str]) -> Result<Broker> {
        let mut broker = Broker {
            folder,
            data,
            port: free_port(),
            overrides: overrides.iter().map(|s| s.to_string()).collect(),
            process: None,
        };
        broker.restart()?;
        Ok(broker)
    }

    /// `host:port`, for `bootstrap.servers`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder that holds the log of the process and, unless told otherwise, the data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder (`log.dirs`).
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// The process id of the running broker.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Starts the process again on the same folder and port.
    pub fn restart(&mut self) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("server.log"))?;
        let mut command = Command::new(milena_bin());
        command.arg("dev").arg("--port").arg(self.port.to_string()).arg("--data").arg(self.data());
        for o in &self.overrides {
            command.arg("--override").arg(o);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", milena_bin().display()))?;
        self.process = Some(child);
        self.wait_until_it_answers()
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the process to end by itself.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.process.take() else { return Ok(()) };
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                if !status.success() {
                    bail!("the broker ended with {status} on SIGTERM; its log:\n{}", self.log());
                }
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        bail!("the broker did not end on SIGTERM; its log:\n{}", self.log())
    }

    /// What the process printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if answers(self.port) {
                return Ok(());
            }
            if let Some(status) = self.process.as_mut().and_then(|p| p.try_wait().ok().flatten()) {
                bail!("the broker ended with {status} before it answered; its log:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the broker did not answer within 60 s; its log:\n{}", self.log())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the broker's log ---\n{}", self.log());
        }
    }
}

/// Whether an ApiVersions v0 request on this port is answered without an error.
pub(crate) fn answers(port: u16) -> bool {
    const API_VERSIONS_V0: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let Ok(mut s) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = s.set_read_timeout(Some(Duration::from_secs(2)));
    let mut head = [0u8; 10];
    s.write_all(&API_VERSIONS_V0).is_ok() && s.read_exact(&mut head).is_ok() && head[4..] == [0, 0, 0, 7, 0, 0]
}
