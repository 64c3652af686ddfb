//! A group's dynamic configuration: its own settings over the broker's `group.*` keys.

use std::collections::BTreeMap;

use super::broker_keys::BrokerConfig;
use super::validate;
use crate::ConfigError;

pub use super::group_keys::GroupConfig;

impl GroupConfig {
    /// The broker's defaults with a group's own settings on top; unknown keys are kept and ignored.
    pub fn from_overrides(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let default = |name: &str| broker.originals.get(&format!("group.{name}")).cloned();
        let defaults = Self::KEYS.iter().filter_map(|k| Some((k.name.to_owned(), default(k.name)?)));
        let mut texts: BTreeMap<String, String> = defaults.collect();
        texts.extend(overrides.iter().map(|(k, v)| (k.clone(), v.clone())));
        let mut config = Self::parse(texts)?;
        config.originals = overrides.clone();
        Ok(config)
    }

    /// What a client wants to set: an unknown key is an error and so is a value beyond the broker's bounds.
    pub fn validate(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        if let Some(key) = overrides.keys().find(|k| Self::key(k).is_none()) {
            return Err(ConfigError::UnknownKey { resource: "group", key: key.clone() });
        }
        let config = Self::from_overrides(broker, overrides)?;
        validate::group(broker, &config)?;
        Ok(config)
    }
}
