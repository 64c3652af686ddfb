//! Every field of every request that the broker serves, out of its range: the answer is Kafka's. Owns what must be there before each
//! request; the wrong values are `mutate`'s.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;

use super::dice::Dice;
use super::mutate::variants;
use super::pair::{Difference, Pair, Step, is_question};
use super::random::{Went, learn, take};
use super::requests::World;
use super::schema::{Api, apis};
use super::setting;
use super::side::Outcome;

/// In a short run, every n-th wrong value.
const SHORT: u64 = 24;

/// What is not asked here, and who does.
const ELSEWHERE: &[&str] = &[
    // the tests of quotas
    "DescribeClientQuotas",
    "AlterClientQuotas",
    // sessions and waiting have tests of their own; Kafka closes the connection of a follower it does not know
    "ControlledShutdown",
];

/// The requests that make a world in which `api` has something to do.
fn before(api: &str) -> Vec<Step> {
    let mut steps = vec![
        Step::new(
            "CreateTopics",
            7,
            json!({ "topics": [{ "name": "t0%", "num_partitions": 2, "replication_factor": 1 }], "timeout_ms": 20000 }),
        ),
        Step::new("Metadata", 12, json!({ "topics": [{ "name": "t0%" }], "allow_auto_topic_creation": false })),
    ];
    let is_classic = matches!(
        api,
        "JoinGroup"
            | "SyncGroup"
            | "Heartbeat"
            | "LeaveGroup"
            | "OffsetCommit"
            | "OffsetFetch"
            | "DescribeGroups"
            | "ListGroups"
            | "DeleteGroups"
            | "OffsetDelete"
            | "TxnOffsetCommit"
    );
    let is_consumer = matches!(api, "ConsumerGroupHeartbeat" | "ConsumerGroupDescribe" | "ListGroups");
    let is_transaction = matches!(
        api,
        "InitProducerId"
            | "AddPartitionsToTxn"
            | "AddOffsetsToTxn"
            | "TxnOffsetCommit"
            | "EndTxn"
            | "Produce"
            | "WriteTxnMarkers"
            | "DescribeTransactions"
            | "ListTransactions"
            | "DescribeProducers"
    );
    if is_classic {
        steps.push(Step::new(
            "JoinGroup",
            3,
            json!({ "group_id": "g0%", "session_timeout_ms": 60000, "rebalance_timeout_ms": 60000, "member_id": "",
                "protocol_type": "consumer", "protocols": [{ "name": "range", "metadata": "hex:00000000000100027430ffffffff" }] }),
        ));
        steps.push(Step::new(
            "SyncGroup",
            2,
            json!({ "group_id": "g0%", "generation_id": 1, "member_id": "$member1",
                "assignments": [{ "member_id": "$member1", "assignment": "mine" }] }),
        ));
        let offset = json!({ "partition_index": 0, "committed_offset": 3, "committed_metadata": "note" });
        steps.push(Step::new(
            "OffsetCommit",
            7,
            json!({ "group_id": "g0%", "generation_id_or_member_epoch": 1, "member_id": "$member1",
                "topics": [{ "name": "t0%", "partitions": [offset] }] }),
        ));
    }
    if is_consumer {
        steps.push(Step::new(
            "ConsumerGroupHeartbeat",
            1,
            json!({ "group_id": "g2%", "member_id": "m0%", "member_epoch": 0, "rebalance_timeout_ms": 60000,
                "subscribed_topic_names": ["t0%"], "topic_partitions": [] }),
        ));
    }
    if is_transaction {
        steps.push(Step::new(
            "InitProducerId",
            4,
            json!({ "transactional_id": "x0%", "transaction_timeout_ms": 60000, "producer_id": -1, "producer_epoch": -1 }),
        ));
        if api != "InitProducerId" {
            steps.push(Step::new(
                "AddPartitionsToTxn",
                3,
                json!({ "v3_and_below_transactional_id": "x0%", "v3_and_below_producer_id": "$pid1",
                    "v3_and_below_producer_epoch": 0, "v3_and_below_topics": [{ "name": "t0%", "partitions": [0] }] }),
            ));
        }
    }
    steps
}

/// A world for this API, on both sides.
fn prepare(pair: &mut Pair, api: &str, attempts: u32) -> Result<World> {
    pair.begin();
    let mut world = World::default();
    for step in before(api) {
        match take(pair, &step)? {
            Went::On(Outcome::Answer(answer)) => learn(&mut world, &step, &answer),
            // Kafka's coordinator of groups hears of a topic a little later than its clients
            Went::Apart(difference) if step.api == "ConsumerGroupHeartbeat" && attempts > 0 => {
                println!("before {api}, again: {difference}");
                return prepare(pair, api, attempts - 1);
            }
            Went::Apart(difference) => anyhow::bail!("before {api}: {difference}"),
            _ => anyhow::bail!("before {api}: no answer to {step}"),
        }
    }
    Ok(world)
}

/// Findings by what is wrong with the answer; how often, and the first.
type Findings = BTreeMap<String, (u32, String, Box<Difference>)>;

fn try_version(
    pair: &mut Pair,
    name: &'static str,
    api: &'static Api,
    version: i16,
    every: u64,
    found: &mut Findings,
) -> Result<u64> {
    let mut world = prepare(pair, name, 3)?;
    let body = world.body(name, &mut Dice::loaded());
    let mut cases = vec![("as it should be".to_owned(), body.clone())];
    cases.extend(variants(name, api, version, &body).into_iter().map(|v| (v.what, v.body)));
    let mut tried = 0;
    let mut is_fresh = true;
    for (n, (what, body)) in cases.into_iter().enumerate() {
        // another share of the values for each version
        if n > 0 && !(n as u64 + version as u64 * 5).is_multiple_of(every) {
            continue;
        }
        tried += 1;
        if !is_fresh {
            world = prepare(pair, name, 3)?;
        }
        let step = Step::new(name, version, body);
        let went = take(pair, &step)?;
        is_fresh = is_question(name) && matches!(went, Went::On(Outcome::Answer(_)));
        if let Went::Apart(difference) = went {
            let entry = found.entry(difference.sign()).or_insert((0, what, difference));
            entry.0 += 1;
        }
    }
    let _ = world;
    Ok(tried)
}

#[test]
fn every_field_out_of_its_range() -> Result<()> {
    let every = setting("MILENA_DIFF_FIELDS", SHORT);
    let only = std::env::var("MILENA_DIFF_API").ok();
    let mut pair = Pair::start()?;
    let begin = Instant::now();
    let (mut tried, mut found) = (0, Findings::new());
    for (name, api) in apis() {
        let Some((from, to)) = pair.versions(api) else { continue };
        let is_asked = only.as_ref().map_or(!ELSEWHERE.contains(&name.as_str()), |only| only == name);
        if !is_asked {
            continue;
        }
        let versions = if from == to { vec![to] } else { vec![to, from] };
        for version in versions {
            tried += try_version(&mut pair, name, api, version, every, &mut found)?;
        }
        if only.is_some() || every < SHORT {
            println!("{name}: {tried} so far after {} s, {} differences", begin.elapsed().as_secs(), found.len());
        }
    }
    for (times, what, difference) in found.values() {
        println!("{times} times, first with {what}:\n  {difference}\n");
    }
    println!("{tried} requests in {} s, {} differences", begin.elapsed().as_secs(), found.len());
    ensure!(found.is_empty(), "{} differences from Kafka", found.len());
    Ok(())
}
