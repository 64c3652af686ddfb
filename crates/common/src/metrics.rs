//! Metrics addressed by Kafka's MBean names, exposed as text in the form dashboards expect from the JMX exporter.
//!
//! `kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec,topic=t` becomes
//! `kafka_server_brokertopicmetrics_messagesin_total{topic="t"}`, as the exporter's widely used Kafka rules name it.
//! Handles are cheap to clone and to update (one atomic); looking a metric up takes a lock, so keep the handle.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

/// A count that only grows. Kafka's `*PerSec` meters are exposed by their count.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn add(&self, delta: i64) {
        self.0.fetch_add(delta, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A measurement with fractions, such as a rate.
#[derive(Debug, Clone, Default)]
pub struct Value(Arc<AtomicU64>);

impl Value {
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Distribution of non-negative integers with a relative error of at most 1/8: eight buckets per power of two.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<HistogramCells>);

const SUB_BUCKET_BITS: u32 = 3;
const BUCKETS: usize = (64 - SUB_BUCKET_BITS as usize + 1) << SUB_BUCKET_BITS;

#[derive(Debug)]
struct HistogramCells {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Histogram(Arc::new(HistogramCells { buckets, sum: AtomicU64::new(0) }))
    }
}

fn bucket_of(value: u64) -> usize {
    if value < 1 << SUB_BUCKET_BITS {
        return value as usize;
    }
    let exponent = 63 - value.leading_zeros();
    let shift = exponent - SUB_BUCKET_BITS;
    ((shift as usize + 1) << SUB_BUCKET_BITS) + ((value >> shift) as usize & ((1 << SUB_BUCKET_BITS) - 1))
}

fn bucket_start(bucket: usize) -> u64 {
    let sub = bucket as u64 & ((1 << SUB_BUCKET_BITS) - 1);
    match bucket >> SUB_BUCKET_BITS {
        0 => sub,
        group => ((1 << SUB_BUCKET_BITS) | sub) << (group - 1),
    }
}

impl Histogram {
    pub fn record(&self, value: u64) {
        if let Some(cell) = self.0.buckets.get(bucket_of(value)) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|cell| cell.load(Ordering::Relaxed)).sum()
    }

    pub fn sum(&self) -> u64 {
        self.0.sum.load(Ordering::Relaxed)
    }

    /// The lower end of the bucket that holds the quantile `q` (0.0 to 1.0); 0 when nothing was recorded.
    pub fn quantile(&self, q: f64) -> u64 {
        let counts: Vec<u64> = self.0.buckets.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let rank = ((total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return bucket_start(bucket);
            }
        }
        0
    }
}

#[derive(Debug, Clone)]
enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Value(Value),
    Histogram(Histogram),
}

/// Name of a metric as JMX has it: `kafka.server` , `BrokerTopicMetrics`, `MessagesInPerSec`, and further key properties as labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct MetricName {
    domain: &'static str,
    kind: &'static str,
    name: &'static str,
    labels: Vec<(&'static str, String)>,
}

