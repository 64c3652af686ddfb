//! The broker's loggers as configurations (KIP-412). Milena has one, `root`, whose level is set at start; it is shown, not changed.
//!
//! Called by DescribeConfigs and the two that alter configurations.

use milena_common::config::describe::{ConfigEntry, ConfigSource};
use milena_metadata::ApiError;
use milena_protocol::ErrorCode;

/// The logger above all others.
pub(crate) const ROOT: &str = "root";

/// The loggers and their levels (`names`: only these).
pub(crate) fn describe(names: Option<&[String]>) -> Vec<ConfigEntry> {
    if names.is_some_and(|names| !names.iter().any(|name| name == ROOT)) {
        return Vec::new();
    }
    vec![ConfigEntry {
        name: ROOT.to_owned(),
        value: Some(level().to_owned()),
        source: ConfigSource::DynamicBrokerLogger,
        read_only: false,
        sensitive: false,
        ty: None,
        doc: None,
        synonyms: Vec::new(),
    }]
}

fn level() -> &'static str {
    use tracing::level_filters::LevelFilter;
    match LevelFilter::current() {
        LevelFilter::OFF => "OFF",
        LevelFilter::ERROR => "ERROR",
        LevelFilter::WARN => "WARN",
        LevelFilter::INFO => "INFO",
        LevelFilter::DEBUG => "DEBUG",
        _ => "TRACE",
    }
}

/// Checks changes of loggers: (logger, operation, level). Only what changes nothing is allowed.
///
/// # Errors
/// What is wrong with the first that cannot be done.
pub(crate) fn alter<'a>(
    node_id: i32,
    resource: &str,
    changes: impl Iterator<Item = (&'a str, i8, Option<&'a str>)>,
) -> Result<(), ApiError> {
    let request = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    let config = |message: String| Err(ApiError::new(ErrorCode::InvalidConfig, message));
    match resource.parse::<i32>() {
        Ok(id) if id == node_id => {}
        Ok(id) => return request(format!("Unexpected node id. Expected {node_id}, but received {id}")),
        Err(_) => return request(format!("Node id must be an integer, but it is: {resource}")),
    }
    for (logger, operation, wanted) in changes {
        let wanted = wanted.unwrap_or_default();
        match operation {
            2 | 3 => {
                let operation = if operation == 2 { "APPEND" } else { "SUBTRACT" };
                return request(format!("{operation} operation is not allowed for the BROKER_LOGGER resource"));
            }
            0 | 1 if logger != ROOT => return config(format!("Logger {logger} does not exist!")),
            0 if !LEVELS.contains(&wanted) => {
                return config(format!(
                    "Cannot set the log level of {logger} to {wanted} as it is not a supported log level. Valid log levels are {}",
                    LEVELS.join(", ")
                ));
            }
            0 if wanted == level() => {}
            0 => return request("The level of a logger cannot be changed while the broker runs.".to_owned()),
            1 => return request(format!("Removing the log level of the {ROOT} logger is not allowed")),
            other => return request(format!("Unknown operation type {other}.")),
        }
    }
    Ok(())
}

/// The levels that Kafka's clients may set.
const LEVELS: [&str; 6] = ["DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN"];
