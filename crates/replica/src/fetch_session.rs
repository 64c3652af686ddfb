//! Fetch sessions (KIP-227): a client names its partitions once, then only what changed; the answer names only what has news.
//!
//! Owns the cache of sessions, bounded by `max.incremental.fetch.session.cache.slots`: who finds no room is served without a session. Knows
//! no logs: handlers begin a context, fetch its partitions, and finish it with what was found.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::{HashMap, hash_map};
use milena_common::limits::MAX_FETCH_SESSION_PARTITIONS;
use milena_common::{Now, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages::FetchRequest;
use parking_lot::Mutex;

/// "No session": close the one named, if any.
const FINAL_EPOCH: i32 = -1;
/// "A new session, if there is room."
const INITIAL_EPOCH: i32 = 0;
/// A session that was not used for so long must make room.
const STALE_MS: u64 = 120_000;

/// How a client names a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicRef {
    Id(Uuid),
    Name(Arc<str>),
}

/// One partition as a client asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPart {
    pub topic: TopicRef,
    pub partition: i32,
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    pub log_start_offset: i64,
    pub max_bytes: i32,
}

/// What a request says about its session.
#[derive(Debug, Clone)]
pub struct SessionRequest {
    pub session_id: i32,
    pub session_epoch: i32,
    /// Topics are named by id.
    pub by_id: bool,
    pub follower: bool,
    pub parts: Vec<SessionPart>,
    pub forgotten: Vec<(TopicRef, i32)>,
}

impl SessionRequest {
    /// What a fetch says of its session: with topics named by their ids or by their names, from a broker that replicates or a consumer.
    pub fn new(request: FetchRequest, by_id: bool, follower: bool) -> SessionRequest {
        let topic_ref = |name: String, id: Uuid| if by_id { TopicRef::Id(id) } else { TopicRef::Name(name.into()) };
        let mut parts = Vec::with_capacity(request.topics.iter().map(|topic| topic.partitions.len()).sum());
        for topic in request.topics {
            let name = topic_ref(topic.topic, topic.topic_id);
            parts.extend(topic.partitions.into_iter().map(|partition| SessionPart {
                topic: name.clone(),
                partition: partition.partition,
                // Kafka takes every epoch below zero for none here, and here only
                current_leader_epoch: partition.current_leader_epoch.max(-1),
                fetch_offset: partition.fetch_offset,
                last_fetched_epoch: partition.last_fetched_epoch,
                log_start_offset: partition.log_start_offset,
                max_bytes: partition.partition_max_bytes,
            }));
        }
        let parts = last_of_each(parts);
        let mut forgotten = Vec::new();
        for topic in request.forgotten_topics_data {
            let name = topic_ref(topic.topic, topic.topic_id);
            forgotten.extend(topic.partitions.into_iter().map(|partition| (name.clone(), partition)));
        }
        let (session_id, session_epoch) = (request.session_id, request.session_epoch);
        SessionRequest { session_id, session_epoch, by_id, follower, parts, forgotten }
    }
}

/// As in Kafka: whoever asks for a partition twice means the last.
fn last_of_each(parts: Vec<SessionPart>) -> Vec<SessionPart> {
    let mut at: HashMap<(TopicRef, i32), usize> = HashMap::with_capacity(parts.len());
    let mut kept: Vec<SessionPart> = Vec::with_capacity(parts.len());
    for part in parts {
        match at.entry((part.topic.clone(), part.partition)) {
            hash_map::Entry::Occupied(known) => {
                if let Some(earlier) = kept.get_mut(*known.get()) {
                    *earlier = part;
                }
            }
            hash_map::Entry::Vacant(new) => {
                new.insert(kept.len());
                kept.push(part);
            }
        }
    }
    kept
}

/// What was found in one partition, as far as sessions care.
#[derive(Debug, Clone, Copy)]
pub struct PartNews {
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub has_records: bool,
    pub failed: bool,
    pub diverging: bool,
}

