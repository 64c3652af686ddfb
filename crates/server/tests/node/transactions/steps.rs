//! What is asked, step by step.

use std::time::Duration;

use milena_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use milena_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use milena_protocol::messages::{self as msg};

use super::client::{Client, Producer, batch, txn};

const NOBODY: Producer = (-1, -1);

fn play_init(c: &mut Client) {
    for version in 0..=5 {
        let id = format!("init-{version}");
        c.init("of nobody", version, None, 0, NOBODY);
        c.init("of the empty id", version, Some(""), 60_000, NOBODY);
        for timeout_ms in [0, -1, 900_001, i32::MIN] {
            c.init(&format!("within {timeout_ms}"), version, Some(&id), timeout_ms, NOBODY);
        }
        let first = c.init("of an id", version, Some(&id), 900_000, NOBODY);
        let second = c.init("of an id again", version, Some(&id), 1, NOBODY);
        c.tell_state(&id);
        if version < 3 {
            continue;
        }
        c.init("with an id and no epoch", version, Some(&id), 60_000, (first.0, -1));
        c.init("with an epoch and no id", version, Some(&id), 60_000, (-1, 0));
        c.init("of nobody, who was somebody", version, None, 60_000, second);
        c.init("with an id that is not its own", version, Some(&id), 60_000, (first.0 + 100_000, second.1));
        c.init("with an epoch of before", version, Some(&id), 60_000, first);
        c.init("as who it is", version, Some(&id), 60_000, second);
        c.init("as who it is, again", version, Some(&id), 60_000, second);
        c.init("with an epoch to come", version, Some(&id), 60_000, (second.0, second.1 + 5));
        c.init("of an id that nobody had", version, Some(&format!("{id}-lost")), 60_000, (second.0, 7));
    }
}

/// Clients that keep their epoch through many transactions.
fn play_old(c: &mut Client) {
    for version in 0..=3 {
        let id = &format!("old-{version}");
        let p = c.start(id);
        c.add("nowhere", version, id, p, &[("nowhere", 0), ("t", 0)]);
        c.add("a partition that is not there", version, id, p, &[("t", 7)]);
        c.add("nothing", version, id, p, &[]);
        c.tell_state(id);
        c.add("with an epoch of before", version, id, (p.0, p.1 - 1), &[("t", 0)]);
        c.add("with an epoch to come", version, id, (p.0, p.1 + 1), &[("t", 0)]);
        c.add("as somebody else", version, id, (p.0 + 100_000, p.1), &[("t", 0)]);
        c.add("of an id that is not there", version, "nobody", p, &[("t", 0)]);
        c.add("of the empty id", version, "", p, &[("t", 0)]);
        c.end("of nothing", version, id, p, true);
        c.settle(id);
        c.end("of nothing", version, id, p, false);
        c.add("one", version, id, p, &[("t", 0)]);
        c.add("one that is there", version, id, p, &[("t", 0)]);
        c.add("another", version, id, p, &[("t", 1)]);
        c.tell_state(id);
        c.end("with an epoch of before", version, id, (p.0, p.1 - 1), true);
        c.end("with an epoch to come", version, id, (p.0, p.1 + 1), true);
        c.end("as somebody else", version, id, (p.0 + 100_000, p.1), true);
        c.end("of an id that is not there", version, "nobody", p, true);
        c.end("of the empty id", version, "", p, true);
        c.end("of a transaction", version, id, p, true);
        c.settle(id);
        c.tell_state(id);
        c.end("again", version, id, p, true);
        c.end("of what is committed", version, id, p, false);
        c.add("to the next", version, id, p, &[("t", 1)]);
        c.end("of the next", version, id, p, false);
        c.settle(id);
        c.tell_state(id);
        c.end("again", version, id, p, false);
        c.end("of what is aborted", version, id, p, true);
        c.add_offsets("with an epoch of before", version, id, (p.0, p.1 - 1), "g");
        c.add_offsets("as somebody else", version, id, (p.0 + 100_000, p.1), "g");
        c.add_offsets("of the empty id", version, "", p, "g");
        c.add_offsets("of the empty group", version, id, p, "");
        c.end("of no group's offsets", version, id, p, true);
        c.settle(id);
    }
}

