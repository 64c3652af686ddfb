//! Applying records to an image: the only code that changes one, the same for the controller, for brokers and at start.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_common::{StateMachine, Uuid};
use milena_protocol::stored::metadata::{
    AccessControlEntryRecord, BrokerRegistrationChangeRecord, ClientQuotaRecord, MetadataRecord, PartitionChangeRecord,
    PartitionRecord, RegisterBrokerRecord, RegisterControllerRecord,
};

use super::topics::NO_LEADER_CHANGE;
use super::{
    AccessControlEntry, BrokerRegistration, ConfigResource, ControllerRegistration, DelegationToken, Endpoint,
    LeaderRecoveryState, METADATA_VERSION, MetadataImage, PartitionImage, QuotaEntity, ResourceType, ScramCredential,
    VersionRange,
};

/// A record that does not fit the state it is applied to: the log was not written by a correct controller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("record refers to topic {0}, which does not exist")]
    UnknownTopic(Uuid),
    #[error("record refers to a topic named {0}, which does not exist")]
    UnknownTopicName(String),
    #[error("record refers to partition {partition} of topic {topic_id}, which does not exist")]
    UnknownPartition { topic_id: Uuid, partition: i32 },
    #[error("record refers to broker {0}, which is not registered")]
    UnknownBroker(i32),
    #[error("record refers to broker {id} at epoch {epoch}, which is registered at epoch {registered}")]
    BrokerEpoch { id: i32, epoch: i64, registered: i64 },
    #[error("topic {name} is created with id {id}, but exists")]
    DuplicateTopic { name: String, id: Uuid },
    #[error("record holds {field} = {value}, which means nothing")]
    BadValue { field: &'static str, value: i64 },
}

/// What a record asks of the log around it, beyond the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    Begin,
    End,
    Abort,
}

/// The transaction step a record stands for, if it is one (KIP-868).
pub(crate) fn transaction_step(record: &MetadataRecord) -> Option<Transaction> {
    match record {
        MetadataRecord::BeginTransaction(_) => Some(Transaction::Begin),
        MetadataRecord::EndTransaction(_) => Some(Transaction::End),
        MetadataRecord::AbortTransaction(_) => Some(Transaction::Abort),
        _ => None,
    }
}

impl StateMachine for MetadataImage {
    type Record = MetadataRecord;

    /// A record that does not fit is reported and changes nothing, as in Kafka's loaders.
    fn replay(&mut self, offset: i64, record: &MetadataRecord) {
        if let Err(error) = self.apply(record) {
            tracing::error!(offset, %error, "metadata record cannot be applied");
        }
        self.provenance.last_offset = offset;
    }
}

