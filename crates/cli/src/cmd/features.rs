//! `kafka-features`: the features of a cluster, and the changing of their levels.
//!
//! Same subcommands, flags, output and exit codes as Kafka's FeatureCommand. `storage_features` knows the levels of releases.

use std::collections::BTreeMap;

use milena_client::ClientError;
use milena_client::admin::{Admin, FeatureMetadata, UpgradeType};

use super::storage_features::{
    dependencies, feature_max, latest, level_name, levels, release, shown_level, unknown_release,
};
use crate::java;
use crate::opts::argparse::{self, Asked, FREE, Flag, Found, Sub, Tool, at_most_one, number, one, optional, required};
use crate::tool::{self, Stop, out, refuse};

const RELEASE: Flag = optional("--release-version", "", "RELEASE_VERSION", "The release whose levels are meant.");
const METADATA: Flag =
    optional("--metadata", "", "METADATA", "(DEPRECATED) The level of metadata.version, by its release.");
const FEATURE: Flag = optional("--feature", "", "FEATURE", "The level of a feature, as name=level; may be repeated.");
const UNSAFE: Flag = optional("--unsafe", "", "", "Lower a level even if that may lose metadata.");
const DRY_RUN: Flag = optional("--dry-run", "", "", "Only say whether it could be done.");

const TOOL: Tool = Tool {
    name: "kafka-features",
    doc: "This tool manages feature flags in Kafka.",
    flags: &[
        optional("--bootstrap-server", "", "BOOTSTRAP_SERVER", "The brokers to start from, as host:port with commas."),
        optional(
            "--bootstrap-controller",
            "",
            "BOOTSTRAP_CONTROLLER",
            "The controllers to start from, as host:port with commas.",
        ),
        optional("--command-config", "", "COMMAND_CONFIG", "A properties file with settings of the admin client."),
    ],
    choice: at_most_one(&["--bootstrap-server", "--bootstrap-controller"]),
    command: "",
    subs: &[
        Sub {
            name: "describe",
            doc: "Show the features and their levels.",
            flags: &[optional("--node-id", "", "NODE_ID", "Ask this node; any if not given.").int()],
            choice: FREE,
        },
        Sub {
            name: "upgrade",
            doc: "Raise levels of features.",
            flags: &[METADATA, RELEASE, FEATURE, DRY_RUN],
            choice: FREE,
        },
        Sub {
            name: "downgrade",
            doc: "Lower levels of features.",
            flags: &[METADATA, RELEASE, FEATURE, UNSAFE, DRY_RUN],
            choice: FREE,
        },
        Sub {
            name: "disable",
            doc: "Lower features to level zero.",
            flags: &[optional("--feature", "", "FEATURE", "The feature; may be repeated."), UNSAFE, DRY_RUN],
            choice: FREE,
        },
        Sub {
            name: "version-mapping",
            doc: "Show which feature levels come with a release; without one, with the latest.",
            flags: &[RELEASE],
            choice: FREE,
        },
        Sub {
            name: "feature-dependencies",
            doc: "Show what levels of features need of other features.",
            flags: &[required("--feature", "", "FEATURE", "A feature and its level, as name=level; may be repeated.")],
            choice: FREE,
        },
    ],
};

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    let result = match TOOL.parse(args) {
        Asked::Help(text) => {
            out(text);
            Ok(())
        }
        Asked::Wrong(text) => refuse(format!("Command line error: {}. Type --help for help.", argparse::bare(&text))),
        Asked::Run { sub, found } => match tool::block_on(execute(sub, &found)) {
            // this tool shows messages only, those of exceptions too
            Err(Stop::Thrown(error)) => refuse(error.message),
            result => result,
        },
    };
    tool::finish(&[], result)
}

async fn execute(sub: &str, found: &Found) -> Result<(), Stop> {
    match sub {
        "version-mapping" => return version_mapping(found),
        "feature-dependencies" => return feature_dependencies(found),
        _ => {}
    }
    let (servers, controllers) = (one(found, "--bootstrap-server"), one(found, "--bootstrap-controller"));
    if servers.is_none() && controllers.is_none() {
        return refuse(
            "Command line error: You must specify either --bootstrap-controller or --bootstrap-server.. Type --help for help.",
        );
    }
    let admin = Admin::new(tool::client(servers, controllers, one(found, "--command-config"))?);
    match sub {
        "describe" => describe(&admin, number(found, "--node-id")).await,
        "upgrade" => change(&admin, found, "upgrade", UpgradeType::Upgrade).await,
        "downgrade" => change(&admin, found, "downgrade", lowering(found)).await,
        _ => disable(&admin, found).await,
    }
}

fn lowering(found: &Found) -> UpgradeType {
    if found.contains_key("--unsafe") { UpgradeType::UnsafeDowngrade } else { UpgradeType::SafeDowngrade }
}

async fn describe(admin: &Admin, node: Option<i32>) -> Result<(), Stop> {
    let unknown_node =
        || ClientError::Timeout("Timed out waiting for a node assignment. Call: describeFeatures".into());
    if let Some(node) = node {
        // a node that is not there is not waited for
        let known = admin.endpoints(true).await?.iter().any(|endpoint| endpoint.node.id == node);
        if !known {
            return Err(Stop::from(unknown_node()));
        }
    }
    let FeatureMetadata { supported, finalized, epoch } = admin.describe_features(node).await?;
    let shown = |name: &str, level: i16| match name {
        "metadata.version" => level_name(level).map_or_else(|| format!("UNKNOWN [{level}]"), String::from),
        _ => level.to_string(),
    };
    let epoch = epoch.map_or("-".into(), |epoch| epoch.to_string());
    for (name, (min, max)) in &supported {
        out(format_args!(
            "Feature: {name:<40}  SupportedMinVersion: {:<15}  SupportedMaxVersion: {:<15}  FinalizedVersionLevel: {:<15}  Epoch: {epoch}\n",
            shown(name, *min),
            shown(name, *max),
            shown(name, finalized.get(name).copied().unwrap_or(0)),
        ));
    }
    Ok(())
}

