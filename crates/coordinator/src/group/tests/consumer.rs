//! Scenarios of the consumer group protocol: each step's answer and records are what Kafka 4.3.1 gives for the same requests.

use std::collections::BTreeMap;

use milena_metadata::image::{ConfigResource, MetadataImage};
use milena_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use milena_protocol::stored::metadata::{
    ConfigRecord, MetadataRecord, PartitionRecord, RemoveTopicRecord, TopicRecord,
};

use super::*;
use crate::group::consumer::record::ConsumerRecord;

/// Partitions by topic name.
pub(super) type Named = BTreeMap<String, Vec<i32>>;

pub(super) fn topic_id(name: &str) -> Uuid {
    let bytes = name.bytes().fold(0u128, |id, byte| id << 8 | u128::from(byte));
    Uuid::from_u128(1000 + bytes)
}

pub(super) fn named(partitions: &[(&str, &[i32])]) -> Named {
    partitions.iter().map(|(topic, partitions)| ((*topic).to_owned(), partitions.to_vec())).collect()
}

pub(super) fn stay(member_id: &str, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: member_id.into(),
        member_epoch,
        ..Default::default()
    }
}

pub(super) fn join_topics(member_id: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: REBALANCE_MS,
        subscribed_topic_names: Some(topics.iter().map(|&topic| topic.to_owned()).collect()),
        topic_partitions: Some(Vec::new()),
        ..stay(member_id, 0)
    }
}

pub(super) fn having(
    request: ConsumerGroupHeartbeatRequest,
    owned: &[(&str, &[i32])],
) -> ConsumerGroupHeartbeatRequest {
    let owned = owned
        .iter()
        .map(|(topic, partitions)| TopicPartitions { topic_id: topic_id(topic), partitions: partitions.to_vec() })
        .collect();
    ConsumerGroupHeartbeatRequest { topic_partitions: Some(owned), ..request }
}

impl Harness {
    /// Applies records to the cluster's metadata, as the broker would hear of them.
    pub(super) fn change_cluster(&mut self, records: &[MetadataRecord]) {
        let mut image = MetadataImage::clone(&self.cluster.load().image);
        for record in records {
            let offset = image.last_offset() + 1;
            image.replay(offset, record);
            image.provenance.last_offset = offset;
        }
        self.cluster.set(Arc::new(image), true);
    }

    /// Creates a topic, or adds partitions to it.
    pub(super) fn set_topic(&mut self, name: &str, partitions: i32) {
        let known = self.cluster.load().image.topics.by_name(name).map_or(0, |topic| topic.partitions.len() as i32);
        let topic_id = topic_id(name);
        let topic = MetadataRecord::Topic(TopicRecord { name: name.into(), topic_id });
        let partition = |partition_id| {
            MetadataRecord::Partition(PartitionRecord {
                partition_id,
                topic_id,
                replicas: vec![1],
                isr: vec![1],
                leader: 1,
                ..Default::default()
            })
        };
        let new: Vec<_> = (known == 0).then_some(topic).into_iter().chain((known..partitions).map(partition)).collect();
        self.change_cluster(&new);
    }

