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
    entries
        .iter()
        .map(|entry| {
            let bad = |what: String| ConfigError::invalid(VOTERS, entries.join(","), what);
            let mut parts = entry.split('@');
            let (Some(id), Some(address), None) = (parts.next(), parts.next(), parts.next()) else {
                return Err(bad(format!("Each entry should be in the form `{{id}}@{{host}}:{{port}}`, but this one is `{entry}`.")));
            };
            let id = id.parse().map_err(|_| bad(format!("Failed to parse voter ID as an integer: {id}")))?;
            let HostPort { host, port } = host_port(address).ok_or_else(|| bad(format!("Failed to parse host and port: {address}")))?;
            Ok(Voter { id, host, port })
        })
        .collect()
}

/// Parses the addresses at which a quorum is found.
pub fn parse_bootstrap_servers(entries: &[String]) -> Result<Vec<HostPort>, ConfigError> {
    entries
        .iter()
        .map(|entry| {
            host_port(entry).ok_or_else(|| {
                ConfigError::invalid(
                    BOOTSTRAP,
                    entry,
                    format!("Invalid url in {BOOTSTRAP}: {entry}"),
                )
            })
        })
        .collect()
}

fn host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    (!host.is_empty()).then_some(())?;
    Some(HostPort {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}
