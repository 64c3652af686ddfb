//! Offsets that are committed with a producer's transaction: TxnOffsetCommit v0-5 (KIP-98, KIP-447).
//!
//! They are recorded at once and count when the marker of the transaction comes; until then whoever asks for stable offsets is told to
//! wait. Whether the transaction is the producer's to add to was asked before.

use std::sync::Arc;

use milena_common::{Now, Outcome, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use milena_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use milena_protocol::stored::group::OffsetCommitValue;

use super::record::GroupRecord;
use super::{GroupOutcome, GroupShard};

impl GroupShard {
    /// TxnOffsetCommit. An error of the group comes as `Err`; an error of one partition in the response.
    pub fn commit_transactional_offsets(
        &mut self,
        request: &TxnOffsetCommitRequest,
        now: Now,
    ) -> GroupOutcome<Result<TxnOffsetCommitResponse, ErrorCode>> {
        if let Err(error) = self.validate_transactional_commit(request) {
            return Outcome::response(Err(error));
        }
        let group: Arc<str> = Arc::from(request.group_id.as_str());
        let mut records = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let name: Arc<str> = Arc::from(topic.name.as_str());
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
                let error = match self.is_metadata_too_large(metadata) {
                    true => ErrorCode::OffsetMetadataTooLarge,
                    false => ErrorCode::None,
                };
                if error == ErrorCode::None {
                    let value = OffsetCommitValue {
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: metadata.to_owned(),
                        commit_timestamp: now.wall_ms,
                        ..Default::default()
                    };
                    records.push(GroupRecord::Offset {
                        producer_id: request.producer_id,
                        group: group.clone(),
                        topic: name.clone(),
                        partition: partition.partition_index,
                        value: Some(value),
                    });
                }
                partitions.push(TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                });
            }
            topics.push(TxnOffsetCommitResponseTopic { name: topic.name.clone(), partitions });
        }
        Outcome::new(records, Ok(TxnOffsetCommitResponse { topics, ..Default::default() }))
    }

    fn validate_transactional_commit(&self, request: &TxnOffsetCommitRequest) -> Result<(), ErrorCode> {
        if let Some(group) = self.hard.consumer_group(&request.group_id) {
            let instance_id = request.group_instance_id.as_deref();
            let image = self.cluster.load().image;
            let partitions = request.topics.iter().flat_map(|topic| {
                let id = image.topics.id_of(&topic.name).unwrap_or(Uuid::ZERO);
                topic.partitions.iter().map(move |partition| (id, partition.partition_index))
            });
            let valid = group.validate_offset_commit(
                &request.member_id,
                instance_id,
                request.generation_id,
                true,
                i16::MAX,
                partitions,
            );
            return valid.map_err(|error| match error {
                // Producers know generations only.
                ErrorCode::StaleMemberEpoch => ErrorCode::IllegalGeneration,
                error => error,
            });
        }
        if let Some(group) = self.soft.groups.get(request.group_id.as_str()) {
            return group.validate_offset_commit(
                &request.member_id,
                request.group_instance_id.as_deref(),
                request.generation_id,
                true,
            );
        }
        if request.generation_id < 0 {
            // Before v3 producers did not say for which member they commit; and there are groups without members.
            return Ok(());
        }
        // A simple group, also one that is only about to be, has no members.
        match self.hard.group(&request.group_id).is_some() || self.hard.has_pending_offsets(&request.group_id) {
            true => Err(ErrorCode::UnknownMemberId),
            false => Err(ErrorCode::IllegalGeneration),
        }
    }
}
