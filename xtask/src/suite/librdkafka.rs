//! librdkafka's own tests, from the sources in the crate rdkafka-sys. Owns how the test program is built and asked, one process per number,
//! some at the same time; knows nothing of what a test does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Options;
use super::results::{Results, Run, State};
use super::server::Server;
use crate::{needs, repository};

/// The setting in which librdkafka's own runs take place, as far as one node can have it.
const SETTINGS: &[&str] = &["num.partitions=4", "auto.create.topics.enable=true"];
/// The other setting; the tests that ask for it skip themselves in the first one.
const NO_AUTOCREATE: &[&str] = &["num.partitions=4", "auto.create.topics.enable=false"];
const NO_AUTOCREATE_TESTS: &[&str] = &["0107", "0111"];
/// Makes the tests' helper that creates topics ask for at most one replica.
const ONE_REPLICA: &str = "/const char \\*\\*configs) {/{n;s/^        rd_kafka_t \\*rk;/        replication_factor = replication_factor > 1 ? 1 : \
    replication_factor; rd_kafka_t *rk;/}";
/// These load the machine so that others would run into their time limits; they come last, one at a time.
const HEAVY: &[&str] = &["0038", "0042", "0055"];

/// Runs one variant: `classic`, `consumer`, or `local`.
pub fn run(variant: &str, options: &Options) -> Result<()> {
    let suite = build()?;
    let run = Run { suite: "librdkafka", variant, against: options.against };
    let folder = run.folder();
    let server_folder = folder.join("server");
    let all = numbers(&suite)?;
    let numbers: Vec<String> = if options.tests.is_empty() {
        all.into_iter().collect()
    } else {
        options.tests.iter().map(|t| t.chars().take(4).collect()).collect()
    };
    let mut batch = Batch { suite: &suite, run: &run, options, variant, address: String::new(), scenario: "default" };
    if variant == "local" {
        return batch.execute(&numbers, options.jobs);
    }
    let (heavy, light): (Vec<String>, Vec<String>) = numbers.into_iter().partition(|n| HEAVY.contains(&n.as_str()));
    let (strict, light): (Vec<String>, Vec<String>) =
        light.into_iter().partition(|n| NO_AUTOCREATE_TESTS.contains(&n.as_str()));
    if !light.is_empty() || !heavy.is_empty() {
        let mut server = Server::start(options.against, &server_folder, SETTINGS)?;
        batch.address = server.address();
        batch.execute(&light, options.jobs)?;
        batch.execute(&heavy, 1)?;
        ensure!(server.lives(), "the server ended, see {}", server_folder.display());
    }
    if !strict.is_empty() {
        let server = Server::start(options.against, &server_folder, NO_AUTOCREATE)?;
        batch.address = server.address();
        batch.scenario = "noautocreate";
        batch.execute(&strict, options.jobs)?;
    }
    Ok(())
}

/// Tests that run against one server.
struct Batch<'a> {
    suite: &'a Path,
    run: &'a Run<'a>,
    options: &'a Options,
    variant: &'a str,
    address: String,
    scenario: &'static str,
}

