//! A node in this process, asked over its sockets at every version: the cluster, its topics, their configurations, producer ids and
//! coordinators. What is expected is what Apache Kafka 4.3.1 answered to the same requests, and 3.3.1 to versions that are older.

use std::collections::BTreeSet;

use milena_common::Uuid;
use milena_protocol::messages as msg;
use milena_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use milena_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use milena_protocol::messages::delete_topics_request::DeleteTopicState;
use milena_protocol::messages::describe_configs_request::DescribeConfigsResource;
use milena_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use milena_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use milena_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use milena_protocol::messages::metadata_request::MetadataRequestTopic;
use milena_protocol::messages::metadata_response::MetadataResponseTopic;
use milena_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::records::{BatchBuilder, Compression};

use crate::support::{CLUSTER_ID, THEN, TestNode, ask_at, topic, with_configs};

impl TestNode {
    /// The code for one record with a value of so many bytes.
    async fn produce(&self, topic: &str, size: usize) -> i16 {
        let mut batch = BatchBuilder::new(Compression::None);
        batch.append(THEN, Some(b"k"), Some(&vec![b'v'; size]), &[]).expect("fits");
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(batch.build(0).expect("builds")) }];
        let topic_data = vec![TopicProduceData { name: topic.to_owned(), partition_data, ..Default::default() }];
        let request = msg::ProduceRequest { acks: -1, timeout_ms: 5000, topic_data, ..Default::default() };
        self.ask(9, &request).await.responses[0].partition_responses[0].error_code
    }

    /// Names that Metadata lists.
    async fn topics(&self) -> Vec<String> {
        let all = self.ask(12, &msg::MetadataRequest { topics: None, ..Default::default() }).await;
        all.topics.into_iter().filter_map(|topic| topic.name).collect()
    }

    async fn metadata(&self, version: i16, name: &str) -> MetadataResponseTopic {
        let topics = Some(vec![MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() }]);
        self.ask(version, &msg::MetadataRequest { topics, ..Default::default() }).await.topics.remove(0)
    }

    async fn config(&self, kind: i8, name: &str, key: &str) -> DescribeConfigsResourceResult {
        let resources = vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: Some(vec![key.to_owned()]),
        }];
        let request = msg::DescribeConfigsRequest { resources, include_synonyms: true, ..Default::default() };
        self.ask(4, &request).await.results.remove(0).configs.remove(0)
    }

    /// Code and message of a change of one key.
    async fn alter(&self, kind: i8, name: &str, key: &str, operation: i8, value: Option<&str>) -> (i16, String) {
        let change =
            AlterableConfig { name: key.to_owned(), config_operation: operation, value: value.map(str::to_owned) };
        let resource =
            AlterConfigsResource { resource_type: kind, resource_name: name.to_owned(), configs: vec![change] };
        let request = msg::IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        let answer = self.ask(1, &request).await.responses.remove(0);
        (answer.error_code, answer.error_message.unwrap_or_default())
    }
}

