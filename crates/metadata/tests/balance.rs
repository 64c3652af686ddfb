//! Elections that nobody asks for: leadership goes back to preferred replicas, and topics that would rather lose records get leaders.

mod common;

use common::{Cluster, block_on};
use milena_metadata::image::PartitionImage;
use milena_protocol::messages as msg;
use milena_protocol::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use milena_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use milena_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};

fn start(properties: &[(&str, &str)]) -> Cluster {
    let cluster = Cluster::start_with(30, properties);
    (1..=2).for_each(|id| cluster.bring_up(id));
    let assignments = vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1, 2] }];
    let (num_partitions, replication_factor) = (-1, -1);
    let topic =
        CreatableTopic { name: "t".to_owned(), num_partitions, replication_factor, assignments, ..Default::default() };
    let request = msg::CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    assert_eq!(block_on(cluster.controller.create_topics(request)).expect("answers").topics[0].error_code, 0);
    cluster
}

fn heartbeat(cluster: &Cluster, id: i32, want_fence: bool) {
    let request = msg::BrokerHeartbeatRequest {
        broker_id: id,
        broker_epoch: cluster.broker_epoch(id),
        current_metadata_offset: cluster.log.last_offset(),
        want_fence,
        ..Default::default()
    };
    assert_eq!(block_on(cluster.controller.heartbeat(request)).expect("answers").error_code, 0);
}

fn partition(cluster: &Cluster) -> PartitionImage {
    let image = cluster.controller.image().expect("leads");
    (**image.topics.partition("t", 0).expect("is there")).clone()
}

/// The leader says who is in sync.
fn set_isr(cluster: &Cluster, isr: &[i32]) {
    let (now, topic_id) = (partition(cluster), cluster.controller.image().and_then(|i| i.topics.id_of("t")));
    let member = |&id: &i32| BrokerState { broker_id: id, broker_epoch: cluster.broker_epoch(id) };
    let wanted = PartitionData {
        leader_epoch: now.leader_epoch,
        partition_epoch: now.partition_epoch,
        new_isr_with_epochs: isr.iter().map(member).collect(),
        ..Default::default()
    };
    let topic = TopicData { topic_id: topic_id.expect("is there"), partitions: vec![wanted], ..Default::default() };
    let (broker_id, broker_epoch) = (now.leader, cluster.broker_epoch(now.leader));
    let request = msg::AlterPartitionRequest { broker_id, broker_epoch, topics: vec![topic] };
    let answer = block_on(cluster.controller.alter_partition(request)).expect("answers");
    assert_eq!(answer.topics[0].partitions[0].error_code, 0, "{answer:?}");
}

/// Time passes, while these brokers are alive.
fn pass(cluster: &Cluster, ms: u64, alive: &[i32]) {
    cluster.clock.advance_ms(ms);
    alive.iter().for_each(|id| heartbeat(cluster, *id, false));
    cluster.controller.on_tick();
}

#[test]
fn preferred_replicas_lead_again() {
    for (properties, leader) in [(&[][..], 1), (&[("auto.leader.rebalance.enable", "false")][..], 2)] {
        let cluster = start(properties);
        heartbeat(&cluster, 1, true);
        heartbeat(&cluster, 1, false);
        assert_eq!((partition(&cluster).leader, partition(&cluster).isr), (2, vec![2]));
        pass(&cluster, 300_000, &[1, 2]);
        assert_eq!(partition(&cluster).leader, 2, "it is not in sync");
        set_isr(&cluster, &[2, 1]);
        pass(&cluster, 299_000, &[1, 2]);
        assert_eq!(partition(&cluster).leader, 2, "not yet");
        pass(&cluster, 1_000, &[1, 2]);
        assert_eq!(partition(&cluster).leader, leader);
    }
}

#[test]
fn unclean_leaders_are_looked_for_where_they_are_allowed() {
    for allowed in [false, true] {
        let cluster = start(&[]);
        set_isr(&cluster, &[1]);
        heartbeat(&cluster, 1, true);
        assert_eq!((partition(&cluster).leader, partition(&cluster).elr), (-1, vec![1]));
        let name = "unclean.leader.election.enable".to_owned();
        let setting = AlterableConfig { name, config_operation: 0, value: Some(allowed.to_string()) };
        let resource = AlterConfigsResource { resource_type: 2, resource_name: "t".to_owned(), configs: vec![setting] };
        let request = msg::IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        assert_eq!(
            block_on(cluster.controller.incremental_alter_configs(request)).expect("answers").responses[0].error_code,
            0
        );
        pass(&cluster, 300_000, &[2]);
        let expected = if allowed { (2, vec![2]) } else { (-1, vec![]) };
        assert_eq!((partition(&cluster).leader, partition(&cluster).isr), expected);
    }
}
