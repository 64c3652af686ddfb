//! The same requests to Milena and to Apache Kafka, and the first answer that differs. Owns both sides, the order of what waits, and the
//! patience with what Kafka does a moment later than it says. Called by the random and by the systematic test.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use milena_compat::installation::Program;
use serde_json::{Value, json};

use super::listed;
use super::normal::{bind, normal};
use super::schema::{Api, api};
use super::side::{LANES, Outcome, Side};

/// How long an answer may take that does not wait for other members.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long we listen for an answer that may have to wait for other members.
const LISTEN: Duration = Duration::from_millis(250);
/// How long one side may be later than the other.
const LAG: Duration = Duration::from_secs(4);
/// The connection for questions of ours.
const PROBE: usize = LANES;

/// One request.
#[derive(Debug, Clone)]
pub struct Step {
    pub lane: usize,
    pub api: &'static str,
    pub version: i16,
    pub body: Value,
}

impl Step {
    pub fn new(api: &'static str, version: i16, body: Value) -> Step {
        Step { lane: 0, api, version, body }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {}: {} v{} {}", self.lane, self.api, self.version, self.body)
    }
}

/// Where the two differ.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The request that was answered so.
    pub step: Step,
    pub kafka: Outcome,
    pub milena: Outcome,
}

impl Difference {
    /// What makes two differences the same finding: the API and the paths at which the answers differ.
    pub fn sign(&self) -> String {
        let mut paths = Vec::new();
        match (&self.kafka, &self.milena) {
            (Outcome::Answer(a), Outcome::Answer(b)) => differing(a, b, String::new(), &mut paths),
            (a, b) => paths.push(format!("{} / {}", word(a), word(b))),
        }
        format!("{}: {}", self.step.api, paths.join(", "))
    }
}

fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answer(_) => "answer".into(),
        other => format!("{other:?}"),
    }
}

fn differing(a: &Value, b: &Value, path: String, out: &mut Vec<String>) {
    let mut note = |text: String| {
        if !out.contains(&text) {
            out.push(text);
        }
    };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for name in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                let (a, b) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
                differing(a, b, format!("{path}.{name}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (a, b) in a.iter().zip(b) {
                differing(a, b, path.clone(), out);
            }
        }
        (Value::Array(a), Value::Array(b)) => note(format!("{path}: {} / {} elements", a.len(), b.len())),
        (a, b) if a != b => {
            let short = |v: &Value| v.to_string().chars().take(160).collect::<String>();
            note(format!("{path}: {} / {}", short(a), short(b)));
        }
        _ => {}
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |outcome: &Outcome| match outcome {
            Outcome::Answer(value) => value.to_string().chars().take(700).collect(),
            other => format!("{other:?}"),
        };
        writeln!(f, "{}", self.step)?;
        writeln!(f, "  kafka:  {}", show(&self.kafka))?;
        writeln!(f, "  milena: {}", show(&self.milena))?;
        write!(f, "  kafka / milena at {}", self.sign())
    }
}

/// What a step came to on both sides, in common words.
pub type Compared = std::result::Result<Outcome, Box<Difference>>;

/// See the module.
pub struct Pair {
    pub kafka: Side,
    pub milena: Side,
    runs: u32,
    probes: u32,
    pending: Vec<Step>,
}

impl Pair {
    /// Starts both.
    pub fn start() -> Result<Pair> {
        let kafka = std::thread::spawn(|| Side::start(Program::Kafka("4.3.1")));
        let milena = Side::start(Program::Milena)?;
        let kafka = kafka.join().map_err(|_| anyhow::anyhow!("starting Kafka panicked"))??;
        let mut pair = Pair { kafka, milena, runs: 0, probes: 0, pending: Vec::new() };
        pair.warm_up()?;
        Ok(pair)
    }

