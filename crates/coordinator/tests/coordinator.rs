//! `GroupCoordinator` over a log in memory: loading, order, commits, failure, many partitions.

#![expect(clippy::disallowed_methods, reason = "clients run as tasks beside the test")]

use std::sync::Arc;
use std::time::Duration;

use milena_common::{ManualClock, Now, Uuid};
use milena_coordinator::testing::MemoryLog;
use milena_coordinator::{CoordinatorRecord, GroupConfig, GroupContext, GroupCoordinator, partition_for};
use milena_protocol::ErrorCode;
use milena_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use milena_protocol::messages::leave_group_request::MemberIdentity;
use milena_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use milena_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use milena_protocol::messages::*;

struct World {
    log: MemoryLog,
    clock: Arc<ManualClock>,
    groups: GroupCoordinator,
}

fn world(config: GroupConfig) -> World {
    let log = MemoryLog::default();
    let clock = Arc::new(ManualClock::new(Now { mono_ms: 1, wall_ms: 1_700_000_000_000 }));
    let groups = GroupCoordinator::without_ticker(config, Arc::new(log.clone()), clock.clone(), Uuid::random);
    World { log, clock, groups }
}

async fn loaded() -> World {
    let world =
        world(GroupConfig { initial_rebalance_delay_ms: 0, offsets_topic_num_partitions: 4, ..GroupConfig::default() });
    for partition in 0..4 {
        world.groups.on_election(partition, 1).await;
    }
    world
}

fn cx(api_version: i16) -> GroupContext {
    GroupContext { client_id: "client".into(), client_host: "/127.0.0.1".into(), api_version }
}

fn join(group: &str, member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 20_000,
        member_id: member.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), ..Default::default() }],
        ..Default::default()
    }
}

