//! Brokers to run tools against, and the running of shell command lines.
#![allow(dead_code, clippy::disallowed_methods, reason = "tests start processes; not every test uses everything")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a command printed and how it ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// Our binary.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_milena"))
}

/// The script that runs real Apache Kafka, if there is one.
pub fn oracle() -> Option<PathBuf> {
    let named = std::env::var_os("KAFKA_ORACLE").map(PathBuf::from);
    let beside =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/oracle/kafka-oracle"));
    named.into_iter().chain(beside).find(|path| path.is_file())
}

/// A running broker and a scratch folder; both go when it is dropped.
pub struct Broker {
    folder: tempfile::TempDir,
    scratch: String,
    address: String,
    process: Stop,
}

enum Stop {
    Kafka { oracle: PathBuf, dir: PathBuf },
    Process(Child),
    Nothing,
}

impl Broker {
    /// Apache Kafka, one node with a quorum of its own.
    pub fn kafka(oracle: &Path, version: &str) -> Broker {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("kafka");
        let port = free_port();
        let status = Command::new(oracle)
            .args(["start-kraft", version])
            .arg(&dir)
            .arg(port.to_string())
            .args(["log.segment.bytes=1073741824", "group.initial.rebalance.delay.ms=0"])
            .env("KAFKA_ORACLE_HEAP", "-Xmx384m")
            .stdout(Stdio::null())
            .status()
            .expect("the oracle starts");
        assert!(status.success(), "Kafka {version} did not start");
        Broker::new(folder, port, Stop::Kafka { oracle: oracle.into(), dir })
    }

    /// Milena, as `milena dev` starts it.
    pub fn milena() -> Broker {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("server.log")).expect("a log file");
        let process = Command::new(binary())
            .args(["dev", "--port", &port.to_string(), "--data"])
            .arg(folder.path().join("data"))
            .args(["--override", "log.segment.bytes=1073741824", "--override", "group.initial.rebalance.delay.ms=0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("milena starts");
        let broker = Broker::new(folder, port, Stop::Process(process));
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(broker.address()).is_err() {
            assert!(Instant::now() < deadline, "milena dev does not listen: {}", broker.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        broker
    }

    /// No broker, for tools that need none.
    pub fn none() -> Broker {
        Broker::new(tempfile::tempdir().expect("a folder"), 1, Stop::Nothing)
    }

    fn new(folder: tempfile::TempDir, port: u16, process: Stop) -> Broker {
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).expect("a scratch folder");
        let scratch = scratch.to_string_lossy().into_owned();
        Broker { folder, scratch, address: format!("127.0.0.1:{port}"), process }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// An empty folder for the commands' files.
    pub fn scratch(&self) -> &str {
        &self.scratch
    }

    /// What the broker has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        match &mut self.process {
            Stop::Kafka { oracle, dir } => {
                let _ = Command::new(oracle).arg("stop").arg(dir).arg("kill").status();
            }
            Stop::Nothing => {}
            Stop::Process(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// A port that was free a moment ago, low enough that Kafka's controller finds the one 1000 above it.
pub fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        if port < 64_000 && TcpListener::bind(("127.0.0.1", port + 1000)).is_ok() {
            return port;
        }
    }
}

/// A folder with Kafka's own scripts by their names.
pub fn kafka_tools(oracle: &Path, version: &str) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    for tool in [
        "kafka-topics",
        "kafka-configs",
        "kafka-consumer-groups",
        "kafka-console-producer",
        "kafka-console-consumer",
        "kafka-storage",
    ] {
        let path = folder.path().join(format!("{tool}.sh"));
        let text = format!("#!/bin/sh\nexec '{}' tool {version} {tool} \"$@\"\n", oracle.display());
        std::fs::write(&path, text).expect("a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    folder
}

/// Runs a shell command line with the tools of `folder` first on the path. `$S` is the broker, `$T` the scratch folder.
pub fn run(command: &str, folder: &Path, broker: &Broker) -> Ran {
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("timeout")
        .args(["90", "sh", "-c", command])
        .env("PATH", path)
        .env("S", broker.address())
        .env("T", broker.scratch())
        .env("MILENA_BIN", binary())
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    Ran {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}
