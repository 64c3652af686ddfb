//! Where clients' metrics go: a collector that takes OTLP over HTTP in protobuf, or a file with a line of JSON per push.
//!
//! Owns the queue and the task that empties it. Never keeps a client waiting: what finds the queue full, or a collector that stays out of
//! reach, is dropped, and the log says so. Made by `mod.rs`, stopped by it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use milena_common::ConfigError;
use milena_common::limits::{MAX_TELEMETRY_QUEUE, MAX_TELEMETRY_QUEUE_BYTES};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::otlp;

const KEY: &str = "milena.telemetry.otlp.endpoint";
/// The port of collectors.
const DEFAULT_PORT: u16 = 4318;
const DEFAULT_PATH: &str = "/v1/metrics";
/// Pushes are sent together up to about this size.
const BATCH_BYTES: usize = 4 << 20;
/// Time for one request to the collector.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Waits before what failed for a while is sent again; after the last it is dropped.
const RETRIES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Of a collector's answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// How long a stopping node waits for what is still to be exported.
const DRAIN: Duration = Duration::from_secs(2);

/// Where to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    File(PathBuf),
    Collector { host: String, port: u16, authority: String, path: String },
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Target, ConfigError> {
        let text = text.trim();
        let refuse = |why: &str| ConfigError::Conflict(format!("Invalid value {text} for configuration {KEY}: {why}"));
        if let Some(path) = text.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match Path::new(path).is_absolute() {
                true => Ok(Target::File(path.into())),
                false => {
                    Err(refuse("A file must be given with its whole path, as in file:/var/log/client-metrics.json"))
                }
            };
        }
        let uri: Uri = text.parse().map_err(|_| refuse("Not a URL"))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) => Ok(Target::Collector {
                host: authority.host().trim_matches(['[', ']']).to_owned(),
                port: authority.port_u16().unwrap_or(DEFAULT_PORT),
                authority: authority.to_string(),
                path: match uri.path_and_query().map_or("", |path| path.as_str()) {
                    "" | "/" => DEFAULT_PATH.to_owned(),
                    path => path.to_owned(),
                },
            }),
            (Some("https"), _) => Err(refuse(
                "https is not part of this version yet; use http to a collector on this host, which may pass them on by https",
            )),
            _ => Err(refuse("Must be http://host:port or file:/path")),
        }
    }
}

