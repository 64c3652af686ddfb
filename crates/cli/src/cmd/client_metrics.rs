//! `kafka-client-metrics`: which clients push which metrics to the brokers (KIP-714).
//!
//! Same flags, output and exit codes as Kafka's ClientMetricsCommand.

use milena_client::admin::{Admin, ConfigOp, ConfigResource, OpKind, ResourceType};
use milena_common::Uuid;

use crate::java::{self, JavaError};
use crate::opts::{self, Opt, Parsed, flag, value};
use crate::tool::{self, Stop, exclude, help_or_version, out, usage};

const OPTIONS: &[Opt] = &[
    value("bootstrap-server", "String", "server to connect to", "REQUIRED: the brokers to start from."),
    value(
        "command-config",
        "String",
        "command config property file",
        "A properties file with settings of the admin client.",
    ),
    flag("alter", "Change a resource."),
    flag("delete", "Delete a resource."),
    flag("describe", "Show resources."),
    flag("list", "Show the names of all resources."),
    value("name", "String", "name", "The name of the resource."),
    flag("generate-name", "Make an id and use it as the name."),
    value("interval", "String", "push interval", "How often clients push, in milliseconds.\nEmpty for the default."),
    value(
        "match",
        "String",
        "k1=v1,k2=v2",
        "Which clients are meant, by patterns of:\n\tclient_id\n\tclient_instance_id\n\tclient_software_name\n\tclient_software_version\n\tclient_source_address\n\tclient_source_port",
    ),
    value("metrics", "String", "m1,m2", "Prefixes of the names of the metrics."),
    flag("help", "Show this text."),
    flag("version", "Show the version."),
];

/// Runs the tool; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    tool::finish(OPTIONS, execute(args))
}

fn execute(args: &[String]) -> Result<(), Stop> {
    let parsed = opts::parse(OPTIONS, args).map_err(|error| Stop::Usage(error.to_string()))?;
    check(&parsed)?;
    tool::command("client metrics", "org.apache.kafka.tools.ClientMetricsCommand", async {
        let servers = tool::value(&parsed, "bootstrap-server")?;
        let admin = Admin::new(tool::client(servers, None, tool::value(&parsed, "command-config")?)?);
        if parsed.has("alter") {
            alter(&admin, &parsed).await
        } else if parsed.has("delete") {
            delete(&admin, &parsed).await
        } else if parsed.has("describe") {
            describe(&admin, &parsed).await
        } else {
            let names = names(&admin).await?;
            out(format_args!("{}\n", names.join("\n")));
            Ok(())
        }
    })
}

fn check(parsed: &Parsed) -> Result<(), Stop> {
    help_or_version(parsed, "This tool helps to manipulate and describe client metrics configurations.")?;
    if ["alter", "delete", "describe", "list"].iter().filter(|action| parsed.has(action)).count() != 1 {
        return usage("Command must include exactly one action: --alter, --delete, --describe or --list.");
    }
    let wrong = |message: &str| Err(Stop::Thrown(JavaError::illegal_argument(message)));
    if !parsed.has("bootstrap-server") {
        return wrong("--bootstrap-server must be specified.");
    }
    exclude(parsed, "list", &["name", "generate-name", "interval", "match", "metrics"])?;
    exclude(parsed, "describe", &["generate-name", "interval", "match", "metrics"])?;
    exclude(parsed, "delete", &["generate-name", "interval", "match", "metrics"])?;
    if parsed.has("alter") {
        if parsed.has("name") == parsed.has("generate-name") {
            return wrong("One of --name or --generate-name must be specified with --alter.");
        }
        if tool::value(parsed, "interval")?.is_some_and(|text| !text.is_empty() && text.parse::<i32>().is_err()) {
            return wrong("Invalid interval value. Enter an integer, or leave empty to reset.");
        }
    }
    if parsed.has("delete") && !parsed.has("name") {
        return wrong("A client metrics resource name must be specified with --delete.");
    }
    Ok(())
}

fn resource(name: &str) -> ConfigResource {
    ConfigResource { kind: ResourceType::ClientMetrics, name: name.to_string() }
}

async fn names(admin: &Admin) -> Result<Vec<String>, Stop> {
    let mut names = admin.list_config_resources(ResourceType::ClientMetrics).await?;
    java::hash_order(&mut names, |name| name.as_str());
    Ok(names)
}

async fn alter(admin: &Admin, parsed: &Parsed) -> Result<(), Stop> {
    let name = match tool::value(parsed, "name")? {
        Some(name) => name.to_string(),
        None => Uuid::random().to_string(),
    };
    let mut ops = Vec::new();
    for (option, key) in [("interval", "interval.ms"), ("metrics", "metrics"), ("match", "match")] {
        let Some(text) = tool::value(parsed, option)? else {
            continue;
        };
        // what is left empty goes back to its default
        let kind = if text.is_empty() { OpKind::Delete } else { OpKind::Set };
        ops.push(ConfigOp { name: key.into(), value: Some(text.to_string()), kind });
    }
    admin.alter_configs(&resource(&name), &ops).await?;
    out(format_args!("Altered client metrics config for {name}.\n"));
    Ok(())
}

async fn delete(admin: &Admin, parsed: &Parsed) -> Result<(), Stop> {
    let name = tool::value(parsed, "name")?.unwrap_or_default();
    let mut ops = Vec::new();
    for (_, entries) in admin.describe_configs(&[resource(name)], false).await? {
        let entries = entries?;
        ops.extend(entries.into_iter().map(|e| ConfigOp {
            name: e.name,
            value: Some(String::new()),
            kind: OpKind::Delete,
        }));
    }
    admin.alter_configs(&resource(name), &ops).await?;
    out(format_args!("Deleted client metrics config for {name}.\n"));
    Ok(())
}

async fn describe(admin: &Admin, parsed: &Parsed) -> Result<(), Stop> {
    let all = names(admin).await?;
    let wanted = match tool::value(parsed, "name")? {
        Some(name) if !all.iter().any(|known| known == name) => {
            out(format_args!("The client metric resource {name} doesn't exist and doesn't have dynamic config.\n"));
            return Ok(());
        }
        Some(name) => vec![name.to_string()],
        None => all,
    };
    for name in wanted {
        out(format_args!("Client metrics configs for {name} are:\n"));
        for (_, entries) in admin.describe_configs(&[resource(&name)], false).await? {
            let mut entries = entries?;
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            for entry in entries {
                out(format_args!("  {}={}\n", entry.name, entry.value.as_deref().unwrap_or("null")));
            }
        }
    }
    Ok(())
}
