//! `kafka-storage`: formats log directories, shows what is in them, makes ids and names feature levels.
//!
//! Same subcommands, flags, output and exit codes as Kafka's StorageTool. What is written, and how, belongs to the server
//! (`milena_server::storage_format`); this file reads the command line and prints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use milena_common::Uuid;

use super::storage_features::{dependencies, feature_max, latest, levels, release, shown_level, unknown_release};
use crate::opts::argparse::{Asked, FREE, Found, Sub, Tool, at_most_one, optional, required};
use crate::tool::{self, Stop, err, out, refuse};

const TOOL: Tool = Tool {
    name: "kafka-storage",
    doc: "The Kafka storage tool.",
    flags: &[],
    choice: FREE,
    command: "",
    subs: &[
        Sub {
            name: "info",
            doc: "Show what is in the log directories of this node.",
            flags: &[required("--config", "-c", "CONFIG", "The server's properties file.")],
            choice: FREE,
        },
        Sub {
            name: "format",
            doc: "Prepare the log directories of this node.",
            flags: &[
                required("--config", "-c", "CONFIG", "The server's properties file."),
                required("--cluster-id", "-t", "CLUSTER_ID", "The id of the cluster, the same on all nodes."),
                optional(
                    "--add-scram",
                    "-S",
                    "ADD_SCRAM",
                    "A SCRAM credential to start with: 'SCRAM-SHA-256=[name=alice,password=alice-secret]', with salt=, saltedpassword= and iterations= if wished; may be repeated.",
                ),
                optional("--ignore-formatted", "-g", "", "Leave directories alone that are formatted already."),
                optional(
                    "--release-version",
                    "-r",
                    "RELEASE_VERSION",
                    "The release whose features the cluster starts with.",
                ),
                optional("--feature", "-f", "FEATURE", "The level of one feature, as name=level; may be repeated."),
                optional("--standalone", "-s", "", "Start a quorum that has this controller only."),
                optional(
                    "--no-initial-controllers",
                    "-N",
                    "",
                    "Join a quorum that exists, or one whose first controllers are others.",
                ),
                optional(
                    "--initial-controllers",
                    "-I",
                    "INITIAL_CONTROLLERS",
                    "The first controllers, each as id@host:port:directory-id, separated by commas.",
                ),
            ],
            choice: at_most_one(&["--standalone", "--no-initial-controllers", "--initial-controllers"]),
        },
        Sub {
            name: "version-mapping",
            doc: "Show which feature levels come with a release; without one, with the latest.",
            flags: &[optional("--release-version", "-r", "RELEASE_VERSION", "The release.")],
            choice: FREE,
        },
        Sub {
            name: "feature-dependencies",
            doc: "Show what levels of features need of other features.",
            flags: &[required(
                "--feature",
                "-f",
                "FEATURE",
                "A feature and its level, as name=level; may be repeated.",
            )],
            choice: FREE,
        },
        Sub { name: "random-uuid", doc: "Print a new random id.", flags: &[], choice: FREE },
    ],
};

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    let code = match TOOL.parse(args) {
        Asked::Help(text) => {
            out(text);
            0
        }
        Asked::Wrong(_) if args.first().is_some_and(|arg| arg == "--version") => {
            out(format_args!("{}\n", tool::KAFKA_VERSION));
            0
        }
        Asked::Wrong(text) => {
            err(text);
            1
        }
        Asked::Run { sub, found } => {
            let result = match sub {
                "random-uuid" => {
                    out(format_args!("{}\n", Uuid::random()));
                    Ok(())
                }
                "version-mapping" => version_mapping(&found),
                "feature-dependencies" => feature_dependencies(&found),
                "info" => info(&found),
                _ => super::storage_format::format(&found),
            };
            match result {
                Ok(()) => 0,
                Err(Stop::Usage(message) | Stop::Message(message)) => {
                    err(format_args!("{message}\n"));
                    1
                }
                Err(Stop::Thrown(error)) => {
                    err(format_args!("{}\n", error.message));
                    1
                }
                Err(Stop::Exit(code)) => code,
            }
        }
    };
    tool::flush();
    code
}

/// The last value of an option.
pub(super) fn one<'a>(found: &'a Found, name: &str) -> Option<&'a str> {
    found.get(name)?.last().map(String::as_str)
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
    for (name, level) in levels(chosen) {
        out(format_args!("{name}={level}\n"));
    }
    Ok(())
}

/// `name=level`.
pub(super) fn feature_argument(text: &str) -> Result<(String, i16), Stop> {
    let parts =
        text.split_once('=').and_then(|(name, level)| Some((name.trim().to_string(), level.trim().parse().ok()?)));
    parts.ok_or_else(|| {
        Stop::Message(format!(
            "Invalid feature format: {text}. Expected format: 'feature=version' (e.g. 'group.version=1')"
        ))
    })
}

