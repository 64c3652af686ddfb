//! Levels of features: what the cluster may be raised to, and what it may go back to (KIP-584, KIP-778, KIP-1022).

use milena_common::Outcome;
use milena_protocol::ErrorCode;
use milena_protocol::messages::update_features_request::FeatureUpdateKey;
use milena_protocol::messages::update_features_response::UpdatableFeatureResult;
use milena_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use milena_protocol::stored::metadata::{ConfigRecord, FeatureLevelRecord, MetadataRecord};

use super::replication::cluster_defaults;
use super::{ApiError, Cx, Decision};
use crate::image::{METADATA_VERSION, ResourceType};
use crate::versions::{gates, metadata_changed_since, supported_features};

/// The quorum keeps its own level, in the log's control records.
const KRAFT_VERSION: &str = "kraft.version";
const ELR_VERSION: &str = "eligible.leader.replicas.version";
const MIN_ISR: &str = "min.insync.replicas";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UpgradeType {
    Upgrade,
    SafeDowngrade,
    UnsafeDowngrade,
}

/// All or nothing: the first refusal is everybody's. `version` is that of the request, `kraft_version` the quorum's level.
pub(crate) fn update(
    cx: &mut Cx<'_>,
    request: &UpdateFeaturesRequest,
    version: i16,
    kraft_version: i16,
) -> Decision<UpdateFeaturesResponse> {
    let mut records = Vec::new();
    for wanted in &request.feature_updates {
        match check(cx, request, wanted, version, kraft_version) {
            Ok(true) => {
                let record =
                    FeatureLevelRecord { name: wanted.feature.clone(), feature_level: wanted.max_version_level };
                if wanted.feature == ELR_VERSION && wanted.max_version_level > 0 {
                    records.extend(elr_records(cx));
                }
                records.push(MetadataRecord::FeatureLevel(record));
            }
            Ok(false) => {}
            Err(reason) => {
                let message =
                    format!("The update failed for all features since the following feature had an error: {reason}");
                return Err(ApiError::new(ErrorCode::InvalidUpdateVersion, message));
            }
        }
    }
    if request.validate_only {
        records.clear();
    }
    // since version 2 there is nothing to say of the single features
    let told = request.feature_updates.iter().filter(|_| version < 2);
    let results = told.map(|wanted| UpdatableFeatureResult {
        feature: wanted.feature.clone(),
        error_code: 0,
        error_message: Some("NONE".to_owned()),
    });
    let results = results.collect();
    Ok(Outcome::new(records, UpdateFeaturesResponse { error_message: None, results, ..Default::default() }))
}

fn upgrade_type(wanted: &FeatureUpdateKey, version: i16) -> Option<UpgradeType> {
    match (version, wanted.allow_downgrade, wanted.upgrade_type) {
        // Kafka 4.3 does not look at what version 0 allows
        (0, ..) | (1.., _, 1) => Some(UpgradeType::Upgrade),
        (1.., _, 2) => Some(UpgradeType::SafeDowngrade),
        (1.., _, 3) => Some(UpgradeType::UnsafeDowngrade),
        _ => None,
    }
}

/// Whether the level changes, or why it may not.
fn check(
    cx: &Cx<'_>,
    request: &UpdateFeaturesRequest,
    wanted: &FeatureUpdateKey,
    version: i16,
    kraft_version: i16,
) -> Result<bool, String> {
    let (name, level) = (wanted.feature.as_str(), wanted.max_version_level);
    let invalid = |why: &str| format!("Invalid update version {level} for feature {name}. {why}");
    let kind = upgrade_type(wanted, version)
        .ok_or_else(|| invalid("The controller does not support the given upgrade type."))?;
    if level < 0 {
        return Err(invalid("A feature version cannot be less than 0."));
    }
    let own = cx.config.node_id;
    match supported_features().get(name) {
        None => return Err(invalid(&format!("Local controller {own} does not support this feature."))),
        Some(range) if !range.contains(level) => {
            let (min, max) = (range.min, range.max);
            return Err(invalid(&format!("Local controller {own} only supports versions {min}-{max}")));
        }
        Some(_) => {}
    }
    if name == KRAFT_VERSION {
        let same = level == kraft_version;
        return if same { Ok(false) } else { Err(invalid("This controller cannot change the quorum's version.")) };
    }
    for broker in cx.image.cluster.brokers.values() {
        match broker.features.get(name) {
            Some(range) if !range.contains(level) => {
                let (id, min, max) = (broker.id, range.min, range.max);
                return Err(invalid(&format!("Broker {id} only supports versions {min}-{max}")));
            }
            None if level > 0 => {
                return Err(invalid(&format!("Broker {} does not support this feature.", broker.id)));
            }
            _ => {}
        }
    }
    let current = cx.image.features.level(name);
    if level < current && kind == UpgradeType::Upgrade {
        return Err(invalid(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.",
        ));
    }
    if level > current && kind != UpgradeType::Upgrade {
        return Err(invalid("Can't downgrade to a newer version."));
    }
    if name == METADATA_VERSION && level < current {
        let refused = |why: &str| format!("Unsupported metadata.version downgrade from {current} to {level}. {why}");
        if metadata_changed_since(level, current) {
            return Err(refused(match kind {
                UpgradeType::UnsafeDowngrade => "Unsafe metadata downgrade is not supported in this version.",
                _ => "Refusing to perform the requested downgrade because it might delete metadata information.",
            }));
        }
    }
    check_dependency(cx, request, name, level)?;
    Ok(level != current)
}

/// Eligible leader replicas need records that older metadata do not have.
fn check_dependency(cx: &Cx<'_>, request: &UpdateFeaturesRequest, name: &str, level: i16) -> Result<(), String> {
    let after = |feature: &str| {
        let updates = request.feature_updates.iter().rev();
        let asked = updates.filter(|update| update.feature == feature).map(|update| update.max_version_level).next();
        asked.unwrap_or_else(|| cx.image.features.level(feature))
    };
    let elr = if name == ELR_VERSION { level } else { after(ELR_VERSION) };
    let metadata = if name == METADATA_VERSION { level } else { after(METADATA_VERSION) };
    if [ELR_VERSION, METADATA_VERSION].contains(&name) && elr > 0 && metadata < gates::ELR {
        return Err(format!(
            "{ELR_VERSION} could not be set to {elr} because it depends on {METADATA_VERSION} level {}",
            gates::ELR
        ));
    }
    Ok(())
}

/// With eligible leader replicas the minimum of in-sync replicas is a setting of the cluster, and of no broker alone.
fn elr_records(cx: &Cx<'_>) -> Vec<MetadataRecord> {
    let record = |resource_name: String, value: Option<String>| {
        let (resource_type, name) = (ResourceType::Broker as i8, MIN_ISR.to_owned());
        MetadataRecord::Config(ConfigRecord { resource_type, resource_name, name, value })
    };
    let mut records = Vec::new();
    if !cluster_defaults(cx.image).contains_key(MIN_ISR) {
        records.push(record(String::new(), Some(cx.config.broker.min_insync_replicas.to_string())));
    }
    for &id in cx.image.cluster.brokers.keys() {
        if cx.image.configs.broker(id).contains_key(MIN_ISR) {
            records.push(record(id.to_string(), None));
        }
    }
    records
}
