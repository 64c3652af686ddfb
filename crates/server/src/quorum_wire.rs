//! What members of the quorum say to each other, in Kafka's messages: requests of the raft core to and from the wire, and the answers.
//!
//! Pure. The only partition there is is the first of `__cluster_metadata`. Used by `quorum_network.rs` for what is asked of others, and by the
//! handlers of the quorum's APIs for what others ask.

use milena_common::Uuid;
use milena_common::config::quorum::Voter as Address;
use milena_metadata::image::Endpoint;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{self as msg, begin_quorum_epoch_request as begin_req};
use milena_protocol::messages::{
    begin_quorum_epoch_response as begin_resp, end_quorum_epoch_request as end_req,
    end_quorum_epoch_response as end_resp, fetch_request as fetch_req, fetch_response as fetch_resp,
    vote_request as vote_req, vote_response as vote_resp,
};
use milena_raft::{BeginEpoch, EndEpoch, Fetch, Fetched, Head, OffsetAndEpoch, Request, Response, Vote, Voter};

use crate::fetch_versions::{self, FIRST_TOPIC_ID};

/// The topic of the metadata log.
pub(crate) const METADATA_TOPIC: &str = "__cluster_metadata";
/// Bytes of the log in one answer.
const FETCH_BYTES: i32 = 1 << 20;

/// What this member says of itself, and knows of the others.
#[derive(Debug, Clone)]
pub(crate) struct QuorumWire {
    pub(crate) cluster_id: String,
    pub(crate) me: Voter,
    /// Where the others reach this controller.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Where the voters are.
    pub(crate) voters: Vec<Address>,
}

/// A topic's only partition.
fn only<T, P>(topics: Vec<T>, part: impl Fn(T) -> (bool, Vec<P>), index: impl Fn(&P) -> i32) -> Option<P> {
    let mut topics = topics.into_iter();
    let (is_metadata, partitions) = part(topics.next()?);
    let mut partitions = partitions.into_iter();
    let partition = partitions.next()?;
    let alone = topics.next().is_none() && partitions.next().is_none();
    (is_metadata && alone && index(&partition) == 0).then_some(partition)
}

/// What an answer says of the epoch; `None` if it is no answer to the question: the other asks again.
fn head(top: i16, code: i16, leader_id: i32, epoch: i32) -> Option<Head> {
    (top == 0).then(|| Head { error: ErrorCode::from_code(code), epoch, leader_id })
}

/// Requests to others.
impl QuorumWire {
    pub(crate) fn vote(&self, vote: &Vote) -> msg::VoteRequest {
        let partition = vote_req::PartitionData {
            partition_index: 0,
            replica_epoch: vote.epoch,
            replica_id: vote.candidate.id,
            replica_directory_id: vote.candidate.directory_id,
            voter_directory_id: vote.voter.directory_id,
            last_offset_epoch: vote.log_end.epoch,
            last_offset: vote.log_end.offset,
            pre_vote: vote.pre_vote,
        };
        let topic = vote_req::TopicData { topic_name: METADATA_TOPIC.to_owned(), partitions: vec![partition] };
        msg::VoteRequest { cluster_id: Some(self.cluster_id.clone()), voter_id: vote.voter.id, topics: vec![topic] }
    }

    pub(crate) fn begin(&self, begin: &BeginEpoch) -> msg::BeginQuorumEpochRequest {
        let partition = begin_req::PartitionData {
            partition_index: 0,
            voter_directory_id: begin.voter.directory_id,
            leader_id: begin.leader_id,
            leader_epoch: begin.epoch,
        };
        let topic = begin_req::TopicData { topic_name: METADATA_TOPIC.to_owned(), partitions: vec![partition] };
        let endpoint =
            |e: &Endpoint| begin_req::LeaderEndpoint { name: e.name.clone(), host: e.host.clone(), port: e.port };
        msg::BeginQuorumEpochRequest {
            cluster_id: Some(self.cluster_id.clone()),
            voter_id: begin.voter.id,
            topics: vec![topic],
            leader_endpoints: self.endpoints.iter().map(endpoint).collect(),
        }
    }

