//! `listeners`, `advertised.listeners` and `listener.security.protocol.map`: texts to end points.
//!
//! Pure parsing with Kafka's errors. Which end points a role needs is decided in `validate.rs`; nothing here resolves a name
//! or opens a socket.

use std::collections::BTreeMap;
use std::net::IpAddr;

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
        [Plaintext, Ssl, SaslPlaintext, SaslSsl].into_iter().find(|p| p.name().eq_ignore_ascii_case(name))
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
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{open}{}{close}:{}", self.listener, self.host, self.port)
    }
}

/// `name:PROTOCOL,name:PROTOCOL`, names in capitals.
pub fn parse_protocol_map(text: &str) -> Result<BTreeMap<String, SecurityProtocol>, ConfigError> {
    const KEY: &str = "listener.security.protocol.map";
    let pair = |entry: &str| {
        let Some((name, protocol)) = entry.rsplit_once(':') else {
            let what = format!("'{entry}' is not of the form NAME:PROTOCOL");
            let what = format!("Error parsing configuration property '{KEY}': {what}");
            return Err(ConfigError::Conflict(what));
        };
        match SecurityProtocol::from_name(protocol.trim()) {
            Some(protocol) => Ok((name.trim().to_uppercase(), protocol)),
            None => Err(ConfigError::Conflict(format!("Invalid security protocol `{protocol}` defined in {KEY}"))),
        }
    };
    let entries = text.split(',').map(str::trim).filter(|e| !e.is_empty());
    entries.map(pair).collect()
}

/// Splits `NAME://host:port`; the host may be empty or in brackets.
fn split(text: &str) -> Option<(&str, &str, i64)> {
    let (name, rest) = text.split_once("://")?;
    let (host, port) = rest.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let host_char = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    host.chars().all(host_char).then_some(())?;
    Some((name, host, port.parse().ok()?))
}

/// Parses the entries of `listeners` or `advertised.listeners`. Names must differ, and, where a port is bound (`bind`), ports
/// too, but for port 0 and one IPv4 beside one IPv6 address.
pub fn parse(
    entries: &[String],
    protocols: &BTreeMap<String, SecurityProtocol>,
    bind: bool,
) -> Result<Vec<EndPoint>, ConfigError> {
    let all = || format!("[{}]", entries.join(", "));
    let refused = |what: String| {
        let what = format!("Error creating broker listeners from '{}': {what}", all());
        ConfigError::Conflict(what)
    };
    let mut endpoints: Vec<EndPoint> = Vec::new();
    for entry in entries {
        let new = parse_one(entry, protocols).map_err(refused)?;
        for old in &endpoints {
            check_distinct(old, &new, bind).map_err(|clash| refused(clash(&all())))?;
        }
        endpoints.push(new);
    }
    Ok(endpoints)
}

fn parse_one(entry: &str, protocols: &BTreeMap<String, SecurityProtocol>) -> Result<EndPoint, String> {
    let unreadable = || format!("Unable to parse {entry} to a broker endpoint");
    let (name, host, port) = split(entry).ok_or_else(unreadable)?;
    let listener = name.to_uppercase();
    let no_protocol = || format!("No security protocol defined for listener {listener}");
    let protocol = *protocols.get(&listener).ok_or_else(no_protocol)?;
    let port = u16::try_from(port).map_err(|_| format!("Port {port} is not between 0 and 65535"))?;
    Ok(EndPoint { listener, host: host.to_owned(), port, protocol })
}

/// The error gets the list of all listeners.
fn check_distinct(a: &EndPoint, b: &EndPoint, bind: bool) -> Result<(), impl Fn(&str) -> String + use<>> {
    let ip_versions = [a, b].map(|e| Some(e.host.parse::<IpAddr>().ok()?.is_ipv4()));
    let one_of_each = matches!(ip_versions, [Some(x), Some(y)] if x != y);
    let both_ips = ip_versions.iter().all(Option::is_some);
    let (same_name, port) = (a.listener == b.listener, a.port);
    if !same_name && (!bind || a.port != b.port || a.port == 0 || one_of_each) {
        return Ok(());
    }
    Err(move |all: &str| match (same_name, both_ips) {
        (true, _) => format!("Each listener must have a different name, listeners: {all}"),
        (false, false) => format!("Each listener must have a different port, listeners: {all}"),
        (false, true) => format!(
            "If you have two listeners on the same port then one needs to be IPv4 and the other IPv6, listeners: {all}, port: {port}"
        ),
    })
}
