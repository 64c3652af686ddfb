//! Single steps; what several members make of them together is in `tests/simulation`.

use super::*;
use crate::batch::{MAX_BATCH_BYTES, read_batches};

const NOW: Now = Now { mono_ms: 5, wall_ms: 1_795_486_010_340 };

fn voter(id: i32) -> Voter {
    Voter { id, directory_id: Uuid::ZERO }
}

fn core_of(voters: &[i32], log: Epochs, state: QuorumState) -> RaftCore {
    let config = RaftConfig {
        node_id: 1,
        directory_id: Uuid::from_u128(7777),
        voters: voters.iter().copied().map(voter).collect(),
        kraft_version: 0,
        bootstrap: Vec::new(),
        timeouts: Timeouts::default(),
        seed: 3,
    };
    let end = log.end().offset;
    RaftCore::new(config, state, log, end, 0)
}

fn log(starts: &[(i32, i64)], end: i64) -> Epochs {
    Epochs::new(OffsetAndEpoch::default(), end, starts.iter().copied())
}

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, ..NOW }
}

fn vote(epoch: i32, candidate: i32, log_end: (i64, i32), pre_vote: bool) -> Input {
    let log_end = OffsetAndEpoch { offset: log_end.0, epoch: log_end.1 };
    let vote = Vote { epoch, candidate: voter(candidate), voter: voter(1), log_end, pre_vote };
    Input::Request { id: RequestId(9), request: Request::Vote(vote) }
}

fn granted(out: &[Output]) -> bool {
    let answers = out.iter().filter_map(|output| match output {
        Output::Respond { response: Response::Vote { granted, .. }, .. } => Some(*granted),
        _ => None,
    });
    answers.last().expect("an answer")
}

/// Answers everything that was asked.
fn answer(core: &mut RaftCore, now: Now, out: &[Output], with: impl Fn(&Request) -> Option<Response>) -> Vec<Output> {
    let sent: Vec<_> = (out.iter())
        .filter_map(|output| match output {
            Output::Send { to, id, request } => Some((*to, *id, with(request))),
            _ => None,
        })
        .collect();
    sent.into_iter().flat_map(|(from, id, response)| core.step(now, Input::Response { from, id, response })).collect()
}

fn grant(request: &Request) -> Option<Response> {
    let Request::Vote(vote) = request else { return None };
    let head = Head { error: ErrorCode::None, epoch: vote.epoch, leader_id: -1 };
    Some(Response::Vote { head, granted: true })
}

#[test]
fn alone_elects_itself_and_records_it_before_appending() {
    let mut core = core_of(&[1], log(&[], 0), QuorumState::default());
    let out = core.step(NOW, Input::Start);
    let [Output::WriteQuorumState(voted), Output::WriteQuorumState(leads), Output::AppendBatch(batch), changed] =
        out.as_slice()
    else {
        panic!("{out:?}")
    };
    assert_eq!((voted.voted_id, voted.leader_id, voted.leader_epoch), (1, -1, 1));
    assert_eq!(
        leads.to_json(),
        r#"{"clusterId":"","leaderId":1,"leaderEpoch":1,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1}],"data_version":0}"#
    );
    assert_eq!(*changed, Output::LeaderChanged { leader_id: 1, epoch: 1 });
    // The same size as Kafka's.
    assert_eq!(batch.len(), 91);
    let read = read_batches(batch.clone()).expect("a batch");
    assert_eq!(read[0].controls[0].0, Some(ControlType::LeaderChange));
    assert_eq!((read[0].base_offset, read[0].epoch), (0, 1));
    assert_eq!(core.next_deadline_ms(), None, "nobody to wait for");
}

