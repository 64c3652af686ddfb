//! What a node reads out of its keys: roles, end points, directories, effective times, and which keys deserve a warning.
//!
//! The keys themselves stand in `broker_keys.rs`, what contradicts itself in `validate.rs`. Nothing here touches a file:
//! the program reads the text and hands over pairs.

use std::collections::{BTreeMap, BTreeSet};

use super::listeners::{self, EndPoint, SecurityProtocol};
use super::quorum::{self, HostPort, Voter};
use super::validate;
use crate::ConfigError;

pub use super::broker_keys::BrokerConfig;

const MS_PER_HOUR: i64 = 3_600_000;
const MS_PER_MINUTE: i64 = 60_000;

/// Keys with these beginnings belong to a plug-in or a listener and are never reported as unknown.
const FOREIGN_PREFIXES: [&str; 3] = ["listener.name.", "config.providers.", "sasl.oauthbearer."];

impl BrokerConfig {
    /// The configuration of a node from the pairs of its properties file (later pairs win), checked key by key and as a whole.
    pub fn from_properties(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let config = Self::parse(fill_node_id(pairs.into_iter().collect())?)?;
        validate::node(&config)?;
        Ok(config)
    }

    /// This configuration with the dynamic ones on top: the cluster's defaults, then this broker's own. Only keys that may change
    /// at run time count; the whole is checked again, so that an error leaves the caller with the old configuration.
    pub fn with_dynamic(
        &self,
        default: &BTreeMap<String, String>,
        own: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut merged = self.originals.clone();
        let dynamic =
            |(name, _): &(&String, &String)| Self::key(name).is_none_or(|k| k.scope != super::Scope::ReadOnly);
        merged.extend(default.iter().chain(own).filter(dynamic).map(|(k, v)| (k.clone(), v.clone())));
        let config = Self::parse(merged)?;
        validate::node(&config)?;
        Ok(config)
    }

