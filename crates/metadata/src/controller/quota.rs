//! Client quotas: what may be limited, and for whom (KIP-546, KIP-599, KIP-612).

use std::collections::BTreeSet;

use milena_common::Outcome;
use milena_protocol::ErrorCode;
use milena_protocol::messages::alter_client_quotas_request::{EntityData as Asked, EntryData as AskedEntry};
use milena_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use milena_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use milena_protocol::stored::metadata::client_quota_record::EntityData as RecordEntity;
use milena_protocol::stored::metadata::{ClientQuotaRecord, MetadataRecord};

use super::{ApiError, Cx, Decision};
use crate::image::QuotaEntity;

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// What kind of number a quota is.
enum Kind {
    Long,
    Int,
    Double,
}

/// Errors are per entity; of two entries for the same one, the first counts and the answer is the second's error.
pub(crate) fn alter(cx: &mut Cx<'_>, request: &AlterClientQuotasRequest) -> Decision<AlterClientQuotasResponse> {
    let mut records = Vec::new();
    let mut entries: Vec<(QuotaEntity, EntryData)> = Vec::new();
    for asked in &request.entries {
        let entity: QuotaEntity = asked.entity.iter().map(|e| (e.entity_type.clone(), e.entity_name.clone())).collect();
        let known = entries.iter_mut().find(|(known, _)| *known == entity);
        let altered = if known.is_some() { Err(duplicate(&entity)) } else { alter_one(cx, &entity, asked) };
        let (error_code, error_message) = match altered {
            Ok(new) => {
                records.extend(new);
                (0, None)
            }
            Err(error) => (error.code.code(), Some(error.text().to_owned())),
        };
        match known {
            Some((_, entry)) => (entry.error_code, entry.error_message) = (error_code, error_message),
            None => {
                let entry = EntryData { error_code, error_message, entity: named(&entity) };
                entries.push((entity, entry));
            }
        }
    }
    if request.validate_only {
        records.clear();
    }
    let entries = entries.into_iter().map(|(_, entry)| entry).collect();
    Ok(Outcome::new(records, AlterClientQuotasResponse { entries, ..Default::default() }))
}

fn named(entity: &QuotaEntity) -> Vec<EntityData> {
    let part =
        |(kind, name): (&String, &Option<String>)| EntityData { entity_type: kind.clone(), entity_name: name.clone() };
    entity.iter().map(part).collect()
}

fn alter_one(cx: &Cx<'_>, entity: &QuotaEntity, asked: &AskedEntry) -> Result<Vec<MetadataRecord>, ApiError> {
    check_entity(&asked.entity)?;
    let mut keys = BTreeSet::new();
    if asked.ops.iter().any(|op| !keys.insert(op.key.as_str())) {
        return Err(duplicate(entity));
    }
    let present = cx.image.quotas.entities.get(entity);
    let mut records = Vec::new();
    for op in &asked.ops {
        let before = present.and_then(|values| values.get(&op.key));
        if op.remove {
            if before.is_some() {
                records.push(record(entity, &op.key, 0.0, true));
            }
            continue;
        }
        check_value(entity, &op.key, op.value)?;
        if before.is_none_or(|before| before.to_bits() != op.value.to_bits()) {
            records.push(record(entity, &op.key, op.value, false));
        }
    }
    Ok(records)
}

fn duplicate(entity: &QuotaEntity) -> ApiError {
    let parts: Vec<String> =
        entity.iter().map(|(kind, name)| format!("{kind}={}", name.as_deref().unwrap_or("null"))).collect();
    invalid(format!("Ignoring duplicate entity ClientQuotaEntity(entries={{{}}})", parts.join(", ")))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

fn check_entity(parts: &[Asked]) -> Result<(), ApiError> {
    if parts.is_empty() {
        return Err(invalid("Invalid empty client quota entity".to_owned()));
    }
    for part in parts {
        let kind = part.entity_type.as_str();
        if ![USER, CLIENT_ID, IP].contains(&kind) {
            return Err(invalid(format!("Unhandled client quota entity type: {kind}")));
        }
        if part.entity_name.as_deref() == Some("") {
            return Err(invalid(format!("Empty {kind} not supported")));
        }
    }
    let has = |kind: &str| parts.iter().any(|part| part.entity_type == kind);
    if has(IP) && (has(USER) || has(CLIENT_ID)) {
        let message =
            "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId".to_owned();
        return Err(invalid(message));
    }
    Ok(())
}

fn check_value(entity: &QuotaEntity, key: &str, value: f64) -> Result<(), ApiError> {
    let kind = match (entity.contains_key(IP), key) {
        (false, "producer_byte_rate" | "consumer_byte_rate") => Kind::Long,
        (false, "request_percentage" | "controller_mutation_rate") => Kind::Double,
        (true, "connection_creation_rate") => Kind::Int,
        _ => return Err(invalid(format!("Invalid configuration key {key}"))),
    };
    if value <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    let (limit, name) = match kind {
        Kind::Double => return Ok(()),
        Kind::Long => (i64::MAX as f64, "a LONG"),
        Kind::Int => (f64::from(i32::MAX), "an INT"),
    };
    if value > limit {
        return Err(invalid(format!("Proposed value for {key} is too large for {name}.")));
    }
    if (value - value.round()).abs() > 1e-6 {
        return Err(invalid(format!("{key} cannot be a fractional value.")));
    }
    Ok(())
}

fn record(entity: &QuotaEntity, key: &str, value: f64, remove: bool) -> MetadataRecord {
    let part = |(kind, name): (&String, &Option<String>)| RecordEntity {
        entity_type: kind.clone(),
        entity_name: name.clone(),
    };
    let entity = entity.iter().map(part).collect();
    MetadataRecord::ClientQuota(ClientQuotaRecord { entity, key: key.to_owned(), value, remove })
}
