//! `kafka-server-stop`: finds the brokers and controllers that run on this machine and asks them to end.
//!
//! As Kafka's script does it: all of them, or only those of a role or a node id, told by the properties file on their command line.
//! The signal is `$SIGNAL` or TERM. Does not wait for them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tool::{err, out};

const USAGE: &str = "Usage: kafka-server-stop [--process-role=broker|controller] [--node-id=ID]\n\nStops the servers on this machine, or only those of a role or a node id.\nThe signal is TERM, or what the variable SIGNAL says.\n";

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    let mut wanted = Wanted::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (arg.as_str(), None),
        };
        let slot = match name {
            "--process-role" => &mut wanted.role,
            "--node-id" => &mut wanted.node_id,
            "--help" | "-h" => {
                out(USAGE);
                return 0;
            }
            "--version" => {
                out(format_args!("{}\n", crate::tool::KAFKA_VERSION));
                return 0;
            }
            _ => {
                err(format_args!("Unknown option: {arg}\n{USAGE}"));
                return 1;
            }
        };
        *slot = value.or_else(|| rest.next().cloned());
    }
    let servers = servers();
    if servers.is_empty() {
        out("No kafka server to stop\n");
        return 1;
    }
    let chosen: Vec<&Process> = servers.iter().filter(|server| wanted.accepts(server)).collect();
    if chosen.is_empty() {
        out("No kafka server to stop\n");
        return 1;
    }
    let signal = std::env::var("SIGNAL").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "TERM".into());
    let ids: Vec<String> = chosen.iter().map(|server| server.pid.to_string()).collect();
    match Command::new("kill").arg("-s").arg(signal).args(&ids).status() {
        Ok(status) if status.success() => 0,
        Ok(_) => 1,
        Err(error) => {
            err(format_args!("cannot send the signal to {}: {error}\n", ids.join(" ")));
            1
        }
    }
}

/// Which servers are meant; nothing means all.
#[derive(Default)]
struct Wanted {
    role: Option<String>,
    node_id: Option<String>,
}

impl Wanted {
    fn accepts(&self, server: &Process) -> bool {
        if self.role.is_none() && self.node_id.is_none() {
            return true;
        }
        let properties = server.properties();
        let find = |key: &str| properties.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.trim().to_string());
        // a node id wins over a role, as in Kafka's script
        match (&self.node_id, &self.role) {
            (Some(id), _) => find("node.id").or_else(|| find("broker.id")).as_ref() == Some(id),
            (None, Some(role)) => find("process.roles").as_ref() == Some(role),
            (None, None) => true,
        }
    }
}

/// A running process.
struct Process {
    pid: u32,
    args: Vec<String>,
    folder: Option<PathBuf>,
}

impl Process {
    /// Whether it is a server of ours: the program under its own name or a script's, and a command that serves.
    fn is_server(&self) -> bool {
        let Some((program, rest)) = self.args.split_first() else {
            return false;
        };
        let base = |text: &str| text.rsplit('/').next().unwrap_or(text).trim_end_matches(".sh").to_string();
        let serves = |name: &str| matches!(name, "kafka-server-start" | "dev");
        match base(program).as_str() {
            "kafka-server-start" => true,
            "milena" => rest.first().is_some_and(|first| serves(&base(first))),
            _ => false,
        }
    }

    /// The settings it was started with: its file and its overrides.
    fn properties(&self) -> Vec<(String, String)> {
        let mut properties = Vec::new();
        let mut args = self.args.iter().skip(1);
        while let Some(arg) = args.next() {
            if arg == "--override" {
                properties.extend(
                    args.next().and_then(|pair| pair.split_once('=')).map(|(k, v)| (k.to_string(), v.to_string())),
                );
            } else if arg.ends_with(".properties") {
                let path = self.folder.as_deref().unwrap_or(Path::new("")).join(arg);
                let found = crate::tool::load_properties(&path.to_string_lossy()).unwrap_or_default();
                properties.splice(0..0, found);
            }
        }
        properties
    }
}

/// The servers on this machine: from `/proc`, or where there is none from `ps`.
fn servers() -> Vec<Process> {
    let mut found = from_proc();
    if found.is_empty() {
        found = from_ps();
    }
    found.retain(|process| process.is_server() && process.pid != std::process::id());
    found
}

#[allow(clippy::disallowed_methods, reason = "the tool looks at the processes of the machine")]
fn from_proc() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let args = line.split(|byte| *byte == 0).filter(|arg| !arg.is_empty());
        let args = args.map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        found.push(Process { pid, args, folder: std::fs::read_link(entry.path().join("cwd")).ok() });
    }
    found
}

fn from_ps() -> Vec<Process> {
    let Ok(output) = Command::new("ps").args(["ax", "-o", "pid=,command="]).output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let pid = words.next()?.parse().ok()?;
            Some(Process { pid, args: words.map(String::from).collect(), folder: None })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(line: &str) -> Process {
        Process { pid: 1, args: line.split_whitespace().map(String::from).collect(), folder: None }
    }

    #[test]
    fn servers_are_told_by_their_command_line() {
        assert!(process("/opt/milena kafka-server-start /etc/server.properties").is_server());
        assert!(process("target/release/milena dev --port 9093").is_server());
        assert!(process("./kafka-server-start.sh server.properties").is_server());
        assert!(!process("milena kafka-topics --list").is_server());
        assert!(!process("vim kafka-server-start").is_server());
    }

    #[test]
    fn a_node_id_may_stand_in_an_override() {
        let server =
            process("milena kafka-server-start x.properties --override node.id=7 --override process.roles=broker");
        assert!(Wanted { node_id: Some("7".into()), role: None }.accepts(&server));
        assert!(!Wanted { node_id: Some("8".into()), role: Some("broker".into()) }.accepts(&server));
        assert!(Wanted { node_id: None, role: Some("broker".into()) }.accepts(&server));
        assert!(!Wanted { node_id: None, role: Some("controller".into()) }.accepts(&server));
    }
}
