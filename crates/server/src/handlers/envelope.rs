//! Envelope (key 58), version 0: a client's request that a broker passes on to the active controller (KIP-590).
//!
//! What is inside is handled as if the client had sent it here, from its own address. Gap: everybody is anonymous, so the principal is not
//! looked at.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use milena_protocol::frame::LENGTH_BYTES;
use milena_protocol::messages::{EnvelopeRequest, EnvelopeResponse};
use milena_protocol::{ApiKey, ErrorCode, Preamble};

use crate::broker::Broker;
use crate::request::{ConnectionInfo, Handler, Reply, RequestContext};

pub(crate) struct Envelope;

impl Handler for Envelope {
    type Request = EnvelopeRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(cx: &RequestContext, broker: &Arc<Broker>, request: EnvelopeRequest) -> Reply<EnvelopeResponse> {
        let refuse = |error: ErrorCode| EnvelopeResponse { error_code: error.code(), response_data: None };
        if !broker.controller.is_active() {
            return Reply::Now(refuse(ErrorCode::NotController));
        }
        let Some(client) = address(&request.client_host_address) else {
            return Reply::Now(refuse(ErrorCode::InvalidRequest));
        };
        let key = Preamble::peek(&request.request_data).ok().and_then(|inner| ApiKey::from_i16(inner.api_key));
        if !key.is_some_and(super::is_forwarded) {
            return Reply::Now(refuse(ErrorCode::InvalidRequest));
        }
        let peer = SocketAddr::new(client, cx.connection.peer.port());
        let connection = Arc::new(ConnectionInfo::behind(&cx.connection, peer));
        let (broker, frame) = (Arc::clone(broker), request.request_data);
        Reply::Later(Box::pin(async move {
            match super::start_boxed(frame, connection, broker).await.answer().await {
                Some(chunks) => {
                    let response: Bytes = chunks.concat().into();
                    let response_data = Some(response.slice(LENGTH_BYTES.min(response.len())..));
                    EnvelopeResponse { error_code: 0, response_data }
                }
                None => EnvelopeResponse { error_code: ErrorCode::InvalidRequest.code(), response_data: None },
            }
        }))
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
