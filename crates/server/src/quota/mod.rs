//! Client quotas: how fast a client may be, how fast it is, and how long it must wait (KIP-13, KIP-124, KIP-219, KIP-599, KIP-612).
//!
//! Owns the measurements; what is allowed stands in the metadata. Pure but for its locks: the time comes in as an argument, and whoever asks
//! must wait or refuse by itself. Measurements of clients that are silent are forgotten. Called by handlers, through `RequestContext`, and by
//! `listener.rs`.

mod limits;
mod publisher;
mod rate;

use std::hash::Hash;
use std::net::IpAddr;

use arc_swap::ArcSwap;
use hashbrown::{Equivalent, HashMap};
use milena_common::Now;
use milena_common::config::BrokerConfig;
use milena_common::limits::MAX_QUOTA_SENSORS;
use milena_common::metrics::Metrics;
use milena_metadata::image::QuotasImage;
use parking_lot::Mutex;

pub(crate) use limits::{Quota, Who};
pub(crate) use publisher::QuotaPublisher;

use limits::{Limit, Limits};
use rate::{Bucket, Samples, Windows};

/// Who has not authenticated.
pub(crate) const ANONYMOUS: &str = "ANONYMOUS";

/// As long as a client that is silent is still shown among the metrics.
const SHOWN_MS: u64 = 60 * 60 * 1000;
/// What throttle times are averaged over.
const THROTTLE_WINDOWS: Windows = Windows { count: 2, length_ms: 30_000 };
/// Of a thread's time.
const PERCENT_PER_NANOSECOND: f64 = 100.0 / 1e9;

/// All quotas of a broker.
pub(crate) struct Quotas {
    limits: ArcSwap<Limits>,
    /// Addresses of the hosts that quotas name.
    hosts: Mutex<HashMap<String, IpAddr>>,
    windows: Windows,
    controller_windows: Windows,
    produce: Meters<Owner>,
    fetch: Meters<Owner>,
    request: Meters<Owner>,
    mutation: Meters<Owner>,
    addresses: Meters<IpAddr>,
    /// By listener; the broker as a whole is the empty one.
    listeners: Mutex<HashMap<String, Samples>>,
}

impl Quotas {
    pub(crate) fn new(config: &BrokerConfig) -> Quotas {
        Quotas {
            limits: ArcSwap::default(),
            hosts: Mutex::default(),
            windows: Windows::new(config.quota_window_num, config.quota_window_size_seconds),
            controller_windows: Windows::new(
                config.controller_quota_window_num,
                config.controller_quota_window_size_seconds,
            ),
            produce: Meters::default(),
            fetch: Meters::default(),
            request: Meters::default(),
            mutation: Meters::default(),
            addresses: Meters::default(),
            listeners: Mutex::default(),
        }
    }

    /// From now on these are allowed.
    fn set(&self, image: &QuotasImage) {
        let limits = Limits::new(image, &self.hosts.lock());
        self.limits.store(limits.into());
    }

    /// A client produced so many bytes; how many milliseconds it must wait.
    pub(crate) fn produced(&self, who: Who<'_>, bytes: usize, now: Now) -> u64 {
        self.count(Quota::Produce, who, bytes as f64, now)
    }

    /// A client is about to be given so many bytes; how many milliseconds it must wait, instead of being given them.
    pub(crate) fn fetched(&self, who: Who<'_>, bytes: usize, now: Now) -> u64 {
        self.count(Quota::Fetch, who, bytes as f64, now)
    }

    /// What [`Quotas::fetched`] counted is not given after all.
    pub(crate) fn not_fetched(&self, who: Who<'_>, bytes: usize, now: Now) {
        self.count(Quota::Fetch, who, -(bytes as f64), now);
    }

    /// The most bytes that one fetch may give a client, so that it comes to no more than its quota allows in all samples.
    pub(crate) fn most_fetched(&self, who: Who<'_>) -> Option<usize> {
        let limits = self.limits.load();
        let limit = limits.client(Quota::Fetch, who)?;
        let seconds = (self.windows.count - 1) as f64 * self.windows.length_ms as f64 / 1000.0;
        Some((limit.per_second * seconds) as usize)
    }

