//! What a handler gets and what it gives: the context of one request, and the four ways to reply.
//!
//! Owns no socket and knows no API. Made by `connection.rs`, read by `handlers/`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use milena_common::config::SecurityProtocol;
use milena_coordinator::GroupContext;
use milena_protocol::{Listeners, Request};

use crate::broker::Broker;

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
    pub(crate) connection: Arc<ConnectionInfo>,
}

impl RequestContext {
    /// The client's address as Java prints one: `/127.0.0.1`.
    pub(crate) fn client_host(&self) -> String {
        format!("/{}", self.connection.peer.ip())
    }

    /// For quotas; a client without an id is one with an empty one.
    pub(crate) fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or_default()
    }

    /// The connection is not read for so long once the answer is given (KIP-219). Returns what to tell the client.
    pub(crate) fn throttle(&self, ms: u64) -> i32 {
        self.connection.throttle_ms.fetch_max(ms, Ordering::Relaxed);
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

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    pub(crate) peer: SocketAddr,
    /// Name of the listener, in capitals: clients are told the addresses of the listener they came by.
    pub(crate) listener: String,
    /// [`Listeners::BROKER`] or [`Listeners::CONTROLLER`].
    pub(crate) kind: Listeners,
    #[expect(dead_code, reason = "authentication reads it")]
    pub(crate) protocol: SecurityProtocol,
    /// For how long the connection is not to be read; see [`RequestContext::throttle`].
    pub(crate) throttle_ms: AtomicU64,
}
