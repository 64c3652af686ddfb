//! The tools for data and files on a broker of our own: each says what it did, and the numbers agree with each other.
//!
//! What they say word for word is compared with Kafka's own tools elsewhere; here is what only a running broker and its files can show.
#![allow(clippy::disallowed_methods, reason = "tests read files and wait")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;

/// A broker with a folder that stays when it has stopped.
struct Server {
    folder: tempfile::TempDir,
    port: u16,
    metrics: u16,
    process: Option<Child>,
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let (port, controller, metrics) = (support::free_port(), support::free_port(), support::free_port());
        let properties = folder.path().join("server.properties");
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\nadvertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\ncontroller.quorum.voters=1@127.0.0.1:{controller}\nlog.dirs={}\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\ntransaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=1\ngroup.initial.rebalance.delay.ms=0\nmilena.metrics.listen=127.0.0.1:{metrics}\n",
            folder.path().join("data").display()
        );
        std::fs::write(&properties, text).expect("the properties");
        let path = properties.to_str().expect("a path");
        let formatted = milena(&["kafka-storage", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", path]);
        assert_eq!(formatted.code, 0, "{formatted:?}");
        // as old harnesses do it
        let process = Command::new(support::binary())
            .args(["kafka-run-class", "kafka.Kafka", path])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a broker");
        let server = Server { folder, port, metrics, process: Some(process) };
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the broker did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs a tool with the broker's address behind its other arguments.
    fn tool(&self, line: &str) -> Ran {
        let address = self.address();
        let mut args: Vec<&str> = line.split_whitespace().collect();
        args.extend(["--bootstrap-server", &address]);
        milena(&args)
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            process.wait().expect("ended");
        }
    }

    fn file(&self, name: &str) -> String {
        let path: PathBuf = self.folder.path().join("data").join(name);
        path.to_str().expect("a path").to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct Ran {
    stdout: String,
    stderr: String,
    code: i32,
}

fn milena(args: &[&str]) -> Ran {
    let output = Command::new(support::binary()).args(args).stdin(Stdio::null()).output().expect("a tool");
    Ran {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

#[track_caller]
fn fits(ran: &Ran, pattern: &str) {
    let regex = Regex::new(&format!("(?s)^{pattern}$")).expect("a pattern");
    assert!(ran.code == 0 && regex.is_match(&ran.stdout), "{pattern}\n{ran:?}");
}

#[test]
fn tools_work_on_a_broker_and_on_its_files() {
    let mut server = Server::start();
    fits(&server.tool("kafka-topics --create --topic perf --partitions 2"), "Created topic perf.\n");
    fits(
        &server.tool("kafka-producer-perf-test --topic perf --num-records 3000 --throughput -1 --record-size 100"),
        r"3000 records sent, \d+\.\d{6} records/sec \(\d+\.\d\d MB/sec\), \d+\.\d\d ms avg latency, \d+\.\d\d ms max latency, \d+ ms 50th, \d+ ms 95th, \d+ ms 99th, \d+ ms 99\.9th\.\n",
    );
    fits(
        &server.tool("kafka-producer-perf-test --topic perf --num-records 20 --throughput 100 --payload-monotonic --transaction-duration-ms 50"),
        "20 records sent, .*",
    );
    let read = server.tool("kafka-consumer-perf-test --topic perf --num-records 3020 --hide-header");
    fits(&read, r"[^,]+, [^,]+, 0\.\d{4}, \d+\.\d{4}, 3020, .*\n");
    fits(
        &server.tool("kafka-e2e-latency --topic latency --num-records 5 --producer-acks all --record-size 10"),
        "Topic \"latency\" does not exist. Will create topic with 1 partition\\(s\\) and replication factor = 1\n0\t[0-9.]+\nAvg latency: [0-9.]+ ms\nPercentiles: 50th = \\d+, 99th = \\d+, 99.9th = \\d+\n",
    );
    let produced = server.tool("kafka-verifiable-producer --topic events --max-messages 4 --repeating-keys 2");
    assert_eq!(produced.stdout.matches("producer_send_success").count(), 4, "{produced:?}");
    assert!(produced.stdout.contains("\"sent\":4,\"acked\":4,\"target_throughput\":-1"), "{produced:?}");
    for protocol in ["classic", "consumer"] {
        let consumed = server.tool(&format!(
            "kafka-verifiable-consumer --topic events --group-id {protocol} --group-protocol {protocol} --max-messages 4 --verbose"
        ));
        assert_eq!(consumed.stdout.matches("\"name\":\"record_data\"").count(), 4, "{consumed:?}");
        assert!(consumed.stdout.contains("\"name\":\"offsets_committed\""), "{consumed:?}");
    }
    // the groups' own records, by the formatter of their class
    let commits = server.tool("kafka-console-consumer --topic __consumer_offsets --from-beginning --timeout-ms 1500 --formatter org.apache.kafka.tools.consumer.OffsetsMessageFormatter");
    assert!(commits.stdout.contains("\"data\":{\"group\":\"classic\""), "{commits:?}");

    let reset =
        server.tool("kafka-streams-application-reset --application-id classic --input-topics events --to-latest");
    fits(
        &reset,
        r"Reset-offsets for input topics \[events\]\n.*Topic: events Partition: 0 Offset: 4\nDone\.\nDeleting inferred internal topics \[\]\nDone\.\n",
    );

    let url = format!("127.0.0.1:{}", server.metrics);
    let names = ["kafka-jmx", "--one-time", "--report-format", "properties", "--jmx-url", &url, "--object-name"];
    let led = milena(&[&names[..], &["kafka.server:type=ReplicaManager,name=LeaderCount"]].concat());
    fits(&led, r"time=\d+\nkafka\.server:type=ReplicaManager,name=LeaderCount:Value=\d+\n");
    let ends = milena(&[&names[..], &["kafka.log:type=Log,name=LogEndOffset,topic=events,*"]].concat());
    fits(&ends, r"time=\d+\nkafka\.log:type=Log,name=LogEndOffset,topic=events,partition=0:Value=4\n");

    server.stop();
    files_can_be_read(&server);
}

fn files_can_be_read(server: &Server) {
    let segment = "00000000000000000000.log";
    let dumped =
        milena(&["kafka-dump-log", "--print-data-log", "--files", &server.file(&format!("events-0/{segment}"))]);
    assert!(dumped.stderr.is_empty() && dumped.stdout.contains("isvalid: true"), "{dumped:?}");
    assert!(dumped.stdout.contains("| offset: 3 ") && dumped.stdout.contains(" key: 1 payload: 3\n"), "{dumped:?}");
    let indexes = ["index", "timeindex"].map(|kind| server.file(&format!("events-0/00000000000000000000.{kind}")));
    for file in indexes.iter().filter(|file| Path::new(file).exists()) {
        let checked = milena(&["kafka-dump-log", "--files", file]);
        assert!(checked.code == 0 && checked.stderr.is_empty(), "{checked:?}");
    }
    let states = server.file(&format!("__transaction_state-0/{segment}"));
    let states = milena(&["kafka-dump-log", "--transaction-log-decoder", "--files", &states]);
    assert!(
        states.stdout.contains("key: {\"type\":\"0\",\"data\":{\"transactionalId\":\"performance-producer-"),
        "{states:?}"
    );
    let groups = server.file(&format!("__consumer_offsets-0/{segment}"));
    let groups = milena(&["kafka-dump-log", "--offsets-decoder", "--files", &groups]);
    assert!(groups.stdout.contains("\"subscription\":{\"topics\":[\"events\"]"), "{groups:?}");
    let log = server.file(&format!("__cluster_metadata-0/{segment}"));
    let metadata = milena(&["kafka-dump-log", "--cluster-metadata-decoder", "--files", &log]);
    assert!(
        metadata.stdout.contains("payload: {\"type\":\"TOPIC_RECORD\",\"version\":0,\"data\":{\"name\":\"perf\","),
        "{metadata:?}"
    );
    let listed = milena(&["kafka-metadata-shell", "--snapshot", &log, "ls", "/image/topics/byName"]);
    assert_eq!(listed.stdout, "__consumer_offsets\n__transaction_state\nevents\nlatency\nperf\n", "{listed:?}");
    let partition = milena(&["kafka-metadata-shell", "--snapshot", &log, "cat", "/image/topics/byName/perf/1"]);
    fits(
        &partition,
        r"PartitionRegistration\(replicas=\[1\], directories=\[[^\]]+\], isr=\[.*\], .*, leaderRecoveryState=RECOVERED, leaderEpoch=\d+, partitionEpoch=\d+\)\n",
    );
}
