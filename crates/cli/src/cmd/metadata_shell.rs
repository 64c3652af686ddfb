//! `kafka-metadata-shell`: the metadata of a cluster as a tree of files, out of a snapshot or a segment of its log.
//!
//! Same commands, words and exit codes as Kafka's MetadataShell. Reads the one file it is pointed at. `tree` makes the tree, `commands`
//! are what one can do in it.

mod commands;
mod tree;

use std::io::{BufRead, Write};
use std::path::Path;

use milena_common::StateMachine;
use milena_metadata::MetadataImage;
use milena_metadata::image::Provenance;
use milena_protocol::stored::metadata::{MetadataRecord, decode_framed};

use super::dump_log::segment::{Batches, records};
use crate::tool::{self, Stop, err, out, refuse};
use commands::{Next, Shell};

const USAGE: &str =
    "usage: kafka-metadata-shell [-h] --snapshot SNAPSHOT\n                            [command [command ...]]\n";
const HELP: &str = "\nShows the metadata of a cluster as a tree of files.\n\npositional arguments:\n  command                The command to run; without one, commands are read\n                         from standard input.\n\noptional arguments:\n  -h, --help             show this help message and exit\n  --snapshot SNAPSHOT, -s SNAPSHOT\n                         The file to read: a snapshot or a segment of the\n                         metadata log.\n\nExample:\n  kafka-metadata-shell --snapshot __cluster_metadata-0/00000000000000000000.log ls /image/topics/byName\n";

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    let mut snapshot = None;
    let mut rest = args;
    while let Some((first, after)) = rest.split_first() {
        let value = match (first.as_str(), after) {
            ("-h" | "--help", _) => {
                out(format_args!("{USAGE}{HELP}"));
                return 0;
            }
            ("-s" | "--snapshot", [value, after @ ..]) => {
                rest = after;
                value.as_str()
            }
            ("-s" | "--snapshot", []) => return wrong("argument --snapshot/-s: expected one argument"),
            (option, _) => match option.strip_prefix("--snapshot=") {
                Some(value) => {
                    rest = after;
                    value
                }
                None if option.starts_with('-') => return wrong(&format!("unrecognized arguments: '{option}'")),
                None => break,
            },
        };
        snapshot = Some(value);
    }
    let Some(snapshot) = snapshot else {
        return wrong("argument --snapshot/-s is required");
    };
    let image = match load(Path::new(snapshot)) {
        Ok(image) => image,
        Err(Stop::Message(message)) => {
            err(format_args!("Unexpected error: {message}\n"));
            return 1;
        }
        Err(_) => return 1,
    };
    let mut shell = Shell::new(tree::root(&image));
    if !rest.is_empty() {
        let words: Vec<&str> = rest.iter().map(String::as_str).collect();
        shell.run(&words);
        tool::flush();
        return 0;
    }
    interact(&mut shell)
}

fn wrong(message: &str) -> i32 {
    err(format_args!("{USAGE}kafka-metadata-shell: error: {message}\n"));
    1
}

/// Reads commands until one ends the shell, or the input ends.
fn interact(shell: &mut Shell) -> i32 {
    out("Loading...\nStarting...\n[ Kafka Metadata Shell ]\n");
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    loop {
        out(">> ");
        let _ = std::io::stdout().lock().flush();
        line.clear();
        match input.read_line(&mut line) {
            Ok(0) | Err(_) => {
                out("\n");
                return 0;
            }
            Ok(_) => {}
        }
        let text = line.trim();
        if text.is_empty() {
            continue;
        }
        shell.remember(text);
        let words: Vec<&str> = text.split_whitespace().collect();
        if shell.run(&words) == Next::End {
            return 0;
        }
    }
}

/// The image that the records of a file make.
fn load(path: &Path) -> Result<MetadataImage, Stop> {
    let plain = |stop: Stop| match stop {
        Stop::Message(message) => {
            let bare = message.strip_prefix("Exception in thread \"main\" ").unwrap_or(&message);
            Stop::Message(bare.to_string())
        }
        other => other,
    };
    let mut batches = Batches::open(path, u64::MAX).map_err(plain)?;
    let mut image = MetadataImage::default();
    let mut open: Option<MetadataImage> = None;
    while let Some((_, batch)) = batches.next().map_err(plain)? {
        let mut provenance = Provenance {
            last_offset: batch.last_offset(),
            last_epoch: batch.leader_epoch(),
            last_timestamp_ms: batch.max_timestamp(),
        };
        if batch.is_control() {
            image.provenance = provenance;
            continue;
        }
        for record in records(&batch).map_err(plain)? {
            provenance.last_offset = record.offset;
            let decoded = match decode_framed(record.value.unwrap_or_default()) {
                Ok(decoded) => decoded,
                Err(error) => return refuse(format!("record at offset {}: {error}", record.offset)),
            };
            match &decoded {
                MetadataRecord::BeginTransaction(_) => open = Some(image.clone()),
                MetadataRecord::EndTransaction(_) => open = None,
                // what the transaction did is undone
                MetadataRecord::AbortTransaction(_) => image = open.take().unwrap_or(image),
                other => image.replay(record.offset, other),
            }
        }
        image.provenance = provenance;
    }
    Ok(open.unwrap_or(image))
}
