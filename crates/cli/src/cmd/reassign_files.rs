//! The JSON of `kafka-reassign-partitions`: which topics to move, and which partition is to lie where. Pure.

use std::collections::BTreeMap;

use milena_common::TopicPartition;
use serde_json::Value;

use crate::java::JavaError;
use crate::json::{self, quoted};

/// Partitions with their replicas, in the order of the file.
pub(super) type Assignment = Vec<(TopicPartition, Vec<i32>)>;
/// Replica (partition and broker) to the log directory that it is to lie in.
pub(super) type Dirs = BTreeMap<(TopicPartition, i32), String>;

const ANY: &str = "any";

fn operation(message: impl Into<String>) -> JavaError {
    JavaError::of_tools("AdminOperationException", message)
}

fn failed(message: impl Into<String>) -> JavaError {
    JavaError::of_tools("AdminCommandFailedException", message)
}

fn version(root: &Value) -> Result<(), JavaError> {
    let version = match root.get("version") {
        Some(version) => json::int(version)?,
        None => 1,
    };
    if version == 1 { Ok(()) } else { Err(operation(format!("Not supported version field value {version}"))) }
}

/// Reads the file of `--topics-to-move-json-file`.
pub(super) fn topics(text: &str) -> Result<Vec<String>, JavaError> {
    let root = json::parse(text).ok_or_else(|| operation("The input string is not a valid JSON"))?;
    version(&root)?;
    let Some(list) = root.get("topics") else {
        return Ok(Vec::new());
    };
    let names = json::array(list)?.iter().map(|entry| json::text(json::field(json::object(entry)?, "topic")?));
    let names = names.collect::<Result<Vec<String>, JavaError>>()?;
    match twice(&names) {
        twice if twice.is_empty() => Ok(names),
        twice => Err(failed(format!("List of topics to reassign contains duplicate entries: [{}]", twice.join(", ")))),
    }
}

/// Reads `--broker-list`.
pub(super) fn brokers(text: &str) -> Result<Vec<i32>, JavaError> {
    let number = |word: &str| {
        word.parse::<i32>().map_err(|_| JavaError {
            class: "java.lang.NumberFormatException".into(),
            message: format!("For input string: \"{word}\""),
        })
    };
    let ids = text.split(',').map(number).collect::<Result<Vec<i32>, JavaError>>()?;
    match twice(&ids) {
        twice if twice.is_empty() => Ok(ids),
        twice => {
            let twice: Vec<String> = twice.iter().map(ToString::to_string).collect();
            Err(failed(format!("Broker list contains duplicate entries: [{}]", twice.join(", "))))
        }
    }
}

fn twice<T: PartialEq + Clone>(items: &[T]) -> Vec<T> {
    let mut found: Vec<T> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if items.iter().take(index).any(|before| before == item) && !found.contains(item) {
            found.push(item.clone());
        }
    }
    found
}

/// Reads the file of `--reassignment-json-file`.
pub(super) fn assignment(text: &str) -> Result<(Assignment, Dirs), JavaError> {
    let root = serde_json::from_str::<Value>(text).map_err(|error| operation(error.to_string()))?;
    version(&root)?;
    let (mut parts, mut dirs) = (Assignment::new(), Dirs::new());
    let Some(list) = root.get("partitions") else {
        return Ok((parts, dirs));
    };
    for entry in json::array(list)? {
        let entry = json::object(entry)?;
        let topic = json::text(json::field(entry, "topic")?)?;
        let tp = TopicPartition::new(topic, json::int(json::field(entry, "partition")?)?);
        let replicas = json::array(json::field(entry, "replicas")?)?;
        let replicas = replicas.iter().map(json::int).collect::<Result<Vec<i32>, JavaError>>()?;
        let paths = match entry.get("log_dirs") {
            Some(paths) => json::array(paths)?.iter().map(json::text).collect::<Result<Vec<String>, JavaError>>()?,
            None => vec![ANY.to_string(); replicas.len()],
        };
        if paths.len() != replicas.len() {
            return Err(failed(format!(
                "Size of replicas list [{}] is different from size of log dirs list [{}] for partition {tp}",
                listed(&replicas, ", "),
                paths.join(", ")
            )));
        }
        for (broker, path) in replicas.iter().zip(paths).filter(|(_, path)| path != ANY) {
            dirs.insert((tp.clone(), *broker), path);
        }
        parts.push((tp, replicas));
    }
    Ok((parts, dirs))
}

/// Refuses what cannot be executed.
pub(super) fn check(parts: &Assignment) -> Result<(), JavaError> {
    if parts.is_empty() {
        return Err(failed("Partition reassignment list cannot be empty"));
    }
    if parts.iter().any(|(_, replicas)| replicas.is_empty()) {
        return Err(failed("Partition replica list cannot be empty"));
    }
    let names: Vec<String> = parts.iter().map(|(tp, _)| tp.to_string()).collect();
    let doubled = twice(&names);
    if !doubled.is_empty() {
        return Err(failed(format!(
            "Partition reassignment contains duplicate topic partitions: {}",
            doubled.join(",")
        )));
    }
    let doubled: Vec<String> = parts
        .iter()
        .filter_map(|(tp, replicas)| {
            let again = twice(replicas);
            (!again.is_empty()).then(|| format!("{tp} contains multiple entries for {}", listed(&again, ", ")))
        })
        .collect();
    if !doubled.is_empty() {
        return Err(failed(format!(
            "Partition replica lists may not contain duplicate entries: {}",
            doubled.join(". ")
        )));
    }
    Ok(())
}

/// Numbers with something between them.
pub(super) fn listed(ids: &[i32], between: &str) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// An assignment in the form of the file.
pub(super) fn to_json(parts: &BTreeMap<TopicPartition, Vec<i32>>, dirs: &Dirs) -> String {
    let entry = |(tp, replicas): (&TopicPartition, &Vec<i32>)| {
        let paths: Vec<String> = replicas
            .iter()
            .map(|broker| quoted(dirs.get(&(tp.clone(), *broker)).map_or(ANY, String::as_str)))
            .collect();
        format!(
            "{{\"topic\":{},\"partition\":{},\"replicas\":[{}],\"log_dirs\":[{}]}}",
            quoted(&tp.topic),
            tp.partition,
            listed(replicas, ","),
            paths.join(",")
        )
    };
    let entries: Vec<String> = parts.iter().map(entry).collect();
    format!("{{\"version\":1,\"partitions\":[{}]}}", entries.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let parts = BTreeMap::from([(TopicPartition::new("t", 1), vec![2, 3])]);
        let dirs = Dirs::from([((TopicPartition::new("t", 1), 3), "/d".to_string())]);
        let text = to_json(&parts, &dirs);
        assert_eq!(
            text,
            r#"{"version":1,"partitions":[{"topic":"t","partition":1,"replicas":[2,3],"log_dirs":["any","/d"]}]}"#
        );
        assert_eq!(assignment(&text).unwrap(), (parts.into_iter().collect(), dirs));
    }

    #[test]
    fn doubles_are_refused() {
        let t = TopicPartition::new("t", 0);
        let words = |parts: &Assignment| check(parts).unwrap_err().message;
        assert_eq!(words(&vec![]), "Partition reassignment list cannot be empty");
        assert!(words(&vec![(t.clone(), vec![1, 1])]).ends_with("t-0 contains multiple entries for 1"));
        assert!(words(&vec![(t.clone(), vec![1]), (t, vec![1])]).ends_with("duplicate topic partitions: t-0"));
        assert_eq!(brokers("1,1").unwrap_err().message, "Broker list contains duplicate entries: [1]");
    }
}
