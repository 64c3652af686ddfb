//! The quorum of one on real files: what the controller answered is there after a stop, a crash, and from snapshots.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use milena_common::config::{BrokerConfig, TopicConfig};
use milena_common::{Clock, SystemClock, Uuid};
use milena_log::fs::RealFs;
use milena_log::{LogManager, LogManagerOptions};
use milena_metadata::image::{Endpoint, MetadataImage};
use milena_metadata::versions::supported_features;
use milena_protocol::messages as msg;
use milena_protocol::messages::broker_registration_request::{Feature, Listener};
use milena_protocol::messages::delete_topics_request::DeleteTopicState;
use milena_raft::QuorumStateStore as _;
use milena_raft::testing::suite;
use milena_server::quorum::{Quorum, QuorumConfig, QuorumError};
use milena_server::raft_log::UnifiedRaftLog;
use milena_server::storage_format::{FormatVoter, read_bootstrap};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::{self, CLUSTER_ID, topic};

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn format(dir: &Path) {
    support::format(&[(dir, Uuid::random())], Vec::new());
}

fn config(dir: &Path, properties: &[(&str, &str)]) -> Arc<BrokerConfig> {
    Arc::new(support::config(&[dir.to_owned()], properties))
}

struct Node {
    quorum: Arc<Quorum>,
    logs: Arc<LogManager>,
    raft_log: Arc<UnifiedRaftLog>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), QuorumError>>,
    directory_id: Uuid,
}

fn open_logs(dir: &Path) -> (Arc<LogManager>, Arc<UnifiedRaftLog>) {
    let options = LogManagerOptions {
        dirs: vec![dir.to_owned()],
        recovery_threads: 1,
        retention_check_ms: 300_000,
        recovery_point_checkpoint_ms: 60_000,
        high_watermark_checkpoint_ms: 5_000,
        producer_expiration_ms: 86_400_000,
        clock: clock(),
    };
    let topic = |keep: bool| {
        let overrides = [("retention.ms", "-1"), ("file.delete.delay.ms", "0")].into_iter().filter(|_| keep);
        let overrides = overrides.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        TopicConfig::from_overrides(&config(dir, &[]), &overrides).expect("valid")
    };
    let logs = LogManager::open(options, &|_| Arc::new(topic(false))).expect("opens");
    let log = logs.open_metadata_log(dir, topic(true)).expect("opens");
    let raft_log = UnifiedRaftLog::new(log, Arc::new(RealFs), clock()).expect("opens");
    (logs, Arc::new(raft_log))
}

impl Node {
    async fn start(dir: &Path, properties: &[(&str, &str)]) -> Node {
        let (logs, raft_log) = open_logs(dir);
        let directory_id = logs.dirs()[0].id;
        let quorum = QuorumConfig {
            broker: config(dir, properties),
            cluster_id: CLUSTER_ID.to_owned(),
            directory_id,
            bootstrap: read_bootstrap(dir).expect("reads").expect("is formatted"),
            endpoints: vec![Endpoint {
                name: "CONTROLLER".to_owned(),
                host: "127.0.0.1".to_owned(),
                port: 20750,
                security_protocol: 0,
            }],
        };
        let votes = Box::new(raft_log.votes());
        let quorum = Arc::new(Quorum::start(quorum, raft_log.clone(), votes, clock()).expect("starts"));
        let (stop, stopped) = watch::channel(false);
        let running = quorum.clone();
        let task = tokio::spawn(async move { running.run(Vec::new(), stopped).await });
        tokio::time::timeout(Duration::from_secs(10), quorum.ready()).await.expect("begins");
        Node { quorum, logs, raft_log, stop, task, directory_id }
    }

    fn image(&self) -> Arc<MetadataImage> {
        self.quorum.cache.image()
    }

    async fn bring_up_broker(&self) {
        let request = msg::BrokerRegistrationRequest {
            broker_id: 1,
            cluster_id: CLUSTER_ID.to_owned(),
            incarnation_id: Uuid::random(),
            listeners: vec![Listener {
                name: "PLAINTEXT".to_owned(),
                host: "127.0.0.1".to_owned(),
                port: 19750,
                security_protocol: 0,
            }],
            features: supported_features()
                .into_iter()
                .map(|(name, range)| Feature {
                    name,
                    min_supported_version: range.min,
                    max_supported_version: range.max,
                })
                .collect(),
            rack: None,
            log_dirs: vec![self.directory_id],
            previous_broker_epoch: -1,
            ..Default::default()
        };
        let registered = self.quorum.controller.register_broker(request).await.expect("answers");
        assert_eq!(registered.error_code, 0);
        let heartbeat = msg::BrokerHeartbeatRequest {
            broker_id: 1,
            broker_epoch: registered.broker_epoch,
            current_metadata_offset: self.image().last_offset(),
            ..Default::default()
        };
        let answer = self.quorum.controller.heartbeat(heartbeat).await.expect("answers");
        assert!(!answer.is_fenced, "{answer:?}");
    }

    async fn create(&self, name: &str, num_partitions: i32) {
        let request = msg::CreateTopicsRequest { topics: vec![topic(name, num_partitions)], ..Default::default() };
        let response = self.quorum.controller.create_topics(request).await.expect("answers");
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
        assert!(self.image().topics.by_name(name).is_some(), "published before it was answered");
    }

    async fn delete(&self, name: &str) {
        let topics = vec![DeleteTopicState { name: Some(name.to_owned()), ..Default::default() }];
        let request = msg::DeleteTopicsRequest { topics, ..Default::default() };
        let response = self.quorum.controller.delete_topics(request).await.expect("answers");
        assert_eq!(response.responses[0].error_code, 0, "{response:?}");
    }

