//! `kafka-server-start`: a broker, a controller or both, as a properties file says.
//!
//! Same arguments as Kafka's script. Reads and checks the configuration, says what it thinks of it, and hands over to
//! [`crate::serving`]; `-daemon` starts the same command again, detached, with its output in `logs/kafkaServer.out`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use milena_common::config::{Audience, BrokerConfig, providers};

use crate::serving;
use crate::tool::{self, err, log_line, out};

const USAGE: &str = "USAGE: kafka-server-start [-daemon] server.properties [--override property=value]*\n";
const HELP: &str = "\nStarts a server as the properties file says.\n\n  -daemon                    in the background; output goes to logs/kafkaServer.out ($LOG_DIR/kafkaServer.out)\n  --override property=value  sets a property over the file's; may be repeated\n  --help, --version\n\nA broker without any configuration: milena dev\n";
const LOGGER: &str = "kafka.Kafka$";
/// Names the run behind `-daemon`, which must outlive the terminal.
const DETACHED: &str = "MILENA_DETACHED";

/// Runs the command; the result is its exit code.
pub(crate) fn run(args: &[String]) -> i32 {
    if args.is_empty() {
        out(USAGE);
        return 1;
    }
    if let Some((first, rest)) = args.split_first()
        && first == "-daemon"
    {
        return daemon(rest);
    }
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        out(format_args!("{USAGE}{HELP}"));
        return 0;
    }
    if args.iter().any(|arg| arg == "--version") {
        out(format_args!("{}\n", tool::KAFKA_VERSION));
        return 0;
    }
    let pairs = match read(args) {
        Ok(pairs) => pairs,
        Err(message) => return fatal(&message),
    };
    if std::env::var_os(DETACHED).is_some() {
        // a session of its own: the end of the terminal does not reach it
        let _ = rustix::process::setsid();
    }
    crate::logging::init_server("info");
    let config = match check(pairs) {
        Ok(config) => config,
        Err(message) => return fatal(&message),
    };
    // A sample file that repeats a default deserves no remark.
    let idle = config.idle_keys();
    let effective = |name: &&str| BrokerConfig::key(name).is_none_or(|k| k.implemented) || idle.contains(name);
    remark(config.originals.keys().map(String::as_str).filter(effective));
    serving::run(config, |server| {
        tracing::info!(target: "kafka.server.KafkaRaftServer", "Kafka Server started (listening on {})", server.addresses());
    })
}

/// Says why there is no server; the exit code.
fn fatal(message: &str) -> i32 {
    log_line("ERROR", "Exiting Kafka due to fatal exception", LOGGER);
    err(format_args!("{message}\n"));
    1
}

/// The file's properties with the overrides after them.
fn read(args: &[String]) -> Result<Vec<(String, String)>, String> {
    let (path, rest) = args.split_first().ok_or(USAGE)?;
    let mut pairs = tool::load_properties(path).map_err(|stop| match stop {
        tool::Stop::Message(_) if !std::path::Path::new(path).exists() => {
            format!("java.nio.file.NoSuchFileException: {path}")
        }
        tool::Stop::Message(message) | tool::Stop::Usage(message) => message,
        tool::Stop::Thrown(error) => error.message,
        tool::Stop::Exit(_) => format!("{path} cannot be read"),
    })?;
    let mut rest = rest.iter();
    while let Some(arg) = rest.next() {
        let pair = match arg.strip_prefix("--override=") {
            Some(pair) => pair,
            None if arg == "--override" => rest.next().ok_or("Option override requires an argument")?,
            None if arg.starts_with('-') => {
                return Err(format!("{} is not a recognized option", arg.trim_start_matches('-')));
            }
            None => return Err(format!("Found non argument parameters: {arg}")),
        };
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("Missing value for key {pair}"))?;
        pairs.push((key.trim().to_string(), value.to_string()));
    }
    Ok(pairs)
}

/// Checks the configuration as a whole.
pub(crate) fn check(pairs: Vec<(String, String)>) -> Result<BrokerConfig, String> {
    let given = |key: &str| pairs.iter().any(|(known, value)| known == key && !value.trim().is_empty());
    if given("zookeeper.connect") && !given("process.roles") {
        return Err("This is a configuration for ZooKeeper mode (zookeeper.connect is set, process.roles is not). That mode is coming, this version does not have it yet.\nTo run without ZooKeeper, set process.roles=broker,controller, node.id and controller.quorum.voters, and format the log directories with kafka-storage; or try: milena dev".into());
    }
    let pairs = providers::resolve(pairs, &Machine);
    pairs
        .and_then(BrokerConfig::from_properties)
        .map_err(|error| format!("org.apache.kafka.common.config.ConfigException: {error}"))
}

/// What references in configuration values point at: this process's environment and this machine's files.
struct Machine;

impl providers::Source for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    #[expect(clippy::disallowed_methods, reason = "the program reads the files that its configuration names")]
    fn file(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| error.to_string())
    }
}

/// Says which of the keys `named` will not do what their reader hopes.
pub(crate) fn remark<'a>(named: impl Iterator<Item = &'a str>) {
    let mut idle = Vec::new();
    for name in named {
        match BrokerConfig::key(name) {
            Some(key) if !key.implemented => idle.push(name),
            Some(key) if key.audience == Audience::Legacy => {
                tracing::warn!(target: LOGGER, "configuration {name} is of releases before 4.0 and has no effect");
            }
            Some(_) => {}
            None if name.starts_with("listener.name.") => {}
            None => tracing::warn!(target: LOGGER, "configuration {name} is unknown and ignored"),
        }
    }
    if !idle.is_empty() {
        tracing::warn!(target: LOGGER, "these configurations are known but change nothing yet: {}", idle.join(", "));
    }
}

/// Starts this command again in the background and leaves.
#[allow(clippy::disallowed_methods, reason = "the command writes the log file of the server it starts")]
fn daemon(args: &[String]) -> i32 {
    let folder = std::env::var_os("LOG_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| std::env::var_os("MILENA_HOME").map(PathBuf::from).unwrap_or_default().join("logs"));
    let path = folder.join("kafkaServer.out");
    let started = std::fs::create_dir_all(&folder).and_then(|()| {
        let log = std::fs::File::create(&path)?;
        Command::new(std::env::current_exe()?)
            .arg("kafka-server-start")
            .args(args)
            .env(DETACHED, "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    });
    match started {
        Ok(_) => 0,
        Err(error) => {
            err(format_args!("cannot start in the background with its output in {}: {error}\n", path.display()));
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn a_bad_value_names_key_value_and_what_is_allowed() {
        let error = check(pairs(&[("process.roles", "broker,controller"), ("num.io.threads", "many")])).unwrap_err();
        assert!(
            error.ends_with("Invalid value many for configuration num.io.threads: Not a number of type INT"),
            "{error}"
        );
    }

    #[test]
    fn zookeeper_mode_is_said_to_be_coming() {
        let error = check(pairs(&[("zookeeper.connect", "localhost:2181"), ("broker.id", "0")])).unwrap_err();
        assert!(error.contains("coming") && error.contains("process.roles"), "{error}");
    }

    #[test]
    fn overrides_are_pairs() {
        let args = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        assert_eq!(read(&args("/dev/null --override a=b=c")), Ok(pairs(&[("a", "b=c")])));
        assert_eq!(read(&args("/dev/null --override a")), Err("Missing value for key a".into()));
        assert_eq!(read(&args("/dev/null --overide a=b")), Err("overide is not a recognized option".into()));
        assert_eq!(read(&args("/dev/null more")), Err("Found non argument parameters: more".into()));
    }
}
