//! A node in this process, asked over its sockets by clients that push their metrics (KIP-714) and by clients that have quotas. What is
//! expected is what Apache Kafka 4.3.1 answered, with a plugin that takes metrics.

#![allow(clippy::disallowed_methods, reason = "tests touch files, clocks and tasks")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_common::Uuid;
use milena_common::config::BrokerConfig;
use milena_metadata::{Bootstrap, versions};
use milena_protocol::header::get_response_header;
use milena_protocol::messages as msg;
use milena_protocol::messages::create_topics_request::CreatableTopic;
use milena_protocol::records::{BatchBuilder, Compression, compress::compress};
use milena_protocol::{Decode as _, Reader, Request, RequestHeader, Writer, frame};
use milena_server::storage_format::{self, FormatDirectory, FormatPlan};
use milena_server::{Node, StartError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

struct World {
    node: Node,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start(properties: &[(&str, &str)]) -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let bootstrap = Bootstrap::default();
        let features = versions::default_feature_levels(bootstrap.metadata_version());
        let plan = FormatPlan {
            cluster_id: CLUSTER_ID.to_owned(),
            node_id: 1,
            metadata_version: bootstrap.metadata_version(),
            features: features.into_iter().map(|(name, level)| (name.to_owned(), level)).collect(),
            directories: vec![FormatDirectory { path: dir.path().to_owned(), metadata: true, id: Uuid::random() }],
            voters: Vec::new(),
        };
        storage_format::format(&plan, 1_795_486_006_244).expect("formats");
        World { node: node(&dir, properties).await, _dir: dir }
    }

    fn address(&self, listener: &str) -> SocketAddr {
        self.node.listeners().iter().find(|(name, _)| name == listener).expect("is bound").1
    }

    /// The answer of the broker; `None` if it closed the connection.
    async fn try_ask<R: Request>(&self, version: i16, request: &R) -> Option<R::Response> {
        ask_at(self.address("PLAINTEXT"), version, request).await
    }

    async fn ask<R: Request>(&self, version: i16, request: &R) -> R::Response {
        let answer = self.try_ask(version, request).await;
        answer.unwrap_or_else(|| panic!("no answer to {} version {version}", R::KEY))
    }

    async fn create(&self, name: &str, num_partitions: i32) {
        let topic =
            CreatableTopic { name: name.to_owned(), num_partitions, replication_factor: 1, ..Default::default() };
        let request = msg::CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        assert_eq!(self.ask(7, &request).await.topics[0].error_code, 0);
    }
}

async fn node(dir: &tempfile::TempDir, properties: &[(&str, &str)]) -> Node {
    let log_dirs = dir.path().display().to_string();
    let given = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "1@127.0.0.1:1"),
        ("listeners", "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"),
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", "3"),
        ("log.dirs", log_dirs.as_str()),
    ];
    let given = given.iter().chain(properties).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let config = BrokerConfig::from_properties(given).expect("valid");
    for _ in 0..100 {
        match Node::start(config.clone()).await {
            Ok(node) => return node,
            // tasks of the node before may hold its directory a moment longer
            Err(StartError::Log(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the directory stays locked")
}

async fn ask_at<R: Request>(address: SocketAddr, version: i16, request: &R) -> Option<R::Response> {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    ask_on(&mut stream, version, request).await
}

async fn ask_on<R: Request>(stream: &mut TcpStream, version: i16, request: &R) -> Option<R::Response> {
    let mut writer = Writer::with_capacity(256);
    let header = RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id: 7,
        client_id: Some("test".to_owned()),
    };
    header.encode_for(&mut writer, R::KEY, version).expect("fits");
    request.encode(&mut writer, version).unwrap_or_else(|error| panic!("{} version {version}: {error}", R::KEY));
    for piece in frame::into_frame(writer).expect("fits") {
        stream.write_all(&piece).await.ok()?;
    }
    let length = stream.read_i32().await.ok()?;
    let mut answer = vec![0; usize::try_from(length).expect("positive")];
    stream.read_exact(&mut answer).await.expect("is complete");
    let mut reader = Reader::new(Bytes::from(answer));
    assert_eq!(get_response_header(&mut reader, R::KEY, version).expect("a header"), 7);
    Some(R::Response::decode(&mut reader, version).unwrap_or_else(|error| panic!("{} {version}: {error}", R::KEY)))
}

/// One connection: its requests wait for each other.
struct Client(TcpStream);

impl Client {
    async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        ask_on(&mut self.0, version, request).await.expect("an answer")
    }

    /// Error, subscription id, interval and metrics.
    async fn subscription(&mut self, client_instance_id: Uuid) -> (i16, i32, i32, Vec<String>) {
        let told = self.ask(0, &msg::GetTelemetrySubscriptionsRequest { client_instance_id }).await;
        (told.error_code, told.subscription_id, told.push_interval_ms, told.requested_metrics)
    }

    async fn push(&mut self, request: &msg::PushTelemetryRequest) -> i16 {
        self.ask(0, request).await.error_code
    }
}

impl World {
    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address("PLAINTEXT")).await.expect("connects"))
    }

    /// Settings of a client-metrics subscription; `None` takes one away.
    async fn subscribe(&self, name: &str, settings: &[(&str, Option<&str>)]) -> (i16, Option<String>) {
        use msg::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let configs = settings.iter().map(|(name, value)| AlterableConfig {
            name: (*name).to_owned(),
            config_operation: i8::from(value.is_none()),
            value: value.map(str::to_owned),
        });
        let resource =
            AlterConfigsResource { resource_type: 16, resource_name: name.to_owned(), configs: configs.collect() };
        let request = msg::IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        let answer = self.ask(1, &request).await.responses.remove(0);
        (answer.error_code, answer.error_message)
    }

    async fn limit(&self, entity: (&str, &str), key: &str, value: f64) {
        use msg::alter_client_quotas_request::{EntityData, EntryData, OpData};
        let (kind, name) = entity;
        let entry = EntryData {
            entity: vec![EntityData { entity_type: kind.to_owned(), entity_name: Some(name.to_owned()) }],
            ops: vec![OpData { key: key.to_owned(), value, remove: false }],
        };
        let request = msg::AlterClientQuotasRequest { entries: vec![entry], ..Default::default() };
        assert_eq!(self.ask(1, &request).await.entries[0].error_code, 0);
    }
}

