//! The table of command lines and what Kafka's own tools answered: `golden/*.txt`, and the list of what may differ.
//!
//! Owns the text format. Runs nothing and compares nothing.
#![allow(dead_code, clippy::disallowed_methods, reason = "tests read and write files; not every test uses everything")]

use std::path::{Path, PathBuf};

use super::Ran;

/// One command and what Kafka's tool answered.
pub struct Case {
    /// The comment lines before it.
    pub notes: Vec<String>,
    pub command: String,
    pub expected: Ran,
    /// Whether the transcript has an answer yet.
    pub answered: bool,
}

/// One file: commands that follow each other on one fresh broker.
pub struct Transcript {
    pub path: PathBuf,
    pub name: String,
    /// `# broker:` of the head: `4.3.1` (the default), another version, or `none`.
    pub broker: String,
    /// `# tools:` of the head: whose tools were recorded; 4.3.1 unless said.
    pub tools: String,
    /// `# settings:` of the head: `key=value` for the broker, on top of the usual ones.
    pub settings: Vec<String>,
    pub cases: Vec<Case>,
}

impl Transcript {
    /// Reads a file of the table.
    pub fn read(path: &Path) -> Transcript {
        let text = std::fs::read_to_string(path).expect("the transcript");
        let head: Vec<&str> = text.lines().take_while(|line| !line.starts_with("$ ")).collect();
        let said = |key: &str| head.iter().find_map(|line| line.strip_prefix(key)).map(str::trim);
        Transcript {
            path: path.into(),
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            broker: said("# broker:").unwrap_or("4.3.1").into(),
            tools: said("# tools:").unwrap_or("4.3.1").into(),
            settings: said("# settings:").unwrap_or_default().split_whitespace().map(String::from).collect(),
            cases: parse(&text),
        }
    }

    /// Writes the file again.
    pub fn write(&self) {
        let text: String = self.cases.iter().map(Case::text).collect();
        std::fs::write(&self.path, text).expect("the transcript");
    }
}

impl Case {
    /// As it stands in a transcript.
    fn text(&self) -> String {
        let notes: String = self.notes.iter().map(|note| format!("{note}\n")).collect();
        if !self.answered {
            return format!("{notes}$ {}\n\n", self.command);
        }
        let stderr = match self.expected.stderr.trim_end_matches('\n') {
            "" => String::new(),
            stderr => format!("[stderr]\n{stderr}\n"),
        };
        let mut stdout = self.expected.stdout.clone();
        if !stdout.is_empty() && !stdout.ends_with('\n') {
            stdout.push('\n');
        }
        format!("{notes}$ {}\n{stdout}{stderr}[exit {}]\n\n", self.command, self.expected.code)
    }
}

/// A command may stand alone, without an answer; comment lines belong to the command after them.
fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    let mut lines = text.lines().peekable();
    let is_note = |line: &str| line.starts_with('#');
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else {
            notes.extend(Some(line.to_string()).filter(|line| is_note(line)));
            continue;
        };
        let mut block = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            block.push(line);
        }
        let exit = |line: &&str| line.strip_prefix("[exit ")?.strip_suffix(']')?.parse::<i32>().ok();
        let end = block.iter().position(|line| exit(line).is_some());
        let mut expected = Ran::default();
        let (answer, after) = block.split_at(end.unwrap_or(0));
        let mut in_stderr = false;
        for line in answer {
            if *line == "[stderr]" {
                in_stderr = true;
                continue;
            }
            let stream = if in_stderr { &mut expected.stderr } else { &mut expected.stdout };
            stream.push_str(line);
            stream.push('\n');
        }
        expected.code = after.first().and_then(exit).unwrap_or_default();
        let notes_before = std::mem::take(&mut notes);
        notes.extend(after.iter().filter(|line| is_note(line)).map(ToString::to_string));
        cases.push(Case { notes: notes_before, command: command.into(), expected, answered: end.is_some() });
    }
    cases
}

/// Who causes a listed difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Milena's broker answers otherwise: whoever asks it sees the difference.
    Broker,
    /// Our tool does, whichever broker it asks.
    Tool,
    /// Two runs of Kafka's own tool differ, too.
    Chance,
}

/// A difference that is known, and why it may be.
#[derive(Debug)]
pub struct Exception {
    pub cause: Cause,
    pub file: String,
    pub command: String,
    pub reason: String,
}

impl Exception {
    /// Whether the command is meant; a `*` at the end of the entry stands for any rest.
    pub fn covers(&self, command: &str) -> bool {
        match self.command.strip_suffix('*') {
            Some(begin) => command.starts_with(begin),
            None => command == self.command,
        }
    }
}

/// Reads the list of what may differ: `[cause] file $ command`, and an indented reason below.
pub fn exceptions(path: &Path) -> Vec<Exception> {
    let text = std::fs::read_to_string(path).expect("the list of exceptions");
    let mut found: Vec<Exception> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if line.starts_with(' ') {
            let last = found.last_mut().expect("a reason belongs to a command");
            last.reason.push_str(line.trim());
            continue;
        }
        let (cause, rest) = line.split_once("] ").expect("[cause] file $ command");
        let (file, command) = rest.split_once(" $ ").expect("[cause] file $ command");
        let cause = match cause {
            "[broker" => Cause::Broker,
            "[tool" => Cause::Tool,
            "[chance" => Cause::Chance,
            other => panic!("{other}]: broker, tool or chance"),
        };
        found.push(Exception { cause, file: file.into(), command: command.into(), reason: String::new() });
    }
    found
}
