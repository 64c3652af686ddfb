//! Java's own classes: kafka-clients of both ends of the range, and the jars of a whole Kafka for
//! stored records. Together they know every message at every version, and the test checks that they do.
//!
//! `cargo xtask test` installs them. Without them (or without a JDK) the tests say so and pass, unless `MILENA_REQUIRE_JAVA` is set.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Sample, VALUES, samples};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/codec/Reserialize.java");

/// A folder of jars in the test cache.
fn jars(folder: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("MILENA_TEST_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache/milena-tests"))
    })?;
    let libs = cache.join(folder).join("libs");
    let have = libs.is_dir() && Command::new("javac").arg("-version").output().is_ok_and(|o| o.status.success());
    assert!(have || std::env::var_os("MILENA_REQUIRE_JAVA").is_none(), "{} or javac is missing", libs.display());
    if !have {
        eprintln!("skipped: {} or javac is missing; cargo xtask test installs them", libs.display());
    }
    have.then_some(libs)
}

enum Answer {
    Bytes(Vec<u8>),
    NoClass,
    NoVersion,
    Failed(String),
}

fn reserialize(libs: &Path, samples: &[Sample]) -> Vec<Answer> {
    let classes = tempfile::tempdir().unwrap();
    let class_path = format!("{}:{}/*", classes.path().display(), libs.display());
    let compiled = Command::new("javac")
        .args(["-nowarn", "-cp", &class_path, "-d"])
        .arg(classes.path())
        .arg(PROGRAM)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let mut java = Command::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &class_path, "Reserialize"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = Vec::new();
    for (name, version, wire) in samples {
        input.extend_from_slice(&(name.len() as u16).to_be_bytes());
        input.extend_from_slice(name.as_bytes());
        input.extend_from_slice(&version.to_be_bytes());
        input.extend_from_slice(&(wire.plain.len() as u32).to_be_bytes());
        input.extend_from_slice(&wire.plain);
    }
    let mut stdin = java.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let mut output = Vec::new();
    java.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    writer.join().unwrap();
    assert!(java.wait().unwrap().success());
    let mut rest = &output[..];
    let mut answers = Vec::new();
    while let [status, a, b, c, d, tail @ ..] = rest {
        let (bytes, next) = tail.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        answers.push(match status {
            0 => Answer::Bytes(bytes.to_vec()),
            1 => Answer::NoClass,
            2 => Answer::NoVersion,
            _ => Answer::Failed(String::from_utf8_lossy(bytes).into_owned()),
        });
        rest = next;
    }
    assert_eq!(answers.len(), samples.len());
    answers
}

/// Compares every sample that this Kafka knows; a class it `may_lack` is skipped, as is a version it does not have.
fn compare(libs: &Path, samples: &[Sample], may_lack: &dyn Fn(&str) -> bool) -> BTreeSet<(String, i16)> {
    let mut failures = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    let mut compared = BTreeSet::new();
    for ((name, version, wire), answer) in samples.iter().zip(reserialize(libs, samples)) {
        match answer {
            Answer::Bytes(bytes) if bytes == wire.plain => drop(compared.insert((name.clone(), *version))),
            Answer::Bytes(_) => drop(failures.insert((name, version), "other bytes".to_string())),
            Answer::Failed(reason) => drop(failures.insert((name, version), reason)),
            Answer::NoClass if may_lack(name) => {}
            Answer::NoClass => drop(unknown.insert(name)),
            Answer::NoVersion => {}
        }
    }
    assert!(failures.is_empty(), "{}: {failures:#?}", libs.display());
    assert!(unknown.is_empty(), "classes that {} should have: {unknown:?}", libs.display());
    compared
}

/// Requests between brokers of a ZooKeeper cluster: not in Kafka 4.
const ZOOKEEPER_ERA: &[&str] = &["ControlledShutdown", "LeaderAndIsr", "StopReplica", "UpdateMetadata"];
/// Stored records: not in kafka-clients. The metadata and control records among them are "Record"s and markers.
const STORED: &[&str] = &["Record", "Key", "Value"];
/// APIs and control records that came after 3.3.
const LATER_THAN_3_3: &[&str] = &[
    "AddRaftVoter",
    "AssignReplicasToDirs",
    "ConsumerGroupDescribe",
    "ConsumerGroupHeartbeat",
    "ControlRecordTypeSchema",
    "ControllerRegistration",
    "DescribeTopicPartitions",
    "EndTxnMarker",
    "GetTelemetrySubscriptions",
    "ListConfigResources",
    "PushTelemetry",
    "RemoveRaftVoter",
    "Share",
    "StreamsGroup",
    "UpdateRaftVoter",
];

fn any(parts: &'static [&str]) -> impl Fn(&str) -> bool {
    move |name| parts.iter().any(|part| name.contains(part))
}

/// What no Kafka since 3.3 has a class for in these jars: 3.3's broker never wrote it.
const UNCHECKED: &[&str] = &["AccessControlRecord"];

#[test]
fn kafka_agrees_at_every_version() {
    let samples = samples(VALUES);
    let mut checked = BTreeSet::new();
    let mut all = true;
    let mut check = |folder: &str, may_lack: &dyn Fn(&str) -> bool| match jars(folder) {
        Some(libs) => checked.extend(compare(&libs, &samples, may_lack)),
        None => all = false,
    };
    check("java/3.3.1", &|name| any(LATER_THAN_3_3)(name) || any(STORED)(name));
    check("java/4.3.1", &|name| any(ZOOKEEPER_ERA)(name) || any(STORED)(name));
    check("kafka/4.3.1", &|name| any(ZOOKEEPER_ERA)(name) || UNCHECKED.contains(&name));
    if all {
        let known: BTreeSet<_> = samples.iter().map(|(name, version, _)| (name.clone(), *version)).collect();
        let left: Vec<_> = known.difference(&checked).filter(|(name, _)| !UNCHECKED.contains(&name.as_str())).collect();
        assert!(left.is_empty(), "checked against no Kafka: {left:?}");
    }
}
