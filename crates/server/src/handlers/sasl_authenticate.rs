//! SaslAuthenticate (key 36), versions 0-2: carries what a mechanism of authentication says (KIP-152, KIP-368). A connection that needs none
//! is past that, and the answer is ILLEGAL_SASL_STATE.
//!
//! Gap: listeners with authentication are not part of this version yet.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct SaslAuthenticate;

impl Handler for SaslAuthenticate {
    type Request = SaslAuthenticateRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        _cx: &RequestContext,
        _broker: &Arc<Broker>,
        _request: SaslAuthenticateRequest,
    ) -> Reply<SaslAuthenticateResponse> {
        Reply::Now(SaslAuthenticateResponse {
            error_code: ErrorCode::IllegalSaslState.code(),
            error_message: Some("SaslAuthenticate request received after successful authentication".to_owned()),
            ..Default::default()
        })
    }
}
