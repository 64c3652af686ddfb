//! ExpireDelegationToken (key 40), versions 0-2: ends a delegation token (KIP-48).
//! On a connection without authentication the answer is DELEGATION_TOKEN_REQUEST_NOT_ALLOWED.
//!
//! Gap: other connections, and so tokens, are not part of this version yet.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::{ExpireDelegationTokenRequest, ExpireDelegationTokenResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct ExpireDelegationToken;

impl Handler for ExpireDelegationToken {
    type Request = ExpireDelegationTokenRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        _cx: &RequestContext,
        _broker: &Arc<Broker>,
        _request: ExpireDelegationTokenRequest,
    ) -> Reply<ExpireDelegationTokenResponse> {
        Reply::Now(ExpireDelegationTokenResponse {
            error_code: ErrorCode::DelegationTokenRequestNotAllowed.code(),
            expiry_timestamp_ms: -1,
            ..Default::default()
        })
    }
}
