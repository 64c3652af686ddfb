//! CreateAcls (key 30), versions 0-3: adds access control entries (KIP-140, KIP-290). Without an authorizer the answer is SECURITY_DISABLED for
//! each.
//!
//! Gap: there is no authorizer to configure yet.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::create_acls_response::AclCreationResult;
use milena_protocol::messages::{CreateAclsRequest, CreateAclsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct CreateAcls;

impl Handler for CreateAcls {
    type Request = CreateAclsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    async fn handle(
        _cx: &RequestContext,
        _broker: &Arc<Broker>,
        request: CreateAclsRequest,
    ) -> Reply<CreateAclsResponse> {
        let unknown = |c: &milena_protocol::messages::create_acls_request::AclCreation| {
            [c.resource_type, c.resource_pattern_type, c.operation, c.permission_type].contains(&0)
        };
        if request.creations.iter().any(unknown) {
            return Reply::Close("an access control entry names what is unknown");
        }
        let refused = |_| AclCreationResult {
            error_code: ErrorCode::SecurityDisabled.code(),
            error_message: Some("No Authorizer is configured.".to_owned()),
        };
        Reply::Now(CreateAclsResponse {
            results: request.creations.into_iter().map(refused).collect(),
            ..Default::default()
        })
    }
}