/// Records: verified before they begin a transaction.
fn play_records(c: &mut Client) {
    for version in 3..=11 {
        let id = &format!("records-{version}");
        let topic = &format!("r{version}");
        c.create(topic);
        let p = c.start(id);
        c.produce("not added", version, Some(id), topic, &[(0, txn(p, 0))]);
        c.produce("without an id", version, None, topic, &[(0, txn(p, 0))]);
        c.produce("of another id", version, Some("nobody"), topic, &[(0, txn(p, 0))]);
        c.add("one", 3, id, p, &[(topic, 0)]);
        c.produce("one of two added", version, Some(id), topic, &[(0, txn(p, 0)), (1, txn(p, 0))]);
        c.produce("more", version, Some(id), topic, &[(0, txn(p, 1))]);
        c.produce("the same again", version, Some(id), topic, &[(0, txn(p, 1))]);
        c.produce("a gap", version, Some(id), topic, &[(0, txn(p, 5))]);
        c.produce("of no transaction", version, None, topic, &[(0, batch(p, 2, false))]);
        c.produce("of no transaction elsewhere", version, None, topic, &[(1, batch(p, 0, false))]);
        c.produce("with an epoch of before", version, Some(id), topic, &[(0, txn((p.0, p.1 - 1), 2))]);
        c.produce("with an epoch to come", version, Some(id), topic, &[(0, txn((p.0, p.1 + 1), 0))]);
        c.tell_ends(topic);
        c.producers(topic);
        c.end("of a transaction", 3, id, p, true);
        c.settle(id);
        c.tell_ends(topic);
        c.produce("late", version, Some(id), topic, &[(0, txn(p, 2))]);
        c.add("of the next", 3, id, p, &[(topic, 0)]);
        c.produce("the next", version, Some(id), topic, &[(0, txn(p, 2))]);
        let (error, _) = c.init_once(4, Some(id), 60_000, NOBODY);
        c.tell("its successor starts", &format!("error={error}"));
        c.settle(id);
        c.produce("of who is fenced", version, Some(id), topic, &[(0, txn(p, 3))]);
        c.produce("of who is fenced, elsewhere", version, Some(id), topic, &[(1, txn(p, 1))]);
        c.end("of who is fenced", 3, id, p, true);
        c.end("of who is fenced", 1, id, p, true);
        c.tell_ends(topic);
        c.producers(topic);
        c.start(id);
    }
}

