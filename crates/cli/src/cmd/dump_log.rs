//! `kafka-dump-log`: what stands in the files of a log directory, for people.
//!
//! Same flags, output and exit codes as Kafka's DumpLogSegments. Reads the files it is pointed at and nothing else, also those that are
//! damaged: that is what it is for. `segment` walks batches, `index` the files beside them, `decoder` reads what a record says.

mod decoder;
mod index;
mod remote;
pub(super) mod segment;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use crate::java;
use crate::opts::{self, Arg, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, err, help_or_version, refuse, require};
use decoder::{Decoder, Plain};

const STRING_DECODER: &str = "org.apache.kafka.tools.api.StringDecoder";

pub(crate) const OPTIONS: &[Opt] = &[
    flag("print-data-log", "Show the records of data logs. On by itself with any decoder."),
    flag("verify-index-only", "Check indexes against their log and do not show them."),
    flag(
        "index-sanity-check",
        "Only check that indexes are whole, as a broker does when it starts, and do not show them.",
    ),
    value("files", "String", "file1, file2, ...", "REQUIRED: the files to show, as a list with commas."),
    value("max-message-size", "Integer", "size", "The size of the largest message.").or("5242880"),
    value("max-bytes", "Integer", "size", "How many bytes of a log to read at most.").or("2147483647"),
    flag("deep-iteration", "Look into batches, record by record. On by itself with print-data-log."),
    Opt {
        name: "value-decoder-class",
        arg: Arg::Optional("String", ""),
        doc: "What reads values: StringDecoder, IntegerDecoder, LongDecoder or DefaultDecoder of org.apache.kafka.tools.api.",
        default: Some(STRING_DECODER),
        must: false,
    },
    Opt {
        name: "key-decoder-class",
        arg: Arg::Optional("String", ""),
        doc: "What reads keys: the same classes.",
        default: Some(STRING_DECODER),
        must: false,
    },
    flag("offsets-decoder", "Read records as those of __consumer_offsets."),
    flag("transaction-log-decoder", "Read records as those of __transaction_state."),
    flag("cluster-metadata-decoder", "Read records as those of the metadata log."),
    flag("remote-log-metadata-decoder", "Read records as those of __remote_log_metadata."),
    flag("share-group-state-decoder", "Read records as those of __share_group_state."),
    flag("skip-record-metadata", "Show records without offsets, times and sizes, and no control records."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

/// What to show of a file.
struct Plan {
    contents: bool,
    deep: bool,
    skip_metadata: bool,
    verify_only: bool,
    sanity_only: bool,
    max_message_size: u64,
    max_bytes: u64,
    decoder: Decoder,
}

/// What is wrong with files, told at the end.
#[derive(Default)]
struct Findings {
    /// Offsets that do not follow each other, by file.
    gaps: BTreeMap<String, Vec<(i64, i64)>>,
    /// Offsets in an index and those in the log where it points.
    mismatches: BTreeMap<String, Vec<(i64, i64)>>,
    wrong_times: BTreeMap<String, Vec<(i64, i64)>>,
    unordered_times: BTreeMap<String, Vec<(i64, i64)>>,
    missing_offsets: BTreeMap<String, Vec<(i64, i64)>>,
}

/// A line of standard output at a time, written in larger pieces.
struct Printer(Vec<u8>);

impl Printer {
    fn line(&mut self, text: impl Display) {
        self.text(format_args!("{text}\n"));
    }

    fn text(&mut self, text: impl Display) {
        let _ = write!(self.0, "{text}");
        if self.0.len() >= 64 << 10 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        // a closed pipe is not an error: nobody reads any more
        let _ = std::io::stdout().lock().write_all(&self.0);
        self.0.clear();
    }
}

/// An exception that ends the tool, as Java shows it.
fn thrown<T>(class: &str, message: impl Display) -> Result<T, Stop> {
    refuse(format!("Exception in thread \"main\" {class}: {message}"))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = opts::parse(OPTIONS, args).or_else(|error| thrown(error.class(), error))?;
    help_or_version(
        &parsed,
        "This tool helps to parse a log file and dump its contents to the console, useful for debugging a seemingly corrupt log segment.",
    )?;
    require(&parsed, &["files"])?;
    let files = parsed.value("files").or_else(|error| thrown(error.class(), error))?.unwrap_or_default();
    let mut printer = Printer(Vec::new());
    let mut findings = Findings::default();
    let mut result = Ok(());
    for name in files.split(',') {
        printer.line(format_args!("Dumping {name}"));
        // the other options are looked at when they are needed
        result = plan(&parsed).and_then(|plan| dump(&plan, Path::new(name), &mut printer, &mut findings));
        if result.is_err() {
            break;
        }
    }
    printer.flush();
    tool::flush();
    result?;
    report(&findings);
    Ok(())
}

fn plan(parsed: &Parsed) -> Result<Plan, Stop> {
    let decoder = if parsed.has("offsets-decoder") {
        Decoder::Offsets
    } else if parsed.has("transaction-log-decoder") {
        Decoder::Transactions
    } else if parsed.has("cluster-metadata-decoder") {
        Decoder::Metadata
    } else if parsed.has("remote-log-metadata-decoder") {
        Decoder::Remote
    } else if parsed.has("share-group-state-decoder") {
        Decoder::ShareState
    } else {
        let class = |option: &str| match Plain::by_class(parsed.value(option)?.unwrap_or(STRING_DECODER)) {
            Some(class) => Ok(class),
            None => thrown(
                "java.lang.RuntimeException",
                format_args!(
                    "Failed to load decoder class\nCaused by: java.lang.ClassNotFoundException: {}",
                    parsed.value(option)?.unwrap_or_default()
                ),
            ),
        };
        Decoder::Plain { key: class("key-decoder-class")?, value: class("value-decoder-class")? }
    };
    let decoders = [
        "offsets-decoder",
        "transaction-log-decoder",
        "cluster-metadata-decoder",
        "remote-log-metadata-decoder",
        "share-group-state-decoder",
        "value-decoder-class",
        "key-decoder-class",
    ];
    let contents = parsed.has("print-data-log") || decoders.iter().any(|option| parsed.has(option));
    let size = |option: &str| match parsed.number::<i32>(option) {
        Ok(size) => Ok(u64::try_from(size.unwrap_or_default()).unwrap_or_default()),
        Err(error) => thrown(error.class(), error),
    };
    Ok(Plan {
        contents,
        deep: contents || parsed.has("deep-iteration"),
        skip_metadata: parsed.has("skip-record-metadata"),
        verify_only: parsed.has("verify-index-only"),
        sanity_only: parsed.has("index-sanity-check"),
        max_message_size: size("max-message-size")?,
        max_bytes: size("max-bytes")?,
        decoder,
    })
}

fn dump(plan: &Plan, path: &Path, printer: &mut Printer, findings: &mut Findings) -> Result<(), Stop> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let suffix = name.rfind('.').and_then(|at| name.get(at..)).unwrap_or_default();
    match suffix {
        ".log" | ".checkpoint" => segment::dump(plan, path, &name, printer, findings),
        ".index" => index::offsets(plan, path, &name, printer, findings),
        ".timeindex" => index::times(plan, path, &name, printer, findings),
        ".txnindex" => index::transactions(plan, path, &name, printer),
        ".snapshot" => index::producers(path, printer),
        _ => {
            err(format_args!("Ignoring unknown file {}\n", path.display()));
            Ok(())
        }
    }
}

/// The first offset that a file's name says.
fn base_offset(name: &str) -> Result<i64, Stop> {
    let digits = name.split('.').next().unwrap_or_default();
    match digits.parse() {
        Ok(offset) => Ok(offset),
        Err(_) => thrown("java.lang.NumberFormatException", format_args!("For input string: \"{digits}\"")),
    }
}

/// Files as the map of Kafka's tool lists them.
fn in_hash_order(found: &BTreeMap<String, Vec<(i64, i64)>>) -> Vec<(&String, &Vec<(i64, i64)>)> {
    let mut files: Vec<_> = found.iter().collect();
    java::hash_order(&mut files, |(file, _)| file.as_str());
    files
}

/// A file as findings name it.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

fn report(findings: &Findings) {
    let tell = |title: &str, found: &BTreeMap<String, Vec<(i64, i64)>>, line: &dyn Fn(i64, i64) -> String| {
        for (file, pairs) in in_hash_order(found) {
            err(format_args!("{title}{file}\n"));
            pairs.iter().for_each(|(a, b)| err(format_args!("{}\n", line(*a, *b))));
        }
    };
    tell("Mismatches in :", &findings.mismatches, &|index, log| format!("  Index offset: {index}, log offset: {log}"));
    tell("Found timestamp mismatch in :", &findings.wrong_times, &|index, log| {
        format!("  Index timestamp: {index}, log timestamp: {log}")
    });
    tell("Found out of order timestamp in :", &findings.unordered_times, &|index, before| {
        format!("  Index timestamp: {index}, Previously indexed timestamp: {before}")
    });
    tell("The following indexed offsets are not found in :", &findings.missing_offsets, &|index, log| {
        format!("Indexed offset: {index}, found log offset: {log}")
    });
    tell("Non-consecutive offsets in ", &findings.gaps, &|first, second| format!("  {first} is followed by {second}"));
}
