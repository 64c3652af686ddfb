//! Random sequences of requests of administrators, groups and transactions. Owns making them up from what the answers tell, and
//! cutting a sequence that shows a difference down to the steps that it needs.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::dice::Dice;
use super::listed::Ways;
use super::mutate::variants;
use super::pair::{Compared, Difference, Pair, Step};
use super::requests::{Member, Producer, World};
use super::schema::api;
use super::setting;
use super::side::{LANES, Outcome};

/// Steps of a sequence.
const STEPS: usize = 60;
/// Sequences in a short run, and how long it may take at most.
const SEQUENCES: u64 = 25;
const SHORT_SECONDS: u64 = 40;

/// What is asked for, and how often.
const APIS: &[(&str, usize)] = &[
    ("CreateTopics", 7),
    ("DeleteTopics", 2),
    ("CreatePartitions", 3),
    ("DeleteRecords", 2),
    ("DescribeConfigs", 2),
    ("AlterConfigs", 2),
    ("IncrementalAlterConfigs", 4),
    ("Metadata", 3),
    ("DescribeTopicPartitions", 2),
    ("ListOffsets", 3),
    ("OffsetForLeaderEpoch", 2),
    ("ElectLeaders", 1),
    ("AlterPartitionReassignments", 1),
    ("ListPartitionReassignments", 1),
    ("DescribeProducers", 2),
    ("DescribeLogDirs", 1),
    ("ListConfigResources", 1),
    ("AlterUserScramCredentials", 1),
    ("DescribeUserScramCredentials", 1),
    ("FindCoordinator", 1),
    ("JoinGroup", 9),
    ("SyncGroup", 6),
    ("Heartbeat", 4),
    ("LeaveGroup", 3),
    ("OffsetCommit", 6),
    ("OffsetFetch", 4),
    ("DescribeGroups", 3),
    ("ListGroups", 2),
    ("DeleteGroups", 2),
    ("OffsetDelete", 2),
    ("ConsumerGroupHeartbeat", 9),
    ("ConsumerGroupDescribe", 3),
    ("InitProducerId", 6),
    ("AddPartitionsToTxn", 7),
    ("AddOffsetsToTxn", 4),
    ("TxnOffsetCommit", 4),
    ("EndTxn", 7),
    ("Produce", 8),
    ("Fetch", 2),
    ("WriteTxnMarkers", 1),
    ("DescribeTransactions", 2),
    ("ListTransactions", 2),
];

/// Whether the sequence goes on after a step, and with what answer.
pub enum Went {
    On(Outcome),
    /// Every lane waits.
    Skipped,
    Apart(Box<Difference>),
}

pub fn take(pair: &mut Pair, step: &Step) -> Result<Went> {
    if pair.is_waiting(step.lane) {
        return Ok(Went::Skipped);
    }
    let answer = match pair.step(step)? {
        Ok(answer) => answer,
        Err(difference) => return Ok(Went::Apart(difference)),
    };
    if answer != Outcome::Waits
        && let Err(difference) = pair.settle(step)?
    {
        return Ok(Went::Apart(difference));
    }
    Ok(Went::On(answer))
}

/// Made up as it goes: the steps, and the difference at their end.
fn make_up(pair: &mut Pair, seed: u64) -> Result<(Vec<Step>, Option<Box<Difference>>)> {
    let mut dice = Dice::of(seed);
    let mut world = World::default();
    let mut steps = Vec::new();
    pair.begin();
    let mut ways = Ways::default();
    for n in 0..STEPS {
        if ways.are_apart() {
            break;
        }
        let Some(step) = next(pair, &world, n, &mut dice) else { continue };
        steps.push(step.clone());
        match take(pair, &step)? {
            Went::Apart(difference) => return Ok((steps, Some(difference))),
            Went::On(outcome) => {
                ways.follow(&step, &outcome);
                if let Outcome::Answer(answer) = outcome {
                    learn(&mut world, &step, &answer);
                }
            }
            Went::Skipped => {}
        }
        for (step, compared) in pair.collect()? {
            match compared {
                Err(difference) => return Ok((steps, Some(difference))),
                Ok(outcome) => {
                    ways.follow(&step, &outcome);
                    if let Outcome::Answer(answer) = outcome {
                        learn(&mut world, &step, &answer);
                    }
                }
            }
        }
    }
    for step in if ways.are_apart() { Vec::new() } else { questions() } {
        steps.push(step.clone());
        if let Went::Apart(difference) = take(pair, &step)? {
            return Ok((steps, Some(difference)));
        }
    }
    Ok((steps, None))
}