/// A protobuf field with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("short");
    [&[number << 3 | 2, length][..], bytes].concat()
}

/// `MetricsData` with one gauge.
fn metrics_data() -> Vec<u8> {
    let point = [&[4 << 3 | 1][..], &2.5f64.to_le_bytes()].concat();
    let metric = [field(1, b"org.example.m"), field(5, &field(1, &point))].concat();
    field(1, &field(2, &field(2, &metric)))
}

const KEY: &str = "milena.telemetry.otlp.endpoint";

#[tokio::test(flavor = "multi_thread")]
async fn without_an_exporter_nobody_is_asked() {
    let world = World::start(&[]).await;
    let keys = world.ask(0, &msg::ApiVersionsRequest::default()).await.api_keys;
    assert!(!keys.iter().any(|api| [71, 72].contains(&api.api_key)));
    // who asks all the same is told so
    let mut client = world.client().await;
    assert_eq!(client.subscription(Uuid::ZERO).await.0, 35);
    assert_eq!(client.push(&msg::PushTelemetryRequest::default()).await, 35);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_asked_for_what_is_subscribed_to() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("metrics.json");
    let endpoint = format!("file:{}", file.display());
    let world = World::start(&[(KEY, endpoint.as_str()), ("telemetry.max.bytes", "10000")]).await;
    let keys = world.ask(0, &msg::ApiVersionsRequest::default()).await.api_keys;
    assert!([71, 72].iter().all(|key| keys.iter().any(|api| api.api_key == *key)));

    let mut client = world.client().await;
    let told = client.ask(0, &msg::GetTelemetrySubscriptionsRequest::default()).await;
    assert_eq!((told.error_code, told.push_interval_ms, told.telemetry_max_bytes), (0, 300_000, 10_000));
    assert_eq!((told.accepted_compression_types, told.delta_temporality), (vec![4, 3, 1, 2], true));
    assert!(told.requested_metrics.is_empty());

    let id = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
    assert_eq!(client.subscription(id).await, (0, -725_132_338, 300_000, vec![]));
    assert_eq!(client.subscription(id).await.0, 89);
    let refused = [
        (("match", Some("client_id=(")), (40, "Illegal client matching pattern: client_id=(")),
        (("match", Some("client_id=a=b")), (40, "Illegal client matching pattern: client_id=a=b")),
        (("match", Some("client_id=a,")), (40, "Configuration 'match' values must not be empty.")),
        (
            ("interval.ms", Some("1")),
            (42, "Invalid value 1 for interval.ms, interval must be between 100 and 3600000 (1 hour)"),
        ),
        (("interval.ms", Some("x")), (40, "Invalid value x for configuration interval.ms: Not a number of type INT")),
        (("foo", Some("1")), (42, "Unknown client metrics configuration: foo")),
    ];
    for (setting, (code, message)) in refused {
        assert_eq!(world.subscribe("s", &[setting]).await, (code, Some(message.to_owned())), "{setting:?}");
    }
    // a change is told at once
    assert_eq!(world.subscribe("s", &[("metrics", Some("*")), ("interval.ms", Some("100"))]).await.0, 0);
    let (code, subscription_id, ..) = client.subscription(id).await;
    assert_eq!(code, 0);

    let push = |codec: Compression, metrics: &[u8]| msg::PushTelemetryRequest {
        client_instance_id: id,
        subscription_id,
        compression_type: codec.id() as i8,
        metrics: Bytes::from(compress(codec, None, metrics).expect("compresses")),
        ..Default::default()
    };
    let pause = || tokio::time::sleep(Duration::from_millis(110));
    for codec in Compression::ALL {
        assert_eq!(client.push(&push(codec, &metrics_data())).await, 0, "{codec:?}");
        pause().await;
    }
    let zero = msg::PushTelemetryRequest { client_instance_id: Uuid::ZERO, ..push(Compression::None, b"") };
    assert_eq!(client.push(&zero).await, 42);
    let other = msg::PushTelemetryRequest { subscription_id: 7, ..push(Compression::None, b"") };
    assert_eq!(client.push(&other).await, 117);
    assert_eq!(client.push(&push(Compression::None, &metrics_data())).await, 89);
    pause().await;
    let strange = msg::PushTelemetryRequest { compression_type: 9, ..push(Compression::None, b"") };
    assert_eq!(client.push(&strange).await, 76);
    pause().await;
    assert_eq!(client.push(&push(Compression::None, &[0; 10_001])).await, 118);
    // what becomes too large only when it is decompressed, and what is no such message
    for codec in Compression::ALL.into_iter().skip(1) {
        pause().await;
        let bomb = push(codec, &[0; 1 << 20]);
        let fits = bomb.metrics.len() <= 10_000;
        assert_eq!(client.push(&bomb).await, if fits { 87 } else { 118 }, "{codec:?}");
    }
    pause().await;
    assert_eq!(client.push(&push(Compression::None, b"\xff\xff")).await, 87);
    let last = msg::PushTelemetryRequest { terminating: true, ..push(Compression::None, &metrics_data()) };
    assert_eq!(client.push(&last).await, 0);
    assert_eq!(client.push(&last).await, 42);
    // whoever comes back begins anew
    let mut again = world.client().await;
    drop(client);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(again.push(&push(Compression::None, &metrics_data())).await, 0);

    // no subscription any more, as before
    assert_eq!(world.subscribe("s", &[("metrics", None), ("interval.ms", None)]).await.0, 0);
    assert_eq!(again.subscription(id).await, (0, -725_132_338, 300_000, vec![]));
    let report = world.node.metrics();
    for line in [
        "kafka_server_clientmetrics_clientmetricspluginexportcount_total 7\n",
        // and the one that was not heard of again
        "kafka_server_clientmetrics_clientmetricsinstancecount 2\n",
    ] {
        assert!(report.contains(line), "{report}");
    }
    world.node.stop().await;
    let written = std::fs::read_to_string(&file).expect("was written");
    assert_eq!(written.lines().count(), 7, "{written}");
    for line in written.lines() {
        for part in [
            "\"name\":\"org.example.m\"",
            "\"value\":2.5",
            "\"client_id\":\"test\"",
            "\"client_source_address\":\"127.0.0.1\"",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }
    assert!(written.lines().nth(5).is_some_and(|line| line.contains("\"terminating\":true")), "{written}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_over_its_quota_gets_nothing_but_the_time_to_wait() {
    use msg::fetch_request::{FetchPartition, FetchTopic};
    use msg::produce_request::{PartitionProduceData, TopicProduceData};
    let world = World::start(&[]).await;
    world.create("t1", 1).await;
    let mut client = world.client().await;
    for _ in 0..4 {
        let mut batch = BatchBuilder::new(Compression::None);
        batch.append(1, None, Some(&[7; 4000]), &[]).expect("fits");
        let records = Some(batch.build(0).expect("builds"));
        let topic_data = vec![TopicProduceData {
            name: "t1".into(),
            partition_data: vec![PartitionProduceData { index: 0, records }],
            ..Default::default()
        }];
        let request = msg::ProduceRequest { acks: 1, timeout_ms: 1000, topic_data, ..Default::default() };
        assert_eq!(client.ask(9, &request).await.responses[0].partition_responses[0].error_code, 0);
    }
    let fetch = |session_id, session_epoch, max_bytes| {
        let partition = FetchPartition { partition: 0, partition_max_bytes: 1 << 20, ..Default::default() };
        let topic = FetchTopic { topic: "t1".into(), partitions: vec![partition], ..Default::default() };
        let topics = if session_epoch > 0 { vec![] } else { vec![topic] };
        msg::FetchRequest {
            replica_id: -1,
            max_wait_ms: 10,
            min_bytes: 1,
            max_bytes,
            session_id,
            session_epoch,
            topics,
            ..Default::default()
        }
    };
    let size = |answer: &msg::FetchResponse| -> usize {
        let parts = answer.responses.iter().flat_map(|topic| &topic.partitions);
        parts.flat_map(|part| part.records.iter().flatten()).map(Bytes::len).sum()
    };
    // 12,000 bytes in all samples
    world.limit(("client-id", "test"), "consumer_byte_rate", 1200.0).await;
    let first = client.ask(12, &fetch(0, 0, 1 << 20)).await;
    assert!((8000..12_000).contains(&size(&first)), "as much as the quota allows: {}", size(&first));
    assert!(first.session_id != 0 && first.throttle_time_ms == 0);
    let begun = Instant::now();
    let second = client.ask(12, &fetch(first.session_id, 1, 5000)).await;
    assert_eq!((size(&second), second.session_id), (0, first.session_id));
    assert!((50..700).contains(&second.throttle_time_ms), "{second:?}");
    // the session goes on, once the time is over
    let wait = Duration::from_millis(u64::try_from(second.throttle_time_ms).expect("positive"));
    let third = client.ask(12, &fetch(first.session_id, 2, 100)).await;
    assert!(begun.elapsed() >= wait);
    assert_eq!((third.error_code, third.session_id), (0, first.session_id));
    // a session does not begin with a refusal
    let other = client.ask(12, &fetch(0, 0, 1 << 20)).await;
    assert_eq!((size(&other), other.session_id, other.throttle_time_ms > 0), (0, 0, true));
    let report = world.node.metrics();
    assert!(report.contains("kafka_server_quota_byte_rate{resource=\"Fetch\",clientId=\"test\"} "), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_are_shared_by_quota() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let ask = async |client: &mut Client| client.ask(9, &msg::MetadataRequest::default()).await.throttle_time_ms;
    assert_eq!(ask(&mut client).await, 0);
    world.limit(("client-id", "test"), "request_percentage", 0.001).await;
    let mut waits = Vec::new();
    for _ in 0..50 {
        waits.push(ask(&mut client).await);
        if waits.last() == Some(&1000) {
            break;
        }
    }
    // a tenth of a millisecond in ten seconds is what it may take, and a sample is the longest wait
    assert_eq!(waits.last(), Some(&1000), "{waits:?}");
    let begun = Instant::now();
    ask(&mut client).await;
    assert!(begun.elapsed() >= Duration::from_millis(900));
    let report = world.node.metrics();
    assert!(
        report.contains("kafka_server_quota_request_time{resource=\"Request\",clientId=\"test\"} 0.00"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_count_when_all_else_is_in_order() {
    let world = World::start(&[]).await;
    world.limit(("client-id", "test"), "controller_mutation_rate", 2.0).await;
    let create = async |name: &str, num_partitions, validate_only| {
        let topic = CreatableTopic { name: name.into(), num_partitions, replication_factor: 1, ..Default::default() };
        let request = msg::CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only };
        let answer = world.ask(7, &request).await;
        (answer.topics[0].error_code, answer.throttle_time_ms > 0)
    };
    assert_eq!(create("a b", 9000, false).await, (17, false));
    // as in Kafka, what is only tried counts as well
    assert_eq!(create("a", 30, true).await, (0, false));
    assert_eq!(create("a", 1, false).await, (89, true));
    assert_eq!(create("a b", 1, false).await, (17, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_and_listeners_have_rates_of_connections() {
    let world = World::start(&[]).await;
    world.limit(("ip", "localhost"), "connection_creation_rate", 1.0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut served = 0;
    for _ in 0..14 {
        served += usize::from(world.try_ask(0, &msg::ListGroupsRequest::default()).await.is_some());
    }
    assert!((8..14).contains(&served), "{served} were served");
    // ten at once, then one a second: waiting, not refused
    let paced = World::start(&[("max.connection.creation.rate", "1")]).await;
    let begun = Instant::now();
    for _ in 0..12 {
        paced.ask(0, &msg::ListGroupsRequest::default()).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
}