    pub(crate) fn end(&self, end: &EndEpoch) -> msg::EndQuorumEpochRequest {
        let candidate = |v: &Voter| end_req::ReplicaInfo { candidate_id: v.id, candidate_directory_id: v.directory_id };
        let partition = end_req::PartitionData {
            partition_index: 0,
            leader_id: end.leader_id,
            leader_epoch: end.epoch,
            preferred_successors: end.preferred_successors.iter().map(|voter| voter.id).collect(),
            preferred_candidates: end.preferred_successors.iter().map(candidate).collect(),
        };
        let topic = end_req::TopicData { topic_name: METADATA_TOPIC.to_owned(), partitions: vec![partition] };
        let endpoint =
            |e: &Endpoint| end_req::LeaderEndpoint { name: e.name.clone(), host: e.host.clone(), port: e.port };
        msg::EndQuorumEpochRequest {
            cluster_id: Some(self.cluster_id.clone()),
            topics: vec![topic],
            leader_endpoints: self.endpoints.iter().map(endpoint).collect(),
        }
    }

    /// In the newest form.
    pub(crate) fn fetch(&self, fetch: &Fetch) -> msg::FetchRequest {
        let partition = fetch_req::FetchPartition {
            partition: 0,
            current_leader_epoch: fetch.epoch,
            fetch_offset: fetch.log_end.offset,
            last_fetched_epoch: fetch.log_end.epoch,
            partition_max_bytes: FETCH_BYTES,
            replica_directory_id: fetch.replica.directory_id,
            high_watermark: fetch.high_watermark,
            ..Default::default()
        };
        let topic = fetch_req::FetchTopic {
            topic: METADATA_TOPIC.to_owned(),
            topic_id: Uuid::METADATA_TOPIC,
            partitions: vec![partition],
        };
        msg::FetchRequest {
            cluster_id: Some(self.cluster_id.clone()),
            max_wait_ms: i32::try_from(fetch.max_wait_ms).unwrap_or(i32::MAX),
            max_bytes: FETCH_BYTES,
            topics: vec![topic],
            replica_state: fetch_req::ReplicaState { replica_id: fetch.replica.id, ..Default::default() },
            ..Default::default()
        }
    }
}

/// Answers of others.
pub(crate) fn voted(answer: msg::VoteResponse) -> Option<Response> {
    let part = |t: vote_resp::TopicData| (t.topic_name == METADATA_TOPIC, t.partitions);
    let partition = only(answer.topics, part, |p| p.partition_index)?;
    let head = head(answer.error_code, partition.error_code, partition.leader_id, partition.leader_epoch)?;
    Some(Response::Vote { head, granted: partition.vote_granted })
}

pub(crate) fn begun(answer: msg::BeginQuorumEpochResponse) -> Option<Response> {
    let part = |t: begin_resp::TopicData| (t.topic_name == METADATA_TOPIC, t.partitions);
    let partition = only(answer.topics, part, |p| p.partition_index)?;
    let head = head(answer.error_code, partition.error_code, partition.leader_id, partition.leader_epoch)?;
    Some(Response::BeginEpoch { head })
}

pub(crate) fn ended(answer: msg::EndQuorumEpochResponse) -> Option<Response> {
    let part = |t: end_resp::TopicData| (t.topic_name == METADATA_TOPIC, t.partitions);
    let partition = only(answer.topics, part, |p| p.partition_index)?;
    let head = head(answer.error_code, partition.error_code, partition.leader_id, partition.leader_epoch)?;
    Some(Response::EndEpoch { head })
}

pub(crate) fn fetched(answer: msg::FetchResponse) -> Option<Response> {
    let part = |t: fetch_resp::FetchableTopicResponse| {
        (t.topic == METADATA_TOPIC || t.topic_id == Uuid::METADATA_TOPIC, t.partitions)
    };
    let partition = only(answer.responses, part, |p| p.partition_index)?;
    let leader = &partition.current_leader;
    let head = head(answer.error_code, partition.error_code, leader.leader_id, leader.leader_epoch)?;
    let (diverging, snapshot) = (&partition.diverging_epoch, &partition.snapshot_id);
    let fetched = if head.error != ErrorCode::None {
        Fetched::Nothing
    } else if diverging.epoch >= 0 && diverging.end_offset >= 0 {
        Fetched::Diverging(OffsetAndEpoch { offset: diverging.end_offset, epoch: diverging.epoch })
    } else if snapshot.end_offset >= 0 && snapshot.epoch >= 0 {
        Fetched::Snapshot(OffsetAndEpoch { offset: snapshot.end_offset, epoch: snapshot.epoch })
    } else {
        let records = partition.records.unwrap_or_default().concat().into();
        Fetched::Records { records, high_watermark: partition.high_watermark }
    };
    Some(Response::Fetch { head, fetched })
}