fn commit(group: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
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

fn commit_code(response: &OffsetCommitResponse) -> ErrorCode {
    ErrorCode::from_code(response.topics[0].partitions[0].error_code)
}

async fn fetch(groups: &GroupCoordinator, version: i16, group: &str, partition: i32) -> (i64, ErrorCode) {
    let topics = Some(vec![OffsetFetchRequestTopic { name: "topic".into(), partition_indexes: vec![partition] }]);
    let response = groups
        .offset_fetch(cx(version), OffsetFetchRequest { group_id: group.into(), topics, ..Default::default() })
        .await;
    match response.topics.first() {
        Some(topic) => (topic.partitions[0].committed_offset, ErrorCode::from_code(topic.partitions[0].error_code)),
        None => (-1, ErrorCode::from_code(response.error_code)),
    }
}

/// Lets spawned tasks run.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[test]
fn partition_is_java_string_hash() {
    // "polygenelubricants".hashCode() is Integer.MIN_VALUE; "é" is one UTF-16 unit, "𝄞" two.
    assert_eq!(partition_for("polygenelubricants", 50), 0);
    assert_eq!(partition_for("", 50), 0);
    assert_eq!(partition_for("test", 50), 3_556_498 % 50);
    assert_eq!(partition_for("é", 1_000), 233);
    assert_eq!(partition_for("𝄞", i32::MAX), 0xD834 * 31 + 0xDD1E);
    assert_eq!(partition_for("hello world", 50), 1_794_106_052 % 50);
}

#[tokio::test]
async fn a_partition_that_is_not_ours_or_still_loading_says_so() {
    let w = world(GroupConfig { offsets_topic_num_partitions: 1, ..GroupConfig::default() });
    assert_eq!(commit_code(&w.groups.offset_commit(cx(8), commit("g", 0, 1)).await), ErrorCode::NotCoordinator);
    assert_eq!(fetch(&w.groups, 7, "g", 0).await.1, ErrorCode::NotCoordinator);
    assert_eq!(fetch(&w.groups, 1, "g", 0).await.1, ErrorCode::NotCoordinator);
    assert_eq!(w.groups.join_group(cx(2), join("g", "")).await.error_code, ErrorCode::NotCoordinator.code());
    assert_eq!(w.groups.list_groups(cx(4), ListGroupsRequest::default()).await.error_code, 0);
    w.groups.on_election(0, 3).await;
    assert_eq!(commit_code(&w.groups.offset_commit(cx(8), commit("g", 0, 1)).await), ErrorCode::None);
    w.groups.on_resignation(0);
    assert_eq!(fetch(&w.groups, 7, "g", 0).await.1, ErrorCode::NotCoordinator);
    w.groups.on_election(0, 4).await;
    assert_eq!(fetch(&w.groups, 7, "g", 0).await, (1, ErrorCode::None));
}

#[tokio::test]
async fn answers_wait_for_the_commit_also_of_those_who_only_read() {
    let w = loaded().await;
    w.log.hold();
    let groups = w.groups.clone();
    let commit_task = tokio::spawn(async move { groups.offset_commit(cx(8), commit("g", 0, 7)).await });
    settle().await;
    let groups = w.groups.clone();
    let fetch_task = tokio::spawn(async move { fetch(&groups, 7, "g", 0).await });
    settle().await;
    assert!(!commit_task.is_finished() && !fetch_task.is_finished());
    // Another partition is not held up by what this one has not read.
    w.log.release();
    assert_eq!(commit_code(&commit_task.await.unwrap()), ErrorCode::None);
    assert_eq!(fetch_task.await.unwrap(), (7, ErrorCode::None));
}

#[tokio::test]
async fn a_commit_that_takes_too_long_is_reported_as_such() {
    let w =
        world(GroupConfig { offsets_topic_num_partitions: 1, offsets_commit_timeout_ms: 30, ..GroupConfig::default() });
    w.groups.on_election(0, 1).await;
    w.log.hold();
    assert_eq!(
        commit_code(&w.groups.offset_commit(cx(8), commit("g", 0, 7)).await),
        ErrorCode::CoordinatorNotAvailable
    );
    w.log.release();
    settle().await;
    assert_eq!(fetch(&w.groups, 7, "g", 0).await, (7, ErrorCode::None));
}

#[tokio::test]
async fn after_a_failed_append_the_partition_is_loaded_again_and_the_parked_are_told() {
    let w = loaded().await;
    let joined = w.groups.join_group(cx(2), join("g", "")).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    let sync = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    assert_eq!(w.groups.sync_group(cx(3), sync).await.error_code, 0);
    // A second member waits for the first to rejoin.
    let groups = w.groups.clone();
    let parked = tokio::spawn(async move { groups.join_group(cx(2), join("g", "")).await });
    settle().await;
    w.log.fail(ErrorCode::KafkaStorageError);
    let commit_in_generation = OffsetCommitRequest {
        generation_id_or_member_epoch: 1,
        member_id: joined.member_id.clone(),
        ..commit("g", 0, 7)
    };
    let response = w.groups.offset_commit(cx(8), commit_in_generation).await;
    assert_eq!(commit_code(&response), ErrorCode::NotCoordinator);
    assert_eq!(ErrorCode::from_code(parked.await.unwrap().error_code), ErrorCode::NotCoordinator);
    w.log.release();
    settle().await;
    // The log kept the record, so it counts; the group is back where it was recorded.
    assert_eq!(fetch(&w.groups, 7, "g", 0).await, (7, ErrorCode::None));
    let described =
        w.groups.describe_groups(cx(5), DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() }).await;
    assert_eq!((described.groups[0].group_state.as_str(), described.groups[0].members.len()), ("Stable", 1));
}

#[tokio::test]
async fn timers_run_before_an_operation_and_by_the_tick() {
    let w = loaded().await;
    let joined = w.groups.join_group(cx(2), join("g", "")).await;
    let sync = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    w.groups.sync_group(cx(3), sync).await;
    w.clock.advance_ms(10_000);
    w.groups.tick();
    let heartbeat =
        HeartbeatRequest { group_id: "g".into(), generation_id: 1, member_id: joined.member_id, ..Default::default() };
    assert_eq!(ErrorCode::from_code(w.groups.heartbeat(cx(3), heartbeat).await.error_code), ErrorCode::UnknownMemberId);
}

