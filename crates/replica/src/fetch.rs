//! What is fetched, and what was found.

use bytes::Bytes;
use milena_common::{TopicPartition, Uuid};
use milena_log::AbortedTransaction;

use crate::error::ReplicaError;
use crate::fetch_session::PartNews;
use crate::purgatory::Watched;

/// Up to where a reader may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything on this broker's disk: followers.
    LogEnd,
    /// What is committed (`read_uncommitted`).
    HighWatermark,
    /// What is committed and in no open transaction (`read_committed`).
    LastStable,
}

/// How to fetch.
#[derive(Debug, Clone)]
pub struct FetchParams {
    /// The broker that replicates; negative for a consumer.
    pub replica_id: i32,
    /// The epoch of that broker (KIP-903); -1 if it does not tell.
    pub replica_epoch: i64,
    /// A consumer that wants no records of open or aborted transactions.
    pub read_committed: bool,
    /// A consumer that may be served by a follower (KIP-392).
    pub from_follower: bool,
    /// The rack of a consumer that is sent to a replica there, if there is one.
    pub client_rack: Option<String>,
    pub max_wait_ms: u64,
    pub min_bytes: usize,
    pub max_bytes: usize,
    /// The first batch of every partition comes, however large, instead of only the first of all: for clients that know no other way
    /// to get over it.
    pub one_batch_each: bool,
}

impl FetchParams {
    pub(crate) fn is_follower(&self) -> bool {
        self.replica_id >= 0
    }

    pub(crate) fn must_lead(&self) -> bool {
        self.is_follower() || !self.from_follower
    }

    pub(crate) fn isolation(&self) -> Isolation {
        match (self.is_follower(), self.read_committed) {
            (true, _) => Isolation::LogEnd,
            (false, false) => Isolation::HighWatermark,
            (false, true) => Isolation::LastStable,
        }
    }

    pub(crate) fn watched(&self) -> Watched {
        if self.is_follower() { Watched::DurableEnd } else { Watched::HighWatermark }
    }
}

/// What is fetched of one partition.
#[derive(Debug, Clone)]
pub struct FetchPart {
    pub partition: TopicPartition,
    /// Zero if the client knows only the name.
    pub topic_id: Uuid,
    /// -1 if the client knows none.
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    /// The epoch of the last record the fetcher has; -1 if it does not tell (KIP-595).
    pub last_fetched_epoch: i32,
    /// A follower's log start offset, else -1.
    pub log_start_offset: i64,
    pub max_bytes: usize,
}

/// What was found in one partition.
#[derive(Debug, Clone)]
pub struct FetchedPart {
    /// Nothing else counts then.
    pub error: Option<ReplicaError>,
    /// -1 if not known, as the next two.
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// The fetcher's log is another from here on: the epoch that both have, and where it ends here.
    pub diverging_epoch: Option<(i32, i64)>,
    /// The consumer had better read from this broker. Nothing was read then.
    pub preferred_read_replica: Option<i32>,
    /// For `read_committed`: those that the records touch.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// Whole batches, in order, in as many pieces as they lie in memory.
    pub records: Vec<Bytes>,
    /// Where the offset was that a waiting fetch watches.
    pub(crate) watched_at: i64,
}

impl Default for FetchedPart {
    fn default() -> Self {
        FetchedPart {
            error: None,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            preferred_read_replica: None,
            aborted_transactions: None,
            records: Vec::new(),
            watched_at: -1,
        }
    }
}

impl FetchedPart {
    pub fn failed(error: ReplicaError) -> FetchedPart {
        FetchedPart { error: Some(error), ..FetchedPart::default() }
    }

    /// What a fetch session looks at.
    pub fn news(&self) -> PartNews {
        PartNews {
            high_watermark: self.high_watermark,
            log_start_offset: self.log_start_offset,
            has_records: !self.records.is_empty(),
            failed: self.error.is_some(),
            diverging: self.diverging_epoch.is_some() || self.preferred_read_replica.is_some(),
        }
    }

    /// Bytes of all pieces.
    pub fn size_in_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}
