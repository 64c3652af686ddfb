//! Brokers to run tools against, and the running of shell command lines.
#![allow(dead_code, clippy::disallowed_methods, reason = "tests start processes; not every test uses everything")]

pub mod blanks;
pub mod transcript;

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

/// Settings of every broker that tools are run against.
const USUAL: [&str; 2] = ["log.segment.bytes=1073741824", "group.initial.rebalance.delay.ms=0"];

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
    pub fn kafka(oracle: &Path, version: &str, settings: &[String]) -> Broker {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("kafka");
        let port = free_port();
        let status = Command::new(oracle)
            .args(["start-kraft", version])
            .arg(&dir)
            .arg(port.to_string())
            .args(USUAL)
            .args(settings)
            .env("KAFKA_ORACLE_HEAP", "-Xmx384m")
            .stdout(Stdio::null())
            .status()
            .expect("the oracle starts");
        assert!(status.success(), "Kafka {version} did not start");
        Broker::new(folder, port, Stop::Kafka { oracle: oracle.into(), dir })
    }

    /// Milena, as `milena dev` starts it.
    pub fn milena(settings: &[String]) -> Broker {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("server.log")).expect("a log file");
        let process = Command::new(binary())
            .args(["dev", "--port", &port.to_string(), "--data"])
            .arg(folder.path().join("data"))
            .args(USUAL.iter().flat_map(|setting| ["--override", setting]))
            .args(settings.iter().flat_map(|setting| ["--override", setting.as_str()]))
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

    /// Other texts that differ from broker to broker, and what stands for them.
    pub fn blanks(&self) -> Vec<(String, &'static str)> {
        let port: u16 = self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default();
        let folder = self.folder.path().to_string_lossy().into_owned();
        vec![
            (format!("{folder}/kafka/data"), "DATA"),
            (format!("{folder}/data"), "DATA"),
            (format!("127.0.0.1 {port}"), "127.0.0.1 PORT_"),
            (format!("localhost {port}"), "127.0.0.1 PORT_"),
            (format!("localhost:{port}"), "SERVER"),
            (format!(":{}", port.saturating_add(1000)), ":CPORT"),
        ]
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

/// A virtual machine for a tool that runs for a second.
const SMALL_JAVA: &str = "-Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC";

/// The classes of Kafka's tools, made ready once: it halves the time that each of them takes to start.
fn class_archive(oracle: &Path, version: &str) -> PathBuf {
    let archive = std::env::temp_dir().join(format!("milena-golden-{version}.jsa"));
    if !archive.exists() {
        // any command will do that loads what a client needs, and ends at once
        let _ = Command::new(oracle)
            .args(["tool", version, "broker-api-versions", "--bootstrap-server", "127.0.0.1:1"])
            .env("KAFKA_ORACLE_HEAP", format!("{SMALL_JAVA} -XX:ArchiveClassesAtExit={}", archive.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
    archive
}

/// A folder with Kafka's own scripts: those that the commands name.
pub fn kafka_tools<'a>(oracle: &Path, version: &str, commands: impl Iterator<Item = &'a str>) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let script = regex::Regex::new(r"kafka-[a-z0-9-]+\.sh").expect("a pattern");
    let mut names: Vec<&str> = commands.flat_map(|line| script.find_iter(line).map(|found| found.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    let archive = class_archive(oracle, version);
    for name in names {
        let path = folder.path().join(name);
        let tool = name.trim_end_matches(".sh");
        let java = format!("{SMALL_JAVA} -XX:SharedArchiveFile={} -Xlog:disable -Xlog:all=off", archive.display());
        let text = format!(
            "#!/bin/sh\nexport KAFKA_ORACLE_HEAP=\"{java}\"\nexec '{}' tool {version} {tool} \"$@\"\n",
            oracle.display()
        );
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
