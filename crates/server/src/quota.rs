//! Client quotas: how fast a client may be, how fast it is, and how long it must wait (KIP-13, KIP-124, KIP-219, KIP-599, KIP-612).
//!
//! Owns the measurements; what is allowed stands in the metadata. Pure but for its locks: the time comes in as an argument, and whoever asks
//! must wait or refuse by itself. Measurements of clients that are silent are forgotten. Called by handlers and by `listener.rs`.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use milena_common::Now;
use milena_common::config::BrokerConfig;
use milena_common::limits::MAX_QUOTA_SENSORS;
use milena_metadata::image::{QuotaEntity, QuotasImage};
use parking_lot::Mutex;

/// Who has not authenticated.
pub(crate) const ANONYMOUS: &str = "ANONYMOUS";

const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";
const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";

/// All quotas of a broker.
pub(crate) struct Quotas {
    produce: Limiter,
    fetch: Limiter,
    mutations: Limiter,
    connections: Limiter,
}

/// What a client wanted to change: what it is told to wait for, and whether it was heard.
#[derive(Debug, Default)]
pub(crate) struct Mutations {
    pub(crate) throttle_ms: u64,
}

impl Mutations {
    /// Whether another change may go on.
    pub(crate) fn may(&mut self, verdict: Result<u64, u64>) -> bool {
        self.throttle_ms = self.throttle_ms.max(verdict.unwrap_or_else(|wait| wait));
        verdict.is_ok()
    }
}

/// What is measured as one: a user, a client id, both, or an address.
type Sensor = (Option<String>, Option<String>);

/// A limit that applies to somebody.
#[derive(Debug, Clone, PartialEq)]
struct Limit {
    per_second: f64,
    sensor: Sensor,
}

/// Samples that a rate is made of: how many, and how long each is.
#[derive(Debug, Clone, Copy)]
struct Windows {
    count: usize,
    length_ms: u64,
}

impl Windows {
    fn new(count: i32, length_seconds: i32) -> Windows {
        let length_ms = u64::try_from(length_seconds).unwrap_or(1).max(1) * 1000;
        Windows { count: usize::try_from(count).unwrap_or(1).max(1), length_ms }
    }

    fn total_ms(self) -> u64 {
        self.length_ms * self.count as u64
    }
}

impl Quotas {
    pub(crate) fn new(config: &BrokerConfig) -> Quotas {
        let clients = || Limiter::new(Windows::new(config.quota_window_num, config.quota_window_size_seconds));
        let controller = Windows::new(config.controller_quota_window_num, config.controller_quota_window_size_seconds);
        Quotas { produce: clients(), fetch: clients(), mutations: Limiter::new(controller), connections: clients() }
    }

    /// A client produced so many bytes; how many milliseconds it must wait.
    pub(crate) fn produced(&self, quotas: &QuotasImage, client_id: &str, bytes: usize, now: Now) -> u64 {
        let limit = client_limit(quotas, PRODUCER_BYTE_RATE, ANONYMOUS, client_id);
        limit.map_or(0, |limit| self.produce.record(limit, bytes as f64, now))
    }

    /// A client was given so many bytes; how many milliseconds it must wait.
    pub(crate) fn fetched(&self, quotas: &QuotasImage, client_id: &str, bytes: usize, now: Now) -> u64 {
        let limit = client_limit(quotas, CONSUMER_BYTE_RATE, ANONYMOUS, client_id);
        limit.map_or(0, |limit| self.fetch.record(limit, bytes as f64, now))
    }

    /// A client wants to create or delete so many partitions. If `strict`, a client that has nothing left is refused.
    ///
    /// # Errors
    /// How many milliseconds it must wait before it may ask again; as `Ok`, how many it must wait although it was heard.
    pub(crate) fn mutate(
        &self,
        quotas: &QuotasImage,
        client_id: &str,
        partitions: usize,
        strict: bool,
        now: Now,
    ) -> Result<u64, u64> {
        match client_limit(quotas, CONTROLLER_MUTATION_RATE, ANONYMOUS, client_id) {
            Some(limit) => self.mutations.take(limit, partitions as f64, strict, now),
            None => Ok(0),
        }
    }

    /// An address connects; how many milliseconds too early.
    pub(crate) fn connected(&self, quotas: &QuotasImage, address: IpAddr, now: Now) -> u64 {
        let Some(limit) = address_limit(quotas, address) else { return 0 };
        let early_ms = self.connections.record(limit.clone(), 1.0, now);
        if early_ms > 0 {
            // it will not be served, and so does not count
            self.connections.record(limit, -1.0, now);
        }
        early_ms
    }
}

