//! `kafka-transactions`: transactions and their producers, and the ending of those that hang (KIP-664).
//!
//! Same subcommands, flags, output and exit codes as Kafka's TransactionsCommand. `hanging` finds the transactions that nobody will end.

use milena_client::ClientError;
use milena_client::admin::{AbortSpec, Admin, ProducerState};
use milena_common::{Clock as _, SystemClock, TopicPartition};
use milena_protocol::ErrorCode;

use super::hanging;
use super::text_table::text_table;
use crate::java;
use crate::opts::argparse::{Asked, FREE, Found, Sub, Tool, number, one, optional, required};
use crate::tool::{self, Stop, err, out, refuse};

const TOOL: Tool = Tool {
    name: "kafka-transactions.sh",
    doc: "This tool is used to analyze the transactional state of producers in the cluster. It can be used to detect and recover from hanging transactions.",
    flags: &[
        optional("-v", "--version", "", "show the version of this Kafka distribution and exit"),
        optional("--command-config", "", "FILE", "A properties file with settings of the admin client."),
        required("--bootstrap-server", "", "host:port", "The brokers to start from, as host:port with commas."),
    ],
    choice: FREE,
    command: "COMMAND",
    subs: &[
        Sub {
            name: "list",
            doc: "list transactions",
            flags: &[
                optional(
                    "--duration-filter",
                    "",
                    "DURATION_FILTER",
                    "Only transactions that have lasted longer than so many milliseconds; all if negative.",
                )
                .long(),
                optional(
                    "--transactional-id-pattern",
                    "",
                    "TRANSACTIONAL_ID_PATTERN",
                    "Only transactional ids that match this regular expression.",
                ),
            ],
            choice: FREE,
        },
        Sub {
            name: "describe",
            doc: "describe the state of an active transactional-id",
            flags: &[required("--transactional-id", "", "TRANSACTIONAL_ID", "The transactional id.")],
            choice: FREE,
        },
        Sub {
            name: "describe-producers",
            doc: "describe the states of active producers for a topic partition",
            flags: &[
                optional("--broker-id", "", "BROKER_ID", "Ask this broker instead of the leader.").int(),
                required("--topic", "", "TOPIC", "The topic."),
                required("--partition", "", "PARTITION", "The partition.").int(),
            ],
            choice: FREE,
        },
        Sub {
            name: "abort",
            doc: "abort a hanging transaction (requires administrative privileges)",
            flags: &[
                required("--topic", "", "TOPIC", "The topic."),
                required("--partition", "", "PARTITION", "The partition.").int(),
                optional(
                    "--start-offset",
                    "",
                    "START_OFFSET",
                    "Where the transaction begins; the broker knows the rest.",
                )
                .long(),
                optional("--producer-id", "", "PRODUCER_ID", "The producer, for brokers before 3.0.").long(),
                optional("--producer-epoch", "", "PRODUCER_EPOCH", "Its epoch, for brokers before 3.0.").int(),
                optional(
                    "--coordinator-epoch",
                    "",
                    "COORDINATOR_EPOCH",
                    "The coordinator's epoch, for brokers before 3.0.",
                )
                .int(),
            ],
            choice: FREE,
        },
        Sub {
            name: "find-hanging",
            doc: "find hanging transactions",
            flags: &[
                optional("--broker-id", "", "BROKER_ID", "Only partitions that this broker leads.").int(),
                optional(
                    "--max-transaction-timeout",
                    "",
                    "MAX_TRANSACTION_TIMEOUT",
                    "After how many minutes without end a transaction hangs (15).",
                )
                .int(),
                optional("--topic", "", "TOPIC", "Only this topic; needed without --broker-id."),
                optional("--partition", "", "PARTITION", "Only this partition of the topic.").int(),
            ],
            choice: FREE,
        },
        Sub {
            name: "forceTerminateTransaction",
            doc: "Force abort an ongoing transaction on transactionalId (requires administrative privileges)",
            flags: &[required("--transactionalId", "", "TRANSACTIONALID", "The transactional id.")],
            choice: FREE,
        },
    ],
};

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    // the parser's action for the version comes before everything
    if args.iter().take_while(|arg| arg.starts_with('-')).any(|arg| arg == "-v" || arg == "--version") {
        out(format_args!("{} (Commit:unknown)\n", tool::KAFKA_VERSION));
        return tool::finish(&[], Ok(()));
    }
    let result = match TOOL.parse(args) {
        Asked::Help(text) => {
            out(text);
            Err(Stop::Exit(1))
        }
        Asked::Wrong(text) => {
            err(text);
            Err(Stop::Exit(1))
        }
        Asked::Run { sub, found } => tool::block_on(execute(sub, &found)),
    };
    tool::finish(&[], result)
}

