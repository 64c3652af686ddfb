//! What a request of each API may look like in a small world: topics t0..t3, groups g0..g2, transactional ids x0 and x1, users u0 and u1.
//!
//! Owns plausible bodies, mostly valid, at no version in particular: fields that a version lacks are left out when it is written. A name
//! with `%` belongs to the sequence that runs. `mutate` makes them wrong.

use serde_json::{Value, json};

use super::dice::Dice;

/// One of these, all of which are made first.
macro_rules! pick {
    ($dice:expr, $($option:expr),+ $(,)?) => {{
        let options = [$($option),+];
        $dice.pick(&options)
    }};
}

/// Somebody who joined a group, or said so.
#[derive(Debug, Clone)]
pub struct Member {
    pub group: String,
    /// A token, or a name of its own choice.
    pub id: String,
    pub epoch: i64,
    pub instance: Option<String>,
    pub is_classic: bool,
}

/// A producer as it knows itself.
#[derive(Debug, Clone)]
pub struct Producer {
    pub transactional_id: String,
    pub id: Value,
    pub epoch: i64,
    pub sequence: i64,
}

/// What the answers told so far.
#[derive(Debug, Default)]
pub struct World {
    pub members: Vec<Member>,
    pub producers: Vec<Producer>,
    /// Topic and its id's token.
    pub topics: Vec<(String, String)>,
}

impl World {
    fn topic(dice: &mut Dice) -> Value {
        if dice.chance(4) {
            return dice.word(&["nowhere%", "a/b", "", "__consumer_offsets", "..", "with space"]);
        }
        dice.word(&["t0%", "t1%", "t2%", "t3%"])
    }

    fn topic_id(&self, dice: &mut Dice) -> Value {
        if self.topics.is_empty() || dice.chance(10) {
            return dice.word(&["uuid:77777777777777777777777777777777", "uuid:0"]);
        }
        json!(self.topics[dice.below(self.topics.len())].1)
    }

    fn group(dice: &mut Dice) -> Value {
        if dice.chance(3) {
            return dice.word(&["", "nobody%"]);
        }
        dice.word(&["g0%", "g1%", "g2%"])
    }

    fn partition(dice: &mut Dice) -> Value {
        json!(dice.pick(&[0, 0, 0, 1, 1, 2, -1, 99]))
    }

    fn partitions(dice: &mut Dice) -> Value {
        dice.pick(&[json!([0]), json!([0, 1]), json!([1]), json!([0]), json!([5]), json!([0, 0]), json!([])])
    }

    fn transactional_id(dice: &mut Dice) -> Value {
        if dice.chance(3) {
            return dice.word(&["", "xx%"]);
        }
        dice.word(&["x0%", "x1%"])
    }

    /// A member of a classic or of a consumer group, as it knows itself, or a little wrong.
    fn member(&self, classic: bool, dice: &mut Dice) -> Member {
        let known: Vec<&Member> = self.members.iter().filter(|m| m.is_classic == classic).collect();
        // the newest as a rule
        let mut member = match known.last() {
            Some(last) if !dice.chance(45) => (*last).clone(),
            Some(_) => known[dice.below(known.len())].clone(),
            None => Member {
                group: Self::group(dice).as_str().unwrap_or_default().to_owned(),
                id: "nobody".into(),
                epoch: 0,
                instance: None,
                is_classic: classic,
            },
        };
        if dice.chance(6) {
            member.epoch += dice.pick(&[1, -1, 100]);
        }
        if dice.chance(4) {
            member.id = dice.pick(&["", "somebody"]).to_owned();
        }
        if dice.chance(3) {
            member.group = dice.pick(&["g0%", "g1%", "nobody%"]).to_owned();
        }
        member
    }

    fn producer(&self, dice: &mut Dice) -> Producer {
        let mut producer = match self.producers.last() {
            Some(last) if !dice.chance(40) => last.clone(),
            Some(_) => self.producers[dice.below(self.producers.len())].clone(),
            None => Producer { transactional_id: "x0%".into(), id: json!(888_888), epoch: 0, sequence: 0 },
        };
        if dice.chance(5) {
            producer.epoch += dice.pick(&[1, -1, 100]);
        }
        if dice.chance(3) {
            producer.id = dice.pick(&[json!(-1), json!(888_888), json!(i64::MAX)]);
        }
        if dice.chance(4) {
            producer.transactional_id = dice.pick(&["x0%", "x1%", "xx%", ""]).to_owned();
        }
        producer
    }

