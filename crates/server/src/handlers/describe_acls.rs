//! DescribeAcls (key 29), versions 0-3: access control entries (KIP-140, KIP-290). Without an authorizer there are none, and the answer is
//! SECURITY_DISABLED.
//!
//! Gap: there is no authorizer to configure yet.

use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_protocol::ErrorCode;
use milena_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DescribeAcls;

impl Handler for DescribeAcls {
    type Request = DescribeAclsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    async fn handle(
        _cx: &RequestContext,
        _broker: &Arc<Broker>,
        request: DescribeAclsRequest,
    ) -> Reply<DescribeAclsResponse> {
        let DescribeAclsRequest { resource_type_filter, pattern_type_filter, operation, permission_type, .. } = request;
        if [resource_type_filter, pattern_type_filter, operation, permission_type].contains(&0) {
            return Reply::Close("a filter for access control entries names what is unknown");
        }
        Reply::Now(DescribeAclsResponse {
            error_code: ErrorCode::SecurityDisabled.code(),
            error_message: Some("No Authorizer is configured on the broker".to_owned()),
            ..Default::default()
        })
    }
}
