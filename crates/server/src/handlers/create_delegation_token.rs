//! CreateDelegationToken (key 38), versions 0-3: a token that stands for its owner (KIP-48, KIP-373).
//! On a connection without authentication the answer is DELEGATION_TOKEN_REQUEST_NOT_ALLOWED.
//!
//! Gap: other connections, and so tokens, are not part of this version yet.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::{CreateDelegationTokenRequest, CreateDelegationTokenResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

/// Whoever was not authenticated.
const ANONYMOUS: (&str, &str) = ("User", "ANONYMOUS");

pub(crate) struct CreateDelegationToken;

impl Handler for CreateDelegationToken {
    type Request = CreateDelegationTokenRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    async fn handle(
        cx: &RequestContext,
        _broker: &Arc<Broker>,
        request: CreateDelegationTokenRequest,
    ) -> Reply<CreateDelegationTokenResponse> {
        let (kind, name) = ANONYMOUS;
        let requester = |part: &str| if cx.api_version >= 3 { part.to_owned() } else { String::new() };
        // a kind without a name names nobody
        let (principal_type, principal_name) = match request.owner_principal_name.filter(|name| !name.is_empty()) {
            Some(owner) => (request.owner_principal_type.unwrap_or_else(|| kind.to_owned()), owner),
            None => (kind.to_owned(), name.to_owned()),
        };
        Reply::Now(CreateDelegationTokenResponse {
            error_code: ErrorCode::DelegationTokenRequestNotAllowed.code(),
            principal_type,
            principal_name,
            token_requester_principal_type: requester(kind),
            token_requester_principal_name: requester(name),
            issue_timestamp_ms: -1,
            expiry_timestamp_ms: -1,
            max_timestamp_ms: -1,
            ..Default::default()
        })
    }
}
