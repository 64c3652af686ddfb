//! AlterUserScramCredentials (key 51), version 0: sets and removes SCRAM credentials (KIP-554, KIP-900). The controller decides; the answer
//! waits until it is committed.
//!
//! Without an authorizer everybody may change them. Gap: nobody authenticates with them yet.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use milena_protocol::messages::{AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct AlterUserScramCredentials;

impl Handler for AlterUserScramCredentials {
    type Request = AlterUserScramCredentialsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: AlterUserScramCredentialsRequest,
    ) -> Reply<AlterUserScramCredentialsResponse> {
        let deleted = request.deletions.iter().map(|deletion| deletion.name.clone());
        let upserted = request.upsertions.iter().map(|upsertion| upsertion.name.clone());
        let users: BTreeSet<String> = deleted.chain(upserted).collect();
        let answer = broker.controller.alter_user_scram_credentials(request).await;
        Reply::Now(answer.unwrap_or_else(|error| {
            AlterUserScramCredentialsResponse {
                results: users
                    .into_iter()
                    .map(|user| AlterUserScramCredentialsResult {
                        user,
                        error_code: error.code.code(),
                        error_message: error.message.clone(),
                    })
                    .collect(),
                ..Default::default()
            }
        }))
    }
}