/// Clients that get an epoch with each transaction.
fn play_new(c: &mut Client) {
    for version in 12..=13 {
        let id = &format!("new-{version}");
        let topic = &format!("n{version}");
        c.create(topic);
        let p = c.start(id);
        c.end("of nothing", 5, id, p, true);
        c.produce("first", version, Some(id), topic, &[(0, txn(p, 0)), (1, txn(p, 0))]);
        c.tell_state(id);
        c.produce("more", version, Some(id), topic, &[(0, txn(p, 1))]);
        c.produce("of another id", version, Some("nobody"), topic, &[(0, txn((p.0 + 100_000, 0), 0))]);
        c.end("with an epoch to come", 5, id, (p.0, p.1 + 1), true);
        let q = c.end("of a transaction", 5, id, p, true);
        c.settle(id);
        c.tell_state(id);
        c.end("again", 5, id, p, true);
        c.end("of what is committed", 5, id, p, false);
        c.end("of nothing", 5, id, q, true);
        c.tell_ends(topic);
        c.producers(topic);
        c.produce("late", version, Some(id), topic, &[(0, txn(p, 2))]);
        c.add("late", 3, id, p, &[(topic, 0)]);
        c.produce("a gap at the beginning", version, Some(id), topic, &[(0, txn(q, 3))]);
        c.produce("next", version, Some(id), topic, &[(0, txn(q, 0))]);
        c.end("late, by its old epoch", 5, id, p, true);
        c.end("late, by its old epoch", 5, id, p, false);
        c.end("late, by its old epoch", 3, id, p, true);
        c.end("by an old client", 3, id, q, true);
        c.settle(id);
        c.tell_state(id);
        c.end("of nothing", 5, id, q, false);
        c.settle(id);
        c.tell_state(id);
        let r = (q.0, q.1 + 1);
        c.end("of nothing, again", 5, id, q, false);
        c.end("of nothing, again", 5, id, q, true);
        c.produce("after nothing", version, Some(id), topic, &[(1, txn(r, 0))]);
        c.produce("of no transaction", version, None, topic, &[(1, batch(r, 1, false))]);
        let (error, _) = c.init_once(5, Some(id), 60_000, NOBODY);
        c.tell("its successor starts", &format!("error={error}"));
        c.settle(id);
        c.tell_state(id);
        c.end("of who was aborted", 5, id, r, true);
        c.end("of who was aborted", 5, id, r, false);
        c.produce("of who was aborted", version, Some(id), topic, &[(1, txn(r, 1))]);
        c.tell_ends(topic);
        c.producers(topic);
        c.start(id);
        c.end("of who is fenced", 5, id, r, false);
    }
}

/// Who goes on under its epoch after somebody else started, or after the coordinator aborted its transaction.
fn play_return(c: &mut Client) {
    for version in [9, 12] {
        let id = &format!("returning-{version}");
        let p = c.start(id);
        let begin = |c: &mut Client, p: Producer| {
            if version < 12 {
                c.add("one", 3, id, p, &[("t", 0)]);
            }
            c.produce("one", version, Some(id), "t", &[(0, txn(p, 0))]);
        };
        begin(c, p);
        let (error, _) = c.init_once(5, Some(id), 60_000, NOBODY);
        c.tell("its successor starts", &format!("error={error}"));
        c.settle(id);
        c.init("as who it was", 5, Some(id), 60_000, p);
        c.init("as who it was", 5, Some(id), 60_000, p);
        c.tell_state(id);
        let p = c.start(id);
        begin(c, p);
        let (error, _) = c.init_once(5, Some(id), 60_000, p);
        c.tell("it starts again as who it is, in a transaction", &format!("error={error}"));
        c.settle(id);
        c.init("as who it was", 5, Some(id), 60_000, p);
        c.tell_state(id);
        let first = c.start(id);
        let p = c.start(id);
        begin(c, p);
        let (error, _) = c.init_once(5, Some(id), 60_000, first);
        c.tell("its predecessor returns", &format!("error={error}"));
        c.settle(id);
        c.tell_state(id);
        c.start(id);
    }
}

fn play_verification(c: &mut Client) {
    for version in 4..=5 {
        let id = &format!("verified-{version}");
        let p = c.start(id);
        c.add_batched("nothing open", version, true, id, p, &[("t", 0)]);
        c.add("one", 3, id, p, &[("t", 0)]);
        c.add_batched("one of two", version, true, id, p, &[("t", 0), ("t", 1)]);
        c.add_batched("nowhere", version, true, id, p, &[("t", 0), ("nowhere", 1)]);
        c.add_batched("with an epoch of before", version, true, id, (p.0, p.1 - 1), &[("t", 0)]);
        c.add_batched("with an epoch to come", version, true, id, (p.0, p.1 + 1), &[("t", 0)]);
        c.add_batched("as somebody else", version, true, id, (p.0 + 100_000, p.1), &[("t", 0)]);
        c.add_batched("of an id that is not there", version, true, "nobody", p, &[("t", 0)]);
        c.add_batched("of the empty id", version, true, "", p, &[("t", 0)]);
        c.add_batched("another", version, false, id, p, &[("t", 1)]);
        c.add_batched("with an epoch of before", version, false, id, (p.0, p.1 - 1), &[("t", 1)]);
        c.tell_state(id);
        c.end("of a transaction", 3, id, p, false);
        c.settle(id);
        c.add_batched("nothing open any more", version, true, id, p, &[("t", 0)]);
    }
}

