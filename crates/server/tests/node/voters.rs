//! A quorum of three: nodes that are brokers and voters, each on a runtime of its own that can be killed. They elect a leader, lose it, elect
//! another, and hold the same metadata log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use milena_common::Uuid;
use milena_protocol::messages as msg;
use milena_protocol::messages::create_topics_request::CreatableTopic;
use milena_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use milena_server::Node;
use tokio::runtime::Runtime;

use crate::support::{self, ask_at};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

struct Member {
    runtime: Runtime,
    node: Node,
}

impl Member {
    fn start(id: i32, dir: &Path, ports: &[u16]) -> Member {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runs");
        let voters: Vec<String> = (1..).zip(ports).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        let (voters, node_id) = (voters.join(","), id.to_string());
        let listeners = format!("PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:{}", ports[id as usize - 1]);
        let properties = [
            ("node.id", node_id.as_str()),
            ("controller.quorum.voters", voters.as_str()),
            ("listeners", listeners.as_str()),
            ("offsets.topic.replication.factor", "3"),
        ];
        let config = support::config(&[dir.to_owned()], &properties);
        let node = runtime.block_on(async { tokio::time::timeout(PATIENCE, Node::start_whatever_it_is(config)).await });
        let node = node.expect("starts in time").expect("starts");
        Member { runtime, node }
    }

    fn address(&self) -> SocketAddr {
        self.node.listeners().iter().find(|(name, _)| name == "PLAINTEXT").expect("is bound").1
    }

    fn ask<R: milena_protocol::Request>(&self, version: i16, request: &R) -> Option<R::Response> {
        self.runtime.block_on(ask_at(self.address(), version, request))
    }

    /// What this broker is told of the quorum; `None` if nobody leads it.
    fn describe(&self) -> Option<msg::describe_quorum_response::PartitionData> {
        let partitions = vec![PartitionData { partition_index: 0 }];
        let topics = vec![TopicData { topic_name: "__cluster_metadata".to_owned(), partitions }];
        let mut answer = self.ask(2, &msg::DescribeQuorumRequest { topics })?;
        let partition = answer.topics.pop()?.partitions.pop()?;
        (partition.error_code == 0).then_some(partition)
    }

    /// Leader, epoch and high watermark, as this broker says them.
    fn quorum(&self) -> Option<(i32, i32, i64)> {
        self.describe().map(|partition| (partition.leader_id, partition.leader_epoch, partition.high_watermark))
    }

    /// How far each voter is behind, as this broker says.
    fn lags(&self) -> Vec<i64> {
        let partition = self.describe().expect("is answered");
        let leader = partition.current_voters.iter().find(|v| v.replica_id == partition.leader_id);
        let end = leader.map_or(i64::MAX, |leader| leader.log_end_offset);
        let lag = |v: &msg::describe_quorum_response::ReplicaState| match v.last_caught_up_timestamp {
            ..0 => i64::MAX,
            _ => end - v.log_end_offset,
        };
        partition.current_voters.iter().map(lag).collect()
    }

    fn create(&self, name: &str) {
        let topic =
            CreatableTopic { name: name.to_owned(), num_partitions: 2, replication_factor: 2, ..Default::default() };
        let request = msg::CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let answer = self.ask(7, &request).expect("is answered");
        assert_eq!(answer.topics[0].error_code, 0, "{name}: {:?}", answer.topics[0].error_message);
    }

    fn knows(&self, name: &str) -> bool {
        let topic = msg::metadata_request::MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() };
        let request = msg::MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let answer = self.ask(12, &request).expect("is answered");
        answer.topics[0].error_code == 0 && answer.topics[0].partitions.len() == 2
    }

    fn brokers(&self) -> usize {
        let request = msg::MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        self.ask(12, &request).expect("is answered").brokers.len()
    }

    /// As good as a crash: nothing is said, nothing is completed.
    fn kill(self) {
        self.runtime.shutdown_background();
        drop(self.node);
    }

    fn stop(self) {
        self.runtime.block_on(self.node.stop());
    }
}