    fn topic_config(dice: &mut Dice) -> (Value, Value) {
        let (name, values): (&str, &[&str]) = dice.pick(&[
            ("retention.ms", &["60000", "-1", "-2", "x"][..]),
            ("cleanup.policy", &["compact", "delete", "compact,delete", "", "sweep"][..]),
            ("segment.bytes", &["2000000", "14", "-1"][..]),
            ("max.message.bytes", &["5000", "0", "-1"][..]),
            ("compression.type", &["gzip", "producer", "rar"][..]),
            ("min.insync.replicas", &["1", "0", "2"][..]),
            ("message.timestamp.type", &["CreateTime", "LogAppendTime", "Never"][..]),
            ("unknown.key", &["1"][..]),
            ("min.cleanable.dirty.ratio", &["0.3", "1.5"][..]),
            ("preallocate", &["true", "maybe"][..]),
            ("local.retention.ms", &["-2", "100"][..]),
            ("", &["1"][..]),
        ]);
        let value = if dice.chance(4) { Value::Null } else { dice.word(values) };
        (json!(name), value)
    }

    fn group_config(dice: &mut Dice) -> (Value, Value) {
        let (name, values): (&str, &[&str]) = dice.pick(&[
            ("consumer.session.timeout.ms", &["50000", "1", "x", "999999"][..]),
            ("consumer.heartbeat.interval.ms", &["6000", "0", "99999"][..]),
            ("retention.ms", &["1"][..]),
        ]);
        (json!(name), dice.word(values))
    }

    /// Resource type, name and one configuration.
    fn resource(dice: &mut Dice) -> (Value, Value, Value, Value) {
        match dice.pick(&[2, 2, 2, 32, 4, 8, 16, 1]) {
            2 => {
                let (name, value) = Self::topic_config(dice);
                (json!(2), Self::topic(dice), name, value)
            }
            32 => {
                let (name, value) = Self::group_config(dice);
                (json!(32), Self::group(dice), name, value)
            }
            // what concerns the whole broker stays what it is: refused, or a key that is read by nobody here
            4 => {
                let (name, value) = dice.pick(&[("no.such.key", "1"), ("log.retention.ms", "x"), ("broker.id", "7")]);
                (json!(4), dice.word(&["1", "2", "x"]), json!(name), json!(value))
            }
            other => (json!(other), dice.word(&["1", "x%", ""]), json!("INFO"), json!("1")),
        }
    }

    fn offsets(&self, dice: &mut Dice) -> Value {
        let partitions: Vec<Value> = (0..1 + dice.below(2))
            .map(|_| {
                json!({ "partition_index": Self::partition(dice), "committed_offset": dice.pick(&[5, 0, 17, -1]),
                    "committed_leader_epoch": dice.pick(&[-1, 0, 3]), "commit_timestamp": -1,
                    "committed_metadata": dice.pick(&[json!("note"), json!(""), Value::Null, json!("x".repeat(65))]) })
            })
            .collect();
        json!([{ "name": Self::topic(dice), "topic_id": self.topic_id(dice), "partitions": partitions }])
    }

