//! Leaders and in-sync replicas: what happens to partitions when brokers come and go, and when a leader reports its ISR.

use std::sync::Arc;

use milena_common::{Outcome, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages::alter_partition_request::PartitionData as Wanted;
use milena_protocol::messages::alter_partition_response::{PartitionData, TopicData};
use milena_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use milena_protocol::stored::metadata::{BrokerRegistrationChangeRecord, MetadataRecord};

use super::partition_change::{Election, PartitionChange};
use super::{ApiError, Cx, Decision, cluster, config};
use crate::image::{
    BrokerRegistration, ConfigResource, LeaderRecoveryState, MetadataImage, PartitionImage, TopicImage,
};
use crate::versions::gates;

/// Why partitions are looked at again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BrokerChange {
    /// Leaves every ISR and may not lead.
    pub(crate) removed: Option<i32>,
    /// May lead although the image still shows it fenced.
    pub(crate) added: Option<i32>,
    /// Leaves every ISR and every ELR: it stopped without saying so.
    pub(crate) unclean: Option<i32>,
}

/// A change of one partition that keeps everything as it is; callers set what they want.
pub(crate) fn unchanged<'a>(
    cx: &Cx<'_>,
    topic: &TopicImage,
    partition: i32,
    old: &'a PartitionImage,
    acceptable: &'a dyn Fn(i32) -> bool,
    directory_of_new: &'a dyn Fn(i32) -> Uuid,
) -> PartitionChange<'a> {
    PartitionChange {
        topic_id: topic.id,
        partition,
        old,
        acceptable,
        metadata_version: cx.image.features.metadata_version,
        elr_enabled: cx.image.features.elr_enabled(),
        min_isr: config::min_isr(cx, &topic.name),
        election: if config::unclean_election(cx, &topic.name) { Election::Unclean } else { Election::Online },
        target_isr: old.isr.clone(),
        target_replicas: old.replicas.clone(),
        target_removing: old.removing_replicas.clone(),
        target_adding: old.adding_replicas.clone(),
        target_recovery: None,
        unclean_shutdown: Vec::new(),
        directory_of_new,
    }
}

/// Records for every partition that `concerned` picks.
pub(crate) fn leader_and_isr_updates(
    cx: &Cx<'_>,
    change: BrokerChange,
    concerned: impl Fn(&PartitionImage) -> bool,
) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    let gone = [change.removed, change.unclean];
    for topic in cx.image.topics.iter() {
        for (&partition, old) in &topic.partitions {
            if !concerned(old) {
                continue;
            }
            let acceptable = |id: i32| {
                !gone.contains(&Some(id))
                    && (change.added == Some(id) || cluster::is_active(cx.image, id))
                    && online(cx.image, old, id)
            };
            let directory = |id| cluster::default_directory(cx.image, id);
            let mut update = unchanged(cx, topic, partition, old, &acceptable, &directory);
            update.target_isr.retain(|&id| !gone.contains(&Some(id)));
            update.unclean_shutdown.extend(change.unclean);
            records.extend(update.build().map(MetadataRecord::PartitionChange));
        }
    }
    records
}

pub(crate) fn online(image: &MetadataImage, partition: &PartitionImage, broker_id: i32) -> bool {
    image.cluster.broker(broker_id).is_none_or(|broker| broker.has_online_dir(partition.directory_of(broker_id)))
}

/// A broker is fenced, or stops in good order.
pub(crate) fn broker_fenced(cx: &Cx<'_>, id: i32) -> Vec<MetadataRecord> {
    leader_and_isr_updates(cx, BrokerChange { removed: Some(id), ..Default::default() }, |p| p.isr.contains(&id))
}

/// A broker comes back after it stopped without saying so. Its copies may lack the end of the log.
pub(crate) fn broker_stopped_uncleanly(cx: &Cx<'_>, id: i32) -> Vec<MetadataRecord> {
    if !cx.image.features.elr_enabled() {
        return broker_fenced(cx, id);
    }
    leader_and_isr_updates(cx, BrokerChange { unclean: Some(id), ..Default::default() }, |p| {
        p.isr.contains(&id) || p.elr.contains(&id)
    })
}

/// A broker may lead again.
pub(crate) fn broker_unfenced(cx: &Cx<'_>, id: i32) -> Vec<MetadataRecord> {
    leader_and_isr_updates(cx, BrokerChange { added: Some(id), ..Default::default() }, |p| !p.has_leader())
}

/// Directories of a broker went offline: what is in them has no leader there, and they count as gone until the broker registers anew (KIP-858).
pub(crate) fn directories_failed(cx: &Cx<'_>, broker: &BrokerRegistration, offline: &[Uuid]) -> Vec<MetadataRecord> {
    let (failed, online): (Vec<Uuid>, Vec<Uuid>) = broker.log_dirs.iter().partition(|dir| offline.contains(dir));
    if failed.is_empty() || cx.image.features.metadata_version < gates::DIRECTORIES {
        return Vec::new();
    }
    let id = broker.id;
    let mut records = leader_and_isr_updates(cx, BrokerChange { removed: Some(id), ..Default::default() }, |p| {
        p.isr.contains(&id) && failed.contains(&p.directory_of(id))
    });
    records.push(MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChangeRecord {
        broker_id: id,
        broker_epoch: broker.epoch,
        log_dirs: online,
        ..Default::default()
    }));
    records
}