/// All metrics of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<MetricName, Metric>>>);

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    /// The counter of this name, made on first use. A name already taken by another kind of metric yields a detached counter.
    pub fn counter(
        &self,
        domain: &'static str,
        kind: &'static str,
        name: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Counter {
        match self.entry(domain, kind, name, labels, || Metric::Counter(Counter::default())) {
            Metric::Counter(counter) => counter,
            _ => Counter::default(),
        }
    }

    pub fn gauge(
        &self,
        domain: &'static str,
        kind: &'static str,
        name: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Gauge {
        match self.entry(domain, kind, name, labels, || Metric::Gauge(Gauge::default())) {
            Metric::Gauge(gauge) => gauge,
            _ => Gauge::default(),
        }
    }

    pub fn value(
        &self,
        domain: &'static str,
        kind: &'static str,
        name: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Value {
        match self.entry(domain, kind, name, labels, || Metric::Value(Value::default())) {
            Metric::Value(value) => value,
            _ => Value::default(),
        }
    }

    pub fn histogram(
        &self,
        domain: &'static str,
        kind: &'static str,
        name: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Histogram {
        match self.entry(domain, kind, name, labels, || Metric::Histogram(Histogram::default())) {
            Metric::Histogram(histogram) => histogram,
            _ => Histogram::default(),
        }
    }

    /// Forgets every metric that carries this label, such as those of a deleted topic.
    pub fn remove_labelled(&self, label: &str, value: &str) {
        self.0.lock().retain(|name, _| !name.labels.iter().any(|(key, val)| *key == label && val == value));
    }

    /// Forgets every metric of this name, whatever its labels, before its owner says anew what there is.
    pub fn remove_named(&self, domain: &str, kind: &str, name: &str) {
        self.0.lock().retain(|known, _| known.domain != domain || known.kind != kind || known.name != name);
    }

    /// Forgets every metric of this kind, before its owner says anew what there is.
    pub fn remove_kind(&self, domain: &str, kind: &str) {
        self.0.lock().retain(|name, _| name.domain != domain || name.kind != kind);
    }

    /// Everything in the Prometheus text format.
    pub fn expose(&self) -> String {
        let mut out = String::new();
        let mut last_family = String::new();
        for (name, metric) in self.0.lock().iter() {
            let base = exported_name(name);
            let (family, kind) = match metric {
                Metric::Counter(_) => (format!("{base}_total"), "counter"),
                Metric::Gauge(_) | Metric::Value(_) => (base, "gauge"),
                Metric::Histogram(_) => (base, "summary"),
            };
            if family != last_family {
                let _ = writeln!(out, "# TYPE {family} {kind}");
            }
            match metric {
                Metric::Counter(counter) => sample(&mut out, &family, "", &name.labels, None, counter.get() as f64),
                Metric::Gauge(gauge) => sample(&mut out, &family, "", &name.labels, None, gauge.get() as f64),
                Metric::Value(value) => sample(&mut out, &family, "", &name.labels, None, value.get()),
                Metric::Histogram(histogram) => {
                    for q in ["0.50", "0.75", "0.95", "0.98", "0.99", "0.999"] {
                        let value = histogram.quantile(q.parse().unwrap_or(0.5)) as f64;
                        sample(&mut out, &family, "", &name.labels, Some(q), value);
                    }
                    sample(&mut out, &family, "_sum", &name.labels, None, histogram.sum() as f64);
                    sample(&mut out, &family, "_count", &name.labels, None, histogram.count() as f64);
                }
            }
            last_family = family;
        }
        out
    }

    /// Every metric by its MBean name, with its attributes and their values: what JMX would show.
    pub fn beans(&self) -> Vec<(String, Vec<(&'static str, f64)>)> {
        let mut beans = Vec::new();
        for (name, metric) in self.0.lock().iter() {
            let mut text = format!("{}:type={},name={}", name.domain, name.kind, name.name);
            for (key, value) in &name.labels {
                let _ = write!(text, ",{key}={value}");
            }
            let mut attributes = Vec::new();
            if let Metric::Counter(counter) = metric {
                attributes.push(("Count", counter.get() as f64));
            } else if let Metric::Gauge(gauge) = metric {
                attributes.push(("Value", gauge.get() as f64));
            } else if let Metric::Value(value) = metric {
                attributes.push(("Value", value.get()));
            } else if let Metric::Histogram(histogram) = metric {
                let count = histogram.count();
                attributes.push(("Count", count as f64));
                attributes.push(("Mean", if count == 0 { 0.0 } else { histogram.sum() as f64 / count as f64 }));
                for (attribute, q) in [
                    ("50thPercentile", 0.5),
                    ("75thPercentile", 0.75),
                    ("95thPercentile", 0.95),
                    ("98thPercentile", 0.98),
                    ("99thPercentile", 0.99),
                    ("999thPercentile", 0.999),
                ] {
                    attributes.push((attribute, histogram.quantile(q) as f64));
                }
            }
            beans.push((text, attributes));
        }
        beans
    }

    fn entry(
        &self,
        domain: &'static str,
        kind: &'static str,
        name: &'static str,
        labels: &[(&'static str, &str)],
        make: impl FnOnce() -> Metric,
    ) -> Metric {
        let labels = labels.iter().map(|&(key, value)| (key, value.to_owned())).collect();
        self.0.lock().entry(MetricName { domain, kind, name, labels }).or_insert_with(make).clone()
    }
}

fn exported_name(name: &MetricName) -> String {
    let short = name.name.strip_suffix("PerSec").unwrap_or(name.name);
    format!("{}_{}_{}", name.domain, name.kind, short).replace(['.', '-'], "_").to_lowercase()
}

fn sample(
    out: &mut String,
    family: &str,
    suffix: &str,
    labels: &[(&'static str, String)],
    quantile: Option<&str>,
    value: f64,
) {
    let mut text: Vec<String> = labels
        .iter()
        .map(|(key, value)| {
            format!("{key}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
        })
        .collect();
    text.extend(quantile.map(|q| format!("quantile=\"{q}\"")));
    let braces = if text.is_empty() { String::new() } else { format!("{{{}}}", text.join(",")) };
    let _ = writeln!(out, "{family}{suffix}{braces} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposition_uses_the_names_dashboards_know() {
        let metrics = Metrics::new();
        metrics.counter("kafka.server", "BrokerTopicMetrics", "MessagesInPerSec", &[("topic", "a\"b")]).add(3);
        metrics.gauge("kafka.server", "ReplicaManager", "UnderReplicatedPartitions", &[]).set(2);
        let time = metrics.histogram("kafka.network", "RequestMetrics", "TotalTimeMs", &[("request", "Produce")]);
        (1..=100).for_each(|ms| time.record(ms));
        let text = metrics.expose();
        assert!(text.contains("# TYPE kafka_server_brokertopicmetrics_messagesin_total counter\nkafka_server_brokertopicmetrics_messagesin_total{topic=\"a\\\"b\"} 3\n"), "{text}");
        assert!(text.contains("kafka_server_replicamanager_underreplicatedpartitions 2\n"), "{text}");
        let beans = metrics.beans();
        let of = |name: &str| beans.iter().find(|(bean, _)| bean == name).map(|(_, attributes)| attributes[0]);
        assert_eq!(of("kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec,topic=a\"b"), Some(("Count", 3.0)));
        assert_eq!(of("kafka.server:type=ReplicaManager,name=UnderReplicatedPartitions"), Some(("Value", 2.0)));
        assert!(text.contains("kafka_network_requestmetrics_totaltimems_count{request=\"Produce\"} 100\n"), "{text}");
        assert!(
            text.contains("kafka_network_requestmetrics_totaltimems{request=\"Produce\",quantile=\"0.50\"} 48\n"),
            "{text}"
        );
    }

    #[test]
    fn one_name_is_one_metric() {
        let metrics = Metrics::new();
        metrics.counter("d", "k", "n", &[]).inc();
        metrics.counter("d", "k", "n", &[]).inc();
        assert_eq!(metrics.counter("d", "k", "n", &[]).get(), 2);
        metrics.gauge("d", "k", "g", &[("topic", "t")]);
        metrics.remove_labelled("topic", "t");
        assert!(!metrics.expose().contains("d_k_g"));
        metrics.remove_named("d", "k", "n");
        assert_eq!(metrics.beans(), []);
    }

    proptest::proptest! {
        #[test]
        fn buckets_hold_their_values(value: u64) {
            let bucket = bucket_of(value);
            assert!(bucket < BUCKETS);
            assert!(bucket_start(bucket) <= value);
            assert!(value - bucket_start(bucket) <= value / 8);
        }
    }
}
