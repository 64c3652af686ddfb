//! Brokers: registration, heartbeats, fencing, controlled shutdown (KIP-631, KIP-841).

use std::collections::BTreeMap;

use milena_common::{Now, Outcome, Timers, Uuid};
use milena_protocol::ErrorCode;
use milena_protocol::messages as msg;
use milena_protocol::stored::metadata::{
    BrokerRegistrationChangeRecord, MetadataRecord, RegisterBrokerRecord, UnregisterBrokerRecord,
    register_broker_record::{BrokerEndpoint, BrokerFeature},
};

use super::{ApiError, Cx, Decision, Soft, replication};
use crate::image::{
    BrokerRegistration, ControllerRegistration, Endpoint, METADATA_VERSION, MetadataImage, VersionRange,
    controller_record,
};
use crate::versions::{MIN_METADATA_VERSION, gates};

const FENCE: i8 = 1;
const UNFENCE: i8 = -1;

/// What one broker's heartbeats said last.
#[derive(Debug, Clone, Default)]
struct Session {
    /// The offset up to which the broker has applied metadata.
    metadata_offset: i64,
    /// Said something in this term; not merely given time to.
    heard: bool,
    /// Set when its controlled shutdown began: every other broker must know this offset before it may stop.
    shutdown_offset: Option<i64>,
}

/// Heartbeat sessions of unfenced and of registering brokers.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: BTreeMap<i32, Session>,
    deadlines: Timers<i32>,
}

impl Sessions {
    /// At the start of a term every unfenced broker has one session's time to report.
    pub(crate) fn reset(&mut self, image: &MetadataImage, now: Now, timeout_ms: u64) {
        *self = Sessions::default();
        for broker in image.cluster.unfenced_brokers() {
            self.touch(broker.id, now, timeout_ms);
        }
    }

    fn touch(&mut self, id: i32, now: Now, timeout_ms: u64) -> &mut Session {
        self.deadlines.schedule(id, now.mono_after(timeout_ms));
        self.sessions.entry(id).or_default()
    }

    fn remove(&mut self, id: i32) {
        self.sessions.remove(&id);
        self.deadlines.cancel(&id);
    }

    fn is_valid(&self, id: i32, now: Now) -> bool {
        self.deadlines.deadline_of(&id).is_some_and(|deadline| deadline > now.mono_ms)
    }

    fn is_heard(&self, id: i32) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.heard)
    }

    pub(crate) fn pop_expired(&mut self, now: Now) -> Option<i32> {
        self.deadlines.pop_due(now)
    }

    /// The lowest offset that any active broker has applied; no broker, no bound.
    fn lowest_active_offset(&self, image: &MetadataImage) -> i64 {
        let active = image.cluster.brokers.values().filter(|broker| broker.is_active());
        active.map(|broker| self.sessions.get(&broker.id).map_or(-1, |s| s.metadata_offset)).min().unwrap_or(i64::MAX)
    }
}

pub(crate) fn is_active(image: &MetadataImage, id: i32) -> bool {
    image.cluster.broker(id).is_some_and(|broker| broker.is_active())
}

/// The directory a new replica on a broker gets: the only one, or one that the broker will name.
pub(crate) fn default_directory(image: &MetadataImage, id: i32) -> Uuid {
    match image.cluster.broker(id).map(|broker| broker.log_dirs.as_slice()) {
        Some([]) => Uuid::MIGRATING_DIR,
        Some([only]) => *only,
        _ => Uuid::UNASSIGNED_DIR,
    }
}

/// The registration that a request speaks for.
pub(crate) fn check_epoch(image: &MetadataImage, id: i32, epoch: i64) -> Result<&BrokerRegistration, ApiError> {
    let stale = |message: String| ApiError::new(ErrorCode::StaleBrokerEpoch, message);
    let broker =
        image.cluster.broker(id).ok_or_else(|| stale(format!("No broker registration found for broker id {id}")))?;
    if broker.epoch != epoch {
        return Err(stale(format!("Expected broker epoch {}, but got broker epoch {epoch}", broker.epoch)));
    }
    Ok(broker)
}