    async fn stop(self) {
        let epoch = self.image_epoch();
        self.stop.send_replace(true);
        self.task.await.expect("ends").expect("in order");
        self.raft_log.close().expect("closes");
        self.logs.shutdown(epoch);
    }

    fn image_epoch(&self) -> i64 {
        self.quorum.cache.image().cluster.broker(1).map_or(-1, |broker| broker.epoch)
    }

    /// As good as SIGKILL for what this process wrote: nothing is completed.
    async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A directory that stays when MILENA_KEEP names where, for a look with Kafka's own tools.
fn directory(name: &str) -> (Option<tempfile::TempDir>, PathBuf) {
    match std::env::var_os("MILENA_KEEP") {
        Some(keep) => (None, PathBuf::from(keep).join(name)),
        None => {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join(name);
            (Some(dir), path)
        }
    }
}

#[test]
fn the_log_on_files_passes_the_suite() {
    for test in [suite::appends_are_read_and_durable, suite::truncates, suite::keeps_snapshots] {
        let dir = tempfile::tempdir().expect("a directory");
        format(dir.path());
        let (_logs, log) = open_logs(dir.path());
        test(log.as_ref());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_stops_and_crashes() {
    let (_guard, dir) = directory("stops");
    format(&dir);
    let node = Node::start(&dir, &[]).await;
    node.bring_up_broker().await;
    node.create("orders", 3).await;
    let before = node.image();
    assert_eq!(before.features.metadata_version, 30);
    assert_eq!(before.cluster.controllers.len(), 1);
    node.crash().await;
    for epoch in 2..5 {
        let node = Node::start(&dir, &[]).await;
        assert_eq!(node.quorum.raft.status().epoch, epoch);
        assert!(node.image().topics == before.topics, "{:?}\n{:?}", node.image().topics, before.topics);
        if epoch % 2 == 0 {
            node.stop().await;
        } else {
            node.crash().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_taken_and_replace_the_log() {
    let (_guard, dir) = directory("snapshots");
    format(&dir);
    let small =
        [("metadata.log.max.record.bytes.between.snapshots", "2000"), ("metadata.max.retention.bytes", "20000")];
    let node = Node::start(&dir, &small).await;
    node.bring_up_broker().await;
    for n in 0..40 {
        node.create(&format!("topic-{n}"), 2).await;
        if n % 3 == 0 {
            node.delete(&format!("topic-{n}")).await;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = node.image();
    let newest = node.quorum.raft.newest_snapshot().expect("reads").expect("was taken");
    assert!(newest.0.offset > 30, "{newest:?}");
    node.stop().await;
    let node = Node::start(&dir, &small).await;
    assert!(node.image().topics == before.topics);
    node.create("after", 1).await;
    node.stop().await;
}

/// The directory of a Kafka 4.3.1 that was shut down in good order: this node takes over, and the partitions get their
/// leader back when the broker comes up.
#[tokio::test(flavor = "multi_thread")]
async fn goes_on_where_kafka_stopped() {
    let (_guard, dir) = directory("kafka");
    support::format(&[(&dir, "YRKfWANBT77gMa_NnX7vWQ".parse().expect("an id"))], Vec::new());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kafka-4.3.1-metadata");
    let metadata = dir.join("__cluster_metadata-0");
    copy(&golden, &metadata);
    let node = Node::start(&dir, &[]).await;
    assert_eq!(node.quorum.raft.status().epoch, 2);
    let orders = node.image().topics.by_name("orders").cloned().expect("Kafka's topic");
    assert!(orders.partitions.values().all(|p| !p.has_leader()));
    node.bring_up_broker().await;
    let orders = node.image().topics.by_name("orders").cloned().expect("Kafka's topic");
    assert!(orders.partitions.values().all(|p| p.leader == 1 && p.isr == [1] && p.leader_epoch == 2), "{orders:?}");
    node.create("ours", 1).await;
    let before = node.image();
    node.stop().await;
    let node = Node::start(&dir, &[]).await;
    assert!(node.image().topics == before.topics);
    node.stop().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("golden files") {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|name| name != "bootstrap.checkpoint") {
            std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copies");
        }
    }
}

/// `kafka-storage format --standalone`: the log names its own voter, also in snapshots.
#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_quorum_finds_its_voter_in_the_log() {
    let (_guard, dir) = directory("standalone");
    let directory_id = Uuid::random();
    let voter = FormatVoter {
        id: 1,
        directory_id,
        listener: "CONTROLLER".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 20750,
    };
    support::format(&[(&dir, directory_id)], vec![voter]);
    let dynamic = [
        ("controller.quorum.voters", ""),
        ("controller.quorum.bootstrap.servers", "127.0.0.1:20750"),
        ("metadata.log.max.record.bytes.between.snapshots", "1000"),
    ];
    for n in 0..3 {
        let node = Node::start(&dir, &dynamic).await;
        node.bring_up_broker().await;
        node.create(&format!("t{n}"), 5).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (id, snapshot) = node.quorum.raft.newest_snapshot().expect("reads").expect("was taken");
        assert!(id.offset > 0);
        assert_eq!(snapshot.quorum.kraft_version, 1);
        assert_eq!(snapshot.quorum.voters.expect("named").voters[0].voter_directory_id, directory_id);
        if n == 1 { node.stop().await } else { node.crash().await }
    }
    let (logs, log) = open_logs(&dir);
    assert!(log.votes().read().expect("reads").expect("is there").contains("\"data_version\":1"));
    drop(logs);
}
