//! One connection: frames in, responses out in the order of the requests. One task, no thread hand-off.
//!
//! Owns the socket, what was read but not yet handled, and the answers that are not sent yet. The next request is not started
//! while too many answers are open or unsent (`limits.rs`). Knows nothing of any API: `handlers::start` takes a frame and says what becomes
//! of it. Made by `listener.rs`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use milena_common::limits::{MAX_PENDING_RESPONSE_BYTES, MAX_PIPELINED_REQUESTS};
use milena_protocol::frame::{LENGTH_BYTES, frame_length};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::broker::Broker;
use crate::handlers::{self, Started};
use crate::request::{BoxFuture, ConnectionInfo};

/// Read at a time while no large frame is expected. The buffer belongs to the thread: an idle connection holds none.
const SCRATCH_BYTES: usize = 64 << 10;
/// A frame's claimed length is believed this far once [`EARNEST_BYTES`] of it are there.
const TRUSTED_BYTES: usize = 1 << 20;
/// Nobody is believed before having sent this much: claims alone must not take memory.
const EARNEST_BYTES: usize = 16 << 10;
/// Pieces of responses given to one system call.
const MAX_SLICES: usize = 64;
/// Longest time that a throttled connection is not read.
const MAX_MUTE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a stopping node waits for a client to take its last answers.
const DRAIN: Duration = Duration::from_secs(1);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// What all connections of a listener share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionOptions {
    /// `socket.request.max.bytes`.
    pub(crate) max_frame_bytes: usize,
    /// `connections.max.idle.ms`; `None` for ever.
    pub(crate) max_idle: Option<Duration>,
}

/// Serves a connection until the client closes it, breaks the protocol or is silent for too long, or `stop` turns true.
pub(crate) async fn serve(
    stream: TcpStream,
    info: Arc<ConnectionInfo>,
    broker: Arc<Broker>,
    options: ConnectionOptions,
    stop: watch::Receiver<bool>,
) {
    let peer = info.peer;
    let mut connection =
        Connection { socket: Socket::new(stream), info, broker, options, answers: Answers::default(), muted: None };
    let ended = connection.run(stop).await;
    connection.broker.telemetry.on_disconnect(&connection.info);
    match ended {
        Ok(()) => {}
        Err(Ended::Io(error)) => tracing::debug!(%peer, %error, "connection lost"),
        Err(Ended::Protocol(reason)) => tracing::warn!(%peer, reason, "closing the connection"),
    }
}

/// Why a connection ended other than by the client's or the node's wish.
enum Ended {
    Io(io::Error),
    Protocol(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Ended::Io(error)
    }
}

struct Connection {
    socket: Socket,
    info: Arc<ConnectionInfo>,
    broker: Arc<Broker>,
    options: ConnectionOptions,
    answers: Answers,
    /// A throttled connection is not read until then (KIP-219).
    muted: Option<Pin<Box<Sleep>>>,
}

/// What a wait ended with.
enum Event {
    /// Something was answered, read or written: look again.
    Progress,
    /// The client sends no more.
    EndOfInput,
    Idle,
    Stop,
}

impl Connection {
    async fn run(&mut self, stop: watch::Receiver<bool>) -> Result<(), Ended> {
        let mut stop: BoxFuture<()> = Box::pin(stopped(stop));
        let mut idle = self.options.max_idle.map(|max| Box::pin(tokio::time::sleep(max)));
        let mut open = true;
        loop {
            self.mute();
            if open && self.has_room() {
                match self.socket.next_frame(self.options.max_frame_bytes) {
                    Ok(Some(frame)) => {
                        open = self.start(frame).await?;
                        continue;
                    }
                    Ok(None) => {}
                    Err(reason) => return Err(Ended::Protocol(reason)),
                }
            }
            if !open && self.answers.is_empty() && self.socket.unsent_bytes == 0 {
                return Ok(());
            }
            let before = self.socket.last_active;
            match poll_fn(|cx| self.poll(cx, open, idle.as_mut().map(|i| i.as_mut()), &mut stop)).await? {
                Event::Progress => {}
                Event::EndOfInput if self.answers.is_empty() && self.socket.unsent_bytes == 0 => return Ok(()),
                // nothing more will come, but what was asked for may still be read
                Event::EndOfInput => open = false,
                Event::Idle => {
                    let (Some(idle), Some(max)) = (&mut idle, self.options.max_idle) else { continue };
                    if before + max <= Instant::now() && self.answers.is_empty() {
                        tracing::debug!(peer = %self.info.peer, "closing an idle connection");
                        return Ok(());
                    }
                    idle.as_mut().reset((before + max).max(Instant::now() + Duration::from_millis(100)));
                }
                Event::Stop => return self.drain().await,
            }
        }
    }