/// The session cannot go on; the client begins a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionError {
    NotFound,
    InvalidEpoch,
    TopicIds,
}

impl SessionError {
    pub fn code(self) -> ErrorCode {
        match self {
            SessionError::NotFound => ErrorCode::FetchSessionIdNotFound,
            SessionError::InvalidEpoch => ErrorCode::InvalidFetchSessionEpoch,
            SessionError::TopicIds => ErrorCode::FetchSessionTopicIdError,
        }
    }
}

/// A request whose partitions are known in full.
pub struct FetchContext {
    pub parts: Vec<SessionPart>,
    kind: Kind,
}

enum Kind {
    Sessionless,
    /// All partitions were named; a session may begin.
    Full {
        by_id: bool,
        follower: bool,
    },
    Incremental {
        session: Arc<Mutex<Session>>,
        epoch: i32,
    },
}

type Key = (TopicRef, i32);

struct Cached {
    part: SessionPart,
    place: u64,
    high_watermark: i64,
    log_start_offset: i64,
}

struct Session {
    id: i32,
    by_id: bool,
    follower: bool,
    created_ms: u64,
    /// The epoch that the next request must have.
    epoch: i32,
    parts: HashMap<Key, Cached>,
    /// Who was answered with records goes to the end, so that all have their turn.
    order: BTreeMap<u64, Key>,
    next_place: u64,
}

impl Session {
    fn put(&mut self, part: SessionPart) {
        let key = (part.topic.clone(), part.partition);
        if let Some(cached) = self.parts.get_mut(&key) {
            cached.part = part;
            return;
        }
        let place = self.take_place();
        self.order.insert(place, key.clone());
        self.parts.insert(key, Cached { part, place, high_watermark: -1, log_start_offset: -1 });
    }

    fn remove(&mut self, key: &Key) {
        if let Some(cached) = self.parts.remove(key) {
            self.order.remove(&cached.place);
        }
    }

    fn take_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    /// Whether the answer must name the partition; remembers what it says.
    fn learn(&mut self, key: &Key, news: &PartNews) -> bool {
        let place = self.next_place + 1;
        let Some(cached) = self.parts.get_mut(key) else { return true };
        let told = news.has_records
            || news.failed
            || news.diverging
            || cached.high_watermark != news.high_watermark
            || cached.log_start_offset != news.log_start_offset;
        cached.log_start_offset = news.log_start_offset;
        // after an error the next answer names the partition in any case
        cached.high_watermark = if news.failed { -1 } else { news.high_watermark };
        if news.has_records {
            self.order.remove(&cached.place);
            cached.place = place;
            self.order.insert(place, key.clone());
            self.next_place = place;
        }
        told
    }

    fn all_parts(&self) -> Vec<SessionPart> {
        self.order.values().filter_map(|key| self.parts.get(key)).map(|cached| cached.part.clone()).collect()
    }
}

#[derive(Default)]
struct Cache {
    sessions: HashMap<i32, (Entry, Arc<Mutex<Session>>)>,
    /// By time of the last use.
    by_use: BTreeMap<(u64, i32), ()>,
}

#[derive(Clone, Copy)]
struct Entry {
    last_used_ms: u64,
    created_ms: u64,
    follower: bool,
    size: usize,
}

impl Cache {
    fn remove(&mut self, id: i32) -> Option<Arc<Mutex<Session>>> {
        let (entry, session) = self.sessions.remove(&id)?;
        self.by_use.remove(&(entry.last_used_ms, id));
        Some(session)
    }

    fn touch(&mut self, id: i32, now: Now) -> Option<Arc<Mutex<Session>>> {
        let (entry, session) = self.sessions.get_mut(&id)?;
        self.by_use.remove(&(entry.last_used_ms, id));
        entry.last_used_ms = now.mono_ms;
        self.by_use.insert((now.mono_ms, id), ());
        Some(Arc::clone(session))
    }

