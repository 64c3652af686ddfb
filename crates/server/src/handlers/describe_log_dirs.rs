//! DescribeLogDirs (key 35), versions 0-5: what is in each log directory, and how much room it has (KIP-113, KIP-827).
//!
//! Gap: no directory is cordoned.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_common::TopicPartition;
use milena_log::{LogDir, UnifiedLog};
use milena_protocol::ErrorCode;
use milena_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use milena_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use milena_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use crate::broker::Broker;
use crate::request::{Handler, Reply, RequestContext};

pub(crate) struct DescribeLogDirs;

type Wanted = HashMap<String, HashSet<i32>>;

impl Handler for DescribeLogDirs {
    type Request = DescribeLogDirsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(
        _cx: &RequestContext,
        broker: &Arc<Broker>,
        request: DescribeLogDirsRequest,
    ) -> Reply<DescribeLogDirsResponse> {
        let wanted = request.topics.map(wanted);
        let logs = broker.replicas.logs();
        let copies = logs.future_logs();
        let results = logs.all_by_dir().into_iter().map(|(dir, here)| {
            let current =
                here.iter().map(|log| described(log, (log.high_watermark() - log.log_end_offset()).max(0), false));
            let copies = copies.iter().filter(|(at, _)| at.path == dir.path).map(|(_, copy)| {
                let end = logs.get(copy.topic_partition()).map_or(0, |log| log.log_end_offset());
                described(copy, end - copy.log_end_offset(), true)
            });
            describe(&dir, current.chain(copies), wanted.as_ref())
        });
        let results = results.collect();
        Reply::Now(DescribeLogDirsResponse { results, ..Default::default() })
    }
}

fn wanted(topics: Vec<DescribableLogDirTopic>) -> Wanted {
    let mut wanted = Wanted::new();
    for topic in topics {
        wanted.entry(topic.topic).or_default().extend(topic.partitions);
    }
    wanted
}

fn described(log: &UnifiedLog, offset_lag: i64, is_future_key: bool) -> (TopicPartition, DescribeLogDirsPartition) {
    let partition = log.topic_partition().clone();
    let described = DescribeLogDirsPartition {
        partition_index: partition.partition,
        partition_size: i64::try_from(log.size_in_bytes()).unwrap_or(i64::MAX),
        offset_lag,
        is_future_key,
    };
    (partition, described)
}

fn describe(
    dir: &LogDir,
    logs: impl Iterator<Item = (TopicPartition, DescribeLogDirsPartition)>,
    wanted: Option<&Wanted>,
) -> DescribeLogDirsResult {
    let log_dir = dir.path.display().to_string();
    if !dir.online {
        let error_code = ErrorCode::KafkaStorageError.code();
        return DescribeLogDirsResult { error_code, log_dir, ..Default::default() };
    }
    let mut topics = BTreeMap::<Arc<str>, Vec<DescribeLogDirsPartition>>::new();
    for (partition, log) in logs {
        let asked = |wanted: &Wanted| {
            wanted.get(&*partition.topic).is_some_and(|partitions| partitions.contains(&partition.partition))
        };
        if wanted.is_none_or(asked) {
            topics.entry(partition.topic).or_default().push(log);
        }
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|p| (p.partition_index, p.is_future_key));
        DescribeLogDirsTopic { name: name.to_string(), partitions }
    });
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let (total_bytes, usable_bytes) = dir.space().map_or((-1, -1), |(all, free)| (bytes(all), bytes(free)));
    DescribeLogDirsResult { log_dir, topics: topics.collect(), total_bytes, usable_bytes, ..Default::default() }
}