/// Kafka's way to end with an exception: its message behind what was tried.
pub(super) fn failed<T>(what: &str, error: &ClientError) -> Result<T, Stop> {
    refuse(format!("{what}: {}. Enable debug logging for additional detail.", java::message_of(error)))
}

async fn execute(sub: &str, found: &Found) -> Result<(), Stop> {
    let config = one(found, "--command-config");
    let client = match (tool::client(one(found, "--bootstrap-server"), None, config), config) {
        (Err(Stop::Thrown(error)), Some(path)) if error.class.ends_with("NoSuchFileException") => {
            return refuse(format!(
                "Failed to load admin client properties: {path}. Enable debug logging for additional detail."
            ));
        }
        (client, _) => client?,
    };
    let admin = Admin::new(client);
    match sub {
        "list" => list(&admin, found).await,
        "describe" => describe(&admin, found).await,
        "describe-producers" => describe_producers(&admin, found).await,
        "abort" => abort(&admin, found).await,
        "find-hanging" => hanging::find(&admin, found).await,
        _ => terminate(&admin, found).await,
    }
}

async fn list(admin: &Admin, found: &Found) -> Result<(), Stop> {
    let duration: i64 = number(found, "--duration-filter").unwrap_or(-1);
    let pattern = one(found, "--transactional-id-pattern");
    let what = "Failed to list transactions";
    let cluster = match admin.describe_cluster().await {
        Ok(cluster) => cluster,
        Err(ClientError::Timeout(_)) => {
            let text = "Timed out waiting for a node assignment. Call: listTransactions(api=METADATA)";
            return failed(what, &ClientError::Timeout(text.into()));
        }
        Err(error) => return failed(what, &error),
    };
    let mut rows = Vec::new();
    for node in cluster.nodes {
        match admin.list_transactions(node.id, &[], duration, pattern).await {
            Ok(listings) => {
                rows.extend(listings.into_iter().map(|t| {
                    vec![t.transactional_id, t.coordinator_id.to_string(), t.producer_id.to_string(), t.state]
                }))
            }
            Err(error) => return failed(what, &error),
        }
    }
    out(text_table(&["TransactionalId", "Coordinator", "ProducerId", "TransactionState"], &rows));
    Ok(())
}

async fn describe(admin: &Admin, found: &Found) -> Result<(), Stop> {
    let id = one(found, "--transactional-id").unwrap_or_default();
    let what = format!("Failed to describe transaction state of transactional-id `{id}`");
    let t = match admin.describe_transaction(id).await {
        Ok(description) => description,
        Err(error) if error.code() == Some(ErrorCode::TransactionalIdNotFound) => {
            return refuse(format!(
                "{what}: DescribeTransactions request for transactionalId `{id}` failed because the ID could not be found. Enable debug logging for additional detail."
            ));
        }
        Err(error) => return failed(&what, &error),
    };
    let (started, lasted) = match t.started_ms {
        Some(ms) => (ms.to_string(), SystemClock.now().wall_ms.saturating_sub(ms).to_string()),
        None => ("None".into(), "None".into()),
    };
    let mut partitions = t.partitions;
    java::partition_order(&mut partitions, |tp| tp);
    let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    let row = vec![
        t.coordinator_id.to_string(),
        id.to_string(),
        t.producer_id.to_string(),
        t.producer_epoch.to_string(),
        t.state,
        t.timeout_ms.to_string(),
        started,
        lasted,
        names.join(","),
    ];
    let head = [
        "CoordinatorId",
        "TransactionalId",
        "ProducerId",
        "ProducerEpoch",
        "TransactionState",
        "TransactionTimeoutMs",
        "CurrentTransactionStartTimeMs",
        "TransactionDurationMs",
        "TopicPartitions",
    ];
    out(text_table(&head, &[row]));
    Ok(())
}

