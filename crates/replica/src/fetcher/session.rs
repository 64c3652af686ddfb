//! The follower's side of a fetch session (KIP-227): every partition is named once, then only what changed.
//!
//! Pure. Called by `core.rs`; the leader's side is `fetch_session.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_common::Uuid;
use milena_protocol::ErrorCode;
use milena_protocol::messages::FetchRequest;
use milena_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

/// A partition as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub topic_id: Uuid,
    pub topic: Arc<str>,
    pub partition: i32,
    pub leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    pub log_start_offset: i64,
    pub high_watermark: i64,
    pub max_bytes: i32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ClientSession {
    /// 0: none.
    id: i32,
    /// 0: the next request names everything, and ends the session `id` if there is one.
    epoch: i32,
    /// What the leader believes is wanted.
    named: BTreeMap<(Uuid, i32), Wanted>,
}

impl ClientSession {
    /// A request for these partitions and no others.
    pub fn request(&mut self, wanted: Vec<Wanted>) -> FetchRequest {
        let wanted: BTreeMap<_, _> = wanted.into_iter().map(|w| ((w.topic_id, w.partition), w)).collect();
        let mut request = FetchRequest { session_id: self.id, session_epoch: self.epoch, ..Default::default() };
        let is_full = self.epoch == 0;
        let news = wanted.values().filter(|w| is_full || self.named.get(&(w.topic_id, w.partition)) != Some(*w));
        for w in news {
            let partition = FetchPartition {
                partition: w.partition,
                current_leader_epoch: w.leader_epoch,
                fetch_offset: w.fetch_offset,
                last_fetched_epoch: w.last_fetched_epoch,
                log_start_offset: w.log_start_offset,
                partition_max_bytes: w.max_bytes,
                high_watermark: w.high_watermark,
                ..Default::default()
            };
            match request.topics.last_mut().filter(|topic| topic.topic_id == w.topic_id) {
                Some(topic) => topic.partitions.push(partition),
                None => request.topics.push(FetchTopic {
                    topic: w.topic.to_string(),
                    topic_id: w.topic_id,
                    partitions: vec![partition],
                }),
            }
        }
        if !is_full {
            for ((topic_id, partition), gone) in self.named.iter().filter(|(key, _)| !wanted.contains_key(key)) {
                match request.forgotten_topics_data.last_mut().filter(|topic| topic.topic_id == *topic_id) {
                    Some(topic) => topic.partitions.push(*partition),
                    None => request.forgotten_topics_data.push(ForgottenTopic {
                        topic: gone.topic.to_string(),
                        topic_id: *topic_id,
                        partitions: vec![*partition],
                    }),
                }
            }
        }
        self.named = wanted;
        request
    }

    /// Errors after which a new session is begun at once.
    pub fn is_about_session(code: ErrorCode) -> bool {
        matches!(
            code,
            ErrorCode::FetchSessionIdNotFound
                | ErrorCode::InvalidFetchSessionEpoch
                | ErrorCode::FetchSessionTopicIdError
                | ErrorCode::InconsistentTopicId
        )
    }

    pub fn on_answer(&mut self, code: ErrorCode, session_id: i32) {
        match code {
            ErrorCode::None if session_id != 0 => {
                (self.id, self.epoch) = (session_id, if self.epoch == i32::MAX { 1 } else { self.epoch + 1 });
            }
            // the leader has no room for a session, or ended it
            ErrorCode::None | ErrorCode::FetchSessionIdNotFound => (self.id, self.epoch) = (0, 0),
            // one that cannot go on is closed by the next request
            _ => self.epoch = 0,
        }
    }

    /// Whether the leader heard the request is not known.
    pub fn on_no_answer(&mut self) {
        self.epoch = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(topic: u128, partition: i32, fetch_offset: i64) -> Wanted {
        Wanted {
            topic_id: Uuid::from_u128(topic),
            topic: "t".into(),
            partition,
            leader_epoch: 3,
            fetch_offset,
            last_fetched_epoch: 2,
            log_start_offset: 0,
            high_watermark: 0,
            max_bytes: 100,
        }
    }

    fn named(request: &FetchRequest) -> Vec<(i32, i64)> {
        request.topics.iter().flat_map(|t| &t.partitions).map(|p| (p.partition, p.fetch_offset)).collect()
    }

    #[test]
    fn only_what_changed_is_named() {
        let mut session = ClientSession::default();
        let first = session.request(vec![wanted(1, 0, 5), wanted(1, 1, 6), wanted(2, 0, 7)]);
        assert_eq!((first.session_id, first.session_epoch), (0, 0));
        assert_eq!((first.topics.len(), named(&first).len()), (2, 3));
        session.on_answer(ErrorCode::None, 77);
        let second = session.request(vec![wanted(1, 0, 5), wanted(1, 1, 9)]);
        assert_eq!((second.session_id, second.session_epoch), (77, 1));
        assert_eq!(named(&second), [(1, 9)]);
        assert_eq!(second.forgotten_topics_data[0].topic_id, Uuid::from_u128(2));
        session.on_answer(ErrorCode::None, 77);
        let third = session.request(vec![wanted(1, 0, 5), wanted(1, 1, 9)]);
        assert_eq!((third.session_epoch, third.topics.len(), third.forgotten_topics_data.len()), (2, 0, 0));
    }

    #[test]
    fn a_session_that_is_lost_begins_anew() {
        for (code, id, next) in [
            (ErrorCode::FetchSessionIdNotFound, 0, (0, 0)),
            (ErrorCode::InvalidFetchSessionEpoch, 0, (77, 0)),
            (ErrorCode::None, 0, (0, 0)),
        ] {
            let mut session = ClientSession::default();
            session.request(vec![wanted(1, 0, 5)]);
            session.on_answer(ErrorCode::None, 77);
            session.request(vec![wanted(1, 0, 5)]);
            session.on_answer(code, id);
            let request = session.request(vec![wanted(1, 0, 5)]);
            assert_eq!((request.session_id, request.session_epoch), next);
            assert_eq!(named(&request), [(0, 5)], "everything is named");
        }
        let mut session = ClientSession::default();
        session.request(vec![wanted(1, 0, 5)]);
        session.on_answer(ErrorCode::None, 77);
        session.on_no_answer();
        let request = session.request(vec![wanted(1, 0, 5)]);
        assert_eq!((request.session_id, request.session_epoch, named(&request).len()), (77, 0, 1));
    }
}