/// One push on its way.
#[derive(Debug)]
pub(super) struct Export {
    pub(super) wall_ms: i64,
    pub(super) terminating: bool,
    pub(super) labels: Vec<(&'static str, String)>,
    /// As the client sent it, decompressed.
    pub(super) metrics: Bytes,
}

/// The way out.
pub(super) struct Exporter {
    queue: Mutex<Option<mpsc::Sender<Export>>>,
    queued_bytes: Arc<AtomicUsize>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Exporter {
    pub(super) fn start(target: Target) -> Exporter {
        let (queue, exports) = mpsc::channel(MAX_TELEMETRY_QUEUE);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let incoming = Incoming { exports, queued_bytes: Arc::clone(&queued_bytes) };
        let task = match target {
            Target::File(path) => tokio::task::spawn_blocking(move || write_lines(&path, incoming)),
            Target::Collector { .. } => spawn(send_all(target, incoming)),
        };
        Exporter { queue: Mutex::new(Some(queue)), queued_bytes, task: Mutex::new(Some(task)) }
    }

    /// Takes a push; false if it is dropped.
    pub(super) fn export(&self, export: Export) -> bool {
        let size = export.metrics.len();
        let queued = self.queued_bytes.fetch_add(size, Ordering::Relaxed);
        let fits = queued + size <= MAX_TELEMETRY_QUEUE_BYTES || queued == 0;
        let taken = fits && self.queue.lock().as_ref().is_some_and(|queue| queue.try_send(export).is_ok());
        if !taken {
            self.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            tracing::warn!("metrics of a client are dropped: too many wait for their export");
        }
        taken
    }

    /// Takes nothing more, and gives what it has a moment to get out.
    pub(super) async fn stop(&self) {
        self.queue.lock().take();
        let task = self.task.lock().take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout(DRAIN, &mut task).await.is_err() {
            tracing::warn!("metrics of clients were not exported in time and are dropped");
            task.abort();
        }
    }
}

struct Incoming {
    exports: mpsc::Receiver<Export>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Incoming {
    fn taken(&self, export: Option<Export>) -> Option<Export> {
        let size = export.as_ref().map_or(0, |export| export.metrics.len());
        self.queued_bytes.fetch_sub(size, Ordering::Relaxed);
        export
    }

    async fn next(&mut self) -> Option<Export> {
        let export = self.exports.recv().await;
        self.taken(export)
    }

    fn next_blocking(&mut self) -> Option<Export> {
        let export = self.exports.blocking_recv();
        self.taken(export)
    }

    fn try_next(&mut self) -> Option<Export> {
        let export = self.exports.try_recv().ok();
        self.taken(export)
    }
}

/// Opens the file anew for every line, so that it may be moved away at any time.
fn write_lines(path: &Path, mut incoming: Incoming) {
    while let Some(export) = incoming.next_blocking() {
        let line = format!("{}\n", line(&export));
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
            tracing::warn!(path = %path.display(), %error, "metrics of a client cannot be written");
        }
    }
}

fn line(export: &Export) -> serde_json::Value {
    let labels: serde_json::Map<_, _> =
        export.labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let points = otlp::points(&export.metrics).unwrap_or_default();
    let metrics: Vec<_> = points
        .into_iter()
        .map(|point| json!({"name": point.name, "unit": point.unit, "attributes": point.attributes, "value": point.value}))
        .collect();
    json!({
        "time_ms": export.wall_ms,
        "terminating": export.terminating,
        "labels": labels,
        "resource": otlp::resource(&export.metrics).unwrap_or_default(),
        "metrics": metrics,
    })
}

async fn send_all(target: Target, mut incoming: Incoming) {
    while let Some(first) = incoming.next().await {
        let mut body = Vec::new();
        let mut next = Some(first);
        while let Some(export) = next {
            let labels: Vec<_> = export.labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
            // what is malformed was refused when it came
            body.extend(otlp::with_labels(&export.metrics, &labels).unwrap_or_default());
            next = if body.len() < BATCH_BYTES { incoming.try_next() } else { None };
        }
        send(&target, body.into()).await;
    }
}

/// Sends, again and again if the collector is only out of order for a while.
async fn send(target: &Target, body: Bytes) {
    let mut waits = RETRIES.iter();
    loop {
        let posted = tokio::time::timeout(TIMEOUT, post(target, body.clone())).await;
        let (reason, passes) = match posted {
            Ok(Ok(status)) if status.is_success() => return,
            Ok(Ok(status)) => (format!("the collector answers {status}"), is_for_a_while(status)),
            Ok(Err(error)) => (error, true),
            Err(_) => ("the collector does not answer".to_owned(), true),
        };
        match waits.next() {
            Some(wait) if passes => tokio::time::sleep(*wait).await,
            _ => {
                tracing::warn!(reason, bytes = body.len(), "metrics of clients are dropped");
                return;
            }
        }
    }
}

/// As OTLP has it.
fn is_for_a_while(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

async fn post(target: &Target, body: Bytes) -> Result<StatusCode, String> {
    let Target::Collector { host, port, authority, path } = target else {
        return Err("no collector".to_owned());
    };
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::post(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/x-protobuf")
        .header(USER_AGENT, concat!("milena/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let answer = async move {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        // the connection is in order only after all of the answer
        Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
        Ok(status)
    };
    let (ended, answer) = tokio::join!(connection, answer);
    match (ended, answer) {
        (Err(error), Err(_)) => Err(error.to_string()),
        (_, answer) => answer,
    }
}

#[expect(clippy::disallowed_methods, reason = "the exporter stops the task that it starts")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_files_and_collectors() {
        let collector = |host: &str, port, authority: &str, path: &str| {
            let (host, authority, path) = (host.to_owned(), authority.to_owned(), path.to_owned());
            Ok(Target::Collector { host, port, authority, path })
        };
        let rows = [
            ("file:/tmp/x.json", Ok(Target::File("/tmp/x.json".into()))),
            ("file:///tmp/x.json", Ok(Target::File("/tmp/x.json".into()))),
            ("http://otel", collector("otel", 4318, "otel", "/v1/metrics")),
            ("http://otel:99/", collector("otel", 99, "otel:99", "/v1/metrics")),
            ("http://[::1]:99/a/b?c=d", collector("::1", 99, "[::1]:99", "/a/b?c=d")),
        ];
        for (text, expected) in rows {
            assert_eq!(Target::parse(text).map_err(|error| error.to_string()), expected, "{text}");
        }
        for text in ["file:x.json", "https://otel", "otel:4318", "grpc://otel", ""] {
            let error = Target::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(&format!("Invalid value {text} for configuration {KEY}: ")), "{error}");
        }
    }

    /// Answers a request with each of these statuses, one connection each; gives back what was asked.
    async fn collector(statuses: Vec<&'static str>) -> (u16, JoinHandle<Vec<(String, Vec<u8>)>>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("is bound").port();
        let served = spawn_test(async move {
            let mut requests = Vec::new();
            for status in statuses {
                let (mut stream, _) = listener.accept().await.expect("accepts");
                let mut read = Vec::new();
                let (head, length, start) = loop {
                    assert!(stream.read_buf(&mut read).await.expect("reads") > 0, "the request ends early");
                    let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
                    let head = String::from_utf8(read[..end].to_vec()).expect("text").to_lowercase();
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
                    let length: usize = length.parse().expect("a number");
                    break (head, length, end + 4);
                };
                while read.len() < start + length {
                    assert!(stream.read_buf(&mut read).await.expect("reads") > 0, "the body ends early");
                }
                requests.push((head, read[start..].to_vec()));
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.expect("answers");
            }
            requests
        });
        (port, served)
    }

    #[expect(clippy::disallowed_methods, reason = "a test starts what it waits for")]
    fn spawn_test<R: Send + 'static>(task: impl Future<Output = R> + Send + 'static) -> JoinHandle<R> {
        tokio::spawn(task)
    }