/// The levels that an upgrade or downgrade asks for.
fn wanted(found: &Found, word: &str) -> Result<BTreeMap<String, i16>, Stop> {
    let (metadata, release_name) = (one(found, "--metadata"), one(found, "--release-version"));
    let features = found.get("--feature").map_or(&[][..], Vec::as_slice);
    let mut levels_wanted = BTreeMap::new();
    let known = |name: &str| match release(name) {
        Some(release) => Ok(release),
        None => refuse(unknown_release(name, true)),
    };
    if let Some(name) = release_name {
        if metadata.is_some() || !features.is_empty() {
            return refuse("Can not specify `release-version` with other feature flags.");
        }
        let release = known(name)?;
        levels_wanted.insert("metadata.version".to_string(), release.level);
        levels_wanted.extend(levels(release).into_iter().map(|(name, level)| (name.to_string(), level)));
        return Ok(levels_wanted);
    }
    if let Some(name) = metadata {
        out(" `metadata` flag is deprecated and may be removed in a future release.\n");
        levels_wanted.insert("metadata.version".to_string(), known(name)?.level);
    }
    for text in features {
        let (name, level) = level_argument(text)?;
        levels_wanted.insert(name, level);
    }
    if levels_wanted.is_empty() {
        return refuse(format!("You must specify at least one feature to {word}"));
    }
    Ok(levels_wanted)
}

/// `name=level`, refused in this tool's words.
fn level_argument(text: &str) -> Result<(String, i16), Stop> {
    let Some((name, level)) = text.split_once('=') else {
        return refuse(format!("Can't parse feature=level string {text}: equals sign not found."));
    };
    match level.trim().parse() {
        Ok(level) => Ok((name.trim().to_string(), level)),
        Err(_) => refuse(format!("Can't parse feature=level string {text}: unable to parse {level} as a short.")),
    }
}

async fn change(admin: &Admin, found: &Found, word: &str, kind: UpgradeType) -> Result<(), Stop> {
    let levels = wanted(found, word)?;
    if let Some(level) = levels.values().find(|level| **level < 1 && kind == UpgradeType::Upgrade) {
        return refuse(format!(
            "The upgradeType flag should be set to SAFE_DOWNGRADE or UNSAFE_DOWNGRADE when the provided maxVersionLevel:{level} is < 1."
        ));
    }
    let past = if word == "upgrade" { "upgraded" } else { "downgraded" };
    let lines = levels.iter().map(|(name, level)| (name.clone(), format!(" to {level}")));
    let lines: Vec<(String, String)> = lines.collect();
    update(admin, found, &levels.into_iter().collect::<Vec<_>>(), kind, word, past, &lines).await
}

async fn disable(admin: &Admin, found: &Found) -> Result<(), Stop> {
    let mut names = found.get("--feature").cloned().unwrap_or_default();
    if names.is_empty() {
        return refuse("You must specify at least one feature to disable");
    }
    names.sort();
    names.dedup();
    let lines: Vec<(String, String)> = names.iter().map(|name| (name.clone(), String::new())).collect();
    let levels: Vec<(String, i16)> = names.into_iter().map(|name| (name, 0)).collect();
    update(admin, found, &levels, lowering(found), "disable", "disabled", &lines).await
}

async fn update(
    admin: &Admin,
    found: &Found,
    levels: &[(String, i16)],
    kind: UpgradeType,
    word: &str,
    past: &str,
    lines: &[(String, String)],
) -> Result<(), Stop> {
    let dry = found.contains_key("--dry-run");
    let result = admin.update_features(levels, kind, dry).await;
    for (name, to) in lines {
        match &result {
            Ok(()) => {
                let verb = if dry { "can be" } else { "was" };
                out(format_args!("{name} {verb} {past}{to}.\n"));
            }
            Err(error) => {
                let verb = if dry { "Can not" } else { "Could not" };
                out(format_args!("{verb} {word} {name}{to}. {}\n", java::message_of(error)));
            }
        }
    }
    match result {
        Ok(()) => Ok(()),
        Err(_) => refuse(format!("{0} out of {0} operation(s) failed.", lines.len())),
    }
}

fn version_mapping(found: &Found) -> Result<(), Stop> {
    let (chosen, shown) = match one(found, "--release-version") {
        None => (latest(), latest().name),
        Some(name) => match release(name) {
            Some(release) => (release, name),
            None => return refuse(unknown_release(name, true)),
        },
    };
    out(format_args!("metadata.version={} ({shown})\n", chosen.level));
    levels(chosen).iter().for_each(|(name, level)| out(format_args!("{name}={level}\n")));
    Ok(())
}

fn feature_dependencies(found: &Found) -> Result<(), Stop> {
    for text in found.get("--feature").map_or(&[][..], Vec::as_slice) {
        let (name, level) = level_argument(text)?;
        let Some(max) = feature_max(&name) else {
            return refuse(format!("Unknown feature: {name}"));
        };
        if level < 0 || level > max {
            return refuse(format!("No feature:{name} with feature level {level}"));
        }
        let shown = shown_level(&name, level);
        match dependencies(&name, level) {
            [] => out(format_args!("{name}={shown} has no dependencies.\n")),
            needed => {
                out(format_args!("{name}={shown} requires:\n"));
                needed.iter().for_each(|(n, l)| out(format_args!("    {n}={}\n", shown_level(n, *l))));
            }
        }
    }
    Ok(())
}
