//! The way to the other members of the quorum: what the raft core asks goes out over kept connections, what comes back is told to the node.
//!
//! Decides nothing: what is lost is lost, the core asks again. At most one request to each member is waited for by the core; one that it
//! gave up ends by its timeout. Made by `quorum.rs`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use milena_client::ClientConfig;
use milena_common::config::BrokerConfig;
use milena_common::config::quorum::Voter;
use milena_metadata::image::Endpoint;
use milena_protocol::ErrorCode;
use milena_raft::{Head, RaftNetwork, RaftNode, Request, RequestId, Response};

use crate::fetch_versions::for_version;
use crate::peers::{PeerError, Remote, voter_endpoint};
use crate::quorum_wire::{self, QuorumWire};

/// The first version of Vote that can ask whether an election would be won.
const FIRST_PRE_VOTE: i16 = 2;

/// See the module.
pub(crate) struct QuorumNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    wire: Arc<QuorumWire>,
    members: HashMap<i32, Member>,
    node: OnceLock<Weak<RaftNode>>,
}

struct Member {
    endpoint: Endpoint,
    remote: Remote,
}

impl QuorumNetwork {
    /// To the voters that `wire` knows.
    pub(crate) fn new(config: &BrokerConfig, wire: Arc<QuorumWire>) -> QuorumNetwork {
        let request_ms = u64::try_from(config.controller_quorum_request_timeout_ms).unwrap_or(0);
        let client = ClientConfig {
            client_id: format!("raft-client-{}", config.node_id),
            request_timeout_ms: request_ms,
            connect_timeout_ms: request_ms,
            ..ClientConfig::default()
        };
        let member = |voter: &Voter| {
            (voter.id, Member { endpoint: voter_endpoint(config, voter), remote: Remote::new(client.clone()) })
        };
        let members = wire.voters.iter().filter(|voter| voter.id != config.node_id).map(member).collect();
        QuorumNetwork { shared: Arc::new(Shared { wire, members, node: OnceLock::new() }) }
    }

    /// Whom answers are told to; until then they are lost.
    pub(crate) fn connect(&self, node: &Arc<RaftNode>) {
        // a second time changes nothing
        let _ = self.shared.node.set(Arc::downgrade(node));
    }
}

impl RaftNetwork for QuorumNetwork {
    #[expect(clippy::disallowed_methods, reason = "one task per request; its timeout ends it")]
    fn send(&self, to: i32, id: RequestId, request: Request) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let response = match shared.ask(to, request).await {
                Ok(response) => response,
                Err(error) => {
                    tracing::debug!(to, %error, "a member of the quorum does not answer");
                    None
                }
            };
            if let Some(node) = shared.node.get().and_then(Weak::upgrade) {
                node.answered(to, id, response);
            }
        });
    }
}

impl Shared {
    async fn ask(&self, to: i32, request: Request) -> Result<Option<Response>, PeerError> {
        let unknown = || PeerError(format!("where voter {to} is, controller.quorum.voters does not say"));
        let Member { endpoint, remote } = self.members.get(&to).ok_or_else(unknown)?;
        let (endpoint, wire) = (Some(endpoint.clone()), &self.wire);
        match request {
            Request::Vote(vote) => {
                let mut is_old = false;
                let fit = |request, version| match vote.pre_vote && version < FIRST_PRE_VOTE {
                    true => {
                        is_old = true;
                        Err(PeerError("the other knows no pre-votes".to_owned()))
                    }
                    false => Ok(request),
                };
                let answer = remote.send(endpoint, wire.vote(&vote), fit).await;
                match answer {
                    // whoever cannot be asked before is asked in earnest (KIP-996)
                    Err(_) if is_old => {
                        let head = Head { error: ErrorCode::None, epoch: vote.epoch, leader_id: -1 };
                        Ok(Some(Response::Vote { head, granted: true }))
                    }
                    answer => Ok(quorum_wire::voted(answer?)),
                }
            }
            Request::BeginEpoch(begin) => {
                let answer = remote.send(endpoint, wire.begin(&begin), |request, _| Ok(request)).await?;
                Ok(quorum_wire::begun(answer))
            }
            Request::EndEpoch(end) => {
                let answer = remote.send(endpoint, wire.end(&end), |request, _| Ok(request)).await?;
                Ok(quorum_wire::ended(answer))
            }
            Request::Fetch(fetch) => {
                let fit = |request, version| Ok(for_version(request, version));
                let answer = remote.send(endpoint, wire.fetch(&fetch), fit).await?;
                Ok(quorum_wire::fetched(answer))
            }
        }
    }
}
