//! What the tests need from outside: clients of many ages, Kafka's own tools. Owns where each comes from (pip, npm, Maven, apt) and where it
//! lies; installs a part once and again when its recipe changes. Called by `test` and `bench`; knows nothing of what they do with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::repository;

/// Versions of kafka-python, each in an environment of its own.
const KAFKA_PYTHON: &[&str] = &["1.4.7", "2.0.2", "2.2.21", "3.0.12"];
const PYTHON_CODECS: &[&str] =
    &["python-snappy==0.7.3", "lz4==4.4.5", "zstandard==0.25.0", "crc32c==2.9.post0", "setuptools==65.5.0"];
const AIOKAFKA: &[&str] = &["aiokafka==0.12.0", "cramjam==2.14.0"];
/// Versions of confluent-kafka, whose wheels bundle librdkafka, and the Python they were built for.
const CONFLUENT_KAFKA: &[(&str, &str)] = &[
    ("1.0.0", "37"),
    ("1.3.0", "37"),
    ("1.5.0", "37"),
    ("1.7.0", "37"),
    ("1.9.2", "37"),
    ("2.0.2", "37"),
    ("2.5.0", "37"),
    ("2.16.0", "38"),
];
const WHEEL_PLATFORMS: &[&str] = &[
    "manylinux1_x86_64",
    "manylinux2010_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux_2_28_x86_64",
];
const NODE: &[&str] = &["kafkajs@2.2.4", "@platformatic/kafka@2.12.1"];
/// Versions of Java's kafka-clients.
const KAFKA_CLIENTS: &[&str] = &["2.1.1", "2.8.2", "3.3.1", "3.9.1", "4.3.1"];
/// Apache Kafka itself, for its tools and for comparison.
pub const KAFKA: &str = "4.3.1";
const KAFKA_BEFORE_4: &str = "3.9.1";

/// Where everything is installed: `MILENA_TEST_CACHE`, else `~/.cache/milena-tests`. Outside the checkout, so that a new one finds it.
pub fn cache() -> PathBuf {
    std::env::var_os("MILENA_TEST_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache/milena-tests"),
        PathBuf::from,
    )
}

/// Installs what is missing for the tests.
pub fn install(everything: bool) -> Result<()> {
    fs::create_dir_all(cache()).with_context(|| format!("creating {}", cache().display()))?;
    debian_packages(&[
        ("kcat", "kcat"),
        ("java", "default-jdk-headless"),
        ("mvn", "maven"),
        ("node", "nodejs"),
        ("npm", "npm"),
    ])?;
    for version in KAFKA_PYTHON {
        let own = format!("kafka-python=={version}");
        let packages: Vec<&str> = std::iter::once(own.as_str()).chain(PYTHON_CODECS.iter().copied()).collect();
        python(&format!("kafka-python-{version}"), &packages)?;
    }
    python("aiokafka", AIOKAFKA)?;
    for (version, python) in CONFLUENT_KAFKA {
        wheel(version, python)?;
    }
    node("node", NODE, &[])?;
    if everything {
        confluent_javascript()?;
    }
    for version in KAFKA_CLIENTS {
        let clients = format!("org.apache.kafka:kafka-clients:{version}");
        maven(&format!("java/{version}"), &[&clients, "org.slf4j:slf4j-nop:1.7.36"])?;
    }
    java_drivers()?;
    if everything {
        kafka_before_4()?;
    }
    kafka()
}

/// The last Apache Kafka before 4.0, whose directories are taken over too.
fn kafka_before_4() -> Result<()> {
    let own = ["kafka_2.13", "kafka-tools"].map(|a| format!("org.apache.kafka:{a}:{KAFKA_BEFORE_4}"));
    let others = [
        "org.slf4j:slf4j-reload4j:1.7.36",
        "io.dropwizard.metrics:metrics-core:4.1.12.1",
        "org.xerial.snappy:snappy-java:1.1.10.5",
    ];
    let all: Vec<&str> = own.iter().map(String::as_str).chain(others).collect();
    maven(&format!("kafka/{KAFKA_BEFORE_4}"), &all)
}

/// Installs Apache Kafka of the version that everything is compared with.
pub fn kafka() -> Result<()> {
    let own: Vec<String> =
        ["kafka_2.13", "kafka-tools", "kafka-shell"].iter().map(|a| format!("org.apache.kafka:{a}:{KAFKA}")).collect();
    let logging =
        ["log4j-slf4j-impl", "log4j-core", "log4j-1.2-api"].map(|a| format!("org.apache.logging.log4j:{a}:2.24.3"));
    let all: Vec<&str> = own.iter().chain(&logging).map(String::as_str).collect();
    maven(&format!("kafka/{KAFKA}"), &all)
}

