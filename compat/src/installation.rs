//! One properties file and its data directories, run by turns by Milena and by Apache Kafka. Owns the folder, starting, stopping and killing
//! whoever runs, and DumpLogSegments over what lies there; never looks into a file itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::broker::{answers, free_port, milena_bin, repository};
use crate::clients::cache;

/// How long a server may take to start or to end; a JVM on a busy machine takes long.
const PATIENCE: Duration = Duration::from_secs(180);

/// Who runs on the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Milena,
    /// Apache Kafka of this version, from the tests' cache.
    Kafka(&'static str),
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM, and waiting.
    Orderly,
    /// SIGKILL.
    Killed,
}

/// Who names the voters of the metadata quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voters {
    /// `controller.quorum.voters` (`kraft.version` 0).
    Static,
    /// The log, formatted with `--standalone` (`kraft.version` 1).
    InLog,
}

/// See the module. The process is killed and the folder removed on drop, unless `MILENA_TEST_KEEP` is set.
pub struct Installation {
    folder: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Installation {
    /// Writes the properties and lets Kafka's tool of `version` format the directories.
    pub fn format(version: &str, voters: Voters, properties: &[&str]) -> Result<Installation> {
        let (folder, port, controller) = (tempfile::tempdir()?, free_port(), free_port());
        let quorum = match voters {
            Voters::Static => format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            Voters::InLog => format!("controller.quorum.bootstrap.servers=127.0.0.1:{controller}"),
        };
        let data = folder.path().join("data").display().to_string();
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\n{quorum}\nlisteners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={data}-a,{data}-b\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=3\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=3\n\
             share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n{}\n",
            properties.join("\n")
        );
        let installation = Installation { folder, port, process: None };
        fs::write(installation.properties(), text)?;
        let file = installation.properties().display().to_string();
        let mut arguments = vec!["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", &file];
        if voters == Voters::InLog {
            arguments.push("--standalone");
        }
        java(version, "kafka.tools.StorageTool", &arguments)?;
        Ok(installation)
    }

    /// The properties file.
    pub fn properties(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }

    /// `log.dirs`; the first holds the metadata log.
    pub fn data(&self) -> [PathBuf; 2] {
        ["data-a", "data-b"].map(|d| self.folder.path().join(d))
    }

    /// `host:port`, for `bootstrap.servers`; the same for whoever runs.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts a server and waits until it answers.
    pub fn start(&mut self, program: Program) -> Result<()> {
        ensure!(self.process.is_none(), "a server runs already");
        let mut log = fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        std::io::Write::write_all(&mut log, format!("--- {program:?}\n").as_bytes())?;
        let mut command = match program {
            Program::Milena => {
                let mut c = Command::new(repository().join("bin/kafka-server-start.sh"));
                c.env("MILENA_BIN", milena_bin());
                c
            }
            Program::Kafka(version) => jvm(version, "kafka.Kafka"),
        };
        command.arg(self.properties()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn().with_context(|| format!("starting {program:?}"))?);
        let begin = Instant::now();
        while !answers(self.port) {
            if let Some(status) = self.process.as_mut().and_then(|p| p.try_wait().ok().flatten()) {
                self.process = None;
                bail!("{program:?} ended with {status} before it answered");
            }
            ensure!(begin.elapsed() < PATIENCE, "{program:?} did not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("{program:?} answered after {} ms", begin.elapsed().as_millis());
        Ok(())
    }

    /// Ends the server that runs.
    pub fn end(&mut self, how: Ending) -> Result<()> {
        let Some(mut child) = self.process.take() else { return Ok(()) };
        if how == Ending::Killed {
            child.kill()?;
            child.wait()?;
            return Ok(());
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait()? {
                // a JVM says that it was a signal
                ensure!(status.success() || status.code() == Some(143), "ended with {status} on SIGTERM");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill()?;
        bail!("did not end on SIGTERM")
    }

    /// What the servers printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::env::var_os("MILENA_TEST_KEEP").is_some() {
            println!("kept: {}", self.folder.path().display());
            self.folder.disable_cleanup(true);
        }
    }
}

/// A command of Kafka's, without arguments.
fn jvm(version: &str, class: &str) -> Command {
    let mut c = Command::new("java");
    c.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(format!("{}/*", cache().join("kafka").join(version).join("libs").display()))
        .arg(class);
    c
}

/// Runs one of Kafka's tools to its end; what it printed on standard output and error.
pub fn java(version: &str, class: &str, arguments: &[&str]) -> Result<(String, String)> {
    let out = jvm(version, class).args(arguments).stdin(Stdio::null()).output().context("java")?;
    let (text, errors) =
        (String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned());
    ensure!(out.status.success(), "{class} {arguments:?}: {}\n{text}\n{errors}", out.status);
    Ok((text, errors))
}

/// Runs DumpLogSegments over files; what it printed. Anything that it finds wrong is an error.
pub fn dump(flags: &[&str], files: &[PathBuf]) -> Result<String> {
    let list: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    let list = list.join(",");
    let arguments: Vec<&str> = flags.iter().copied().chain(["--files", &list]).collect();
    let (text, errors) = java("4.3.1", "org.apache.kafka.tools.DumpLogSegments", &arguments)?;
    for sign in [
        "isvalid: false",
        "Mismatches",
        "not found",
        "out of order",
        "Out of order",
        "Exception",
        "Could not",
        "Failed",
        "ERROR",
    ] {
        for (source, t) in [("stdout", &text), ("stderr", &errors)] {
            let lines: Vec<&str> = t.lines().filter(|l| l.contains(sign)).take(5).collect();
            ensure!(lines.is_empty(), "DumpLogSegments {flags:?} on {list} says on {source}:\n{}", lines.join("\n"));
        }
    }
    // Kafka 4.3 says so of its own segments: a file that does not begin at offset 0 "follows" offset -1
    let gaps: Vec<&str> =
        text.lines().map(str::trim).filter(|l| l.contains("is followed by") && !l.starts_with("-1 ")).take(5).collect();
    ensure!(gaps.is_empty(), "DumpLogSegments {flags:?} on {list} finds gaps:\n{}", gaps.join("\n"));
    Ok(text)
}

/// Files of the partitions whose folder names pass, by extension.
pub fn files(data: &Path, extension: &str, folder: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for partition in
        fs::read_dir(data)?.flatten().filter(|e| e.path().is_dir() && folder(&e.file_name().to_string_lossy()))
    {
        for file in fs::read_dir(partition.path())?.flatten().map(|e| e.path()) {
            if file.extension().is_some_and(|e| e == extension) && file.metadata()?.len() > 0 {
                out.push(file);
            }
        }
    }
    out.sort();
    Ok(out)
}
