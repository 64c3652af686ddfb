//! `listeners`, `advertised.listeners` and `listener.security.protocol.map`: texts to end points.
//!
//! Pure parsing with Kafka's errors. Which end points a role needs is decided in `validate.rs`; nothing here resolves a name
//! or opens a socket.

use std::collections::BTreeMap;

use crate::ConfigError;

/// How the peers of a listener prove who they are and whether the bytes are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum SecurityProtocol {
    Plaintext = 0,
    Ssl = 1,
    SaslPlaintext = 2,
    SaslSsl = 3,
}

impl SecurityProtocol {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    /// The protocol of that name, in capitals or not.
    pub fn from_name(name: &str) -> Option<Self> {
        use SecurityProtocol::{Plaintext, SaslPlaintext, SaslSsl, Ssl};
        [Plaintext, Ssl, SaslPlaintext, SaslSsl]
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(name))
    }

    /// The number in registration records.
    pub fn id(self) -> i16 {
        self as i16
    }
}

/// One entry of `listeners` or `advertised.listeners`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndPoint {
    /// In capitals, as Kafka normalises it.
    pub listener: String,
    /// Empty = every interface (in `listeners`) or this host's name (in `advertised.listeners`). Without the brackets of IPv6.
    pub host: String,
    /// 0 = any free port.
    pub port: u16,
    pub protocol: SecurityProtocol,
}

impl std::fmt::Display for EndPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        write!(
            f,
            "{}://{open}{}{close}:{}",
            self.listener, self.host, self.port
        )
    }
}

/// `name:PROTOCOL,name:PROTOCOL`, names in capitals.
pub fn parse_protocol_map(text: &str) -> Result<BTreeMap<String, SecurityProtocol>, ConfigError> {
    let mut map = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let bad = |what: String| ConfigError::invalid("listener.security.protocol.map", text, what);
        let (name, protocol) = entry
            .rsplit_once(':')
            .ok_or_else(|| bad(format!("'{entry}' is not of the form NAME:PROTOCOL")))?;
        let protocol = SecurityProtocol::from_name(protocol.trim()).ok_or_else(|| {
            bad(format!(
                "No enum constant org.apache.kafka.common.security.auth.SecurityProtocol.{}",
                protocol.trim().to_uppercase()
            ))
        })?;
        map.insert(name.trim().to_uppercase(), protocol);
    }
    Ok(map)
}

/// Splits `NAME://host:port`; the host may be empty or in brackets.
fn split(text: &str) -> Option<(&str, &str, i64)> {
    let (name, rest) = text.split_once("://")?;
    let (host, port) = rest.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let host_char = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    host.chars().all(host_char).then_some(())?;
    Some((name, host, port.parse().ok()?))
}

/// Parses the entries of `listeners` (`key` names it in errors).
pub fn parse(
    key: &str,
    entries: &[String],
    protocols: &BTreeMap<String, SecurityProtocol>,
) -> Result<Vec<EndPoint>, ConfigError> {
    entries
        .iter()
        .map(|entry| parse_one(key, entry, entries, protocols))
        .collect()
}

fn parse_one(
    key: &str,
    entry: &str,
    entries: &[String],
    protocols: &BTreeMap<String, SecurityProtocol>,
) -> Result<EndPoint, ConfigError> {
    let all = || entries.join(",");
    let (name, host, port) = split(entry).ok_or_else(|| {
        ConfigError::invalid(
            key,
            all(),
            format!("Unable to parse {entry} to a broker endpoint"),
        )
    })?;
    let listener = name.to_uppercase();
    let protocol = *protocols.get(&listener).ok_or_else(|| {
        ConfigError::invalid(
            key,
            all(),
            format!("No security protocol defined for listener {listener}"),
        )
    })?;
    let port = u16::try_from(port).map_err(|_| {
        ConfigError::invalid(
            key,
            all(),
            format!("Port {port} must be between 0 and 65535"),
        )
    })?;
    Ok(EndPoint {
        listener,
        host: host.to_owned(),
        port,
        protocol,
    })
}

/// Listeners must differ in name and, but for port 0 and one IPv4 beside one IPv6 address, in port.
pub fn check_distinct(
    key: &str,
    entries: &[String],
    endpoints: &[EndPoint],
    ports_too: bool,
) -> Result<(), ConfigError> {
    let all = || entries.join(",");
    for (i, a) in endpoints.iter().enumerate() {
        for b in &endpoints[..i] {
            if a.listener == b.listener {
                let what = format!("Each listener must have a different name, {key}: {}", all());
                return Err(ConfigError::Conflict(what));
            }
            let ip_versions = [a, b].map(|e| {
                e.host
                    .parse::<std::net::IpAddr>()
                    .ok()
                    .map(|ip| ip.is_ipv4())
            });
            let one_of_each = matches!(ip_versions, [Some(x), Some(y)] if x != y);
            if ports_too && a.port == b.port && a.port != 0 && !one_of_each {
                let both_ips = ip_versions.iter().all(Option::is_some);
                let what = if both_ips {
                    format!(
                        "If you have two listeners on the same port then one needs to be IPv4 and the other IPv6, {key}: {}, port: {}",
                        all(),
                        a.port
                    )
                } else {
                    format!("Each listener must have a different port, {key}: {}", all())
                };
                return Err(ConfigError::Conflict(what));
            }
        }
    }
    Ok(())
}
