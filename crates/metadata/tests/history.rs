//! Random histories of operations: what the controller holds is what anybody gets who replays its log, at any level and
//! with a snapshot in between.

mod common;

use std::sync::Arc;

use common::{Cluster, block_on};
use milena_metadata::image::{MetadataImage, Provenance};
use milena_metadata::versions::encode_record;
use milena_metadata::{MetadataCache, MetadataDelta, MetadataLoader, MetadataPublisher};
use milena_protocol::messages as msg;
use milena_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use milena_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use milena_protocol::messages::delete_topics_request::DeleteTopicState;
use milena_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Register { broker: i32, clean: bool },
    Heartbeat { broker: i32, fence: bool, shut_down: bool },
    Expire,
    Create { name: u8, partitions: i32, factor: i16, config: bool },
    CreateAssigned { name: u8, replicas: Vec<i32> },
    Delete { name: u8 },
    Grow { name: u8, count: i32 },
    Configure { topic: u8, key: u8, operation: i8, value: u8 },
    ProducerIds { broker: i32 },
    ShrinkIsr { name: u8 },
    Unregister { broker: i32 },
}

fn step() -> impl Strategy<Value = Step> {
    let broker = 1..4i32;
    let name = 0..4u8;
    prop_oneof![
        3 => (broker.clone(), any::<bool>()).prop_map(|(broker, clean)| Step::Register { broker, clean }),
        8 => (broker.clone(), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(broker, fence, shut_down)| Step::Heartbeat { broker, fence, shut_down }),
        1 => Just(Step::Expire),
        4 => (name.clone(), -1..4i32, -1..4i16, any::<bool>())
            .prop_map(|(name, partitions, factor, config)| Step::Create { name, partitions, factor, config }),
        2 => (name.clone(), prop::collection::vec(1..4i32, 1..3)).prop_map(|(name, replicas)| Step::CreateAssigned { name, replicas }),
        1 => name.clone().prop_map(|name| Step::Delete { name }),
        1 => (name.clone(), 1..6i32).prop_map(|(name, count)| Step::Grow { name, count }),
        3 => (name.clone(), 0..4u8, 0..4i8, 0..3u8)
            .prop_map(|(topic, key, operation, value)| Step::Configure { topic, key, operation, value }),
        1 => broker.clone().prop_map(|broker| Step::ProducerIds { broker }),
        2 => name.prop_map(|name| Step::ShrinkIsr { name }),
        1 => broker.prop_map(|broker| Step::Unregister { broker }),
    ]
}

fn topic_name(name: u8) -> String {
    ["a", "b.c", "b_c", "bad name"][usize::from(name % 4)].to_owned()
}

fn run(cluster: &Cluster, step: &Step) {
    let controller = &cluster.controller;
    match step {
        Step::Register { broker, clean } => {
            cluster.register(*broker, *clean);
        }
        Step::Heartbeat { broker, fence, shut_down } => {
            let request = msg::BrokerHeartbeatRequest {
                broker_id: *broker,
                broker_epoch: cluster.broker_epoch(*broker),
                current_metadata_offset: cluster.log.last_offset(),
                want_fence: *fence,
                want_shut_down: *shut_down,
                ..Default::default()
            };
            let _ = block_on(controller.heartbeat(request));
        }
        Step::Expire => {
            cluster.clock.advance_ms(10_000);
            controller.on_tick();
        }
        Step::Create { name, partitions, factor, config } => {
            let configs =
                vec![CreatableTopicConfig { name: "retention.ms".to_owned(), value: Some("1000".to_owned()) }];
            let topic = CreatableTopic {
                name: topic_name(*name),
                num_partitions: *partitions,
                replication_factor: *factor,
                configs: if *config { configs } else { Vec::new() },
                ..Default::default()
            };
            let _ = block_on(
                controller.create_topics(msg::CreateTopicsRequest { topics: vec![topic], ..Default::default() }),
            );
        }
        Step::CreateAssigned { name, replicas } => {
            let topic = CreatableTopic {
                name: topic_name(*name),
                num_partitions: -1,
                replication_factor: -1,
                assignments: vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: replicas.clone() }],
                ..Default::default()
            };
            let _ = block_on(
                controller.create_topics(msg::CreateTopicsRequest { topics: vec![topic], ..Default::default() }),
            );
        }
        Step::Delete { name } => {
            let topics = vec![DeleteTopicState { name: Some(topic_name(*name)), ..Default::default() }];
            let _ = block_on(controller.delete_topics(msg::DeleteTopicsRequest { topics, ..Default::default() }));
        }
        Step::Grow { name, count } => {
            let topics = vec![CreatePartitionsTopic { name: topic_name(*name), count: *count, assignments: None }];
            let _ =
                block_on(controller.create_partitions(msg::CreatePartitionsRequest { topics, ..Default::default() }));
        }
        Step::Configure { topic, key, operation, value } => {
            let key = ["cleanup.policy", "retention.ms", "min.insync.replicas", "no.such.key"][usize::from(*key % 4)];
            let value = match key {
                "cleanup.policy" => ["delete", "compact", "compact,delete"][usize::from(*value % 3)].to_owned(),
                _ => (i32::from(*value) + 1).to_string(),
            };
            let config = AlterableConfig { name: key.to_owned(), config_operation: *operation, value: Some(value) };
            let (resource_type, resource_name) = if *topic == 3 { (4, String::new()) } else { (2, topic_name(*topic)) };
            let resources = vec![AlterConfigsResource { resource_type, resource_name, configs: vec![config] }];
            let request = msg::IncrementalAlterConfigsRequest { resources, validate_only: false };
            let _ = block_on(controller.incremental_alter_configs(request));
        }
        Step::ProducerIds { broker } => {
            let request =
                msg::AllocateProducerIdsRequest { broker_id: *broker, broker_epoch: cluster.broker_epoch(*broker) };
            let _ = block_on(controller.allocate_producer_ids(request));
        }
        Step::ShrinkIsr { name } => shrink(cluster, &topic_name(*name)),
        Step::Unregister { broker } => {
            let _ = block_on(controller.unregister_broker(msg::UnregisterBrokerRequest { broker_id: *broker }));
        }
    }
}