    /// `MetricsData` with an empty metric.
    const METRICS: [u8; 8] = [10, 6, 18, 4, 18, 2, 10, 0];

    fn export(client_id: &str) -> Export {
        let labels = vec![("client_id", client_id.to_owned())];
        Export { wall_ms: 1, terminating: false, labels, metrics: Bytes::from_static(&METRICS) }
    }

    #[tokio::test]
    async fn a_collector_that_is_busy_is_asked_again() {
        let (port, served) = collector(vec!["503 Busy", "200 OK"]).await;
        let exporter = Exporter::start(Target::parse(&format!("http://127.0.0.1:{port}/a")).expect("a target"));
        // together, as both wait
        assert!(exporter.export(export("c1")) && exporter.export(export("c2")));
        let requests = served.await.expect("serves");
        exporter.stop().await;
        assert_eq!(requests[0].1, requests[1].1);
        let (head, body) = &requests[1];
        assert!(head.starts_with("post /a http/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf") && head.contains("host: 127.0.0.1:"), "{head}");
        assert_eq!(otlp::count(body), Ok(2));
        assert_eq!(otlp::resource(body).expect("well formed").get("client_id"), Some(&json!("c2")));
        assert_eq!(exporter.queued_bytes.load(Ordering::Relaxed), 0);
        assert!(!exporter.export(export("c3")), "takes nothing once it is stopped");
    }
}
