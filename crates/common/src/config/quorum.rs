//! `controller.quorum.voters` and `controller.quorum.bootstrap.servers`: who votes, and where to ask who votes.

use crate::ConfigError;

/// One entry of `controller.quorum.voters`, `id@host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    pub id: i32,
    pub host: String,
    pub port: u16,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

const VOTERS: &str = "controller.quorum.voters";
const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";

/// Parses the voters of a static quorum.
pub fn parse_voters(entries: &[String]) -> Result<Vec<Voter>, ConfigError> {
    const FORM: &str = "Each entry should be in the form `{id}@{host}:{port}`.";
    let refused = |what: String| Err(ConfigError::Conflict(what));
    let voter = |entry: &String| {
        let Some((id, address)) = entry.split_once('@').filter(|(_, a)| !a.contains('@')) else {
            return refused(format!("Invalid configuration value for {VOTERS}. {FORM}"));
        };
        let Ok(id) = id.trim().parse() else {
            return refused(format!("Failed to parse voter ID as an integer from {id}"));
        };
        let Some(HostPort { host, port }) = host_port(address) else {
            let what = "Failed to parse host name from entry";
            return refused(format!("{what} {entry} for the configuration {VOTERS}. {FORM}"));
        };
        if host == "0.0.0.0" {
            return refused(format!("Host string ({host}) is not routeable"));
        }
        Ok(Voter { id, host, port })
    };
    entries.iter().map(voter).collect()
}

/// Parses the addresses at which a quorum is found.
pub fn parse_bootstrap_servers(entries: &[String]) -> Result<Vec<HostPort>, ConfigError> {
    let server = |entry: &String| {
        host_port(entry).ok_or_else(|| {
            ConfigError::Conflict(format!(
                "Failed to parse host name from {entry} for the configuration {BOOTSTRAP}. Each entry should be in the \
                 form \"{{host}}:{{port}}\""
            ))
        })
    };
    entries.iter().map(server).collect()
}

fn host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(())?;
    Some(HostPort { host: host.to_owned(), port: port.parse().ok()? })
}
