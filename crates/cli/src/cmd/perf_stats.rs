//! The figures of the perf tests: windows, totals and percentiles, in the lines that Kafka's tools print.
//!
//! Pure: times come from the caller. Owned by `kafka-producer-perf-test` and `kafka-e2e-latency`.

/// How many latencies are kept for the percentiles; of more, every so many-th.
const MAX_SAMPLES: u64 = 500_000;

/// Latencies in milliseconds and sizes of records, since a start.
pub(super) struct Stats {
    start_ms: f64,
    /// Every so many-th record is kept for the percentiles.
    sampling: u64,
    iteration: u64,
    samples: Vec<u32>,
    count: u64,
    bytes: u64,
    latency_sum: u64,
    latency_max: u32,
    window: Window,
    interval_ms: f64,
    steady: &'static str,
}

struct Window {
    start_ms: f64,
    count: u64,
    bytes: u64,
    latency_sum: u64,
    latency_max: u32,
}

impl Window {
    fn new(start_ms: f64) -> Window {
        Window { start_ms, count: 0, bytes: 0, latency_sum: 0, latency_max: 0 }
    }
}

const MB: f64 = 1024.0 * 1024.0;

impl Stats {
    /// For `records` records; a window ends every `interval_ms`. `steady` tells the second summary from the first.
    pub(super) fn new(records: u64, interval_ms: f64, now_ms: f64, steady: bool) -> Stats {
        Stats {
            start_ms: now_ms,
            sampling: (records / MAX_SAMPLES).max(1),
            iteration: 0,
            samples: Vec::new(),
            count: 0,
            bytes: 0,
            latency_sum: 0,
            latency_max: 0,
            window: Window::new(now_ms),
            interval_ms,
            steady: if steady { " steady state" } else { "" },
        }
    }

    /// A record was answered. The line of the window that ends with it, if one does.
    pub(super) fn record(&mut self, latency_ms: u32, bytes: u64, now_ms: f64) -> Option<String> {
        self.count += 1;
        self.bytes += bytes;
        self.latency_sum += u64::from(latency_ms);
        self.latency_max = self.latency_max.max(latency_ms);
        self.window.count += 1;
        self.window.bytes += bytes;
        self.window.latency_sum += u64::from(latency_ms);
        self.window.latency_max = self.window.latency_max.max(latency_ms);
        if self.iteration.is_multiple_of(self.sampling) {
            self.samples.push(latency_ms);
        }
        self.iteration += 1;
        if now_ms - self.window.start_ms < self.interval_ms {
            return None;
        }
        let window = std::mem::replace(&mut self.window, Window::new(now_ms));
        let seconds = (now_ms - window.start_ms) / 1000.0;
        Some(format!(
            "{} records sent, {:.1} records/sec ({:.2} MB/sec), {:.1} ms avg latency, {:.1} ms max latency.\n",
            window.count,
            window.count as f64 / seconds,
            window.bytes as f64 / seconds / MB,
            window.latency_sum as f64 / window.count as f64,
            f64::from(window.latency_max)
        ))
    }

    /// The last line.
    pub(super) fn total(&mut self, now_ms: f64) -> String {
        let seconds = (now_ms - self.start_ms) / 1000.0;
        let [p50, p95, p99, p999] = percentiles(&mut self.samples, [0.5, 0.95, 0.99, 0.999]);
        format!(
            "{}{} records sent, {:.6} records/sec ({:.2} MB/sec), {:.2} ms avg latency, {:.2} ms max latency, {p50} ms 50th, {p95} ms 95th, {p99} ms 99th, {p999} ms 99.9th.\n",
            self.count,
            self.steady,
            self.count as f64 / seconds,
            self.bytes as f64 / seconds / MB,
            self.latency_sum as f64 / self.count as f64,
            f64::from(self.latency_max)
        )
    }
}

/// The values below which these shares lie.
pub(super) fn percentiles<const N: usize>(samples: &mut [u32], shares: [f64; N]) -> [u32; N] {
    samples.sort_unstable();
    shares.map(|share| {
        let at = (share * samples.len() as f64) as usize;
        samples.get(at).or(samples.last()).copied().unwrap_or_default()
    })
}

/// Keeps a sender at so many records a second, approximately.
pub(super) struct Throttle {
    /// Nothing is held back when this is negative.
    target: f64,
    start_ms: f64,
}

impl Throttle {
    pub(super) fn new(target: f64, start_ms: f64) -> Throttle {
        Throttle { target, start_ms }
    }

    /// How long to wait before the next record when `sent` have gone; in milliseconds.
    pub(super) fn pause_ms(&self, sent: u64, now_ms: f64) -> Option<f64> {
        if self.target < 0.0 {
            return None;
        }
        if self.target == 0.0 {
            return Some(f64::INFINITY);
        }
        let due = sent as f64 * 1000.0 / self.target;
        let early = due - (now_ms - self.start_ms);
        // less than a moment is not worth a sleep
        (early >= 1.0).then_some(early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kafkas() {
        let mut stats = Stats::new(4, 5000.0, 0.0, false);
        assert_eq!(stats.record(10, 1 << 20, 100.0), None);
        assert_eq!(
            stats.record(30, 1 << 20, 5000.0).unwrap(),
            "2 records sent, 0.4 records/sec (0.40 MB/sec), 20.0 ms avg latency, 30.0 ms max latency.\n"
        );
        assert_eq!(
            stats.total(10_000.0),
            "2 records sent, 0.200000 records/sec (0.20 MB/sec), 20.00 ms avg latency, 30.00 ms max latency, 30 ms 50th, 30 ms 95th, 30 ms 99th, 30 ms 99.9th.\n"
        );
    }

    #[test]
    fn a_throttle_spreads_records_over_time() {
        let throttle = Throttle::new(100.0, 0.0);
        assert_eq!(throttle.pause_ms(10, 50.0), Some(50.0));
        assert_eq!(throttle.pause_ms(10, 100.0), None);
        assert_eq!(Throttle::new(-1.0, 0.0).pause_ms(1_000_000, 0.0), None);
    }
}
