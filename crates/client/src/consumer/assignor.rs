//! How a classic group's leader shares partitions among members: by `range` and `roundrobin` as Kafka's Java clients do it, and so
//! that members keep what they have (`sticky`, `cooperative-sticky`).
//!
//! Pure: members, their topics and the partition counts in; partitions per member out. Called by the group's leader only.

use std::collections::BTreeMap;

use milena_common::TopicPartition;

/// One member as its subscription describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub member_id: String,
    /// `group.instance.id` of a static member; it takes the place of the member id in the order of members.
    pub group_instance_id: Option<String>,
    pub topics: Vec<String>,
    /// What it had, as far as it says so.
    pub owned: Vec<TopicPartition>,
    /// The generation it had that in; -1 when it does not say.
    pub generation: i32,
}

/// Partitions per member id.
pub type Assignment = BTreeMap<String, Vec<TopicPartition>>;

/// A known strategy, by the name that members send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Each topic cut into consecutive ranges; the first members get the larger ones.
    Range,
    /// All partitions of all topics dealt in turn.
    RoundRobin,
    /// Balanced, with as few moves as possible (KIP-54).
    Sticky,
    /// The same, where a partition is taken from its owner in one rebalance and given away in the next (KIP-429).
    CooperativeSticky,
}

impl Assignor {
    /// Whether members may keep their partitions through a rebalance.
    pub fn is_cooperative(self) -> bool {
        self == Assignor::CooperativeSticky
    }

    /// The name in JoinGroup.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::Sticky => "sticky",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The strategy of that name.
    pub fn from_name(name: &str) -> Option<Assignor> {
        match name {
            "range" => Some(Assignor::Range),
            "roundrobin" => Some(Assignor::RoundRobin),
            "sticky" => Some(Assignor::Sticky),
            "cooperative-sticky" => Some(Assignor::CooperativeSticky),
            _ => None,
        }
    }

    /// Shares the partitions of `partition_counts` (topic to number of partitions; unknown topics are absent).
    pub fn assign(self, partition_counts: &BTreeMap<String, i32>, members: &[Member]) -> Assignment {
        let mut ordered: Vec<&Member> = members.iter().collect();
        // static members keep their place when they come back under another member id
        ordered.sort_by(|a, b| match (&a.group_instance_id, &b.group_instance_id) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => a.member_id.cmp(&b.member_id),
        });
        let mut assignment: Assignment = members.iter().map(|m| (m.member_id.clone(), Vec::new())).collect();
        match self {
            Assignor::Range => range(partition_counts, &ordered, &mut assignment),
            Assignor::RoundRobin => round_robin(partition_counts, &ordered, &mut assignment),
            Assignor::Sticky => sticky(partition_counts, &ordered, &mut assignment),
            Assignor::CooperativeSticky => {
                sticky(partition_counts, &ordered, &mut assignment);
                hold_back(members, &mut assignment);
            }
        }
        assignment
    }
}

fn range(partition_counts: &BTreeMap<String, i32>, members: &[&Member], assignment: &mut Assignment) {
    for (topic, count) in partition_counts {
        let subscribed: Vec<&&Member> = members.iter().filter(|m| m.topics.contains(topic)).collect();
        let Ok(member_count) = i32::try_from(subscribed.len()) else {
            continue;
        };
        if member_count == 0 {
            continue;
        }
        let (each, extra) = (count / member_count, count % member_count);
        let mut next = 0;
        for (index, member) in (0..).zip(subscribed) {
            let size = each + i32::from(index < extra);
            let partitions = (next..next + size).map(|partition| TopicPartition::new(topic.as_str(), partition));
            assignment.entry(member.member_id.clone()).or_default().extend(partitions);
            next += size;
        }
    }
}

fn round_robin(partition_counts: &BTreeMap<String, i32>, members: &[&Member], assignment: &mut Assignment) {
    let mut turn = members.iter().cycle();
    for (topic, count) in partition_counts {
        if !members.iter().any(|m| m.topics.contains(topic)) {
            continue;
        }
        for partition in 0..*count {
            let Some(member) = turn.find(|m| m.topics.contains(topic)) else {
                return;
            };
            assignment
                .entry(member.member_id.clone())
                .or_default()
                .push(TopicPartition::new(topic.as_str(), partition));
        }
    }
}

