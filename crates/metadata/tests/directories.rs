//! Directories of a broker that fail, and replicas that move between them, as the controller records them (KIP-858).

mod common;

use common::{CLUSTER_ID, Cluster, block_on};
use milena_common::Uuid;
use milena_metadata::image::PartitionImage;
use milena_metadata::versions::supported_features;
use milena_protocol::messages as msg;
use milena_protocol::messages::assign_replicas_to_dirs_request::{DirectoryData, PartitionData, TopicData};
use milena_protocol::messages::broker_registration_request::{Feature, Listener};
use milena_protocol::messages::create_topics_request::CreatableTopic;

const A: Uuid = Uuid::from_u128(1_000);
const B: Uuid = Uuid::from_u128(2_000);

fn register(cluster: &Cluster, log_dirs: Vec<Uuid>) {
    let feature = |(name, range): (String, milena_metadata::image::VersionRange)| Feature {
        name,
        min_supported_version: range.min,
        max_supported_version: range.max,
    };
    let request = msg::BrokerRegistrationRequest {
        broker_id: 1,
        cluster_id: CLUSTER_ID.to_owned(),
        incarnation_id: Uuid::random(),
        listeners: vec![Listener { name: "PLAINTEXT".into(), host: "h".into(), port: 9092, security_protocol: 0 }],
        features: supported_features().into_iter().map(feature).collect(),
        log_dirs,
        previous_broker_epoch: cluster.broker_epoch(1),
        ..Default::default()
    };
    assert_eq!(block_on(cluster.controller.register_broker(request)).expect("answers").error_code, 0);
}

fn heartbeat(cluster: &Cluster, offline_log_dirs: Vec<Uuid>, want_shut_down: bool) {
    let request = msg::BrokerHeartbeatRequest {
        broker_id: 1,
        broker_epoch: cluster.broker_epoch(1),
        current_metadata_offset: cluster.log.last_offset(),
        offline_log_dirs,
        want_shut_down,
        ..Default::default()
    };
    assert_eq!(block_on(cluster.controller.heartbeat(request)).expect("answers").error_code, 0);
}

fn start(level: i16) -> (Cluster, Uuid) {
    let cluster = Cluster::start(level);
    register(&cluster, vec![A, B]);
    heartbeat(&cluster, vec![], false);
    let topic = CreatableTopic { name: "t".to_owned(), num_partitions: 3, replication_factor: 1, ..Default::default() };
    let request = msg::CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let id = block_on(cluster.controller.create_topics(request)).expect("answers").topics[0].topic_id;
    (cluster, id)
}

/// The codes of the answer: of the whole, then of each partition.
fn assign(cluster: &Cluster, directory: Uuid, topic: Uuid, partitions: &[i32]) -> Vec<i16> {
    let partitions = partitions.iter().map(|&partition_index| PartitionData { partition_index }).collect();
    let topics = vec![TopicData { topic_id: topic, partitions }];
    let request = msg::AssignReplicasToDirsRequest {
        broker_id: 1,
        broker_epoch: cluster.broker_epoch(1),
        directories: vec![DirectoryData { id: directory, topics }],
    };
    let answer = block_on(cluster.controller.assign_replicas_to_dirs(request)).expect("answers");
    let partitions = answer.directories.iter().flat_map(|d| &d.topics).flat_map(|t| &t.partitions);
    std::iter::once(answer.error_code).chain(partitions.map(|p| p.error_code)).collect()
}

fn partitions(cluster: &Cluster) -> Vec<PartitionImage> {
    let image = cluster.controller.image().expect("leads");
    image.topics.by_name("t").expect("is there").partitions.values().map(|p| (**p).clone()).collect()
}

fn leaders(cluster: &Cluster) -> Vec<i32> {
    partitions(cluster).iter().map(|p| p.leader).collect()
}

#[test]
fn a_failed_directory_takes_its_leaders() {
    for level in [17, 22, 30] {
        let (cluster, topic) = start(level);
        assert_eq!(assign(&cluster, A, topic, &[0]), [0, 0]);
        assert_eq!(assign(&cluster, B, topic, &[1, 9]), [0, 0, 3]);
        assert_eq!(assign(&cluster, B, Uuid::from_u128(77_777), &[0]), [0, 100]);
        let of: Vec<Uuid> = partitions(&cluster).iter().map(|p| p.directory_of(1)).collect();
        assert_eq!(of, [A, B, Uuid::UNASSIGNED_DIR]);
        let end = cluster.log.last_offset();
        assert_eq!(assign(&cluster, B, topic, &[1]), [0, 0]);
        assert_eq!(cluster.log.last_offset(), end, "what is known is not recorded again");

        heartbeat(&cluster, vec![B], false);
        assert_eq!(leaders(&cluster), [1, -1, 1]);
        let image = cluster.controller.image().expect("leads");
        assert_eq!(image.cluster.broker(1).expect("registered").log_dirs, [A]);
        let end = cluster.log.last_offset();
        heartbeat(&cluster, vec![B], false);
        assert_eq!(cluster.log.last_offset(), end, "said again, it changes nothing");
        // one that was put there and is heard of only now
        assert_eq!(assign(&cluster, B, topic, &[2]), [0, 0]);
        assert_eq!(leaders(&cluster), [1, -1, -1]);

        // without it they stay without leader; with it they have one again
        heartbeat(&cluster, vec![], true);
        register(&cluster, vec![A]);
        heartbeat(&cluster, vec![], false);
        assert_eq!(leaders(&cluster), [1, -1, -1]);
        heartbeat(&cluster, vec![], true);
        register(&cluster, vec![A, B]);
        heartbeat(&cluster, vec![], false);
        assert_eq!(leaders(&cluster), [1, 1, 1]);
    }
}

#[test]
fn before_directories_nothing_is_recorded_of_them() {
    let (cluster, topic) = start(12);
    assert_eq!(assign(&cluster, B, topic, &[0]), [35]);
    let end = cluster.log.last_offset();
    heartbeat(&cluster, vec![B], false);
    assert_eq!((cluster.log.last_offset(), leaders(&cluster)), (end, vec![1, 1, 1]));
}
