//! Listening sockets: binds what `listeners` names, accepts within the bounds on connections, and starts a task for each.
//!
//! Owns the sockets and the count of connections; what happens on a connection is `connection.rs`. Binding comes early, so that a port
//! in use stops the start; accepting begins when the node is ready.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use milena_common::config::{BrokerConfig, EndPoint, SecurityProtocol};
use milena_protocol::Listeners;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::connection::{self, ConnectionOptions};
use crate::request::ConnectionInfo;

/// Wait after a failed accept: out of descriptors, it would fail again at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait of a client that connected too early: it holds a place.
const MAX_EARLY: Duration = Duration::from_secs(1);

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("Socket server failed to bind to {address}: {error}.")]
    Bind { address: String, error: String },
    #[error(
        "listener {listener} uses {protocol}, which this version does not serve yet; use PLAINTEXT in listener.security.protocol.map"
    )]
    Protocol { listener: String, protocol: &'static str },
}

/// A bound listener that does not accept yet.
pub(crate) struct Listener {
    pub(crate) endpoint: EndPoint,
    /// What was bound: the port is real even if 0 was asked for.
    pub(crate) address: SocketAddr,
    kind: Listeners,
    socket: std::net::TcpListener,
}

impl Listener {
    /// Binds one end point.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub(crate) fn bind(endpoint: EndPoint, kind: Listeners, config: &BrokerConfig) -> Result<Listener, ListenError> {
        if endpoint.protocol != SecurityProtocol::Plaintext {
            return Err(ListenError::Protocol { listener: endpoint.listener, protocol: endpoint.protocol.name() });
        }
        let bound = addresses(&endpoint).and_then(|candidates| {
            let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
            for address in candidates {
                match open(address, config) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        });
        let failed = |error: io::Error| ListenError::Bind {
            address: format!("{}:{}", endpoint.host, endpoint.port),
            error: reason(&error),
        };
        let socket = bound.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Listener { endpoint, address, kind, socket })
    }

    /// Accepts until `stop` turns true; then waits for the connections to end.
    ///
    /// # Errors
    /// When the runtime cannot take the socket.
    pub(crate) async fn run(
        self,
        broker: Arc<Broker>,
        bounds: Arc<ConnectionBounds>,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let config = Arc::clone(&broker.file_config);
        let options = ConnectionOptions {
            max_frame_bytes: usize::try_from(config.socket_request_max_bytes).unwrap_or(0),
            max_idle: u64::try_from(config.connections_max_idle_ms).ok().map(Duration::from_millis),
        };
        let socket = TcpListener::from_std(self.socket)?;
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&socket, &bounds) => accepted,
                Some(_) = connections.join_next() => continue,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let (stream, peer, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(listener = self.endpoint.listener, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let pause = pause(&self.endpoint, self.kind, &broker);
            if !pause.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stop.wait_for(|stop| *stop) => break,
                }
            }
            let early_ms = match self.kind {
                Listeners::BROKER => broker.quotas.connected(canonical(peer).ip(), broker.clock.now()),
                _ => 0,
            };
            if early_ms > 0 {
                tracing::info!(%peer, early_ms, "connections come too fast from this address, closing a new one later");
                let stop = stop.clone();
                connections.spawn(async move {
                    close_later(stream, Duration::from_millis(early_ms), stop).await;
                    drop(permit);
                });
                continue;
            }
            let Some(place) = bounds.take(peer.ip()) else {
                tracing::info!(%peer, "too many connections from this address, closing a new one");
                continue;
            };
            let _ = stream.set_nodelay(true);
            let EndPoint { listener, protocol, .. } = &self.endpoint;
            let info = Arc::new(ConnectionInfo::new(canonical(peer), listener.clone(), self.kind, *protocol));
            let served = connection::serve(stream, info, Arc::clone(&broker), options, stop.clone());
            connections.spawn(async move {
                served.await;
                drop((place, permit));
            });
        }
        drop(socket);
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

