//! The servers that are compared: how each is configured, started, and found to answer.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Arguments;

/// A server and what it does before it answers a producer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Milena: on disk.
    Milena,
    /// Milena: in the page cache.
    MilenaPageCache,
    /// Apache Kafka: in the page cache.
    Kafka,
    /// Apache Kafka with `flush.messages=1`: on disk.
    KafkaFsync,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Milena => "Milena (fsync)",
            Kind::MilenaPageCache => "Milena (page cache)",
            Kind::Kafka => "Kafka (page cache)",
            Kind::KafkaFsync => "Kafka (fsync)",
        })
    }
}

/// A running server.
pub struct Server {
    process: Child,
    port: u16,
    /// From the start of the process to the first answer, in ms.
    pub start_ms: f64,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts it on a new folder and waits for the first answer.
    pub fn start(kind: Kind, arguments: &Arguments) -> Result<Server> {
        let folder = tempfile::tempdir_in(&arguments.dir)?;
        let (port, controller) = (free_port()?, free_port()?);
        let log = fs::File::create(folder.path().join("server.out"))?;
        let mut command = match kind {
            Kind::Milena | Kind::MilenaPageCache => {
                let mut c = Command::new(&arguments.milena);
                c.arg("dev").arg("--port").arg(port.to_string()).arg("--data").arg(folder.path().join("data"));
                if kind == Kind::MilenaPageCache {
                    c.args(["--override", "log.ack.durability=page-cache"]);
                }
                c
            }
            Kind::Kafka | Kind::KafkaFsync => {
                let data = folder.path().join("data");
                let mut properties = format!(
                    "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
                     listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
                     log.dirs={}\noffsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
                     transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n",
                    data.display()
                );
                if kind == Kind::KafkaFsync {
                    properties += "log.flush.interval.messages=1\n";
                }
                let file = folder.path().join("server.properties");
                fs::write(&file, properties)?;
                let out = java(arguments, "-Xmx256m")
                    .args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"])
                    .arg(&file)
                    .output()
                    .context("java")?;
                if !out.status.success() {
                    bail!("formatting Kafka's folder: {}", String::from_utf8_lossy(&out.stderr));
                }
                let mut c = java(arguments, "-Xmx1g");
                c.arg("kafka.Kafka").arg(&file);
                c
            }
        };
        let begin = Instant::now();
        let process =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("starting the server")?;
        let mut server = Server { process, port, start_ms: 0.0, _folder: folder };
        while !answers(port) {
            if let Some(status) = server.process.try_wait()? {
                bail!(
                    "{kind} ended with {status}: {}",
                    fs::read_to_string(server._folder.path().join("server.out")).unwrap_or_default()
                );
            }
            if begin.elapsed() > Duration::from_secs(60) {
                bail!("{kind} does not answer");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        server.start_ms = begin.elapsed().as_secs_f64() * 1000.0;
        Ok(server)
    }

    /// For `bootstrap.servers`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn java(arguments: &Arguments, heap: &str) -> Command {
    let mut c = Command::new("java");
    c.args([heap, "-XX:+UseG1GC"]).arg("-cp").arg(format!("{}/*", arguments.kafka.display()));
    c
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whether ApiVersions v0 is answered.
fn answers(port: u16) -> bool {
    const API_VERSIONS_V0: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let Ok(mut s) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = s.set_read_timeout(Some(Duration::from_secs(2)));
    let mut head = [0u8; 10];
    s.write_all(&API_VERSIONS_V0).is_ok() && s.read_exact(&mut head).is_ok()
}
