//! `kafka-cluster`: the cluster's id, its endpoints, and the unregistering of brokers.
//!
//! Same subcommands, flags, output and exit codes as Kafka's ClusterTool.

use milena_client::ClientError;
use milena_client::admin::{Admin, Endpoint};

use crate::opts::argparse::{
    Asked, Choice, FREE, Flag, Found, Sub, Tool, exactly_one, number, one, optional, required,
};
use crate::tool::{self, Stop, err, log_line, out};

const SERVER: Flag =
    optional("--bootstrap-server", "-b", "BOOTSTRAP_SERVER", "The brokers to start from, as host:port with commas.");
const CONTROLLER: Flag = optional(
    "--bootstrap-controller",
    "-C",
    "BOOTSTRAP_CONTROLLER",
    "The controllers to start from, as host:port with commas.",
);
const OLD_CONFIG: Flag =
    optional("--config", "", "CONFIG", "(DEPRECATED) A properties file for the admin client. Use --command-config.");
const CONFIG: Flag =
    optional("--command-config", "-c", "COMMAND_CONFIG", "A properties file with settings of the admin client.");
const ENDS: Choice = exactly_one(&["--bootstrap-server", "--bootstrap-controller"]);

const TOOL: Tool = Tool {
    name: "kafka-cluster",
    doc: "The Kafka cluster tool.",
    flags: &[],
    choice: FREE,
    command: "",
    subs: &[
        Sub {
            name: "cluster-id",
            doc: "Show the id of the cluster.",
            flags: &[SERVER, CONTROLLER, OLD_CONFIG, CONFIG],
            choice: ENDS,
        },
        Sub {
            name: "unregister",
            doc: "Unregister a broker.",
            flags: &[
                SERVER,
                CONTROLLER,
                OLD_CONFIG,
                CONFIG,
                required("--id", "-i", "ID", "The id of the broker.").int(),
            ],
            choice: ENDS,
        },
        Sub {
            name: "list-endpoints",
            doc: "List where the nodes listen.",
            flags: &[
                SERVER,
                CONTROLLER,
                OLD_CONFIG,
                CONFIG,
                optional("--include-fenced-brokers", "", "", "Show fenced brokers, too."),
            ],
            choice: ENDS,
        },
    ],
};

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
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

async fn execute(sub: &str, found: &Found) -> Result<(), Stop> {
    if found.contains_key("--config") {
        out(
            "Option --config has been deprecated and will be removed in a future version. Use --command-config instead.\n",
        );
    }
    let config = one(found, "--command-config").or(one(found, "--config"));
    let controllers = one(found, "--bootstrap-controller");
    let admin = Admin::new(tool::client(one(found, "--bootstrap-server"), controllers, config)?);
    match sub {
        "cluster-id" => match admin.cluster_id().await {
            Ok(id) => out(format_args!("Cluster ID: {id}\n")),
            Err(ClientError::UnsupportedVersion(_)) => {
                out("No cluster ID found. The Kafka version is probably too old.\n")
            }
            Err(error) => return Err(error.into()),
        },
        "unregister" => unregister(&admin, number(found, "--id").unwrap_or_default()).await?,
        _ => {
            let endpoints = admin.endpoints(found.contains_key("--include-fenced-brokers")).await?;
            out(table(endpoints, controllers.is_some()));
        }
    }
    Ok(())
}

async fn unregister(admin: &Admin, id: i32) -> Result<(), Stop> {
    match admin.unregister_broker(id).await {
        Ok(()) => {
            out(format_args!("Broker {id} is no longer registered.\n"));
            Ok(())
        }
        Err(ClientError::UnsupportedVersion(_)) => {
            out("The target cluster does not support the broker unregistration API.\n");
            Ok(())
        }
        Err(error) => {
            if error.code().is_some() {
                log_line(
                    "ERROR",
                    format_args!(
                        "[AdminClient clientId={}] Unregister broker request for broker ID {id} failed: {}",
                        admin.client().config().client_id,
                        crate::java::message_of(&error)
                    ),
                    "org.apache.kafka.clients.admin.KafkaAdminClient",
                );
            }
            Err(error.into())
        }
    }
}

fn table(mut endpoints: Vec<Endpoint>, controllers: bool) -> String {
    endpoints.sort_by_key(|endpoint| endpoint.node.id);
    if endpoints.is_empty() {
        return String::new();
    }
    let width = |text: fn(&Endpoint) -> usize| endpoints.iter().map(text).max().unwrap_or(0);
    let host = width(|e| e.node.host.len()).max(9);
    let rack = width(|e| e.node.rack.as_ref().map_or(0, String::len)).max(10);
    let row = |id: &str, name: &str, port: &str, place: &str, state: &str, kind: &str| {
        format!("{id:<10} {name:<host$} {port:<10} {place:<rack$} {state:<10} {kind:<15}\n")
    };
    let mut text = row("ID", "HOST", "PORT", "RACK", "STATE", "ENDPOINT_TYPE");
    for Endpoint { node, fenced } in &endpoints {
        let state = match (controllers, fenced) {
            (true, _) => "unfenced",
            (false, true) => "fenced",
            (false, false) => "unfenced",
        };
        text.push_str(&row(
            &node.id.to_string(),
            &node.host,
            &node.port.to_string(),
            node.rack.as_deref().unwrap_or("null"),
            state,
            if controllers { "controller" } else { "broker" },
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use milena_client::metadata::Node;

    #[test]
    fn columns_are_as_wide_as_kafkas() {
        let node = Node { id: 1, host: "127.0.0.1".into(), port: 19110, rack: None };
        assert_eq!(
            table(vec![Endpoint { node, fenced: false }], false),
            "ID         HOST      PORT       RACK       STATE      ENDPOINT_TYPE  \n1          127.0.0.1 19110      null       unfenced   broker         \n"
        );
    }
}
