//! What the cluster is (`MetadataImage`) and who may change it (the controller).
//!
//! Pure but for the driver: operations read the image and return records, `replay` applies them. The metadata log itself
//! is behind a seam that the server fills, so this crate never sees raft, files or sockets.

mod delta;
pub mod image;
mod publisher;

pub use delta::{MetadataDelta, PartitionDelta};
pub use image::MetadataImage;
pub use publisher::{MetadataCache, MetadataPublisher};
