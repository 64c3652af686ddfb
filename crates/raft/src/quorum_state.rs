//! The vote file `quorum-state`: what a voter must not forget between elections. One line of JSON, as Kafka writes it.
//!
//! Data version 0 belongs to `kraft.version` 0 (static voters), 1 to `kraft.version` 1 (KIP-853).

use std::io;

use milena_common::Uuid;
use serde_json::{Map, Value, json};

/// The durable part of a voter's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumState {
    /// The leader this node knows of; -1 none.
    pub leader_id: i32,
    pub leader_epoch: i32,
    /// The voter this node voted for in `leader_epoch`; -1 none.
    pub voted_id: i32,
    /// That voter's directory; zero when not known.
    pub voted_directory_id: Uuid,
    /// The voters of data version 0; unused in data version 1, where they stand in the log.
    pub current_voters: Vec<i32>,
    pub data_version: i16,
}

impl Default for QuorumState {
    fn default() -> Self {
        QuorumState {
            leader_id: -1,
            leader_epoch: 0,
            voted_id: -1,
            voted_directory_id: Uuid::ZERO,
            current_voters: Vec::new(),
            data_version: 0,
        }
    }
}

/// Why a vote file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumStateError {
    #[error("quorum-state is not JSON: {0}")]
    Json(String),
    #[error("quorum-state has no usable field {0}")]
    Field(&'static str),
    #[error("quorum-state has data version {0}, which is not known")]
    Version(i64),
}

impl QuorumState {
    /// The file's content.
    pub fn to_json(&self) -> String {
        if self.data_version == 0 {
            let voters: Vec<Value> = self.current_voters.iter().map(|id| json!({ "voterId": id })).collect();
            let voters = Value::Array(voters);
            // By hand: Kafka's order of the fields.
            format!(
                "{{\"clusterId\":\"\",\"leaderId\":{},\"leaderEpoch\":{},\"votedId\":{},\"appliedOffset\":0,\"currentVoters\":{voters},\"data_version\":0}}",
                self.leader_id, self.leader_epoch, self.voted_id
            )
        } else {
            format!(
                "{{\"leaderId\":{},\"leaderEpoch\":{},\"votedId\":{},\"votedDirectoryId\":\"{}\",\"data_version\":{}}}",
                self.leader_id, self.leader_epoch, self.voted_id, self.voted_directory_id, self.data_version
            )
        }
    }

    /// Reads the file's content.
    ///
    /// # Errors
    /// See [`QuorumStateError`].
    pub fn from_json(text: &str) -> Result<Self, QuorumStateError> {
        let value: Value = serde_json::from_str(text).map_err(|error| QuorumStateError::Json(error.to_string()))?;
        let object = value.as_object().ok_or(QuorumStateError::Field("{"))?;
        let data_version = integer(object, "data_version")?;
        if !(0..=1).contains(&data_version) {
            return Err(QuorumStateError::Version(data_version.into()));
        }
        let voted_directory_id = match object.get("votedDirectoryId").and_then(Value::as_str) {
            Some(text) => text.parse().map_err(|_| QuorumStateError::Field("votedDirectoryId"))?,
            None => Uuid::ZERO,
        };
        let voter = |voter: &Value| voter.get("voterId").and_then(Value::as_i64).and_then(|id| i32::try_from(id).ok());
        let current_voters = match object.get("currentVoters").and_then(Value::as_array) {
            Some(list) => {
                list.iter().map(voter).collect::<Option<_>>().ok_or(QuorumStateError::Field("currentVoters"))?
            }
            None => Vec::new(),
        };
        Ok(QuorumState {
            leader_id: integer(object, "leaderId")?,
            leader_epoch: integer(object, "leaderEpoch")?,
            voted_id: integer(object, "votedId")?,
            voted_directory_id,
            current_voters,
            data_version: if data_version == 0 { 0 } else { 1 },
        })
    }
}

fn integer(object: &Map<String, Value>, field: &'static str) -> Result<i32, QuorumStateError> {
    let value = object.get(field).and_then(Value::as_i64).and_then(|value| i32::try_from(value).ok());
    value.ok_or(QuorumStateError::Field(field))
}

/// Where the vote file lies.
pub trait QuorumStateStore: Send + Sync {
    /// `None` when there is none yet.
    fn read(&self) -> io::Result<Option<String>>;
    /// Replaces the file; durable on return.
    fn write(&self, content: &str) -> io::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const V0: &str = r#"{"clusterId":"","leaderId":1,"leaderEpoch":2,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1},{"voterId":2}],"data_version":0}"#;
    const V1: &str =
        r#"{"leaderId":-1,"leaderEpoch":2,"votedId":1,"votedDirectoryId":"J8aAPcfLQt2bqs1JT_rMgQ","data_version":1}"#;

    #[test]
    fn reads_and_writes_what_kafka_writes() {
        for text in [V0, V1] {
            let state = QuorumState::from_json(text).expect(text);
            assert_eq!(state.to_json(), text);
        }
        assert_eq!(QuorumState::from_json(V0).map(|s| s.current_voters), Ok(vec![1, 2]));
    }

    #[test]
    fn refuses_what_it_cannot_trust() {
        for text in ["", "[]", "{}", r#"{"leaderId":1,"leaderEpoch":99999999999,"votedId":1,"data_version":0}"#] {
            assert!(QuorumState::from_json(text).is_err(), "{text}");
        }
        let newer = V1.replace("\"data_version\":1", "\"data_version\":7");
        assert_eq!(QuorumState::from_json(&newer), Err(QuorumStateError::Version(7)));
    }
}
