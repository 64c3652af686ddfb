//! One request's part in its client's quota on changes of topics (KIP-599).
//!
//! The controller counts each topic's partitions when all else is in order; what that means to the client is decided here: from some version
//! on whoever has nothing left is refused, older clients are only slowed down. Made by the handlers that change topics.

use std::sync::atomic::{AtomicU64, Ordering};

use milena_metadata::ApiError;
use milena_protocol::ErrorCode;

use crate::broker::Broker;
use crate::request::RequestContext;

/// See the module.
pub(crate) struct MutationQuota<'a> {
    cx: &'a RequestContext,
    broker: &'a Broker,
    strict: bool,
    throttle_ms: AtomicU64,
}

impl<'a> MutationQuota<'a> {
    pub(crate) fn new(cx: &'a RequestContext, broker: &'a Broker, first_strict: i16) -> MutationQuota<'a> {
        MutationQuota { cx, broker, strict: cx.api_version >= first_strict, throttle_ms: AtomicU64::new(0) }
    }

    /// What the controller is given.
    pub(crate) fn counter(&self) -> impl FnMut(usize) -> Result<(), ApiError> + Send + '_ {
        |partitions| {
            let now = self.broker.clock.now();
            let verdict = self.broker.quotas.mutate(self.cx.who(), partitions, self.strict, now);
            self.throttle_ms.fetch_max(verdict.unwrap_or_else(|wait_ms| wait_ms), Ordering::Relaxed);
            verdict.map(drop).map_err(|_| ErrorCode::ThrottlingQuotaExceeded.into())
        }
    }

    /// How long the client must wait.
    pub(crate) fn throttle_ms(&self) -> u64 {
        self.throttle_ms.load(Ordering::Relaxed)
    }
}
