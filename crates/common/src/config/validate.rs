//! What the keys of a node must not say together, with Kafka's errors.
//!
//! Every key by itself has passed its own check before. Called at start and again for every dynamic change; groups are
//! checked against their broker's bounds here too.

use super::broker_keys::BrokerConfig;
use super::group_keys::GroupConfig;
use crate::ConfigError;

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::Conflict(otherwise())) }
}

/// Checks a whole node.
pub(crate) fn node(c: &BrokerConfig) -> Result<(), ConfigError> {
    roles(c)?;
    end_points(c)?;
    logs(c)?;
    network(c)?;
    bounds(c)
}

fn roles(c: &BrokerConfig) -> Result<(), ConfigError> {
    if c.is_zookeeper() {
        return Ok(());
    }
    for key in ["process.roles", "node.id", "controller.listener.names"] {
        if !c.originals.contains_key(key) {
            return Err(ConfigError::Missing { key: key.to_owned() });
        }
    }
    let not_empty = |key: &str, list: &[String], valid: &str| {
        require(!list.is_empty(), || format!("Configuration '{key}' must not be empty. Valid values include: {valid}"))
    };
    not_empty("process.roles", &c.process_roles, "[broker, controller]")?;
    let names = &c.controller_listener_names;
    not_empty("controller.listener.names", names, "any non-empty value")?;
    if c.node_id < 0 {
        return Err(ConfigError::invalid("node.id", c.node_id, "Value must be at least 0"));
    }
    quorum(c)
}

fn quorum(c: &BrokerConfig) -> Result<(), ConfigError> {
    const KEY: &str = "controller.quorum.voters";
    let voters = c.voters()?;
    let servers = c.bootstrap_servers()?;
    require(!voters.is_empty() || !servers.is_empty(), || {
        format!(
            "If using process.roles, either controller.quorum.bootstrap.servers must contain the set of bootstrap controllers \
             or {KEY} must contain a parseable set of controllers."
        )
    })?;
    let (id, listed) = (c.node_id, voters.iter().any(|v| v.id == c.node_id));
    let set = || {
        let ids: Vec<String> = voters.iter().map(|v| v.id.to_string()).collect();
        format!("{KEY}=Set({})", ids.join(", "))
    };
    if c.is_controller() {
        require(voters.is_empty() || listed, || {
            format!(
                "If process.roles contains the 'controller' role, the node id {id} must be included in the set of voters {}",
                set()
            )
        })
    } else {
        require(!listed, || {
            format!(
                "If process.roles contains just the 'broker' role, the node id {id} must not be included in the set of voters {}",
                set()
            )
        })
    }
}

fn end_points(c: &BrokerConfig) -> Result<(), ConfigError> {
    let all = c.endpoints()?;
    let controllers = c.controller_endpoints()?;
    early_start(c)?;
    if !c.is_broker() {
        return require(controllers.len() == all.len(), || {
            "The listeners config must only contain KRaft controller listeners from controller.listener.names when \
             process.roles=controller"
                .to_owned()
        });
    }
    if c.is_controller() {
        require(!controllers.is_empty(), || {
            "controller.listener.names must contain at least one value appearing in the 'listeners' configuration when \
             running the KRaft controller role"
                .to_owned()
        })?;
    } else {
        require(controllers.is_empty(), || {
            "controller.listener.names must not contain a value appearing in the 'listeners' configuration when running \
             KRaft with just the broker role"
                .to_owned()
        })?;
    }
    let advertised = c.advertised_endpoints()?;
    require(!advertised.is_empty(), || {
        "There must be at least one broker advertised listener. Perhaps all listeners appear in controller.listener.names?"
            .to_owned()
    })?;
    require(!advertised.iter().any(|e| e.host == "0.0.0.0"), || {
        "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address.".to_owned()
    })?;
    let names = |of: &[super::EndPoint]| {
        let names: Vec<&str> = of.iter().map(|e| e.listener.as_str()).collect();
        names.join(",")
    };
    let inter_broker = inter_broker_listener(c)?;
    require(advertised.iter().any(|e| e.listener == inter_broker), || {
        format!(
            "inter.broker.listener.name must be a listener name defined in advertised.listeners. The valid options based on \
             currently configured listeners are {}",
            names(&advertised)
        )
    })?;
    let bound = |e: &super::EndPoint| all.iter().any(|a| a.listener == e.listener);
    require(advertised.iter().all(bound), || {
        format!(
            "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. Found {}. \
             The valid options based on the current configuration are {}",
            names(&advertised),
            names(&all)
        )
    })
}

fn inter_broker_listener(c: &BrokerConfig) -> Result<String, ConfigError> {
    let name = c.inter_broker_listener();
    if c.inter_broker_listener_name.is_some() {
        require(!c.originals.contains_key("security.inter.broker.protocol"), || {
            "Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.".to_owned()
        })?;
        require(c.security_protocols()?.contains_key(&name), || {
            format!(
                "Listener with name {name} defined in inter.broker.listener.name not found in listener.security.protocol.map."
            )
        })?;
    }
    Ok(name)
}

