//! Committing, fetching, deleting and expiring offsets; looking at groups and deleting them.

use super::*;
use milena_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};

#[test]
fn a_member_commits_in_its_generation_only() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable_group(1);
    let mut commit =
        |member: &str, generation| h.commit_with(8, &commit_request(GROUP, member, generation, "topic", 0, 7)).0;
    assert_eq!(commit(&ids[0], generation), Ok(vec![ErrorCode::None]));
    assert_eq!(commit(&ids[0], generation + 1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(commit("nobody", generation), Err(ErrorCode::UnknownMemberId));
    assert_eq!(commit("", -1), Err(ErrorCode::UnknownMemberId), "a group with members refuses strangers");
    assert_eq!(h.fetch(GROUP, "topic", 0), 7);
    h.join(2, &join_request(&ids[0]));
    let response = h.commit_with(8, &commit_request(GROUP, &ids[0], generation + 1, "topic", 0, 8)).0;
    assert_eq!(response, Err(ErrorCode::RebalanceInProgress), "the assignment is not out yet");
}

#[test]
fn anybody_commits_to_a_group_without_members() {
    let mut h = Harness::new();
    assert_eq!(h.commit_with(2, &commit_request("simple", "", -1, "topic", 0, 5)).0, Ok(vec![ErrorCode::None]));
    assert_eq!(h.fetch("simple", "topic", 0), 5);
    assert_eq!(h.fetch("simple", "topic", 1), -1);
    assert_eq!(h.commit_with(8, &commit_request("new", "m", 3, "topic", 0, 5)).0, Err(ErrorCode::IllegalGeneration));
    assert_eq!(h.commit_with(9, &commit_request("new", "m", 3, "topic", 0, 5)).0, Err(ErrorCode::GroupIdNotFound));
    let listed = h.shard.list_groups(&ListGroupsRequest::default());
    assert_eq!((listed.len(), listed[0].group_state.as_str(), listed[0].protocol_type.as_str()), (1, "Empty", ""));
}

#[test]
fn metadata_is_limited_per_partition() {
    let mut h = Harness::new();
    let mut request = commit_request("simple", "", -1, "topic", 0, 5);
    let mut second = request.topics[0].partitions[0].clone();
    second.partition_index = 1;
    second.committed_metadata = Some("é".repeat(4_096));
    request.topics[0].partitions[0].committed_metadata = Some("x".repeat(4_097));
    request.topics[0].partitions.push(second);
    let (response, records) = h.commit_with(8, &request);
    assert_eq!(response, Ok(vec![ErrorCode::OffsetMetadataTooLarge, ErrorCode::None]));
    assert_eq!(records.len(), 1);
}

#[test]
fn retention_time_and_commit_time_of_old_clients_count() {
    let mut h = Harness::with(GroupConfig { offsets_retention_check_interval_ms: 1_000, ..config() });
    let mut request = commit_request("simple", "", -1, "topic", 0, 5);
    request.retention_time_ms = 10_000;
    request.topics[0].partitions[0].committed_leader_epoch = 4;
    assert!(h.commit_with(2, &request).0.is_ok());
    let mut v1 = commit_request("simple", "", -1, "topic", 1, 6);
    v1.topics[0].partitions[0].commit_timestamp = 77;
    let records = h.commit_with(1, &v1).1;
    assert!(matches!(&records[0], GroupRecord::Offset { value: Some(value), .. } if value.commit_timestamp == 77));
    // The commit of 1970 is past its retention at the first look, the other one when its own time is over.
    h.advance(1_000);
    assert_eq!((h.fetch("simple", "topic", 1), h.fetch("simple", "topic", 0)), (-1, 5));
    h.advance(9_000);
    assert_eq!(h.fetch("simple", "topic", 0), -1);
    assert!(h.shard.list_groups(&ListGroupsRequest::default()).is_empty());
}

#[test]
fn offsets_expire_a_week_after_the_group_became_empty() {
    const WEEK_MS: u64 = 10_080 * 60_000;
    let mut h = Harness::new();
    let (ids, generation) = h.stable_group(1);
    h.commit(GROUP, &ids[0], generation, "topic", 0, 7);
    h.commit(GROUP, &ids[0], generation, "unsubscribed", 0, 7);
    h.shard.soft.timers.cancel(&TimerKey::Session { group: GROUP.into(), member: ids[0].as_str().into() });
    h.advance(WEEK_MS + 600_000);
    assert_eq!((h.fetch(GROUP, "topic", 0), h.fetch(GROUP, "unsubscribed", 0)), (7, -1));
    h.leave(&[(&ids[0], None)]);
    h.advance(WEEK_MS - 600_000);
    assert_eq!(h.fetch(GROUP, "topic", 0), 7);
    let records = h.advance(1_200_000);
    assert_eq!(h.fetch(GROUP, "topic", 0), -1);
    assert!(matches!(&records[..], [GroupRecord::Offset { value: None, .. }, GroupRecord::Group { value: None, .. }]));
    assert_eq!(h.state(), "none");
}

#[test]
fn offset_delete_spares_topics_in_use() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable_group(1);
    for topic in ["topic", "other"] {
        h.commit(GROUP, &ids[0], generation, topic, 0, 7);
    }
    let topic = |name: &str| OffsetDeleteRequestTopic {
        name: name.into(),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
    };
    let request = OffsetDeleteRequest { group_id: GROUP.into(), topics: vec![topic("topic"), topic("other")] };
    let outcome = h.shard.delete_offsets(&request, h.now);
    let response = h.apply(outcome).0;
    let errors: Vec<_> = response.topics.iter().map(|topic| error(topic.partitions[0].error_code)).collect();
    assert_eq!(errors, [ErrorCode::GroupSubscribedToTopic, ErrorCode::None]);
    assert_eq!((h.fetch(GROUP, "topic", 0), h.fetch(GROUP, "other", 0)), (7, -1));
    let missing = h.shard.delete_offsets(&OffsetDeleteRequest { group_id: "none".into(), ..request }, h.now);
    assert_eq!(error(h.apply(missing).0.error_code), ErrorCode::GroupIdNotFound);
}

