//! The keys of the resource CLIENT_METRICS (KIP-714): one row each, sorted by name.

use super::def::config_def;

config_def! {
    /// One client-metrics subscription.
    pub struct ClientMetricsConfig;

    "interval.ms" => interval_ms: i32 = "300000", Any, ClusterWide Public live, "How often clients push their metrics.";
    "match" => match_patterns: Vec<String> = "", Elements, ClusterWide Public live, "Which clients push: selector=pattern, separated by commas; empty is all.";
    "metrics" => metrics: Vec<String> = "", Elements, ClusterWide Public live, "Beginnings of the metrics' names; * is all.";
}
