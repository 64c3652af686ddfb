//! What is appended, and the wait until it is committed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_common::TopicPartition;
use milena_log::{AppendInfo, CommitBy, Origin, TransactionCheck};
use tokio::time::{Instant, timeout_at};

use crate::error::ReplicaError;
use crate::purgatory::{Waiter, Watched};
use crate::replica::Replica;

/// Records for one partition.
#[derive(Debug, Clone)]
pub struct AppendPart {
    pub partition: TopicPartition,
    /// Batches as they came; their offsets are stamped.
    pub records: Bytes,
    /// What must be so for records of a transaction.
    pub transaction: TransactionCheck,
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
    /// `Caller` if whoever waits for [`Appended::committed`] may be blocked for a sync, on the first poll.
    pub commit: CommitBy,
    pub parts: Vec<AppendPart>,
}

/// Appended, but not yet committed.
pub struct Appended {
    results: Vec<Result<AppendInfo, ReplicaError>>,
    wait: Option<Wait>,
}

/// For what a request waits.
struct Wait {
    waiter: Arc<Waiter>,
    watched: Watched,
    deadline: Option<Instant>,
    parts: Vec<WaitingPart>,
    /// Whose commit it still is.
    commit: CommitBy,
}

struct WaitingPart {
    index: usize,
    offset: i64,
    replica: Arc<Replica>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.waiter.finish();
        if self.commit == CommitBy::Caller {
            self.parts.iter().for_each(|part| part.replica.log().commit_elsewhere());
        }
    }
}

impl Appended {
    /// Registers every part that is not yet as durable as `acks` asks for. `replicas` are those of the parts that did not fail.
    pub(crate) fn new(
        results: Vec<Result<AppendInfo, ReplicaError>>,
        replicas: Vec<(usize, Arc<Replica>)>,
        acks: i16,
        timeout_ms: u64,
        commit: CommitBy,
    ) -> Appended {
        let watched = match acks {
            0 => return Appended { results, wait: None },
            1 => Watched::DurableEnd,
            _ => Watched::HighWatermark,
        };
        let parts: Vec<WaitingPart> = replicas
            .into_iter()
            .filter_map(|(index, replica)| {
                let info = results.get(index)?.as_ref().ok()?;
                Some(WaitingPart { index, offset: info.last_offset + 1, replica })
            })
            .collect();
        if parts.is_empty() {
            return Appended { results, wait: None };
        }
        let waiter = Waiter::new(i64::try_from(parts.len()).unwrap_or(i64::MAX));
        for part in &parts {
            if !part.replica.wait_for(watched, part.offset, part.index, &waiter) {
                waiter.arrived(1);
            }
        }
        let deadline = Instant::now().checked_add(Duration::from_millis(timeout_ms));
        Appended { results, wait: Some(Wait { waiter, watched, deadline, parts, commit }) }
    }

    /// The results so far, in the order of the parts.
    pub fn results(&self) -> &[Result<AppendInfo, ReplicaError>] {
        &self.results
    }

    /// Nothing is left to wait for: the results will not change.
    pub fn is_committed(&self) -> bool {
        self.wait.as_ref().is_none_or(|wait| wait.waiter.is_done())
    }

    /// The results so far.
    pub fn into_results(self) -> Vec<Result<AppendInfo, ReplicaError>> {
        self.results
    }

    /// Waits until every part is as durable as its `acks` asks for, or failed, or the timeout passed.
    pub async fn committed(self) -> Vec<Result<AppendInfo, ReplicaError>> {
        let Appended { mut results, wait } = self;
        let Some(mut wait) = wait else { return results };
        wait.commit_here();
        let in_time = wait.until_ready().await;
        let mut fail = |index: usize, error: ReplicaError| {
            if let Some(result) = results.get_mut(index) {
                *result = Err(error);
            }
        };
        for (index, error) in wait.waiter.take_failures() {
            fail(index, error);
        }
        if !in_time {
            for part in wait.parts.iter().filter(|part| part.replica.position(wait.watched) < part.offset) {
                fail(part.index, ReplicaError::TimedOut);
            }
        }
        results
    }
}

impl Wait {
    /// Keeps the promise of [`CommitBy::Caller`].
    fn commit_here(&mut self) {
        if std::mem::replace(&mut self.commit, CommitBy::Thread) == CommitBy::Caller {
            self.parts.iter().for_each(|part| part.replica.log().commit_here());
        }
    }

    /// Whether it was in time.
    async fn until_ready(&self) -> bool {
        match self.deadline {
            Some(deadline) => timeout_at(deadline, self.waiter.ready()).await.is_ok(),
            None => {
                self.waiter.ready().await;
                true
            }
        }
    }
}
