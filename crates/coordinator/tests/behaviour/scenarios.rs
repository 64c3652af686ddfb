//! What is asked, in order. Clients are named a, b, c; each has its own connection on the wire.

use bytes::Bytes;
use milena_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use milena_protocol::messages::leave_group_request::MemberIdentity;
use milena_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use milena_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use milena_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use milena_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use milena_protocol::messages::*;

use crate::world::World;

/// Played with an initial delay of 0.
pub const DEFAULT: &[&str] = &[
    "refused",
    "simple",
    "life",
    "old",
    "statics",
    "protocols",
    "sessions",
    "timeouts",
    "pending",
    "connect",
    "admin",
];
/// Played with an initial delay of 500 ms, two members at most, ten characters of metadata.
pub const LIMITED: &[&str] = &["delayed", "full", "metadata"];

pub async fn run(name: &str, w: &mut World) {
    match name {
        "simple" => simple(w).await,
        "refused" => refused(w).await,
        "life" => life(w).await,
        "old" => old(w).await,
        "statics" => statics(w).await,
        "protocols" => different_protocols(w).await,
        "sessions" => sessions(w).await,
        "timeouts" => timeouts(w).await,
        "pending" => pending(w).await,
        "connect" => connect(w).await,
        "admin" => admin(w).await,
        "delayed" => delayed(w).await,
        "full" => full(w).await,
        "metadata" => metadata(w).await,
        _ => panic!("no scenario {name}"),
    }
}

fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    bytes.extend(0i32.to_be_bytes());
    bytes.into()
}

fn protocols(names: &[&str]) -> Vec<JoinGroupRequestProtocol> {
    names
        .iter()
        .map(|name| JoinGroupRequestProtocol { name: (*name).into(), metadata: subscription(&["topic"]) })
        .collect()
}

fn join(group: &str, member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        ..Default::default()
    }
}

fn static_join(group: &str, member_id: &str, instance_id: &str) -> JoinGroupRequest {
    JoinGroupRequest { group_instance_id: Some(instance_id.into()), ..join(group, member_id) }
}

