//! `kafka-run-class`: the commands by the names of Kafka's Java classes, old and new.
//!
//! For harnesses that start brokers and tools through `bin/kafka-run-class.sh kafka.Kafka server.properties`. Options for a virtual
//! machine are taken and mean nothing here. Owns the table of classes; the commands themselves are those of [`super::find`].

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::tool::{self, err, out};

const USAGE: &str = "USAGE: kafka-run-class.sh [-daemon] [-name servicename] [-loggc] classname [opts]\n";

/// What a class is called, behind one of the packages that Kafka has had it in, and its command.
const CLASSES: &[(&str, &str)] = &[
    ("AclCommand", "kafka-acls"),
    ("BrokerApiVersionsCommand", "kafka-broker-api-versions"),
    ("ClientMetricsCommand", "kafka-client-metrics"),
    ("ClusterTool", "kafka-cluster"),
    ("ConfigCommand", "kafka-configs"),
    ("ConnectDistributed", "connect-distributed"),
    ("ConnectStandalone", "connect-standalone"),
    ("ConsoleConsumer", "kafka-console-consumer"),
    ("ConsoleProducer", "kafka-console-producer"),
    ("ConsoleShareConsumer", "kafka-console-share-consumer"),
    ("ConsumerGroupCommand", "kafka-consumer-groups"),
    ("ConsumerPerformance", "kafka-consumer-perf-test"),
    ("DelegationTokenCommand", "kafka-delegation-tokens"),
    ("DeleteRecordsCommand", "kafka-delete-records"),
    ("DumpLogSegments", "kafka-dump-log"),
    ("EndToEndLatency", "kafka-e2e-latency"),
    ("FeatureCommand", "kafka-features"),
    ("GetOffsetShell", "kafka-get-offsets"),
    ("GroupsCommand", "kafka-groups"),
    ("JmxTool", "kafka-jmx"),
    ("Kafka", "kafka-server-start"),
    ("LeaderElectionCommand", "kafka-leader-election"),
    ("LogDirsCommand", "kafka-log-dirs"),
    ("MetadataQuorumCommand", "kafka-metadata-quorum"),
    ("MetadataShell", "kafka-metadata-shell"),
    ("ProducerPerformance", "kafka-producer-perf-test"),
    ("ReassignPartitionsCommand", "kafka-reassign-partitions"),
    ("ReplicaVerificationTool", "kafka-replica-verification"),
    ("ShareConsumerPerformance", "kafka-share-consumer-perf-test"),
    ("ShareGroupCommand", "kafka-share-groups"),
    ("StorageTool", "kafka-storage"),
    ("StreamsGroupCommand", "kafka-streams-groups"),
    ("StreamsResetter", "kafka-streams-application-reset"),
    ("TopicCommand", "kafka-topics"),
    ("TransactionsCommand", "kafka-transactions"),
    ("VerifiableConsumer", "kafka-verifiable-consumer"),
    ("VerifiableProducer", "kafka-verifiable-producer"),
    ("VerifiableShareConsumer", "kafka-verifiable-share-consumer"),
];

const PACKAGES: &[&str] = &[
    "kafka.",
    "kafka.admin.",
    "kafka.tools.",
    "org.apache.kafka.connect.cli.",
    "org.apache.kafka.shell.",
    "org.apache.kafka.tools.",
    "org.apache.kafka.tools.consumer.",
    "org.apache.kafka.tools.consumer.group.",
    "org.apache.kafka.tools.reassign.",
    "org.apache.kafka.tools.streams.",
];

/// Runs the command; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    let mut daemon = false;
    let mut name = None;
    let mut rest = args;
    while let Some((first, after)) = rest.split_first() {
        match (first.as_str(), after) {
            ("-daemon", _) => daemon = true,
            ("-loggc", _) => {}
            ("-name", [service, after @ ..]) => {
                name = Some(service.as_str());
                rest = after;
                continue;
            }
            // for the virtual machine
            (option, _) if option.starts_with("-D") || option.starts_with("-X") => {}
            _ => break,
        }
        rest = after;
    }
    let Some((class, arguments)) = rest.split_first() else {
        out(USAGE);
        return 1;
    };
    let Some((command, run)) = command_of(class).and_then(|command| Some((command, super::find(command)?))) else {
        err(format_args!(
            "Error: Could not find or load main class {class}\nCaused by: java.lang.ClassNotFoundException: {class}\n"
        ));
        return 1;
    };
    if !daemon {
        return run(arguments);
    }
    if command == "kafka-server-start" {
        let with_flag: Vec<String> = std::iter::once("-daemon".to_string()).chain(arguments.iter().cloned()).collect();
        return run(&with_flag);
    }
    detach(command, name.unwrap_or("kafka"), arguments)
}

/// The command that a class stands for.
fn command_of(class: &str) -> Option<&'static str> {
    // Scala's objects may be named with their dollar sign
    let class = class.strip_suffix('$').unwrap_or(class);
    let at = class.rfind('.')? + 1;
    let (package, simple) = class.split_at(at);
    PACKAGES.iter().find(|known| **known == package)?;
    CLASSES.iter().find(|(known, _)| *known == simple).map(|(_, command)| *command)
}

/// Runs a command in the background, with its output in `logs/NAME.out`.
#[expect(clippy::disallowed_methods, reason = "the output of a command in the background goes to a file")]
fn detach(command: &str, name: &str, arguments: &[String]) -> i32 {
    let home = || std::env::var_os("MILENA_HOME").map(PathBuf::from).unwrap_or_default().join("logs");
    let folder = std::env::var_os("LOG_DIR").map(PathBuf::from).unwrap_or_else(home);
    let path = folder.join(format!("{name}.out"));
    let started = std::fs::create_dir_all(&folder).and_then(|()| {
        let log = std::fs::File::create(&path)?;
        let mut process = Command::new(std::env::current_exe()?);
        process.arg(command).args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
    });
    match started {
        Ok(_) => 0,
        Err(error) => {
            err(format_args!("cannot start in the background with its output in {}: {error}\n", path.display()));
            tool::flush();
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_all_ages_have_their_commands() {
        for (class, command) in [
            ("kafka.Kafka", "kafka-server-start"),
            ("kafka.admin.TopicCommand", "kafka-topics"),
            ("org.apache.kafka.tools.TopicCommand", "kafka-topics"),
            ("org.apache.kafka.tools.consumer.ConsoleConsumer", "kafka-console-consumer"),
            ("kafka.tools.StorageTool$", "kafka-storage"),
        ] {
            assert_eq!(command_of(class), Some(command), "{class}");
        }
        assert_eq!(command_of("org.example.TopicCommand"), None);
        assert_eq!(command_of("TopicCommand"), None);
    }
}