pub fn offsets(id: &str, group: &str, p: Producer, offset: i64) -> msg::TxnOffsetCommitRequest {
    let partition = TxnOffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some("m".to_owned()),
        ..Default::default()
    };
    let topics = vec![TxnOffsetCommitRequestTopic { name: "t".to_owned(), partitions: vec![partition] }];
    msg::TxnOffsetCommitRequest {
        transactional_id: id.to_owned(),
        group_id: group.to_owned(),
        producer_id: p.0,
        producer_epoch: p.1,
        generation_id: -1,
        topics,
        ..Default::default()
    }
}

fn play_offsets(c: &mut Client) {
    for version in 0..=5 {
        let id = &format!("offsets-{version}");
        let group = &format!("g{version}");
        c.find(0, group);
        let p = c.start(id);
        let of = |p, offset| offsets(id, group, p, offset);
        if version < 5 {
            c.txn_offset_commit("not added", version, of(p, 1));
            c.add_offsets("of a group", 3, id, p, group);
        }
        c.txn_offset_commit("first", version, of(p, 2));
        c.tell_state(id);
        c.tell_offset(group);
        let mut unknown = of(p, 3);
        unknown.topics.push(TxnOffsetCommitRequestTopic {
            name: "nowhere".to_owned(),
            partitions: vec![TxnOffsetCommitRequestPartition::default()],
        });
        c.txn_offset_commit("and nowhere", version, unknown);
        let mut long = of(p, 4);
        long.topics[0].partitions[0].committed_metadata = Some("m".repeat(4097));
        c.txn_offset_commit("with long metadata", version, long);
        c.txn_offset_commit("with an epoch of before", version, of((p.0, p.1 - 1), 5));
        c.txn_offset_commit("with an epoch to come", version, of((p.0, p.1 + 1), 5));
        c.txn_offset_commit("as somebody else", version, of((p.0 + 100_000, p.1), 5));
        c.txn_offset_commit("of an id that is not there", version, offsets("nobody", group, p, 5));
        c.txn_offset_commit("of the empty id", version, offsets("", group, p, 5));
        c.txn_offset_commit("of the empty group", version, offsets(id, "", p, 5));
        if version >= 3 {
            let member = |member: &str, generation| msg::TxnOffsetCommitRequest {
                member_id: member.to_owned(),
                generation_id: generation,
                ..of(p, 6)
            };
            c.txn_offset_commit("by a stranger", version, member("stranger", 1));
            c.txn_offset_commit("by a stranger without a generation", version, member("stranger", -1));
            c.txn_offset_commit("of a generation without a member", version, member("", 1));
            let nowhere = msg::TxnOffsetCommitRequest { group_id: format!("{group}-lost"), ..member("stranger", 1) };
            c.find(0, &format!("{group}-lost"));
            c.txn_offset_commit("of a group that is not there", version, nowhere);
        }
        let q = if version < 5 {
            c.end("of a transaction", 3, id, p, true);
            p
        } else {
            c.end("of a transaction", 5, id, p, true)
        };
        c.settle(id);
        c.settle_offset(group);
        c.tell_offset(group);
        c.txn_offset_commit("late", version, of(p, 7));
        c.tell_offset(group);
        if version < 5 {
            c.add_offsets("of a group", 3, id, q, group);
        }
        c.txn_offset_commit("second", version, of(q, 8));
        c.tell_offset(group);
        c.end("of the second", if version < 5 { 3 } else { 5 }, id, q, false);
        c.settle(id);
        c.settle_offset(group);
        c.tell_offset(group);
    }
}

