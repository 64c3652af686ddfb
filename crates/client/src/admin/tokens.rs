//! Delegation tokens (KIP-48, KIP-373).

use bytes::Bytes;
use milena_protocol::messages::{
    CreateDelegationTokenRequest, DescribeDelegationTokenRequest, ExpireDelegationTokenRequest,
    RenewDelegationTokenRequest, create_delegation_token_request::CreatableRenewers,
    describe_delegation_token_request::DescribeDelegationTokenOwner,
};

use super::Admin;
use crate::error::ClientError;

/// A principal: its type (`User`) and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub kind: String,
    pub name: String,
}

/// A token and who may do what with it. Times are wall times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegationToken {
    pub token_id: String,
    pub hmac: Bytes,
    pub owner: Principal,
    /// Who asked for it.
    pub requester: Principal,
    pub renewers: Vec<Principal>,
    pub issued_ms: i64,
    pub expires_ms: i64,
    pub max_ms: i64,
}

impl Admin {
    /// Makes a token that lives at most so long (-1: as the broker is configured).
    pub async fn create_token(
        &self,
        owner: Option<&Principal>,
        renewers: &[Principal],
        max_lifetime_ms: i64,
    ) -> Result<DelegationToken, ClientError> {
        let request = CreateDelegationTokenRequest {
            owner_principal_type: owner.map(|owner| owner.kind.clone()),
            owner_principal_name: owner.map(|owner| owner.name.clone()),
            renewers: renewers
                .iter()
                .map(|p| CreatableRenewers {
                    principal_type: p.kind.clone(),
                    principal_name: p.name.clone(),
                    ..Default::default()
                })
                .collect(),
            max_lifetime_ms,
            ..Default::default()
        };
        let r = self.client.request_controller("createDelegationToken", &request).await?;
        ClientError::check(r.error_code, None, "token")?;
        let owner = Principal { kind: r.principal_type, name: r.principal_name };
        // before version 3 who asked was the owner
        let requester = match r.token_requester_principal_name.as_str() {
            "" => owner.clone(),
            _ => Principal { kind: r.token_requester_principal_type, name: r.token_requester_principal_name },
        };
        Ok(DelegationToken {
            token_id: r.token_id,
            hmac: r.hmac,
            owner,
            requester,
            renewers: renewers.to_vec(),
            issued_ms: r.issue_timestamp_ms,
            expires_ms: r.expiry_timestamp_ms,
            max_ms: r.max_timestamp_ms,
        })
    }

    /// Renews a token for so long (-1: as the broker is configured); the result is when it expires.
    pub async fn renew_token(&self, hmac: Bytes, period_ms: i64) -> Result<i64, ClientError> {
        let request = RenewDelegationTokenRequest { hmac, renew_period_ms: period_ms, ..Default::default() };
        let response = self.client.request_controller("renewDelegationToken", &request).await?;
        ClientError::check(response.error_code, None, "token")?;
        Ok(response.expiry_timestamp_ms)
    }

    /// Lets a token expire after so long (negative: at once); the result is when.
    pub async fn expire_token(&self, hmac: Bytes, period_ms: i64) -> Result<i64, ClientError> {
        let request = ExpireDelegationTokenRequest { hmac, expiry_time_period_ms: period_ms, ..Default::default() };
        let response = self.client.request_controller("expireDelegationToken", &request).await?;
        ClientError::check(response.error_code, None, "token")?;
        Ok(response.expiry_timestamp_ms)
    }

    /// The tokens of owners (`None`: all that the caller may see).
    pub async fn describe_tokens(&self, owners: Option<&[Principal]>) -> Result<Vec<DelegationToken>, ClientError> {
        let owner = |p: &Principal| DescribeDelegationTokenOwner {
            principal_type: p.kind.clone(),
            principal_name: p.name.clone(),
            ..Default::default()
        };
        let request = DescribeDelegationTokenRequest {
            owners: owners.map(|owners| owners.iter().map(owner).collect()),
            ..Default::default()
        };
        let response = self.client.request_any("describeDelegationToken", &request).await?;
        ClientError::check(response.error_code, None, "tokens")?;
        Ok(response
            .tokens
            .into_iter()
            .map(|t| DelegationToken {
                token_id: t.token_id,
                hmac: t.hmac,
                owner: Principal { kind: t.principal_type, name: t.principal_name },
                requester: Principal { kind: t.token_requester_principal_type, name: t.token_requester_principal_name },
                renewers: (t.renewers.into_iter())
                    .map(|r| Principal { kind: r.principal_type, name: r.principal_name })
                    .collect(),
                issued_ms: t.issue_timestamp,
                expires_ms: t.expiry_timestamp,
                max_ms: t.max_timestamp,
            })
            .collect())
    }
}
