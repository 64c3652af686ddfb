//! What the handlers of transaction APIs share; not an API itself.

use milena_protocol::ErrorCode;

/// Clients that do not know PRODUCER_FENCED are told INVALID_PRODUCER_EPOCH, which is fatal to them as well.
pub(super) fn before_producer_fenced(error: ErrorCode, is_old: bool) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if is_old => ErrorCode::InvalidProducerEpoch,
        error => error,
    }
}