    /// Whether the time of requests needs to be measured.
    pub(crate) fn measures_requests(&self) -> bool {
        self.limits.load().any(Quota::Request)
    }

    /// A request kept a thread for so long; how many milliseconds the client must wait: at most one sample.
    pub(crate) fn requested(&self, who: Who<'_>, nanoseconds: u64, now: Now) -> u64 {
        let wait_ms = self.count(Quota::Request, who, nanoseconds as f64 * PERCENT_PER_NANOSECOND, now);
        wait_ms.min(self.windows.length_ms)
    }

    /// A client wants to change so many partitions. If `strict`, one that has nothing left is refused.
    ///
    /// # Errors
    /// How many milliseconds it must wait before it may ask again; as `Ok`, how many it must wait although it was heard.
    pub(crate) fn mutate(&self, who: Who<'_>, partitions: usize, strict: bool, now: Now) -> Result<u64, u64> {
        let limits = self.limits.load();
        let Some(Limit { per_second, sensor }) = limits.client(Quota::Mutation, who) else { return Ok(0) };
        let (windows, now_ms) = (self.controller_windows, now.mono_ms);
        self.mutation.with(&sensor, now, windows, |meter| {
            if strict && meter.bucket.tokens(windows, per_second, now_ms) < 0.0 {
                return Err(meter.bucket.wait_ms(windows, per_second, now_ms));
            }
            meter.samples.record(windows, partitions as f64, now_ms);
            meter.bucket.take(windows, per_second, partitions as f64, now_ms);
            Ok(if strict { 0 } else { meter.bucket.wait_ms(windows, per_second, now_ms) })
        })
    }

    /// A client was told to wait, by reason of this quota.
    pub(crate) fn throttled(&self, quota: Quota, who: Who<'_>, ms: u64, now: Now) {
        let limits = self.limits.load();
        let Some(Limit { sensor, .. }) = limits.client(quota, who) else { return };
        let (meters, windows) = self.meters(quota);
        meters.with(&sensor, now, windows, |meter| meter.throttled.record(THROTTLE_WINDOWS, ms as f64, now.mono_ms));
    }

    /// An address connects; how many milliseconds too early: at most one sample. Such a connection is not to be served, and does not count.
    pub(crate) fn connected(&self, address: IpAddr, now: Now) -> u64 {
        let Some(per_second) = self.limits.load().address(address) else { return 0 };
        self.addresses.with(&address, now, self.windows, |meter| {
            meter.samples.record(self.windows, 1.0, now.mono_ms);
            let early_ms = meter.samples.wait_ms(self.windows, per_second, now.mono_ms);
            if early_ms > 0 {
                meter.samples.record(self.windows, -1.0, now.mono_ms);
            }
            early_ms.min(self.windows.length_ms)
        })
    }

    /// A listener (or, without a name, the broker) accepts a connection; for how many milliseconds it must not accept another: at most one
    /// sample.
    pub(crate) fn accepted(&self, listener: &str, per_second: i32, now: Now) -> u64 {
        let mut listeners = self.listeners.lock();
        let samples = listeners.entry_ref(listener).or_default();
        samples.record(self.windows, 1.0, now.mono_ms);
        samples.wait_ms(self.windows, f64::from(per_second), now.mono_ms).min(self.windows.length_ms)
    }

    fn meters(&self, quota: Quota) -> (&Meters<Owner>, Windows) {
        match quota {
            Quota::Produce => (&self.produce, self.windows),
            Quota::Fetch => (&self.fetch, self.windows),
            Quota::Request => (&self.request, self.windows),
            Quota::Mutation => (&self.mutation, self.controller_windows),
        }
    }

    fn count(&self, quota: Quota, who: Who<'_>, amount: f64, now: Now) -> u64 {
        let limits = self.limits.load();
        let Some(Limit { per_second, sensor }) = limits.client(quota, who) else { return 0 };
        let (meters, windows) = self.meters(quota);
        meters.with(&sensor, now, windows, |meter| {
            meter.samples.record(windows, amount, now.mono_ms);
            meter.samples.wait_ms(windows, per_second, now.mono_ms)
        })
    }