fn play_markers(c: &mut Client) {
    for version in 1..=2 {
        let topic = &format!("m{version}");
        let id = &format!("marked-{version}");
        c.create(topic);
        let marker = |commit: bool, coordinator_epoch: i32, transaction_version: i8| WritableTxnMarker {
            transaction_result: commit,
            coordinator_epoch,
            transaction_version,
            ..Default::default()
        };
        let first = c.start(id);
        let p = c.start(id);
        c.mark("without an epoch", version, (p.0, -1), marker(true, 0, 0), &[(topic, 0)]);
        c.mark("nowhere", version, p, marker(true, 0, 0), &[("nowhere", 0), (topic, 0), (topic, 9)]);
        c.add("two", 3, id, p, &[(topic, 0), (topic, 1)]);
        c.produce("two", 9, Some(id), topic, &[(0, txn(p, 0)), (1, txn(p, 0))]);
        c.mark("with an epoch of before", version, first, marker(false, 5, 0), &[(topic, 0)]);
        if version >= 2 {
            c.mark("of the new protocol, same epoch", version, p, marker(false, 5, 2), &[(topic, 0)]);
        }
        c.mark("abort", version, p, marker(false, 5, 0), &[(topic, 0)]);
        c.settle_partition(topic, 0);
        c.tell_ends(topic);
        c.producers(topic);
        c.mark("again", version, p, marker(false, 5, 0), &[(topic, 0)]);
        c.mark("of an old coordinator", version, p, marker(false, 4, 0), &[(topic, 0)]);
        if version >= 2 {
            c.mark("of the new protocol, nothing open", version, p, marker(false, 5, 2), &[(topic, 0)]);
            c.mark("of the new protocol", version, (p.0, p.1 + 1), marker(true, 5, 2), &[(topic, 1)]);
            c.mark("of the new protocol, again", version, (p.0, p.1 + 1), marker(true, 5, 2), &[(topic, 1)]);
            c.mark("of the new protocol, late", version, p, marker(true, 5, 2), &[(topic, 1)]);
        }
        c.tell_ends(topic);
        c.producers(topic);
    }
    c.producers("nowhere");
}

fn play_tools(c: &mut Client) {
    let p = c.start("tool-open");
    c.add("one", 3, "tool-open", p, &[("t", 0)]);
    c.start("tool-idle");
    std::thread::sleep(Duration::from_millis(20));
    c.tell_state("tool-open");
    c.tell_state("nobody");
    c.tell_state("");
    for version in 0..=2 {
        let filter = |states: &[&str], producer_ids: &[i64]| msg::ListTransactionsRequest {
            state_filters: states.iter().map(|s| (*s).to_owned()).collect(),
            producer_id_filters: producer_ids.to_vec(),
            duration_filter: -1,
            ..Default::default()
        };
        c.list("ongoing", version, filter(&["Ongoing"], &[]));
        c.list("of states that are none", version, filter(&["ongoing", "Open", ""], &[]));
        c.list("ongoing or none", version, filter(&["Ongoing", "Open"], &[]));
        c.list("dead", version, filter(&["Dead", "PrepareEpochFence"], &[]));
        c.list("of a producer", version, filter(&[], &[p.0, -1]));
        if version >= 1 {
            for duration_filter in [0, 3_600_000] {
                let filter = msg::ListTransactionsRequest { duration_filter, ..filter(&["Ongoing"], &[]) };
                c.list(&format!("ongoing for {duration_filter}"), version, filter);
            }
            let filter = msg::ListTransactionsRequest { duration_filter: 3_600_000, ..filter(&["Empty"], &[]) };
            c.list("empty for long", version, filter);
        }
        if version >= 2 {
            for pattern in ["tool-.*", "tool", "(", "", ".*-idle|nothing"] {
                let filter = msg::ListTransactionsRequest {
                    transactional_id_pattern: Some(pattern.to_owned()),
                    ..filter(&["Ongoing"], &[])
                };
                c.list(&format!("like {pattern:?}"), version, filter);
            }
        }
    }
    for version in 0..=5 {
        let key_type = if version == 0 { 0 } else { 1 };
        let request = msg::FindCoordinatorRequest {
            key: "tool-open".to_owned(),
            key_type,
            coordinator_keys: if version >= 4 { vec!["tool-open".to_owned(), String::new()] } else { Vec::new() },
        };
        let request =
            if version >= 4 { msg::FindCoordinatorRequest { key: String::new(), ..request } } else { request };
        let found = c.ask(version, &request).expect("answers");
        let told: Vec<String> = match version {
            4.. => found.coordinators.iter().map(|f| format!("{} {:?}", f.error_code, f.error_message)).collect(),
            _ => vec![format!("{} {:?}", found.error_code, found.error_message)],
        };
        c.tell(&format!("find v{version}"), &told.join("; "));
    }
}

