//! How long a request keeps threads busy: what its client's quota on the time of threads counts (KIP-124).
//!
//! Measures a future while it is polled, so that waiting costs nothing. Decides nothing. Used by `handlers/mod.rs`, read by `request.rs`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time that one request took so far.
#[derive(Debug, Default)]
pub(crate) struct RequestTime {
    /// Nanoseconds of the polls that have ended.
    ended: AtomicU64,
    /// When the poll that is going on began.
    began: Mutex<Option<Instant>>,
    /// How long the client was found to have to wait, in milliseconds.
    throttle_ms: OnceLock<u64>,
}

impl RequestTime {
    fn nanoseconds(&self) -> u64 {
        let running = self.began.lock().map_or(0, nanoseconds);
        self.ended.load(Ordering::Relaxed) + running
    }

    /// What `count` makes of the time so far, the first time; after that, the same again.
    pub(crate) fn counted(&self, count: impl FnOnce(u64) -> u64) -> u64 {
        *self.throttle_ms.get_or_init(|| count(self.nanoseconds()))
    }

    pub(crate) fn is_counted(&self) -> bool {
        self.throttle_ms.get().is_some()
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A future whose polls are measured, if there is something to measure them with.
pub(crate) async fn timed<F: Future>(time: Option<Arc<RequestTime>>, mut future: Pin<&mut F>) -> F::Output {
    poll_fn(|cx| poll(time.as_deref(), future.as_mut(), cx)).await
}

fn poll<F: Future>(time: Option<&RequestTime>, future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    let Some(time) = time else { return future.poll(cx) };
    let began = Instant::now();
    *time.began.lock() = Some(began);
    let polled = future.poll(cx);
    *time.began.lock() = None;
    time.ended.fetch_add(nanoseconds(began), Ordering::Relaxed);
    polled
}
