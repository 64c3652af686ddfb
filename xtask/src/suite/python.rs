//! The integration tests of kafka-python, from its source packages. Owns how these are fetched and pointed at a server that already runs;
//! tests that start brokers of their own cannot run and fail on every server. aiokafka's packages ship no tests.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::Options;
use super::results::{Results, Run, State};
use super::server::Server;
use crate::needs;

/// The setting of the brokers that these tests start.
const SETTINGS: &[&str] = &["num.partitions=4", "group.initial.rebalance.delay.ms=0"];
const PYTEST: &[&str] = &["pytest==8.3.4", "pytest-mock==3.14.0", "pytest-timeout==2.3.1", "py==1.11.0"];
const CODECS: &[&str] =
    &["python-snappy==0.7.3", "lz4==4.4.5", "zstandard==0.25.0", "crc32c==2.9.post0", "xxhash==3.6.0"];
/// What kafka-python's tests import and its package leaves out: a service that somebody else runs.
const SERVICE: &str = "class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port
    def open(self): pass
    def start(self): pass
    def close(self): pass
    def stop(self): pass
    def dump_logs(self): pass
    def wait_for(self, *args, **kwargs): return True
class SpawnedService:
    def __init__(self, *args, **kwargs):
        raise RuntimeError('brokers are not started here')
def get_open_port():
    raise RuntimeError('brokers are not started here')
";

/// kafka-python of this version.
pub fn run(version: &str, options: &Options) -> Result<()> {
    let folder = format!("suite-kafka-python-{version}");
    install(&folder, "kafka-python", version, CODECS, |sources| {
        for file in ["__init__.py", "conftest.py"] {
            let path = sources.join("test").join(file);
            if !path.exists() {
                fs::write(path, "")?;
            }
        }
        let service = sources.join("test/service.py");
        if !service.exists() {
            fs::write(service, SERVICE)?;
        }
        Ok(())
    })?;
    let run = Run { suite: "kafka-python", variant: version, against: options.against };
    let server = Server::start(options.against, &run.folder().join("server"), SETTINGS)?;
    // the client asks what the broker can do; this is the newest that it knows by name
    let kafka = if version.starts_with("3.") { "4.3.0" } else { "4.0.0" };
    let environment = [
        ("KAFKA_URI", format!("kafka://{}", server.address())),
        ("KAFKA_VERSION", kafka.to_owned()),
        ("KAFKA_ROOT", "/".to_owned()),
    ];
    pytest(&run, &folder, "test/integration", &environment, options)
}

fn install(
    folder: &str,
    package: &str,
    version: &str,
    more: &[&str],
    prepare: impl Fn(&Path) -> Result<()>,
) -> Result<()> {
    let own = format!("{package}=={version}");
    let packages: Vec<&str> =
        std::iter::once(own.as_str()).chain(PYTEST.iter().copied()).chain(more.iter().copied()).collect();
    needs::python(folder, &packages)?;
    let sources = needs::cache().join(folder).join("sources");
    if sources.exists() {
        return Ok(());
    }
    let shell = format!(
        "mkdir sources.tmp && cd sources.tmp && ../bin/python -m pip download -q --no-deps --no-binary {package} {own} \
         && tar xzf *.tar.gz --strip-components=1"
    );
    let path = needs::cache().join(folder);
    let status = Command::new("sh").args(["-c", &shell]).current_dir(&path).status().context("sh")?;
    ensure!(status.success(), "fetching the sources of {own} ended with {status}");
    // the tests are to run against the installed package, not what lies beside them
    let beside = path.join("sources.tmp").join(package.trim_end_matches("-python"));
    if beside.exists() {
        fs::remove_dir_all(beside)?;
    }
    prepare(&path.join("sources.tmp"))?;
    fs::rename(path.join("sources.tmp"), sources)?;
    Ok(())
}

fn pytest(run: &Run<'_>, folder: &str, tests: &str, environment: &[(&str, String)], options: &Options) -> Result<()> {
    let home = needs::cache().join(folder);
    let mut command = Command::new(home.join("bin/python"));
    command
        .args(["-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", "--timeout=180", tests])
        .current_dir(home.join("sources"))
        .stdin(Stdio::null());
    for (name, value) in environment {
        command.env(name, value);
    }
    if !options.tests.is_empty() {
        command.args(["-k", &options.tests.join(" or ")]);
    }
    let out = command.output().context("pytest")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let log = run.folder().join("tests.log");
    fs::write(&log, &text)?;
    let results = results(&text);
    ensure!(!results.is_empty(), "no test ran, see {}", log.display());
    for (name, (state, _)) in &results {
        println!("{name:<100} {state:?}");
    }
    run.store(&results)
}

/// From lines like `test/a.py::NAME PASSED [ 3%]`; an error in setting up or tearing down is a failure.
fn results(text: &str) -> Results {
    let mut results = Results::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(' ').filter(|(n, _)| n.contains("::")) else { continue };
        let state = match rest.split_whitespace().next() {
            Some("PASSED" | "XPASS") => State::Passed,
            Some("FAILED" | "ERROR") => State::Failed,
            Some("SKIPPED" | "XFAIL") => State::Skipped,
            _ => continue,
        };
        let old = results.insert(name.to_owned(), (state, String::new()));
        if old.is_some_and(|(s, _)| s == State::Failed) {
            results.insert(name.to_owned(), (State::Failed, String::new()));
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_at_the_end_of_a_test_counts() {
        let results = results(
            "test/a.py::one PASSED [ 1%]\ntest/a.py::one ERROR [ 1%]\ntest/a.py::two SKIPPED (why) [ 2%]\nnoise\n",
        );
        assert_eq!(results["test/a.py::one"].0, State::Failed);
        assert_eq!(results["test/a.py::two"].0, State::Skipped);
    }
}
