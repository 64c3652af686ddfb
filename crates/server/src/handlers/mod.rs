//! Every API that is served, one file each. This list is the only one: dispatch, ApiVersions and the check of versions follow from it.
//!
//! A handler authorises, resolves, calls one noun of the broker and words the answer. It keeps no state and touches neither
//! files, sockets nor another handler.

use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_protocol::frame;
use milena_protocol::header::put_response_header;
use milena_protocol::{
    ApiKey, Decode as _, Encode, ErrorCode, Listeners, Preamble, Reader, Request, RequestHeader, Response, Writer,
};

use crate::broker::Broker;
use crate::quota::Quota;
use crate::request::{BoxFuture, ConnectionInfo, Handler, Reply, RequestContext};
use crate::request_time::{RequestTime, timed};

/// Wait before a request is offered to the active controller again.
const FORWARD_RETRY: Duration = Duration::from_millis(100);
/// How often, while there is none.
const FORWARD_TRIES: usize = 150;

/// An API that is served: its key and versions.
pub(crate) struct Served {
    pub(crate) key: ApiKey,
    pub(crate) versions: RangeInclusive<i16>,
    /// See [`Handler::is_advertised`].
    pub(crate) is_advertised: fn(&Broker) -> bool,
}

mod txn;

macro_rules! handlers {
    ($($module:ident::$name:ident,)*) => {
        $(mod $module;)*

        /// Every API that is served, in the order of their keys.
        pub(crate) static SERVED: &[Served] =
            &[$(Served {
                key: ApiKey::$name,
                versions: <$module::$name as Handler>::VERSIONS,
                is_advertised: <$module::$name as Handler>::is_advertised,
            },)*];

        async fn dispatch(cx: RequestContext, broker: &Arc<Broker>, key: ApiKey, body: Reader) -> Started {
            match key {
                $(ApiKey::$name => run::<$module::$name>(cx, broker, body).await,)*
                _ => Started::Close(format!("{key} is not served")),
            }
        }
    };
}

handlers! {
    produce::Produce,
    fetch::Fetch,
    list_offsets::ListOffsets,
    metadata::Metadata,
    offset_commit::OffsetCommit,
    offset_fetch::OffsetFetch,
    find_coordinator::FindCoordinator,
    join_group::JoinGroup,
    heartbeat::Heartbeat,
    leave_group::LeaveGroup,
    sync_group::SyncGroup,
    describe_groups::DescribeGroups,
    list_groups::ListGroups,
    sasl_handshake::SaslHandshake,
    api_versions::ApiVersions,
    create_topics::CreateTopics,
    delete_topics::DeleteTopics,
    delete_records::DeleteRecords,
    init_producer_id::InitProducerId,
    offset_for_leader_epoch::OffsetForLeaderEpoch,
    add_partitions_to_txn::AddPartitionsToTxn,
    add_offsets_to_txn::AddOffsetsToTxn,
    end_txn::EndTxn,
    write_txn_markers::WriteTxnMarkers,
    txn_offset_commit::TxnOffsetCommit,
    describe_acls::DescribeAcls,
    create_acls::CreateAcls,
    delete_acls::DeleteAcls,
    describe_configs::DescribeConfigs,
    alter_configs::AlterConfigs,
    alter_replica_log_dirs::AlterReplicaLogDirs,
    describe_log_dirs::DescribeLogDirs,
    sasl_authenticate::SaslAuthenticate,
    create_partitions::CreatePartitions,
    create_delegation_token::CreateDelegationToken,
    renew_delegation_token::RenewDelegationToken,
    expire_delegation_token::ExpireDelegationToken,
    describe_delegation_token::DescribeDelegationToken,
    delete_groups::DeleteGroups,
    elect_leaders::ElectLeaders,
    incremental_alter_configs::IncrementalAlterConfigs,
    alter_partition_reassignments::AlterPartitionReassignments,
    list_partition_reassignments::ListPartitionReassignments,
    offset_delete::OffsetDelete,
    describe_client_quotas::DescribeClientQuotas,
    alter_client_quotas::AlterClientQuotas,
    describe_user_scram_credentials::DescribeUserScramCredentials,
    alter_user_scram_credentials::AlterUserScramCredentials,
    vote::Vote,
    begin_quorum_epoch::BeginQuorumEpoch,
    end_quorum_epoch::EndQuorumEpoch,
    describe_quorum::DescribeQuorum,
    alter_partition::AlterPartition,
    update_features::UpdateFeatures,
    envelope::Envelope,
    describe_cluster::DescribeCluster,
    describe_producers::DescribeProducers,
    broker_registration::BrokerRegistration,
    broker_heartbeat::BrokerHeartbeat,
    unregister_broker::UnregisterBroker,
    describe_transactions::DescribeTransactions,
    list_transactions::ListTransactions,
    allocate_producer_ids::AllocateProducerIds,
    consumer_group_heartbeat::ConsumerGroupHeartbeat,
    consumer_group_describe::ConsumerGroupDescribe,
    get_telemetry_subscriptions::GetTelemetrySubscriptions,
    push_telemetry::PushTelemetry,
    list_config_resources::ListConfigResources,
    describe_topic_partitions::DescribeTopicPartitions,
}

