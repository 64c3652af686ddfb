//! The differences that stay: where Milena answers otherwise than Apache Kafka 4.3.1 on purpose, or where Kafka's own answer is chance.
//!
//! Each has its reason. What is not here fails the tests.

use serde_json::Value;

use super::pair::Step;
use super::side::Outcome;

/// Whether this difference is one of those that stay.
pub fn is_known(step: &Step, kafka: &Outcome, milena: &Outcome) -> bool {
    ALL.iter().any(|known| (known.holds)(step, kafka, milena))
}

/// Whether what the brokers keep differs from here on, without a difference in what they answer, so that a sequence has to end.
///
/// Kafka keeps a group in memory, empty, for whoever asked to join and was refused, for offsets of a transaction
/// that was aborted, and for offsets whose metadata are too long.
/// Milena keeps nothing of what did not happen, so that nobody fills its memory that way. Who may join is answered alike.
#[derive(Default)]
pub struct Ways {
    has_offsets_of_transactions: bool,
    are_apart: bool,
}

impl Ways {
    /// A step was answered.
    pub fn follow(&mut self, step: &Step, answer: &Outcome) {
        let code = error(answer, "/error_code");
        self.has_offsets_of_transactions |= step.api == "TxnOffsetCommit";
        let may_abort = step.api == "EndTxn" && step.body["committed"] == false || step.api == "InitProducerId";
        self.are_apart |= step.api == "JoinGroup" && matches!(code, Some(23 | -1));
        self.are_apart |= may_abort && self.has_offsets_of_transactions;
        let is_commit = matches!(step.api, "OffsetCommit" | "TxnOffsetCommit");
        self.are_apart |=
            is_commit && matches!(answer, Outcome::Answer(a) if a.to_string().contains("\"error_code\":12,"));
    }

    /// Whether they went apart.
    pub fn are_apart(&self) -> bool {
        self.are_apart
    }
}

struct Known {
    #[expect(dead_code, reason = "for who reads this")]
    reason: &'static str,
    holds: fn(&Step, &Outcome, &Outcome) -> bool,
}

fn error(outcome: &Outcome, path: &str) -> Option<i64> {
    let Outcome::Answer(answer) = outcome else { return None };
    answer.pointer(path).and_then(Value::as_i64)
}

/// Whether Kafka says UNKNOWN_SERVER_ERROR somewhere and Milena one of these codes there.
fn stumbles(kafka: &Outcome, milena: &Outcome, codes: &[i64]) -> bool {
    fn walk(k: &Value, m: &Value, codes: &[i64]) -> bool {
        match (k, m) {
            (Value::Object(k), Value::Object(m)) => k.iter().any(|(name, k)| {
                let Some(m) = m.get(name) else { return false };
                let is_code = name.ends_with("error_code") && k.as_i64() == Some(-1);
                (is_code && m.as_i64().is_some_and(|m| codes.contains(&m))) || walk(k, m, codes)
            }),
            (Value::Array(k), Value::Array(m)) => k.iter().zip(m).any(|(k, m)| walk(k, m, codes)),
            _ => false,
        }
    }
    match (kafka, milena) {
        (Outcome::Answer(k), Outcome::Answer(m)) => walk(k, m, codes),
        _ => false,
    }
}

const ALL: &[Known] = &[
    Known {
        reason: "Metadata: a topic with neither name nor id is refused with INVALID_REQUEST, where Kafka stumbles",
        holds: |step, kafka, milena| step.api == "Metadata" && stumbles(kafka, milena, &[42]),
    },
    Known {
        reason: "IncrementalAlterConfigs: an operation that there is not is refused with INVALID_REQUEST, where Kafka stumbles",
        holds: |step, kafka, milena| step.api == "IncrementalAlterConfigs" && stumbles(kafka, milena, &[3, 17, 42]),
    },
    Known {
        reason: "JoinGroup: Kafka stumbles over a protocol that is named twice, and over a subscription that it cannot read; \
                 neither matters to anybody but the members, who get it as it is",
        holds: |step, kafka, milena| step.api == "JoinGroup" && stumbles(kafka, milena, &[0, 23]),
    },
    Known {
        reason: "CreateTopics: Kafka makes up an id for a topic that it only validates",
        holds: |step, kafka, milena| {
            let (Outcome::Answer(k), Outcome::Answer(m)) = (kafka, milena) else { return false };
            let mut k = k.clone();
            for topic in k["topics"].as_array_mut().into_iter().flatten() {
                topic["topic_id"] = "uuid:0".into();
            }
            step.api == "CreateTopics" && step.body["validate_only"] == true && k == *m
        },
    },
    Known {
        reason: "DescribeTopicPartitions: Kafka stumbles over an empty name, Milena refuses that one topic",
        holds: |step, _, milena| {
            let Outcome::Answer(answer) = milena else { return false };
            let refused = |t: &Value| t["name"] == "" && t["error_code"] == 17;
            step.api == "DescribeTopicPartitions"
                && answer["topics"].as_array().is_some_and(|all| all.iter().any(refused))
        },
    },
    Known {
        reason: "Fetch: Kafka stumbles over an isolation level before or after it looks for the topics, by version, and over a \
                 session that begins with an id; Milena says so of all, and begins the session",
        holds: |step, kafka, milena| {
            let level = step.body["isolation_level"].as_i64();
            let is_unreadable = level.is_some_and(|level| level != 0 && level != 1);
            step.api == "Fetch"
                && (is_unreadable || error(kafka, "/error_code") == Some(-1) && error(milena, "/error_code") == Some(0))
        },
    },
    Known {
        reason: "Fetch: a reader that is no replica of the partition is told where the leader is, which Kafka tells consumers only",
        holds: |step, kafka, milena| {
            let (Outcome::Answer(k), Outcome::Answer(m)) = (kafka, milena) else { return false };
            let mut m = m.clone();
            m.as_object_mut().map(|fields| fields.remove("node_endpoints"));
            step.api == "Fetch" && *k == m
        },
    },
    Known {
        reason: "CreateDelegationToken: Kafka stumbles over an owner without a type; tokens are refused either way",
        holds: |step, kafka, milena| step.api == "CreateDelegationToken" && stumbles(kafka, milena, &[64]),
    },
    Known {
        reason: "WriteTxnMarkers: Kafka writes a marker of a producer id below zero, which no producer has and no reader expects",
        holds: |step, kafka, milena| {
            let path = "/markers/0/topics/0/partitions/0/error_code";
            step.api == "WriteTxnMarkers"
                && step.body["markers"][0]["producer_id"].as_i64().is_some_and(|id| id < 0)
                && error(kafka, path) == Some(0)
                && error(milena, path) == Some(-1)
        },
    },
];
