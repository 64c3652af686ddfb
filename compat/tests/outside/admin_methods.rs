//! Every method of Java's Admin, with good and bad arguments: the same result or the same exception from Milena and from Apache Kafka.
//!
//! Two brokers are made from the same properties, one program calls both, and the lines that it prints must be the same.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use milena_compat::broker::repository;
use milena_compat::clients::cache;
use milena_compat::installation::{Installation, Program, Voters};

/// Nothing that waits, and no quota that slows the tests.
const SETTINGS: &[&str] =
    &["auto.create.topics.enable=false", "group.consumer.assignment.interval.ms=0", "log.retention.ms=-1"];

/// Lines that may differ, by how they begin, and why.
const EXCUSED: &[(&str, &str)] = &[];

/// What the program prints about this one's broker.
fn lines(program: Program, version: &str) -> Result<Vec<String>> {
    let mut installation = Installation::format("4.3.1", Voters::Static, SETTINGS)?;
    installation.start(program)?;
    let folder = installation.properties().parent().context("a folder")?.display().to_string();
    let libraries = format!("{}/*", cache().join("java").join(version).join("libs").display());
    let out = Command::new("java")
        .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", &libraries])
        .arg(repository().join("compat/clients/java/AdminMethods.java"))
        .args([&installation.address(), &folder])
        .stdin(Stdio::null())
        .output()?;
    ensure!(out.status.success(), "the program ended with {}:\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?.lines().map(str::to_owned).collect())
}

fn compare(version: &'static str) -> Result<()> {
    let kafka = std::thread::spawn(move || lines(Program::Kafka("4.3.1"), version));
    let milena = lines(Program::Milena, version)?;
    let kafka = kafka.join().map_err(|_| anyhow::anyhow!("Kafka's part panicked"))??;
    let is_excused = |line: &str| EXCUSED.iter().any(|(begin, _)| line.starts_with(begin));
    let mut differences = Vec::new();
    for (k, m) in kafka.iter().zip(&milena) {
        if k != m && !is_excused(k) {
            differences.push(format!("kafka:  {k}\nmilena: {m}\n"));
        }
    }
    ensure!(kafka.len() == milena.len(), "{} lines of Kafka, {} of Milena", kafka.len(), milena.len());
    ensure!(kafka.len() > 100, "only {} calls", kafka.len());
    ensure!(
        differences.is_empty(),
        "kafka-clients {version}: {} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
    println!("kafka-clients {version}: {} calls, each the same", kafka.len());
    Ok(())
}

#[test]
fn every_method_of_the_admin_4_3() -> Result<()> {
    compare("4.3.1")
}

#[test]
fn every_method_of_the_admin_3_9() -> Result<()> {
    compare("3.9.1")
}
