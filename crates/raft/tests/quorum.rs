//! Three drivers and a network in memory: a leader is found, records reach the others, and who leads may go away.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "tests touch files, clocks and tasks"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use milena_common::{SystemClock, Uuid};
use milena_raft::testing::{MemoryLog, MemoryVotes};
use milena_raft::{NodeConfig, RaftNetwork, RaftNode, Request, RequestId, Timeouts};
use tokio::task::JoinHandle;

/// Who can be reached; requests are handled in tasks of their own.
#[derive(Clone, Default)]
struct Network(Arc<Mutex<BTreeMap<i32, Weak<RaftNode>>>>);

/// The network as one member sees it.
struct Port {
    network: Network,
    of: i32,
}

impl Network {
    fn node(&self, id: i32) -> Option<Arc<RaftNode>> {
        self.0.lock().unwrap().get(&id).and_then(Weak::upgrade)
    }
}

impl RaftNetwork for Port {
    fn send(&self, to: i32, id: RequestId, request: Request) {
        let (network, of) = (self.network.clone(), self.of);
        tokio::spawn(async move {
            let response = match network.node(to) {
                Some(node) => node.handle(request).await,
                None => None,
            };
            if let Some(node) = network.node(of) {
                node.answered(to, id, response);
            }
        });
    }
}

struct Member {
    log: MemoryLog,
    votes: MemoryVotes,
    running: Option<(Arc<RaftNode>, JoinHandle<()>)>,
}

struct Quorum {
    network: Network,
    members: BTreeMap<i32, Member>,
}

impl Quorum {
    fn start() -> Quorum {
        let member = || Member { log: MemoryLog::new(), votes: MemoryVotes::default(), running: None };
        let mut quorum =
            Quorum { network: Network::default(), members: [1, 2, 3].into_iter().map(|id| (id, member())).collect() };
        [1, 2, 3].into_iter().for_each(|id| quorum.start_member(id));
        quorum
    }

    fn start_member(&mut self, id: i32) {
        let member = self.members.get_mut(&id).unwrap();
        let config = NodeConfig {
            node_id: id,
            directory_id: Uuid::from_u128(id.unsigned_abs().into()),
            static_voters: vec![1, 2, 3],
            timeouts: Timeouts { election_ms: 100, fetch_ms: 200, fetch_max_wait_ms: 50, ..Timeouts::default() },
        };
        let port = Port { network: self.network.clone(), of: id };
        let (log, votes) = (Arc::new(member.log.clone()), Box::new(member.votes.clone()));
        let node = RaftNode::start(config, log, votes, Arc::new(SystemClock), Arc::new(port)).expect("starts");
        self.network.0.lock().unwrap().insert(id, Arc::downgrade(&node));
        member.running = Some((node.clone(), tokio::spawn(node.run())));
    }

    fn kill(&mut self, id: i32) {
        self.network.0.lock().unwrap().remove(&id);
        if let Some((_, task)) = self.members.get_mut(&id).and_then(|member| member.running.take()) {
            task.abort();
        }
    }

    fn running(&self) -> impl Iterator<Item = &Arc<RaftNode>> {
        self.members.values().filter_map(|member| member.running.as_ref().map(|(node, _)| node))
    }

    async fn leader(&self) -> (i32, Arc<RaftNode>) {
        eventually(|| {
            let leading = self.running().find(|node| node.status().epoch_start_offset.is_some())?;
            let agree = self.running().all(|node| node.status().leader_id == leading.status().leader_id);
            agree.then(|| (leading.status().leader_id, leading.clone()))
        })
        .await
    }

    async fn all_have(&self, wanted: &[&str]) {
        eventually(|| self.running().all(|node| committed(node) == wanted).then_some(())).await;
    }
}

async fn eventually<T>(look: impl Fn() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within twenty seconds")
}

fn committed(node: &RaftNode) -> Vec<String> {
    let batches = node.read_committed(0, 1 << 20).expect("readable");
    batches.iter().flat_map(|batch| &batch.records).map(|r| String::from_utf8_lossy(r).into_owned()).collect()
}

fn append(node: &RaftNode, text: &str) {
    node.append(node.status().epoch, vec![Bytes::copy_from_slice(text.as_bytes())]).expect("it leads");
}

#[tokio::test]
async fn records_reach_all_and_survive_their_leader() {
    let mut quorum = Quorum::start();
    let (first, node) = quorum.leader().await;
    append(&node, "a");
    append(&node, "b");
    quorum.all_have(&["a", "b"]).await;

    // nobody is left who could commit this
    let epoch = node.status().epoch;
    drop(node);
    quorum.kill(first);
    let (second, node) = quorum.leader().await;
    assert_ne!(second, first);
    assert!(node.status().epoch > epoch);
    append(&node, "c");
    quorum.all_have(&["a", "b", "c"]).await;

    quorum.start_member(first);
    quorum.all_have(&["a", "b", "c"]).await;

    // who resigns is followed at once
    let before = node.status().epoch;
    node.shutdown();
    drop(node);
    quorum.kill(second);
    let (_, node) = quorum.leader().await;
    assert!(node.status().epoch > before);
    append(&node, "d");
    quorum.all_have(&["a", "b", "c", "d"]).await;
}

#[tokio::test]
async fn what_only_a_lost_leader_had_goes() {
    let mut quorum = Quorum::start();
    let (first, node) = quorum.leader().await;
    append(&node, "a");
    quorum.all_have(&["a"]).await;
    let others: Vec<i32> = [1, 2, 3].into_iter().filter(|id| *id != first).collect();
    others.iter().for_each(|id| quorum.kill(*id));
    append(&node, "lost");
    let end = node.end_offset();
    drop(node);
    quorum.kill(first);

    others.iter().for_each(|id| quorum.start_member(*id));
    let (_, node) = quorum.leader().await;
    append(&node, "b");
    quorum.all_have(&["a", "b"]).await;
    quorum.start_member(first);
    quorum.all_have(&["a", "b"]).await;
    assert!(node.end_offset() >= end);
}
