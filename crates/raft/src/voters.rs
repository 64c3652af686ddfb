//! Who may vote: named by the configuration (`kraft.version` 0) or by records of the log and its snapshots (1, KIP-853).

use bytes::Bytes;
use milena_protocol::records::control::ControlType;
use milena_protocol::stored::control::{KRaftVersionRecord, VotersRecord};
use milena_protocol::{Decode, DecodeError, Encode, EncodeError, Reader};

/// What the log says about its own quorum.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QuorumRecords {
    /// 0: the voters stand in the configuration.
    pub kraft_version: i16,
    pub voters: Option<VotersRecord>,
}

impl QuorumRecords {
    /// Takes in one control record; others than those of the quorum change nothing.
    pub(crate) fn apply(&mut self, kind: Option<ControlType>, value: &Bytes) -> Result<(), DecodeError> {
        match kind {
            Some(ControlType::KraftVersion) => {
                self.kraft_version = KRaftVersionRecord::decode(&mut Reader::new(value.clone()), 0)?.kraft_version;
            }
            Some(ControlType::KraftVoters) => {
                self.voters = Some(VotersRecord::decode(&mut Reader::new(value.clone()), 0)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The control records that say the same; none for static voters.
    pub(crate) fn controls(&self) -> Result<Vec<(ControlType, Bytes)>, EncodeError> {
        let mut controls = Vec::new();
        if self.kraft_version > 0 {
            let record = KRaftVersionRecord { version: 0, kraft_version: self.kraft_version };
            controls.push((ControlType::KraftVersion, record.encode_to_bytes(0)?));
        }
        if let Some(voters) = &self.voters {
            controls.push((ControlType::KraftVoters, voters.encode_to_bytes(0)?));
        }
        Ok(controls)
    }
}
