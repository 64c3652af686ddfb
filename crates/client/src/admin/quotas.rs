//! Client quotas (KIP-546) and SCRAM credentials (KIP-554).

use bytes::Bytes;
use milena_protocol::messages::{
    AlterClientQuotasRequest, AlterUserScramCredentialsRequest, DescribeClientQuotasRequest,
    DescribeUserScramCredentialsRequest, alter_client_quotas_request as alter,
    alter_user_scram_credentials_request as scram, describe_client_quotas_request::ComponentData,
    describe_user_scram_credentials_request::UserName,
};

use super::Admin;
use crate::error::ClientError;

/// One part of a quota's entity: type (`user`, `client-id`, `ip`) and name (`None`: the default).
pub type QuotaEntity = Vec<(String, Option<String>)>;

/// The limits of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaEntry {
    pub entity: QuotaEntity,
    pub values: Vec<(String, f64)>,
}

/// Which names of an entity type are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaMatch {
    Exact(String),
    Default,
    Any,
}

/// A user's SCRAM mechanism (1: SHA-256, 2: SHA-512) and its iterations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramCredential {
    pub mechanism: i8,
    pub iterations: i32,
}

/// A credential to set. The password is salted by whoever makes this; it does not go over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramUpsertion {
    pub user: String,
    /// 1: SHA-256, 2: SHA-512.
    pub mechanism: i8,
    pub iterations: i32,
    pub salt: Bytes,
    pub salted_password: Bytes,
}

impl Admin {
    /// Sets credentials, and deletes those of (user, mechanism).
    pub async fn alter_scram(&self, set: &[ScramUpsertion], delete: &[(String, i8)]) -> Result<(), ClientError> {
        let request = AlterUserScramCredentialsRequest {
            deletions: delete
                .iter()
                .map(|(name, mechanism)| scram::ScramCredentialDeletion {
                    name: name.clone(),
                    mechanism: *mechanism,
                    ..Default::default()
                })
                .collect(),
            upsertions: set
                .iter()
                .map(|s| scram::ScramCredentialUpsertion {
                    name: s.user.clone(),
                    mechanism: s.mechanism,
                    iterations: s.iterations,
                    salt: s.salt.clone(),
                    salted_password: s.salted_password.clone(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let response = self.client.request_controller("alterUserScramCredentials", &request).await?;
        response.results.iter().try_for_each(|r| ClientError::check(r.error_code, r.error_message.as_deref(), &r.user))
    }

    /// The quotas that match; `strict` leaves out entities with further parts.
    pub async fn describe_quotas(
        &self,
        parts: &[(String, QuotaMatch)],
        strict: bool,
    ) -> Result<Vec<QuotaEntry>, ClientError> {
        let component = |(kind, wanted): &(String, QuotaMatch)| {
            let (match_type, name) = match wanted {
                QuotaMatch::Exact(name) => (0, Some(name.clone())),
                QuotaMatch::Default => (1, None),
                QuotaMatch::Any => (2, None),
            };
            ComponentData { entity_type: kind.clone(), match_type, r#match: name, ..Default::default() }
        };
        let request = DescribeClientQuotasRequest {
            components: parts.iter().map(component).collect(),
            strict,
            ..Default::default()
        };
        let response = self.client.request_any("describeClientQuotas", &request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "quotas")?;
        Ok(response
            .entries
            .unwrap_or_default()
            .into_iter()
            .map(|e| QuotaEntry {
                entity: e.entity.into_iter().map(|p| (p.entity_type, p.entity_name)).collect(),
                values: e.values.into_iter().map(|v| (v.key, v.value)).collect(),
            })
            .collect())
    }

    /// Sets (`Some`) or removes (`None`) limits of one entity.
    pub async fn alter_quotas(&self, entity: &QuotaEntity, ops: &[(String, Option<f64>)]) -> Result<(), ClientError> {
        let request = AlterClientQuotasRequest {
            entries: vec![alter::EntryData {
                entity: entity
                    .iter()
                    .map(|(kind, name)| alter::EntityData {
                        entity_type: kind.clone(),
                        entity_name: name.clone(),
                        ..Default::default()
                    })
                    .collect(),
                ops: ops
                    .iter()
                    .map(|(key, value)| alter::OpData {
                        key: key.clone(),
                        value: value.unwrap_or(0.0),
                        remove: value.is_none(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }],
            validate_only: false,
            ..Default::default()
        };
        let response = self.client.request_controller("alterClientQuotas", &request).await?;
        response.entries.iter().try_for_each(|e| ClientError::check(e.error_code, e.error_message.as_deref(), "quotas"))
    }

    /// The SCRAM credentials of users (`None`: of all), without their secrets.
    pub async fn describe_scram(
        &self,
        users: Option<&[String]>,
    ) -> Result<Vec<(String, Vec<ScramCredential>)>, ClientError> {
        let request = DescribeUserScramCredentialsRequest {
            users: users
                .map(|users| users.iter().map(|u| UserName { name: u.clone(), ..Default::default() }).collect()),
            ..Default::default()
        };
        let response = self.client.request_any("describeUserScramCredentials", &request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "users")?;
        Ok(response
            .results
            .into_iter()
            .filter(|r| r.error_code == 0)
            .map(|r| {
                let infos = r.credential_infos.into_iter();
                (r.user, infos.map(|c| ScramCredential { mechanism: c.mechanism, iterations: c.iterations }).collect())
            })
            .collect())
    }
}
