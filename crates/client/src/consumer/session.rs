//! A member of a group of the consumer protocol (KIP-848): heartbeats that carry the epoch, and the assignment that comes back.
//!
//! The task only tells: what the coordinator wants this member to read, that the member is out, or that it may not be one.
//! [`super::Consumer::poll`] acts on it and acknowledges what it owns.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use milena_common::Uuid;
use milena_protocol::ErrorCode;
use milena_protocol::messages::{ConsumerGroupHeartbeatRequest, consumer_group_heartbeat_request as beat};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::ConsumerConfig;
use crate::cluster::{Client, CoordinatorKind};
use crate::error::ClientError;

/// The epoch of a member that joins, of one that leaves, and of a static one that will be back.
const JOINING: i32 = 0;
const LEAVING: i32 = -1;
const LEAVING_FOR_NOW: i32 = -2;

/// Partitions by topic id, as the protocol names them.
pub(super) type ByTopicId = Vec<(Uuid, Vec<i32>)>;

struct State {
    topics: Vec<String>,
    epoch: i32,
    /// What the coordinator wants read, until the consumer has taken it.
    target: Option<ByTopicId>,
    owned: ByTopicId,
    /// Whether the next heartbeat says what is owned, and what is subscribed.
    tell_owned: bool,
    tell_topics: bool,
    /// The member is no longer one: what it owned is gone.
    lost: bool,
    failed: Option<ClientError>,
}

struct Shared {
    client: Client,
    config: Arc<ConsumerConfig>,
    group: String,
    member_id: String,
    state: Mutex<State>,
    changed: Arc<Notify>,
    /// Asks for a heartbeat at once.
    now: Notify,
}

/// The membership; dropping it ends the heartbeats.
pub(super) struct Session {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// News for the consumer.
pub(super) struct News {
    pub(super) lost: bool,
    pub(super) target: Option<ByTopicId>,
}

impl Session {
    /// Joins the group with the first heartbeat.
    #[allow(clippy::disallowed_methods, reason = "a session owns its heartbeat task and ends it")]
    pub(super) fn start(client: &Client, config: &Arc<ConsumerConfig>, group: &str, topics: Vec<String>) -> Session {
        let state = State {
            topics,
            epoch: JOINING,
            target: None,
            owned: Vec::new(),
            tell_owned: true,
            tell_topics: true,
            lost: false,
            failed: None,
        };
        let shared = Arc::new(Shared {
            client: client.clone(),
            config: config.clone(),
            group: group.to_string(),
            // the member names itself (KIP-1082)
            member_id: Uuid::random().to_string(),
            state: Mutex::new(state),
            changed: Arc::new(Notify::new()),
            now: Notify::new(),
        });
        let task = tokio::spawn(run(shared.clone()));
        Session { shared, task }
    }

    pub(super) fn changed(&self) -> Arc<Notify> {
        self.shared.changed.clone()
    }

    pub(super) fn member_id(&self) -> &str {
        &self.shared.member_id
    }

    pub(super) fn epoch(&self) -> i32 {
        self.shared.state().epoch
    }

    /// What happened since the last call.
    ///
    /// # Errors
    /// The coordinator does not let this member be one.
    pub(super) fn news(&self) -> Result<News, ClientError> {
        let mut state = self.shared.state();
        match state.failed.take() {
            Some(error) => Err(error),
            None => Ok(News { lost: std::mem::take(&mut state.lost), target: state.target.take() }),
        }
    }

    /// The target could not be taken yet; it is told again unless a newer one came.
    pub(super) fn give_back(&self, target: ByTopicId) {
        self.shared.state().target.get_or_insert(target);
    }

    /// The consumer now owns this.
    pub(super) fn acknowledge(&self, owned: ByTopicId) {
        let mut state = self.shared.state();
        state.owned = owned;
        state.tell_owned = true;
        drop(state);
        self.shared.now.notify_one();
    }

    /// The subscription changed.
    pub(super) fn subscribe(&self, topics: Vec<String>) {
        let mut state = self.shared.state();
        if state.topics != topics {
            state.topics = topics;
            state.tell_topics = true;
            drop(state);
            self.shared.now.notify_one();
        }
    }

