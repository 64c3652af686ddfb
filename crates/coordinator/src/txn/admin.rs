//! Looking at transactions: DescribeTransactions v0, ListTransactions v0-2 (KIP-664, KIP-994, KIP-1152).

use milena_common::Now;
use milena_protocol::ErrorCode;
use milena_protocol::messages::describe_transactions_response::{TopicData, TransactionState as Described};
use milena_protocol::messages::list_transactions_response::TransactionState as Listed;

use super::TxnShard;
use super::hard::{Transaction, TxnState};

/// What ListTransactions asks for; what is empty or `None` passes all.
#[derive(Debug, Clone, Default)]
pub struct TxnFilter {
    pub states: Vec<String>,
    pub producer_ids: Vec<i64>,
    /// Begun longer ago than this many milliseconds; negative passes all.
    pub duration_ms: i64,
    /// Matches the whole transactional id.
    pub id_pattern: Option<regex::Regex>,
}

impl TxnFilter {
    /// The pattern that a request brings; none passes all.
    ///
    /// Errors: INVALID_REGULAR_EXPRESSION.
    pub fn id_pattern(pattern: Option<&str>) -> Result<Option<regex::Regex>, ErrorCode> {
        let pattern = pattern.filter(|pattern| !pattern.is_empty());
        let whole = pattern.map(|pattern| regex::Regex::new(&format!("^(?:{pattern})$")));
        whole.transpose().map_err(|_| ErrorCode::InvalidRegularExpression)
    }

    /// The names that are no state's.
    pub fn unknown_states(&self) -> Vec<String> {
        self.states.iter().filter(|name| TxnState::from_name(name).is_none()).cloned().collect()
    }

    fn passes(&self, id: &str, t: &Transaction, now: Now) -> bool {
        let of_state = self.states.is_empty() || self.states.iter().any(|name| name == t.state.name());
        let of_producer = self.producer_ids.is_empty() || self.producer_ids.contains(&t.producer_id);
        let is_long = self.duration_ms < 0 || now.wall_ms.saturating_sub(t.start_ms) > self.duration_ms;
        of_state && of_producer && is_long && self.id_pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    }
}

impl TxnShard {
    /// ListTransactions, in no order.
    pub(crate) fn list(&self, filter: &TxnFilter, now: Now) -> Vec<Listed> {
        let passing = self.hard.iter().filter(|(id, t)| filter.passes(id, t, now));
        let listed = passing.map(|(id, t)| Listed {
            transactional_id: id.to_string(),
            producer_id: t.producer_id,
            transaction_state: t.state.name().to_owned(),
        });
        listed.collect()
    }

    /// DescribeTransactions of one id.
    ///
    /// Errors, in the answer: TRANSACTIONAL_ID_NOT_FOUND.
    pub(crate) fn describe(&self, transactional_id: &str) -> Described {
        let described = Described { transactional_id: transactional_id.to_owned(), ..Default::default() };
        let Some(t) = self.hard.get(transactional_id) else {
            return Described { error_code: ErrorCode::TransactionalIdNotFound.code(), ..described };
        };
        let topics = t.partitions.iter().map(|(topic, indexes)| TopicData {
            topic: topic.to_string(),
            partitions: indexes.iter().copied().collect(),
        });
        Described {
            transaction_state: t.state.name().to_owned(),
            transaction_timeout_ms: t.timeout_ms,
            transaction_start_time_ms: t.start_ms,
            producer_id: t.producer_id,
            producer_epoch: t.producer_epoch,
            topics: topics.collect(),
            ..described
        }
    }
}
