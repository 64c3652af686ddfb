//! A node from its configuration to its end: opens the logs, joins the quorum, registers the broker, opens the doors, and closes
//! everything in the reverse order.
//!
//! The only file that knows how the parts are wired together. Decides nothing about requests. Called by the program and by tests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use milena_common::config::{BrokerConfig, EndPoint, TopicConfig};
use milena_common::metrics::Metrics;
use milena_common::{Clock, ConfigError, SystemClock, Uuid};
use milena_coordinator::{GroupConfig, GroupCoordinator, TransactionCoordinator, TxnConfig};
use milena_log::checkpoint;
use milena_log::fs::RealFs;
use milena_log::{CleanerOptions, LogError, LogManager, LogManagerOptions};
use milena_metadata::image::Endpoint;
use milena_metadata::{Bootstrap, MetadataPublisher};
use milena_protocol::Listeners;
use milena_raft::RaftLogError;
use milena_replica::ReplicaManager;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::auto_topics::AutoTopics;
use crate::broker::Broker;
use crate::controller_channel::ControllerChannel;
use crate::coordinator_log::CoordinatorLog;
use crate::coordinator_publisher::CoordinatorPublisher;
use crate::dynamic_config::DynamicConfig;
use crate::listener::{ConnectionBounds, ListenError, Listener};
use crate::metrics_http;
use crate::peers::Peers;
use crate::producer_ids::ProducerIds;
use crate::quorum::{Quorum, QuorumConfig, QuorumError};
use crate::quota::{QuotaPublisher, Quotas};
use crate::raft_log::UnifiedRaftLog;
use crate::registration::{Registration, RegistrationError};
use crate::replication::ReplicationLinks;
use crate::storage_format::{self, FormatError, MetaProperties};
use crate::telemetry::{Telemetry, TelemetryPublisher};
use crate::txn_markers::{CoordinatorMarkers, FreshIds, LocalMarkers};

/// How long connections and coordinators get to end at shutdown.
const CLOSE: Duration = Duration::from_secs(5);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Unsupported(String),
    #[error("{0}")]
    Storage(String),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    RaftLog(#[from] RaftLogError),
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    #[error("a part of the node panicked while it was started")]
    Panicked,
}

/// A running node. Stop it with [`Node::stop`]; dropping it is as good as a crash.
pub struct Node {
    broker: Arc<Broker>,
    quorum: Arc<Quorum>,
    raft_log: Arc<UnifiedRaftLog>,
    registration: Registration,
    /// Name, and where it is bound.
    bound: Vec<(String, SocketAddr)>,
    stop_listening: watch::Sender<bool>,
    listening: Vec<JoinHandle<std::io::Result<()>>>,
    stop_quorum: watch::Sender<bool>,
    following: JoinHandle<Result<(), QuorumError>>,
}

impl Node {
    /// Starts a broker and controller in one. Ready when clients are served.
    ///
    /// # Errors
    /// See [`StartError`]; nothing goes on running then.
    pub async fn start(config: BrokerConfig) -> Result<Node, StartError> {
        check_roles(&config)?;
        Box::pin(Node::start_whatever_it_is(config)).await
    }

