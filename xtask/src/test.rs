//! `cargo xtask test`: installs what the tests need and runs them all. Owns the order of the steps; knows nothing of what a test does.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::{needs, repository};

const HELP: &str = "usage: cargo xtask test [--unit | --all] [--install]

Installs what the tests need (through pip, npm, Maven and apt, into a cache outside the checkout) and runs them.
Every step runs even when one before it failed; the failed ones are named at the end.

  --unit      only what needs nothing from outside
  --all       also what takes long: clients that are compiled first, long campaigns
  --install   install only

MILENA_TEST_CACHE   where outside parts are kept (default: ~/.cache/milena-tests)";

/// What one step runs.
struct Step {
    name: &'static str,
    program: &'static str,
    arguments: Vec<&'static str>,
}

fn cargo(name: &'static str, arguments: &[&'static str]) -> Step {
    Step { name, program: "cargo", arguments: arguments.to_vec() }
}

/// Entry.
pub fn run(arguments: &[String]) -> Result<()> {
    let (mut unit, mut all, mut install_only) = (false, false, false);
    for a in arguments {
        match a.as_str() {
            "--unit" => unit = true,
            "--all" => all = true,
            "--install" => install_only = true,
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            other => bail!("unknown argument {other}\n\n{HELP}"),
        }
    }
    let begin = Instant::now();
    if !unit {
        needs::install(all)?;
    }
    if install_only {
        return Ok(());
    }
    let mut steps = vec![
        cargo("lints", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        cargo("codegen is fresh", &["xtask", "codegen", "--check"]),
        cargo("docs are fresh", &["xtask", "docs", "--check"]),
        cargo("the house is tidy", &["xtask", "tidy"]),
        cargo("build", &["build", "--quiet", "--package", "milena-cli"]),
        cargo(
            "tests of the crates",
            &["test", "--quiet", "--no-fail-fast", "--workspace", "--exclude", "milena-compat"],
        ),
    ];
    if !unit {
        // each of these starts brokers and clients of its own: they wait more than they compute, so a few at once
        steps.push(cargo(
            "outside clients and tools",
            &["test", "--package", "milena-compat", "--", "--test-threads=5"],
        ));
    }
    let mut failed = Vec::new();
    let mut tests = Count::default();
    for (i, step) in steps.iter().enumerate() {
        println!("\n[{}/{}] {} (at {} s)", i + 1, steps.len(), step.name, begin.elapsed().as_secs());
        let started = Instant::now();
        let (passed, count) = execute(step, all)?;
        tests.passed += count.passed;
        tests.failed += count.failed;
        if !passed {
            failed.push(step.name);
        }
        let word = if passed { "passed" } else { "FAILED" };
        println!("[{}/{}] {}: {word} in {} s", i + 1, steps.len(), step.name, started.elapsed().as_secs());
    }
    let (steps, seconds) = (steps.len(), begin.elapsed().as_secs());
    let Count { passed, failed: wrong } = tests;
    ensure!(
        failed.is_empty(),
        "{} of {steps} steps and {wrong} of {} tests failed in {seconds} s: {}",
        failed.len(),
        passed + wrong,
        failed.join(", ")
    );
    println!("\nall {steps} steps and all {passed} tests passed in {seconds} s");
    Ok(())
}

/// Tests that ran.
#[derive(Default)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    /// Adds what a line like `test result: ok. 3 passed; 0 failed; ...` says; other lines say nothing.
    fn add(&mut self, line: &str) {
        let Some((_, rest)) = line.strip_prefix("test result: ").and_then(|l| l.split_once(". ")) else { return };
        let number = |word: &str| {
            rest.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
    }
}

/// Runs a step; whether it passed, and the tests in it.
fn execute(step: &Step, all: bool) -> Result<(bool, Count)> {
    let mut command = Command::new(step.program);
    command.args(&step.arguments).current_dir(repository()).env("MILENA_TEST_CACHE", needs::cache());
    if all {
        command.env("MILENA_TEST_ALL", "1");
    }
    let mut child = command
        .env("CARGO_TARGET_DIR", target())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", step.program))?;
    let mut count = Count::default();
    for line in BufReader::new(child.stdout.take().context("piped")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        count.add(&line);
    }
    Ok((child.wait()?.success(), count))
}

/// A target directory that outlives the checkout when `CI` is set; otherwise cargo's own choice.
fn target() -> PathBuf {
    if let Some(path) = std::env::var_os("CARGO_TARGET_DIR") {
        return path.into();
    }
    if std::env::var_os("CI").is_some() { needs::cache().join("target") } else { repository().join("target") }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn results_are_counted() {
        let mut count = Count::default();
        count.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        count.add("test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1s");
        count.add("test some::name ... ok");
        assert_eq!((count.passed, count.failed), (13, 2));
    }
}
