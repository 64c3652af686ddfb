//! Who is told about a new image, and where readers find the newest.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::delta::MetadataDelta;
use crate::image::MetadataImage;

/// Acts on committed metadata: creates partitions, applies configurations, refreshes authorizers.
///
/// Called in registration order, one image after the other, each newer than the last. Must not wait for the controller.
pub trait MetadataPublisher: Send + Sync {
    /// `image` is the newest committed state and `delta` how it differs from the one before. The first call has an
    /// empty image before it.
    fn on_metadata_update(&self, delta: &MetadataDelta, image: &Arc<MetadataImage>);
}

/// The newest published image, readable without a lock. Cheap to clone.
#[derive(Clone)]
pub struct MetadataCache {
    current: Arc<ArcSwap<MetadataImage>>,
}

impl Default for MetadataCache {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl MetadataCache {
    pub fn new(image: Arc<MetadataImage>) -> Self {
        MetadataCache { current: Arc::new(ArcSwap::new(image)) }
    }

    pub fn image(&self) -> Arc<MetadataImage> {
        self.current.load_full()
    }

    /// Without raising the reference count; hold it only for a moment.
    pub fn load(&self) -> arc_swap::Guard<Arc<MetadataImage>> {
        self.current.load()
    }

    /// For the loader, and for tests that need a cluster of their own making.
    pub fn store(&self, image: Arc<MetadataImage>) {
        self.current.store(image);
    }
}

impl std::fmt::Debug for MetadataCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataCache").field("last_offset", &self.load().last_offset()).finish()
    }
}
