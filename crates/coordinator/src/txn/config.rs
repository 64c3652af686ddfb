//! The keys of `server.properties` that the transaction coordinator reads.

use milena_common::config::BrokerConfig;

/// Settings of the transaction coordinator, units in the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnConfig {
    /// `transaction.max.timeout.ms`
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`
    pub id_expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`
    pub abort_interval_ms: u64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`
    pub expiry_interval_ms: u64,
    /// `transaction.two.phase.commit.enable`
    pub two_phase_commit_enable: bool,
    /// `transaction.state.log.num.partitions`, until the real topic is known (`TransactionCoordinator::set_num_partitions`)
    pub num_partitions: i32,
    /// `request.timeout.ms`: how long a request waits for its records to be committed
    pub request_timeout_ms: u64,
}

impl Default for TxnConfig {
    fn default() -> Self {
        TxnConfig {
            max_timeout_ms: 900_000,
            id_expiration_ms: 604_800_000,
            abort_interval_ms: 10_000,
            expiry_interval_ms: 3_600_000,
            two_phase_commit_enable: false,
            num_partitions: 50,
            request_timeout_ms: 30_000,
        }
    }
}

impl From<&BrokerConfig> for TxnConfig {
    /// Signs were checked when the configuration was read; what is negative all the same counts as zero.
    fn from(broker: &BrokerConfig) -> Self {
        let ms = |value: i32| u64::try_from(value).unwrap_or(0);
        TxnConfig {
            max_timeout_ms: broker.transaction_max_timeout_ms,
            id_expiration_ms: broker.transactional_id_expiration_ms.into(),
            abort_interval_ms: ms(broker.transaction_abort_timed_out_transaction_cleanup_interval_ms),
            expiry_interval_ms: ms(broker.transaction_remove_expired_transaction_cleanup_interval_ms),
            two_phase_commit_enable: broker.transaction_two_phase_commit_enable,
            num_partitions: broker.transaction_state_log_num_partitions,
            request_timeout_ms: ms(broker.request_timeout_ms),
        }
    }
}