    /// Runs the ordered part of a request; false if no further one may follow.
    async fn start(&mut self, frame: Bytes) -> Result<bool, Ended> {
        let alone = self.answers.is_empty() && self.socket.is_quiet();
        match handlers::start(frame, alone, &self.info, &self.broker).await {
            Started::Ready(chunks) => self.answers.push_ready(chunks),
            Started::Later(answer) => self.answers.queue.push_back(Answer::Later(answer)),
            Started::Nothing => {}
            Started::Close(reason) => {
                // what was asked before is still answered, as far as that needs no waiting
                while let Some(chunks) = self.answers.pop_ready() {
                    self.socket.send(chunks);
                }
                let _ = tokio::time::timeout(DRAIN, poll_fn(|cx| self.socket.poll_flush(cx))).await;
                return Err(Ended::Protocol(reason));
            }
        }
        Ok(true)
    }

    /// Takes note of what handlers said since.
    fn mute(&mut self) {
        let ms = self.info.throttle_ms.swap(0, Ordering::Relaxed);
        if ms > 0 {
            let until = Instant::now() + Duration::from_millis(ms).min(MAX_MUTE);
            match &mut self.muted {
                Some(muted) => {
                    let until = until.max(muted.deadline());
                    muted.as_mut().reset(until);
                }
                None => self.muted = Some(Box::pin(tokio::time::sleep_until(until))),
            }
        }
    }

    fn has_room(&self) -> bool {
        self.muted.is_none()
            && self.answers.queue.len() < MAX_PIPELINED_REQUESTS
            && self.answers.ready_bytes + self.socket.unsent_bytes < MAX_PENDING_RESPONSE_BYTES
    }

    /// Makes progress wherever it is possible; ready when there is something to decide.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        open: bool,
        idle: Option<Pin<&mut Sleep>>,
        stop: &mut BoxFuture<()>,
    ) -> Poll<Result<Event, Ended>> {
        let mut answered = false;
        while self.socket.unsent_bytes < MAX_PENDING_RESPONSE_BYTES {
            match self.answers.poll_next(cx) {
                Poll::Ready(Some(Some(chunks))) => {
                    self.socket.send(chunks);
                    answered = true;
                }
                Poll::Ready(Some(None)) => {
                    return Poll::Ready(Err(Ended::Protocol("an answer cannot be given".into())));
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if self.socket.unsent_bytes > 0
            && let Poll::Ready(written) = self.network(|socket| socket.poll_flush(cx))
        {
            written?;
            // more may be answered, or read, now that there is room
            answered = true;
        }
        if let Some(muted) = &mut self.muted
            && muted.as_mut().poll(cx).is_ready()
        {
            self.muted = None;
            return Poll::Ready(Ok(Event::Progress));
        }
        if answered {
            return Poll::Ready(Ok(Event::Progress));
        }
        let max_frame_bytes = self.options.max_frame_bytes;
        if open
            && self.has_room()
            && let Poll::Ready(read) = self.network(|socket| socket.poll_fill(cx, max_frame_bytes))
        {
            return Poll::Ready(Ok(if read? == 0 { Event::EndOfInput } else { Event::Progress }));
        }
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(Event::Stop));
        }
        match idle {
            Some(idle) => idle.poll(cx).map(|()| Ok(Event::Idle)),
            None => Poll::Pending,
        }
    }

    /// Has the socket work, and takes the time while somebody has a quota on that.
    fn network<R>(&mut self, work: impl FnOnce(&mut Socket) -> R) -> R {
        if !self.broker.quotas.measures_requests() {
            return work(&mut self.socket);
        }
        let began = Instant::now();
        let result = work(&mut self.socket);
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.info.network_nanoseconds.fetch_add(took, Ordering::Relaxed);
        result
    }

    /// The node stops: gives the answers that come soon, and takes no more requests.
    async fn drain(&mut self) -> Result<(), Ended> {
        let all = async {
            loop {
                match poll_fn(|cx| self.answers.poll_next(cx)).await {
                    Some(Some(chunks)) => self.socket.send(chunks),
                    Some(None) | None => break,
                }
                poll_fn(|cx| self.socket.poll_flush(cx)).await?;
            }
            poll_fn(|cx| self.socket.poll_flush(cx)).await
        };
        match tokio::time::timeout(DRAIN, all).await {
            Ok(flushed) => Ok(flushed?),
            Err(_) => Ok(()),
        }
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // a sender that is gone stops as well
    let _ = stop.wait_for(|stop| *stop).await;
}

enum Answer {
    Ready(Vec<Bytes>),
    Later(BoxFuture<Option<Vec<Bytes>>>),
}

/// Answers in the order of their requests.
#[derive(Default)]
struct Answers {
    queue: VecDeque<Answer>,
    ready_bytes: usize,
}

impl Answers {
    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn push_ready(&mut self, chunks: Vec<Bytes>) {
        self.ready_bytes += size(&chunks);
        self.queue.push_back(Answer::Ready(chunks));
    }

    /// The first answer if it needs no waiting.
    fn pop_ready(&mut self) -> Option<Vec<Bytes>> {
        let front = self.queue.pop_front_if(|answer| matches!(answer, Answer::Ready(_)))?;
        let Answer::Ready(chunks) = front else { return None };
        self.ready_bytes -= size(&chunks);
        Some(chunks)
    }

    /// The first answer when it is there; `None` if there is nothing to answer, `Some(None)` if it will never be.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Option<Vec<Bytes>>>> {
        match self.queue.front_mut() {
            None => Poll::Ready(None),
            Some(Answer::Ready(_)) => Poll::Ready(Some(self.pop_ready())),
            Some(Answer::Later(answer)) => {
                let chunks = ready!(answer.as_mut().poll(cx));
                self.queue.pop_front();
                Poll::Ready(Some(chunks))
            }
        }
    }
}

