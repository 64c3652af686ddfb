//! Access control lists (KIP-140, KIP-290). Types and operations are the wire's numbers, as an authorizer of the future may know more.

use milena_protocol::messages::{
    CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest, create_acls_request as create,
    delete_acls_request as delete,
};

use super::Admin;
use crate::error::ClientError;

/// What is protected: a type, a name, and how the name is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclMatch {
    pub resource_type: i8,
    pub name: String,
    pub pattern_type: i8,
}

/// Who may, or may not, do what from where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclEntry {
    pub principal: String,
    pub host: String,
    pub operation: i8,
    pub permission: i8,
}

/// An entry on a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    pub resource: AclMatch,
    pub entry: AclEntry,
}

/// Which entries are meant; `None` is any name, 1 is any type, operation, pattern or permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclFilter {
    pub resource_type: i8,
    pub name: Option<String>,
    pub pattern_type: i8,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: i8,
    pub permission: i8,
}

impl Admin {
    /// The entries that match.
    pub async fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, ClientError> {
        let request = DescribeAclsRequest {
            resource_type_filter: filter.resource_type,
            resource_name_filter: filter.name.clone(),
            pattern_type_filter: filter.pattern_type,
            principal_filter: filter.principal.clone(),
            host_filter: filter.host.clone(),
            operation: filter.operation,
            permission_type: filter.permission,
            ..Default::default()
        };
        let response = self.client.request_any("describeAcls", &request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "acls")?;
        let mut found = Vec::new();
        for resource in response.resources {
            let name = AclMatch {
                resource_type: resource.resource_type,
                name: resource.resource_name,
                pattern_type: resource.pattern_type,
            };
            found.extend(resource.acls.into_iter().map(|acl| Acl {
                resource: name.clone(),
                entry: AclEntry {
                    principal: acl.principal,
                    host: acl.host,
                    operation: acl.operation,
                    permission: acl.permission_type,
                },
            }));
        }
        Ok(found)
    }

    /// Adds entries; the first refusal is the error.
    pub async fn create_acls(&self, acls: &[Acl]) -> Result<(), ClientError> {
        let request = CreateAclsRequest {
            creations: acls
                .iter()
                .map(|acl| create::AclCreation {
                    resource_type: acl.resource.resource_type,
                    resource_name: acl.resource.name.clone(),
                    resource_pattern_type: acl.resource.pattern_type,
                    principal: acl.entry.principal.clone(),
                    host: acl.entry.host.clone(),
                    operation: acl.entry.operation,
                    permission_type: acl.entry.permission,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let response = self.client.request_controller("createAcls", &request).await?;
        response.results.iter().try_for_each(|r| ClientError::check(r.error_code, r.error_message.as_deref(), "acl"))
    }

    /// Removes the entries that match; the result is what was removed.
    pub async fn delete_acls(&self, filters: &[AclFilter]) -> Result<Vec<Acl>, ClientError> {
        let request = DeleteAclsRequest {
            filters: filters
                .iter()
                .map(|filter| delete::DeleteAclsFilter {
                    resource_type_filter: filter.resource_type,
                    resource_name_filter: filter.name.clone(),
                    pattern_type_filter: filter.pattern_type,
                    principal_filter: filter.principal.clone(),
                    host_filter: filter.host.clone(),
                    operation: filter.operation,
                    permission_type: filter.permission,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let response = self.client.request_controller("deleteAcls", &request).await?;
        let mut removed = Vec::new();
        for result in response.filter_results {
            ClientError::check(result.error_code, result.error_message.as_deref(), "acls")?;
            for acl in result.matching_acls {
                ClientError::check(acl.error_code, acl.error_message.as_deref(), &acl.resource_name)?;
                removed.push(Acl {
                    resource: AclMatch {
                        resource_type: acl.resource_type,
                        name: acl.resource_name,
                        pattern_type: acl.pattern_type,
                    },
                    entry: AclEntry {
                        principal: acl.principal,
                        host: acl.host,
                        operation: acl.operation,
                        permission: acl.permission_type,
                    },
                });
            }
        }
        Ok(removed)
    }
}
