//! DescribeCluster (key 60), versions 0-2: the brokers, or on a controller's listener the controllers (KIP-700, KIP-919, KIP-1073).
//!
//! Without an authorizer everybody may see the cluster and do everything with it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_metadata::image::ControllerRegistration;
use milena_metadata::{ApiError, MetadataImage};
use milena_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use milena_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use milena_protocol::{ErrorCode, Listeners};

use crate::broker::Broker;
use crate::operations;
use crate::request::{Handler, Reply, RequestContext};
use crate::topology::Topology;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) struct DescribeCluster;

impl Handler for DescribeCluster {
    type Request = DescribeClusterRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: DescribeClusterRequest,
    ) -> Reply<DescribeClusterResponse> {
        Reply::Now(describe(cx, broker, &request).unwrap_or_else(|error| DescribeClusterResponse {
            error_code: error.code.code(),
            error_message: error.message,
            ..Default::default()
        }))
    }
}

fn describe(
    cx: &RequestContext,
    broker: &Broker,
    request: &DescribeClusterRequest,
) -> Result<DescribeClusterResponse, ApiError> {
    let on_controller = cx.connection.kind == Listeners::CONTROLLER;
    let (here, here_name) = if on_controller { (CONTROLLERS, "CONTROLLER") } else { (BROKERS, "BROKER") };
    let wanted_name = match request.endpoint_type {
        BROKERS => "BROKER",
        CONTROLLERS => "CONTROLLER",
        other => {
            let message = format!("Unsupported endpoint type {other}");
            return Err(ApiError::new(ErrorCode::UnsupportedEndpointType, message));
        }
    };
    if request.endpoint_type != here {
        let message = format!(
            "The request was sent to an endpoint of type {here_name}, but we wanted an endpoint of type {wanted_name}"
        );
        // Version 0 knows no types, nor the error.
        let code = if cx.api_version == 0 { ErrorCode::InvalidRequest } else { ErrorCode::MismatchedEndpointType };
        return Err(ApiError::new(code, message));
    }
    let image = broker.metadata.image();
    let topology = Topology::new(&image, &cx.connection.listener);
    let (controller_id, brokers) = match on_controller {
        true => {
            let leader = if broker.controller.is_active() { broker.node_id } else { -1 };
            (leader, controllers(&image, &cx.connection.listener))
        }
        false => (topology.some_broker(), brokers(&topology, request.include_fenced_brokers)),
    };
    Ok(DescribeClusterResponse {
        endpoint_type: here,
        cluster_id: broker.cluster_id.clone(),
        controller_id,
        brokers,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => operations::CLUSTER,
            false => operations::NOT_ASKED,
        },
        ..Default::default()
    })
}

fn brokers(topology: &Topology<'_>, fenced_too: bool) -> Vec<DescribeClusterBroker> {
    topology
        .registered()
        .filter(|(broker, _)| fenced_too || !broker.fenced)
        .map(|(broker, endpoint)| DescribeClusterBroker {
            broker_id: broker.id,
            host: endpoint.host.clone(),
            port: endpoint.port.into(),
            rack: broker.rack.clone(),
            is_fenced: broker.fenced,
        })
        .collect()
}

fn controllers(image: &MetadataImage, listener: &str) -> Vec<DescribeClusterBroker> {
    let of = |controller: &ControllerRegistration| {
        let endpoint = controller.endpoints.iter().find(|endpoint| endpoint.name == listener)?;
        Some(DescribeClusterBroker {
            broker_id: controller.id,
            host: endpoint.host.clone(),
            port: endpoint.port.into(),
            ..Default::default()
        })
    };
    image.cluster.controllers.values().filter_map(|controller| of(controller)).collect()
}
