//! Runs a server in this process until a signal ends it.
//!
//! The one place where the program meets `milena_server`. SIGTERM and SIGINT stop it in order; a second signal stops it at once.

use milena_common::config::BrokerConfig;

/// A running server, as the commands see it.
pub(crate) struct Running;

impl Running {
    /// What it listens on.
    pub(crate) fn addresses(&self) -> String {
        String::new()
    }

    /// Where clients on this machine connect.
    pub(crate) fn address_for_clients(&self) -> String {
        String::new()
    }
}

/// Starts a server, calls `started`, and returns the exit code when it has ended.
pub(crate) fn run(_config: BrokerConfig, started: impl FnOnce(&Running)) -> i32 {
    let _ = started;
    crate::tool::log_line("ERROR", "the broker is not part of this build", "milena");
    1
}