impl MetadataImage {
    /// Applies one record, whatever its offset.
    pub(crate) fn apply(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        match record {
            MetadataRecord::Topic(r) => {
                if let Some(id) = self.topics.id_of(&r.name) {
                    return Err(ReplayError::DuplicateTopic { name: r.name.clone(), id });
                }
                self.topics.insert_topic(&r.name, r.topic_id);
            }
            MetadataRecord::RemoveTopic(r) => {
                let topic = self.topics.remove_topic(r.topic_id).ok_or(ReplayError::UnknownTopic(r.topic_id))?;
                self.configs.remove_resource(&ConfigResource::topic(&*topic.name));
            }
            MetadataRecord::Partition(r) => {
                let image = new_partition(r)?;
                if !self.topics.put_partition(r.topic_id, r.partition_id, image) {
                    return Err(ReplayError::UnknownTopic(r.topic_id));
                }
            }
            MetadataRecord::PartitionChange(r) => {
                let unknown = ReplayError::UnknownPartition { topic_id: r.topic_id, partition: r.partition_id };
                let old = self.topics.partition_by_id(r.topic_id, r.partition_id).ok_or(unknown)?;
                let new = changed_partition(old, r)?;
                self.topics.put_partition(r.topic_id, r.partition_id, new);
            }
            MetadataRecord::ClearElr(r) => self.clear_elr(&r.topic_name)?,
            MetadataRecord::RegisterBroker(r) => {
                let broker = registration(r);
                Arc::make_mut(&mut self.cluster).brokers.insert(r.broker_id, Arc::new(broker));
            }
            MetadataRecord::UnregisterBroker(r) => {
                self.check_broker(r.broker_id, r.broker_epoch)?;
                Arc::make_mut(&mut self.cluster).brokers.remove(&r.broker_id);
            }
            MetadataRecord::FenceBroker(r) => self.change_broker(r.id, r.epoch, |broker| broker.fenced = true)?,
            MetadataRecord::UnfenceBroker(r) => self.change_broker(r.id, r.epoch, |broker| broker.fenced = false)?,
            MetadataRecord::BrokerRegistrationChange(r) => self.change_registration(r)?,
            MetadataRecord::RegisterController(r) => {
                let controller = controller_registration(r);
                Arc::make_mut(&mut self.cluster).controllers.insert(r.controller_id, Arc::new(controller));
            }
            MetadataRecord::Config(r) => {
                let kind = ResourceType::from_i8(r.resource_type)
                    .ok_or(ReplayError::BadValue { field: "resource type", value: r.resource_type.into() })?;
                self.configs.set(ConfigResource::new(kind, &*r.resource_name), &r.name, r.value.as_deref());
            }
            MetadataRecord::FeatureLevel(r) => {
                let features = Arc::make_mut(&mut self.features);
                if r.name == METADATA_VERSION {
                    features.metadata_version = r.feature_level;
                } else if r.feature_level == 0 {
                    features.levels.remove(&r.name);
                } else {
                    features.levels.insert(r.name.clone(), r.feature_level);
                }
            }
            MetadataRecord::ZkMigrationState(r) => {
                Arc::make_mut(&mut self.features).zk_migration_state = r.zk_migration_state;
            }
            MetadataRecord::ProducerIds(r) => self.next_producer_id = r.next_producer_id,
            MetadataRecord::ClientQuota(r) => self.set_quota(r),
            MetadataRecord::UserScramCredential(r) => {
                let credential = ScramCredential {
                    salt: own(&r.salt),
                    stored_key: own(&r.stored_key),
                    server_key: own(&r.server_key),
                    iterations: r.iterations,
                };
                Arc::make_mut(&mut self.scram).credentials.insert((r.mechanism, r.name.clone()), credential);
            }
            MetadataRecord::RemoveUserScramCredential(r) => {
                Arc::make_mut(&mut self.scram).credentials.remove(&(r.mechanism, r.name.clone()));
            }
            MetadataRecord::AccessControlEntry(r) => {
                Arc::make_mut(&mut self.acls).entries.insert(r.id, Arc::new(acl(r)));
            }
            MetadataRecord::RemoveAccessControlEntry(r) => {
                Arc::make_mut(&mut self.acls).entries.remove(&r.id);
            }
            MetadataRecord::DelegationToken(r) => {
                let token = DelegationToken {
                    owner: r.owner.clone(),
                    requester: r.requester.clone(),
                    renewers: r.renewers.clone(),
                    issue_timestamp_ms: r.issue_timestamp,
                    max_timestamp_ms: r.max_timestamp,
                    expiration_timestamp_ms: r.expiration_timestamp,
                };
                Arc::make_mut(&mut self.tokens).tokens.insert(r.token_id.clone(), Arc::new(token));
            }
            MetadataRecord::RemoveDelegationToken(r) => {
                Arc::make_mut(&mut self.tokens).tokens.remove(&r.token_id);
            }
            // Transactions are the loader's; the old access control record was never written by a release.
            MetadataRecord::NoOp(_)
            | MetadataRecord::AccessControl(_)
            | MetadataRecord::BeginTransaction(_)
            | MetadataRecord::EndTransaction(_)
            | MetadataRecord::AbortTransaction(_) => {}
        }
        Ok(())
    }

