//! A node of a test: formatted into a temporary folder, started, asked, restarted, stopped or killed. Knows nothing of what is asked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_common::Uuid;
use milena_common::config::BrokerConfig;
use milena_metadata::{Bootstrap, versions};
use milena_protocol::header::get_response_header;
use milena_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use milena_protocol::messages::{self as msg};
use milena_protocol::{Decode as _, Reader, Request, RequestHeader, Writer};
use milena_server::storage_format::{self, FormatDirectory, FormatPlan, FormatVoter};
use milena_server::{Node, StartError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// Long ago for a broker, but not in the future.
pub const THEN: i64 = 1_700_000_000_000;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node with few partitions of internal topics, on ports that the system chose.
pub struct TestNode {
    node: Node,
    pub dirs: Vec<PathBuf>,
    temp: tempfile::TempDir,
}

impl TestNode {
    pub async fn start(properties: &[(&str, &str)]) -> TestNode {
        TestNode::start_on(&["data"], properties).await
    }

    /// On several log directories; the first has the metadata.
    pub async fn start_on(names: &[&str], properties: &[(&str, &str)]) -> TestNode {
        let temp = tempfile::tempdir().expect("a directory");
        let dirs: Vec<PathBuf> = names.iter().map(|name| temp.path().join(name)).collect();
        let formatted: Vec<_> = dirs.iter().map(|dir| (dir.as_path(), Uuid::random())).collect();
        format(&formatted, Vec::new());
        let node = Node::start(config(&dirs, properties)).await.expect("starts");
        TestNode { node, dirs, temp }
    }

    pub fn address(&self, listener: &str) -> SocketAddr {
        self.node.listeners().iter().find(|(name, _)| name == listener).expect("is bound").1
    }

    /// Where clients connect.
    pub fn client_address(&self) -> String {
        self.address("PLAINTEXT").to_string()
    }

    /// The answer on a connection of its own; `None` if the broker closed it.
    pub async fn try_ask<R: Request>(&self, version: i16, request: &R) -> Option<R::Response> {
        ask_at(self.address("PLAINTEXT"), version, request).await
    }

    pub async fn ask<R: Request>(&self, version: i16, request: &R) -> R::Response {
        let answer = self.try_ask(version, request).await;
        answer.unwrap_or_else(|| panic!("no answer to {} version {version}", R::KEY))
    }

    pub async fn create_topics(&self, topics: Vec<CreatableTopic>) -> msg::CreateTopicsResponse {
        self.ask(7, &msg::CreateTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() }).await
    }

    pub async fn create(&self, name: &str, partitions: i32) {
        let answer = self.create_topics(vec![topic(name, partitions)]).await;
        assert_eq!(answer.topics[0].error_code, 0, "{name}: {:?}", answer.topics[0].error_message);
    }

    /// Runs what talks to the node and waits for it, which a task must not do itself.
    pub async fn play<T: Send + 'static>(&self, play: impl FnOnce(&str) -> T + Send + 'static) -> T {
        let address = self.client_address();
        tokio::task::spawn_blocking(move || play(&address)).await.expect("plays to the end")
    }

    pub async fn stop(self) -> Stopped {
        self.node.stop().await;
        Stopped { dirs: self.dirs, temp: self.temp }
    }

    pub async fn restart(self, properties: &[(&str, &str)]) -> TestNode {
        self.stop().await.start(properties).await.expect("starts again")
    }
}

/// What a node left behind.
pub struct Stopped {
    pub dirs: Vec<PathBuf>,
    temp: tempfile::TempDir,
}

impl Stopped {
    pub async fn start(self, properties: &[(&str, &str)]) -> Result<TestNode, StartError> {
        let node = Node::start(config(&self.dirs, properties)).await?;
        Ok(TestNode { node, dirs: self.dirs, temp: self.temp })
    }
}

/// What `kafka-storage format` does: directories with their ids, of which the first has the metadata.
pub fn format(directories: &[(&Path, Uuid)], voters: Vec<FormatVoter>) {
    format_as(1, directories, voters);
}

/// As `format`, for another node.
pub fn format_as(node_id: i32, directories: &[(&Path, Uuid)], voters: Vec<FormatVoter>) {
    let bootstrap = Bootstrap::default();
    let features = versions::default_feature_levels(bootstrap.metadata_version());
    let directory = |(n, (path, id)): (usize, &(&Path, Uuid))| FormatDirectory {
        path: (*path).to_owned(),
        metadata: n == 0,
        id: *id,
    };
    let plan = FormatPlan {
        cluster_id: CLUSTER_ID.to_owned(),
        node_id,
        metadata_version: bootstrap.metadata_version(),
        features: features.into_iter().map(|(name, level)| (name.to_owned(), level)).collect(),
        directories: directories.iter().enumerate().map(directory).collect(),
        voters,
    };
    storage_format::format(&plan, THEN).expect("formats");
}

