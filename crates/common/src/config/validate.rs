//! What the keys of a node must not say together, with Kafka's errors.
//!
//! Every key by itself has passed its own check before. Called at start and again for every dynamic change.

use super::broker_keys::BrokerConfig;
use super::listeners;
use crate::ConfigError;

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::Conflict(otherwise()))
    }
}

/// Checks a whole node.
pub(crate) fn node(c: &BrokerConfig) -> Result<(), ConfigError> {
    roles(c)?;
    end_points(c)?;
    times(c)?;
    groups(c)
}

fn roles(c: &BrokerConfig) -> Result<(), ConfigError> {
    if c.is_zookeeper() {
        return Ok(());
    }
    let missing = |key: &str| {
        Err(ConfigError::Missing {
            key: key.to_owned(),
        })
    };
    if !c.originals.contains_key("process.roles") {
        return missing("process.roles");
    }
    if !c.originals.contains_key("node.id") {
        return missing("node.id");
    }
    if c.node_id < 0 {
        return Err(ConfigError::invalid(
            "node.id",
            c.node_id,
            "Value must be at least 0",
        ));
    }
    if !c.originals.contains_key("controller.listener.names") {
        return missing("controller.listener.names");
    }
    if c.process_roles.is_empty() {
        return Err(ConfigError::Conflict(
            "Configuration 'process.roles' must not be empty.".to_owned(),
        ));
    }
    quorum(c)
}

