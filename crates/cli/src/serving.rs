//! Runs a server in this process until a signal ends it.
//!
//! The one place where the program meets `milena_server`. SIGTERM and SIGINT stop it in order; a second signal stops it at once.

use milena_common::config::BrokerConfig;
use milena_server::{Node, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::tool::{err, log_line};

const LOGGER: &str = "kafka.server.KafkaRaftServer";
/// What a process that a signal killed ends with: 128 and the signal's number.
const KILLED: i32 = 130;

/// A running server, as the commands see it.
pub(crate) struct Running<'a>(&'a Node);

impl Running<'_> {
    /// What it listens on.
    pub(crate) fn addresses(&self) -> String {
        let each = |(name, address): &(String, std::net::SocketAddr)| format!("{name}://{address}");
        self.0.listeners().iter().map(each).collect::<Vec<_>>().join(", ")
    }

    /// Where clients on this machine connect.
    pub(crate) fn address_for_clients(&self) -> String {
        self.0.client_address().unwrap_or_default()
    }
}

/// Starts a server, calls `started`, and returns the exit code when it has ended.
pub(crate) fn run(config: BrokerConfig, started: impl FnOnce(&Running<'_>)) -> i32 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("milena").build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("the runtime cannot start: {error}")),
    };
    let code = runtime.block_on(serve(config, started));
    // what is left are tasks of connections that did not end in time
    runtime.shutdown_background();
    code
}

async fn serve(config: BrokerConfig, started: impl FnOnce(&Running<'_>)) -> i32 {
    let signals = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => return refuse(&format!("signals cannot be handled: {error}")),
    };
    let mut node = tokio::select! {
        node = Node::start(config) => match node {
            Ok(node) => node,
            Err(error) => return refuse(&reason(&error)),
        },
        _ = next(&mut signals) => return KILLED,
    };
    started(&Running(&node));
    let failed = tokio::select! {
        reason = node.failed() => Some(reason),
        name = next(&mut signals) => {
            tracing::info!(target: LOGGER, "{name}: shutting down");
            None
        }
    };
    if let Some(reason) = failed {
        // the node is as good as crashed: what is on disk stays as it is, and the next start checks it
        log_line("ERROR", format!("the server cannot go on: {reason}"), LOGGER);
        return 1;
    }
    tokio::select! {
        () = node.stop() => {
            tracing::info!(target: LOGGER, "Kafka Server stopped");
            0
        }
        _ = next(&mut signals) => KILLED,
    }
}

async fn next((term, int): &mut (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

fn reason(error: &StartError) -> String {
    match error {
        StartError::Config(error) => format!("org.apache.kafka.common.config.ConfigException: {error}"),
        other => other.to_string(),
    }
}

/// Says why there is no server; the exit code.
fn refuse(reason: &str) -> i32 {
    log_line("ERROR", "Exiting Kafka due to fatal exception", "kafka.Kafka$");
    err(format_args!("{reason}\n"));
    1
}