/// What happens when a producer id has no epoch left: 32767 of them are many requests.
pub fn play_exhaustion(c: &mut Client) {
    let exhaust = |c: &mut Client, id: &str, epoch: i16| loop {
        let (error, producer) = c.init_once(4, Some(id), 60_000, NOBODY);
        assert_eq!(error, 0);
        if producer.1 >= epoch {
            let name = c.name_of(producer.0);
            c.tell(&format!("{id} came far"), &format!("{name} epoch={}", producer.1));
            return producer;
        }
    };
    const LAST: i16 = i16::MAX - 1;
    let id = "worn";
    let p = exhaust(c, id, LAST);
    let q = c.init("as who it is", 4, Some(id), 60_000, p);
    c.init("as who it was", 4, Some(id), 60_000, p);
    c.init("as who it was long ago", 4, Some(id), 60_000, (p.0, 5));
    c.init("as who it is", 4, Some(id), 60_000, q);
    c.tell_state(id);

    let id = "worn-new";
    let p = exhaust(c, id, LAST - 1);
    c.produce("before the last", 12, Some(id), "t", &[(0, txn(p, 0))]);
    let p = c.end("before the last", 5, id, p, true);
    c.settle(id);
    c.produce("the last", 12, Some(id), "t", &[(0, txn(p, 0))]);
    let q = c.end("the last", 5, id, p, true);
    c.settle(id);
    c.tell_state(id);
    c.end("the last again", 5, id, p, true);
    c.end("the last again", 5, id, p, false);
    c.produce("the first", 12, Some(id), "t", &[(0, txn(q, 0))]);
    c.end("the last again", 5, id, p, true);
    c.end("the first", 5, id, q, true);
    c.settle(id);
    c.tell_state(id);

    let id = "worn-fenced";
    let p = exhaust(c, id, LAST);
    c.produce("the last", 12, Some(id), "t", &[(0, txn(p, 0))]);
    let (error, _) = c.init_once(4, Some(id), 60_000, NOBODY);
    c.tell("its successor starts", &format!("error={error}"));
    c.settle(id);
    c.tell_state(id);
    c.end("of who is fenced", 5, id, p, true);
    c.end("of who is fenced", 5, id, p, false);
    c.tell_ends("t");
    c.start(id);
    c.tell_state(id);

    let id = "worn-old";
    let p = exhaust(c, id, LAST);
    c.add("the last", 3, id, p, &[("t", 0)]);
    c.end("the last", 3, id, p, true);
    c.settle(id);
    c.tell_state(id);
    c.add("the next", 3, id, p, &[("t", 0)]);
    c.end("the next", 3, id, p, false);
    c.settle(id);
    c.start(id);
}

/// All of it.
pub fn play(address: &str) -> String {
    let mut client = Client::new(address);
    let c = &mut client;
    c.create("t");
    c.find(1, "any");
    c.find(0, "any");
    play_init(c);
    play_old(c);
    play_records(c);
    play_new(c);
    play_return(c);
    play_verification(c);
    play_offsets(c);
    play_markers(c);
    play_tools(c);
    client.connection.told
}
