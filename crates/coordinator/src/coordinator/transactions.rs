//! What transactions want of the group coordinator: offsets that are committed with them, and their ends.

use milena_protocol::ErrorCode;
use milena_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use milena_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::{GroupCoordinator, to_client, validate_group_id};
use crate::group::GroupContext;
use crate::writer::{TransactionalProducer, TxnMarker, Verified};

impl GroupCoordinator {
    /// TxnOffsetCommit v0-5; the transaction coordinator was asked, as `verified` says.
    pub async fn txn_offset_commit(
        &self,
        _cx: GroupContext,
        request: TxnOffsetCommitRequest,
        verified: Verified,
    ) -> TxnOffsetCommitResponse {
        let partition = self.partition_for(&request.group_id);
        let producer = TransactionalProducer {
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch,
            verified,
        };
        let result = match validate_group_id(&request.group_id) {
            Ok(()) => {
                let submitted = self.runtime.submit_transactional(partition, producer, |shard, now| {
                    shard.commit_transactional_offsets(&request, now)
                });
                self.commit(submitted).await
            }
            Err(error) => Err(error),
        };
        result.and_then(|response| response).unwrap_or_else(|error| txn_commit_error(&request, error))
    }

    /// A transaction ended: what it committed in this partition of `__consumer_offsets` counts from now on, or never.
    ///
    /// Errors: those of the log, and NOT_COORDINATOR and COORDINATOR_LOAD_IN_PROGRESS.
    pub async fn complete_transaction(&self, partition: i32, marker: TxnMarker) -> Result<(), ErrorCode> {
        self.runtime.submit_marker(partition, marker).await.map_err(to_client)
    }
}

/// The error of a group, on every partition: TxnOffsetCommit has no other place for it.
pub fn txn_commit_error(request: &TxnOffsetCommitRequest, error: ErrorCode) -> TxnOffsetCommitResponse {
    let partition = |partition_index| TxnOffsetCommitResponsePartition { partition_index, error_code: error.code() };
    let topics = request.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect(),
    });
    TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}