#[test]
fn commits_only_what_is_durable_and_of_its_epoch() {
    let mut core = core_of(&[1], log(&[(5, 0)], 10), QuorumState { leader_epoch: 3, ..Default::default() });
    assert!(core.step(NOW, Input::Durable { end_offset: 10 }).is_empty());
    core.step(NOW, Input::Start);
    assert_eq!(core.epoch(), 6, "after the newer of log and vote file");
    assert!(core.step(NOW, Input::Durable { end_offset: 10 }).is_empty(), "nothing of this epoch yet");
    let records = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    let out = core.step(NOW, Input::Append { epoch: 6, records });
    assert_eq!(out[1], Output::Appended { last_offset: 12 });
    assert_eq!(core.step(NOW, Input::Durable { end_offset: 11 }), [Output::HighWatermark(11)]);
    assert!(core.step(NOW, Input::Durable { end_offset: 11 }).is_empty());
    assert_eq!(core.step(NOW, Input::Durable { end_offset: 99 }), [Output::HighWatermark(13)], "never beyond the log");
}

#[test]
fn appends_only_for_the_leader_of_the_epoch() {
    let mut core = core_of(&[1], log(&[], 0), QuorumState::default());
    let append = |epoch| Input::Append { epoch, records: vec![Bytes::from_static(b"a")] };
    assert_eq!(core.step(NOW, append(1)), [Output::NotLeader]);
    core.step(NOW, Input::Start);
    assert_eq!(core.step(NOW, append(2)), [Output::NotLeader]);
    let huge = Input::Append { epoch: 1, records: vec![Bytes::from(vec![0; MAX_BATCH_BYTES])] };
    assert_eq!(core.step(NOW, huge), [Output::TooLarge { bytes: MAX_BATCH_BYTES }]);
    assert_eq!(core.step(NOW, Input::LogFailed), [Output::LeaderChanged { leader_id: -1, epoch: 1 }]);
    assert_eq!(core.step(NOW, append(1)), [Output::NotLeader]);
    assert_eq!(core.next_deadline_ms(), None, "it never stands again");
}

#[test]
fn asks_first_whether_it_would_win_and_only_then_begins_an_epoch() {
    let mut core = core_of(&[1, 2, 3], log(&[(4, 0)], 7), QuorumState::default());
    assert!(core.step(NOW, Input::Start).is_empty(), "it waits for a leader");
    let due = core.next_deadline_ms().expect("not for ever");
    assert!((1005..2005).contains(&due));
    let out = core.step(at(due), Input::Tick);
    assert!(!out.iter().any(|output| matches!(output, Output::WriteQuorumState(_))), "{out:?}");
    let out = answer(&mut core, at(due), &out, grant);
    assert!(matches!(&out[0], Output::WriteQuorumState(state) if (state.leader_epoch, state.voted_id) == (5, 1)));
    let out = answer(&mut core, at(due), &out, grant);
    assert_eq!(core.epoch_start_offset(), Some(7));
    assert!(out.iter().any(|output| matches!(output, Output::AppendBatch(_))));
    assert_eq!(core.step(at(due), Input::Durable { end_offset: 8 }), [], "one of three is no majority");
}

#[test]
fn gives_one_vote_in_an_epoch_to_a_log_that_is_not_behind_and_remembers_it() {
    let mut core = core_of(&[1, 2, 3], log(&[(1, 0), (3, 5)], 9), QuorumState::default());
    core.step(NOW, Input::Start);
    for behind in [(8, 3), (20, 2)] {
        assert!(!granted(&core.step(NOW, vote(4, 2, behind, false))), "{behind:?}");
    }
    let out = core.step(NOW, vote(4, 2, (9, 3), false));
    let written =
        out.iter().position(|output| matches!(output, Output::WriteQuorumState(state) if state.voted_id == 2));
    let answered = out.iter().position(|output| matches!(output, Output::Respond { .. }));
    assert!(granted(&out) && written < answered, "{out:?}");
    assert!(!granted(&core.step(NOW, vote(4, 3, (50, 3), false))), "the vote is given");
    assert!(granted(&core.step(NOW, vote(4, 2, (9, 3), false))), "the same again");
    assert!(granted(&core.step(NOW, vote(4, 3, (50, 3), true))), "a pre-vote costs nothing");
    assert!(!granted(&core.step(NOW, vote(3, 3, (50, 3), false))), "an old epoch");

    let Some(Output::WriteQuorumState(state)) = written.and_then(|i| out.get(i)) else { panic!("{out:?}") };
    let mut again = core_of(&[1, 2, 3], log(&[(1, 0), (3, 5)], 9), state.clone());
    again.step(NOW, Input::Start);
    assert!(!granted(&again.step(NOW, vote(4, 3, (50, 3), false))), "also after a restart");
}

