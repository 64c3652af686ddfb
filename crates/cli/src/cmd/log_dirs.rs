//! `kafka-log-dirs`: what lies in the log directories of the brokers, as one line of JSON.
//!
//! Same flags, output and exit codes as Kafka's LogDirsCommand.

use milena_client::ClientError;
use milena_client::admin::{Admin, LogDir};

use crate::java;
use crate::json::quoted;
use crate::opts::{Opt, flag, value};
use crate::tool::{self, Stop, err, help_or_version, out, require};

const OPTIONS: &[Opt] = &[
    value(
        "bootstrap-server",
        "String",
        "The server(s) to use for bootstrapping",
        "REQUIRED: the brokers to start from.",
    ),
    value(
        "command-config",
        "String",
        "Admin client property file",
        "A properties file with settings of the admin client.",
    ),
    flag("describe", "Describe the log directories."),
    value("topic-list", "String", "Topic list", "The topics to show, with commas; all if not given.").or(""),
    value("broker-list", "String", "Broker list", "The ids of the brokers to ask, with commas; all if not given.")
        .or(""),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = tool::parse(OPTIONS, args)?;
    help_or_version(&parsed, "This tool helps to query log directory usage on the specified brokers.")?;
    require(&parsed, &["bootstrap-server", "describe"])?;
    let list = |name| -> Result<Vec<&str>, Stop> {
        Ok(tool::value(&parsed, name)?.unwrap_or_default().split(',').filter(|word| !word.is_empty()).collect())
    };
    tool::block_on(async {
        let servers = tool::value(&parsed, "bootstrap-server")?;
        let admin = Admin::new(tool::client(servers, None, tool::value(&parsed, "command-config")?)?);
        let topics = list("topic-list")?;
        let nodes = admin.describe_cluster().await?.nodes;
        let existing: Vec<i32> = nodes.iter().map(|node| node.id).collect();
        let mut wanted = Vec::new();
        for word in list("broker-list")? {
            match word.parse::<i32>() {
                Ok(id) => wanted.push(id),
                Err(_) => {
                    return Err(java::JavaError {
                        class: "java.lang.NumberFormatException".into(),
                        message: format!("For input string: \"{word}\""),
                    }
                    .into());
                }
            }
        }
        let join = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let missing: Vec<i32> = wanted.iter().copied().filter(|id| !existing.contains(id)).collect();
        if !missing.is_empty() {
            err(format_args!(
                "ERROR: The given brokers do not exist from --broker-list: {}. Current existent brokers: {}\n",
                join(&missing),
                join(&existing)
            ));
            return Err(Stop::Exit(1));
        }
        let brokers = if wanted.is_empty() { existing } else { wanted };
        out("Querying brokers for log directories information\n");
        let mut described = Vec::new();
        for broker in &brokers {
            described.push((*broker, admin.describe_log_dirs(*broker).await?));
        }
        out(format_args!("Received log directory information from brokers {}\n", join(&brokers)));
        out(format_args!("{}\n", report(&described, &topics)));
        Ok(())
    })
}

/// One line of JSON, its fields in the order in which Kafka's maps list them.
fn report(brokers: &[(i32, Vec<LogDir>)], topics: &[&str]) -> String {
    let dir = |dir: &LogDir| {
        let mut replicas: Vec<_> = dir.replicas.iter().collect();
        java::partition_order(&mut replicas, |replica| &replica.partition);
        let partitions: Vec<String> = replicas
            .into_iter()
            .filter(|replica| topics.is_empty() || topics.contains(&&*replica.partition.topic))
            .map(|replica| {
                format!(
                    "{{\"partition\":{},\"size\":{},\"offsetLag\":{},\"isFuture\":{}}}",
                    quoted(&replica.partition.to_string()),
                    replica.size_bytes,
                    replica.offset_lag,
                    replica.is_future
                )
            })
            .collect();
        let error = dir.error.as_ref().map_or("null".to_string(), |error: &ClientError| quoted(&java::class_of(error)));
        format!("{{\"partitions\":[{}],\"error\":{error},\"logDir\":{}}}", partitions.join(","), quoted(&dir.path))
    };
    let brokers: Vec<String> = brokers
        .iter()
        .map(|(broker, dirs)| {
            let mut dirs: Vec<&LogDir> = dirs.iter().collect();
            java::hash_order(&mut dirs, |dir| dir.path.as_str());
            let dirs: Vec<String> = dirs.into_iter().map(dir).collect();
            format!("{{\"broker\":{broker},\"logDirs\":[{}]}}", dirs.join(","))
        })
        .collect();
    format!("{{\"brokers\":[{}],\"version\":1}}", brokers.join(","))
}
