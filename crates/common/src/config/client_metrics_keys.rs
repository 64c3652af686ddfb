//! The keys of the resource CLIENT_METRICS (KIP-714): one row each, sorted by name.

use super::def::config_def;

config_def! {
    /// One client-metrics subscription.
    pub struct ClientMetricsConfig;

    "interval.ms" => interval_ms: i32 = "300000", Any, ClusterWide Public idle, "";
    "match" => match_patterns: Vec<String> = "", Any, ClusterWide Public idle, "";
    "metrics" => metrics: Vec<String> = "", Any, ClusterWide Public idle, "";
}
