//! A client of a whole cluster: connections by broker, metadata, and requests sent to whom they belong.
//!
//! Owns the pool of connections, the metadata cache and the loop of retries with growing pauses (KIP-580). When every known broker is
//! gone it starts again from the bootstrap list (KIP-899). Knows no business of an API: `admin`, `producer` and `consumer` do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use milena_protocol::messages::{
    DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest, metadata_request::MetadataRequestTopic,
};
use milena_protocol::{ErrorCode, Request};
use tokio::time::{Instant, sleep};

use crate::config::{ClientConfig, parse_address};
use crate::connection::Connection;
use crate::error::ClientError;
use crate::metadata::{Metadata, Node};

/// A handle on a cluster. Cheap to clone; all clones share connections and metadata.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    bootstrap: Vec<(String, u16)>,
    slots: Mutex<HashMap<i32, Slot>>,
    metadata: Mutex<Cached>,
}

/// One broker's connection; the lock is held while connecting, so that one attempt serves all who wait.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

#[derive(Default)]
struct Cached {
    picture: Arc<Metadata>,
    asked_at: Option<Instant>,
}

/// What FindCoordinator looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoordinatorKind {
    Group = 0,
    Transaction = 1,
    Share = 2,
}

impl Client {
    /// Checks the configuration. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`] for an address that is none.
    pub fn new(config: ClientConfig) -> Result<Client, ClientError> {
        let bootstrap = config.bootstrap_servers.iter().map(|a| parse_address(a)).collect::<Result<Vec<_>, _>>()?;
        if bootstrap.is_empty() {
            return Err(ClientError::InvalidConfig("No resolvable bootstrap urls given in bootstrap.servers".into()));
        }
        let inner = Inner { config, bootstrap, slots: Mutex::default(), metadata: Mutex::default() };
        Ok(Client { inner: Arc::new(inner) })
    }

    /// The settings this client was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// The newest known picture of the cluster; may be empty.
    pub fn metadata(&self) -> Arc<Metadata> {
        self.cached().picture.clone()
    }

    /// Whether the cached metadata are older than `metadata.max.age.ms`.
    pub fn metadata_is_old(&self) -> bool {
        self.cached().asked_at.is_none_or(|at| at.elapsed().as_millis() as u64 > self.inner.config.metadata_max_age_ms)
    }

    /// Asks for metadata of `topics` (`None`: of all) once, from whichever broker answers, and keeps the answer.
    /// `create` lets the broker create missing topics if it is configured so.
    pub async fn refresh_metadata(
        &self,
        topics: Option<&[String]>,
        create: bool,
    ) -> Result<Arc<Metadata>, ClientError> {
        let connection = self.any_connection().await?;
        if self.inner.config.controllers {
            return self.refresh_controllers(&connection).await;
        }
        let version = connection.version_of::<MetadataRequest>(12)?;
        let request = MetadataRequest {
            // version 0 knows no null: an empty list means all there
            topics: match topics {
                None if version == 0 => Some(Vec::new()),
                None => None,
                Some(names) => Some(
                    names
                        .iter()
                        .map(|name| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() })
                        .collect(),
                ),
            },
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let wait = Duration::from_millis(self.inner.config.request_timeout_ms);
        let response = connection.request_at(&request, version, wait).await?;
        let mut cached = self.cached();
        let known = if topics.is_none() { Arc::default() } else { cached.picture.clone() };
        cached.picture = Arc::new(Metadata::merge(&known, response));
        cached.asked_at = Some(Instant::now());
        Ok(cached.picture.clone())
    }

    /// Controllers know no topics: their picture is who they are.
    async fn refresh_controllers(&self, connection: &Connection) -> Result<Arc<Metadata>, ClientError> {
        let request = DescribeClusterRequest { endpoint_type: 2, ..Default::default() };
        let response = connection.request(&request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "controllers")?;
        let node = |b: milena_protocol::messages::describe_cluster_response::DescribeClusterBroker| {
            (b.broker_id, Node { id: b.broker_id, host: b.host, port: port(b.port), rack: b.rack })
        };
        let mut cached = self.cached();
        cached.picture = Arc::new(Metadata {
            cluster_id: Some(response.cluster_id),
            controller_id: (response.controller_id >= 0).then_some(response.controller_id),
            nodes: response.brokers.into_iter().map(node).collect(),
            topics: HashMap::new(),
        });
        cached.asked_at = Some(Instant::now());
        Ok(cached.picture.clone())
    }

    /// A request that any broker answers, with retries.
    pub async fn request_any<R: Request>(&self, call: &str, request: &R) -> Result<R::Response, ClientError> {
        self.retrying(call, async || self.any_connection().await?.request(request).await).await
    }

    /// A request to the broker `node_id`, with retries.
    pub async fn request_node<R: Request>(
        &self,
        call: &str,
        node_id: i32,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.retrying(call, async || self.connection(node_id).await?.request(request).await).await
    }

    /// A request to the controller, or to the broker that forwards to it, with retries.
    pub async fn request_controller<R: Request>(&self, call: &str, request: &R) -> Result<R::Response, ClientError> {
        self.retrying(call, async || self.controller_connection().await?.request(request).await).await
    }

    /// A connection to the broker that takes administrative requests.
    pub async fn controller_connection(&self) -> Result<Arc<Connection>, ClientError> {
        let mut picture = self.metadata();
        if picture.controller_id.is_none() {
            picture = self.refresh_metadata(Some(&[]), false).await?;
        }
        match picture.controller_id {
            Some(id) => self.connection(id).await,
            None => self.any_connection().await,
        }
    }

