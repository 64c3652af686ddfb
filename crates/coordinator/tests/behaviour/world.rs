//! Two worlds that answer the same requests: our coordinator over a log in memory, and a Kafka broker on a socket.
//!
//! Every exchange becomes a line of a transcript. What differs from run to run (random parts of member ids, wall time, the order
//! of members) is written in a way that does not.

#![expect(clippy::disallowed_methods, reason = "clients run as tasks beside the test")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::io::{Read, Write};
use std::marker::PhantomData;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_common::{ManualClock, Now, Uuid};
use milena_coordinator::testing::MemoryLog;
use milena_coordinator::{
    CoordinatorRecord, GroupConfig, GroupContext, GroupCoordinator, GroupRecord, GroupShard, LoadedRecord, Shard,
};
use milena_protocol::messages::*;
use milena_protocol::{Decode, Encode, ErrorCode, Reader, Request, Writer, header};
use tokio::task::JoinHandle;

/// A request of the group APIs, as both worlds take it.
pub trait Grouped: Request<Response: Debug + Send + 'static> + Encode + Send + 'static {
    fn ours(groups: GroupCoordinator, cx: GroupContext, request: Self) -> impl Future<Output = Self::Response> + Send;
    /// Takes out what is not the same in every run: the order of lists, groups of other scenarios (`prefix`).
    fn normalise(_response: &mut Self::Response, _prefix: &str) {}
}

macro_rules! grouped {
    ($($request:ident $method:ident $(|$response:ident, $prefix:ident| $normalise:block)?;)*) => {$(
        impl Grouped for $request {
            async fn ours(groups: GroupCoordinator, cx: GroupContext, request: Self) -> Self::Response {
                groups.$method(cx, request).await
            }
            $(fn normalise($response: &mut Self::Response, $prefix: &str) $normalise)?
        }
    )*};
}

grouped! {
    JoinGroupRequest join_group |response, _prefix| { response.members.sort_by(|a, b| a.member_id.cmp(&b.member_id)); };
    SyncGroupRequest sync_group;
    HeartbeatRequest heartbeat;
    LeaveGroupRequest leave_group;
    OffsetCommitRequest offset_commit;
    OffsetFetchRequest offset_fetch |response, _prefix| {
        for group in &mut response.groups {
            group.topics.sort_by(|a, b| a.name.cmp(&b.name));
            for topic in &mut group.topics {
                topic.partitions.sort_by_key(|partition| partition.partition_index);
            }
        }
        response.topics.sort_by(|a, b| a.name.cmp(&b.name));
        for topic in &mut response.topics {
            topic.partitions.sort_by_key(|partition| partition.partition_index);
        }
    };
    OffsetDeleteRequest offset_delete;
    ListGroupsRequest list_groups |response, prefix| {
        response.groups.retain(|group| group.group_id.starts_with(prefix));
        response.groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    };
    DescribeGroupsRequest describe_groups |response, _prefix| {
        for group in &mut response.groups {
            group.members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
        }
    };
    DeleteGroupsRequest delete_groups |response, _prefix| { response.results.sort_by(|a, b| a.group_id.cmp(&b.group_id)); };
}

enum Side {
    Ours { groups: GroupCoordinator, clock: Arc<ManualClock>, log: MemoryLog, tasks: HashMap<u64, JoinHandle<Bytes>> },
    Wire { address: String, connections: HashMap<String, TcpStream> },
}

/// One side, and what was said to it.
pub struct World {
    side: Side,
    /// Group ids of this scenario start with it.
    pub prefix: String,
    pub transcript: String,
    ids: Vec<String>,
    next_ticket: u64,
}

/// A request whose answer was not looked at yet.
pub struct Ticket<R> {
    id: u64,
    client: String,
    label: String,
    version: i16,
    kind: PhantomData<R>,
}

impl World {
    pub async fn ours(config: GroupConfig, prefix: &str) -> World {
        let log = MemoryLog::default();
        let clock = Arc::new(ManualClock::new(Now { mono_ms: 1, wall_ms: 1_700_000_000_000 }));
        let groups = GroupCoordinator::without_ticker(config, Arc::new(log.clone()), clock.clone(), Uuid::random);
        groups.set_num_partitions(1);
        groups.on_election(0, 0).await;
        World::new(Side::Ours { groups, clock, log, tasks: HashMap::new() }, prefix)
    }

    pub fn wire(address: &str, prefix: &str) -> World {
        World::new(Side::Wire { address: address.to_owned(), connections: HashMap::new() }, prefix)
    }

    fn new(side: Side, prefix: &str) -> World {
        World { side, prefix: prefix.to_owned(), transcript: String::new(), ids: Vec::new(), next_ticket: 0 }
    }