    /// As [`Node::start`], but with what is not supported yet too: for tests of what is on its way.
    ///
    /// # Errors
    /// See [`StartError`].
    #[doc(hidden)]
    pub async fn start_whatever_it_is(config: BrokerConfig) -> Result<Node, StartError> {
        let config = Arc::new(config);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let listeners = bind(&config)?;

        let opened = {
            let (config, clock) = (Arc::clone(&config), Arc::clone(&clock));
            tokio::task::spawn_blocking(move || Storage::open(&config, &clock)).await
        };
        let storage = opened.map_err(|_| StartError::Panicked)??;
        let quorum = Arc::new(Quorum::start(
            QuorumConfig {
                broker: Arc::clone(&config),
                cluster_id: storage.cluster_id.clone(),
                directory_id: storage.metadata_directory_id,
                bootstrap: storage.bootstrap,
                endpoints: advertised(&config.advertised_controller_endpoints()?, &listeners),
            },
            storage.raft_log.clone(),
            Box::new(storage.raft_log.votes()),
            Arc::clone(&clock),
        )?);

        let replicas = ReplicaManager::new(
            Arc::clone(&config),
            Arc::clone(&storage.logs),
            quorum.cache.clone(),
            Arc::clone(&clock),
        );
        let controllers = ControllerChannel::new(&config, Arc::clone(&quorum.raft), quorum.controller.clone())?;
        replicas.join_cluster(ReplicationLinks::links(Arc::clone(&config), quorum.cache.clone(), &controllers));
        let group_log = Arc::new(CoordinatorLog::of_groups(&config, Arc::clone(&replicas)));
        let groups = GroupCoordinator::new(GroupConfig::from(&*config), group_log, Arc::clone(&clock));
        let producer_ids = ProducerIds::new(config.node_id, quorum.cache.clone(), controllers.clone());
        let peers = Peers::new(Arc::clone(&config), quorum.cache.clone());
        let markers = Arc::new(LocalMarkers {
            replicas: Arc::clone(&replicas),
            groups: groups.clone(),
            metadata: quorum.cache.clone(),
            clock: Arc::clone(&clock),
        });
        let transactions = TransactionCoordinator::new(
            TxnConfig::from(&*config),
            Arc::new(CoordinatorLog::of_transactions(&config, Arc::clone(&replicas))),
            Arc::new(CoordinatorMarkers {
                node_id: config.node_id,
                local: Arc::clone(&markers),
                peers: Arc::clone(&peers),
            }),
            Arc::new(FreshIds(Arc::clone(&producer_ids))),
            Arc::clone(&clock),
        );
        let coordinators = CoordinatorPublisher::new(config.node_id, groups.clone(), transactions.clone());
        let metrics = Metrics::new();
        let broker = Arc::new(Broker {
            node_id: config.node_id,
            cluster_id: storage.cluster_id,
            config: ArcSwap::new(Arc::clone(&config)),
            file_config: Arc::clone(&config),
            clock,
            metadata: quorum.cache.clone(),
            controller: quorum.controller.clone(),
            quorum_wire: Arc::clone(&quorum.wire),
            raft: Arc::clone(&quorum.raft),
            replicas: Arc::clone(&replicas),
            groups,
            quotas: Quotas::new(&config),
            telemetry: Telemetry::start(&config, &metrics)?,
            metrics,
            auto_topics: AutoTopics::new(controllers.clone()),
            controllers,
            producer_ids,
            transactions,
            peers,
            markers,
        });

        let dynamic_config = DynamicConfig::new(Arc::clone(&broker));
        let quotas = QuotaPublisher::new(Arc::clone(&broker));
        let telemetry = TelemetryPublisher::new(Arc::clone(&broker));
        let publishers: Vec<Arc<dyn MetadataPublisher>> =
            vec![Arc::new(dynamic_config), Arc::new(quotas), Arc::new(telemetry), replicas, Arc::new(coordinators)];
        let (stop_quorum, quorum_stopped) = watch::channel(false);
        let mut following = {
            let quorum = Arc::clone(&quorum);
            spawn(async move { quorum.run(publishers, quorum_stopped).await })
        };
        let bounds = ConnectionBounds::new(&config);
        let (stop_listening, listening_stopped) = watch::channel(false);
        let bound = listeners.iter().map(|l| (l.endpoint.listener.clone(), l.address)).collect();
        let endpoints = advertised(&config.advertised_endpoints()?, &listeners);
        let accept = |l: Listener| spawn(l.run(Arc::clone(&broker), Arc::clone(&bounds), listening_stopped.clone()));
        // the quorum speaks before anybody is registered, for there is no leader without it
        let (for_controllers, for_clients): (Vec<_>, Vec<_>) =
            listeners.into_iter().partition(|l| config.is_controller_listener(&l.endpoint.listener));
        let mut listening: Vec<_> = for_controllers.into_iter().map(&accept).collect();
        let registered = tokio::select! {
            registered = register(&broker, &quorum, endpoints, &storage.directories, storage.previous_broker_epoch) => registered,
            ended = &mut following => return Err(match ended {
                Ok(Err(error)) => error.into(),
                _ => StartError::Panicked,
            }),
        };
        let registration = registered?;
        // by now the metadata were read, and every log has its topic's configuration
        broker.replicas.logs().start_cleaner(cleaner_options(&broker.config.load()));

        listening.extend(for_clients.into_iter().map(&accept));
        if let Some(address) = &config.milena_metrics_listen {
            let metrics = TcpListener::bind(address)
                .await
                .map_err(|error| StartError::Unsupported(format!("milena.metrics.listen={address}: {error}")))?;
            let serving = metrics_http::serve(metrics, Arc::clone(&broker), stop_listening.subscribe());
            listening.push(spawn(async move {
                serving.await;
                Ok(())
            }));
        }
        Ok(Node {
            broker,
            quorum,
            raft_log: storage.raft_log,
            registration,
            bound,
            stop_listening,
            listening,
            stop_quorum,
            following,
        })
    }