/// The quota of a client: that of the narrowest entity it belongs to. Users come before client ids, names before defaults.
fn client_limit(quotas: &QuotasImage, key: &str, user: &str, client_id: &str) -> Option<Limit> {
    if quotas.entities.is_empty() {
        return None;
    }
    let (user, client) = (Some(user.to_owned()), Some(client_id.to_owned()));
    let users = [Some(&user), Some(&None), None];
    let clients = [Some(&client), Some(&None), None];
    // a named user goes before the default one even without a client id
    let narrowest = users.iter().flat_map(|user| clients.iter().map(move |client| (*user, *client)));
    narrowest.filter(|pair| *pair != (None, None)).find_map(|(of_user, of_client)| {
        let mut entity = QuotaEntity::new();
        entity.extend(of_user.map(|name| ("user".to_owned(), name.clone())));
        entity.extend(of_client.map(|name| ("client-id".to_owned(), name.clone())));
        let per_second = *quotas.entities.get(&entity)?.get(key)?;
        // a default entity's quota is everybody's own
        let sensor = (of_user.and_then(|_| user.clone()), of_client.and_then(|_| client.clone()));
        Some(Limit { per_second, sensor })
    })
}

fn address_limit(quotas: &QuotasImage, address: IpAddr) -> Option<Limit> {
    if quotas.entities.is_empty() {
        return None;
    }
    let name = address.to_string();
    [Some(name.clone()), None].into_iter().find_map(|entity| {
        let entity = QuotaEntity::from([("ip".to_owned(), entity)]);
        let per_second = *quotas.entities.get(&entity)?.get(CONNECTION_CREATION_RATE)?;
        Some(Limit { per_second, sensor: (None, Some(name.clone())) })
    })
}

/// One quota, with a measurement per sensor.
struct Limiter {
    windows: Windows,
    meters: Mutex<HashMap<Sensor, Meter>>,
}

#[derive(Default)]
struct Meter {
    /// Start and amount of the samples, oldest first.
    samples: VecDeque<(u64, f64)>,
    /// What is left in the bucket of [`Limiter::take`], as of `last_ms`.
    tokens: Option<f64>,
    last_ms: u64,
}

impl Limiter {
    fn new(windows: Windows) -> Limiter {
        Limiter { windows, meters: Mutex::default() }
    }

    fn with<R>(&self, sensor: Sensor, now: Now, work: impl FnOnce(&mut Meter) -> R) -> R {
        let mut meters = self.meters.lock();
        if meters.len() >= MAX_QUOTA_SENSORS && !meters.contains_key(&sensor) {
            let kept_ms = self.windows.total_ms();
            meters.retain(|_, meter| now.mono_ms.saturating_sub(meter.last_ms) < kept_ms);
            if meters.len() >= MAX_QUOTA_SENSORS {
                meters.clear();
            }
        }
        let meter = meters.entry(sensor).or_default();
        let result = work(meter);
        meter.last_ms = now.mono_ms;
        result
    }

    /// Counts; how long until the rate is what it may be.
    fn record(&self, limit: Limit, amount: f64, now: Now) -> u64 {
        let windows = self.windows;
        self.with(limit.sensor, now, |meter| {
            meter.add(windows, amount, now.mono_ms);
            let (total, over_ms) = meter.total(windows, now.mono_ms);
            let rate = total * 1000.0 / over_ms;
            if rate <= limit.per_second {
                0
            } else {
                milliseconds((rate - limit.per_second) / limit.per_second * over_ms)
            }
        })
    }

    /// Takes from a bucket that fills at the quota's rate and holds what all samples together may; it may be overdrawn once.
    fn take(&self, limit: Limit, amount: f64, strict: bool, now: Now) -> Result<u64, u64> {
        let rate = limit.per_second;
        let size = rate * self.windows.total_ms() as f64 / 1000.0;
        self.with(limit.sensor, now, |meter| {
            let filled = rate * now.mono_ms.saturating_sub(meter.last_ms) as f64 / 1000.0;
            let tokens = meter.tokens.map_or(size, |tokens| (tokens + filled).min(size));
            let wait = |tokens: f64| if tokens < 0.0 { milliseconds(-tokens * 1000.0 / rate) } else { 0 };
            if strict && tokens < 0.0 {
                meter.tokens = Some(tokens);
                return Err(wait(tokens));
            }
            meter.tokens = Some(tokens - amount);
            Ok(if strict { 0 } else { wait(tokens - amount) })
        })
    }
}

impl Meter {
    fn add(&mut self, windows: Windows, amount: f64, now_ms: u64) {
        match self.samples.back_mut() {
            Some((start, total)) if now_ms.saturating_sub(*start) < windows.length_ms => *total += amount,
            _ => self.samples.push_back((now_ms, amount)),
        }
        while self.samples.front().is_some_and(|(start, _)| now_ms.saturating_sub(*start) >= windows.total_ms()) {
            self.samples.pop_front();
        }
    }