fn feature_dependencies(found: &Found) -> Result<(), Stop> {
    for text in found.get("--feature").map_or(&[][..], Vec::as_slice) {
        let (name, level) = feature_argument(text)?;
        let Some(max) = feature_max(&name) else {
            return refuse(format!("Unknown feature: {name}"));
        };
        if level < 0 || level > max {
            return refuse(format!("Feature level {level} is not supported for feature {name}"));
        }
        match dependencies(&name, level) {
            [] => out(format_args!("{name}={} has no dependencies.\n", shown_level(&name, level))),
            needed => {
                out(format_args!("{name}={} requires:\n", shown_level(&name, level)));
                for (name, level) in needed {
                    out(format_args!("    {name}={}\n", shown_level(name, *level)));
                }
            }
        }
    }
    Ok(())
}

/// The directories that the properties name: metadata and data, each once, in the order of their names.
pub(super) fn directories(properties: &[(String, String)]) -> BTreeSet<String> {
    let find = |key: &str| {
        properties.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.trim().is_empty())
    };
    let data = find("log.dirs").or_else(|| find("log.dir")).unwrap_or("/tmp/kafka-logs");
    data.split(',')
        .chain(find("metadata.log.dir"))
        .map(|dir| dir.trim().to_string())
        .filter(|dir| !dir.is_empty())
        .collect()
}

/// Reads the server's properties file.
pub(super) fn server_properties(found: &Found) -> Result<Vec<(String, String)>, Stop> {
    let path = one(found, "--config").unwrap_or_default();
    tool::load_properties(path)
        .map_err(|_| Stop::Message(format!("Exception in thread \"main\" java.nio.file.NoSuchFileException: {path}")))
}

#[allow(clippy::disallowed_methods, reason = "the tool looks into the directories that it is pointed at")]
fn info(found: &Found) -> Result<(), Stop> {
    let properties = server_properties(found)?;
    let mut problems = Vec::new();
    let mut present = Vec::new();
    let mut metadata: Option<(String, BTreeMap<String, String>)> = None;
    for dir in directories(&properties) {
        let path = Path::new(&dir);
        if !path.is_dir() {
            problems.push(format!("{dir} {}", if path.exists() { "is not a directory" } else { "does not exist" }));
            continue;
        }
        present.push(dir.clone());
        let file = path.join("meta.properties");
        let Ok(text) = std::fs::read_to_string(&file) else {
            problems.push(format!("{dir} is not formatted."));
            continue;
        };
        let entries: BTreeMap<String, String> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim().to_string(), value.trim().to_string()))
            .collect();
        // directory ids differ by their nature; everything else must agree
        let shared = |entries: &BTreeMap<String, String>| {
            let mut entries = entries.clone();
            entries.remove("directory.id");
            entries
        };
        match &metadata {
            Some((first, known)) if shared(known) != shared(&entries) => {
                problems.push(format!(
                    "Metadata for {} was {}, but other directories featured {}",
                    file.display(),
                    show(&entries),
                    show(known)
                ));
                let _ = first;
            }
            Some(_) => {}
            None => metadata = Some((dir, entries)),
        }
    }
    let roles = properties.iter().any(|(key, value)| key == "process.roles" && !value.trim().is_empty());
    let version = metadata.as_ref().and_then(|(_, entries)| entries.get("version")).map(String::as_str);
    match version {
        Some("0") if roles => problems.push(
            "The kafka configuration file appears to be for a cluster in KRaft mode, but the directories are formatted for legacy mode.".into(),
        ),
        _ => {}
    }
    if !present.is_empty() {
        list(if present.len() == 1 { "Found log directory:" } else { "Found log directories:" }, &present);
    }
    if let Some((_, entries)) = &metadata {
        out(format_args!("Found metadata: {}\n\n", show(entries)));
    }
    if problems.is_empty() {
        return Ok(());
    }
    list(if problems.len() == 1 { "Found problem:" } else { "Found problems:" }, &problems);
    Err(Stop::Exit(1))
}

fn list(title: &str, lines: &[String]) {
    out(format_args!("{title}\n"));
    lines.iter().for_each(|line| out(format_args!("  {line}\n")));
    out("\n");
}

/// The properties that their version knows.
fn show(entries: &BTreeMap<String, String>) -> String {
    let node = if entries.get("version").is_some_and(|version| version == "0") { "broker.id" } else { "node.id" };
    let known = ["cluster.id", "directory.id", node, "version"];
    let pairs: Vec<String> = entries
        .iter()
        .filter(|(key, _)| known.contains(&key.as_str()))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_once_and_sorted() {
        let properties =
            [("log.dirs", "/b, /a"), ("metadata.log.dir", "/a")].map(|(k, v)| (k.to_string(), v.to_string()));
        assert_eq!(directories(&properties).into_iter().collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!(directories(&[]).into_iter().collect::<Vec<_>>(), ["/tmp/kafka-logs"]);
    }

    #[test]
    fn a_feature_argument_is_a_name_and_a_level() {
        assert_eq!(feature_argument("kraft.version=1").ok(), Some(("kraft.version".into(), 1)));
        assert!(feature_argument("kraft.version").is_err() && feature_argument("a=b").is_err());
    }
}
