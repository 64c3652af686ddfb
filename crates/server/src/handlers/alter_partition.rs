//! AlterPartition (key 56), versions 0-3: a partition's leader says which replicas are in sync (KIP-497). 1 recovery states (KIP-704), 2
//! topic ids, 3 epochs of brokers (KIP-903). The controller decides; the answer waits until it is committed.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct AlterPartition;

/// The first version that knows of replicas that may not be in sync.
const FIRST_INELIGIBLE: i16 = 2;

impl Handler for AlterPartition {
    type Request = AlterPartitionRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: AlterPartitionRequest,
    ) -> Reply<AlterPartitionResponse> {
        let version = cx.api_version;
        let broker = Arc::clone(broker);
        Reply::Later(Box::pin(async move {
            let answer = broker.controller.alter_partition(request).await;
            let mut response = answer
                .unwrap_or_else(|error| AlterPartitionResponse { error_code: error.code.code(), ..Default::default() });
            if version < FIRST_INELIGIBLE {
                let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                for partition in partitions.filter(|p| p.error_code == ErrorCode::IneligibleReplica.code()) {
                    partition.error_code = ErrorCode::OperationNotAttempted.code();
                }
            }
            response
        }))
    }
}