/// Whether a broker passes an API on to the active controller as it came. Configurations are not among them: some of them are the broker's own.
pub(crate) fn is_forwarded(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::CreateTopics
            | ApiKey::DeleteTopics
            | ApiKey::CreatePartitions
            | ApiKey::ElectLeaders
            | ApiKey::AlterPartitionReassignments
            | ApiKey::ListPartitionReassignments
            | ApiKey::AlterClientQuotas
            | ApiKey::AlterUserScramCredentials
            | ApiKey::DescribeQuorum
            | ApiKey::UpdateFeatures
            | ApiKey::UnregisterBroker
    )
}

/// What became of a request.
pub(crate) enum Started {
    /// The response frame, in pieces.
    Ready(Vec<Bytes>),
    /// The response frame will come; `None` if it cannot be said at the request's version.
    Later(BoxFuture<Option<Vec<Bytes>>>),
    Nothing,
    /// The connection must end; why, for the log.
    Close(String),
}

impl Started {
    /// The response frame, when it is there; `None` if there is none.
    async fn answer(self) -> Option<Vec<Bytes>> {
        match self {
            Started::Ready(chunks) => Some(chunks),
            Started::Later(answer) => answer.await,
            Started::Nothing | Started::Close(_) => None,
        }
    }
}

/// The versions of an API that a listener of this kind serves.
pub(crate) fn served(key: ApiKey, kind: Listeners) -> Option<&'static RangeInclusive<i16>> {
    if !key.listeners().contains(kind) {
        return None;
    }
    let index = SERVED.binary_search_by_key(&key.code(), |served| served.key.code()).ok()?;
    SERVED.get(index).map(|served| &served.versions)
}

/// Decodes a frame and runs the ordered part of its request.
///
/// `alone` if nothing of the connection waits before it or came with it.
pub(crate) async fn start(
    frame: Bytes,
    alone: bool,
    connection: &Arc<ConnectionInfo>,
    broker: &Arc<Broker>,
) -> Started {
    let preamble = match Preamble::peek(&frame) {
        Ok(preamble) => preamble,
        Err(error) => return Started::Close(format!("the request header cannot be read: {error}")),
    };
    let Preamble { api_key, api_version, correlation_id } = preamble;
    let versions = ApiKey::from_i16(api_key).and_then(|key| Some((key, served(key, connection.kind)?)));
    let Some((key, versions)) = versions else {
        return Started::Close(format!("API key {api_key} is not served on listener {}", connection.listener));
    };
    if !versions.contains(&api_version) {
        if key == ApiKey::ApiVersions {
            // the one request whose answer everyone can read (KIP-511)
            let response = api_versions::unsupported_version();
            return encode(key, 0, correlation_id, &response).map_or_else(Started::Close, Started::Ready);
        }
        return Started::Close(format!("version {api_version} of {key} is not served"));
    }
    if connection.kind == Listeners::BROKER && is_forwarded(key) && broker.controllers.is_elsewhere() {
        return Started::Later(Box::pin(forward(frame, Arc::clone(connection), Arc::clone(broker))));
    }
    let request_bytes = frame.len();
    let mut body = Reader::new(frame);
    let header = match RequestHeader::decode_for(&mut body, key, api_version) {
        Ok(header) => header,
        Err(error) => return Started::Close(format!("the header of {key} cannot be read: {error}")),
    };
    let time = broker.quotas.measures_requests().then(|| Arc::new(RequestTime::default()));
    let cx = RequestContext {
        api_version,
        correlation_id,
        client_id: header.client_id,
        request_bytes,
        alone,
        connection: Arc::clone(connection),
        time: time.clone(),
    };
    let running = pin!(dispatch(cx, broker, key, body));
    timed(time, running).await
}

