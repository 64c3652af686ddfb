//! DescribeDelegationToken (key 41), versions 0-3: delegation tokens (KIP-48).
//! On a connection without authentication the answer is DELEGATION_TOKEN_REQUEST_NOT_ALLOWED.
//!
//! Gap: other connections, and so tokens, are not part of this version yet.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::{DescribeDelegationTokenRequest, DescribeDelegationTokenResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DescribeDelegationToken;

impl Handler for DescribeDelegationToken {
    type Request = DescribeDelegationTokenRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    async fn handle(
        _cx: &RequestContext,
        _broker: &Arc<Broker>,
        _request: DescribeDelegationTokenRequest,
    ) -> Reply<DescribeDelegationTokenResponse> {
        Reply::Now(DescribeDelegationTokenResponse {
            error_code: ErrorCode::DelegationTokenRequestNotAllowed.code(),
            ..Default::default()
        })
    }
}
