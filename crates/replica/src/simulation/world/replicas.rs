//! What replicas do in the simulation: the deeds of `replica.rs`, the fetchers' driver and the handler of Fetch, on model logs.

use std::sync::Arc;

use bytes::Bytes;
use milena_common::{Now, TopicPartition};
use milena_metadata::image::PartitionImage;
use milena_protocol::ErrorCode;
use milena_protocol::messages as msg;
use milena_protocol::messages::alter_partition_request::TopicData;
use milena_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};

use super::{Broker, CONTROLLER, Copy, ENTRY_BYTES, Event, Life, REQUEST_TIMEOUT_MS, Variant, World};
use crate::fetch_session::{PartNews, SessionPart, SessionRequest};
use crate::fetcher::{LogPosition, Next, Step, truncation_offset};
use crate::isr_changes::{Outcome, outcome, wanted};
use crate::partition::{Effects, Ends, FollowerFetch, Partition, Proposal, Refusal};
use crate::replica::Cut;
use crate::simulation::disk::{Disk, Entry};

impl World {
    // ---- Replicas ----

    pub(super) fn copy(&mut self, id: i32) -> Option<(&mut Copy, &mut Disk)> {
        let broker = self.brokers.get_mut(&id)?;
        Some((broker.running.as_mut()?.copy.as_mut()?, broker.disk.as_mut()?))
    }

    pub(super) fn act(&mut self, life: Life, effects: Effects) {
        let variant = self.variant;
        let Some((copy, _)) = self.copy(life.0) else { return };
        if let Some(proposal) = effects.propose_isr {
            let image = Arc::clone(copy.core.image());
            match variant {
                Variant::ProposedDoesNotCount => copy.core.on_refused(&proposal, Refusal::NotAttempted),
                Variant::ShrinkAtOnce if proposal.isr.len() < image.isr.len() => {
                    let smaller = PartitionImage { isr: proposal.ids().collect(), ..PartitionImage::clone(&image) };
                    let (copy, disk) = self.copy(life.0).expect("there is");
                    let ends = Ends { log_end: disk.end(), durable_end: disk.durable_end };
                    copy.core.on_metadata(&Arc::new(smaller), ends, Now::default());
                }
                _ => {}
            }
            let (copy, _) = self.copy(life.0).expect("there is");
            copy.proposal = Some(proposal);
            self.at(1, Event::IsrSend(life));
        }
        self.check(life);
    }

    /// Compares what this broker takes for committed, and answers clients.
    pub(super) fn check(&mut self, life: Life) {
        let World { brokers, committed, summary, violation, .. } = self;
        let Some(broker) = brokers.get_mut(&life.0) else { return };
        let (Some(running), Some(disk)) = (&mut broker.running, &broker.disk) else { return };
        let Some(copy) = &mut running.copy else { return };
        let high_watermark = copy.core.high_watermark();
        if high_watermark > disk.end() {
            violation.get_or_insert(format!("broker {} commits what it does not have", life.0));
            return;
        }
        if high_watermark < copy.last_high_watermark && copy.core.is_leader() {
            violation.get_or_insert(format!("the high watermark of leader {} fell", life.0));
        }
        copy.last_high_watermark = high_watermark;
        for offset in copy.checked..high_watermark {
            let here = disk.entries[offset as usize];
            match committed.get(offset as usize) {
                Some(known) if *known != here => {
                    violation.get_or_insert(format!("offset {offset} is {known:?}, and {here:?} at broker {}", life.0));
                }
                Some(_) => {}
                None => committed.push(here),
            }
        }
        copy.checked = copy.checked.max(high_watermark);
        let epoch = copy.core.leader_epoch();
        copy.waiting.retain(|(offset, of_epoch, value)| {
            let is_committed = *offset < high_watermark && *of_epoch == epoch;
            if is_committed {
                summary.acknowledged += 1;
                if committed.get(*offset as usize).map(|(_, v)| *v) != Some(*value) {
                    violation.get_or_insert(format!("value {value} is acknowledged at {offset} and not there"));
                }
            }
            !is_committed
        });
    }

