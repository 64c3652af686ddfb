//! Clients' own metrics (KIP-714): which the cluster asks of whom, what they push, and where that goes.
//!
//! `subscriptions.rs` and `instances.rs` decide, `otlp.rs` reads, `exporter.rs` acts. Without an exporter nobody is asked for anything. Told
//! of the metadata by a publisher, of requests by two handlers, of connections' ends by `connection.rs`.

mod exporter;
mod instances;
mod otlp;
mod subscriptions;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use milena_common::config::BrokerConfig;
use milena_common::metrics::{Counter, Metrics};
use milena_common::{ConfigError, Now, Uuid};
use milena_metadata::image::{ConfigsImage, ResourceType};
use milena_metadata::{MetadataDelta, MetadataImage, MetadataPublisher};
use milena_protocol::ErrorCode;
use milena_protocol::messages::PushTelemetryRequest;
use milena_protocol::records::compress::decompress;
use milena_protocol::records::{Compression, DecompressLimit};
use parking_lot::Mutex;

pub(crate) use subscriptions::{Client, Subscription};

use crate::broker::Broker;
use crate::heavy_work::aside;
use crate::request::{ConnectionInfo, RequestContext};
use exporter::{Export, Exporter, Target};
use instances::{Instances, Pushed};
use subscriptions::Subscriptions;

/// What a client that does not say has for its software.
const UNKNOWN: &str = "unknown";
/// Decompressing fewer bytes is not worth the move to another thread.
const HEAVY_BYTES: usize = 16 << 10;
/// How clients may compress, the best first.
pub(crate) const CODECS: [Compression; 4] =
    [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];

/// See the module.
pub(crate) struct Telemetry {
    broker_id: i32,
    /// `telemetry.max.bytes`: of a push, and of what it is decompressed to.
    max_bytes: usize,
    exporter: Option<Exporter>,
    subscriptions: ArcSwap<Subscriptions>,
    instances: Mutex<Instances>,
    counts: Counts,
}

/// Kafka's MBeans `kafka.server:type=ClientMetrics`, over all instances.
#[derive(Default)]
struct Counts {
    exported: Counter,
    failed: Counter,
    throttled: Counter,
    unknown_subscriptions: Counter,
}

impl Telemetry {
    /// With an exporter if the configuration names a place to export to.
    ///
    /// # Errors
    /// That place is none.
    pub(crate) fn start(config: &BrokerConfig, metrics: &Metrics) -> Result<Telemetry, ConfigError> {
        let target = config.milena_telemetry_otlp_endpoint.as_deref().filter(|text| !text.trim().is_empty());
        let exporter = target.map(Target::parse).transpose()?.map(Exporter::start);
        let counter = |name| metrics.counter("kafka.server", "ClientMetrics", name, &[]);
        Ok(Telemetry {
            broker_id: config.node_id,
            max_bytes: usize::try_from(config.telemetry_max_bytes).unwrap_or(0),
            exporter,
            subscriptions: ArcSwap::default(),
            instances: Mutex::default(),
            counts: Counts {
                exported: counter("ClientMetricsPluginExportCount"),
                failed: counter("ClientMetricsPluginErrorCount"),
                throttled: counter("ClientMetricsThrottleCount"),
                unknown_subscriptions: counter("ClientMetricsUnknownSubscriptionRequestCount"),
            },
        })
    }

    /// Whether anybody takes the metrics that clients push.
    pub(crate) fn is_on(&self) -> bool {
        self.exporter.is_some()
    }

    pub(crate) fn max_bytes(&self) -> i32 {
        i32::try_from(self.max_bytes).unwrap_or(i32::MAX)
    }

    /// An id for a client that has none.
    pub(crate) fn new_instance_id(&self) -> Uuid {
        let instances = self.instances.lock();
        loop {
            let id = Uuid::random();
            if !instances.contains(id) {
                return id;
            }
        }
    }

    /// What a client is asked for.
    ///
    /// # Errors
    /// See [`Instances::get`].
    pub(crate) fn subscription(&self, client: &Client, now: Now) -> Result<Subscription, ErrorCode> {
        let told = self.instances.lock().get(&self.subscriptions.load(), client, now);
        told.inspect_err(|error| self.count(*error))
    }

