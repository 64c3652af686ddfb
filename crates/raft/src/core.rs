//! The state machine of one voter: what to write, to append and to tell, for each thing that happened.
//!
//! Pure: time comes in with `step`, effects go out as a list to be carried out in order. A quorum of one elects itself at
//! start: a new epoch, recorded before anything is appended in it; the high watermark is the durable end of its own log,
//! once that reaches into the epoch. (KIP-595, KIP-853.)

use bytes::Bytes;
use milena_common::{Now, Uuid};
use milena_protocol::Encode;
use milena_protocol::records::control::ControlType;
use milena_protocol::stored::control::LeaderChangeMessage;
use milena_protocol::stored::control::leader_change_message::Voter as VoterRecord;

use crate::batch::{MAX_BATCH_BYTES, control_batch, data_batch};
use crate::quorum_state::QuorumState;

/// A member of the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voter {
    pub id: i32,
    /// Its metadata directory; zero where voters are static (`kraft.version` 0).
    pub directory_id: Uuid,
}

/// Who this node is, and who the voters are.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    pub node_id: i32,
    /// Id of the directory that holds the log.
    pub directory_id: Uuid,
    pub voters: Vec<Voter>,
    /// 0 for voters that the configuration names, 1 for voters that the log names.
    pub kraft_version: i16,
    /// Control records that follow the first leader change: voters that so far only the first snapshot names.
    pub bootstrap: Vec<(ControlType, Bytes)>,
}

/// What this node is in its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Knows no leader.
    Unattached,
    /// Leads; its epoch begins at `epoch_start_offset`.
    Leader { epoch_start_offset: i64 },
    /// Led, and does not any more: shutting down, or its log failed.
    Resigned,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The node starts; its log and vote file were read.
    Start,
    /// The controller wants records appended in the epoch it leads.
    Append { epoch: i32, records: Vec<Bytes> },
    /// The log is on disk below `end_offset`.
    Durable { end_offset: i64 },
    /// The log cannot be written any more.
    LogFailed,
    /// The node is going to stop.
    Shutdown,
}

/// What to do, in order. A failed effect ends the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Replace the vote file, durably.
    WriteQuorumState(QuorumState),
    /// Append a batch to the log.
    AppendBatch(Bytes),
    /// The records asked for are in a batch before this; the last one's offset.
    Appended { last_offset: i64 },
    /// The records asked for were not appended: this node does not lead that epoch.
    NotLeader,
    /// The records asked for are too large for one batch.
    TooLarge { bytes: usize },
    /// The leader is another, or none (-1).
    LeaderChanged { leader_id: i32, epoch: i32 },
    /// Everything below is committed.
    HighWatermark(i64),
}

/// One voter.
#[derive(Debug)]
pub struct RaftCore {
    config: RaftConfig,
    state: QuorumState,
    role: Role,
    log_end_offset: i64,
    durable_end_offset: i64,
    high_watermark: i64,
}

impl RaftCore {
    /// `state` is what the vote file says, `last_epoch` the epoch of the log's last batch (0 for an empty log).
    /// `snapshot_end_offset` is where the newest snapshot ends: everything below was committed.
    pub fn new(
        config: RaftConfig,
        state: QuorumState,
        log_end_offset: i64,
        durable_end_offset: i64,
        last_epoch: i32,
        snapshot_end_offset: i64,
    ) -> Self {
        let mut state = state;
        state.leader_epoch = state.leader_epoch.max(last_epoch);
        RaftCore {
            config,
            state,
            role: Role::Unattached,
            log_end_offset,
            durable_end_offset,
            high_watermark: snapshot_end_offset,
        }
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn epoch(&self) -> i32 {
        self.state.leader_epoch
    }

    pub fn leader_id(&self) -> i32 {
        self.state.leader_id
    }

    pub fn voters(&self) -> &[Voter] {
        &self.config.voters
    }

    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Where the next record goes.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end_offset
    }