fn early_start(c: &BrokerConfig) -> Result<(), ConfigError> {
    let bound = c.endpoints()?;
    let known = |name: &&String| {
        let bound = bound.iter().any(|e| e.listener.eq_ignore_ascii_case(name));
        bound || c.is_controller_listener(name)
    };
    match c.early_start_listeners.iter().flatten().find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => Err(ConfigError::Conflict(format!(
            "early.start.listeners contains listener {name}, but this is not contained in listeners or \
             controller.listener.names"
        ))),
    }
}

fn logs(c: &BrokerConfig) -> Result<(), ConfigError> {
    require(c.roll_ms() >= 1, || "log.roll.ms must be greater than or equal to 1".to_owned())?;
    require(c.roll_jitter_ms() >= 0, || "log.roll.jitter.ms must be greater than or equal to 0".to_owned())?;
    require(c.retention_ms() != 0, || {
        "log.retention.ms must be unlimited (-1) or, greater than or equal to 1".to_owned()
    })?;
    let missing: Vec<&str> = match &c.cordoned_log_dirs[..] {
        [all] if all == "*" => Vec::new(),
        some => some.iter().filter(|d| !c.data_dirs().contains(d)).map(String::as_str).collect(),
    };
    require(missing.is_empty(), || {
        let missing = missing.join(", ");
        format!("All entries in cordoned.log.dirs must be present in log.dirs or log.dir. Missing entries : {missing}")
    })?;
    require(c.replica_fetch_wait_max_ms <= c.replica_socket_timeout_ms, || {
        "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary socket timeouts"
            .to_owned()
    })?;
    require(i64::from(c.replica_fetch_wait_max_ms) <= c.replica_lag_time_max_ms, || {
        "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent frequent \
         changes in ISR"
            .to_owned()
    })
}

fn network(c: &BrokerConfig) -> Result<(), ConfigError> {
    let overrides = c.connections_per_ip()?;
    require(c.max_connections_per_ip > 0 || !overrides.is_empty(), || {
        "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.".to_owned()
    })?;
    let (queued, request) = (c.queued_max_request_bytes, i64::from(c.socket_request_max_bytes));
    require(queued <= 0 || queued >= request, || {
        "queued.max.request.bytes must be larger or equal to socket.request.max.bytes".to_owned()
    })
}

/// Every `group.*` key that has a smallest and a largest value must lie between them.
fn bounds(c: &BrokerConfig) -> Result<(), ConfigError> {
    require(c.group_coordinator_rebalance_protocols.iter().any(|p| p == "classic"), || {
        "Disabling the 'classic' protocol is not supported.".to_owned()
    })?;
    for key in GroupConfig::KEYS {
        let Some(limits) = Limits::of(c, key.name) else {
            continue;
        };
        let (name, min, max) = (&limits.name, &limits.min, &limits.max);
        if let (Some((min_name, min)), Some((max_name, max))) = (min, max) {
            require(max >= min, || format!("{max_name} must be greater than or equal to {min_name}"))?;
        }
        if let Some(value) = number(&c.originals, name) {
            limits.check(name, value)?;
        }
    }
    Ok(())
}

/// Checks what a client wants a group to have: each key by itself and against the broker's bounds.
pub(crate) fn group(c: &BrokerConfig, config: &GroupConfig) -> Result<(), ConfigError> {
    for (key, value) in GroupConfig::KEYS.iter().filter_map(|k| Some((k.name, number(&config.originals, k.name)?))) {
        if let Some(limits) = Limits::of(c, key) {
            limits.check(key, value)?;
        }
    }
    Ok(())
}

fn number(texts: &std::collections::BTreeMap<String, String>, name: &str) -> Option<i64> {
    texts.get(name)?.trim().parse().ok()
}

/// The bounds of one group key at its broker: `group.consumer.session.timeout.ms` lies between
/// `group.consumer.min.session.timeout.ms` and `group.consumer.max.session.timeout.ms`.
struct Limits {
    name: String,
    min: Option<(String, i64)>,
    max: Option<(String, i64)>,
}

impl Limits {
    fn of(c: &BrokerConfig, group_key: &str) -> Option<Limits> {
        let (kind, rest) = group_key.split_once('.')?;
        let rest = if rest == "num.standby.replicas" { "standby.replicas" } else { rest };
        let bound = |which: &str| {
            let name = format!("group.{kind}.{which}.{rest}");
            let key = BrokerConfig::key(&name)?;
            let value = number(&c.originals, &name).or_else(|| key.default?.parse().ok())?;
            Some((name, value))
        };
        Some(Limits { name: format!("group.{group_key}"), min: bound("min"), max: bound("max") })
    }

    fn check(&self, name: &str, value: i64) -> Result<(), ConfigError> {
        if let Some((min_name, min)) = &self.min {
            require(value >= *min, || format!("{name} must be greater than or equal to {min_name}"))?;
        }
        if let Some((max_name, max)) = &self.max {
            require(value <= *max, || format!("{name} must be less than or equal to {max_name}"))?;
        }
        Ok(())
    }
}
