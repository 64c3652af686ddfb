//! Kafka's protocol by hand: frames over a socket, and just enough requests to say wrong things on purpose.
//!
//! Written from the protocol's description and not on the crates under test, so that both cannot be wrong together. Uses versions that
//! Kafka 3.3 and 4.3 both serve. Never retries, never interprets more of an answer than a test asks for.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Keys of the requests used here.
pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const METADATA: i16 = 3;
pub const API_VERSIONS: i16 = 18;
pub const CREATE_TOPICS: i16 = 19;

/// How long an answer may take before the test fails; far beyond what any takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// One connection.
pub struct Wire {
    stream: TcpStream,
    client_id: String,
    correlation: i32,
}

impl Wire {
    /// Connects.
    pub fn connect(address: &str) -> Result<Wire> {
        Wire::connect_as(address, "bad-input")
    }

    /// Connects as a client of this id.
    pub fn connect_as(address: &str, client_id: &str) -> Result<Wire> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Wire { stream, client_id: client_id.to_owned(), correlation: 0 })
    }

    /// The socket itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends bytes behind their length.
    pub fn send_frame(&mut self, frame: &[u8]) -> Result<()> {
        self.send_raw(&[&i32::try_from(frame.len())?.to_be_bytes(), frame].concat())
    }

    /// Sends a request with a header of version 1, that of requests without compact fields.
    pub fn send(&mut self, key: i16, version: i16, body: &[u8]) -> Result<()> {
        self.correlation += 1;
        let header = Body::new().i16(key).i16(version).i32(self.correlation).string(&self.client_id);
        self.send_frame(&[&header.0, body].concat())
    }

    /// Sends a request with a header of version 2, that of requests with compact fields.
    pub fn send_flexible(&mut self, key: i16, version: i16, body: &[u8]) -> Result<()> {
        self.correlation += 1;
        let header = Body::new().i16(key).i16(version).i32(self.correlation).string(&self.client_id).uvarint(0);
        self.send_frame(&[&header.0, body].concat())
    }

    /// The next frame, behind its length; `None` if the other side has closed.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let mut length = [0u8; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(e) if closed(e.kind()) => return Ok(None),
            Err(e) => return Err(e).context("no answer, and not closed either"),
        }
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).context("a negative length")?];
        self.stream.read_exact(&mut frame).context("the rest of an answer")?;
        Ok(Some(frame))
    }

    /// The answer to the request sent last, without its header of version 0.
    pub fn answer(&mut self) -> Result<Fields> {
        let frame = self.receive()?.context("the connection was closed without an answer")?;
        let mut fields = Fields::of(frame);
        let correlation = fields.i32()?;
        ensure!(correlation == self.correlation, "answer {correlation} to request {}", self.correlation);
        Ok(fields)
    }

    /// Sends a request and returns its answer.
    pub fn ask(&mut self, key: i16, version: i16, body: Body) -> Result<Fields> {
        self.send(key, version, &body.0)?;
        self.answer()
    }

    /// Whether the other side closes without saying a thing.
    pub fn ends_in_silence(&mut self) -> Result<()> {
        match self.receive()? {
            None => Ok(()),
            Some(frame) => {
                let from = &frame[..frame.len().min(64)];
                bail!("an answer of {} bytes where the connection should be closed: {from:02x?}", frame.len())
            }
        }
    }

    /// No more bytes will follow.
    pub fn shutdown_write(&mut self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }
}

/// A connection that is closed with bytes unread looks like this to the one that sent them.
fn closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// What a request is made of.
#[derive(Clone, Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    /// Nothing yet.
    pub fn new() -> Body {
        Body::default()
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Body {
        self.0.extend_from_slice(bytes);
        self
    }

    #[must_use]
    pub fn i8(self, v: i8) -> Body {
        self.raw(&v.to_be_bytes())
    }

    #[must_use]
    pub fn i16(self, v: i16) -> Body {
        self.raw(&v.to_be_bytes())
    }

    #[must_use]
    pub fn i32(self, v: i32) -> Body {
        self.raw(&v.to_be_bytes())
    }

    #[must_use]
    pub fn i64(self, v: i64) -> Body {
        self.raw(&v.to_be_bytes())
    }

    /// A string behind its length of two bytes.
    #[must_use]
    pub fn string(self, v: &str) -> Body {
        self.i16(i16::try_from(v.len()).expect("a short string")).raw(v.as_bytes())
    }

    /// Bytes behind their length of four bytes.
    #[must_use]
    pub fn bytes(self, v: &[u8]) -> Body {
        self.i32(i32::try_from(v.len()).expect("below 2 GB")).raw(v)
    }

    /// A number of variable length, without a sign.
    #[must_use]
    pub fn uvarint(mut self, mut v: u32) -> Body {
        while v >= 0x80 {
            self.0.push((v & 0x7f) as u8 | 0x80);
            v >>= 7;
        }
        self.0.push(v as u8);
        self
    }

    /// A number of variable length with a sign, as in records.
    #[must_use]
    pub fn varint(self, v: i32) -> Body {
        self.uvarint(((v << 1) ^ (v >> 31)) as u32)
    }
}

/// An answer, read from its front.
pub struct Fields {
    bytes: Vec<u8>,
    at: usize,
}

