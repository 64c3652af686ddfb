//! Which offsets `--reset-offsets` sets: the partitions that the options name, and the scenario.
//!
//! Asks the cluster; writes nothing. Offsets outside a partition's range are moved to its end or start with a warning, as in Kafka.

use std::collections::BTreeMap;

use milena_client::admin::{Admin, CommittedOffset, OffsetSpec};
use milena_common::{Clock, SystemClock, TopicPartition};
use milena_protocol::ErrorCode;

use super::consumer_groups::Failure;
use crate::java::{self, JavaError};
use crate::opts::Parsed;
use crate::tool::{Stop, log_line, out, usage};

/// Offsets to set, in the order in which they are shown.
pub(super) type Plan = Vec<(TopicPartition, CommittedOffset)>;

/// `topic` or `topic:0,1`.
pub(super) struct TopicArgument {
    pub(super) topic: String,
    pub(super) partitions: Option<Vec<i32>>,
}

/// Reads `--topic` arguments.
pub(super) fn topic_arguments(arguments: &[String]) -> Result<Vec<TopicArgument>, Stop> {
    arguments
        .iter()
        .map(|text| {
            let Some((topic, list)) = text.split_once(':') else {
                return Ok(TopicArgument { topic: text.clone(), partitions: None });
            };
            let number = |word: &str| match word.parse::<i32>() {
                Ok(number) => Ok(number),
                Err(_) => usage(format!("Invalid partition '{word}' specified in topic arg '{text}''")),
            };
            let partitions = list.split(',').map(number).collect::<Result<Vec<_>, _>>()?;
            Ok(TopicArgument { topic: topic.to_string(), partitions: Some(partitions) })
        })
        .collect()
}

/// Finds the offsets for one group.
pub(super) async fn plan(admin: &Admin, parsed: &Parsed, group: &str) -> Result<Plan, Failure> {
    let file = match parsed.value("from-file")? {
        Some(path) => Some(from_file(path, group)?),
        None => None,
    };
    let partitions = match &file {
        Some(offsets) => offsets.iter().map(|(tp, _)| tp.clone()).collect(),
        None => partitions(admin, parsed, group).await?,
    };
    let mut chosen = offsets(admin, parsed, group, partitions, file).await?;
    java::partition_order(&mut chosen, |(tp, _)| tp);
    Ok(chosen
        .into_iter()
        .map(|(tp, offset)| (tp, CommittedOffset { offset, leader_epoch: None, metadata: String::new() }))
        .collect())
}

async fn partitions(admin: &Admin, parsed: &Parsed, group: &str) -> Result<Vec<TopicPartition>, Failure> {
    if parsed.has("all-topics") {
        return Ok(admin.client().committed_offsets(group, None, false).await?.into_keys().collect());
    }
    if !parsed.has("topic") {
        return Err(Failure::Stop(Stop::Usage(
            "One of the reset scopes should be defined: --all-topics, --topic.".into(),
        )));
    }
    let arguments = topic_arguments(parsed.values("topic"))?;
    let topics: Vec<String> = arguments.iter().map(|argument| argument.topic.clone()).collect();
    let picture = admin
        .client()
        .retrying("describeTopics", async || admin.client().refresh_metadata(Some(&topics), false).await)
        .await?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for argument in arguments {
        let Some(topic) = picture.topics.get(&argument.topic).filter(|t| t.error == ErrorCode::None) else {
            return Err(unknown("This server does not host this topic-partition."));
        };
        match argument.partitions {
            None => {
                found.extend(topic.partitions.iter().map(|p| TopicPartition::new(topic.name.as_str(), p.partition)))
            }
            Some(list) => {
                for partition in list {
                    let tp = TopicPartition::new(topic.name.as_str(), partition);
                    let known = topic.partitions.iter().any(|p| p.partition == partition);
                    if known { found.push(tp) } else { missing.push(tp.to_string()) }
                }
            }
        }
    }
    if !missing.is_empty() {
        return Err(unknown(&format!("The partitions \"{}\" do not exist", missing.join(", "))));
    }
    Ok(found)
}

fn unknown(message: &str) -> Failure {
    Failure::plain(JavaError {
        class: java::class_of_code(ErrorCode::UnknownTopicOrPartition),
        message: message.into(),
    })
}