/// The same steps again, with names of their own.
fn repeat(pair: &mut Pair, steps: &[Step]) -> Result<Option<Box<Difference>>> {
    pair.begin();
    for step in steps {
        if let Went::Apart(difference) = take(pair, step)? {
            return Ok(Some(difference));
        }
        let late: Vec<(Step, Compared)> = pair.collect()?;
        if let Some(difference) = late.into_iter().find_map(|(_, compared)| compared.err()) {
            return Ok(Some(difference));
        }
    }
    Ok(None)
}

fn next(pair: &Pair, world: &World, n: usize, dice: &mut Dice) -> Option<Step> {
    let lane = (0..LANES).map(|_| dice.below(LANES)).find(|lane| !pair.is_waiting(*lane))?;
    // something to work with first
    let name = match n {
        0 | 1 => "CreateTopics",
        2 => "Metadata",
        3 => "InitProducerId",
        _ => {
            let total: usize = APIS.iter().map(|(_, weight)| weight).sum();
            let mut at = dice.below(total);
            APIS.iter().find(|(_, weight)| at.checked_sub(*weight).map(|rest| at = rest).is_none())?.0
        }
    };
    let known = api(name);
    let (from, to) = pair.versions(known)?;
    let newest = dice.chance(40) || n == 2;
    let version = if newest { to } else { from + dice.below((to - from) as usize + 1) as i16 };
    let mut body = match n {
        0 | 1 => json!({ "topics": [{ "name": format!("t{n}%"), "num_partitions": 2, "replication_factor": 1 }] }),
        2 => json!({ "topics": [{ "name": "t0%" }, { "name": "t1%" }], "allow_auto_topic_creation": false }),
        3 => json!({ "transactional_id": "x0%", "transaction_timeout_ms": 60000 }),
        _ => world.body(name, dice),
    };
    if n > 3 && dice.chance(8) {
        let mut all = variants(name, known, version, &body);
        if !all.is_empty() {
            body = all.swap_remove(dice.below(all.len())).body;
        }
    }
    Some(Step { lane, api: name, version, body })
}

/// The state of everything, at the end of a sequence.
fn questions() -> Vec<Step> {
    let topics: Vec<Value> = (0..4).map(|i| json!({ "name": format!("t{i}%") })).collect();
    let producers: Vec<Value> =
        (0..2).map(|i| json!({ "name": format!("t{i}%"), "partition_indexes": [0, 1] })).collect();
    let ends: Vec<Value> = (0..4)
        .map(|i| {
            let partitions: Vec<Value> = (0..3).map(|p| json!({ "partition_index": p, "timestamp": -1 })).collect();
            json!({ "name": format!("t{i}%"), "partitions": partitions })
        })
        .collect();
    let groups = ["g0%", "g1%", "g2%"];
    let offsets: Vec<Value> = groups.iter().map(|g| json!({ "group_id": g, "topics": null })).collect();
    let question = |api, version, body| Step { lane: LANES, api, version, body };
    vec![
        question("Metadata", 12, json!({ "topics": topics })),
        question("ListOffsets", 7, json!({ "replica_id": -1, "isolation_level": 1, "topics": ends })),
        question("ListOffsets", 7, json!({ "replica_id": -1, "isolation_level": 0, "topics": ends })),
        question("DescribeProducers", 0, json!({ "topics": producers })),
        question("ListGroups", 5, json!({})),
        question("DescribeGroups", 6, json!({ "groups": groups })),
        question("ConsumerGroupDescribe", 1, json!({ "group_ids": groups })),
        question("OffsetFetch", 8, json!({ "groups": offsets })),
        question("ListTransactions", 1, json!({})),
    ]
}

