//! The features of a cluster and their levels, as `kafka-storage version-mapping` and `feature-dependencies` know them.
//!
//! Pure tables (KIP-584, KIP-1022). The controller has its own idea of what it serves; this is what Kafka 4.3 knows.

/// A release of the metadata format: its level, its name, and the levels of the other features that come with it by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) level: i16,
    pub(super) name: &'static str,
}

pub(super) const RELEASES: [Release; 24] = [
    Release { level: 7, name: "3.3-IV3" },
    Release { level: 8, name: "3.4-IV0" },
    Release { level: 9, name: "3.5-IV0" },
    Release { level: 10, name: "3.5-IV1" },
    Release { level: 11, name: "3.5-IV2" },
    Release { level: 12, name: "3.6-IV0" },
    Release { level: 13, name: "3.6-IV1" },
    Release { level: 14, name: "3.6-IV2" },
    Release { level: 15, name: "3.7-IV0" },
    Release { level: 16, name: "3.7-IV1" },
    Release { level: 17, name: "3.7-IV2" },
    Release { level: 18, name: "3.7-IV3" },
    Release { level: 19, name: "3.7-IV4" },
    Release { level: 20, name: "3.8-IV0" },
    Release { level: 21, name: "3.9-IV0" },
    Release { level: 22, name: "4.0-IV0" },
    Release { level: 23, name: "4.0-IV1" },
    Release { level: 24, name: "4.0-IV2" },
    Release { level: 25, name: "4.0-IV3" },
    Release { level: 26, name: "4.1-IV0" },
    Release { level: 27, name: "4.1-IV1" },
    Release { level: 28, name: "4.2-IV0" },
    Release { level: 29, name: "4.2-IV1" },
    Release { level: 30, name: "4.3-IV0" },
];

/// A feature besides the metadata format: its highest level, and from which release on which level is the default.
struct Feature {
    name: &'static str,
    max: i16,
    defaults: &'static [(i16, i16)],
}

const FEATURES: [Feature; 6] = [
    Feature { name: "kraft.version", max: 1, defaults: &[(21, 1)] },
    Feature { name: "transaction.version", max: 2, defaults: &[(24, 2)] },
    Feature { name: "group.version", max: 1, defaults: &[(22, 1)] },
    Feature { name: "eligible.leader.replicas.version", max: 1, defaults: &[(26, 1)] },
    Feature { name: "share.version", max: 1, defaults: &[(28, 1)] },
    Feature { name: "streams.version", max: 1, defaults: &[(29, 1)] },
];

/// The newest release.
pub(super) fn latest() -> Release {
    RELEASES[RELEASES.len() - 1]
}

/// The release of that name: `4.0-IV1` itself, or `4.0` for the last of it.
pub(super) fn release(name: &str) -> Option<Release> {
    let of_series = |release: &&Release| {
        release.name.split_once("-IV").is_some_and(|(series, _)| name == series || name == format!("{series}-IV"))
    };
    RELEASES.iter().find(|release| release.name == name).or_else(|| RELEASES.iter().rev().find(of_series)).copied()
}

/// Kafka's refusal of a release that it does not know; `unstable` when the next one may be named already.
pub(super) fn unknown_release(name: &str, unstable: bool) -> String {
    let known = RELEASES.map(|release| release.name).join(", ");
    let next = if unstable { ", 4.4-IV0" } else { "" };
    format!("Unknown metadata.version '{name}'. Supported metadata.version are: {known}{next}")
}

/// A level as Kafka prints it: metadata levels with their release.
pub(super) fn shown_level(name: &str, level: i16) -> String {
    match RELEASES.iter().find(|release| name == "metadata.version" && release.level == level) {
        Some(release) => format!("{level} ({})", release.name),
        None => level.to_string(),
    }
}

/// The release of a metadata level.
pub(super) fn level_name(level: i16) -> Option<&'static str> {
    RELEASES.iter().find(|release| release.level == level).map(|release| release.name)
}

/// The default levels of the other features with that release, in Kafka's order.
pub(super) fn levels(release: Release) -> Vec<(&'static str, i16)> {
    let level = |feature: &Feature| {
        feature.defaults.iter().rev().find(|(from, _)| release.level >= *from).map_or(0, |(_, level)| *level)
    };
    FEATURES.iter().map(|feature| (feature.name, level(feature))).collect()
}

/// Whether that feature exists, and its highest level.
pub(super) fn feature_max(name: &str) -> Option<i16> {
    match name {
        "metadata.version" => Some(latest().level),
        name => FEATURES.iter().find(|feature| feature.name == name).map(|feature| feature.max),
    }
}

/// The names of all features besides the metadata version, as Kafka lists them.
pub(super) fn feature_names() -> String {
    let mut names = FEATURES.map(|feature| feature.name);
    names.sort_unstable();
    names.join(", ")
}

/// What a level of a feature needs of others.
pub(super) fn dependencies(name: &str, level: i16) -> &'static [(&'static str, i16)] {
    match (name, level) {
        ("eligible.leader.replicas.version", 1) => &[("metadata.version", 23)],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_means_its_last_release() {
        assert_eq!(release("4.0").map(|r| r.name), Some("4.0-IV3"));
        assert_eq!(release("3.7-IV2").map(|r| r.level), Some(17));
        assert_eq!(release("9.9"), None);
    }

    #[test]
    fn features_rise_with_releases() {
        assert!(levels(RELEASES[0]).iter().all(|(_, level)| *level == 0));
        assert_eq!(levels(latest()).iter().map(|(_, level)| *level).collect::<Vec<_>>(), [1, 2, 1, 1, 1, 1]);
    }
}