    pub(super) fn remove_topic(&mut self, name: &str) {
        self.change_cluster(&[MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: topic_id(name) })]);
    }

    pub(super) fn beat_with(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> (ConsumerGroupHeartbeatResponse, Vec<GroupRecord>) {
        let outcome = self.shard.consumer_heartbeat(&cx(1), request, self.now);
        self.apply(outcome)
    }

    /// A heartbeat that must be taken: the epoch, and the assignment if there is one.
    #[track_caller]
    pub(super) fn beat(&mut self, request: &ConsumerGroupHeartbeatRequest) -> (i32, Option<Named>) {
        let (response, _) = self.beat_with(request);
        assert_eq!(error(response.error_code), ErrorCode::None, "{:?}", response.error_message);
        let image = self.cluster.load().image;
        let assignment = response.assignment.map(|assignment| {
            let name = |topic: &milena_protocol::messages::consumer_group_heartbeat_response::TopicPartitions| {
                let name = image.topics.name_of(topic.topic_id).map_or("?", |name| name);
                (name.to_owned(), topic.partitions.clone())
            };
            assignment.topic_partitions.iter().map(name).collect()
        });
        (response.member_epoch, assignment)
    }

    #[track_caller]
    pub(super) fn refusal(&mut self, request: &ConsumerGroupHeartbeatRequest) -> ErrorCode {
        let (response, records) = self.beat_with(request);
        assert!(records.is_empty(), "a refusal changes nothing");
        error(response.error_code)
    }

    pub(super) fn consumer_state(&self) -> &'static str {
        self.shard.hard.consumer_group(GROUP).map_or("none", |group| group.state().name())
    }
}

fn with_topics() -> Harness {
    let mut h = Harness::new();
    h.set_topic("t1", 3);
    h.set_topic("t2", 2);
    h
}