/// Who has which partition by right: the claim of the newest generation, and of two equal ones neither.
fn owners(members: &[&Member]) -> BTreeMap<TopicPartition, String> {
    let mut claims: BTreeMap<&TopicPartition, (i32, Option<&str>)> = BTreeMap::new();
    for member in members {
        for tp in &member.owned {
            let claim = claims.entry(tp).or_insert((i32::MIN, None));
            if member.generation > claim.0 {
                *claim = (member.generation, Some(&member.member_id));
            } else if member.generation == claim.0 {
                claim.1 = None;
            }
        }
    }
    claims.into_iter().filter_map(|(tp, (_, owner))| Some((tp.clone(), owner?.to_string()))).collect()
}

fn sticky(partition_counts: &BTreeMap<String, i32>, members: &[&Member], assignment: &mut Assignment) {
    let owners = owners(members);
    let wants = |member: &Member, topic: &str| member.topics.iter().any(|wanted| wanted == topic);
    let mut free = Vec::new();
    for (topic, count) in partition_counts {
        for partition in 0..*count {
            let tp = TopicPartition::new(topic.as_str(), partition);
            let owner = owners
                .get(&tp)
                .filter(|owner| members.iter().any(|member| member.member_id == **owner && wants(member, topic)));
            match owner {
                Some(owner) => assignment.entry(owner.clone()).or_default().push(tp),
                None => free.push(tp),
            }
        }
    }
    // what few members can take goes first
    let takers = |tp: &TopicPartition| members.iter().filter(|member| wants(member, &tp.topic)).count();
    free.sort_by_cached_key(|tp| takers(tp));
    let load = |assignment: &Assignment, member: &Member| assignment.get(&member.member_id).map_or(0, Vec::len);
    for tp in free {
        let idlest = members.iter().filter(|m| wants(m, &tp.topic)).min_by_key(|m| load(assignment, m));
        if let Some(member) = idlest {
            assignment.entry(member.member_id.clone()).or_default().push(tp);
        }
    }
    // one partition at a time from whoever has at least two more than another that would take it
    loop {
        let mut by_load: Vec<&&Member> = members.iter().collect();
        by_load.sort_by_key(|member| std::cmp::Reverse(load(assignment, member)));
        let step = by_load.iter().find_map(|giver| {
            let have = load(assignment, giver);
            let partitions = assignment.get(&giver.member_id)?;
            partitions.iter().enumerate().rev().find_map(|(index, tp)| {
                let taker = members.iter().filter(|m| wants(m, &tp.topic)).min_by_key(|m| load(assignment, m))?;
                (load(assignment, taker) + 1 < have).then(|| (giver.member_id.clone(), index, taker.member_id.clone()))
            })
        });
        let Some((giver, index, taker)) = step else {
            break;
        };
        let moved = assignment.get_mut(&giver).map(|partitions| partitions.remove(index));
        assignment.entry(taker).or_default().extend(moved);
    }
    assignment.values_mut().for_each(|partitions| partitions.sort());
}

