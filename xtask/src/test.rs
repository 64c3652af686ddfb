//! `cargo xtask test`: installs what the tests need and runs them all. Owns the order of the steps; knows nothing of what a test does.

use std::path::PathBuf;
use std::process::Command;
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
        cargo("tests of the crates", &["test", "--quiet", "--workspace", "--exclude", "milena-compat"]),
    ];
    if !unit {
        // each of these starts brokers and clients of its own: more at once than cores only adds noise
        steps.push(cargo(
            "outside clients and tools",
            &["test", "--package", "milena-compat", "--", "--test-threads=3"],
        ));
    }
    let mut failed = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        println!("\n[{}/{}] {} (at {} s)", i + 1, steps.len(), step.name, begin.elapsed().as_secs());
        if !execute(step, all)? {
            failed.push(step.name);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    println!("\nall steps passed in {} s", begin.elapsed().as_secs());
    Ok(())
}

fn execute(step: &Step, all: bool) -> Result<bool> {
    let mut command = Command::new(step.program);
    command.args(&step.arguments).current_dir(repository()).env("MILENA_TEST_CACHE", needs::cache());
    if all {
        command.env("MILENA_TEST_ALL", "1");
    }
    let status =
        command.env("CARGO_TARGET_DIR", target()).status().with_context(|| format!("starting {}", step.program))?;
    Ok(status.success())
}

/// A target directory that outlives the checkout when `CI` is set; otherwise cargo's own choice.
fn target() -> PathBuf {
    if let Some(path) = std::env::var_os("CARGO_TARGET_DIR") {
        return path.into();
    }
    if std::env::var_os("CI").is_some() { needs::cache().join("target") } else { repository().join("target") }
}