pub(crate) fn register_broker(
    cx: &mut Cx<'_>,
    soft: &mut Soft,
    request: &msg::BrokerRegistrationRequest,
    timeout_ms: u64,
) -> Decision<msg::BrokerRegistrationResponse> {
    let id = request.broker_id;
    if request.cluster_id != cx.config.cluster_id {
        let message =
            format!("Expected cluster ID {}, but got cluster ID {}", cx.config.cluster_id, request.cluster_id);
        return Err(ApiError::new(ErrorCode::InconsistentClusterId, message));
    }
    let existing = cx.image.cluster.broker(id);
    let same_incarnation = existing.is_some_and(|broker| broker.incarnation_id == request.incarnation_id);
    if let Some(existing) = existing
        && !same_incarnation
        && !existing.in_controlled_shutdown
        && soft.sessions.is_valid(id, cx.now)
        // The broker of this very node was restarted with it: nobody else can be alive under this id and these directories.
        && (id != cx.config.node_id || soft.sessions.is_heard(id))
    {
        let message = "Another broker is registered with that broker id. If the broker was recently restarted this should \
                       self-resolve once the heartbeat manager expires the broker's session.";
        return Err(ApiError::new(ErrorCode::DuplicateBrokerRegistration, message));
    }
    check_directories(cx.image, request)?;
    check_features(cx.image, request)?;
    let mut records = Vec::new();
    if let Some(existing) = existing
        && !same_incarnation
    {
        let clean = existing.epoch == request.previous_broker_epoch;
        records =
            if clean { replication::broker_fenced(cx, id) } else { replication::broker_stopped_uncleanly(cx, id) };
    }
    let fenced = !same_incarnation || existing.is_none_or(|broker| broker.fenced);
    records.push(MetadataRecord::RegisterBroker(RegisterBrokerRecord {
        broker_id: id,
        is_migrating_zk_broker: request.is_migrating_zk_broker,
        incarnation_id: request.incarnation_id,
        broker_epoch: cx.next_offset,
        end_points: request
            .listeners
            .iter()
            .map(|l| BrokerEndpoint {
                name: l.name.clone(),
                host: l.host.clone(),
                port: l.port,
                security_protocol: l.security_protocol,
            })
            .collect(),
        features: request
            .features
            .iter()
            .map(|f| BrokerFeature {
                name: f.name.clone(),
                min_supported_version: f.min_supported_version,
                max_supported_version: f.max_supported_version,
            })
            .collect(),
        rack: request.rack.clone(),
        fenced,
        in_controlled_shutdown: false,
        log_dirs: request.log_dirs.clone(),
        cordoned_log_dirs: None,
    }));
    soft.sessions.remove(id);
    soft.sessions.touch(id, cx.now, timeout_ms).heard = true;
    Ok(Outcome::new(records, msg::BrokerRegistrationResponse { broker_epoch: cx.next_offset, ..Default::default() }))
}

fn check_directories(image: &MetadataImage, request: &msg::BrokerRegistrationRequest) -> Result<(), ApiError> {
    if image.features.metadata_version < gates::DIRECTORIES {
        return Ok(());
    }
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRegistration, message));
    let dirs = &request.log_dirs;
    if dirs.is_empty() {
        return invalid("No directories specified in request".to_owned());
    }
    if dirs.iter().any(|dir| dir.is_reserved()) {
        return invalid("Reserved directory ID in request".to_owned());
    }
    if dirs.iter().enumerate().any(|(i, dir)| dirs.iter().skip(i + 1).any(|other| other == dir)) {
        return invalid("Duplicate directory ID in request".to_owned());
    }
    for broker in image.cluster.brokers.values().filter(|broker| broker.id != request.broker_id) {
        if let Some(dir) = dirs.iter().find(|dir| broker.log_dirs.contains(dir)) {
            return invalid(format!("Broker {} is already registered with directory {dir}", broker.id));
        }
    }
    Ok(())
}

/// The broker must understand every finalized level.
fn check_features(image: &MetadataImage, request: &msg::BrokerRegistrationRequest) -> Result<(), ApiError> {
    for (name, level) in image.features.finalized() {
        let range = request
            .features
            .iter()
            .find(|f| f.name == name)
            .map(|f| (f.min_supported_version, f.max_supported_version));
        // Brokers of before a feature say nothing about it; for the metadata themselves that means the oldest level.
        let (min, max) = range.unwrap_or(if name == METADATA_VERSION {
            (MIN_METADATA_VERSION, MIN_METADATA_VERSION)
        } else {
            (0, 0)
        });
        if level != 0 && !(min..=max).contains(&level) {
            let id = request.broker_id;
            let message = format!(
                "Unable to register because the broker does not support finalized version {level} of {name}. The broker wants a version between {min} and {max}, inclusive. (broker {id})"
            );
            return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
        }
    }
    Ok(())
}

/// What a broker is, and what it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fenced,
    Unfenced,
    ControlledShutdown,
    ShutdownNow,
}

