//! SaslHandshake (key 17), versions 0-1: chooses a mechanism of authentication (KIP-43). A connection that needs none is past that, and the
//! answer is ILLEGAL_SASL_STATE.
//!
//! Gap: listeners with authentication are not part of this version yet.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct SaslHandshake;

impl Handler for SaslHandshake {
    type Request = SaslHandshakeRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        _cx: &RequestContext,
        _broker: &Arc<Broker>,
        _request: SaslHandshakeRequest,
    ) -> Reply<SaslHandshakeResponse> {
        Reply::Now(SaslHandshakeResponse { error_code: ErrorCode::IllegalSaslState.code(), ..Default::default() })
    }
}
