//! Kafka's tools and ours, given the same command lines on the same broker, answer the same.
//!
//! `golden/*.txt` are transcripts: real runs of Kafka's own tools, one `$ command` after the other, so that each finds what those before
//! it left. The test starts a fresh broker, runs every command through `bin/*.sh` and compares standard output, standard error and
//! exit code after [`blank`]ing what differs from run to run. On Apache Kafka this needs the oracle (`KAFKA_ORACLE`, or
//! `shared/oracle/kafka-oracle` beside the checkout) and is skipped without it.
//!
//! To record again: `MILENA_GOLDEN=record cargo test -p milena-cli --test golden on_kafka`; with `fill` only commands that have no
//! answer yet are run by Kafka's tools, those before them by ours.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use support::{Broker, Ran, binary, oracle, run};

#[test]
fn on_kafka_4_3_1() {
    on_kafka("4.3.1");
}

#[test]
fn on_kafka_3_3_1() {
    on_kafka("3.3.1");
}

#[test]
fn storage() {
    let file = transcript_file("storage.txt");
    let broker = Broker::none();
    if std::env::var_os("MILENA_GOLDEN").is_some_and(|mode| mode == "record" || mode == "fill") {
        let oracle = oracle().expect("Apache Kafka, to record its answers");
        record(&file, &broker, &oracle, "4.3.1");
    } else {
        compare(&file, &broker, &served);
    }
}

/// Whether the case is one that our tools can answer by now.
fn served(case: &Case) -> bool {
    !case.notes.iter().any(|note| note == "# not-yet")
}

/// Kafka 4.3.1's tools, whose words ours speak, on a broker of that version.
fn on_kafka(version: &str) {
    let Some(oracle) = oracle() else {
        eprintln!("skipped: no Apache Kafka here (set KAFKA_ORACLE)");
        return;
    };
    let file = transcript_file(&format!("on-{version}.txt"));
    let broker = Broker::kafka(&oracle, version);
    if std::env::var_os("MILENA_GOLDEN").is_some_and(|mode| mode == "record" || mode == "fill") {
        record(&file, &broker, &oracle, "4.3.1");
    } else {
        compare(&file, &broker, &served);
    }
}

fn transcript_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// One command and what Kafka's tool answered.
struct Case {
    /// The comment lines before it.
    notes: Vec<String>,
    command: String,
    expected: Ran,
    answered: bool,
}

impl Case {
    /// As it stands in a transcript.
    fn text(&self) -> String {
        let notes: String = self.notes.iter().map(|note| format!("{note}\n")).collect();
        let stderr = match self.expected.stderr.trim_end_matches('\n') {
            "" => String::new(),
            stderr => format!("[stderr]\n{stderr}\n"),
        };
        format!("{notes}$ {}\n{}{stderr}[exit {}]\n\n", self.command, self.expected.stdout, self.expected.code)
    }
}

/// Our scripts.
fn bin() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bin")
}

/// Reads a transcript; a command without an answer has an empty one.
fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut notes = Vec::new();
    let mut in_stderr = false;
    let mut open = false;
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            cases.push(Case {
                notes: std::mem::take(&mut notes),
                command: command.into(),
                expected: Ran::default(),
                answered: false,
            });
            (in_stderr, open) = (false, true);
        } else if !open {
            if !line.is_empty() {
                notes.push(line.to_string());
            }
        } else if let Some(case) = cases.last_mut() {
            let code = line.strip_prefix("[exit ").and_then(|rest| rest.strip_suffix(']'));
            if let Some(code) = code {
                case.answered = code != "?";
                case.expected.code = code.parse().unwrap_or_default();
                open = false;
            } else if line == "[stderr]" {
                in_stderr = true;
            } else {
                let stream = if in_stderr { &mut case.expected.stderr } else { &mut case.expected.stdout };
                stream.push_str(line);
                stream.push('\n');
            }
        }
    }
    cases
}

fn record(file: &Path, broker: &Broker, oracle: &Path, version: &str) {
    // commands alone are legal in the file: an unanswered one must not swallow those after it
    let text = std::fs::read_to_string(file).expect("the transcript");
    let mut plain = String::new();
    let mut answered = false;
    for line in text.lines() {
        if line.starts_with("$ ") {
            if answered {
                plain.push_str("[exit ?]\n");
            }
            answered = true;
        } else if answered && (line.starts_with('#') || line.is_empty()) {
            plain.push_str("[exit ?]\n");
            answered = false;
        } else if line.starts_with("[exit ") {
            answered = false;
        }
        plain.push_str(line);
        plain.push('\n');
    }
    let tools = support::kafka_tools(oracle, version);
    let fill = std::env::var_os("MILENA_GOLDEN").is_some_and(|mode| mode == "fill");
    let mut out = String::new();
    for case in parse(&plain) {
        if fill && case.answered {
            run(&case.command, &bin(), broker);
            out.push_str(&case.text());
            continue;
        }
        eprintln!("$ {}", case.command);
        let ran = run(&case.command, tools.path(), broker);
        let expected = Ran { stdout: blank(&ran.stdout, broker), stderr: blank(&ran.stderr, broker), code: ran.code };
        out.push_str(&Case { expected, ..case }.text());
    }
    std::fs::write(file, out).expect("the transcript");
}

