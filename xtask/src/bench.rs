//! `cargo xtask bench`: builds Milena for release, installs Apache Kafka, and hands both to the `bench/` program.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{needs, repository};

/// Entry: arguments go to the program.
pub fn run(arguments: &[String]) -> Result<()> {
    needs::kafka()?;
    cargo(&["build", "--release", "--package", "milena-cli", "--package", "milena-bench"])?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), Into::into).join("release");
    let status = Command::new(target.join("milena-bench"))
        .arg("--milena")
        .arg(target.join("milena"))
        .arg("--kafka")
        .arg(needs::cache().join("kafka").join(needs::KAFKA).join("libs"))
        .args(arguments)
        .status()
        .context("starting the bench")?;
    ensure!(status.success(), "the bench ended with {status}");
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let status = Command::new("cargo").args(arguments).current_dir(repository()).status().context("cargo")?;
    ensure!(status.success(), "cargo {} ended with {status}", arguments.join(" "));
    Ok(())
}
