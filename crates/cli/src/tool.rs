//! What every tool shares: how it ends, where it prints, how it waits.
//!
//! Owns the ways out in Kafka's words (usage on standard error and exit 1, `--help`, `--version`), the log4j-like lines, the runtime
//! and the loading of `--command-config`. Never decides what a tool does. Called by every `cmd/*`.

use std::fmt::Display;
use std::io::{self, Write};

use milena_client::{Client, ClientConfig, ClientError};
use milena_common::config::properties;

use crate::java::JavaError;
use crate::opts::{self, Opt, OptError, Parsed};

/// The version that the tools answer with: the Kafka whose words they speak.
pub(crate) const KAFKA_VERSION: &str = "4.3.1";

/// How a tool ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The message and the table of options on standard error, exit 1.
    Usage(String),
    /// The message alone on standard error, exit 1.
    Message(String),
    /// An exception that ends the tool: its message, then its class with it, on standard error, exit 1.
    Thrown(JavaError),
    /// Everything is printed already.
    Exit(i32),
}

/// What most tools do with a failed call: the exception that their future held.
impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Stop::Thrown(JavaError::executed(error.into()))
    }
}

impl From<JavaError> for Stop {
    fn from(error: JavaError) -> Self {
        Stop::Thrown(error)
    }
}

impl From<OptError> for Stop {
    fn from(error: OptError) -> Self {
        Stop::Message(error.to_string())
    }
}

/// Ends with the option table.
pub(crate) fn usage<T>(message: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Usage(message.into()))
}

/// Ends with a message.
pub(crate) fn refuse<T>(message: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Message(message.into()))
}

/// Turns a tool's end into its exit code, printing what is left to print.
pub(crate) fn finish(table: &[Opt], result: Result<(), Stop>) -> i32 {
    let code = match result {
        Ok(()) => 0,
        Err(Stop::Usage(message)) => {
            err(format_args!("{message}\n{}", opts::render(table)));
            1
        }
        Err(Stop::Message(message)) => {
            err(format_args!("{message}\n"));
            1
        }
        Err(Stop::Thrown(error)) => {
            err(format_args!("{}\n{}: {}\n\n", error.message, error.class, error.message));
            1
        }
        Err(Stop::Exit(code)) => code,
    };
    flush();
    code
}

/// Answers `--help`, no options at all, and `--version`, which come before every other check.
pub(crate) fn help_or_version(parsed: &Parsed, purpose: &str) -> Result<(), Stop> {
    if parsed.is_empty() || parsed.has("help") {
        return usage(purpose);
    }
    if parsed.has("version") {
        out(format_args!("{KAFKA_VERSION}\n"));
        return Err(Stop::Exit(0));
    }
    Ok(())
}

/// Refuses a missing required option, as Kafka's `CommandLineUtils` words it.
pub(crate) fn require(parsed: &Parsed, names: &[&str]) -> Result<(), Stop> {
    match names.iter().find(|name| !parsed.has(name)) {
        Some(name) => usage(format!("Missing required argument \"[{name}]\"")),
        None => Ok(()),
    }
}

/// Refuses `others` beside `used`.
pub(crate) fn exclude(parsed: &Parsed, used: &str, others: &[&str]) -> Result<(), Stop> {
    if !parsed.has(used) {
        return Ok(());
    }
    match others.iter().find(|name| parsed.has(name)) {
        Some(name) => usage(format!("Option \"[{used}]\" can't be used with option \"[{name}]\"")),
        None => Ok(()),
    }
}

/// Prints to standard output. A closed pipe is not an error: nobody reads any more.
pub(crate) fn out(text: impl Display) {
    let _ = write!(io::stdout().lock(), "{text}");
}

/// Prints to standard error.
pub(crate) fn err(text: impl Display) {
    let _ = write!(io::stderr().lock(), "{text}");
}

/// Hands buffered output to the system.
pub(crate) fn flush() {
    let _ = io::stdout().lock().flush();
}

/// A line as log4j writes it on the tools' standard error: `[time] LEVEL message (logger)`.
pub(crate) fn log_line(level: &str, message: impl Display, logger: &str) {
    let time = jiff::ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S,%3f").to_string();
    err(format_args!("[{time}] {level} {message} ({logger})\n"));
}

/// Runs a tool's asynchronous part on one thread: tools wait for the network, they do not compute.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            err(format_args!("cannot start: {error}\n"));
            std::process::exit(1);
        }
    };
    crate::logging::init_tool();
    let result = runtime.block_on(work);
    // a blocked reader of standard input must not hold the exit
    runtime.shutdown_background();
    result
}

/// [`block_on`] with threads, for tools that are to use what the machine has.
pub(crate) fn block_on_threads<T>(work: impl Future<Output = T>) -> T {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            err(format_args!("cannot start: {error}\n"));
            std::process::exit(1);
        }
    };
    crate::logging::init_tool();
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Waits for a signal to end, and gives the exit code that a shell expects.
pub(crate) async fn signal() -> i32 {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    }
}

