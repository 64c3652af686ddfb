//! `kafka-broker-api-versions`: which versions of which requests each broker serves.
//!
//! Same flags, output and exit codes as Kafka's BrokerApiVersionsCommand.

use std::collections::BTreeMap;

use milena_client::metadata::Node;
use milena_client::{Client, ClientError};
use milena_protocol::{ApiKey, Listeners};

use crate::java::JavaError;
use crate::opts::{Opt, flag, value};
use crate::tool::{self, Stop, help_or_version, out, require};

const OPTIONS: &[Opt] = &[
    value("bootstrap-server", "String", "server(s) to use for bootstrapping", "REQUIRED: the brokers to start from."),
    value(
        "command-config",
        "String",
        "command config property file",
        "A properties file with settings of the admin client.",
    ),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = tool::parse(OPTIONS, args)?;
    help_or_version(&parsed, "This tool helps to retrieve broker version information.")?;
    require(&parsed, &["bootstrap-server"])?;
    tool::block_on(async {
        let servers = tool::value(&parsed, "bootstrap-server")?;
        let client = tool::client(servers, None, tool::value(&parsed, "command-config")?)?;
        // Kafka's tool asks once and gives up
        let picture = client.refresh_metadata(Some(&[]), false).await.map_err(|_| unreachable(&client))?;
        for node in picture.nodes.values() {
            let head = format!(
                "{}:{} (id: {} rack: {} isFenced: false)",
                node.host,
                node.port,
                node.id,
                node.rack.as_deref().unwrap_or("null")
            );
            match versions(&client, node).await {
                Ok(versions) => out(format_args!("{head} -> {}\n", listing(&versions))),
                Err(error) => out(format_args!("{head} -> ERROR: {}\n", tool::java_error(&error))),
            }
        }
        Ok(())
    })
}

fn unreachable(client: &Client) -> Stop {
    let mut brokers = Vec::new();
    for (index, server) in client.config().bootstrap_servers.iter().enumerate() {
        brokers.push(format!("{server} (id: {} rack: null isFenced: false)", -1 - (index as i64)));
    }
    Stop::Thrown(JavaError {
        class: "java.lang.RuntimeException".into(),
        message: format!("Request METADATA failed on brokers [{}]", brokers.join(", ")),
    })
}

async fn versions(client: &Client, node: &Node) -> Result<BTreeMap<i16, (i16, i16)>, ClientError> {
    let connection = client.connection(node.id).await?;
    Ok(connection.api_versions().iter().map(|(key, range)| (*key, *range)).collect())
}

/// All requests that clients may send, and those that only the node knows.
fn listing(node: &BTreeMap<i16, (i16, i16)>) -> String {
    let mut lines: BTreeMap<i16, String> = BTreeMap::new();
    for code in 0..=i16::from(u8::MAX) {
        let known = ApiKey::from_i16(code).filter(|key| key.listeners().contains(Listeners::BROKER));
        let text = match (known, node.get(&code)) {
            (None, None) => continue,
            (None, Some(range)) => format!("UNKNOWN({code}): {}", span(*range)),
            (Some(key), None) => format!("{}({code}): UNSUPPORTED", key.name()),
            (Some(key), Some((min, max))) => {
                let ours = key.versions();
                let usable = if *max < *ours.start() {
                    "unusable: node too old".to_string()
                } else if *min > *ours.end() {
                    "unusable: node too new".to_string()
                } else {
                    format!("usable: {}", (*max).min(*ours.end()))
                };
                format!("{}({code}): {} [{usable}]", key.name(), span((*min, *max)))
            }
        };
        lines.insert(code, text);
    }
    let lines: Vec<String> = lines.into_values().map(|line| format!("\n\t{line}")).collect();
    format!("({}\n)", lines.join(","))
}

fn span((min, max): (i16, i16)) -> String {
    if min == max { min.to_string() } else { format!("{min} to {max}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_its_line() {
        let text = listing(&BTreeMap::from([(0, (0, 13)), (46, (0, 0)), (200, (1, 2))]));
        assert!(text.starts_with("(\n\tProduce(0): 0 to 13 [usable: 13],\n\tFetch(1): UNSUPPORTED,"), "{text}");
        assert!(text.contains("\tListPartitionReassignments(46): 0 [usable: 0],"), "{text}");
        assert!(text.ends_with("\tUNKNOWN(200): 1 to 2\n)"), "{text}");
    }
}
