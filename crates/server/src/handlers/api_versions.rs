//! ApiVersions (key 18), versions 0-4: what this node serves on the listener that the client came by, and the cluster's features
//! (KIP-35, KIP-511, KIP-584).

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_metadata::versions::supported_features;
use milena_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use milena_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use milena_protocol::{ApiKey, ErrorCode};

use super::{SERVED, served};
use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext, Software};

pub(crate) struct ApiVersions;

impl Handler for ApiVersions {
    type Request = ApiVersionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    async fn handle(
        cx: &RequestContext,
        broker: &Arc<Broker>,
        request: ApiVersionsRequest,
    ) -> Reply<ApiVersionsResponse> {
        if cx.api_version >= 3
            && !(is_software_text(&request.client_software_name) && is_software_text(&request.client_software_version))
        {
            return Reply::Now(ApiVersionsResponse {
                error_code: ErrorCode::InvalidRequest.code(),
                ..Default::default()
            });
        }
        if cx.api_version >= 3 {
            // what was said first counts
            let (name, version) = (request.client_software_name, request.client_software_version);
            let _ = cx.connection.software.set(Software { name, version });
        }
        let advertised = SERVED.iter().filter(|api| (api.is_advertised)(broker));
        let api_keys = advertised.filter_map(|api| {
            let versions = served(api.key, cx.connection.kind)?;
            Some(ApiVersion { api_key: api.key.code(), min_version: *versions.start(), max_version: *versions.end() })
        });
        let image = broker.metadata.image();
        // before version 4 a client takes a minimum of 0 for a mistake (KIP-1022)
        let supported = supported_features().into_iter().filter(|(_, range)| cx.api_version >= 4 || range.min > 0);
        Reply::Now(ApiVersionsResponse {
            api_keys: api_keys.collect(),
            supported_features: supported
                .map(|(name, range)| SupportedFeatureKey { name, min_version: range.min, max_version: range.max })
                .collect(),
            finalized_features_epoch: image.last_offset(),
            finalized_features: (image.features.finalized().into_iter())
                .map(|(name, level)| FinalizedFeatureKey {
                    name: name.to_owned(),
                    max_version_level: level,
                    min_version_level: level,
                })
                .collect(),
            ..Default::default()
        })
    }
}

/// The answer to a version that is not served: in the form of version 0, with the versions that are.
pub(super) fn unsupported_version() -> ApiVersionsResponse {
    let versions = ApiVersions::VERSIONS;
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![ApiVersion {
            api_key: ApiKey::ApiVersions.code(),
            min_version: *versions.start(),
            max_version: *versions.end(),
        }],
        ..Default::default()
    }
}

/// Letters and digits, with dots and dashes between them.
fn is_software_text(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let outer = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    outer(bytes.first()) && outer(bytes.last()) && bytes.iter().all(|&b| inner(b))
}