impl Batch<'_> {
    fn execute(&self, numbers: &[String], jobs: usize) -> Result<()> {
        fs::create_dir_all(self.run.folder().join("logs"))?;
        let queue = Mutex::new(numbers.iter());
        let storing = Mutex::new(());
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs.max(1))
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        loop {
                            let Some(number) = queue.lock().expect("not poisoned").next() else { return Ok(()) };
                            let begin = Instant::now();
                            let results = self.test(number)?;
                            let _guard = storing.lock().expect("not poisoned");
                            self.run.store(&results)?;
                            for (name, (state, why)) in &results {
                                println!("{name:<45} {state:?} {} s {why}", begin.elapsed().as_secs());
                            }
                        }
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|w| w.join().expect("a worker does not panic"))
        })?;
        // many tests have limits of time that a loaded machine breaks: a failure counts if it comes back in quiet
        let failed: Vec<&String> = numbers
            .iter()
            .filter(|n| {
                self.run.load().iter().any(|(name, (s, _))| name.starts_with(n.as_str()) && *s == State::Failed)
            })
            .collect();
        for number in failed {
            println!("{number} once more, alone");
            let results = self.test(number)?;
            self.run.store(&results)?;
            for (name, (state, why)) in &results {
                println!("{name:<45} {state:?} {why}");
            }
        }
        Ok(())
    }

    /// Runs the tests of one number in a process of their own.
    fn test(&self, number: &str) -> Result<Results> {
        let log_path = self.run.folder().join("logs").join(format!("{number}.log"));
        let conf = self.run.folder().join("logs").join(format!("{number}.conf"));
        // the multiplier is that of librdkafka's own runs
        fs::write(
            &conf,
            format!(
                "bootstrap.servers={}\nbroker.address.family=v4\ntest.timeout.multiplier=2\ntest.topic.random=true\n",
                if self.address.is_empty() { "127.0.0.1:1" } else { &self.address }
            ),
        )?;
        let log = fs::File::create(&log_path)?;
        let mut command = Command::new(self.suite.join("tests/test-runner"));
        command
            .args(["-p1", "-K", if self.variant == "local" { "-l" } else { "-L" }])
            .current_dir(self.suite.join("tests"))
            .env("LD_LIBRARY_PATH", format!("{0}/src:{0}/src-cpp", self.suite.display()))
            .env("TESTS", number)
            .env("TEST_SCENARIO", self.scenario)
            .env("TEST_KAFKA_VERSION", needs::KAFKA)
            .env("RDKAFKA_TEST_CONF", &conf)
            .env("BROKERS", &self.address)
            .env("KAFKA_PATH", repository());
        if self.variant == "consumer" {
            command.env("TEST_CONSUMER_GROUP_PROTOCOL", "consumer");
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting librdkafka's tests")?;
        let begin = Instant::now();
        let mut end = None;
        while begin.elapsed() < self.options.timeout {
            end = child.try_wait()?;
            if end.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if end.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let output = String::from_utf8_lossy(&fs::read(&log_path)?).into_owned();
        let mut results = summary(&output, number);
        if end.is_none_or(|e| !e.success()) && results.values().all(|(s, _)| *s != State::Failed) {
            // it never came to its summary: what had begun and not ended is to blame
            let why = end.map_or_else(|| "ran too long".to_owned(), |e| format!("ended with {e}"));
            for name in unfinished(&output, number) {
                results.insert(name, (State::Failed, why.clone()));
            }
        }
        for (_, why) in results.values_mut().filter(|(s, _)| *s == State::Failed) {
            if let Some(words) = first_failure(&output) {
                *why = words;
            }
        }
        Ok(results)
    }
}

/// What the program says of the first thing that went wrong.
fn first_failure(output: &str) -> Option<String> {
    let plain = without_colours(output);
    let mut lines = plain.lines().skip_while(|l| !(l.starts_with("### Test") && l.contains("failed at")));
    let place = lines.next()?.split("failed at ").nth(1)?.split(" at ").next()?.to_owned();
    Some(format!("{place}: {}", lines.next().unwrap_or_default()).chars().take(200).collect())
}

/// The table that the program prints at its end, without colours: `| NAME | STATE | SECONDS | WHY`.
fn summary(output: &str, number: &str) -> Results {
    let plain = without_colours(output);
    let mut results = Results::new();
    for line in plain.lines() {
        let Some(line) = line.strip_prefix('|') else { continue };
        let fields: Vec<&str> = line.splitn(4, '|').map(str::trim).collect();
        let [name, state, _, why] = fields[..] else { continue };
        let state = match state {
            "PASSED" => State::Passed,
            "SKIPPED" => State::Skipped,
            "FAILED" | "RUNNING" => State::Failed,
            _ => continue,
        };
        // filtered out, for example a local test among the others: neither run nor skipped by itself
        if name.starts_with(number) && !(state == State::Skipped && (why.is_empty() || why.starts_with("Filtered"))) {
            results.insert(name.to_owned(), (state, why.chars().take(160).collect()));
        }
    }
    results
}

/// Tests of which the output tells the beginning only.
fn unfinished(output: &str, number: &str) -> BTreeSet<String> {
    let plain = without_colours(output);
    let names = |mark: &str| -> BTreeSet<String> {
        plain
            .lines()
            .filter(|l| l.contains(mark))
            .filter_map(|l| {
                let begin = l.find("Running test ").map(|i| i + 13).or_else(|| l.find("Test ").map(|i| i + 5));
                let name = l.get(begin?..)?.split([' ', ':']).next()?;
                name.starts_with(number).then(|| name.to_owned())
            })
            .collect()
    };
    let ended = &names("PASSED") | &names("SKIPPED");
    let begun = names("Running test ");
    let open = &begun - &ended;
    if open.is_empty() { BTreeSet::from([format!("{number}_?")]) } else { open }
}

fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain += before;
        rest = after.split_once('m').map_or("", |(_, r)| r);
    }
    plain + rest
}

