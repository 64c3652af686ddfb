//! Several brokers in one process: real logs and replica managers, a real controller over a metadata log in memory, and links between
//! them that can be cut. No sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use milena_common::config::{BrokerConfig, TopicConfig};
use milena_common::{Clock, SystemClock, TopicPartition, Uuid};
use milena_log::checkpoint::MetaProperties;
use milena_log::fs::RealFs;
use milena_log::{CommitBy, LogManager, LogManagerOptions, Origin, TransactionCheck};
use milena_metadata::image::{MetadataImage, PartitionImage};
use milena_metadata::testing::{CLUSTER_ID, MemoryLog, registration};
use milena_metadata::{Bootstrap, Controller, ControllerConfig, MetadataCache, MetadataLoader};
use milena_protocol::ErrorCode;
use milena_protocol::messages as msg;
use milena_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use milena_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};
use milena_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use milena_protocol::records::{BatchBuilder, Compression, DecompressLimit, batches};
use milena_replica::{
    AppendPart, AppendRequest, ClusterLinks, ControllerEndpoint, EndpointError, FetchParams, FetchPart, FetchedPart,
    Isolation, LeaderEndpoint, LeaderEndpoints, OffsetQuery, OffsetSpec, PartNews, ReplicaManager, SessionRequest,
    TopicRef,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What brokers reach each other by.
#[derive(Default)]
struct Network {
    up: BTreeMap<i32, Arc<ReplicaManager>>,
    /// From, to.
    cut: BTreeSet<(i32, i32)>,
}

pub struct Cluster {
    controller: Controller,
    log: Arc<MemoryLog>,
    network: Arc<Mutex<Network>>,
    dirs: BTreeMap<i32, tempfile::TempDir>,
    loaders: BTreeMap<i32, MetadataLoader>,
    settings: Vec<(String, String)>,
}

fn config(id: i32, more: &[(String, String)]) -> Arc<BrokerConfig> {
    let given = [
        ("process.roles", "broker,controller"),
        ("node.id", &id.to_string()),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", &format!("{id}@127.0.0.1:20750")),
        ("listeners", "PLAINTEXT://127.0.0.1:19750,CONTROLLER://127.0.0.1:20750"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()));
    Arc::new(BrokerConfig::from_properties(given.into_iter().chain(more.iter().cloned())).unwrap())
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

impl Cluster {
    /// Brokers 1 to `brokers`, registered and unfenced.
    pub async fn start(brokers: i32, settings: &[(&str, &str)]) -> Cluster {
        let session = [("broker.session.timeout.ms", "200")];
        let settings: Vec<_> =
            settings.iter().chain(&session).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let log = Arc::new(MemoryLog::default());
        let config = ControllerConfig {
            node_id: 100,
            cluster_id: CLUSTER_ID.to_owned(),
            broker: config(100, &settings),
            bootstrap: Bootstrap::at_level(milena_metadata::versions::LATEST_METADATA_VERSION),
        };
        let controller = Controller::new(config, log.clone(), clock());
        controller.on_become_leader(1, MetadataImage::default(), false).unwrap();
        controller.on_committed(i64::MAX);
        let mut cluster = Cluster {
            controller,
            log,
            network: Arc::default(),
            dirs: BTreeMap::new(),
            loaders: BTreeMap::new(),
            settings,
        };
        for id in 1..=brokers {
            let dir = tempfile::tempdir().unwrap();
            let meta = MetaProperties {
                cluster_id: CLUSTER_ID.into(),
                node_id: id,
                directory_id: Uuid::from_u128(1_000 + id as u128),
            };
            meta.write(&RealFs, dir.path()).unwrap();
            cluster.dirs.insert(id, dir);
            cluster.bring_up(id).await;
        }
        cluster
    }

    fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap()
    }

    pub fn broker(&self, id: i32) -> Arc<ReplicaManager> {
        Arc::clone(&self.network().up[&id])
    }

    /// Starts a broker on its directory, registers it, and unfences it.
    pub async fn bring_up(&mut self, id: i32) {
        let config = config(id, &self.settings);
        let topic = Arc::new(TopicConfig::from_overrides(&config, &Default::default()).unwrap());
        let logs = self.eventually(|this| {
            let options = LogManagerOptions {
                dirs: vec![this.dirs[&id].path().to_path_buf()],
                recovery_threads: 1,
                retention_check_ms: u64::MAX,
                recovery_point_checkpoint_ms: u64::MAX,
                high_watermark_checkpoint_ms: 50,
                producer_expiration_ms: 86_400_000,
                clock: clock(),
            };
            // the one that was killed may not have let go of the directory yet
            LogManager::open(options, &|_| Arc::clone(&topic)).ok()
        });
        let logs = logs.await;
        let cache = MetadataCache::default();
        let replicas = ReplicaManager::new(config, logs, cache.clone(), clock());
        let link = Link { from: id, to: -1, network: Arc::clone(&self.network), controller: self.controller.clone() };
        replicas.join_cluster(ClusterLinks { leaders: Arc::new(link.clone()), controller: Arc::new(link) });
        let mut loader = MetadataLoader::new(cache);
        loader.add_publisher(replicas.clone());
        self.loaders.insert(id, loader);
        self.network().up.insert(id, replicas.clone());

        let registered = loop {
            let registered = self.controller.register_broker(registration(id, Uuid::random())).await.unwrap();
            if registered.error_code != ErrorCode::DuplicateBrokerRegistration.code() {
                break registered;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(registered.error_code, 0);
        replicas.set_broker_epoch(registered.broker_epoch);
        drop(replicas);
        self.spread();
        let answer = self.heartbeat(id, |_| {}).await;
        assert!(!answer.is_fenced);
        self.spread();
    }

    async fn heartbeat(
        &self,
        id: i32,
        change: impl FnOnce(&mut msg::BrokerHeartbeatRequest),
    ) -> msg::BrokerHeartbeatResponse {
        let image = self.controller.image().unwrap();
        let mut request = msg::BrokerHeartbeatRequest {
            broker_id: id,
            broker_epoch: image.cluster.broker(id).unwrap().epoch,
            current_metadata_offset: self.log.last_offset(),
            ..Default::default()
        };
        change(&mut request);
        let answer = self.controller.heartbeat(request).await.unwrap();
        assert_eq!(answer.error_code, 0);
        answer
    }

    /// The broker is gone at once, and its session ends.
    pub async fn kill(&mut self, id: i32) {
        self.kill_quietly(id);
        self.fence(id).await;
    }

    /// The controller takes the broker for dead.
    pub async fn fence(&mut self, id: i32) {
        self.heartbeat(id, |request| request.want_fence = true).await;
        self.spread();
    }

    pub async fn unfence(&mut self, id: i32) {
        self.heartbeat(id, |_| {}).await;
        self.spread();
    }

    /// The broker asks to stop; whether it may. The others have heard of all there is.
    pub async fn wants_to_stop(&mut self, id: i32) -> bool {
        for other in self.loaders.keys().filter(|other| **other != id) {
            self.heartbeat(*other, |_| {}).await;
        }
        let answer = self.heartbeat(id, |request| request.want_shut_down = true).await;
        self.spread();
        answer.should_shut_down
    }

    /// Every broker hears of all metadata there are.
    pub fn spread(&mut self) {
        let batches = self.log.batches_after(0);
        for loader in self.loaders.values_mut() {
            batches.iter().for_each(|batch| loader.replay(batch).unwrap());
            loader.publish();
        }
    }

    pub fn cut(&self, from: i32, to: i32) {
        self.network().cut.insert((from, to));
    }

    pub fn heal(&self) {
        self.network().cut.clear();
    }

    pub fn network_heals_to_controller(&self) {
        self.network().cut.retain(|(_, to)| *to != 100);
    }

    /// The process is gone; nobody tells the controller.
    pub fn kill_quietly(&mut self, id: i32) {
        let gone = self.network().up.remove(&id).unwrap();
        gone.shutdown();
        self.loaders.remove(&id);
    }

    /// As `isr_becomes`, while the leader writes: who has everything does not lag.
    pub async fn isr_becomes_after_writes(&mut self, topic: &str, leader: i32, wanted: &[i32]) {
        let begun = Instant::now();
        while self.isr(topic) != wanted {
            let _ = self.produce_within(leader, topic, 1, &["more".to_owned()], 100).await;
            assert!(begun.elapsed() < PATIENCE, "nobody leaves");
            self.spread();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn create(&mut self, topic: &str, replicas: &[i32], settings: &[(&str, &str)]) {
        let assignments = vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: replicas.to_vec() }];
        let configs = settings
            .iter()
            .map(|(k, v)| CreatableTopicConfig { name: (*k).to_owned(), value: Some((*v).to_owned()) })
            .collect();
        let topic =
            CreatableTopic { name: topic.to_owned(), num_partitions: -1, replication_factor: -1, assignments, configs };
        let request = msg::CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let answer = self.controller.create_topics(request).await.unwrap();
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
        self.spread();
    }

    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    pub fn partition(&self, topic: &str) -> Arc<PartitionImage> {
        Arc::clone(self.controller.image().unwrap().topics.partition(topic, 0).unwrap())
    }

    /// In-sync replicas, sorted.
    pub fn isr(&self, topic: &str) -> Vec<i32> {
        let mut isr = self.partition(topic).isr.clone();
        isr.sort_unstable();
        isr
    }

    pub async fn isr_becomes(&mut self, topic: &str, wanted: &[i32]) {
        self.eventually(|this| (this.isr(topic) == wanted).then_some(())).await;
    }

    /// Spreads metadata until something is there.
    pub async fn eventually<T>(&mut self, what: impl Fn(&Cluster) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            self.spread();
            if let Some(found) = what(self) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not come: {}", self.shown());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Where everybody's logs are, for who looks for a fault.
    fn shown(&self) -> String {
        let mut shown = String::new();
        for (id, manager) in &self.network().up {
            for (partition, log) in manager.logs().all() {
                let (start, end, durable) = (log.log_start_offset(), log.log_end_offset(), log.durable_end_offset());
                shown += &format!(
                    "\nbroker {id} {partition}: {start}..{end} durable {durable} committed {} epochs {:?}",
                    log.high_watermark(),
                    log.epochs()
                );
            }
        }
        shown
    }

    /// Appends at a broker and waits for the commit; the last offset.
    pub async fn produce(&self, broker: i32, topic: &str, acks: i16, values: &[String]) -> Result<i64, ErrorCode> {
        self.produce_within(broker, topic, acks, values, 5_000).await
    }

    pub async fn produce_within(
        &self,
        broker: i32,
        topic: &str,
        acks: i16,
        values: &[String],
        timeout_ms: u64,
    ) -> Result<i64, ErrorCode> {
        let mut b = BatchBuilder::new(Compression::None);
        for v in values {
            b.append(clock().now().wall_ms, None, Some(v.as_bytes()), &[]).unwrap();
        }
        let part = AppendPart {
            partition: TopicPartition::new(topic, 0),
            records: b.build(0).unwrap(),
            transaction: TransactionCheck::Off,
        };
        let request = AppendRequest {
            acks,
            origin: Origin::Client,
            produce_version: Some(13),
            timeout_ms,
            commit: CommitBy::Thread,
            parts: vec![part],
        };
        let appended = self.broker(broker).append(request);
        let results = appended.committed().await;
        results.into_iter().next().unwrap().map(|info| info.last_offset).map_err(|error| error.code())
    }

    /// Offset, leader epoch and value of every record below the high watermark of a broker's copy.
    pub fn committed(&self, broker: i32, topic: &str) -> Vec<(i64, i32, String)> {
        let manager = self.broker(broker);
        let log = manager.logs().get(&TopicPartition::new(topic, 0)).unwrap();
        let (start, end) = (log.log_start_offset(), log.high_watermark());
        let mut at = start;
        let mut found = Vec::new();
        while at < end {
            let data = log.read(at, 1 << 20, end, true).unwrap();
            at = data.next_offset;
            for batch in batches(data.into_contiguous()) {
                let batch = batch.unwrap();
                for record in batch.records(DecompressLimit::default()).unwrap() {
                    let record = record.unwrap();
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    // the first batch may begin below the log
                    if record.offset >= start {
                        found.push((record.offset, batch.leader_epoch(), value));
                    }
                }
            }
        }
        found
    }

    /// Waits until the copies of these brokers are committed up to an offset, and are the same.
    pub async fn all_hold(&mut self, topic: &str, brokers: &[i32], high_watermark: i64) -> Vec<(i64, i32, String)> {
        self.eventually(|this| {
            let there = |id: &i32| {
                let log = this.broker(*id).logs().get(&TopicPartition::new(topic, 0));
                log.is_some_and(|log| log.high_watermark() >= high_watermark)
            };
            brokers.iter().all(there).then_some(())
        })
        .await;
        let first = self.committed(brokers[0], topic);
        for id in &brokers[1..] {
            assert_eq!(self.committed(*id, topic), first, "broker {id}");
        }
        first
    }
}

/// The way from one broker to another, or to the controller.
#[derive(Clone)]
struct Link {
    from: i32,
    to: i32,
    network: Arc<Mutex<Network>>,
    controller: Controller,
}

impl Link {
    fn far_end(&self) -> Result<Arc<ReplicaManager>, EndpointError> {
        let network = self.network.lock().unwrap();
        if network.cut.contains(&(self.from, self.to)) {
            return Err(EndpointError("the link is cut".into()));
        }
        network.up.get(&self.to).cloned().ok_or_else(|| EndpointError("the broker is down".into()))
    }
}

impl LeaderEndpoints for Link {
    fn leader(&self, broker_id: i32, _fetcher: usize) -> Arc<dyn LeaderEndpoint> {
        Arc::new(Link { to: broker_id, ..self.clone() })
    }
}

impl ControllerEndpoint for Link {
    fn alter_partition(
        &self,
        request: msg::AlterPartitionRequest,
    ) -> BoxFuture<'_, Result<msg::AlterPartitionResponse, EndpointError>> {
        Box::pin(async move {
            if self.network.lock().unwrap().cut.contains(&(self.from, 100)) {
                return Err(EndpointError("the controller is not reached".into()));
            }
            self.controller.alter_partition(request).await.map_err(|error| EndpointError(error.to_string()))
        })
    }
}

impl LeaderEndpoint for Link {
    fn fetch(&self, request: msg::FetchRequest) -> BoxFuture<'_, Result<msg::FetchResponse, EndpointError>> {
        Box::pin(async move {
            let leader = self.far_end()?;
            let response = serve_fetch(&leader, request).await;
            // a cut takes answers, too
            self.far_end().map(|_| response)
        })
    }

    fn list_offsets(
        &self,
        request: msg::ListOffsetsRequest,
    ) -> BoxFuture<'_, Result<msg::ListOffsetsResponse, EndpointError>> {
        Box::pin(async move {
            let leader = self.far_end()?;
            let mut response = msg::ListOffsetsResponse::default();
            for topic in request.topics {
                let mut partitions = Vec::new();
                for asked in topic.partitions {
                    let query = OffsetQuery {
                        current_leader_epoch: asked.current_leader_epoch,
                        must_lead: true,
                        isolation: Isolation::LogEnd,
                    };
                    let spec = if asked.timestamp == -1 { OffsetSpec::Latest } else { OffsetSpec::Earliest };
                    let partition = TopicPartition::new(topic.name.as_str(), asked.partition_index);
                    let mut answer = ListOffsetsPartitionResponse {
                        partition_index: asked.partition_index,
                        offset: -1,
                        ..Default::default()
                    };
                    match leader.offset_for(&partition, spec, &query) {
                        Ok(found) => answer.offset = found.map_or(-1, |found| found.offset),
                        Err(error) => answer.error_code = error.code().code(),
                    }
                    partitions.push(answer);
                }
                response.topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
            }
            Ok(response)
        })
    }
}

/// As the handler of Fetch does.
async fn serve_fetch(leader: &Arc<ReplicaManager>, request: msg::FetchRequest) -> msg::FetchResponse {
    let params = FetchParams {
        replica_id: request.replica_state.replica_id,
        replica_epoch: request.replica_state.replica_epoch,
        read_committed: false,
        from_follower: true,
        client_rack: None,
        max_wait_ms: request.max_wait_ms as u64,
        min_bytes: request.min_bytes as usize,
        max_bytes: request.max_bytes as usize,
        one_batch_each: false,
    };
    let session = SessionRequest::new(request, true, true);
    let context = match leader.sessions().begin(session, clock().now()) {
        Ok(context) => context,
        Err(error) => return msg::FetchResponse { error_code: error.code().code(), ..Default::default() },
    };
    let id_of = |topic: &TopicRef| match topic {
        TopicRef::Id(id) => *id,
        TopicRef::Name(_) => Uuid::ZERO,
    };
    let asked: Vec<FetchPart> = (context.parts.iter())
        .map(|p| {
            let topic_id = id_of(&p.topic);
            let logs = leader.logs().all();
            let name = logs.iter().find(|(_, log)| log.topic_id() == Some(topic_id)).map(|(tp, _)| tp.topic.clone());
            FetchPart {
                partition: TopicPartition::new(name.unwrap_or_else(|| "?".into()), p.partition),
                topic_id,
                current_leader_epoch: p.current_leader_epoch,
                fetch_offset: p.fetch_offset,
                last_fetched_epoch: p.last_fetched_epoch,
                log_start_offset: p.log_start_offset,
                max_bytes: p.max_bytes as usize,
            }
        })
        .collect();
    let results = leader.fetch(&params, &asked).await;
    let news: Vec<PartNews> = results.iter().map(FetchedPart::news).collect();
    let keys: Vec<_> = context.parts.iter().map(|p| (id_of(&p.topic), p.partition)).collect();
    let (session_id, named) = match leader.sessions().finish(context, &news, clock().now()) {
        Ok(finished) => finished,
        Err(error) => return msg::FetchResponse { error_code: error.code().code(), ..Default::default() },
    };
    let told = keys.into_iter().zip(results).zip(named).filter(|(_, named)| *named);
    let responses = told.map(|(((topic_id, partition_index), found), _)| FetchableTopicResponse {
        topic_id,
        partitions: vec![PartitionData {
            partition_index,
            error_code: found.error.as_ref().map_or(0, |error| error.code().code()),
            high_watermark: found.high_watermark,
            log_start_offset: found.log_start_offset,
            diverging_epoch: found
                .diverging_epoch
                .map_or_else(EpochEndOffset::default, |(epoch, end_offset)| EpochEndOffset { epoch, end_offset }),
            records: Some(found.records),
            ..Default::default()
        }],
        ..Default::default()
    });
    msg::FetchResponse { session_id, responses: responses.collect(), ..Default::default() }
}