/// What later steps can use of an answer.
pub fn learn(world: &mut World, step: &Step, answer: &Value) {
    let ok = answer["error_code"].as_i64() == Some(0);
    let number = |value: &Value| value.as_i64().unwrap_or(-1);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match step.api {
        "JoinGroup" if ok || answer["error_code"] == json!(79) => {
            let Some(id) = text(&answer["member_id"]) else { return };
            let group = text(&step.body["group_id"]).unwrap_or_default();
            world.members.retain(|m| m.id != id);
            let (epoch, instance) = (number(&answer["generation_id"]), text(&step.body["group_instance_id"]));
            world.members.push(Member { group, id, epoch, instance, is_classic: true });
        }
        "ConsumerGroupHeartbeat" if ok => {
            let id = text(&answer["member_id"]).filter(|id| !id.is_empty()).or(text(&step.body["member_id"]));
            let (Some(id), Some(group)) = (id, text(&step.body["group_id"])) else { return };
            let is_same = |m: &Member| m.id == id && m.group == group;
            let instance = text(&step.body["instance_id"]);
            let instance = instance.or_else(|| world.members.iter().find(|m| is_same(m))?.instance.clone());
            world.members.retain(|m| !is_same(m));
            let epoch = number(&answer["member_epoch"]);
            if epoch > 0 {
                world.members.push(Member { group, id, epoch, instance, is_classic: false });
            }
        }
        "InitProducerId" if ok => {
            let Some(transactional_id) = text(&step.body["transactional_id"]) else { return };
            let (id, epoch) = (answer["producer_id"].clone(), number(&answer["producer_epoch"]));
            world.producers.push(Producer { transactional_id, id, epoch, sequence: 0 });
        }
        "EndTxn" if ok && answer.get("producer_id").is_some_and(|id| *id != json!(-1)) => {
            let Some(transactional_id) = text(&step.body["transactional_id"]) else { return };
            let (id, epoch) = (answer["producer_id"].clone(), number(&answer["producer_epoch"]));
            world.producers.push(Producer { transactional_id, id, epoch, sequence: 0 });
        }
        "Produce" if !answer.to_string().contains("\"error_code\":0") => {}
        "Produce" => {
            if let Some(producer) = world.producers.last_mut() {
                producer.sequence += 1;
            }
        }
        "Metadata" | "CreateTopics" => {
            for topic in answer["topics"].as_array().into_iter().flatten() {
                let (Some(name), Some(id)) = (text(&topic["name"]), text(&topic["topic_id"])) else { continue };
                if id.starts_with('$') && !world.topics.iter().any(|(_, known)| *known == id) {
                    world.topics.push((name, id));
                }
            }
        }
        _ => {}
    }
}

/// Drops steps as long as the same difference shows.
fn shrink(pair: &mut Pair, mut steps: Vec<Step>, sign: &str) -> Result<Vec<Step>> {
    let deadline = Instant::now() + std::time::Duration::from_secs(90);
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() && Instant::now() < deadline {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            match repeat(pair, &fewer)? {
                Some(difference) if difference.sign() == sign => steps = fewer,
                _ => at += size,
            }
        }
        size /= 2;
    }
    Ok(steps)
}

fn transcript(seed: u64, steps: &[Step], difference: &Difference) -> String {
    let before: String = steps.iter().map(|step| format!("{step}\n")).collect();
    format!("seed {seed} (MILENA_DIFF_SEED={seed} MILENA_DIFF_SEQUENCES=1):\n{before}then {difference}\n")
}

#[test]
fn random_sequences() -> Result<()> {
    let (first, sequences) = (setting("MILENA_DIFF_SEED", 1), setting("MILENA_DIFF_SEQUENCES", 0));
    let is_short = sequences == 0;
    let mut pair = Pair::start()?;
    let begin = Instant::now();
    let (mut steps_taken, mut found, mut signs, mut unsteady) = (0, Vec::new(), Vec::new(), 0);
    for seed in first..first + if is_short { SEQUENCES } else { sequences } {
        if is_short && begin.elapsed().as_secs() > SHORT_SECONDS {
            println!("time is over before seed {seed}");
            break;
        }
        let (steps, difference) = make_up(&mut pair, seed)?;
        steps_taken += steps.len();
        let Some(difference) = difference else { continue };
        let sign = difference.sign();
        if signs.contains(&sign) {
            continue;
        }
        signs.push(sign.clone());
        if setting("MILENA_DIFF_SHRINK", 1) == 0 {
            println!("seed {seed}, step {}: {difference}\n", steps.len());
            found.push(sign);
            continue;
        }
        // a difference that does not show again was a matter of time
        let again = repeat(&mut pair, &steps)?;
        if again.is_none_or(|d| d.sign() != sign) {
            println!("not seen again: {}", transcript(seed, &steps[steps.len().saturating_sub(3)..], &difference));
            unsteady += 1;
            continue;
        }
        let steps = shrink(&mut pair, steps, &sign)?;
        let text = transcript(seed, &steps, &difference);
        println!("{text}");
        found.push(text);
    }
    let seconds = begin.elapsed().as_secs();
    println!(
        "seeds from {first}: {steps_taken} steps in {seconds} s, {} differences, {unsteady} unsteady",
        found.len()
    );
    ensure!(found.is_empty(), "{} differences from Kafka", found.len());
    Ok(())
}