    /// Sends a request from `client` (its client id) and gives the other side time to act on it.
    pub async fn send<R: Grouped>(&mut self, client: &str, version: i16, label: &str, request: R) -> Ticket<R> {
        self.next_ticket += 1;
        let id = self.next_ticket;
        let label = format!("{client} {:?} v{version}, {label}", R::KEY);
        match &mut self.side {
            Side::Ours { groups, tasks, .. } => {
                let cx = GroupContext {
                    client_id: client.to_owned(),
                    client_host: "/127.0.0.1".to_owned(),
                    api_version: version,
                };
                // Through its bytes, so that a version without a field does not carry it.
                let mut reader = Reader::new(request.encode_to_bytes(version).expect("request encodes"));
                let request = R::decode(&mut reader, version).expect("request decodes");
                let answer = R::ours(groups.clone(), cx, request);
                let task =
                    async move { answer.await.encode_to_bytes(version).expect("the response encodes at its version") };
                tasks.insert(id, tokio::spawn(task));
            }
            Side::Wire { address, connections } => {
                let stream = connections
                    .entry(client.to_owned())
                    .or_insert_with(|| TcpStream::connect(&*address).expect("connects"));
                let mut writer = Writer::new();
                let header = RequestHeader {
                    request_api_key: R::KEY as i16,
                    request_api_version: version,
                    correlation_id: id as i32,
                    client_id: Some(client.to_owned()),
                };
                header.encode_for(&mut writer, R::KEY, version).expect("header encodes");
                request.encode(&mut writer, version).expect("request encodes");
                let frame: Vec<u8> = writer.finish().concat();
                stream.write_all(&(frame.len() as u32).to_be_bytes()).expect("sends");
                stream.write_all(&frame).expect("sends");
            }
        }
        self.settle().await;
        Ticket { id, client: client.to_owned(), label, version, kind: PhantomData }
    }

    /// Takes the answer to a request, and notes it.
    pub async fn receive<R: Grouped>(&mut self, ticket: Ticket<R>) -> R::Response {
        let Ticket { id, client, label, version, .. } = ticket;
        let body = match &mut self.side {
            Side::Ours { tasks, .. } => {
                let task = tasks.remove(&id).expect("known");
                match tokio::time::timeout(Duration::from_secs(5), task).await {
                    Ok(answer) => answer.expect("no panic"),
                    Err(_) => panic!("{label}: not answered; so far:\n{}", self.transcript),
                }
            }
            Side::Wire { connections, .. } => {
                let stream = connections.get_mut(&client).expect("connected");
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("sets timeout");
                let mut length = [0; 4];
                if let Err(error) = stream.read_exact(&mut length) {
                    panic!(
                        "{label}: {error}; so far:
{}",
                        self.transcript
                    );
                }
                let mut frame = vec![0; u32::from_be_bytes(length) as usize];
                stream.read_exact(&mut frame).expect("reads");
                let mut reader = Reader::new(frame.into());
                let correlation_id = header::get_response_header(&mut reader, R::KEY, version).expect("header decodes");
                assert_eq!(correlation_id, id as i32, "{label}");
                reader.into_rest()
            }
        };
        let mut response = R::Response::decode(&mut Reader::new(body), version).expect("response decodes");
        R::normalise(&mut response, &self.prefix);
        let text = format!("{response:?}");
        self.note(&label, &text);
        response
    }

    /// A request that is answered at once.
    pub async fn call<R: Grouped>(&mut self, client: &str, version: i16, label: &str, request: R) -> R::Response {
        let ticket = self.send(client, version, label, request).await;
        self.receive(ticket).await
    }

    /// Notes whether a request is still without an answer.
    pub async fn note_parked<R>(&mut self, ticket: &Ticket<R>) {
        let is_parked = match &mut self.side {
            Side::Ours { tasks, .. } => !tasks[&ticket.id].is_finished(),
            Side::Wire { connections, .. } => {
                let stream = connections.get_mut(&ticket.client).expect("connected");
                stream.set_read_timeout(Some(Duration::from_millis(50))).expect("sets timeout");
                stream.peek(&mut [0; 4]).is_err()
            }
        };
        self.note(&ticket.label, if is_parked { "(parked)" } else { "(answered)" });
    }