/// The leader of partition 0 reports itself as the only one in sync.
fn shrink(cluster: &Cluster, name: &str) {
    use milena_protocol::messages::alter_partition_request::{PartitionData, TopicData};
    let Some(image) = cluster.controller.image() else { return };
    let Some(topic) = image.topics.by_name(name) else { return };
    let Some(partition) = topic.partition(0).filter(|p| p.has_leader()) else { return };
    let data = PartitionData {
        partition_index: 0,
        leader_epoch: partition.leader_epoch,
        new_isr: vec![partition.leader],
        partition_epoch: partition.partition_epoch,
        ..Default::default()
    };
    let request = msg::AlterPartitionRequest {
        broker_id: partition.leader,
        broker_epoch: cluster.broker_epoch(partition.leader),
        topics: vec![TopicData { topic_id: topic.id, partitions: vec![data], ..Default::default() }],
    };
    let _ = block_on(cluster.controller.alter_partition(request));
}

/// What must hold of any image a controller made.
fn check(image: &MetadataImage) {
    for topic in image.topics.iter() {
        assert_eq!(image.topics.id_of(&topic.name), Some(topic.id));
        for (n, (&partition, p)) in topic.partitions.iter().enumerate() {
            assert_eq!(n as i32, partition, "partitions without gaps");
            assert_eq!(p.replicas.len(), p.directories.len());
            assert!(p.isr.iter().chain(&p.elr).all(|id| p.replicas.contains(id)), "{p:?}");
            assert!(!p.isr.iter().any(|id| p.elr.contains(id)), "{p:?}");
            if p.has_leader() {
                assert!(p.isr.contains(&p.leader), "{p:?}");
                assert!(image.cluster.broker(p.leader).is_some_and(|b| b.is_active()), "{p:?}");
            }
        }
    }
}

#[derive(Default)]
struct Mirror(std::sync::Mutex<MetadataImage>);

impl MetadataPublisher for Mirror {
    /// Rebuilds the topics from deltas alone.
    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        let mut mirror = self.0.lock().expect("not poisoned");
        assert!(mirror.same_content(&delta.previous), "deltas follow each other");
        for deleted in &delta.deleted_topics {
            assert!(image.topics.by_id(deleted.id).is_none());
        }
        for changed in &delta.changed_partitions {
            assert_eq!(image.topics.partition_by_id(changed.topic_id, changed.partition), Some(&changed.new));
            assert_eq!(
                delta.previous.topics.partition_by_id(changed.topic_id, changed.partition),
                changed.old.as_ref()
            );
        }
        let partitions = |i: &MetadataImage| i.topics.iter().map(|t| t.partitions.len()).sum::<usize>();
        let created = delta.changed_partitions.iter().filter(|c| c.old.is_none()).count();
        let deleted: usize = delta.deleted_topics.iter().map(|t| t.partitions.len()).sum();
        assert_eq!(partitions(&delta.previous) + created - deleted, partitions(image));
        *mirror = MetadataImage::clone(image);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replay_equals_live(steps in prop::collection::vec(step(), 1..60), level in prop::sample::select(vec![7i16, 12, 17, 22, 30]), cut in 0usize..60) {
        let cluster = Cluster::start(level);
        let mirror = Arc::new(Mirror::default());
        let mut loader = MetadataLoader::new(MetadataCache::default());
        loader.add_publisher(mirror);
        let mut snapshot = None;
        for (n, step) in steps.iter().enumerate() {
            run(&cluster, step);
            cluster.log.feed(&mut loader);
            loader.publish();
            if n == cut {
                snapshot = Some(loader.published().clone());
            }
        }
        let live = cluster.controller.image().expect("leads");
        check(&live);
        prop_assert!(live.same_content(loader.published()), "followed: {:?}\n{:?}", live, loader.published());
        // From the beginning, as after a restart.
        let mut fresh = MetadataLoader::new(MetadataCache::default());
        cluster.log.feed(&mut fresh);
        fresh.publish();
        prop_assert!(live.same_content(fresh.published()));
        // From a snapshot in the middle and the log after it.
        if let Some(image) = snapshot {
            let records: Vec<_> = image.to_records().iter().map(|r| encode_record(r, level).expect("encodes")).collect();
            let mut from_snapshot = MetadataLoader::new(MetadataCache::default());
            from_snapshot.load_snapshot(Provenance { last_offset: image.last_offset(), last_epoch: 1, last_timestamp_ms: 0 }, records).expect("loads");
            from_snapshot.publish();
            prop_assert!(image.same_content(from_snapshot.published()), "snapshot: {:?}\n{:?}", image, from_snapshot.published());
            cluster.log.feed(&mut from_snapshot);
            from_snapshot.publish();
            prop_assert!(live.same_content(from_snapshot.published()));
        }
    }
}