    pub(super) fn produce(&mut self) {
        if !self.producing {
            return;
        }
        let leads = |b: &Broker| b.running.as_ref().and_then(|r| r.copy.as_ref()).is_some_and(|c| c.core.is_leader());
        let leaders: Vec<i32> = self.brokers.iter().filter(|(_, b)| leads(b)).map(|(id, _)| *id).collect();
        if leaders.is_empty() {
            return;
        }
        let id = leaders[self.rng.below(leaders.len() as u64) as usize];
        self.next_value += 1;
        let (value, variant) = (self.next_value, self.variant);
        let life = (id, self.brokers[&id].life);
        let Some((copy, disk)) = self.copy(id) else { return };
        if !copy.core.has_enough_in_sync() {
            return;
        }
        let epoch = copy.core.leader_epoch();
        disk.append((epoch, value));
        copy.core.on_local_append(disk.end());
        copy.waiting.push((disk.end() - 1, epoch, value));
        if variant == Variant::LeaderCountsUnsynced {
            let effects = copy.core.on_durable(disk.end());
            self.act(life, effects);
        }
        self.sync(life);
    }

    pub(super) fn sync(&mut self, life: Life) {
        let Some((copy, disk)) = self.copy(life.0) else { return };
        if copy.syncing || disk.durable_end >= disk.end() {
            return;
        }
        copy.syncing = true;
        let (end, cuts) = (disk.end(), disk.cuts);
        let time = self.rng.between(1, 25);
        self.at(time, Event::Synced { life, end, cuts });
    }

    pub(super) fn synced(&mut self, life: Life, end: i64, cuts: u64) {
        let Some((copy, disk)) = self.copy(life.0) else { return };
        copy.syncing = false;
        if disk.cuts == cuts {
            disk.durable_end = disk.durable_end.max(end);
        }
        let effects = copy.core.on_durable(disk.durable_end);
        self.act(life, effects);
        self.sync(life);
        self.poll(life);
    }

    // ---- Followers ----

    pub(super) fn poll(&mut self, life: Life) {
        let (now, variant) = (self.now(), self.variant);
        for _ in 0..8 {
            let Some((copy, disk)) = self.copy(life.0) else { return };
            if copy.in_flight.is_some() {
                return;
            }
            let Some((leader, fetcher)) = &mut copy.fetcher else { return };
            let leader = *leader;
            match fetcher.next(now, &|_| false) {
                Next::Sync(logs) => {
                    for (partition, end) in logs {
                        if disk.durable_end >= end || variant == Variant::FollowerCountsUnsynced {
                            fetcher.on_durable(&partition, end);
                        } else {
                            return self.sync(life);
                        }
                    }
                }
                Next::Cut(steps) => self.carry_out(life, steps),
                Next::Ends(asked) => {
                    let reached = !self.is_cut(life.0, leader) && !self.is_cut(leader, life.0);
                    let leads = |c: &Copy| c.core.is_leader() && c.core.leader_epoch() == asked[0].leader_epoch;
                    let end = self.copy(leader).filter(|(c, _)| reached && leads(c)).map(|(_, disk)| disk.end());
                    let Some((copy, _)) = self.copy(life.0) else { return };
                    let Some((_, fetcher)) = &mut copy.fetcher else { return };
                    let step = fetcher.on_ends(&asked[0], end.map(|end| (0, end)), now);
                    self.carry_out(life, step.into_iter().collect());
                }
                Next::Wait(until) => {
                    if let Some(until) = until {
                        self.at(until.saturating_sub(now.mono_ms).max(1), Event::Poll(life));
                    }
                    return;
                }
                Next::Fetch(mut request) => {
                    let number = self.number();
                    let epoch = self.brokers[&life.0].running.as_ref().map_or(-1, |r| r.broker_epoch);
                    request.replica_state.replica_epoch = epoch;
                    if let Some((copy, _)) = self.copy(life.0) {
                        copy.in_flight = Some(number);
                    }
                    self.at(REQUEST_TIMEOUT_MS, Event::FetchTimedOut { life, number });
                    if !self.is_lost(life.0, leader) {
                        let delay = self.delay();
                        self.at(delay, Event::FetchArrives { from: life, to: leader, number, request });
                    }
                    return;
                }
            }
        }
        self.at(5, Event::Poll(life));
    }

