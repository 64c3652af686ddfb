//! Kafka's tools and ours, given the same command lines, answer the same: on Milena and on Apache Kafka.
//!
//! `golden/*.txt` are the table: command lines, one `$ command` after the other on one fresh broker, each with what Kafka's own tool
//! printed on real Kafka. Compared are standard output, standard error and exit code, after `support::blanks`. Three ways:
//! our tools on Milena (always, all files), our tools on Kafka and Kafka's tools on Milena (where Apache Kafka is at hand: the
//! oracle named by `KAFKA_ORACLE` or at `shared/oracle/kafka-oracle` beside the checkout; a part of the files that changes every day,
//! all of them with `MILENA_TEST_ALL`). What differs stands in `golden/exceptions.txt` with its reason, or is a bug.
//!
//! `cargo xtask golden` runs and records it; it sets `MILENA_GOLDEN` (`record`, or `fill` for commands without an answer only) and
//! `MILENA_GOLDEN_FILES` (words that a file's name must contain one of).

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use support::blanks::blank;
use support::transcript::{Cause, Exception, Transcript, exceptions};
use support::{Broker, Ran, binary, oracle, run};

/// On how many days every file has its turn with Apache Kafka once.
const ROTATION: u64 = 8;

#[test]
fn our_tools_on_milena() {
    if recording() {
        return;
    }
    let files: Vec<Transcript> =
        files().into_iter().filter(|file| ["4.3.1", "none"].contains(&&*file.broker)).collect();
    check(&files, Side { kafkas_tools: false, milenas_broker: true });
}

#[test]
fn our_tools_on_kafka() {
    if let Some(files) = with_kafka() {
        check(&files, Side { kafkas_tools: false, milenas_broker: false });
    }
}

#[test]
fn kafkas_tools_on_milena() {
    if let Some(mut files) = with_kafka() {
        files.retain(|file| file.broker == "4.3.1");
        check(&files, Side { kafkas_tools: true, milenas_broker: true });
    }
}

#[test]
fn kafkas_tools_are_recorded() {
    let Some(mode) = std::env::var_os("MILENA_GOLDEN").filter(|_| recording()) else {
        return;
    };
    let oracle = oracle().expect("Apache Kafka, to record its answers");
    for file in files() {
        let fill = mode == "fill";
        if !fill || file.cases.iter().any(|case| !case.answered) {
            record(file, &oracle, fill);
        }
    }
}

#[test]
fn exceptions_name_commands_and_reasons() {
    let files = every_file();
    for exception in exceptions(&exceptions_file()) {
        let Exception { file, command, reason, .. } = &exception;
        let known = files.iter().any(|f| f.name == *file && f.cases.iter().any(|case| exception.covers(&case.command)));
        assert!(known, "there is no such command in {file}: {command}");
        assert!(reason.len() > 10, "a reason is missing: {command}");
    }
}

/// Whose tools ask whose broker.
#[derive(Clone, Copy)]
struct Side {
    kafkas_tools: bool,
    milenas_broker: bool,
}

impl Side {
    /// Whether a difference of that cause is seen here.
    fn sees(self, cause: Cause) -> bool {
        match cause {
            Cause::Broker => self.milenas_broker,
            Cause::Tool => !self.kafkas_tools,
            Cause::Chance => true,
        }
    }
}

fn recording() -> bool {
    std::env::var_os("MILENA_GOLDEN").is_some_and(|mode| mode == "record" || mode == "fill")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn exceptions_file() -> PathBuf {
    folder().join("exceptions.txt")
}

/// Our scripts.
fn bin() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bin")
}

fn every_file() -> Vec<Transcript> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the table")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt") && *path != exceptions_file())
        .collect();
    paths.sort();
    paths.iter().map(|path| Transcript::read(path)).collect()
}

/// The files that were asked for; all of them if none was.
fn files() -> Vec<Transcript> {
    let wanted = std::env::var("MILENA_GOLDEN_FILES").unwrap_or_default();
    let mut files = every_file();
    files.retain(|file| wanted.is_empty() || wanted.split_whitespace().any(|word| file.name.contains(word)));
    files
}

/// The files whose turn it is with Apache Kafka, if there is one here.
fn with_kafka() -> Option<Vec<Transcript>> {
    if recording() || oracle().is_none() {
        eprintln!("skipped: no Apache Kafka here (set KAFKA_ORACLE), or it is being recorded");
        return None;
    }
    let mut files = files();
    if std::env::var_os("MILENA_TEST_ALL").is_none() && std::env::var_os("MILENA_GOLDEN_FILES").is_none() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
        let turn = now / 86_400 % ROTATION;
        let mut index = 0;
        files.retain(|_| {
            index += 1;
            index % ROTATION == turn
        });
    }
    Some(files)
}

fn broker(file: &Transcript, milenas: bool) -> Broker {
    match file.broker.as_str() {
        "none" => Broker::none(),
        _ if milenas => Broker::milena(&file.settings),
        version => Broker::kafka(&oracle().expect("Apache Kafka"), version, &file.settings),
    }
}