    /// A body for this API.
    #[expect(clippy::too_many_lines, reason = "a table: one arm for each API")]
    pub fn body(&self, api: &str, dice: &mut Dice) -> Value {
        let d = dice;
        match api {
            "CreateTopics" => {
                let n = 1 + usize::from(d.chance(15));
                let topics: Vec<Value> = (0..n)
                    .map(|_| {
                        let configs: Vec<Value> = (0..usize::from(d.chance(35)))
                            .map(|_| {
                                let (name, value) = Self::topic_config(d);
                                json!({ "name": name, "value": value })
                            })
                            .collect();
                        let by_hand = d.chance(12);
                        let assignments = match by_hand {
                            true => pick!(d,
                                json!([{ "partition_index": 0, "broker_ids": [1] }]),
                                json!([{ "partition_index": 0, "broker_ids": [1] }, { "partition_index": 1, "broker_ids": [1] }]),
                                json!([{ "partition_index": 1, "broker_ids": [1] }]),
                                json!([{ "partition_index": 0, "broker_ids": [1, 1] }]),
                                json!([{ "partition_index": 0, "broker_ids": [9] }]),
                                json!([{ "partition_index": 0, "broker_ids": [] }]),
                                json!([{ "partition_index": 0, "broker_ids": [1] }, { "partition_index": 0, "broker_ids": [1] }]),
                            ),
                            false => json!([]),
                        };
                        let (partitions, factor) = if by_hand { (-1, -1) } else { (2, 1) };
                        json!({ "name": Self::topic(d), "num_partitions": pick!(d, partitions, partitions, partitions, 1, 3, -1, 0),
                            "replication_factor": pick!(d, factor, factor, factor, factor, factor, -1, 2, 0),
                            "assignments": assignments, "configs": configs })
                    })
                    .collect();
                json!({ "topics": topics, "timeout_ms": 20000, "validate_only": d.chance(10) })
            }
            "DeleteTopics" => match d.chance(30) {
                false => {
                    json!({ "topic_names": [Self::topic(d)], "topics": [{ "name": Self::topic(d) }], "timeout_ms": 20000 })
                }
                true => json!({ "topic_names": [Self::topic(d), Self::topic(d)],
                    "topics": [{ "name": null, "topic_id": self.topic_id(d) }], "timeout_ms": 20000 }),
            },
            "CreatePartitions" => json!({ "topics": [{ "name": Self::topic(d), "count": pick!(d, 3, 4, 2, 1, 0, -1),
                "assignments": pick!(d, Value::Null, Value::Null, json!([]), json!([{ "broker_ids": [1] }]), json!([{ "broker_ids": [7] }]),
                    json!([{ "broker_ids": [1] }, { "broker_ids": [1] }])) }],
                "timeout_ms": 20000, "validate_only": d.chance(20) }),
            "DeleteRecords" => json!({ "topics": [{ "name": Self::topic(d), "partitions":
                [{ "partition_index": Self::partition(d), "offset": pick!(d, 0, 1, -1, 2, 50, -2) }] }], "timeout_ms": 5000 }),
            "DescribeConfigs" => {
                let (kind, name, key, _) = Self::resource(d);
                json!({ "resources": [{ "resource_type": kind, "resource_name": name,
                    "configuration_keys": pick!(d, json!([key.clone()]), json!([key, "min.insync.replicas"]), json!([])) }],
                    "include_synonyms": d.chance(50), "include_documentation": d.chance(10) })
            }
            "AlterConfigs" => {
                let (kind, name, key, value) = Self::resource(d);
                json!({ "resources": [{ "resource_type": kind, "resource_name": name,
                    "configs": [{ "name": key, "value": value }] }], "validate_only": d.chance(20) })
            }
            "IncrementalAlterConfigs" => {
                let (kind, name, key, value) = Self::resource(d);
                let mut configs =
                    vec![json!({ "name": key, "config_operation": pick!(d, 0, 0, 0, 1, 2, 3, 4), "value": value })];
                if d.chance(15) {
                    let (key, value) = Self::topic_config(d);
                    configs.push(json!({ "name": key, "config_operation": 0, "value": value }));
                }
                json!({ "resources": [{ "resource_type": kind, "resource_name": name, "configs": configs }], "validate_only": d.chance(20) })
            }
            "Metadata" => {
                json!({ "topics": pick!(d, json!([{ "name": "t0%" }]), json!([{ "name": "t1%" }, { "name": "nowhere%" }]), Value::Null,
                    json!([{ "name": null, "topic_id": self.topic_id(d) }]), json!([])),
                "allow_auto_topic_creation": false, "include_cluster_authorized_operations": d.chance(20),
                "include_topic_authorized_operations": d.chance(20) })
            }
            "DescribeTopicPartitions" => {
                json!({ "topics": pick!(d, json!([{ "name": "t0%" }, { "name": "t1%" }, { "name": "t2%" }]),
                    json!([{ "name": "t0%" }, { "name": "nowhere%" }]), json!([{ "name": Self::topic(d) }])),
                "response_partition_limit": pick!(d, 2000, 1, 2),
                "cursor": pick!(d, Value::Null, Value::Null, json!({ "topic_name": "t1%", "partition_index": 1 }),
                    json!({ "topic_name": "t0%", "partition_index": -1 })) })
            }
            "ListOffsets" => {
                json!({ "replica_id": -1, "isolation_level": pick!(d, 0, 1), "topics": [{ "name": Self::topic(d),
                "partitions": [{ "partition_index": Self::partition(d), "current_leader_epoch": pick!(d, -1, 0, 5),
                    "timestamp": pick!(d, json!(-1), json!(-2), json!(-3), json!(-4), json!(-5), json!(0), json!(1_700_000_000_000i64), json!(-6), json!(-9)) }] }],
                "timeout_ms": 1000 })
            }
            "OffsetForLeaderEpoch" => json!({ "replica_id": pick!(d, -1, -2, 1), "topics": [{ "topic": Self::topic(d),
                "partitions": [{ "partition": Self::partition(d), "current_leader_epoch": pick!(d, -1, 0, 1), "leader_epoch": pick!(d, 0, -1, 1) }] }] }),
            "ElectLeaders" => json!({ "election_type": pick!(d, 0, 1, 2), "topic_partitions":
                [{ "topic": Self::topic(d), "partitions": Self::partitions(d) }], "timeout_ms": 5000 }),
            "AlterPartitionReassignments" => {
                json!({ "timeout_ms": 5000, "allow_replication_factor_change": !d.chance(20),
                "topics": [{ "name": Self::topic(d), "partitions": [{ "partition_index": Self::partition(d),
                    "replicas": pick!(d, json!([1]), Value::Null, json!([2]), json!([]), json!([1, 1])) }] }] })
            }
            "ListPartitionReassignments" => json!({ "timeout_ms": 5000, "topics": pick!(d,
                json!([{ "name": "t0%", "partition_indexes": [0, 9] }]), Value::Null) }),
            "DescribeProducers" => {
                json!({ "topics": [{ "name": Self::topic(d), "partition_indexes": Self::partitions(d) }] })
            }
            "DescribeLogDirs" => {
                json!({ "topics": pick!(d, json!([{ "topic": "t0%", "partitions": [0, 1] }]), Value::Null,
                json!([{ "topic": Self::topic(d), "partitions": Self::partitions(d) }])) })
            }
            "AlterReplicaLogDirs" => json!({ "dirs": [{ "path": d.word(&["$folder/data-a", "/nowhere", "relative"]),
                "topics": [{ "name": d.word(&["nowhere%"]), "partitions": [0] }] }] }),
            "ListConfigResources" => {
                json!({ "resource_types": pick!(d, json!([]), json!([2]), json!([32]), json!([16]), json!([7]), json!([2, 32])) })
            }
            "AlterUserScramCredentials" => {
                json!({ "deletions": pick!(d, json!([]), json!([]), json!([{ "name": "u0%", "mechanism": 1 }]),
                    json!([{ "name": "u1%", "mechanism": 2 }])),
                "upsertions": pick!(d, json!([{ "name": "u0%", "mechanism": 1, "iterations": 4096, "salt": "salt", "salted_password": "secret" }]),
                    json!([{ "name": "u1%", "mechanism": 2, "iterations": 5000, "salt": "salt", "salted_password": "secret" }]),
                    json!([{ "name": "", "mechanism": 1, "iterations": 4096, "salt": "salt", "salted_password": "secret" }]),
                    json!([{ "name": "u0%", "mechanism": 0, "iterations": 4096, "salt": "salt", "salted_password": "secret" }]),
                    json!([{ "name": "u0%", "mechanism": 1, "iterations": 1, "salt": "salt", "salted_password": "secret" }]), json!([])) })
            }
            "DescribeUserScramCredentials" => json!({ "users": pick!(d, json!([{ "name": "u0%" }]), Value::Null,
                json!([{ "name": "u0%" }, { "name": "u1%" }]), json!([{ "name": "u0%" }, { "name": "u0%" }])) }),
            "FindCoordinator" => {
                let key_type = pick!(d, 0, 1, 3);
                json!({ "key": Self::group(d), "key_type": key_type, "coordinator_keys": [Self::group(d)] })
            }
            "JoinGroup" => self.join_group(d),
            "SyncGroup" => {
                let m = self.member(true, d);
                let protocol = pick!(d, json!("consumer"), Value::Null, json!("connect"));
                json!({ "group_id": m.group, "generation_id": m.epoch, "member_id": m.id, "group_instance_id": m.instance,
                    "protocol_type": protocol, "protocol_name": pick!(d, json!("range"), Value::Null, json!("other")),
                    "assignments": pick!(d, json!([{ "member_id": m.id, "assignment": "mine" }]), json!([])) })
            }
            "Heartbeat" => {
                let m = self.member(true, d);
                json!({ "group_id": m.group, "generation_id": m.epoch, "member_id": m.id, "group_instance_id": m.instance })
            }
            "LeaveGroup" => {
                let m = self.member(true, d);
                let mut members = vec![json!({ "member_id": m.id, "group_instance_id": m.instance, "reason": "over" })];
                if d.chance(15) {
                    members.push(json!({ "member_id": d.word(&["nobody", ""]), "group_instance_id": pick!(d, json!("i0%"), Value::Null) }));
                }
                json!({ "group_id": m.group, "member_id": m.id, "members": members })
            }
            "OffsetCommit" => {
                let classic = !d.chance(30);
                let m = self.member(classic, d);
                match d.chance(25) {
                    false => json!({ "group_id": m.group, "generation_id_or_member_epoch": m.epoch, "member_id": m.id,
                        "group_instance_id": m.instance, "retention_time_ms": -1, "topics": self.offsets(d) }),
                    true => json!({ "group_id": Self::group(d), "generation_id_or_member_epoch": -1, "member_id": "",
                        "retention_time_ms": -1, "topics": self.offsets(d) }),
                }
            }
            "OffsetFetch" => {
                let topics = pick!(
                    d,
                    json!([{ "name": "t0%", "topic_id": self.topic_id(d), "partition_indexes": [0, 1, 7] }]),
                    Value::Null
                );
                let m = self.member(false, d);
                let (member, epoch) = if d.chance(30) { (json!(m.id), m.epoch) } else { (Value::Null, -1) };
                json!({ "group_id": Self::group(d), "topics": topics, "require_stable": d.chance(30),
                    "groups": [{ "group_id": if member.is_null() { Self::group(d) } else { json!(m.group) }, "member_id": member, "member_epoch": epoch, "topics": topics }] })
            }
            "DescribeGroups" => {
                json!({ "groups": pick!(d, json!(["g0%"]), json!(["g0%", "g1%", "nobody%"]), json!([Self::group(d)])),
                "include_authorized_operations": d.chance(20) })
            }
            "ListGroups" => {
                json!({ "states_filter": pick!(d, json!([]), json!(["Stable"]), json!(["empty", "Dead"]), json!(["nonsense"])),
                "types_filter": pick!(d, json!([]), json!(["classic"]), json!(["Consumer"]), json!(["nonsense"])) })
            }
            "DeleteGroups" => {
                json!({ "groups_names": pick!(d, json!([Self::group(d)]), json!(["g0%", "nobody%"]), json!(["g1%", "g1%"])) })
            }
            "OffsetDelete" => json!({ "group_id": Self::group(d), "topics": [{ "name": Self::topic(d),
                "partitions": [{ "partition_index": Self::partition(d) }] }] }),
            "ConsumerGroupHeartbeat" => self.heartbeat(d),
            "ConsumerGroupDescribe" => {
                json!({ "group_ids": pick!(d, json!(["g2%"]), json!(["g0%", "g1%", "nobody%"]), json!([Self::group(d)])),
                "include_authorized_operations": d.chance(20) })
            }
            "InitProducerId" => {
                let again = d.chance(25);
                let p = self.producer(d);
                match again {
                    true => {
                        json!({ "transactional_id": p.transactional_id, "transaction_timeout_ms": 60000, "producer_id": p.id, "producer_epoch": p.epoch })
                    }
                    false => json!({ "transactional_id": Self::transactional_id(d),
                        "transaction_timeout_ms": pick!(d, 60000, 60000, 60000, 60000, 0, -1, 900_001), "producer_id": -1, "producer_epoch": -1 }),
                }
            }
            "AddPartitionsToTxn" => {
                let p = self.producer(d);
                let topics = json!([{ "name": Self::topic(d), "partitions": pick!(d, json!([0]), json!([0, 1]), json!([7]), json!([])) }]);
                json!({ "v3_and_below_transactional_id": p.transactional_id, "v3_and_below_producer_id": p.id,
                    "v3_and_below_producer_epoch": p.epoch, "v3_and_below_topics": topics,
                    "transactions": [{ "transactional_id": p.transactional_id, "producer_id": p.id, "producer_epoch": p.epoch,
                        "verify_only": d.chance(40), "topics": topics }] })
            }
            "AddOffsetsToTxn" => {
                let p = self.producer(d);
                json!({ "transactional_id": p.transactional_id, "producer_id": p.id, "producer_epoch": p.epoch, "group_id": Self::group(d) })
            }
            "TxnOffsetCommit" => {
                let p = self.producer(d);
                let m = self.member(true, d);
                let (group, epoch, member, instance) = match d.chance(40) {
                    true => (json!(m.group), m.epoch, json!(m.id), json!(m.instance)),
                    false => (Self::group(d), -1, json!(""), Value::Null),
                };
                json!({ "transactional_id": p.transactional_id, "group_id": group, "producer_id": p.id, "producer_epoch": p.epoch,
                    "generation_id": epoch, "member_id": member, "group_instance_id": instance, "topics": self.offsets(d) })
            }
            "EndTxn" => {
                let p = self.producer(d);
                json!({ "transactional_id": p.transactional_id, "producer_id": p.id, "producer_epoch": p.epoch, "committed": !d.chance(40) })
            }
            "Produce" => {
                let p = self.producer(d);
                let records = match d.chance(70) {
                    true => {
                        json!({ "producer_id": p.id, "producer_epoch": p.epoch, "base_sequence": p.sequence + pick!(d, 0, 0, 0, 1), "attributes": 16 })
                    }
                    false => pick!(d, json!({}), json!({ "count": 3 }), json!(""), json!("junk")),
                };
                let transactional_id =
                    if records.get("attributes").is_some() { json!(p.transactional_id) } else { Value::Null };
                json!({ "transactional_id": transactional_id, "acks": pick!(d, -1, -1, -1, 1), "timeout_ms": 5000, "topic_data": [{ "name": Self::topic(d),
                    "topic_id": self.topic_id(d), "partition_data": [{ "index": Self::partition(d), "records": records }] }] })
            }
            "Fetch" => {
                json!({ "replica_id": -1, "max_wait_ms": 0, "min_bytes": 0, "max_bytes": 100_000, "isolation_level": pick!(d, 0, 1),
                "session_id": 0, "session_epoch": -1, "topics": [{ "topic": Self::topic(d), "topic_id": self.topic_id(d), "partitions":
                    [{ "partition": Self::partition(d), "current_leader_epoch": pick!(d, -1, 0, 4), "fetch_offset": pick!(d, 0, 1, -1, 99),
                        "partition_max_bytes": 50_000 }] }] })
            }
            "WriteTxnMarkers" => {
                let p = self.producer(d);
                json!({ "markers": [{ "producer_id": p.id, "producer_epoch": p.epoch, "transaction_result": d.chance(50),
                    "topics": [{ "name": Self::topic(d), "partition_indexes": pick!(d, json!([0]), json!([0, 1]), json!([5]), json!([])) }],
                    "coordinator_epoch": pick!(d, 0, 0, 5, -1), "transaction_version": pick!(d, 0, 0, 2) }] })
            }
            "DescribeTransactions" => {
                json!({ "transactional_ids": pick!(d, json!(["x0%"]), json!(["x0%", "x1%", "xx%"]), json!([""])) })
            }
            "ListTransactions" => {
                json!({ "state_filters": pick!(d, json!([]), json!(["Ongoing"]), json!(["Empty", "nonsense"])),
                "producer_id_filters": pick!(d, json!([]), json!([self.producer(d).id])), "duration_filter": -1,
                "transactional_id_pattern": pick!(d, Value::Null, json!("x0.*"), json!("["), json!("")) })
            }
            "DescribeAcls" => {
                json!({ "resource_type_filter": 1, "resource_name_filter": null, "pattern_type_filter": 1,
                "principal_filter": null, "host_filter": null, "operation": 1, "permission_type": 1 })
            }
            "CreateAcls" => {
                json!({ "creations": [{ "resource_type": 2, "resource_name": "t0%", "resource_pattern_type": 3,
                "principal": "User:u0", "host": "*", "operation": 3, "permission_type": 3 }] })
            }
            "DeleteAcls" => {
                json!({ "filters": [{ "resource_type_filter": 2, "resource_name_filter": "t0%", "pattern_type_filter": 3,
                "principal_filter": null, "host_filter": null, "operation": 1, "permission_type": 1 }] })
            }
            "SaslHandshake" => json!({ "mechanism": "PLAIN" }),
            "SaslAuthenticate" => json!({ "auth_bytes": "x" }),
            "CreateDelegationToken" => json!({ "owner_principal_type": null, "owner_principal_name": null,
                "renewers": [{ "principal_type": "User", "principal_name": "u0" }], "max_lifetime_ms": -1 }),
            "RenewDelegationToken" => json!({ "hmac": "x", "renew_period_ms": -1 }),
            "ExpireDelegationToken" => json!({ "hmac": "x", "expiry_time_period_ms": -1 }),
            "DescribeDelegationToken" => json!({ "owners": [{ "principal_type": "User", "principal_name": "u0" }] }),
            "UpdateFeatures" => json!({ "timeout_ms": 5000, "feature_updates":
                [{ "feature": "no.such.feature", "max_version_level": 1, "allow_downgrade": false, "upgrade_type": 1 }], "validate_only": true }),
            "DescribeCluster" => {
                json!({ "include_cluster_authorized_operations": false, "endpoint_type": 1, "include_fenced_brokers": false })
            }
            "DescribeQuorum" => {
                json!({ "topics": [{ "topic_name": "__cluster_metadata", "partitions": [{ "partition_index": 0 }] }] })
            }
            "UnregisterBroker" => json!({ "broker_id": 77 }),
            "ApiVersions" => json!({ "client_software_name": "differ", "client_software_version": "1.0" }),
            other => panic!("nothing is known of {other}"),
        }
    }