    /// This configuration as one listener sees it: `listener.name.<listener>.<key>` overrides `<key>`.
    pub fn for_listener(&self, listener: &str) -> Result<Self, ConfigError> {
        let prefix = format!("listener.name.{}.", listener.to_lowercase());
        let overrides = |(k, v): (&String, &String)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone()));
        let mut merged = self.originals.clone();
        merged.extend(self.originals.iter().filter_map(overrides));
        Self::parse(merged)
    }

    pub fn is_broker(&self) -> bool {
        self.is_zookeeper() || self.process_roles.iter().any(|r| r == "broker")
    }

    pub fn is_controller(&self) -> bool {
        self.process_roles.iter().any(|r| r == "controller")
    }

    /// The metadata are in a ZooKeeper ensemble: `zookeeper.connect` is set and `process.roles` is not.
    pub fn is_zookeeper(&self) -> bool {
        self.process_roles.is_empty() && self.zookeeper_connect.as_ref().is_some_and(|c| !c.is_empty())
    }

    /// Security protocol of each listener name. Without an explicit map the controller's listeners are plain text.
    pub fn security_protocols(&self) -> Result<BTreeMap<String, SecurityProtocol>, ConfigError> {
        let mut map = listeners::parse_protocol_map(&self.listener_security_protocol_map)?;
        let plain_only =
            self.listeners.iter().all(|l| !matches!(l.split(':').next(), Some("SSL" | "SASL_PLAINTEXT" | "SASL_SSL")));
        if !self.originals.contains_key("listener.security.protocol.map") && plain_only {
            for name in self.controller_listener_names.iter().map(|n| n.to_uppercase()) {
                // A name that is itself a protocol keeps it.
                if SecurityProtocol::from_name(&name).is_none() {
                    map.insert(name, SecurityProtocol::Plaintext);
                }
            }
        }
        Ok(map)
    }

    /// Every end point that this node listens on, the controller's included.
    pub fn endpoints(&self) -> Result<Vec<EndPoint>, ConfigError> {
        listeners::parse(&self.listeners, &self.security_protocols()?, true)
    }

    /// The end points of the broker: `listeners` without `controller.listener.names`.
    pub fn broker_endpoints(&self) -> Result<Vec<EndPoint>, ConfigError> {
        Ok(self.endpoints()?.into_iter().filter(|e| !self.is_controller_listener(&e.listener)).collect())
    }

    /// The end points of the controller.
    pub fn controller_endpoints(&self) -> Result<Vec<EndPoint>, ConfigError> {
        Ok(self.endpoints()?.into_iter().filter(|e| self.is_controller_listener(&e.listener)).collect())
    }

    /// What clients are told: `advertised.listeners`, else `listeners`, without those of the controller. An empty host means this
    /// host's name and a port 0 the one that was bound; the server fills both in.
    pub fn advertised_endpoints(&self) -> Result<Vec<EndPoint>, ConfigError> {
        let all = self.all_advertised()?.into_iter();
        Ok(all.filter(|e| !self.is_controller_listener(&e.listener)).collect())
    }

    /// What other nodes are told about this controller: like `advertised_endpoints`, only those of the controller.
    pub fn advertised_controller_endpoints(&self) -> Result<Vec<EndPoint>, ConfigError> {
        let own = |e: &EndPoint| self.is_controller_listener(&e.listener);
        let told: Vec<_> = self.all_advertised()?.into_iter().filter(own).collect();
        if told.is_empty() { self.controller_endpoints() } else { Ok(told) }
    }

    fn all_advertised(&self) -> Result<Vec<EndPoint>, ConfigError> {
        match &self.advertised_listeners {
            Some(entries) => listeners::parse(entries, &self.security_protocols()?, false),
            None => self.endpoints(),
        }
    }

    pub fn is_controller_listener(&self, listener: &str) -> bool {
        self.controller_listener_names.iter().any(|n| n.eq_ignore_ascii_case(listener))
    }

    /// The listener on which brokers talk to each other: the named one, else the one of `security.inter.broker.protocol`.
    pub fn inter_broker_listener(&self) -> String {
        match &self.inter_broker_listener_name {
            Some(name) => name.to_uppercase(),
            None => self.security_inter_broker_protocol.to_uppercase(),
        }
    }

    /// The voters of a static quorum; empty when `controller.quorum.bootstrap.servers` is used.
    pub fn voters(&self) -> Result<Vec<Voter>, ConfigError> {
        quorum::parse_voters(&self.controller_quorum_voters)
    }

    /// Where to find the quorum.
    pub fn bootstrap_servers(&self) -> Result<Vec<HostPort>, ConfigError> {
        quorum::parse_bootstrap_servers(&self.controller_quorum_bootstrap_servers)
    }

    /// The data directories: `log.dirs`, else `log.dir`.
    pub fn data_dirs(&self) -> &[String] {
        match &self.log_dirs {
            Some(dirs) if !dirs.is_empty() => dirs,
            _ => &self.log_dir,
        }
    }

    /// The directory of the metadata log: `metadata.log.dir`, else the first data directory.
    pub fn metadata_dir(&self) -> Option<&str> {
        self.metadata_log_dir.as_deref().or_else(|| self.data_dirs().first().map(String::as_str))
    }

    /// Age at which records are deleted, -1 = never: the finest of `log.retention.{ms,minutes,hours}` that is set.
    pub fn retention_ms(&self) -> i64 {
        let coarse = || match self.log_retention_minutes {
            Some(minutes) => i64::from(minutes) * MS_PER_MINUTE,
            None => i64::from(self.log_retention_hours) * MS_PER_HOUR,
        };
        self.log_retention_ms.unwrap_or_else(coarse).max(-1)
    }

    /// Age at which a segment is closed: `log.roll.ms`, else `log.roll.hours`.
    pub fn roll_ms(&self) -> i64 {
        self.log_roll_ms.unwrap_or(i64::from(self.log_roll_hours) * MS_PER_HOUR)
    }

    /// Random part taken off that age: `log.roll.jitter.ms`, else `log.roll.jitter.hours`.
    pub fn roll_jitter_ms(&self) -> i64 {
        self.log_roll_jitter_ms.unwrap_or(i64::from(self.log_roll_jitter_hours) * MS_PER_HOUR)
    }

    /// `log.flush.interval.ms`, else `log.flush.scheduler.interval.ms`.
    pub fn flush_ms(&self) -> i64 {
        self.log_flush_interval_ms.unwrap_or(self.log_flush_scheduler_interval_ms)
    }

    /// `max.connection.creation.rate` of one listener, if it has its own.
    pub fn connection_creation_rate_of(&self, listener: &str) -> Option<i32> {
        let mut own = self.originals.iter().filter_map(|(key, value)| {
            let (name, key) = key.strip_prefix("listener.name.")?.split_once('.')?;
            let is_own = key == "max.connection.creation.rate" && name.eq_ignore_ascii_case(listener);
            is_own.then(|| value.trim().parse().ok())?
        });
        own.next()
    }

    /// Limits of single addresses, `max.connections.per.ip.overrides`: (address or host name, most connections).
    pub fn connections_per_ip(&self) -> Result<Vec<(String, i32)>, ConfigError> {
        let pair = |entry: &str| {
            let (host, limit) = entry.rsplit_once(':')?;
            Some((host.trim().to_owned(), limit.trim().parse().ok()?))
        };
        let entries = self.max_connections_per_ip_overrides.split(',').map(str::trim);
        let parsed = |entry: &str| {
            pair(entry).ok_or_else(|| {
                let what = format!("'{entry}' is not of the form host:connections");
                let key = "max.connections.per.ip.overrides";
                ConfigError::Conflict(format!("Error parsing configuration property '{key}': {what}"))
            })
        };
        entries.filter(|e| !e.is_empty()).map(parsed).collect()
    }

    /// What an operator should be told once at start: keys that nobody knows, keys that change nothing yet, doubtful values.
    pub fn notes(&self) -> Vec<String> {
        let unknown = self.unknown_keys().into_iter();
        let unknown = unknown.map(|key| format!("configuration {key} is not known; it is kept and has no effect"));
        let idle = self.idle_keys().into_iter();
        let idle = idle.map(|key| format!("configuration {key} is known but has no effect yet"));
        let mut notes: Vec<String> = unknown.chain(idle).collect();
        let (heartbeat, session) = (self.broker_heartbeat_interval_ms, self.broker_session_timeout_ms);
        if heartbeat.saturating_mul(2) > session {
            notes.push(format!(
                "broker.heartbeat.interval.ms ({heartbeat} ms) should be at most half of broker.session.timeout.ms ({session} ms): \
                 one lost heartbeat fences the broker"
            ));
        }
        notes
    }

    /// Keys that were given and that nobody knows; each deserves one warning.
    pub fn unknown_keys(&self) -> Vec<&str> {
        let mut prefixes: BTreeSet<&str> = FOREIGN_PREFIXES.into();
        prefixes.extend([
            self.remote_log_storage_manager_impl_prefix.as_str(),
            self.remote_log_metadata_manager_impl_prefix.as_str(),
        ]);
        let foreign = |name: &str| prefixes.iter().any(|p| !p.is_empty() && name.starts_with(p));
        self.originals.keys().map(String::as_str).filter(|name| Self::key(name).is_none() && !foreign(name)).collect()
    }

    /// Keys that were given another value than their default and that change nothing yet; each deserves one warning.
    pub fn idle_keys(&self) -> Vec<&'static str> {
        let idle = |(name, text): (&String, &String)| {
            let key = Self::key(name).filter(|key| !key.implemented)?;
            let same = key.default.is_some_and(|default| key.parse(default).ok() == key.parse(text).ok());
            (!same).then_some(key.name)
        };
        self.originals.iter().filter_map(idle).collect()
    }
}

/// `node.id` and `broker.id` are two names of one number: whichever is missing takes the other's value.
fn fill_node_id(mut given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ConfigError> {
    match (given.get("node.id").cloned(), given.get("broker.id").cloned()) {
        (Some(node), None) => _ = given.insert("broker.id".to_owned(), node),
        (None, Some(broker)) => _ = given.insert("node.id".to_owned(), broker),
        (Some(node), Some(broker)) if node.trim() != broker.trim() => {
            return Err(ConfigError::Conflict("You must set `node.id` to the same value as `broker.id`.".to_owned()));
        }
        _ => {}
    }
    Ok(given)
}
