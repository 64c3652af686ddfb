//! GetTelemetrySubscriptions (key 71), version 0: which of its metrics a client is to push, and how often (KIP-714).
//!
//! Advertised only if the broker has somewhere to export metrics to; else it is refused with UNSUPPORTED_VERSION.
//! Gaps: patterns of subscriptions that only Java's regular expressions have (looking around, back references, `\Q`) match nobody, and the
//! controller refuses them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::Uuid;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};
use crate::telemetry::{CODECS, Client};

pub(crate) struct GetTelemetrySubscriptions;

impl Handler for GetTelemetrySubscriptions {
    type Request = GetTelemetrySubscriptionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn is_advertised(broker: &Broker) -> bool {
        broker.telemetry.is_on()
    }

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: GetTelemetrySubscriptionsRequest,
    ) -> Reply<GetTelemetrySubscriptionsResponse> {
        let telemetry = &broker.telemetry;
        let refused = |error: ErrorCode| {
            Reply::Now(GetTelemetrySubscriptionsResponse { error_code: error.code(), ..Default::default() })
        };
        if !telemetry.is_on() {
            return refused(ErrorCode::UnsupportedVersion);
        }
        let client_instance_id = match request.client_instance_id {
            Uuid::ZERO => telemetry.new_instance_id(),
            known => known,
        };
        match telemetry.subscription(&Client::new(cx, client_instance_id), broker.clock.now()) {
            Ok(subscription) => Reply::Now(GetTelemetrySubscriptionsResponse {
                client_instance_id,
                subscription_id: subscription.id,
                accepted_compression_types: CODECS.iter().map(|codec| codec.id() as i8).collect(),
                push_interval_ms: i32::try_from(subscription.interval_ms).unwrap_or(i32::MAX),
                telemetry_max_bytes: telemetry.max_bytes(),
                delta_temporality: true,
                requested_metrics: subscription.metrics,
                ..Default::default()
            }),
            Err(error) => refused(error),
        }
    }
}
