//! A node in this process, asked over its sockets at every version: elections, reassignments, features, quotas, credentials, and the APIs of
//! a broker without authentication. What is expected is what Apache Kafka 4.3.1 answered, and 3.3.1 to versions that are older.

use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_protocol::Request;
use milena_protocol::messages as msg;
use tokio::net::TcpStream;

use crate::support::{TestNode, ask_on, topic};

#[tokio::test(flavor = "multi_thread")]
async fn the_quorum_is_described() {
    use msg::describe_quorum_request::{PartitionData, TopicData};
    let world = TestNode::start(&[]).await;
    let asked = |topic: &str, partitions: &[i32]| msg::DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: topic.to_owned(),
            partitions: partitions.iter().map(|&partition_index| PartitionData { partition_index }).collect(),
        }],
    };
    for version in 0..=2 {
        let answer = world.ask(version, &asked("__cluster_metadata", &[0])).await;
        let partition = &answer.topics[0].partitions[0];
        assert_eq!((answer.error_code, partition.error_code, partition.leader_id), (0, 0, 1));
        assert!(partition.high_watermark > 0 && partition.leader_epoch > 0);
        let [voter] = partition.current_voters.as_slice() else { panic!("one voter") };
        assert!(voter.log_end_offset >= partition.high_watermark && partition.observers.is_empty());
        assert_eq!(voter.last_fetch_timestamp > 0, version >= 1);
        let names: Vec<_> = answer.nodes.iter().flat_map(|n| &n.listeners).map(|l| l.name.as_str()).collect();
        assert_eq!(names, if version >= 2 { vec!["CONTROLLER"] } else { vec![] });
        for (topic, partitions) in [("__cluster_metadata", vec![0, 1]), ("__cluster_metadata", vec![1]), ("t", vec![0])]
        {
            let answer = world.ask(version, &asked(topic, &partitions)).await;
            assert!(answer.topics[0].partitions.iter().all(|partition| partition.error_code == 3));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_on_one_node() {
    use msg::elect_leaders_request::TopicPartitions;
    let world = TestNode::start(&[]).await;
    world.create("t1", 2).await;
    let asked = |election_type, timeout_ms| msg::ElectLeadersRequest {
        election_type,
        topic_partitions: Some(vec![
            TopicPartitions { topic: "t1".into(), partitions: vec![0, 1, 7] },
            TopicPartitions { topic: "nope".into(), partitions: vec![0] },
        ]),
        timeout_ms,
    };
    let codes = |answer: msg::ElectLeadersResponse| -> (i16, Vec<i16>) {
        let results = answer.replica_election_results.iter();
        (answer.error_code, results.flat_map(|t| t.partition_result.iter().map(|p| p.error_code)).collect())
    };
    for version in 0..=2 {
        assert_eq!(codes(world.ask(version, &asked(0, 5000)).await), (0, vec![84, 84, 3, 3]));
        let whole = if version == 0 { 0 } else { 7 };
        assert_eq!(codes(world.ask(version, &asked(0, 0)).await), (whole, vec![7; 4]));
        let all = msg::ElectLeadersRequest { topic_partitions: None, timeout_ms: 5000, ..Default::default() };
        let answer = world.ask(version, &all).await;
        assert_eq!((answer.replica_election_results[0].topic.as_str(), codes(answer.clone())), ("t1", (0, vec![])));
        if version > 0 {
            assert_eq!(codes(world.ask(version, &asked(1, 5000)).await), (0, vec![84, 84, 3, 3]));
            assert_eq!(codes(world.ask(version, &asked(5, 5000)).await), (42, vec![42; 4]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reassignments_on_one_node() {
    use msg::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    let world = TestNode::start(&[]).await;
    world.create("t1", 2).await;
    let cases: Vec<(Option<Vec<i32>>, i16)> = vec![
        (Some(vec![1]), 0),
        (None, 85),
        (Some(vec![]), 39),
        (Some(vec![1, 1]), 39),
        (Some(vec![2]), 39),
        (Some(vec![-1]), 39),
    ];
    for version in 0..=1 {
        for (replicas, code) in &cases {
            let partition = |partition_index| ReassignablePartition { partition_index, replicas: replicas.clone() };
            let topic =
                |name: &str| ReassignableTopic { name: name.into(), partitions: vec![partition(0), partition(9)] };
            let request = msg::AlterPartitionReassignmentsRequest {
                timeout_ms: 5000,
                topics: vec![topic("t1"), topic("nope")],
                ..Default::default()
            };
            let answer = world.ask(version, &request).await;
            let codes: Vec<_> =
                answer.responses.iter().flat_map(|t| t.partitions.iter().map(|p| p.error_code)).collect();
            assert_eq!((answer.error_code, codes), (0, vec![*code, 3, 3, 3]), "{replicas:?}");
        }
    }
    let all = world.ask(0, &msg::ListPartitionReassignmentsRequest { topics: None, ..Default::default() }).await;
    assert_eq!((all.error_code, all.topics.len()), (0, 0));
    let unknown = world.ask(0, &msg::UnregisterBrokerRequest { broker_id: 7 }).await;
    assert_eq!(
        (unknown.error_code, unknown.error_message.as_deref()),
        (102, Some("Broker ID 7 is not currently registered"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn features_are_updated() {
    use msg::update_features_request::FeatureUpdateKey;
    let world = TestNode::start(&[]).await;
    let update = |version, validate_only, asked: &[(&str, i16, i8)]| {
        let feature_updates = asked.iter().map(|&(feature, max_version_level, upgrade_type)| FeatureUpdateKey {
            feature: feature.to_owned(),
            max_version_level,
            upgrade_type,
            ..Default::default()
        });
        let request =
            msg::UpdateFeaturesRequest { timeout_ms: 5000, validate_only, feature_updates: feature_updates.collect() };
        let world = &world;
        async move { world.ask(version, &request).await }
    };
    for version in 0..=2 {
        let same = update(version, false, &[("metadata.version", 30, 1), ("group.version", 1, 1)]).await;
        assert_eq!((same.error_code, same.results.len()), (0, if version < 2 { 2 } else { 0 }));
        let refused: &[(&str, i16, &str)] = &[
            ("nope", 1, "Local controller 1 does not support this feature."),
            ("metadata.version", 99, "Local controller 1 only supports versions 7-30"),
            ("group.version", -1, "A feature version cannot be less than 0."),
            ("group.version", 0, "Can't downgrade the version of this feature without"),
        ];
        for (name, level, why) in refused {
            let answer = update(version, false, &[("transaction.version", 2, 1), (name, *level, 1)]).await;
            assert_eq!((answer.error_code, answer.results.len()), (95, 0));
            assert!(answer.error_message.as_deref().is_some_and(|m| m.contains(why)), "{answer:?}");
        }
    }
    for (level, kind, why) in [(25, 2, "might delete metadata"), (25, 3, "Unsafe metadata downgrade"), (0, 2, "7-30")] {
        let answer = update(2, true, &[("metadata.version", level, kind)]).await;
        assert_eq!(answer.error_code, 95);
        assert!(answer.error_message.as_deref().is_some_and(|m| m.contains(why)), "{answer:?}");
    }
    let level = async |name: &str| {
        let request = msg::ApiVersionsRequest { client_software_name: "t".into(), client_software_version: "1".into() };
        let features = world.ask(4, &request).await.finalized_features;
        features.iter().find(|f| f.name == name).map_or(0, |f| f.max_version_level)
    };
    assert_eq!(update(1, true, &[("transaction.version", 1, 2)]).await.error_code, 0);
    assert_eq!(level("transaction.version").await, 2);
    assert_eq!(update(2, false, &[("transaction.version", 1, 2), ("group.version", 0, 3)]).await.error_code, 0);
    assert_eq!((level("transaction.version").await, level("group.version").await), (1, 0));
    assert_eq!(update(0, false, &[("transaction.version", 2, 1), ("group.version", 1, 1)]).await.error_code, 0);
    assert_eq!((level("transaction.version").await, level("group.version").await), (2, 1));
}

type Part<'a> = (&'a str, Option<&'a str>);

fn quota(parts: &[Part<'_>], ops: &[(&str, f64, bool)]) -> msg::alter_client_quotas_request::EntryData {
    use msg::alter_client_quotas_request::{EntityData, EntryData, OpData};
    EntryData {
        entity: (parts.iter())
            .map(|(kind, name)| EntityData { entity_type: (*kind).to_owned(), entity_name: name.map(str::to_owned) })
            .collect(),
        ops: ops.iter().map(|&(key, value, remove)| OpData { key: key.to_owned(), value, remove }).collect(),
    }
}

impl TestNode {
    async fn alter_quotas(&self, version: i16, entries: Vec<msg::alter_client_quotas_request::EntryData>) -> Vec<i16> {
        let request = msg::AlterClientQuotasRequest { entries, validate_only: false };
        self.ask(version, &request).await.entries.iter().map(|entry| entry.error_code).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_set_and_described() {
    use msg::describe_client_quotas_request::ComponentData;
    let world = TestNode::start(&[]).await;
    for version in 0..=1 {
        let alice = [("user", Some("alice"))];
        let good = vec![
            quota(&alice, &[("producer_byte_rate", 1000.0, false)]),
            quota(&[("user", Some("alice")), ("client-id", None)], &[("request_percentage", 50.5, false)]),
            quota(&[("user", None)], &[("controller_mutation_rate", 2.5, false)]),
            quota(&[("ip", Some("10.0.0.1"))], &[("connection_creation_rate", 13.0, false)]),
        ];
        assert_eq!(world.alter_quotas(version, good).await, [0; 4]);
        let bad: Vec<(Vec<Part<'_>>, &str, f64)> = vec![
            (alice.into(), "producer_byte_rate", 1.5),
            (alice.into(), "producer_byte_rate", 0.0),
            (alice.into(), "producer_byte_rate", 1e19),
            (alice.into(), "nope", 1.0),
            (alice.into(), "connection_creation_rate", 1.0),
            (vec![("ip", Some("10.0.0.1"))], "connection_creation_rate", 3e9),
            (vec![("ip", Some("not an ip!"))], "connection_creation_rate", 1.0),
            (vec![("ip", Some("10.0.0.1")), ("user", Some("x"))], "producer_byte_rate", 1.0),
            (vec![("planet", Some("x"))], "producer_byte_rate", 1.0),
            (vec![("user", Some(""))], "producer_byte_rate", 1.0),
            (vec![], "producer_byte_rate", 1.0),
        ];
        for (parts, key, value) in bad {
            assert_eq!(
                world.alter_quotas(version, vec![quota(&parts, &[(key, value, false)])]).await,
                [42],
                "{parts:?} {key}"
            );
        }
        let twice = vec![quota(&alice, &[]), quota(&alice, &[])];
        assert_eq!(world.alter_quotas(version, twice).await, [42]);

        let describe = async |strict, parts: &[(&str, i8, Option<&str>)]| {
            let components = parts.iter().map(|(kind, match_type, name)| ComponentData {
                entity_type: (*kind).to_owned(),
                match_type: *match_type,
                r#match: name.map(str::to_owned),
            });
            let request = msg::DescribeClientQuotasRequest { components: components.collect(), strict };
            let answer = world.ask(version, &request).await;
            (answer.error_code, answer.entries.map(|entries| entries.len()))
        };
        assert_eq!(describe(false, &[]).await, (0, Some(4)));
        assert_eq!(describe(true, &[]).await, (0, Some(0)));
        assert_eq!(describe(false, &[("user", 0, Some("alice"))]).await, (0, Some(2)));
        assert_eq!(describe(true, &[("user", 0, Some("alice"))]).await, (0, Some(1)));
        assert_eq!(describe(true, &[("user", 1, None)]).await, (0, Some(1)));
        assert_eq!(describe(true, &[("user", 2, None)]).await, (0, Some(2)));
        assert_eq!(describe(false, &[("ip", 2, None), ("user", 2, None)]).await, (42, None));
        assert_eq!(describe(false, &[("planet", 2, None)]).await, (35, None));
        assert_eq!(describe(false, &[("user", 0, None)]).await, (42, None));
        assert_eq!(describe(false, &[("user", 9, None)]).await, (42, None));
        let gone = vec![quota(&alice, &[("producer_byte_rate", 0.0, true)])];
        assert_eq!(world.alter_quotas(version, gone).await, [0]);
        assert_eq!(describe(false, &[("user", 0, Some("alice"))]).await, (0, Some(1)));
    }
}

/// One connection: its requests wait for each other.
struct Client(TcpStream);

impl Client {
    async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        ask_on(&mut self.0, version, request).await.expect("an answer")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_connections_are_not_read() {
    use msg::produce_request::{PartitionProduceData, TopicProduceData};
    let world = TestNode::start(&[]).await;
    world.create("t1", 1).await;
    let quota_of_test = [quota(&[("client-id", Some("test"))], &[("producer_byte_rate", 1000.0, false)])];
    assert_eq!(world.alter_quotas(1, quota_of_test.to_vec()).await, [0]);
    let mut client = Client(TcpStream::connect(world.address("PLAINTEXT")).await.expect("connects"));
    // refused records are bytes all the same
    let partition = PartitionProduceData { index: 0, records: Some(Bytes::from(vec![0; 10_500])) };
    let topic = TopicProduceData { name: "t1".into(), partition_data: vec![partition], ..Default::default() };
    let request = msg::ProduceRequest { acks: 1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() };
    let started = Instant::now();
    let answer = client.ask(9, &request).await;
    assert!((500..1000).contains(&answer.throttle_time_ms), "{answer:?}");
    assert!(started.elapsed() < Duration::from_millis(450), "the answer itself comes at once");
    client.ask(0, &msg::ListGroupsRequest::default()).await;
    assert!(started.elapsed() >= Duration::from_millis(500), "the next request waits");
    let other = Instant::now();
    world.ask(0, &msg::ListGroupsRequest::default()).await;
    assert!(other.elapsed() < Duration::from_millis(450), "another connection does not");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_topics_are_throttled() {
    let world = TestNode::start(&[]).await;
    let slow = quota(&[("user", None)], &[("controller_mutation_rate", 1.0, false)]);
    assert_eq!(world.alter_quotas(1, vec![slow]).await, [0]);
    let create = async |version, name: &str, num_partitions| {
        let topics = vec![topic(name, num_partitions)];
        let request = msg::CreateTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
        let answer = world.ask(version, &request).await;
        (answer.topics[0].error_code, answer.throttle_time_ms)
    };
    assert_eq!(create(7, "a", 20).await, (0, 0));
    let (code, wait) = create(7, "b", 1).await;
    assert_eq!((code, (8000..=9000).contains(&wait)), (89, true), "{wait}");
    let (code, wait) = create(5, "b", 1).await;
    assert_eq!((code, (9000..=10_000).contains(&wait)), (0, true), "{wait}");
    let request = msg::DeleteTopicsRequest { topic_names: vec!["a".into()], timeout_ms: 1000, ..Default::default() };
    let answer = world.ask(5, &request).await;
    assert_eq!((answer.responses[0].error_code, answer.throttle_time_ms > 0), (89, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_connect_at_their_rate() {
    let world = TestNode::start(&[]).await;
    let slow = quota(&[("ip", Some("127.0.0.1"))], &[("connection_creation_rate", 1.0, false)]);
    assert_eq!(world.alter_quotas(1, vec![slow]).await, [0]);
    let mut served = 0;
    for _ in 0..14 {
        served += usize::from(world.try_ask(0, &msg::ListGroupsRequest::default()).await.is_some());
    }
    assert!((10..14).contains(&served), "{served} were served");
}

#[tokio::test(flavor = "multi_thread")]
async fn scram_credentials_are_kept() {
    use msg::alter_user_scram_credentials_request::{ScramCredentialDeletion, ScramCredentialUpsertion};
    let world = TestNode::start(&[]).await;
    let put = |name: &str, mechanism, iterations| ScramCredentialUpsertion {
        name: name.to_owned(),
        mechanism,
        iterations,
        salt: Bytes::from_static(b"salt"),
        salted_password: Bytes::from_static(b"salted"),
    };
    let drop = |name: &str, mechanism| ScramCredentialDeletion { name: name.to_owned(), mechanism };
    let alter = async |deletions, upsertions| -> Vec<(String, i16)> {
        let answer = world.ask(0, &msg::AlterUserScramCredentialsRequest { deletions, upsertions }).await;
        answer.results.into_iter().map(|result| (result.user, result.error_code)).collect()
    };
    let describe = async |names: Option<&[&str]>| -> Vec<(String, i16, Vec<i8>)> {
        let user = |name: &&str| msg::describe_user_scram_credentials_request::UserName { name: (*name).to_owned() };
        let users = names.map(|names| names.iter().map(user).collect());
        let answer = world.ask(0, &msg::DescribeUserScramCredentialsRequest { users }).await;
        let row = |r: msg::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult| {
            (r.user, r.error_code, r.credential_infos.iter().map(|info| info.mechanism).collect())
        };
        answer.results.into_iter().map(row).collect()
    };
    let said = |user: &str, code: i16| (user.to_owned(), code);
    assert_eq!(alter(vec![], vec![put("a", 1, 4096), put("b", 2, 16384)]).await, [said("a", 0), said("b", 0)]);
    assert_eq!(alter(vec![], vec![put("a", 2, 4096)]).await, [said("a", 0)]);
    let bad = vec![
        put("low", 1, 4095),
        put("high", 1, 16385),
        put("mechanism", 9, 4096),
        put("", 1, 4096),
        put("a", 1, 4096),
    ];
    let codes = alter(vec![drop("ghost", 1), drop("a", 1)], bad).await;
    let expected = [("ghost", 91), ("a", 92), ("low", 93), ("high", 93), ("mechanism", 33), ("", 93)];
    assert_eq!(codes, expected.map(|(user, code)| said(user, code)));
    assert_eq!(describe(None).await, [("a".to_owned(), 0, vec![1, 2]), ("b".to_owned(), 0, vec![2])]);
    let some = describe(Some(&["a", "a", "c", "b"])).await;
    assert_eq!(some.iter().map(|(_, code, _)| *code).collect::<Vec<_>>(), [92, 0, 91]);
    assert_eq!(alter(vec![drop("a", 1)], vec![]).await, [said("a", 0)]);
    assert_eq!(describe(Some(&["a"])).await, [("a".to_owned(), 0, vec![2])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authorizer_and_authentication() {
    let world = TestNode::start(&[]).await;
    for version in 0..=3 {
        let any = msg::DescribeAclsRequest {
            resource_type_filter: 1,
            pattern_type_filter: 3,
            operation: 1,
            permission_type: 1,
            ..Default::default()
        };
        assert_eq!(world.ask(version, &any).await.error_code, 54);
        let unknown = msg::DescribeAclsRequest { operation: 0, ..any.clone() };
        assert!(world.try_ask(version, &unknown).await.is_none());
        let creation = msg::create_acls_request::AclCreation {
            resource_type: 2,
            resource_pattern_type: 3,
            operation: 3,
            permission_type: 3,
            ..Default::default()
        };
        let made = world.ask(version, &msg::CreateAclsRequest { creations: vec![creation.clone(), creation] }).await;
        assert_eq!(made.results.iter().map(|result| result.error_code).collect::<Vec<_>>(), [54, 54]);
        let filter = msg::delete_acls_request::DeleteAclsFilter {
            resource_type_filter: 1,
            pattern_type_filter: 3,
            operation: 1,
            permission_type: 1,
            ..Default::default()
        };
        let gone = world.ask(version, &msg::DeleteAclsRequest { filters: vec![filter] }).await;
        assert_eq!(gone.filter_results[0].error_code, 54);
        let token = world.ask(version, &msg::CreateDelegationTokenRequest::default()).await;
        assert_eq!((token.error_code, token.principal_name.as_str(), token.issue_timestamp_ms), (64, "ANONYMOUS", -1));
        assert_eq!(world.ask(version, &msg::DescribeDelegationTokenRequest::default()).await.error_code, 64);
        if version <= 2 {
            assert_eq!(world.ask(version, &msg::RenewDelegationTokenRequest::default()).await.error_code, 64);
            assert_eq!(world.ask(version, &msg::ExpireDelegationTokenRequest::default()).await.error_code, 64);
            assert_eq!(world.ask(version, &msg::SaslAuthenticateRequest::default()).await.error_code, 34);
        }
        if version <= 1 {
            assert_eq!(
                world.ask(version, &msg::SaslHandshakeRequest { mechanism: "PLAIN".into() }).await.error_code,
                34
            );
        }
    }
}
