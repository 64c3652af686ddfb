//! One of the two brokers under comparison: its process, connections ("lanes"), and what its ids are called in common.
//!
//! Owns sending a request and waiting for its answer. Never judges an answer; `pair` does.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use milena_compat::installation::{Installation, Program, Voters};
use serde_json::{Value, json};

use super::normal::Names;
use super::schema::{Api, decode, encode};

/// Connections per side that the sequences use, each of which can have one request that waits; one more is for questions of ours.
pub const LANES: usize = 4;

/// Settings of both brokers: no delays that only cost time, and nothing that happens by itself while a sequence runs.
const SETTINGS: &[&str] = &[
    "auto.create.topics.enable=false",
    "group.consumer.assignment.interval.ms=0",
    "group.consumer.assignor.offload.enable=false",
    "group.consumer.min.heartbeat.interval.ms=1000",
    "offset.metadata.max.bytes=64",
    "connections.max.idle.ms=3600000",
    "log.retention.ms=-1",
    // one shard of groups, so that one answer tells what it has heard of the topics
    "offsets.topic.num.partitions=1",
];

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Answer(Value),
    /// The connection was closed.
    Closed,
    /// Nothing yet.
    Waits,
    /// Not what the spec says.
    Unreadable(String),
}

/// A request under way.
struct Asked {
    api: &'static Api,
    version: i16,
    correlation: i32,
}

#[derive(Default)]
struct Lane {
    stream: Option<TcpStream>,
    correlation: i32,
    asked: Option<Asked>,
    /// What was read of an answer so far.
    partial: Vec<u8>,
}

/// See the module.
pub struct Side {
    pub names: Names,
    /// Versions by API key.
    pub versions: BTreeMap<i16, (i16, i16)>,
    address: String,
    lanes: Vec<Lane>,
    _installation: Installation,
}

impl Side {
    /// Formats a folder and starts the program on it.
    pub fn start(program: Program) -> Result<Side> {
        let mut installation = Installation::format("4.3.1", Voters::Static, SETTINGS)?;
        installation.start(program)?;
        let address = installation.address();
        let folder = installation.properties().parent().context("a folder")?.display().to_string();
        let port = address.rsplit(':').next().context("a port")?.to_owned();
        let names = Names::new(folder, port);
        let lanes = (0..=LANES).map(|_| Lane::default()).collect();
        let mut side = Side { names, versions: BTreeMap::new(), address, lanes, _installation: installation };
        side.ask_versions()?;
        Ok(side)
    }

    fn ask_versions(&mut self) -> Result<()> {
        self.send(0, super::schema::api("ApiVersions"), 0, &json!({}))?;
        let Outcome::Answer(answer) = self.receive(0, Duration::from_secs(60))? else { anyhow::bail!("no versions") };
        let of = |row: &Value, field: &str| row[field].as_i64().map(|n| n as i16).context("a version");
        for row in answer["api_keys"].as_array().context("keys")? {
            self.versions.insert(of(row, "api_key")?, (of(row, "min_version")?, of(row, "max_version")?));
        }
        Ok(())
    }

    /// Whether the lane waits for an answer.
    pub fn is_waiting(&self, lane: usize) -> bool {
        self.lanes[lane].asked.is_some()
    }

    /// Forgets the lane's connection, and what it waits for.
    pub fn hang_up(&mut self, lane: usize) {
        let correlation = self.lanes[lane].correlation;
        self.lanes[lane] = Lane { correlation, ..Lane::default() };
    }

    /// Sends a request.
    pub fn send(&mut self, lane: usize, api: &'static Api, version: i16, body: &Value) -> Result<()> {
        let names = &self.names;
        let lane = &mut self.lanes[lane];
        ensure!(lane.asked.is_none(), "the lane waits for another answer");
        lane.correlation += 1;
        let frame = encode(api, version, lane.correlation, body, &|text| names.resolve(text))?;
        if lane.stream.is_none() {
            let stream = TcpStream::connect(&self.address)?;
            stream.set_nodelay(true)?;
            lane.stream = Some(stream);
        }
        let stream = lane.stream.as_mut().context("a connection")?;
        let framed = [&(frame.len() as i32).to_be_bytes()[..], &frame].concat();
        // a connection that was closed is seen when the answer is read
        let _ = stream.write_all(&framed);
        lane.asked = Some(Asked { api, version, correlation: lane.correlation });
        Ok(())
    }

    /// The answer to what the lane asked, if it comes in time.
    pub fn receive(&mut self, index: usize, patience: Duration) -> Result<Outcome> {
        let lane = &mut self.lanes[index];
        let stream = lane.stream.as_mut().context("a connection")?;
        let deadline = Instant::now() + patience;
        let mut piece = [0u8; 65536];
        loop {
            if let Some(frame) = whole(&lane.partial) {
                let asked = lane.asked.take().context("a question")?;
                let outcome = match decode(asked.api, asked.version, asked.correlation, frame) {
                    Ok(answer) => Outcome::Answer(answer),
                    Err(error) => Outcome::Unreadable(format!("{error:#}")),
                };
                lane.partial.clear();
                return Ok(outcome);
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut piece) {
                Ok(0) => {
                    self.hang_up(index);
                    return Ok(Outcome::Closed);
                }
                Ok(n) => lane.partial.extend_from_slice(&piece[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= deadline {
                        return Ok(Outcome::Waits);
                    }
                }
                Err(_) => {
                    self.hang_up(index);
                    return Ok(Outcome::Closed);
                }
            }
        }
    }
}

fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let length = i32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    bytes.get(4..4 + usize::try_from(length).ok()?)
}
