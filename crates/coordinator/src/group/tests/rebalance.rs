//! The two phases of a rebalance, the initial delay, limits, and protocol choice.

use super::*;

#[test]
fn first_rebalance_waits_for_the_delay_and_extends_it_while_members_arrive() {
    let mut h = Harness::new();
    let (first, records) = h.join_with(&cx(2), &join_request(""));
    assert!(
        matches!(&records[..], [GroupRecord::Group { value: Some(value), .. }] if value.members.is_empty() && value.generation == 0)
    );
    h.advance(2_000);
    let second = h.join(2, &join_request(""));
    h.advance(1_000);
    assert_eq!(h.joined(first), None, "a member arrived during the delay, which starts again");
    h.advance(2_999);
    assert_eq!(h.joined(first), None);
    h.advance(1);
    let (a, b) = (h.joined(first).unwrap().clone(), h.joined(second).unwrap().clone());
    assert_eq!((a.generation_id, b.generation_id), (1, 1));
    assert_eq!(a.leader, a.member_id, "the first to join leads");
    assert_eq!((a.members.len(), b.members.len()), (2, 0), "only the leader sees the members");
    assert_eq!(a.protocol_name.as_deref(), Some("range"));
    assert!(a.member_id.starts_with("client-"));
    assert_eq!(h.state(), "CompletingRebalance");
}

#[test]
fn delay_is_extended_by_the_rebalance_timeout_at_most() {
    let mut h = Harness::new();
    let mut request = join_request("");
    request.rebalance_timeout_ms = 7_000;
    let first = h.join(2, &request);
    for _ in 0..20 {
        h.advance(500);
        h.join(2, &request);
        if h.joined(first).is_some() {
            break;
        }
    }
    assert_eq!(h.now.mono_ms, 1_000 + 7_000);
}

#[test]
fn without_delay_the_first_member_is_answered_at_once() {
    let mut h = Harness::with(GroupConfig { initial_rebalance_delay_ms: 0, ..config() });
    assert_eq!(h.join_now(0, &join_request("")).generation_id, 1);
}

#[test]
fn assignment_reaches_all_members_and_is_recorded() {
    let mut h = Harness::new();
    let a = h.join(2, &join_request(""));
    let b = h.join(2, &join_request(""));
    h.advance(6_000);
    let (a, b) = (h.joined(a).unwrap().member_id.clone(), h.joined(b).unwrap().member_id.clone());
    let follower = h.sync(&b, 1, &[]);
    assert_eq!(h.synced(follower), None);
    let (leader, records) = h.sync_with(&sync_request(&a, 1, &[(&a, b"one"), (&b, b"two"), ("stranger", b"three")]));
    assert_eq!(&h.synced(leader).unwrap().assignment[..], b"one");
    assert_eq!(&h.synced(follower).unwrap().assignment[..], b"two");
    let [GroupRecord::Group { value: Some(value), .. }] = &records[..] else { panic!("one record, not {records:?}") };
    assert_eq!((value.generation, value.members.len(), value.leader.as_deref()), (1, 2, Some(a.as_str())));
    assert_eq!(h.heartbeat(&b, 1), ErrorCode::None);

    // After a crash the group is stable again, with the same assignment.
    h.restart();
    assert_eq!(h.state(), "Stable");
    let again = h.sync(&b, 1, &[]);
    assert_eq!(&h.synced(again).unwrap().assignment[..], b"two");
    // Sessions run from the load on.
    let records = h.advance(SESSION_MS as u64);
    assert_eq!(h.state(), "Empty");
    assert!(
        matches!(&records[..], [GroupRecord::Group { value: Some(value), .. }] if value.members.is_empty() && value.generation == 2)
    );
}

#[test]
fn sync_is_checked() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable_group(1);
    let ask = |h: &mut Harness, request: SyncGroupRequest| {
        let reply = h.sync_with(&request).0;
        error(h.synced(reply).unwrap().error_code)
    };
    assert_eq!(ask(&mut h, sync_request("nobody", generation, &[])), ErrorCode::UnknownMemberId);
    assert_eq!(ask(&mut h, sync_request(&ids[0], generation + 1, &[])), ErrorCode::IllegalGeneration);
    assert_eq!(
        ask(
            &mut h,
            SyncGroupRequest { protocol_type: Some("connect".into()), ..sync_request(&ids[0], generation, &[]) }
        ),
        ErrorCode::InconsistentGroupProtocol
    );
    assert_eq!(
        ask(
            &mut h,
            SyncGroupRequest { protocol_name: Some("sticky".into()), ..sync_request(&ids[0], generation, &[]) }
        ),
        ErrorCode::InconsistentGroupProtocol
    );
    assert_eq!(
        ask(&mut h, SyncGroupRequest { group_id: "other".into(), ..sync_request(&ids[0], generation, &[]) }),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(ask(&mut h, sync_request(&ids[0], generation, &[])), ErrorCode::None);
}