    /// Writes how fast everybody is, as of now, over what was said before. Kafka's MBeans `kafka.server:type=Produce,user=..,client-id=..`
    /// bear the names that the JMX exporter's rules for Kafka give them: `kafka_server_quota_byte_rate{resource="Produce",..}`.
    pub(crate) fn report(&self, metrics: &Metrics, now: Now) {
        metrics.remove_kind("kafka.server", "quota");
        let limits = self.limits.load();
        for quota in Quota::ALL {
            let (resource, rate) = match quota {
                Quota::Produce => ("Produce", "byte-rate"),
                Quota::Fetch => ("Fetch", "byte-rate"),
                Quota::Request => ("Request", "request-time"),
                Quota::Mutation => ("ControllerMutation", "mutation-rate"),
            };
            let (meters, windows) = self.meters(quota);
            for (owner, meter) in meters.lock().iter_mut() {
                if now.mono_ms.saturating_sub(meter.last_ms) >= SHOWN_MS {
                    continue;
                }
                let mut labels = vec![("resource", resource)];
                labels.extend(Some(("user", owner.user.as_str())).filter(|(_, user)| !user.is_empty()));
                labels.extend(Some(("clientId", owner.client_id.as_str())).filter(|(_, id)| !id.is_empty()));
                let value = |name, value| metrics.value("kafka.server", "quota", name, &labels).set(value);
                value(rate, meter.samples.rate(windows, now.mono_ms));
                value("throttle-time", meter.throttled.average(THROTTLE_WINDOWS, now.mono_ms));
                let who = Who { user: &owner.user, client_id: &owner.client_id };
                if let (Quota::Mutation, Some(limit)) = (quota, limits.client(quota, who)) {
                    value("tokens", meter.bucket.tokens(windows, limit.per_second, now.mono_ms));
                }
            }
        }
    }
}

/// One quota, with a measurement per sensor.
struct Meters<K>(Mutex<HashMap<K, Meter>>);

impl<K> Default for Meters<K> {
    fn default() -> Self {
        Meters(Mutex::default())
    }
}

#[derive(Default)]
struct Meter {
    samples: Samples,
    bucket: Bucket,
    /// For how long the client had to wait each time.
    throttled: Samples,
    last_ms: u64,
}

impl<K: Hash + Eq> Meters<K> {
    fn lock(&self) -> parking_lot::MutexGuard<'_, HashMap<K, Meter>> {
        self.0.lock()
    }

    fn with<R, Q>(&self, sensor: &Q, now: Now, windows: Windows, work: impl FnOnce(&mut Meter) -> R) -> R
    where
        Q: Hash + Equivalent<K>,
        K: OwnedBy<Q>,
    {
        let mut meters = self.0.lock();
        if let Some(meter) = meters.get_mut(sensor) {
            meter.last_ms = now.mono_ms;
            return work(meter);
        }
        if meters.len() >= MAX_QUOTA_SENSORS {
            meters.retain(|_, meter| now.mono_ms.saturating_sub(meter.last_ms) < windows.total_ms());
            if meters.len() >= MAX_QUOTA_SENSORS {
                meters.clear();
            }
        }
        work(meters.entry(K::owned(sensor)).or_insert(Meter { last_ms: now.mono_ms, ..Meter::default() }))
    }
}

/// A key that can be kept, made of one that was only shown.
trait OwnedBy<Q> {
    fn owned(shown: &Q) -> Self;
}

impl OwnedBy<IpAddr> for IpAddr {
    fn owned(shown: &IpAddr) -> Self {
        *shown
    }
}

/// A [`Who`] to keep.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Owner {
    user: String,
    client_id: String,
}

impl<'a> OwnedBy<Who<'a>> for Owner {
    fn owned(who: &Who<'a>) -> Self {
        Owner { user: who.user.to_owned(), client_id: who.client_id.to_owned() }
    }
}

impl Equivalent<Owner> for Who<'_> {
    fn equivalent(&self, owner: &Owner) -> bool {
        self.user == owner.user && self.client_id == owner.client_id
    }
}

#[cfg(test)]
mod tests;
