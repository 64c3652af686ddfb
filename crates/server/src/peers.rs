//! Connections to other nodes: made when they are needed, kept, and made anew when they failed. Where brokers are, the metadata say at each
//! use; where voters are, the configuration does.
//!
//! Knows no API. Used for replication, by the transaction coordinator, and by the members of the quorum; made by `node.rs` and `quorum.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use milena_client::{ClientConfig, ClientError, Connection};
use milena_common::config::BrokerConfig;
use milena_common::config::quorum::Voter;
use milena_metadata::MetadataCache;
use milena_metadata::image::Endpoint;
use milena_protocol::Request;
use tokio::sync::Mutex;

/// The other node did not answer, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PeerError(pub(crate) String);

/// The other brokers, by id, on the listener that brokers use.
pub(crate) struct Peers {
    config: Arc<BrokerConfig>,
    metadata: MetadataCache,
    /// No more than brokers that were ever spoken to.
    remotes: std::sync::Mutex<HashMap<i32, Arc<Remote>>>,
}

impl Peers {
    pub(crate) fn new(config: Arc<BrokerConfig>, metadata: MetadataCache) -> Arc<Peers> {
        Arc::new(Peers { config, metadata, remotes: std::sync::Mutex::default() })
    }

    /// Sends a request to a broker at the newest version that both know.
    ///
    /// # Errors
    /// It is not registered, not reached, or does not answer in time.
    pub(crate) async fn send<R: Request>(&self, broker_id: i32, request: R) -> Result<R::Response, PeerError> {
        let remote = {
            let mut remotes = self.remotes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let made = || Arc::new(Remote::new(client_config(&self.config, "peer")));
            Arc::clone(remotes.entry(broker_id).or_insert_with(made))
        };
        let endpoint = broker_endpoint(&self.config, &self.metadata, broker_id);
        remote.send(endpoint, request, |request, _| Ok(request)).await
    }
}

/// Where a broker is for other brokers, as the metadata say; `None` if it is not registered.
pub(crate) fn broker_endpoint(config: &BrokerConfig, metadata: &MetadataCache, broker_id: i32) -> Option<Endpoint> {
    let image = metadata.load();
    image.cluster.broker(broker_id).and_then(|broker| broker.endpoint(&config.inter_broker_listener())).cloned()
}

/// Where a voter is for everybody, as `controller.quorum.voters` says.
pub(crate) fn voter_endpoint(config: &BrokerConfig, voter: &Voter) -> Endpoint {
    let name = config.controller_listener_names.first().cloned().unwrap_or_default();
    Endpoint { name, host: voter.host.clone(), port: voter.port, security_protocol: 0 }
}

/// How a broker's own connections behave.
pub(crate) fn client_config(config: &BrokerConfig, purpose: &str) -> ClientConfig {
    let timeout_ms = u64::try_from(config.replica_socket_timeout_ms).unwrap_or(0);
    ClientConfig {
        client_id: format!("broker-{}-{purpose}", config.node_id),
        request_timeout_ms: timeout_ms,
        connect_timeout_ms: timeout_ms.min(ClientConfig::default().connect_timeout_ms),
        ..ClientConfig::default()
    }
}

/// The way to one node.
pub(crate) struct Remote {
    config: ClientConfig,
    connection: Mutex<Option<Open>>,
}

/// A connection, and where it leads: a node may come back elsewhere.
struct Open {
    address: (String, u16),
    connection: Arc<Connection>,
}

impl Remote {
    pub(crate) fn new(config: ClientConfig) -> Remote {
        Remote { config, connection: Mutex::new(None) }
    }

    async fn connect(&self, to: &Endpoint) -> Result<Arc<Connection>, PeerError> {
        let address = (to.host.clone(), to.port);
        let mut kept = self.connection.lock().await;
        if let Some(open) = &*kept
            && open.address == address
            && open.connection.is_open()
        {
            return Ok(Arc::clone(&open.connection));
        }
        *kept = None;
        let made = Connection::connect(&to.host, to.port, &self.config).await;
        let made = Arc::new(made.map_err(|error| PeerError(error.to_string()))?);
        *kept = Some(Open { address, connection: Arc::clone(&made) });
        Ok(made)
    }

    /// Sends what `fit` makes of a request for the version that both sides know.
    pub(crate) async fn send<R: Request>(
        &self,
        to: Option<Endpoint>,
        request: R,
        fit: impl FnOnce(R, i16) -> Result<R, PeerError>,
    ) -> Result<R::Response, PeerError> {
        let to = to.ok_or_else(|| PeerError("the node is not registered on this listener".to_owned()))?;
        let connection = self.connect(&to).await?;
        let failed = |error: ClientError| PeerError(error.to_string());
        let version = connection.version_of::<R>(i16::MAX).map_err(failed)?;
        let request = fit(request, version)?;
        let wait = Duration::from_millis(self.config.request_timeout_ms);
        let answer = connection.request_at(&request, version, wait).await;
        if answer.is_err() {
            // whatever is left of it must not meet the next request
            *self.connection.lock().await = None;
        }
        answer.map_err(failed)
    }
}
