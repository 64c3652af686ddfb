//! Replay equals live for groups that members of both protocols come to and leave, over random histories, whole or compacted.

use proptest::prelude::*;

use super::consumer::{having, join_topics, stay};
use super::replay::compact;
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Join {
        who: usize,
        topics: u8,
        is_static: bool,
        pattern: bool,
        range: bool,
    },
    /// With what it has, or part of it.
    Beat {
        who: usize,
        epoch_off: i32,
        revokes: bool,
    },
    Leave {
        who: usize,
        away: bool,
    },
    ClassicJoin {
        who: usize,
        topics: u8,
        keeps: bool,
        is_static: bool,
    },
    ClassicSync {
        who: usize,
    },
    ClassicBeat {
        who: usize,
    },
    ClassicLeave {
        who: usize,
    },
    Commit {
        who: usize,
    },
    SetTopic {
        topic: u8,
        partitions: i32,
    },
    RemoveTopic {
        topic: u8,
    },
    DeleteGroup,
    Advance {
        ms: u64,
    },
    Restart,
}

const TOPICS: [&str; 3] = ["ta", "tb", "tc"];

fn step() -> impl Strategy<Value = Step> {
    let who = 0usize..5;
    prop_oneof![
        8 => (who.clone(), 0u8..8, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(who, topics, is_static, pattern, range)| Step::Join { who, topics, is_static, pattern, range }),
        12 => (who.clone(), prop_oneof![8 => Just(0), 1 => -1i32..2], any::<bool>()).prop_map(|(who, epoch_off, revokes)| Step::Beat { who, epoch_off, revokes }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, away)| Step::Leave { who, away }),
        4 => (who.clone(), 0u8..8, any::<bool>(), any::<bool>()).prop_map(|(who, topics, keeps, is_static)| Step::ClassicJoin { who, topics, keeps, is_static }),
        3 => who.clone().prop_map(|who| Step::ClassicSync { who }),
        2 => who.clone().prop_map(|who| Step::ClassicBeat { who }),
        1 => who.clone().prop_map(|who| Step::ClassicLeave { who }),
        2 => who.prop_map(|who| Step::Commit { who }),
        2 => (0u8..3, 1i32..6).prop_map(|(topic, partitions)| Step::SetTopic { topic, partitions }),
        1 => (0u8..3).prop_map(|topic| Step::RemoveTopic { topic }),
        1 => Just(Step::DeleteGroup),
        6 => prop_oneof![Just(1u64), Just(1_000), Just(3_000), Just(20_000), Just(60_000)].prop_map(|ms| Step::Advance { ms }),
        1 => Just(Step::Restart),
    ]
}

fn topics_of(mask: u8) -> Vec<&'static str> {
    TOPICS.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, topic)| *topic).collect()
}

fn id(who: usize) -> String {
    format!("m{who}")
}

#[derive(Default)]
struct World {
    /// Ids that classic members were given.
    classic: HashMap<usize, String>,
    parked: Vec<(usize, ReplyId)>,
}

impl World {
    fn learn(&mut self, h: &Harness) {
        for (who, reply) in &self.parked {
            if let Some(Parked::Join(response)) = h.answers.get(reply)
                && !response.member_id.is_empty()
            {
                self.classic.insert(*who, response.member_id.clone());
            }
        }
    }