    /// The topics of coordinators are made when they are first needed; Kafka answers that it is not ready until they are.
    fn warm_up(&mut self) -> Result<()> {
        self.begin();
        for key_type in [0, 1] {
            let body = json!({ "key": "warm%", "key_type": key_type });
            let step = Step::new("FindCoordinator", 3, body);
            let deadline = Instant::now() + PATIENCE;
            loop {
                let (kafka, milena) = self.ask(&step)?;
                let is_ready = |o: &Outcome| matches!(o, Outcome::Answer(a) if a["error_code"] == json!(0));
                if is_ready(&kafka) && is_ready(&milena) {
                    break;
                }
                ensure!(Instant::now() < deadline, "no coordinator: {kafka:?} {milena:?}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        for step in [
            Step::new("InitProducerId", 4, json!({ "transactional_id": "warm%", "transaction_timeout_ms": 60000 })),
            Step::new("OffsetFetch", 7, json!({ "group_id": "warm%", "topics": null })),
        ] {
            let deadline = Instant::now() + PATIENCE;
            while let Err(difference) = self.step(&step)? {
                ensure!(Instant::now() < deadline, "while warming up:\n{difference}");
            }
        }
        Ok(())
    }

    /// The versions that both serve.
    pub fn versions(&self, api: &Api) -> Option<(i16, i16)> {
        let (k, m) = (self.kafka.versions.get(&api.key)?, self.milena.versions.get(&api.key)?);
        // Kafka 4 names versions 0-2 of Produce for old librdkafkas, and closes on them
        let oldest = if api.key == 0 { 3 } else { 0 };
        Some((k.0.max(m.0).max(oldest), k.1.min(m.1)))
    }

    /// Begins another sequence, with names and connections of its own.
    pub fn begin(&mut self) {
        self.runs += 1;
        let suffix = format!("-r{}z", self.runs);
        for side in [&mut self.kafka, &mut self.milena] {
            side.names.begin(&suffix);
            (0..LANES).for_each(|lane| side.hang_up(lane));
        }
        self.pending.clear();
    }

    /// Whether the lane waits for an answer.
    pub fn is_waiting(&self, lane: usize) -> bool {
        self.kafka.is_waiting(lane) || self.milena.is_waiting(lane)
    }

    fn ask(&mut self, step: &Step) -> Result<(Outcome, Outcome)> {
        let known = api(step.api);
        self.kafka.send(step.lane, known, step.version, &step.body)?;
        self.milena.send(step.lane, known, step.version, &step.body)?;
        let may_wait = may_wait(step.api);
        let patience = if may_wait { LISTEN } else { PATIENCE };
        let mut kafka = self.kafka.receive(step.lane, patience)?;
        let mut milena = self.milena.receive(step.lane, if may_wait { Duration::from_millis(20) } else { PATIENCE })?;
        if kafka == Outcome::Waits && milena != Outcome::Waits {
            kafka = self.kafka.receive(step.lane, LAG)?;
        }
        if milena == Outcome::Waits && kafka != Outcome::Waits {
            milena = self.milena.receive(step.lane, LAG)?;
        }
        Ok((kafka, milena))
    }

    /// Sends a step to both and compares, with patience for what takes a moment.
    pub fn step(&mut self, step: &Step) -> Result<Compared> {
        let begin = Instant::now();
        let (mut kafka, mut milena) = self.ask(step)?;
        loop {
            if kafka == Outcome::Waits && milena == Outcome::Waits && may_wait(step.api) {
                self.pending.push(step.clone());
                return Ok(Ok(Outcome::Waits));
            }
            let compared = self.compare(step, &kafka, &milena);
            let Err(difference) = &compared else { return Ok(compared) };
            let (k, m) = (errors_of(&difference.kafka), errors_of(&difference.milena));
            if begin.elapsed() > LAG || [&kafka, &milena].iter().any(|o| matches!(o, Outcome::Closed | Outcome::Waits))
            {
                return Ok(compared);
            }
            std::thread::sleep(Duration::from_millis(40));
            if is_question(step.api) {
                (kafka, milena) = self.ask(step)?;
            } else if passes(&k, &m) {
                self.kafka.send(step.lane, api(step.api), step.version, &step.body)?;
                kafka = self.kafka.receive(step.lane, PATIENCE)?;
            } else if passes(&m, &k) {
                self.milena.send(step.lane, api(step.api), step.version, &step.body)?;
                milena = self.milena.receive(step.lane, PATIENCE)?;
            } else {
                return Ok(compared);
            }
        }
    }

    fn compare(&mut self, step: &Step, kafka: &Outcome, milena: &Outcome) -> Compared {
        let all = is_about_everything(step);
        let as_kafka_said = kafka;
        let word = |outcome: &Outcome, side: &Side| match outcome {
            Outcome::Answer(answer) => {
                let (value, fresh) = normal(step.api, answer, &side.names, all);
                (Outcome::Answer(value), fresh)
            }
            other => (other.clone(), Vec::new()),
        };
        let (kafka, fresh_kafka) = word(kafka, &self.kafka);
        let (milena, fresh_milena) = word(milena, &self.milena);
        if kafka == milena || listed::is_known(step, &kafka, &milena) {
            // a listed difference may leave one side with an id more, which nothing can be compared by
            if fresh_kafka.len() == fresh_milena.len() {
                bind(&mut self.kafka.names, fresh_kafka);
                bind(&mut self.milena.names, fresh_milena);
            }
            // once more: now the new ids have tokens
            return Ok(word(as_kafka_said, &self.kafka).0);
        }
        Err(Box::new(Difference { step: step.clone(), kafka, milena }))
    }

    /// What came on lanes that waited: each is compared with the other side's.
    pub fn collect(&mut self) -> Result<Vec<(Step, Compared)>> {
        let mut seen = Vec::new();
        let waiting = std::mem::take(&mut self.pending);
        let mut patience = Duration::from_millis(30);
        for step in waiting {
            let mut kafka = self.kafka.receive(step.lane, patience)?;
            let mut milena = self.milena.receive(step.lane, Duration::from_millis(1))?;
            patience = Duration::from_millis(5);
            if kafka == Outcome::Waits && milena == Outcome::Waits {
                self.pending.push(step);
                continue;
            }
            if kafka == Outcome::Waits {
                kafka = self.kafka.receive(step.lane, LAG)?;
            }
            if milena == Outcome::Waits {
                milena = self.milena.receive(step.lane, LAG)?;
            }
            let compared = self.compare(&step, &kafka, &milena);
            seen.push((step, compared));
        }
        Ok(seen)
    }

    /// Questions after a step that changes something: they end when both sides are where the step leaves them.
    pub fn settle(&mut self, step: &Step) -> Result<std::result::Result<(), Box<Difference>>> {
        let names = |prefix: &str, n: usize| -> Vec<String> { (0..n).map(|i| format!("{prefix}{i}%")).collect() };
        let mut probes = Vec::new();
        match step.api {
            "CreateTopics" | "DeleteTopics" | "CreatePartitions" => {
                let topics: Vec<Value> = names("t", 4).iter().map(|name| json!({ "name": name })).collect();
                probes.push(Step::new("Metadata", 12, json!({ "topics": topics, "allow_auto_topic_creation": false })));
            }
            "AlterConfigs" | "IncrementalAlterConfigs" => {
                let resources =
                    names("t", 4).into_iter().map(|n| (2, n)).chain(names("g", 3).into_iter().map(|n| (32, n)));
                let resources: Vec<Value> = resources
                    .map(|(kind, name)| json!({ "resource_type": kind, "resource_name": name, "configuration_keys": null }))
                    .collect();
                probes.push(Step::new("DescribeConfigs", 4, json!({ "resources": resources })));
            }
            "AlterUserScramCredentials" => {
                probes.push(Step::new("DescribeUserScramCredentials", 0, json!({ "users": null })));
            }
            "EndTxn" | "InitProducerId" | "AddPartitionsToTxn" | "WriteTxnMarkers" => {
                let ids = json!({ "transactional_ids": names("x", 2) });
                probes.push(Step::new("DescribeTransactions", 0, ids));
            }
            _ => return Ok(Ok(())),
        }
        for mut probe in probes {
            probe.lane = PROBE;
            let begin = Instant::now();
            loop {
                match self.step(&probe)? {
                    Err(difference) => return Ok(Err(difference)),
                    Ok(Outcome::Answer(answer))
                        if answer.to_string().contains("\"Prepare") && begin.elapsed() < LAG =>
                    {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    Ok(_) => break,
                }
            }
        }
        if matches!(step.api, "CreateTopics" | "DeleteTopics" | "CreatePartitions") {
            return self.settle_coordinators();
        }
        Ok(Ok(()))
    }

    /// Kafka's coordinator of groups hears of topics last of all: members of groups of our own ask until they get what there is.
    fn settle_coordinators(&mut self) -> Result<std::result::Result<(), Box<Difference>>> {
        let begin = Instant::now();
        loop {
            self.probes += 1;
            let body = json!({ "group_id": format!("p{}%", self.probes), "member_id": "p%", "member_epoch": 0,
                "rebalance_timeout_ms": 60000, "subscribed_topic_names": ["t0%", "t1%", "t2%", "t3%"], "topic_partitions": [] });
            let mut probe = Step::new("ConsumerGroupHeartbeat", 1, body);
            probe.lane = PROBE;
            let compared = self.step(&probe)?;
            probe.body["member_epoch"] = json!(-1);
            if self.step(&probe)?.is_ok() && compared.is_ok() {
                return Ok(Ok(()));
            }
            match compared {
                Err(difference) if begin.elapsed() > 2 * LAG => return Ok(Err(difference)),
                _ => std::thread::sleep(Duration::from_millis(40)),
            }
        }
    }
}

/// Requests that wait for other members of their group.
fn may_wait(api: &str) -> bool {
    matches!(api, "JoinGroup" | "SyncGroup")
}

/// Requests that change nothing, so that they can be asked again.
pub fn is_question(api: &str) -> bool {
    api.starts_with("Describe")
        || api.starts_with("List")
        || matches!(
            api,
            "Metadata"
                | "OffsetFetch"
                | "FindCoordinator"
                | "ApiVersions"
                | "OffsetForLeaderEpoch"
                | "ConsumerGroupDescribe"
        )
}

/// Whether the question is one after everything there is.
fn is_about_everything(step: &Step) -> bool {
    let is_empty = |field: &str| match step.body.get(field) {
        None | Some(Value::Null) => true,
        Some(other) => other.as_array().is_some_and(Vec::is_empty),
    };
    match step.api {
        "Metadata" => is_empty("topics"),
        "DescribeUserScramCredentials" => is_empty("users"),
        "DescribeLogDirs" => is_empty("topics"),
        "ElectLeaders" => is_empty("topic_partitions"),
        "ListGroups" | "ListTransactions" | "ListConfigResources" => true,
        _ => false,
    }
}

/// Errors that pass by themselves: NOT_LEADER, UNKNOWN_TOPIC, the coordinator's moods, CONCURRENT_TRANSACTIONS, UNKNOWN_TOPIC_ID.
const PASSING: &[i64] = &[3, 5, 6, 14, 15, 16, 51, 100];

/// Whether the first side has an error that passes, and the second has not.
fn passes(first: &[i64], second: &[i64]) -> bool {
    first.iter().any(|code| PASSING.contains(code) && !second.contains(code))
}

fn errors_of(outcome: &Outcome) -> Vec<i64> {
    fn walk(value: &Value, out: &mut Vec<i64>) {
        match value {
            Value::Array(items) => items.iter().for_each(|i| walk(i, out)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_i64() {
                        Some(code) if name.ends_with("error_code") => out.push(code),
                        _ => walk(value, out),
                    }
                }
            }
            _ => {}
        }
    }
    let mut out = Vec::new();
    if let Outcome::Answer(answer) = outcome {
        walk(answer, &mut out);
    }
    out
}