pub(crate) fn heartbeat(
    cx: &mut Cx<'_>,
    soft: &mut Soft,
    request: &msg::BrokerHeartbeatRequest,
    timeout_ms: u64,
) -> Decision<msg::BrokerHeartbeatResponse> {
    let id = request.broker_id;
    let broker = check_epoch(cx.image, id, request.broker_epoch)?;
    let current = match (broker.fenced, broker.in_controlled_shutdown) {
        (true, _) => State::Fenced,
        (false, true) => State::ControlledShutdown,
        (false, false) => State::Unfenced,
    };
    let caught_up = request.current_metadata_offset >= broker.epoch;
    let lowest = soft.sessions.lowest_active_offset(cx.image);
    let session = soft.sessions.touch(id, cx.now, timeout_ms);
    session.heard = true;
    session.metadata_offset = request.current_metadata_offset;
    let leads = || cx.image.topics.iter().any(|topic| topic.partitions.values().any(|p| p.leader == id));
    let next = match current {
        // Whoever was told to stop comes back only by registering anew.
        State::Fenced if request.want_shut_down || broker.in_controlled_shutdown => State::ShutdownNow,
        State::Fenced if !request.want_fence && caught_up => State::Unfenced,
        State::Fenced => State::Fenced,
        State::Unfenced if request.want_fence && request.want_shut_down => State::ShutdownNow,
        State::Unfenced if request.want_fence => State::Fenced,
        State::Unfenced if request.want_shut_down && leads() => State::ControlledShutdown,
        State::Unfenced if request.want_shut_down => State::ShutdownNow,
        State::Unfenced => State::Unfenced,
        State::ControlledShutdown if leads() => State::ControlledShutdown,
        State::ControlledShutdown if session.shutdown_offset.is_none_or(|offset| offset <= lowest) => {
            State::ShutdownNow
        }
        State::ControlledShutdown | State::ShutdownNow => State::ControlledShutdown,
    };
    let change = |fenced: i8, in_controlled_shutdown: i8| {
        MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChangeRecord {
            broker_id: id,
            broker_epoch: request.broker_epoch,
            fenced,
            in_controlled_shutdown,
            ..Default::default()
        })
    };
    let mut records = Vec::new();
    match next {
        _ if next == current => {}
        State::Unfenced => {
            records.push(change(UNFENCE, 0));
            records.extend(replication::broker_unfenced(cx, id));
        }
        State::Fenced | State::ShutdownNow if broker.fenced => {}
        State::Fenced | State::ShutdownNow => {
            records.extend(replication::broker_fenced(cx, id));
            records.push(change(FENCE, 0));
        }
        State::ControlledShutdown => {
            records.push(change(0, 1));
            records.extend(replication::broker_fenced(cx, id));
            session.shutdown_offset = Some(cx.next_offset + records.len() as i64 - 1);
        }
    }
    // said in every heartbeat, so one that changes what the broker is can leave them to the next
    if next == current {
        records.extend(replication::directories_failed(cx, broker, &request.offline_log_dirs));
    }
    let response = msg::BrokerHeartbeatResponse {
        is_caught_up: caught_up,
        is_fenced: matches!(next, State::Fenced | State::ShutdownNow),
        should_shut_down: next == State::ShutdownNow,
        ..Default::default()
    };
    Ok(Outcome::new(records, response))
}

pub(crate) fn fence_expired(cx: &mut Cx<'_>, soft: &mut Soft, id: i32) -> Decision<()> {
    soft.sessions.remove(id);
    let Some(broker) = cx.image.cluster.broker(id).filter(|broker| !broker.fenced) else {
        return Ok(Outcome::response(()));
    };
    let mut records = replication::broker_fenced(cx, id);
    records.push(MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChangeRecord {
        broker_id: id,
        broker_epoch: broker.epoch,
        fenced: FENCE,
        ..Default::default()
    }));
    Ok(Outcome::new(records, ()))
}

pub(crate) fn unregister_broker(cx: &mut Cx<'_>, soft: &mut Soft, id: i32) -> Decision<msg::UnregisterBrokerResponse> {
    let unknown =
        || ApiError::new(ErrorCode::BrokerIdNotRegistered, format!("Broker ID {id} is not currently registered"));
    let broker = cx.image.cluster.broker(id).ok_or_else(unknown)?;
    let mut records = replication::broker_fenced(cx, id);
    records
        .push(MetadataRecord::UnregisterBroker(UnregisterBrokerRecord { broker_id: id, broker_epoch: broker.epoch }));
    soft.sessions.remove(id);
    Ok(Outcome::new(records, msg::UnregisterBrokerResponse::default()))
}

/// Every start of a controller is a new incarnation.
pub(crate) fn register_controller(
    cx: &mut Cx<'_>,
    id: i32,
    endpoints: Vec<Endpoint>,
    features: BTreeMap<String, VersionRange>,
) -> Decision<()> {
    if cx.image.features.metadata_version != 0 && cx.image.features.metadata_version < gates::CONTROLLER_REGISTRATION {
        return Ok(Outcome::response(()));
    }
    let known = cx.image.cluster.controllers.get(&id);
    if known.is_some_and(|known| known.endpoints == endpoints && known.features == features) {
        return Ok(Outcome::response(()));
    }
    let incarnation_id = (cx.random)();
    let registration = ControllerRegistration { id, incarnation_id, zk_migration_ready: false, endpoints, features };
    Ok(Outcome::new(vec![MetadataRecord::RegisterController(controller_record(&registration))], ()))
}
