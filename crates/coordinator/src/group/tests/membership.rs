//! Member ids, sessions, leaving, static members.

use super::*;

#[test]
fn from_v4_on_a_member_comes_twice() {
    let mut h = Harness::new();
    let told = h.join_now(4, &join_request(""));
    assert_eq!(error(told.error_code), ErrorCode::MemberIdRequired);
    let reply = h.join(4, &join_request(&told.member_id));
    h.advance(3_000);
    assert_eq!(h.joined(reply).unwrap().member_id, told.member_id);
}

#[test]
fn a_pending_member_holds_up_the_rebalance_until_its_session_ends() {
    let mut h = Harness::new();
    let (ids, _) = h.stable_group(1);
    h.join_now(4, &join_request(""));
    let reply = h.join(4, &join_request(&ids[0]));
    assert_eq!(h.joined(reply), None);
    h.advance(SESSION_MS as u64 - 1);
    assert_eq!(h.joined(reply), None);
    h.advance(1);
    assert_eq!(h.joined(reply).unwrap().members.len(), 1);
}

#[test]
fn a_pending_member_can_leave() {
    let mut h = Harness::new();
    let told = h.join_now(4, &join_request(""));
    assert_eq!(h.leave(&[(&told.member_id, None)]).0, [ErrorCode::None]);
    assert_eq!(error(h.join_now(4, &join_request(&told.member_id)).error_code), ErrorCode::UnknownMemberId);
}

#[test]
fn a_silent_member_is_removed_and_the_others_rebalance() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable_group(2);
    h.advance(6_000);
    assert_eq!(h.heartbeat(&ids[0], generation), ErrorCode::None);
    h.advance(4_000);
    assert_eq!(h.state(), "PreparingRebalance");
    assert_eq!(h.heartbeat(&ids[1], generation), ErrorCode::UnknownMemberId);
    assert_eq!(h.join_now(2, &join_request(&ids[0])).members.len(), 1);
}

#[test]
fn v0_uses_the_session_timeout_for_rebalancing() {
    let mut h = Harness::new();
    let mut request = join_request("");
    request.rebalance_timeout_ms = -1;
    h.join(0, &request);
    assert_eq!(h.shard.soft.groups[GROUP].members.values().next().unwrap().rebalance_timeout_ms, SESSION_MS);
}

#[test]
fn a_new_member_whose_client_went_away_is_dropped_after_five_minutes() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable_group(1);
    let mut request = join_request("");
    request.rebalance_timeout_ms = 1_000_000;
    let lost = h.join(2, &request);
    for _ in 0..60 {
        h.heartbeat(&ids[0], generation);
        h.advance(5_000);
    }
    assert_eq!(error(h.joined(lost).unwrap().error_code), ErrorCode::UnknownMemberId);
}

#[test]
fn leaving_is_a_batch_and_empties_the_group() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable_group(2);
    let (errors, records) =
        h.leave(&[(&ids[0], None), ("nobody", None), ("", Some("no-instance")), ("", None), (&ids[1], None)]);
    use ErrorCode::{None as Ok, UnknownMemberId};
    assert_eq!(errors, [Ok, UnknownMemberId, UnknownMemberId, UnknownMemberId, Ok]);
    assert!(
        matches!(&records[..], [GroupRecord::Group { value: Some(value), .. }] if value.generation == generation + 1)
    );
    assert_eq!(h.state(), "Empty");
    assert_eq!(h.heartbeat(&ids[0], generation), ErrorCode::UnknownMemberId);
}

#[test]
fn leaving_while_parked_answers_the_parked_request() {
    let mut h = Harness::new();
    let (ids, _) = h.stable_group(2);
    let parked = h.join(2, &join_request(&ids[0]));
    assert_eq!(h.leave(&[(&ids[0], None)]).0, [ErrorCode::None]);
    assert_eq!(error(h.joined(parked).unwrap().error_code), ErrorCode::UnknownMemberId);
}

#[test]
fn a_repeated_join_replaces_the_parked_one() {
    let mut h = Harness::new();
    let (ids, _) = h.stable_group(2);
    let first = h.join(2, &join_request(&ids[0]));
    let second = h.join(2, &join_request(&ids[0]));
    assert_eq!(error(h.joined(first).unwrap().error_code), ErrorCode::RebalanceInProgress);
    h.join(2, &join_request(&ids[1]));
    assert_eq!(h.joined(second).unwrap().members.len(), 2);
}

fn static_join(member_id: &str, instance_id: &str) -> JoinGroupRequest {
    JoinGroupRequest { group_instance_id: Some(instance_id.into()), ..join_request(member_id) }
}

