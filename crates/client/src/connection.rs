//! One TCP connection to a broker: requests go out without waiting for each other, answers are matched by correlation id.
//!
//! Owns framing, correlation ids, the version that both sides know (ApiVersions, KIP-511) and timeouts. Knows no topic, no leader and
//! no retry; [`crate::cluster::Client`] does. Two tasks per connection: one writes frames whole, one reads them. When either ends,
//! every waiting request fails with [`ClientError::Disconnected`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use milena_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use milena_protocol::{ApiKey, Decode, Reader, Request, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::ClientConfig;
use crate::error::ClientError;

/// Frames that may wait for the writer; a full queue makes callers wait.
const MAX_QUEUED_FRAMES: usize = 64;

/// A live connection. Dropping it closes the socket.
pub struct Connection {
    address: String,
    client_id: String,
    request_timeout: Duration,
    outgoing: mpsc::Sender<Vec<Bytes>>,
    pending: Arc<Mutex<Pending>>,
    next_correlation_id: AtomicI32,
    versions: HashMap<i16, (i16, i16)>,
    features: Features,
    tasks: [JoinHandle<()>; 2],
}

/// What ApiVersions says about features: name to (min, max) supported and finalized level.
#[derive(Debug, Clone, Default)]
pub struct Features {
    pub supported: Vec<(String, i16, i16)>,
    pub finalized: Vec<(String, i16)>,
}

#[derive(Default)]
struct Pending {
    waiters: HashMap<i32, oneshot::Sender<Bytes>>,
    closed: Option<String>,
}

impl Pending {
    fn close(&mut self, reason: String) {
        self.closed.get_or_insert(reason);
        self.waiters.clear();
    }
}

impl Connection {
    /// Connects and agrees on versions.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`] with the reason; [`ClientError::Timeout`].
    pub async fn connect(host: &str, port: u16, config: &ClientConfig) -> Result<Connection, ClientError> {
        let address = format!("{host}:{port}");
        let lost = |reason: String| ClientError::Disconnected { address: address.clone(), reason };
        let connecting = TcpStream::connect((host, port));
        let stream = match timeout(Duration::from_millis(config.connect_timeout_ms), connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(lost(error.to_string())),
            Err(_) => return Err(lost("timed out".into())),
        };
        stream.set_nodelay(true).map_err(|error| lost(error.to_string()))?;
        let (reader, writer) = stream.into_split();
        let (outgoing, frames) = mpsc::channel(MAX_QUEUED_FRAMES);
        let pending = Arc::new(Mutex::new(Pending::default()));
        let tasks = [
            spawn(write_frames(writer, frames, pending.clone())),
            spawn(read_frames(reader, config.max_response_bytes, pending.clone())),
        ];
        let mut connection = Connection {
            address,
            client_id: config.client_id.clone(),
            request_timeout: Duration::from_millis(config.request_timeout_ms),
            outgoing,
            pending,
            next_correlation_id: AtomicI32::new(0),
            versions: HashMap::new(),
            features: Features::default(),
            tasks,
        };
        connection.negotiate().await?;
        Ok(connection)
    }

    /// `host:port` as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The versions that the broker serves: key to (min, max).
    pub fn api_versions(&self) -> &HashMap<i16, (i16, i16)> {
        &self.versions
    }

    /// The features that the broker knows.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether the connection still works, as far as is known.
    pub fn is_open(&self) -> bool {
        lock(&self.pending).closed.is_none()
    }

    /// The highest version of `R` that both sides know, not above `limit`.
    pub fn version_of<R: Request>(&self, limit: i16) -> Result<i16, ClientError> {
        let Some((min, max)) = self.versions.get(&(R::KEY as i16)) else {
            return Err(ClientError::UnsupportedVersion(format!("The node does not support {}", java_name(R::KEY))));
        };
        let version = (*max).min(R::MAX_VERSION).min(limit);
        if version < (*min).max(R::MIN_VERSION) {
            return Err(ClientError::UnsupportedVersion(format!(
                "The node does not support {} with version in range [{},{}]. The supported range is [{min},{max}].",
                java_name(R::KEY),
                R::MIN_VERSION,
                R::MAX_VERSION.min(limit)
            )));
        }
        Ok(version)
    }

