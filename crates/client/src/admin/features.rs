//! Features of the cluster and their levels (KIP-584).

use std::collections::BTreeMap;

use milena_protocol::messages::{ApiVersionsRequest, UpdateFeaturesRequest, update_features_request::FeatureUpdateKey};

use super::Admin;
use crate::error::ClientError;

/// What a node supports, and what the cluster has agreed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeatureMetadata {
    /// Name to lowest and highest level that the node knows.
    pub supported: BTreeMap<String, (i16, i16)>,
    /// Name to the level in force.
    pub finalized: BTreeMap<String, i16>,
    /// Since which offset of the metadata log; `None` when the node does not know.
    pub epoch: Option<i64>,
}

/// In which direction a level may change (KIP-778).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum UpgradeType {
    Upgrade = 1,
    SafeDowngrade = 2,
    UnsafeDowngrade = 3,
}

impl Admin {
    /// The features, from one node or from whichever answers.
    pub async fn describe_features(&self, node: Option<i32>) -> Result<FeatureMetadata, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: "milena".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        let response = match node {
            Some(node) => self.client.request_node("describeFeatures", node, &request).await?,
            None => self.client.request_any("describeFeatures", &request).await?,
        };
        ClientError::check(response.error_code, None, "features")?;
        Ok(FeatureMetadata {
            supported: (response.supported_features.into_iter())
                .map(|f| (f.name, (f.min_version, f.max_version)))
                .collect(),
            finalized: response.finalized_features.into_iter().map(|f| (f.name, f.max_version_level)).collect(),
            epoch: (response.finalized_features_epoch >= 0).then_some(response.finalized_features_epoch),
        })
    }

    /// Changes levels of features: all of them, or none. Or only says whether that could be done.
    pub async fn update_features(
        &self,
        updates: &[(String, i16)],
        kind: UpgradeType,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let request = UpdateFeaturesRequest {
            timeout_ms: self.timeout_ms(),
            feature_updates: updates
                .iter()
                .map(|(feature, level)| FeatureUpdateKey {
                    feature: feature.clone(),
                    max_version_level: *level,
                    upgrade_type: kind as i8,
                    ..Default::default()
                })
                .collect(),
            validate_only,
            ..Default::default()
        };
        let response = self.client.request_controller("updateFeatures", &request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), "features")?;
        // before version 2 each feature had its own answer
        response
            .results
            .iter()
            .try_for_each(|r| ClientError::check(r.error_code, r.error_message.as_deref(), &r.feature))
    }
}
