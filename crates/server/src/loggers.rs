//! The broker's loggers as configurations (KIP-412). Milena has one, `root`, whose level is set at start; it is shown, not changed.
//!
//! Called by DescribeConfigs and the two that alter configurations.

use milena_common::config::describe::{ConfigEntry, ConfigSource};

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
