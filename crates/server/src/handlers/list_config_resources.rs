//! ListConfigResources (key 74), versions 0-1: what can have configurations (KIP-714, KIP-1142). Version 0 lists the client-metrics
//! subscriptions only.
//!
//! Without an authorizer everybody may list them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_metadata::MetadataImage;
use milena_metadata::image::ResourceType;
use milena_protocol::ErrorCode;
use milena_protocol::messages::list_config_resources_response::ConfigResource;
use milena_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};
use crate::topology::Topology;

const ALL: [ResourceType; 5] = [
    ResourceType::Topic,
    ResourceType::Broker,
    ResourceType::BrokerLogger,
    ResourceType::ClientMetrics,
    ResourceType::Group,
];

pub(crate) struct ListConfigResources;

impl Handler for ListConfigResources {
    type Request = ListConfigResourcesRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: ListConfigResourcesRequest,
    ) -> Reply<ListConfigResourcesResponse> {
        let wanted = &request.resource_types;
        let known = |wanted: &i8| ResourceType::from_i8(*wanted).is_some();
        if !wanted.iter().all(known) {
            let error_code = ErrorCode::UnsupportedVersion.code();
            return Reply::Now(ListConfigResourcesResponse { error_code, ..Default::default() });
        }
        let image = broker.metadata.image();
        let asked = |kind: &ResourceType| match cx.api_version {
            0 => *kind == ResourceType::ClientMetrics,
            _ => wanted.is_empty() || wanted.contains(&(*kind as i8)),
        };
        let config_resources = ALL
            .into_iter()
            .filter(asked)
            .flat_map(|kind| names(&image, &cx.connection.listener, kind).into_iter().map(move |name| (kind, name)))
            .map(|(kind, resource_name)| ConfigResource { resource_name, resource_type: kind as i8 })
            .collect();
        Reply::Now(ListConfigResourcesResponse { config_resources, ..Default::default() })
    }
}

fn names(image: &MetadataImage, listener: &str, kind: ResourceType) -> Vec<String> {
    match kind {
        ResourceType::Topic => image.topics.sorted_by_name().iter().map(|topic| topic.name.to_string()).collect(),
        ResourceType::Broker | ResourceType::BrokerLogger => {
            Topology::new(image, listener).registered().map(|(broker, _)| broker.id.to_string()).collect()
        }
        ResourceType::ClientMetrics | ResourceType::Group => {
            let of_kind = image.configs.iter().filter(|(resource, _)| resource.kind == kind);
            let mut names: Vec<String> = of_kind.map(|(resource, _)| resource.name.clone()).collect();
            names.sort_unstable();
            names
        }
    }
}
