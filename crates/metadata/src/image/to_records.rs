//! Writing an image as records: the content of a snapshot. Replaying them on an empty image gives the image back.

use milena_common::Uuid;
use milena_protocol::stored::metadata::{
    AccessControlEntryRecord, ClientQuotaRecord, ConfigRecord, DelegationTokenRecord, FeatureLevelRecord,
    MetadataRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, RegisterControllerRecord, TopicRecord,
    UserScramCredentialRecord, ZkMigrationStateRecord,
    client_quota_record::EntityData,
    register_broker_record::{BrokerEndpoint, BrokerFeature},
    register_controller_record::{ControllerEndpoint, ControllerFeature},
};

use crate::versions::fit_to_level;

use super::{BrokerRegistration, ControllerRegistration, METADATA_VERSION, MetadataImage, PartitionImage};

impl MetadataImage {
    /// The records of a snapshot, in Kafka's order: features first, since they decide how the rest is read.
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let mut out = Vec::new();
        self.feature_records(&mut out);
        out.extend(self.cluster.brokers.values().map(|broker| MetadataRecord::RegisterBroker(broker_record(broker))));
        out.extend(self.cluster.controllers.values().map(|c| MetadataRecord::RegisterController(controller_record(c))));
        for topic in self.topics.sorted_by_name() {
            out.push(MetadataRecord::Topic(TopicRecord { name: topic.name.to_string(), topic_id: topic.id }));
            for (&partition, image) in &topic.partitions {
                out.push(MetadataRecord::Partition(partition_record(topic.id, partition, image)));
            }
        }
        let mut configs: Vec<_> = self.configs.iter().collect();
        configs.sort_by_key(|(resource, _)| *resource);
        for (resource, values) in configs {
            out.extend(values.iter().map(|(name, value)| {
                MetadataRecord::Config(ConfigRecord {
                    resource_type: resource.kind as i8,
                    resource_name: resource.name.clone(),
                    name: name.clone(),
                    value: Some(value.clone()),
                })
            }));
        }
        for (entity, values) in &self.quotas.entities {
            let entity =
                || entity.iter().map(|(t, n)| EntityData { entity_type: t.clone(), entity_name: n.clone() }).collect();
            out.extend(values.iter().map(|(key, &value)| {
                MetadataRecord::ClientQuota(ClientQuotaRecord {
                    entity: entity(),
                    key: key.clone(),
                    value,
                    remove: false,
                })
            }));
        }
        if self.next_producer_id > 0 {
            let record = ProducerIdsRecord { broker_id: -1, broker_epoch: -1, next_producer_id: self.next_producer_id };
            out.push(MetadataRecord::ProducerIds(record));
        }
        self.security_records(&mut out);
        out.iter_mut().for_each(|record| fit_to_level(record, self.features.metadata_version));
        out
    }

    fn feature_records(&self, out: &mut Vec<MetadataRecord>) {
        let feature = |name: &str, level| {
            MetadataRecord::FeatureLevel(FeatureLevelRecord { name: name.to_owned(), feature_level: level })
        };
        if self.features.metadata_version > 0 {
            out.push(feature(METADATA_VERSION, self.features.metadata_version));
        }
        out.extend(self.features.levels.iter().map(|(name, &level)| feature(name, level)));
        if self.features.zk_migration_state != 0 {
            let zk_migration_state = self.features.zk_migration_state;
            out.push(MetadataRecord::ZkMigrationState(ZkMigrationStateRecord { zk_migration_state }));
        }
    }

    fn security_records(&self, out: &mut Vec<MetadataRecord>) {
        out.extend(self.acls.entries.iter().map(|(&id, ace)| {
            MetadataRecord::AccessControlEntry(AccessControlEntryRecord {
                id,
                resource_type: ace.resource_type,
                resource_name: ace.resource_name.clone(),
                pattern_type: ace.pattern_type,
                principal: ace.principal.clone(),
                host: ace.host.clone(),
                operation: ace.operation,
                permission_type: ace.permission_type,
            })
        }));
        out.extend(self.scram.credentials.iter().map(|((mechanism, user), credential)| {
            MetadataRecord::UserScramCredential(UserScramCredentialRecord {
                name: user.clone(),
                mechanism: *mechanism,
                salt: credential.salt.clone(),
                stored_key: credential.stored_key.clone(),
                server_key: credential.server_key.clone(),
                iterations: credential.iterations,
            })
        }));
        out.extend(self.tokens.tokens.iter().map(|(token_id, token)| {
            MetadataRecord::DelegationToken(DelegationTokenRecord {
                owner: token.owner.clone(),
                requester: token.requester.clone(),
                renewers: token.renewers.clone(),
                issue_timestamp: token.issue_timestamp_ms,
                max_timestamp: token.max_timestamp_ms,
                expiration_timestamp: token.expiration_timestamp_ms,
                token_id: token_id.clone(),
            })
        }));
    }
}

fn broker_record(broker: &BrokerRegistration) -> RegisterBrokerRecord {
    RegisterBrokerRecord {
        broker_id: broker.id,
        is_migrating_zk_broker: broker.is_migrating_zk_broker,
        incarnation_id: broker.incarnation_id,
        broker_epoch: broker.epoch,
        end_points: broker
            .endpoints
            .iter()
            .map(|e| BrokerEndpoint {
                name: e.name.clone(),
                host: e.host.clone(),
                port: e.port,
                security_protocol: e.security_protocol,
            })
            .collect(),
        features: broker
            .features
            .iter()
            .map(|(name, range)| BrokerFeature {
                name: name.clone(),
                min_supported_version: range.min,
                max_supported_version: range.max,
            })
            .collect(),
        rack: broker.rack.clone(),
        fenced: broker.fenced,
        in_controlled_shutdown: broker.in_controlled_shutdown,
        log_dirs: broker.log_dirs.clone(),
        cordoned_log_dirs: (!broker.cordoned_log_dirs.is_empty()).then(|| broker.cordoned_log_dirs.clone()),
    }
}

pub(crate) fn controller_record(controller: &ControllerRegistration) -> RegisterControllerRecord {
    RegisterControllerRecord {
        controller_id: controller.id,
        incarnation_id: controller.incarnation_id,
        zk_migration_ready: controller.zk_migration_ready,
        end_points: controller
            .endpoints
            .iter()
            .map(|e| ControllerEndpoint {
                name: e.name.clone(),
                host: e.host.clone(),
                port: e.port,
                security_protocol: e.security_protocol,
            })
            .collect(),
        features: controller
            .features
            .iter()
            .map(|(name, range)| ControllerFeature {
                name: name.clone(),
                min_supported_version: range.min,
                max_supported_version: range.max,
            })
            .collect(),
    }
}

pub(crate) fn partition_record(topic_id: Uuid, partition: i32, image: &PartitionImage) -> PartitionRecord {
    let some = |list: &Vec<i32>| (!list.is_empty()).then(|| list.clone());
    PartitionRecord {
        partition_id: partition,
        topic_id,
        replicas: image.replicas.clone(),
        isr: image.isr.clone(),
        removing_replicas: image.removing_replicas.clone(),
        adding_replicas: image.adding_replicas.clone(),
        leader: image.leader,
        leader_recovery_state: image.leader_recovery_state as i8,
        leader_epoch: image.leader_epoch,
        partition_epoch: image.partition_epoch,
        directories: image.directories.clone(),
        eligible_leader_replicas: some(&image.elr),
        last_known_elr: some(&image.last_known_elr),
    }
}
