//! FindCoordinator (key 10), versions 0-6: which broker coordinates a group or a transactional id (KIP-98, KIP-699, KIP-932). Makes
//! `__consumer_offsets` or `__transaction_state` when it is first needed; unlike Kafka, which answers COORDINATOR_NOT_AVAILABLE
//! meanwhile, the answer waits for it.
//!
//! Gap: share groups (key type 2) are not served; they are refused with UNSUPPORTED_VERSION, which no client takes for something that
//! passes.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_metadata::{ApiError, MetadataImage};
use milena_protocol::ErrorCode;
use milena_protocol::messages::find_coordinator_response::Coordinator;
use milena_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use crate::auto_topics::{GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC};
use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};
use crate::topology::Topology;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(crate) struct FindCoordinator;

impl Handler for FindCoordinator {
    type Request = FindCoordinatorRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: FindCoordinatorRequest,
    ) -> Reply<FindCoordinatorResponse> {
        let image = broker.metadata.image();
        let missing = topic_of(request.key_type).filter(|topic| image.topics.by_name(topic).is_none());
        let Some(topic) = missing else { return Reply::Now(answer(broker, &image, request, cx)) };
        let (cx, broker) = (cx.clone(), Arc::clone(broker));
        Reply::Later(Box::pin(async move {
            let config = broker.config.load_full();
            broker.auto_topics.create(&config, vec![topic.to_owned()]).await;
            answer(&broker, &broker.metadata.image(), request, &cx)
        }))
    }
}

/// The topic whose partitions' leaders coordinate keys of this type.
fn topic_of(key_type: i8) -> Option<&'static str> {
    match key_type {
        GROUP => Some(GROUP_METADATA_TOPIC),
        TRANSACTION => Some(TRANSACTION_STATE_TOPIC),
        _ => None,
    }
}

fn answer(
    broker: &Broker,
    image: &MetadataImage,
    request: FindCoordinatorRequest,
    cx: &RequestContext,
) -> FindCoordinatorResponse {
    let topology = Topology::new(image, &cx.connection.listener);
    let find = |key: String| match find(broker, image, &topology, request.key_type, &key, cx.api_version) {
        Ok((node_id, host, port)) => Coordinator { key, node_id, host, port, ..Default::default() },
        Err(error) => Coordinator {
            key,
            node_id: -1,
            host: String::new(),
            port: -1,
            error_code: error.code.code(),
            error_message: error.message,
        },
    };
    if cx.api_version >= 4 {
        let coordinators = request.coordinator_keys.into_iter().map(find).collect();
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let found = find(request.key);
    // Versions 1 to 3 have a text for every code, that of success included.
    let code = ErrorCode::from_code(found.error_code);
    let text = if code == ErrorCode::None { code.name() } else { code.message() };
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message.filter(|text| !text.is_empty()).or_else(|| Some(text.to_owned())),
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

fn find(
    broker: &Broker,
    image: &MetadataImage,
    topology: &Topology<'_>,
    key_type: i8,
    key: &str,
    version: i16,
) -> Result<(i32, String, i32), ApiError> {
    let refused = |code, why: &str| Err(ApiError::new(code, why));
    let (topic, index) = match key_type {
        GROUP => (GROUP_METADATA_TOPIC, broker.groups.partition_for(key)),
        TRANSACTION => (TRANSACTION_STATE_TOPIC, broker.transactions.partition_for(key)),
        SHARE if version >= 6 => return refused(ErrorCode::UnsupportedVersion, "Share groups are not served."),
        SHARE => return refused(ErrorCode::InvalidRequest, ""),
        _ => return refused(ErrorCode::InvalidRequest, ErrorCode::InvalidRequest.message()),
    };
    let partition = image.topics.partition(topic, index);
    let leader = partition.and_then(|partition| topology.leader(partition).ok());
    let found = leader.and_then(|leader| Some((leader, topology.endpoint(leader)?)));
    let (leader, endpoint) = found.ok_or_else(|| ApiError::new(ErrorCode::CoordinatorNotAvailable, ""))?;
    Ok((leader, endpoint.host.clone(), endpoint.port.into()))
}
