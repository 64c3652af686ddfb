//! What suites gave: one file of results per suite, server and protocol in the cache, and the page that compares them. Owns both formats and
//! the rule of what is a difference; knows nothing of how a test is run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::server::Kind;
use crate::{needs, repository};

/// How a test ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Passed,
    Failed,
    Skipped,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Passed => "passed",
            State::Failed => "failed",
            State::Skipped => "skipped",
        }
    }

    fn from_word(word: &str) -> Option<State> {
        [State::Passed, State::Failed, State::Skipped].into_iter().find(|s| s.word() == word)
    }
}

/// Results by the test's name: how it ended, and the first words of why.
pub type Results = BTreeMap<String, (State, String)>;

/// A run of a suite: against whom, and in which variant of the suite (a consumer protocol, a version of the client).
pub struct Run<'a> {
    pub suite: &'a str,
    pub variant: &'a str,
    pub against: Kind,
}

impl Run<'_> {
    /// The folder for what this run leaves behind.
    pub fn folder(&self) -> PathBuf {
        needs::cache().join("suites").join(self.suite).join(format!("{}-{}", self.variant, self.against.word()))
    }

    fn file(&self) -> PathBuf {
        self.folder().join("results.tsv")
    }

    /// What was found by now; nothing if it never ran.
    pub fn load(&self) -> Results {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, '\t');
                let (name, state) = (parts.next()?, State::from_word(parts.next()?)?);
                Some((name.to_owned(), (state, parts.next().unwrap_or_default().to_owned())))
            })
            .collect()
    }

    /// Replaces the results of the tests in `new`, and keeps those of the others.
    pub fn store(&self, new: &Results) -> Result<()> {
        let mut all = self.load();
        all.extend(new.iter().map(|(name, result)| (name.clone(), result.clone())));
        let text: String = all
            .iter()
            .map(|(name, (state, why))| format!("{name}\t{}\t{}\n", state.word(), why.replace(['\t', '\n'], " ")))
            .collect();
        fs::create_dir_all(self.folder())?;
        fs::write(self.file(), text)?;
        Ok(())
    }
}

/// Writes `compat/suites/SUITE.md` from the results at hand, and fails if a test passes on Kafka only.
///
/// Why a test does not pass on either stands in `compat/suites/reasons.tsv`, by suite and test, written by hand.
pub fn report(suite: &str, variants: &[&str]) -> Result<()> {
    let reasons = reasons(suite)?;
    let mut rows = String::new();
    let mut differences = Vec::new();
    let mut head = String::from("| test |");
    let mut rule = String::from("|---|");
    let mut columns = Vec::new();
    for variant in variants {
        for against in [Kind::Kafka, Kind::Milena] {
            columns.push((*variant, against, Run { suite, variant, against }.load()));
            write!(head, " {variant}, {} |", against.word())?;
            rule += "---|";
        }
    }
    let names: BTreeSet<&String> = columns.iter().flat_map(|(_, _, r)| r.keys()).collect();
    if names.is_empty() {
        println!("{suite}: no results yet");
        return Ok(());
    }
    let mut counts = BTreeMap::<(usize, &str), usize>::new();
    for name in &names {
        let states: Vec<Option<State>> = columns.iter().map(|(_, _, r)| r.get(*name).map(|(s, _)| *s)).collect();
        for (i, state) in states.iter().enumerate() {
            *counts.entry((i, state.map_or("not run", State::word))).or_default() += 1;
        }
        for pair in states.chunks(2) {
            if pair[0] == Some(State::Passed) && pair[1] != Some(State::Passed) {
                differences.push((*name).clone());
            }
        }
        if states.iter().all(|s| matches!(s, Some(State::Passed) | None)) {
            continue;
        }
        write!(rows, "| `{name}` |")?;
        for state in states {
            write!(rows, " {} |", state.map_or("not run", State::word))?;
        }
        writeln!(rows, " {} |", reasons.get(name.as_str()).map_or("", String::as_str))?;
    }
    let mut text = format!(
        "# {suite}: Milena and Apache Kafka {}\n\nMade by `cargo xtask suite report`. {} tests; those that pass wherever they ran are \
         only counted. Reasons stand in `reasons.tsv`.\n\n| | passed | failed | skipped | not run |\n|---|---|---|---|---|\n",
        needs::KAFKA,
        names.len()
    );
    for (i, (variant, against, _)) in columns.iter().enumerate() {
        let count = |word| counts.get(&(i, word)).copied().unwrap_or(0);
        writeln!(
            text,
            "| {variant}, {} | {} | {} | {} | {} |",
            against.word(),
            count("passed"),
            count("failed"),
            count("skipped"),
            count("not run")
        )?;
    }
    if !rows.is_empty() {
        write!(text, "\n{head} why |\n{rule}---|\n{rows}")?;
    }
    let page = repository().join("compat/suites").join(format!("{suite}.md"));
    fs::write(&page, text)?;
    println!("{} written", page.display());
    differences.dedup();
    ensure!(differences.is_empty(), "{suite}: pass on Kafka only: {}", differences.join(", "));
    Ok(())
}

fn reasons(suite: &str) -> Result<BTreeMap<String, String>> {
    let path = repository().join("compat/suites/reasons.tsv");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, '\t');
            (parts.next()? == suite).then_some(())?;
            Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
        })
        .collect())
}