    pub(super) fn carry_out(&mut self, life: Life, steps: Vec<Step>) {
        let (now, variant) = (self.now(), self.variant);
        for step in steps {
            let Some((copy, disk)) = self.copy(life.0) else { return };
            let Copy { core, fetcher, .. } = copy;
            let Some((_, fetcher)) = fetcher else { return };
            match step {
                Step::Append(partition, data) => {
                    let (base, entries) = decode(&data.records);
                    if !core.follows_in(data.leader_epoch) || (!entries.is_empty() && base != disk.end()) {
                        fetcher.back_off(&partition, now);
                        continue;
                    }
                    entries.into_iter().for_each(|entry| disk.append(entry));
                    core.on_local_append(disk.end());
                    let effects = core.on_leader_high_watermark(data.high_watermark);
                    fetcher.on_done(&partition, data.leader_epoch, position(disk, core));
                    self.act(life, effects);
                }
                Step::Cut { partition, leader_epoch, cut } => {
                    if !core.follows_in(leader_epoch) {
                        fetcher.back_off(&partition, now);
                        continue;
                    }
                    let high_watermark = core.high_watermark();
                    let to = match cut {
                        _ if variant == Variant::NeverCut => disk.end(),
                        Cut::Diverging { end_offset, .. } if variant == Variant::CutWithoutEpochs => {
                            end_offset.min(disk.end())
                        }
                        Cut::Diverging { epoch, end_offset } => {
                            truncation_offset(epoch, end_offset, disk.end_offset_for_epoch(epoch), disk.end())
                        }
                        Cut::To(offset) | Cut::AllBefore(offset) => offset,
                        Cut::ToHighWatermark => high_watermark,
                    };
                    if to < disk.end() {
                        self.summary.cuts += 1;
                    }
                    let (copy, disk) = self.copy(life.0).expect("there is");
                    let Copy { core, fetcher, checked, last_high_watermark, .. } = copy;
                    let Some((_, fetcher)) = fetcher else { return };
                    disk.truncate(to);
                    if variant == Variant::CutWithoutEpochs {
                        disk.begin_epoch(leader_epoch);
                    }
                    let ends = Ends { log_end: disk.end(), durable_end: disk.durable_end };
                    core.on_truncated(ends, high_watermark.min(disk.end()));
                    *checked = (*checked).min(disk.end());
                    *last_high_watermark = core.high_watermark();
                    fetcher.on_done(&partition, leader_epoch, position(disk, core));
                    if to < high_watermark {
                        self.violation = Some(format!("broker {} cuts what was committed: to {to}", life.0));
                    }
                }
            }
        }
        self.sync(life);
    }

    pub(super) fn fetch_answered(&mut self, life: Life, leader: i32, number: u64, response: msg::FetchResponse) {
        let (now, variant) = (self.now(), self.variant);
        let Some((copy, disk)) = self.copy(life.0) else { return };
        if copy.in_flight != Some(number) {
            if variant == Variant::LateAnswersCount && !copy.core.is_leader() {
                let told = response.responses.iter().flat_map(|topic| &topic.partitions);
                for data in told.filter_map(|data| data.records.as_ref()) {
                    let (base, entries) = decode(&data.concat());
                    if base == disk.end() {
                        entries.into_iter().for_each(|entry| disk.append(entry));
                    }
                }
                let position = position(disk, &copy.core);
                let epoch = copy.core.leader_epoch();
                if let Some((_, fetcher)) = &mut copy.fetcher {
                    fetcher.on_done(&TopicPartition::new("t", 0), epoch, position);
                }
            }
            return;
        }
        copy.in_flight = None;
        let Some((followed, fetcher)) = &mut copy.fetcher else { return };
        if *followed != leader {
            return;
        }
        let steps = fetcher.on_answer(response, now);
        let is_idle = !steps.iter().any(|step| matches!(step, Step::Append(_, data) if !data.records.is_empty()));
        self.carry_out(life, steps);
        match is_idle {
            true => self.at(15, Event::Poll(life)),
            false => self.poll(life),
        }
    }

    // ---- Leaders ----