#[test]
fn the_first_member_gets_everything_with_its_first_heartbeat() {
    let mut h = with_topics();
    let (response, records) = h.beat_with(&join_topics("a", &["t1"]));
    assert_eq!((response.member_epoch, response.heartbeat_interval_ms), (2, 5_000));
    let kinds: Vec<&ConsumerRecord> = records
        .iter()
        .map(|record| match record {
            GroupRecord::Consumer { record, .. } => record,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(matches!(
        &kinds[..],
        [
            ConsumerRecord::Member { value: Some(_), .. },
            ConsumerRecord::Epoch(Some(_)),
            ConsumerRecord::Target { value: Some(_), .. },
            ConsumerRecord::TargetEpoch(Some(_)),
            ConsumerRecord::Current { value: Some(_), .. },
        ]
    ));
    assert_eq!(h.beat(&stay("a", 2)), (2, None));
    assert_eq!(h.beat(&having(join_topics("a", &["t1"]), &[])), (2, Some(named(&[("t1", &[0, 1, 2])]))));
    assert_eq!(h.consumer_state(), "Stable");
}

#[test]
fn partitions_change_hands_only_after_they_were_given_up() {
    let mut h = with_topics();
    h.beat(&join_topics("a", &["t1"]));
    h.advance(1_000);
    assert_eq!(h.beat(&join_topics("b", &["t1"])), (3, Some(named(&[]))));
    assert_eq!(h.beat(&stay("a", 2)), (2, Some(named(&[("t1", &[0, 1])]))));
    assert_eq!(h.consumer_state(), "Reconciling");
    assert_eq!(h.beat(&stay("b", 3)), (3, None));
    assert_eq!(h.beat(&having(stay("a", 2), &[("t1", &[0, 1, 2])])), (2, None));
    assert_eq!(h.beat(&having(stay("a", 2), &[("t1", &[0, 1])])), (3, None));
    // The answer with epoch 3 may have been lost.
    assert_eq!(h.beat(&having(stay("a", 2), &[("t1", &[0])])), (3, None));
    assert_eq!(h.refusal(&having(stay("a", 2), &[("t1", &[0, 1, 2])])), ErrorCode::FencedMemberEpoch);
    assert_eq!(h.refusal(&stay("a", 2)), ErrorCode::FencedMemberEpoch);
    assert_eq!(h.refusal(&stay("a", 4)), ErrorCode::FencedMemberEpoch);
    assert_eq!(h.beat(&stay("b", 3)), (3, Some(named(&[("t1", &[2])]))));
    assert_eq!(h.consumer_state(), "Stable");
    assert_eq!(h.beat(&stay("b", -1)), (-1, None));
    h.advance(1_000);
    assert_eq!(h.beat(&stay("a", 3)), (4, Some(named(&[("t1", &[0, 1, 2])]))));
}

#[test]
fn members_that_come_in_quick_succession_share_an_assignment() {
    let mut h = with_topics();
    h.beat(&join_topics("a", &["t1"]));
    assert_eq!(h.beat(&join_topics("b", &["t1"])), (2, Some(named(&[]))));
    assert_eq!(h.beat(&join_topics("c", &["t1"])), (2, Some(named(&[]))));
    assert_eq!(h.consumer_state(), "Assigning");
    h.advance(1_000);
    assert_eq!(h.beat(&stay("b", 2)), (4, None));
    assert_eq!(h.beat(&stay("a", 2)), (2, Some(named(&[("t1", &[0])]))));
    // A clock that goes back does not stop assignments.
    h.now.wall_ms -= 3_600_000;
    h.beat(&join_topics("d", &["t1"]));
    assert_eq!(h.shard.hard.consumer_group(GROUP).unwrap().target_epoch(), 5);
}

#[test]
fn silent_members_and_those_that_give_nothing_up_are_removed() {
    let mut h = with_topics();
    h.beat(&ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: 10_000, ..join_topics("a", &["t1"]) });
    h.advance(1_000);
    h.beat(&join_topics("b", &["t1"]));
    h.beat(&stay("a", 2));
    h.advance(9_999);
    h.beat(&stay("a", 2));
    h.advance(1);
    assert_eq!(h.refusal(&stay("a", 2)), ErrorCode::UnknownMemberId);
    assert_eq!(h.beat(&stay("b", 3)), (4, Some(named(&[("t1", &[0, 1, 2])]))));
    h.advance(44_999);
    assert_eq!(h.consumer_state(), "Stable");
    h.advance(1);
    assert_eq!(h.consumer_state(), "Empty");
    assert_eq!(h.refusal(&stay("b", 4)), ErrorCode::UnknownMemberId);
    // A restart gives everybody a new session.
    h.beat(&join_topics("c", &["t1"]));
    h.advance(40_000);
    h.restart();
    h.advance(40_000);
    assert_eq!(h.consumer_state(), "Stable");
}

#[test]
fn static_members_come_back_to_what_they_had() {
    let mut h = with_topics();
    let with_instance = |request: ConsumerGroupHeartbeatRequest| ConsumerGroupHeartbeatRequest {
        instance_id: Some("i1".into()),
        ..request
    };
    h.beat(&with_instance(join_topics("a", &["t1"])));
    assert_eq!(h.refusal(&with_instance(join_topics("b", &["t1"]))), ErrorCode::UnreleasedInstanceId);
    assert_eq!(h.refusal(&with_instance(stay("b", -2))), ErrorCode::FencedInstanceId);
    assert_eq!(h.beat(&with_instance(stay("a", -2))), (-2, None));
    assert_eq!(h.refusal(&with_instance(stay("a", 2))), ErrorCode::FencedMemberEpoch);
    assert_eq!(h.beat(&with_instance(join_topics("b", &["t1"]))), (2, Some(named(&[("t1", &[0, 1, 2])]))));
    assert_eq!(h.shard.hard.consumer_group(GROUP).unwrap().epoch(), 2, "nobody else notices");
    assert_eq!(h.refusal(&with_instance(stay("a", 2))), ErrorCode::FencedInstanceId);
    let other = ConsumerGroupHeartbeatRequest { instance_id: Some("i9".into()), ..stay("b", 2) };
    assert_eq!(h.refusal(&other), ErrorCode::UnknownMemberId);
    // Away for longer than its session: gone.
    h.beat(&with_instance(stay("b", -2)));
    h.advance(45_000);
    assert_eq!(h.consumer_state(), "Empty");
}

#[test]
fn new_partitions_topics_and_patterns_are_noticed() {
    let mut h = with_topics();
    h.beat(&join_topics("a", &["t1", "later"]));
    h.advance(1_000);
    h.set_topic("later", 1);
    assert_eq!(h.beat(&stay("a", 2)), (3, Some(named(&[("later", &[0]), ("t1", &[0, 1, 2])]))));
    h.advance(1_000);
    h.set_topic("t1", 4);
    assert_eq!(h.beat(&stay("a", 3)).1, Some(named(&[("later", &[0]), ("t1", &[0, 1, 2, 3])])));
    h.advance(1_000);
    h.remove_topic("later");
    assert_eq!(h.beat(&stay("a", 4)), (4, Some(named(&[("t1", &[0, 1, 2, 3])]))));
    assert_eq!(h.beat(&having(stay("a", 4), &[("t1", &[0, 1, 2, 3])])).0, 5);

    let pattern = |regex: &str, epoch: i32| ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some(regex.into()),
        subscribed_topic_names: (epoch == 0).then(Vec::new),
        ..if epoch == 0 { join_topics("r", &[]) } else { stay("r", epoch) }
    };
    h.beat(&stay("a", -1));
    h.advance(1_000);
    assert_eq!(h.beat(&pattern("t[12]", 0)).1, Some(named(&[("t1", &[0, 1, 2, 3]), ("t2", &[0, 1])])));
    // A new topic is looked for, but not at once.
    h.set_topic("t3", 1);
    h.advance(9_000);
    let epoch = h.beat(&stay("r", 7)).0;
    assert_eq!(h.beat(&pattern("t.", epoch)).1, Some(named(&[("t1", &[0, 1, 2, 3]), ("t2", &[0, 1]), ("t3", &[0])])));
    h.set_topic("t4", 1);
    h.advance(10_000);
    let (_, assigned) = h.beat(&stay("r", 8));
    assert!(assigned.unwrap().contains_key("t4"));
    // The old pattern was forgotten.
    let group = h.shard.hard.consumer_group(GROUP).unwrap();
    assert_eq!(group.regexes().map(|(regex, _)| &**regex).collect::<Vec<_>>(), ["t."]);
}

