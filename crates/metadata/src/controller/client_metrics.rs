//! Subscriptions to clients' metrics: what may be asked of whom (KIP-714).
//!
//! Patterns are matched in linear time, so that a client's name cannot keep a broker busy; what only Java's expressions have (looking around,
//! back references, possessive quantifiers, `\\Q`) is refused, where Kafka takes it. Called by `config.rs`, and by brokers that match.

use std::collections::BTreeMap;

use milena_common::ConfigError;
use milena_common::config::ClientMetricsConfig;
use milena_protocol::ErrorCode;
use regex::{Regex, RegexBuilder};

use super::ApiError;

/// Bytes that a compiled pattern may take.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// Names and interval are refused as requests, values as configurations: as Kafka does.
pub(super) fn check(settings: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let request = |error: ConfigError| ApiError::new(ErrorCode::InvalidRequest, error.to_string());
    ClientMetricsConfig::check_names(settings).map_err(request)?;
    let config = ClientMetricsConfig::parse(settings.clone())?;
    config.check_interval().map_err(request)?;
    for (selector, pattern) in config.selectors()? {
        if matching_pattern(pattern).is_none() {
            let message = format!("Illegal client matching pattern: {selector}={pattern}");
            return Err(ApiError::new(ErrorCode::InvalidConfig, message));
        }
    }
    Ok(())
}

/// A pattern that must match as a whole; `None` if it is none.
pub fn matching_pattern(pattern: &str) -> Option<Regex> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(MAX_COMPILED_BYTES).build().ok();
    // on its own first: `a)(b` is not a pattern, in parentheses it would be
    build(pattern)?;
    build(&format!("^(?:{pattern})$"))
}