/// Requests of others, and what they are answered. An error is for the whole request.
impl QuorumWire {
    fn check_cluster(&self, cluster_id: Option<&str>) -> Result<(), ErrorCode> {
        match cluster_id {
            Some(other) if other != self.cluster_id => Err(ErrorCode::InconsistentClusterId),
            _ => Ok(()),
        }
    }

    /// Whom a request means; older versions say no more than that it is sent here.
    fn addressee(&self, id: i32, directory_id: Uuid) -> Voter {
        Voter { id: if id < 0 { self.me.id } else { id }, directory_id }
    }

    pub(crate) fn read_vote(&self, request: msg::VoteRequest) -> Result<Request, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let part = |t: vote_req::TopicData| (t.topic_name == METADATA_TOPIC, t.partitions);
        let p = only(request.topics, part, |p| p.partition_index).ok_or(ErrorCode::InvalidRequest)?;
        if p.last_offset < 0 || p.last_offset_epoch < 0 || p.replica_epoch < 0 || p.replica_id < 0 {
            return Err(ErrorCode::InvalidRequest);
        }
        Ok(Request::Vote(Vote {
            epoch: p.replica_epoch,
            candidate: Voter { id: p.replica_id, directory_id: p.replica_directory_id },
            voter: self.addressee(request.voter_id, p.voter_directory_id),
            log_end: OffsetAndEpoch { offset: p.last_offset, epoch: p.last_offset_epoch },
            pre_vote: p.pre_vote,
        }))
    }

    pub(crate) fn read_begin(&self, request: msg::BeginQuorumEpochRequest) -> Result<Request, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let part = |t: begin_req::TopicData| (t.topic_name == METADATA_TOPIC, t.partitions);
        let p = only(request.topics, part, |p| p.partition_index).ok_or(ErrorCode::InvalidRequest)?;
        if p.leader_id < 0 || p.leader_epoch < 0 {
            return Err(ErrorCode::InvalidRequest);
        }
        let voter = self.addressee(request.voter_id, p.voter_directory_id);
        Ok(Request::BeginEpoch(BeginEpoch { epoch: p.leader_epoch, leader_id: p.leader_id, voter }))
    }

    pub(crate) fn read_end(&self, request: msg::EndQuorumEpochRequest) -> Result<Request, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let part = |t: end_req::TopicData| (t.topic_name == METADATA_TOPIC, t.partitions);
        let p = only(request.topics, part, |p| p.partition_index).ok_or(ErrorCode::InvalidRequest)?;
        if p.leader_id < 0 || p.leader_epoch < 0 {
            return Err(ErrorCode::InvalidRequest);
        }
        let by_id = p.preferred_successors.into_iter().map(|id| Voter { id, directory_id: Uuid::ZERO });
        let by_key = p.preferred_candidates.into_iter();
        let by_key = by_key.map(|c| Voter { id: c.candidate_id, directory_id: c.candidate_directory_id });
        let preferred_successors = by_id.chain(by_key).collect();
        Ok(Request::EndEpoch(EndEpoch { epoch: p.leader_epoch, leader_id: p.leader_id, preferred_successors }))
    }

    pub(crate) fn read_fetch(&self, request: msg::FetchRequest, version: i16) -> Result<Request, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let part = |t: fetch_req::FetchTopic| match version < FIRST_TOPIC_ID {
            true => (t.topic == METADATA_TOPIC, t.partitions),
            false => (t.topic_id == Uuid::METADATA_TOPIC, t.partitions),
        };
        let (id, _) = fetch_versions::replica(&request, version);
        let p = only(request.topics, part, |p| p.partition).ok_or(ErrorCode::InvalidRequest)?;
        // only members follow the log: what is not committed yet is nobody else's business
        if id < 0 || p.fetch_offset < 0 || p.last_fetched_epoch < 0 || p.current_leader_epoch < 0 {
            return Err(ErrorCode::InvalidRequest);
        }
        Ok(Request::Fetch(Fetch {
            epoch: p.current_leader_epoch,
            replica: Voter { id, directory_id: p.replica_directory_id },
            log_end: OffsetAndEpoch { offset: p.fetch_offset, epoch: p.last_fetched_epoch },
            high_watermark: p.high_watermark,
            max_wait_ms: u64::try_from(request.max_wait_ms).unwrap_or(0),
        }))
    }

    fn leader(&self, head: Head) -> Option<&Address> {
        self.voters.iter().find(|voter| voter.id == head.leader_id)
    }

    pub(crate) fn word_vote(&self, answer: Result<Response, ErrorCode>) -> msg::VoteResponse {
        let (head, granted) = match answer {
            Ok(Response::Vote { head, granted }) => (head, granted),
            Ok(other) => (other.head(), false),
            Err(error) => return msg::VoteResponse { error_code: error.code(), ..Default::default() },
        };
        let partition = vote_resp::PartitionData {
            partition_index: 0,
            error_code: head.error.code(),
            leader_id: head.leader_id,
            leader_epoch: head.epoch,
            vote_granted: granted,
        };
        let endpoint = |v: &Address| vote_resp::NodeEndpoint { node_id: v.id, host: v.host.clone(), port: v.port };
        msg::VoteResponse {
            error_code: 0,
            topics: vec![vote_resp::TopicData { topic_name: METADATA_TOPIC.to_owned(), partitions: vec![partition] }],
            node_endpoints: self.leader(head).map(endpoint).into_iter().collect(),
        }
    }

    pub(crate) fn word_begin(&self, answer: Result<Response, ErrorCode>) -> msg::BeginQuorumEpochResponse {
        let head = match answer {
            Ok(response) => response.head(),
            Err(error) => return msg::BeginQuorumEpochResponse { error_code: error.code(), ..Default::default() },
        };
        let partition = begin_resp::PartitionData {
            partition_index: 0,
            error_code: head.error.code(),
            leader_id: head.leader_id,
            leader_epoch: head.epoch,
        };
        let endpoint = |v: &Address| begin_resp::NodeEndpoint { node_id: v.id, host: v.host.clone(), port: v.port };
        msg::BeginQuorumEpochResponse {
            error_code: 0,
            topics: vec![begin_resp::TopicData { topic_name: METADATA_TOPIC.to_owned(), partitions: vec![partition] }],
            node_endpoints: self.leader(head).map(endpoint).into_iter().collect(),
        }
    }

    pub(crate) fn word_end(&self, answer: Result<Response, ErrorCode>) -> msg::EndQuorumEpochResponse {
        let head = match answer {
            Ok(response) => response.head(),
            Err(error) => return msg::EndQuorumEpochResponse { error_code: error.code(), ..Default::default() },
        };
        let partition = end_resp::PartitionData {
            partition_index: 0,
            error_code: head.error.code(),
            leader_id: head.leader_id,
            leader_epoch: head.epoch,
        };
        let endpoint = |v: &Address| end_resp::NodeEndpoint { node_id: v.id, host: v.host.clone(), port: v.port };
        msg::EndQuorumEpochResponse {
            error_code: 0,
            topics: vec![end_resp::TopicData { topic_name: METADATA_TOPIC.to_owned(), partitions: vec![partition] }],
            node_endpoints: self.leader(head).map(endpoint).into_iter().collect(),
        }
    }

    pub(crate) fn word_fetch(&self, answer: Result<Response, ErrorCode>, log_start_offset: i64) -> msg::FetchResponse {
        let (head, fetched) = match answer {
            Ok(Response::Fetch { head, fetched }) => (head, fetched),
            Ok(other) => (other.head(), Fetched::Nothing),
            Err(error) => return msg::FetchResponse { error_code: error.code(), ..Default::default() },
        };
        let mut partition = fetch_resp::PartitionData {
            partition_index: 0,
            error_code: head.error.code(),
            high_watermark: -1,
            log_start_offset,
            current_leader: fetch_resp::LeaderIdAndEpoch { leader_id: head.leader_id, leader_epoch: head.epoch },
            records: Some(Vec::new()),
            ..Default::default()
        };
        match fetched {
            Fetched::Records { records, high_watermark } => {
                partition.high_watermark = high_watermark;
                partition.records = Some(vec![records]);
            }
            Fetched::Diverging(end) => {
                partition.diverging_epoch = fetch_resp::EpochEndOffset { epoch: end.epoch, end_offset: end.offset };
            }
            Fetched::Snapshot(id) => {
                partition.snapshot_id = fetch_resp::SnapshotId { end_offset: id.offset, epoch: id.epoch };
            }
            Fetched::Nothing => {}
        }
        let endpoint = |v: &Address| fetch_resp::NodeEndpoint {
            node_id: v.id,
            host: v.host.clone(),
            port: v.port.into(),
            ..Default::default()
        };
        let hint = if head.error == ErrorCode::None { None } else { self.leader(head).map(endpoint) };
        msg::FetchResponse {
            responses: vec![fetch_resp::FetchableTopicResponse {
                topic: METADATA_TOPIC.to_owned(),
                topic_id: Uuid::METADATA_TOPIC,
                partitions: vec![partition],
            }],
            node_endpoints: hint.into_iter().collect(),
            ..Default::default()
        }
    }
}