    /// The broker that coordinates `key`, asked for once.
    pub async fn find_coordinator(&self, kind: CoordinatorKind, key: &str) -> Result<i32, ClientError> {
        let connection = self.any_connection().await?;
        let version = connection.version_of::<FindCoordinatorRequest>(5)?;
        let mut request = FindCoordinatorRequest { key_type: kind as i8, ..Default::default() };
        if version >= 4 {
            request.coordinator_keys = vec![key.to_string()];
        } else {
            request.key = key.to_string();
        }
        let wait = Duration::from_millis(self.inner.config.request_timeout_ms);
        let response = connection.request_at(&request, version, wait).await?;
        let (code, message, node) = match response.coordinators.into_iter().next() {
            Some(found) if version >= 4 => (
                found.error_code,
                found.error_message,
                Node { id: found.node_id, host: found.host, port: port(found.port), rack: None },
            ),
            _ => (
                response.error_code,
                response.error_message,
                Node { id: response.node_id, host: response.host, port: port(response.port), rack: None },
            ),
        };
        ClientError::check(code, message.as_deref(), key)?;
        self.learn(&node);
        Ok(node.id)
    }

    /// A request to the coordinator of `key`, with retries; `code` reads the response's error so that a moved coordinator is found again.
    pub async fn request_coordinator<R: Request>(
        &self,
        call: &str,
        kind: CoordinatorKind,
        key: &str,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError> {
        self.retrying(call, async || {
            let node = self.find_coordinator(kind, key).await?;
            let response = self.connection(node).await?.request(request).await?;
            match ErrorCode::from_code(code(&response)) {
                error @ (ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::CoordinatorLoadInProgress) => Err(ClientError::api(error, key)),
                _ => Ok(response),
            }
        })
        .await
    }

    /// Repeats `work` while it fails with what another try may mend, until `default.api.timeout.ms`.
    ///
    /// # Errors
    /// The last error, or [`ClientError::Timeout`] naming the call when no broker could be reached.
    pub async fn retrying<T>(
        &self,
        call: &str,
        work: impl AsyncFn() -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let deadline = Instant::now() + Duration::from_millis(self.inner.config.api_timeout_ms);
        for attempt in 0.. {
            match work().await {
                Ok(value) => return Ok(value),
                Err(error) if error.is_retriable() => {
                    if let ClientError::Disconnected { address, reason } = &error {
                        tracing::warn!(target: "org.apache.kafka.clients.NetworkClient",
                            "connection to {address} could not be used: {reason}; trying again");
                    }
                    if error.wants_new_metadata() {
                        self.forget_age();
                    }
                    let pause = self.inner.config.backoff(attempt);
                    if Instant::now() + pause >= deadline {
                        return Err(match error {
                            ClientError::Disconnected { .. } => {
                                ClientError::Timeout(format!("Timed out waiting for a node assignment. Call: {call}"))
                            }
                            error => error,
                        });
                    }
                    sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(ClientError::Timeout(format!("Timed out. Call: {call}")))
    }

    /// The open connection to a broker, made if need be.
    pub async fn connection(&self, node_id: i32) -> Result<Arc<Connection>, ClientError> {
        let address = match usize::try_from(-1 - node_id) {
            Ok(index) => self.inner.bootstrap.get(index).cloned(),
            Err(_) => self.metadata().nodes.get(&node_id).map(|node| (node.host.clone(), node.port)),
        };
        let Some((host, port)) = address else {
            self.refresh_metadata(Some(&[]), false).await?;
            let picture = self.metadata();
            let Some(node) = picture.nodes.get(&node_id) else {
                return Err(ClientError::api(ErrorCode::BrokerNotAvailable, format!("broker {node_id}")));
            };
            return self.connect(node_id, &node.host, node.port).await;
        };
        self.connect(node_id, &host, port).await
    }

    async fn connect(&self, node_id: i32, host: &str, port: u16) -> Result<Arc<Connection>, ClientError> {
        let slot = self.slots().entry(node_id).or_default().clone();
        let mut slot = slot.lock().await;
        let address = format!("{host}:{port}");
        if let Some(connection) = slot.as_ref().filter(|c| c.is_open() && c.address() == address) {
            return Ok(connection.clone());
        }
        *slot = None;
        let connection = Arc::new(Connection::connect(host, port, &self.inner.config).await?);
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Any broker: one that is connected, else one that is known, else one of the bootstrap list.
    pub async fn any_connection(&self) -> Result<Arc<Connection>, ClientError> {
        let slots: Vec<Slot> = self.slots().values().cloned().collect();
        for slot in slots {
            if let Ok(slot) = slot.try_lock()
                && let Some(connection) = slot.as_ref().filter(|c| c.is_open())
            {
                return Ok(connection.clone());
            }
        }
        let mut last = ClientError::Closed;
        let known: Vec<i32> = self.metadata().nodes.keys().copied().collect();
        let bootstrap =
            (0..self.inner.bootstrap.len()).filter_map(|index| i32::try_from(index).ok()).map(|index| -1 - index);
        for node_id in known.into_iter().chain(bootstrap) {
            // boxed: connection() itself may ask for metadata from any broker
            match Box::pin(self.connection(node_id)).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Makes the next reader of metadata ask again.
    pub fn forget_age(&self) {
        self.cached().asked_at = None;
    }

    fn learn(&self, node: &Node) {
        let mut cached = self.cached();
        if cached.picture.nodes.get(&node.id).is_none_or(|known| known.host != node.host || known.port != node.port) {
            let mut picture = (*cached.picture).clone();
            picture.nodes.insert(node.id, node.clone());
            cached.picture = Arc::new(picture);
        }
    }

    fn cached(&self) -> std::sync::MutexGuard<'_, Cached> {
        self.inner.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Slot>> {
        self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn port(port: i32) -> u16 {
    u16::try_from(port).unwrap_or_default()
}
