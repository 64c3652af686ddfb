//! `kafka-groups`: lists the groups of all types.
//!
//! Same flags, output and exit codes as Kafka's GroupsCommand.

use milena_client::ClientError;
use milena_client::admin::{Admin, GroupListing};

use crate::java::{self, JavaError};
use crate::opts::{Opt, Parsed, flag, value};
use crate::tool::{self, Stop, exclude, help_or_version, out, usage};

const OPTIONS: &[Opt] = &[
    value("bootstrap-server", "String", "server to connect to", "REQUIRED: the brokers to start from.").must(),
    value(
        "command-config",
        "String",
        "command config property file",
        "A properties file with settings of the admin client.",
    ),
    flag("list", "List the groups."),
    value("group-type", "String", "type", "Only groups of this type: 'classic', 'consumer', 'share' or 'streams'."),
    value("protocol", "String", "protocol", "Only groups of this protocol type."),
    flag(
        "consumer",
        "Only groups of consumers: of type 'consumer', and of type 'classic' with the protocol type 'consumer' or none.",
    ),
    flag("share", "Only share groups."),
    flag("streams", "Only streams groups."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

const TYPES: [&str; 4] = ["Classic", "Consumer", "Share", "Streams"];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = crate::opts::parse(OPTIONS, args).map_err(|error| Stop::Usage(error.to_string()))?;
    check(&parsed)?;
    let kind = match tool::value(&parsed, "group-type")? {
        Some(word) => match TYPES.into_iter().find(|kind| kind.eq_ignore_ascii_case(word)) {
            Some(kind) => Some(kind),
            None => return Err(Stop::Thrown(JavaError::illegal_argument("--group-type must be a valid group type."))),
        },
        None => None,
    };
    tool::command("groups", "org.apache.kafka.tools.GroupsCommand", async {
        let servers = tool::value(&parsed, "bootstrap-server")?;
        let admin = Admin::new(tool::client(servers, None, tool::value(&parsed, "command-config")?)?);
        let mut groups = admin.list_groups(&[], &[]).await.map_err(|error| match error {
            // Kafka's client says it so when it cannot even ask who the brokers are
            ClientError::Timeout(_) => Stop::Thrown(JavaError::executed(JavaError {
                class: "org.apache.kafka.common.KafkaException".into(),
                message: "Failed to find brokers to send ListGroups".into(),
            })),
            error => error.into(),
        })?;
        java::hash_order(&mut groups, |group| group.group_id.as_str());
        let protocol = tool::value(&parsed, "protocol")?;
        groups.retain(|group| {
            let of = |kind: &str| group.kind.eq_ignore_ascii_case(kind);
            let consumers = of("consumer")
                || ((of("classic") || group.kind.is_empty())
                    && ["", "consumer"].contains(&group.protocol_type.as_str()));
            (!parsed.has("consumer") || consumers)
                && (!parsed.has("share") || of("share"))
                && (!parsed.has("streams") || of("streams"))
                && kind.is_none_or(of)
                && protocol.is_none_or(|protocol| group.protocol_type == protocol)
        });
        out(table(&groups));
        Ok(())
    })
}

fn table(groups: &[GroupListing]) -> String {
    let width = groups.iter().map(|group| group.group_id.len()).max().unwrap_or(0).max(20);
    let row = |id: &str, kind: &str, protocol: &str| format!("{id:<width$} {kind:<width$} {protocol:<width$} \n");
    let mut text = format!("{:<width$} {:<width$} {:<width$}\n", "GROUP", "TYPE", "PROTOCOL");
    for group in groups {
        let kind = TYPES.into_iter().find(|kind| kind.eq_ignore_ascii_case(&group.kind)).unwrap_or_default();
        text.push_str(&row(&group.group_id, kind, &group.protocol_type));
    }
    text
}

fn check(parsed: &Parsed) -> Result<(), Stop> {
    help_or_version(parsed, "This tool helps to list groups of all types.")?;
    if !parsed.has("list") {
        return usage("Command must include exactly one action: --list.");
    }
    exclude(parsed, "consumer", &["group-type", "protocol", "share", "streams"])?;
    exclude(parsed, "share", &["consumer", "group-type", "protocol", "streams"])?;
    exclude(parsed, "streams", &["consumer", "group-type", "protocol", "share"])
}