async fn offsets(
    admin: &Admin,
    parsed: &Parsed,
    group: &str,
    partitions: Vec<TopicPartition>,
    file: Option<Vec<(TopicPartition, i64)>>,
) -> Result<Vec<(TopicPartition, i64)>, Failure> {
    if let Some(wanted) = file {
        return in_range(admin, wanted).await;
    }
    if let Some(offset) = parsed.number::<i64>("to-offset")? {
        return in_range(admin, partitions.into_iter().map(|tp| (tp, offset)).collect()).await;
    }
    if parsed.has("to-earliest") {
        return listed(admin, &partitions, OffsetSpec::Earliest).await;
    }
    if parsed.has("to-latest") {
        return listed(admin, &partitions, OffsetSpec::Latest).await;
    }
    if let Some(shift) = parsed.number::<i64>("shift-by")? {
        let committed = admin.client().committed_offsets(group, Some(&partitions), false).await?;
        let mut wanted = Vec::new();
        for tp in partitions {
            let Some(current) = committed.get(&tp) else {
                return Err(Failure::Stop(Stop::Usage(format!(
                    "Cannot shift offset for partition {tp} since there is no current committed offset"
                ))));
            };
            wanted.push((tp, current.offset.saturating_add(shift)));
        }
        return in_range(admin, wanted).await;
    }
    if let Some(text) = parsed.value("to-datetime")? {
        return at_time(admin, partitions, datetime(text)?).await;
    }
    if let Some(text) = parsed.value("by-duration")? {
        let ago = duration(text)?;
        return at_time(admin, partitions, SystemClock.now().wall_ms.saturating_sub(ago)).await;
    }
    // --to-current: what is committed, else the end
    let committed = admin.client().committed_offsets(group, Some(&partitions), false).await?;
    let (with, without): (Vec<_>, Vec<_>) = partitions.into_iter().partition(|tp| committed.contains_key(tp));
    let mut chosen: Vec<(TopicPartition, i64)> =
        with.into_iter().filter_map(|tp| committed.get(&tp).map(|c| c.offset).map(|offset| (tp, offset))).collect();
    chosen.extend(listed(admin, &without, OffsetSpec::Latest).await?);
    Ok(chosen)
}

async fn listed(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<Vec<(TopicPartition, i64)>, Failure> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: Vec<_> = partitions.iter().map(|tp| (tp.clone(), spec)).collect();
    let mut found = Vec::new();
    for (tp, result) in admin.list_offsets(&wanted).await? {
        found.push((tp, result?.offset));
    }
    Ok(found)
}

async fn at_time(
    admin: &Admin,
    partitions: Vec<TopicPartition>,
    ms: i64,
) -> Result<Vec<(TopicPartition, i64)>, Failure> {
    let mut found = listed(admin, &partitions, OffsetSpec::Timestamp(ms)).await?;
    let empty: Vec<TopicPartition> = found.iter().filter(|(_, offset)| *offset < 0).map(|(tp, _)| tp.clone()).collect();
    for tp in &empty {
        out(format_args!(
            "\nWarn: Partition {} from topic {} is empty. Falling back to latest known offset.\n",
            tp.partition, tp.topic
        ));
    }
    let ends: BTreeMap<TopicPartition, i64> = listed(admin, &empty, OffsetSpec::Latest).await?.into_iter().collect();
    for (tp, offset) in &mut found {
        if let Some(end) = ends.get(tp) {
            *offset = *end;
        }
    }
    Ok(found)
}

async fn in_range(admin: &Admin, wanted: Vec<(TopicPartition, i64)>) -> Result<Vec<(TopicPartition, i64)>, Failure> {
    let partitions: Vec<TopicPartition> = wanted.iter().map(|(tp, _)| tp.clone()).collect();
    let starts: BTreeMap<_, _> = listed(admin, &partitions, OffsetSpec::Earliest).await?.into_iter().collect();
    let ends: BTreeMap<_, _> = listed(admin, &partitions, OffsetSpec::Latest).await?.into_iter().collect();
    let warn = |offset: i64, side: &str, tp: &TopicPartition, limit: i64| {
        log_line(
            "WARN",
            format_args!(
                "New offset ({offset}) is {side} offset for topic partition {tp}. Value will be set to {limit}"
            ),
            "org.apache.kafka.tools.OffsetsUtils",
        );
    };
    let mut wanted = wanted;
    java::partition_order(&mut wanted, |(tp, _)| tp);
    Ok(wanted
        .into_iter()
        .map(|(tp, offset)| {
            let end = ends.get(&tp).copied().unwrap_or(offset);
            let start = starts.get(&tp).copied().unwrap_or(offset);
            if offset > end {
                warn(offset, "higher than latest", &tp, end);
                (tp, end)
            } else if offset < start {
                warn(offset, "lower than earliest", &tp, start);
                (tp, start)
            } else {
                (tp, offset)
            }
        })
        .collect())
}

