//! What a fetcher decides: when it asks, and what answers mean.

use bytes::Bytes;
use milena_common::{Now, TopicPartition, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};
use milena_protocol::messages::{FetchRequest, FetchResponse};

use super::core::{Asked, FetchLimits, FetcherCore, LogPosition, Next, Step, truncation_offset};
use crate::replica::Cut;

const TOPIC: Uuid = Uuid::from_u128(7);

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: 0 }
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn position(log_end: i64, last_epoch: i32) -> LogPosition {
    LogPosition { log_end, last_epoch, log_start: 0, high_watermark: 2 }
}

fn core() -> FetcherCore {
    FetcherCore::new(FetchLimits {
        replica_id: 3,
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1_000,
        partition_max_bytes: 100,
        backoff_ms: 1_000,
    })
}

/// Follows, with everything on the disk.
fn following(partitions: &[i32]) -> FetcherCore {
    let mut core = core();
    for partition in partitions {
        core.follow(tp(*partition), TOPIC, 5, position(10, 4));
        core.on_durable(&tp(*partition), 10);
    }
    core
}

fn request(core: &mut FetcherCore, now: u64) -> FetchRequest {
    match core.next(at(now), &|_| false) {
        Next::Fetch(request) => request,
        other => panic!("{other:?}"),
    }
}

fn asked(request: &FetchRequest) -> Vec<(i32, i32, i64, i32)> {
    let parts = request.topics.iter().flat_map(|topic| &topic.partitions);
    parts.map(|p| (p.partition, p.current_leader_epoch, p.fetch_offset, p.last_fetched_epoch)).collect()
}

fn answer(partitions: Vec<PartitionData>) -> FetchResponse {
    let topic = FetchableTopicResponse { topic_id: TOPIC, partitions, ..Default::default() };
    FetchResponse { session_id: 9, responses: vec![topic], ..Default::default() }
}

fn refused(code: ErrorCode) -> FetchResponse {
    answer(vec![PartitionData { error_code: code.code(), ..Default::default() }])
}