    /// Makes room: a stale session goes, else one that is old enough and counts less than the new one: a consumer's for a follower's,
    /// a smaller one for a larger.
    fn evict(&mut self, follower: bool, size: usize, now: Now) -> bool {
        let old = |since: u64| now.mono_ms.saturating_sub(since) > STALE_MS;
        let stale = self.by_use.first_key_value().map(|(key, ())| *key).filter(|(used, _)| old(*used));
        let lesser = || {
            let rank = |entry: &Entry, id: i32| (entry.follower, entry.size, id);
            let least = self.sessions.iter().map(|(id, (entry, _))| (rank(entry, *id), *entry)).min_by_key(|(r, _)| *r);
            let ((is_follower, its_size, id), entry) = least?;
            let replaceable =
                (is_follower, its_size) < (follower, size) && (old(entry.created_ms) || (follower && !is_follower));
            replaceable.then_some(id)
        };
        match stale.map(|(_, id)| id).or_else(lesser) {
            Some(id) => self.remove(id).is_some(),
            None => false,
        }
    }
}

/// The cache of sessions.
pub struct FetchSessions {
    slots: usize,
    cache: Mutex<Cache>,
}

impl FetchSessions {
    pub fn new(slots: usize) -> FetchSessions {
        FetchSessions { slots, cache: Mutex::default() }
    }