/// Does `work` in an empty folder of the cache unless it was done with the same recipe before.
pub fn once(folder: &str, recipe: &str, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let path = cache().join(folder);
    let stamp = path.join(".installed");
    if fs::read_to_string(&stamp).is_ok_and(|s| s == recipe) {
        return Ok(());
    }
    println!("installing {folder}");
    if path.exists() {
        fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    fs::create_dir_all(&path)?;
    work(&path).with_context(|| format!("installing {folder}"))?;
    fs::write(&stamp, recipe)?;
    Ok(())
}

fn debian_packages(programs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    apt(&missing)
}

fn apt(packages: &[&str]) -> Result<()> {
    println!("installing {}", packages.join(", "));
    let advice = || format!("install these by hand and try again: {}", packages.join(" "));
    run(Command::new("apt-get").args(["update", "-qq"])).with_context(advice)?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
    .with_context(advice)
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(program).is_file()))
}

pub fn python(folder: &str, packages: &[&str]) -> Result<()> {
    once(folder, &packages.join(" "), |path| {
        run(Command::new("python3").args(["-m", "venv"]).arg(path))?;
        run(Command::new(path.join("bin/python"))
            .args(["-m", "pip", "install", "-q", "--disable-pip-version-check"])
            .args(packages))
    })
}

/// A confluent-kafka wheel, unpacked but not installed: only the library inside is used.
fn wheel(version: &str, python: &str) -> Result<()> {
    once(&format!("librdkafka-{version}"), &format!("{version} {python}"), |path| {
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "download",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--python-version",
            python,
        ]);
        for platform in WHEEL_PLATFORMS {
            pip.args(["--platform", platform]);
        }
        run(pip.arg(format!("confluent-kafka=={version}")).arg("-d").arg(path))?;
        for file in
            fs::read_dir(path)?.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "whl"))
        {
            run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&file).arg(path))?;
            fs::remove_file(&file)?;
        }
        Ok(())
    })
}

fn node(folder: &str, packages: &[&str], flags: &[&str]) -> Result<()> {
    once(folder, &packages.join(" "), |path| {
        fs::write(path.join("package.json"), "{\"private\": true}\n")?;
        run(Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund"])
            .args(flags)
            .args(packages)
            .env("CKJS_LINKING", "dynamic")
            .current_dir(path))
    })?;
    // node looks packages up from where the script lies
    let drivers = repository().join("compat/clients/node");
    for file in fs::read_dir(&drivers).with_context(|| format!("reading {}", drivers.display()))?.flatten() {
        fs::copy(file.path(), cache().join(folder).join(file.file_name()))?;
    }
    Ok(())
}

/// It has no prebuilt part in the registry: its librdkafka is compiled, for a minute or two, with what Debian has of its dependencies.
fn confluent_javascript() -> Result<()> {
    let libraries = ["zlib1g-dev", "libssl-dev", "libzstd-dev", "libsasl2-dev", "libcurl4-openssl-dev", "pkg-config"];
    if !Path::new("/usr/include/curl").exists() && !Path::new("/usr/include/x86_64-linux-gnu/curl").exists() {
        apt(&libraries)?;
    }
    let headers = node_headers()?;
    node(
        "node-confluent",
        &["@confluentinc/kafka-javascript@1.10.1"],
        &["--build-from-source=@confluentinc/kafka-javascript", &headers],
    )
}

/// The flag that keeps node-gyp from downloading headers that came with node.
fn node_headers() -> Result<String> {
    let out = Command::new("node")
        .args(["-p", "require('path').resolve(process.execPath, '../..')"])
        .output()
        .context("node")?;
    Ok(format!("--nodedir={}", String::from_utf8(out.stdout)?.trim()))
}

fn maven(folder: &str, coordinates: &[&str]) -> Result<()> {
    once(folder, &coordinates.join(" "), |path| {
        let mut dependencies = String::new();
        for c in coordinates {
            let parts: Vec<&str> = c.split(':').collect();
            let [group, artifact, version] = parts[..] else { bail!("not group:artifact:version: {c}") };
            dependencies += &format!(
                "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>\n"
            );
        }
        fs::write(
            path.join("pom.xml"),
            format!(
                "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\n\
                 <groupId>milena</groupId><artifactId>tests</artifactId><version>1</version><packaging>pom</packaging>\n\
                 <dependencies>\n{dependencies}</dependencies></project>\n"
            ),
        )?;
        run(Command::new("mvn")
            .args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"])
            .current_dir(path))
    })
}

/// The drivers of Java clients, compiled against the oldest that has what they use.
fn java_drivers() -> Result<()> {
    java_driver("java/classes", "Driver.java", KAFKA_CLIENTS.first().context("a version")?)?;
    java_driver("java/transactions", "Transactions.java", "3.3.1")
}

fn java_driver(folder: &str, source: &str, version: &str) -> Result<()> {
    let source = repository().join("compat/clients/java").join(source);
    let text = fs::read_to_string(&source).with_context(|| format!("reading {}", source.display()))?;
    once(folder, &text, |path| {
        let libraries = format!("{}/*", cache().join("java").join(version).join("libs").display());
        run(Command::new("javac").args(["-nowarn", "-cp", &libraries, "-d"]).arg(path).arg(&source))
    })
}

fn run(command: &mut Command) -> Result<()> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("starting {:?}", command.get_program()))?;
    ensure!(
        out.status.success(),
        "{command:?}: {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}