#[allow(clippy::disallowed_methods, reason = "the tool reads the file that it is pointed at")]
fn from_file(path: &str, group: &str) -> Result<Vec<(TopicPartition, i64)>, Failure> {
    let io = |what: String| Failure::Java {
        shown: format!("java.io.IOException: {what}"),
        thrown: format!("java.lang.RuntimeException: java.io.IOException: {what}"),
    };
    let text = std::fs::read_to_string(path).map_err(|_| io(format!("Unable to read file {path}")))?;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
        let row = match fields.as_slice() {
            [topic, partition, offset] => Some((topic, partition, offset)),
            [of_group, topic, partition, offset] if *of_group == group => Some((topic, partition, offset)),
            [_, _, _, _] => continue,
            _ => None,
        };
        let parsed = row.and_then(|(topic, partition, offset)| {
            Some((TopicPartition::new(*topic, partition.parse().ok()?), offset.parse().ok()?))
        });
        match parsed {
            Some(entry) => found.push(entry),
            None => return Err(io(format!("Invalid line '{line}' in file {path}"))),
        }
    }
    Ok(found)
}

/// `YYYY-MM-DDThh:mm:ss.sss`, with a zone (`Z`, `+01:00`) or in UTC, as milliseconds.
fn datetime(text: &str) -> Result<i64, Failure> {
    let wrong = |message: String| {
        let shown = format!("java.text.ParseException: {message}");
        Failure::Java { thrown: format!("java.lang.RuntimeException: {shown}"), shown }
    };
    let Some((_, time)) = text.split_once('T') else {
        return Err(wrong("Error parsing timestamp. It does not contain a 'T' according to ISO8601 format".into()));
    };
    let zoned = if time.contains(['Z', '+', '-']) { text.to_string() } else { format!("{text}Z") };
    match zoned.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(time.as_millisecond()),
        Err(_) => Err(wrong(format!("Unparseable date: \"{text}\""))),
    }
}

/// `PnDTnHnMnS` in milliseconds.
fn duration(text: &str) -> Result<i64, Failure> {
    let wrong = || {
        Failure::plain(JavaError {
            class: "java.time.format.DateTimeParseException".into(),
            message: "Text cannot be parsed to a Duration".into(),
        })
    };
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    if span.get_years() != 0 || span.get_months() != 0 || span.get_weeks() != 0 {
        return Err(wrong());
    }
    let day_ms = i64::from(span.get_days()) * 86_400_000;
    let rest = span.days(0).total(jiff::Unit::Millisecond).map_err(|_| wrong())?;
    Ok(day_ms + rest as i64)
}

/// A time, for tools that word failures themselves.
pub(super) fn datetime_ms(text: &str) -> Result<i64, String> {
    datetime(text).map_err(exception)
}

/// A duration, for tools that word failures themselves.
pub(super) fn duration_ms(text: &str) -> Result<i64, String> {
    duration(text).map_err(exception)
}

/// The offsets of a file, for tools that word failures themselves.
pub(super) fn read_csv(path: &str, group: &str) -> Result<Vec<(TopicPartition, i64)>, String> {
    from_file(path, group).map_err(exception)
}

fn exception(failure: Failure) -> String {
    match failure {
        Failure::Java { shown, .. } => shown,
        Failure::Stop(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_count_days_as_24_hours() {
        assert_eq!(duration("PT1H").ok(), Some(3_600_000));
        assert_eq!(duration("P1DT1M0.5S").ok(), Some(86_460_500));
        assert!(duration("abc").is_err() && duration("P1M").is_err());
    }

    #[test]
    fn datetimes_without_a_zone_are_utc() {
        assert_eq!(datetime("1970-01-01T00:00:01.000").ok(), Some(1000));
        assert_eq!(datetime("1970-01-01T01:00:00.000+01:00").ok(), Some(0));
        assert!(datetime("abc").is_err() && datetime("xTy").is_err());
    }

    #[test]
    fn topics_may_name_partitions() {
        let read = topic_arguments(&["a".into(), "b:0,2".into()]).unwrap();
        assert_eq!((read[0].partitions.clone(), read[1].partitions.clone()), (None, Some(vec![0, 2])));
        let Err(Stop::Usage(message)) = topic_arguments(&["t:x".into()]) else { panic!("accepted") };
        assert_eq!(message, "Invalid partition 'x' specified in topic arg 't:x''");
    }
}
