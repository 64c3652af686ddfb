//! One file per command, and the list of all of them.

mod acl_rules;
pub(crate) mod acls;
pub(crate) mod adopt;
pub(crate) mod broker_api_versions;
pub(crate) mod client_metrics;
mod client_metrics_table;
pub(crate) mod cluster;
mod config_entities;
pub(crate) mod configs;
pub(crate) mod console_consumer;
pub(crate) mod console_producer;
pub(crate) mod consumer_groups;
pub(crate) mod consumer_perf_test;
mod coordinator_formatter;
pub(crate) mod delegation_tokens;
pub(crate) mod delete_records;
pub(crate) mod dev;
pub(crate) mod dump_log;
pub(crate) mod e2e_latency;
pub(crate) mod features;
mod formatter;
pub(crate) mod get_offsets;
mod group_rows;
pub(crate) mod groups;
mod hanging;
pub(crate) mod jmx;
pub(crate) mod leader_election;
mod line_reader;
pub(crate) mod log_dirs;
pub(crate) mod metadata_quorum;
pub(crate) mod metadata_shell;
mod offset_reset;
mod perf_stats;
pub(crate) mod producer_perf_test;
mod reassign_files;
mod reassign_moves;
pub(crate) mod reassign_partitions;
pub(crate) mod replica_verification;
pub(crate) mod run_class;
mod scram;
pub(crate) mod server_start;
pub(crate) mod server_stop;
pub(crate) mod storage;
mod storage_features;
mod storage_format;
pub(crate) mod streams_reset;
mod text_table;
pub(crate) mod topics;
pub(crate) mod transactions;
pub(crate) mod verifiable_consumer;
pub(crate) mod verifiable_producer;

/// A command: arguments without its name to exit code.
type Run = fn(&[String]) -> i32;

/// `dev`, `adopt` and Kafka's script names, and what answers to them.
const COMMANDS: &[(&str, Run)] = &[
    ("dev", dev::run),
    ("adopt", adopt::run),
    ("kafka-server-start", server_start::run),
    ("kafka-server-stop", server_stop::run),
    ("kafka-storage", storage::run),
    ("kafka-topics", topics::run),
    ("kafka-console-producer", console_producer::run),
    ("kafka-console-consumer", console_consumer::run),
    ("kafka-consumer-groups", consumer_groups::run),
    ("kafka-configs", configs::run),
    ("kafka-dump-log", dump_log::run),
    ("kafka-producer-perf-test", producer_perf_test::run),
    ("kafka-consumer-perf-test", consumer_perf_test::run),
    ("kafka-e2e-latency", e2e_latency::run),
    ("kafka-verifiable-producer", verifiable_producer::run),
    ("kafka-verifiable-consumer", verifiable_consumer::run),
    ("kafka-replica-verification", replica_verification::run),
    ("kafka-streams-application-reset", streams_reset::run),
    ("kafka-metadata-shell", metadata_shell::run),
    ("kafka-jmx", jmx::run),
    ("kafka-run-class", run_class::run),
    ("kafka-acls", acls::run),
    ("kafka-broker-api-versions", broker_api_versions::run),
    ("kafka-client-metrics", client_metrics::run),
    ("kafka-cluster", cluster::run),
    ("kafka-delegation-tokens", delegation_tokens::run),
    ("kafka-delete-records", delete_records::run),
    ("kafka-features", features::run),
    ("kafka-get-offsets", get_offsets::run),
    ("kafka-groups", groups::run),
    ("kafka-leader-election", leader_election::run),
    ("kafka-log-dirs", log_dirs::run),
    ("kafka-metadata-quorum", metadata_quorum::run),
    ("kafka-reassign-partitions", reassign_partitions::run),
    ("kafka-transactions", transactions::run),
];

/// The command of that name, with or without `.sh` and its folder.
pub(crate) fn find(name: &str) -> Option<Run> {
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.strip_suffix(".sh").unwrap_or(name);
    COMMANDS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}

/// The names of all commands, for the help.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, _)| *name)
}
