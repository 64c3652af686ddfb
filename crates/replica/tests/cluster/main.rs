//! Partitions replicated between brokers: copies, elections, cuts, in-sync replicas, moves.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

mod world;

use std::time::Duration;

use milena_common::TopicPartition;
use milena_protocol::ErrorCode;
use milena_protocol::messages as msg;
use milena_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use world::Cluster;

/// Waits that would otherwise make the tests long.
const QUICK: [(&str, &str); 3] =
    [("replica.lag.time.max.ms", "400"), ("replica.fetch.backoff.ms", "100"), ("replica.fetch.wait.max.ms", "50")];

fn values(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|n| format!("value {n}")).collect()
}

fn plain(found: &[(i64, i32, String)]) -> Vec<String> {
    found.iter().map(|(_, _, value)| value.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_on_all_replicas() {
    let mut cluster = Cluster::start(3, &QUICK).await;
    cluster.create("t", &[2, 1, 3], &[("min.insync.replicas", "2")]).await;
    for n in 0..20 {
        assert_eq!(cluster.produce(2, "t", -1, &values(n * 10, 10)).await, Ok(n as i64 * 10 + 9));
    }
    assert_eq!(cluster.produce(1, "t", -1, &values(0, 1)).await, Err(ErrorCode::NotLeaderOrFollower));
    let found = cluster.all_hold("t", &[1, 2, 3], 200).await;
    assert_eq!(plain(&found), values(0, 200));
    assert_eq!(cluster.isr("t"), [1, 2, 3]);
    assert_eq!((cluster.broker(1).followed(), cluster.broker(2).followed()), (1, 0));
}

/// Everything acknowledged survives the leader; the old leader comes back as a follower, and in sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_is_killed_and_returns() {
    let mut cluster = Cluster::start(3, &QUICK).await;
    cluster.create("t", &[1, 2, 3], &[("min.insync.replicas", "2")]).await;
    let mut next = 0;
    for round in 0..4 {
        let leader = cluster.partition("t").leader;
        for _ in 0..5 {
            assert!(cluster.produce(leader, "t", -1, &values(next, 7)).await.is_ok());
            next += 7;
        }
        cluster.kill(leader).await;
        let heir = cluster.partition("t").leader;
        assert!(heir > 0 && heir != leader, "round {round}");
        assert!(cluster.produce(heir, "t", -1, &values(next, 7)).await.is_ok());
        next += 7;
        cluster.bring_up(leader).await;
        cluster.isr_becomes("t", &[1, 2, 3]).await;
        let found = cluster.all_hold("t", &[1, 2, 3], next as i64).await;
        assert_eq!(plain(&found), values(0, next));
    }
}

/// What an old leader wrote and nobody committed gives way to what the new one wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uncommitted_tail_is_cut() {
    let mut cluster = Cluster::start(3, &QUICK).await;
    cluster.create("t", &[1, 2, 3], &[]).await;
    assert_eq!(cluster.produce(1, "t", -1, &values(0, 10)).await, Ok(9));
    cluster.all_hold("t", &[1, 2, 3], 10).await;
    // the leader is alone, but does not know
    for id in [2, 3] {
        cluster.cut(id, 1);
    }
    cluster.cut(1, 100);
    assert_eq!(cluster.produce(1, "t", 1, &["lost".to_owned(), "lost too".to_owned()]).await, Ok(11));
    let refused = cluster.produce_within(1, "t", -1, &values(0, 1), 100).await;
    assert_eq!(refused, Err(ErrorCode::RequestTimedOut));
    cluster.fence(1).await;
    let leader = cluster.partition("t").leader;
    assert_eq!(cluster.produce(leader, "t", -1, &values(10, 5)).await, Ok(14));
    cluster.heal();
    cluster.unfence(1).await;
    cluster.isr_becomes("t", &[1, 2, 3]).await;
    assert_eq!(cluster.produce(leader, "t", -1, &values(15, 5)).await, Ok(19));
    let found = cluster.all_hold("t", &[1, 2, 3], 20).await;
    assert_eq!(plain(&found), values(0, 20));
    // a leader that writes nothing leaves an epoch that nobody else knows
    cluster.fence(leader).await;
    let idle = cluster.partition("t").leader;
    cluster.unfence(leader).await;
    cluster.isr_becomes("t", &[1, 2, 3]).await;
    cluster.fence(idle).await;
    cluster.unfence(idle).await;
    cluster.isr_becomes("t", &[1, 2, 3]).await;
    let last = cluster.partition("t").leader;
    assert_eq!(cluster.produce(last, "t", -1, &values(20, 5)).await, Ok(24));
    assert_eq!(plain(&cluster.all_hold("t", &[1, 2, 3], 25).await), values(0, 25));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lags_leaves_and_comes_back() {
    let mut cluster = Cluster::start(3, &QUICK).await;
    cluster.create("t", &[1, 2, 3], &[("min.insync.replicas", "3")]).await;
    assert_eq!(cluster.produce(1, "t", -1, &values(0, 10)).await, Ok(9));
    cluster.cut(3, 1);
    // written, but too few hold it
    assert_eq!(cluster.produce_within(1, "t", -1, &values(10, 5), 100).await, Err(ErrorCode::RequestTimedOut));
    cluster.isr_becomes("t", &[1, 2]).await;
    assert_eq!(cluster.broker(1).in_sync_shortages(), (1, 1));
    assert_eq!(cluster.produce(1, "t", -1, &values(15, 5)).await, Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(cluster.produce(1, "t", 1, &values(15, 5)).await, Ok(19));
    cluster.heal();
    cluster.isr_becomes("t", &[1, 2, 3]).await;
    assert_eq!(cluster.produce(1, "t", -1, &values(20, 5)).await, Ok(24));
    assert_eq!(plain(&cluster.all_hold("t", &[1, 2, 3], 25).await), values(0, 25));
    assert_eq!(cluster.broker(1).in_sync_shortages(), (0, 0));
}

/// A proposal whose answer is lost is made again, and nothing is decided by its silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_controller_is_asked_until_it_answers() {
    let mut cluster = Cluster::start(3, &QUICK).await;
    cluster.create("t", &[1, 2, 3], &[]).await;
    cluster.cut(1, 100);
    cluster.cut(3, 1);
    let waited = cluster.produce_within(1, "t", -1, &values(0, 10), 1_500).await;
    assert_eq!(waited, Err(ErrorCode::RequestTimedOut), "3 counts until the controller says otherwise");
    assert_eq!(cluster.isr("t"), [1, 2, 3]);
    cluster.network_heals_to_controller();
    cluster.isr_becomes("t", &[1, 2]).await;
    assert_eq!(cluster.produce(1, "t", -1, &values(10, 10)).await, Ok(19));
}

/// What the leader deleted a follower cannot fetch: it begins where the leader does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_comes_too_late_begins_anew() {
    let mut cluster = Cluster::start(3, &QUICK).await;
    cluster.create("t", &[1, 2, 3], &[]).await;
    assert_eq!(cluster.produce(1, "t", -1, &values(0, 10)).await, Ok(9));
    cluster.all_hold("t", &[1, 2, 3], 10).await;
    cluster.cut(3, 1);
    cluster.isr_becomes_after_writes("t", 1, &[1, 2]).await;
    let end = cluster.produce(1, "t", -1, &values(100, 10)).await.unwrap() + 1;
    let partition = TopicPartition::new("t", 0);
    let deleted = cluster.broker(1).delete_records(vec![(partition.clone(), end - 3)], 100).await;
    assert_eq!(deleted[0].as_ref().map_err(|e| e.code()), Err(ErrorCode::RequestTimedOut), "3 still has them");
    cluster.heal();
    cluster.isr_becomes("t", &[1, 2, 3]).await;
    let found = cluster.all_hold("t", &[1, 2, 3], end).await;
    assert_eq!(plain(&found), values(107, 3));
    // and follows when nothing is out of range
    let deleted = cluster.broker(1).delete_records(vec![(partition, end - 1)], 5_000).await;
    assert_eq!(deleted[0].as_ref().ok(), Some(&(end - 1)));
    assert_eq!(plain(&cluster.all_hold("t", &[1, 2, 3], end).await), values(109, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_move_to_other_brokers() {
    let mut cluster = Cluster::start(4, &QUICK).await;
    cluster.create("t", &[1, 2], &[]).await;
    assert_eq!(cluster.produce(1, "t", -1, &values(0, 50)).await, Ok(49));
    let partitions = vec![ReassignablePartition { partition_index: 0, replicas: Some(vec![3, 4]) }];
    let topics = vec![ReassignableTopic { name: "t".to_owned(), partitions }];
    let request = msg::AlterPartitionReassignmentsRequest { topics, ..Default::default() };
    let answer = cluster.controller().alter_partition_reassignments(request).await.unwrap();
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
    cluster.eventually(|this| (this.partition("t").replicas == [3, 4]).then_some(())).await;
    cluster.isr_becomes("t", &[3, 4]).await;
    let leader = cluster.partition("t").leader;
    assert!([3, 4].contains(&leader));
    assert_eq!(cluster.produce(leader, "t", -1, &values(50, 10)).await, Ok(59));
    assert_eq!(plain(&cluster.all_hold("t", &[3, 4], 60).await), values(0, 60));
    let gone = TopicPartition::new("t", 0);
    for id in [1, 2] {
        assert!(cluster.broker(id).logs().get(&gone).is_none(), "broker {id} keeps nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stops_in_order_hands_over() {
    let mut cluster = Cluster::start(3, &QUICK).await;
    cluster.create("t", &[1, 2, 3], &[]).await;
    assert_eq!(cluster.produce(1, "t", -1, &values(0, 10)).await, Ok(9));
    assert!(!cluster.wants_to_stop(1).await, "it leads");
    let leader = cluster.partition("t").leader;
    assert_ne!(leader, 1);
    assert!(!cluster.isr("t").contains(&1), "who stops is not in sync any more");
    assert!(cluster.wants_to_stop(1).await);
    assert_eq!(cluster.produce(leader, "t", -1, &values(10, 10)).await, Ok(19));
    // it still fetches, but may not come back before it registers anew
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!cluster.isr("t").contains(&1));
    cluster.kill_quietly(1);
    cluster.bring_up(1).await;
    cluster.isr_becomes("t", &[1, 2, 3]).await;
    assert_eq!(plain(&cluster.all_hold("t", &[1, 2, 3], 20).await), values(0, 20));
}

/// More partitions than fetchers, and a topic that goes away under them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_come_and_go() {
    let mut settings = QUICK.to_vec();
    settings.push(("num.replica.fetchers", "3"));
    let mut cluster = Cluster::start(3, &settings).await;
    let names: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let first = n as i32 % 3;
        let replicas = [first + 1, (first + 1) % 3 + 1, (first + 2) % 3 + 1];
        cluster.create(name, &replicas, &[]).await;
    }
    for name in &names {
        let leader = cluster.partition(name).leader;
        assert_eq!(cluster.produce(leader, name, -1, &values(0, 5)).await, Ok(4), "{name}");
    }
    assert_eq!(cluster.broker(1).followed(), 8);
    let topics = names
        .iter()
        .take(6)
        .map(|name| msg::delete_topics_request::DeleteTopicState { name: Some(name.clone()), ..Default::default() });
    let request = msg::DeleteTopicsRequest { topics: topics.collect(), ..Default::default() };
    cluster.controller().delete_topics(request).await.unwrap();
    cluster.spread();
    assert_eq!(cluster.broker(1).followed(), 4);
    cluster.create(&names[0], &[1, 2, 3], &[]).await;
    for name in names.iter().skip(6).chain(names.first()) {
        let leader = cluster.partition(name).leader;
        assert!(cluster.produce(leader, name, -1, &values(5, 5)).await.is_ok(), "{name}");
    }
    assert_eq!(plain(&cluster.all_hold(&names[0], &[1, 2, 3], 5).await), values(5, 5));
}
