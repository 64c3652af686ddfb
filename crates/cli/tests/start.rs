//! How servers are started, what stops the start, and how they are found: the program as operators meet it.
#![allow(clippy::disallowed_methods, reason = "tests start processes and write files")]

mod support;

use std::path::Path;

use support::{Broker, Ran, binary, run};

const GOOD: &str = "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@localhost:9093\nlisteners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\ncontroller.listener.names=CONTROLLER\n";

fn bin() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bin")
}

/// Starts a server with a properties text and more arguments.
fn start(properties: &str, more: &str) -> Ran {
    let nobody = Broker::none();
    std::fs::write(Path::new(nobody.scratch()).join("server.properties"), properties).expect("a file");
    run(&format!("kafka-server-start.sh $T/server.properties {more}"), &bin(), &nobody)
}

#[test]
fn a_bad_value_stops_the_start_and_is_named() {
    for (more, words) in [
        (
            "--override num.io.threads=many",
            "Invalid value many for configuration num.io.threads: Not a number of type INT",
        ),
        (
            "--override num.network.threads=0",
            "Invalid value 0 for configuration num.network.threads: Value must be at least 1",
        ),
        ("--override num.io.threads", "Missing value for key num.io.threads"),
        ("more.properties", "Found non argument parameters: more.properties"),
        ("--nonsense", "nonsense is not a recognized option"),
    ] {
        let ran = start(GOOD, more);
        assert_eq!(ran.code, 1, "{more}");
        assert!(ran.stderr.contains("ERROR Exiting Kafka due to fatal exception (kafka.Kafka$)"), "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{more}: {}", ran.stderr);
    }
    let ran = start("zookeeper.connect=localhost:2181\nbroker.id=0\n", "");
    assert!(ran.code == 1 && ran.stderr.contains("ZooKeeper mode") && ran.stderr.contains("coming"), "{}", ran.stderr);
    let ran = run("kafka-server-start.sh /no/such.properties", &bin(), &Broker::none());
    assert!(
        ran.code == 1 && ran.stderr.ends_with("java.nio.file.NoSuchFileException: /no/such.properties\n"),
        "{}",
        ran.stderr
    );
    let ran = run("kafka-server-start.sh", &bin(), &Broker::none());
    assert_eq!((ran.code, ran.stdout.starts_with("USAGE: ")), (1, true));
}

/// Those that do not know `--version` in Apache Kafka either.
const WITHOUT_VERSION: [&str; 9] = [
    "kafka-cluster.sh",
    "kafka-e2e-latency.sh",
    "kafka-features.sh",
    "kafka-metadata-quorum.sh",
    "kafka-metadata-shell.sh",
    "kafka-producer-perf-test.sh",
    "kafka-run-class.sh",
    "kafka-verifiable-consumer.sh",
    "kafka-verifiable-producer.sh",
];

#[test]
fn every_command_answers_for_help_and_version() {
    let nobody = Broker::none();
    let mut count = 0;
    for entry in std::fs::read_dir(bin()).expect("bin/").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("kafka-") {
            continue;
        }
        count += 1;
        if !WITHOUT_VERSION.contains(&&*name) {
            let ran = run(&format!("{name} --version"), &bin(), &nobody);
            let version = ran.stdout.lines().next().and_then(|line| line.split(' ').next());
            assert!(version == Some("4.3.1") && ran.code == 0, "{name}: {ran:?}");
        }
        let ran = run(&format!("{name} --help"), &bin(), &nobody);
        assert!((ran.stdout + &ran.stderr).len() >= 100, "{name}");
    }
    assert!(count >= 8, "{count}");
    let ran = run("milena-run.sh && milena-run.sh --version && milena-run.sh dev --help", &bin(), &nobody);
    assert!(ran.code == 0 && ran.stdout.contains("milena dev") && ran.stdout.contains("Apache Kafka 4.3.1"), "{ran:?}");
}

#[test]
fn scripts_work_through_links_and_from_an_installation() {
    let nobody = Broker::none();
    let copy = format!(
        "unset MILENA_BIN; mkdir -p $T/opt/bin $T/usr; cp {0}/*.sh $T/opt/bin; cp {1} $T/opt/milena; ln -s ../opt/bin/kafka-topics.sh $T/usr/topics; ln -s topics $T/usr/again; $T/usr/again --version",
        bin().display(),
        binary().display()
    );
    let ran = run(&copy, &bin(), &nobody);
    assert!(ran.code == 0 && ran.stdout == "4.3.1\n", "{ran:?}");
    let ran = run("unset MILENA_BIN CARGO_TARGET_DIR; rm $T/opt/milena; $T/usr/again --version", &bin(), &nobody);
    assert!(
        ran.code == 1 && ran.stderr.contains("cargo build --release") && ran.stderr.contains("MILENA_BIN"),
        "{ran:?}"
    );
    // by its own name
    let ran = run(
        &format!("ln -s {} $T/kafka-storage.sh; $T/kafka-storage.sh random-uuid | wc -c", binary().display()),
        &bin(),
        &nobody,
    );
    assert_eq!(ran.stdout.trim(), "23");
}