/// What is given wins over what every node of a test has.
pub fn config(dirs: &[PathBuf], properties: &[(&str, &str)]) -> BrokerConfig {
    let log_dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    let log_dirs = log_dirs.join(",");
    let given = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "1@127.0.0.1:1"),
        ("listeners", "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"),
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", "3"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "3"),
        ("log.dirs", log_dirs.as_str()),
    ];
    let given = given.iter().chain(properties).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    BrokerConfig::from_properties(given).expect("valid")
}

pub fn topic(name: &str, num_partitions: i32) -> CreatableTopic {
    CreatableTopic { name: name.to_owned(), num_partitions, replication_factor: 1, ..Default::default() }
}

pub fn with_configs(topic: CreatableTopic, configs: &[(&str, Option<&str>)]) -> CreatableTopic {
    let config = |(name, value): &(&str, Option<&str>)| CreatableTopicConfig {
        name: (*name).to_owned(),
        value: value.map(str::to_owned),
    };
    CreatableTopic { configs: configs.iter().map(config).collect(), ..topic }
}

/// A request as it goes over the wire, its length in front.
fn frame<R: Request>(version: i16, request: &R) -> Vec<u8> {
    let mut writer = Writer::with_capacity(256);
    let header = RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id: 77,
        client_id: Some("test".to_owned()),
    };
    header.encode_for(&mut writer, R::KEY, version).expect("fits");
    request.encode(&mut writer, version).unwrap_or_else(|error| panic!("{} version {version}: {error}", R::KEY));
    let body = writer.finish().concat();
    [&u32::try_from(body.len()).expect("fits").to_be_bytes(), &body[..]].concat()
}

fn answer<R: Request>(version: i16, frame: Vec<u8>) -> R::Response {
    let mut reader = Reader::new(Bytes::from(frame));
    assert_eq!(get_response_header(&mut reader, R::KEY, version).expect("a header"), 77);
    R::Response::decode(&mut reader, version).unwrap_or_else(|error| panic!("{} version {version}: {error}", R::KEY))
}

/// The answer on a new connection; `None` if it was closed instead.
pub async fn ask_at<R: Request>(address: SocketAddr, version: i16, request: &R) -> Option<R::Response> {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    ask_on(&mut stream, version, request).await
}

pub async fn ask_on<R: Request>(stream: &mut tokio::net::TcpStream, version: i16, request: &R) -> Option<R::Response> {
    stream.write_all(&frame(version, request)).await.ok()?;
    let length = stream.read_i32().await.ok()?;
    let mut bytes = vec![0; usize::try_from(length).expect("positive")];
    stream.read_exact(&mut bytes).await.expect("is complete");
    Some(answer::<R>(version, bytes))
}

/// A connection outside of any runtime, to this node or to a Kafka, and a transcript of what was asked on it.
pub struct Connection {
    stream: TcpStream,
    address: String,
    /// What [`Connection::tell`] wrote down.
    pub told: String,
}

impl Connection {
    pub fn new(address: &str) -> Connection {
        Connection { stream: connect(address), address: address.to_owned(), told: String::new() }
    }

    /// `None` if the connection was closed, or nothing was said in time; the next request is asked on a new one.
    pub fn try_ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.stream.write_all(&frame(version, request)).expect("writes");
        let mut length = [0; 4];
        if self.stream.read_exact(&mut length).is_err() {
            self.stream = connect(&self.address);
            return None;
        }
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut bytes).expect("is complete");
        Some(answer::<R>(version, bytes))
    }

    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let answer = self.try_ask(version, request);
        answer.unwrap_or_else(|| panic!("no answer to {} version {version}", R::KEY))
    }

    pub fn create(&mut self, topic: CreatableTopic) -> Uuid {
        let request = msg::CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let created = self.ask(7, &request).topics.remove(0);
        assert_eq!(created.error_code, 0, "{}: {:?}", created.name, created.error_message);
        created.topic_id
    }

    /// Writes a step's answer down.
    pub fn tell(&mut self, step: &str, answer: &str) {
        for piece in [step, "\n    ", answer, "\n"] {
            self.told.push_str(piece);
        }
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(2 * PATIENCE)).expect("is possible");
    stream.set_nodelay(true).expect("is possible");
    stream
}

/// Asks again until there is something; a test that waits for it says what it is.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if let Some(found) = ask() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}: not within {PATIENCE:?}")
}