#[tokio::test]
async fn the_ticker_completes_a_rebalance_by_itself() {
    let log = MemoryLog::default();
    let config =
        GroupConfig { initial_rebalance_delay_ms: 30, offsets_topic_num_partitions: 1, ..GroupConfig::default() };
    let groups = GroupCoordinator::new(config, Arc::new(log), Arc::new(milena_common::SystemClock));
    groups.on_election(0, 0).await;
    let joined = tokio::time::timeout(Duration::from_secs(5), groups.join_group(cx(2), join("g", ""))).await.unwrap();
    assert_eq!(joined.generation_id, 1);
}

#[tokio::test]
async fn responses_take_the_form_of_their_version() {
    let w = loaded().await;
    let failed = w.groups.join_group(cx(6), join("", "")).await;
    assert_eq!(
        (ErrorCode::from_code(failed.error_code), failed.protocol_name.as_deref()),
        (ErrorCode::InvalidGroupId, Some(""))
    );

    let leave = LeaveGroupRequest { group_id: "g".into(), member_id: "nobody".into(), ..Default::default() };
    let old = w.groups.leave_group(cx(2), leave).await;
    assert_eq!((ErrorCode::from_code(old.error_code), old.members.len()), (ErrorCode::UnknownMemberId, 0));
    let members = vec![MemberIdentity { member_id: "nobody".into(), ..Default::default() }];
    let new =
        w.groups.leave_group(cx(3), LeaveGroupRequest { group_id: "g".into(), members, ..Default::default() }).await;
    assert_eq!((new.error_code, ErrorCode::from_code(new.members[0].error_code)), (0, ErrorCode::UnknownMemberId));

    assert_eq!(fetch(&w.groups, 0, "g", 5).await, (-1, ErrorCode::UnknownTopicOrPartition));
    assert_eq!(fetch(&w.groups, 1, "g", 5).await, (-1, ErrorCode::None));
    w.groups.offset_commit(cx(8), commit("g", 5, 9)).await;
    w.groups.offset_commit(cx(8), commit("", 0, 3)).await;
    let groups = ["g", "", "none"]
        .map(|group| OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() })
        .to_vec();
    let fetched = w.groups.offset_fetch(cx(8), OffsetFetchRequest { groups, ..Default::default() }).await;
    let offsets: Vec<_> = fetched
        .groups
        .iter()
        .map(|group| group.topics.first().map(|topic| topic.partitions[0].committed_offset))
        .collect();
    assert_eq!(offsets, [Some(9), Some(3), None]);
}

#[tokio::test]
async fn groups_of_all_partitions_are_listed_and_deleted() {
    let w = loaded().await;
    let names: Vec<String> = (0..20).map(|n| format!("group-{n}")).collect();
    for name in &names {
        assert_eq!(commit_code(&w.groups.offset_commit(cx(8), commit(name, 0, 1)).await), ErrorCode::None);
    }
    assert_eq!(w.groups.list_groups(cx(4), ListGroupsRequest::default()).await.groups.len(), 20);
    w.groups.on_topics_deleted(vec!["topic".into()]).await;
    assert_eq!(w.groups.list_groups(cx(4), ListGroupsRequest::default()).await.groups.len(), 0);
    w.groups.offset_commit(cx(8), commit("last", 0, 1)).await;
    let deleted =
        w.groups.delete_groups(cx(1), DeleteGroupsRequest { groups_names: vec!["last".into(), "none".into()] }).await;
    let codes: Vec<_> = deleted.results.iter().map(|result| ErrorCode::from_code(result.error_code)).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::GroupIdNotFound]);
}

#[tokio::test]
async fn many_offsets_are_cut_into_batches_the_log_takes() {
    let w = loaded().await;
    let mut request = commit("g", 0, 1);
    let partition = request.topics[0].partitions[0].clone();
    request.topics[0].partitions =
        (0..20_000).map(|index| OffsetCommitRequestPartition { partition_index: index, ..partition.clone() }).collect();
    let response = w.groups.offset_commit(cx(8), request).await;
    assert!(response.topics[0].partitions.iter().all(|partition| partition.error_code == 0));
    let records: Vec<CoordinatorRecord> = w.log.records(w.groups.partition_for("g"));
    assert_eq!(records.len(), 20_000);
}