#[test]
fn a_former_leader_votes_for_nobody_in_its_epoch() {
    let state = QuorumState { leader_id: 1, leader_epoch: 4, ..QuorumState::default() };
    let mut core = core_of(&[1, 2, 3], log(&[(4, 0)], 9), state);
    core.step(NOW, Input::Start);
    assert_eq!(core.leader_id(), -1);
    assert!(!granted(&core.step(NOW, vote(4, 2, (9, 4), false))));
    assert!(granted(&core.step(NOW, vote(5, 2, (9, 4), false))));
}

#[test]
fn a_leader_that_no_majority_asks_steps_down() {
    let mut core = core_of(&[1, 2, 3], log(&[], 0), QuorumState::default());
    core.step(NOW, Input::Start);
    let due = core.next_deadline_ms().expect("an election");
    let out = core.step(at(due), Input::Tick);
    let out = answer(&mut core, at(due), &out, grant);
    answer(&mut core, at(due), &out, grant);
    assert!(core.epoch_start_offset().is_some());
    let fetch = |id| Input::Request {
        id: RequestId(id),
        request: Request::Fetch(Fetch {
            epoch: 1,
            replica: voter(2),
            log_end: OffsetAndEpoch::default(),
            high_watermark: 0,
            max_wait_ms: 500,
        }),
    };
    core.step(at(due + 2900), fetch(1));
    core.step(at(due + 3001), Input::Tick);
    assert!(core.epoch_start_offset().is_some(), "two of three are a majority");
    let out = core.step(at(due + 2900 + 3001), Input::Tick);
    assert!(out.contains(&Output::LeaderChanged { leader_id: -1, epoch: 1 }), "{out:?}");
    assert!(out.iter().any(|output| matches!(output, Output::Send { request: Request::EndEpoch(_), .. })));
}

#[test]
fn a_follower_cuts_what_its_leader_never_had_but_nothing_committed() {
    let state = QuorumState { leader_id: 2, leader_epoch: 5, ..QuorumState::default() };
    let mut core = core_of(&[1, 2, 3], log(&[(1, 0), (3, 4)], 9), state);
    let out = core.step(NOW, Input::Start);
    let diverging = |offset, epoch| {
        move |request: &Request| {
            let Request::Fetch(fetch) = request else { return None };
            let head = Head { error: ErrorCode::None, epoch: fetch.epoch, leader_id: 2 };
            Some(Response::Fetch { head, fetched: Fetched::Diverging(OffsetAndEpoch { offset, epoch }) })
        }
    };
    let out = answer(&mut core, NOW, &out, diverging(6, 2));
    assert_eq!(out[0], Output::TruncateTo(4), "the leader has epoch 2, this log 1 before it");
    let Output::Send { request: Request::Fetch(fetch), .. } = &out[1] else { panic!("{out:?}") };
    assert_eq!(fetch.log_end, OffsetAndEpoch { offset: 4, epoch: 1 });
    let hw = |request: &Request| {
        let Request::Fetch(fetch) = request else { return None };
        let head = Head { error: ErrorCode::None, epoch: fetch.epoch, leader_id: 2 };
        let fetched = Fetched::Records { records: Bytes::new(), high_watermark: 3 };
        Some(Response::Fetch { head, fetched })
    };
    let out = answer(&mut core, NOW, &out, hw);
    assert_eq!(out[0], Output::HighWatermark(3));
    let out = answer(&mut core, NOW, &out, diverging(1, 1));
    assert_eq!(out[0], Output::TruncateTo(3));
}