    fn join_group(&self, d: &mut Dice) -> Value {
        let m = self.member(true, d);
        let is_new = self.members.iter().all(|m| !m.is_classic) || d.chance(35);
        let (group, id, instance) = match is_new {
            true => {
                (Self::group(d), json!(""), pick!(d, Value::Null, Value::Null, Value::Null, json!("i0%"), json!("i1%")))
            }
            false => (json!(m.group), json!(m.id), json!(m.instance)),
        };
        let topics = "hex:00000000000100027430ffffffff";
        let protocols = pick!(
            d,
            json!([{ "name": "range", "metadata": topics }]),
            json!([{ "name": "range", "metadata": topics }]),
            json!([{ "name": "range", "metadata": topics }, { "name": "roundrobin", "metadata": topics }]),
            json!([{ "name": "other", "metadata": topics }]),
            json!([]),
        );
        json!({ "group_id": group, "session_timeout_ms": pick!(d, 60000, 60000, 60000, 60000, 60000, 60000, 5, -1, 9_999_999),
            "rebalance_timeout_ms": 60000, "member_id": id, "group_instance_id": instance,
            "protocol_type": pick!(d, "consumer", "consumer", "consumer", "consumer", "connect", ""),
            "protocols": protocols, "reason": pick!(d, Value::Null, json!("why not")) })
    }

