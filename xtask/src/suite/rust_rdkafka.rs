//! The integration tests of the crate rdkafka (rust-rdkafka). Owns how they are copied out of cargo's registry, built and run; they find
//! their broker through `KAFKA_HOST`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::results::{Results, Run, State};
use super::server::Server;
use super::{Options, librdkafka};
use crate::needs;

/// Their broker has three partitions by default.
const SETTINGS: &[&str] = &["num.partitions=3"];

/// Runs them.
pub fn run(variant: &str, options: &Options) -> Result<()> {
    let run = Run { suite: "rust-rdkafka", variant, against: options.against };
    let source = librdkafka::source("rdkafka-")?;
    needs::once("rust-rdkafka", &source.display().to_string(), |path| {
        let status = Command::new("sh")
            .args(["-c", &format!("cp -r '{}'/. . && chmod -R u+w .", source.display())])
            .current_dir(path)
            .status()?;
        ensure!(status.success(), "copying {} ended with {status}", source.display());
        // it is no member of a workspace above the cache
        let manifest = path.join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest)?;
        std::fs::write(manifest, text + "\n[workspace]\n")?;
        Ok(())
    })?;
    let server = Server::start(options.against, &run.folder().join("server"), SETTINGS)?;
    let out = Command::new("cargo")
        .args(["test", "--tests", "--no-fail-fast", "--"])
        .args(["--test-threads", &options.jobs.to_string()])
        .args(&options.tests)
        .current_dir(needs::cache().join("rust-rdkafka"))
        .env("CARGO_TARGET_DIR", needs::cache().join("rust-rdkafka/target"))
        .env("KAFKA_HOST", server.address())
        .env("KAFKA_VERSION", needs::KAFKA)
        .output()
        .context("cargo test of rust-rdkafka")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    std::fs::write(run.folder().join("tests.log"), &text)?;
    let results = results(&text);
    ensure!(!results.is_empty(), "no test ran, see {}", run.folder().join("tests.log").display());
    for (name, (state, _)) in &results {
        println!("{name:<60} {state:?}");
    }
    run.store(&results)
}

/// From lines like `test NAME ... ok`.
fn results(text: &str) -> Results {
    text.lines()
        .filter_map(|line| {
            let (name, word) = line.strip_prefix("test ")?.split_once(" ... ")?;
            let state = match word.split_whitespace().next()? {
                "ok" => State::Passed,
                "FAILED" => State::Failed,
                "ignored" => State::Skipped,
                _ => return None,
            };
            Some((name.to_owned(), (state, String::new())))
        })
        .collect()
}