pub(crate) fn alter_partition(cx: &mut Cx<'_>, request: &AlterPartitionRequest) -> Decision<AlterPartitionResponse> {
    cluster::check_epoch(cx.image, request.broker_id, request.broker_epoch)?;
    let mut records = Vec::new();
    let mut topics = Vec::new();
    for topic in &request.topics {
        let by_id = !topic.topic_id.is_zero();
        let known =
            if by_id { cx.image.topics.by_id(topic.topic_id) } else { cx.image.topics.by_name(&topic.topic_name) };
        let missing = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        let partitions = topic.partitions.iter().map(|wanted| {
            let changed = match known {
                Some(known) => alter_one(cx, request.broker_id, known, wanted, &mut records),
                None => Err(missing.into()),
            };
            changed.unwrap_or_else(|error: ApiError| PartitionData {
                partition_index: wanted.partition_index,
                error_code: error.code.code(),
                ..Default::default()
            })
        });
        let partitions = partitions.collect();
        topics.push(TopicData { topic_name: topic.topic_name.clone(), topic_id: topic.topic_id, partitions });
    }
    Ok(Outcome::new(records, AlterPartitionResponse { topics, ..Default::default() }))
}

fn alter_one(
    cx: &Cx<'_>,
    leader: i32,
    topic: &Arc<TopicImage>,
    wanted: &Wanted,
    records: &mut Vec<MetadataRecord>,
) -> Result<PartitionData, ApiError> {
    let old = topic.partition(wanted.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let isr: Vec<i32> = if wanted.new_isr_with_epochs.is_empty() {
        wanted.new_isr.clone()
    } else {
        wanted.new_isr_with_epochs.iter().map(|state| state.broker_id).collect()
    };
    check_alter(cx.image, leader, old, wanted, &isr)?;
    let acceptable = |id: i32| cluster::is_active(cx.image, id) && online(cx.image, old, id);
    let directory = |id| cluster::default_directory(cx.image, id);
    let mut change = unchanged(cx, topic, wanted.partition_index, old, &acceptable, &directory);
    change.target_isr = isr;
    change.target_recovery = LeaderRecoveryState::from_i8(wanted.leader_recovery_state);
    if let Some(record) = change.build() {
        let moved = record.leader >= 0 && record.leader != leader;
        let reassigned = record.removing_replicas.is_some() || record.adding_replicas.is_some();
        let mut after = cx.image.clone();
        let record = MetadataRecord::PartitionChange(record);
        let applied = after.apply(&record);
        records.push(record);
        if moved && reassigned {
            return Err(ErrorCode::NewLeaderElected.into());
        }
        if applied.is_ok()
            && let Some(new) = after.topics.partition_by_id(topic.id, wanted.partition_index)
        {
            return Ok(answer(wanted.partition_index, new));
        }
    }
    Ok(answer(wanted.partition_index, old))
}

fn answer(partition_index: i32, now: &PartitionImage) -> PartitionData {
    PartitionData {
        partition_index,
        error_code: 0,
        leader_id: now.leader,
        leader_epoch: now.leader_epoch,
        isr: now.isr.clone(),
        leader_recovery_state: now.leader_recovery_state as i8,
        partition_epoch: now.partition_epoch,
    }
}

fn check_alter(
    image: &MetadataImage,
    leader: i32,
    old: &PartitionImage,
    wanted: &Wanted,
    isr: &[i32],
) -> Result<(), ApiError> {
    // A leader that knows more than this controller: this one was replaced.
    if wanted.leader_epoch > old.leader_epoch || wanted.partition_epoch > old.partition_epoch {
        return Err(ErrorCode::NotController.into());
    }
    if wanted.leader_epoch < old.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch.into());
    }
    if leader != old.leader {
        return Err(ErrorCode::InvalidRequest.into());
    }
    if wanted.partition_epoch < old.partition_epoch {
        return Err(ErrorCode::InvalidUpdateVersion.into());
    }
    let duplicate = isr.iter().enumerate().any(|(i, id)| isr.iter().skip(i + 1).any(|other| other == id));
    if duplicate || !isr.contains(&leader) || isr.iter().any(|id| !old.replicas.contains(id)) {
        return Err(ErrorCode::InvalidRequest.into());
    }
    match LeaderRecoveryState::from_i8(wanted.leader_recovery_state) {
        Some(LeaderRecoveryState::Recovering) if isr.len() > 1 => {
            return Err(ErrorCode::InvalidRequest.into());
        }
        Some(LeaderRecoveryState::Recovering) if old.leader_recovery_state == LeaderRecoveryState::Recovered => {
            return Err(ErrorCode::InvalidRequest.into());
        }
        _ => {}
    }
    let ineligible = |id: &i32| {
        let epoch = wanted
            .new_isr_with_epochs
            .iter()
            .find(|state| state.broker_id == *id)
            .map_or(-1, |state| state.broker_epoch);
        image.cluster.broker(*id).is_none_or(|broker| !broker.is_active() || (epoch != -1 && epoch != broker.epoch))
    };
    if isr.iter().any(ineligible) {
        return Err(ErrorCode::IneligibleReplica.into());
    }
    Ok(())
}

/// Dynamic settings of the cluster itself.
pub(crate) fn cluster_defaults(image: &MetadataImage) -> &std::collections::BTreeMap<String, String> {
    image.configs.get(&ConfigResource::broker_default())
}
