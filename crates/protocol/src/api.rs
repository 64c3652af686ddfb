//! The APIs by key: versions, flexible versions, listeners. The rows are generated from spec/messages.
//!
//! Says what the protocol knows, never what a broker serves: that is the server's list of handlers.

use std::fmt;
use std::ops::RangeInclusive;

use crate::messages::{ApiInfo, ApiKey, TABLE};

/// A set of listener kinds on which an API exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listeners(u8);

impl Listeners {
    pub const NONE: Listeners = Listeners(0);
    /// A broker of a KRaft cluster.
    pub const BROKER: Listeners = Listeners(1);
    /// A controller of a KRaft cluster.
    pub const CONTROLLER: Listeners = Listeners(2);
    /// A broker of a ZooKeeper cluster.
    pub const ZK_BROKER: Listeners = Listeners(4);

    pub const fn and(self, other: Listeners) -> Listeners {
        Listeners(self.0 | other.0)
    }

    pub const fn contains(self, other: Listeners) -> bool {
        self.0 & other.0 == other.0
    }
}

impl ApiKey {
    /// The API of a number, if there is one.
    pub fn from_i16(key: i16) -> Option<ApiKey> {
        TABLE.binary_search_by_key(&key, |row| row.key as i16).ok().map(|index| TABLE[index].key)
    }

    /// Every API, ordered by key.
    pub fn all() -> impl Iterator<Item = ApiKey> {
        TABLE.iter().map(|row| row.key)
    }

    fn info(self) -> &'static ApiInfo {
        let index = TABLE.partition_point(|row| (row.key as i16) < (self as i16));
        &TABLE[index]
    }

    pub fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name, `Fetch`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    pub fn min_version(self) -> i16 {
        self.info().min_version
    }

    pub fn max_version(self) -> i16 {
        self.info().max_version
    }

    /// Every version that Kafka 3.3 or 4.3 knows.
    pub fn versions(self) -> RangeInclusive<i16> {
        self.min_version()..=self.max_version()
    }

    pub fn has_version(self, version: i16) -> bool {
        self.versions().contains(&version)
    }

    /// Whether a version has compact lengths and tagged fields (KIP-482).
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.info().flexible_from
    }

    /// Whether Kafka hides the newest version unless `unstable.api.versions.enable` is set.
    pub fn latest_is_unstable(self) -> bool {
        self.info().unstable_latest
    }

    /// Where the API exists.
    pub fn listeners(self) -> Listeners {
        self.info().listeners
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_finds_its_row() {
        for key in ApiKey::all() {
            assert_eq!(ApiKey::from_i16(key.code()), Some(key));
            assert_eq!(format!("{key:?}"), key.name());
            assert!(key.min_version() <= key.max_version());
        }
        assert_eq!(ApiKey::from_i16(-1), None);
        assert_eq!(ApiKey::from_i16(i16::MAX), None);
    }
}
