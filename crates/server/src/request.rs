//! What a handler gets and what it gives: the context of one request, and the four ways to reply.
//!
//! Owns no socket and knows no API. Made by `connection.rs`, read by `handlers/`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use milena_common::Uuid;
use milena_common::config::SecurityProtocol;
use milena_coordinator::GroupContext;
use milena_protocol::{Listeners, Request};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::quota::{ANONYMOUS, Quota, Who};
use crate::request_time::RequestTime;

/// A future that owns what it needs.
pub(crate) type BoxFuture<R> = Pin<Box<dyn Future<Output = R> + Send + 'static>>;

/// What a handler made of a request.
pub(crate) enum Reply<R> {
    /// The answer.
    Now(R),
    /// The ordered part is done and the next request of the connection may start; the answer comes when the future is ready. It is polled
    /// no earlier than all answers before it were given.
    Later(BoxFuture<R>),
    /// No answer at all (Produce with acks=0).
    Nothing,
    /// The connection cannot go on; the reason is for the log.
    Close(&'static str),
}

/// One API. `handlers/mod.rs` lists them all.
pub(crate) trait Handler {
    type Request: Request;
    /// The versions that are served, and so advertised.
    const VERSIONS: RangeInclusive<i16>;

    /// Whether ApiVersions speaks of it on this broker; it is answered all the same.
    fn is_advertised(_broker: &Broker) -> bool {
        true
    }

    /// Authorises, resolves, calls one noun of the broker and words the answer. Until it returns, the connection starts no other request.
    fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: Self::Request,
    ) -> impl Future<Output = Reply<<Self::Request as Request>::Response>> + Send;
}

/// What is known of a request besides its body.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    pub(crate) api_version: i16,
    pub(crate) correlation_id: i32,
    /// From the header; `None` if null.
    pub(crate) client_id: Option<String>,
    /// Of the frame, header included.
    pub(crate) request_bytes: usize,
    /// Nothing of the connection waits before it or came with it.
    pub(crate) alone: bool,
    pub(crate) connection: Arc<ConnectionInfo>,
    /// How long it keeps threads busy; `None` while nobody has a quota on that.
    pub(crate) time: Option<Arc<RequestTime>>,
}

impl RequestContext {
    /// The client's address as Java prints one: `/127.0.0.1`.
    pub(crate) fn client_host(&self) -> String {
        format!("/{}", self.connection.peer.ip())
    }

    /// Whose quotas count; a client without an id is one with an empty one.
    pub(crate) fn who(&self) -> Who<'_> {
        Who { user: ANONYMOUS, client_id: self.client_id.as_deref().unwrap_or_default() }
    }

    /// How long the client must wait by reason of the time that the request took so far. Counted once, when it is first asked for.
    pub(crate) fn request_throttle_ms(&self, broker: &Broker) -> u64 {
        let Some(time) = &self.time else { return 0 };
        time.counted(|nanoseconds| {
            let with_network = nanoseconds + self.connection.network_nanoseconds.swap(0, Ordering::Relaxed);
            broker.quotas.requested(self.who(), with_network, broker.clock.now())
        })
    }

    /// The request's time is nobody's: other brokers' requests, and those without an answer.
    pub(crate) fn exempt(&self) {
        if let Some(time) = &self.time {
            time.counted(|_| 0);
        }
    }

    /// The client is to wait for so long by reason of this quota, or longer by reason of the request's time: the connection is not read
    /// meanwhile, once the answer is given (KIP-219). Returns what to tell the client.
    pub(crate) fn throttle(&self, broker: &Broker, quota: Quota, ms: u64) -> i32 {
        let request_ms = self.request_throttle_ms(broker);
        let (quota, ms) = if ms > request_ms { (quota, ms) } else { (Quota::Request, request_ms) };
        if ms > 0 {
            broker.quotas.throttled(quota, self.who(), ms, broker.clock.now());
            self.connection.throttle_ms.fetch_max(ms, Ordering::Relaxed);
        }
        i32::try_from(ms).unwrap_or(i32::MAX)
    }

    /// What the group coordinator wants to know.
    pub(crate) fn group_context(&self) -> GroupContext {
        GroupContext {
            client_id: self.client_id.clone().unwrap_or_default(),
            client_host: self.client_host(),
            api_version: self.api_version,
        }
    }
}

impl ConnectionInfo {
    pub(crate) fn new(
        peer: SocketAddr,
        listener: String,
        kind: Listeners,
        protocol: SecurityProtocol,
    ) -> ConnectionInfo {
        ConnectionInfo {
            peer,
            listener,
            kind,
            protocol,
            throttle_ms: AtomicU64::new(0),
            network_nanoseconds: AtomicU64::new(0),
            software: OnceLock::new(),
            client_instance: Mutex::default(),
        }
    }

    /// Of a client whose requests come by way of another node's connection.
    pub(crate) fn behind(connection: &ConnectionInfo, peer: SocketAddr) -> ConnectionInfo {
        ConnectionInfo::new(peer, connection.listener.clone(), connection.kind, connection.protocol)
    }
}

/// Name and version of a client's software, as ApiVersions tells them (KIP-511).
#[derive(Debug, Clone)]
pub(crate) struct Software {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    pub(crate) peer: SocketAddr,
    /// Name of the listener, in capitals: clients are told the addresses of the listener they came by.
    pub(crate) listener: String,
    /// [`Listeners::BROKER`] or [`Listeners::CONTROLLER`].
    pub(crate) kind: Listeners,
    pub(crate) protocol: SecurityProtocol,
    /// For how long the connection is not to be read; see [`RequestContext::throttle`].
    pub(crate) throttle_ms: AtomicU64,
    /// How long the socket kept threads busy since a request was last counted; only measured while somebody has a quota on that.
    pub(crate) network_nanoseconds: AtomicU64,
    /// What the client said of its software, once it did.
    pub(crate) software: OnceLock<Software>,
    /// The metrics instance that the client speaks for on this connection, once it did (KIP-714).
    pub(crate) client_instance: Mutex<Option<Uuid>>,
}