/// As [`start`], for a request inside another.
fn start_boxed(frame: Bytes, connection: Arc<ConnectionInfo>, broker: Arc<Broker>) -> BoxFuture<Started> {
    Box::pin(async move { start(frame, false, &connection, &broker).await })
}

/// Has the active controller answer, wherever it is by then; asks again while there is none.
async fn forward(frame: Bytes, connection: Arc<ConnectionInfo>, broker: Arc<Broker>) -> Option<Vec<Bytes>> {
    for _ in 0..FORWARD_TRIES {
        if !broker.controllers.is_elsewhere() {
            return start_boxed(frame, connection, broker).await.answer().await;
        }
        match broker.controllers.forward(frame.clone(), connection.peer.ip()).await {
            Ok(response) => {
                let length = u32::try_from(response.len()).ok()?;
                return Some(vec![Bytes::copy_from_slice(&length.to_be_bytes()), response]);
            }
            Err(ErrorCode::NotController) => tokio::time::sleep(FORWARD_RETRY).await,
            Err(error) => {
                tracing::warn!(error = error.name(), "the controller does not take a request that was passed on");
                return None;
            }
        }
    }
    None
}

async fn run<H: Handler>(cx: RequestContext, broker: &Arc<Broker>, mut body: Reader) -> Started
where
    <H::Request as Request>::Response: Send + 'static,
{
    let (key, version) = (H::Request::KEY, cx.api_version);
    let request = match H::Request::decode(&mut body, version) {
        Ok(request) => request,
        Err(error) => return Started::Close(format!("{key} version {version} cannot be read: {error}")),
    };
    drop(body);
    match H::handle(&cx, broker, request).await {
        Reply::Now(response) => finish(&cx, broker, key, response).map_or_else(Started::Close, Started::Ready),
        Reply::Later(answer) => {
            let broker = Arc::clone(broker);
            let time = cx.time.clone();
            Started::Later(Box::pin(async move {
                let finished = pin!(async { finish(&cx, &broker, key, answer.await) });
                match timed(time, finished).await {
                    Ok(frame) => Some(frame),
                    Err(reason) => {
                        tracing::error!(reason, "a response cannot be sent");
                        None
                    }
                }
            }))
        }
        Reply::Nothing => Started::Nothing,
        Reply::Close(reason) => Started::Close(reason.to_owned()),
    }
}

/// Counts the request's time, unless the handler did, and encodes the answer.
fn finish<R: Response>(
    cx: &RequestContext,
    broker: &Broker,
    key: ApiKey,
    mut response: R,
) -> Result<Vec<Bytes>, String> {
    if cx.time.as_ref().is_some_and(|time| !time.is_counted()) {
        let told = cx.throttle(broker, Quota::Request, 0);
        if let Some(ms) = response.throttle_time_ms_mut() {
            *ms = told.max(*ms);
        }
    }
    encode(key, cx.api_version, cx.correlation_id, &response)
}

fn encode(key: ApiKey, version: i16, correlation_id: i32, response: &impl Encode) -> Result<Vec<Bytes>, String> {
    let mut writer = Writer::with_capacity(256);
    put_response_header(&mut writer, key, version, correlation_id);
    let encoded = response.encode(&mut writer, version).map_err(|error| error.to_string());
    encoded
        .and_then(|()| frame::into_frame(writer).map_err(|error| error.to_string()))
        .map_err(|error| format!("the response of {key} version {version} cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_within_the_protocol() {
        assert!(SERVED.is_sorted_by_key(|served| served.key.code()));
        for served in SERVED {
            assert!(served.key.has_version(*served.versions.start()), "{}", served.key);
            assert!(served.key.has_version(*served.versions.end()), "{}", served.key);
        }
    }

    #[test]
    fn what_is_passed_on_to_the_controller_is_served_there() {
        for served in SERVED.iter().filter(|served| is_forwarded(served.key)) {
            for kind in [Listeners::BROKER, Listeners::CONTROLLER] {
                assert!(served.key.listeners().contains(kind), "{}", served.key);
            }
        }
    }
}
