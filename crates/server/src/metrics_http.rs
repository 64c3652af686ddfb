//! The metrics over HTTP (`milena.metrics.listen`): `/metrics` for Prometheus, `/jmx` by MBean name for `kafka-jmx`.
//!
//! Owns the listener and just as much of HTTP as a scrape needs. What is a state and not a count (partitions led, offsets of logs) is
//! looked up when somebody asks. Changes nothing. Started by `node.rs`.

use std::sync::Arc;
use std::time::Duration;

use milena_common::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::broker::Broker;

/// A request line and headers longer than this are nobody's scrape.
const MAX_REQUEST_BYTES: usize = 8 << 10;
/// Scrapes at the same time; more wait.
const MAX_CONNECTIONS: usize = 8;
/// How long one scrape may take.
const PATIENCE: Duration = Duration::from_secs(10);
const SERVER: &str = "kafka.server";
const CONTROLLER: &str = "kafka.controller";
const LOG: &str = "kafka.log";
/// Kafka's number of a broker that serves clients.
const RUNNING: i64 = 3;

/// Answers until `stopped` says otherwise.
pub(crate) async fn serve(listener: TcpListener, broker: Arc<Broker>, mut stopped: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut scrapes = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        while scrapes.try_join_next().is_some() {}
        let Ok((socket, _)) = accepted else {
            // out of descriptors: it passes
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let broker = Arc::clone(&broker);
        scrapes.spawn(async move {
            let _permit = permit;
            let _ = tokio::time::timeout(PATIENCE, answer(socket, &broker)).await;
        });
    }
}

async fn answer(mut socket: TcpStream, broker: &Broker) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST_BYTES || socket.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = match (method, path) {
        ("GET", "/metrics") => {
            collect(broker);
            ("200 OK", "text/plain; version=0.0.4; charset=utf-8", broker.metrics.expose())
        }
        ("GET", "/jmx") => {
            collect(broker);
            ("200 OK", "text/tab-separated-values; charset=utf-8", beans(&broker.metrics))
        }
        ("GET", _) => ("404 Not Found", "text/plain", "There is /metrics and /jmx.\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "There is only GET.\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await
}

/// An attribute a line: MBean, attribute and value, with tabs between.
fn beans(metrics: &Metrics) -> String {
    let lines = metrics.beans().into_iter().flat_map(|(bean, attributes)| {
        attributes.into_iter().map(move |(attribute, value)| format!("{bean}\t{attribute}\t{value}\n"))
    });
    lines.collect()
}

/// Brings what is a state up to date.
pub(crate) fn collect(broker: &Broker) {
    let metrics = &broker.metrics;
    broker.quotas.report(metrics, broker.clock.now());
    broker.telemetry.report(metrics);
    let image = broker.metadata.image();
    let set = |domain, kind, name, value: i64| metrics.gauge(domain, kind, name, &[]).set(value);
    let (mut hosted, mut led, mut under_replicated, mut reassigning) = (0, 0, 0, 0);
    let (mut partitions, mut offline) = (0, 0);
    for partition in image.topics.iter().flat_map(|topic| topic.partitions.values()) {
        partitions += 1;
        offline += i64::from(!partition.has_leader());
        hosted += i64::from(partition.replicas.contains(&broker.node_id));
        if partition.leader == broker.node_id {
            led += 1;
            under_replicated += i64::from(partition.isr.len() < partition.replicas.len());
            reassigning += i64::from(partition.is_reassigning());
        }
    }
    set(SERVER, "KafkaServer", "BrokerState", RUNNING);
    set(SERVER, "ReplicaManager", "PartitionCount", hosted);
    set(SERVER, "ReplicaManager", "LeaderCount", led);
    set(SERVER, "ReplicaManager", "UnderReplicatedPartitions", under_replicated);
    set(SERVER, "ReplicaManager", "ReassigningPartitions", reassigning);
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (_, under_min_isr) = broker.replicas.in_sync_shortages();
    set(SERVER, "ReplicaManager", "UnderMinIsrPartitionCount", count(under_min_isr));
    let active = image.cluster.unfenced_brokers().count();
    set(CONTROLLER, "KafkaController", "ActiveBrokerCount", count(active));
    set(CONTROLLER, "KafkaController", "FencedBrokerCount", count(image.cluster.brokers.len().saturating_sub(active)));
    set(CONTROLLER, "KafkaController", "GlobalTopicCount", count(image.topics.len()));
    set(CONTROLLER, "KafkaController", "GlobalPartitionCount", partitions);
    set(CONTROLLER, "KafkaController", "OfflinePartitionsCount", offline);
    // a log that is gone is not shown any more
    for bean in ["LogStartOffset", "LogEndOffset", "Size", "NumLogSegments"] {
        metrics.remove_named(LOG, "Log", bean);
    }
    for (tp, log) in broker.replicas.logs().all() {
        let partition = tp.partition.to_string();
        let labels = [("topic", &*tp.topic), ("partition", partition.as_str())];
        let set = |name, value| metrics.gauge(LOG, "Log", name, &labels).set(value);
        set("LogStartOffset", log.log_start_offset());
        set("LogEndOffset", log.log_end_offset());
        set("Size", i64::try_from(log.size_in_bytes()).unwrap_or(i64::MAX));
        set("NumLogSegments", count(log.segment_count()));
    }
}