/// The numbers of all tests that run by themselves.
fn numbers(suite: &Path) -> Result<BTreeSet<String>> {
    Ok(fs::read_dir(suite.join("tests"))?
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n.starts_with('0') && (n.ends_with(".c") || n.ends_with(".cpp")))
        .map(|n| n.chars().take(4).collect())
        .collect())
}

/// Builds the test program in the cache, once.
fn build() -> Result<PathBuf> {
    let source = source("rdkafka-sys-")?.join("librdkafka");
    needs::once("librdkafka-suite", &format!("{} one replica", source.display()), |path| {
        let shell = |words: &str| -> Result<()> {
            let status = Command::new("sh").args(["-c", words]).current_dir(path).status().context("sh")?;
            ensure!(status.success(), "{words} ended with {status}");
            Ok(())
        };
        shell(&format!("cp -r '{}'/. . && chmod -R u+w .", source.display()))?;
        // a few tests ask for three replicas, though none of them looks at the second: here is one node
        shell(&format!("sed -i '{ONE_REPLICA}' tests/test.c && grep -q 'replication_factor > 1' tests/test.c"))?;
        // (named like this, since configure takes every configure.* for a module of its own)
        shell("./configure >build.log && make -j2 libs >>build.log 2>&1")?;
        shell("make -j2 -C tests test-runner >>build.log 2>&1")
    })?;
    Ok(needs::cache().join("librdkafka-suite"))
}

/// Where cargo keeps the sources of a dependency.
pub fn source(prefix: &str) -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"), PathBuf::from);
    let registries = home.join("registry/src");
    for registry in fs::read_dir(&registries).with_context(|| format!("reading {}", registries.display()))?.flatten() {
        for package in fs::read_dir(registry.path())?.flatten() {
            let name = package.file_name();
            let rest = name.to_str().and_then(|n| n.strip_prefix(prefix));
            if rest.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit())) {
                return Ok(package.path());
            }
        }
    }
    anyhow::bail!("no {prefix}* below {}: run `cargo fetch`", registries.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_at_the_end_is_read() {
        let output = "TEST 2026 SUMMARY\n|\x1b[32m 0012_produce_consume        |     PASSED |   5.0s \x1b[0m|\n\
             |\x1b[31m 0012_other | FAILED | 1.0s \x1b[0m|\x1b[31m test_it():12: no\x1b[0m\n\
             |\x1b[36m 0012_local | SKIPPED | 0.0s \x1b[0m|\n| <MAIN> | PASSED | 6.0s |\n";
        let results = summary(output, "0012");
        assert_eq!(results.len(), 2);
        assert_eq!(results["0012_produce_consume"].0, State::Passed);
        assert_eq!(results["0012_other"], (State::Failed, "test_it():12: no".to_owned()));
    }

    #[test]
    fn what_never_ended_is_named() {
        let output = "[<MAIN>/0.0s] ================= Running test 0038_performance ===\nnoise\n";
        assert_eq!(unfinished(output, "0038"), BTreeSet::from(["0038_performance".to_owned()]));
    }
}
