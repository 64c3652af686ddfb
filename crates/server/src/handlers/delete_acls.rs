//! DeleteAcls (key 31), versions 0-3: removes access control entries (KIP-140, KIP-290). Without an authorizer the answer is SECURITY_DISABLED
//! for each filter.
//!
//! Gap: there is no authorizer to configure yet.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::delete_acls_request::DeleteAclsFilter;
use milena_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use milena_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DeleteAcls;

impl Handler for DeleteAcls {
    type Request = DeleteAclsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    async fn handle(
        _cx: &RequestContext,
        _broker: &Arc<Broker>,
        request: DeleteAclsRequest,
    ) -> Reply<DeleteAclsResponse> {
        let unknown = |f: &DeleteAclsFilter| {
            [f.resource_type_filter, f.pattern_type_filter, f.operation, f.permission_type].contains(&0)
        };
        if request.filters.iter().any(unknown) {
            return Reply::Close("a filter for access control entries names what is unknown");
        }
        let refused = |_| DeleteAclsFilterResult {
            error_code: ErrorCode::SecurityDisabled.code(),
            error_message: Some("No Authorizer is configured.".to_owned()),
            matching_acls: Vec::new(),
        };
        let filter_results = request.filters.into_iter().map(refused).collect();
        Reply::Now(DeleteAclsResponse { filter_results, ..Default::default() })
    }
}
