//! PushTelemetry (key 72), version 0: a client's metrics, in OpenTelemetry's form (KIP-714).
//!
//! Advertised only if the broker has somewhere to export metrics to; else it is refused with UNSUPPORTED_VERSION. Metrics are exported behind
//! the client's back: what the collector does not take is not the client's affair.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::Uuid;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{PushTelemetryRequest, PushTelemetryResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};
use crate::telemetry::Client;

pub(crate) struct PushTelemetry;

impl Handler for PushTelemetry {
    type Request = PushTelemetryRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn is_advertised(broker: &Broker) -> bool {
        broker.telemetry.is_on()
    }

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: PushTelemetryRequest,
    ) -> Reply<PushTelemetryResponse> {
        let answer = if !broker.telemetry.is_on() {
            Err(ErrorCode::UnsupportedVersion)
        } else if [Uuid::ZERO, Uuid::METADATA_TOPIC].contains(&request.client_instance_id) {
            Err(ErrorCode::InvalidRequest)
        } else {
            let client = Client::new(cx, request.client_instance_id);
            broker.telemetry.push(&client, request, broker.clock.now())
        };
        let error_code = answer.err().unwrap_or(ErrorCode::None).code();
        Reply::Now(PushTelemetryResponse { error_code, ..Default::default() })
    }
}
