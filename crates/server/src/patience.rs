//! Waits for the controller as long as a request allows. Called by the handlers that pass a request on to it.

use std::time::Duration;

use milena_metadata::ApiError;
use milena_protocol::ErrorCode;

/// The controller's answer, or REQUEST_TIMED_OUT. What the controller decided by then happens all the same; a request that gives
/// no time is refused unheard, as in Kafka.
pub(crate) async fn within<R>(
    timeout_ms: i32,
    answer: impl Future<Output = Result<R, ApiError>>,
) -> Result<R, ApiError> {
    let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
    if timeout_ms == 0 {
        return Err(ErrorCode::RequestTimedOut.into());
    }
    tokio::time::timeout(Duration::from_millis(timeout_ms), answer)
        .await
        .unwrap_or_else(|_| Err(ErrorCode::RequestTimedOut.into()))
}