/// An exception that ends a tool, as Java shows it.
pub(crate) fn thrown<T>(class: &str, message: impl Display) -> Result<T, Stop> {
    refuse(format!("Exception in thread \"main\" {class}: {message}"))
}

/// Settings of a client as arguments `key=value`, in the words of Kafka's refusals.
pub(crate) fn properties_of(arguments: &[String]) -> Result<Vec<(String, String)>, Stop> {
    arguments
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
            _ => thrown("java.lang.IllegalArgumentException", format_args!("Invalid property: {text}")),
        })
        .collect()
}

/// A properties file of a tool whose exceptions nobody catches.
pub(crate) fn client_file(path: &str) -> Result<Vec<(String, String)>, Stop> {
    load_properties(path).or_else(|_| thrown("java.nio.file.NoSuchFileException", path))
}

/// Wall time in milliseconds.
pub(crate) fn wall_ms() -> i64 {
    use milena_common::Clock;
    milena_common::SystemClock.now().wall_ms
}

/// Runs a tool's asynchronous part as several of Kafka's tools do: an exception is a sentence on standard output that names the
/// command, and a log line; a file that is missing is not caught.
pub(crate) fn command(name: &str, logger: &str, work: impl Future<Output = Result<(), Stop>>) -> Result<(), Stop> {
    match block_on(work) {
        Err(Stop::Thrown(error)) if !error.class.ends_with("NoSuchFileException") => {
            let (class, message) = match error.message.split_once(": ") {
                // what a future held stands for itself
                Some((class, message)) if error.class.ends_with(".ExecutionException") => (class, message),
                _ => (error.class.as_str(), error.message.as_str()),
            };
            out(format_args!("Error while executing {name} command : {message}\n"));
            flush();
            log_line("ERROR", format_args!("{class}: {message}\n"), logger);
            Err(Stop::Exit(1))
        }
        result => result,
    }
}

/// Reads a properties file.
///
/// # Errors
/// The file cannot be read: the path, as Kafka's `NoSuchFileException` says it.
#[allow(clippy::disallowed_methods, reason = "command line tools read the files that they are pointed at")]
pub(crate) fn load_properties(path: &str) -> Result<Vec<(String, String)>, Stop> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = properties::decode_latin1(&bytes);
            properties::parse(&text).or_else(|error| refuse(format!("{path}: {error}")))
        }
        Err(_) => refuse(format!("{path}\njava.nio.file.NoSuchFileException: {path}")),
    }
}

/// A client for an admin tool: `--bootstrap-server` and `--command-config`.
pub(crate) async fn admin_client(parsed: &Parsed) -> Result<Client, Stop> {
    match client(parsed.value("bootstrap-server")?, None, parsed.value("command-config")?) {
        Err(Stop::Thrown(error)) => refuse(format!("{}\n{}: {}", error.message, error.class, error.message)),
        result => result,
    }
}

/// Reads the options of a tool that prints its exceptions, those of the command line too.
pub(crate) fn parse(table: &'static [Opt], args: &[String]) -> Result<Parsed, Stop> {
    opts::parse(table, args).map_err(|error| Stop::Thrown(error.into()))
}

/// The one value of an option of such a tool.
pub(crate) fn value<'a>(parsed: &'a Parsed, name: &str) -> Result<Option<&'a str>, Stop> {
    parsed.value(name).map_err(|error| Stop::Thrown(error.into()))
}

/// A client of the brokers `servers`, or else of the `controllers`, with the settings of the file `config`.
pub(crate) fn client(servers: Option<&str>, controllers: Option<&str>, config: Option<&str>) -> Result<Client, Stop> {
    let mut settings = ClientConfig { client_id: "adminclient-1".into(), ..Default::default() };
    if let Some(path) = config {
        let pairs = match load_properties(path) {
            Err(Stop::Message(_)) => {
                return Err(Stop::Thrown(JavaError {
                    class: "java.nio.file.NoSuchFileException".into(),
                    message: path.into(),
                }));
            }
            pairs => pairs?,
        };
        for (key, value) in pairs {
            crate::client_keys::set_client(&mut settings, &key, &value);
        }
    }
    settings.controllers = servers.is_none() && controllers.is_some();
    let addresses = servers.or(controllers).unwrap_or_default();
    settings.bootstrap_servers = addresses.split(',').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect();
    Client::new(settings).map_err(|_| {
        Stop::Thrown(JavaError {
            class: "org.apache.kafka.common.KafkaException".into(),
            message: "Failed to create new KafkaAdminClient".into(),
        })
    })
}

/// Reads a file that an option names.
///
/// # Errors
/// As Kafka's `Utils.readFileAsString` says it.
#[allow(clippy::disallowed_methods, reason = "command line tools read the files that they are pointed at")]
pub(crate) fn read_file(path: &str) -> Result<String, JavaError> {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|_| JavaError { class: "java.io.IOException".into(), message: format!("Unable to read file {path}") })
}

/// The Java class and message of a client error: `org.apache.kafka.common.errors.X: message`.
pub(crate) fn java_error(error: &ClientError) -> String {
    format!("{}: {}", crate::java::class_of(error), crate::java::message_of(error))
}