#[test]
fn deleting_a_group_needs_it_empty() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable_group(1);
    h.commit(GROUP, &ids[0], generation, "topic", 0, 7);
    let delete = |group: &str, h: &mut Harness| {
        let outcome = h.shard.delete_group(group, h.now);
        error(h.apply(outcome).0.error_code)
    };
    assert_eq!(delete(GROUP, &mut h), ErrorCode::NonEmptyGroup);
    assert_eq!(delete("none", &mut h), ErrorCode::GroupIdNotFound);
    h.leave(&[(&ids[0], None)]);
    assert_eq!(delete(GROUP, &mut h), ErrorCode::None);
    assert_eq!((h.state(), h.fetch(GROUP, "topic", 0)), ("none", -1));
    assert_eq!(h.shard.hard, Hard::default());
}

#[test]
fn deleted_topics_take_their_offsets_along() {
    let mut h = Harness::new();
    for (group, topic) in [("a", "gone"), ("a", "stays"), ("b", "gone")] {
        h.commit(group, "", -1, topic, 0, 7);
    }
    let outcome = h.shard.on_topics_deleted(&["gone".into()]);
    assert_eq!(h.apply(outcome).1.len(), 2);
    assert_eq!((h.fetch("a", "gone", 0), h.fetch("a", "stays", 0), h.fetch("b", "gone", 0)), (-1, 7, -1));
}

#[test]
fn describe_tells_members_and_missing_groups() {
    let mut h = Harness::new();
    let (ids, _) = h.stable_group(1);
    let stable = h.shard.describe_group(&cx(5), GROUP);
    assert_eq!(
        (stable.group_state.as_str(), stable.protocol_data.as_str(), stable.members[0].member_id.as_str()),
        ("Stable", "range", ids[0].as_str())
    );
    assert_eq!(
        (stable.members[0].client_host.as_str(), &stable.members[0].member_metadata),
        ("/127.0.0.1", &subscription(&["topic"]))
    );
    let old = h.shard.describe_group(&cx(5), "none");
    assert_eq!((old.group_state.as_str(), old.error_code), ("Dead", 0));
    let new = h.shard.describe_group(&cx(6), "none");
    assert_eq!(
        (error(new.error_code), new.error_message.as_deref()),
        (ErrorCode::GroupIdNotFound, Some("Group none not found."))
    );
}

#[test]
fn list_filters_ignore_case() {
    let mut h = Harness::new();
    h.stable_group(1);
    h.commit("simple", "", -1, "topic", 0, 7);
    let list = |states: &[&str], types: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        h.shard.list_groups(&ListGroupsRequest { states_filter: owned(states), types_filter: owned(types) }).len()
    };
    assert_eq!(
        (
            list(&[], &[]),
            list(&["sTABLE"], &[]),
            list(&["Dead"], &[]),
            list(&[], &["Classic"]),
            list(&[], &["consumer"])
        ),
        (2, 1, 0, 2, 0)
    );
}

#[test]
fn offsets_of_transactions_count_when_they_commit() {
    let mut h = Harness::new();
    let (_, records) = h.commit_with(8, &commit_request("g", "", -1, "topic", 0, 1));
    let pending = |offset: i64| match records[0].clone() {
        GroupRecord::Offset { group, topic, partition, value: Some(value), .. } => GroupRecord::Offset {
            producer_id: 9,
            group,
            topic,
            partition,
            value: Some(milena_protocol::stored::group::OffsetCommitValue { offset, ..value }),
        },
        other => panic!("{other:?}"),
    };
    h.shard.replay(1, &pending(2));
    assert_eq!(h.fetch("g", "topic", 0), 1);
    let unstable = h.shard.fetch_offsets(&fetch_request("g", "topic", 0), true);
    assert_eq!(error(unstable.topics[0].partitions[0].error_code), ErrorCode::UnstableOffsetCommit);
    h.shard.replay(2, &GroupRecord::TransactionEnd { producer_id: 9, committed: true });
    assert_eq!(h.fetch("g", "topic", 0), 2);
    h.shard.replay(3, &pending(3));
    h.shard.replay(4, &GroupRecord::TransactionEnd { producer_id: 9, committed: false });
    assert_eq!(h.fetch("g", "topic", 0), 2);
}

#[test]
fn an_offset_of_an_earlier_topic_of_the_same_name_is_not_given_out() {
    let mut h = Harness::new();
    let mut request = commit_request("g", "", -1, "topic", 0, 5);
    request.topics[0].topic_id = Uuid::from_u128(7);
    assert!(h.commit_with(9, &request).0.is_ok());
    let offset = |id: u128| {
        let mut request = fetch_request("g", "topic", 0);
        if let Some(topics) = &mut request.topics {
            topics[0].topic_id = Uuid::from_u128(id);
        }
        h.shard.fetch_offsets(&request, false).topics[0].partitions[0].committed_offset
    };
    assert_eq!((offset(0), offset(7), offset(8)), (5, 5, -1));
}
