//! Groups that change their kind while in use, and members of the classic protocol in consumer groups.

use super::consumer::{join_topics, named, stay};
use super::*;
use crate::group::consumer::GroupState;

/// A subscription of version 1, which says what the member has.
fn subscription_with(topics: &[&str], owned: &[(&str, &[i32])]) -> Bytes {
    let mut bytes = subscription(topics).to_vec();
    bytes.extend((owned.len() as i32).to_be_bytes());
    for (topic, partitions) in owned {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
        bytes.extend((partitions.len() as i32).to_be_bytes());
        partitions.iter().for_each(|partition| bytes.extend(partition.to_be_bytes()));
    }
    bytes.into()
}

fn classic_join(member_id: &str, owned: &[(&str, &[i32])]) -> JoinGroupRequest {
    let protocol =
        |name: &str| JoinGroupRequestProtocol { name: name.into(), metadata: subscription_with(&["t1"], owned) };
    JoinGroupRequest { protocols: vec![protocol("range"), protocol("sticky")], ..join_request(member_id) }
}

/// `t1-0`, `t1-1` and `t1-2`.
const ALL_OF_T1: &[u8] = b"\0\x01\0\0\0\x01\0\x02t1\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x02\xff\xff\xff\xff";
const T1_0_AND_1: &[u8] = b"\0\x01\0\0\0\x01\0\x02t1\0\0\0\x02\0\0\0\0\0\0\0\x01\xff\xff\xff\xff";

/// A classic group whose one member has all of `t1`; its id.
fn classic_group(h: &mut Harness) -> String {
    h.set_topic("t1", 3);
    let reply = h.join(2, &classic_join("", &[]));
    h.advance(h.config.initial_rebalance_delay_ms);
    let member_id = h.joined(reply).unwrap().member_id.clone();
    h.sync(&member_id, 1, &[(&member_id, ALL_OF_T1)]);
    assert_eq!(h.state(), "Stable");
    member_id
}

#[test]
fn a_classic_group_becomes_a_consumer_group_and_back() {
    let mut h = Harness::new();
    let classic = classic_group(&mut h);
    assert_eq!(h.refusal(&stay("b", 5)), ErrorCode::GroupIdNotFound);
    assert_eq!(h.beat(&join_topics("b", &["t1"])), (2, Some(named(&[]))));
    assert_eq!((h.state(), h.consumer_state()), ("none", "Reconciling"));
    let kept = h.shard.describe_consumer_group(GROUP);
    let types: Vec<i8> = kept.members.iter().map(|member| member.member_type).collect();
    assert_eq!(types, [1, 0]);

    // The classic member takes its steps: it hears that it must rejoin, gives up, and has the rest.
    assert_eq!(h.heartbeat(&classic, 1), ErrorCode::RebalanceInProgress);
    assert_eq!(h.heartbeat(&classic, 6), ErrorCode::IllegalGeneration);
    assert_eq!(h.commit_with(8, &commit_request(GROUP, &classic, 1, "t1", 0, 1)).0, Ok(vec![ErrorCode::None]));
    assert_eq!(h.commit_with(8, &commit_request(GROUP, &classic, 8, "t1", 0, 1)).0, Err(ErrorCode::IllegalGeneration));
    let joined = h.join_now(9, &classic_join(&classic, &[("t1", &[0, 1, 2])]));
    assert_eq!((joined.generation_id, joined.protocol_name.as_deref()), (1, Some("range")));
    let reply = h.sync(&classic, 1, &[]);
    assert_eq!(h.synced(reply).unwrap().assignment, T1_0_AND_1);
    assert_eq!(h.heartbeat(&classic, 1), ErrorCode::RebalanceInProgress);
    let joined = h.join_now(9, &classic_join(&classic, &[("t1", &[0, 1])]));
    assert_eq!(joined.generation_id, 2);
    let reply = h.sync(&classic, 2, &[]);
    assert_eq!(h.synced(reply).unwrap().assignment, T1_0_AND_1);
    assert_eq!(h.heartbeat(&classic, 2), ErrorCode::None);
    assert_eq!(h.beat(&stay("b", 2)), (2, Some(named(&[("t1", &[2])]))));
    assert_eq!(h.consumer_state(), "Stable");
    let reply = h.sync(&classic, 3, &[]);
    assert_eq!(error(h.synced(reply).unwrap().error_code), ErrorCode::IllegalGeneration);

    // The last member of the new protocol goes.
    h.beat(&stay("b", -1));
    assert_eq!((h.state(), h.consumer_state()), ("PreparingRebalance", "none"));
    assert_eq!(h.heartbeat(&classic, 2), ErrorCode::RebalanceInProgress);
    let reply = h.join(9, &classic_join(&classic, &[]));
    assert_eq!(h.joined(reply).unwrap().generation_id, 3);
    h.sync(&classic, 3, &[(&classic, ALL_OF_T1)]);
    assert_eq!(h.state(), "Stable");
    let live = h.shard.hard.clone();
    h.restart();
    assert_eq!((h.state(), &h.shard.hard), ("Stable", &live));
}

