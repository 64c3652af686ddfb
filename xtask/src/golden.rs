//! `cargo xtask golden`: the table of command lines, given to Kafka's tools and to ours. Owns the words of its command line; the table and
//! the comparison are in `crates/cli/tests/golden` and `golden.rs` beside it.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::repository;

const HELP: &str = "usage: cargo xtask golden [--record | --fill] [--milena | --kafka | --kafkas-tools] [--all] [FILE]...

Gives the command lines of crates/cli/tests/golden/*.txt to our tools and compares with what Kafka's own tools answered.
Without Apache Kafka at hand (KAFKA_ORACLE), only our tools on Milena are run. FILE: part of a file's name; others are left out.

  --milena         only our tools on Milena
  --kafka          only our tools on Apache Kafka
  --kafkas-tools   only Kafka's tools on Milena
  --all            every file in all three ways; otherwise Apache Kafka has its turn with a part of them each day
  --record         ask Kafka's tools on Apache Kafka again and write the answers down
  --fill           the same, for commands without an answer only

A new command line is a line `$ COMMAND` in a file of the table ($S: the broker, $T: an empty folder); then --fill.
At a file's head may stand `# broker: 3.3.1` (or `none`), `# tools: 3.3.1` and `# settings: key=value ...` for the broker.
What may differ stands in exceptions.txt with its reason.";

/// Entry.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut mode = None;
    let mut test = None;
    let mut all = false;
    let mut files = Vec::new();
    for argument in arguments {
        match argument.as_str() {
            "--record" => mode = Some("record"),
            "--fill" => mode = Some("fill"),
            "--milena" => test = Some("our_tools_on_milena"),
            "--kafka" => test = Some("our_tools_on_kafka"),
            "--kafkas-tools" => test = Some("kafkas_tools_on_milena"),
            "--all" => all = true,
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            other if other.starts_with('-') => bail!("unknown argument {other}\n\n{HELP}"),
            file => files.push(file),
        }
    }
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet", "--package", "milena-cli", "--test", "golden", "--"]);
    command.args(mode.map(|_| "kafkas_tools_are_recorded").or(test)).args(["--nocapture", "--test-threads=1"]);
    command.current_dir(repository());
    if let Some(mode) = mode {
        command.env("MILENA_GOLDEN", mode);
    }
    if !files.is_empty() {
        command.env("MILENA_GOLDEN_FILES", files.join(" "));
    }
    if all {
        command.env("MILENA_TEST_ALL", "1");
    }
    ensure!(command.status().context("starting cargo")?.success(), "the tools differ");
    Ok(())
}
