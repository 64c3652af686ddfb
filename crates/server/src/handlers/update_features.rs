//! UpdateFeatures (key 57), versions 0-2: raises and lowers levels of features (KIP-584, KIP-778, KIP-1022). The controller decides; the
//! answer waits until it is committed. All or nothing, and since version 2 single features are not spoken of.
//!
//! Without an authorizer everybody may change them. Like Kafka 4.3, version 0 cannot lower a level, whatever it allows. Gap:
//! `kraft.version` stays what the directory was formatted with.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct UpdateFeatures;

impl Handler for UpdateFeatures {
    type Request = UpdateFeaturesRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: UpdateFeaturesRequest,
    ) -> Reply<UpdateFeaturesResponse> {
        let answer = broker.controller.update_features(request, cx.api_version, broker.raft.kraft_version()).await;
        Reply::Now(answer.unwrap_or_else(|error| UpdateFeaturesResponse {
            error_code: error.code.code(),
            error_message: error.message,
            ..Default::default()
        }))
    }
}