#[test]
fn a_new_member_makes_the_others_join_again() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable_group(2);
    let newcomer = h.join(2, &join_request(""));
    assert_eq!(h.state(), "PreparingRebalance");
    assert_eq!(h.heartbeat(&ids[0], generation), ErrorCode::RebalanceInProgress);
    let leader = h.join(2, &join_request(&ids[0]));
    assert_eq!(h.joined(newcomer), None);
    let follower = h.join(2, &join_request(&ids[1]));
    for reply in [newcomer, leader, follower] {
        assert_eq!(h.joined(reply).unwrap().generation_id, generation + 1);
    }
    assert_eq!(h.joined(leader).unwrap().members.len(), 3, "the leader stays the leader");
    assert_eq!(h.heartbeat(&ids[0], generation), ErrorCode::IllegalGeneration);
}

#[test]
fn members_that_do_not_rejoin_in_time_are_dropped_and_the_leader_replaced() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable_group(2);
    let follower = h.join(2, &JoinGroupRequest { protocols: protocols(&["range", "sticky"]), ..join_request(&ids[1]) });
    for _ in 0..6 {
        h.heartbeat(&ids[0], generation);
        h.advance(5_000);
    }
    let response = h.joined(follower).unwrap();
    assert_eq!(
        (response.generation_id, response.leader.as_str(), response.members.len()),
        (generation + 1, ids[1].as_str(), 1)
    );
}

#[test]
fn members_that_do_not_sync_in_time_are_dropped() {
    let mut h = Harness::new();
    let a = h.join(2, &join_request(""));
    let b = h.join(2, &join_request(""));
    h.advance(6_000);
    let (a, b) = (h.joined(a).unwrap().member_id.clone(), h.joined(b).unwrap().member_id.clone());
    let parked = h.sync(&b, 1, &[]);
    for _ in 0..10 {
        h.heartbeat(&a, 1);
        h.heartbeat(&b, 1);
        h.advance(3_000);
    }
    assert_eq!(error(h.synced(parked).unwrap().error_code), ErrorCode::RebalanceInProgress);
    assert_eq!(h.heartbeat(&a, 1), ErrorCode::UnknownMemberId);
    assert_eq!(h.join_now(2, &join_request(&b)).leader, b);
}

#[test]
fn stable_rejoin_depends_on_who_and_what() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable_group(2);
    let same = h.join_now(2, &join_request(&ids[1]));
    assert_eq!((same.generation_id, same.leader.as_str(), same.members.len()), (generation, ids[0].as_str(), 0));
    assert_eq!(h.state(), "Stable");
    h.join(2, &join_request(&ids[0]));
    assert_eq!(h.state(), "PreparingRebalance", "a leader that joins wants to assign");
}

#[test]
fn completing_rejoin_with_the_same_metadata_repeats_the_answer() {
    let mut h = Harness::new();
    let reply = h.join(2, &join_request(""));
    h.advance(3_000);
    let id = h.joined(reply).unwrap().member_id.clone();
    let again = h.join_now(2, &join_request(&id));
    assert_eq!((again.generation_id, again.members.len()), (1, 1));
    assert_eq!(
        h.join_now(2, &JoinGroupRequest { protocols: protocols(&["range", "other"]), ..join_request(&id) })
            .generation_id,
        2
    );
}

#[test]
fn protocol_is_the_one_most_prefer_among_those_all_support() {
    let mut h = Harness::new();
    let replies: Vec<_> = [
        &["roundrobin", "range", "sticky"][..],
        &["sticky", "range"],
        &["range", "sticky"],
        &["sticky", "range", "custom"],
    ]
    .iter()
    .map(|names| h.join(2, &JoinGroupRequest { protocols: protocols(names), ..join_request("") }))
    .collect();
    let alone =
        h.join_now(2, &JoinGroupRequest { protocols: protocols(&["roundrobin", "custom"]), ..join_request("") });
    assert_eq!(error(alone.error_code), ErrorCode::InconsistentGroupProtocol);
    let other = h.join_now(2, &JoinGroupRequest { protocol_type: "connect".into(), ..join_request("") });
    assert_eq!(error(other.error_code), ErrorCode::InconsistentGroupProtocol);
    h.advance(30_000);
    // range and sticky have two votes each: the leader's preference decides.
    assert_eq!(h.joined(replies[0]).unwrap().protocol_name.as_deref(), Some("range"));
}