fn wait(what: &str, mut is_true: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn free_ports(count: usize) -> Vec<u16> {
    let bound: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("binds")).collect();
    bound.iter().map(|listener| listener.local_addr().expect("has an address").port()).collect()
}

fn metadata_log(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("__cluster_metadata-0/00000000000000000000.log")).expect("reads")
}

fn start_all(ids: &[i32], dirs: &[PathBuf], ports: &[u16]) -> Vec<(i32, Member)> {
    std::thread::scope(|scope| {
        let starting: Vec<_> =
            ids.iter().map(|&id| (id, scope.spawn(move || Member::start(id, &dirs[id as usize - 1], ports)))).collect();
        starting.into_iter().map(|(id, member)| (id, member.join().expect("starts"))).collect()
    })
}

#[test]
fn three_voters_elect_a_leader_lose_it_and_hold_the_same_log() {
    let temp = tempfile::tempdir().expect("a directory");
    let dirs: Vec<PathBuf> = (1..=3).map(|id| temp.path().join(format!("node-{id}"))).collect();
    (1..).zip(&dirs).for_each(|(id, dir)| support::format_as(id, &[(dir, Uuid::random())], Vec::new()));
    let ports = free_ports(3);
    let mut members = start_all(&[1, 2, 3], &dirs, &ports);

    wait("all brokers are there", || members.iter().all(|(_, member)| member.brokers() == 3));
    let (leader, epoch, _) = members[0].1.quorum().expect("there is a leader");
    for (id, member) in &members {
        assert_eq!(member.quorum().map(|(leader, epoch, _)| (leader, epoch)), Some((leader, epoch)), "node {id}");
        member.create(&format!("by-{id}"));
    }
    for id in 1..=3 {
        wait("topics reach everybody", || members.iter().all(|(_, member)| member.knows(&format!("by-{id}"))));
    }

    let request = msg::InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let ids: std::collections::BTreeSet<i64> = members
        .iter()
        .map(|(id, member)| {
            let answer = member.ask(4, &request).expect("is answered");
            assert_eq!(answer.error_code, 0, "node {id}");
            answer.producer_id
        })
        .collect();
    assert_eq!(ids.len(), 3, "{ids:?}");

    let at = members.iter().position(|(id, _)| *id == leader).expect("is a member");
    members.remove(at).1.kill();
    wait("another leads", || {
        let known: Vec<_> = members.iter().map(|(_, member)| member.quorum()).collect();
        known.iter().all(|q| q.is_some_and(|(other, newer, _)| other != leader && newer > epoch))
    });
    for (id, member) in &members {
        member.create(&format!("after-{id}"));
    }
    let survivors: Vec<i32> = members.iter().map(|(id, _)| *id).collect();

    members.extend(start_all(&[leader], &dirs, &ports));
    let back = &members.last().expect("is back").1;
    for id in survivors {
        wait("whoever was away catches up", || back.knows(&format!("after-{id}")));
    }
    wait("nobody is far behind", || {
        let lags = back.lags();
        lags.len() == 3 && lags.iter().all(|lag| (0..10).contains(lag))
    });
    let (_, _, committed) = back.quorum().expect("there is a leader");
    assert!(committed > 0);
    wait("everybody has all", || members.iter().all(|(_, member)| member.brokers() == 3));

    std::thread::scope(|scope| {
        members.into_iter().for_each(|(_, member)| {
            scope.spawn(move || member.stop());
        })
    });
    let logs: Vec<Vec<u8>> = dirs.iter().map(|dir| metadata_log(dir)).collect();
    let common = logs.iter().map(Vec::len).min().expect("three");
    let batches = milena_raft::read_batches(logs[0][..common].to_vec().into()).expect("whole batches");
    let last = batches.last().expect("some").last_offset;
    assert!(last + 1 >= committed, "the common part ends at {last}, {committed} is committed");
    for log in &logs[1..] {
        assert!(log[..common] == logs[0][..common], "the logs differ");
    }
}