/// How long to wait before the connection just accepted is served, by `max.connection.creation.rate` of the broker and of this listener. The
/// listener of brokers, if there are others, is not kept waiting by the clients on those (KIP-612).
fn pause(endpoint: &EndPoint, kind: Listeners, broker: &Broker) -> Duration {
    if kind != Listeners::BROKER {
        return Duration::ZERO;
    }
    let (config, now) = (broker.config.load(), broker.clock.now());
    let name = &endpoint.listener;
    let has_others = || config.broker_endpoints().is_ok_and(|all| all.len() > 1);
    let is_protected = || *name == config.inter_broker_listener() && has_others();
    let of_broker = match config.max_connection_creation_rate {
        i32::MAX => 0,
        _ if is_protected() => 0,
        rate => broker.quotas.accepted("", rate, now),
    };
    let of_listener = match config.connection_creation_rate_of(name) {
        Some(rate) => broker.quotas.accepted(name, rate, now),
        None => 0,
    };
    Duration::from_millis(of_broker.max(of_listener))
}

/// Keeps a client that came too early waiting, and then closes (KIP-612).
async fn close_later(stream: TcpStream, wait: Duration, mut stop: watch::Receiver<bool>) {
    let _ = tokio::time::timeout(wait.min(MAX_EARLY), stop.wait_for(|stop| *stop)).await;
    drop(stream);
}

type Permit = tokio::sync::OwnedSemaphorePermit;

/// The next connection, once there may be one more (`max.connections`).
async fn accept(socket: &TcpListener, bounds: &ConnectionBounds) -> io::Result<(TcpStream, SocketAddr, Permit)> {
    let permit = Arc::clone(&bounds.total).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = socket.accept().await?;
    Ok((stream, peer, permit))
}

/// How many connections there may be: over all listeners, and from one address.
pub(crate) struct ConnectionBounds {
    total: Arc<Semaphore>,
    per_address: usize,
    exceptions: HashMap<IpAddr, usize>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl ConnectionBounds {
    /// From `max.connections`, `max.connections.per.ip` and its overrides.
    pub(crate) fn new(config: &BrokerConfig) -> Arc<ConnectionBounds> {
        let count = |n: i32| usize::try_from(n).unwrap_or(0);
        let overrides = config.connections_per_ip().unwrap_or_default().into_iter();
        let exceptions = overrides.flat_map(|(host, limit)| {
            let addresses = (host.as_str(), 0).to_socket_addrs().map(Iterator::collect).unwrap_or_else(|error| {
                tracing::warn!(host, %error, "max.connections.per.ip.overrides names a host that is not known");
                Vec::new()
            });
            addresses.into_iter().map(move |address| (address.ip(), count(limit)))
        });
        Arc::new(ConnectionBounds {
            total: Arc::new(Semaphore::new(count(config.max_connections).min(Semaphore::MAX_PERMITS))),
            per_address: count(config.max_connections_per_ip),
            exceptions: exceptions.collect(),
            open: Mutex::default(),
        })
    }

    /// A place for one more connection from an address, given back on drop.
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let limit = self.exceptions.get(&address).copied().unwrap_or(self.per_address);
        let mut open = self.open.lock();
        let count = open.entry(address).or_default();
        if *count >= limit {
            if *count == 0 {
                open.remove(&address);
            }
            return None;
        }
        *count += 1;
        Some(Place { bounds: Arc::clone(self), address })
    }
}

struct Place {
    bounds: Arc<ConnectionBounds>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.bounds.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Where an end point may be bound, the preferred first: IPv4 before IPv6 for a name, all interfaces for no host.
fn addresses(endpoint: &EndPoint) -> io::Result<Vec<SocketAddr>> {
    if endpoint.host.is_empty() {
        let any: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        return Ok(any.map(|ip| SocketAddr::new(ip, endpoint.port)).into());
    }
    let mut found: Vec<_> = (endpoint.host.as_str(), endpoint.port).to_socket_addrs()?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    // one address per name: a port of the second could be somebody else's
    found.truncate(1);
    Ok(found)
}

fn open(address: SocketAddr, config: &BrokerConfig) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // the system's own sizing is better than Kafka's default, so only a size that was asked for is set
    let asked = |key: &str, bytes: i32| usize::try_from(bytes).ok().filter(|_| config.originals.contains_key(key));
    if let Some(bytes) = asked("socket.receive.buffer.bytes", config.socket_receive_buffer_bytes) {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = asked("socket.send.buffer.bytes", config.socket_send_buffer_bytes) {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(config.socket_listen_backlog_size)?;
    Ok(socket.into())
}

/// As Java words it, where scripts look for the words.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "Address already in use".to_owned(),
        _ => error.to_string(),
    }
}

/// An IPv4 client of a socket for both families is shown as what it is.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