#[test]
fn a_protocol_named_twice_counts_once() {
    let mut h = Harness::with(GroupConfig { initial_rebalance_delay_ms: 0, ..config() });
    let joined = h.join_now(2, &JoinGroupRequest { protocols: protocols(&["range", "range"]), ..join_request("") });
    assert_eq!((joined.protocol_name.as_deref(), joined.members.len()), (Some("range"), 1));
}

#[test]
fn empty_protocols_or_type_are_refused_and_leave_no_group() {
    let mut h = Harness::new();
    for request in [
        JoinGroupRequest { protocols: vec![], ..join_request("") },
        JoinGroupRequest { protocol_type: String::new(), ..join_request("") },
    ] {
        assert_eq!(error(h.join_now(2, &request).error_code), ErrorCode::InconsistentGroupProtocol);
    }
    assert_eq!(error(h.join_now(2, &join_request("somebody")).error_code), ErrorCode::UnknownMemberId);
    assert_eq!((h.state(), h.log.len()), ("none", 0));
}

#[test]
fn group_max_size_counts_who_is_back() {
    let mut h = Harness::with(GroupConfig { max_size: 2, ..config() });
    let (ids, _) = h.stable_group(2);
    assert_eq!(error(h.join_now(2, &join_request("")).error_code), ErrorCode::GroupMaxSizeReached);
    h.join(2, &join_request(&ids[0]));
    let newcomer = h.join(2, &join_request(""));
    assert_eq!(h.joined(newcomer), None, "one place is free while a member has not come back");
    let late = h.join_now(2, &join_request(&ids[1]));
    assert_eq!((error(late.error_code), late.member_id.as_str()), (ErrorCode::GroupMaxSizeReached, ""));
}

#[test]
fn a_group_that_is_too_large_after_loading_rebalances() {
    let mut h = Harness::new();
    let (_, _) = h.stable_group(3);
    h.config = Arc::new(GroupConfig { max_size: 2, ..config() });
    h.restart();
    assert_eq!(h.state(), "PreparingRebalance");
}

#[test]
fn metadata_that_no_batch_takes_fails_the_sync_only() {
    let mut h = Harness::with(GroupConfig { max_record_bytes: 4_096, ..config() });
    let reply = h.join(2, &join_request(""));
    h.advance(3_000);
    let id = h.joined(reply).unwrap().member_id.clone();
    let (sync, records) = h.sync_with(&SyncGroupRequest {
        assignments: vec![milena_protocol::messages::sync_group_request::SyncGroupRequestAssignment {
            member_id: id.clone(),
            assignment: vec![0; 8_192].into(),
        }],
        ..sync_request(&id, 1, &[])
    });
    assert_eq!(error(h.synced(sync).unwrap().error_code), ErrorCode::UnknownServerError);
    assert_eq!((records.len(), h.state()), (0, "PreparingRebalance"));
}

#[test]
fn joins_are_checked_before_they_reach_a_group() {
    let config = config();
    let check = |request: JoinGroupRequest| validate_join(&config, &cx(2), &request).err();
    assert_eq!(check(join_request("")), None);
    assert_eq!(
        check(JoinGroupRequest { group_id: String::new(), ..join_request("") }),
        Some(ErrorCode::InvalidGroupId)
    );
    assert_eq!(
        check(JoinGroupRequest { group_id: "g".repeat(40_000), ..join_request("") }),
        Some(ErrorCode::InvalidGroupId)
    );
    assert_eq!(
        check(JoinGroupRequest { session_timeout_ms: 5_999, ..join_request("") }),
        Some(ErrorCode::InvalidSessionTimeout)
    );
    assert_eq!(
        check(JoinGroupRequest { session_timeout_ms: 1_800_001, ..join_request("") }),
        Some(ErrorCode::InvalidSessionTimeout)
    );
    assert_eq!(
        check(JoinGroupRequest { protocols: protocols(&["p"; 2_000]), ..join_request("") }),
        Some(ErrorCode::InvalidRequest)
    );
    assert_eq!(
        check(JoinGroupRequest { group_instance_id: Some("i".repeat(40_000)), ..join_request("") }),
        Some(ErrorCode::InvalidRequest)
    );
}
