//! What coordinators know of the cluster: the newest metadata image, and whether topics changed since somebody last looked.
//!
//! Set by the broker's metadata publisher, read by shards at the beginning of an operation. Decides nothing.

use std::sync::Arc;

use milena_metadata::image::MetadataImage;
use parking_lot::RwLock;

/// A shared view. Cheap to clone; all clones see the same.
#[derive(Clone, Default)]
pub(crate) struct ClusterView {
    newest: Arc<RwLock<Cluster>>,
}

/// The cluster at one moment.
#[derive(Clone, Default)]
pub(crate) struct Cluster {
    pub(crate) image: Arc<MetadataImage>,
    /// Raised whenever topics, their replicas or racks may have changed.
    pub(crate) topics_version: u64,
}

impl ClusterView {
    pub(crate) fn load(&self) -> Cluster {
        self.newest.read().clone()
    }

    pub(crate) fn set(&self, image: Arc<MetadataImage>, topics_changed: bool) {
        let mut newest = self.newest.write();
        newest.image = image;
        newest.topics_version += u64::from(topics_changed);
    }
}
