//! `milena adopt --check`: whether Milena can take over the directories of a node that stopped, Apache Kafka's or its own.
//!
//! Reads the command line and words the answer, for people or as JSON; looking belongs to the server (`milena_server::adoption`). Writes nothing.
//! Ends with 0 if nothing is in the way, else with 1.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, stderr};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use milena_server::adoption::{Question, Report, survey, unsupported};
use serde_json::{Value, json};

use crate::tool::{self, err, out};

const HELP: &str = "milena adopt: can Milena take over what Apache Kafka wrote?\n\nUsage: milena adopt --check DIRECTORY... | server.properties [--deep] [-o text|json]\n\n  --check      look, and say what is in the way; writes nothing and may run at any time\n  --deep       read every record batch and check it against its checksum; takes as long as reading all data\n  -o, --output text (default) or json\n\nGive the properties file that the node was started with; or its log directories, all of them. Exit status 0: Milena can\nstart on them as they are, with bin/kafka-server-start.sh and the same file. 1: it cannot, or should not, and why.\nBoth ways are described in docs/operations.md.\n";

#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    paths: Vec<String>,
    check: bool,
    deep: bool,
    json: bool,
}

/// Runs the command; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    if args.is_empty() || args.iter().any(|arg| arg == "--help" || arg == "-h") {
        out(HELP);
        return i32::from(args.is_empty());
    }
    let code = match read(args).and_then(|wish| Ok((prepare(&wish)?, wish))) {
        Err(message) => {
            err(format_args!("milena adopt: {message}\n\n{HELP}"));
            1
        }
        Ok(((question, refusal), wish)) => {
            let mut report = look(&question);
            report.obstacles.extend(refusal);
            if wish.json {
                out(format_args!("{:#}\n", as_json(&report)));
            } else {
                out(as_text(&report, wish.deep));
            }
            i32::from(!report.can_take_over())
        }
    };
    tool::flush();
    code
}

fn read(args: &[String]) -> Result<Wish, String> {
    let mut wish = Wish::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with('-') => (name, Some(value)),
            _ => (arg.as_str(), None),
        };
        match name {
            "--check" => wish.check = true,
            "--deep" => wish.deep = true,
            "-o" | "--output" => {
                let value = inline.or_else(|| args.next().map(String::as_str));
                wish.json = match value {
                    Some("json") => true,
                    Some("text") => false,
                    _ => return Err("--output is text or json".to_owned()),
                };
            }
            _ if arg.starts_with('-') => return Err(format!("{arg} is not an option")),
            _ => wish.paths.push(arg.clone()),
        }
    }
    if !wish.check {
        return Err("there is nothing to do but --check: to take over, start the server on the directories".to_owned());
    }
    if wish.paths.is_empty() {
        return Err("name a properties file, or the log directories".to_owned());
    }
    Ok(wish)
}

/// What to look at; and why a node with this configuration would not start anyway.
fn prepare(wish: &Wish) -> Result<(Question, Option<String>), String> {
    let (dirs, files): (Vec<&String>, Vec<&String>) = wish.paths.iter().partition(|path| Path::new(path).is_dir());
    let file = match (dirs.as_slice(), files.as_slice()) {
        (dirs, []) => {
            let directories = dirs.iter().map(PathBuf::from).collect();
            return Ok((Question { directories, node_id: None, deep: wish.deep }, None));
        }
        ([], [file]) => file,
        _ => return Err("name one properties file, or directories that exist".to_owned()),
    };
    let pairs = tool::load_properties(file).map_err(|_| format!("{file} cannot be read"))?;
    let config = super::server_start::check(pairs)?;
    let mut directories: Vec<PathBuf> = config.data_dirs().iter().map(PathBuf::from).collect();
    let metadata = PathBuf::from(config.metadata_dir().unwrap_or_default());
    if !directories.contains(&metadata) {
        directories.push(metadata);
    }
    let refusal = unsupported(&config);
    Ok((Question { directories, node_id: Some(config.node_id), deep: wish.deep }, refusal))
}

/// Looks, with a bar on a terminal: there may be terabytes.
fn look(question: &Question) -> Report {
    let target = if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left") {
        bar.set_style(style);
    }
    let report = survey(question, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    report
}

fn as_text(report: &Report, deep: bool) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<18} {value}");
    };
    for directory in &report.directories {
        let state = match (directory.held_by, directory.clean) {
            (Some(process), _) => format!("in use by process {process}"),
            (None, true) => "stopped in order".to_owned(),
            (None, false) => "not stopped in order, or never started".to_owned(),
        };
        line("directory", format!("{} ({} logs, {state})", directory.path.display(), directory.logs));
    }
    if let (Some(cluster), Some(node)) = (&report.cluster_id, report.node_id) {
        let known = milena_server::adoption::release_of(report.metadata_version).unwrap_or("unknown");
        line("cluster", format!("{cluster}, node {node}"));
        line("metadata.version", format!("{} ({known})", report.metadata_version));
        let features: Vec<String> = report.features.iter().map(|(name, level)| format!("{name}={level}")).collect();
        line("features", if features.is_empty() { "none".to_owned() } else { features.join(", ") });
        let source = if report.kraft_version > 0 { "the log" } else { "the configuration" };
        line(
            "quorum",
            format!("voters {:?}, named by {source} (kraft.version {})", report.voters, report.kraft_version),
        );
        line(
            "metadata",
            format!(
                "{} records, {} topics, {} partitions here",
                report.metadata_records, report.topics, report.partitions
            ),
        );
        let how =
            if deep { "every batch checked" } else { "first batches and unclean tails checked; --deep checks all" };
        line("logs", format!("{} segments, {} bytes ({how})", report.segments, report.log_bytes));
        let groups: Vec<String> = report.groups.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        line("groups", if groups.is_empty() { "none".to_owned() } else { groups.join(", ") });
    }
    for (title, list) in [("In the way", &report.obstacles), ("To know", &report.remarks)] {
        if !list.is_empty() {
            let _ = writeln!(text, "\n{title}:");
            for item in list {
                let _ = writeln!(text, "  - {item}");
            }
        }
    }
    let verdict = match report.can_take_over() {
        true => "Milena can take over these directories. Nothing was written.",
        false => "Milena cannot take over these directories as they are. Nothing was written.",
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

fn as_json(report: &Report) -> Value {
    let directories: Vec<Value> = report
        .directories
        .iter()
        .map(|d| {
            json!({
                "path": d.path.display().to_string(), "directoryId": d.id.map(|id| id.to_string()), "cleanShutdown": d.clean,
                "heldByProcess": d.held_by, "logs": d.logs,
            })
        })
        .collect();
    json!({
        "canTakeOver": report.can_take_over(),
        "clusterId": report.cluster_id,
        "nodeId": report.node_id,
        "directories": directories,
        "metadataVersion": report.metadata_version,
        "features": report.features,
        "kraftVersion": report.kraft_version,
        "voters": report.voters,
        "metadataRecords": report.metadata_records,
        "topics": report.topics,
        "partitions": report.partitions,
        "segments": report.segments,
        "logBytes": report.log_bytes,
        "groups": report.groups,
        "obstacles": report.obstacles,
        "remarks": report.remarks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn the_command_line_is_read() {
        let wish = Wish { paths: vec!["a".into(), "b".into()], check: true, deep: true, json: true };
        assert_eq!(read(&args("--check a b --deep -o json")), Ok(wish));
        assert!(read(&args("a")).unwrap_err().contains("--check"));
        assert!(read(&args("--check a -o yaml")).is_err());
        assert!(read(&args("--check --deeply a")).is_err());
    }
}
