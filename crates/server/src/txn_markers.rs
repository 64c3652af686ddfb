//! Where the transaction coordinator reaches the rest of the broker: the partitions that get its markers, and fresh producer ids.
//!
//! Markers for `__consumer_offsets` go through the group coordinator, which must know that the offsets count; all others straight to
//! their logs. Never decides when a marker is due. Made by `node.rs` for the `TransactionCoordinator`; WriteTxnMarkers calls it too.

use std::sync::Arc;

use futures_util::future::join_all;
use milena_common::{Clock, TopicPartition};
use milena_coordinator::{BoxFuture, GroupCoordinator, MarkerWriter, ProducerIdSource, TxnMarker};
use milena_log::{CommitBy, Origin};
use milena_metadata::MetadataCache;
use milena_protocol::ErrorCode;
use milena_replica::{AppendPart, AppendRequest, ReplicaManager};

use crate::auto_topics::GROUP_METADATA_TOPIC;
use crate::coordinator_log::marker_batch;
use crate::producer_ids::ProducerIds;

/// How long a marker may stay uncommitted before it counts as failed: as long as its partition needs.
const COMMIT_TIMEOUT_MS: u64 = i32::MAX as u64;

/// See the module.
pub(crate) struct LocalMarkers {
    pub(crate) replicas: Arc<ReplicaManager>,
    pub(crate) groups: GroupCoordinator,
    pub(crate) metadata: MetadataCache,
    pub(crate) clock: Arc<dyn Clock>,
}

impl LocalMarkers {
    /// Writes the marker to the partitions and waits until it is committed; one result each, in order.
    pub(crate) async fn write(&self, marker: TxnMarker, partitions: &[TopicPartition]) -> Vec<Result<(), ErrorCode>> {
        let (batch, transaction) = match marker_batch(&marker, self.clock.now().wall_ms) {
            Ok(made) => made,
            Err(error) => return partitions.iter().map(|_| Err(error)).collect(),
        };
        let is_of_groups = |partition: &&TopicPartition| &*partition.topic == GROUP_METADATA_TOPIC;
        let part = |partition: &TopicPartition| AppendPart {
            partition: partition.clone(),
            records: batch.clone(),
            transaction,
        };
        let appended = self.replicas.append(AppendRequest {
            acks: -1,
            origin: Origin::Coordinator,
            produce_version: None,
            timeout_ms: COMMIT_TIMEOUT_MS,
            commit: CommitBy::Thread,
            parts: partitions.iter().filter(|p| !is_of_groups(p)).map(part).collect(),
        });
        let of_groups = partitions.iter().filter(is_of_groups);
        let completed = join_all(of_groups.map(|p| self.groups.complete_transaction(p.partition, marker)));
        let (appended, completed) = tokio::join!(appended.committed(), completed);
        let (mut appended, mut completed) = (appended.into_iter(), completed.into_iter());
        let result = |partition: &TopicPartition| {
            let result = match is_of_groups(&partition) {
                true => completed.next(),
                false => appended.next().map(|result| result.map(|_| ()).map_err(|error| error.code())),
            };
            result.unwrap_or(Err(ErrorCode::UnknownServerError))
        };
        partitions.iter().map(result).collect()
    }

    fn exists(&self, partition: &TopicPartition) -> bool {
        self.metadata.load().topics.partition(&partition.topic, partition.partition).is_some()
    }
}

/// As the coordinator is given it.
pub(crate) struct CoordinatorMarkers(pub(crate) Arc<LocalMarkers>);

impl MarkerWriter for CoordinatorMarkers {
    fn write_markers(
        &self,
        marker: TxnMarker,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<Vec<Result<(), ErrorCode>>> {
        let markers = Arc::clone(&self.0);
        Box::pin(async move {
            let mut results = markers.write(marker, &partitions).await;
            for (partition, result) in partitions.iter().zip(&mut results) {
                if result.is_err() && !markers.exists(partition) {
                    // Its topic was deleted: there is nobody to tell.
                    *result = Ok(());
                }
            }
            results
        })
    }
}

/// Fresh ids for the coordinator.
pub(crate) struct FreshIds(pub(crate) Arc<ProducerIds>);

impl ProducerIdSource for FreshIds {
    fn next(&self) -> BoxFuture<Result<i64, ErrorCode>> {
        let ids = Arc::clone(&self.0);
        // Whatever the controller's trouble is, the client has only to ask again.
        Box::pin(async move { ids.next().await.map_err(|_| ErrorCode::CoordinatorLoadInProgress) })
    }
}
