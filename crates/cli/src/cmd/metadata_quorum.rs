//! `kafka-metadata-quorum`: the quorum of controllers, who votes in it, and how far its replicas are.
//!
//! Same subcommands, flags, output and exit codes as Kafka's MetadataQuorumCommand. Times come from the cluster and the clock of this
//! machine.

use std::collections::BTreeMap;

use milena_client::admin::{Admin, QuorumInfo, QuorumReplica, VoterEndpoint};
use milena_common::{Clock as _, SystemClock, Uuid};

use super::text_table::text_table;
use crate::opts::argparse::{Asked, FREE, Found, Sub, Tool, exactly_one, number, one, optional, required};
use crate::tool::{self, Stop, err, out, refuse};

const TOOL: Tool = Tool {
    name: "kafka-metadata-quorum",
    doc: "This tool describes kraft metadata quorum status.",
    flags: &[
        optional("--bootstrap-server", "", "BOOTSTRAP_SERVER", "The brokers to start from, as host:port with commas."),
        optional(
            "--bootstrap-controller",
            "",
            "BOOTSTRAP_CONTROLLER",
            "The controllers to start from, as host:port with commas.",
        ),
        optional(
            "--command-config",
            "",
            "COMMAND_CONFIG",
            "A properties file with settings of the admin client; for add-controller, those of the controller, too.",
        ),
    ],
    choice: exactly_one(&["--bootstrap-server", "--bootstrap-controller"]),
    command: "",
    subs: &[
        Sub {
            name: "describe",
            doc: "Show the quorum.",
            flags: &[
                optional("--status", "", "", "Show who leads, who votes and who watches."),
                optional("--replication", "", "", "Show how far each replica is."),
                optional("--human-readable", "", "", "With --replication: times as distances from now."),
            ],
            choice: FREE,
        },
        Sub {
            name: "add-controller",
            doc: "Add a controller to the voters.",
            flags: &[optional("--dry-run", "", "", "Only say what would be done.")],
            choice: FREE,
        },
        Sub {
            name: "remove-controller",
            doc: "Remove a controller from the voters.",
            flags: &[
                required("--controller-id", "-i", "CONTROLLER_ID", "The id of the controller.").int(),
                required(
                    "--controller-directory-id",
                    "-d",
                    "CONTROLLER_DIRECTORY_ID",
                    "The id of its metadata directory.",
                ),
                optional("--dry-run", "", "", "Only say what would be done."),
            ],
            choice: FREE,
        },
    ],
};

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    let result = match TOOL.parse(args) {
        Asked::Help(text) => {
            out(text);
            Ok(())
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
    let config = one(found, "--command-config");
    let client = tool::client(one(found, "--bootstrap-server"), one(found, "--bootstrap-controller"), config);
    let admin = Admin::new(client.map_err(|stop| match (stop, config) {
        (Stop::Thrown(error), Some(path)) if error.class.ends_with("NoSuchFileException") => {
            Stop::Message(format!("Properties file {path} does not exists!"))
        }
        (stop, _) => stop,
    })?);
    match sub {
        "describe" => describe(&admin, found).await,
        "add-controller" => add(&admin, found).await,
        _ => remove(&admin, found).await,
    }
}

async fn describe(admin: &Admin, found: &Found) -> Result<(), Stop> {
    let [status, replication, human] =
        ["--status", "--replication", "--human-readable"].map(|flag| found.contains_key(flag));
    match (status, replication) {
        (true, true) => {
            return refuse("Only one of --status or --replication should be specified with describe sub-command");
        }
        (false, false) => {
            return refuse("One of --status or --replication must be specified with describe sub-command");
        }
        (true, false) if human => {
            return refuse("The option --human-readable is only supported along with --replication");
        }
        _ => {}
    }
    if status {
        let id = admin.cluster_id().await?;
        out(show_status(&id, &admin.describe_quorum().await?));
    } else {
        let info = admin.describe_quorum().await?;
        out(show_replication(&info, human.then(|| SystemClock.now().wall_ms)));
    }
    Ok(())
}

fn show_status(cluster_id: &str, info: &QuorumInfo) -> String {
    let leader = info.voters.iter().find(|voter| voter.replica_id == info.leader_id);
    let slowest = info.voters.iter().min_by_key(|voter| voter.log_end_offset);
    let (lag, lag_ms) = match (leader, slowest) {
        (Some(leader), Some(slowest)) => {
            let time = match slowest {
                slowest if slowest.replica_id == leader.replica_id => 0,
                slowest if leader.last_caught_up_ms < 0 || slowest.last_caught_up_ms < 0 => -1,
                slowest => leader.last_caught_up_ms - slowest.last_caught_up_ms,
            };
            (leader.log_end_offset - slowest.log_end_offset, time)
        }
        _ => (0, -1),
    };
    format!(
        "ClusterId:              {cluster_id}\nLeaderId:               {}\nLeaderEpoch:            {}\nHighWatermark:          {}\nMaxFollowerLag:         {lag}\nMaxFollowerLagTimeMs:   {lag_ms}\nCurrentVoters:          {}\nCurrentObservers:       {}\n",
        info.leader_id,
        info.leader_epoch,
        info.high_watermark,
        show_nodes(&info.voters, &info.nodes),
        show_nodes(&info.observers, &BTreeMap::new()),
    )
}

/// Replicas as JSON: with their directories where known, with their endpoints where known.
fn show_nodes(replicas: &[QuorumReplica], nodes: &BTreeMap<i32, Vec<VoterEndpoint>>) -> String {
    let one = |replica: &QuorumReplica| {
        let mut text = format!("{{\"id\": {}", replica.replica_id);
        if replica.directory_id != Uuid::ZERO {
            text.push_str(&format!(", \"directoryId\": \"{}\"", replica.directory_id));
        }
        if let Some(endpoints) = nodes.get(&replica.replica_id).filter(|endpoints| !endpoints.is_empty()) {
            let list: Vec<String> =
                endpoints.iter().map(|e| format!("\"{}://{}:{}\"", e.listener, e.host, e.port)).collect();
            text.push_str(&format!(", \"endpoints\": [{}]", list.join(", ")));
        }
        text.push('}');
        text
    };
    format!("[{}]", replicas.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn show_replication(info: &QuorumInfo, now_ms: Option<i64>) -> String {
    let (leading, following): (Vec<&QuorumReplica>, Vec<&QuorumReplica>) =
        info.voters.iter().partition(|voter| voter.replica_id == info.leader_id);
    let end = leading.first().map_or(info.high_watermark, |leader| leader.log_end_offset);
    let time = |ms: i64| match now_ms {
        Some(_) if ms < 0 => "unknown".to_string(),
        Some(now) => format!("{} ms ago", now.saturating_sub(ms)),
        None => ms.to_string(),
    };
    let roles = [("Leader", leading), ("Follower", following), ("Observer", info.observers.iter().collect())];
    let mut rows = Vec::new();
    for (role, replicas) in roles {
        for r in replicas {
            rows.push(vec![
                r.replica_id.to_string(),
                r.directory_id.to_string(),
                r.log_end_offset.to_string(),
                (end - r.log_end_offset).to_string(),
                time(r.last_fetch_ms),
                time(r.last_caught_up_ms),
                role.to_string(),
            ]);
        }
    }
    let head =
        ["NodeId", "DirectoryId", "LogEndOffset", "Lag", "LastFetchTimestamp", "LastCaughtUpTimestamp", "Status"];
    text_table(&head, &rows)
}

async fn add(admin: &Admin, found: &Found) -> Result<(), Stop> {
    let Some(path) = one(found, "--command-config") else {
        return refuse(
            "You must supply the configuration file of the controller you are adding when using add-controller.",
        );
    };
    let properties = tool::load_properties(path)?;
    let get = |key: &str| properties.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.trim().to_string());
    let Some(id) = get("node.id") else {
        return refuse("node.id not found in configuration file. Is this a valid controller configuration file?");
    };
    let Ok(id) = id.parse::<i32>() else {
        return refuse(format!("Invalid node.id: {id}"));
    };
    if id < 0 {
        return refuse("node.id was negative in configuration file. Is this a valid controller configuration file?");
    }
    if !get("process.roles").is_some_and(|roles| roles.split(',').any(|role| role.trim() == "controller")) {
        return refuse(
            "process.roles did not contain 'controller' in configuration file. Is this a valid controller configuration file?",
        );
    }
    let directory = get("metadata.log.dir")
        .or_else(|| get("log.dirs").or_else(|| get("log.dir")).and_then(|d| Some(d.split(',').next()?.trim().into())));
    let Some(directory) = directory else {
        return refuse("Neither metadata.log.dir nor log.dirs found in configuration file.");
    };
    let directory_id = directory_id(&directory)?;
    let endpoints = endpoints(
        &get("controller.listener.names").unwrap_or_default(),
        &get("advertised.listeners").or_else(|| get("listeners")).unwrap_or_default(),
        &get("listeners").unwrap_or_default(),
    )?;
    let list: Vec<String> = endpoints.iter().map(|e| format!("{}://{}:{}", e.listener, e.host, e.port)).collect();
    let what = format!("controller {id} with directory id {directory_id} and endpoints: {}", list.join(", "));
    if found.contains_key("--dry-run") {
        out(format_args!("DRY RUN of adding {what}\n"));
        return Ok(());
    }
    admin.add_voter(id, directory_id, &endpoints).await?;
    out(format_args!("Added {what}\n"));
    Ok(())
}

/// The id in the directory's `meta.properties`.
fn directory_id(directory: &str) -> Result<Uuid, Stop> {
    let path = format!("{directory}/meta.properties");
    let Ok(properties) = tool::load_properties(&path) else {
        return refuse(format!("Unable to read meta.properties from {directory}"));
    };
    let id = properties.iter().find(|(key, _)| key == "directory.id").and_then(|(_, id)| id.parse::<Uuid>().ok());
    id.ok_or_else(|| Stop::Message(format!("No directory id found in {directory}")))
}

/// The listeners of controllers out of the lists in a configuration.
fn endpoints(names: &str, advertised: &str, listeners: &str) -> Result<Vec<VoterEndpoint>, Stop> {
    let mut found = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let prefix = format!("{name}://");
        let mut entries = advertised.split(',').chain(listeners.split(',')).map(str::trim);
        let Some(entry) = entries.find(|entry| entry.starts_with(&prefix)) else {
            return refuse(format!("Cannot find information about controller listener name: {name}"));
        };
        let Ok((host, port)) = milena_client::parse_address(&entry.replace("://:", "://localhost:")) else {
            return refuse(format!("Invalid listener: {entry}"));
        };
        found.push(VoterEndpoint { listener: name.to_string(), host, port });
    }
    if found.is_empty() {
        return refuse("controller.listener.names was not found in configuration file.");
    }
    Ok(found)
}

async fn remove(admin: &Admin, found: &Found) -> Result<(), Stop> {
    let id: i32 = number(found, "--controller-id").unwrap_or_default();
    if id < 0 {
        return refuse(format!("Invalid negative --controller-id: {id}"));
    }
    let text = one(found, "--controller-directory-id").unwrap_or_default();
    let Ok(directory_id) = text.parse::<Uuid>() else {
        return refuse(format!("Failed to parse --controller-directory-id: {}", wrong_uuid(text)));
    };
    if found.contains_key("--dry-run") {
        out(format_args!("DRY RUN of removing  KRaft controller {id} with directory id {directory_id}\n"));
        return Ok(());
    }
    admin.remove_voter(id, directory_id).await?;
    out(format_args!("Removed KRaft controller {id} with directory id {directory_id}\n"));
    Ok(())
}

/// Why a text is no id, in the words of Kafka's `Uuid.fromString`.
fn wrong_uuid(text: &str) -> String {
    if text.len() > 24 {
        return format!(
            "Input string with prefix `{}` is too long to be decoded as a base64 UUID",
            text.get(..24).unwrap_or(text)
        );
    }
    let bytes = text.trim_end_matches('=').len() * 3 / 4;
    format!(
        "Input string `{text}` decoded as {bytes} bytes, which is not equal to the expected 16 bytes of a base64-encoded UUID"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(replica_id: i32, log_end_offset: i64) -> QuorumReplica {
        QuorumReplica { replica_id, directory_id: Uuid::ZERO, log_end_offset, last_fetch_ms: 5, last_caught_up_ms: 5 }
    }

    #[test]
    fn the_leader_comes_first_and_the_lag_is_behind_it() {
        let info = QuorumInfo {
            leader_id: 2,
            leader_epoch: 1,
            high_watermark: 9,
            voters: vec![replica(1, 7), replica(2, 10)],
            observers: vec![],
            nodes: BTreeMap::new(),
        };
        let text = show_replication(&info, None);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').map(str::trim).collect()).collect();
        assert_eq!((rows[1][0], rows[1][3], rows[1][6]), ("2", "0", "Leader"));
        assert_eq!((rows[2][0], rows[2][3], rows[2][6]), ("1", "3", "Follower"));
        assert!(show_status("x", &info).contains("MaxFollowerLag:         3\n"));
    }

    #[test]
    fn endpoints_are_those_of_controllers() {
        let found = endpoints("CONTROLLER", "PLAINTEXT://h:1", "PLAINTEXT://h:1,CONTROLLER://h:2").unwrap();
        assert_eq!((found[0].listener.as_str(), found[0].port), ("CONTROLLER", 2));
    }
}