    /// What was counted, and over how many milliseconds: at least all samples but one, so that a first burst is no rate yet.
    fn total(&self, windows: Windows, now_ms: u64) -> (f64, f64) {
        let oldest = self.samples.front().map_or(now_ms, |(start, _)| *start);
        let elapsed = now_ms.saturating_sub(oldest);
        let least = windows.count as u64 - 1;
        let missing = least.saturating_sub(elapsed / windows.length_ms);
        let total = self.samples.iter().map(|(_, amount)| amount).sum();
        (total, (elapsed + missing * windows.length_ms).max(windows.length_ms) as f64)
    }
}

fn milliseconds(value: f64) -> u64 {
    // saturates; a quota of less than a byte a day is nobody's wish
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: 0 }
    }

    /// An entity, its key and the quota.
    type Given<'a> = (&'a [(&'a str, Option<&'a str>)], &'a str, f64);

    fn image(entities: &[Given<'_>]) -> QuotasImage {
        let mut quotas = QuotasImage::default();
        for (entity, key, value) in entities {
            let entity = entity.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect();
            quotas.entities.entry(entity).or_default().insert((*key).to_owned(), *value);
        }
        quotas
    }

    fn quotas() -> Quotas {
        let windows = || Limiter::new(Windows::new(11, 1));
        Quotas { produce: windows(), fetch: windows(), mutations: windows(), connections: windows() }
    }

    #[test]
    fn a_burst_waits_until_its_rate_is_the_quota() {
        let (quotas, image) = (quotas(), image(&[(&[("client-id", Some("c"))], PRODUCER_BYTE_RATE, 1000.0)]));
        assert_eq!(quotas.produced(&image, "c", 10_000, at(0)), 0);
        // 20,000 bytes over ten seconds are 2,000 a second: twice the quota, as long as the window
        assert_eq!(quotas.produced(&image, "c", 10_000, at(0)), 10_000);
        assert_eq!(quotas.produced(&image, "other", 1 << 30, at(0)), 0);
        assert_eq!(quotas.fetched(&image, "c", 1 << 30, at(0)), 0);
        // long after, nothing is left of it
        assert_eq!(quotas.produced(&image, "c", 1000, at(60_000)), 0);
    }

    #[test]
    fn the_narrowest_entity_counts() {
        let key = CONSUMER_BYTE_RATE;
        let all: &[Given<'_>] = &[
            (&[("client-id", None)], key, 8.0),
            (&[("client-id", Some("c"))], key, 7.0),
            (&[("user", None)], key, 6.0),
            (&[("user", None), ("client-id", None)], key, 5.0),
            (&[("user", None), ("client-id", Some("c"))], key, 4.0),
            (&[("user", Some("u"))], key, 3.0),
            (&[("user", Some("u")), ("client-id", None)], key, 2.0),
            (&[("user", Some("u")), ("client-id", Some("c"))], key, 1.0),
        ];
        for given in 1..=all.len() {
            let limit = client_limit(&image(&all[..given]), key, "u", "c").expect("a limit");
            assert_eq!(limit.per_second, all[given - 1].2);
        }
        let user = |name: &str| Some(name.to_owned());
        let limit = |given| client_limit(&image(&all[given..=given]), key, "u", "c").map(|limit| limit.sensor);
        assert_eq!(limit(0), Some((None, user("c"))));
        assert_eq!(limit(2), Some((user("u"), None)));
        assert_eq!(limit(3), Some((user("u"), user("c"))));
        assert_eq!(client_limit(&image(all), PRODUCER_BYTE_RATE, "u", "c"), None);
    }

    #[test]
    fn changes_may_overdraw_once() {
        let (quotas, image) = (quotas(), image(&[(&[("user", None)], CONTROLLER_MUTATION_RATE, 2.0)]));
        // a bucket of 22
        assert_eq!(quotas.mutate(&image, "c", 30, true, at(0)), Ok(0));
        assert_eq!(quotas.mutate(&image, "c", 1, true, at(0)), Err(4000));
        assert_eq!(quotas.mutate(&image, "c", 2, false, at(0)), Ok(5000));
        assert_eq!(quotas.mutate(&image, "c", 1, true, at(5000)), Ok(0));
    }

    #[test]
    fn addresses_connect_at_their_rate() {
        let quota = [
            (&[("ip", Some("10.0.0.1"))][..], CONNECTION_CREATION_RATE, 1.0),
            (&[("ip", None)][..], CONNECTION_CREATION_RATE, 100.0),
        ];
        let (quotas, image) = (quotas(), image(&quota));
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let waits: Vec<u64> = (0..12).map(|_| quotas.connected(&image, address("10.0.0.1"), at(0))).collect();
        assert_eq!(waits[..10], [0; 10]);
        assert_eq!(waits[10..], [1000, 1000]);
        assert_eq!(quotas.connected(&image, address("10.0.0.2"), at(0)), 0);
    }
}