    /// Lets time pass: by hand on our side, really on the other.
    pub async fn sleep(&mut self, ms: u64) {
        match &mut self.side {
            Side::Ours { groups, clock, .. } => {
                for _ in 0..ms / 10 {
                    clock.advance_ms(10);
                    groups.tick();
                }
            }
            Side::Wire { .. } => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
        self.settle().await;
        self.transcript.push_str(&format!("({ms} ms)\n"));
    }

    async fn settle(&mut self) {
        match &self.side {
            Side::Ours { .. } => {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
            }
            Side::Wire { .. } => tokio::time::sleep(Duration::from_millis(40)).await,
        }
    }

    /// Everything recorded for the groups of this scenario, in order.
    pub async fn records(&mut self) -> Vec<CoordinatorRecord> {
        let all = match &mut self.side {
            Side::Ours { log, .. } => log.records(0),
            Side::Wire { address, .. } => fetch_offsets_topic(address),
        };
        let is_ours = |record: &CoordinatorRecord| match decode(record) {
            GroupRecord::Offset { group, .. } | GroupRecord::Group { group, .. } => group.starts_with(&self.prefix),
            _ => false,
        };
        let mut records: Vec<_> = all.into_iter().filter(is_ours).collect();
        // The order of tombstones that one request writes means nothing.
        for tombstones in records.chunk_by_mut(|a, b| a.value.is_none() && b.value.is_none()) {
            tombstones.sort_by(|a, b| a.key.cmp(&b.key));
        }
        records
    }

    /// Notes a line of the transcript with random and temporal parts replaced.
    pub fn note(&mut self, label: &str, text: &str) {
        let text = self.without_random_ids(text);
        self.transcript.push_str(&format!("{label}\n    {text}\n"));
    }

    /// `client-<uuid>` becomes `client-#1`, numbered in the order of appearance.
    fn without_random_ids(&mut self, text: &str) -> String {
        const UUID_LENGTH: usize = 36;
        let bytes = text.as_bytes();
        let is_uuid = |at: usize| {
            bytes.get(at..at + UUID_LENGTH).is_some_and(|part| {
                part.iter().enumerate().all(|(i, b)| match i {
                    8 | 13 | 18 | 23 => *b == b'-',
                    _ => b.is_ascii_hexdigit(),
                })
            })
        };
        let mut out = String::new();
        let mut at = 0;
        while at < bytes.len() {
            if is_uuid(at) {
                let id = &text[at..at + UUID_LENGTH];
                let number = self.ids.iter().position(|known| known == id).unwrap_or_else(|| {
                    self.ids.push(id.to_owned());
                    self.ids.len() - 1
                });
                out.push_str(&format!("#{}", number + 1));
                at += UUID_LENGTH;
            } else {
                let c = text[at..].chars().next().expect("not at the end");
                out.push(c);
                at += c.len_utf8();
            }
        }
        out
    }
}

pub fn decode(record: &CoordinatorRecord) -> GroupRecord {
    GroupShard::decode(LoadedRecord::Record { offset: 0, producer_id: -1, record: record.clone() })
}

/// Reads partition 0 of `__consumer_offsets` from a broker.
fn fetch_offsets_topic(address: &str) -> Vec<CoordinatorRecord> {
    use milena_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use milena_protocol::records::{DecompressLimit, batches};
    const VERSION: i16 = 4;
    let mut stream = TcpStream::connect(address).expect("connects");
    let mut records = Vec::new();
    let mut offset = 0;
    loop {
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: 0,
            max_bytes: 10_000_000,
            topics: vec![FetchTopic {
                topic: "__consumer_offsets".into(),
                partitions: vec![FetchPartition {
                    fetch_offset: offset,
                    partition_max_bytes: 10_000_000,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut writer = Writer::new();
        let header =
            RequestHeader { request_api_key: ApiKey::Fetch as i16, request_api_version: VERSION, ..Default::default() };
        header.encode_for(&mut writer, ApiKey::Fetch, VERSION).expect("encodes");
        request.encode(&mut writer, VERSION).expect("encodes");
        let frame: Vec<u8> = writer.finish().concat();
        stream.write_all(&(frame.len() as u32).to_be_bytes()).expect("sends");
        stream.write_all(&frame).expect("sends");
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("reads");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame).expect("reads");
        let mut reader = Reader::new(frame.into());
        header::get_response_header(&mut reader, ApiKey::Fetch, VERSION).expect("decodes");
        let response = FetchResponse::decode(&mut reader, VERSION).expect("decodes");
        let partition = &response.responses[0].partitions[0];
        assert_eq!(ErrorCode::from_code(partition.error_code), ErrorCode::None);
        let before = offset;
        for batch in batches(partition.records.clone().unwrap_or_default().concat().into()) {
            let batch = batch.expect("a batch");
            for record in batch.records(DecompressLimit::default()).expect("records") {
                let record = record.expect("a record");
                records.push(CoordinatorRecord { key: record.key.unwrap_or_default(), value: record.value });
            }
            offset = batch.next_offset();
        }
        if offset == before {
            return records;
        }
    }
}
