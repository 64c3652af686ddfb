//! What members of the quorum ask each other and answer, without the wire: versions, addresses and cluster ids are the driver's business.

use bytes::Bytes;
use milena_protocol::ErrorCode;

use super::Voter;
use crate::log::OffsetAndEpoch;

/// A question to another member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Vote(Vote),
    BeginEpoch(BeginEpoch),
    EndEpoch(EndEpoch),
    Fetch(Fetch),
}

/// `candidate` wants to lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// The epoch it wants to lead; of a pre-vote, the one it is in.
    pub epoch: i32,
    pub candidate: Voter,
    /// Who is asked.
    pub voter: Voter,
    /// Where the candidate's log ends.
    pub log_end: OffsetAndEpoch,
    /// Only asks whether an election would be won (KIP-996).
    pub pre_vote: bool,
}

/// `leader_id` leads `epoch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginEpoch {
    pub epoch: i32,
    pub leader_id: i32,
    pub voter: Voter,
}

/// `leader_id` leads `epoch` no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndEpoch {
    pub epoch: i32,
    pub leader_id: i32,
    /// Who should lead next, the fittest first.
    pub preferred_successors: Vec<Voter>,
}

/// A follower or an observer wants what comes after its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    pub epoch: i32,
    pub replica: Voter,
    /// Where its log ends, on its disk, and the epoch of its last record.
    pub log_end: OffsetAndEpoch,
    /// What it knows to be committed.
    pub high_watermark: i64,
    pub max_wait_ms: u64,
}

/// What every answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub error: ErrorCode,
    pub epoch: i32,
    /// -1 if not known.
    pub leader_id: i32,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    Vote { head: Head, granted: bool },
    BeginEpoch { head: Head },
    EndEpoch { head: Head },
    Fetch { head: Head, fetched: Fetched },
}

impl Response {
    pub fn head(&self) -> Head {
        match self {
            Response::Vote { head, .. }
            | Response::BeginEpoch { head }
            | Response::EndEpoch { head }
            | Response::Fetch { head, .. } => *head,
        }
    }
}

/// What a fetch got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// Whole batches, if there are any yet.
    Records { records: Bytes, high_watermark: i64 },
    /// The logs differ: the leader's records of that epoch, or of the last before it, end there.
    Diverging(OffsetAndEpoch),
    /// The leader's log begins later: this snapshot comes first.
    Snapshot(OffsetAndEpoch),
    /// See the error.
    Nothing,
}
