//! Every outside client: how its driver is called, and what its interface can express.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::broker::repository;
use crate::records::Abilities;

/// A client under test.
pub struct Client {
    /// Name and version, as test output shows it.
    pub name: String,
    /// The command and its first arguments; `produce`, `consume` and theirs follow.
    command: Vec<String>,
    environment: Vec<(String, String)>,
    /// What it can express.
    pub abilities: Abilities,
    /// Codecs it can produce and consume.
    pub codecs: &'static [&'static str],
}

const ALL_CODECS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];
const BEFORE_ZSTD: &[&str] = &["none", "gzip", "snappy", "lz4"];

/// Where `cargo xtask test` installed the clients.
pub fn cache() -> PathBuf {
    std::env::var_os("MILENA_TEST_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/milena-tests"),
        PathBuf::from,
    )
}

fn driver(path: &str) -> String {
    repository().join("compat/clients").join(path).display().to_string()
}

impl Client {
    fn new(name: String, command: Vec<String>, abilities: Abilities, codecs: &'static [&'static str]) -> Client {
        Client { name, command, environment: Vec::new(), abilities, codecs }
    }

    /// kafka-python of this version.
    pub fn kafka_python(version: &str) -> Client {
        let python = cache().join(format!("kafka-python-{version}/bin/python")).display().to_string();
        // it refuses a header without a value; 1.4 does not know zstd
        let abilities = Abilities { null_header: false, ..Abilities::ALL };
        let codecs = if version.starts_with("1.") { BEFORE_ZSTD } else { ALL_CODECS };
        Client::new(
            format!("kafka-python {version}"),
            vec![python, driver("python/kafka_python.py")],
            abilities,
            codecs,
        )
    }

    /// aiokafka.
    pub fn aiokafka() -> Client {
        let python = cache().join("aiokafka/bin/python").display().to_string();
        Client::new("aiokafka".into(), vec![python, driver("python/aiokafka_driver.py")], Abilities::ALL, ALL_CODECS)
    }

    /// The librdkafka inside the confluent-kafka wheel of this version.
    pub fn librdkafka(version: &str) -> Result<Client> {
        let library = library(&cache().join(format!("librdkafka-{version}")))
            .with_context(|| format!("librdkafka {version}: run `cargo xtask test`"))?;
        let command = vec!["python3".into(), driver("librdkafka/driver.py"), library.display().to_string()];
        Ok(Client::new(format!("librdkafka {version}"), command, Abilities::ALL, ALL_CODECS))
    }

    /// Java kafka-clients of this version.
    pub fn java(version: &str) -> Client {
        let java = cache().join("java");
        let path = format!("{}:{}/*", java.join("classes").display(), java.join(version).join("libs").display());
        let command = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", &path, "Driver"]
            .map(String::from)
            .to_vec();
        Client::new(format!("kafka-clients {version}"), command, Abilities::ALL, ALL_CODECS)
    }

    /// kafkajs.
    pub fn kafkajs() -> Client {
        // its interface takes a map of headers, so an order over different names cannot be said, and only gzip is built in
        let abilities = Abilities { headers: false, null_header: false, ..Abilities::ALL };
        Client::node("kafkajs", "node", "kafkajs.js", abilities, &["none", "gzip"])
    }

    /// @platformatic/kafka.
    pub fn platformatic() -> Client {
        let abilities = Abilities { headers: false, null_header: false, empty_key: true, empty_value: true };
        Client::node("@platformatic/kafka", "node", "platformatic.mjs", abilities, &["none", "gzip"])
    }

    /// @confluentinc/kafka-javascript, on a librdkafka compiled at its installation (`cargo xtask test --all`).
    pub fn confluent_javascript() -> Client {
        // a map of headers, as kafkajs
        let abilities = Abilities { headers: false, null_header: false, empty_key: false, empty_value: false };
        Client::node("@confluentinc/kafka-javascript", "node-confluent", "confluent.js", abilities, ALL_CODECS)
    }

    /// The driver stands beside its packages, as node looks them up from there.
    fn node(name: &str, folder: &str, script: &str, abilities: Abilities, codecs: &'static [&'static str]) -> Client {
        let folder = cache().join(folder);
        let mut client =
            Client::new(name.into(), vec!["node".into(), folder.join(script).display().to_string()], abilities, codecs);
        client.environment.push(("NODE_NO_WARNINGS".into(), "1".into()));
        client
    }

    /// Produces the records of the file, once with each of the codecs.
    pub fn produce(&self, bootstrap: &str, topic: &str, codecs: &[&str], records: &Path) -> Result<()> {
        self.run(&["produce", bootstrap, topic, &codecs.join(","), &records.display().to_string()]).map(drop)
    }

    /// Consumes `count` records from the start of the topic as a new group; what the driver printed.
    pub fn consume(&self, bootstrap: &str, topic: &str, count: usize) -> Result<String> {
        self.run(&["consume", bootstrap, topic, &count.to_string()])
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let (program, first) = self.command.split_first().context("a command")?;
        let out = Command::new("timeout")
            .arg("120")
            .arg(program)
            .args(first)
            .args(arguments)
            .envs(self.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())))
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{}: starting {program}", self.name))?;
        if !out.status.success() {
            bail!("{} {}: {}\n{}", self.name, arguments.join(" "), out.status, String::from_utf8_lossy(&out.stderr));
        }
        Ok(String::from_utf8(out.stdout)?)
    }
}

fn library(folder: &Path) -> Result<PathBuf> {
    for place in ["confluent_kafka.libs", "confluent_kafka/.libs"] {
        let Ok(entries) = std::fs::read_dir(folder.join(place)) else { continue };
        for e in entries.flatten() {
            if e.file_name().to_string_lossy().starts_with("librdkafka") {
                return Ok(e.path());
            }
        }
    }
    bail!("no librdkafka below {}", folder.display())
}
