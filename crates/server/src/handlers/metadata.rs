//! Metadata (key 3), versions 0-13: the brokers and the topics of the cluster, as a client of this listener reaches them (KIP-4, KIP-430,
//! KIP-516). Makes topics that are asked for (`auto.create.topics.enable`).
//!
//! Unlike Kafka, which answers UNKNOWN_TOPIC_OR_PARTITION to whoever makes it create a topic, the answer waits until the topic is there.
//! Without an authorizer everybody may do everything, and the authorized operations say so. Topics come sorted by name.
//! A topic without name and id is refused with INVALID_REQUEST where Kafka stumbles (UNKNOWN_SERVER_ERROR).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::Uuid;
use milena_metadata::MetadataImage;
use milena_metadata::image::{PartitionImage, TopicImage};
use milena_protocol::ErrorCode;
use milena_protocol::messages::metadata_request::MetadataRequestTopic;
use milena_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use milena_protocol::messages::{MetadataRequest, MetadataResponse};

use crate::auto_topics::is_internal;
use crate::broker::Broker;
use crate::operations;
use crate::request::{Handler, Reply, RequestContext};
use crate::topology::Topology;

pub(crate) struct Metadata;

impl Handler for Metadata {
    type Request = MetadataRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=13;

    async fn handle(cx: &RequestContext, broker: &Arc<Broker>, request: MetadataRequest) -> Reply<MetadataResponse> {
        let version = cx.api_version;
        if let Some(refused) = refuse(&request, version) {
            return Reply::Now(refused);
        }
        let image = broker.metadata.image();
        let missing = to_create(broker, &image, &request, version);
        if missing.is_empty() {
            return Reply::Now(answer(broker, &image, &request, cx));
        }
        let (cx, broker) = (cx.clone(), Arc::clone(broker));
        Reply::Later(Box::pin(async move {
            let config = broker.config.load_full();
            broker.auto_topics.create(&config, missing).await;
            answer(&broker, &broker.metadata.image(), &request, &cx)
        }))
    }
}

/// What a request asks for.
enum Asked<'a> {
    All,
    Ids(BTreeSet<Uuid>),
    Names(BTreeSet<&'a str>),
}

fn asked(request: &MetadataRequest, version: i16) -> Asked<'_> {
    match &request.topics {
        None => Asked::All,
        Some(topics) if topics.is_empty() && version == 0 => Asked::All,
        Some(topics) => {
            let ids: BTreeSet<Uuid> = topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_zero()).collect();
            match ids.is_empty() {
                true => Asked::Names(topics.iter().filter_map(|topic| topic.name.as_deref()).collect()),
                false => Asked::Ids(ids),
            }
        }
    }
}

/// Every topic has a name or, since version 12, an id; versions 10 and 11 have a field for ids that must not be used.
fn refuse(request: &MetadataRequest, version: i16) -> Option<MetadataResponse> {
    let topics = request.topics.as_deref().unwrap_or_default();
    let wrong = |topic: &MetadataRequestTopic| match version {
        ..12 => topic.name.is_none() || !topic.topic_id.is_zero(),
        _ => topic.name.is_none() && topic.topic_id.is_zero(),
    };
    if !topics.iter().any(wrong) {
        return None;
    }
    let refused = |topic: &MetadataRequestTopic| MetadataResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(topic.name.clone().unwrap_or_default()),
        topic_id: topic.topic_id,
        ..Default::default()
    };
    Some(MetadataResponse {
        topics: topics.iter().map(refused).collect(),
        error_code: if version >= 13 { ErrorCode::InvalidRequest.code() } else { 0 },
        ..Default::default()
    })
}