fn size(chunks: &[Bytes]) -> usize {
    chunks.iter().map(Bytes::len).sum()
}

/// The socket with what was read and not handled, and what is to be written.
struct Socket {
    stream: TcpStream,
    input: BytesMut,
    output: VecDeque<Bytes>,
    unsent_bytes: usize,
    last_active: Instant,
}

impl Socket {
    fn new(stream: TcpStream) -> Self {
        let last_active = Instant::now();
        Socket { stream, input: BytesMut::new(), output: VecDeque::new(), unsent_bytes: 0, last_active }
    }

    /// The length of the frame that the input begins with, once its prefix is there.
    fn frame_length(&self, limit: usize) -> Result<Option<usize>, String> {
        match self.input.first_chunk::<LENGTH_BYTES>() {
            Some(prefix) => frame_length(*prefix, limit).map(Some).map_err(|error| error.to_string()),
            None => Ok(None),
        }
    }

    /// A whole frame, if one is there. It is a slice of what was read, without a copy.
    fn next_frame(&mut self, limit: usize) -> Result<Option<Bytes>, String> {
        let Some(length) = self.frame_length(limit)? else { return Ok(None) };
        let whole = LENGTH_BYTES + length;
        if self.input.len() < whole {
            return Ok(None);
        }
        let mut frame =
            if self.input.len() == whole { std::mem::take(&mut self.input) } else { self.input.split_to(whole) };
        frame.advance(LENGTH_BYTES);
        Ok(Some(frame.freeze()))
    }

    /// Reads what is there: the rest of a large frame straight into place, else into the thread's buffer and from there. 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        // an impossible length was refused by `next_frame`
        let missing = match self.frame_length(limit) {
            Ok(Some(length)) => (LENGTH_BYTES + length).saturating_sub(self.input.len()),
            _ => 0,
        };
        let read = if missing > SCRATCH_BYTES && self.input.len() >= EARNEST_BYTES {
            // no more memory than the bytes received justify
            let believed = missing.min(TRUSTED_BYTES.max(self.input.len()));
            self.input.reserve(believed);
            let mut place = (&mut self.input).limit(believed);
            // a new future each time: it holds nothing but the two references
            ready!(pin!(self.stream.read_buf(&mut place)).poll(cx))?
        } else {
            let Socket { stream, input, .. } = self;
            ready!(SCRATCH.with_borrow_mut(|scratch| {
                let mut read = ReadBuf::new(scratch);
                ready!(Pin::new(stream).poll_read(cx, &mut read))?;
                input.extend_from_slice(read.filled());
                Poll::Ready(io::Result::Ok(read.filled().len()))
            }))?
        };
        self.last_active = Instant::now();
        Poll::Ready(Ok(read))
    }

    /// Nothing waits here to be handled or to be sent.
    fn is_quiet(&self) -> bool {
        self.input.is_empty() && self.unsent_bytes == 0
    }

    fn send(&mut self, chunks: Vec<Bytes>) {
        self.unsent_bytes += size(&chunks);
        self.output.extend(chunks);
    }

    /// Writes until everything is written or the socket takes no more; ready in the first case.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent_bytes > 0 {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            for (slice, chunk) in slices.iter_mut().zip(&self.output) {
                *slice = IoSlice::new(chunk);
            }
            let count = self.output.len().min(MAX_SLICES);
            let slices = slices.get(..count).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.last_active = Instant::now();
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.unsent_bytes = self.unsent_bytes.saturating_sub(written);
        while let Some(chunk) = self.output.front_mut() {
            if chunk.len() > written {
                chunk.advance(written);
                return;
            }
            written -= chunk.len();
            self.output.pop_front();
        }
    }
}
