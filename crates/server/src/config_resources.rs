//! What a broker says itself to changes of configurations, before the controller is asked.
//!
//! Decides nothing about values: that is the controller's. Called by AlterConfigs and IncrementalAlterConfigs.

use milena_metadata::ApiError;
use milena_metadata::image::ResourceType;
use milena_protocol::ErrorCode;

/// Why this broker does not pass the change of a resource on; `None` if it does.
pub(crate) fn refuse(node_id: i32, kind: i8, name: &str) -> Option<ApiError> {
    let message = match ResourceType::from_i8(kind) {
        // Another broker's settings are changed through that broker, which knows what they mean to it.
        Some(ResourceType::Broker) => match name.parse::<i32>() {
            Ok(id) if id != node_id => format!("Unexpected broker id, expected {node_id}, but received {name}"),
            Err(_) if !name.is_empty() => format!("Node id must be an integer, but it is: {name}"),
            _ => return None,
        },
        Some(ResourceType::ClientMetrics) if name.is_empty() => "Subscription name can't be empty".to_owned(),
        Some(ResourceType::BrokerLogger) | None => format!("Unknown resource type {kind}"),
        Some(_) => return None,
    };
    Some(ApiError::new(ErrorCode::InvalidRequest, message))
}

/// Answers each item of a request: those that this broker answered itself, and the others in the order in which they were passed on.
pub(crate) fn merge(
    own: Vec<Option<Result<(), ApiError>>>,
    passed_on: Vec<(i16, Option<String>)>,
) -> impl Iterator<Item = (i16, Option<String>)> {
    let mut passed_on = passed_on.into_iter();
    own.into_iter().map(move |own| match own {
        Some(Ok(())) => (0, None),
        Some(Err(error)) => (error.code.code(), error.message),
        None => passed_on.next().unwrap_or((ErrorCode::UnknownServerError.code(), None)),
    })
}