    /// Where each listener is bound, by name.
    pub fn listeners(&self) -> &[(String, SocketAddr)] {
        &self.bound
    }

    /// What clients on this machine connect to: the first listener of the broker.
    pub fn client_address(&self) -> Option<String> {
        let config = &self.broker.file_config;
        let (_, address) = self.bound.iter().find(|(name, _)| !config.is_controller_listener(name))?;
        Some(match address.ip() {
            ip if ip.is_loopback() || ip.is_unspecified() => format!("localhost:{}", address.port()),
            _ => address.to_string(),
        })
    }

    /// What is measured, as of now, in the Prometheus text format.
    pub fn metrics(&self) -> String {
        metrics_http::collect(&self.broker);
        self.broker.metrics.expose()
    }

    /// Ends when the node cannot go on, with the reason.
    pub async fn failed(&mut self) -> String {
        match (&mut self.following).await {
            Ok(Ok(())) => "the metadata log is not followed any more".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Ends everything in order: what was acknowledged is complete on disk, and the next start finds nothing to repair.
    pub async fn stop(self) {
        if self.broker.file_config.controlled_shutdown_enable {
            self.registration.controlled_shutdown(&self.quorum).await;
        }
        self.registration.stop();
        self.broker.stop_coordinators();
        self.stop_listening.send_replace(true);
        for listener in self.listening {
            if tokio::time::timeout(CLOSE, listener).await.is_err() {
                tracing::warn!("connections did not end in time");
            }
        }
        self.broker.telemetry.stop().await;
        self.stop_quorum.send_replace(true);
        if let Err(error) = self.following.await {
            tracing::error!(%error, "the metadata log was not followed to the end");
        }
        let epoch = self.registration.broker_epoch();
        let (raft_log, logs) = (self.raft_log, Arc::clone(self.broker.replicas.logs()));
        let closed = tokio::task::spawn_blocking(move || {
            if let Err(error) = raft_log.close() {
                tracing::error!(%error, "the metadata log could not be completed");
            }
            logs.shutdown(epoch);
        });
        if let Err(error) = closed.await {
            tracing::error!(%error, "the logs were not completed");
        }
    }
}

/// What a node of this version can be.
pub(crate) fn check_roles(config: &BrokerConfig) -> Result<(), StartError> {
    if config.is_zookeeper() {
        return Err(StartError::Unsupported(
            "ZooKeeper mode (zookeeper.connect) is not part of this version yet".into(),
        ));
    }
    if !(config.is_broker() && config.is_controller()) {
        let roles = config.process_roles.join(",");
        return Err(StartError::Unsupported(format!(
            "process.roles={roles}: a node that is not both is not part of this version yet; use process.roles=broker,controller"
        )));
    }
    let others = config.voters()?.into_iter().filter(|voter| voter.id != config.node_id).count();
    if others > 0 {
        return Err(StartError::Unsupported(format!(
            "controller.quorum.voters names {others} other nodes: a quorum of several is not part of this version yet"
        )));
    }
    Ok(())
}

/// Binds every listener of the node.
fn bind(config: &BrokerConfig) -> Result<Vec<Listener>, StartError> {
    let kind = |e: &EndPoint| match config.is_controller_listener(&e.listener) {
        true => Listeners::CONTROLLER,
        false => Listeners::BROKER,
    };
    let endpoints = config.endpoints()?.into_iter();
    let bound = endpoints.map(|e| {
        let kind = kind(&e);
        Listener::bind(e, kind, config)
    });
    Ok(bound.collect::<Result<_, _>>()?)
}

/// End points as others reach them: this host's name for none, the bound port for 0.
fn advertised(endpoints: &[EndPoint], listeners: &[Listener]) -> Vec<Endpoint> {
    let port = |e: &EndPoint| match listeners.iter().find(|l| l.endpoint.listener == e.listener) {
        Some(listener) if e.port == 0 => listener.address.port(),
        _ => e.port,
    };
    let host = |e: &EndPoint| match e.host.is_empty() {
        true => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        false => e.host.clone(),
    };
    let endpoint = |e: &EndPoint| Endpoint {
        name: e.listener.clone(),
        host: host(e),
        port: port(e),
        security_protocol: e.protocol.id(),
    };
    endpoints.iter().map(endpoint).collect()
}

async fn register(
    broker: &Arc<Broker>,
    quorum: &Arc<Quorum>,
    endpoints: Vec<Endpoint>,
    directories: &[Uuid],
    previous_epoch: i64,
) -> Result<Registration, StartError> {
    quorum.ready().await;
    Ok(Registration::start(broker, quorum, endpoints, directories.to_vec(), previous_epoch).await?)
}

/// What was found on disk.
struct Storage {
    cluster_id: String,
    metadata_directory_id: Uuid,
    directories: Vec<Uuid>,
    bootstrap: Bootstrap,
    logs: Arc<LogManager>,
    raft_log: Arc<UnifiedRaftLog>,
    /// The epoch that the broker had when it last stopped in order; -1 if it did not.
    previous_broker_epoch: i64,
}

impl Storage {
    /// Checks and locks the directories, opens and if need be recovers every log.
    fn open(config: &Arc<BrokerConfig>, clock: &Arc<dyn Clock>) -> Result<Storage, StartError> {
        let mut dirs: Vec<PathBuf> = config.data_dirs().iter().map(PathBuf::from).collect();
        let metadata_dir = PathBuf::from(config.metadata_dir().unwrap_or_default());
        if !dirs.contains(&metadata_dir) {
            dirs.push(metadata_dir.clone());
        }
        let properties = check_formatted(&dirs, config.node_id)?;
        let previous_broker_epoch = previous_broker_epoch(&dirs);
        let defaults = default_topic_config(config);
        let logs = LogManager::open(log_options(config, dirs, clock), &|_| Arc::clone(&defaults))?;
        set_producer_expiration(&logs, config);
        let log = logs.open_metadata_log(&metadata_dir, metadata_topic_config(config)?)?;
        let raft_log = Arc::new(UnifiedRaftLog::new(log, Arc::new(RealFs), Arc::clone(clock))?);
        let known = logs.dirs();
        let id_of = |path: &Path| known.iter().find(|d| d.path == path).map_or(Uuid::ZERO, |d| d.id);
        Ok(Storage {
            cluster_id: properties.cluster_id,
            metadata_directory_id: id_of(&metadata_dir),
            directories: known.iter().filter(|d| d.online).map(|d| d.id).collect(),
            bootstrap: storage_format::read_bootstrap(&metadata_dir)?.unwrap_or_default(),
            logs,
            raft_log,
            previous_broker_epoch,
        })
    }
}

/// Every directory belongs to this node of one cluster.
fn check_formatted(dirs: &[PathBuf], node_id: i32) -> Result<MetaProperties, StartError> {
    let mut found: Option<MetaProperties> = None;
    for dir in dirs {
        let path = dir.display();
        let Some(properties) = storage_format::read_meta_properties(dir)? else {
            return Err(StartError::Storage(format!(
                "No `meta.properties` found in {path} (have you run `kafka-storage.sh` to format the directory?)"
            )));
        };
        if properties.node_id != node_id {
            return Err(StartError::Storage(format!(
                "Stored node id {} doesn't match previous node id {node_id} in {path}. If you moved your data, make sure your configured node id matches.",
                properties.node_id
            )));
        }
        match &found {
            Some(first) if first.cluster_id != properties.cluster_id => {
                return Err(StartError::Storage(format!(
                    "{path} belongs to cluster {}, other directories to cluster {}",
                    properties.cluster_id, first.cluster_id
                )));
            }
            Some(_) => {}
            None => found = Some(properties),
        }
    }
    found.ok_or_else(|| StartError::Storage("log.dirs names no directory".to_owned()))
}

fn previous_broker_epoch(dirs: &[PathBuf]) -> i64 {
    let epochs = dirs.iter().map(|dir| checkpoint::read_clean_shutdown(&RealFs, dir).unwrap_or(-1));
    epochs.min().unwrap_or(-1)
}

fn log_options(config: &BrokerConfig, dirs: Vec<PathBuf>, clock: &Arc<dyn Clock>) -> LogManagerOptions {
    let ms = |value: i64| u64::try_from(value).unwrap_or(0);
    LogManagerOptions {
        dirs,
        recovery_threads: usize::try_from(config.num_recovery_threads_per_data_dir).unwrap_or(1),
        retention_check_ms: ms(config.log_retention_check_interval_ms),
        recovery_point_checkpoint_ms: ms(config.log_flush_offset_checkpoint_interval_ms.into()),
        high_watermark_checkpoint_ms: ms(config.replica_high_watermark_checkpoint_interval_ms),
        producer_expiration_ms: config.producer_id_expiration_ms.into(),
        clock: Arc::clone(clock),
    }
}

/// When idle producers are forgotten.
pub(crate) fn set_producer_expiration(logs: &LogManager, config: &BrokerConfig) {
    let check_ms = u64::try_from(config.producer_id_expiration_check_interval_ms).unwrap_or(1);
    logs.set_producer_expiration(config.producer_id_expiration_ms.into(), check_ms);
}

/// What compaction may use.
pub(crate) fn cleaner_options(config: &BrokerConfig) -> CleanerOptions {
    let size = |value: i64| usize::try_from(value).unwrap_or(0);
    CleanerOptions {
        enabled: config.log_cleaner_enable,
        threads: size(config.log_cleaner_threads.into()),
        dedupe_buffer_bytes: size(config.log_cleaner_dedupe_buffer_size),
        io_buffer_bytes: size(config.log_cleaner_io_buffer_size.into()),
        load_factor: config.log_cleaner_io_buffer_load_factor,
        io_max_bytes_per_second: config.log_cleaner_io_max_bytes_per_second,
        backoff_ms: u64::try_from(config.log_cleaner_backoff_ms).unwrap_or(0),
    }
}

/// What a topic has until the metadata say otherwise.
fn default_topic_config(config: &BrokerConfig) -> Arc<TopicConfig> {
    let none = Default::default();
    // the broker's own values were checked when they were read
    let defaults = TopicConfig::from_overrides(config, &none).or_else(|_| TopicConfig::parse(none));
    Arc::new(defaults.unwrap_or_else(|error| unreachable!("the defaults of a topic are valid: {error}")))
}

/// The metadata log deletes nothing by itself: snapshots decide that.
fn metadata_topic_config(config: &BrokerConfig) -> Result<TopicConfig, ConfigError> {
    let overrides = [
        ("retention.ms", "-1".to_owned()),
        ("retention.bytes", "-1".to_owned()),
        ("file.delete.delay.ms", "0".to_owned()),
        ("segment.bytes", config.metadata_log_segment_bytes.to_string()),
        ("segment.ms", config.metadata_log_segment_ms.to_string()),
    ];
    TopicConfig::from_overrides(config, &overrides.map(|(k, v)| (k.to_owned(), v)).into())
}

#[expect(clippy::disallowed_methods, reason = "the node starts the tasks that it stops")]
fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(future)
}