    /// Takes in what happened and says what to do about it.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Output> {
        match input {
            Input::Start => self.on_start(now),
            Input::Append { epoch, records } => self.on_append(now, epoch, &records),
            Input::Durable { end_offset } => self.on_durable(end_offset),
            Input::LogFailed | Input::Shutdown => self.on_resign(),
        }
    }

    fn alone(&self) -> bool {
        matches!(self.config.voters.as_slice(), [only] if only.id == self.config.node_id)
    }

    fn on_start(&mut self, now: Now) -> Vec<Output> {
        if !self.alone() {
            // Nobody to ask yet: a quorum of several waits for its transport.
            return Vec::new();
        }
        let epoch = self.state.leader_epoch + 1;
        let own_vote = Uuid::ZERO;
        let base = QuorumState {
            leader_epoch: epoch,
            current_voters: if self.config.kraft_version == 0 { vec![self.config.node_id] } else { Vec::new() },
            data_version: self.config.kraft_version.clamp(0, 1),
            voted_directory_id: own_vote,
            ..QuorumState::default()
        };
        // The vote first: after a crash between the two this epoch is never led by another.
        let voted =
            QuorumState { voted_id: self.config.node_id, voted_directory_id: self.config.directory_id, ..base.clone() };
        let leads = QuorumState { leader_id: self.config.node_id, ..base };
        let epoch_start_offset = self.log_end_offset;
        let Some(batch) = self.leader_change(now, epoch, epoch_start_offset) else { return Vec::new() };
        self.state = leads.clone();
        self.role = Role::Leader { epoch_start_offset };
        self.log_end_offset += 1 + self.config.bootstrap.len() as i64;
        self.config.bootstrap.clear();
        vec![
            Output::WriteQuorumState(voted),
            Output::WriteQuorumState(leads),
            Output::AppendBatch(batch),
            Output::LeaderChanged { leader_id: self.config.node_id, epoch },
        ]
    }

    /// The control batch that begins an epoch: who leads, who may vote, who voted for the leader.
    fn leader_change(&self, now: Now, epoch: i32, offset: i64) -> Option<Bytes> {
        // Version 0 whatever the voters: Kafka 4.3 writes no other, and its tools read no other.
        let version = 0;
        let voter = |v: &Voter| VoterRecord { voter_id: v.id, ..Default::default() };
        let voters: Vec<VoterRecord> = self.config.voters.iter().map(voter).collect();
        let message =
            LeaderChangeMessage { version, leader_id: self.config.node_id, granting_voters: voters.clone(), voters };
        let value = message.encode_to_bytes(version).ok()?;
        let mut controls = vec![(ControlType::LeaderChange, value)];
        controls.extend(self.config.bootstrap.iter().cloned());
        control_batch(offset, epoch, now.wall_ms, &controls).ok()
    }

    fn on_append(&mut self, now: Now, epoch: i32, records: &[Bytes]) -> Vec<Output> {
        if !matches!(self.role, Role::Leader { .. }) || epoch != self.state.leader_epoch || records.is_empty() {
            return vec![Output::NotLeader];
        }
        let bytes: usize = records.iter().map(Bytes::len).sum();
        let batch = data_batch(self.log_end_offset, epoch, now.wall_ms, records);
        match batch {
            Ok(batch) if batch.len() <= MAX_BATCH_BYTES => {
                self.log_end_offset += records.len() as i64;
                vec![Output::AppendBatch(batch), Output::Appended { last_offset: self.log_end_offset - 1 }]
            }
            Ok(_) | Err(_) => vec![Output::TooLarge { bytes }],
        }
    }

    fn on_durable(&mut self, end_offset: i64) -> Vec<Output> {
        self.durable_end_offset = self.durable_end_offset.max(end_offset.min(self.log_end_offset));
        let Role::Leader { epoch_start_offset } = self.role else { return Vec::new() };
        // Records of older epochs are committed by a record of this one.
        if self.durable_end_offset <= epoch_start_offset || self.durable_end_offset <= self.high_watermark {
            return Vec::new();
        }
        self.high_watermark = self.durable_end_offset;
        vec![Output::HighWatermark(self.high_watermark)]
    }

    fn on_resign(&mut self) -> Vec<Output> {
        if self.role == Role::Resigned {
            return Vec::new();
        }
        self.role = Role::Resigned;
        vec![Output::LeaderChanged { leader_id: -1, epoch: self.state.leader_epoch }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::read_batches;

    const NOW: Now = Now { mono_ms: 5, wall_ms: 1_795_486_010_340 };

    fn core(log_end: i64, state: QuorumState, last_epoch: i32) -> RaftCore {
        let config = RaftConfig {
            node_id: 1,
            directory_id: Uuid::from_u128(7777),
            voters: vec![Voter { id: 1, directory_id: Uuid::ZERO }],
            kraft_version: 0,
            bootstrap: Vec::new(),
        };
        RaftCore::new(config, state, log_end, log_end, last_epoch, 0)
    }

    #[test]
    fn elects_itself_and_records_it_before_appending() {
        let mut core = core(0, QuorumState::default(), 0);
        let out = core.step(NOW, Input::Start);
        let [Output::WriteQuorumState(voted), Output::WriteQuorumState(leads), Output::AppendBatch(batch), changed] =
            out.as_slice()
        else {
            panic!("{out:?}")
        };
        assert_eq!((voted.voted_id, voted.leader_id, voted.leader_epoch), (1, -1, 1));
        assert_eq!(
            leads.to_json(),
            r#"{"clusterId":"","leaderId":1,"leaderEpoch":1,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1}],"data_version":0}"#
        );
        assert_eq!(*changed, Output::LeaderChanged { leader_id: 1, epoch: 1 });
        // The same size as Kafka's.
        assert_eq!(batch.len(), 91);
        let read = read_batches(batch.clone()).expect("a batch");
        assert_eq!(read[0].controls[0].0, Some(ControlType::LeaderChange));
        assert_eq!((read[0].base_offset, read[0].epoch), (0, 1));
    }

    #[test]
    fn commits_only_what_is_durable_and_of_its_epoch() {
        let mut core = core(10, QuorumState { leader_epoch: 3, ..Default::default() }, 5);
        assert!(core.step(NOW, Input::Durable { end_offset: 10 }).is_empty());
        core.step(NOW, Input::Start);
        assert_eq!(core.epoch(), 6, "after the newer of log and vote file");
        assert!(core.step(NOW, Input::Durable { end_offset: 10 }).is_empty(), "nothing of this epoch yet");
        let out = core
            .step(NOW, Input::Append { epoch: 6, records: vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")] });
        assert_eq!(out[1], Output::Appended { last_offset: 12 });
        assert_eq!(core.step(NOW, Input::Durable { end_offset: 11 }), [Output::HighWatermark(11)]);
        assert!(core.step(NOW, Input::Durable { end_offset: 11 }).is_empty());
        assert_eq!(
            core.step(NOW, Input::Durable { end_offset: 99 }),
            [Output::HighWatermark(13)],
            "never beyond the log"
        );
    }

    #[test]
    fn appends_only_for_the_leader_of_the_epoch() {
        let mut core = core(0, QuorumState::default(), 0);
        let append = |epoch| Input::Append { epoch, records: vec![Bytes::from_static(b"a")] };
        assert_eq!(core.step(NOW, append(1)), [Output::NotLeader]);
        core.step(NOW, Input::Start);
        assert_eq!(core.step(NOW, append(2)), [Output::NotLeader]);
        let huge = Input::Append { epoch: 1, records: vec![Bytes::from(vec![0; MAX_BATCH_BYTES])] };
        assert_eq!(core.step(NOW, huge), [Output::TooLarge { bytes: MAX_BATCH_BYTES }]);
        assert_eq!(core.step(NOW, Input::LogFailed), [Output::LeaderChanged { leader_id: -1, epoch: 1 }]);
        assert_eq!(core.step(NOW, append(1)), [Output::NotLeader]);
    }
}