fn with_config(name: &str, key: &str, value: Option<&str>) -> CreatableTopic {
    with_configs(topic(name, 1), &[(key, value)])
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_at_every_version() {
    let world = TestNode::start(&[]).await;
    world.create_topics(vec![topic("orders", 2)]).await;
    for version in 0..=13 {
        let named = |name: &str| MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() };
        let all = msg::MetadataRequest { topics: (version == 0).then(Vec::new), ..Default::default() };
        let all = world.ask(version, &all).await;
        assert_eq!(all.topics.len(), 1, "{version}");
        assert_eq!(all.topics[0].partitions.len(), 2, "{version}");
        assert_eq!(all.topics[0].topic_id.is_zero(), version < 10);
        assert_eq!((all.brokers.len(), all.brokers[0].port), (1, i32::from(world.address("PLAINTEXT").port())));
        assert_eq!(all.controller_id, if version == 0 { -1 } else { 1 });
        assert_eq!(all.cluster_id.as_deref(), if version < 2 { None } else { Some(CLUSTER_ID) });
        if version > 0 {
            let none = msg::MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
            assert_eq!(world.ask(version, &none).await.topics, Vec::new(), "{version}");
        }
        let topics = Some(vec![named("a b"), named("__share_group_state"), named("orders"), named("orders")]);
        let asked = msg::MetadataRequest {
            topics,
            allow_auto_topic_creation: version < 4,
            include_cluster_authorized_operations: (8..=10).contains(&version),
            include_topic_authorized_operations: version >= 8,
        };
        if version < 4 {
            continue;
        }
        let answer = world.ask(version, &asked).await;
        let codes: Vec<_> = answer.topics.iter().map(|t| (t.name.as_deref(), t.error_code, t.is_internal)).collect();
        let expected = [(Some("__share_group_state"), 3, true), (Some("a b"), 17, false), (Some("orders"), 0, false)];
        assert_eq!(codes, expected, "{version}");
        let unasked = i32::MIN;
        assert_eq!(answer.topics[0].topic_authorized_operations, if version < 8 { unasked } else { 3576 });
        let cluster = if (8..=10).contains(&version) { 8096 } else { unasked };
        assert_eq!(answer.cluster_authorized_operations, cluster);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_by_id() {
    let world = TestNode::start(&[]).await;
    let id = world.create_topics(vec![topic("orders", 1)]).await.topics[0].topic_id;
    let unknown = Uuid::from_u128(1 << 100);
    let request = |ids: &[Uuid]| {
        let topics = ids.iter().map(|&topic_id| MetadataRequestTopic { topic_id, name: None }).collect();
        msg::MetadataRequest { topics: Some(topics), ..Default::default() }
    };
    for version in 10..=11 {
        let refused = world.ask(version, &request(&[id])).await;
        assert_eq!((refused.topics[0].error_code, refused.brokers.len()), (42, 0));
    }
    for version in 12..=13 {
        let answer = world.ask(version, &request(&[id, unknown])).await;
        let codes: BTreeSet<_> = answer.topics.iter().map(|t| (t.name.as_deref(), t.error_code)).collect();
        assert_eq!(codes, BTreeSet::from([(Some("orders"), 0), (None, 100)]));
        let refused = world.ask(version, &request(&[Uuid::ZERO])).await;
        assert_eq!((refused.topics[0].error_code, refused.error_code), (42, if version > 12 { 42 } else { 0 }));
    }
}

/// Kafka answers UNKNOWN_TOPIC_OR_PARTITION until the topic is there; here whoever asks finds it made, and only once.
#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_for_who_asks() {
    let world = TestNode::start(&[("num.partitions", "4")]).await;
    let asked = futures_util::future::join_all((0..20).map(|n| world.metadata(n % 14, "wanted"))).await;
    for topic in asked {
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 4));
        assert!(topic.partitions.iter().all(|p| (p.error_code, p.leader_id) == (0, 1)));
    }
    assert_eq!(world.metadata(9, "not a name").await.error_code, 17);
    assert_eq!(world.topics().await, ["wanted"]);
    let world = TestNode::start(&[("auto.create.topics.enable", "false")]).await;
    assert_eq!(world.metadata(1, "wanted").await.error_code, 3);
    assert!(world.topics().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_at_every_version() {
    let world = TestNode::start(&[("log.retention.hours", "5")]).await;
    for version in 0..=7 {
        let name = format!("v{version}");
        let topics = vec![CreatableTopic { ..with_config(&name, "retention.bytes", Some("1000")) }, topic("v0", 1)];
        let request = msg::CreateTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
        let answer = world.ask(version, &request).await;
        let made = &answer.topics[0];
        if version == 0 {
            // the same name twice
            assert_eq!(answer.topics.len(), 1);
            assert_eq!(made.error_code, 42);
            world.create_topics(vec![topic("v0", 1)]).await;
            continue;
        }
        assert_eq!((made.error_code, made.error_message.as_deref()), (0, None), "{version}");
        assert_eq!(made.topic_id.is_zero(), version < 7);
        assert_eq!(answer.topics[1].error_code, 36);
        assert_eq!(answer.topics[1].error_message.as_deref(), Some("Topic 'v0' already exists."));
        let configs = made.configs.as_deref().unwrap_or_default();
        assert_eq!(configs.is_empty(), version < 5);
        if version >= 5 {
            let source = |key: &str| configs.iter().find(|c| c.name == key).map(|c| c.config_source);
            assert_eq!(
                (source("retention.bytes"), source("retention.ms"), source("segment.ms")),
                (Some(1), Some(4), Some(5))
            );
        }
    }
    let refused = |topic: CreatableTopic| {
        let world = &world;
        async move {
            let answer = world.create_topics(vec![topic]).await.topics.remove(0);
            (answer.error_code, answer.error_message.unwrap_or_default())
        }
    };
    let assigned = |ids: &[i32]| CreatableTopic {
        assignments: vec![CreatableReplicaAssignment { broker_ids: ids.to_vec(), ..Default::default() }],
        replication_factor: -1,
        ..topic("x", -1)
    };
    let rows: Vec<(CreatableTopic, i16, &str)> = vec![
        (topic("", 1), 17, "Topic name is invalid: the empty string is not allowed"),
        (topic("..", 1), 17, "Topic name is invalid: '..' is not allowed"),
        (topic("x", 0), 37, "Number of partitions was set to an invalid non-positive value."),
        (
            CreatableTopic { replication_factor: 2, ..topic("x", 1) },
            38,
            "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned.",
        ),
        (with_config("x", "nope", Some("1")), 40, "Unknown topic config name: nope"),
        (with_config("x", "retention.ms", None), 40, "Null value not supported for topic configs: retention.ms"),
        (
            with_config("x", "retention.ms", Some("a")),
            40,
            "Invalid value a for configuration retention.ms: Not a number of type LONG",
        ),
        (assigned(&[2]), 39, "The manual partition assignment includes broker 2, but no such broker is registered."),
        (assigned(&[-1]), 39, "The manual partition assignment includes broker -1, but no such broker is registered."),
        (assigned(&[1, 1]), 39, "The manual partition assignment includes the broker 1 more than once."),
        (topic("__cluster_metadata", 1), 42, "Creation of internal topic __cluster_metadata is prohibited."),
        (topic("x", 10_001), 44, "Excessively large number of partitions per request."),
        (assigned(&[1]), 0, ""),
    ];
    for (topic, code, message) in rows {
        assert_eq!(refused(topic).await, (code, message.to_owned()));
    }
    let late = msg::CreateTopicsRequest { topics: vec![topic("late", 1)], timeout_ms: 0, ..Default::default() };
    assert_eq!(world.ask(7, &late).await.topics[0].error_code, 7);
    let validated = msg::CreateTopicsRequest { topics: vec![topic("y", 1)], timeout_ms: 5_000, validate_only: true };
    assert_eq!(world.ask(7, &validated).await.topics[0].error_code, 0);
    let names = world.topics().await;
    assert!(names.iter().any(|n| n == "x") && !names.iter().any(|n| n == "late" || n == "y"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_grown_paged_and_deleted() {
    let world = TestNode::start(&[]).await;
    world.create_topics(["a", "b", "c", "d", "e", "f", "g"].iter().map(|name| topic(name, 2)).collect()).await;
    for version in 0..=3 {
        let grow = |name: &str, count: i32| CreatePartitionsTopic { name: name.to_owned(), count, assignments: None };
        let topics = vec![grow("a", 3 + i32::from(version)), grow("b", 2), grow("c", 1), grow("z", 3)];
        let request = msg::CreatePartitionsRequest { topics, timeout_ms: 10_000, validate_only: false };
        let answer = world.ask(version, &request).await;
        let results: Vec<_> = answer.results.iter().map(|r| (r.error_code, r.error_message.as_deref())).collect();
        let expected = [
            (0, None),
            (37, Some("Topic already has 2 partition(s).")),
            (37, Some("The topic c currently has 2 partition(s); 1 would not be an increase.")),
            (3, None),
        ];
        assert_eq!(results, expected, "{version}");
    }
    assert_eq!(pages(&world, &["b", "zz", "a"], 3).await, ["a0 a1 a2", "a3 a4 a5", "b0 b1 zz!3"]);
    assert_eq!(pages(&world, &["b", "a"], 100).await, ["a0 a1 a2 a3 a4 a5 b0 b1"]);
    let cursor = |topic: &str, partition_index| Some(Cursor { topic_name: topic.to_owned(), partition_index });
    for wrong in [cursor("a", -1), cursor("c", 0)] {
        let (answer, next) = page(&world, &["a", "b"], 9, wrong).await;
        assert_eq!((answer.as_str(), next), ("a!42 b!42", None));
    }
    for (version, name) in (0..=6).zip(["a", "b", "c", "d", "e", "f", "g"]) {
        let names = [name, "missing"].map(str::to_owned);
        let by_state = |name| DeleteTopicState { name: Some(name), ..Default::default() };
        let request = match version {
            6 => msg::DeleteTopicsRequest {
                topics: names.map(by_state).to_vec(),
                timeout_ms: 10_000,
                ..Default::default()
            },
            _ => msg::DeleteTopicsRequest { topic_names: names.to_vec(), timeout_ms: 10_000, ..Default::default() },
        };
        let answer = world.ask(version, &request).await;
        assert_eq!(answer.responses.iter().map(|r| r.error_code).collect::<Vec<_>>(), [0, 3], "{version}");
    }
    assert!(world.topics().await.is_empty());
    let id = world.create_topics(vec![topic("twice", 1)]).await.topics[0].topic_id;
    let both = vec![
        DeleteTopicState { name: None, topic_id: id },
        DeleteTopicState { name: Some("twice".to_owned()), ..Default::default() },
    ];
    let request = msg::DeleteTopicsRequest { topics: both, timeout_ms: 10_000, ..Default::default() };
    let answer = world.ask(6, &request).await;
    assert_eq!(answer.responses.len(), 1);
    assert_eq!((answer.responses[0].error_code, answer.responses[0].topic_id), (42, id));
    assert_eq!(world.topics().await, ["twice"]);
    let fixed = TestNode::start(&[("delete.topic.enable", "false")]).await;
    for (version, code) in [(2, 42), (3, 73)] {
        let request =
            msg::DeleteTopicsRequest { topic_names: vec!["a".to_owned()], timeout_ms: 10_000, ..Default::default() };
        assert_eq!(fixed.ask(version, &request).await.responses[0].error_code, code);
    }
}

/// One page as text, and where the next begins.
async fn page(world: &TestNode, topics: &[&str], limit: i32, cursor: Option<Cursor>) -> (String, Option<Cursor>) {
    let topics = topics.iter().map(|name| TopicRequest { name: (*name).to_owned() }).collect();
    let request = msg::DescribeTopicPartitionsRequest { topics, response_partition_limit: limit, cursor };
    let answer = world.ask(0, &request).await;
    let mut text = Vec::new();
    for topic in answer.topics {
        let name = topic.name.unwrap_or_default();
        if topic.error_code != 0 {
            text.push(format!("{name}!{}", topic.error_code));
        }
        text.extend(topic.partitions.iter().map(|p| format!("{name}{}", p.partition_index)));
    }
    let next = answer.next_cursor.map(|c| Cursor { topic_name: c.topic_name, partition_index: c.partition_index });
    (text.join(" "), next)
}

async fn pages(world: &TestNode, topics: &[&str], limit: i32) -> Vec<String> {
    let mut pages = Vec::new();
    let mut cursor = None;
    loop {
        let (text, next) = page(world, topics, limit, cursor).await;
        pages.push(text);
        match next {
            Some(_) => cursor = next,
            None => return pages,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_are_described_and_altered() {
    let world = TestNode::start(&[]).await;
    world.create_topics(vec![with_config("t", "retention.ms", Some("1000"))]).await;
    for version in 0..=4 {
        let resource = |kind, name: &str| DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: None,
        };
        let resources = vec![
            resource(2, "t"),
            resource(4, "1"),
            resource(8, "1"),
            resource(2, "missing"),
            resource(4, "2"),
            resource(9, "x"),
        ];
        let request = msg::DescribeConfigsRequest {
            resources,
            include_synonyms: version >= 1,
            include_documentation: version >= 3,
        };
        let answer = world.ask(version, &request).await;
        let codes: Vec<_> = answer.results.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, [0, 0, 0, 3, 42, 42], "{version}");
        let message = answer.results[4].error_message.as_deref();
        assert_eq!(message, Some("Unexpected broker id, expected 1 or empty string, but received 2"));
        let entry = |key: &str| answer.results[0].configs.iter().find(|c| c.name == key).expect("is listed");
        let (own, default) = (entry("retention.ms"), entry("segment.bytes"));
        assert_eq!(own.value.as_deref(), Some("1000"));
        assert_eq!((own.is_default, default.is_default), (false, version == 0));
        assert_eq!((own.config_source, own.synonyms.len()), if version == 0 { (-1, 0) } else { (1, 1) });
        assert_eq!(own.config_type, if version < 3 { 0 } else { 5 });
        assert_eq!(own.documentation.as_ref().is_some_and(|text| !text.is_empty()), version >= 3);
    }
    let ok = (0, String::new());
    assert_eq!(world.alter(2, "t", "cleanup.policy", 2, Some("compact")).await, ok);
    assert_eq!(world.config(2, "t", "cleanup.policy").await.value.as_deref(), Some("delete,compact"));
    assert_eq!(world.alter(4, "", "log.retention.ms", 0, Some("7000")).await, ok);
    assert_eq!(world.alter(2, "t", "retention.ms", 1, None).await, ok);
    let inherited = world.config(2, "t", "retention.ms").await;
    assert_eq!((inherited.value.as_deref(), inherited.config_source), (Some("7000"), 3));
    assert_eq!(world.alter(4, "1", "log.retention.ms", 0, Some("8000")).await, ok);
    let inherited = world.config(2, "t", "retention.ms").await;
    assert_eq!((inherited.value.as_deref(), inherited.config_source), (Some("8000"), 2));
    let rows = [
        (4, "1", "node.id", "2", 42, "Cannot update these configs dynamically: [node.id]"),
        (4, "2", "num.io.threads", "2", 42, "Unexpected broker id, expected 1, but received 2"),
        (4, "x", "num.io.threads", "2", 42, "Node id must be an integer, but it is: x"),
        (
            4,
            "1",
            "min.insync.replicas",
            "1",
            40,
            "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
        ),
        (
            8,
            "1",
            "root",
            "LOUD",
            40,
            "Cannot set the log level of root to LOUD as it is not a supported log level. Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN",
        ),
        (8, "2", "root", "INFO", 42, "Unexpected node id. Expected 1, but received 2"),
        (16, "", "interval.ms", "1", 42, "Subscription name can't be empty"),
        (
            16,
            "s",
            "interval.ms",
            "1",
            42,
            "Invalid value 1 for interval.ms, interval must be between 100 and 3600000 (1 hour)",
        ),
        (
            32,
            "g",
            "consumer.session.timeout.ms",
            "1",
            40,
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
        ),
        (1, "x", "y", "1", 42, "Unknown resource type 1"),
    ];
    for (kind, name, key, value, code, message) in rows {
        assert_eq!(world.alter(kind, name, key, 0, Some(value)).await, (code, message.to_owned()));
    }
    // each replaced as a whole, in the order of the request
    for version in 0..=2 {
        use msg::alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let resource = |resource_type, name: &str, value: &str| AlterConfigsResource {
            resource_type,
            resource_name: name.to_owned(),
            configs: vec![AlterableConfig { name: "retention.ms".to_owned(), value: Some(value.to_owned()) }],
        };
        let resources = vec![resource(8, "1", "1"), resource(2, "t", "5"), resource(2, "missing", "5")];
        let answer = world.ask(version, &msg::AlterConfigsRequest { resources, validate_only: false }).await;
        let codes: Vec<_> = answer.responses.iter().map(|r| (r.resource_name.as_str(), r.error_code)).collect();
        assert_eq!(codes, [("1", 42), ("t", 0), ("missing", 3)]);
    }
    assert_eq!(world.config(2, "t", "cleanup.policy").await.config_source, 5);
    // a log follows what its topic inherits
    assert_eq!(world.alter(4, "", "message.max.bytes", 0, Some("100")).await, ok);
    assert_eq!(world.produce("t", 200).await, 10);
    assert_eq!(world.alter(4, "", "message.max.bytes", 1, None).await, ok);
    assert_eq!(world.produce("t", 200).await, 0);
    for (version, wanted, expected) in [(0, vec![], 0), (1, vec![], 3), (1, vec![2], 1), (1, vec![4, 8], 2)] {
        let answer = world.ask(version, &msg::ListConfigResourcesRequest { resource_types: wanted }).await;
        assert_eq!((answer.error_code, answer.config_resources.len()), (0, expected), "{answer:?}");
    }
    let unknown = world.ask(1, &msg::ListConfigResourcesRequest { resource_types: vec![1] }).await;
    assert_eq!(unknown.error_code, 35);
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_are_given_once() {
    let world = TestNode::start(&[]).await;
    let idempotent =
        msg::InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: i32::MAX, ..Default::default() };
    let mut given = BTreeSet::new();
    for round in 0..40 {
        let ask = (0..30).map(|n| world.ask(n % 6, &idempotent));
        for answer in futures_util::future::join_all(ask).await {
            assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
            assert!(given.insert(answer.producer_id), "{} again in round {round}", answer.producer_id);
        }
    }
    let refused = |id: Option<&str>, producer_id| {
        let transactional_id = id.map(str::to_owned);
        let request = msg::InitProducerIdRequest { transactional_id, producer_id, ..idempotent.clone() };
        let world = &world;
        async move {
            let answer = world.ask(4, &request).await;
            (answer.error_code, answer.producer_id, answer.producer_epoch)
        }
    };
    assert_eq!(refused(Some(""), -1).await, (42, -1, -1));
    assert_eq!(refused(None, 5).await, (42, -1, -1));
    let world = world.restart(&[]).await;
    assert!(!given.contains(&world.ask(4, &idempotent).await.producer_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_are_found() {
    let world = TestNode::start(&[]).await;
    let port = i32::from(world.address("PLAINTEXT").port());
    for version in 0..=6 {
        for key_type in [0, 1, 2, 9] {
            let keys = ["g", "h"].map(str::to_owned);
            let request = match version {
                0..=3 => msg::FindCoordinatorRequest { key: keys[0].clone(), key_type, ..Default::default() },
                _ => msg::FindCoordinatorRequest { coordinator_keys: keys.to_vec(), key_type, ..Default::default() },
            };
            if version == 0 && key_type > 0 {
                continue;
            }
            let answer = world.ask(version, &request).await;
            let mut found: Vec<_> = answer.coordinators.iter().map(|c| (c.error_code, c.node_id, c.port)).collect();
            if version < 4 {
                found.push((answer.error_code, answer.node_id, answer.port));
                let message = answer.error_message.unwrap_or_default();
                assert_eq!(message == "NONE", version > 0 && key_type <= 1);
            }
            let expected = match key_type {
                0 | 1 => (0, 1, port),
                2 if version == 6 => (35, -1, -1),
                _ => (42, -1, -1),
            };
            assert!(found.iter().all(|one| *one == expected), "{version} {key_type}: {found:?}");
        }
    }
    let offsets = world.metadata(9, "__consumer_offsets").await;
    assert_eq!((offsets.partitions.len(), offsets.is_internal), (3, true));
    let own = |key: &'static str| world.config(2, "__consumer_offsets", key);
    assert_eq!(own("cleanup.policy").await.value.as_deref(), Some("compact"));
    assert_eq!(own("compression.type").await.config_source, 1);
    assert_eq!(own("segment.bytes").await.value.as_deref(), Some("104857600"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_are_described_on_both_listeners() {
    let world = TestNode::start(&[]).await;
    for (listener, kind, other) in [("PLAINTEXT", 1, 2), ("CONTROLLER", 2, 1)] {
        let address = world.address(listener);
        for version in 0..=2 {
            let request = msg::DescribeClusterRequest {
                include_cluster_authorized_operations: true,
                endpoint_type: if version == 0 { 1 } else { kind },
                include_fenced_brokers: version == 2,
            };
            let answer = ask_at(address, version, &request).await.expect("answers");
            if version == 0 && kind == 2 {
                assert_eq!(answer.error_code, 42);
                continue;
            }
            assert_eq!((answer.error_code, answer.endpoint_type, answer.controller_id), (0, kind, 1), "{listener}");
            assert_eq!((answer.cluster_id.as_str(), answer.cluster_authorized_operations), (CLUSTER_ID, 8096));
            let nodes: Vec<_> = answer.brokers.iter().map(|b| (b.broker_id, b.is_fenced)).collect();
            assert_eq!(nodes, [(1, false)]);
            for (endpoint_type, code) in [(other, 114), (7, 115)].into_iter().filter(|_| version > 0) {
                let request = msg::DescribeClusterRequest { endpoint_type, ..Default::default() };
                assert_eq!(ask_at(address, version, &request).await.expect("answers").error_code, code);
            }
        }
    }
}
