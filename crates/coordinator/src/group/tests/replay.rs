//! Replay equals live, over random histories, whole or compacted.

use proptest::prelude::*;

use super::*;
use crate::group::classic::State;

#[derive(Debug, Clone)]
enum Step {
    Join { who: usize, is_static: bool, variant: u8, version: i16 },
    Sync { who: usize, generation_off: i32 },
    Heartbeat { who: usize },
    Leave { who: usize },
    Commit { who: Option<usize>, topic: u8, partition: i32 },
    DeleteOffsets { topic: u8 },
    DeleteTopic { topic: u8 },
    DeleteGroup,
    Advance { ms: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0usize..5;
    prop_oneof![
        8 => (who.clone(), any::<bool>(), 0u8..3, 0i16..10).prop_map(|(who, is_static, variant, version)| Step::Join { who, is_static, variant, version }),
        8 => (who.clone(), prop_oneof![9 => Just(0), 1 => -1i32..2]).prop_map(|(who, generation_off)| Step::Sync { who, generation_off }),
        3 => who.clone().prop_map(|who| Step::Heartbeat { who }),
        1 => who.clone().prop_map(|who| Step::Leave { who }),
        3 => (proptest::option::of(who), 0u8..3, 0i32..3).prop_map(|(who, topic, partition)| Step::Commit { who, topic, partition }),
        1 => (0u8..3).prop_map(|topic| Step::DeleteOffsets { topic }),
        1 => (0u8..3).prop_map(|topic| Step::DeleteTopic { topic }),
        1 => Just(Step::DeleteGroup),
        5 => prop_oneof![Just(1u64), Just(100), Just(3_000), Just(11_000), Just(40_000), Just(8 * 86_400_000)].prop_map(|ms| Step::Advance { ms }),
        1 => Just(Step::Restart),
    ]
}

/// What one client knows of its place in the group.
#[derive(Default, Clone)]
struct Client {
    member_id: String,
    instance_id: Option<String>,
    parked: Option<ReplyId>,
}

fn run(h: &mut Harness, clients: &mut [Client], step: &Step) {
    // Clients learn their ids from whatever was answered since.
    for client in clients.iter_mut() {
        if let Some(Parked::Join(response)) = client.parked.and_then(|reply| h.answers.get(&reply))
            && !response.member_id.is_empty()
        {
            client.member_id = response.member_id.clone();
        }
    }
    let generation = h.shard.soft.groups.get(GROUP).map_or(0, |group| group.generation_id);
    match step {
        Step::Join { who, is_static, variant, version } => {
            let names: &[&str] = [&["range"][..], &["range", "sticky"], &["sticky", "range"]][usize::from(*variant)];
            let client = &mut clients[*who];
            client.instance_id = is_static.then(|| format!("instance-{who}"));
            let member_id = if *is_static && *variant == 0 { "" } else { client.member_id.as_str() };
            let request = JoinGroupRequest {
                protocols: protocols(names),
                group_instance_id: client.instance_id.clone(),
                ..join_request(member_id)
            };
            client.parked = Some(h.join(*version, &request));
        }
        Step::Sync { who, generation_off } => {
            let assignments: Vec<_> =
                clients.iter().map(|client| (client.member_id.as_str(), &b"assigned"[..])).collect();
            h.sync(&clients[*who].member_id, generation + generation_off, &assignments);
        }
        Step::Heartbeat { who } => {
            h.heartbeat(&clients[*who].member_id, generation);
        }
        Step::Leave { who } => {
            h.leave(&[(&clients[*who].member_id, clients[*who].instance_id.as_deref())]);
        }
        Step::Commit { who, topic, partition } => {
            let offset = h.log.len() as i64;
            let mut request = match who {
                Some(who) => commit_request(
                    GROUP,
                    &clients[*who].member_id,
                    generation,
                    &format!("topic-{topic}"),
                    *partition,
                    offset,
                ),
                None => commit_request("simple", "", -1, &format!("topic-{topic}"), *partition, offset),
            };
            if *partition == 2 {
                request.retention_time_ms = 5_000;
            }
            request.topics[0].topic_id = Uuid::from_u128(100 + u128::from(*topic));
            request.topics[0].partitions[0].committed_leader_epoch = *partition;
            let _ = h.commit_with(8, &request);
        }
        Step::DeleteOffsets { topic } => {
            use milena_protocol::messages::offset_delete_request::{
                OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
            };
            let partitions = (0..3).map(|partition_index| OffsetDeleteRequestPartition { partition_index }).collect();
            let topics = vec![OffsetDeleteRequestTopic { name: format!("topic-{topic}"), partitions }];
            let request = OffsetDeleteRequest { group_id: "simple".into(), topics };
            let outcome = h.shard.delete_offsets(&request, h.now);
            h.apply(outcome);
        }
        Step::DeleteTopic { topic } => {
            let outcome = h.shard.on_topics_deleted(&[format!("topic-{topic}")]);
            h.apply(outcome);
        }
        Step::DeleteGroup => {
            let outcome = h.shard.delete_group(GROUP, h.now);
            h.apply(outcome);
        }
        Step::Advance { ms } => {
            h.advance(*ms);
        }
        Step::Restart => h.restart(),
    }
}

/// Keeps the last record of each key, as the log cleaner does; at the end tombstones go as well.
pub(super) fn compact(log: &[CoordinatorRecord], drop_tombstones: bool) -> Vec<CoordinatorRecord> {
    let last: HashMap<&Bytes, usize> = log.iter().enumerate().map(|(at, record)| (&record.key, at)).collect();
    log.iter()
        .enumerate()
        .filter(|(at, record)| last[&record.key] == *at && !(drop_tombstones && record.value.is_none()))
        .map(|(_, record)| record.clone())
        .collect()
}

fn check_invariants(h: &Harness) {
    for group in h.shard.soft.groups.values() {
        group.assert_invariants();
        let recorded = h.shard.hard.group(&group.id).and_then(|recorded| recorded.metadata.as_ref());
        // A settled group is what its record says: loading it again changes nothing that members can see.
        if let (State::Stable | State::Empty, Some(recorded)) = (group.state, recorded)
            && group.generation_id > 0
        {
            let ours = group.to_record();
            assert_eq!(
                (ours.generation, &ours.leader, &ours.protocol, &ours.protocol_type),
                (recorded.generation, &recorded.leader, &recorded.protocol, &recorded.protocol_type)
            );
            assert_eq!(ours.members, recorded.members);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn replay_equals_live(steps in proptest::collection::vec(step(), 1..80)) {
        let mut h = Harness::new();
        let mut clients = vec![Client::default(); 5];
        for step in &steps {
            run(&mut h, &mut clients, step);
            check_invariants(&h);
        }
        for log in [h.log.clone(), compact(&h.log, false), compact(&h.log, true)] {
            let loaded = h.load(&log);
            prop_assert_eq!(&loaded.hard, &h.shard.hard);
        }
        // Nobody waits for ever: given time, every parked request is answered.
        h.advance(10 * 1_800_000);
        for group in h.shard.soft.groups.values() {
            prop_assert_eq!(group.state, State::Empty);
            prop_assert!(group.pending_join.is_empty());
        }
        for client in &clients {
            if let Some(reply) = client.parked {
                prop_assert!(h.answers.contains_key(&reply) || steps.iter().any(|step| matches!(step, Step::Restart)));
            }
        }
    }
}

#[test]
fn records_that_are_not_understood_change_nothing() {
    let mut h = Harness::new();
    h.commit("g", "", -1, "topic", 0, 1);
    let before = h.shard.hard.clone();
    let known_key = h.log[0].key.clone();
    let cases: [(&[u8], Option<&[u8]>); 6] = [
        (b"", None),
        (b"\0", None),
        (b"\x7f\xff", Some(b"x")),
        // Keys that are cut off.
        (b"\0\x03\0\x05g", Some(b"\0\0")),
        (b"\0\x02\0\x09g", None),
        // A value of a later version.
        (&known_key, Some(b"\0\x63\x01\x02")),
    ];
    for (key, value) in cases {
        let record = CoordinatorRecord { key: Bytes::copy_from_slice(key), value: value.map(Bytes::copy_from_slice) };
        let decoded = GroupShard::decode(LoadedRecord::Record { offset: 1, producer_id: -1, record });
        assert_eq!(decoded, GroupRecord::Other);
        h.shard.replay(1, &decoded);
        assert_eq!(h.shard.hard, before);
    }
}

proptest! {
    #[test]
    fn any_bytes_can_be_loaded(key in proptest::collection::vec(any::<u8>(), 0..40), value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80))) {
        let record = CoordinatorRecord { key: key.into(), value: value.map(Into::into) };
        GroupShard::decode(LoadedRecord::Record { offset: 0, producer_id: -1, record });
    }
}

fn push_record(h: &mut Harness, key: &'static [u8], value: &'static [u8]) {
    h.log.push(CoordinatorRecord { key: Bytes::from_static(key), value: Some(Bytes::from_static(value)) });
    h.restart();
}

#[test]
fn a_group_of_another_kind_is_shown_and_kept() {
    let mut h = Harness::new();
    h.commit("s", "", -1, "topic", 0, 5);
    push_record(&mut h, b"\0\x0b\0\x01s", b"\0\0");
    push_record(&mut h, b"\0\x0a\0\x01s\0\x01m", b"\0\0 whatever");
    let listed = h.shard.list_groups(&ListGroupsRequest::default());
    assert_eq!((listed.len(), listed[0].group_type.as_str(), listed[0].group_state.as_str()), (1, "share", "Empty"));
    let described = h.shard.describe_group(&cx(6), "s");
    assert_eq!(described.error_message.as_deref(), Some("Group s is not a classic group."));
    assert_eq!(error(h.shard.describe_group(&cx(5), "s").error_code), ErrorCode::None);
    let described = h.shard.describe_consumer_group("s");
    assert_eq!(described.error_message.as_deref(), Some("Group s is not a consumer group."));
    assert_eq!(h.commit_with(9, &commit_request("s", "m", 1, "topic", 0, 6)).0, Err(ErrorCode::UnknownMemberId));
    let refused = h.join_now(9, &JoinGroupRequest { group_id: "s".into(), ..join_request("") });
    assert_eq!(error(refused.error_code), ErrorCode::InconsistentGroupProtocol);
    h.advance(100 * 86_400_000);
    assert_eq!(h.fetch("s", "topic", 0), 5, "not ours to expire");
    let outcome = h.shard.delete_group("s", h.now);
    assert_eq!(error(h.apply(outcome).0.error_code), ErrorCode::GroupIdNotFound);
}

#[test]
fn a_consumer_group_nobody_is_in_becomes_classic_when_a_member_joins() {
    let mut h = Harness::new();
    h.commit("g", "", -1, "topic", 0, 5);
    push_record(&mut h, b"\0\x03\0\x01g", b"\0\0\0\0\0\x01\0");
    let listed = h.shard.list_groups(&ListGroupsRequest::default());
    assert_eq!((listed[0].group_type.as_str(), listed[0].group_state.as_str()), ("consumer", "Empty"));
    let request = JoinGroupRequest { group_id: "g".into(), ..join_request("m") };
    assert_eq!(error(h.join_now(9, &request).error_code), ErrorCode::UnknownMemberId);
    let (_, records) = h.join_with(&cx(9), &JoinGroupRequest { member_id: String::new(), ..request });
    assert!(matches!(records.last(), Some(GroupRecord::Group { value: Some(_), .. })));
    h.restart();
    assert_eq!(h.shard.list_groups(&ListGroupsRequest::default())[0].group_type, "classic");
    assert_eq!(h.fetch("g", "topic", 0), 5);
}

#[test]
fn every_version_of_a_value_is_read() {
    use milena_protocol::Encode;
    use milena_protocol::stored::group::{GroupMetadataValue, OffsetCommitValue};
    let mut h = Harness::new();
    let (ids, _) = h.stable_group(1);
    h.commit(GROUP, &ids[0], 1, "topic", 0, 7);
    let keys: Vec<Bytes> = h.log.iter().rev().take(2).map(|record| record.key.clone()).collect();
    let (offset_key, group_key) = (keys[0].clone(), keys[1].clone());
    let prefixed = |version: i16, body: Bytes| Bytes::from([&version.to_be_bytes()[..], &body].concat());
    let group = h.shard.soft.groups[GROUP].to_record();
    for version in GroupMetadataValue::MIN_VERSION..=GroupMetadataValue::MAX_VERSION {
        let value = prefixed(version, group.encode_to_bytes(version).unwrap());
        let loaded = h.load(&[CoordinatorRecord { key: group_key.clone(), value: Some(value) }]);
        let live = &loaded.soft.groups[GROUP];
        assert_eq!((live.generation_id, live.members.len(), live.state), (1, 1, State::Stable), "version {version}");
        let rebalance_timeout_ms = live.members.values().next().unwrap().rebalance_timeout_ms;
        assert_eq!(rebalance_timeout_ms, if version == 0 { SESSION_MS } else { REBALANCE_MS });
    }
    let offset = OffsetCommitValue { offset: 7, metadata: "m".into(), commit_timestamp: 5, ..Default::default() };
    for version in OffsetCommitValue::MIN_VERSION..=OffsetCommitValue::MAX_VERSION {
        let value = prefixed(version, offset.encode_to_bytes(version).unwrap());
        let loaded = h.load(&[CoordinatorRecord { key: offset_key.clone(), value: Some(value) }]);
        let committed = loaded.hard.offset(GROUP, "topic", 0).unwrap();
        assert_eq!(
            (committed.offset, &*committed.metadata, committed.commit_timestamp_ms),
            (7, "m", 5),
            "version {version}"
        );
    }
    assert_eq!((GroupMetadataValue::MAX_VERSION, OffsetCommitValue::MAX_VERSION), (4, 4));
}