    fn check_broker(&self, id: i32, epoch: i64) -> Result<&Arc<BrokerRegistration>, ReplayError> {
        let broker = self.cluster.broker(id).ok_or(ReplayError::UnknownBroker(id))?;
        if broker.epoch != epoch {
            return Err(ReplayError::BrokerEpoch { id, epoch, registered: broker.epoch });
        }
        Ok(broker)
    }

    fn change_broker(
        &mut self,
        id: i32,
        epoch: i64,
        change: impl FnOnce(&mut BrokerRegistration),
    ) -> Result<(), ReplayError> {
        let mut broker = BrokerRegistration::clone(self.check_broker(id, epoch)?);
        change(&mut broker);
        Arc::make_mut(&mut self.cluster).brokers.insert(id, Arc::new(broker));
        Ok(())
    }

    fn change_registration(&mut self, r: &BrokerRegistrationChangeRecord) -> Result<(), ReplayError> {
        let fenced = tristate("fenced", r.fenced)?;
        let shutting_down = tristate("in controlled shutdown", r.in_controlled_shutdown)?;
        self.change_broker(r.broker_id, r.broker_epoch, |broker| {
            broker.fenced = fenced.unwrap_or(broker.fenced);
            broker.in_controlled_shutdown = shutting_down.unwrap_or(broker.in_controlled_shutdown);
            if !r.log_dirs.is_empty() {
                broker.log_dirs = sorted(&r.log_dirs);
            }
            if let Some(cordoned) = &r.cordoned_log_dirs {
                broker.cordoned_log_dirs = cordoned.clone();
            }
        })
    }

    fn clear_elr(&mut self, topic_name: &str) -> Result<(), ReplayError> {
        let topics: Vec<_> = if topic_name.is_empty() {
            self.topics.iter().cloned().collect()
        } else {
            let unknown = || ReplayError::UnknownTopicName(topic_name.to_owned());
            vec![self.topics.by_name(topic_name).cloned().ok_or_else(unknown)?]
        };
        for topic in topics {
            for (&partition, image) in &topic.partitions {
                if image.elr.is_empty() && image.last_known_elr.is_empty() {
                    continue;
                }
                let mut cleared = PartitionImage::clone(image);
                cleared.elr.clear();
                cleared.last_known_elr.clear();
                cleared.partition_epoch += 1;
                self.topics.put_partition(topic.id, partition, cleared);
            }
        }
        Ok(())
    }

    fn set_quota(&mut self, r: &ClientQuotaRecord) {
        let entity: QuotaEntity = r.entity.iter().map(|e| (e.entity_type.clone(), e.entity_name.clone())).collect();
        let entities = &mut Arc::make_mut(&mut self.quotas).entities;
        let values = entities.entry(entity.clone()).or_default();
        if r.remove {
            values.remove(&r.key);
        } else {
            values.insert(r.key.clone(), r.value);
        }
        if values.is_empty() {
            entities.remove(&entity);
        }
    }
}

/// The records of -1 (to false), 0 (no change) and 1 (to true).
fn tristate(field: &'static str, value: i8) -> Result<Option<bool>, ReplayError> {
    match value {
        -1 => Ok(Some(false)),
        0 => Ok(None),
        1 => Ok(Some(true)),
        _ => Err(ReplayError::BadValue { field, value: value.into() }),
    }
}

/// A copy: the record is a slice of a whole batch, which a credential must not keep alive.
fn own(bytes: &bytes::Bytes) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes)
}

fn sorted(ids: &[Uuid]) -> Vec<Uuid> {
    let mut ids = ids.to_vec();
    ids.sort();
    ids
}

fn recovery_state(value: i8) -> Result<LeaderRecoveryState, ReplayError> {
    LeaderRecoveryState::from_i8(value)
        .ok_or(ReplayError::BadValue { field: "leader recovery state", value: value.into() })
}