    /// Says good-bye. The session timeout would do it too.
    pub(super) async fn leave(self) {
        self.task.abort();
        let epoch = if self.shared.config.group_instance_id.is_some() { LEAVING_FOR_NOW } else { LEAVING };
        let request = self.shared.request(epoch, None, None);
        let said = tokio::time::timeout(Duration::from_secs(5), self.shared.send(&request)).await;
        if let Ok(Err(error)) = said {
            tracing::debug!(target: "org.apache.kafka.clients.consumer.internals.ConsumerCoordinator",
                "leaving group {} failed: {error}", self.shared.group);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(
        &self,
        epoch: i32,
        topics: Option<Vec<String>>,
        owned: Option<ByTopicId>,
    ) -> ConsumerGroupHeartbeatRequest {
        let joining = epoch == JOINING;
        ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch: epoch,
            instance_id: self.config.group_instance_id.clone(),
            rack_id: self.config.client.rack.clone().filter(|_| joining),
            rebalance_timeout_ms: match joining {
                true => i32::try_from(self.config.max_poll_interval_ms).unwrap_or(i32::MAX),
                false => -1,
            },
            subscribed_topic_names: topics,
            server_assignor: self.config.remote_assignor.clone().filter(|_| joining),
            topic_partitions: owned.map(|owned| {
                owned
                    .into_iter()
                    .map(|(topic_id, partitions)| beat::TopicPartitions { topic_id, partitions, ..Default::default() })
                    .collect()
            }),
            ..Default::default()
        }
    }

    async fn send(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<milena_protocol::messages::ConsumerGroupHeartbeatResponse, ClientError> {
        let node = self.client.find_coordinator(CoordinatorKind::Group, &self.group).await?;
        let response = self.client.connection(node).await?.request(request).await?;
        ClientError::check(response.error_code, response.error_message.as_deref(), &self.group)?;
        Ok(response)
    }
}

async fn run(shared: Arc<Shared>) {
    let mut attempt = 0;
    loop {
        let request = {
            let mut state = shared.state();
            let joining = state.epoch == JOINING;
            let topics = (std::mem::take(&mut state.tell_topics) || joining).then(|| state.topics.clone());
            let owned = (std::mem::take(&mut state.tell_owned) || joining).then(|| state.owned.clone());
            shared.request(state.epoch, topics, owned)
        };
        let pause = match shared.send(&request).await {
            Ok(response) => {
                attempt = 0;
                let mut state = shared.state();
                state.epoch = response.member_epoch;
                if let Some(assignment) = response.assignment {
                    let topics = assignment.topic_partitions.into_iter();
                    state.target = Some(topics.map(|topic| (topic.topic_id, topic.partitions)).collect());
                    shared.changed.notify_one();
                }
                Duration::from_millis(u64::try_from(response.heartbeat_interval_ms).unwrap_or_default().max(1))
            }
            Err(error) => {
                let pause = shared.client.config().backoff(attempt);
                attempt += 1;
                match shared.on_error(&error, &request) {
                    true => pause,
                    false => return,
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.now.notified(), if attempt == 0 => {}
        }
    }
}

impl Shared {
    /// Whether to go on.
    fn on_error(&self, error: &ClientError, request: &ConsumerGroupHeartbeatRequest) -> bool {
        let mut state = self.state();
        // what was not heard is said again
        state.tell_topics |= request.subscribed_topic_names.is_some();
        state.tell_owned |= request.topic_partitions.is_some();
        match error.code() {
            Some(ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch) => {
                state.epoch = JOINING;
                state.owned.clear();
                state.target = None;
                state.lost = true;
                self.changed.notify_one();
                true
            }
            // the same instance has not left yet
            Some(ErrorCode::UnreleasedInstanceId) => true,
            _ if error.is_retriable() || matches!(error, ClientError::Timeout(_)) => true,
            _ => {
                state.failed = Some(error.clone());
                self.changed.notify_one();
                false
            }
        }
    }
}