    fn heartbeat(&self, d: &mut Dice) -> Value {
        let m = self.member(false, d);
        let is_new = self.members.iter().all(|m| m.is_classic) || d.chance(25);
        let topics = pick!(d, json!(["t0%"]), json!(["t0%", "t1%"]), json!(["t2%"]), json!([]), json!(["nowhere%"]));
        if is_new {
            let id = pick!(d, "m0%", "m1%", "m2%", "");
            return json!({ "group_id": d.word(&["g2%", "g2%", "g1%", "g0%", ""]), "member_id": id, "member_epoch": 0,
                "instance_id": pick!(d, Value::Null, Value::Null, Value::Null, json!("s0%"), json!("")), "rack_id": pick!(d, Value::Null, json!("r")),
                "rebalance_timeout_ms": pick!(d, 60000, 60000, 60000, -1, 0), "subscribed_topic_names": topics,
                "server_assignor": pick!(d, Value::Null, json!("range"), json!("uniform"), json!("nonsense")), "topic_partitions": pick!(d, json!([]), json!([]), json!([]), Value::Null) });
        }
        let epoch = if d.chance(8) { pick!(d, -1, -2, 0, -3) } else { m.epoch };
        let owned = pick!(
            d,
            Value::Null,
            Value::Null,
            json!([]),
            json!([{ "topic_id": self.topic_id(d), "partitions": [0] }]),
            json!([{ "topic_id": self.topic_id(d), "partitions": [0, 1] }])
        );
        json!({ "group_id": m.group, "member_id": m.id, "member_epoch": epoch, "instance_id": m.instance,
            "subscribed_topic_names": if d.chance(25) { topics } else { Value::Null }, "topic_partitions": owned })
    }
}
