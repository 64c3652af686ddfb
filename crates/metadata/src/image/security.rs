//! Quotas, SCRAM credentials, access control entries and delegation tokens of the image.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use milena_common::Uuid;

/// A quota's entity: type (`user`, `client-id`, `ip`) to name, `None` for the default of that type.
pub type QuotaEntity = BTreeMap<String, Option<String>>;

/// Client quotas: per entity, per key (`producer_byte_rate`, ...).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuotasImage {
    pub entities: BTreeMap<QuotaEntity, BTreeMap<String, f64>>,
}

/// What the server keeps of a SCRAM password (RFC 5802).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    pub salt: Bytes,
    pub stored_key: Bytes,
    pub server_key: Bytes,
    pub iterations: i32,
}

impl std::fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ScramCredential {{ iterations: {}, .. }}", self.iterations)
    }
}

/// SCRAM credentials by mechanism (1 SHA-256, 2 SHA-512) and user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScramImage {
    pub credentials: BTreeMap<(i8, String), ScramCredential>,
}

/// One access control entry; the small integers are the protocol's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessControlEntry {
    pub resource_type: i8,
    pub resource_name: String,
    pub pattern_type: i8,
    pub principal: String,
    pub host: String,
    pub operation: i8,
    pub permission_type: i8,
}

/// Access control entries by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AclsImage {
    pub entries: BTreeMap<Uuid, Arc<AccessControlEntry>>,
}

/// One delegation token (KIP-48). Times in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegationToken {
    pub owner: String,
    pub requester: String,
    pub renewers: Vec<String>,
    pub issue_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub expiration_timestamp_ms: i64,
}

/// Delegation tokens by token id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokensImage {
    pub tokens: BTreeMap<String, Arc<DelegationToken>>,
}