fn quorum(c: &BrokerConfig) -> Result<(), ConfigError> {
    let voters = c.voters()?;
    require(
        !voters.is_empty() || !c.bootstrap_servers()?.is_empty(),
        || {
            "If using process.roles, either controller.quorum.bootstrap.servers must contain the set of bootstrap controllers or \
         controller.quorum.voters must contain a parseable set of controllers."
            .to_owned()
        },
    )?;
    let listed = voters.iter().any(|v| v.id == c.node_id);
    let shown = || {
        voters
            .iter()
            .map(|v| v.id.to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    if c.is_controller() {
        require(voters.is_empty() || listed, || {
            let id = c.node_id;
            format!(
                "If process.roles contains the 'controller' role, the node id {id} must be included in the set of voters controller.quorum.voters=[{}]",
                shown()
            )
        })
    } else {
        require(!listed, || {
            let id = c.node_id;
            format!(
                "If process.roles contains just the 'broker' role, the node id {id} must not be included in the set of voters controller.quorum.voters=[{}]",
                shown()
            )
        })
    }
}

fn end_points(c: &BrokerConfig) -> Result<(), ConfigError> {
    let all = c.endpoints()?;
    listeners::check_distinct("listeners", &c.listeners, &all, true)?;
    let advertised = c.advertised_endpoints()?;
    if let Some(entries) = &c.advertised_listeners {
        listeners::check_distinct("advertised.listeners", entries, &advertised, false)?;
    }
    let controllers = c.controller_endpoints()?;
    if c.is_controller() {
        require(!controllers.is_empty(), || {
            "controller.listener.names must contain at least one value appearing in the 'listeners' configuration when running the KRaft controller role".to_owned()
        })?;
    }
    if !c.is_broker() {
        return require(controllers.len() == all.len(), || {
            let names = c.controller_listener_names.join(",");
            format!(
                "The listeners config must only contain KRaft controller listeners from controller.listener.names when process.roles=controller; controller.listener.names={names}"
            )
        });
    }
    if !c.is_controller() && !c.is_zookeeper() {
        require(controllers.is_empty(), || {
            "controller.listener.names must not contain a value appearing in the 'listeners' configuration when running KRaft with just the broker role".to_owned()
        })?;
        require(!c.controller_listener_names.is_empty(), || {
            "controller.listener.names must contain at least one value when running KRaft with just the broker role".to_owned()
        })?;
    }
    require(
        !advertised
            .iter()
            .any(|e| c.is_controller_listener(&e.listener)),
        || {
            "The advertised.listeners config must not contain KRaft controller listeners from controller.listener.names when process.roles contains the broker role because Kafka clients that send requests via advertised listeners do not send requests to KRaft controllers -- they only send requests to KRaft brokers.".to_owned()
        },
    )?;
    require(!advertised.iter().any(|e| e.host == "0.0.0.0"), || {
        "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address.".to_owned()
    })?;
    let inter_broker = c.inter_broker_listener();
    let names = || {
        advertised
            .iter()
            .map(|e| e.listener.clone())
            .collect::<Vec<_>>()
            .join(",")
    };
    require(
        advertised.iter().any(|e| e.listener == inter_broker),
        || {
            format!(
                "inter.broker.listener.name must be a listener name defined in advertised.listeners. The valid options based on currently configured listeners are {}",
                names()
            )
        },
    )?;
    let bound: Vec<&str> = all.iter().map(|e| e.listener.as_str()).collect();
    require(
        advertised
            .iter()
            .all(|e| bound.contains(&e.listener.as_str())),
        || {
            let bound = bound.join(",");
            format!(
                "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. Found {}. The valid options based on the current configuration are {bound}",
                names()
            )
        },
    )
}

fn times(c: &BrokerConfig) -> Result<(), ConfigError> {
    require(c.roll_ms() >= 1, || {
        "log.roll.ms must be greater than or equal to 1".to_owned()
    })?;
    require(c.roll_jitter_ms() >= 0, || {
        "log.roll.jitter.ms must be greater than or equal to 0".to_owned()
    })?;
    require(c.retention_ms() != 0, || {
        "log.retention.ms must be unlimited (-1) or, greater than or equal to 1".to_owned()
    })?;
    require(!c.data_dirs().is_empty(), || {
        "At least one log directory must be defined via log.dirs or log.dir.".to_owned()
    })?;
    require(
        c.replica_fetch_wait_max_ms <= c.replica_socket_timeout_ms,
        || {
            "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary socket timeouts".to_owned()
        },
    )?;
    require(
        i64::from(c.replica_fetch_wait_max_ms) <= c.replica_lag_time_max_ms,
        || {
            "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent frequent changes in ISR".to_owned()
        },
    )?;
    require(
        c.broker_heartbeat_interval_ms.saturating_mul(2) <= c.broker_session_timeout_ms,
        || {
            format!(
                "broker.heartbeat.interval.ms must be less than or equal to half of broker.session.timeout.ms. The current values are {} ms and {} ms.",
                c.broker_heartbeat_interval_ms, c.broker_session_timeout_ms
            )
        },
    )?;
    c.connections_per_ip().map(|_| ())
}

fn groups(c: &BrokerConfig) -> Result<(), ConfigError> {
    let between = |name: &str, low: i32, value: i32, high: i32| {
        require(low <= high, || {
            format!(
                "group.{name}: the minimum {low} must be less than or equal to the maximum {high}"
            )
        })?;
        require(value >= low, || {
            format!(
                "group.{}: the value {value} must be greater than or equal to the minimum {low}",
                name
            )
        })?;
        require(value <= high, || {
            format!(
                "group.{}: the value {value} must be less than or equal to the maximum {high}",
                name
            )
        })
    };
    require(
        c.group_min_session_timeout_ms <= c.group_max_session_timeout_ms,
        || {
            "group.min.session.timeout.ms must be less than or equal to group.max.session.timeout.ms".to_owned()
        },
    )?;
    between(
        "consumer.session.timeout.ms",
        c.group_consumer_min_session_timeout_ms,
        c.group_consumer_session_timeout_ms,
        c.group_consumer_max_session_timeout_ms,
    )?;
    between(
        "consumer.heartbeat.interval.ms",
        c.group_consumer_min_heartbeat_interval_ms,
        c.group_consumer_heartbeat_interval_ms,
        c.group_consumer_max_heartbeat_interval_ms,
    )?;
    between(
        "share.session.timeout.ms",
        c.group_share_min_session_timeout_ms,
        c.group_share_session_timeout_ms,
        c.group_share_max_session_timeout_ms,
    )?;
    between(
        "share.heartbeat.interval.ms",
        c.group_share_min_heartbeat_interval_ms,
        c.group_share_heartbeat_interval_ms,
        c.group_share_max_heartbeat_interval_ms,
    )?;
    between(
        "streams.session.timeout.ms",
        c.group_streams_min_session_timeout_ms,
        c.group_streams_session_timeout_ms,
        c.group_streams_max_session_timeout_ms,
    )?;
    between(
        "streams.heartbeat.interval.ms",
        c.group_streams_min_heartbeat_interval_ms,
        c.group_streams_heartbeat_interval_ms,
        c.group_streams_max_heartbeat_interval_ms,
    )
}
