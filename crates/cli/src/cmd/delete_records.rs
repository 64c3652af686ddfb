//! `kafka-delete-records`: forgets the records of partitions before given offsets.
//!
//! Same flags, file, output and exit codes as Kafka's DeleteRecordsCommand.

use milena_client::admin::Admin;
use milena_common::TopicPartition;
use milena_protocol::ErrorCode;

use crate::java::{self, JavaError};
use crate::json;
use crate::opts::{Opt, flag, value};
use crate::tool::{self, Stop, help_or_version, log_line, out, require};

const OPTIONS: &[Opt] = &[
    value("bootstrap-server", "String", "server(s) to use for bootstrapping", "REQUIRED: the brokers to start from."),
    value(
        "offset-json-file",
        "String",
        "Offset json file path",
        "REQUIRED: a JSON file with partitions and the offsets before which their records go (-1: all):\n{\"partitions\":\n  [{\"topic\": \"foo\", \"partition\": 1,\n  \"offset\": 1}],\n \"version\":1\n}",
    ),
    value(
        "command-config",
        "String",
        "command config property file path",
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
    help_or_version(
        &parsed,
        "This tool helps to delete records of the given partitions down to the specified offset.",
    )?;
    require(&parsed, &["bootstrap-server", "offset-json-file"])?;
    tool::block_on(async {
        let client =
            tool::client(tool::value(&parsed, "bootstrap-server")?, None, tool::value(&parsed, "command-config")?)?;
        let text = tool::read_file(tool::value(&parsed, "offset-json-file")?.unwrap_or_default())?;
        let offsets = offsets(&text)?;
        let mut seen = Vec::new();
        let mut twice = Vec::new();
        for (tp, _) in &offsets {
            let list = if seen.contains(tp) { &mut twice } else { &mut seen };
            list.push(tp.clone());
        }
        if !twice.is_empty() {
            let names: Vec<String> = twice.iter().map(ToString::to_string).collect();
            return Err(JavaError::of_tools(
                "AdminCommandFailedException",
                format!("Offset json file contains duplicate topic partitions: {}", names.join(",")),
            )
            .into());
        }
        out("Executing records delete operation\n");
        let client_id = client.config().client_id.clone();
        let mut results: Vec<_> = Admin::new(client).delete_records(&offsets).await?.into_iter().collect();
        java::partition_order(&mut results, |(tp, _)| tp);
        out("Records delete operation completed:\n");
        for (tp, result) in results {
            match result {
                Ok(low) => out(format_args!("partition: {tp}\tlow_watermark: {low}\n")),
                Err(error) => {
                    if let Some(code) = error.code().filter(|code| *code != ErrorCode::UnknownTopicOrPartition) {
                        log_line(
                            "ERROR",
                            format_args!(
                                "[AdminClient clientId={client_id}] DeleteRecords request for topic partition {tp} failed due to an unexpected error {}",
                                code.name()
                            ),
                            "org.apache.kafka.clients.admin.internals.DeleteRecordsHandler",
                        );
                    }
                    let inner = JavaError::from(error);
                    out(format_args!("partition: {tp}\terror: {inner}\n"));
                }
            }
        }
        Ok(())
    })
}

/// Reads the file: version 1, which may be left out.
fn offsets(text: &str) -> Result<Vec<(TopicPartition, i64)>, JavaError> {
    let operation = |message: &str| JavaError::of_tools("AdminOperationException", message);
    let root = json::parse(text).ok_or_else(|| operation("The input string is not a valid JSON"))?;
    let version = match root.get("version") {
        Some(version) => json::int(version)?,
        None => 1,
    };
    if version != 1 {
        return Err(operation(&format!("Not supported version field value {version}")));
    }
    let partitions = root.get("partitions").ok_or_else(|| operation("Missing partitions field"))?;
    json::array(partitions)?
        .iter()
        .map(|entry| {
            let entry = json::object(entry)?;
            let topic = json::text(json::field(entry, "topic")?)?;
            let partition = json::int(json::field(entry, "partition")?)?;
            let offset = json::long(json::field(entry, "offset")?)?;
            Ok((TopicPartition::new(topic, partition), offset))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_may_be_left_out_but_not_be_another() {
        let read = |text: &str| offsets(text).map_err(|error| error.message);
        let one = r#"{"partitions":[{"topic":"a","partition":0,"offset":5}]"#;
        assert_eq!(read(&format!("{one}}}")), Ok(vec![(TopicPartition::new("a", 0), 5)]));
        assert_eq!(read(&format!(r#"{one},"version":2}}"#)), Err("Not supported version field value 2".into()));
        assert_eq!(read("{}"), Err("Missing partitions field".into()));
    }
}