fn sync(group: &str, generation_id: i32, member_id: &str, assignments: &[(&str, &'static [u8])]) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: group.into(),
        generation_id,
        member_id: member_id.into(),
        assignments: assignments
            .iter()
            .map(|(id, bytes)| SyncGroupRequestAssignment {
                member_id: (*id).into(),
                assignment: Bytes::from_static(bytes),
            })
            .collect(),
        ..Default::default()
    }
}

/// As clients do from v5 on.
fn sync5(group: &str, generation_id: i32, member_id: &str, assignments: &[(&str, &'static [u8])]) -> SyncGroupRequest {
    SyncGroupRequest {
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        ..sync(group, generation_id, member_id, assignments)
    }
}

fn heartbeat(group: &str, generation_id: i32, member_id: &str) -> HeartbeatRequest {
    HeartbeatRequest { group_id: group.into(), generation_id, member_id: member_id.into(), ..Default::default() }
}

fn leave(group: &str, members: &[(&str, Option<&str>)]) -> LeaveGroupRequest {
    LeaveGroupRequest {
        group_id: group.into(),
        members: members
            .iter()
            .map(|(member_id, instance_id)| MemberIdentity {
                member_id: (*member_id).into(),
                group_instance_id: instance_id.map(str::to_owned),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn leave_old(group: &str, member_id: &str) -> LeaveGroupRequest {
    LeaveGroupRequest { group_id: group.into(), member_id: member_id.into(), ..Default::default() }
}

fn commit(group: &str, generation: i32, member_id: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        member_id: member_id.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "topic".into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetch(group: &str, partitions: &[i32]) -> OffsetFetchRequest {
    let topic = OffsetFetchRequestTopic { name: "topic".into(), partition_indexes: partitions.to_vec() };
    OffsetFetchRequest { group_id: group.into(), topics: Some(vec![topic]), ..Default::default() }
}

fn fetch_many(groups: &[(&str, Option<&[i32]>)]) -> OffsetFetchRequest {
    let groups = groups
        .iter()
        .map(|(group, partitions)| OffsetFetchRequestGroup {
            group_id: (*group).into(),
            topics: partitions.map(|partitions| {
                vec![OffsetFetchRequestTopics {
                    name: "topic".into(),
                    partition_indexes: partitions.to_vec(),
                    ..Default::default()
                }]
            }),
            ..Default::default()
        })
        .collect();
    OffsetFetchRequest { groups, ..Default::default() }
}

fn delete_offsets(group: &str, topics: &[&str]) -> OffsetDeleteRequest {
    OffsetDeleteRequest {
        group_id: group.into(),
        topics: topics
            .iter()
            .map(|topic| OffsetDeleteRequestTopic {
                name: (*topic).into(),
                partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
            })
            .collect(),
    }
}

fn describe(group: &str) -> DescribeGroupsRequest {
    DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() }
}

fn delete(groups: &[&str]) -> DeleteGroupsRequest {
    DeleteGroupsRequest { groups_names: groups.iter().map(|&group| group.to_owned()).collect() }
}

fn list(states: &[&str], types: &[&str]) -> ListGroupsRequest {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    ListGroupsRequest { states_filter: owned(states), types_filter: owned(types) }
}

/// A stable group of one member; its id.
async fn stable(w: &mut World, client: &str, group: &str) -> String {
    let id = w.call(client, 3, "joins", join(group, "")).await.member_id;
    w.call(client, 3, "syncs", sync(group, 1, &id, &[(&id, b"all")])).await;
    id
}

async fn simple(w: &mut World) {
    w.call("a", 8, "to the empty group id", commit("", -1, "", 0, 5)).await;
    w.call("a", 8, "the empty group id", fetch_many(&[("", Some(&[0, 1]))])).await;
    w.call("a", 8, "a new group", commit("simple-g", -1, "", 0, 5)).await;
    w.call("a", 8, "as a member of a simple group", commit("simple-g", 3, "m", 0, 6)).await;
    w.call("a", 8, "with a member id only", commit("simple-g", -1, "m", 0, 6)).await;
    w.call("a", 8, "as a member of no group", commit("simple-none", 3, "m", 0, 6)).await;
    w.call("a", 9, "as a member of no group", commit("simple-none", 3, "m", 0, 6)).await;
    let mut full = commit("simple-g", -1, "", 1, 7);
    full.topics[0].partitions[0].committed_metadata = Some("note é".into());
    full.topics[0].partitions[0].committed_leader_epoch = 3;
    w.call("a", 6, "with metadata and epoch", full.clone()).await;
    full.topics[0].partitions[0].partition_index = 2;
    full.retention_time_ms = 100_000;
    w.call("a", 2, "with a retention", full.clone()).await;
    full.topics[0].partitions[0].committed_metadata = None;
    full.retention_time_ms = -1;
    w.call("a", 9, "with null metadata", full.clone()).await;
    full.topics[0].partitions[0].committed_offset = -1;
    w.call("a", 8, "a negative offset", full.clone()).await;
    full.topics[0].partitions[0].committed_metadata = Some("x".repeat(4_097));
    w.call("a", 8, "too much metadata", full.clone()).await;
    full.topics[0].partitions[0].committed_metadata = Some("é".repeat(4_096));
    w.call("a", 8, "as much metadata as is allowed", full).await;
    for version in [1, 5, 7] {
        w.call("a", version, "some there, some not", fetch("simple-g", &[0, 1, 9])).await;
        w.call("a", version, "a group that is not there", fetch("simple-none", &[0])).await;
    }
    let all = OffsetFetchRequest { group_id: "simple-none".into(), topics: None, ..Default::default() };
    w.call("a", 2, "all of a group that is not there", all.clone()).await;
    let all = OffsetFetchRequest { group_id: "simple-g".into(), require_stable: true, ..all };
    w.call("a", 7, "all", all).await;
    let groups: &[(&str, Option<&[i32]>)] =
        &[("simple-g", None), ("simple-g", Some(&[1])), ("simple-none", None), ("simple-none", Some(&[0]))];
    w.call("a", 8, "many groups", fetch_many(groups)).await;
    w.call("a", 9, "many groups", fetch_many(groups)).await;
    w.call("a", 4, "with simple groups", list(&[], &[])).await;
    w.call("a", 5, "a simple group", describe("simple-g")).await;
    w.call("a", 3, "a member that never was", heartbeat("simple-g", 1, "m")).await;
    w.call("a", 3, "a member that never was", leave("simple-g", &[("m", None)])).await;
    w.call("a", 0, "of a simple group", delete_offsets("simple-g", &["topic", "other"])).await;
    w.call("a", 8, "what is left", fetch_many(&[("simple-g", None)])).await;
    w.call("a", 1, "a simple group", delete(&["simple-g", "simple-none"])).await;
    w.call("a", 5, "a deleted group", describe("simple-g")).await;
    w.call("a", 6, "a deleted group", describe("simple-g")).await;
    w.call("a", 8, "a deleted group", fetch_many(&[("simple-g", None)])).await;
    w.call("a", 8, "the last offset of a group", commit("simple-last", -1, "", 0, 1)).await;
    w.call("a", 0, "the last offset of a group", delete_offsets("simple-last", &["topic"])).await;
    w.call("a", 5, "whose last offset was deleted", describe("simple-last")).await;
    w.call("a", 4, "at the end", list(&[], &[])).await;
}

/// Kafka leaves an empty group behind when a first join fails; we do not, so those joins use a group that is not listed.
async fn refused(w: &mut World) {
    for version in [0, 5, 9] {
        w.call("a", version, "without group id", join("", "")).await;
        let request = JoinGroupRequest { session_timeout_ms: 99, ..join("hidden-g", "") };
        w.call("a", version, "too short a session", request.clone()).await;
        w.call("a", version, "too long a session", JoinGroupRequest { session_timeout_ms: 1_800_001, ..request }).await;
        w.call(
            "a",
            version,
            "no protocol type",
            JoinGroupRequest { protocol_type: String::new(), ..join("hidden-g", "") },
        )
        .await;
        w.call("a", version, "no protocols", JoinGroupRequest { protocols: vec![], ..join("hidden-g", "") }).await;
        w.call("a", version, "an unknown member of no group", join("refused-g", "nobody")).await;
    }
    w.call("a", 5, "an unknown static member of no group", static_join("refused-g", "nobody", "i")).await;
    for version in [0, 5] {
        w.call("a", version, "without group id", sync("", 1, "m", &[])).await;
        w.call("a", version, "no group", sync5("refused-g", 1, "m", &[])).await;
    }
    w.call("a", 0, "without group id", heartbeat("", 1, "m")).await;
    w.call("a", 4, "no group", heartbeat("refused-g", 1, "m")).await;
    w.call("a", 0, "without group id", leave_old("", "m")).await;
    w.call("a", 3, "without group id", leave("", &[("m", None)])).await;
    w.call("a", 0, "no group", leave_old("refused-g", "m")).await;
    w.call("a", 4, "no group", leave("refused-g", &[("m", None), ("", Some("i"))])).await;
    w.call("a", 4, "no group, no members", leave("refused-g", &[])).await;
    w.call("a", 0, "without group id", delete_offsets("", &["topic"])).await;
    w.call("a", 0, "no group", delete_offsets("refused-g", &["topic"])).await;
    w.call("a", 1, "without group id", delete(&[""])).await;
    w.call("a", 5, "without group id", describe("")).await;
    w.call("a", 4, "a state that is none", list(&["nonsense"], &[])).await;
    w.call("a", 5, "a type that is none", list(&[], &["nonsense"])).await;
    w.call("a", 5, "at the end", list(&[], &[])).await;
}

async fn life(w: &mut World) {
    let g = "life-g";
    let a = w.call("a", 9, "first, without id", join(g, "")).await.member_id;
    w.call("a", 5, "a pending member", describe(g)).await;
    w.call("a", 4, "a pending member", heartbeat(g, 0, &a)).await;
    w.call("a", 8, "as a pending member", commit(g, -1, &a, 0, 1)).await;
    w.call("a", 9, "with the id", JoinGroupRequest { reason: Some("because".into()), ..join(g, &a) }).await;
    w.call("a", 5, "completing", describe(g)).await;
    w.call("a", 8, "completing, as its member", commit(g, 1, &a, 0, 1)).await;
    w.call("a", 8, "completing, as a stranger", commit(g, -1, "", 0, 1)).await;
    w.call("a", 4, "completing", heartbeat(g, 1, &a)).await;
    w.call("a", 5, "of the wrong generation", sync5(g, 2, &a, &[])).await;
    w.call("a", 5, "of the wrong member", sync5(g, 1, "nobody", &[])).await;
    let wrong = SyncGroupRequest { protocol_type: Some("connect".into()), ..sync5(g, 1, &a, &[]) };
    w.call("a", 5, "of the wrong type", wrong).await;
    let wrong = SyncGroupRequest { protocol_name: Some("sticky".into()), ..sync5(g, 1, &a, &[]) };
    w.call("a", 5, "of the wrong protocol", wrong).await;
    w.call("a", 5, "as leader", sync5(g, 1, &a, &[(&a, b"one"), ("nobody", b"two")])).await;
    w.call("a", 5, "again", sync5(g, 1, &a, &[])).await;
    w.call("a", 5, "stable", describe(g)).await;
    w.call("a", 0, "stable", describe(g)).await;
    for (member, generation) in [(a.as_str(), 1), (&a, 0), (&a, 2), ("nobody", 1), ("", 1)] {
        w.call("a", 4, "stable", heartbeat(g, generation, member)).await;
    }
    for (member, generation) in [(a.as_str(), 1), (&a, 0), (&a, -1), ("nobody", 1), ("nobody", -1), ("", 1), ("", -1)] {
        w.call("a", 8, "stable", commit(g, generation, member, 0, 10)).await;
        w.call("a", 9, "stable", commit(g, generation, member, 1, 11)).await;
    }
    w.call("a", 5, "stable only", list(&["STABLE"], &["Classic"])).await;
    w.call("a", 5, "empty only", list(&["Empty"], &[])).await;
    w.call("a", 3, "all", list(&[], &[])).await;
    w.call("a", 1, "with members", delete(&[g])).await;
    w.call("a", 0, "with members", delete_offsets(g, &["topic", "other"])).await;

    let b = w.call("b", 9, "second, without id", join(g, "")).await.member_id;
    w.call("a", 5, "still stable", describe(g)).await;
    let b_joins = w.send("b", 9, "second, with its id", join(g, &b)).await;
    w.note_parked(&b_joins).await;
    w.call("a", 5, "preparing", describe(g)).await;
    w.call("a", 4, "preparing", heartbeat(g, 1, &a)).await;
    w.call("a", 8, "preparing, as its member", commit(g, 1, &a, 0, 12)).await;
    w.call("a", 8, "preparing, as a stranger", commit(g, -1, "", 0, 12)).await;
    w.call("a", 5, "preparing", sync5(g, 1, &a, &[])).await;
    w.call("a", 0, "preparing", delete_offsets(g, &["topic", "other"])).await;
    w.call("a", 9, "again, with its id", join(g, &a)).await;
    w.receive(b_joins).await;
    let b_syncs = w.send("b", 5, "follower first", sync5(g, 2, &b, &[])).await;
    w.note_parked(&b_syncs).await;
    w.call("a", 5, "completing", describe(g)).await;
    w.call("a", 9, "again, unchanged, completing", join(g, &a)).await;
    w.call("a", 5, "leader, nothing for b", sync5(g, 2, &a, &[(&a, b"all")])).await;
    w.receive(b_syncs).await;
    w.call("b", 9, "follower again, unchanged, stable", join(g, &b)).await;
    w.call("a", 5, "stable with two", describe(g)).await;
    w.call("b", 4, "follower", LeaveGroupRequest { ..leave(g, &[(&b, None)]) }).await;
    w.call("a", 4, "after b left", heartbeat(g, 2, &a)).await;
    w.call("a", 9, "after b left", join(g, &a)).await;
    w.call("a", 5, "after b left", sync5(g, 3, &a, &[(&a, b"all")])).await;
    w.call("a", 2, "last", leave_old(g, &a)).await;
    w.call("a", 5, "empty", describe(g)).await;
    w.call("a", 4, "empty", heartbeat(g, 3, &a)).await;
    w.call("a", 5, "empty", sync5(g, 3, &a, &[])).await;
    w.call("a", 8, "empty, as a former member", commit(g, 3, &a, 0, 13)).await;
    w.call("a", 8, "empty, as a stranger", commit(g, -1, "", 0, 13)).await;
    w.call("a", 9, "empty, with the old id", join(g, &a)).await;
    w.call("a", 8, "all", fetch_many(&[(g, None)])).await;
    w.call("a", 5, "empty", list(&[], &[])).await;
    w.call("a", 0, "empty", delete_offsets(g, &["topic", "other"])).await;
    w.call("a", 2, "empty", delete(&[g])).await;
    w.call("a", 5, "deleted", describe(g)).await;
}

/// Members of versions before MEMBER_ID_REQUIRED.
async fn old(w: &mut World) {
    let g = "old-g";
    let a = w.call("a", 0, "first", join(g, "")).await.member_id;
    w.call("a", 0, "leader", sync(g, 1, &a, &[(&a, b"x")])).await;
    let b_joins = w.send("b", 1, "second", join(g, "")).await;
    w.call("a", 0, "preparing", heartbeat(g, 1, &a)).await;
    w.call("a", 2, "again", join(g, &a)).await;
    let b = w.receive(b_joins).await.member_id;
    let b_syncs = w.send("b", 1, "follower", sync(g, 2, &b, &[])).await;
    w.call("a", 2, "leader", sync(g, 2, &a, &[(&a, b"x"), (&b, b"y")])).await;
    w.receive(b_syncs).await;
    w.call("a", 2, "as a member", commit(g, 2, &a, 0, 1)).await;
    w.call("a", 0, "two members", describe(g)).await;
    w.call("b", 1, "follower", leave_old(g, &b)).await;
    w.call("b", 1, "follower again", leave_old(g, &b)).await;
    w.call("a", 1, "leader", heartbeat(g, 2, &a)).await;
    w.call("a", 0, "leader", leave_old(g, &a)).await;
    w.call("a", 0, "all", list(&[], &[])).await;
}

async fn statics(w: &mut World) {
    let g = "statics-g";
    let a = w.call("a", 5, "first", static_join(g, "", "ia")).await.member_id;
    w.call("a", 3, "first", sync(g, 1, &a, &[(&a, b"all")])).await;
    let b_joins = w.send("b", 5, "second", static_join(g, "", "ib")).await;
    w.call("a", 5, "first again", static_join(g, &a, "ia")).await;
    let b = w.receive(b_joins).await.member_id;
    let b_syncs = w.send("b", 3, "second", sync(g, 2, &b, &[])).await;
    w.call("a", 3, "first", sync(g, 2, &a, &[(&a, b"one"), (&b, b"two")])).await;
    w.receive(b_syncs).await;
    w.call("a", 5, "stable", describe(g)).await;

    let b2 = w.call("c", 8, "the second restarts", static_join(g, "", "ib")).await.member_id;
    w.call("c", 3, "the second, restarted", sync(g, 2, &b2, &[])).await;
    w.call("a", 4, "first, undisturbed", heartbeat(g, 2, &a)).await;
    let beat = |member: &str, instance: &str| HeartbeatRequest {
        group_instance_id: Some(instance.to_owned()),
        ..heartbeat(g, 2, member)
    };
    w.call("b", 4, "fenced", beat(&b, "ib")).await;
    w.call("b", 4, "fenced, without instance id", heartbeat(g, 2, &b)).await;
    w.call("b", 4, "an instance id that is none", beat(&b2, "ix")).await;
    w.call("b", 4, "another's instance id", beat(&a, "ib")).await;
    let fenced =
        |member: &str| OffsetCommitRequest { group_instance_id: Some("ib".into()), ..commit(g, 2, member, 0, 1) };
    w.call("b", 7, "fenced", fenced(&b)).await;
    w.call("c", 7, "the successor", fenced(&b2)).await;
    let fenced = SyncGroupRequest { group_instance_id: Some("ib".into()), ..sync(g, 2, &b, &[]) };
    w.call("b", 3, "fenced", fenced).await;
    w.call("b", 5, "fenced", static_join(g, &b, "ib")).await;
    w.call(
        "b",
        3,
        "fenced",
        leave(g, &[(&b, Some("ib")), ("", Some("ix")), ("", None), ("nobody", None), ("nobody", Some("ib"))]),
    )
    .await;

    let a2 = w.call("a", 8, "the leader restarts", static_join(g, "", "ia")).await.member_id;
    w.call("a", 4, "the leader, restarted", heartbeat(g, 2, &a2)).await;
    let a3 = w.call("a", 9, "the leader restarts", static_join(g, "", "ia")).await.member_id;
    w.call("a", 5, "the leader, restarted", sync5(g, 2, &a3, &[])).await;
    w.call("a", 5, "stable", describe(g)).await;

    let mut changed = static_join(g, "", "ib");
    changed.protocols[0].metadata = subscription(&["topic", "other"]);
    let b3 = w.call("b", 9, "the second restarts with another subscription", changed.clone()).await.member_id;
    w.call("a", 5, "still stable", describe(g)).await;
    let mut again = static_join(g, &b3, "ib");
    again.protocols[0].metadata = subscription(&["other"]);
    let b3 = w.send("b", 9, "the second changes its subscription", again).await;
    w.note_parked(&b3).await;
    w.call("a", 4, "first", heartbeat(g, 2, &a3)).await;
    let successor = w.send("c", 9, "another takes over while it waits", changed).await;
    w.note_parked(&b3).await;
    w.note_parked(&successor).await;
    w.call("a", 9, "first again", static_join(g, &a3, "ia")).await;
    w.receive(b3).await;
    let b4 = w.receive(successor).await.member_id;
    let b_syncs = w.send("c", 3, "second", sync(g, 3, &b4, &[])).await;
    let taken_over = w.send("b", 9, "another takes over while it syncs", static_join(g, "", "ib")).await;
    w.receive(b_syncs).await;
    w.note_parked(&taken_over).await;
    w.call("a", 9, "first again", static_join(g, &a3, "ia")).await;
    let b5 = w.receive(taken_over).await.member_id;
    let b_syncs = w.send("b", 3, "second", sync(g, 4, &b5, &[])).await;
    w.call("a", 3, "first", sync(g, 4, &a3, &[(&a3, b"one"), (&b5, b"two")])).await;
    w.receive(b_syncs).await;
    w.call("a", 5, "the administrator", leave(g, &[("", Some("ib"))])).await;
    w.call("a", 4, "first", heartbeat(g, 4, &a3)).await;
    w.call("a", 3, "the administrator", leave(g, &[(&a3, Some("ia"))])).await;
    w.call("a", 5, "empty", describe(g)).await;
}

async fn different_protocols(w: &mut World) {
    let g = "protocols-g";
    let mut request = join(g, "");
    request.protocols = protocols(&["range", "sticky"]);
    let a = w.call("a", 3, "range, sticky", request.clone()).await.member_id;
    w.call("a", 3, "all", sync(g, 1, &a, &[(&a, b"x")])).await;
    w.call("b", 3, "roundrobin", JoinGroupRequest { protocols: protocols(&["roundrobin"]), ..join(g, "") }).await;
    w.call("b", 3, "another type", JoinGroupRequest { protocol_type: "connect".into(), ..join(g, "") }).await;
    w.call(
        "b",
        4,
        "roundrobin, asking for an id",
        JoinGroupRequest { protocols: protocols(&["roundrobin"]), ..join(g, "") },
    )
    .await;
    let b_joins = w
        .send(
            "b",
            3,
            "range, sticky, too",
            JoinGroupRequest { protocols: protocols(&["range", "sticky"]), ..join(g, "") },
        )
        .await;
    request.member_id = a.clone();
    w.call("a", 3, "range, sticky, as leader", request.clone()).await;
    let b = w.receive(b_joins).await.member_id;
    let b_syncs = w.send("b", 3, "follower", sync(g, 2, &b, &[])).await;
    w.call("a", 3, "leader", sync(g, 2, &a, &[])).await;
    w.receive(b_syncs).await;
    // The leader joins again although nothing changed: rebalance.
    let a_joins = w.send("a", 3, "the leader again, stable", request.clone()).await;
    w.note_parked(&a_joins).await;
    w.call("b", 3, "preparing", heartbeat(g, 2, &b)).await;
    let b_first =
        w.send("c", 3, "only sticky", JoinGroupRequest { protocols: protocols(&["sticky"]), ..join(g, &b) }).await;
    w.receive(a_joins).await;
    w.receive(b_first).await;
    w.call(
        "a",
        3,
        "a protocol that does not fit",
        JoinGroupRequest { protocols: protocols(&["range"]), ..join(g, &a) },
    )
    .await;
    w.call("a", 3, "of the wrong generation", sync(g, 2, &a, &[])).await;
    w.call("a", 3, "both", leave(g, &[(&a, None), (&b, None)])).await;
}

async fn sessions(w: &mut World) {
    let g = "sessions-g";
    let short =
        |member: &str| JoinGroupRequest { session_timeout_ms: 600, rebalance_timeout_ms: 2_000, ..join(g, member) };
    let a = w.call("a", 3, "a short session", short("")).await.member_id;
    w.call("a", 3, "all", sync(g, 1, &a, &[(&a, b"x")])).await;
    w.sleep(400).await;
    w.call("a", 3, "in time", heartbeat(g, 1, &a)).await;
    w.sleep(400).await;
    w.call("a", 8, "in time", commit(g, 1, &a, 0, 1)).await;
    w.sleep(400).await;
    w.call("a", 5, "alive", describe(g)).await;
    w.sleep(900).await;
    w.call("a", 5, "silent", describe(g)).await;
    w.call("a", 3, "too late", heartbeat(g, 1, &a)).await;
    w.call("a", 8, "too late", commit(g, 1, &a, 0, 2)).await;
    w.call("a", 3, "with the old id", short(&a)).await;
    let a = w.call("a", 3, "anew", short("")).await.member_id;
    w.call("a", 3, "all", sync(g, 3, &a, &[(&a, b"x")])).await;
    let b_joins = w.send("b", 3, "second", JoinGroupRequest { session_timeout_ms: 5_000, ..short("") }).await;
    w.note_parked(&b_joins).await;
    w.sleep(1_000).await;
    let b = w.receive(b_joins).await.member_id;
    w.call("b", 3, "alone", sync(g, 4, &b, &[])).await;
    w.call("b", 3, "leaves", leave(g, &[(&b, None)])).await;
}

async fn timeouts(w: &mut World) {
    let g = "timeouts-g";
    let patient = |member: &str| JoinGroupRequest { rebalance_timeout_ms: 800, ..join(g, member) };
    let a = w.call("a", 3, "first", patient("")).await.member_id;
    w.call("a", 3, "all", sync(g, 1, &a, &[(&a, b"x")])).await;
    let b_joins = w.send("b", 3, "second", patient("")).await;
    w.sleep(300).await;
    w.note_parked(&b_joins).await;
    w.call("a", 3, "told to join", heartbeat(g, 1, &a)).await;
    w.sleep(600).await;
    // The first did not join in time: the second is alone.
    let b = w.receive(b_joins).await.member_id;
    w.call("a", 3, "left out", heartbeat(g, 1, &a)).await;
    w.call("b", 3, "completing", heartbeat(g, 2, &b)).await;
    w.sleep(100).await;
    w.call("b", 3, "not synced yet", describe(g)).await;
    w.sleep(700).await;
    w.call("b", 3, "not synced in time", heartbeat(g, 2, &b)).await;
    w.call("b", 5, "not synced in time", describe(g)).await;
}

async fn pending(w: &mut World) {
    let g = "pending-g";
    let short = |member: &str| JoinGroupRequest { session_timeout_ms: 500, ..join(g, member) };
    let a = w.call("a", 4, "asks for an id", short("")).await.member_id;
    w.sleep(900).await;
    w.call("a", 4, "too late", short(&a)).await;
    w.call("a", 5, "nobody came", describe(g)).await;
    let a = w.call("a", 4, "asks for an id", join(g, "")).await.member_id;
    w.call("a", 4, "pending", leave(g, &[(&a, None)])).await;
    w.call("a", 4, "after it left", join(g, &a)).await;
    let a = w.call("a", 4, "asks for an id", join(g, "")).await.member_id;
    w.call(
        "a",
        4,
        "pending, of the wrong protocol type",
        JoinGroupRequest { protocol_type: String::new(), ..join(g, &a) },
    )
    .await;
    w.call("a", 3, "pending", sync(g, 0, &a, &[])).await;
    w.call("a", 4, "joins", join(g, &a)).await;
    w.call("a", 4, "all", sync5(g, 1, &a, &[(&a, b"x")])).await;
    // A pending member holds up the rebalance that another starts.
    let b = w.call("b", 4, "asks for an id", short("")).await.member_id;
    let a_joins = w.send("a", 4, "leader again", join(g, &a)).await;
    w.note_parked(&a_joins).await;
    w.call("b", 4, "pending", heartbeat(g, 1, &b)).await;
    w.sleep(900).await;
    w.receive(a_joins).await;
    w.call("b", 4, "gone", heartbeat(g, 2, &b)).await;
    w.call("a", 4, "all", leave(g, &[(&a, None)])).await;
}

/// A protocol whose metadata Kafka does not look into.
async fn connect(w: &mut World) {
    let g = "connect-g";
    let mut request = join(g, "");
    request.protocol_type = "connect".into();
    request.protocols =
        vec![JoinGroupRequestProtocol { name: "sessioned".into(), metadata: Bytes::from_static(b"url") }];
    let a = w.call("a", 3, "a worker", request.clone()).await.member_id;
    w.call("a", 3, "all", sync(g, 1, &a, &[(&a, b"x")])).await;
    w.call("a", 8, "as a worker", commit(g, 1, &a, 0, 1)).await;
    w.call("a", 5, "stable", describe(g)).await;
    w.call("a", 0, "in use", delete_offsets(g, &["topic"])).await;
    w.call("a", 3, "leaves", leave(g, &[(&a, None)])).await;
    w.call("a", 0, "empty", delete_offsets(g, &["topic"])).await;
    w.call("a", 3, "a consumer comes", join(g, "")).await;
    w.call("a", 5, "completing", describe(g)).await;

    // A consumer whose subscription cannot be read.
    let g = "connect-garbage";
    let mut request = join(g, "");
    request.protocols[0].metadata = Bytes::from_static(b"\0\x01\x7f");
    let a = w.call("a", 3, "garbage", request).await.member_id;
    w.call("a", 3, "all", sync(g, 1, &a, &[(&a, b"x")])).await;
    w.call("a", 8, "as its member", commit(g, 1, &a, 0, 1)).await;
    w.call("a", 0, "in use", delete_offsets(g, &["topic"])).await;
    w.call("a", 3, "leaves", leave(g, &[(&a, None)])).await;
}

async fn admin(w: &mut World) {
    stable(w, "a", "admin-stable").await;
    let id = stable(w, "b", "admin-empty").await;
    w.call("b", 8, "before it leaves", commit("admin-empty", 1, &id, 0, 1)).await;
    w.call("b", 3, "leaves", leave("admin-empty", &[(&id, None)])).await;
    w.call("c", 8, "simple", commit("admin-simple", -1, "", 0, 1)).await;
    w.call("c", 3, "completing", join("admin-completing", "")).await;
    for version in [0, 2, 3] {
        w.call("a", version, "all", list(&[], &[])).await;
    }
    w.call("a", 4, "two states", list(&["Stable", "completingrebalance"], &[])).await;
    w.call("a", 5, "two states, consumers", list(&["Stable", "Empty"], &["consumer"])).await;
    w.call("a", 5, "classic, Consumer", list(&[], &["CLASSIC", "Consumer"])).await;
    w.call("a", 5, "share", list(&[], &["share"])).await;
    let all = DescribeGroupsRequest {
        groups: ["admin-stable", "admin-empty", "admin-simple", "admin-none"].map(str::to_owned).to_vec(),
        include_authorized_operations: false,
    };
    w.call("a", 4, "many", all.clone()).await;
    w.call("a", 6, "many", all).await;
    w.call("a", 0, "many", delete(&["admin-stable", "admin-empty", "admin-simple", "admin-none", "admin-completing"]))
        .await;
    w.call("a", 5, "at the end", list(&[], &[])).await;
    // A group that was deleted comes to life again.
    stable(w, "b", "admin-empty").await;
}

async fn delayed(w: &mut World) {
    let g = "delayed-g";
    let a_joins = w.send("a", 3, "first", join(g, "")).await;
    w.call("c", 5, "waiting", describe(g)).await;
    w.sleep(200).await;
    w.note_parked(&a_joins).await;
    let b_joins = w.send("b", 3, "second", join(g, "")).await;
    // The delay begins again at its end, since somebody came.
    w.sleep(450).await;
    w.note_parked(&a_joins).await;
    w.sleep(700).await;
    let a = w.receive(a_joins).await.member_id;
    let b = w.receive(b_joins).await.member_id;
    w.call("a", 3, "both", leave(g, &[(&a, None), (&b, None)])).await;
    // Also when the group is empty again; without more members the delay is over after one round.
    let a_joins = w.send("a", 4, "asks for an id", join(g, "")).await;
    let a = w.receive(a_joins).await.member_id;
    let a_joins = w.send("a", 4, "joins", join(g, &a)).await;
    w.sleep(300).await;
    w.note_parked(&a_joins).await;
    w.sleep(400).await;
    w.receive(a_joins).await;
    w.call("a", 4, "at once", join(g, &a)).await;
}

async fn full(w: &mut World) {
    let g = "full-g";
    let a_joins = w.send("a", 3, "first", join(g, "")).await;
    let b_joins = w.send("b", 3, "second", join(g, "")).await;
    w.call("c", 3, "third, while they wait", join(g, "")).await;
    w.sleep(1_300).await;
    let a = w.receive(a_joins).await.member_id;
    let b = w.receive(b_joins).await.member_id;
    w.call("c", 3, "third, completing", join(g, "")).await;
    let b_syncs = w.send("b", 3, "follower", sync(g, 1, &b, &[])).await;
    w.call("a", 3, "leader", sync(g, 1, &a, &[])).await;
    w.receive(b_syncs).await;
    w.call("c", 3, "third, stable", join(g, "")).await;
    w.call("c", 4, "third, stable, asking for an id", join(g, "")).await;
    w.call("c", 5, "third, static", static_join(g, "", "i")).await;
    w.call("a", 3, "leaves", leave(g, &[(&a, None)])).await;
    let c_joins = w.send("c", 4, "third, asking for an id", join(g, "")).await;
    let c = w.receive(c_joins).await.member_id;
    let c_joins = w.send("c", 4, "third, preparing", join(g, &c)).await;
    w.note_parked(&c_joins).await;
    w.call("b", 3, "the other", join(g, &b)).await;
    w.receive(c_joins).await;
    w.call("b", 5, "two again", describe(g)).await;
}

async fn metadata(w: &mut World) {
    for (label, metadata) in [
        ("ten", "é".repeat(10)),
        ("eleven", "x".repeat(11)),
        ("surrogates", "𝄞".repeat(5)),
        ("too many surrogates", "𝄞".repeat(6)),
    ] {
        let mut request = commit("metadata-g", -1, "", 0, 1);
        request.topics[0].partitions[0].committed_metadata = Some(metadata);
        w.call("a", 8, label, request).await;
    }
}