fn record(mut file: Transcript, oracle: &Path, fill: bool) {
    let broker = broker(&file, false);
    let tools = support::kafka_tools(oracle, &file.tools, file.cases.iter().map(|case| case.command.as_str()));
    for case in &mut file.cases {
        if fill && case.answered {
            // what comes after may need what this command leaves behind
            run(&case.command, &bin(), &broker);
            continue;
        }
        eprintln!("{}: $ {}", file.name, case.command);
        let ran = run(&case.command, tools.path(), &broker);
        case.expected =
            Ran { stdout: blank(&ran.stdout, &broker), stderr: blank(&ran.stderr, &broker), code: ran.code };
        case.answered = true;
    }
    file.write();
}

/// How the command lines of one or more files came out.
#[derive(Default)]
struct Tally {
    equal: usize,
    excused: usize,
    different: usize,
    /// What differs and is not listed, for people.
    wrong: String,
}

fn check(files: &[Transcript], side: Side) {
    assert!(binary().exists());
    let listed = exceptions(&exceptions_file());
    let tallies: Vec<Tally> = if side.kafkas_tools || !side.milenas_broker {
        // one Java machine at a time
        files.iter().map(|file| check_file(file, side, &listed)).collect()
    } else {
        std::thread::scope(|scope| {
            let running: Vec<_> = files.iter().map(|file| scope.spawn(|| check_file(file, side, &listed))).collect();
            running.into_iter().map(|thread| thread.join().expect("a file is checked")).collect()
        })
    };
    let Tally { equal, excused, different, wrong } = tallies.into_iter().fold(Tally::default(), |all, one| Tally {
        equal: all.equal + one.equal,
        excused: all.excused + one.excused,
        different: all.different + one.different,
        wrong: all.wrong + &one.wrong,
    });
    let (whose, where_) = match side {
        Side { kafkas_tools: true, .. } => ("Kafka's tools", "on Milena"),
        Side { milenas_broker: true, .. } => ("our tools", "on Milena"),
        _ => ("our tools", "on Kafka"),
    };
    println!("{whose} {where_}: {equal} command lines equal, {excused} differ as listed, {different} differ");
    assert!(different == 0, "{whose} {where_}: {different} of {} differ:\n{wrong}", equal + excused + different);
}

/// Runs the command lines of one file, on a broker of its own.
fn check_file(file: &Transcript, side: Side, listed: &[Exception]) -> Tally {
    let mut tally = Tally::default();
    let broker = broker(file, side.milenas_broker);
    let commands = file.cases.iter().map(|case| case.command.as_str());
    let kafkas =
        side.kafkas_tools.then(|| support::kafka_tools(&oracle().expect("Apache Kafka"), &file.tools, commands));
    let tools = kafkas.as_ref().map_or_else(bin, |folder| folder.path().to_path_buf());
    let mut used: Vec<&Exception> = Vec::new();
    let here: Vec<&Exception> = listed.iter().filter(|e| e.file == file.name && side.sees(e.cause)).collect();
    for case in file.cases.iter().filter(|case| case.answered) {
        let ran = run(&case.command, &tools, &broker);
        let Some(differences) = differences(&case.expected, &ran, &broker) else {
            tally.equal += 1;
            continue;
        };
        if let Some(exception) = here.iter().find(|exception| exception.covers(&case.command)) {
            used.push(exception);
            tally.excused += 1;
            continue;
        }
        tally.different += 1;
        writeln!(tally.wrong, "{}: $ {}\n{differences}", file.name, case.command).expect("text");
    }
    // an exception that nobody needs any more is taken off the list; chance may have it so today
    for exception in here.iter().filter(|e| e.cause != Cause::Chance && !side.kafkas_tools) {
        if !used.iter().any(|used| std::ptr::eq(*used, *exception)) {
            tally.different += 1;
            let Exception { command, .. } = exception;
            writeln!(tally.wrong, "{}: $ {command}\nis equal and need not be in exceptions.txt\n", file.name)
                .expect("text");
        }
    }
    tally
}

/// What differs, for people; `None` if nothing does.
fn differences(expected: &Ran, ran: &Ran, broker: &Broker) -> Option<String> {
    let mut text = String::new();
    let streams = [("stdout", &expected.stdout, &ran.stdout), ("stderr", &expected.stderr, &ran.stderr)];
    for (name, expected, got) in streams {
        let (expected, got) = (blank(expected, broker), blank(got, broker));
        if expected.trim_end_matches('\n') != got.trim_end_matches('\n') {
            writeln!(text, "--- {name} expected\n{expected}--- {name} got\n{got}").expect("text");
        }
    }
    if expected.code != ran.code {
        writeln!(text, "--- exit expected {} got {}", expected.code, ran.code).expect("text");
    }
    (!text.is_empty()).then_some(text)
}