fn compare(file: &Path, broker: &Broker, wanted: &dyn Fn(&Case) -> bool) {
    let text = std::fs::read_to_string(file).expect("the transcript");
    assert!(binary().exists());
    let mut wrong = String::new();
    let mut count = 0;
    for case in parse(&text) {
        let ran = run(&case.command, &bin(), broker);
        if !wanted(&case) {
            continue;
        }
        count += 1;
        let mut differences = String::new();
        let streams = [("stdout", &case.expected.stdout, &ran.stdout), ("stderr", &case.expected.stderr, &ran.stderr)];
        for (name, expected, got) in streams {
            let (expected, got) = (blank(expected, broker), blank(got, broker));
            if expected.trim_end_matches('\n') != got.trim_end_matches('\n') {
                writeln!(differences, "--- {name} expected\n{expected}--- {name} got\n{got}").expect("text");
            }
        }
        if case.expected.code != ran.code {
            writeln!(differences, "--- exit expected {} got {}", case.expected.code, ran.code).expect("text");
        }
        if !differences.is_empty() {
            writeln!(wrong, "$ {}\n{differences}", case.command).expect("text");
        }
    }
    let failed = wrong.lines().filter(|line| line.starts_with("$ ")).count();
    assert!(failed == 0, "{failed} of {count} command lines differ:\n{wrong}");
}

/// Takes out what no two runs share, and what is not part of the contract: log lines below ERROR, stack traces, the prose of help.
fn blank(text: &str, broker: &Broker) -> String {
    let text = text.replace(broker.address(), "SERVER").replace(broker.scratch(), "TMP");
    let text = unwrapped(&text);
    let mut out = String::new();
    let mut in_help = false;
    for line in text.lines() {
        let stack = line.starts_with("\tat ") || line.starts_with("\t... ") || line.starts_with("Caused by:");
        let chatter =
            line.starts_with('[') && ["] WARN ", "] INFO ", "] DEBUG "].iter().any(|level| line.contains(level));
        if stack || chatter {
            continue;
        }
        // we do not speak that protocol's client side, so we do not recommend it
        if line.starts_with("The consumer rebalance protocol (KIP-848) is production-ready!") {
            continue;
        }
        if line.starts_with("Option  ") && line.trim_end().ends_with("Description") {
            in_help = true;
        }
        if in_help {
            // the options are part of the contract, how they are explained is not
            if let Some(option) = line.split_whitespace().next().filter(|_| line.starts_with("--")) {
                writeln!(out, "{option}").expect("text");
            }
            continue;
        }
        writeln!(out, "{}", blank_line(line)).expect("text");
    }
    out
}

/// The library behind some tools fits its errors into 75 columns with spaces between words.
fn unwrapped(text: &str) -> String {
    match text.split_once(": error: ") {
        Some((usage, message)) if usage.starts_with("usage: ") => {
            let words: Vec<&str> = message.split_whitespace().collect();
            format!("{usage}: error: {}\n", words.join(" "))
        }
        _ => text.to_string(),
    }
}

fn blank_line(line: &str) -> String {
    // sets of Java, in whatever order the virtual machine chose this time
    let sets = [
        "Option combination ",
        "Valid states are: ",
        " of these options: ",
        "the following options: ",
        "Detected group ids: ",
        "of the following scenarios: ",
    ];
    if let Some((head, set)) = sets.iter().find_map(|mark| line.split_once(mark)) {
        let mut words: Vec<&str> = set.split([' ', ',', '[', ']', '"', '.']).filter(|word| !word.is_empty()).collect();
        words.sort_unstable();
        return format!("{head}... {}", words.join(" "));
    }
    let patterns: [(&str, &str); 6] = [
        (r"directory\.id=[A-Za-z0-9_-]{22}", "directory.id=ID"),
        (r"TopicId: [A-Za-z0-9_-]{22}", "TopicId: ID"),
        (r"CreateTime:\d+", "CreateTime:N"),
        (r"^\[[^\]]+\] ERROR", "[TIME] ERROR"),
        (r"[a-z-]*console-(consumer|producer)[-0-9a-f]{4,}", "CLIENT"),
        (r#""timestamp":\d+"#, "\"timestamp\":N"),
    ];
    patterns.iter().fold(line.to_string(), |line, (pattern, to)| {
        regex::Regex::new(pattern).expect("a pattern").replace_all(&line, *to).into_owned()
    })
}
