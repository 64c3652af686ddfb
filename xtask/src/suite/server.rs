//! The server that a suite runs against: Milena from this checkout, or Apache Kafka with the same settings. Owns how each is started and
//! ended; knows no suite.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{needs, repository};

/// Who serves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Milena,
    Kafka,
}

impl Kind {
    /// From its word on the command line.
    pub fn from_word(word: &str) -> Result<Kind> {
        match word {
            "milena" => Ok(Kind::Milena),
            "kafka" => Ok(Kind::Kafka),
            other => bail!("--against milena or kafka, not {other}"),
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Milena => "milena",
            Kind::Kafka => "kafka",
        }
    }
}

/// A running server with a folder of its own, ended on drop.
pub struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts it in this folder, which is emptied first, and waits until it answers.
    pub fn start(kind: Kind, folder: &Path, overrides: &[&str]) -> Result<Server> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        fs::create_dir_all(folder)?;
        let [port, controller] = free_ports()?;
        let log = fs::File::create(folder.join("server.log"))?;
        let data = folder.join("data");
        let mut command = match kind {
            Kind::Milena => milena(port, &data, overrides),
            Kind::Kafka => kafka(port, controller, folder, &data, overrides)?,
        };
        let process =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("starting the server")?;
        let mut server = Server { process, port };
        let begin = Instant::now();
        while !answers(port) {
            if let Some(status) = server.process.try_wait()? {
                bail!("{} ended with {status}, see {}", kind.word(), folder.join("server.log").display());
            }
            if begin.elapsed() > Duration::from_secs(120) {
                bail!("{} does not answer, see {}", kind.word(), folder.join("server.log").display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// For `bootstrap.servers`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Whether the process still runs.
    pub fn lives(&mut self) -> bool {
        self.process.try_wait().is_ok_and(|s| s.is_none())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program under test: `MILENA_BIN`, else the debug build of this workspace.
pub fn milena_bin() -> PathBuf {
    std::env::var_os("MILENA_BIN").map_or_else(
        || {
            std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| repository().join("target"), PathBuf::from)
                .join("debug/milena")
        },
        PathBuf::from,
    )
}

fn milena(port: u16, data: &Path, overrides: &[&str]) -> Command {
    let mut command = Command::new(milena_bin());
    command.arg("dev").arg("--port").arg(port.to_string()).arg("--data").arg(data);
    // set by hand, as in the properties of the other
    command.arg("--override").arg(format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}"));
    for o in overrides {
        command.arg("--override").arg(o);
    }
    command
}

fn kafka(port: u16, controller: u16, folder: &Path, data: &Path, overrides: &[&str]) -> Result<Command> {
    let mut properties = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\noffsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n",
        data.display()
    );
    for o in overrides {
        properties += o;
        properties += "\n";
    }
    let file = folder.join("server.properties");
    fs::write(&file, properties)?;
    let out = java()
        .args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"])
        .arg(&file)
        .output()
        .context("java")?;
    if !out.status.success() {
        bail!("formatting Kafka's folder: {}", String::from_utf8_lossy(&out.stderr));
    }
    let mut command = java();
    command.arg("kafka.Kafka").arg(&file);
    Ok(command)
}

fn java() -> Command {
    let libraries = needs::cache().join("kafka").join(needs::KAFKA).join("libs");
    let mut command = Command::new("java");
    command.arg("-Xmx512m").arg("-cp").arg(format!("{}/*", libraries.display()));
    command
}

/// Two free ports: from `MILENA_TEST_PORTS` (`FIRST-LAST`) if it is set, else whatever the system gives.
fn free_ports() -> Result<[u16; 2]> {
    let candidates: Vec<u16> = match std::env::var("MILENA_TEST_PORTS") {
        Ok(range) => {
            let (first, last) = range.split_once('-').context("MILENA_TEST_PORTS is FIRST-LAST")?;
            let (first, last): (u16, u16) = (first.parse()?, last.parse()?);
            // begins somewhere else in every process, so that two at once rarely try the same
            let middle = first + std::process::id() as u16 % last.saturating_sub(first).max(1);
            (middle..=last).chain(first..middle).collect()
        }
        Err(_) => vec![0; 2],
    };
    // both are held until both are found, so that they differ
    let held: Vec<TcpListener> =
        candidates.iter().filter_map(|port| TcpListener::bind(("127.0.0.1", *port)).ok()).take(2).collect();
    let [one, two] = &held[..] else { bail!("too few free ports") };
    Ok([one.local_addr()?.port(), two.local_addr()?.port()])
}

/// Whether ApiVersions v0 is answered.
fn answers(port: u16) -> bool {
    const API_VERSIONS_V0: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let Ok(mut s) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = s.set_read_timeout(Some(Duration::from_secs(2)));
    let mut head = [0u8; 10];
    s.write_all(&API_VERSIONS_V0).is_ok() && s.read_exact(&mut head).is_ok()
}