/// The topics that this request makes.
fn to_create(broker: &Broker, image: &MetadataImage, request: &MetadataRequest, version: i16) -> Vec<String> {
    if !request.allow_auto_topic_creation || !broker.config.load().auto_create_topics_enable {
        return Vec::new();
    }
    match asked(request, version) {
        Asked::Names(names) => names
            .into_iter()
            .filter(|name| image.topics.by_name(name).is_none() && is_topic_name(name))
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

fn answer(broker: &Broker, image: &MetadataImage, request: &MetadataRequest, cx: &RequestContext) -> MetadataResponse {
    let version = cx.api_version;
    let topology = Topology::new(image, &cx.connection.listener);
    let existing = |topic: &Arc<TopicImage>| existing_topic(&topology, topic, version);
    let mut topics: Vec<MetadataResponseTopic> = match asked(request, version) {
        Asked::All => image.topics.sorted_by_name().into_iter().map(existing).collect(),
        Asked::Ids(ids) => ids
            .into_iter()
            .map(|id| match image.topics.by_id(id) {
                Some(topic) => existing(topic),
                None => MetadataResponseTopic {
                    error_code: ErrorCode::UnknownTopicId.code(),
                    name: None,
                    topic_id: id,
                    ..Default::default()
                },
            })
            .collect(),
        Asked::Names(names) => names
            .into_iter()
            .map(|name| image.topics.by_name(name).map_or_else(|| missing_topic(name), existing))
            .collect(),
    };
    if request.include_topic_authorized_operations {
        let named = topics.iter_mut().filter(|topic| topic.name.is_some());
        named.for_each(|topic| topic.topic_authorized_operations = operations::TOPIC);
    }
    MetadataResponse {
        brokers: topology
            .brokers()
            .map(|(broker, endpoint)| MetadataResponseBroker {
                node_id: broker.id,
                host: endpoint.host.clone(),
                port: endpoint.port.into(),
                rack: broker.rack.clone(),
            })
            .collect(),
        cluster_id: Some(broker.cluster_id.clone()),
        controller_id: topology.some_broker(),
        topics,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => operations::CLUSTER,
            false => operations::NOT_ASKED,
        },
        ..Default::default()
    }
}

fn existing_topic(topology: &Topology<'_>, topic: &TopicImage, version: i16) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: topic.partitions.iter().map(|(&n, image)| partition(topology, n, image, version)).collect(),
        ..Default::default()
    }
}

fn missing_topic(name: &str) -> MetadataResponseTopic {
    let error = match is_topic_name(name) {
        true => ErrorCode::UnknownTopicOrPartition,
        false => ErrorCode::InvalidTopicException,
    };
    MetadataResponseTopic {
        error_code: error.code(),
        name: Some(name.to_owned()),
        is_internal: is_internal(name),
        ..Default::default()
    }
}

fn is_topic_name(name: &str) -> bool {
    milena_metadata::controller::check_topic_name(name).is_ok()
}

/// Before version 6 a client does not know LISTENER_NOT_FOUND; version 0 is not told of replicas it cannot reach.
fn partition(topology: &Topology<'_>, index: i32, image: &PartitionImage, version: i16) -> MetadataResponsePartition {
    let reachable = |ids: &[i32]| -> Vec<i32> {
        ids.iter().copied().filter(|&id| version > 0 || topology.endpoint(id).is_some()).collect()
    };
    let (replica_nodes, isr_nodes) = (reachable(&image.replicas), reachable(&image.isr));
    let (leader_id, error) = match topology.leader(image) {
        Ok(leader) => {
            let hidden = replica_nodes.len() < image.replicas.len() || isr_nodes.len() < image.isr.len();
            (leader, if hidden { ErrorCode::ReplicaNotAvailable } else { ErrorCode::None })
        }
        Err(ErrorCode::ListenerNotFound) if version < 6 => (-1, ErrorCode::LeaderNotAvailable),
        Err(error) => (-1, error),
    };
    MetadataResponsePartition {
        error_code: error.code(),
        partition_index: index,
        leader_id,
        leader_epoch: image.leader_epoch,
        replica_nodes,
        isr_nodes,
        offline_replicas: topology.offline(image),
    }
}