    /// As the handler of Fetch and the replica do.
    pub(super) fn serve(&mut self, from: Life, to: i32, number: u64, request: msg::FetchRequest) {
        if self.is_cut(from.0, to) {
            return;
        }
        let (now, replica_epoch) = (self.now(), request.replica_state.replica_epoch);
        let session = SessionRequest::new(request, true, true);
        let Some(running) = self.brokers.get_mut(&to).and_then(|b| b.running.as_mut()) else { return };
        let response = match running.sessions.begin(session, now) {
            Err(error) => msg::FetchResponse { error_code: error.code().code(), ..Default::default() },
            Ok(context) => {
                let parts = context.parts.clone();
                let told: Vec<PartitionData> = parts.iter().map(|p| self.read(from, to, p, replica_epoch)).collect();
                let news = told.iter().map(|data| PartNews {
                    high_watermark: data.high_watermark,
                    log_start_offset: data.log_start_offset,
                    has_records: data.records.as_ref().is_some_and(|r| !r.is_empty()),
                    failed: data.error_code != 0,
                    diverging: data.diverging_epoch.end_offset >= 0,
                });
                let news: Vec<PartNews> = news.collect();
                let topic_id = self.topic_id;
                let Some(running) = self.brokers.get_mut(&to).and_then(|b| b.running.as_mut()) else { return };
                match running.sessions.finish(context, &news, now) {
                    Err(error) => msg::FetchResponse { error_code: error.code().code(), ..Default::default() },
                    Ok((session_id, named)) => {
                        let named = told.into_iter().zip(named).filter(|(_, named)| *named).map(|(data, _)| data);
                        let topic =
                            FetchableTopicResponse { topic_id, partitions: named.collect(), ..Default::default() };
                        msg::FetchResponse { session_id, responses: vec![topic], ..Default::default() }
                    }
                }
            }
        };
        if !self.is_lost(to, from.0) {
            let delay = self.delay();
            self.at(delay, Event::FetchAnswered { to: from, from: to, number, response });
        }
    }

    pub(super) fn read(&mut self, from: Life, to: i32, part: &SessionPart, replica_epoch: i64) -> PartitionData {
        let (now, variant) = (self.now(), self.variant);
        let count = self.rng.between(1, 5) as i64;
        let life = (to, self.brokers[&to].life);
        let image = self.brokers[&to].running.as_ref().map(|r| Arc::clone(&self.images[r.image]));
        let known = image.as_ref().and_then(|image| image.cluster.broker(from.0).cloned());
        let is_stale = known.as_ref().is_some_and(|b| !b.fenced && replica_epoch != -1 && b.epoch > replica_epoch);
        let is_eligible = known.is_some_and(|b| b.is_active() && (replica_epoch == -1 || replica_epoch == b.epoch));
        let refuse = |code: ErrorCode| PartitionData { error_code: code.code(), ..Default::default() };
        let Some((copy, disk)) = self.copy(to) else { return refuse(ErrorCode::NotLeaderOrFollower) };
        let (epoch, fencing) = (copy.core.leader_epoch(), variant != Variant::NoEpochFencing);
        if fencing && part.current_leader_epoch < epoch {
            return refuse(ErrorCode::FencedLeaderEpoch);
        }
        if fencing && part.current_leader_epoch > epoch {
            return refuse(ErrorCode::UnknownLeaderEpoch);
        }
        if !copy.core.is_leader() || is_stale {
            return refuse(ErrorCode::NotLeaderOrFollower);
        }
        if !copy.core.is_replica(from.0) {
            return refuse(ErrorCode::UnknownLeaderEpoch);
        }
        let mut data = PartitionData { log_start_offset: 0, ..Default::default() };
        data.high_watermark = copy.core.high_watermark();
        if part.last_fetched_epoch >= 0 {
            let (epoch, end_offset) = disk.end_offset_for_epoch(part.last_fetched_epoch);
            if epoch < 0 || end_offset < 0 {
                return refuse(ErrorCode::OffsetOutOfRange);
            }
            let diverges = epoch < part.last_fetched_epoch || end_offset < part.fetch_offset;
            if diverges && variant != Variant::NeverCut {
                data.diverging_epoch = EpochEndOffset { epoch, end_offset };
                return data;
            }
        }
        if part.fetch_offset > disk.end() {
            return refuse(ErrorCode::OffsetOutOfRange);
        }
        let limit = if variant == Variant::LeaderCountsUnsynced { disk.end() } else { disk.durable_end };
        let upto = (part.fetch_offset + count).min(limit);
        if upto > part.fetch_offset {
            data.records =
                Some(vec![encode(part.fetch_offset, &disk.entries[part.fetch_offset as usize..upto as usize])]);
        }
        let mut end = part.fetch_offset;
        if variant == Variant::JoinsBehind && !copy.core.image().isr.contains(&from.0) {
            end = end.max(copy.core.high_watermark()).max(copy.core.epoch_start());
        }
        let fetch = FollowerFetch { id: from.0, broker_epoch: replica_epoch, end, log_start: 0, is_eligible };
        let effects = copy.core.on_follower_fetch(&fetch, now).unwrap_or_default();
        data.high_watermark = copy.core.high_watermark();
        self.act(life, effects);
        data
    }

