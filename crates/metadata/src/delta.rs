//! What differs between two images, for those who act on changes instead of on everything.
//!
//! A delta is computed from the images themselves, so it is right after a record, a thousand records or a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use milena_common::Uuid;

use crate::image::{ConfigResource, MetadataImage, PartitionImage, TopicImage};

/// One partition that appeared or changed.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionDelta {
    pub topic_id: Uuid,
    pub topic: Arc<str>,
    pub partition: i32,
    /// `None` when the partition is new.
    pub old: Option<Arc<PartitionImage>>,
    pub new: Arc<PartitionImage>,
}

/// The difference between `previous` and the image published with it.
#[derive(Debug, Clone)]
pub struct MetadataDelta {
    /// The image before; empty at the first publication.
    pub previous: Arc<MetadataImage>,
    /// New topics, whose partitions are in `changed_partitions` too.
    pub created_topics: Vec<Arc<TopicImage>>,
    /// As they were.
    pub deleted_topics: Vec<Arc<TopicImage>>,
    /// New and changed partitions, by topic id and number.
    pub changed_partitions: Vec<PartitionDelta>,
    /// Ids of brokers that registered, changed or were removed.
    pub changed_brokers: BTreeSet<i32>,
    /// Resources whose overrides changed.
    pub changed_configs: BTreeSet<ConfigResource>,
    pub features_changed: bool,
    pub producer_ids_changed: bool,
    pub quotas_changed: bool,
    pub scram_changed: bool,
    pub acls_changed: bool,
    pub tokens_changed: bool,
}

impl MetadataDelta {
    pub fn between(previous: &Arc<MetadataImage>, image: &MetadataImage) -> MetadataDelta {
        let mut delta = MetadataDelta {
            previous: previous.clone(),
            created_topics: Vec::new(),
            deleted_topics: Vec::new(),
            changed_partitions: Vec::new(),
            changed_brokers: BTreeSet::new(),
            changed_configs: previous
                .configs
                .map()
                .changes(image.configs.map())
                .into_iter()
                .map(|(r, _, _)| r.clone())
                .collect(),
            features_changed: previous.features != image.features,
            producer_ids_changed: previous.next_producer_id != image.next_producer_id,
            quotas_changed: previous.quotas != image.quotas,
            scram_changed: previous.scram != image.scram,
            acls_changed: previous.acls != image.acls,
            tokens_changed: previous.tokens != image.tokens,
        };
        for (_, old, new) in previous.topics.map().changes(image.topics.map()) {
            match (old, new) {
                (old, Some(new)) => {
                    if old.is_none() {
                        delta.created_topics.push(new.clone());
                    }
                    delta.add_partitions(old, new);
                }
                (Some(old), None) => delta.deleted_topics.push(old.clone()),
                (None, None) => {}
            }
        }
        delta.changed_partitions.sort_by_key(|changed| (changed.topic_id, changed.partition));
        if !Arc::ptr_eq(&previous.cluster, &image.cluster) {
            delta.changed_brokers = differing_keys(&previous.cluster.brokers, &image.cluster.brokers);
        }
        delta
    }

    fn add_partitions(&mut self, old: Option<&Arc<TopicImage>>, new: &Arc<TopicImage>) {
        for (&partition, image) in &new.partitions {
            let before = old.and_then(|topic| topic.partitions.get(&partition));
            if before != Some(image) {
                self.changed_partitions.push(PartitionDelta {
                    topic_id: new.id,
                    topic: new.name.clone(),
                    partition,
                    old: before.cloned(),
                    new: image.clone(),
                });
            }
        }
    }

    /// Nothing that anybody acts on differs.
    pub fn is_empty(&self) -> bool {
        self.created_topics.is_empty()
            && self.deleted_topics.is_empty()
            && self.changed_partitions.is_empty()
            && self.changed_brokers.is_empty()
            && self.changed_configs.is_empty()
            && !self.features_changed
            && !self.producer_ids_changed
            && !self.quotas_changed
            && !self.scram_changed
            && !self.acls_changed
            && !self.tokens_changed
    }
}

fn differing_keys<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> BTreeSet<K> {
    let gone_or_changed = old.iter().filter(|(key, value)| new.get(key) != Some(value));
    let added = new.iter().filter(|(key, _)| !old.contains_key(key));
    gone_or_changed.chain(added).map(|(key, _)| key.clone()).collect()
}