    /// Sessions that there are.
    pub fn len(&self) -> usize {
        self.cache.lock().sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves what a request means.
    ///
    /// # Errors
    /// It names a session that is not there or not in that state.
    pub fn begin(&self, request: SessionRequest, now: Now) -> Result<FetchContext, SessionError> {
        let SessionRequest { session_id, session_epoch, by_id, follower, parts, forgotten } = request;
        if session_epoch == FINAL_EPOCH || session_epoch == INITIAL_EPOCH {
            if session_id != 0 {
                self.cache.lock().remove(session_id);
            }
            let kind = if session_epoch == FINAL_EPOCH { Kind::Sessionless } else { Kind::Full { by_id, follower } };
            return Ok(FetchContext { parts, kind });
        }
        let found = self.cache.lock().touch(session_id, now).ok_or(SessionError::NotFound)?;
        let mut session = found.lock();
        if session.epoch != session_epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if session.by_id != by_id {
            return Err(SessionError::TopicIds);
        }
        session.epoch = next_epoch(session_epoch);
        for part in parts {
            session.put(part);
        }
        for key in &forgotten {
            session.remove(key);
        }
        let (epoch, all) = (session.epoch, session.all_parts());
        drop(session);
        if all.len() > MAX_FETCH_SESSION_PARTITIONS {
            self.cache.lock().remove(session_id);
            return Err(SessionError::NotFound);
        }
        if all.is_empty() {
            self.cache.lock().remove(session_id);
            return Ok(FetchContext { parts: all, kind: Kind::Sessionless });
        }
        if let Some((entry, _)) = self.cache.lock().sessions.get_mut(&session_id) {
            entry.size = all.len();
        }
        Ok(FetchContext { parts: all, kind: Kind::Incremental { session: found, epoch } })
    }

    /// What the answer says: the session's id (0: none), and per partition whether it is named.
    ///
    /// # Errors
    /// Another request of the same session came between.
    pub fn finish(&self, context: FetchContext, news: &[PartNews], now: Now) -> Result<(i32, Vec<bool>), SessionError> {
        match context.kind {
            Kind::Sessionless => Ok((0, vec![true; news.len()])),
            Kind::Full { by_id, follower } => {
                let id = self.create(context.parts, news, by_id, follower, now);
                Ok((id, vec![true; news.len()]))
            }
            Kind::Incremental { session, epoch } => {
                let mut session = session.lock();
                if session.epoch != epoch {
                    return Err(SessionError::InvalidEpoch);
                }
                let named = context.parts.into_iter().zip(news);
                let named = named.map(|(part, news)| session.learn(&(part.topic, part.partition), news)).collect();
                Ok((session.id, named))
            }
        }
    }

    /// The client is told nothing but to wait: the session's id (0: none). A session goes on as it was, one that would begin does not.
    ///
    /// # Errors
    /// Another request of the same session came between.
    pub fn postpone(&self, context: FetchContext) -> Result<i32, SessionError> {
        let Kind::Incremental { session, epoch } = context.kind else { return Ok(0) };
        let session = session.lock();
        if session.epoch == epoch { Ok(session.id) } else { Err(SessionError::InvalidEpoch) }
    }

    fn create(&self, parts: Vec<SessionPart>, news: &[PartNews], by_id: bool, follower: bool, now: Now) -> i32 {
        if parts.len() > MAX_FETCH_SESSION_PARTITIONS {
            return 0;
        }
        let mut cache = self.cache.lock();
        if cache.sessions.len() >= self.slots && !cache.evict(follower, parts.len(), now) {
            return 0;
        }
        if self.slots == 0 {
            return 0;
        }
        let id = loop {
            let bytes = Uuid::random().to_u128();
            let id = (bytes as u32 & 0x7fff_ffff) as i32;
            if id != 0 && !cache.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            id,
            by_id,
            follower,
            created_ms: now.mono_ms,
            epoch: next_epoch(INITIAL_EPOCH),
            parts: HashMap::with_capacity(parts.len()),
            order: BTreeMap::new(),
            next_place: 0,
        };
        for (part, news) in parts.into_iter().zip(news) {
            let key = (part.topic.clone(), part.partition);
            session.put(part);
            if let Some(cached) = session.parts.get_mut(&key) {
                cached.high_watermark = news.high_watermark;
                cached.log_start_offset = news.log_start_offset;
            }
        }
        let entry = Entry {
            last_used_ms: now.mono_ms,
            created_ms: session.created_ms,
            follower: session.follower,
            size: session.parts.len(),
        };
        cache.by_use.insert((now.mono_ms, id), ());
        cache.sessions.insert(id, (entry, Arc::new(Mutex::new(session))));
        id
    }
}

/// After the largest epoch comes 1.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: 0 }
    }

    fn part(partition: i32, fetch_offset: i64) -> SessionPart {
        SessionPart {
            topic: TopicRef::Name("t".into()),
            partition,
            current_leader_epoch: -1,
            fetch_offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            max_bytes: 100,
        }
    }

    fn request(session_id: i32, session_epoch: i32, parts: &[SessionPart]) -> SessionRequest {
        let (parts, forgotten) = (parts.to_vec(), Vec::new());
        SessionRequest { session_id, session_epoch, by_id: false, follower: false, parts, forgotten }
    }

    fn news(high_watermark: i64, has_records: bool) -> PartNews {
        PartNews { high_watermark, log_start_offset: 0, has_records, failed: false, diverging: false }
    }

    fn begin_new(sessions: &FetchSessions, parts: i32, follower: bool, now: Now) -> i32 {
        let parts: Vec<_> = (0..parts).map(|p| part(p, 0)).collect();
        let context = sessions.begin(SessionRequest { follower, ..request(0, 0, &parts) }, now).unwrap();
        let news = vec![news(0, false); parts.len()];
        sessions.finish(context, &news, now).unwrap().0
    }

    fn indexes(context: &FetchContext) -> Vec<(i32, i64)> {
        context.parts.iter().map(|p| (p.partition, p.fetch_offset)).collect()
    }

    #[test]
    fn only_news_is_told_and_who_was_served_waits_in_line() {
        let sessions = FetchSessions::new(10);
        let id = begin_new(&sessions, 3, false, at(0));
        assert_ne!(id, 0);
        let context = sessions.begin(request(id, 1, &[part(1, 7)]), at(1)).unwrap();
        assert_eq!(indexes(&context), [(0, 0), (1, 7), (2, 0)]);
        let told = sessions.finish(context, &[news(0, true), news(0, false), news(5, false)], at(1)).unwrap();
        assert_eq!(told, (id, vec![true, false, true]));
        let context = sessions.begin(request(id, 2, &[]), at(2)).unwrap();
        assert_eq!(indexes(&context), [(1, 7), (2, 0), (0, 0)]);
        let failed = PartNews { failed: true, ..news(-1, false) };
        let told = sessions.finish(context, &[failed, news(5, false), news(0, false)], at(2)).unwrap();
        assert_eq!(told.1, [true, false, false]);
        let forgets = SessionRequest { forgotten: vec![(TopicRef::Name("t".into()), 2)], ..request(id, 3, &[]) };
        let context = sessions.begin(forgets, at(3)).unwrap();
        assert_eq!(indexes(&context), [(1, 7), (0, 0)]);
        let told = sessions.finish(context, &[news(0, false), news(0, false)], at(3)).unwrap();
        assert_eq!(told.1, [true, false], "after an error it is named in any case");
    }

    #[test]
    fn a_session_that_is_not_there_or_not_in_that_state_is_refused() {
        let sessions = FetchSessions::new(10);
        let id = begin_new(&sessions, 1, false, at(0));
        let refused = |request| sessions.begin(request, at(1)).err();
        assert_eq!(refused(request(id, 2, &[])), Some(SessionError::InvalidEpoch));
        assert_eq!(refused(request(id ^ 1, 1, &[])), Some(SessionError::NotFound));
        assert_eq!(refused(SessionRequest { by_id: true, ..request(id, 1, &[]) }), Some(SessionError::TopicIds));
        assert_eq!(refused(request(id, 1, &[])), None);
        // a full fetch without a session closes it
        let context = sessions.begin(request(id, -1, &[part(0, 0)]), at(1)).unwrap();
        assert_eq!(sessions.finish(context, &[news(0, false)], at(1)).unwrap(), (0, vec![true]));
        assert_eq!(refused(request(id, 2, &[])), Some(SessionError::NotFound));
        assert_eq!(next_epoch(i32::MAX), 1);
    }

    #[test]
    fn a_session_without_partitions_ends() {
        let sessions = FetchSessions::new(10);
        let id = begin_new(&sessions, 1, false, at(0));
        let forgets = SessionRequest { forgotten: vec![(TopicRef::Name("t".into()), 0)], ..request(id, 1, &[]) };
        let context = sessions.begin(forgets, at(1)).unwrap();
        assert_eq!(sessions.finish(context, &[], at(1)).unwrap().0, 0);
        assert!(sessions.is_empty());
    }

    #[test]
    fn the_cache_is_bounded_and_the_better_reason_stays() {
        let sessions = FetchSessions::new(2);
        let small = begin_new(&sessions, 1, false, at(0));
        let large = begin_new(&sessions, 5, false, at(10));
        assert_eq!(begin_new(&sessions, 9, false, at(1000)), 0, "nobody is old");
        let follower = begin_new(&sessions, 1, true, at(1000));
        assert_ne!(follower, 0, "a follower goes before a consumer");
        assert_eq!(sessions.begin(request(small, 1, &[]), at(1000)).err(), Some(SessionError::NotFound));
        // used lately, but begun long ago and smaller
        assert!(sessions.begin(request(large, 1, &[]), at(200_000)).is_ok());
        assert!(sessions.begin(request(follower, 1, &[]), at(200_000)).is_ok());
        assert_ne!(begin_new(&sessions, 9, false, at(200_000)), 0);
        assert_eq!(sessions.begin(request(large, 2, &[]), at(200_000)).err(), Some(SessionError::NotFound));
        // stale
        assert_ne!(begin_new(&sessions, 1, false, at(900_000)), 0);
        assert_eq!(sessions.len(), 2);
        assert_eq!(begin_new(&FetchSessions::new(0), 1, true, at(0)), 0);
    }
}
