//! Keeps `Broker.config` up to date: the properties file with the cluster's and this broker's dynamic settings on top (KIP-226).
//!
//! Told of every change of the metadata, before those who act on it. Settings that make no sense together leave the old
//! configuration as it is. Owns nothing; made by `node.rs`.

use std::sync::Arc;

use milena_metadata::image::ConfigResource;
use milena_metadata::{MetadataDelta, MetadataImage, MetadataPublisher};

use crate::broker::Broker;
use crate::node::{cleaner_options, set_producer_expiration};

/// See the module.
pub(crate) struct DynamicConfig {
    broker: Arc<Broker>,
}

impl DynamicConfig {
    pub(crate) fn new(broker: Arc<Broker>) -> DynamicConfig {
        DynamicConfig { broker }
    }
}

impl MetadataPublisher for DynamicConfig {
    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>) {
        let node_id = self.broker.node_id;
        let ours = [ConfigResource::broker_default(), ConfigResource::broker(node_id)];
        if !ours.iter().any(|resource| delta.changed_configs.contains(resource)) {
            return;
        }
        let (default, own) = (image.configs.broker_defaults(), image.configs.broker(node_id));
        match self.broker.file_config.with_dynamic(default, own) {
            Ok(config) => {
                let (config, logs) = (Arc::new(config), self.broker.replicas.logs());
                logs.set_cleaner(cleaner_options(&config));
                set_producer_expiration(logs, &config);
                self.broker.replicas.set_config(Arc::clone(&config));
                self.broker.config.store(config);
                tracing::info!(node_id, "dynamic broker configuration applied");
            }
            Err(error) => {
                tracing::error!(node_id, %error, "dynamic broker configuration cannot be used; the old one stays");
            }
        }
    }
}
