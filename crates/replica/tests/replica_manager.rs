//! Replicas on real logs, told by metadata: what is acknowledged, who waits, who is woken, who is refused.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_common::config::{BrokerConfig, TopicConfig};
use milena_common::{Clock, SystemClock, TopicPartition, Uuid};
use milena_log::checkpoint::MetaProperties;
use milena_log::fs::RealFs;
use milena_log::{CommitBy, LogManager, LogManagerOptions, Origin, TransactionCheck};
use milena_metadata::store::CommittedBatch;
use milena_metadata::versions::encode_record;
use milena_metadata::{MetadataCache, MetadataLoader};
use milena_protocol::ErrorCode;
use milena_protocol::records::{BatchBuilder, Compression};
use milena_protocol::stored::metadata::{
    ConfigRecord, MetadataRecord, PartitionChangeRecord, PartitionRecord, RemoveTopicRecord, TopicRecord,
};
use milena_replica::{
    AppendPart, AppendRequest, FetchParams, FetchPart, FetchedPart, Isolation, OffsetQuery, OffsetSpec, ReplicaError,
    ReplicaManager,
};

const TOPIC: Uuid = Uuid::from_u128(4711);
const LEVEL: i16 = 27;

struct Broker {
    dir: Arc<tempfile::TempDir>,
    loader: MetadataLoader,
    replicas: Arc<ReplicaManager>,
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn broker_config(more: &[(&str, &str)]) -> Arc<BrokerConfig> {
    let given = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "1@127.0.0.1:20750"),
        ("listeners", "PLAINTEXT://127.0.0.1:19750,CONTROLLER://127.0.0.1:20750"),
    ];
    let pairs = given.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Arc::new(BrokerConfig::from_properties(pairs).expect("valid"))
}

impl Broker {
    fn new(more: &[(&str, &str)]) -> Broker {
        let dir = tempfile::tempdir().expect("a directory");
        let meta = MetaProperties { cluster_id: "c".into(), node_id: 1, directory_id: Uuid::random() };
        meta.write(&RealFs, dir.path()).expect("formats");
        Broker::open(Arc::new(dir), more)
    }

    fn open(dir: Arc<tempfile::TempDir>, more: &[(&str, &str)]) -> Broker {
        let config = broker_config(more);
        let options = LogManagerOptions {
            dirs: vec![dir.path().to_path_buf()],
            recovery_threads: 1,
            retention_check_ms: u64::MAX,
            recovery_point_checkpoint_ms: u64::MAX,
            high_watermark_checkpoint_ms: u64::MAX,
            producer_expiration_ms: 86_400_000,
            clock: clock(),
        };
        let topic = Arc::new(TopicConfig::from_overrides(&config, &Default::default()).expect("valid"));
        let logs = LogManager::open(options, &|_| Arc::clone(&topic)).expect("opens");
        let cache = MetadataCache::default();
        let replicas = ReplicaManager::new(config, logs, cache.clone(), clock());
        let mut loader = MetadataLoader::new(cache);
        loader.add_publisher(replicas.clone());
        Broker { dir, loader, replicas }
    }

    fn publish(&mut self, records: impl IntoIterator<Item = MetadataRecord>) {
        let records: Vec<Bytes> = records.into_iter().map(|r| encode_record(&r, LEVEL).expect("encodes")).collect();
        let base_offset = self.loader.next_offset();
        let batch = CommittedBatch {
            base_offset,
            last_offset: base_offset + records.len() as i64 - 1,
            epoch: 1,
            append_timestamp_ms: 0,
            size_in_bytes: 100,
            records,
        };
        self.loader.replay(&batch).expect("replays");
        self.loader.publish();
    }

    fn create(&mut self, replicas: &[i32], isr: &[i32]) {
        self.publish(topic("t", TOPIC, &[(0, replicas, isr)]));
    }

    fn append(&self, acks: i16, timeout_ms: u64, values: &[&str]) -> milena_replica::Appended {
        self.append_to(0, acks, timeout_ms, values)
    }

    fn append_to(&self, partition: i32, acks: i16, timeout_ms: u64, values: &[&str]) -> milena_replica::Appended {
        let (partition, records) = (TopicPartition::new("t", partition), batch(values));
        let part = AppendPart { partition, records, transaction: TransactionCheck::Off };
        self.replicas.append(AppendRequest {
            acks,
            origin: Origin::Client,
            produce_version: Some(13),
            timeout_ms,
            commit: CommitBy::Thread,
            parts: vec![part],
        })
    }

