//! Answers in words that both brokers share: ids as tokens in the order in which they first appear, times and places blank, lists that
//! Kafka gives in no order sorted. Owns what must be so treated; whether two answers are equal is for `pair`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What a side's ids are called in common, and the other way round.
pub struct Names {
    /// Text of this side only, and what stands for it.
    places: Vec<(String, &'static str)>,
    /// The suffix of the names of the sequence that runs.
    pub suffix: String,
    by_id: BTreeMap<(&'static str, String), String>,
    by_token: BTreeMap<String, String>,
}

impl Names {
    pub fn new(folder: String, port: String) -> Names {
        let places = vec![(folder, "$folder"), (format!("127.0.0.1:{port}"), "$address"), (port, "$port")];
        Names { places, suffix: String::new(), by_id: BTreeMap::new(), by_token: BTreeMap::new() }
    }

    /// Another sequence: its names end in this suffix, and no id is known.
    pub fn begin(&mut self, suffix: &str) {
        self.suffix = suffix.to_owned();
        self.by_id.clear();
        self.by_token.clear();
    }

    /// What a string of a request stands for on this side: `%` is the suffix, `$kind1` a token, `$folder` a place.
    pub fn resolve(&self, text: &str) -> String {
        if let Some(id) = self.by_token.get(text) {
            return id.clone();
        }
        let mut text = text.replace('%', &self.suffix);
        if text.contains("$folder") {
            text = text.replace("$folder", &self.places[0].0);
        }
        text
    }

    fn token(&self, kind: &'static str, id: &str) -> Option<&String> {
        self.by_id.get(&(kind, id.to_owned()))
    }

    fn bind(&mut self, kind: &'static str, id: String) {
        let number = self.by_id.keys().filter(|(k, _)| *k == kind).count() + 1;
        let token = format!("${kind}{number}");
        self.by_token.insert(token.clone(), id.clone());
        self.by_id.insert((kind, id), token);
    }

    /// A text with everything replaced that only this side says.
    fn common(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for ((kind, id), token) in self.by_id.iter().filter(|((_, id), _)| id.len() > 9) {
            if text.contains(id.as_str()) {
                text = text.replace(id.as_str(), token);
            }
            if *kind == "uuid" && text.len() >= 22 {
                text = text.replace(&base64(id), token);
            }
        }
        if !self.suffix.is_empty() {
            text = text.replace(&self.suffix, "%");
        }
        for (place, word) in &self.places {
            text = text.replace(place.as_str(), word);
        }
        text
    }
}

/// A uuid as Kafka's messages show it.
fn base64(id: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = u128::from_str_radix(id.trim_start_matches("uuid:"), 16).unwrap_or_default();
    // 22 digits of six bits, the last of which has four bits of zero
    let digits = (0..22).map(|i| {
        let shift = 128 - 6 * (i + 1);
        let six = if shift >= 0 { number >> shift } else { number << -shift };
        char::from(LETTERS[(six & 63) as usize])
    });
    digits.collect()
}

/// Fields that hold an id of this kind.
fn kind_of(api: &str, field: &str, value: &Value) -> Option<&'static str> {
    match (field, value) {
        ("member_id", Value::String(id)) if id.len() > 20 => Some("member"),
        ("leader", Value::String(id)) if api == "JoinGroup" && id.len() > 20 => Some("member"),
        ("producer_id" | "ongoing_txn_producer_id", Value::Number(id)) if id.as_i64().is_some_and(|id| id >= 0) => {
            Some("pid")
        }
        ("session_id", Value::Number(id)) if id.as_i64() != Some(0) => Some("session"),
        (_, Value::String(id)) if id.starts_with("uuid:") && id != "uuid:0" => Some("uuid"),
        _ => None,
    }
}

/// Fields that differ for no fault: the time, the room on the disk, how far the metadata log is.
const BLANK: &[(&str, &str)] = &[
    ("", "total_bytes"),
    ("", "usable_bytes"),
    ("", "transaction_start_time_ms"),
    ("", "last_timestamp"),
    ("", "last_fetch_timestamp"),
    ("", "last_caught_up_timestamp"),
    ("", "log_append_time_ms"),
    ("", "finalized_features_epoch"),
    ("", "documentation"),
    ("DescribeQuorum", "log_end_offset"),
    ("DescribeQuorum", "high_watermark"),
    ("DescribeQuorum", "leader_epoch"),
    ("DescribeQuorum", "port"),
    // Milena serves more old versions, and not yet all APIs
    ("ApiVersions", "api_keys"),
];

/// Lists that Kafka takes from a hash map or a set, so that their order says nothing.
const UNORDERED: &[(&str, &str)] = &[
    ("Metadata", "topics"),
    ("Metadata", "partitions"),
    ("DescribeGroups", "groups"),
    ("DescribeGroups", "members"),
    ("JoinGroup", "members"),
    ("ConsumerGroupDescribe", "groups"),
    ("ConsumerGroupDescribe", "members"),
    ("ConsumerGroupDescribe", "topic_partitions"),
    ("ConsumerGroupDescribe", "partitions"),
    ("ConsumerGroupDescribe", "subscribed_topic_names"),
    ("ConsumerGroupHeartbeat", "topic_partitions"),
    ("ConsumerGroupHeartbeat", "partitions"),
    ("ListGroups", "groups"),
    ("DeleteGroups", "results"),
    ("OffsetFetch", "groups"),
    ("OffsetFetch", "topics"),
    ("OffsetFetch", "partitions"),
    ("DescribeConfigs", "configs"),
    ("CreateTopics", "configs"),
    ("CreateTopics", "topics"),
    ("DeleteTopics", "responses"),
    ("CreatePartitions", "results"),
    ("DescribeLogDirs", "results"),
    ("DescribeLogDirs", "topics"),
    ("DescribeLogDirs", "partitions"),
    ("AlterReplicaLogDirs", "results"),
    ("AlterReplicaLogDirs", "partitions"),
    ("DescribeProducers", "active_producers"),
    ("ListTransactions", "transaction_states"),
    ("ListTransactions", "unknown_state_filters"),
    ("DescribeTransactions", "topics"),
    ("DescribeTransactions", "partitions"),
    ("DescribeUserScramCredentials", "results"),
    ("AlterUserScramCredentials", "results"),
    ("DescribeClientQuotas", "entries"),
    ("DescribeClientQuotas", "entity"),
    ("DescribeClientQuotas", "values"),
    ("AlterClientQuotas", "entries"),
    ("AlterClientQuotas", "entity"),
    ("ListConfigResources", "config_resources"),
    ("AlterConfigs", "responses"),
    ("IncrementalAlterConfigs", "responses"),
    ("ElectLeaders", "replica_election_results"),
    ("ElectLeaders", "partition_result"),
    ("AddPartitionsToTxn", "results_by_topic_v3_and_below"),
    ("AddPartitionsToTxn", "results_by_transaction"),
    ("AddPartitionsToTxn", "topic_results"),
    ("AddPartitionsToTxn", "results_by_partition"),
    ("WriteTxnMarkers", "markers"),
    ("WriteTxnMarkers", "topics"),
    ("WriteTxnMarkers", "partitions"),
    ("TxnOffsetCommit", "topics"),
    ("DeleteRecords", "topics"),
    ("DeleteRecords", "partitions"),
    ("OffsetForLeaderEpoch", "topics"),
    ("OffsetForLeaderEpoch", "partitions"),
    ("ListOffsets", "topics"),
    ("ListOffsets", "partitions"),
    ("Produce", "responses"),
    ("Produce", "partition_responses"),
    ("OffsetDelete", "topics"),
    ("OffsetDelete", "partitions"),
    ("DescribeTopicPartitions", "topics"),
    ("ApiVersions", "supported_features"),
    ("ApiVersions", "finalized_features"),
];

/// Lists of everything there is: what does not belong to the sequence that runs is left out. The field that names an element.
const EVERYTHING: &[(&str, &str, &str)] = &[
    ("Metadata", "topics", "name"),
    ("ListGroups", "groups", "group_id"),
    ("ListTransactions", "transaction_states", "transactional_id"),
    ("ListConfigResources", "config_resources", "resource_name"),
    ("DescribeUserScramCredentials", "results", "user"),
    ("DescribeLogDirs", "topics", "name"),
    ("ElectLeaders", "replica_election_results", "topic"),
];

/// An answer in common words. Ids that nobody knows yet become `?kind1` and so on; [`bind`] gives them their tokens.
pub fn normal(api: &str, answer: &Value, names: &Names, is_everything: bool) -> (Value, Vec<(&'static str, String)>) {
    let mut answer = answer.clone();
    if api == "DescribeLogDirs" {
        forget_directories(&mut answer);
    }
    let marked = mark(api, "", &answer, names, is_everything);
    let sorted = sort(api, "", marked);
    let mut fresh = Vec::new();
    let value = number(sorted, &mut fresh);
    (value, fresh)
}

/// In which directory a partition lies is chance: all lie in the first.
fn forget_directories(answer: &mut Value) {
    let Some(dirs) = answer["results"].as_array_mut() else { return };
    let mut partitions = Vec::new();
    for dir in dirs.iter_mut() {
        for topic in dir["topics"].as_array().into_iter().flatten() {
            for partition in topic["partitions"].as_array().into_iter().flatten() {
                partitions.push(json!({ "name": topic["name"], "partition": partition }));
            }
        }
        dir["topics"] = json!([]);
    }
    if let Some(first) = dirs.first_mut() {
        first["topics"] = Value::Array(partitions);
    }
}

/// Gives tokens to ids that are new.
pub fn bind(names: &mut Names, fresh: Vec<(&'static str, String)>) {
    for (kind, id) in fresh {
        names.bind(kind, id);
    }
}

/// Whether the words of messages are compared too (`MILENA_DIFF_TEXTS=1`).
fn compares_texts() -> bool {
    super::setting("MILENA_DIFF_TEXTS", 0) > 0
}

/// The first step: what is known by its token, what is not as `["?kind", id]`.
fn mark(api: &str, field: &str, value: &Value, names: &Names, is_everything: bool) -> Value {
    let is = |(a, f): &(&str, &str)| (a.is_empty() || *a == api) && *f == field;
    if BLANK.iter().any(is) {
        return if value.is_null() || *value == json!(-1) { value.clone() } else { json!("(blank)") };
    }
    if let Some(kind) = kind_of(api, field, value) {
        let id = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        return match names.token(kind, &id) {
            Some(token) => json!(token),
            None => json!({ "?": kind, "id": id }),
        };
    }
    match value {
        // the leader's clock
        Value::Number(n) if field == "timestamp" && n.as_i64().is_some_and(|ms| ms > 1_750_000_000_000) => {
            json!("(now)")
        }
        // what a message says is each broker's own; that there is one is not
        Value::String(text) if field == "error_message" && !compares_texts() => {
            json!(if text.is_empty() { "" } else { "(text)" })
        }
        Value::String(text) => json!(names.common(text)),
        Value::Number(n) if field == "port" && n.to_string() == names.places[2].0 => json!("$port"),
        Value::Array(items) => {
            let own = EVERYTHING.iter().find(|(a, f, _)| is_everything && *a == api && *f == field);
            let belongs = |item: &&Value| {
                // a setting of Milena's own
                item["name"] != "ack.durability"
                    && own
                        .is_none_or(|(_, _, name)| item[name].as_str().is_some_and(|name| name.contains(&names.suffix)))
            };
            Value::Array(items.iter().filter(belongs).map(|i| mark(api, field, i, names, is_everything)).collect())
        }
        Value::Object(fields) => {
            let marked = fields.iter().map(|(name, v)| (name.clone(), mark(api, name, v, names, is_everything)));
            Value::Object(marked.collect())
        }
        other => other.clone(),
    }
}

fn sort(api: &str, field: &str, value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(|i| sort(api, field, i)).collect();
            if UNORDERED.contains(&(api, field)) {
                items.sort_by_cached_key(anonymous);
            }
            Value::Array(items)
        }
        Value::Object(fields) if !fields.contains_key("?") => {
            Value::Object(fields.into_iter().map(|(name, v)| (name.clone(), sort(api, &name, v))).collect())
        }
        other => other,
    }
}

/// The text of a value without what unknown ids are.
fn anonymous(value: &Value) -> String {
    match value {
        Value::Object(fields) => match fields.get("?") {
            Some(kind) => format!("?{kind}"),
            None => fields.iter().map(|(name, v)| format!("{name}:{},", anonymous(v))).collect(),
        },
        Value::Array(items) => items.iter().map(|i| anonymous(i) + ",").collect(),
        // numbers in their order
        Value::Number(n) => n.as_i64().map_or_else(|| n.to_string(), |n| format!("{:020}", i128::from(n) + (1 << 64))),
        other => other.to_string(),
    }
}

fn number(value: Value, fresh: &mut Vec<(&'static str, String)>) -> Value {
    match value {
        Value::Object(mut fields) if fields.contains_key("?") => {
            let kind = match fields["?"].as_str() {
                Some("member") => "member",
                Some("pid") => "pid",
                Some("session") => "session",
                _ => "uuid",
            };
            let id = fields.remove("id").and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_default();
            let entry = (kind, id);
            let at = fresh.iter().position(|known| *known == entry).unwrap_or_else(|| {
                fresh.push(entry);
                fresh.len() - 1
            });
            json!(format!("?{kind}{}", at + 1))
        }
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(name, v)| (name, number(v, fresh))).collect()),
        Value::Array(items) => Value::Array(items.into_iter().map(|i| number(i, fresh)).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::new("/tmp/x".into(), "9092".into());
        names.begin("-7z");
        names
    }

    #[test]
    fn ids_get_tokens_in_the_order_of_their_appearance() {
        let mut names = names();
        let answer = json!({ "leader": "aaaaaaaaaaaaaaaaaaaa-2", "member_id": "aaaaaaaaaaaaaaaaaaaa-1", "group_id": "g0-7z",
            "members": [{ "member_id": "aaaaaaaaaaaaaaaaaaaa-2", "metadata": "b" }, { "member_id": "aaaaaaaaaaaaaaaaaaaa-1", "metadata": "a" }] });
        let (value, fresh) = normal("JoinGroup", &answer, &names, false);
        let expected = json!({ "leader": "?member1", "member_id": "?member2", "group_id": "g0%",
            "members": [{ "member_id": "?member2", "metadata": "a" }, { "member_id": "?member1", "metadata": "b" }] });
        assert_eq!(value, expected);
        bind(&mut names, fresh);
        assert_eq!(names.resolve("$member1"), "aaaaaaaaaaaaaaaaaaaa-2");
        assert_eq!(
            names.common("member aaaaaaaaaaaaaaaaaaaa-1 of g0-7z at /tmp/x/data"),
            "member $member2 of g0% at $folder/data"
        );
    }

    #[test]
    fn a_uuid_is_known_in_messages_too() {
        let mut names = names();
        bind(&mut names, vec![("uuid", "uuid:10000000000000000000000000000001".into())]);
        assert_eq!(names.common("topic EAAAAAAAAAAAAAAAAAAAAQ is gone"), "topic $uuid1 is gone");
    }
}
