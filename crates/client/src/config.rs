//! The settings that every client has, by Kafka's names and defaults.

use crate::error::ClientError;

/// Settings of the connection to a cluster. All times in milliseconds.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `bootstrap.servers`: `host:port` of brokers to start from.
    pub bootstrap_servers: Vec<String>,
    /// `client.id`: the name that the broker's logs and quotas show.
    pub client_id: String,
    /// `request.timeout.ms`: how long one request may stay unanswered (30 s).
    pub request_timeout_ms: u64,
    /// `default.api.timeout.ms`: how long one call may take with all its retries (60 s).
    pub api_timeout_ms: u64,
    /// `socket.connection.setup.timeout.ms` (10 s).
    pub connect_timeout_ms: u64,
    /// `retry.backoff.ms`: the first pause before another try; it doubles up to `retry.backoff.max.ms` (KIP-580).
    pub retry_backoff_ms: u64,
    /// `retry.backoff.max.ms` (1 s).
    pub retry_backoff_max_ms: u64,
    /// `metadata.max.age.ms`: cached metadata older than this is asked for again (5 min).
    pub metadata_max_age_ms: u64,
    /// `client.rack`: lets the broker name a nearer replica to read from (KIP-392).
    pub rack: Option<String>,
    /// `bootstrap.controllers`: the bootstrap list names controllers, and requests go to them (KIP-919).
    pub controllers: bool,
    /// The largest response that is accepted; a longer one closes the connection.
    pub max_response_bytes: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            bootstrap_servers: vec!["localhost:9092".into()],
            client_id: "milena".into(),
            request_timeout_ms: 30_000,
            api_timeout_ms: 60_000,
            connect_timeout_ms: 10_000,
            retry_backoff_ms: 100,
            retry_backoff_max_ms: 1_000,
            metadata_max_age_ms: 300_000,
            rack: None,
            controllers: false,
            max_response_bytes: 512 << 20,
        }
    }
}

impl ClientConfig {
    /// The pause before try number `attempt` (0 for the first repetition).
    pub(crate) fn backoff(&self, attempt: u32) -> std::time::Duration {
        let ms = self
            .retry_backoff_ms
            .saturating_mul(1u64 << attempt.min(20))
            .min(self.retry_backoff_max_ms.max(self.retry_backoff_ms));
        std::time::Duration::from_millis(ms)
    }
}

/// A host and a port out of `host:port`, `[v6]:port` or `PROTOCOL://host:port`.
///
/// # Errors
/// [`ClientError::InvalidConfig`] in the words of Kafka's clients.
pub fn parse_address(text: &str) -> Result<(String, u16), ClientError> {
    let invalid = || ClientError::InvalidConfig(format!("Invalid url in bootstrap.servers: {text}"));
    let rest = text.rsplit_once("://").map_or(text, |(_, rest)| rest);
    let (host, port) = rest.rsplit_once(':').ok_or_else(invalid)?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(invalid());
    }
    let port =
        port.parse().map_err(|_| ClientError::InvalidConfig(format!("Invalid port in bootstrap.servers: {text}")))?;
    Ok((host.to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_carry_a_protocol_and_brackets() {
        assert_eq!(parse_address("localhost:9092").unwrap(), ("localhost".into(), 9092));
        assert_eq!(parse_address("PLAINTEXT://[::1]:9092").unwrap(), ("::1".into(), 9092));
        assert_eq!(parse_address("nohost").unwrap_err().to_string(), "Invalid url in bootstrap.servers: nohost");
        assert!(parse_address("h:99999").is_err());
    }

    #[test]
    fn the_backoff_doubles_to_its_limit() {
        let config = ClientConfig::default();
        let ms: Vec<u128> = (0..6).map(|attempt| config.backoff(attempt).as_millis()).collect();
        assert_eq!(ms, [100, 200, 400, 800, 1000, 1000]);
    }
}
