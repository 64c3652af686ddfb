//! DescribeUserScramCredentials (key 50), version 0: who has SCRAM credentials, of which mechanism and with how many iterations (KIP-554).
//! Never a key. Users come sorted by name.
//!
//! Without an authorizer everybody may see them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DescribeUserScramCredentials;

impl Handler for DescribeUserScramCredentials {
    type Request = DescribeUserScramCredentialsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: DescribeUserScramCredentialsRequest,
    ) -> Reply<DescribeUserScramCredentialsResponse> {
        let answer = broker.controller.describe_user_scram_credentials(&request);
        Reply::Now(answer.unwrap_or_else(|error| DescribeUserScramCredentialsResponse {
            error_code: error.code.code(),
            error_message: error.message,
            ..Default::default()
        }))
    }
}
