//! The broker's life as its controller sees it: registered, unfenced, alive by heartbeats, gone in order.
//!
//! Owns the broker's epoch and its heartbeats. Called by `node.rs`. The controller is wherever the quorum's leader is.

use std::sync::Arc;
use std::time::Duration;

use milena_common::Uuid;
use milena_metadata::ApiError;
use milena_metadata::image::Endpoint;
use milena_metadata::versions::supported_features;
use milena_protocol::ErrorCode;
use milena_protocol::messages::broker_registration_request::{Feature, Listener};
use milena_protocol::messages::{BrokerHeartbeatRequest, BrokerHeartbeatResponse, BrokerRegistrationRequest};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::broker::Broker;
use crate::controller_channel::ControllerChannel;
use crate::quorum::Quorum;

/// Wait before a registration that may succeed later is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// Most heartbeats to wait for the controller's leave to stop.
const SHUTDOWN_HEARTBEATS: usize = 100;

/// Why a broker cannot register.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    #[error("the controller refuses to register broker {broker_id}: {}{}", code.name(), message.as_deref().map(|m| format!(": {m}")).unwrap_or_default())]
    Refused { broker_id: i32, code: ErrorCode, message: Option<String> },
}

/// A broker that is registered and unfenced.
pub(crate) struct Registration {
    broker_id: i32,
    broker_epoch: i64,
    controllers: ControllerChannel,
    heartbeats: JoinHandle<()>,
}

impl Registration {
    /// Registers the broker and waits until it is unfenced here too.
    ///
    /// # Errors
    /// The controller refuses for good.
    pub(crate) async fn start(
        broker: &Arc<Broker>,
        quorum: &Arc<Quorum>,
        endpoints: Vec<Endpoint>,
        directories: Vec<Uuid>,
        previous_epoch: i64,
    ) -> Result<Registration, RegistrationError> {
        let (broker_id, controllers) = (broker.node_id, broker.controllers.clone());
        let request = request(broker, endpoints, directories, previous_epoch);
        let refused = |code, message| RegistrationError::Refused { broker_id, code, message };
        let broker_epoch = loop {
            let registering = controllers.ask(request.clone(), async |c, request| c.register_broker(request).await);
            match registering.await {
                Ok(response) => match ErrorCode::from_code(response.error_code) {
                    ErrorCode::None => break response.broker_epoch,
                    code if is_transient(code) => tracing::debug!(code = code.name(), "cannot register yet"),
                    code => return Err(refused(code, None)),
                },
                Err(ApiError { code, message }) if !is_transient(code) => return Err(refused(code, message)),
                Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        };
        broker.replicas.set_broker_epoch(broker_epoch);
        let mut published = quorum.published();
        loop {
            let offset = *published.borrow_and_update();
            let answer = heartbeat(&controllers, broker_id, broker_epoch, offset, false).await;
            if answer.is_some_and(|answer| !answer.is_fenced) {
                break;
            }
            // the sender lives as long as the quorum
            let _ = tokio::time::timeout(RETRY, published.changed()).await;
        }
        while !broker.metadata.load().cluster.is_alive(broker_id) {
            let _ = published.changed().await;
        }
        let interval =
            Duration::from_millis(u64::try_from(broker.file_config.broker_heartbeat_interval_ms).unwrap_or(1).max(1));
        let heartbeats = spawn(keep_alive(controllers.clone(), broker_id, broker_epoch, published, interval));
        Ok(Registration { broker_id, broker_epoch, controllers, heartbeats })
    }

    /// The offset of the record that registered this incarnation.
    pub(crate) fn broker_epoch(&self) -> i64 {
        self.broker_epoch
    }

    /// Tells the controller that the broker wants to stop and waits for its leave: others lead by then, where there are others.
    pub(crate) async fn controlled_shutdown(&self, quorum: &Quorum) {
        let mut published = quorum.published();
        for _ in 0..SHUTDOWN_HEARTBEATS {
            let offset = *published.borrow_and_update();
            match heartbeat(&self.controllers, self.broker_id, self.broker_epoch, offset, true).await {
                Some(answer) if answer.should_shut_down => return,
                Some(_) => {}
                None => return,
            }
            let _ = tokio::time::timeout(RETRY, published.changed()).await;
        }
        tracing::warn!(broker_id = self.broker_id, "stopping without the controller's leave");
    }

    /// Ends the heartbeats.
    pub(crate) fn stop(&self) {
        self.heartbeats.abort();
    }
}

fn is_transient(code: ErrorCode) -> bool {
    code.is_retriable() || code == ErrorCode::DuplicateBrokerRegistration
}

fn request(
    broker: &Broker,
    endpoints: Vec<Endpoint>,
    log_dirs: Vec<Uuid>,
    previous_broker_epoch: i64,
) -> BrokerRegistrationRequest {
    let listener =
        |e: Endpoint| Listener { name: e.name, host: e.host, port: e.port, security_protocol: e.security_protocol };
    let feature = |(name, range): (String, milena_metadata::image::VersionRange)| Feature {
        name,
        min_supported_version: range.min,
        max_supported_version: range.max,
    };
    BrokerRegistrationRequest {
        broker_id: broker.node_id,
        cluster_id: broker.cluster_id.clone(),
        incarnation_id: Uuid::random(),
        listeners: endpoints.into_iter().map(listener).collect(),
        features: supported_features().into_iter().map(feature).collect(),
        rack: broker.file_config.broker_rack.clone(),
        log_dirs,
        previous_broker_epoch,
        ..Default::default()
    }
}

/// One heartbeat; `None` if the controller did not take it.
async fn heartbeat(
    controllers: &ControllerChannel,
    broker_id: i32,
    broker_epoch: i64,
    current_metadata_offset: i64,
    want_shut_down: bool,
) -> Option<BrokerHeartbeatResponse> {
    let request = BrokerHeartbeatRequest {
        broker_id,
        broker_epoch,
        current_metadata_offset,
        want_shut_down,
        ..Default::default()
    };
    match controllers.ask(request, async |c, request| c.heartbeat(request).await).await {
        Ok(response) if response.error_code == 0 => Some(response),
        Ok(response) => {
            tracing::warn!(broker_id, error = ErrorCode::from_code(response.error_code).name(), "heartbeat refused");
            None
        }
        Err(error) => {
            tracing::warn!(broker_id, %error, "heartbeat failed");
            None
        }
    }
}

async fn keep_alive(
    controllers: ControllerChannel,
    broker_id: i32,
    broker_epoch: i64,
    published: watch::Receiver<i64>,
    interval: Duration,
) {
    loop {
        tokio::time::sleep(interval).await;
        let offset = *published.borrow();
        heartbeat(&controllers, broker_id, broker_epoch, offset, false).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the heartbeats end with their registration")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(future)
}
