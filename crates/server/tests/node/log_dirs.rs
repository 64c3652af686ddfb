//! Two log directories: the same requests to Milena and to Apache Kafka 4.3.1, whose answers stand in `golden/log-dirs`.
//!
//! `LOG_DIRS_RECORD=127.0.0.1:9092=/dir/a,/dir/b=file` records the answers of a running Kafka instead.

use milena_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use milena_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use milena_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::messages::{self as msg};
use milena_protocol::records::{BatchBuilder, Compression, batches};

use crate::support::{Connection, THEN, TestNode, eventually, topic};

struct Client {
    connection: Connection,
    dirs: Vec<String>,
}

impl Client {
    fn alter(&mut self, version: i16, moves: &[(&str, &str, &[i32])]) -> String {
        let dirs = moves.iter().map(|(path, topic, partitions)| AlterReplicaLogDir {
            path: (*path).to_owned(),
            topics: vec![AlterReplicaLogDirTopic { name: (*topic).to_owned(), partitions: partitions.to_vec() }],
        });
        let answer = self.connection.ask(version, &msg::AlterReplicaLogDirsRequest { dirs: dirs.collect() });
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
        let answer = self.connection.ask(4, &msg::DescribeLogDirsRequest { topics: None });
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
        eventually("a place of its own", || match self.places(topic, 0)[..] {
            [(place, false)] => Some(place),
            _ => None,
        })
    }

    fn produce(&mut self, topic: &str, value: &str) {
        let mut batch = BatchBuilder::new(Compression::None);
        batch.append(THEN, None, Some(value.as_bytes()), &[]).expect("fits");
        let records = Some(batch.build(0).expect("builds"));
        let topic_data = vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![PartitionProduceData { index: 0, records }],
            ..Default::default()
        }];
        let request = msg::ProduceRequest { acks: -1, timeout_ms: 5000, topic_data, ..Default::default() };
        eventually("a leader", || {
            let answer = self.connection.ask(9, &request);
            (answer.responses[0].partition_responses[0].error_code == 0).then_some(())
        });
    }

    fn values(&mut self, topic: &str) -> Vec<String> {
        let partitions = vec![FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() }];
        let topics = vec![FetchTopic { topic: topic.to_owned(), partitions, ..Default::default() }];
        let request =
            msg::FetchRequest { replica_id: -1, max_bytes: 1 << 20, topics, session_epoch: -1, ..Default::default() };
        let answer = self.connection.ask(11, &request);
        let records = answer.responses[0].partitions[0].records.clone().unwrap_or_default();
        let all = batches(records.concat().into())
            .flat_map(|b| b.expect("whole").records(Default::default()).expect("readable"));
        all.map(|r| String::from_utf8(r.expect("whole").value.expect("a value").to_vec()).expect("text")).collect()
    }
}

fn play(address: &str, dirs: &[String]) -> String {
    let mut c = Client { connection: Connection::new(address), dirs: dirs.to_vec() };
    let long = "x".repeat(240);
    for name in ["moving", &*long] {
        c.connection.create(topic(name, 1));
    }
    c.produce("moving", "0");
    c.produce(&long, "0");
    let mut written = 1;
    for v in 1..=2 {
        let here = c.settled_place("moving");
        let (own, other) = (dirs[here].clone(), dirs[1 - here].clone());
        let step = |c: &mut Client, what: &str, moves: &[(&str, &str, &[i32])]| {
            let answer = c.alter(v, moves);
            c.connection.tell(&format!("v{v} {what}"), &answer);
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
        eventually("the move", || (c.places("moving", 0) == [(1 - here, false)]).then_some(()));
        let moved = c.settled_place("moving") != here;
        c.produce("moving", &written.to_string());
        written += 1;
        let values = c.values("moving");
        let whole = values == (0..written).map(|n| n.to_string()).collect::<Vec<_>>();
        c.connection.tell(&format!("v{v} after the move"), &format!("moved={moved} whole={whole}"));
    }
    c.connection.told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_move_as_kafkas_do() {
    if let Ok(wish) = std::env::var("LOG_DIRS_RECORD") {
        let [address, dirs, file] = wish.split('=').collect::<Vec<_>>()[..] else { panic!("address=dirs=file") };
        let dirs: Vec<String> = dirs.split(',').map(str::to_owned).collect();
        return std::fs::write(file, play(address, &dirs)).expect("is written");
    }
    let node = TestNode::start_on(&["a", "b"], &[]).await;
    let dirs: Vec<String> = node.dirs.iter().map(|dir| dir.display().to_string()).collect();
    let ours = node.play(move |address| play(address, &dirs)).await;
    node.stop().await;
    assert_eq!(ours, include_str!("../golden/log-dirs/kafka-4.3.1.txt"));
}