    async fn committed(&self, acks: i16, timeout_ms: u64, values: &[&str]) -> Result<i64, ErrorCode> {
        let results = self.append(acks, timeout_ms, values).committed().await;
        results.into_iter().next().expect("one part").map(|info| info.last_offset).map_err(|e| e.code())
    }

    async fn fetch(&self, params: &FetchParams, offset: i64) -> FetchedPart {
        let parts = [part(0, offset)];
        self.replicas.fetch(params, &parts).await.into_iter().next().expect("one part")
    }
}

fn topic(name: &str, id: Uuid, partitions: &[(i32, &[i32], &[i32])]) -> Vec<MetadataRecord> {
    let mut records = vec![MetadataRecord::Topic(TopicRecord { name: name.to_owned(), topic_id: id })];
    records.extend(partitions.iter().map(|(partition_id, replicas, isr)| {
        MetadataRecord::Partition(PartitionRecord {
            partition_id: *partition_id,
            topic_id: id,
            replicas: replicas.to_vec(),
            directories: vec![Uuid::UNASSIGNED_DIR; replicas.len()],
            isr: isr.to_vec(),
            leader: 1,
            leader_epoch: 3,
            partition_epoch: 5,
            ..Default::default()
        })
    }));
    records
}

fn new_leader(leader: i32) -> MetadataRecord {
    MetadataRecord::PartitionChange(PartitionChangeRecord {
        partition_id: 0,
        topic_id: TOPIC,
        leader,
        ..Default::default()
    })
}

fn topic_setting(name: &str, value: &str) -> MetadataRecord {
    MetadataRecord::Config(ConfigRecord {
        resource_type: 2,
        resource_name: "t".to_owned(),
        name: name.to_owned(),
        value: Some(value.to_owned()),
    })
}

fn batch(values: &[&str]) -> Bytes {
    let mut b = BatchBuilder::new(Compression::None);
    for v in values {
        b.append(clock().now().wall_ms, None, Some(v.as_bytes()), &[]).expect("fits");
    }
    b.build(0).expect("builds")
}

fn consumer(max_wait_ms: u64, min_bytes: usize) -> FetchParams {
    FetchParams {
        replica_id: -1,
        replica_epoch: -1,
        read_committed: false,
        from_follower: true,
        client_rack: None,
        max_wait_ms,
        min_bytes,
        max_bytes: 1 << 20,
        one_batch_each: false,
    }
}

fn follower(id: i32) -> FetchParams {
    FetchParams { replica_id: id, ..consumer(0, 1) }
}

fn part(partition: i32, offset: i64) -> FetchPart {
    FetchPart {
        partition: TopicPartition::new("t", partition),
        topic_id: TOPIC,
        current_leader_epoch: -1,
        fetch_offset: offset,
        last_fetched_epoch: -1,
        log_start_offset: 0,
        max_bytes: 1 << 20,
    }
}