impl Fields {
    /// The fields of these bytes.
    pub fn of(bytes: Vec<u8>) -> Fields {
        Fields { bytes, at: 0 }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&[u8]> {
        let from = self.at;
        self.at += n;
        self.bytes.get(from..self.at).with_context(|| format!("an answer of {} bytes ends early", self.bytes.len()))
    }

    /// What was not read yet.
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    pub fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A string behind its length of two bytes; null is `None`.
    pub fn string(&mut self) -> Result<Option<String>> {
        let Ok(n) = usize::try_from(self.i16()?) else { return Ok(None) };
        Ok(Some(String::from_utf8(self.take(n)?.to_vec())?))
    }

    /// Bytes behind their length of four bytes; null is empty.
    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        let n = usize::try_from(self.i32()?).unwrap_or(0);
        Ok(self.take(n)?.to_vec())
    }

    /// How many elements follow; null has none.
    pub fn count(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.i32()?).unwrap_or(0))
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
}

/// What a partition says to a produce request of version 8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    pub partition: i32,
    pub error: i16,
    pub base_offset: i64,
    /// Places of the refused records in their batch.
    pub record_errors: Vec<i32>,
    pub message: Option<String>,
}

/// A produce request of version 8 with these batches, one partition each from 0 on.
pub fn produce_body(topic: &str, acks: i16, batches: &[&[u8]]) -> Body {
    let mut body = Body::new().i16(-1).i16(acks).i32(10_000).i32(1).string(topic).i32(batches.len() as i32);
    for (partition, records) in batches.iter().enumerate() {
        body = body.i32(partition as i32).bytes(records);
    }
    body
}

/// Produces these batches with acks=all, one partition each from 0 on.
pub fn produce(wire: &mut Wire, topic: &str, batches: &[&[u8]]) -> Result<Vec<Produced>> {
    let mut f = wire.ask(PRODUCE, 8, produce_body(topic, -1, batches))?;
    produced(&mut f)
}

/// Reads the answer to a produce request of version 8 about one topic.
pub fn produced(f: &mut Fields) -> Result<Vec<Produced>> {
    ensure!(f.count()? == 1, "one topic");
    f.string()?;
    let mut out = Vec::new();
    for _ in 0..f.count()? {
        let (partition, error, base_offset) = (f.i32()?, f.i16()?, f.i64()?);
        let (_append_time, _log_start) = (f.i64()?, f.i64()?);
        let mut record_errors = Vec::new();
        for _ in 0..f.count()? {
            record_errors.push(f.i32()?);
            f.string()?;
        }
        out.push(Produced { partition, error, base_offset, record_errors, message: f.string()? });
    }
    Ok(out)
}

/// A fetch request of version 4 for one partition.
pub fn fetch_body(topic: &str, partition: i32, offset: i64, max_bytes: i32) -> Body {
    Body::new()
        .i32(-1)
        .i32(0)
        .i32(1)
        .i32(max_bytes)
        .i8(0)
        .i32(1)
        .string(topic)
        .i32(1)
        .i32(partition)
        .i64(offset)
        .i32(max_bytes)
}

/// Error, high watermark and records of one partition.
pub fn fetch(wire: &mut Wire, topic: &str, partition: i32, offset: i64) -> Result<(i16, i64, Vec<u8>)> {
    let mut f = wire.ask(FETCH, 4, fetch_body(topic, partition, offset, 1 << 20))?;
    let _throttle = f.i32()?;
    ensure!(f.count()? == 1, "one topic");
    f.string()?;
    ensure!(f.count()? == 1, "one partition");
    let (_partition, error, high_watermark, _last_stable) = (f.i32()?, f.i16()?, f.i64()?, f.i64()?);
    for _ in 0..f.count()? {
        f.take(16)?;
    }
    Ok((error, high_watermark, f.bytes()?))
}

/// Creates a topic with a request of version 2; error and message.
pub fn create_topic(
    wire: &mut Wire,
    topic: &str,
    partitions: i32,
    replication_factor: i16,
    configs: &[(&str, &str)],
) -> Result<(i16, Option<String>)> {
    let mut body = Body::new().i32(1).string(topic).i32(partitions).i16(replication_factor).i32(0);
    body = body.i32(configs.len() as i32);
    for (key, value) in configs {
        body = body.string(key).string(value);
    }
    let mut f = wire.ask(CREATE_TOPICS, 2, body.i32(30_000).i8(0))?;
    let _throttle = f.i32()?;
    ensure!(f.count()? == 1, "one topic");
    f.string()?;
    Ok((f.i16()?, f.string()?))
}

/// Waits until every partition of a new topic is led: Kafka answers its creator before that.
pub fn wait_until_led(wire: &mut Wire, topic: &str, partitions: i32) -> Result<()> {
    for partition in 0..partitions {
        let begin = std::time::Instant::now();
        loop {
            match fetch(wire, topic, partition, 0)?.0 {
                0 => break,
                error => ensure!(begin.elapsed() < PATIENCE, "{topic}-{partition} is not led: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// The error that metadata of version 4 tell of a topic.
pub fn topic_error(wire: &mut Wire, topic: &str, create: bool) -> Result<i16> {
    let mut f = wire.ask(METADATA, 4, Body::new().i32(1).string(topic).i8(i8::from(create)))?;
    let _throttle = f.i32()?;
    for _ in 0..f.count()? {
        f.i32()?;
        f.string()?;
        f.i32()?;
        f.string()?;
    }
    let (_cluster, _controller) = (f.string()?, f.i32()?);
    ensure!(f.count()? == 1, "one topic");
    f.i16()
}
