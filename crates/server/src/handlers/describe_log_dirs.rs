//! DescribeLogDirs (key 35), versions 0-5: what is in each log directory, and how much room it has (KIP-113, KIP-827).
//!
//! Gaps: replicas do not move between directories yet, so there are no future ones; no directory is cordoned.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

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
        let dirs = broker.replicas.logs().all_by_dir();
        let results = dirs.into_iter().map(|(dir, logs)| describe(&dir, &logs, wanted.as_ref())).collect();
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

fn describe(dir: &LogDir, logs: &[Arc<UnifiedLog>], wanted: Option<&Wanted>) -> DescribeLogDirsResult {
    let log_dir = dir.path.display().to_string();
    if !dir.online {
        let error_code = ErrorCode::KafkaStorageError.code();
        return DescribeLogDirsResult { error_code, log_dir, ..Default::default() };
    }
    let mut topics = BTreeMap::<&str, Vec<DescribeLogDirsPartition>>::new();
    for log in logs {
        let partition = log.topic_partition();
        let asked = |wanted: &Wanted| {
            wanted.get(&*partition.topic).is_some_and(|partitions| partitions.contains(&partition.partition))
        };
        if wanted.is_none_or(asked) {
            topics.entry(&partition.topic).or_default().push(DescribeLogDirsPartition {
                partition_index: partition.partition,
                partition_size: i64::try_from(log.size_in_bytes()).unwrap_or(i64::MAX),
                offset_lag: (log.high_watermark() - log.log_end_offset()).max(0),
                is_future_key: false,
            });
        }
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|p| p.partition_index);
        DescribeLogDirsTopic { name: name.to_owned(), partitions }
    });
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let (total_bytes, usable_bytes) = dir.space().map_or((-1, -1), |(all, free)| (bytes(all), bytes(free)));
    DescribeLogDirsResult { log_dir, topics: topics.collect(), total_bytes, usable_bytes, ..Default::default() }
}
