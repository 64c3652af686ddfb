//! Two log directories: the same requests to Milena and to Apache Kafka 4.3.1, whose answers stand in `golden/log-dirs`.
//!
//! `LOG_DIRS_RECORD=127.0.0.1:9092=/dir/a,/dir/b=file` records the answers of a running Kafka instead.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use milena_common::Uuid;
use milena_common::config::BrokerConfig;
use milena_metadata::{Bootstrap, versions};
use milena_protocol::header::get_response_header;
use milena_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use milena_protocol::messages::create_topics_request::CreatableTopic;
use milena_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::messages::{self as msg};
use milena_protocol::records::{BatchBuilder, Compression, batches};
use milena_protocol::{Decode as _, Reader, Request, RequestHeader, Writer};
use milena_server::storage_format::{self, FormatDirectory, FormatPlan};

struct Client {
    stream: TcpStream,
    dirs: Vec<String>,
    told: String,
}

impl Client {
    fn ask<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        let mut writer = Writer::new();
        let header = RequestHeader {
            request_api_key: R::KEY.code(),
            request_api_version: version,
            correlation_id: 77,
            client_id: Some("log-dirs".to_owned()),
        };
        header.encode_for(&mut writer, R::KEY, version).expect("encodes");
        request.encode(&mut writer, version).expect("encodes");
        let body = writer.finish().concat();
        self.stream.write_all(&(body.len() as u32).to_be_bytes()).expect("writes");
        self.stream.write_all(&body).expect("writes");
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("answers");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("reads");
        let mut reader = Reader::new(frame.into());
        assert_eq!(get_response_header(&mut reader, R::KEY, version).expect("a header"), 77);
        R::Response::decode(&mut reader, version).expect("decodes")
    }

    fn alter(&mut self, version: i16, moves: &[(&str, &str, &[i32])]) -> String {
        let dirs = moves.iter().map(|(path, topic, partitions)| AlterReplicaLogDir {
            path: (*path).to_owned(),
            topics: vec![AlterReplicaLogDirTopic { name: (*topic).to_owned(), partitions: partitions.to_vec() }],
        });
        let answer = self.ask(version, msg::AlterReplicaLogDirsRequest { dirs: dirs.collect() });
        let mut told: Vec<String> = Vec::new();
        for topic in answer.results {
            let name = if topic.topic_name.len() > 100 { "long".to_owned() } else { topic.topic_name };
            told.extend(
                topic.partitions.iter().map(|p| format!("{name}-{} error={}", p.partition_index, p.error_code)),
            );
        }
        told.sort();
        told.join(", ")
    }

    /// In which directories a partition is: their places in the list, and whether it is the future one.
    fn places(&mut self, topic: &str, partition: i32) -> Vec<(usize, bool)> {
        let answer = self.ask(4, msg::DescribeLogDirsRequest { topics: None });
        let mut out = Vec::new();
        for result in answer.results {
            let place = self.dirs.iter().position(|d| *d == result.log_dir).expect("a known directory");
            for t in result.topics.iter().filter(|t| t.name == topic) {
                out.extend(
                    t.partitions.iter().filter(|p| p.partition_index == partition).map(|p| (place, p.is_future_key)),
                );
            }
        }
        out.sort();
        out
    }

    fn settled_place(&mut self, topic: &str) -> usize {
        for _ in 0..500 {
            if let [(place, false)] = self.places(topic, 0)[..] {
                return place;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{topic} does not settle");
    }

    fn produce(&mut self, topic: &str, value: &str) {
        let mut batch = BatchBuilder::new(Compression::None);
        batch.append(1_700_000_000_000, None, Some(value.as_bytes()), &[]).expect("fits");
        let records = Some(batch.build(0).expect("builds"));
        let topic_data = vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![PartitionProduceData { index: 0, records }],
            ..Default::default()
        }];
        for _ in 0..200 {
            let request = msg::ProduceRequest {
                acks: -1,
                timeout_ms: 5000,
                topic_data: topic_data.clone(),
                ..Default::default()
            };
            if self.ask(9, request).responses[0].partition_responses[0].error_code == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("cannot produce");
    }

    fn values(&mut self, topic: &str) -> Vec<String> {
        let partitions = vec![FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() }];
        let topics = vec![FetchTopic { topic: topic.to_owned(), partitions, ..Default::default() }];
        let request =
            msg::FetchRequest { replica_id: -1, max_bytes: 1 << 20, topics, session_epoch: -1, ..Default::default() };
        let answer = self.ask(11, request);
        let records = answer.responses[0].partitions[0].records.clone().unwrap_or_default();
        let all = batches(records.concat().into())
            .flat_map(|b| b.expect("whole").records(Default::default()).expect("readable"));
        all.map(|r| String::from_utf8(r.expect("whole").value.expect("a value").to_vec()).expect("text")).collect()
    }

    fn tell(&mut self, step: &str, answer: &str) {
        writeln!(self.told, "{step}\n    {answer}").expect("fits");
    }
}