    /// Sends a request at the highest common version and waits for its answer.
    ///
    /// # Errors
    /// [`ClientError::UnsupportedVersion`], [`ClientError::Timeout`], [`ClientError::Disconnected`], [`ClientError::Malformed`].
    pub async fn request<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let version = self.version_of::<R>(i16::MAX)?;
        self.request_at(request, version, self.request_timeout).await
    }

    /// Sends a request at a version of the caller's choice and waits no longer than `wait`.
    pub async fn request_at<R: Request>(
        &self,
        request: &R,
        version: i16,
        wait: Duration,
    ) -> Result<R::Response, ClientError> {
        let (sender, receiver) = oneshot::channel();
        let correlation_id = self.next_id();
        let frame = self.frame(request, version, correlation_id)?;
        {
            let mut pending = lock(&self.pending);
            if let Some(reason) = &pending.closed {
                return Err(self.lost(reason.clone()));
            }
            pending.waiters.insert(correlation_id, sender);
        }
        let answer = timeout(wait, async {
            self.outgoing.send(frame).await.map_err(|_| self.lost(self.reason()))?;
            receiver.await.map_err(|_| self.lost(self.reason()))
        })
        .await;
        let body = match answer {
            Ok(body) => body?,
            Err(_) => {
                lock(&self.pending).waiters.remove(&correlation_id);
                return Err(ClientError::Timeout(format!(
                    "{:?} to {} was not answered in {} ms",
                    R::KEY,
                    self.address,
                    wait.as_millis()
                )));
            }
        };
        self.decode::<R>(body, version)
    }

    /// Sends a request that has no answer (Produce with acks=0).
    pub async fn send_only_at<R: Request>(&self, request: &R, version: i16) -> Result<(), ClientError> {
        let frame = self.frame(request, version, self.next_id())?;
        self.outgoing.send(frame).await.map_err(|_| self.lost(self.reason()))
    }

    async fn negotiate(&mut self) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: "milena".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        let mut answer: ApiVersionsResponse = self.request_at(&request, 3, self.request_timeout).await?;
        if answer.error_code == milena_protocol::ErrorCode::UnsupportedVersion.code() {
            answer = self.request_at(&ApiVersionsRequest::default(), 0, self.request_timeout).await?;
        }
        ClientError::check(answer.error_code, None, &self.address)?;
        self.versions = answer.api_keys.iter().map(|key| (key.api_key, (key.min_version, key.max_version))).collect();
        self.features.supported =
            answer.supported_features.iter().map(|f| (f.name.clone(), f.min_version, f.max_version)).collect();
        self.features.finalized =
            answer.finalized_features.iter().map(|f| (f.name.clone(), f.max_version_level)).collect();
        Ok(())
    }

    fn next_id(&self) -> i32 {
        self.next_correlation_id.fetch_add(1, Ordering::Relaxed) & i32::MAX
    }

    fn frame<R: Request>(&self, request: &R, version: i16, correlation_id: i32) -> Result<Vec<Bytes>, ClientError> {
        let mut head = BytesMut::new();
        head.put_i32(0);
        head.put_i16(R::KEY as i16);
        head.put_i16(version);
        head.put_i32(correlation_id);
        // the client id keeps its two-byte length even in the flexible header
        let client_id = &self.client_id.as_bytes()[..self.client_id.len().min(i16::MAX as usize)];
        head.put_i16(client_id.len() as i16);
        head.put_slice(client_id);
        if R::KEY.is_flexible(version) {
            head.put_u8(0);
        }
        let mut writer = Writer::new();
        request
            .encode(&mut writer, version)
            .map_err(|error| ClientError::InvalidConfig(format!("{:?}: {error}", R::KEY)))?;
        let body = writer.finish();
        let length = head.len() - 4 + body.iter().map(Bytes::len).sum::<usize>();
        let length = i32::try_from(length)
            .map_err(|_| ClientError::InvalidConfig(format!("{:?}: request over 2 GiB", R::KEY)))?;
        head[..4].copy_from_slice(&length.to_be_bytes());
        let mut frame = vec![head.freeze()];
        frame.extend(body);
        Ok(frame)
    }

    fn decode<R: Request>(&self, mut body: Bytes, version: i16) -> Result<R::Response, ClientError> {
        let malformed = |reason: String| ClientError::Malformed { api: format!("{:?} v{version}", R::KEY), reason };
        // ApiVersions answers with the plain header whatever its version, and with version 0 when it does not know ours
        let mut version = version;
        if R::KEY == ApiKey::ApiVersions {
            let code = body.get(..2).map(|b| i16::from_be_bytes([b[0], b[1]]));
            if code == Some(milena_protocol::ErrorCode::UnsupportedVersion.code()) {
                version = 0;
            }
        } else if R::KEY.is_flexible(version) {
            skip_tagged_fields(&mut body).ok_or_else(|| malformed("header".into()))?;
        }
        let mut reader = Reader::new(body);
        R::Response::decode(&mut reader, version).map_err(|error| malformed(error.to_string()))
    }

    fn reason(&self) -> String {
        lock(&self.pending).closed.clone().unwrap_or_else(|| "closed".into())
    }

    fn lost(&self, reason: String) -> ClientError {
        ClientError::Disconnected { address: self.address.clone(), reason }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[allow(clippy::disallowed_methods, reason = "a connection owns its two tasks and ends them")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

fn lock(pending: &Mutex<Pending>) -> std::sync::MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn write_frames(
    mut socket: OwnedWriteHalf,
    mut frames: mpsc::Receiver<Vec<Bytes>>,
    pending: Arc<Mutex<Pending>>,
) {
    while let Some(frame) = frames.recv().await {
        for chunk in frame {
            if let Err(error) = socket.write_all(&chunk).await {
                lock(&pending).close(error.to_string());
                return;
            }
        }
    }
}

async fn read_frames(mut socket: OwnedReadHalf, max_bytes: usize, pending: Arc<Mutex<Pending>>) {
    let reason = loop {
        match read_frame(&mut socket, max_bytes).await {
            Ok(mut frame) => {
                let Ok(correlation_id) = frame.try_get_i32() else {
                    break "a response without a header".to_string();
                };
                // a request that nobody waits for any more had its timeout
                if let Some(waiter) = lock(&pending).waiters.remove(&correlation_id) {
                    let _ = waiter.send(frame);
                }
            }
            Err(reason) => break reason,
        }
    };
    lock(&pending).close(reason);
}

/// Reads one frame. The buffer grows with the bytes that arrive, never with the length that is claimed.
async fn read_frame(socket: &mut OwnedReadHalf, max_bytes: usize) -> Result<Bytes, String> {
    let length = match socket.read_i32().await {
        Ok(length) => usize::try_from(length).map_err(|_| format!("a response of length {length}"))?,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err("closed by the broker".into());
        }
        Err(error) => return Err(error.to_string()),
    };
    if length > max_bytes {
        return Err(format!("a response of {length} bytes is over the limit of {max_bytes}"));
    }
    let mut frame = BytesMut::with_capacity(length.min(1 << 20));
    while frame.len() < length {
        let mut rest = (&mut *socket).take((length - frame.len()) as u64);
        match rest.read_buf(&mut frame).await {
            Ok(0) => return Err("closed by the broker within a response".into()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(frame.freeze())
}

fn skip_tagged_fields(body: &mut Bytes) -> Option<()> {
    let count = take_uvarint(body)?;
    for _ in 0..count {
        take_uvarint(body)?;
        let size = usize::try_from(take_uvarint(body)?).ok()?;
        if size > body.len() {
            return None;
        }
        body.advance(size);
    }
    Some(())
}

fn take_uvarint(body: &mut Bytes) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let byte = body.try_get_u8().ok()?;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// `DescribeUserScramCredentials` as Kafka's Java clients print it: `DESCRIBE_USER_SCRAM_CREDENTIALS`.
fn java_name(key: ApiKey) -> String {
    let mut name = String::new();
    for letter in key.name().chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