#[test]
fn a_consumer_group_takes_classic_members() {
    let mut h = Harness::new();
    h.set_topic("t1", 2);
    h.beat(&join_topics("a", &["t1"]));
    h.advance(1_000);
    let first = h.join_now(9, &classic_join("", &[]));
    assert_eq!(error(first.error_code), ErrorCode::MemberIdRequired);
    let joined = h.join_now(9, &classic_join(&first.member_id, &[]));
    assert_eq!((error(joined.error_code), joined.generation_id), (ErrorCode::None, 3));
    h.sync(&first.member_id, 3, &[]);
    assert_eq!(h.heartbeat(&first.member_id, 3), ErrorCode::None, "what it is to have is not free yet");
    h.beat(&super::consumer::having(stay("a", 2), &[("t1", &[0])]));
    assert_eq!(h.heartbeat(&first.member_id, 3), ErrorCode::RebalanceInProgress);
    let other_type = JoinGroupRequest { protocol_type: "connect".into(), ..classic_join("x", &[]) };
    assert_eq!(error(h.join_now(9, &other_type).error_code), ErrorCode::InconsistentGroupProtocol);
    // A member that does not join again in its rebalance timeout goes, though it heartbeats.
    for _ in 0..4 {
        h.advance(u64::from(REBALANCE_MS as u32) / 4);
        h.heartbeat(&first.member_id, 3);
        h.beat(&stay("a", 3));
    }
    assert_eq!(h.shard.hard.consumer_group(GROUP).unwrap().num_members(), 1);
    assert_eq!(h.leave(&[("a", None), ("a", None)]).0, [ErrorCode::None, ErrorCode::UnknownMemberId]);
    assert_eq!(h.shard.hard.consumer_group(GROUP).unwrap().state(), GroupState::Empty);
}

#[test]
fn migration_is_a_matter_of_policy_and_of_what_the_group_is() {
    let mut h = Harness::with(GroupConfig { consumer_upgrade: false, consumer_downgrade: false, ..config() });
    classic_group(&mut h);
    let (refused, records) = h.beat_with(&join_topics("b", &["t1"]));
    assert_eq!(error(refused.error_code), ErrorCode::GroupIdNotFound);
    assert!(refused.error_message.unwrap().contains("online upgrade is disabled") && records.is_empty());
    assert_eq!(h.state(), "Stable");

    let mut h = Harness::new();
    let member_id = classic_group(&mut h);
    h.leave(&[(&member_id, None)]);
    assert_eq!(h.state(), "Empty");
    assert_eq!(h.beat(&join_topics("b", &["t1"])).0, 2, "an empty group is simply replaced");
    h.shard.config = Arc::new(GroupConfig { consumer_downgrade: false, ..config() });
    h.advance(1_000);
    h.join_now(2, &classic_join("", &[]));
    h.beat(&stay("b", -1));
    assert_eq!(h.shard.hard.consumer_group(GROUP).unwrap().num_members(), 1, "it stays a consumer group");
}

#[test]
fn a_static_member_goes_back_to_the_classic_protocol_and_takes_the_group_along() {
    let mut h = Harness::new();
    h.set_topic("t1", 3);
    let with_instance = |instance_id: &str, request: ConsumerGroupHeartbeatRequest| ConsumerGroupHeartbeatRequest {
        instance_id: Some(instance_id.into()),
        ..request
    };
    let classic = |instance_id: &str, member_id: &str| JoinGroupRequest {
        group_instance_id: Some(instance_id.into()),
        ..classic_join(member_id, &[])
    };
    h.beat(&with_instance("i1", join_topics("a", &["t1"])));
    h.beat(&with_instance("i2", join_topics("b", &["t1"])));
    h.beat(&with_instance("i1", stay("a", -2)));
    let first = h.join_now(9, &classic("i1", ""));
    assert_eq!((error(first.error_code), h.consumer_state()), (ErrorCode::None, "Assigning"));
    // Back and forth: a classic member cannot say that it is away, so its place may be taken.
    h.beat(&with_instance("i1", join_topics("c", &["t1"])));
    assert_eq!(h.heartbeat(&first.member_id, first.generation_id), ErrorCode::UnknownMemberId);
    h.beat(&with_instance("i1", stay("c", -2)));
    let first = h.join_now(9, &classic("i1", ""));
    h.beat(&with_instance("i2", stay("b", -2)));
    let second = h.join(9, &classic("i2", ""));
    assert_eq!((h.state(), h.consumer_state()), ("PreparingRebalance", "none"));
    h.join(9, &classic("i1", &first.member_id));
    let second = h.joined(second).unwrap();
    assert_eq!((error(second.error_code), h.state()), (ErrorCode::None, "CompletingRebalance"));
    let live = h.shard.hard.clone();
    h.restart();
    assert_eq!(h.shard.hard, live);
}
