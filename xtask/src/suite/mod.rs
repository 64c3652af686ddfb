//! `cargo xtask suite`: the test suites of outside clients, against Milena or Apache Kafka, and the pages that compare the two. Owns the
//! arguments and the list of suites; each suite is a module that knows how it is fetched, built and run.

mod librdkafka;
mod python;
mod results;
mod rust_rdkafka;
mod server;

use anyhow::{Context as _, Result, bail};

use self::server::Kind;

const HELP: &str = "usage: cargo xtask suite SUITE [--against milena|kafka] [--variant V] [--jobs N] [--timeout SECONDS] [TEST...]
       cargo xtask suite report [SUITE...]

Runs a client's own tests. Outside parts lie in the cache of `cargo xtask test`, logs and results in its folder suites/. `report` writes
compat/suites/*.md from what was found, and fails when a test passes on Apache Kafka only.

suites and their variants:
  librdkafka     classic, consumer (the protocol of consumer groups), local (tests that need no broker)
  rust-rdkafka   the crate's integration tests
  kafka-python   2.2.21, 3.0.12 (its versions)

  --against      whom (default: milena, from MILENA_BIN or the debug build of this checkout)
  --variant      only this one (default: all)
  --jobs         tests at the same time, where the suite allows it (default: 4)
  --timeout      seconds per test process (default: 900)
  TEST           only these

MILENA_TEST_PORTS   FIRST-LAST: ports for the servers (default: any)";

/// What was asked for.
pub struct Options {
    pub against: Kind,
    pub jobs: usize,
    pub timeout: std::time::Duration,
    pub tests: Vec<String>,
}

/// A suite: its name, its variants, and how one variant is run.
type Suite = (&'static str, &'static [&'static str], fn(&str, &Options) -> Result<()>);

const SUITES: &[Suite] = &[
    ("librdkafka", &["classic", "consumer", "local"], librdkafka::run),
    ("rust-rdkafka", &["0.39"], rust_rdkafka::run),
    ("kafka-python", &["2.2.21", "3.0.12"], python::run),
];

/// Entry.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut words = arguments.iter();
    let Some(name) = words.next().filter(|n| !n.starts_with('-')) else {
        println!("{HELP}");
        return Ok(());
    };
    let mut options =
        Options { against: Kind::Milena, jobs: 4, timeout: std::time::Duration::from_secs(900), tests: Vec::new() };
    let mut variant = None;
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--against" => options.against = Kind::from_word(value()?)?,
            "--variant" => variant = Some(value()?.as_str()),
            "--jobs" => options.jobs = value()?.parse().context("--jobs is a number")?,
            "--timeout" => {
                options.timeout = std::time::Duration::from_secs(value()?.parse().context("--timeout is in seconds")?)
            }
            other if other.starts_with('-') => bail!("unknown argument {other}\n\n{HELP}"),
            test => options.tests.push(test.to_owned()),
        }
    }
    if name == "report" {
        let wanted = |suite: &&Suite| options.tests.is_empty() || options.tests.iter().any(|t| t == suite.0);
        return SUITES.iter().filter(wanted).try_for_each(|(suite, variants, _)| results::report(suite, variants));
    }
    let (_, variants, entry) =
        SUITES.iter().find(|(n, ..)| n == name).with_context(|| format!("no such suite: {name}\n\n{HELP}"))?;
    variants.iter().filter(|v| variant.is_none_or(|w| w == **v)).try_for_each(|v| entry(v, &options))
}