fn code(fetched: &FetchedPart) -> ErrorCode {
    fetched.error.as_ref().map_or(ErrorCode::None, ReplicaError::code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_appended_is_committed_and_fetched() {
    let mut broker = Broker::new(&[]);
    assert_eq!(broker.committed(-1, 1000, &["x"]).await, Err(ErrorCode::UnknownTopicOrPartition));
    broker.create(&[1], &[1]);
    assert_eq!(broker.committed(-1, 5000, &["a", "b"]).await, Ok(1));
    assert_eq!(broker.committed(1, 5000, &["c"]).await, Ok(2));
    assert_eq!(broker.committed(2, 5000, &["d"]).await, Err(ErrorCode::InvalidRequiredAcks));
    broker.replicas.wait_committed(&TopicPartition::new("t", 0), 3).await.expect("is committed");

    let fetched = broker.fetch(&consumer(0, 1), 0).await;
    assert_eq!((code(&fetched), fetched.high_watermark, fetched.last_stable_offset), (ErrorCode::None, 3, 3));
    assert!(fetched.size_in_bytes() > 2 * 61);
    // a limit below the first batch gives that batch
    let small = FetchParams { max_bytes: 1, ..consumer(0, 1) };
    let fetched = broker.fetch(&small, 0).await;
    assert!((62..200).contains(&fetched.size_in_bytes()));
    // what is committed may be asked for although it is not there
    assert_eq!(code(&broker.fetch(&consumer(0, 1), 3).await), ErrorCode::None);
    assert_eq!(code(&broker.fetch(&consumer(0, 1), 4).await), ErrorCode::OffsetOutOfRange);
    let unknown = broker.replicas.fetch_now(&consumer(0, 1), &[part(1, 0)]);
    assert_eq!(code(&unknown[0]), ErrorCode::UnknownTopicOrPartition);
    let other = FetchPart { topic_id: Uuid::from_u128(1), ..part(0, 0) };
    assert_eq!(code(&broker.replicas.fetch_now(&consumer(0, 1), &[other])[0]), ErrorCode::InconsistentTopicId);
    for (epoch, expected) in
        [(2, ErrorCode::FencedLeaderEpoch), (3, ErrorCode::None), (4, ErrorCode::UnknownLeaderEpoch)]
    {
        let asked = FetchPart { current_leader_epoch: epoch, ..part(0, 0) };
        assert_eq!(code(&broker.replicas.fetch_now(&consumer(0, 1), &[asked])[0]), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_raise_the_high_watermark() {
    let mut broker = Broker::new(&[]);
    broker.create(&[1, 2], &[1, 2]);
    assert_eq!(broker.committed(1, 5000, &["a"]).await, Ok(0));
    assert_eq!(broker.committed(-1, 50, &["b"]).await, Err(ErrorCode::RequestTimedOut));
    assert_eq!(broker.fetch(&consumer(0, 1), 0).await.size_in_bytes(), 0);

    let waiting = broker.append(-1, 10_000, &["c"]);
    let polling = {
        let replicas = Arc::clone(&broker.replicas);
        tokio::spawn(async move { replicas.fetch(&consumer(10_000, 1), &[part(0, 0)]).await.remove(0) })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_committed());
    let fetched = broker.fetch(&follower(2), 0).await;
    assert!(fetched.size_in_bytes() > 3 * 61, "a follower reads all that is durable");
    assert_eq!(broker.fetch(&follower(2), 3).await.high_watermark, 3, "what it told counts at once");
    let committed = waiting.committed().await;
    assert_eq!(committed[0].as_ref().map(|info| info.last_offset).map_err(ReplicaError::code), Ok(2));
    let polled = polling.await.expect("polls");
    assert_eq!(polled.high_watermark, 3);
    assert!(polled.size_in_bytes() > 0);
    assert_eq!(code(&broker.fetch(&follower(9), 0).await), ErrorCode::NotLeaderOrFollower);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_in_sync_replicas_refuse_acks_all() {
    let mut broker = Broker::new(&[]);
    broker.create(&[1, 2], &[1]);
    assert_eq!(broker.committed(-1, 5000, &["a"]).await, Ok(0));
    broker.publish([topic_setting("min.insync.replicas", "2")]);
    assert_eq!(broker.committed(-1, 5000, &["b"]).await, Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(broker.committed(1, 5000, &["c"]).await, Ok(1));
    assert_eq!(broker.fetch(&consumer(0, 1), 0).await.high_watermark, 1, "too few hold it to call it committed");
    broker.publish([topic_setting("min.insync.replicas", "1")]);
    assert_eq!(broker.fetch(&consumer(0, 1), 0).await.high_watermark, 2);
}

/// As Kafka 4 counts: a topic with fewer replicas than `min.insync.replicas` needs all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_replica_is_enough_for_itself() {
    let mut broker = Broker::new(&[("min.insync.replicas", "2")]);
    broker.create(&[1], &[1]);
    assert_eq!(broker.committed(-1, 5000, &["a"]).await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_polls_wait_for_as_many_bytes_as_they_ask_for() {
    let mut broker = Broker::new(&[]);
    broker.publish(topic("t", TOPIC, &[(0, &[1], &[1]), (1, &[1], &[1])]));
    let began = Instant::now();
    assert_eq!(broker.fetch(&consumer(100, 1), 0).await.size_in_bytes(), 0);
    assert!(began.elapsed() >= Duration::from_millis(100));

    let poll = |min_bytes| {
        let replicas = Arc::clone(&broker.replicas);
        tokio::spawn(async move { replicas.fetch(&consumer(10_000, min_bytes), &[part(0, 0), part(1, 0)]).await })
    };
    let (one, many) = (poll(1), poll(150));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(broker.committed(-1, 5000, &["a"]).await, Ok(0));
    let one = one.await.expect("polls");
    assert!(one[0].size_in_bytes() > 0 && one[1].size_in_bytes() == 0);
    assert!(!many.is_finished());
    broker.append_to(1, 0, 0, &["a"]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!many.is_finished());
    assert_eq!(broker.committed(1, 5000, &["b"]).await, Ok(1));
    let many = many.await.expect("polls");
    assert!(many.iter().map(FetchedPart::size_in_bytes).sum::<usize>() >= 150);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_the_lead_says_so_to_those_who_wait() {
    let mut broker = Broker::new(&[]);
    broker.create(&[1, 2], &[1, 2]);
    let waiting = broker.append(-1, 10_000, &["a"]);
    let polling = {
        let replicas = Arc::clone(&broker.replicas);
        let only_leader = FetchParams { from_follower: false, ..consumer(10_000, 1) };
        tokio::spawn(async move { replicas.fetch(&only_leader, &[part(0, 0)]).await.remove(0) })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    broker.publish([new_leader(2)]);
    let committed = waiting.committed().await;
    assert_eq!(committed[0].as_ref().map_err(ReplicaError::code).err(), Some(ErrorCode::NotLeaderOrFollower));
    assert_eq!(code(&polling.await.expect("polls")), ErrorCode::NotLeaderOrFollower);
    assert_eq!(broker.committed(1, 1000, &["b"]).await, Err(ErrorCode::NotLeaderOrFollower));
    // and back, in a newer epoch
    broker.publish([new_leader(1)]);
    assert_eq!(broker.committed(1, 5000, &["b"]).await, Ok(1));
    let log = broker.replicas.leader_log(&TopicPartition::new("t", 0)).expect("leads");
    assert_eq!(log.epochs().iter().map(|e| (e.epoch, e.start_offset)).collect::<Vec<_>>(), [(3, 0), (5, 1)]);
    let diverged = FetchPart { last_fetched_epoch: 4, ..part(0, 2) };
    assert_eq!(broker.replicas.fetch_now(&follower(2), &[diverged])[0].diverging_epoch, Some((3, 1)));
    let query = OffsetQuery { current_leader_epoch: -1, must_lead: true, isolation: Isolation::HighWatermark };
    let partition = TopicPartition::new("t", 0);
    let latest = broker.replicas.offset_for(&partition, OffsetSpec::Latest, &query);
    assert_eq!(latest.map_err(|e| e.code()), Err(ErrorCode::OffsetNotAvailable));
    assert_eq!(broker.replicas.end_offset_for_epoch(&partition, 5, 3).map_err(|e| e.code()), Ok((3, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_takes_everything_along() {
    let mut broker = Broker::new(&[]);
    broker.create(&[1, 2], &[1, 2]);
    let waiting = broker.append(-1, 10_000, &["a"]);
    assert!(broker.dir.path().join("t-0").exists());
    broker.publish([MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: TOPIC })]);
    let committed = waiting.committed().await;
    assert_eq!(committed[0].as_ref().map_err(ReplicaError::code).err(), Some(ErrorCode::UnknownTopicOrPartition));
    assert!(!broker.dir.path().join("t-0").exists());
    // its namesake starts empty, also when both happen at once
    let other = Uuid::from_u128(4712);
    broker.publish(topic("t", TOPIC, &[(0, &[1], &[1])]));
    assert_eq!(broker.committed(-1, 5000, &["b"]).await, Ok(0));
    let mut records = vec![MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: TOPIC })];
    records.extend(topic("t", other, &[(0, &[1], &[1])]));
    broker.publish(records);
    assert_eq!(broker.committed(-1, 5000, &["c"]).await, Ok(0));
    let log = broker.replicas.leader_log(&TopicPartition::new("t", 0)).expect("leads");
    assert_eq!(log.topic_id(), Some(other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_logs_go_on_and_strays_are_put_aside() {
    let mut broker = Broker::new(&[]);
    broker.create(&[1], &[1]);
    broker.publish(topic("gone", Uuid::from_u128(99), &[(0, &[1], &[1])]));
    assert_eq!(broker.committed(-1, 5000, &["a"]).await, Ok(0));
    broker.replicas.logs().shutdown(7);
    let dir = Arc::clone(&broker.dir);
    drop(broker);
    let mut broker = Broker::open(dir, &[]);
    broker.create(&[1], &[1]);
    assert_eq!(broker.fetch(&consumer(0, 1), 0).await.high_watermark, 1);
    assert_eq!(broker.committed(-1, 5000, &["b"]).await, Ok(1));
    let names: Vec<String> = std::fs::read_dir(broker.dir.path())
        .expect("reads")
        .map(|entry| entry.expect("is there").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("gone-0"))
        .collect();
    assert!(matches!(&names[..], [one] if one.ends_with("-stray")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_deleted_up_to_the_high_watermark() {
    let mut broker = Broker::new(&[]);
    broker.create(&[1], &[1]);
    let partition = TopicPartition::new("t", 0);
    for _ in 0..3 {
        broker.committed(-1, 5000, &["a"]).await.expect("appends");
    }
    let delete = |offset| broker.replicas.delete_records(vec![(partition.clone(), offset)], 1000);
    assert_eq!(delete(4).await[0].as_ref().map_err(ReplicaError::code).err(), Some(ErrorCode::OffsetOutOfRange));
    assert_eq!(delete(2).await[0].as_ref().ok(), Some(&2));
    assert_eq!(delete(1).await[0].as_ref().ok(), Some(&2), "it does not go back");
    let query = OffsetQuery { current_leader_epoch: -1, must_lead: true, isolation: Isolation::HighWatermark };
    let earliest = broker.replicas.offset_for(&partition, OffsetSpec::Earliest, &query).expect("answers");
    assert_eq!(earliest.map(|found| (found.offset, found.leader_epoch)), Some((2, Some(3))));
    assert_eq!(code(&broker.fetch(&consumer(0, 1), 1).await), ErrorCode::OffsetOutOfRange);
    assert_eq!(delete(-1).await[0].as_ref().ok(), Some(&3));
    broker.publish([topic_setting("cleanup.policy", "compact")]);
    let refused = broker.replicas.delete_records(vec![(partition.clone(), 3)], 1000).await;
    assert_eq!(refused[0].as_ref().map_err(ReplicaError::code).err(), Some(ErrorCode::PolicyViolation));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_broker_ends_long_polls() {
    let mut broker = Broker::new(&[]);
    broker.create(&[1], &[1]);
    let began = Instant::now();
    let polls = (0..50).map(|_| {
        let replicas = Arc::clone(&broker.replicas);
        tokio::spawn(async move { replicas.fetch(&consumer(60_000, 1), &[part(0, 0)]).await.remove(0) })
    });
    let polls: Vec<_> = polls.collect();
    broker.replicas.shutdown();
    for poll in polls {
        assert_eq!(code(&poll.await.expect("polls")), ErrorCode::None);
    }
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// Whatever the order of appends, acks and partitions: what is acknowledged is on the disk, and consumers see nothing that is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_it_is_durable() {
    let mut broker = Broker::new(&[]);
    broker.publish(topic("t", TOPIC, &[(0, &[1], &[1]), (1, &[1], &[1]), (2, &[1], &[1])]));
    let broker = Arc::new(broker);
    let producers = (0..6u64).map(|seed| {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            for _ in 0..60 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let partition = (random % 3) as i32;
                let acks = if random & 8 == 0 { -1 } else { 1 };
                let appended = broker.append_to(partition, acks, 20_000, &["v"; 3]);
                if random & 48 == 0 {
                    continue;
                }
                let results = appended.committed().await;
                let info = results[0].as_ref().expect("is acknowledged");
                let log = broker.replicas.leader_log(&TopicPartition::new("t", partition)).expect("leads");
                let high_watermark = log.high_watermark();
                assert!(log.durable_end_offset() > info.last_offset);
                assert!(high_watermark <= log.durable_end_offset());
                assert!(acks == 1 || high_watermark > info.last_offset);
            }
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await.expect("holds");
    }
}