#[test]
fn a_group_has_settings_of_its_own() {
    let mut h = with_topics();
    for (name, value) in [("consumer.heartbeat.interval.ms", "9000"), ("consumer.session.timeout.ms", "1000000")] {
        let (name, value) = (name.to_owned(), Some(value.to_owned()));
        let resource = ConfigResource::group(GROUP);
        h.change_cluster(&[MetadataRecord::Config(ConfigRecord {
            resource_type: resource.kind as i8,
            resource_name: resource.name,
            name,
            value,
        })]);
    }
    let (response, _) = h.beat_with(&join_topics("a", &["t1"]));
    assert_eq!(response.heartbeat_interval_ms, 9_000);
    h.advance(59_999);
    assert_eq!(h.consumer_state(), "Stable", "the session is as long as the broker allows");
    h.advance(1);
    assert_eq!(h.consumer_state(), "Empty");
}

#[test]
fn a_full_group_takes_nobody() {
    let mut h = Harness::with(GroupConfig { consumer_max_size: 1, ..config() });
    h.set_topic("t1", 3);
    h.beat(&join_topics("a", &["t1"]));
    assert_eq!(h.refusal(&join_topics("b", &["t1"])), ErrorCode::GroupMaxSizeReached);
    h.beat(&stay("a", 2));
}