fn play(address: &str, dirs: &[String]) -> String {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("is possible");
    let mut c = Client { stream, dirs: dirs.to_vec(), told: String::new() };
    let long = "x".repeat(240);
    for name in ["moving", &*long] {
        let topic =
            CreatableTopic { name: name.to_owned(), num_partitions: 1, replication_factor: 1, ..Default::default() };
        let request = msg::CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        assert_eq!(c.ask(7, request).topics[0].error_code, 0);
    }
    c.produce("moving", "0");
    c.produce(&long, "0");
    let mut written = 1;
    for v in 1..=2 {
        let here = c.settled_place("moving");
        let (own, other) = (dirs[here].clone(), dirs[1 - here].clone());
        let step = |c: &mut Client, what: &str, moves: &[(&str, &str, &[i32])]| {
            let answer = c.alter(v, moves);
            c.tell(&format!("v{v} {what}"), &answer);
        };
        step(&mut c, "nothing", &[]);
        step(&mut c, "no such directory", &[("/nowhere", "moving", &[0])]);
        step(&mut c, "a relative directory", &[("data", "moving", &[0])]);
        step(&mut c, "no such topic", &[(&other, "unknown", &[0])]);
        step(&mut c, "no such topic nor directory", &[("/nowhere", "unknown", &[0])]);
        step(&mut c, "no such partition", &[(&other, "moving", &[7, -1])]);
        step(&mut c, "a long name", &[(&other, &long, &[0])]);
        step(&mut c, "where it is", &[(&own, "moving", &[0])]);
        step(&mut c, "elsewhere, beside an error", &[(&other, "moving", &[0]), ("/nowhere", "unknown", &[0])]);
        for _ in 0..10 {
            c.produce("moving", &written.to_string());
            written += 1;
        }
        for _ in 0..500 {
            if c.places("moving", 0) == [(1 - here, false)] {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let moved = c.settled_place("moving") != here;
        c.produce("moving", &written.to_string());
        written += 1;
        let values = c.values("moving");
        let whole = values == (0..written).map(|n| n.to_string()).collect::<Vec<_>>();
        c.tell(&format!("v{v} after the move"), &format!("moved={moved} whole={whole}"));
    }
    c.told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_move_as_kafkas_do() {
    if let Ok(wish) = std::env::var("LOG_DIRS_RECORD") {
        let [address, dirs, file] = wish.split('=').collect::<Vec<_>>()[..] else { panic!("address=dirs=file") };
        let dirs: Vec<String> = dirs.split(',').map(str::to_owned).collect();
        return std::fs::write(file, play(address, &dirs)).expect("is written");
    }
    let temp = tempfile::tempdir().expect("a directory");
    let paths: Vec<PathBuf> = ["a", "b"].iter().map(|name| temp.path().join(name)).collect();
    let bootstrap = Bootstrap::default();
    let features = versions::default_feature_levels(bootstrap.metadata_version());
    let plan = FormatPlan {
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        node_id: 1,
        metadata_version: bootstrap.metadata_version(),
        features: features.into_iter().map(|(name, level)| (name.to_owned(), level)).collect(),
        directories: (0..)
            .zip(&paths)
            .map(|(n, path)| FormatDirectory { path: path.clone(), metadata: n == 0, id: Uuid::random() })
            .collect(),
        voters: Vec::new(),
    };
    storage_format::format(&plan, 1_700_000_000_000).expect("formats");
    let dirs: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    let log_dirs = dirs.join(",");
    let given = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "1@127.0.0.1:0"),
        ("listeners", "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"),
        ("log.dirs", log_dirs.as_str()),
        ("offsets.topic.replication.factor", "1"),
    ];
    let pairs = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let config = BrokerConfig::from_properties(pairs).expect("valid");
    let node = milena_server::Node::start(config).await.expect("starts");
    let (_, address) = node.listeners().iter().find(|(name, _)| name == "PLAINTEXT").expect("listens");
    let address = address.to_string();
    let ours = tokio::task::spawn_blocking(move || play(&address, &dirs)).await.expect("answers");
    node.stop().await;
    assert_eq!(ours, include_str!("golden/log-dirs/kafka-4.3.1.txt"));
}
