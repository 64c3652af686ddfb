//! Properties of the assignors over random groups: everything assigned once, balanced, sticky, deterministic.

use proptest::prelude::*;

use super::*;

fn topic(n: u128) -> Uuid {
    Uuid::from_u128(n + 1)
}

fn member(id: &str, topics: &[u128], previous: Partitions) -> MemberSpec {
    MemberSpec {
        id: Arc::from(id),
        instance_id: None,
        topics: Arc::new(topics.iter().map(|&n| topic(n)).collect()),
        previous: Arc::new(previous),
    }
}

fn count(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

/// A group as it may be after changes: members with subscriptions, and old assignments that may contradict both topics and each other.
fn groups() -> impl Strategy<Value = GroupSpec> {
    let topics = proptest::collection::vec(0i32..9, 1..5);
    let previous = proptest::collection::btree_map(
        (0u128..5).prop_map(topic),
        proptest::collection::btree_set(0i32..9, 1..6),
        0..4,
    );
    let members = proptest::collection::vec(
        (proptest::collection::btree_set(0u128..4, 0..4), previous, proptest::option::of("[a-c]")),
        1..8,
    );
    (topics, members, any::<bool>()).prop_map(|(topics, members, homogeneous)| {
        let num_partitions: BTreeMap<Uuid, i32> =
            topics.iter().enumerate().map(|(n, &partitions)| (topic(n as u128), partitions)).collect();
        let first = members.first().map(|(topics, ..)| topics.clone()).unwrap_or_default();
        let members = members
            .into_iter()
            .enumerate()
            .map(|(n, (topics, previous, instance_id))| MemberSpec {
                id: Arc::from(format!("m{n}")),
                instance_id,
                topics: Arc::new(
                    (if homogeneous { first.clone() } else { topics })
                        .into_iter()
                        .map(topic)
                        .filter(|topic| num_partitions.contains_key(topic))
                        .collect(),
                ),
                previous: Arc::new(previous),
            })
            .collect();
        GroupSpec { members, num_partitions }
    })
}

fn assert_complete(group: &GroupSpec, assigned: &[Partitions]) {
    assert_eq!(assigned.len(), group.members.len());
    let mut all = BTreeSet::new();
    for (member, partitions) in group.members.iter().zip(assigned) {
        for (topic, partitions) in partitions {
            assert!(member.topics.contains(topic));
            assert!(!partitions.is_empty());
            for &partition in partitions {
                assert!(all.insert((*topic, partition)), "assigned twice");
            }
        }
    }
    let read: BTreeSet<Uuid> = group.members.iter().flat_map(|member| member.topics.iter().copied()).collect();
    let expected: BTreeSet<(Uuid, i32)> =
        read.iter().flat_map(|&topic| (0..group.num_partitions(topic)).map(move |n| (topic, n))).collect();
    assert_eq!(all, expected);
}

fn with_previous(group: &GroupSpec, assigned: &[Partitions]) -> GroupSpec {
    let mut group = group.clone();
    for (member, partitions) in group.members.iter_mut().zip(assigned) {
        member.previous = Arc::new(partitions.clone());
    }
    group
}

proptest! {
    #[test]
    fn everything_is_assigned_once_and_the_same_again(group in groups()) {
        for assignor in [Assignor::Uniform, Assignor::Range] {
            let assigned = assignor.assign(&group);
            assert_complete(&group, &assigned);
            prop_assert_eq!(&assignor.assign(&group), &assigned);
            // A group that has what it should have stays as it is.
            prop_assert_eq!(&assignor.assign(&with_previous(&group, &assigned)), &assigned);
        }
    }

    #[test]
    fn uniform_is_balanced(group in groups()) {
        let assigned = Assignor::Uniform.assign(&group);
        for (giver, has) in group.members.iter().zip(&assigned) {
            for (taker, other) in group.members.iter().zip(&assigned) {
                let could_take = has.keys().any(|topic| taker.topics.contains(topic));
                prop_assert!(!could_take || count(has) <= count(other) + 1, "{} {}", giver.id, taker.id);
            }
        }
    }

    #[test]
    fn uniform_moves_no_more_than_it_must_when_a_member_joins_or_leaves(members in 1usize..8, partitions in 0i32..40) {
        let spec = |members: std::ops::Range<usize>| GroupSpec {
            members: members.map(|n| member(&format!("m{n}"), &[0], Partitions::new())).collect(),
            num_partitions: [(topic(0), partitions)].into(),
        };
        let before = Assignor::Uniform.assign(&spec(0..members));
        let mut joined = with_previous(&spec(0..members + 1), &before);
        let after = Assignor::Uniform.assign(&joined);
        let new = count(after.last().unwrap());
        let moved: usize = before.iter().zip(&after).map(|(before, after)| {
            let (before, after) = (before.get(&topic(0)).cloned().unwrap_or_default(), after.get(&topic(0)).cloned().unwrap_or_default());
            before.difference(&after).count()
        }).sum();
        prop_assert_eq!(moved, new);
        // And back: whoever stays keeps everything.
        joined.members.pop();
        let joined = with_previous(&joined, &after);
        for (before, after) in after.iter().zip(Assignor::Uniform.assign(&joined)) {
            prop_assert!(before.iter().all(|(topic, partitions)| after.get(topic).is_some_and(|after| partitions.is_subset(after))));
        }
    }
}

#[test]
fn range_cuts_topics_alike_and_in_the_order_that_kafka_does() {
    let group = GroupSpec {
        members: vec![
            member("a", &[0, 1], [].into()),
            member("b", &[0, 1], [].into()),
            member("c", &[0, 1], [].into()),
        ],
        num_partitions: [(topic(0), 6), (topic(1), 8)].into(),
    };
    let stretch = |from: i32, to: i32| (from..to).collect::<BTreeSet<i32>>();
    assert_eq!(
        Assignor::Range.assign(&group),
        vec![
            Partitions::from([(topic(0), stretch(0, 2)), (topic(1), stretch(0, 3))]),
            Partitions::from([(topic(0), stretch(2, 4)), (topic(1), stretch(3, 6))]),
            Partitions::from([(topic(0), stretch(4, 6)), (topic(1), stretch(6, 8))]),
        ]
    );
    // Static members first, by instance id.
    let mut members: Vec<MemberSpec> =
        ["a", "b", "c", "d"].iter().map(|id| member(id, &[0], Partitions::new())).collect();
    for (member, instance_id) in members.iter_mut().zip([Some("i3"), None, Some("i2"), Some("i1")]) {
        member.instance_id = instance_id.map(str::to_owned);
    }
    let group = GroupSpec { members, num_partitions: [(topic(0), 8)].into() };
    let firsts: Vec<i32> = Assignor::Range.assign(&group).iter().map(|of| *of[&topic(0)].first().unwrap()).collect();
    assert_eq!(firsts, [4, 6, 2, 0]);
}
