//! Producer ids: every id is given out once in the life of a cluster, in blocks (KIP-730).

use milena_common::Outcome;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};
use milena_protocol::stored::metadata::{MetadataRecord, ProducerIdsRecord};

use super::{ApiError, Cx, Decision, cluster};

/// Ids in one block.
pub const PRODUCER_ID_BLOCK: i32 = 1000;

pub(crate) fn allocate(cx: &mut Cx<'_>, request: &AllocateProducerIdsRequest) -> Decision<AllocateProducerIdsResponse> {
    cluster::check_epoch(cx.image, request.broker_id, request.broker_epoch)?;
    let start = cx.image.next_producer_id;
    let next = start
        .checked_add(PRODUCER_ID_BLOCK.into())
        .ok_or_else(|| ApiError::new(ErrorCode::UnknownServerError, format!("Exhausted all producerIds as the next block's end producerId has exceeded the int64 type limit ({start})")))?;
    let record =
        ProducerIdsRecord { broker_id: request.broker_id, broker_epoch: request.broker_epoch, next_producer_id: next };
    let response = AllocateProducerIdsResponse {
        producer_id_start: start,
        producer_id_len: PRODUCER_ID_BLOCK,
        ..Default::default()
    };
    Ok(Outcome::new(vec![MetadataRecord::ProducerIds(record)], response))
}