fn new_partition(r: &PartitionRecord) -> Result<PartitionImage, ReplayError> {
    // Records from before JBOD name no directories.
    let directories =
        if r.directories.is_empty() { vec![Uuid::MIGRATING_DIR; r.replicas.len()] } else { r.directories.clone() };
    Ok(PartitionImage {
        replicas: r.replicas.clone(),
        directories,
        isr: r.isr.clone(),
        removing_replicas: r.removing_replicas.clone(),
        adding_replicas: r.adding_replicas.clone(),
        elr: r.eligible_leader_replicas.clone().unwrap_or_default(),
        last_known_elr: r.last_known_elr.clone().unwrap_or_default(),
        leader: r.leader,
        leader_recovery_state: recovery_state(r.leader_recovery_state)?,
        leader_epoch: r.leader_epoch,
        partition_epoch: r.partition_epoch,
    })
}

fn changed_partition(old: &PartitionImage, r: &PartitionChangeRecord) -> Result<PartitionImage, ReplayError> {
    let mut new = old.clone();
    let set = |list: &mut Vec<i32>, change: &Option<Vec<i32>>| {
        if let Some(change) = change {
            list.clone_from(change);
        }
    };
    set(&mut new.isr, &r.isr);
    set(&mut new.replicas, &r.replicas);
    set(&mut new.removing_replicas, &r.removing_replicas);
    set(&mut new.adding_replicas, &r.adding_replicas);
    set(&mut new.elr, &r.eligible_leader_replicas);
    set(&mut new.last_known_elr, &r.last_known_elr);
    if let Some(directories) = &r.directories {
        new.directories.clone_from(directories);
    }
    if r.leader != NO_LEADER_CHANGE {
        new.leader = r.leader;
        new.leader_epoch += 1;
    }
    if r.leader_recovery_state != -1 {
        new.leader_recovery_state = recovery_state(r.leader_recovery_state)?;
    }
    new.partition_epoch += 1;
    Ok(new)
}

fn registration(r: &RegisterBrokerRecord) -> BrokerRegistration {
    let endpoint = |e: &milena_protocol::stored::metadata::register_broker_record::BrokerEndpoint| Endpoint {
        name: e.name.clone(),
        host: e.host.clone(),
        port: e.port,
        security_protocol: e.security_protocol,
    };
    let features: BTreeMap<_, _> = r
        .features
        .iter()
        .map(|f| (f.name.clone(), VersionRange { min: f.min_supported_version, max: f.max_supported_version }))
        .collect();
    BrokerRegistration {
        id: r.broker_id,
        epoch: r.broker_epoch,
        incarnation_id: r.incarnation_id,
        endpoints: r.end_points.iter().map(endpoint).collect(),
        features,
        rack: r.rack.clone(),
        fenced: r.fenced,
        in_controlled_shutdown: r.in_controlled_shutdown,
        is_migrating_zk_broker: r.is_migrating_zk_broker,
        log_dirs: sorted(&r.log_dirs),
        cordoned_log_dirs: r.cordoned_log_dirs.clone().unwrap_or_default(),
    }
}

fn controller_registration(r: &RegisterControllerRecord) -> ControllerRegistration {
    let endpoint = |e: &milena_protocol::stored::metadata::register_controller_record::ControllerEndpoint| Endpoint {
        name: e.name.clone(),
        host: e.host.clone(),
        port: e.port,
        security_protocol: e.security_protocol,
    };
    ControllerRegistration {
        id: r.controller_id,
        incarnation_id: r.incarnation_id,
        zk_migration_ready: r.zk_migration_ready,
        endpoints: r.end_points.iter().map(endpoint).collect(),
        features: r
            .features
            .iter()
            .map(|f| (f.name.clone(), VersionRange { min: f.min_supported_version, max: f.max_supported_version }))
            .collect(),
    }
}

fn acl(r: &AccessControlEntryRecord) -> AccessControlEntry {
    AccessControlEntry {
        resource_type: r.resource_type,
        resource_name: r.resource_name.clone(),
        pattern_type: r.pattern_type,
        principal: r.principal.clone(),
        host: r.host.clone(),
        operation: r.operation,
        permission_type: r.permission_type,
    }
}