    fn run(&mut self, h: &mut Harness, step: &Step) {
        self.learn(h);
        let group = h.shard.hard.consumer_group(GROUP).cloned();
        let current = |member: &str| group.as_ref().map(|group| group.current(member)).unwrap_or_default();
        let owned = |member: &str, with_revoking: bool| {
            let current = current(member);
            let mut names: Vec<(&str, Vec<i32>)> = Vec::new();
            for topic in TOPICS {
                let id = super::consumer::topic_id(topic);
                let of = |owned: &std::collections::BTreeMap<Uuid, std::collections::BTreeMap<i32, i32>>| {
                    owned.get(&id).map(|partitions| partitions.keys().copied().collect::<Vec<_>>()).unwrap_or_default()
                };
                let mut partitions = of(&current.assigned);
                if with_revoking {
                    partitions.extend(of(&current.revoking));
                }
                names.push((topic, partitions));
            }
            names
        };
        match step {
            Step::Join { who, topics, is_static, pattern, range } => {
                let mut request = join_topics(&id(*who), &topics_of(*topics));
                request.instance_id = is_static.then(|| format!("i{}", who % 3));
                request.subscribed_topic_regex = pattern.then(|| ["t[ab]", "t.", "tc"][who % 3].to_owned());
                request.server_assignor = range.then(|| "range".to_owned());
                h.beat_with(&request);
            }
            Step::Beat { who, epoch_off, revokes } => {
                let request = stay(&id(*who), current(&id(*who)).epoch + epoch_off);
                let owned = owned(&id(*who), !revokes);
                let owned: Vec<(&str, &[i32])> = owned.iter().map(|(topic, of)| (*topic, &of[..])).collect();
                if request.member_epoch > 0 {
                    h.beat_with(&having(request, &owned));
                }
            }
            Step::Leave { who, away } => {
                let mut request = stay(&id(*who), if *away { -2 } else { -1 });
                request.instance_id = away.then(|| format!("i{}", who % 3));
                h.beat_with(&request);
            }
            Step::ClassicJoin { who, topics, keeps, is_static } => {
                let mut member_id = self.classic.get(who).cloned().unwrap_or_default();
                if *is_static && !*keeps {
                    member_id.clear();
                }
                let mut metadata = subscription(&topics_of(*topics)).to_vec();
                let owned = owned(&member_id, *keeps);
                metadata.extend((owned.len() as i32).to_be_bytes());
                for (topic, partitions) in &owned {
                    metadata.extend((topic.len() as i16).to_be_bytes());
                    metadata.extend(topic.as_bytes());
                    metadata.extend((partitions.len() as i32).to_be_bytes());
                    partitions.iter().for_each(|partition| metadata.extend(partition.to_be_bytes()));
                }
                let protocols = vec![JoinGroupRequestProtocol { name: "range".into(), metadata: metadata.into() }];
                let group_instance_id = is_static.then(|| format!("i{}", who % 3));
                let request = JoinGroupRequest { protocols, group_instance_id, ..join_request(&member_id) };
                let reply = h.join(9, &request);
                self.parked.push((*who, reply));
            }
            Step::ClassicSync { who } => {
                let member_id = self.classic.get(who).cloned().unwrap_or_default();
                let generation = self.generation(h, &member_id);
                h.sync(&member_id, generation, &[]);
            }
            Step::ClassicBeat { who } => {
                let member_id = self.classic.get(who).cloned().unwrap_or_default();
                let generation = self.generation(h, &member_id);
                h.heartbeat(&member_id, generation);
            }
            Step::ClassicLeave { who } => {
                h.leave(&[(self.classic.get(who).map_or("", |id| id), None)]);
            }
            Step::Commit { who } => {
                let epoch = current(&id(*who)).epoch;
                let offset = h.log.len() as i64;
                let _ = h.commit_with(9, &commit_request(GROUP, &id(*who), epoch, TOPICS[who % 3], 0, offset));
            }
            Step::SetTopic { topic, partitions } => h.set_topic(TOPICS[usize::from(*topic)], *partitions),
            Step::RemoveTopic { topic } => {
                let topic = TOPICS[usize::from(*topic)];
                if h.cluster.load().image.topics.by_name(topic).is_some() {
                    h.remove_topic(topic);
                }
            }
            Step::DeleteGroup => {
                let outcome = h.shard.delete_group(GROUP, h.now);
                h.apply(outcome);
            }
            Step::Advance { ms } => {
                h.advance(*ms);
            }
            Step::Restart => {
                self.parked.clear();
                h.restart();
            }
        }
    }

    fn generation(&self, h: &Harness, member_id: &str) -> i32 {
        match h.shard.hard.consumer_group(GROUP) {
            Some(group) => group.current(member_id).epoch,
            None => h.shard.soft.groups.get(GROUP).map_or(0, |group| group.generation_id),
        }
    }
}

fn check(h: &Harness) {
    for group in h.shard.soft.groups.values() {
        group.assert_invariants();
    }
    if let Some(group) = h.shard.hard.consumer_group(GROUP) {
        group.assert_invariants();
        assert!(!h.shard.soft.groups.contains_key(GROUP), "a group is of one kind");
        assert!(h.shard.hard.group(GROUP).unwrap().metadata.is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn replay_equals_live_for_consumer_groups(steps in proptest::collection::vec(step(), 1..100)) {
        let mut h = Harness::new();
        h.set_topic("ta", 3);
        let mut world = World::default();
        for step in &steps {
            world.run(&mut h, step);
            check(&h);
        }
        for log in [h.log.clone(), compact(&h.log, false), compact(&h.log, true)] {
            let loaded = h.load(&log);
            prop_assert_eq!(&loaded.hard, &h.shard.hard);
        }
        // Members that stay and do as they are told all come to have what they are to have.
        // Long enough for classic members to be missed.
        for _ in 0..60 {
            h.advance(1_000);
            world.learn(&h);
            for who in 0..5 {
                world.run(&mut h, &Step::Beat { who, epoch_off: 0, revokes: true });
            }
        }
        check(&h);
        if let Some(group) = h.shard.hard.consumer_group(GROUP) {
            let all_consumers = group.members().all(|(id, member)| member.classic_member_metadata.is_none() && group.current(id).epoch >= 0);
            if all_consumers && group.num_members() > 0 {
                prop_assert_eq!(group.state().name(), "Stable");
            }
        }
        // And all go when nobody is heard of.
        h.advance(10 * 1_800_000);
        prop_assert!(h.shard.hard.consumer_group(GROUP).is_none_or(|group| group.num_members() == 0));
    }
}
