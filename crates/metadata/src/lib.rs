//! What the cluster is (`MetadataImage`) and who may change it (the controller).
//!
//! Pure but for the driver: operations read the image and return records, `replay` applies them. The metadata log itself
//! is behind a seam that the server fills, so this crate never sees raft, files or sockets.

pub mod controller;
mod delta;
pub mod image;
mod loader;
mod publisher;
pub mod store;
pub mod testing;
pub mod versions;

pub use controller::{ApiError, Bootstrap, Controller, ControllerConfig, MutationQuota, matching_pattern};
pub use delta::{MetadataDelta, PartitionDelta};
pub use image::{MetadataImage, ReplayError};
pub use loader::{LoadError, MetadataLoader};
pub use publisher::{MetadataCache, MetadataPublisher};
