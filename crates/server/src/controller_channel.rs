//! The broker's way to the active controller: this node's own where it leads the quorum, else that of the node which does.
//!
//! The one seam between "local" and "remote": whoever asks the controller asks here. Retries nothing: an answer of NOT_CONTROLLER, or that
//! nobody was reached, is the caller's to try again. Used by the broker's registration, its producer ids, its own topics and the in-sync
//! replicas of what it leads, and for what clients ask of a broker but a controller must answer (KIP-590).

use std::sync::Arc;

use bytes::Bytes;
use milena_common::config::BrokerConfig;
use milena_metadata::image::Endpoint;
use milena_metadata::{ApiError, Controller};
use milena_protocol::messages::{DefaultPrincipalData, EnvelopeRequest};
use milena_protocol::{Encode as _, ErrorCode, Request, Writer};
use milena_raft::RaftNode;

use crate::peers::{PeerError, Remote, client_config, voter_endpoint};
use crate::quota::ANONYMOUS;

/// See the module.
#[derive(Clone)]
pub(crate) struct ControllerChannel {
    shared: Arc<Shared>,
    remote: Arc<Remote>,
}

struct Shared {
    node_id: i32,
    raft: Arc<RaftNode>,
    local: Controller,
    voters: Vec<(i32, Endpoint)>,
    /// Requests of clients wait behind no heartbeat.
    forwarding: Remote,
}

impl ControllerChannel {
    pub(crate) fn new(
        config: &BrokerConfig,
        raft: Arc<RaftNode>,
        local: Controller,
    ) -> Result<ControllerChannel, milena_common::ConfigError> {
        let voters = config.voters()?.iter().map(|voter| (voter.id, voter_endpoint(config, voter))).collect();
        let remote = Arc::new(Remote::new(client_config(config, "controller")));
        let forwarding = Remote::new(client_config(config, "forwarding"));
        let node_id = config.node_id;
        Ok(ControllerChannel { shared: Arc::new(Shared { node_id, raft, local, voters, forwarding }), remote })
    }

    /// The same way on a connection of its own: what is asked there waits behind nothing else.
    pub(crate) fn for_purpose(&self, config: &BrokerConfig, purpose: &str) -> ControllerChannel {
        let remote = Arc::new(Remote::new(client_config(config, purpose)));
        ControllerChannel { shared: Arc::clone(&self.shared), remote }
    }

    /// Whether another node is to be asked, and where it is; an error if nobody leads.
    fn elsewhere(&self) -> Result<Option<Endpoint>, ApiError> {
        let leader = self.shared.raft.status().leader_id;
        if leader == self.shared.node_id || self.shared.voters.len() < 2 {
            return Ok(None);
        }
        let found = self.shared.voters.iter().find(|(id, _)| *id == leader);
        let nobody = || ApiError { code: ErrorCode::NotController, message: None };
        found.map(|(_, endpoint)| Some(endpoint.clone())).ok_or_else(nobody)
    }

    /// Whether a client's request is to be forwarded: another node is the active controller, or nobody is.
    pub(crate) fn is_elsewhere(&self) -> bool {
        !matches!(self.elsewhere(), Ok(None))
    }

    /// The active controller's answer: `local` asks this node's own.
    ///
    /// # Errors
    /// What the controller refuses as a whole; NOT_CONTROLLER while nobody leads, and NETWORK_EXCEPTION when it is not reached.
    pub(crate) async fn ask<R: Request, A>(
        &self,
        request: R,
        local: impl FnOnce(Controller, R) -> A,
    ) -> Result<R::Response, ApiError>
    where
        A: Future<Output = Result<R::Response, ApiError>>,
    {
        self.ask_fitting(request, local, |request, _| Ok(request)).await
    }

    /// As [`ControllerChannel::ask`], with what `fit` makes of the request for the version that another node knows.
    pub(crate) async fn ask_fitting<R: Request, A>(
        &self,
        request: R,
        local: impl FnOnce(Controller, R) -> A,
        fit: impl FnOnce(R, i16) -> Result<R, PeerError>,
    ) -> Result<R::Response, ApiError>
    where
        A: Future<Output = Result<R::Response, ApiError>>,
    {
        match self.elsewhere()? {
            None => local(self.shared.local.clone(), request).await,
            to => {
                let answer = self.remote.send(to, request, fit).await;
                answer.map_err(|error| ApiError { code: ErrorCode::NetworkException, message: Some(error.0) })
            }
        }
    }

    /// A client's request as it came, header included, to the active controller; its response as that gave it.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn forward(&self, frame: Bytes, client: std::net::IpAddr) -> Result<Bytes, ErrorCode> {
        let to = self.elsewhere().map_err(|error| error.code)?;
        let envelope = EnvelopeRequest {
            request_data: frame,
            request_principal: Some(principal().ok_or(ErrorCode::UnknownServerError)?),
            client_host_address: match client {
                std::net::IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
                std::net::IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
            },
        };
        // a leader that became this node meanwhile is asked again by the client
        let to = to.ok_or(ErrorCode::NotController)?;
        let answer = self.shared.forwarding.send(Some(to), envelope, |request, _| Ok(request)).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(%error, "a request cannot be forwarded to the controller");
            ErrorCode::NotController
        })?;
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => answer.response_data.ok_or(ErrorCode::UnknownServerError),
            code => Err(code),
        }
    }
}

/// Everybody is anonymous while nobody is authenticated.
fn principal() -> Option<Bytes> {
    let principal =
        DefaultPrincipalData { r#type: "User".to_owned(), name: ANONYMOUS.to_owned(), token_authenticated: false };
    let mut writer = Writer::with_capacity(32);
    writer.put_i16(0);
    principal.encode(&mut writer, 0).ok()?;
    let chunks = writer.finish();
    Some(chunks.concat().into())
}