#[test]
fn what_no_batch_takes_is_refused_before_it_is_written() {
    let mut h = Harness::with(GroupConfig { max_record_bytes: 2_000, ..config() });
    h.set_topic("t1", 3);
    let names: Vec<String> = (0..300).map(|n| format!("a-topic-of-some-length-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(h.refusal(&join_topics("a", &names)), ErrorCode::UnknownServerError);
    h.set_topic("wide", 1_000);
    assert_eq!(h.refusal(&join_topics("a", &["wide"])), ErrorCode::UnknownServerError);
    assert_eq!(h.consumer_state(), "none");
    h.beat(&join_topics("a", &["t1"]));
}

#[test]
fn offsets_are_for_members_at_their_epoch() {
    let mut h = with_topics();
    h.beat(&join_topics("a", &["t1"]));
    let commit = |h: &mut Harness, version: i16, member: &str, epoch: i32| {
        h.commit_with(version, &commit_request(GROUP, member, epoch, "t1", 0, 5)).0
    };
    assert_eq!(commit(&mut h, 9, "a", 2), Ok(vec![ErrorCode::None]));
    assert_eq!(commit(&mut h, 9, "a", 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(commit(&mut h, 9, "a", 3), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(commit(&mut h, 9, "a", -1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(commit(&mut h, 9, "", -1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(commit(&mut h, 8, "a", 2), Err(ErrorCode::UnsupportedVersion));
    let fetch = |h: &Harness, member: Option<&str>, member_epoch: i32| {
        let request = milena_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup {
            member_id: member.map(str::to_owned),
            member_epoch,
            ..fetch_request(GROUP, "t1", 0)
        };
        error(h.shard.fetch_offsets(&request, false).error_code)
    };
    assert_eq!(fetch(&h, Some("a"), 2), ErrorCode::None);
    assert_eq!(fetch(&h, None, -1), ErrorCode::None);
    assert_eq!(fetch(&h, Some("a"), 1), ErrorCode::StaleMemberEpoch);
    assert_eq!(fetch(&h, Some("z"), 2), ErrorCode::UnknownMemberId);
    // Who has not heard of its new epoch commits what it has had since an epoch it knows, and nothing else with it.
    h.advance(1_000);
    h.beat(&join_topics("b", &["t1"]));
    h.beat(&stay("a", 2));
    h.beat(&having(stay("a", 2), &[("t1", &[0, 1])]));
    let of_t1 = |epoch: i32, partition: i32| {
        let mut request = commit_request(GROUP, "a", epoch, "t1", partition, 5);
        request.topics[0].topic_id = topic_id("t1");
        request
    };
    assert_eq!(h.commit_with(9, &of_t1(2, 0)).0, Ok(vec![ErrorCode::None]));
    assert_eq!(h.commit_with(9, &of_t1(2, 2)).0, Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(h.commit_with(9, &of_t1(1, 0)).0, Err(ErrorCode::StaleMemberEpoch));
    let mut both = of_t1(2, 0);
    both.topics.extend(of_t1(2, 2).topics);
    assert_eq!(h.commit_with(9, &both).0, Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(fetch(&h, Some("a"), 2), ErrorCode::StaleMemberEpoch);
    h.beat(&stay("b", -1));
    // Nobody's offsets expire while somebody reads the topic; afterwards group and all go.
    let outcome = h.shard.delete_group(GROUP, h.now);
    assert_eq!(error(h.apply(outcome).0.error_code), ErrorCode::NonEmptyGroup);
    h.beat(&stay("a", -1));
    assert_eq!(commit(&mut h, 9, "", -1), Ok(vec![ErrorCode::None]));
    h.advance(8 * 86_400_000);
    assert_eq!(h.shard.hard, Hard::default());
}

#[test]
fn the_metadata_hash_is_the_one_that_kafka_records() {
    let mut h = Harness::new();
    let topic_id: Uuid = "KNiyGAHESh-92hG6ckoY-A".parse().unwrap();
    let partition = |partition_id| PartitionRecord { partition_id, topic_id, ..Default::default() };
    let mut records = vec![MetadataRecord::Topic(TopicRecord { name: "t1".into(), topic_id })];
    records.extend((0..3).map(partition).map(MetadataRecord::Partition));
    h.change_cluster(&records);
    h.beat(&join_topics("a", &["t1"]));
    assert_eq!(h.shard.hard.consumer_group(GROUP).unwrap().metadata_hash(), -2701345818943686205);
}