    pub(super) fn send_proposal(&mut self, life: Life) {
        let number = self.number();
        let (topic_id, epoch) = (self.topic_id, self.brokers[&life.0].running.as_ref().map_or(-1, |r| r.broker_epoch));
        let Some((copy, _)) = self.copy(life.0) else { return };
        let (Some(proposal), None) = (copy.proposal.clone(), copy.isr_in_flight) else { return };
        copy.isr_in_flight = Some(number);
        let partitions = vec![wanted(0, &proposal, life.0, epoch)];
        let topics = vec![TopicData { topic_id, partitions, ..Default::default() }];
        let request = msg::AlterPartitionRequest { broker_id: life.0, broker_epoch: epoch, topics };
        self.at(REQUEST_TIMEOUT_MS, Event::IsrTimedOut { life, number });
        if !self.is_lost(life.0, CONTROLLER) {
            let delay = self.delay();
            self.at(delay, Event::IsrArrives { from: life, number, proposal, request });
        }
    }

    pub(super) fn proposal_answered(
        &mut self,
        life: Life,
        number: u64,
        proposal: &Proposal,
        response: &msg::AlterPartitionResponse,
    ) {
        let now = self.now();
        let Some((copy, disk)) = self.copy(life.0) else { return };
        if copy.isr_in_flight != Some(number) {
            return;
        }
        copy.isr_in_flight = None;
        let answer = response.topics.first().and_then(|topic| topic.partitions.first());
        let told = answer.filter(|_| response.error_code == 0).map(|answer| (answer, outcome(answer)));
        let Some((answer, told)) = told else {
            return self.at(50, Event::IsrSend(life));
        };
        if !matches!(told, Outcome::AskAgain) && copy.proposal.as_ref() == Some(proposal) {
            copy.proposal = None;
        }
        match told {
            Outcome::Granted => {
                let granted =
                    copy.core.granted(answer.leader_id, answer.leader_epoch, answer.partition_epoch, &answer.isr);
                if let Some(image) = granted {
                    let ends = Ends { log_end: disk.end(), durable_end: disk.durable_end };
                    let effects = copy.core.on_metadata(&Arc::new(image), ends, now);
                    self.act(life, effects);
                }
            }
            Outcome::Refused(refusal) => copy.core.on_refused(proposal, refusal),
            Outcome::AskAgain => {}
        }
        self.at(if matches!(told, Outcome::AskAgain) { 50 } else { 1 }, Event::IsrSend(life));
    }
}

pub(super) fn position(disk: &Disk, core: &Partition) -> LogPosition {
    LogPosition {
        log_end: disk.end(),
        last_epoch: disk.last_epoch(),
        log_start: 0,
        high_watermark: core.high_watermark(),
    }
}

fn encode(base: i64, entries: &[Entry]) -> Bytes {
    let mut bytes = base.to_be_bytes().to_vec();
    for (epoch, value) in entries {
        bytes.extend(epoch.to_be_bytes());
        bytes.extend(value.to_be_bytes());
    }
    bytes.into()
}

fn decode(bytes: &[u8]) -> (i64, Vec<Entry>) {
    let Some((base, rest)) = bytes.split_first_chunk::<8>() else { return (0, Vec::new()) };
    let entry = |bytes: &[u8]| -> Option<Entry> {
        let (epoch, value) = bytes.split_first_chunk::<4>()?;
        Some((i32::from_be_bytes(*epoch), u64::from_be_bytes(value.try_into().ok()?)))
    };
    (i64::from_be_bytes(*base), rest.chunks(ENTRY_BYTES).filter_map(entry).collect())
}