/// The producers of one partition, from its leader or from the broker of `--broker-id`.
async fn producers(admin: &Admin, tp: &TopicPartition, broker: Option<i32>) -> Result<Vec<ProducerState>, Stop> {
    let whom = broker.map_or("leader".to_string(), |broker| format!("broker {broker}"));
    let what = format!("Failed to describe producers for partition {tp} on {whom}");
    match admin.describe_producers(std::slice::from_ref(tp), broker).await {
        Ok(mut results) => match results.remove(tp) {
            Some(Ok(states)) => Ok(states),
            Some(Err(error)) => failed(&what, &error),
            None => failed(&what, &ClientError::api(ErrorCode::UnknownTopicOrPartition, tp.to_string())),
        },
        Err(error) => failed(&what, &error),
    }
}

fn partition(found: &Found) -> TopicPartition {
    let topic = one(found, "--topic").unwrap_or_default();
    TopicPartition::new(topic, number(found, "--partition").unwrap_or_default())
}

async fn describe_producers(admin: &Admin, found: &Found) -> Result<(), Stop> {
    let states = producers(admin, &partition(found), number(found, "--broker-id")).await?;
    let rows: Vec<Vec<String>> = states
        .into_iter()
        .map(|state| {
            vec![
                state.producer_id.to_string(),
                state.producer_epoch.to_string(),
                state.coordinator_epoch.unwrap_or(-1).to_string(),
                state.last_sequence.to_string(),
                state.last_timestamp.to_string(),
                state.txn_start_offset.map_or("None".into(), |offset| offset.to_string()),
            ]
        })
        .collect();
    let head = [
        "ProducerId",
        "ProducerEpoch",
        "LatestCoordinatorEpoch",
        "LastSequence",
        "LastTimestamp",
        "CurrentTransactionStartOffset",
    ];
    out(text_table(&head, &rows));
    Ok(())
}

async fn abort(admin: &Admin, found: &Found) -> Result<(), Stop> {
    let tp = partition(found);
    let start: Option<i64> = number(found, "--start-offset");
    let producer: Option<i64> = number(found, "--producer-id");
    let spec = match (start, producer) {
        (None, None) => {
            return refuse(
                "The transaction to abort must be identified either with --start-offset (for brokers on 3.0 or above) or with --producer-id, --producer-epoch, and --coordinator-epoch (for older brokers)",
            );
        }
        (Some(start), _) => {
            let states = producers(admin, &tp, None).await?;
            let Some(state) = states.into_iter().find(|state| state.txn_start_offset == Some(start)) else {
                return refuse(format!(
                    "Could not find any open transactions starting at offset {start} on partition {tp}"
                ));
            };
            AbortSpec {
                partition: tp.clone(),
                producer_id: state.producer_id,
                producer_epoch: i16::try_from(state.producer_epoch).unwrap_or(i16::MAX),
                coordinator_epoch: state.coordinator_epoch.unwrap_or(0),
            }
        }
        (None, Some(producer_id)) => {
            let Some(producer_epoch) = number(found, "--producer-epoch") else {
                return refuse("Missing required argument --producer-epoch");
            };
            let Some(coordinator_epoch) = number::<i32>(found, "--coordinator-epoch") else {
                return refuse("Missing required argument --coordinator-epoch");
            };
            // brokers before 3.0 do not know the epoch of a coordinator that never wrote there
            AbortSpec {
                partition: tp.clone(),
                producer_id,
                producer_epoch,
                coordinator_epoch: coordinator_epoch.max(0),
            }
        }
    };
    match admin.abort_transaction(&spec).await {
        Ok(()) => Ok(()),
        Err(error) => failed(
            &format!(
                "Failed to abort transaction AbortTransactionSpec(topicPartition={tp}, producerId={}, producerEpoch={}, coordinatorEpoch={})",
                spec.producer_id, spec.producer_epoch, spec.coordinator_epoch
            ),
            &error,
        ),
    }
}

async fn terminate(admin: &Admin, found: &Found) -> Result<(), Stop> {
    let id = one(found, "--transactionalId").unwrap_or_default();
    match admin.fence_producer(id).await {
        Ok(()) => Ok(()),
        Err(error) => failed(&format!("Failed to force terminate transactionalId `{id}`"), &error),
    }
}