#[test]
fn asks_only_for_what_stands_on_the_disk() {
    let mut core = core();
    core.follow(tp(0), TOPIC, 5, position(10, 4));
    assert!(matches!(core.next(at(0), &|_| false), Next::Sync(logs) if logs == [(tp(0), 10)]));
    core.on_durable(&tp(0), 9);
    assert!(matches!(core.next(at(0), &|_| false), Next::Sync(_)));
    core.on_durable(&tp(0), 10);
    let first = request(&mut core, 0);
    assert_eq!((first.replica_state.replica_id, first.max_wait_ms, first.max_bytes), (3, 500, 1_000));
    assert_eq!(asked(&first), [(0, 5, 10, 4)]);

    let records = Some(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
    let data = PartitionData { records, high_watermark: 11, log_start_offset: 1, ..Default::default() };
    let steps = core.on_answer(answer(vec![data]), at(1));
    let [Step::Append(partition, data)] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!((partition, data.leader_epoch, &data.records[..]), (&tp(0), 5, &b"abc"[..]));
    assert_eq!((data.high_watermark, data.log_start_offset), (11, 1));
    core.on_done(&tp(0), 5, position(12, 5));
    assert!(matches!(core.next(at(1), &|_| false), Next::Sync(logs) if logs == [(tp(0), 12)]));
    core.on_durable(&tp(0), 12);
    assert_eq!(asked(&request(&mut core, 1)), [(0, 5, 12, 5)]);
}

#[test]
fn answers_of_another_time_mean_nothing() {
    let mut core = following(&[0, 1]);
    request(&mut core, 0);
    // followed anew, in another epoch, while the answer is on its way
    core.follow(tp(0), TOPIC, 6, position(10, 4));
    assert!(core.unfollow(&tp(1)) && !core.unfollow(&tp(1)));
    let both = answer(vec![PartitionData::default(), PartitionData { partition_index: 1, ..Default::default() }]);
    assert!(core.on_answer(both, at(1)).is_empty());
    core.on_done(&tp(0), 5, position(99, 5));
    core.on_durable(&tp(0), 10);
    let next = request(&mut core, 1);
    assert_eq!(asked(&next), [(0, 6, 10, 4)]);
    assert_eq!(next.forgotten_topics_data[0].partitions, [1]);
    assert!(!core.is_empty());
}

#[test]
fn what_the_leader_does_not_have_is_cut() {
    let mut core = following(&[0]);
    request(&mut core, 0);
    let diverging_epoch = EpochEndOffset { epoch: 3, end_offset: 8 };
    let steps = core.on_answer(answer(vec![PartitionData { diverging_epoch, ..Default::default() }]), at(1));
    let [Step::Cut { cut, leader_epoch: 5, .. }] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!(*cut, Cut::Diverging { epoch: 3, end_offset: 8 });
    core.on_done(&tp(0), 5, position(8, 3));
    core.on_durable(&tp(0), 8);
    assert_eq!(asked(&request(&mut core, 1)), [(0, 5, 8, 3)]);

    for (leader, own, log_end, to) in [
        ((3, 8), (3, 9), 10, 8),
        ((3, 8), (3, 7), 10, 7),
        // an epoch that is not known here: what is older stays
        ((3, 8), (2, 5), 10, 5),
        ((3, 80), (3, 90), 10, 10),
        ((-1, 8), (3, 9), 10, 8),
        ((3, 8), (-1, -1), 10, 8),
    ] {
        assert_eq!(truncation_offset(leader.0, leader.1, own, log_end), to, "{leader:?} {own:?}");
    }
}

#[test]
fn an_offset_out_of_range_is_resolved_by_the_ends_of_the_leader() {
    for (ends, cut) in [
        (Some((0, 7)), Some(Cut::To(7))),
        (Some((20, 30)), Some(Cut::AllBefore(20))),
        (Some((5, 12)), None),
        (None, None),
    ] {
        let mut core = following(&[0]);
        request(&mut core, 0);
        assert!(core.on_answer(refused(ErrorCode::OffsetOutOfRange), at(1)).is_empty());
        let Next::Ends(lost) = core.next(at(1), &|_| false) else { panic!() };
        assert_eq!(lost, [Asked { partition: tp(0), leader_epoch: 5 }]);
        let step = core.on_ends(&lost[0], ends, at(1));
        let found = step.map(|step| match step {
            Step::Cut { cut, .. } => cut,
            other => panic!("{other:?}"),
        });
        assert_eq!(found, cut);
        let next = core.next(at(1), &|_| false);
        assert_eq!(matches!(next, Next::Fetch(_)), ends.is_some(), "{next:?}");
    }
}

#[test]
fn a_log_without_epochs_begins_at_its_high_watermark() {
    let mut core = core();
    core.follow(tp(0), TOPIC, 5, position(10, -1));
    core.on_durable(&tp(0), 10);
    let Next::Cut(steps) = core.next(at(0), &|_| false) else { panic!() };
    assert!(matches!(steps.as_slice(), [Step::Cut { cut: Cut::ToHighWatermark, .. }]));
    core.on_done(&tp(0), 5, position(2, -1));
    core.on_durable(&tp(0), 2);
    assert_eq!(asked(&request(&mut core, 0)), [(0, 5, 2, -1)]);
    // old records that come now have no epochs either, and stay
    core.on_answer(answer(vec![PartitionData::default()]), at(1));
    core.on_done(&tp(0), 5, position(4, -1));
    core.on_durable(&tp(0), 4);
    assert_eq!(asked(&request(&mut core, 1)), [(0, 5, 4, -1)]);
}

#[test]
fn who_is_refused_waits_and_the_others_go_on() {
    let mut core = following(&[0, 1]);
    request(&mut core, 0);
    core.on_answer(refused(ErrorCode::UnknownLeaderEpoch), at(0));
    // a new leader that has not heard of it is asked again soon, one that never hears of it less and less often
    assert_eq!(request(&mut core, 0).forgotten_topics_data[0].partitions, [0]);
    core.on_answer(answer(vec![]), at(0));
    assert_eq!(asked(&request(&mut core, 31)), [(0, 5, 10, 4)]);
    for _ in 0..9 {
        core.on_answer(refused(ErrorCode::NotLeaderOrFollower), at(100));
        assert!(core.unfollow(&tp(1)) || matches!(core.next(at(100), &|_| false), Next::Wait(Some(_))));
        request(&mut core, 2_000);
    }
    core.on_answer(refused(ErrorCode::NotLeaderOrFollower), at(3_000));
    assert!(matches!(core.next(at(3_999), &|_| false), Next::Wait(Some(4_000))));
    // a newer epoch: metadata will tell
    request(&mut core, 4_000);
    core.on_answer(refused(ErrorCode::FencedLeaderEpoch), at(4_000));
    assert!(matches!(core.next(at(99_000), &|_| false), Next::Wait(None)));
}

#[test]
fn no_answer_ends_the_session_and_takes_time() {
    let mut core = following(&[0]);
    request(&mut core, 0);
    core.on_answer(answer(vec![PartitionData::default()]), at(0));
    core.on_done(&tp(0), 5, position(10, 4));
    let second = request(&mut core, 0);
    assert_eq!((second.session_id, second.session_epoch, second.topics.len()), (9, 1, 0));
    core.on_no_answer(at(0));
    assert!(matches!(core.next(at(1), &|_| false), Next::Wait(Some(31))));
    let third = request(&mut core, 31);
    assert_eq!((third.session_id, third.session_epoch, asked(&third).len()), (9, 0, 1));
    // a session that the leader does not know takes none
    core.on_answer(
        FetchResponse { error_code: ErrorCode::FetchSessionIdNotFound.code(), ..Default::default() },
        at(31),
    );
    assert_eq!(request(&mut core, 31).session_id, 0);
}

#[test]
fn a_quota_holds_back_who_lags() {
    let mut core = following(&[0, 1]);
    let first = |partition: &TopicPartition| partition.partition == 0;
    let Next::Fetch(request) = core.next(at(0), &first) else { panic!() };
    assert_eq!(asked(&request), [(1, 5, 10, 4)]);
    core.on_answer(answer(vec![PartitionData { partition_index: 1, ..Default::default() }]), at(0));
    assert!(matches!(core.next(at(0), &|_| true), Next::Fetch(_)), "1 has all there is");
    core.on_answer(answer(vec![]), at(0));
    core.unfollow(&tp(1));
    assert!(matches!(core.next(at(0), &|_| true), Next::Wait(Some(100))));
}