/// Leaves out what somebody else still has: its owner gives it up first, and the next rebalance gives it away.
fn hold_back(members: &[Member], assignment: &mut Assignment) {
    for (member_id, partitions) in assignment {
        partitions.retain(|tp| !members.iter().any(|other| other.member_id != *member_id && other.owned.contains(tp)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(id: &str, topics: &[&str]) -> Member {
        Member {
            member_id: id.into(),
            group_instance_id: None,
            topics: topics.iter().map(|t| t.to_string()).collect(),
            owned: Vec::new(),
            generation: -1,
        }
    }

    fn counts(topics: &[(&str, i32)]) -> BTreeMap<String, i32> {
        topics.iter().map(|(topic, count)| (topic.to_string(), *count)).collect()
    }

    fn show(assignment: &Assignment, id: &str) -> String {
        assignment[id].iter().map(|tp| tp.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn range_gives_the_first_members_the_larger_part_of_each_topic() {
        let members = [member("b", &["t", "u"]), member("a", &["t", "u"])];
        let assignment = Assignor::Range.assign(&counts(&[("t", 3), ("u", 3)]), &members);
        assert_eq!(show(&assignment, "a"), "t-0 t-1 u-0 u-1");
        assert_eq!(show(&assignment, "b"), "t-2 u-2");
    }

    #[test]
    fn round_robin_deals_over_all_topics() {
        let members = [member("a", &["t", "u"]), member("b", &["t", "u"])];
        let assignment = Assignor::RoundRobin.assign(&counts(&[("t", 3), ("u", 3)]), &members);
        assert_eq!(show(&assignment, "a"), "t-0 t-2 u-1");
        assert_eq!(show(&assignment, "b"), "t-1 u-0 u-2");
    }

    #[test]
    fn round_robin_skips_members_without_the_topic() {
        let members = [member("a", &["t"]), member("b", &["t", "u"]), member("c", &["t", "u", "v"])];
        let assignment = Assignor::RoundRobin.assign(&counts(&[("t", 1), ("u", 2), ("v", 3)]), &members);
        assert_eq!(show(&assignment, "a"), "t-0");
        assert_eq!(show(&assignment, "b"), "u-0");
        assert_eq!(show(&assignment, "c"), "u-1 v-0 v-1 v-2");
    }

    #[test]
    fn static_members_come_first_and_in_the_order_of_their_instance() {
        let mut members = [member("z", &["t"]), member("a", &["t"])];
        members[0].group_instance_id = Some("i0".into());
        let assignment = Assignor::Range.assign(&counts(&[("t", 1)]), &members);
        assert_eq!((show(&assignment, "z"), show(&assignment, "a")), ("t-0".into(), String::new()));
    }

    fn owning(id: &str, topics: &[&str], owned: &[(&str, i32)], generation: i32) -> Member {
        let owned = owned.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect();
        Member { owned, generation, ..member(id, topics) }
    }

    #[test]
    fn a_sticky_assignment_moves_no_more_than_balance_needs() {
        let all = [("t", 0), ("t", 1), ("t", 2), ("t", 3), ("t", 4)];
        let members = [owning("a", &["t"], &all, 3), member("b", &["t"])];
        let sticky = Assignor::Sticky.assign(&counts(&[("t", 5)]), &members);
        assert_eq!((show(&sticky, "a"), show(&sticky, "b")), ("t-0 t-1 t-2".into(), "t-3 t-4".into()));
        // the new member gets nothing before the old one has given it up
        let cooperative = Assignor::CooperativeSticky.assign(&counts(&[("t", 5)]), &members);
        assert_eq!((show(&cooperative, "a"), show(&cooperative, "b")), ("t-0 t-1 t-2".into(), String::new()));
    }

    #[test]
    fn an_old_claim_gives_way_to_a_new_one() {
        let members = [owning("a", &["t"], &[("t", 0)], 3), owning("b", &["t"], &[("t", 0)], 4)];
        let assignment = Assignor::Sticky.assign(&counts(&[("t", 2)]), &members);
        assert_eq!((show(&assignment, "a"), show(&assignment, "b")), ("t-1".into(), "t-0".into()));
    }

    proptest! {
        #[test]
        fn every_partition_of_a_subscribed_topic_has_exactly_one_owner(
            topic_counts in proptest::collection::btree_map("[a-d]", 0i32..12, 0..4),
            subscriptions in proptest::collection::vec(proptest::collection::btree_set("[a-d]", 0..4), 0..5),
        ) {
            let members: Vec<Member> = subscriptions.iter().enumerate().map(|(index, topics)| Member {
                member_id: format!("m{index}"), group_instance_id: None, topics: topics.iter().cloned().collect(),
                owned: Vec::new(), generation: -1,
            }).collect();
            for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky] {
                let assignment = assignor.assign(&topic_counts, &members);
                let mut owned: Vec<TopicPartition> = Vec::new();
                for (id, partitions) in &assignment {
                    let member = members.iter().find(|m| &m.member_id == id).unwrap();
                    prop_assert!(partitions.iter().all(|tp| member.topics.iter().any(|t| **t == *tp.topic)));
                    owned.extend(partitions.iter().cloned());
                }
                owned.sort();
                let expected: Vec<TopicPartition> = topic_counts.iter()
                    .filter(|(topic, _)| members.iter().any(|m| m.topics.contains(topic)))
                    .flat_map(|(topic, count)| (0..*count).map(|p| TopicPartition::new(topic.as_str(), p)).collect::<Vec<_>>())
                    .collect();
                prop_assert_eq!(owned, expected);
            }
        }
    }
}
