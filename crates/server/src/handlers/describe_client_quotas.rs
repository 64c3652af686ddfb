//! DescribeClientQuotas (key 48), versions 0-1: what users, client ids and addresses may do (KIP-546, KIP-612). Entities come sorted.
//!
//! Without an authorizer everybody may see them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_metadata::ApiError;
use milena_metadata::image::QuotaEntity;
use milena_protocol::ErrorCode;
use milena_protocol::messages::describe_client_quotas_request::ComponentData;
use milena_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use milena_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DescribeClientQuotas;

impl Handler for DescribeClientQuotas {
    type Request = DescribeClientQuotasRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: DescribeClientQuotasRequest,
    ) -> Reply<DescribeClientQuotasResponse> {
        if let Err(error) = check(&request.components) {
            return Reply::Now(DescribeClientQuotasResponse {
                error_code: error.code.code(),
                error_message: error.message,
                entries: None,
                ..Default::default()
            });
        }
        let image = broker.metadata.image();
        let matching = image.quotas.entities.iter().filter(|(entity, _)| matches(entity, &request));
        let entries = matching.map(|(entity, values)| EntryData {
            entity: (entity.iter())
                .map(|(kind, name)| EntityData { entity_type: kind.clone(), entity_name: name.clone() })
                .collect(),
            values: values.iter().map(|(key, &value)| ValueData { key: key.clone(), value }).collect(),
        });
        Reply::Now(DescribeClientQuotasResponse { entries: Some(entries.collect()), ..Default::default() })
    }
}

/// Whether an entity has what each component asks for; if strict, nothing else.
fn matches(entity: &QuotaEntity, request: &DescribeClientQuotasRequest) -> bool {
    let has = |component: &ComponentData| match (entity.get(&component.entity_type), component.match_type) {
        (None, _) => false,
        (Some(name), 0) => *name == component.r#match,
        (Some(name), 1) => name.is_none(),
        (Some(_), _) => true,
    };
    request.components.iter().all(has) && (!request.strict || entity.len() == request.components.len())
}

fn check(components: &[ComponentData]) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    for (index, component) in components.iter().enumerate() {
        let kind = component.entity_type.as_str();
        match kind {
            "" => return invalid("Invalid empty entity type.".to_owned()),
            "user" | "client-id" | "ip" => {}
            _ => {
                let message = format!("Unsupported entity type {kind}");
                return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
            }
        }
        if components[..index].iter().any(|before| before.entity_type == kind) {
            return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
        }
        let also = |name: &str| invalid(format!("Request specified {name}, but also specified a match string."));
        match (component.match_type, &component.r#match) {
            (0, None) => {
                return invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.".to_owned());
            }
            (1, Some(_)) => return also("MATCH_TYPE_DEFAULT"),
            (2, Some(_)) => return also("MATCH_TYPE_SPECIFIED"),
            (0..=2, _) => {}
            (other, _) => return invalid(format!("Unknown match type {other}")),
        }
    }
    let has = |kind: &str| components.iter().any(|component| component.entity_type == kind);
    if has("ip") && components.len() > 1 {
        let message = "Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component.";
        return invalid(message.to_owned());
    }
    Ok(())
}
