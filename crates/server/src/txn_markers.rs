//! Where the transaction coordinator reaches the rest of the broker: the partitions that get its markers, and fresh producer ids.
//!
//! Markers for `__consumer_offsets` go through the group coordinator, which must know that the offsets count; all others straight to
//! their logs, here or at the broker that leads them. Never decides when a marker is due. Made by `node.rs` for the
//! `TransactionCoordinator`; WriteTxnMarkers calls it too.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use milena_common::{Clock, TopicPartition};
use milena_coordinator::{BoxFuture, GroupCoordinator, MarkerWriter, ProducerIdSource, TxnMarker};
use milena_log::{CommitBy, Origin};
use milena_metadata::MetadataCache;
use milena_protocol::ErrorCode;
use milena_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use milena_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use milena_replica::{AppendPart, AppendRequest, ReplicaManager};

use crate::auto_topics::GROUP_METADATA_TOPIC;
use crate::coordinator_log::marker_batch;
use crate::peers::Peers;
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

/// As the coordinator is given it: markers go to whichever broker leads a partition.
#[derive(Clone)]
pub(crate) struct CoordinatorMarkers {
    pub(crate) node_id: i32,
    pub(crate) local: Arc<LocalMarkers>,
    pub(crate) peers: Arc<Peers>,
}

impl CoordinatorMarkers {
    /// Partitions by the broker that leads them, with their places among all; those that nobody leads are here, where they are refused.
    fn by_leader(&self, partitions: &[TopicPartition]) -> BTreeMap<i32, Vec<usize>> {
        let image = self.local.metadata.load();
        let mut by_leader = BTreeMap::<i32, Vec<usize>>::new();
        for (place, partition) in partitions.iter().enumerate() {
            let known = image.topics.partition(&partition.topic, partition.partition);
            let leader = known.map(|known| known.leader).filter(|leader| *leader >= 0).unwrap_or(self.node_id);
            by_leader.entry(leader).or_default().push(place);
        }
        by_leader
    }

    async fn write_at(
        &self,
        leader: i32,
        marker: TxnMarker,
        partitions: &[TopicPartition],
    ) -> Vec<Result<(), ErrorCode>> {
        if leader == self.node_id {
            return self.local.write(marker, partitions).await;
        }
        let answer = self.peers.send(leader, request(&marker, partitions)).await;
        let answer = answer.unwrap_or_else(|error| {
            tracing::debug!(leader, %error, "markers are not written yet");
            WriteTxnMarkersResponse::default()
        });
        let told = answer.markers.iter().flat_map(|marker| &marker.topics);
        let told = told
            .flat_map(|topic| topic.partitions.iter().map(move |p| ((&*topic.name, p.partition_index), p.error_code)));
        let told: BTreeMap<(&str, i32), i16> = told.collect();
        let result = |partition: &TopicPartition| match told.get(&(&*partition.topic, partition.partition)) {
            Some(0) => Ok(()),
            Some(code) => Err(ErrorCode::from_code(*code)),
            // whether it is written is not known: it may be written twice
            None => Err(ErrorCode::NotLeaderOrFollower),
        };
        partitions.iter().map(result).collect()
    }
}

fn request(marker: &TxnMarker, partitions: &[TopicPartition]) -> WriteTxnMarkersRequest {
    let topic = |(name, partition_indexes)| WritableTxnMarkerTopic { name, partition_indexes };
    let marker = WritableTxnMarker {
        producer_id: marker.producer_id,
        producer_epoch: marker.producer_epoch,
        transaction_result: marker.committed,
        topics: TopicPartition::by_topic(partitions).into_iter().map(topic).collect(),
        coordinator_epoch: marker.coordinator_epoch,
        transaction_version: i8::try_from(marker.transaction_version).unwrap_or(0),
    };
    WriteTxnMarkersRequest { markers: vec![marker] }
}

impl MarkerWriter for CoordinatorMarkers {
    fn write_markers(
        &self,
        marker: TxnMarker,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<Vec<Result<(), ErrorCode>>> {
        let this = self.clone();
        Box::pin(async move {
            let mut results = vec![Err(ErrorCode::NotLeaderOrFollower); partitions.len()];
            let of_leaders = this.by_leader(&partitions).into_iter().map(|(leader, places)| {
                let these: Vec<TopicPartition> = places.iter().filter_map(|p| partitions.get(*p).cloned()).collect();
                let this = &this;
                async move { (places, this.write_at(leader, marker, &these).await) }
            });
            for (places, written) in join_all(of_leaders).await {
                for (place, result) in places.into_iter().zip(written) {
                    if let Some(slot) = results.get_mut(place) {
                        *slot = result;
                    }
                }
            }
            for (partition, result) in partitions.iter().zip(&mut results) {
                if result.is_err() && !this.local.exists(partition) {
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
