//! Starts that cannot be: each ends with status 1 and says what is in the way.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Result, ensure};
use milena_compat::broker::{Broker, free_port, milena_bin};

struct Node {
    folder: tempfile::TempDir,
    port: u16,
    properties: PathBuf,
}

impl Node {
    /// A configuration with a data folder that is not formatted.
    fn new(port: u16, data: Option<&Path>, more: &str) -> Result<Node> {
        let folder = tempfile::tempdir()?;
        let data = data.map_or_else(|| folder.path().join("data"), Path::to_path_buf);
        let properties = folder.path().join("server.properties");
        let controller = free_port();
        fs::write(
            &properties,
            format!(
                "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
                 listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 controller.listener.names=CONTROLLER\nlog.dirs={}\n{more}\n",
                data.display()
            ),
        )?;
        Ok(Node { folder, port, properties })
    }

    fn format(self) -> Result<Node> {
        let out = self.milena("kafka-storage", &["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"], true)?;
        ensure!(out.status.success(), "format: {}", text(&out));
        Ok(self)
    }

    /// Runs it to its end, which has to come.
    fn start(&self) -> Result<Output> {
        self.milena("kafka-server-start", &[], true)
    }

    fn milena(&self, command: &str, arguments: &[&str], with_file: bool) -> Result<Output> {
        let mut c = Command::new("timeout");
        c.arg("20").arg(milena_bin()).arg(command).args(arguments).current_dir(self.folder.path());
        if with_file {
            c.arg(&self.properties);
        }
        Ok(c.stdin(Stdio::null()).output()?)
    }
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// It ended with status 1 and said all of this.
fn refused(out: &Output, words: &[&str]) -> Result<()> {
    let text = text(out);
    ensure!(out.status.code() == Some(1), "{}: {text}", out.status);
    for w in words {
        ensure!(text.contains(w), "no word of {w:?}: {text}");
    }
    ensure!(!text.contains("panicked"), "{text}");
    Ok(())
}

#[test]
fn a_port_in_use() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let node = Node::new(taken.local_addr()?.port(), None, "")?.format()?;
    refused(&node.start()?, &[&format!("127.0.0.1:{}", node.port), "Address already in use"])
}

#[test]
fn a_folder_that_is_not_formatted() -> Result<()> {
    let node = Node::new(free_port(), None, "")?;
    refused(&node.start()?, &["meta.properties", "kafka-storage.sh", "format"])
}

#[test]
fn a_folder_of_a_running_process() -> Result<()> {
    let broker = Broker::start()?;
    let node = Node::new(free_port(), Some(&broker.data()), "")?;
    refused(&node.start()?, &[".lock", &broker.data().display().to_string()])
}

#[test]
fn a_folder_of_another_node() -> Result<()> {
    let mut broker = Broker::start()?;
    broker.stop()?;
    let node = Node::new(free_port(), Some(&broker.data()), "node.id=7")?;
    refused(&node.start()?, &["7", "1"])
}

#[test]
fn values_that_cannot_be() -> Result<()> {
    for (line, words) in [
        ("num.partitions=many", &["num.partitions", "many"][..]),
        ("num.network.threads=0", &["num.network.threads", "0"]),
        ("listeners=PLAINTEXT://127.0.0.1:port", &["listeners", "port"]),
        ("process.roles=king", &["process.roles", "king"]),
        ("log.dirs=", &["log.dir"]),
        ("node.id=-1", &["node.id", "-1"]),
    ] {
        let node = Node::new(free_port(), None, line)?;
        refused(&node.start()?, words).map_err(|e| e.context(line))?;
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_there() -> Result<()> {
    let node = Node::new(free_port(), None, "")?;
    refused(
        &node.milena("kafka-server-start", &["/no/such/server.properties"], false)?,
        &["/no/such/server.properties"],
    )
}
