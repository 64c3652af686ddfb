//! Errors about configuration, in the words Kafka's clients and operators know.

/// A configuration that cannot be used. Displays as Kafka says it; the variants let callers tell the cases apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The value has the wrong type or is outside its range.
    #[error("Invalid value {value} for configuration {key}: {allowed}")]
    InvalidValue { key: String, value: String, allowed: String },
    /// No such key among the keys of this resource.
    #[error("Unknown {resource} config name: {key}")]
    UnknownKey { resource: &'static str, key: String },
    /// A key without a default has no value.
    #[error("Missing required configuration \"{key}\" which has no default value.")]
    Missing { key: String },
    /// Keys that are each valid contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// The properties file itself cannot be read as such.
    #[error("cannot read properties: {0}")]
    Syntax(String),
}

impl ConfigError {
    pub fn invalid(key: &str, value: impl std::fmt::Display, allowed: impl Into<String>) -> Self {
        ConfigError::InvalidValue { key: key.to_owned(), value: value.to_string(), allowed: allowed.into() }
    }
}