fn stable_static(h: &mut Harness) -> (String, String) {
    let a = h.join(5, &static_join("", "a"));
    let b = h.join(5, &static_join("", "b"));
    h.advance(6_000);
    let (a, b) = (h.joined(a).unwrap().member_id.clone(), h.joined(b).unwrap().member_id.clone());
    assert!(a.starts_with("a-"));
    h.sync(&b, 1, &[]);
    h.sync_with(&sync_request(&a, 1, &[(&a, b"for a"), (&b, b"for b")]));
    (a, b)
}

#[test]
fn a_static_member_that_comes_back_gets_a_new_id_without_a_rebalance() {
    let mut h = Harness::new();
    let (a, b) = stable_static(&mut h);
    let (reply, records) = h.join_with(&cx(5), &static_join("", "b"));
    let back = h.joined(reply).unwrap().clone();
    assert_ne!(back.member_id, b);
    assert_eq!((back.generation_id, back.leader.as_str(), h.state()), (1, a.as_str(), "Stable"));
    assert!(
        matches!(&records[..], [GroupRecord::Group { value: Some(value), .. }] if value.members.iter().any(|m| m.member_id == back.member_id))
    );
    let sync = h.sync(&back.member_id, 1, &[]);
    assert_eq!(&h.synced(sync).unwrap().assignment[..], b"for b");

    let old = HeartbeatRequest {
        group_id: GROUP.into(),
        member_id: b.clone(),
        generation_id: 1,
        group_instance_id: Some("b".into()),
    };
    let outcome = h.shard.heartbeat(&old, h.now);
    assert_eq!(error(h.apply(outcome).0.error_code), ErrorCode::FencedInstanceId);
    assert_eq!(error(h.join_now(5, &static_join(&b, "b")).error_code), ErrorCode::FencedInstanceId);
    assert_eq!(h.leave(&[(&b, Some("b"))]).0, [ErrorCode::FencedInstanceId]);

    h.restart();
    assert_eq!(h.heartbeat(&back.member_id, 1), ErrorCode::None);
}

#[test]
fn a_static_leader_that_comes_back_is_told_to_skip_assignment_from_v9_on() {
    let mut h = Harness::new();
    let (a, _) = stable_static(&mut h);
    let old = h.join_now(8, &static_join("", "a"));
    assert_eq!((old.leader.as_str(), old.members.len(), old.skip_assignment), (a.as_str(), 0, false));
    let new = h.join_now(9, &static_join("", "a"));
    assert_eq!((new.leader == new.member_id, new.members.len(), new.skip_assignment), (true, 2, true));
}

#[test]
fn a_static_member_whose_join_is_parked_is_fenced_by_its_successor() {
    let mut h = Harness::new();
    let (a, _) = stable_static(&mut h);
    let parked = h.join(5, &static_join(&a, "a"));
    assert_eq!(h.state(), "PreparingRebalance");
    let successor = h.join(5, &static_join("", "a"));
    let fenced = h.joined(parked).unwrap();
    assert_eq!((error(fenced.error_code), fenced.member_id.as_str()), (ErrorCode::FencedInstanceId, a.as_str()));
    assert_eq!(h.joined(successor), None);
}

#[test]
fn static_members_stay_through_a_rebalance_until_their_session_ends() {
    let mut h = Harness::new();
    let (a, b) = stable_static(&mut h);
    let parked = h.join(5, &static_join(&a, "a"));
    for _ in 0..6 {
        h.advance(5_000);
        let alive =
            HeartbeatRequest { group_id: GROUP.into(), member_id: b.clone(), generation_id: 1, ..Default::default() };
        let outcome = h.shard.heartbeat(&alive, h.now);
        h.apply(outcome);
    }
    assert_eq!(h.joined(parked).unwrap().members.len(), 2, "b is alive, so it stays although it did not rejoin");
    assert_eq!(h.leave(&[("", Some("b"))]).0, [ErrorCode::None], "an administrator removes it by instance id");
}

#[test]
fn a_static_member_that_comes_back_during_sync_makes_all_rebalance() {
    let mut h = Harness::new();
    let a = h.join(5, &static_join("", "a"));
    let b = h.join(5, &static_join("", "b"));
    h.advance(6_000);
    let b = h.joined(b).unwrap().member_id.clone();
    let parked = h.sync(&b, 1, &[]);
    h.join(5, &static_join("", "a"));
    assert_eq!(error(h.synced(parked).unwrap().error_code), ErrorCode::RebalanceInProgress);
    assert_eq!(h.state(), "PreparingRebalance");
    assert!(h.joined(a).is_some());
}