    /// A client's metrics come.
    ///
    /// # Errors
    /// See [`Instances::push`]; INVALID_RECORD if they are not what they should be.
    pub(crate) fn push(&self, client: &Client, request: PushTelemetryRequest, now: Now) -> Result<(), ErrorCode> {
        let codec = u8::try_from(request.compression_type).ok().and_then(|id| Compression::from_id(id).ok());
        let push = Pushed {
            subscription_id: request.subscription_id,
            terminating: request.terminating,
            codec_is_known: codec.is_some(),
            is_too_large: request.metrics.len() > self.max_bytes,
        };
        let checked = self.instances.lock().push(&self.subscriptions.load(), client, push, now);
        checked.inspect_err(|error| self.count(*error))?;
        let (Some(codec), Some(exporter), false) = (codec, &self.exporter, request.metrics.is_empty()) else {
            return Ok(());
        };
        let read = || self.read(codec, request.metrics.clone());
        let metrics = if request.metrics.len() >= HEAVY_BYTES { aside(read) } else { read() };
        let metrics = metrics.map_err(|reason| {
            tracing::warn!(instance = %client.instance_id, reason, "metrics of a client cannot be read");
            self.counts.failed.inc();
            ErrorCode::InvalidRecord
        })?;
        let (wall_ms, terminating) = (now.wall_ms, request.terminating);
        match exporter.export(Export { wall_ms, terminating, labels: self.labels(client), metrics }) {
            true => self.counts.exported.inc(),
            // it is not the client's fault, who would stop pushing
            false => self.counts.failed.inc(),
        }
        Ok(())
    }

    fn read(&self, codec: Compression, metrics: Bytes) -> Result<Bytes, String> {
        let metrics = match codec {
            Compression::None => metrics,
            codec => {
                decompress(codec, &metrics, DecompressLimit(self.max_bytes)).map_err(|error| error.to_string())?.into()
            }
        };
        otlp::count(&metrics).map_err(|error| error.to_string())?;
        Ok(metrics)
    }

    /// What is said of the client beside its metrics: the labels that KIP-714 names.
    fn labels(&self, client: &Client) -> Vec<(&'static str, String)> {
        vec![
            ("client_instance_id", client.instance_id.to_string()),
            ("client_id", client.client_id.clone()),
            ("client_software_name", client.software_name.clone()),
            ("client_software_version", client.software_version.clone()),
            ("client_source_address", client.address.ip().to_string()),
            ("client_source_port", client.address.port().to_string()),
            ("principal", client.principal.clone()),
            ("broker_id", self.broker_id.to_string()),
        ]
    }

    fn count(&self, error: ErrorCode) {
        match error {
            ErrorCode::ThrottlingQuotaExceeded => self.counts.throttled.inc(),
            ErrorCode::UnknownSubscriptionId => self.counts.unknown_subscriptions.inc(),
            _ => {}
        }
    }

    fn on_configs(&self, image: &ConfigsImage) {
        let version = self.subscriptions.load().version + 1;
        self.subscriptions.store(Subscriptions::new(version, image).into());
    }

    /// A client that comes back begins anew.
    pub(crate) fn on_disconnect(&self, connection: &ConnectionInfo) {
        if let Some(id) = *connection.client_instance.lock() {
            self.instances.lock().remove(id);
        }
    }

    /// Writes how many clients are asked, as of now.
    pub(crate) fn report(&self, metrics: &Metrics) {
        let gauge = metrics.gauge("kafka.server", "ClientMetrics", "ClientMetricsInstanceCount", &[]);
        gauge.set(i64::try_from(self.instances.lock().len()).unwrap_or(i64::MAX));
    }

    pub(crate) async fn stop(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.stop().await;
        }
    }
}

impl Client {
    /// The client of a request, which says that it is this instance.
    pub(crate) fn new(cx: &RequestContext, instance_id: Uuid) -> Client {
        *cx.connection.client_instance.lock() = Some(instance_id);
        let software = cx.connection.software.get();
        Client {
            instance_id,
            client_id: cx.client_id.clone().unwrap_or_default(),
            software_name: software.map_or(UNKNOWN, |software| &software.name).to_owned(),
            software_version: software.map_or(UNKNOWN, |software| &software.version).to_owned(),
            address: cx.connection.peer,
            principal: format!("User:{}", cx.who().user),
        }
    }
}

/// Brings the metadata's subscriptions into force.
pub(crate) struct TelemetryPublisher {
    broker: Arc<Broker>,
}

impl TelemetryPublisher {
    pub(crate) fn new(broker: Arc<Broker>) -> TelemetryPublisher {
        TelemetryPublisher { broker }
    }
}

impl MetadataPublisher for TelemetryPublisher {
    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        if delta.changed_configs.iter().any(|resource| resource.kind == ResourceType::ClientMetrics) {
            self.broker.telemetry.on_configs(&image.configs);
        }
    }
}
